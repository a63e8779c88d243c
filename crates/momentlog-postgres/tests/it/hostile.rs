//! What a client with the writing role cannot do, whatever it sends.

use momentlog_store::{Record, Store as _};

use super::{LOG, VERIFY, draft, open, server};

/// An append by plain SQL, with `expected` and `digest` as hex.
fn append(log: &str, seq: u64, expected: &str, digest: &str, facts: &str) -> String {
    format!(
        "SELECT momentlog.append('{log}', decode('{LOG}', 'hex'), {seq}, {expected}, ARRAY[decode('{digest}', 'hex')], \
         ARRAY['{facts}'::bytea], '{{}}', '{{}}', '{{}}', '{{}}')"
    )
}

#[test]
fn the_server_refuses_what_would_break_a_chain() {
    let Some(server) = server("a hostile writer at PostgreSQL") else {
        return;
    };
    let mut store = open(&server, "agent", "main");
    let all = store
        .append(LOG, None, vec![draft("a"), draft("b")])
        .unwrap();
    super::init(&server, "other");
    let before = "SELECT array_agg(r ORDER BY seq) FROM momentlog.records AS r";
    let kept = server.psql("auditor", before).unwrap();
    let end = format!("decode('{}', 'hex')", all[1].digest);
    let mut next = draft("c");
    next.texts.clear();
    let right = Record::new(LOG, Some(all[1].head()), None, next)
        .digest
        .to_string();
    let refused = |sql: &str, why: &str| {
        let said = server.psql("agent", sql).expect_err(sql);
        assert!(said.contains(why), "{sql}: {said}");
        assert_eq!(server.psql("auditor", before).unwrap(), kept, "{sql}");
    };
    let elsewhere = "does not end where the append expects it";
    let first = format!("decode('{}', 'hex')", all[0].digest);
    refused(&append("main", 2, &first, &right, "c"), elsewhere);
    refused(&append("main", 1, &first, &right, "c"), elsewhere);
    refused(&append("main", 3, &end, &right, "c"), elsewhere);
    refused(&append("main", 0, "NULL", &right, "c"), elsewhere);
    let untrue = "the_digest_is_that_of_what_the_record_holds";
    refused(&append("main", 2, &end, &"00".repeat(32), "c"), untrue);
    refused(&append("main", 2, &end, &right, "forged"), untrue);
    // A record of another log, and that log's id.
    let other = append("other", 0, "NULL", &right, "c");
    refused(&other, "logs_log_key");
    refused(&other.replace("decode('07", "decode('08"), untrue);
    refused(
        &append("nowhere", 0, "NULL", &right, "c"),
        "there is no log of this name",
    );
    let parts = "the parts of the records do not fit together";
    let with_texts =
        |texts: &str| append("main", 2, &end, &right, "c").replace("'{}', '{}', '{}', '{}'", texts);
    for texts in [
        "'{1}', '{}', '{}', '{}'",
        "'{2}', ARRAY['\\x00'::bytea], ARRAY['a'::bytea], '{1}'",
        "'{1}', ARRAY['\\x00'::bytea], ARRAY['a'::bytea], '{1}'",
    ] {
        refused(&with_texts(texts), parts);
    }
    let nothing = "SELECT momentlog.append('other', decode(repeat('08', 16), 'hex'), 0, NULL, '{}', '{}', '{}', '{}', '{}', '{}')";
    refused(nothing, parts);
    for sql in [
        "UPDATE momentlog.records SET facts = 'forged'",
        "DELETE FROM momentlog.records",
        "TRUNCATE momentlog.records",
        "INSERT INTO momentlog.records SELECT log, 3, digest, digest, facts, salts, texts, lengths, frame_len FROM momentlog.records WHERE seq = 2",
        "UPDATE momentlog.logs SET name = 'mine'",
        "INSERT INTO momentlog.logs (name) VALUES ('mine')",
        "DELETE FROM momentlog.images",
        "ALTER TABLE momentlog.records DISABLE TRIGGER ALL",
        "DROP SCHEMA momentlog CASCADE",
        "CREATE OR REPLACE FUNCTION momentlog.le(number bigint) RETURNS bytea LANGUAGE sql RETURN ''::bytea",
    ] {
        refused(sql, "");
    }
    for sql in [
        "UPDATE momentlog.records SET facts = 'forged'",
        "DELETE FROM momentlog.records",
        "TRUNCATE momentlog.records",
    ] {
        let said = server.psql("admin", sql).expect_err(sql);
        assert!(said.contains("neither changed nor removed"), "{said}");
    }
    // The reader appends nothing, and a stranger does not even read.
    let good = append("main", 2, &end, &right, "c");
    assert!(
        server
            .psql("auditor", &good)
            .unwrap_err()
            .contains("permission denied")
    );
    assert!(
        server
            .psql("stranger", "SELECT * FROM momentlog.records")
            .unwrap_err()
            .contains("permission denied")
    );
    // What fits is taken.
    server.psql("agent", &good).unwrap();
    assert_eq!(
        super::read(&mut store, Some(all[1].head())).unwrap()[0]
            .digest
            .to_string(),
        right
    );
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
}

#[test]
fn the_query_in_plain_sql_finds_what_a_superuser_has_changed() {
    let Some(server) = server("the query that verifies a log in PostgreSQL") else {
        return;
    };
    let mut store = open(&server, "agent", "main");
    store
        .append(LOG, None, vec![draft("a"), draft("b"), draft("c")])
        .unwrap();
    let forge = "ALTER TABLE momentlog.records DISABLE TRIGGER ALL; \
        ALTER TABLE momentlog.records DROP CONSTRAINT the_digest_is_that_of_what_the_record_holds; \
        UPDATE momentlog.records SET facts = 'forged' WHERE seq = 2";
    server.psql("admin", forge).unwrap();
    assert!(server.psql("auditor", VERIFY).unwrap().ends_with("|2"));
    let report =
        momentlog_store::verify(&mut open(&server, "auditor", "main"), None, &mut |_| {}).unwrap();
    assert_eq!(report.verdict, momentlog_store::Verdict::Damaged);
}
