//! Holding moments, and what is said of them.

use super::*;

#[test]
fn a_held_checkpoint_stays_until_it_is_released() {
    let program = Program::with_domain();
    let made = program.run(&[
        "checkpoint-create-as web01 c1; checkpoint-create-as web01 c2; \
         checkpoint-hold web01 c1 legal --actor anna@ops1 --reason court",
    ]);
    assert_eq!((made.err.as_str(), made.status), ("", 0));
    assert!(
        made.out
            .ends_with("Domain checkpoint c1 held, tag legal\n\n"),
        "{}",
        made.out
    );
    let today = program.run(&["-q", "hold-list"]).out;
    assert!(
        today.starts_with(" checkpoint c1 (#1) of web01, tag legal\n    by anna@ops1, since "),
        "{today}"
    );
    for command in ["checkpoint-delete web01 c1", "undefine web01"] {
        let refused = program.run(&[command]);
        assert_eq!(refused.status, 1, "{command}");
        let held = "checkpoint c1 is held (tag `legal`, by anna@ops1, since ";
        assert!(refused.err.contains(held), "{}", refused.err);
        let hint = "hint: checkpoint-release web01 c1 --tag legal\n";
        assert!(refused.err.ends_with(hint), "{}", refused.err);
    }
    let json = program.run(&["--format", "json", "hold-list", "web01"]).out;
    let holds: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(holds["schema"], "momentlog.holds/1");
    assert_eq!(holds["holds"][0]["moment"]["name"], "c1");
    assert_eq!(holds["holds"][0]["by"], "anna@ops1");

    let log = program
        .run(&["-q", "log", "--kind", "held", "--oneline"])
        .out;
    assert!(
        log.contains("checkpoint c1 held, tag legal  \"court\"\n"),
        "{log}"
    );
    let released = program.run(&["checkpoint-release web01 c1 legal; checkpoint-delete web01 c1"]);
    assert_eq!((released.err.as_str(), released.status), ("", 0));
    assert_eq!(program.run(&["-q", "hold-list"]).out, "");
    let life = program.run(&["-q", "why", "web01", "c1"]).out;
    for line in [
        "held: tag legal, by anna@ops1, since ",
        "released: tag legal",
    ] {
        assert!(life.contains(line), "{life}");
    }
    // As of then it is held.
    let then = program.run(&["-q", "--at", "5", "hold-list"]).out;
    assert!(then.contains("tag legal"), "{then}");
}

#[test]
fn what_cannot_be_held_is_refused() {
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 c1"]);
    for (command, why) in [
        (
            "checkpoint-hold web01 c9 legal",
            "no domain checkpoint with matching name 'c9'",
        ),
        (
            "snapshot-hold web01 c1 legal",
            "no domain snapshot with matching name 'c1'",
        ),
        (
            "checkpoint-release web01 c1 legal",
            "checkpoint c1 is not held under the tag `legal`",
        ),
        (
            "checkpoint-hold web01 c1 'a\tb'",
            "'a\\x09b' is no tag: 1 to 64 bytes without control characters",
        ),
    ] {
        let ran = program.run(&[command]);
        assert_eq!(ran.status, 1, "{command}");
        assert!(ran.err.contains(why), "{command}: {}", ran.err);
    }
}
