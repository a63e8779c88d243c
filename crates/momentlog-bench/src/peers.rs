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
