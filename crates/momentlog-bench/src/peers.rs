//! The other sides: the bare disk, SQLite and redb, and trees and maps in memory.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

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
    /// Groups wait here in turn, so that those of the next one sleep on when one is written.
    settled: [Condvar; 2],
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Number of the group that is open.
    open: u64,
    /// How many groups are written.
    written: u64,
    led: bool,
}

impl RawGroup {
    pub(crate) fn new(path: &Path) -> Result<RawGroup, Failed> {
        Ok(RawGroup {
            raw: Raw::new(path)?,
            state: Mutex::default(),
            settled: Default::default(),
        })
    }

    pub(crate) fn append(&self, bytes: &[u8]) -> Result<(), Failed> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes.extend(bytes);
        let mine = state.open;
        let place = |group: u64| &self.settled[usize::from(group % 2 == 1)];
        while state.written <= mine {
            if state.led {
                state = place(mine)
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.led = true;
            state.open += 1;
            let group = std::mem::take(&mut state.bytes);
            drop(state);
            let written = self.raw.append(&group);
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.led = false;
            state.written = mine + 1;
            place(mine).notify_all();
            // One of the next group must wake up to write it.
            place(mine + 1).notify_one();
            written?;
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

/// One event as the peers keep it: what a record of ours says of the same creation.
#[derive(Serialize, Deserialize)]
struct StoredEvent {
    recorded: i64,
    domain: [u8; 16],
    previous: u64,
    actor: String,
    moment: u64,
    parent: u64,
    current: bool,
    name: String,
    created: i64,
    description: Option<String>,
    disks: Vec<(String, u8, Option<String>)>,
    definition: (u64, u32),
}

/// What is kept of one moment, in owned structures as an ordinary program has them.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "what a queryable state holds, whether it is asked for or not"
)]
pub(crate) struct OwnedMoment {
    id: u64,
    parent: u64,
    children: u32,
    created: i64,
    description: Option<String>,
    disks: Vec<(String, u8, Option<String>)>,
    definition: (u64, u32),
}

/// Moments by name, and names by id, which parents are found by.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    moments: HashMap<Arc<str>, OwnedMoment>,
    names: HashMap<u64, Arc<str>>,
    current: u64,
}

impl Owned {
    fn fold(&mut self, body: &[u8]) -> Result<(), Failed> {
        let config = bincode::config::legacy();
        let (event, _): (StoredEvent, _) = bincode::serde::decode_from_slice(body, config)?;
        let parent = self.names.get(&event.parent);
        if let Some(parent) = parent.and_then(|name| self.moments.get_mut(name)) {
            parent.children += 1;
        }
        let name: Arc<str> = event.name.into();
        self.names.insert(event.moment, name.clone());
        self.moments.insert(
            name,
            OwnedMoment {
                id: event.moment,
                parent: event.parent,
                children: 0,
                created: event.created,
                description: event.description,
                disks: event.disks,
                definition: event.definition,
            },
        );
        if event.current {
            self.current = event.moment;
        }
        Ok(())
    }
}

/// The body of the event that makes a moment.
fn stored_event(moment: u64) -> Result<Vec<u8>, Failed> {
    let disk = |name: &str| (name.to_owned(), 1, None);
    let event = StoredEvent {
        recorded: i64::try_from(moment)?,
        domain: [0xb1; 16],
        previous: moment,
        actor: "root".to_owned(),
        moment,
        parent: moment - 1,
        current: true,
        name: format!("checkpoint-{moment}"),
        created: i64::try_from(moment)?,
        description: None,
        disks: vec![disk("vda"), disk("vdb")],
        definition: (2, 0),
    };
    Ok(bincode::serde::encode_to_vec(
        &event,
        bincode::config::legacy(),
    )?)
}

/// A table of events in SQLite.
pub(crate) struct SqliteEvents(rusqlite::Connection);

impl SqliteEvents {
    pub(crate) fn new(path: &Path, count: u64) -> Result<SqliteEvents, Failed> {
        let mut connection = rusqlite::Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode=WAL; \
             CREATE TABLE event(seq INTEGER PRIMARY KEY, body BLOB NOT NULL);",
        )?;
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO event VALUES (?1, ?2)")?;
            for seq in 1..=count {
                insert.execute((i64::try_from(seq)?, stored_event(seq)?))?;
            }
        }
        transaction.commit()?;
        Ok(SqliteEvents(connection))
    }

    /// Reads all events in order, decodes them, and folds them into a state.
    pub(crate) fn fold(&self) -> Result<Owned, Failed> {
        let mut select = self.0.prepare("SELECT body FROM event ORDER BY seq")?;
        let mut rows = select.query([])?;
        let mut owned = Owned::default();
        while let Some(row) = rows.next()? {
            owned.fold(row.get_ref(0)?.as_blob()?)?;
        }
        Ok(owned)
    }
}

/// The same events in a bare log: length, CRC-32C, body.
pub(crate) struct BareLog(PathBuf);

impl BareLog {
    pub(crate) fn new(path: &Path, count: u64) -> Result<BareLog, Failed> {
        let mut bytes = Vec::new();
        for seq in 1..=count {
            let body = stored_event(seq)?;
            bytes.extend(u32::try_from(body.len())?.to_le_bytes());
            bytes.extend(crc32c::crc32c(&body).to_le_bytes());
            bytes.extend(body);
        }
        std::fs::write(path, bytes)?;
        Ok(BareLog(path.into()))
    }

    /// Reads, checks and decodes all events in order, and folds them into a state.
    pub(crate) fn fold(&self) -> Result<Owned, Failed> {
        let bytes = std::fs::read(&self.0)?;
        let mut rest = &bytes[..];
        let mut owned = Owned::default();
        while let Some((head, after)) = rest.split_first_chunk::<8>() {
            let (length, checksum) = head.split_at(4);
            let length = u32::from_le_bytes(length.try_into()?);
            let (body, after) = after.split_at(length as usize);
            if crc32c::crc32c(body).to_le_bytes() != *checksum {
                return Err("a checksum is wrong".into());
            }
            owned.fold(body)?;
            rest = after;
        }
        Ok(owned)
    }
}

/// A tree as many would build it: from names to nodes, each with the set of its children's names.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameTree(im::HashMap<Arc<str>, Arc<NameNode>>);

#[derive(Clone, Debug)]
struct NameNode {
    #[expect(
        dead_code,
        reason = "what a node holds, whether it is asked for or not"
    )]
    parent: Option<Arc<str>>,
    children: im::OrdSet<Arc<str>>,
    #[expect(
        dead_code,
        reason = "what a node holds, whether it is asked for or not"
    )]
    definition: Arc<str>,
}

impl NameTree {
    /// Puts a moment below another, or makes it a root.
    pub(crate) fn create(&mut self, name: &str, parent: Option<&str>, definition: &Arc<str>) {
        let name: Arc<str> = name.into();
        let parent: Option<Arc<str>> = parent.map(Arc::from);
        if let Some(parent) = parent.as_ref().and_then(|parent| self.0.get_mut(parent)) {
            Arc::make_mut(parent).children.insert(name.clone());
        }
        let node = NameNode {
            parent,
            children: im::OrdSet::new(),
            definition: definition.clone(),
        };
        self.0.insert(name, Arc::new(node));
    }
}

/// A tree that is changed in place, and therefore has one version: nodes by number, and numbers by name.
#[derive(Debug, Default)]
pub(crate) struct MutableTree {
    numbers: HashMap<Arc<str>, usize>,
    nodes: Vec<MutableNode>,
}

#[derive(Debug)]
struct MutableNode {
    #[expect(
        dead_code,
        reason = "what a node holds, whether it is asked for or not"
    )]
    parent: Option<usize>,
    first: Option<usize>,
    #[expect(
        dead_code,
        reason = "what a node holds, whether it is asked for or not"
    )]
    next: Option<usize>,
    previous: Option<usize>,
    children: usize,
    #[expect(
        dead_code,
        reason = "what a node holds, whether it is asked for or not"
    )]
    definition: Arc<str>,
}

impl MutableTree {
    /// Puts a moment in front of the children of another, or makes it a root.
    pub(crate) fn create(&mut self, name: &str, parent: Option<usize>, definition: &Arc<str>) {
        let own = self.nodes.len();
        let mut next = None;
        if let Some(parent) = parent {
            let parent = &mut self.nodes[parent];
            parent.children += 1;
            next = parent.first.replace(own);
        }
        if let Some(next) = next {
            self.nodes[next].previous = Some(own);
        }
        self.nodes.push(MutableNode {
            parent,
            first: None,
            next,
            previous: None,
            children: 0,
            definition: definition.clone(),
        });
        self.numbers.insert(name.into(), own);
    }
}
