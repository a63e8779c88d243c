//! What a dry run says, and that it does nothing.

use super::*;

/// All files of the store, with their bytes.
fn bytes(program: &Program) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(program.store()).into_iter().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_dry_run_says_what_then_happens_and_changes_no_byte() {
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 c1; checkpoint-create-as web01 c2"]);
    let before = bytes(&program);
    let dry = program.run(&["-q", "checkpoint-delete", "web01", "c1", "--dry-run"]);
    assert_eq!((dry.err.as_str(), dry.status), ("", 0));
    assert_eq!(
        dry.out,
        "Would be recorded for web01, whose revision is 4:\n\
         \u{20} checkpoint c1 deleted; c2 moved to the roots\n\
         \u{20} current  c2, as before\n\
         Exactly this, or a refusal: checkpoint-delete web01 c1 --expect-revision 4\n"
    );
    assert_eq!(bytes(&program), before);
    let done = program.run(&["checkpoint-delete web01 c1 --expect-revision 4"]);
    assert_eq!(done.status, 0, "{}", done.err);
    let log = program.run(&["-q", "log", "-n", "1", "--oneline"]).out;
    assert!(
        log.ends_with("  checkpoint c1 deleted; c2 moved to the roots\n"),
        "{log}"
    );
    // The same once more is refused, dry or not.
    for words in ["", " --dry-run"] {
        let late = format!("checkpoint-delete web01 c2 --expect-revision 4{words}");
        assert_eq!(program.run(&[&late]).status, 1, "{late}");
    }
}

#[test]
fn a_dry_run_makes_no_store_and_takes_no_lock() {
    let program = Program::new();
    let xml = repository().join("examples/web01.xml");
    let dry = program.run(&["-q", "define", xml.to_str().unwrap(), "--dry-run"]);
    assert_eq!((dry.err.as_str(), dry.status), ("", 0));
    assert!(
        dry.out
            .starts_with("Would be recorded for web01, which is new:\n  domain defined\n"),
        "{}",
        dry.out
    );
    assert!(
        dry.out.ends_with("web01.xml --expect-revision none\n"),
        "{}",
        dry.out
    );
    assert!(!program.store().exists());
}

#[test]
fn a_refusal_is_what_the_command_would_be_refused_with() {
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 c1; checkpoint-hold web01 c1 legal"]);
    let before = bytes(&program);
    let dry = program.run(&["-q", "checkpoint-delete", "web01", "c1", "--dry-run"]);
    assert_eq!((dry.err.as_str(), dry.status), ("", 1));
    assert!(dry.out.starts_with("Refused: "), "{}", dry.out);
    assert!(dry.out.contains("c1 is held"), "{}", dry.out);
    let hint = "hint: checkpoint-release web01 c1 --tag legal\n";
    assert!(dry.out.ends_with(hint), "{}", dry.out);
    let words = [
        "--format",
        "json",
        "checkpoint-delete",
        "web01",
        "c1",
        "--dry-run",
    ];
    let dry = program.run(&words);
    assert_eq!((dry.err.as_str(), dry.status), ("", 1));
    let plan: serde_json::Value = serde_json::from_str(&dry.out).unwrap();
    assert_eq!(
        (&plan["schema"], &plan["accepted"]),
        (&"momentlog.plan/1".into(), &false.into())
    );
    let words = [
        "--format",
        "json",
        "checkpoint-create-as",
        "web01",
        "c2",
        "--dry-run",
    ];
    let dry = program.run(&words);
    let plan: serde_json::Value = serde_json::from_str(&dry.out).unwrap();
    assert_eq!(plan["revision"], 4);
    assert_eq!(plan["events"][0]["type"], "checkpoint_created");
    assert_eq!(bytes(&program), before);
    assert_eq!(program.run(&["archive cold --dry-run"]).status, 1);
    assert!(!program.dir.path().join("cold").exists());
}

/// Runs a command with its editor, if it has one.
fn asked(program: &Program, options: &[&str], command: &str) -> Ran {
    let mut edited = program.command();
    edited.env("EDITOR", "sed -i s/first/second/").args(options);
    let words = command.replace('W', "web01");
    edited.args(words.split(' ')).env_remove("VISUAL");
    ran(edited.output().unwrap())
}

#[test]
fn of_every_verb_that_changes_the_log_the_dry_run_is_what_then_happens() {
    for (verb, setup, command) in retries::COMMANDS {
        let program = retries::prepared(setup);
        let before = bytes(&program);
        let dry = asked(
            &program,
            &["--format", "json"],
            &format!("{command} --dry-run"),
        );
        assert_eq!((dry.err.as_str(), dry.status), ("", 0), "{verb}");
        assert_eq!(bytes(&program), before, "{verb}");
        let plan: serde_json::Value = serde_json::from_str(&dry.out).unwrap();
        assert_eq!(plan["accepted"], true, "{verb}: {plan}");
        let revision = match plan["revision"].as_u64() {
            Some(revision) => revision.to_string(),
            None => "none".to_owned(),
        };
        let done = asked(
            &program,
            &[],
            &format!("{command} --expect-revision {revision}"),
        );
        assert_eq!((done.err.as_str(), done.status), ("", 0), "{verb}");
        let words = ["--format", "json", "log", "-n", "1"];
        let entry: serde_json::Value = serde_json::from_str(&program.run(&words).out).unwrap();
        let types = |events: &serde_json::Value| -> Vec<String> {
            let events = events.as_array().unwrap().iter();
            events.map(|event| event["type"].to_string()).collect()
        };
        assert!(!types(&entry["events"]).is_empty(), "{verb}");
        assert_eq!(types(&plan["events"]), types(&entry["events"]), "{verb}");
        // What a clock gives, a name or the time of a hold, may be another second's.
        let has_clock = command.contains("--halt") || verb.ends_with("-hold");
        if !has_clock {
            assert_eq!(plan["events"], entry["events"], "{verb}");
        }
    }
}

#[test]
fn a_plan_begins_where_an_archived_log_does() {
    let program = Program::with_domain();
    let made = program.run(&[
        "checkpoint-create-as web01 c1; checkpoint-create-as web01 c2; archive cold; \
         checkpoint-delete web01 c1",
    ]);
    assert_eq!((made.err.as_str(), made.status), ("", 0));
    let before = bytes(&program);
    let dry = program.run(&["-q", "checkpoint-undelete", "web01", "c1", "--dry-run"]);
    assert_eq!((dry.err.as_str(), dry.status), ("", 0), "{}", dry.out);
    let back = "  checkpoint c1 created as a root\n  checkpoint c2 moved below c1\n";
    assert!(dry.out.contains(back), "{}", dry.out);
    assert_eq!(bytes(&program), before);
}
