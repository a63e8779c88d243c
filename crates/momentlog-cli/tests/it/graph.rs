//! The verb `graph`.

use crate::Program;

/// A domain with three checkpoints, of which the middle one is deleted in record 6.
fn with_checkpoints() -> Program {
    let program = Program::with_domain();
    for name in ["c1", "c2", "c3"] {
        assert_eq!(program.run(&["start", "web01"]).status & !1, 0);
        assert_eq!(
            program.run(&["checkpoint-create-as", "web01", name]).err,
            ""
        );
    }
    assert_eq!(program.run(&["checkpoint-delete", "web01", "c2"]).err, "");
    program
}

fn files(program: &Program) -> Vec<String> {
    let entries = std::fs::read_dir(program.dir.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_page_is_written_as_a_whole_and_replaces_the_one_before() {
    let program = with_checkpoints();
    for _ in 0..2 {
        let ran = program.run(&["graph", "web01", "--html", "web01.html"]);
        assert_eq!(
            (ran.out.trim(), ran.err.as_str()),
            ("Picture written to web01.html", "")
        );
        assert_eq!(files(&program), ["store", "web01.html"]);
        let page = std::fs::read_to_string(program.dir.path().join("web01.html")).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        assert!(
            page.contains("checkpoint c2 deleted; c3 moved below c1"),
            "{page}"
        );
    }
    let same = program.run(&["-q", "graph", "web01", "--html", "-"]);
    let file = std::fs::read_to_string(program.dir.path().join("web01.html")).unwrap();
    assert_eq!(same.out, file);
}

#[test]
fn a_state_is_drawn_as_of_a_point() {
    let program = with_checkpoints();
    let now = program.run(&["graph", "web01", "--svg", "-"]);
    assert!(
        now.out.starts_with("<svg ") && now.out.contains("2 checkpoints, 1 deleted"),
        "{}",
        now.out
    );
    let receipt = program.run(&["receipt"]).out;
    let digest = receipt.split_whitespace().last().unwrap();
    assert!(now.out.contains(digest), "{digest}: {}", now.out);

    let log = program.run(&["log", "web01", "--format", "json"]).out;
    let line = log
        .lines()
        .position(|line| line.contains("checkpoint c2 created"))
        .unwrap();
    let entry: serde_json::Value = serde_json::from_str(log.lines().nth(line).unwrap()).unwrap();
    let seq = entry["seq"].to_string();
    let then = program.run(&["graph", "web01", "--svg", "-", "--at", &seq]);
    assert!(
        then.out.contains("2 checkpoints, 0 deleted"),
        "{}",
        then.out
    );
    assert!(
        then.out.contains("checkpoint c2 created below c1"),
        "{}",
        then.out
    );
    assert!(
        then.out.contains(&format!("as of record {seq}<")),
        "{}",
        then.out
    );
}

#[test]
fn a_domain_that_is_gone_is_drawn_too() {
    let program = with_checkpoints();
    program.run(&["destroy", "web01"]);
    for name in ["c1", "c3"] {
        assert_eq!(program.run(&["checkpoint-delete", "web01", name]).err, "");
    }
    assert_eq!(program.run(&["undefine", "web01"]).err, "");
    let ran = program.run(&["graph", "web01", "--svg", "-"]);
    assert!(ran.out.contains("checkpoints of web01"), "{}", ran.err);
    assert!(ran.out.contains("0 checkpoints, 3 deleted"), "{}", ran.out);
}

#[test]
fn what_cannot_be_drawn_or_written_is_said() {
    let program = with_checkpoints();
    std::fs::create_dir(program.dir.path().join("there")).unwrap();
    for (words, error) in [
        (
            &["graph", "web01"][..],
            "requires --html FILE or --svg FILE",
        ),
        (
            &["graph", "web01", "--html", "a", "--svg", "b"],
            "mutually exclusive",
        ),
        (&["graph", "web02", "--html", "a"], "web02"),
        (
            &["graph", "web01", "--kind", "dump", "--html", "a"],
            "'dump' is no kind of moments",
        ),
        (
            &["graph", "web01", "--html", "there"],
            "Failed to write file 'there'",
        ),
        (
            &["graph", "web01", "--html", "nowhere/a"],
            "Failed to write file 'nowhere/a'",
        ),
    ] {
        let ran = program.run(words);
        assert_eq!((ran.status, ran.out.trim()), (1, ""), "{words:?}");
        assert!(ran.err.contains(error), "{words:?}: {}", ran.err);
    }
    assert_eq!(files(&program), ["store", "there"]);
}

#[test]
fn where_both_kinds_are_the_kind_is_chosen() {
    let program = Program::with_domain();
    assert_eq!(
        program
            .run(&["policy-set", "web01", "--no-exclusive"])
            .status
            & !1,
        0
    );
    assert_eq!(program.run(&["snapshot-create-as", "web01", "s1"]).err, "");
    let ran = program.run(&["graph", "web01", "--svg", "-"]);
    assert!(ran.out.contains("snapshots of web01"), "{}", ran.err);
    let ran = program.run(&["graph", "web01", "--svg", "-", "--kind", "checkpoint"]);
    assert!(ran.out.contains("0 checkpoints, 0 deleted"), "{}", ran.err);
}
