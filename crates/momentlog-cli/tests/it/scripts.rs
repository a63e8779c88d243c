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
        "error: command 'checkpoint-list' doesn't support option --bogus\n"
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
    let log = program.run(&["-q", "log", "--from", "3"]).out;
    assert!(log.contains("eve\\n\\u{1b}[31m"), "{log}");
    assert!(
        log.trim_end()
            .ends_with("checkpoint a created as a root   because"),
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
        "error: operation aborted: the domain has revision 3, not 2\n"
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
            "checkpoint c would fork the chain: its parent must be the current checkpoint b"
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
