//! What an error says besides what is wrong: the place in a script, and the next step.

use super::*;

/// A store whose web01 has c1, c4, c5, c6 and c7; c2 was deleted, and c3 in record 11.
fn with_week() -> Program {
    let program = Program::with_domain();
    let made: Vec<String> = (1..=7)
        .map(|day| format!("checkpoint-create-as web01 c{day}"))
        .collect();
    let script = made.join("; ") + "; checkpoint-delete web01 c2; checkpoint-delete web01 c3";
    let ran = program.run(&[&script]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    program
}

fn error(program: &Program, words: &[&str]) -> serde_json::Value {
    let ran = program.run(&[&["--format", "json"], words].concat());
    assert_eq!(ran.status, 1, "{words:?}");
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    serde_json::from_str(&ran.err).unwrap()
}

#[test]
fn a_moment_that_is_not_there_is_told_with_those_that_are_and_with_its_deletion() {
    let program = with_week();
    for name in ["c33", "c3"] {
        let ran = program.run(&["checkpoint-info", "web01", name]);
        assert_eq!(
            ran.err,
            format!(
                "error: Domain checkpoint not found: no domain checkpoint with matching name '{name}'\n\
                 hint: web01 has c1, c4, c5, c6, c7; c3 was deleted in record 11\n"
            )
        );
    }
    let document = error(
        &program,
        &["checkpoint-undelete", "web01", "c1", "--record", "2"],
    );
    assert_eq!(document["hint"], serde_json::Value::Null);
    let snapshot = program.run(&["snapshot-info web01 s"]);
    assert!(
        snapshot.err.ends_with("\nhint: web01 has no snapshots\n"),
        "{}",
        snapshot.err
    );
    let why = program.run(&["why web01 c33"]);
    assert!(
        why.err
            .ends_with("\nhint: web01 has c1, c4, c5, c6, c7; c3 was deleted in record 11\n"),
        "{}",
        why.err
    );
    let held = program.run(&["checkpoint-hold", "web01", "c9", "audit"]);
    assert!(
        held.err.contains("\nhint: web01 has c1, c4, c5, c6, c7"),
        "{}",
        held.err
    );
}

#[test]
fn an_unknown_domain_command_or_option_names_what_is_near() {
    let program = Program::with_domain();
    for (words, hint) in [
        (
            "checkpoint-list web02",
            "web01 is there; list --all shows all",
        ),
        ("checkpoint-list payroll", "list --all shows the domains"),
        (
            "chekpoint-list web01",
            "checkpoint-list is one; help lists all",
        ),
        ("frobnicate", "help lists all commands"),
        ("checkpoint-list web01 --tre", "help checkpoint-list"),
        ("checkpoint-list", "help checkpoint-list"),
    ] {
        let ran = program.run(&[words]);
        assert!(
            ran.err.ends_with(&format!("\nhint: {hint}\n")),
            "{words}: {}",
            ran.err
        );
        assert_eq!(ran.err.lines().count(), 2, "{}", ran.err);
    }
    // The test driver answers as virsh does.
    let ran = program.run_on_test(&["checkpoint-list web02"]);
    assert_eq!(ran.err, "error: failed to get domain 'web02'\n");
    let empty = Program::new();
    let ran = empty.run(&["checkpoint-list web01"]);
    assert!(
        ran.err.contains("hint: define FILE makes the store"),
        "{}",
        ran.err
    );
}

#[test]
fn an_error_of_a_file_names_file_and_line_whether_the_command_is_wrong_or_fails() {
    let program = with_week();
    program.write(
        "wrong.virsh",
        "domstate web01\n\nlog --bogus # no such option\n",
    );
    let ran = program.run(&["-f", "wrong.virsh"]);
    let bogus = "command 'log' doesn't support option --bogus";
    assert_eq!(
        ran.err,
        format!("error: wrong.virsh:3: {bogus}\nhint: help log\n")
    );
    assert_eq!((ran.out.as_str(), ran.status), ("", 1));
    program.write(
        "fails.virsh",
        "policy web01\npolicy \\\n  web02; policy web01\n",
    );
    let ran = program.run(&["-f", "fails.virsh"]);
    assert!(
        ran.err
            .starts_with("error: fails.virsh:2: failed to get domain 'web02'\n"),
        "{}",
        ran.err
    );
    assert_eq!(ran.status, 0);
    for (file, line, message) in [
        ("wrong.virsh", 3, bogus),
        ("fails.virsh", 2, "failed to get domain 'web02'"),
    ] {
        let ran = program.run(&["--format", "json", "-f", file]);
        let failed = ran.err.lines().last().unwrap();
        let document: serde_json::Value = serde_json::from_str(failed).unwrap();
        assert_eq!(document["message"], message);
        assert_eq!(
            (&document["path"], &document["line"]),
            (&file.into(), &line.into())
        );
        assert_eq!(document["column"], serde_json::Value::Null);
    }
    program.write("wrong.virsh", "policy web01\n\nlog --bogus\n");
    let document = error(&program, &["-f", "wrong.virsh"]);
    assert_eq!(
        (&document["path"], &document["line"]),
        (&"wrong.virsh".into(), &3.into())
    );
    assert_eq!(document["message"], bogus);
}

#[test]
fn an_error_of_an_argument_or_of_standard_input_has_a_line_and_no_path() {
    use std::io::Write as _;
    let program = with_week();
    let document = error(&program, &["policy web01\npolicy web02"]);
    assert_eq!(
        (&document["path"], &document["line"]),
        (&serde_json::Value::Null, &2.into())
    );
    let document = error(&program, &["policy", "web02"]);
    assert_eq!(
        (&document["path"], &document["line"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    let mut command = program.command();
    command
        .args(["--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"policy web01\n\npolicy web02\n")
        .unwrap();
    let ran = ran(child.wait_with_output().unwrap());
    let document: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(document["line"], 3);
}

#[test]
fn what_is_wrong_in_a_document_is_told_below_the_line_of_the_script() {
    let program = Program::new();
    program.write(
        "bad.xml",
        "<domain type='kvm'>\n  <name>a</name>\n  <oops\n</domain>\n",
    );
    program.write("run.virsh", "\n\n\n\n\ndefine bad.xml\n");
    let text = program.run(&["-f", "run.virsh"]);
    assert!(
        text.err
            .starts_with("error: run.virsh:6: Failed to define domain from bad.xml\n"),
        "{}",
        text.err
    );
}

#[test]
fn a_command_that_a_hint_names_can_be_typed_whatever_the_names_are() {
    let program = Program::new();
    let xml = std::fs::read_to_string(repository().join("examples/web01.xml")).unwrap();
    program.write("vm.xml", &xml.replace(">web01<", ">the DOMAIN's vm<"));
    let vm = "\"the DOMAIN's vm\"";
    let made = program.run(&[&format!(
        "define vm.xml; checkpoint-create-as {vm} DOMAIN; checkpoint-hold {vm} DOMAIN --tag legal"
    )]);
    assert_eq!((made.err.as_str(), made.status), ("", 0));
    let held = program.run(&[&format!("checkpoint-delete {vm} DOMAIN")]);
    let hint = held.err.split("\nhint: ").nth(1).unwrap().trim_end();
    assert_eq!(
        hint,
        "checkpoint-release 'the DOMAIN'\\''s vm' DOMAIN --tag legal"
    );
    let released = program.run(&[hint]);
    assert_eq!((released.err.as_str(), released.status), ("", 0));
    let stale = program.run(&[&format!("undefine {vm} --expect-revision 1")]);
    let hint = stale.err.split("\nhint: ").nth(1).unwrap().trim_end();
    assert_eq!(hint, "log 'the DOMAIN'\\''s vm' -n 1");
    assert_eq!(program.run(&[hint]).status, 0);
}
