//! `list` and `undefine` beside what virsh printed for the same commands on libvirt's test driver.

use crate::Program;

const DOMAIN: &str = "<domain type='test'><name>d</name><title>A title</title><memory>1024</memory>\
<os><type>hvm</type></os></domain>";

/// Runs commands on the test driver's host after a domain with a title was defined on it; returns what they printed.
#[track_caller]
fn printed(commands: &str) -> String {
    let program = Program::new();
    program.write("d.xml", DOMAIN);
    let ran = program.run_on_test(&[&format!("define d.xml; {commands}")]);
    let text = ran.out.strip_prefix("Domain 'd' defined from d.xml\n\n");
    text.expect("the domain is defined").to_owned() + &ran.err
}

#[test]
fn titles_are_a_column_of_the_table() {
    assert_eq!(
        printed("list --all --title"),
        concat!(
            " Id   Name   State      Title\n",
            "---------------------------------\n",
            " 1    test   running    \n",
            " -    d      shut off   A title\n\n",
        )
    );
    assert_eq!(
        printed("list --table --title"),
        concat!(
            " Id   Name   State     Title\n",
            "------------------------------\n",
            " 1    test   running   \n\n",
        )
    );
    assert_eq!(printed("list --title --name --all"), "test\nd\n\n");
}

#[test]
fn a_state_that_only_inactive_domains_have_lists_those() {
    let shut_off = concat!(
        " Id   Name   State\n",
        "-----------------------\n",
        " -    d      shut off\n\n",
    );
    let nothing = " Id   Name   State\n--------------------\n\n";
    for (options, expected) in [
        ("--state-shutoff", shut_off),
        ("--state-shutoff --state-running", shut_off),
        ("--state-shutoff --inactive --all", shut_off),
        ("--inactive --state-running --state-shutoff", shut_off),
        ("--state-shutoff --transient", nothing),
        ("--state-running --inactive", nothing),
        ("--state-other", nothing),
        ("--persistent --state-shutoff --name", "d\n\n"),
    ] {
        assert_eq!(printed(&format!("list {options}")), expected, "{options}");
    }
}

#[test]
fn only_ids_leave_out_domains_that_have_none() {
    assert_eq!(printed("list --id --all"), "1\n\n");
    assert_eq!(printed("list --id --inactive"), "\n");
    assert_eq!(printed("list --id --name --all"), "1 test\n- d\n\n");
}

#[test]
fn undefine_does_without_what_the_test_driver_does_not_know_as_virsh_does() {
    let undefined = "Domain 'd' has been undefined\n\n";
    for options in [
        "--keep-nvram",
        "--tpm",
        "--keep-tpm",
        "--keep-nvram --tpm",
        "--keep-nvram --managed-save",
        "--tpm --snapshots-metadata",
        "--checkpoints-metadata --managed-save",
        "--keep-nvram --snapshots-metadata --checkpoints-metadata",
    ] {
        let said = printed(&format!("undefine d {options}"));
        assert_eq!(said, undefined, "{options}");
    }
    for (options, flags) in [
        ("--nvram", "0x4"),
        ("--nvram --tpm", "0x24"),
        ("--nvram --managed-save", "0x4"),
        ("--nvram --checkpoints-metadata", "0x14"),
    ] {
        assert_eq!(
            printed(&format!("undefine d {options}")),
            format!(
                "\nerror: Failed to undefine domain 'd'\n\
                 error: unsupported flags ({flags}) in function testDomainUndefineFlags\n"
            ),
            "{options}"
        );
    }
}
