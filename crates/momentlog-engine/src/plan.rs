//! What commands would cause: decided as ever, and recorded nowhere.

use std::sync::Arc;
use std::time::Duration;

use momentlog_store::{Draft, Head, LogId, Record, Store, StoreError};

use crate::error::EngineError;
use crate::history::Step;
use crate::ledger::Ledger;
use crate::log::Log;

/// A log that goes on from another one in memory alone: what is recorded in it is what would be recorded there.
///
/// It takes no writer's lock of that log's store and writes nothing to it. What was there before is read from it.
#[derive(Debug)]
pub struct Plan {
    log: Arc<Log>,
    base: Ledger,
}

impl Plan {
    pub(crate) fn new(log: Log, base: Ledger) -> Plan {
        Plan {
            log: Arc::new(log),
            base,
        }
    }

    /// The log to ask.
    pub fn log(&self) -> &Arc<Log> {
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

/// Keeps the records of a plan, behind the end of the log that it is for.
#[derive(Debug)]
pub(crate) struct PlanStore {
    log: Option<LogId>,
    base: Option<Head>,
    /// The log that it is for, which reads what was there before.
    of: Arc<Log>,
    records: Vec<Record>,
}

impl PlanStore {
    pub(crate) fn new(log: Option<LogId>, base: Option<Head>, of: &Arc<Log>) -> PlanStore {
        PlanStore {
            log,
            base,
            of: of.clone(),
            records: Vec::new(),
        }
    }

    /// Reads what was there before the plan.
    fn read_base(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let last = self.base.map(|base| base.seq);
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
        self.log
    }

    fn head(&self) -> Option<Head> {
        self.records.last().map(Record::head).or(self.base)
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
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let log = *self.log.get_or_insert(log);
        let first = self.records.len();
        let durable = found.map(|head| head.seq);
        for draft in drafts {
            let record = Record::new(log, self.head(), durable, draft);
            self.records.push(record);
        }
        Ok(self.records[first..].to_vec())
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if after.map(|head| head.seq) < self.base.map(|head| head.seq) {
            self.read_base(after, each)?;
        }
        let after = after.map(|head| head.seq);
        let behind = self
            .records
            .iter()
            .filter(|record| Some(record.seq) > after);
        behind.cloned().try_for_each(each)
    }

    fn verifies(&self) -> bool {
        // No other handle has them.
        true
    }

    fn acquire(&mut self, _wait: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn release(&mut self) {}

    fn is_exclusive(&self) -> bool {
        true
    }
}
