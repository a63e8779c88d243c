//! The seam above the log: what every kind of store can do, and one that lives in memory.

use crate::{Draft, Head, LogId, Record, Seq, StoreError};

/// An append-only sequence of records: conditional append and ordered read, nothing else.
///
/// A directory of files, a table with a unique key, or a replicated stream can all do this natively.
pub trait Store: std::fmt::Debug + Send {
    /// The log's id; `None` as long as there is no record.
    fn log_id(&self) -> Option<LogId>;

    /// The last record that is known here to be durable: for the writer the end of the log, otherwise what was read last.
    fn head(&self) -> Option<Head>;

    /// Appends records after `expected`, which must be the end of the log, and returns them. Durable when it returns `Ok`.
    ///
    /// The first append of an empty log gives the log its id. The caller has called [`begin`](Self::begin).
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`], [`StoreError::TooLarge`] and [`StoreError::Poisoned`]: nothing was written.
    /// [`StoreError::Unknown`]: it may or may not be there.
    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError>;

    /// Calls `each` with the records after `after`, which must be of this log, in order, up to the durable end.
    ///
    /// # Errors
    ///
    /// What the store cannot read, after it has given what comes before; or whatever `each` returns.
    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Makes this handle the writer, so that nobody else appends until [`end`](Self::end).
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if another writer is still there after `wait`.
    fn begin(&mut self, wait: std::time::Duration) -> Result<(), StoreError>;

    /// Lets others write again.
    fn end(&mut self);

    /// Whether this handle is the writer, so that nobody else can have appended.
    fn is_writer(&self) -> bool;
}

/// A store that is gone with its handle.
#[derive(Debug, Default)]
pub struct MemoryStore {
    log: Option<LogId>,
    records: Vec<Record>,
}

impl MemoryStore {
    /// Returns an empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }
}

impl Store for MemoryStore {
    fn log_id(&self) -> Option<LogId> {
        self.log
    }

    fn head(&self) -> Option<Head> {
        self.records.last().map(Record::head)
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        let found = self.head();
        if found != expected {
            return Err(StoreError::Conflict { expected, found });
        }
        let log = *self.log.get_or_insert(log);
        let first = self.records.len();
        for draft in drafts {
            let head = self.head();
            self.records
                .push(Record::new(log, head, head.map(|head| head.seq), draft));
        }
        Ok(self.records[first..].to_vec())
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let from = after.map_or(0, |head| {
            usize::try_from(head.seq.get()).unwrap_or(usize::MAX)
        });
        self.records.iter().skip(from).cloned().try_for_each(each)
    }

    fn begin(&mut self, _wait: std::time::Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn end(&mut self) {}

    fn is_writer(&self) -> bool {
        true
    }
}

/// Returns the seq that follows a head, or the first one.
pub(crate) fn next_seq(head: Option<Head>) -> Seq {
    Seq::after(head.map(|head| head.seq))
}
