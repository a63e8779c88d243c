//! Records as rows.

use std::time::Duration;

use futures_util::future::{join, join3};
use momentlog_store::{Digest, FRAME_LEN_MAX, Head, LogId, Record, Seq, Text};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::PostgresError;
use crate::link::ANSWER;

/// Most records of one answer, and how many bytes of their frames come before the last of them at most.
const PAGE: i64 = 1_000;
const PAGE_BYTES: i64 = 4 << 20;

/// What the database says of a log.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) log: Option<LogId>,
    pub(crate) head: Option<Head>,
    /// The record behind which it begins, if those up to it were archived.
    pub(crate) start: Option<Head>,
    /// The digest of the record that was asked about.
    pub(crate) asked: Option<Digest>,
}

/// Some records in a row.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) log: Option<LogId>,
    /// The record behind which the log begins, if those up to it were archived.
    pub(crate) start: Option<Head>,
    pub(crate) records: Vec<Record>,
    /// Whether no record came behind them.
    pub(crate) is_last: bool,
}

/// Returns where the log ends; `None` if there is no log of this name.
pub(crate) async fn look(
    client: &Client,
    log: &str,
    about: Option<Seq>,
) -> Result<Option<Standing>, PostgresError> {
    const LOOK: &str = "SELECT uuid_send(logs.log), newest.seq, newest.digest, \
        (SELECT asked.digest FROM momentlog.records AS asked WHERE asked.log = logs.log AND asked.seq = $2), \
        logs.start_seq, logs.start_digest \
        FROM momentlog.logs LEFT JOIN LATERAL ( \
            SELECT records.seq, records.digest FROM momentlog.records \
            WHERE records.log = logs.log ORDER BY records.seq DESC LIMIT 1 \
        ) AS newest ON true WHERE logs.name = $1";
    let about = number(about);
    let rows = client
        .query_typed(LOOK, &[(&log, Type::TEXT), (&about, Type::INT8)])
        .await?;
    rows.first().map(standing).transpose()
}

/// Begins a transaction and waits in it for the turn; returns where the log ends then, with the records from `ahead` on if
/// that is given, and `None` if there is no log of this name.
pub(crate) async fn take_turn(
    client: &Client,
    log: &str,
    wait_ms: u64,
    about: Option<Seq>,
    ahead: Option<Seq>,
) -> Result<Option<(Standing, Option<Page>)>, PostgresError> {
    const TAKE: &str = "SELECT * FROM momentlog.take_turn($1, $2)";
    // One that is cut off while it has the turn keeps it no longer than the second.
    let transaction = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 1000; \
         SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {}",
        wait_ms.clamp(1, 2_000_000_000),
        wait_ms.min(2_000_000_000) + 30_000,
    );
    let about = number(about);
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&log, Type::TEXT), (&about, Type::INT8)];
    let read = async {
        match ahead {
            Some(ahead) => page(client, log, ahead).await,
            None => Ok(None),
        }
    };
    let (begun, taken, page) = join3(
        client.batch_execute(&transaction),
        client.query_typed(TAKE, &params),
        read,
    )
    .await;
    begun?;
    let Some(row) = taken?.into_iter().next() else {
        return Ok(None);
    };
    Ok(Some((standing(&row)?, page?)))
}

/// By which function of the database records are appended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Append,
    /// One record; those before it are removed.
    Archive,
}

impl By {
    fn sql(self) -> &'static str {
        match self {
            By::Append => "SELECT momentlog.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            By::Archive => "SELECT momentlog.archive($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        }
    }

    /// How long its answer may take.
    pub(crate) fn limit(self) -> Duration {
        match self {
            By::Append => ANSWER,
            // It removes any number of rows.
            By::Archive => Duration::from_hours(1),
        }
    }
}

/// Appends records in the transaction that has the turn, and commits it; without it, in one of its own.
pub(crate) async fn append(
    client: &Client,
    by: By,
    name: &str,
    log: LogId,
    expected: Option<Head>,
    records: &[Record],
    has_turn: bool,
) -> Result<(), PostgresError> {
    let seq = expected.map_or(0, |head| number(Some(head.seq)).unwrap_or(i64::MAX));
    let digest = expected.as_ref().map(|head| &head.digest.0[..]);
    let digests: Vec<&[u8]> = records.iter().map(|record| &record.digest.0[..]).collect();
    let facts: Vec<&[u8]> = records.iter().map(|record| &record.facts[..]).collect();
    let mut owners = Vec::new();
    let mut salts = Vec::new();
    let mut texts = Vec::new();
    let mut lengths = Vec::new();
    for (owner, record) in (1_i32..).zip(records) {
        for text in &record.texts {
            let (salt, body, length) = match text {
                Text::Plain { salt, bytes } => (&salt[..], Some(&bytes[..]), bytes.len()),
                Text::Erased { commitment, length } => (&commitment.0[..], None, *length as usize),
            };
            owners.push(owner);
            salts.push(salt);
            texts.push(body);
            lengths.push(i32::try_from(length).expect("a frame is at most 64 MiB"));
        }
    }
    let id = &log.0[..];
    let params: [(&(dyn ToSql + Sync), Type); 10] = [
        (&name, Type::TEXT),
        (&id, Type::BYTEA),
        (&seq, Type::INT8),
        (&digest, Type::BYTEA),
        (&digests, Type::BYTEA_ARRAY),
        (&facts, Type::BYTEA_ARRAY),
        (&owners, Type::INT4_ARRAY),
        (&salts, Type::BYTEA_ARRAY),
        (&texts, Type::BYTEA_ARRAY),
        (&lengths, Type::INT4_ARRAY),
    ];
    let appending = client.query_typed(by.sql(), &params);
    if has_turn {
        // A transaction in which the append failed is rolled back by it.
        let (appended, committed) = join(appending, client.batch_execute("COMMIT")).await;
        appended?;
        committed?;
    } else {
        appending.await?;
    }
    Ok(())
}

/// Returns the records from `from` on, as many as one answer holds; `None` if there is no log of this name.
pub(crate) async fn page(
    client: &Client,
    log: &str,
    from: Seq,
) -> Result<Option<Page>, PostgresError> {
    read(client, log, from, PAGE).await
}

/// Returns the record `seq`; `None` if there is none, or no log of this name.
pub(crate) async fn one(
    client: &Client,
    log: &str,
    seq: Seq,
) -> Result<Option<(Option<LogId>, Record)>, PostgresError> {
    let Some(page) = read(client, log, seq, 1).await? else {
        return Ok(None);
    };
    let found = page.records.into_iter().next();
    Ok(found
        .filter(|record| record.seq == seq)
        .map(|record| (page.log, record)))
}

async fn read(
    client: &Client,
    log: &str,
    from: Seq,
    most: i64,
) -> Result<Option<Page>, PostgresError> {
    const READ: &str = "SELECT uuid_send(logs.log), found.seq, found.previous, found.digest, found.facts, found.salts, \
            found.texts, found.lengths, found.frame_len, logs.start_seq, logs.start_digest \
        FROM momentlog.logs LEFT JOIN LATERAL ( \
            SELECT * FROM ( \
                SELECT records.*, sum(records.frame_len) OVER (ORDER BY records.seq) - records.frame_len AS before \
                FROM momentlog.records WHERE records.log = logs.log AND records.seq >= $2 \
                ORDER BY records.seq LIMIT $3 \
            ) AS row WHERE row.before <= $4 \
        ) AS found ON true WHERE logs.name = $1 ORDER BY found.seq";
    let from = number(Some(from)).unwrap_or(i64::MAX);
    let params: [(&(dyn ToSql + Sync), Type); 4] = [
        (&log, Type::TEXT),
        (&from, Type::INT8),
        (&most, Type::INT8),
        (&PAGE_BYTES, Type::INT8),
    ];
    let rows = client.query_typed(READ, &params).await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let log = log_id(first)?;
    let start = head(first, 9)?;
    let mut records = Vec::with_capacity(rows.len());
    let mut bytes = 0_i64;
    for row in &rows {
        if row.try_get::<_, Option<i64>>(1)?.is_some() {
            records.push(record(row)?);
            bytes = bytes.saturating_add(row.try_get(8)?);
        }
    }
    let is_full = i64::try_from(records.len()).unwrap_or(i64::MAX) >= most;
    Ok(Some(Page {
        log,
        start,
        records,
        is_last: !is_full && bytes <= PAGE_BYTES,
    }))
}

fn record(row: &Row) -> Result<Record, PostgresError> {
    const NONSENSE: PostgresError = PostgresError::Untrue("a record that makes no sense");
    let salts: Vec<&[u8]> = row.try_get(5)?;
    let bodies: Vec<Option<&[u8]>> = row.try_get(6)?;
    let lengths: Vec<i32> = row.try_get(7)?;
    if salts.len() != bodies.len() || bodies.len() != lengths.len() {
        return Err(NONSENSE);
    }
    let mut texts = Vec::with_capacity(salts.len());
    for ((salt, body), length) in salts.into_iter().zip(bodies).zip(lengths) {
        let salt: [u8; 32] = salt.try_into().map_err(|_| NONSENSE)?;
        texts.push(match body {
            Some(body) => Text::Plain {
                salt,
                bytes: body.to_vec(),
            },
            None => Text::Erased {
                commitment: Digest(salt),
                length: u32::try_from(length)
                    .ok()
                    .filter(|length| *length as usize <= FRAME_LEN_MAX)
                    .ok_or(NONSENSE)?,
            },
        });
    }
    Ok(Record {
        seq: seq(row, 1)?.ok_or(NONSENSE)?,
        previous: digest(row, 2)?.ok_or(NONSENSE)?,
        digest: digest(row, 3)?.ok_or(NONSENSE)?,
        durable: None,
        facts: row.try_get::<_, &[u8]>(4)?.to_vec(),
        texts,
    })
}

fn standing(row: &Row) -> Result<Standing, PostgresError> {
    Ok(Standing {
        log: log_id(row)?,
        head: head(row, 1)?,
        start: head(row, 4)?,
        asked: digest(row, 3)?,
    })
}

fn log_id(row: &Row) -> Result<Option<LogId>, PostgresError> {
    let bytes: Option<&[u8]> = row.try_get(0)?;
    let id = bytes.map(|bytes| bytes.try_into().map(LogId));
    id.transpose()
        .map_err(|_| PostgresError::Untrue("the id of a log that makes no sense"))
}

/// Reads the seq in a column, and the digest in the next one.
fn head(row: &Row, column: usize) -> Result<Option<Head>, PostgresError> {
    let both = seq(row, column)?.zip(digest(row, column + 1)?);
    Ok(both.map(|(seq, digest)| Head { seq, digest }))
}

/// Reads the seq in a column.
pub(crate) fn seq(row: &Row, column: usize) -> Result<Option<Seq>, PostgresError> {
    let number: Option<i64> = row.try_get(column)?;
    let seq = number.map(|number| u64::try_from(number).ok().and_then(Seq::new));
    match seq {
        Some(None) => Err(PostgresError::Untrue("a seq that makes no sense")),
        seq => Ok(seq.flatten()),
    }
}

/// Reads the digest in a column.
pub(crate) fn digest(row: &Row, column: usize) -> Result<Option<Digest>, PostgresError> {
    let bytes: Option<&[u8]> = row.try_get(column)?;
    let digest = bytes.map(|bytes| bytes.try_into().map(Digest));
    digest
        .transpose()
        .map_err(|_| PostgresError::Untrue("a digest that makes no sense"))
}

/// A seq as the database's number; one behind all that it has as `None`.
pub(crate) fn number(seq: Option<Seq>) -> Option<i64> {
    seq.and_then(|seq| i64::try_from(seq.get()).ok())
}
