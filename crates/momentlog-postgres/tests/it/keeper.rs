//! What the keeper takes away, the mark that it leaves, and that others cannot.

use std::time::Duration;

use momentlog_postgres::PostgresStore;
use momentlog_proptests::PostgresServer;
use momentlog_store::{
    FileStore, Head, RealDisk, Receipt, Record, Store as _, StoreError, Text, Verdict, verify,
};

use super::{LOG, VERIFY, draft, open, read, server};

const WAIT: Duration = Duration::from_secs(30);

/// Moves all records to a directory, as the engine does.
fn archive(store: &mut PostgresStore, to: &RealDisk) -> Result<Record, StoreError> {
    store.acquire(WAIT)?;
    let last = store.head().unwrap();
    let retention = store.retention().unwrap();
    retention.image_writer()?(b"image")?;
    retention.archive(last, draft("bridge"), to)
}

fn removals(server: &PostgresServer) -> String {
    let all =
        "SELECT what, first_seq, last_seq, text, by_user FROM momentlog.removals ORDER BY number";
    server.psql("auditor", all).unwrap()
}

#[test]
fn records_that_are_archived_lie_in_a_directory_and_the_log_goes_on_behind_them() {
    let Some(server) = server("an archive of a log in PostgreSQL") else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let disk = || RealDisk::new(scratch.path().join("archive"));
    let to = disk();
    let mut keeper = open(&server, "keeper", "main");
    let mut agent = open(&server, "agent", "main");
    let mut behind = open(&server, "auditor", "main");
    let first = agent
        .append(LOG, None, vec![draft("a"), draft("b")])
        .unwrap();
    assert_eq!(read(&mut behind, None).unwrap(), first);
    let more: Vec<_> = (0..1_500)
        .map(|number| draft(&number.to_string()))
        .collect();
    let more = agent.append(LOG, agent.head(), more).unwrap();
    let whole = [first, more].concat();
    let last = whole.last().unwrap().head();
    let bridge = archive(&mut keeper, &to).unwrap();
    assert_eq!(bridge.previous, last.digest);

    let mut archived = Vec::new();
    let mut files = FileStore::new(disk());
    let report = verify(&mut files, None, &mut |record| archived.push(record)).unwrap();
    assert_eq!((report.log, report.head), (Some(LOG), Some(last)));
    assert_eq!(archived, whole);
    let receipt = |head: Head| Some(Receipt { log: LOG, head });
    let report = verify(&mut behind, receipt(bridge.head()), &mut |_| {}).unwrap();
    assert_eq!(
        (report.verdict, report.start),
        (Verdict::Anchored, Some(last))
    );
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
    assert_eq!(removals(&server), "archived|1|1502||keeper");

    // Who has seen an earlier record gets `Archived`, and who has seen the last one goes on.
    let earlier = read(&mut open(&server, "auditor", "main"), Some(whole[1].head()));
    assert!(
        matches!(earlier, Err(StoreError::Archived { start, .. }) if start == last),
        "{earlier:?}"
    );
    agent.acquire(WAIT).unwrap();
    let after = agent
        .append(LOG, Some(bridge.head()), vec![draft("after")])
        .unwrap();
    assert_eq!(
        read(&mut open(&server, "auditor", "main"), Some(last)).unwrap(),
        [vec![bridge.clone()], after].concat()
    );
    let other = Head {
        digest: bridge.digest,
        ..last
    };
    let forked = read(&mut open(&server, "auditor", "main"), Some(other));
    assert!(
        matches!(forked, Err(StoreError::Forked { .. })),
        "{forked:?}"
    );

    // A second archive lies beside the first one.
    let second = archive(&mut keeper, &to).unwrap();
    let report = verify(&mut FileStore::new(disk()), None, &mut |_| {}).unwrap();
    assert_eq!(report.records, 1_504);
    assert_eq!(report.head.map(|head| head.digest), Some(second.previous));
    assert_eq!(
        removals(&server),
        "archived|1|1502||keeper\narchived|1503|1504||keeper"
    );
}

#[test]
fn only_the_keeper_takes_anything_away() {
    let Some(server) = server("what only the keeper of PostgreSQL may do") else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let to = RealDisk::new(scratch.path().join("archive"));
    let mut agent = open(&server, "agent", "main");
    let whole = agent
        .append(LOG, None, vec![draft("a"), draft("b")])
        .unwrap();
    let said = archive(&mut agent, &to).unwrap_err();
    let source = std::error::Error::source(&said).unwrap().to_string();
    assert!(source.contains("momentlog_keeper"), "{source}");
    assert_eq!(
        read(&mut open(&server, "auditor", "main"), None).unwrap(),
        whole
    );
    for user in ["agent", "auditor", "stranger"] {
        let erase = "SELECT momentlog.erase('main', 1, 0)";
        assert!(
            server
                .psql(user, erase)
                .unwrap_err()
                .contains("permission denied")
        );
    }
    // What the keeper has not archived stays, whoever asks.
    for (user, sql, said) in [
        (
            "keeper",
            "DELETE FROM momentlog.records",
            "permission denied",
        ),
        (
            "keeper",
            "UPDATE momentlog.logs SET start_seq = 1, start_digest = ''",
            "permission denied",
        ),
        (
            "keeper",
            "DELETE FROM momentlog.removals",
            "permission denied",
        ),
        (
            "admin",
            "DELETE FROM momentlog.records WHERE seq = 1",
            "neither changed nor removed",
        ),
        (
            "admin",
            "UPDATE momentlog.records SET lengths = '{1,1}'",
            "neither changed nor removed",
        ),
        (
            "admin",
            "UPDATE momentlog.records SET texts[1] = 'other'",
            "the_digest_is_that",
        ),
        (
            "admin",
            "UPDATE momentlog.records SET texts[1] = NULL",
            "the_digest_is_that",
        ),
        (
            "admin",
            "TRUNCATE momentlog.removals",
            "neither changed nor removed",
        ),
    ] {
        let found = server.psql(user, sql).unwrap_err();
        assert!(found.contains(said), "{sql}: {found}");
    }
    // Without an image of its state, a log has no beginning.
    let bridge = Record::new(LOG, agent.head(), None, draft("bridge"));
    let sql = format!(
        "SELECT momentlog.archive('main', '', 2, decode('{}', 'hex'), ARRAY[decode('{}', 'hex')], \
         ARRAY['bridge'::bytea], '{{1,1}}', ARRAY[decode('{salt}', 'hex'), decode('{salt}', 'hex')], \
         ARRAY['a text'::bytea, ''], '{{6,0}}')",
        whole[1].digest,
        bridge.digest,
        salt = "03".repeat(32),
    );
    server
        .psql("admin", "DELETE FROM momentlog.images")
        .unwrap();
    let is_refused = || {
        let said = server.psql("keeper", &sql).unwrap_err();
        assert!(said.contains("begins with an image"), "{said}");
    };
    is_refused();
    let half = format!(
        "SELECT momentlog.put_image_part('main', 2, decode('{}', 'hex'), 2, sha256(''), 0, '')",
        whole[1].digest,
    );
    server.psql("agent", &half).unwrap();
    is_refused();
    assert_eq!(
        read(&mut open(&server, "auditor", "main"), None).unwrap(),
        whole
    );
    assert_eq!(removals(&server), "");
}

#[test]
fn an_erased_text_leaves_its_commitment_and_a_mark() {
    let Some(server) = server("erasing a text in PostgreSQL") else {
        return;
    };
    let mut agent = open(&server, "agent", "main");
    let whole = agent
        .append(LOG, None, vec![draft("a"), draft("b")])
        .unwrap();
    agent.acquire(WAIT).unwrap();
    agent.retention().unwrap().image_writer().unwrap()(b"it may hold the text").unwrap();
    agent.release();
    let erase = "SELECT momentlog.erase('main', 1, 0)";
    assert_eq!(server.psql("keeper", erase).unwrap(), "t");
    assert_eq!(server.psql("keeper", erase).unwrap(), "f");
    for missing in [
        "('main', 1, 2)",
        "('main', 9, 0)",
        "('nowhere', 1, 0)",
        "('main', 1, -1)",
    ] {
        let said = server.psql("keeper", &format!("SELECT momentlog.erase{missing}"));
        assert!(
            said.unwrap_err().contains("there is no such text"),
            "{missing}"
        );
    }
    let found = read(&mut open(&server, "auditor", "main"), None).unwrap();
    let erased = Text::Erased {
        commitment: whole[0].texts[0].commitment(),
        length: 6,
    };
    assert_eq!(found[0].texts, [erased, whole[0].texts[1].clone()]);
    assert_eq!((found[0].digest, &found[1]), (whole[0].digest, &whole[1]));
    let report = verify(&mut open(&server, "auditor", "main"), None, &mut |_| {}).unwrap();
    assert_eq!(
        (report.verdict, report.texts_erased),
        (Verdict::Unanchored, 1)
    );
    assert_eq!(agent.retention().unwrap().images().unwrap(), []);
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
    assert_eq!(removals(&server), "erased|1|1|0|keeper");
}

#[test]
fn a_table_that_was_partitioned_by_seq_is_the_same_log() {
    let Some(server) = server("partitions of PostgreSQL") else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let mut agent = open(&server, "agent", "main");
    let first = agent
        .append(LOG, None, vec![draft("a"), draft("b")])
        .unwrap();
    // A boundary that the log comes to.
    let partition = include_str!("../partition.sql").replace("100000001", "4");
    server.psql("admin", &partition).unwrap();
    agent.acquire(WAIT).unwrap();
    let more = (0..4).map(|number| draft(&number.to_string())).collect();
    let more = agent.append(LOG, agent.head(), more).unwrap();
    let rows = "SELECT count(*) FROM momentlog.records_2";
    assert_eq!(server.psql("admin", rows).unwrap(), "3");
    assert_eq!(
        read(&mut open(&server, "auditor", "main"), None).unwrap(),
        [first, more].concat()
    );
    for sql in [
        "DELETE FROM momentlog.records",
        "DELETE FROM momentlog.records_1",
        "UPDATE momentlog.records_2 SET facts = 'forged'",
        "TRUNCATE momentlog.records",
        "TRUNCATE momentlog.records_1",
        "TRUNCATE momentlog.records_2",
    ] {
        let said = server.psql("admin", sql).unwrap_err();
        assert!(
            said.contains("neither changed nor removed"),
            "{sql}: {said}"
        );
    }
    let untrue = "INSERT INTO momentlog.records SELECT log, 7, digest, digest, facts, salts, texts, lengths, frame_len \
        FROM momentlog.records WHERE seq = 6";
    assert!(
        server
            .psql("admin", untrue)
            .unwrap_err()
            .contains("the_digest_is_that")
    );
    archive(
        &mut open(&server, "keeper", "main"),
        &RealDisk::new(scratch.path().join("archive")),
    )
    .unwrap();
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
    assert_eq!(
        server
            .psql("admin", "SELECT count(*) FROM momentlog.records")
            .unwrap(),
        "1"
    );
}
