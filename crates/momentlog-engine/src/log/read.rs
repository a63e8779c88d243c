//! Reading a log: catching up with it, and what it held at an earlier record.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use momentlog_core::DomainUuid;
use momentlog_store::{Head, Receipt, Seq, Store, StoreError};

use super::retention::{load, start};
use super::{Decider, Log, OVERTAKEN_MAX, Outcome, replay};
use crate::error::EngineError;
use crate::history::{History, Place};
use crate::ledger::{Ledger, ReplayError};
use crate::view::View;

/// Why a ledger is not at the end of the log.
pub(super) enum CannotRead {
    Store(StoreError),
    Replay(ReplayError),
    Thread(std::io::Error),
}

impl From<CannotRead> for EngineError {
    fn from(why: CannotRead) -> EngineError {
        match why {
            CannotRead::Store(error) => error.into(),
            CannotRead::Replay(error) => error.into(),
            CannotRead::Thread(source) => EngineError::System {
                doing: "start a thread that replays",
                source: Arc::new(source),
            },
        }
    }
}

impl Log {
    /// Returns the state as of a record: the end of the log if that is before it.
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history) and its items; what comes after that record does not matter.
    pub fn view_at(&self, seq: Seq) -> Result<View, EngineError> {
        let mut place = self.place_at(Some(seq))?;
        match &mut place.reader {
            Some(reader) => {
                replay::read_on(reader.as_mut(), &self.known, &mut place.ledger, Some(seq))?;
                Ok(place.ledger.view)
            }
            // The store is not held from others all the while.
            None => History::at(self, place, Some(seq), None).view_at(seq),
        }
    }

    /// Checks that the log continues the one that `receipt` is of, from its record to the end, and returns the receipt of
    /// that end.
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history) and its items; [`StoreError::Forked`] also if the receipt is of another log.
    pub fn verify_since(&self, receipt: Receipt) -> Result<Receipt, EngineError> {
        let mut head = receipt.head;
        for entry in self.history(Some(receipt.head))?.entries() {
            head = entry?.head;
        }
        match self.refresh().map(|_| self.log_id())? {
            Some(log) if log == receipt.log => Ok(Receipt { log, head }),
            _ => Err(StoreError::Forked { at: Seq::FIRST }.into()),
        }
    }

    /// Returns the state right before the record that a request id stands for; `None` if it stands for none, or that
    /// record was archived.
    ///
    /// # Errors
    ///
    /// As [`view_at`](Self::view_at). That there is no store yet is no error.
    pub fn before_request(&self, id: &str) -> Result<Option<View>, EngineError> {
        let mut decider = self.enter_alone();
        if !self.is_exclusive() {
            self.catch_up_if_there(&mut decider)?;
        }
        let Some(request) = decider.ledger.requests.get(id) else {
            return Ok(None);
        };
        drop(decider);
        // What was decided may not be durable yet, and its answer will say so.
        let Some(before) = Seq::new(request.seq.get() - 1) else {
            return Ok(None);
        };
        let start = start(self.store().as_mut())?;
        if start.is_some_and(|start| start.seq > before) {
            return Ok(None);
        }
        self.view_at(before).map(Some)
    }

    /// Returns the domain that the archived record of a request id is about; `None` if the id stands for no such record.
    ///
    /// # Errors
    ///
    /// [`EngineError::Replay`] if that record makes no sense.
    pub fn archived_request(&self, id: &str) -> Result<Option<DomainUuid>, EngineError> {
        let decider = self.enter();
        let request = decider.ledger.requests.get(id);
        let answer = request.and_then(|request| decider.ledger.first_answer(request.seq));
        let Some(events) = answer else {
            return Ok(None);
        };
        Ok(events?.iter().find_map(|event| event.domain))
    }

    /// Returns the answer that the request got when it was recorded.
    pub(super) fn first_answer(&self, seq: Seq) -> Result<Outcome, EngineError> {
        for _ in 0..=OVERTAKEN_MAX {
            let mut events = self.enter().ledger.first_answer(seq).transpose()?;
            if events.is_none() {
                match self.entry(seq) {
                    // The image with which the log begins now has the answer.
                    Err(error) if error.is_archived() => {
                        self.enter().stale = true;
                        self.refresh()?;
                        continue;
                    }
                    read => events = read?.map(|entry| entry.events),
                }
            }
            let Some(events) = events else {
                break;
            };
            return Ok(Outcome {
                seq,
                events,
                repeated: true,
            });
        }
        Err(self.lost(seq))
    }

    /// Returns the error of a record that was read, and is not there any more.
    fn lost(&self, seq: Seq) -> EngineError {
        match self.view().head {
            Some(had) => {
                let end = self.store().head();
                StoreError::Truncated { had, end }.into()
            }
            None => EngineError::Lost(seq),
        }
    }

    /// Returns the place from which the entries behind the record `behind` can be read: that record itself, if it is the
    /// last one; otherwise that of an image at or before it, the start of an archived log, or the beginning.
    pub(crate) fn place_at(&self, behind: Option<Seq>) -> Result<Place, EngineError> {
        let newest = behind.and_then(|behind| self.newest_ledger(behind));
        let mut store = self.store();
        // It is also compared here that no other store stands where this one was.
        start(store.as_mut())?;
        let mut reader = store.reader();
        let ledger = match (newest, &mut reader) {
            (Some(ledger), _) => ledger,
            (None, Some(reader)) => {
                drop(store);
                self.ledger_in(reader.as_mut(), behind)?
            }
            (None, None) => self.ledger_in(store.as_mut(), behind)?,
        };
        Ok(Place { ledger, reader })
    }

    /// Returns the record behind which the log begins, and checks that no other store stands where this one was.
    pub(crate) fn start(&self) -> Result<Option<Head>, StoreError> {
        start(self.store().as_mut())
    }

    /// Checks that no other store stands where this one was.
    pub(crate) fn check_store(&self) -> Result<(), StoreError> {
        self.start().map(|_| ())
    }

    /// Returns the place behind the record `after`, if that is the last one and durable.
    pub(crate) fn newest_place(&self, after: Head) -> Option<Place> {
        let ledger = self.newest_ledger(after.seq)?;
        (ledger.view.head == Some(after)).then(|| Place {
            ledger,
            reader: self.store().reader(),
        })
    }

    /// Returns the ledger up to the record `seq`, if that is the last one and durable: copying it costs next to nothing.
    fn newest_ledger(&self, seq: Seq) -> Option<Ledger> {
        let decider = self.enter();
        let head = self.view().head?;
        (decider.ledger.seq == Some(seq) && head.seq == seq).then(|| {
            let mut ledger = decider.ledger.clone();
            ledger.view.head = Some(head);
            ledger
        })
    }

    pub(super) fn ledger_in(
        &self,
        store: &mut dyn Store,
        behind: Option<Seq>,
    ) -> Result<Ledger, EngineError> {
        let start = start(store)?;
        let most = behind.or(start.map(|start| start.seq));
        let loaded = match most {
            Some(most) => load(store, Some(most))?,
            None => None,
        };
        if let (Some(behind), Some(start)) = (behind, start)
            && behind < start.seq
        {
            // The store says so itself, and where.
            store.read(None, &mut |_| Ok(()))?;
        }
        match (loaded, start) {
            (Some(ledger), _) => Ok(ledger),
            (None, Some(start)) => Err(EngineError::NoImage { start: start.seq }),
            (None, None) => Ok(Ledger::new(self.options.profile)),
        }
    }

    /// Reads what was appended since the last time. That there is no store yet is no error.
    pub(super) fn catch_up_if_there(&self, decider: &mut Decider) -> Result<(), EngineError> {
        match self.catch_up(decider) {
            Err(error) if error.is_missing() => Ok(()),
            caught_up => caught_up,
        }
    }

    /// Reads what was appended since the last time, and publishes the state after it.
    pub(super) fn catch_up(&self, decider: &mut Decider) -> Result<(), EngineError> {
        let mut store = self.store();
        let mut read = self.read_on(decider, store.as_mut());
        for _ in 0..OVERTAKEN_MAX {
            let begins_again = match &read {
                // Another process has archived what this ledger has not read.
                Err(CannotRead::Store(StoreError::Archived { .. })) => true,
                // Another process has archived what it has read: what was answered then is in the image alone.
                Ok(bridged) => *bridged,
                Err(_) => false,
            };
            if !begins_again {
                break;
            }
            decider.ledger = Ledger::new(self.options.profile);
            read = self.read_on(decider, store.as_mut());
        }
        decider.log = store.log_id().or(decider.log);
        drop(store);
        // What comes before the damage can be read; a writer is refused when it begins.
        decider.damage = match &read {
            Err(CannotRead::Store(error @ StoreError::Damaged { .. })) => {
                Some(error.to_string().into())
            }
            _ => None,
        };
        match read {
            Ok(_) => {}
            Err(CannotRead::Store(StoreError::Damaged { .. }))
                if decider.ledger.view.head.is_some() => {}
            Err(why) => {
                decider.stale |= matches!(why, CannotRead::Replay(_));
                return Err(why.into());
            }
        }
        self.published.publish(decider.ledger.view.clone());
        Ok(())
    }

    /// Reads on to the end of the log; returns whether a ledger that was read from the records has passed a bridge.
    fn read_on(&self, decider: &mut Decider, store: &mut dyn Store) -> Result<bool, CannotRead> {
        let before = decider.ledger.seq;
        if before.is_none()
            && let Some(ledger) = load(store, None).map_err(CannotRead::Store)?
        {
            let seq = ledger.seq.map_or(0, Seq::get);
            self.image.store(seq, Ordering::Relaxed);
            decider.ledger = ledger;
        }
        replay::read_on(store, &self.known, &mut decider.ledger, None)?;
        if before.is_none() || before == decider.ledger.seq {
            return Ok(false);
        }
        let start = start(store).map_err(CannotRead::Store)?;
        Ok(start.is_some_and(|start| before <= Some(start.seq)))
    }
}
