//! The other sides: the bare disk, SQLite and redb.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::Failed;

/// A file that is filled with zeros and synced, and then written from its start, over and over.
pub(crate) struct Raw {
    file: File,
    offset: AtomicU64,
}

/// Bytes of such a file.
const RAW_LEN: u64 = 64 << 20;

impl Raw {
    pub(crate) fn new(path: &Path) -> Result<Raw, Failed> {
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(path)?;
        let zeros = vec![0; 1 << 20];
        for mebibyte in 0..RAW_LEN >> 20 {
            file.write_all_at(&zeros, mebibyte << 20)?;
        }
        file.sync_all()?;
        Ok(Raw {
            file,
            offset: AtomicU64::new(0),
        })
    }

    pub(crate) fn append(&self, bytes: &[u8]) -> Result<(), Failed> {
        let length = bytes.len() as u64;
        let offset = self.offset.fetch_add(length, Ordering::Relaxed) % (RAW_LEN - (1 << 20));
        self.file.write_all_at(bytes, offset)?;
        Ok(self.file.sync_data()?)
    }
}

/// The bare disk with group commit: who comes first writes and syncs for all that wait.
pub(crate) struct RawGroup {
    raw: Raw,
    state: Mutex<Waiting>,
    settled: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    handed_in: u64,
    written: u64,
    led: bool,
}

impl RawGroup {
    pub(crate) fn new(path: &Path) -> Result<RawGroup, Failed> {
        Ok(RawGroup {
            raw: Raw::new(path)?,
            state: Mutex::default(),
            settled: Condvar::new(),
        })
    }

    pub(crate) fn append(&self, bytes: &[u8]) -> Result<(), Failed> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes.extend(bytes);
        state.handed_in += 1;
        let mine = state.handed_in;
        while state.written < mine {
            if state.led {
                state = self
                    .settled
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.led = true;
            let group = std::mem::take(&mut state.bytes);
            let last = state.handed_in;
            drop(state);
            let written = self.raw.append(&group);
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.led = false;
            written?;
            state.written = last;
            self.settled.notify_all();
        }
        Ok(())
    }
}

/// SQLite with a write-ahead log that is synced at each commit.
pub(crate) struct Sqlite(Mutex<rusqlite::Connection>);

impl Sqlite {
    pub(crate) fn new(path: &Path) -> Result<Sqlite, Failed> {
        let connection = rusqlite::Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; \
             CREATE TABLE event(seq INTEGER PRIMARY KEY, body BLOB NOT NULL);",
        )?;
        Ok(Sqlite(Mutex::new(connection)))
    }

    pub(crate) fn append(&self, body: &[u8]) -> Result<(), Failed> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection
            .prepare_cached("INSERT INTO event(body) VALUES (?1)")?
            .execute([body])?;
        Ok(())
    }
}

/// redb with its default durability, which syncs each commit.
pub(crate) struct Redb {
    database: redb::Database,
    seq: AtomicU64,
}

const EVENTS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("event");

impl Redb {
    pub(crate) fn new(path: &Path) -> Result<Redb, Failed> {
        Ok(Redb {
            database: redb::Database::create(path)?,
            seq: AtomicU64::new(0),
        })
    }

    pub(crate) fn append(&self, body: &[u8]) -> Result<(), Failed> {
        let write = self.database.begin_write()?;
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        write.open_table(EVENTS)?.insert(seq, body)?;
        write.commit()?;
        Ok(())
    }
}

/// A table of events in SQLite, and the map that reading them all gives.
pub(crate) struct SqliteEvents(rusqlite::Connection);

/// What is kept of one moment: its number, its parent, its time.
type Folded = std::collections::HashMap<String, (i64, i64, i64)>;

impl SqliteEvents {
    pub(crate) fn new(path: &Path, count: u64) -> Result<SqliteEvents, Failed> {
        let mut connection = rusqlite::Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode=WAL; \
             CREATE TABLE event(seq INTEGER PRIMARY KEY, kind INTEGER NOT NULL, moment INTEGER NOT NULL, \
             parent INTEGER NOT NULL, name TEXT NOT NULL, created INTEGER NOT NULL, body BLOB NOT NULL);",
        )?;
        let body = vec![7_u8; 120];
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction
                .prepare("INSERT INTO event VALUES (?1, 769, ?1, ?1 - 1, ?2, ?1, ?3)")?;
            for seq in 1..=count {
                insert.execute((i64::try_from(seq)?, format!("checkpoint-{seq}"), &body))?;
            }
        }
        transaction.commit()?;
        Ok(SqliteEvents(connection))
    }

    /// Reads all events in order, with their bodies, and folds them into a map by name.
    pub(crate) fn fold(&self) -> Result<Folded, Failed> {
        let mut select = self
            .0
            .prepare("SELECT moment, parent, name, created, body FROM event ORDER BY seq")?;
        let mut rows = select.query([])?;
        let mut folded = Folded::new();
        while let Some(row) = rows.next()? {
            std::hint::black_box(row.get_ref(4)?.as_blob()?.len());
            folded.insert(row.get(2)?, (row.get(0)?, row.get(1)?, row.get(3)?));
        }
        Ok(folded)
    }
}
