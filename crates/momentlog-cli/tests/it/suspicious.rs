//! `log --suspicious`: claimed times that need an explanation.

use super::*;

#[test]
fn odd_claims_are_listed_with_what_is_odd_about_them() {
    let program = Program::with_domain();
    program.run(&["policy web01 chain=off"]);
    let claim = |name: &str, parent: &str, time: i64| {
        let parent = match parent {
            "" => String::new(),
            parent => format!("<parent><name>{parent}</name></parent>"),
        };
        program.write(
            "c.xml",
            &format!(
                "<domaincheckpoint><name>{name}</name>{parent}<creationTime>{time}</creationTime></domaincheckpoint>"
            ),
        );
        let made = program.run(&["checkpoint-create web01 c.xml --redefine"]);
        assert_eq!((made.err.as_str(), made.status), ("", 0));
    };
    // Record 4 and on.
    claim("root", "", 1_600_000_000);
    claim("fine", "root", 1_600_000_100);
    claim("same", "root", 1_600_000_100);
    claim("early", "root", 1_500_000_000);
    claim("late", "root", 4_102_444_800);
    claim("fine", "root", 1_600_000_200);
    program.run(&["checkpoint-create-as web01 usual"]);
    // It is younger than "early" and "same" by now.
    claim("root", "", 1_600_000_150);
    let all = program.run(&["-q", "log", "--suspicious"]);
    assert_eq!((all.err.as_str(), all.status), ("", 0));
    let odd: Vec<&str> = all
        .out
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with('?'))
        .collect();
    assert_eq!(
        odd,
        [
            "? same (#3) claims 2020-09-13 12:28:20+00, as its sibling fine (#2) does",
            "? early (#4) claims 2017-07-14 02:40:00+00, before its parent root (#1):",
            "? late (#5) claims 2100-01-01 00:00:00+00, in the future of the record",
            "? fine (#2) claims 2020-09-13 12:30:00+00, and 2020-09-13 12:28:20+00",
            "? root (#1) claims 2020-09-13 12:29:10+00, and 2020-09-13 12:26:40+00",
            "? early (#4) claims 2017-07-14 02:40:00+00, before its parent root (#1):",
            "? same (#3) claims 2020-09-13 12:28:20+00, before its parent root (#1):",
        ],
        "{}",
        all.out
    );
    assert!(all.out.lines().all(|line| line.len() <= 80), "{}", all.out);
    let documents = |words: &[&str]| -> Vec<(u64, String, String)> {
        let words = [&["--format", "json", "log", "--suspicious"], words].concat();
        let ran = program.run(&words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0));
        let read = |line: &str| {
            let read: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(read["schema"], "momentlog.suspicion/1");
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (
                read["seq"].as_u64().unwrap(),
                text(&read["why"]),
                text(&read["moment"]["name"]),
            )
        };
        ran.out.lines().map(read).collect()
    };
    let found = |seq: u64, why: &str, name: &str| (seq, why.to_owned(), name.to_owned());
    assert_eq!(
        documents(&["-n", "2"]),
        [
            found(9, "changed", "fine"),
            found(11, "changed", "root"),
            found(11, "before_parent", "early"),
            found(11, "before_parent", "same"),
        ]
    );
    assert_eq!(
        documents(&["web01", "--moment", "late"]),
        [found(8, "future", "late")]
    );
    assert_eq!(
        documents(&["--moment", "same", "--until", "8"]),
        [found(6, "same_as_sibling", "same")]
    );
    assert_eq!(documents(&["--by", "nobody@nowhere"]), []);
    let both = program.run(&["log --suspicious --follow"]);
    assert_eq!(
        both.err,
        "error: Options --follow and --suspicious are mutually exclusive\n"
    );
    // Without rules, and without anything odd.
    let usual = Program::with_domain();
    usual.run(&[
        "checkpoint-create-as web01 c1; checkpoint-create-as web01 c2; checkpoint-delete web01 c1",
    ]);
    let none = usual.run(&["-q", "log", "--suspicious"]);
    assert_eq!(
        (none.out.as_str(), none.err.as_str(), none.status),
        ("", "", 0)
    );
}
