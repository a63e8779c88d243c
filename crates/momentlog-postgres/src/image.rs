//! Images, in parts. There is no archive: a database has partitions and table spaces of its own.

use momentlog_store::{
    Digest, Disk, Draft, Head, ImageWriter, Record, Retention, Seq, Store as _, StoreError,
};
use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::PostgresError;
use crate::link::{ANSWER, Worker};
use crate::record::{digest, number, seq};
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
        Ok(None)
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

    fn archive(&mut self, _: Head, _: Draft, _: &dyn Disk) -> Result<Record, StoreError> {
        let doing = "move records of a database to an archive";
        Err(StoreError::Unsupported { doing })
    }
}

async fn kept(client: &Client, log: &str, most: i64) -> Result<Vec<Kept>, PostgresError> {
    const KEPT: &str = "SELECT images.seq, images.digest, images.parts, images.checksum \
        FROM momentlog.logs JOIN momentlog.images ON images.log = logs.log \
        JOIN momentlog.records ON records.log = images.log AND records.seq = images.seq AND records.digest = images.digest \
        WHERE logs.name = $1 AND images.seq <= $2 ORDER BY images.seq DESC";
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
