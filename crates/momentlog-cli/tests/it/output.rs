//! What the program prints, and what becomes of it.

use super::*;

fn json_lines(program: &Program, words: &[&str]) -> Vec<serde_json::Value> {
    let ran = program.run(words);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
    let parse = |line: &str| serde_json::from_str(line).expect(line);
    ran.out.lines().map(parse).collect()
}

#[test]
fn json_is_one_document_a_line_and_nothing_else_before_and_after_the_verb() {
    let program = Program::with_domain();
    for words in [
        &["log"][..],
        &["policy", "web01"],
        &["policy", "web01", "chain=off"],
        &["policy", "--default"],
        &["policy", "--default", "chain=off"],
        &["receipt"],
        &["image"],
        &["verify"],
        &["archive", "cold"],
    ] {
        let before = [&["--format", "json"], words].concat();
        assert!(!json_lines(&program, &before).is_empty(), "{words:?}");
        if words[0] != "archive" {
            let after = [words, &["--format=json"]].concat();
            assert!(!json_lines(&program, &after).is_empty(), "{words:?}");
        }
    }
}

#[test]
fn a_verb_without_a_json_form_says_so_and_does_nothing() {
    let program = Program::with_domain();
    for words in [
        &["--format", "json", "help", "list"][..],
        &["help", "list", "--format", "json"],
        &[
            "--format",
            "json",
            "checkpoint-create-as web01 a; help list",
        ],
    ] {
        let ran = program.run(words);
        let expected = "command 'help' has no JSON form";
        assert_eq!((ran.out.as_str(), ran.status), ("", 1));
        match words[0] {
            "--format" => {
                let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
                assert_eq!(
                    (&error["message"], &error["code"]),
                    (&expected.into(), &().into())
                );
            }
            _ => assert_eq!(ran.err, format!("error: {expected}\n")),
        }
    }
    let names = ["-q", "checkpoint-list", "web01", "--name"];
    assert_eq!(program.run(&names).out, "");
    let ran = program.run(&["log", "--format", "yaml"]);
    assert_eq!(ran.err, "error: 'yaml' is no format: text or json\n");
    let words = ["--format", "json", "log", "--oneline", "--format", "text"];
    let ran = ran_in_text(&program, &words);
    assert_eq!(ran.out.lines().count(), 3);
}

/// Runs what answers in text although JSON is what is usual.
fn ran_in_text(program: &Program, words: &[&str]) -> Ran {
    ran(program.command().args(words).output().unwrap())
}

#[test]
fn an_error_in_json_is_one_document_with_libvirts_numbers() {
    let program = Program::with_domain();
    let asked = |words: &[&str]| -> serde_json::Value {
        let ran = program.run(&[&["--format", "json"], words].concat());
        assert_eq!((ran.out.as_str(), ran.status), ("", 1), "{words:?}");
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        serde_json::from_str(&ran.err).unwrap()
    };
    let error = asked(&["policy", "web02"]);
    assert_eq!(error["message"], "failed to get domain 'web02'");
    assert_eq!(error["code"], serde_json::Value::Null);
    let error = asked(&["log", "web02"]);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("the log knows no domain 'web02'")
    );
    let error = asked(&["checkpoint-undelete", "web01", "a", "--record", "2"]);
    assert_eq!(
        (&error["code"], &error["name"]),
        (&8.into(), &"VIR_ERR_INVALID_ARG".into())
    );
    assert_eq!((&error["domain"], &error["hint"]), (&0.into(), &().into()));
}

#[test]
fn output_that_cannot_be_written_is_an_error_with_its_reason() {
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 a; snapshot-list web01"]);
    let into_full = |words: &[&str]| {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        let mut command = program.command();
        ran(command.args(words).stdout(full.unwrap()).output().unwrap())
    };
    for words in [
        &["receipt"][..],
        &["log"],
        &["verify"],
        &["--format", "json", "log"],
        &["list"],
        &["checkpoint-dumpxml", "web01", "a"],
        &["-q", "checkpoint-list", "web01", "--tree"],
        &["help"],
        &["echo", "a"],
        &["receipt; echo a"],
        &["--help"],
        &["--version"],
        &["completion", "bash"],
        &["man"],
        &[],
    ] {
        let ran = into_full(words);
        assert_eq!(ran.status, 1, "{words:?}: {ran:?}");
        let expected = "error: cannot write standard output: No space left on device\n";
        assert_eq!(ran.err, expected, "{words:?}");
    }
}

#[test]
fn a_reader_that_went_away_is_no_fault() {
    let program = Program::with_domain();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let script = ["log; receipt; checkpoint-create-as web01 a"];
    let ran = ran(program
        .command()
        .args(script)
        .stdout(writer)
        .output()
        .unwrap());
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    assert_eq!(
        program
            .run(&["-q", "checkpoint-list", "web01", "--name"])
            .out,
        "a\n"
    );
}

#[test]
fn the_log_names_what_went_and_what_stays() {
    let program = Program::with_domain();
    let script = "checkpoint-create-as web01 a; checkpoint-create-as web01 b; checkpoint-create-as web01 c; \
        checkpoint-delete web01 b --children-only; checkpoint-delete web01 a --children; \
        snapshot-create-as web01 s; snapshot-create-as web01 t; undefine web01 --snapshots-metadata";
    let ran = program.run(&["-q", script]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    let log = program.run(&["-q", "log", "--oneline"]).out;
    for expected in [
        "children of checkpoint b deleted (1 gone: c)",
        "checkpoint a and its children deleted (2 gone: a, b)",
        "domain removed, with 2 snapshots (s, t)",
    ] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    assert!(!log.contains("  checkpoint b deleted"), "{log}");
    let documents = json_lines(&program, &["log", "--format", "json"]);
    let names = |moments: &serde_json::Value| -> Vec<String> {
        let names = moments.as_array().into_iter().flatten();
        names
            .map(|moment| moment["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let event = |back: usize| &documents[documents.len() - back]["events"][0];
    assert_eq!(names(&event(5)["removed"]), ["c"]);
    assert_eq!(names(&event(4)["removed"]), ["a", "b"]);
    assert_eq!(event(4)["type"], "checkpoint_deleted");
    assert_eq!(event(4)["extent"], "subtree");
    assert_eq!(names(&event(1)["snapshots"]), ["s", "t"]);
    assert_eq!(names(&event(1)["checkpoints"]), [""; 0]);
}

#[test]
fn an_unknown_domain_in_the_log_is_an_error_that_names_the_nearest() {
    let program = Program::with_domain();
    program.write(
        "other.xml",
        "<domain type='kvm'><name>database</name><os><type>hvm</type></os></domain>",
    );
    program.run(&["define", "other.xml"]);
    let ran = program.run(&["log", "wbe01"]);
    assert_eq!(
        (ran.err.as_str(), ran.out.as_str(), ran.status),
        (
            "error: the log knows no domain 'wbe01'; it knows 'web01', 'database'\n",
            "\n",
            1
        )
    );
    let ran = program.run(&["log", "-x"]);
    let option = "error: the log knows no domain '-x'; options begin with two dashes; it knows 'web01', 'database'\n";
    assert_eq!((ran.err.as_str(), ran.status), (option, 1));
    let ran = program.run(&["log", "web01", "--from", "99"]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
}

#[test]
fn a_limit_gives_the_newest_entries() {
    let program = Program::with_domain();
    program.run(&[
        "checkpoint-create-as web01 a; checkpoint-create-as web01 b; checkpoint-create-as web01 c",
    ]);
    let seqs = |words: &[&str]| -> Vec<u64> {
        let documents = json_lines(&program, &[&["--format", "json", "log"], words].concat());
        documents
            .iter()
            .map(|entry| entry["seq"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(seqs(&["--limit", "2"]), [4, 5]);
    assert_eq!(seqs(&["--limit", "9"]), [1, 2, 3, 4, 5]);
    assert_eq!(seqs(&["-n", "2"]), [4, 5]);
    assert_eq!(seqs(&["-n", "2", "--reverse"]), [5, 4]);
    assert_eq!(seqs(&["web01", "-n", "2"]), [4, 5]);
    assert!(seqs(&["--from", "3", "--limit", "0"]).is_empty());
    // With a beginning, it is the first ones.
    assert_eq!(seqs(&["web01", "--from", "2", "--limit", "3"]), [2, 3, 4]);
}

#[test]
fn the_log_says_who_really_asked_and_what_was_taken_back() {
    let program = Program::with_domain();
    program.run(&[
        "checkpoint-create-as web01 a; checkpoint-create-as web01 b --actor migration-tool; \
        checkpoint-delete web01 b --undoes 4",
    ]);
    let documents = json_lines(&program, &["log", "--format", "json", "--from", "3"]);
    let user = documents[0]["actor"].as_str().unwrap();
    for document in &documents {
        let agent = document["agent"].as_str().unwrap();
        assert!(
            agent.starts_with(&format!("{user} momentlog-cli/")),
            "{agent}"
        );
    }
    let calls: Vec<&str> = documents
        .iter()
        .map(|document| document["call"].as_str().unwrap())
        .collect();
    assert_eq!(calls[0], "virDomainCheckpointCreateXML");
    assert_eq!(calls[2], "virDomainCheckpointDelete");
    assert_eq!(
        (&documents[1]["undoes"], &documents[2]["undoes"]),
        (&serde_json::Value::Null, &4.into())
    );
    let rows = program.run(&["-q", "log", "--from", "3", "--oneline"]).out;
    let rows: Vec<&str> = rows.lines().collect();
    assert!(rows[0].contains(&format!("  {user}  web01  ")), "{rows:?}");
    assert!(rows[1].contains("  migration-tool  web01  "), "{rows:?}");
    assert!(
        rows[2].contains("checkpoint b deleted; takes back record 4"),
        "{rows:?}"
    );
    let shown = program.run(&["show", "4"]).out;
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    let process =
        format!("Actor: migration-tool (claimed); the process was {user}, momentlog-cli ");
    assert!(shown.contains(&process), "{shown}");
    let wrong = program.run(&["checkpoint-delete web01 a --undoes x"]);
    assert_eq!(wrong.err, "error: 'x' is no number of a record\n");
    assert_eq!(
        program
            .run(&["checkpoint-delete web01 a --undoes 99"])
            .status,
        1
    );
}

/// Erases texts in the only segment of a store, as a tool that erases would: frames keep their places and digests.
fn erase(program: &Program, is_erased: impl Fn(&[u8]) -> bool) -> usize {
    use momentlog::store::{Place, Seq, Text, decode_frame, encode_frame};
    let receipt = program.run(&["-q", "receipt"]).out;
    let receipt: momentlog::store::Receipt = receipt.trim().parse().unwrap();
    let segment = program.store().join("00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let (mut offset, mut erased) = (0, 0);
    for _ in 0..receipt.head.seq.get() {
        let place = Place {
            log: receipt.log,
            segment: Seq::new(1).unwrap(),
            offset: offset as u64,
        };
        let (mut record, length) = decode_frame(&bytes[offset..], place).unwrap();
        for text in &mut record.texts {
            let commitment = text.commitment();
            if let Text::Plain { bytes, .. } = &*text
                && is_erased(bytes)
            {
                let length = u32::try_from(bytes.len()).unwrap();
                *text = Text::Erased { commitment, length };
                erased += 1;
            }
        }
        bytes[offset..offset + length].copy_from_slice(&encode_frame(&record, place));
        offset += length;
    }
    std::fs::write(&segment, bytes).unwrap();
    erased
}

#[test]
fn an_erased_reason_and_agent_are_told_as_erased_in_text_and_json() {
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 a --reason private --actor tool"]);
    let is_erased =
        |text: &[u8]| text == b"private" || text.windows(14).any(|part| part == b"momentlog-cli/");
    assert_eq!(erase(&program, is_erased), 2);
    let ran = program.run(&["verify"]);
    assert!(ran.out.contains("Erased texts:   2\n"), "{ran:?}");
    let rows = program.run(&["-q", "log", "--from", "3", "--oneline"]).out;
    assert!(rows.contains("  (reason erased)\n"), "{rows}");
    let shown = program.run(&["show", "3"]).out;
    for erased in [
        "tool (claimed); the process was erased\n",
        "Reason:    (reason erased)\n",
    ] {
        assert!(shown.contains(erased), "{shown}");
    }
    let documents = json_lines(&program, &["log", "--format", "json", "--from", "3"]);
    let erased: serde_json::Value = serde_json::from_str(r#"{"erased":true}"#).unwrap();
    assert_eq!(
        (&documents[0]["agent"], &documents[0]["reason"]),
        (&erased, &erased)
    );
}
