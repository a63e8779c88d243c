//! `log`, `show`, `why`, `diff` and `--at`: filters, archives, and following.

use std::io::{BufRead as _, BufReader};

use super::*;

/// Numbers of the records that `log` shows with these words.
fn seqs(program: &Program, words: &[&str]) -> Vec<u64> {
    let words = [&["--format", "json", "log"], words].concat();
    let ran = program.run(&words);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
    let seq = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        entry["seq"].as_u64().unwrap()
    };
    ran.out.lines().map(seq).collect()
}

/// Records: 1 begun, 2 defined, 3 to 5 created, 6 c2 deleted, 7 chain off, 8 c4 created, 9 c1 redefined.
fn with_history() -> Program {
    let program = Program::with_domain();
    let made = program.run(&["checkpoint-create-as web01 c1 --actor backup@nightly; \
         checkpoint-create-as web01 c2 --actor backup@nightly --reason 'before the Update'; \
         checkpoint-create-as web01 c3 --actor backup@nightly; \
         checkpoint-delete web01 c2 --actor intern@ops2 --reason 'looked old'; \
         policy web01 chain=off; checkpoint-create-as web01 c4 later"]);
    assert_eq!((made.err.as_str(), made.status), ("", 0));
    let xml = program
        .run(&["-q", "checkpoint-dumpxml", "web01", "c1"])
        .out;
    let xml = xml.replace(
        "<name>c1</name>",
        "<name>c1</name>\n  <description>kept</description>",
    );
    program.write("c1.xml", &xml);
    let redefined = program.run(&["checkpoint-create web01 c1.xml --redefine"]);
    assert_eq!(redefined.status, 0, "{}", redefined.err);
    program
}

#[test]
fn the_log_is_filtered_by_what_a_record_says_and_what_followed() {
    let program = with_history();
    let receipt = program.run(&["-q", "--at", "4", "receipt"]).out;
    let receipt = receipt.trim();
    for (words, expected) in [
        (&[][..], &[1, 2, 3, 4, 5, 6, 7, 8, 9][..]),
        (&["web01"], &[2, 3, 4, 5, 6, 7, 8, 9]),
        // Moved by the deletion of c2.
        (&["--moment", "c3"], &[5, 6, 8]),
        (&["--moment", "#2"], &[4, 5, 6]),
        (&["--kind", "moved"], &[6]),
        (&["--kind", "checkpoint,created"], &[3, 4, 5, 8]),
        (&["--kind", "policy,redefined"], &[7, 9]),
        (&["--by", "backup@nightly"], &[3, 4, 5]),
        (&["--by", "intern"], &[6]),
        (&["--grep", "UPDATE"], &[4]),
        (&["--grep", "deleted"], &[6]),
        (&["--from", "4", "--to", "6"], &[4, 5, 6]),
        (&["--from", "4", "-n", "2"], &[4, 5]),
        (&["-n", "2"], &[8, 9]),
        (&["-n", "2", "--reverse"], &[9, 8]),
        (&["--by", "backup", "-n", "1"], &[5]),
        (&["--since", "8"], &[8, 9]),
        (&["--until", "2"], &[1, 2]),
        (
            &["--since", "1 hours ago", "--until", "now", "-n", "1"],
            &[9],
        ),
        (&["--until", "1 hours ago"], &[]),
        (&["--until", receipt], &[1, 2, 3, 4]),
        (&["--at", "4"], &[1, 2, 3, 4]),
    ] {
        assert_eq!(seqs(&program, words), expected, "{words:?}");
    }
    // Another digest for the same record.
    let (front, digest) = receipt.rsplit_once(' ').unwrap();
    let forged = format!("{front} {}", digest.chars().rev().collect::<String>());
    for (words, why) in [
        (
            &["log", "--kind", "changed"][..],
            "'changed' is no kind of record: begun, ",
        ),
        (&["log", "--since", "soon"], "'soon' is no point of the log"),
        (&["log", "-n", "x"], "'x' in --n is not a number"),
        (
            &["log", "--until", &forged],
            "record 4 here is not the receipt's",
        ),
        (&["log", "--since", &forged], "the log was forked: record 4"),
        (
            &["show", "99", "--archive", "nowhere"],
            "there is no record 99: the last one is 9",
        ),
        (&["show", "99"], "there is no record 99: the last one is 9"),
        (
            &["why", "web01", "c9"],
            "domain 'web01' has and had no moment 'c9'",
        ),
        (&["diff", "9", "4"], "record 9 comes after record 4"),
        (&["--at", "0", "list", "--all"], "there is no record 0"),
        (
            &["--at", "2020-01-01", "list", "--all"],
            "the log has no record as old as that",
        ),
        (
            &["--at", "3", "start", "web01"],
            "--at is for commands that read",
        ),
    ] {
        let ran = program.run(words);
        assert_eq!(ran.status, 1, "{words:?}");
        assert!(ran.err.contains(why), "{words:?}: {}", ran.err);
    }
}

#[test]
fn what_a_process_said_of_itself_is_shown_as_it_said_it() {
    use momentlog::core::{Action, Command, StateChange};
    use momentlog::{Connection, Options, Provenance};
    let program = Program::with_domain();
    let provenance = Provenance {
        agent: "root@vm /opt/backup/nightly/2.1".into(),
        ..Provenance::default()
    };
    let options = Options {
        provenance,
        ..Options::default()
    };
    let uri = format!("momentlog://{}", program.store().display());
    let connection = Connection::open_with(&uri, options).unwrap();
    let domain = connection.lookup_domain_by_name("web01").unwrap().uuid();
    let action = Action::ChangeState(StateChange::Start);
    connection.execute(&Command { domain, action }).unwrap();
    connection.close().unwrap();
    let shown = program.run(&["show", "3"]).out;
    assert!(
        shown.contains("the process was root@vm, /opt/backup/nightly 2.1\n"),
        "{shown}"
    );
    assert!(shown.contains("Call:      execute, flags 0\n"), "{shown}");
}

#[test]
fn a_redefinition_is_told_field_by_field_and_as_a_difference_of_xml() {
    let program = with_history();
    let shown = program.run(&["show", "9", "--xml"]).out;
    for part in [
        "checkpoint c1 redefined as a root\n",
        "  description    none -> kept\n",
        "--- checkpoint c1, before\n+++ checkpoint c1, after\n",
        "\n+  <description>kept</description>\n",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let diff = program.run(&["diff", "8"]).out;
    assert!(
        diff.contains("\nweb01, checkpoints\n ~ c1  redefined in 9 by "),
        "{diff}"
    );
    let gone = program.run(&["-q", "show", "6", "--xml"]).out;
    assert!(
        gone.contains("    <name>c2</name>") || gone.contains("  <name>c2</name>"),
        "{gone}"
    );
}

#[test]
fn what_is_archived_is_asked_with_its_directory() {
    let program = with_history();
    let why = program.run(&["-q", "why", "web01", "c3"]).out;
    let tree = program
        .run(&["-q", "--at", "5", "checkpoint-list", "web01", "--tree"])
        .out;
    let moved = program.run(&["archive cold"]);
    assert_eq!(moved.status, 0, "{}", moved.err);
    assert_eq!(seqs(&program, &[]), [10]);
    let all: Vec<u64> = (1..=10).collect();
    assert_eq!(seqs(&program, &["--archive", "cold"]), all);
    assert_eq!(
        seqs(&program, &["--archive", "cold", "--moment", "c3"]),
        [5, 6, 8]
    );
    let lived = program
        .run(&["-q", "why", "web01", "c3", "--archive", "cold"])
        .out;
    assert_eq!(lived, why);
    let here = program.run(&["-q", "why", "web01", "c3"]).out;
    assert!(here.contains("checkpoint c3 (#3) of web01"), "{here}");
    let then = ["-q", "--at", "5", "checkpoint-list", "web01", "--tree"];
    let refused = program.run(&then);
    assert_eq!(refused.status, 1, "{}", refused.out);
    assert!(
        refused.err.contains("name it with --archive DIR"),
        "{}",
        refused.err
    );
    let found = program.run(&[&then[..], &["--archive", "cold"]].concat());
    assert_eq!((found.err.as_str(), found.out), ("", tree));
    let gone = program.run(&["checkpoint-undelete web01 c2 --record 6"]);
    assert!(gone.err.contains("archive"), "{}", gone.err);
    let shown = program.run(&["show", "6", "--archive", "cold"]);
    assert!(
        shown.out.contains("checkpoint c2 (#2) deleted, alone"),
        "{shown:?}"
    );
}

#[test]
fn stat_counts_records_moments_and_files() {
    let program = with_history();
    let text = program.run(&["-q", "stat"]).out;
    for part in [
        "Records:        9\n",
        "Moments:        0 snapshots, 3 checkpoints, 4 ever\n",
        "Deepest:        3 moments from a root to a leaf\n",
        "\n        3  backup@nightly\n",
        "\n        1  moved\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = program.run(&["--format", "json", "stat", "--at", "6"]).out;
    let stat: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(stat["schema"], "momentlog.stat/1");
    assert_eq!(
        (&stat["records"], &stat["checkpoints"]),
        (&6.into(), &2.into())
    );
    assert_eq!(stat["kinds"]["created"], 3);
    let bytes = stat["bytes"].as_u64().unwrap();
    assert!(bytes > 1000 && stat["segments"] == 1, "{stat}");
}

/// A follower of the log behind a receipt, and what it prints.
struct Follower {
    child: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn behind(program: &Program, receipt: &str) -> Follower {
        let mut command = program.command();
        command.args(["--format", "json", "log", "--follow", "--from", receipt]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Follower { child, lines }
    }

    /// The next record: its number, and its receipt.
    fn next(&mut self, log: &str) -> (u64, String) {
        let line = self.lines.next().unwrap().unwrap();
        let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
        let digest = entry["digest"].as_str().unwrap();
        let receipt = format!("momentlog1 {log} {} {digest}", entry["seq"]);
        (entry["seq"].as_u64().unwrap(), receipt)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn copy_store(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_store(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_follower_that_is_killed_a_hundred_times_sees_every_record_once_and_in_order() {
    /// How often it is killed.
    const ROUNDS: usize = 100;
    let program = Program::with_domain();
    let mut receipt = program.run(&["-q", "receipt"]).out.trim().to_owned();
    let log = receipt.split(' ').nth(1).unwrap().to_owned();
    let first: u64 = receipt.split(' ').nth(2).unwrap().parse().unwrap();
    // A writer beside it, which knows nothing of it and goes on while it is killed.
    let writer = {
        let uri = format!("momentlog://{}", program.store().display());
        std::thread::spawn(move || {
            for number in 0..2 * ROUNDS {
                let connection = momentlog::Connection::open(&uri).unwrap();
                let domain = connection.lookup_domain_by_name("web01").unwrap();
                let xml = format!("<domaincheckpoint><name>c{number}</name></domaincheckpoint>");
                let flags = momentlog::CheckpointCreateFlags::NONE;
                domain.checkpoint_create_xml(&xml, flags).unwrap();
                connection.close().unwrap();
            }
        })
    };
    let mut seen = Vec::new();
    for round in 0..ROUNDS {
        let mut follower = Follower::behind(&program, &receipt);
        // One record or three in each round: the last ones of a round were read, and others came meanwhile.
        for _ in 0..=2 * (round % 2) {
            let (seq, next) = follower.next(&log);
            seen.push(seq);
            receipt = next;
        }
        follower.kill();
    }
    writer.join().unwrap();
    let expected: Vec<u64> = (first + 1..).take(2 * ROUNDS).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_store_that_is_put_back_is_told_as_forked() {
    let program = Program::with_domain();
    let (store, copy) = (program.store(), program.dir.path().join("copy"));
    let create = |name: &str| {
        let made = program.run(&["checkpoint-create-as", "web01", name]);
        assert_eq!(made.status, 0, "{}", made.err);
    };
    create("a");
    copy_store(&store, &copy);
    let older = program.run(&["-q", "receipt"]).out.trim().to_owned();
    let log = older.split(' ').nth(1).unwrap().to_owned();
    create("b");
    let receipt = program.run(&["-q", "receipt"]).out.trim().to_owned();
    let mut follower = Follower::behind(&program, &older);
    assert_eq!(follower.next(&log).1, receipt);
    // The copy is put back beneath it, and goes on otherwise.
    std::fs::remove_dir_all(&store).unwrap();
    copy_store(&copy, &store);
    let short = program.run(&["log", "--follow", "--from", &receipt]);
    assert_eq!(short.status, 1, "{short:?}");
    assert!(
        short.err.contains("the log was truncated: record 4"),
        "{}",
        short.err
    );
    create("c");
    let forked = program.run(&["log", "--follow", "--from", &receipt]);
    assert_eq!(forked.status, 1, "{forked:?}");
    assert!(
        forked.err.contains("the log was forked: record 4"),
        "{}",
        forked.err
    );
    let ran = ran(follower.child.wait_with_output().unwrap());
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(!ran.err.is_empty());
    // Another log is refused.
    let other = Program::with_domain();
    other.run(&["checkpoint-create-as web01 a; checkpoint-create-as web01 b"]);
    let forked = other.run(&["log", "--follow", "--from", &receipt]);
    assert_eq!(forked.status, 1, "{forked:?}");
}

#[test]
fn an_archive_is_refused_where_no_point_lies_in_it() {
    let program = with_history();
    assert_eq!(program.run(&["archive", "cold"]).status, 0);
    for words in [
        &["checkpoint-list", "web01", "--archive", "cold"][..],
        &["list", "--all", "--archive", "cold"],
        &["stat", "--archive", "cold"],
    ] {
        let ran = program.run(words);
        let why = "error: --archive is for points that lie there: it needs --at POINT\n";
        assert_eq!((ran.err.as_str(), ran.status), (why, 1), "{words:?}");
        let then = program.run(&[words, &["--at", "5"]].concat());
        assert_eq!((then.err.as_str(), then.status), ("", 0), "{words:?}");
    }
}

/// The file of records in a store that has one.
fn segment(store: &Path) -> PathBuf {
    let files = std::fs::read_dir(store).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|of| of == "seg");
    files.find(is_segment).unwrap()
}

#[test]
fn a_record_of_another_history_is_found_where_verified_answers_are_asked_for() {
    let program = Program::with_domain();
    let xml = std::fs::read_to_string(repository().join("examples/web01.xml")).unwrap();
    let xml = xml.replace("web01", "web02").replace("<uuid>3", "<uuid>4");
    program.write("web02.xml", &xml);
    let defined = program.run(&["define web02.xml; checkpoint-create-as web01 a"]);
    assert_eq!((defined.err.as_str(), defined.status), ("", 0));
    let (store, copy) = (program.store(), program.dir.path().join("copy"));
    copy_store(&store, &copy);
    let begin = std::fs::metadata(segment(&store)).unwrap().len();
    let begin = usize::try_from(begin).unwrap();
    // A record of another domain, once otherwise and then as it was, of the same length.
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    command.args([
        "-c",
        "momentlog:copy",
        "checkpoint-create-as",
        "web02",
        "fake",
    ]);
    let faked = command.current_dir(program.dir.path()).output().unwrap();
    assert_eq!(ran(faked).status, 0);
    let forged = std::fs::read(segment(&copy)).unwrap().split_off(begin);
    program.run(&["checkpoint-create-as web02 true"]);
    let frame = std::fs::read(segment(&store)).unwrap().split_off(begin);
    assert_eq!(forged.len(), frame.len());
    program.run(&["checkpoint-create-as web01 b; image"]);
    for words in [
        &["log", "web01", "--verified"][..],
        &["show", "4", "--verified"],
        &["why", "web01", "a", "--verified"],
        &["diff", "3", "--domain", "web01", "--verified"],
        &["why", "web01", "a", "--verified", "--at", "4"],
    ] {
        let ran = program.run(words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
        let plain: Vec<&str> = words
            .iter()
            .copied()
            .filter(|word| *word != "--verified")
            .collect();
        assert_eq!(program.run(&plain), ran, "{words:?}");
    }
    let life = program.run(&["why", "web01", "a"]).out;
    let path = segment(&store);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[begin..begin + forged.len()].copy_from_slice(&forged);
    std::fs::write(&path, bytes).unwrap();
    // Of one domain alone, the chain through other records is not computed.
    let lived = program.run(&["why", "web01", "a"]);
    assert_eq!((lived.out, lived.status), (life, 0));
    for words in [
        &["log", "web01", "--verified"][..],
        &["show", "4", "--verified"],
        &["why", "web01", "a", "--verified"],
        &["diff", "3", "--domain", "web01", "--verified"],
    ] {
        let ran = program.run(words);
        assert_eq!((ran.out.trim(), ran.status), ("", 1), "{words:?}");
        let why = "error: the log is not verified: ";
        assert!(ran.err.starts_with(why), "{words:?}: {}", ran.err);
    }
}
