//! The contract of every store, and that the same records have the same digests as in a directory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use momentlog_postgres::PostgresStore;
use momentlog_proptests::{NewStore, store_suite};
use momentlog_store::{
    Digest, FileStore, RealDisk, Seq, Store as _, StoreError, Text, Verdict, verify,
};

use super::{LOG, VERIFY, address, draft, init, open, read, server};

#[test]
fn the_store_keeps_the_contract() {
    let Some(server) = server("the contract of stores over PostgreSQL") else {
        return;
    };
    let made = AtomicUsize::new(0);
    store_suite(&mut || {
        let log = format!("suite {}", made.fetch_add(1, Ordering::Relaxed));
        // Logs of one database have ids of their own, and the suite gives all of its logs the same.
        let apart = "DELETE FROM momentlog.images; ALTER TABLE momentlog.records DISABLE TRIGGER ALL; \
            DELETE FROM momentlog.records; ALTER TABLE momentlog.records ENABLE TRIGGER ALL; DELETE FROM momentlog.logs";
        server.psql("admin", apart).unwrap();
        init(&server, &log);
        let address = address(&server, "keeper", &log);
        NewStore::shared(move || PostgresStore::open(address.clone()).unwrap())
    });
}

#[test]
fn the_same_drafts_have_the_same_digests_as_in_a_directory() {
    let Some(server) = server("digests in PostgreSQL beside those in a directory") else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let mut files = FileStore::new(RealDisk::new(scratch.path().join("store")));
    let mut store = open(&server, "agent", "main");
    let erased = Text::Erased {
        commitment: Digest([9; 32]),
        length: 12,
    };
    let mut odd = draft("erased");
    odd.texts.insert(1, erased);
    let mut empty = draft("");
    empty.texts.clear();
    let drafts = vec![draft("first"), odd, empty, draft("last")];
    for drafts in [drafts.clone(), drafts] {
        files.acquire(Duration::ZERO).unwrap();
        store.acquire(Duration::from_secs(5)).unwrap();
        let mut in_files = files.append(LOG, files.head(), drafts.clone()).unwrap();
        for record in &mut in_files {
            record.durable = None;
        }
        assert_eq!(store.append(LOG, store.head(), drafts).unwrap(), in_files);
    }
    assert_eq!(files.head(), store.head());
    assert_eq!(
        read(&mut open(&server, "auditor", "main"), None)
            .unwrap()
            .len(),
        8
    );
    let report = verify(&mut open(&server, "auditor", "main"), None, &mut |_| {}).unwrap();
    assert_eq!(
        (report.verdict, report.head),
        (Verdict::Unanchored, files.head())
    );
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
    assert_eq!(
        server
            .psql(
                "auditor",
                "SELECT frame_len > 0 FROM momentlog.records WHERE seq = 2"
            )
            .unwrap(),
        "t"
    );
}

#[test]
fn long_logs_are_read_in_pages() {
    let Some(server) = server("reading more than one page from PostgreSQL") else {
        return;
    };
    let mut store = open(&server, "agent", "main");
    let drafts: Vec<_> = (0..2_500)
        .map(|number| draft(&number.to_string()))
        .collect();
    store.acquire(Duration::from_secs(5)).unwrap();
    let appended = store.append(LOG, None, drafts).unwrap();
    let mut large = draft("large");
    large.facts = vec![b'x'; 3 << 20];
    let large = store.append(LOG, store.head(), vec![large; 4]).unwrap();
    let whole = [appended.clone(), large].concat();
    assert_eq!(
        read(&mut open(&server, "auditor", "main"), None).unwrap(),
        whole
    );
    let mut reader = open(&server, "auditor", "main");
    assert_eq!(
        read(&mut reader, Some(appended[998].head())).unwrap(),
        whole[999..]
    );
    let found = reader
        .last_where(&mut |outline| outline.seq.get() <= 1_234)
        .unwrap();
    assert_eq!(found, Some(appended[1_233].clone()));
    assert_eq!(reader.record(Seq::new(9_999).unwrap()).unwrap(), None);
}

#[test]
fn what_is_missing_is_named() {
    let Some(server) = server("what PostgreSQL refuses") else {
        return;
    };
    let said = |user: &str, log: &str, database: &str| {
        let uri = server
            .uri(user)
            .replace("/postgres?", &format!("/{database}?"));
        let address = momentlog_postgres::Address::parse(&uri)
            .unwrap()
            .with_log(log);
        let error = PostgresStore::open(address)
            .unwrap()
            .read(None, &mut |_| Ok(()))
            .unwrap_err();
        match std::error::Error::source(&error) {
            Some(source) => source.to_string(),
            None => error.to_string(),
        }
    };
    assert!(said("agent", "nowhere", "postgres").starts_with("there is no store at postgres://"));
    assert_eq!(
        said("agent", "main", "nowhere"),
        "there is no such database"
    );
    assert!(said("stranger", "main", "postgres").contains("grant it momentlog_writer"));
    assert!(said("agent", "main", "template1").contains("run `momentlog init`"));
    server
        .psql(
            "admin",
            "INSERT INTO momentlog.migrations (number) VALUES (99)",
        )
        .unwrap();
    assert!(
        said("agent", "main", "postgres").contains("migration 99, and this version knows up to")
    );
    let error = PostgresStore::init(address(&server, "admin", "main")).unwrap_err();
    assert!(error.to_string().contains("migration 99"), "{error}");
}

#[test]
fn one_client_has_the_turn_and_another_waits_for_it() {
    let Some(server) = server("turns in PostgreSQL") else {
        return;
    };
    let mut first = open(&server, "agent", "main");
    let mut second = open(&server, "agent", "main");
    first.acquire(Duration::ZERO).unwrap();
    let locked = second.acquire(Duration::from_millis(20)).unwrap_err();
    assert!(matches!(locked, StoreError::Locked { .. }), "{locked:?}");
    assert!(
        locked.to_string().contains("on the database server"),
        "{locked}"
    );
    first.append(LOG, None, vec![draft("first")]).unwrap();
    assert!(!first.is_exclusive());
    second.acquire(Duration::from_secs(5)).unwrap();
    assert_eq!(second.head(), first.head());
    second.release();
    first.acquire(Duration::ZERO).unwrap();
}
