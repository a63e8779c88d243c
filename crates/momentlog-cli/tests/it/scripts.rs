use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn one_argument_is_a_script_and_several_are_one_command() {
    let program = Program::new();
    assert_eq!(program.run_on_test(&["echo a; echo b"]).out, "a\nb\n");
    assert_eq!(program.run_on_test(&["echo", "a;", "'b'"]).out, "a; 'b'\n");
    assert_eq!(
        program.run_on_test(&["# nothing"]),
        Ran {
            out: String::new(),
            err: String::new(),
            status: 0
        }
    );
    assert_eq!(program.run_on_test(&[""]).status, 1);
}

#[test]
fn a_line_that_does_not_parse_keeps_the_whole_script_from_running() {
    let program = Program::with_domain();
    let ran = program.run(&["checkpoint-create-as web01 a\ncheckpoint-list web01 --bogus"]);
    assert_eq!(
        ran.err,
        "error: command 'checkpoint-list' doesn't support option --bogus\nhint: help checkpoint-list\n"
    );
    assert_eq!((ran.out.as_str(), ran.status), ("", 1));
    assert_eq!(
        program
            .run(&["-q", "checkpoint-list", "web01", "--name"])
            .out,
        ""
    );
}

#[test]
fn the_exit_status_is_that_of_the_last_command() {
    let program = Program::with_domain();
    assert_eq!(program.run(&["checkpoint-info web01 x; echo a"]).status, 0);
    assert_eq!(program.run(&["echo a; checkpoint-info web01 x"]).status, 1);
}

#[test]
fn a_file_is_a_script() {
    let program = Program::with_domain();
    program.write(
        "script",
        "checkpoint-create-as web01 a # first\ncheckpoint-create-as web01 \\\n b\n",
    );
    assert_eq!(program.run(&["-f", "script"]).status, 0);
    assert_eq!(
        program
            .run(&["-q", "checkpoint-list web01 --name --topological"])
            .out,
        "a\nb\n"
    );
}

#[test]
fn standard_input_is_echoed_after_the_prompt() {
    use std::io::Write as _;
    let program = Program::with_domain();
    let mut child = program
        .command()
        .arg("-r")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"domstate web01\nquit\n")
        .unwrap();
    let out = ran(child.wait_with_output().unwrap()).out;
    let (_, session) = out.split_once("\n\nmomentlog > ").unwrap();
    assert_eq!(session, "domstate web01\nshut off\n\nmomentlog > quit\n\n");
}

#[test]
fn provenance_is_recorded_and_shown_with_control_characters_escaped() {
    let program = Program::with_domain();
    let words = [
        "checkpoint-create-as",
        "web01",
        "a",
        "--actor",
        "eve\n\u{1b}[31m",
        "--reason",
        "because",
    ];
    assert_eq!(program.run(&words).status, 0);
    let log = program.run(&["-q", "log", "--from", "3", "--oneline"]).out;
    assert!(log.contains("eve\\x0a\\x1b[31m"), "{log}");
    assert!(
        log.trim_end()
            .ends_with("checkpoint a created as a root  \"because\""),
        "{log}"
    );
    let json = program
        .run(&["--format", "json", "-q", "log", "--from", "3"])
        .out;
    assert!(json.contains(r#""actor":"eve\n\u001b[31m""#), "{json}");
}

#[test]
fn a_repeated_request_gets_the_first_answer_and_another_command_none() {
    let program = Program::with_domain();
    let create = |name: &'static str| {
        program.run(&[
            "-q",
            "checkpoint-create-as",
            "web01",
            name,
            "--request-id",
            "r1",
        ])
    };
    assert_eq!(create("a").status, 0);
    assert_eq!(
        create("a"),
        Ran {
            out: String::new(),
            err: String::new(),
            status: 0
        }
    );
    let other = create("b");
    assert_eq!(
        other.err,
        "error: invalid argument: request id 'r1' was used for another command, in record 3\n"
    );
    assert_eq!(
        program
            .run(&["-q", "checkpoint-list", "web01", "--name"])
            .out,
        "a\n"
    );
}

#[test]
fn a_stale_revision_is_refused() {
    let program = Program::with_domain();
    let create = |name: &'static str, revision: &'static str| {
        program.run(&[
            "-q",
            "checkpoint-create-as",
            "web01",
            name,
            "--expect-revision",
            revision,
        ])
    };
    assert_eq!(create("a", "2").status, 0);
    let stale = create("b", "2");
    assert_eq!(
        stale.err,
        "error: operation aborted: the domain has revision 3, not 2\nhint: log web01 -n 1\n"
    );
    assert_eq!(
        create("b", "x").err,
        "error: 'x' is not a revision: a number, or none\n"
    );
}

#[test]
fn a_removed_rule_lets_a_fork_pass_and_comes_back_only_when_it_is_met() {
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 a; checkpoint-create-as web01 b"]);
    program.write(
        "fork.xml",
        "<domaincheckpoint><name>c</name><parent><name>a</name></parent><creationTime>5</creationTime></domaincheckpoint>",
    );
    let fork = || program.run(&["-q", "checkpoint-create", "web01", "fork.xml", "--redefine"]);
    let refused = fork().err;
    assert!(
        refused.contains(
            "checkpoint c would fork the chain: its parent must be the current checkpoint b, until `policy web01 chain=off`"
        ),
        "{refused}"
    );
    assert_eq!(program.run(&["policy", "web01", "chain=off"]).status, 0);
    assert_eq!(fork().status, 0);
    let unmet = program.run(&["policy", "web01", "chain=on"]);
    assert!(unmet.err.contains("do not form one chain"), "{}", unmet.err);
    assert_eq!(program.run(&["verify"]).status, 0);
}

#[test]
fn a_refusal_of_the_chain_rule_names_the_way_out_and_the_store_can_take_it_for_all() {
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 a; checkpoint-create-as web01 b"]);
    program.write(
        "root.xml",
        "<domaincheckpoint><name>c</name><creationTime>5</creationTime><disks><disk name='vda'/></disks></domaincheckpoint>",
    );
    let redefine =
        |domain: &str| program.run(&["-q", "checkpoint-create", domain, "root.xml", "--redefine"]);
    let refused = redefine("web01").err;
    assert!(
        refused.contains("until `policy web01 chain=off`"),
        "{refused}"
    );
    let set = program.run(&["policy", "--default", "chain=off", "--reason", "two tools"]);
    assert_eq!(
        (set.status, &*set.out),
        (0, "Settings of the store set\n\n")
    );
    // The domain that is there keeps its policy, and takes the store's when it is defined for the first time.
    assert!(
        program
            .run(&["policy", "web01"])
            .out
            .contains("chain:          on")
    );
    let xml = crate::repository().join("examples/web01.xml");
    program.run(&["undefine", "web01"]);
    program.run(&["define", xml.to_str().unwrap()]);
    assert!(
        program
            .run(&["policy", "web01"])
            .out
            .contains("chain:          off")
    );
    let shown = program.run(&["policy", "--default"]).out;
    assert!(shown.contains("chain:          off"), "{shown}");
    assert!(shown.contains("request window: 30 days"), "{shown}");
    let json = program
        .run(&["--format", "json", "policy", "--default"])
        .out;
    assert!(json.contains("\"request_window_s\":2592000"), "{json}");
    let rules = "\"policy\":[\"exclusive\",\"suffix\",\"overlays\"]";
    assert!(json.contains(rules), "{json}");
    let log = program.run(&["log"]).out;
    assert!(
        log.contains("store set: new domains exclusive, suffix, overlays"),
        "{log}"
    );
}

#[test]
fn the_window_of_request_ids_is_set_with_the_default_policy() {
    let program = Program::with_domain();
    for (given, shown) in [
        ("90", "90 s"),
        ("2d", "2 days"),
        ("36h", "129600 s"),
        ("0", "for ever"),
    ] {
        let set = program.run(&["policy", "--default", "--request-window", given]);
        assert_eq!(set.status, 0, "{}", set.err);
        let text = program.run(&["policy", "--default"]).out;
        assert!(
            text.contains(&format!("request window: {shown}\n")),
            "{text}"
        );
    }
    // Asked again, it is answered as it was, though other rules are in force by then.
    for command in [
        "policy --default exclusive=off --request-id d1",
        "policy --default chain=off",
        "policy --default exclusive=off --request-id d1",
    ] {
        let ran = program.run(&[command]);
        assert_eq!(ran.status, 0, "{}", ran.err);
    }
    let set = program.run(&["log"]).out.matches("store set").count();
    assert_eq!(set, 6);
    for (bad, why) in [
        (
            "policy --default --request-window 5y",
            "'5y' is no span of time",
        ),
        (
            "policy --default --request-window 99999d",
            "'99999d' is no span of time",
        ),
        ("policy --default --request-window -1", "no span of time"),
        ("policy web01 --request-window 5", "needs --default"),
        ("policy --default web01", "'web01' is no rule"),
        ("policy", "command 'policy' requires <domain> option"),
    ] {
        let refused = program.run(&[bad]);
        assert_eq!(refused.status, 1, "{bad}");
        assert!(refused.err.contains(why), "{bad}: {}", refused.err);
    }
}

/// Two backup tools share a guest that is created again every evening, and put parentless checkpoints back.
#[test]
fn a_night_of_two_backup_tools_passes_where_new_domains_have_no_chain() {
    let program = Program::new();
    program.write(
        "one.xml",
        "<domain type='kvm'><name>one-36</name><uuid>66660000-0000-4000-8000-000000000036</uuid>\
         <memory>65536</memory><os><type>hvm</type></os><devices><disk type='file'><driver name='qemu' type='qcow2'/>\
         <source file='/var/one/disk.0'/><target dev='vda'/></disk></devices></domain>",
    );
    let uuid = "66660000-0000-4000-8000-000000000036";
    let made = |number: u32| {
        program.write(
            "cp.xml",
            &format!("<domaincheckpoint><name>one-36-{number}</name><disks><disk name='vda'/></disks></domaincheckpoint>"),
        );
        program.run(&["checkpoint-create", uuid, "cp.xml"])
    };
    let back = |number: u32| {
        program.write(
            "cp.xml",
            &format!(
                "<domaincheckpoint><name>one-36-{number}</name><creationTime>17900000{number}</creationTime>\
                 <disks><disk name='vda'/></disks></domaincheckpoint>"
            ),
        );
        program.run(&["checkpoint-create", uuid, "cp.xml", "--redefine"])
    };
    let default = ["policy", "--default", "chain=off", "exclusive=off"];
    assert_eq!(program.run(&default).status, 0);
    for _ in 0..2 {
        assert_eq!(program.run(&["create", "one.xml"]).status, 0);
        // The full backup: an overlay takes the writes meanwhile, and its record goes again.
        let overlay = "snapshot-create-as one-36 --name full --disk-only --atomic --diskspec vda,file=/var/one/ov0";
        let ran = program.run(&[overlay]);
        assert_eq!(ran.status, 0, "{}", ran.err);
        let ran = made(9);
        assert_eq!(ran.status, 0, "{}", ran.err);
        let ran = program.run(&["snapshot-delete", "one-36", "full", "--metadata"]);
        assert_eq!(ran.status, 0, "{}", ran.err);
        for number in 0..3 {
            let ran = made(number);
            assert_eq!(ran.status, 0, "{}", ran.err);
        }
        assert_eq!(program.run(&["destroy", uuid]).status, 0);
        assert_eq!(program.run(&["create", "one.xml"]).status, 0);
        for number in 1..3 {
            let ran = back(number);
            assert_eq!(ran.status, 0, "{}", ran.err);
        }
        let delete = [
            "checkpoint-delete",
            uuid,
            "--checkpointname",
            "one-36-1",
            "--metadata",
        ];
        assert_eq!(program.run(&delete).status, 0);
        assert_eq!(made(3).status, 0);
        assert_eq!(program.run(&["destroy", uuid]).status, 0);
    }
    assert_eq!(program.run(&["verify"]).status, 0);
}

#[test]
fn a_receipt_tells_a_rollback() {
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 a"]);
    let copy = program.dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(program.store()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    program.run(&["checkpoint-create-as web01 b"]);
    let receipt = program.run(&["-q", "receipt"]).out;
    program.write("receipt.txt", &receipt);
    let anchored = program.run(&["verify", "receipt.txt"]);
    assert_eq!(anchored.status, 0);
    assert!(
        anchored.out.starts_with("Verdict:        anchored\n"),
        "{}",
        anchored.out
    );
    std::fs::remove_dir_all(program.store()).unwrap();
    std::fs::rename(copy, program.store()).unwrap();
    std::fs::set_permissions(program.store(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let rolled_back = program.run(&["verify", "receipt.txt"]);
    assert_eq!(rolled_back.status, 5, "{rolled_back:?}");
    assert_eq!(program.run(&["verify"]).status, 0);
}
