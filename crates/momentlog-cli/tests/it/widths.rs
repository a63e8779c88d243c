//! Lines are no wider than asked for, and nothing is cut but on a terminal.

use super::*;

const DOMAIN: &str = "production-web-00001";
const ACTOR: &str = "backup-operator@ops2";

/// Names of 20 characters throughout: created, deleted, redefined, held, policies changed.
fn with_long_names() -> Program {
    let program = Program::new();
    let xml = std::fs::read_to_string(repository().join("examples/web01.xml")).unwrap();
    program.write("long.xml", &xml.replace("web01", DOMAIN));
    assert_eq!(
        program
            .run(&["define", "long.xml", "--actor", ACTOR])
            .status,
        0
    );
    let name = |number: u32| format!("nightly-backup-{number:05}");
    for number in 1..=6 {
        let ran = program.run(&[
            "checkpoint-create-as",
            DOMAIN,
            &name(number),
            "--actor",
            ACTOR,
            "--reason",
            "the nightly backup of all of the disks, before the price change",
        ]);
        assert_eq!(ran.status, 0, "{}", ran.err);
    }
    let xml = program
        .run(&["-q", "checkpoint-dumpxml", DOMAIN, &name(5)])
        .out;
    let described = xml.replacen(
        "<name>",
        "<description>the last one that is good before the price change</description><name>",
        1,
    );
    program.write("again.xml", &described);
    let script = format!(
        "checkpoint-delete {DOMAIN} {} --actor {ACTOR} --reason 'looked old, and nobody had asked for it in weeks'; \
         checkpoint-delete {DOMAIN} {}; policy {DOMAIN} chain=off overlays=off; \
         checkpoint-create {DOMAIN} again.xml --redefine --actor {ACTOR}; \
         checkpoint-delete {DOMAIN} {} --children; \
         checkpoint-hold {DOMAIN} {} --tag retention-until-2027 --actor {ACTOR}",
        name(2),
        name(3),
        name(6),
        name(4),
    );
    let ran = program.run(&[&script]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    program
}

#[test]
fn no_line_of_a_question_is_wider_than_80_columns_with_names_of_20_characters() {
    let program = with_long_names();
    let digits = |line: &str| line.bytes().all(|byte| byte.is_ascii_digit());
    let last = program.run(&["-q", "log", "-n", "1", "--oneline"]).out;
    let last: u64 = last.split_whitespace().next().unwrap().parse().unwrap();
    let mut commands = vec![
        vec!["log".to_owned()],
        vec!["log".to_owned(), "--reverse".to_owned(), DOMAIN.to_owned()],
        vec!["diff".to_owned(), "2".to_owned()],
        vec!["diff".to_owned(), "6".to_owned(), "11".to_owned()],
        vec!["hold-list".to_owned()],
        vec!["stat".to_owned()],
    ];
    for seq in 1..=last {
        commands.push(vec!["show".to_owned(), seq.to_string()]);
    }
    for number in 1..=6 {
        commands.push(vec![
            "why".to_owned(),
            DOMAIN.to_owned(),
            format!("nightly-backup-{number:05}"),
        ]);
    }
    for number in [2, 6] {
        let undelete = [
            "checkpoint-undelete",
            DOMAIN,
            &format!("nightly-backup-{number:05}"),
            "--dry-run",
        ];
        commands.push(undelete.map(str::to_owned).to_vec());
    }
    let mut shown = String::new();
    for words in commands {
        let mut command = program.command();
        let ran = ran(command.args(&words).env("COLUMNS", "80").output().unwrap());
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
        assert!(!ran.out.contains('…'), "{words:?}: {}", ran.out);
        for line in ran.out.lines() {
            let is_one_word = !line.trim().contains(' ') && !digits(line);
            assert!(
                line.chars().count() <= 80 || is_one_word,
                "{words:?}: {line}"
            );
        }
        shown += &ran.out;
    }
    // All names are whole.
    for number in 1..=6 {
        assert!(
            shown.contains(&format!("nightly-backup-{number:05}")),
            "{number}"
        );
    }
}

#[test]
fn the_command_of_a_dry_run_is_copied_as_it_stands() {
    let program = with_long_names();
    let dry = program.run(&[
        "-q",
        "checkpoint-undelete",
        DOMAIN,
        "nightly-backup-00002",
        "--dry-run",
        "--reason",
        "it was needed",
    ]);
    assert_eq!(dry.status, 0, "{}", dry.err);
    let (_, command) = dry.out.split_once("Exactly this, or a refusal:").unwrap();
    assert!(command.contains(" \\\n    "), "{command}");
    let ran = program.run(&[command]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    let log = program.run(&["-q", "log", "-n", "1", "--oneline"]).out;
    assert!(
        log.contains("nightly-backup-00002") && log.contains("\"it was needed\""),
        "{log}"
    );
}

#[test]
fn a_record_is_a_line_on_request_and_whole_when_it_is_piped() {
    let program = with_long_names();
    for columns in ["40", "80", "200"] {
        let mut command = program.command();
        command
            .env("COLUMNS", columns)
            .args(["-q", "log", "--oneline"]);
        let ran = ran(command.output().unwrap());
        assert!(!ran.out.contains('…'), "{}", ran.out);
        let wide = ran
            .out
            .lines()
            .filter(|line| line.ends_with("before the price change\""))
            .count();
        assert_eq!(wide, 6, "{}", ran.out);
    }
    let mut command = program.command();
    let ran = ran(command
        .env("COLUMNS", "200")
        .args(["-q", "log"])
        .output()
        .unwrap());
    // Piped, only the option makes a line of a record.
    assert!(ran.out.lines().count() > 20, "{}", ran.out);
}
