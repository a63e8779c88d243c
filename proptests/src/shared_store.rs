//! A store in memory that several handles share, also one that breaks its contract on purpose.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use momentlog::store::{Draft, Head, LogId, MemoryStore, Record, Store, StoreError};

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// Reading begins with the first record, whatever was asked.
    IgnoresAfter,
    /// An append comes at the end, whatever was expected there.
    IgnoresExpected,
    /// The log has another id each time that it is asked.
    OtherLogId,
    /// What the reader of a record says is not passed on.
    SwallowsErrors,
    /// Records are given out without their facts.
    EmptyFacts,
    /// The last record is not given out.
    DropsTheLast,
}

impl StoreFault {
    /// All of them.
    pub const ALL: [StoreFault; 6] = [
        StoreFault::IgnoresAfter,
        StoreFault::IgnoresExpected,
        StoreFault::OtherLogId,
        StoreFault::SwallowsErrors,
        StoreFault::EmptyFacts,
        StoreFault::DropsTheLast,
    ];
}

/// One handle of a store in memory. A clone is another handle of the same store, and no handle is ever its only writer.
#[derive(Clone, Debug, Default)]
pub struct SharedStore {
    store: Arc<Mutex<MemoryStore>>,
    fault: Option<StoreFault>,
    asked: Arc<Mutex<u8>>,
}

impl SharedStore {
    /// Returns a handle of an empty store.
    pub fn new() -> SharedStore {
        SharedStore::default()
    }

    /// Returns a handle of an empty store with a fault.
    pub fn broken(fault: StoreFault) -> SharedStore {
        SharedStore {
            fault: Some(fault),
            ..SharedStore::default()
        }
    }

    /// Returns a handle of the same store with a fault.
    #[must_use]
    pub fn with_fault(&self, fault: StoreFault) -> SharedStore {
        SharedStore {
            fault: Some(fault),
            ..self.clone()
        }
    }

    fn store(&self) -> MutexGuard<'_, MemoryStore> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, fault: StoreFault) -> bool {
        self.fault == Some(fault)
    }
}

impl Store for SharedStore {
    fn log_id(&self) -> Option<LogId> {
        let log = self.store().log_id()?;
        if !self.has(StoreFault::OtherLogId) {
            return Some(log);
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked = asked.wrapping_add(1);
        Some(LogId([*asked; 16]))
    }

    fn head(&self) -> Option<Head> {
        self.store().head()
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        let mut store = self.store();
        let expected = if self.has(StoreFault::IgnoresExpected) {
            store.head()
        } else {
            expected
        };
        store.append(log, expected, drafts)
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // A reader may ask the store meanwhile.
        let mut records = Vec::new();
        let after = after.filter(|_| !self.has(StoreFault::IgnoresAfter));
        self.store().read(after, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        if self.has(StoreFault::DropsTheLast) {
            records.pop();
        }
        for mut record in records {
            if self.has(StoreFault::EmptyFacts) {
                record.facts.clear();
            }
            let answer = each(record);
            if !self.has(StoreFault::SwallowsErrors) {
                answer?;
            }
        }
        Ok(())
    }

    fn acquire(&mut self, _wait: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn release(&mut self) {}

    fn is_exclusive(&self) -> bool {
        false
    }
}
