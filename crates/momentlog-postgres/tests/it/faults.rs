//! Servers that end connections, crash, or come back as they were before.

use std::collections::HashSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use momentlog_postgres::{Address, PostgresStore};
use momentlog_proptests::PostgresServer;
use momentlog_store::{LogId, Store, StoreError};

use super::{LOG, VERIFY, draft, effort, open, read, server};

const WAIT: Duration = Duration::from_secs(30);

/// Appends one record wherever the log ends, as the engine does.
pub(super) fn append(store: &mut PostgresStore, facts: &str) -> Result<(), StoreError> {
    loop {
        store.acquire(WAIT)?;
        let end = store.head();
        match store.append(LOG, end, vec![draft(facts)]) {
            Err(StoreError::Conflict { .. }) => {}
            appended => return appended.map(|_| ()),
        }
    }
}

/// Appends one record, and asks again as long as it is unknown whether it was written, or was not; as a caller does with a
/// request id.
fn insist(store: &mut PostgresStore, facts: &str) {
    let end = Instant::now() + Duration::from_mins(5);
    loop {
        let error = match append(store, facts) {
            Ok(()) => return,
            Err(error @ (StoreError::Unknown { .. } | StoreError::Backend { .. })) => error,
            Err(error) => panic!("{error:?}"),
        };
        assert!(Instant::now() < end, "{error:?}");
        println!("{facts}: {error}: {:?}", std::error::Error::source(&error));
        let mut stands = false;
        let read = store.read(None, &mut |record| {
            stands |= record.facts == facts.as_bytes();
            Ok(())
        });
        if stands && read.is_ok() {
            assert!(matches!(error, StoreError::Unknown { .. }), "{error:?}");
            return;
        }
    }
}

/// Checks that the log holds the records that were acknowledged, each once, and no other.
pub(super) fn check(store: &mut PostgresStore, acknowledged: &[String]) {
    let facts: Vec<String> = read(store, None)
        .unwrap()
        .into_iter()
        .map(|record| String::from_utf8(record.facts).unwrap())
        .collect();
    let once: HashSet<&String> = facts.iter().collect();
    assert_eq!(once.len(), facts.len(), "something is there twice");
    for one in acknowledged {
        assert!(once.contains(one), "{one} is lost");
    }
    assert_eq!(facts.len(), acknowledged.len(), "something else is there");
}

pub(super) fn clients(
    address: &Address,
    clients: usize,
    each: usize,
    trouble: impl FnOnce(&AtomicBool),
) -> Vec<String> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..clients)
            .map(|client| {
                scope.spawn(move || {
                    let mut store = PostgresStore::open(address.clone()).unwrap();
                    let mut acknowledged = Vec::new();
                    for number in 0..each {
                        let facts = format!("{client} {number}");
                        insist(&mut store, &facts);
                        acknowledged.push(facts);
                    }
                    acknowledged
                })
            })
            .collect();
        let waiting = scope.spawn(|| {
            let all: Vec<String> = running
                .into_iter()
                .flat_map(|client| client.join().unwrap())
                .collect();
            done.store(true, Ordering::Relaxed);
            all
        });
        trouble(&done);
        waiting.join().unwrap()
    })
}

#[test]
fn nothing_is_lost_or_doubled_while_connections_are_ended() {
    let Some(server) = server("eight clients while PostgreSQL ends their connections") else {
        return;
    };
    let address = super::address(&server, "agent", "main");
    let end =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'agent'";
    let mut ended = 0;
    let acknowledged = clients(&address, 8, 25, |done| {
        while !done.load(Ordering::Relaxed) {
            ended += server.psql("admin", end).unwrap().parse::<usize>().unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(ended > 0);
    check(&mut open(&server, "auditor", "main"), &acknowledged);
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
}

#[test]
fn nothing_is_lost_or_doubled_when_the_server_is_killed() {
    let rounds = effort("MOMENTLOG_KILLS", 3);
    let Some(mut server) = server("clients while PostgreSQL is killed") else {
        return;
    };
    let address = super::address(&server, "agent", "main");
    let mut kills = 0;
    let each = 20 * rounds;
    let acknowledged = clients(&address, 4, each, |done| {
        let records = "SELECT count(*) FROM momentlog.records";
        while kills < rounds && !done.load(Ordering::Relaxed) {
            let before = server.psql("admin", records).unwrap();
            while server.psql("admin", records).unwrap() == before && !done.load(Ordering::Relaxed)
            {
            }
            server.kill();
            server.start_again();
            kills += 1;
        }
    });
    assert!(kills > 0);
    println!("{kills} kills, {} records", acknowledged.len());
    check(&mut open(&server, "auditor", "main"), &acknowledged);
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
}

#[test]
fn a_log_that_is_no_continuation_is_said_to_be_replaced_and_is_not_written() {
    let Some(mut server) = server("a PostgreSQL that was restored from a backup") else {
        return;
    };
    let mut writer = open(&server, "agent", "main");
    append(&mut writer, "kept").unwrap();
    let backup = server.data().with_file_name("backup");
    server.stop();
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        assert!(
            Command::new("cp")
                .arg("-a")
                .arg(from)
                .arg(to)
                .status()
                .unwrap()
                .success()
        );
    };
    copy(&server.data(), &backup);
    server.start_again();
    append(&mut writer, "lost").unwrap();
    let mut reader = open(&server, "auditor", "main");
    assert_eq!(read(&mut reader, None).unwrap().len(), 2);
    let had = writer.head();
    server.stop();
    std::fs::remove_dir_all(server.data()).unwrap();
    copy(&backup, &server.data());
    server.start_again();
    // Nothing was said by the server: what is remembered tells.
    for _ in 0..2 {
        let said = append(&mut writer, "never").unwrap_err();
        assert!(
            matches!(said, StoreError::Replaced { had: before, found: Some(found), .. } if before == had && found.seq.get() == 1),
            "{said:?}"
        );
    }
    let said = read(&mut reader, had).unwrap_err();
    assert!(matches!(said, StoreError::Replaced { .. }), "{said:?}");
    // Another client goes on, and the log is a fork of what those have seen.
    let mut other = open(&server, "agent", "main");
    append(&mut other, "other").unwrap();
    for _ in 0..2 {
        assert!(matches!(
            append(&mut writer, "never"),
            Err(StoreError::Replaced { .. })
        ));
    }
    assert_eq!(read(&mut other, None).unwrap().len(), 2);
}

/// Starts a server again with a setting under which an append is refused with these words.
#[track_caller]
fn assert_is_not_written_with(server: &mut PostgresServer, setting: &str, words: &str) {
    let set = format!("ALTER SYSTEM SET {setting}");
    server.psql("admin", &set).unwrap();
    server.stop();
    server.start_again();
    let mut store = open(server, "agent", "main");
    let said = append(&mut store, "refused").unwrap_err();
    let source = std::error::Error::source(&said).unwrap().to_string();
    assert!(source.contains(words), "{source}");
    assert!(read(&mut store, None).unwrap().is_empty());
}

#[test]
fn a_handle_that_has_written_checks_the_server_that_it_finds_again() {
    let Some(mut server) = server("a PostgreSQL that comes back without fsync") else {
        return;
    };
    let mut store = open(&server, "agent", "main");
    append(&mut store, "kept").unwrap();
    server.configure("fsync = off\n");
    server.kill();
    server.start_again();
    for _ in 0..2 {
        let said = append(&mut store, "never").unwrap_err();
        let source = std::error::Error::source(&said).unwrap().to_string();
        assert!(source.contains("fsync=off"), "{source}");
    }
    assert_eq!(read(&mut store, None).unwrap().len(), 1);
}

#[test]
fn a_server_that_may_lose_what_it_has_acknowledged_is_not_written() {
    let Some(mut server) = server("a PostgreSQL without fsync") else {
        return;
    };
    assert_is_not_written_with(&mut server, "fsync = off", "fsync=off");
    let allowed = Address::parse(&format!("{}&unsafe=allow", server.uri("agent"))).unwrap();
    append(&mut PostgresStore::open(allowed).unwrap(), "allowed").unwrap();
}

#[test]
fn a_server_that_can_only_be_read_is_named() {
    let Some(mut server) = server("a PostgreSQL that can only be read") else {
        return;
    };
    let setting = "default_transaction_read_only = on";
    assert_is_not_written_with(&mut server, setting, "can only be read");
}

#[test]
fn a_client_that_is_idle_in_its_turn_is_cut_off_and_appends_all_the_same() {
    let Some(server) = server("a client that keeps its turn in PostgreSQL") else {
        return;
    };
    let mut idle = open(&server, "agent", "main");
    idle.acquire(WAIT).unwrap();
    // It holds the turn for a second, and then the server ends it.
    append(&mut open(&server, "agent", "main"), "other").unwrap();
    let late = idle.append(LogId([1; 16]), None, vec![draft("late")]);
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    append(&mut idle, "again").unwrap();
    check(&mut idle, &["other".into(), "again".into()]);
}

#[test]
fn an_append_that_is_over_a_time_limit_of_its_role_is_there_once_or_is_said_not_to_be() {
    const EACH: usize = 25;
    let Some(server) = server("time limits of PostgreSQL") else {
        return;
    };
    let address = super::address(&server, "agent", "main");
    let limit = |setting: &str| {
        let set = format!("ALTER ROLE agent {setting}");
        server.psql("admin", &set).unwrap();
    };
    limit("SET statement_timeout = 3");
    limit("SET lock_timeout = 1");
    let end =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'agent'";
    // An append that is sent again, over a new connection, waits for its turn under these limits.
    let acknowledged = clients(&address, 8, EACH, |done| {
        for _ in 0..50 {
            server.psql("admin", end).unwrap();
            if done.load(Ordering::Relaxed) {
                break;
            }
        }
        limit("RESET ALL");
        server.psql("admin", end).unwrap();
    });
    check(&mut open(&server, "auditor", "main"), &acknowledged);
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
}

#[test]
fn a_disk_that_is_full_there_is_named_and_the_log_goes_on_when_there_is_space() {
    let Some(mut server) = server("a PostgreSQL whose disk is full") else {
        return;
    };
    let Some(little) = server.start_again_with_little_space(2) else {
        return;
    };
    let spread = format!("CREATE TABLESPACE little LOCATION '{}'", little.display());
    server.psql("admin", &spread).unwrap();
    let into = |space: &str| {
        let sql = format!("ALTER TABLE momentlog.records SET TABLESPACE {space}");
        server.psql("admin", &sql).unwrap();
    };
    into("little");
    let mut store = open(&server, "agent", "main");
    let mut acknowledged = Vec::new();
    let said = loop {
        let facts = format!("{} {}", acknowledged.len(), "x".repeat(1500));
        match append(&mut store, &facts) {
            Ok(()) => acknowledged.push(facts),
            Err(error) => break error,
        }
    };
    let source = std::error::Error::source(&said).unwrap().to_string();
    assert_eq!(source, "the server has no space left");
    assert!(acknowledged.len() > 100);
    check(&mut store, &acknowledged);
    into("pg_default");
    acknowledged.push("after".into());
    append(&mut store, "after").unwrap();
    check(&mut store, &acknowledged);
    let stand = "SELECT count(*) FROM momentlog.records";
    let records = acknowledged.len().to_string();
    assert_eq!(server.psql("auditor", stand).unwrap(), records);
}
