//! What a server says of itself: its version and clock, and who has a second copy.

use tokio_postgres::Client;

use crate::{PostgresError, PostgresStore};
use momentlog_store::StoreError;

/// A server, as of when it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its version, for example `15.8 (Debian 15.8-0+deb12u1)`.
    pub version: String,
    /// Its clock, in microseconds since 1970.
    pub clock: i64,
    /// The standbys that a commit waits for, as `synchronous_standby_names` names them; empty if it waits for none.
    pub synchronous: String,
    /// How far it is behind, if it is a standby.
    pub standby: Option<Standby>,
}

/// How far a standby is behind its primary, as far as it can know: what it has not received, it does not know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standby {
    /// Whether it is connected to its primary.
    pub is_connected: bool,
    /// Bytes of the write-ahead log that it has received and does not show yet.
    pub not_shown: u64,
    /// When the last transaction that it shows was committed, in microseconds since 1970 by the primary's clock; `None` if
    /// it has shown none since it was started.
    pub shown: Option<i64>,
}

impl PostgresStore {
    /// Asks the server about itself.
    ///
    /// # Errors
    ///
    /// [`StoreError::Backend`] if it gives no answer, and [`StoreError::Replaced`] as every call.
    pub fn server(&mut self) -> Result<Server, StoreError> {
        self.ask("ask the server of", async |client, _| ask(client).await)
    }
}

async fn ask(client: &Client) -> Result<Server, PostgresError> {
    const ASK: &str = "SELECT current_setting('server_version'), \
        (extract(epoch FROM clock_timestamp()) * 1000000)::int8, \
        current_setting('synchronous_standby_names'), \
        pg_is_in_recovery(), \
        EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL), \
        pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::int8, \
        (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000000)::int8";
    let rows = client.query_typed(ASK, &[]).await?;
    let row = rows
        .first()
        .ok_or(PostgresError::Untrue("nothing of itself"))?;
    let is_standby: bool = row.try_get(3)?;
    let standby = if is_standby {
        let not_shown: Option<i64> = row.try_get(5)?;
        Some(Standby {
            is_connected: row.try_get(4)?,
            // What it has replayed from files may be beyond what it has received.
            not_shown: not_shown
                .and_then(|bytes| bytes.try_into().ok())
                .unwrap_or(0),
            shown: row.try_get(6)?,
        })
    } else {
        None
    };
    Ok(Server {
        version: row.try_get(0)?,
        clock: row.try_get(1)?,
        synchronous: row.try_get(2)?,
        standby,
    })
}
