//! Images, in parts; and the archive.

use std::sync::Arc;

use momentlog_store::{
    ArchiveWriter, Digest, Disk, Draft, Head, ImageWriter, Record, Retention, Seq, Store as _,
    StoreError, read_checked,
};
use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::PostgresError;
use crate::link::{ANSWER, Worker};
use crate::record::{By, digest, number, seq};
use crate::store::PostgresStore;

/// Bytes of one part.
const PART: usize = 1 << 20;

/// Most parts of an image: 16 GiB, as in a directory.
const PARTS_MAX: i32 = 1 << 14;

/// An image that agrees with the log, by its row.
struct Kept {
    head: Head,
    parts: i32,
    checksum: Option<Digest>,
}

impl Retention for PostgresStore {
    fn start(&mut self) -> Result<Option<Head>, StoreError> {
        self.look()?;
        Ok(self.start)
    }

    fn latest_image(&mut self, most: Option<Seq>) -> Result<Option<(Head, Vec<u8>)>, StoreError> {
        let most = most.map_or(i64::MAX, |most| number(Some(most)).unwrap_or(i64::MAX));
        let kept = self.ask("read the images of", async move |client, log| {
            kept(client, log, most).await
        })?;
        for kept in kept {
            let (head, checksum) = (kept.head, kept.checksum);
            let body = self.ask("read an image of", async move |client, log| {
                body(client, log, &kept).await
            })?;
            let sum = Digest(Sha256::digest(&body).into());
            if checksum == Some(sum) {
                return Ok(Some((head, body)));
            }
            tracing::warn!(seq = %head.seq, "ignored an image that is not what was written");
        }
        Ok(None)
    }

    fn images(&mut self) -> Result<Vec<Seq>, StoreError> {
        const IMAGES: &str = "SELECT images.seq FROM momentlog.logs JOIN momentlog.images ON images.log = logs.log \
            WHERE logs.name = $1 ORDER BY images.seq";
        self.ask("read the images of", async |client, log| {
            let rows = client.query_typed(IMAGES, &[(&log, Type::TEXT)]).await?;
            rows.iter()
                .filter_map(|row| seq(row, 0).transpose())
                .collect()
        })
    }

    fn image_writer(&mut self) -> Result<ImageWriter, StoreError> {
        let Some(head) = self.head() else {
            let doing = "keep an image of an empty log";
            return Err(StoreError::Unsupported { doing });
        };
        let address = self.address.clone();
        Ok(Box::new(move |body: &[u8]| {
            let place = address.place();
            let body = body.to_vec();
            let written = Worker::start(address).and_then(|worker| {
                worker.run(move |runtime, link| {
                    let log = link.address().log().to_owned();
                    runtime.block_on(link.again(ANSWER.saturating_mul(10), async |client| {
                        write(client, &log, head, &body).await
                    }))
                })
            });
            written.map_err(|error| error.while_doing("keep an image of", place))?;
            Ok(head)
        }))
    }

    fn archive(
        &mut self,
        expected: Head,
        bridge: Draft,
        to: &dyn Disk,
    ) -> Result<Record, StoreError> {
        // Between two pages the turn is idle while they are written and synced, and many rows are removed at its end.
        self.ask("archive", async |client, _| {
            let longer = "SET LOCAL idle_in_transaction_session_timeout = 60000; SET LOCAL statement_timeout = 0";
            Ok(client.batch_execute(longer).await?)
        })?;
        self.look()?;
        let (found, log) = (self.head(), self.log_id());
        let Some(log) = log.filter(|_| found == Some(expected)) else {
            let expected = Some(expected);
            return Err(StoreError::Conflict { expected, found });
        };
        let start = self.start;
        let mut archive = ArchiveWriter::new(to, log, start, expected)?;
        read_checked(self, Some(log), start, &mut |record| archive.push(&record))?;
        archive.finish()?;
        let record = Record::new(log, Some(expected), None, bridge);
        self.send(By::Archive, log, Some(expected), Arc::new([record.clone()]))?;
        self.start = Some(expected);
        Ok(record)
    }
}

async fn kept(client: &Client, log: &str, most: i64) -> Result<Vec<Kept>, PostgresError> {
    const KEPT: &str = "SELECT images.seq, images.digest, images.parts, images.checksum \
        FROM momentlog.logs JOIN momentlog.images ON images.log = logs.log \
        LEFT JOIN momentlog.records ON records.log = images.log AND records.seq = images.seq \
        WHERE logs.name = $1 AND images.seq <= $2 \
        AND images.digest = CASE images.seq WHEN logs.start_seq THEN logs.start_digest ELSE records.digest END \
        ORDER BY images.seq DESC";
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&log, Type::TEXT), (&most, Type::INT8)];
    let rows = client.query_typed(KEPT, &params).await?;
    let mut kept = Vec::new();
    for row in &rows {
        if let (Some(seq), Some(of)) = (seq(row, 0)?, digest(row, 1)?) {
            kept.push(Kept {
                head: Head { seq, digest: of },
                parts: row.try_get(2)?,
                checksum: digest(row, 3).unwrap_or(None),
            });
        }
    }
    Ok(kept)
}

/// Returns the body of an image, as far as its parts are there.
async fn body(client: &Client, log: &str, kept: &Kept) -> Result<Vec<u8>, PostgresError> {
    const BODY: &str = "SELECT image_parts.body FROM momentlog.logs JOIN momentlog.image_parts \
        ON image_parts.log = logs.log WHERE logs.name = $1 AND image_parts.seq = $2 AND image_parts.part = $3";
    let at = number(Some(kept.head.seq));
    let mut body = Vec::new();
    for part in 0..kept.parts.min(PARTS_MAX) {
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&log, Type::TEXT), (&at, Type::INT8), (&part, Type::INT4)];
        let rows = client.query_typed(BODY, &params).await?;
        let Some(row) = rows.first() else {
            break;
        };
        body.extend_from_slice(row.try_get(0)?);
    }
    Ok(body)
}

async fn write(client: &Client, log: &str, head: Head, body: &[u8]) -> Result<(), PostgresError> {
    const PUT: &str = "SELECT momentlog.put_image_part($1, $2, $3, $4, $5, $6, $7)";
    let sum: [u8; 32] = Sha256::digest(body).into();
    let (at, of, sum) = (number(Some(head.seq)), &head.digest.0[..], &sum[..]);
    let parts = body.chunks(PART).count().max(1);
    let parts = i32::try_from(parts)
        .ok()
        .filter(|parts| *parts <= PARTS_MAX)
        .ok_or(PostgresError::Untrue("no room for an image of this length"))?;
    client.batch_execute("BEGIN").await?;
    for part in 0..parts {
        let from = usize::try_from(part).unwrap_or(0) * PART;
        let body = &body[from..body.len().min(from + PART)];
        let params: [(&(dyn ToSql + Sync), Type); 7] = [
            (&log, Type::TEXT),
            (&at, Type::INT8),
            (&of, Type::BYTEA),
            (&parts, Type::INT4),
            (&sum, Type::BYTEA),
            (&part, Type::INT4),
            (&body, Type::BYTEA),
        ];
        client.query_typed(PUT, &params).await?;
    }
    Ok(client.batch_execute("COMMIT").await?)
}
