//! A request id makes every command safe to repeat.

use super::*;

/// What comes before each command, and the command, by verb. `W` is the domain.
pub(crate) const COMMANDS: &[(&str, &str, &str)] = &[
    (
        "checkpoint-create",
        "echo",
        "checkpoint-create W checkpoint.xml",
    ),
    ("checkpoint-create-as", "echo", "checkpoint-create-as W b"),
    (
        "checkpoint-delete",
        "checkpoint-create-as W a; checkpoint-create-as W b; checkpoint-create-as W c",
        "checkpoint-delete W b --children",
    ),
    (
        "checkpoint-edit",
        "checkpoint-create-as W a first",
        "checkpoint-edit W a",
    ),
    ("snapshot-create", "echo", "snapshot-create W snapshot.xml"),
    (
        "snapshot-create-as",
        "snapshot-create-as W a",
        "snapshot-create-as W --halt",
    ),
    (
        "snapshot-current",
        "snapshot-create-as W a; snapshot-create-as W b",
        "snapshot-current W a",
    ),
    (
        "snapshot-delete",
        "snapshot-create-as W a; snapshot-create-as W b",
        "snapshot-delete W --current",
    ),
    (
        "snapshot-edit",
        "snapshot-create-as W a first",
        "snapshot-edit W --current",
    ),
    (
        "snapshot-revert",
        "snapshot-create-as W a; snapshot-create-as W b; start W",
        "snapshot-revert W a",
    ),
    ("create", "undefine W", "create web01.xml"),
    ("autostart", "echo", "autostart W"),
    ("define", "echo", "define other.xml"),
    ("desc", "echo", "desc W --title a title"),
    ("destroy", "start W", "destroy W"),
    ("domrename", "echo", "domrename W other-name"),
    ("metadata", "echo", "metadata W urn:x --key k --set <x/>"),
    ("reboot", "start W", "reboot W"),
    ("reset", "start W", "reset W"),
    ("resume", "start W; suspend W", "resume W"),
    ("shutdown", "start W", "shutdown W"),
    ("start", "echo", "start W"),
    ("suspend", "start W", "suspend W"),
    (
        "undefine",
        "snapshot-create-as W a",
        "undefine W --snapshots-metadata --nvram",
    ),
    (
        "moments-restore",
        "echo",
        "moments-restore W saved --reroot",
    ),
    ("policy", "echo", "policy W chain=off"),
    (
        "checkpoint-hold",
        "checkpoint-create-as W a",
        "checkpoint-hold W a legal",
    ),
    (
        "checkpoint-release",
        "checkpoint-create-as W a; checkpoint-hold W a legal",
        "checkpoint-release W a legal",
    ),
    (
        "snapshot-hold",
        "snapshot-create-as W a",
        "snapshot-hold W a legal",
    ),
    (
        "snapshot-release",
        "snapshot-create-as W a; snapshot-hold W a legal",
        "snapshot-release W a legal",
    ),
    (
        "checkpoint-undelete",
        "checkpoint-create-as W a; checkpoint-delete W a",
        "checkpoint-undelete W a",
    ),
    (
        "snapshot-undelete",
        "snapshot-create-as W a; snapshot-delete W a",
        "snapshot-undelete W a",
    ),
];

/// What is refused with a request id, as it is safe to repeat without one.
const REFUSED: &[&str] = &["archive", "reconcile"];

/// What needs a hypervisor: it is asked twice in `hypervisor` and `backups`.
const OF_ATTACHED_DOMAINS: &[&str] = &["attach", "detach", "backup-begin", "domjobabort"];

pub(crate) fn prepared(setup: &str) -> Program {
    let program = Program::with_domain();
    program.write(
        "checkpoint.xml",
        "<domaincheckpoint><name>x</name></domaincheckpoint>",
    );
    program.write(
        "snapshot.xml",
        "<domainsnapshot><name>x</name></domainsnapshot>",
    );
    std::fs::create_dir(program.dir.path().join("saved")).unwrap();
    program.write(
        "saved/b.xml",
        "<domaincheckpoint><name>b</name><parent><name>a</name></parent><creationTime>1</creationTime></domaincheckpoint>",
    );
    let web01 = std::fs::read_to_string(repository().join("examples/web01.xml")).unwrap();
    program.write("web01.xml", &web01);
    // Without a uuid, each gets a new one.
    for name in ["other", "noise"] {
        let xml = format!(
            "<domain type='kvm'><name>{name}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
        );
        program.write(&format!("{name}.xml"), &xml);
    }
    let ran = program.run(&[&setup.replace('W', "web01")]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{setup}");
    program
}

fn asked(program: &Program, command: &str) -> Ran {
    let command = format!("{} --request-id r1", command.replace('W', "web01"));
    let mut edited = program.command();
    edited.env("EDITOR", "sed -i s/first/second/").arg(command);
    edited.env_remove("VISUAL");
    ran(edited.output().unwrap())
}

fn records(program: &Program) -> usize {
    program.run(&["-q", "log", "--oneline"]).out.lines().count()
}

#[test]
fn every_command_that_is_asked_twice_gets_its_first_answer() {
    for (verb, setup, command) in COMMANDS {
        let program = prepared(setup);
        let before = records(&program);
        let first = asked(&program, command);
        assert_eq!((first.err.as_str(), first.status), ("", 0), "{verb}");
        let recorded = records(&program);
        assert_eq!(recorded, before + 1, "{verb} makes one record");
        assert_eq!(asked(&program, command), first, "{verb}");
        // What came since does not matter.
        let noise = program.run(&["define noise.xml"]);
        assert_eq!((noise.err.as_str(), noise.status), ("", 0), "{verb}");
        assert_eq!(asked(&program, command), first, "{verb}");
        assert_eq!(records(&program), recorded + 1, "{verb} recorded it again");
    }
}

#[test]
fn a_request_id_that_was_used_for_another_command_is_refused() {
    let program = prepared("checkpoint-create-as W a; checkpoint-create-as W b");
    assert_eq!(asked(&program, "checkpoint-delete W b").status, 0);
    let other = asked(&program, "checkpoint-delete W a");
    assert!(
        other.err.contains("was used for another command"),
        "{other:?}"
    );
    assert_eq!(asked(&program, "checkpoint-delete W b").status, 0);
}

#[test]
fn every_verb_that_takes_a_request_id_is_asked_twice() {
    let program = Program::new();
    let help = program.run_on_test(&["-q", "help"]).out;
    let mut found = 0;
    for line in help.lines() {
        let Some(verb) = line.split_whitespace().next() else {
            continue;
        };
        let usage = program.run_on_test(&["-q", "help", verb]);
        if usage.status == 0 && usage.out.contains("--request-id") {
            found += 1;
            let known = COMMANDS.iter().any(|(known, _, _)| *known == verb);
            let known = known || OF_ATTACHED_DOMAINS.contains(&verb);
            assert!(known || REFUSED.contains(&verb), "{verb}");
        }
    }
    let all = COMMANDS.len() + REFUSED.len() + OF_ATTACHED_DOMAINS.len();
    assert_eq!(found, all);
}
