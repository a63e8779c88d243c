//! `copy`: from a directory to another, to a database, and back.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use momentlog::store::{Draft, FileStore, LogId, RealDisk, Store as _, verify};
use momentlog_proptests::PostgresServer;

use super::postgres::{command, fleet, run};
use super::{Killed, Program, Ran};

fn done(ran: Ran) -> String {
    assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{ran:?}");
    ran.out
}

/// The frames of a store's segments, each with the name of its file, without `durable` and the two checksums that cover it, and
/// without the zeros behind the last frame.
fn frames(store: &Path) -> Vec<(String, Vec<u8>)> {
    let mut segments = Vec::new();
    for file in std::fs::read_dir(store).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|end| end != "seg") {
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let mut at = 0;
        while bytes.get(at).is_some_and(|first| *first != 0) {
            let field = |from: usize| {
                let field: [u8; 4] = bytes[at + from..at + from + 4].try_into().unwrap();
                u32::from_le_bytes(field) as usize
            };
            let length = (96 + field(80) + field(88) + 4).next_multiple_of(8);
            for (from, to) in [(12, 16), (72, 80), (length - 4, length)] {
                bytes[at + from..at + to].fill(0);
            }
            at += length;
        }
        assert!(bytes[at..].iter().all(|byte| *byte == 0));
        bytes.truncate(at);
        segments.push((
            path.file_name().unwrap().to_str().unwrap().to_owned(),
            bytes,
        ));
    }
    segments.sort();
    segments
}

/// A database with the schema, and a user of the writing role, whose log `copied` has no record.
fn database(left_out: &str) -> Option<(PostgresServer, String)> {
    let (server, agent, _) = fleet(left_out)?;
    let copied = |uri: &str| uri.replace("log=fleet", "log=copied");
    done(run(&copied(&agent.replace("agent@", "admin@")), &["init"]));
    let uri = copied(&agent);
    Some((server, uri))
}

#[test]
fn a_log_goes_to_a_database_and_back_with_its_digests_and_files() {
    let Some((_server, uri)) = database("a copy to PostgreSQL and back") else {
        return;
    };
    let program = Program::with_domain();
    let script: Vec<String> = (0..300)
        .map(|number| format!("checkpoint-create-as web01 c{number}"))
        .collect();
    done(program.run(&["-q", &script.join("\n")]));
    let receipt = done(program.run(&["-q", "receipt"]));
    done(program.run(&["checkpoint-delete", "web01", "c7"]));
    // The archive of a log is copied before it.
    done(program.run(&["archive", "--to", "archived"]));
    done(program.run(&["checkpoint-delete", "web01", "c8"]));
    let head = |ran: Ran| {
        let report = done(ran);
        let line = report
            .lines()
            .find(|line| line.starts_with("Head"))
            .map(str::to_owned);
        line.unwrap()
    };
    let wanted = head(program.run(&["verify", "--archive", "archived"]));
    let refused = program.run(&["copy", "momentlog:store", &uri]);
    assert!(
        refused.err.contains("were moved to an archive")
            && refused.err.contains("copy that archive"),
        "{refused:?}"
    );
    let first = done(program.run(&["copy", "momentlog:archived", &uri]));
    assert!(
        first.starts_with("303 records copied: postgres://") && !first.contains("agent"),
        "{first}"
    );
    let rest = done(program.run(&["copy", "momentlog:store", &uri]));
    assert!(rest.starts_with("2 records copied: "), "{rest}");
    assert!(done(program.run(&["copy", "momentlog:store", &uri])).starts_with("Nothing to copy: "));
    let verified = |ran: Ran| {
        let report = done(ran);
        assert!(report.contains("anchored"), "{report}");
        report
            .lines()
            .find(|line| line.starts_with("Head"))
            .map(str::to_owned)
    };
    assert_eq!(
        verified(run(
            &uri,
            &["verify", "--strict", "--against", receipt.trim()]
        )),
        Some(wanted.clone())
    );
    // The state is the same as well, and goes on there.
    assert_eq!(
        run(&uri, &["checkpoint-list", "web01"]),
        program.run(&["checkpoint-list", "web01"])
    );
    let back = program.run(&["--format", "json", "copy", &uri, "momentlog:back"]);
    assert!(done(back).contains("\"records\":305,"));
    let in_back = format!("momentlog:{}", program.dir.path().join("back").display());
    assert_eq!(
        verified(run(
            &in_back,
            &["verify", "--strict", "--against", receipt.trim()]
        )),
        Some(wanted)
    );
    // The segments of the archive, and then those of the store.
    let at = |name: &str| frames(&program.dir.path().join(name));
    let mut original = at("archived");
    original.extend(at("store"));
    let bytes = |segments: &[(String, Vec<u8>)]| -> Vec<u8> {
        segments
            .iter()
            .flat_map(|(_, bytes)| bytes.clone())
            .collect()
    };
    assert_eq!(bytes(&at("back")), bytes(&original));
    // A log that was never archived has its files again, by name.
    done(run(
        &in_back,
        &["-q", "checkpoint-create-as", "web01", "more"],
    ));
    done(program.run(&["copy", "momentlog:back", &uri]));
    done(program.run(&["copy", &uri, "momentlog:again"]));
    assert!(at("back").len() > 1);
    assert_eq!(at("again"), at("back"));
    done(run(&uri, &["-q", "checkpoint-create-as", "web01", "there"]));
}

#[test]
fn a_copy_that_was_killed_goes_on_where_it_was() {
    const RECORDS: u64 = 20_000;
    let Some((server, uri)) = database("a copy to PostgreSQL that is killed") else {
        return;
    };
    let program = Program::new();
    let mut store = FileStore::new(RealDisk::new(program.store()));
    store.acquire(Duration::ZERO).unwrap();
    let drafts = (0..RECORDS).map(|number| Draft {
        facts: format!("record {number} ").repeat(20).into_bytes(),
        texts: Vec::new(),
    });
    store
        .append(LogId([5; 16]), None, drafts.collect())
        .unwrap();
    let head = store.head();
    drop(store);
    let count =
        "SELECT count(*) FROM momentlog.records WHERE log = '05050505-0505-0505-0505-050505050505'";
    let count = || server.psql("admin", count).unwrap().parse::<u64>().unwrap();
    let mut killed = 0;
    for _ in 0..3 {
        let before = count();
        let mut copying = program.command();
        let mut copying = Killed(
            copying
                .args(["copy", "momentlog:store", &uri])
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        );
        while count() == before && copying.0.try_wait().unwrap().is_none() {}
        drop(copying);
        killed += u64::from(count() < RECORDS);
    }
    let there = count();
    assert_eq!(
        there % 1_000,
        0,
        "whole appends, whatever was killed: {killed} times in the middle"
    );
    let done = program.run(&["--format", "json", "copy", "momentlog:store", &uri]);
    assert!(
        done.out
            .contains(&format!("\"records\":{},", RECORDS - there)),
        "{done:?}"
    );
    // The same from the database, into a directory.
    let back = program.dir.path().join("back");
    let segment = back.join("00000000000000000001.seg");
    let written = || {
        std::fs::read(&segment).map_or(0, |bytes| {
            bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0)
        })
    };
    for _ in 0..3 {
        let before = written();
        let mut copying = command("test:///default");
        copying
            .args(["copy", &uri, "momentlog:back"])
            .current_dir(program.dir.path());
        let mut copying = Killed(copying.stdout(Stdio::null()).spawn().unwrap());
        while written() == before && copying.0.try_wait().unwrap().is_none() {}
        drop(copying);
    }
    assert_eq!(program.run(&["copy", &uri, "momentlog:back"]).status, 0);
    let report = verify(
        &mut FileStore::new(RealDisk::new(program.dir.path().join("back"))),
        None,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!((report.records, report.head), (RECORDS, head));
}

#[test]
fn a_copy_is_refused_with_both_ends_where_it_would_not_continue() {
    let program = Program::with_domain();
    done(program.run(&["copy", "momentlog:store", "momentlog:copied"]));
    let copied = format!("momentlog:{}", program.dir.path().join("copied").display());
    let receipt = |ran: Ran| done(ran).trim().to_owned();
    let refused = |from: &str, to: &str, why: &str| {
        let ran = program.run(&["copy", from, to]);
        assert_eq!((ran.out.trim(), ran.status), ("", 1), "{ran:?}");
        assert!(ran.err.contains(why), "{ran:?}");
        ran.err
    };
    let both = |said: &str| {
        for name in ["store", "copied"] {
            let uri = format!("momentlog:{}", program.dir.path().join(name).display());
            let end = receipt(run(&uri, &["-q", "receipt"]));
            assert!(said.contains(&end), "{said}: {end}");
        }
    };
    done(run(&copied, &["checkpoint-create-as", "web01", "ahead"]));
    both(&refused(
        "momentlog:store",
        "momentlog:copied",
        "the destination is ahead",
    ));
    done(program.run(&["checkpoint-create-as", "web01", "fork"]));
    both(&refused(
        "momentlog:store",
        "momentlog:copied",
        "is a fork of the source",
    ));
    let other = Program::with_domain();
    let other = format!("momentlog:{}", other.store().display());
    refused(&other, "momentlog:copied", "holds another log");
    refused("momentlog:nowhere", "momentlog:new", "there is no store at");
    refused("test:///default", "momentlog:new", "cannot be copied");
    refused("qemu:///system", "momentlog:new", "qemu:///system");
    assert!(!program.dir.path().join("new").exists());
    let ran = program.run(&["-r", "copy", "momentlog:store", "momentlog:new"]);
    assert!(
        ran.err.contains("nothing is copied for reading only"),
        "{ran:?}"
    );
}
