//! `desc` and `metadata`, as virsh 9.0.0 was seen to answer on libvirt's test driver.

use super::*;

/// Runs a script on the test driver, and checks what it prints and says.
#[track_caller]
fn answers(words: &[&str], out: &str, err: &str) {
    let ran = Program::new().run_on_test(words);
    assert_eq!(
        (ran.out.as_str(), ran.err.as_str()),
        (out, err),
        "{words:?}"
    );
}

#[test]
fn a_description_and_a_title_are_shown_and_set() {
    answers(
        &[
            "desc test; desc 1 --title; desc test new words 'and more'; desc test; desc test --config; \
           desc test --live; desc test --current",
        ],
        "No description for domain: test\nNo title for domain: test\n\
         Domain description updated successfully\nnew words and more\n\
         No description for domain: test\nnew words and more\nnew words and more\n",
        "",
    );
    answers(
        &[
            "desc test x; desc test ''; desc test; desc test --title a title; desc test --title; list --title",
        ],
        "Domain description updated successfully\nDomain description updated successfully\n\
         No description for domain: test\nDomain title updated successfully\na title\n \
         Id   Name   State     Title\n--------------------------------\n \
         1    test   running   a title\n\n",
        "",
    );
    // Only data, with nothing behind it.
    answers(&["-q", "desc test; desc test x; desc test"], "x", "");
}

#[test]
fn each_definition_has_its_description_and_of_both_that_of_the_next_start_is_shown() {
    let off = "Requested operation is not valid: domain is not running\n";
    answers(
        &[
            "desc test --live one; desc test --config two; desc test; desc test --config; \
           desc test --live --config; destroy test; desc test; desc test --live; desc test --live x; \
           desc test --config three; desc test",
        ],
        "Domain description updated successfully\nDomain description updated successfully\n\
         one\ntwo\ntwo\nDomain 'test' destroyed\n\ntwo\ntwo\n\n\
         Domain description updated successfully\nthree\n",
        &format!("error: Failed to set new domain description\nerror: {off}"),
    );
    answers(
        &["undefine test; desc test --config x; desc test x; desc test; desc test --config"],
        "Domain 'test' has been undefined\n\n\nDomain description updated successfully\nx\n\n",
        &"error: Requested operation is not valid: transient domains do not have any persistent config\n"
            .repeat(2),
    );
}

#[test]
fn an_element_is_set_shown_and_removed() {
    let none = "error: metadata not found: Requested metadata element is not present\n";
    answers(
        &[
            "metadata test http://a --key k --set '<x a=\"1\"/>'; metadata test http://a; \
           metadata test http://a --config; metadata test http://a --remove; metadata test http://a; \
           metadata test http://a --remove",
        ],
        "Metadata modified\n\n<x a=\"1\"/>\n\n\nMetadata removed\n\n\nMetadata removed\n\n",
        &none.repeat(2),
    );
    answers(
        &[
            "-q",
            "metadata test http://a --key k --set <x/>; metadata test http://a",
        ],
        "<x/>\n",
        "",
    );
}

#[test]
fn what_virsh_refuses_is_refused_in_its_words_and_order() {
    for (command, why) in [
        (
            "desc nope --current --live",
            "Options --current and --live are mutually exclusive",
        ),
        (
            "desc test --current --config",
            "Options --current and --config are mutually exclusive",
        ),
        ("desc nope x", "failed to get domain 'nope'"),
        (
            "desc test --title 'a\nb'",
            "Failed to set new domain title\nerror: metadata title can't contain newlines",
        ),
        (
            "metadata test a --edit --set x --remove",
            "Options --edit and --set are mutually exclusive",
        ),
        (
            "metadata test a --remove --set x",
            "Options --remove and --set are mutually exclusive",
        ),
        (
            "metadata test a --remove --edit",
            "Options --remove and --edit are mutually exclusive",
        ),
        ("metadata nope a --set x", "failed to get domain 'nope'"),
        (
            "metadata test ''",
            "Failed to get option 'uri': Option argument is empty",
        ),
        (
            "metadata test a --set <x/>",
            "namespace key is required when modifying metadata",
        ),
        (
            "metadata test a --edit",
            "namespace key is required when modifying metadata",
        ),
        (
            "metadata test a --live --config",
            "Flags 'VIR_DOMAIN_AFFECT_LIVE' and 'VIR_DOMAIN_AFFECT_CONFIG' are mutually exclusive",
        ),
        (
            "metadata test a --key '1 2' --set <x/>",
            "internal error: failed to validate prefix for a new XML namespace",
        ),
    ] {
        answers(&[command], "\n", &format!("error: {why}\n"));
    }
    let denied = "error: operation forbidden: read only access prevents virDomainSetMetadata\n";
    answers(
        &["--readonly", "desc test x; metadata test a --remove"],
        "\n\n",
        &format!("error: Failed to set new domain description\n{denied}{denied}"),
    );
}

#[test]
fn an_editor_gets_what_is_given_or_there_and_what_it_leaves_is_compared_with_what_is_there() {
    let edited = |editor: &str, script: &str, out: &str, err: &str| {
        let program = Program::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        command.args(["-c", "test:///default", script]);
        command.env_remove("VISUAL").env("EDITOR", editor);
        command.env("TMPDIR", program.dir.path());
        let ran = ran(command.stdin(Stdio::null()).output().unwrap());
        assert_eq!((ran.out.as_str(), ran.err.as_str()), (out, err), "{script}");
        assert_eq!(std::fs::read_dir(program.dir.path()).unwrap().count(), 0);
    };
    let set = "Domain description updated successfully\n";
    edited(
        "true",
        "desc test --edit",
        "Domain description not changed\n\n",
        "",
    );
    edited(
        "true",
        "desc test one two --edit; desc test",
        &format!("{set}one two\n"),
        "",
    );
    edited(
        "sed -i s/old/new/",
        "desc test old; desc test --edit; desc test",
        &format!("{set}{set}new\n"),
        "",
    );
    // A title ends with its line, and a description keeps the end of its last one.
    edited(
        "printf 'a\\n' >",
        "desc test --edit; desc test; desc test --title --edit; desc test --title",
        &format!("{set}a\n\nDomain title updated successfully\na\n"),
        "",
    );
    edited(
        "true",
        "metadata test a --key k --edit",
        "Metadata not changed\n",
        "",
    );
    edited(
        "sed -i s/q/z/",
        "metadata test a --key k --set <q/>; metadata test a --key j --edit; metadata test a",
        "Metadata modified\n\nMetadata modified\n\n<z/>\n\n",
        "",
    );
}
