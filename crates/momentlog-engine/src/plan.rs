//! What commands would cause: decided as ever, and recorded nowhere.

use std::sync::Arc;
use std::time::Duration;

use momentlog_store::{
    Disk, Draft, Head, ImageWriter, LogId, MemoryStore, Record, Retention, Seq, Store, StoreError,
};

use crate::error::EngineError;
use crate::handle::LogHandle;
use crate::history::Step;
use crate::ledger::Ledger;
use crate::log::Log;

/// A log that goes on from another one in memory alone: what is recorded in it is what would be recorded there.
///
/// It takes no writer's lock of that log's store and writes nothing to it. What was there before is read from it.
#[derive(Debug)]
pub struct Plan {
    log: Arc<LogHandle>,
    base: Ledger,
}

impl Plan {
    pub(crate) fn new(log: Log, base: Ledger) -> Plan {
        Plan {
            log: Arc::new(log.into()),
            base,
        }
    }

    /// The log to ask.
    pub fn log(&self) -> &Arc<LogHandle> {
        &self.log
    }

    /// Returns what would be recorded by now: each record with the states around it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Replay`] if a record cannot be replayed, which none that was decided here should.
    pub fn steps(&self) -> Result<Vec<Step>, EngineError> {
        self.log.flush()?;
        let mut records = Vec::new();
        let mut store = self.log.store();
        store.read(self.base.view.head, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        drop(store);
        let mut ledger = self.base.clone();
        let mut steps = Vec::new();
        for record in &records {
            let before = ledger.view.clone();
            let entry = ledger.replay(record)?;
            steps.push(Step {
                before,
                entry,
                after: ledger.view.clone(),
            });
        }
        Ok(steps)
    }
}

/// Keeps the records of a plan, and reads what was there before from the log that it is for.
#[derive(Debug)]
pub(crate) struct PlanStore {
    of: Arc<Log>,
    begin: Option<Head>,
    kept: MemoryStore,
}

impl PlanStore {
    /// Goes on behind the record `begin`, or begins a log.
    pub(crate) fn new(of: &Arc<Log>, log: Option<LogId>, begin: Option<Head>) -> PlanStore {
        let kept = log.zip(begin);
        PlanStore {
            of: of.clone(),
            begin,
            kept: kept.map_or_else(MemoryStore::new, |(log, begin)| {
                MemoryStore::going_on(log, begin)
            }),
        }
    }

    /// Reads what was there before the plan.
    fn read_before(
        &self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let last = self.begin.map(|begin| begin.seq);
        let mut up_to_last = |record: Record| {
            if Some(record.seq) <= last {
                each(record)
            } else {
                Ok(())
            }
        };
        // A handle of its own, where the store gives one, so that no writer waits for the plan.
        let reader = self.of.store().reader();
        match reader {
            Some(mut reader) => reader.read(after, &mut up_to_last),
            None => self.of.store().read(after, &mut up_to_last),
        }
    }
}

impl Store for PlanStore {
    fn log_id(&self) -> Option<LogId> {
        self.kept.log_id()
    }

    fn head(&self) -> Option<Head> {
        self.kept.head()
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        self.kept.append(log, expected, drafts)
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let is_before = |head: Head| after.is_none_or(|after| after.seq < head.seq);
        match self.begin {
            Some(begin) if is_before(begin) => {
                self.read_before(after, each)?;
                self.kept.read(Some(begin), each)
            }
            _ => self.kept.read(after, each),
        }
    }

    fn verifies(&self) -> bool {
        // What is read of the log that it is for may be of a store that does not.
        self.of.store().verifies()
    }

    fn acquire(&mut self, wait: Duration) -> Result<(), StoreError> {
        self.kept.acquire(wait)
    }

    fn release(&mut self) {
        self.kept.release();
    }

    fn is_exclusive(&self) -> bool {
        self.kept.is_exclusive()
    }

    fn retention(&mut self) -> Option<&mut dyn Retention> {
        let has_images = self.of.store().retention().is_some();
        has_images.then_some(self as &mut dyn Retention)
    }
}

/// Images and the start of an archived log are those of the log that it is for; a plan makes none.
impl Retention for PlanStore {
    fn start(&mut self) -> Result<Option<Head>, StoreError> {
        let mut store = self.of.store();
        store.retention().map_or(Ok(None), Retention::start)
    }

    fn latest_image(&mut self, most: Option<Seq>) -> Result<Option<(Head, Vec<u8>)>, StoreError> {
        let last = self.begin.map(|begin| begin.seq);
        let most = most.into_iter().chain(last).min();
        let mut store = self.of.store();
        let retention = store.retention();
        retention.map_or(Ok(None), |retention| retention.latest_image(most))
    }

    fn images(&mut self) -> Result<Vec<Seq>, StoreError> {
        let last = self.begin.map(|begin| begin.seq);
        let mut store = self.of.store();
        let mut images = store
            .retention()
            .map_or(Ok(Vec::new()), Retention::images)?;
        images.retain(|seq| Some(*seq) <= last);
        Ok(images)
    }

    fn image_writer(&mut self) -> Result<ImageWriter, StoreError> {
        Err(StoreError::Unsupported {
            doing: "make an image of a plan",
        })
    }

    fn archive(
        &mut self,
        _expected: Head,
        _bridge: Draft,
        _to: &dyn Disk,
    ) -> Result<Record, StoreError> {
        Err(StoreError::Unsupported {
            doing: "archive a plan",
        })
    }
}
