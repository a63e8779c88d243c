//! Two servers, of which the second follows the first.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use momentlog::{Connection, Options, Provenance};
use momentlog_postgres::{Address, PostgresStore};
use momentlog_proptests::PostgresServer;
use momentlog_store::{Store as _, StoreError};

use super::faults::{append, check, clients};
use super::{VERIFY, open, read, server};

/// Waits until a query answers with these words.
fn await_answer(server: &PostgresServer, sql: &str, wanted: &str) {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let found = server.psql("admin", sql).unwrap();
        if found == wanted {
            return;
        }
        assert!(Instant::now() < end, "{sql} is {found} and not {wanted}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn set(server: &PostgresServer, setting: &str) {
    let set = format!("ALTER SYSTEM SET {setting}");
    server.psql("admin", &set).unwrap();
    server.psql("admin", "SELECT pg_reload_conf()").unwrap();
}

/// Starts a server with a standby, which every commit waits for.
fn with_synchronous_standby(left_out: &str) -> Option<(PostgresServer, PostgresServer)> {
    let primary = server(left_out)?;
    let standby = primary.start_standby("second");
    set(&primary, "synchronous_standby_names = 'second'");
    let state = "SELECT sync_state FROM pg_stat_replication";
    await_answer(&primary, state, "sync");
    Some((primary, standby))
}

/// The address of the log on whichever of the servers can be written.
fn either(servers: [&PostgresServer; 2], user: &str) -> Address {
    let hosts = servers.map(|server| server.host().display().to_string());
    let uri = format!(
        "postgres://{user}@/postgres?host={}&target_session_attrs=read-write",
        hosts.join(",")
    );
    Address::parse(&uri).unwrap()
}

#[test]
fn a_synchronous_standby_that_is_promoted_has_all_that_was_acknowledged() {
    const EACH: usize = 60;
    let left_out = "clients while a standby of PostgreSQL is promoted";
    let Some((mut primary, standby)) = with_synchronous_standby(left_out) else {
        return;
    };
    let address = either([&primary, &standby], "agent");
    let acknowledged = clients(&address, 4, EACH, |done| {
        let records = "SELECT count(*) > 40 FROM momentlog.records";
        await_answer(&primary, records, "t");
        assert!(!done.load(Ordering::Relaxed));
        primary.kill();
        standby.psql("admin", "SELECT pg_promote()").unwrap();
    });
    check(&mut open(&standby, "auditor", "main"), &acknowledged);
    assert_eq!(standby.psql("auditor", VERIFY).unwrap(), "");
}

#[test]
fn an_append_that_only_the_primary_has_is_acknowledged_when_its_standby_has_it() {
    let left_out = "a standby of PostgreSQL that stays away";
    let Some((primary, mut standby)) = with_synchronous_standby(left_out) else {
        return;
    };
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut store = open(&primary, "agent", "main");
    append(&mut store, "first").unwrap();
    standby.stop();
    std::thread::scope(|scope| {
        let appending = scope.spawn(|| append(&mut store, "second"));
        await_answer(&primary, waiting, "1");
        let end =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        primary.psql("admin", end).unwrap();
        // The record stands on the primary now, and the client finds it there.
        let records = "SELECT count(*) FROM momentlog.records";
        await_answer(&primary, records, "2");
        await_answer(&primary, waiting, "1");
        assert!(!appending.is_finished());
        standby.start_again();
        appending.join().unwrap().unwrap();
    });
    let stands = "SELECT count(*) FROM momentlog.records";
    assert_eq!(standby.psql("admin", stands).unwrap(), "2");
}

#[test]
fn an_answer_is_repeated_when_a_standby_has_it() {
    let left_out = "a request that is repeated while a standby of PostgreSQL stays away";
    let Some((primary, mut standby)) = with_synchronous_standby(left_out) else {
        return;
    };
    // Its commits alone wait for nothing.
    let lowered = "ALTER ROLE agent SET synchronous_commit = local";
    primary.psql("admin", lowered).unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let process = || {
        Connection::over(
            Box::new(open(&primary, "agent", "main")),
            Options::default(),
        )
    };
    let ask = |process: &Connection| {
        let asked = process.with_provenance(Provenance {
            request_id: Some("once".into()),
            ..Provenance::default()
        });
        super::threads::create(&super::threads::domain(&asked), "made")
    };
    let (first, second) = (process(), process());
    first.define_domain_xml(super::threads::XML).unwrap();
    let records = "SELECT count(*) FROM momentlog.records";
    let before: usize = primary.psql("admin", records).unwrap().parse().unwrap();
    // The second one is no new handle: it has appended before.
    assert!(super::threads::create(
        &super::threads::domain(&second),
        "before"
    ));
    standby.stop();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&first));
        await_answer(&primary, waiting, "1");
        let end =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        primary.psql("admin", end).unwrap();
        await_answer(&primary, records, &(before + 2).to_string());
        await_answer(&primary, waiting, "1");
        let again = scope.spawn(|| ask(&second));
        let both = Instant::now() + Duration::from_mins(1);
        while primary.psql("admin", waiting).unwrap() != "2" {
            assert!(!again.is_finished(), "it was answered too early");
            assert!(Instant::now() < both);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!asking.is_finished());
        standby.start_again();
        assert!(asking.join().unwrap() && again.join().unwrap());
    });
    let stands = standby.psql("admin", records).unwrap();
    assert_eq!(stands, (before + 2).to_string());
}

/// Cuts a standby off from its primary.
fn cut_off(standby: &PostgresServer) {
    set(standby, "primary_conninfo = ''");
    let receivers = "SELECT count(*) FROM pg_stat_wal_receiver";
    await_answer(standby, receivers, "0");
}

#[test]
fn clients_that_saw_what_a_promoted_standby_lacks_say_so_and_write_nothing() {
    let Some(mut primary) = server("a standby of PostgreSQL that is promoted while it is behind")
    else {
        return;
    };
    let standby = primary.start_standby("second");
    let [agent, auditor] = ["agent", "auditor"].map(|user| either([&primary, &standby], user));
    let store = |address: &Address| PostgresStore::open(address.clone()).unwrap();
    let (mut writer, mut early) = (store(&agent), store(&agent));
    let mut reader = store(&auditor);
    append(&mut writer, "kept").unwrap();
    assert_eq!(read(&mut early, None).unwrap().len(), 1);
    let records = "SELECT count(*) FROM momentlog.records";
    await_answer(&standby, records, "1");
    cut_off(&standby);
    append(&mut writer, "lost").unwrap();
    assert_eq!(read(&mut reader, None).unwrap().len(), 2);
    let seen = writer.head();
    primary.kill();
    standby.psql("admin", "SELECT pg_promote()").unwrap();
    let kept = early.head();
    let is_rolled_back = |said: StoreError| {
        assert!(
            matches!(said, StoreError::Replaced { had, found, .. } if had == seen && found == kept),
            "{said:?}"
        );
    };
    for _ in 0..2 {
        is_rolled_back(append(&mut writer, "never").unwrap_err());
        is_rolled_back(read(&mut reader, seen).unwrap_err());
    }
    // Who has seen no more than there is goes on, and the log is a fork of what the others saw.
    append(&mut early, "other").unwrap();
    is_rolled_back(append(&mut writer, "never").unwrap_err());
    is_rolled_back(read(&mut reader, seen).unwrap_err());
    let mut fresh = store(&auditor);
    check(&mut fresh, &["kept".into(), "other".into()]);
    assert_eq!(fresh.head(), early.head());
}

#[test]
fn a_standby_is_read_and_says_how_far_it_is_behind() {
    let Some(primary) = server("reading from a standby of PostgreSQL") else {
        return;
    };
    let mut writer = open(&primary, "agent", "main");
    let said = writer.server().unwrap();
    assert!(said.version.parse::<f64>().is_ok() || said.version.contains(' '));
    assert_eq!((said.synchronous.as_str(), said.standby), ("", None));
    let standby = primary.start_standby("second");
    append(&mut writer, "first").unwrap();
    let records = "SELECT count(*) FROM momentlog.records";
    await_answer(&standby, records, "1");
    let mut reader = open(&standby, "auditor", "main");
    assert_eq!(read(&mut reader, None).unwrap().len(), 1);
    let behind = |reader: &mut PostgresStore| reader.server().unwrap().standby.unwrap();
    let said = behind(&mut reader);
    assert!(said.is_connected && said.shown.is_some(), "{said:?}");

    standby
        .psql("admin", "SELECT pg_wal_replay_pause()")
        .unwrap();
    let paused = "SELECT pg_get_wal_replay_pause_state()";
    await_answer(&standby, paused, "paused");
    append(&mut writer, "second").unwrap();
    let received = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()";
    await_answer(&standby, received, "t");
    assert_eq!(read(&mut reader, None).unwrap().len(), 1);
    let said = behind(&mut reader);
    assert!(said.is_connected && said.not_shown > 0, "{said:?}");
    standby
        .psql("admin", "SELECT pg_wal_replay_resume()")
        .unwrap();
    await_answer(&standby, records, "2");

    cut_off(&standby);
    append(&mut writer, "third").unwrap();
    let said = behind(&mut reader);
    assert!(!said.is_connected && said.not_shown == 0, "{said:?}");
    assert_eq!(read(&mut reader, None).unwrap().len(), 2);

    let said = append(&mut open(&standby, "agent", "main"), "never").unwrap_err();
    let source = std::error::Error::source(&said).unwrap().to_string();
    assert!(source.contains("can only be read"), "{source}");
}
