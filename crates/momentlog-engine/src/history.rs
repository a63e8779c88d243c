//! The history of a log, read forward from any record.

use std::collections::VecDeque;
use std::fmt;

use momentlog_store::{Head, Record, Seq, Store, StoreError};

use crate::entry::Entry;
use crate::error::EngineError;
use crate::ledger::Ledger;
use crate::log::{Log, OVERTAKEN_MAX, chain, replay};
use crate::view::View;
use crate::watch::{See, Watch, see};

/// One record of the history, with the states around it.
#[derive(Clone, Debug)]
pub struct Step {
    /// The state right before the record.
    pub before: View,
    /// The record, decoded.
    pub entry: Entry,
    /// The state right after it.
    pub after: View,
}

/// Reads a log forward, in bounded batches and with no lock held in between: writers go on, and the reader may use
/// the log meanwhile. It ends at the end that the log has when it gets there.
///
/// A record that cannot be read is an error after all entries before it, and ends the history. If records behind the
/// place that was reached are moved to an archive meanwhile, that is the error
/// [`Archived`](momentlog_store::StoreError::Archived) once, and the history goes on with the bridge that stands for them.
pub struct History<'a> {
    log: &'a Log,
    place: Place,
    batch: VecDeque<Record>,
    /// Bytes of the record that was replayed last.
    last_bytes: usize,
    /// The record behind which entries are given out; its digest is compared, if it is known.
    behind: Option<Seq>,
    after: Option<Head>,
    /// The last record that is read; the end of the log, if that is before it.
    last: Option<Seq>,
    end: End,
}

/// Where a history stands: what the records up to there have made, and the handle that reads on from there.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) ledger: Ledger,
    /// A handle of its own, where the store gives one.
    pub(crate) reader: Option<Box<dyn Store>>,
}

/// What comes after the batch.
enum End {
    Open,
    Fault(EngineError),
    Reached,
}

impl fmt::Debug for History<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("head", &self.place.ledger.view.head)
            .finish_non_exhaustive()
    }
}

impl<'a> History<'a> {
    /// Begins behind the record of the seq `behind`; `after`, if it is known, is that record.
    pub(crate) fn new(
        log: &'a Log,
        behind: Option<Seq>,
        after: Option<Head>,
    ) -> Result<History<'a>, EngineError> {
        let place = log.place_at(behind)?;
        compare(after, place.ledger.view.head)?;
        Ok(History::at(log, place, behind, after))
    }

    /// Goes on from a place, which is that of the record `behind`.
    pub(crate) fn at(
        log: &'a Log,
        place: Place,
        behind: Option<Seq>,
        after: Option<Head>,
    ) -> History<'a> {
        History {
            log,
            place,
            batch: VecDeque::new(),
            last_bytes: 0,
            behind,
            after,
            last: None,
            end: End::Open,
        }
    }

    /// Ends it behind the record `last`, if neither the log nor an earlier bound ends before.
    #[must_use]
    pub fn up_to(mut self, last: Seq) -> History<'a> {
        self.last = Some(self.last.map_or(last, |before| before.min(last)));
        self
    }

    /// The state after the entry that was given out last; before the first one, that of an image before it.
    pub fn view(&self) -> &View {
        &self.place.ledger.view
    }

    /// Bytes of facts and texts of the record whose entry was given out last.
    pub(crate) fn last_bytes(&self) -> usize {
        self.last_bytes
    }

    /// Returns where it stands, from which another history can go on.
    pub(crate) fn into_place(self) -> Place {
        self.place
    }

    /// Returns the entries alone, which costs less than the states around them.
    pub fn entries(self) -> Entries<'a> {
        Entries(self)
    }

    /// Reads on to the record behind which entries are given out; returns what prevents that.
    fn reach_begin(&mut self) -> Option<EngineError> {
        while self.place.ledger.seq < self.behind {
            match self.replay_next(&mut |_, _| {})? {
                Ok(_) => {}
                Err(error) => return Some(error),
            }
        }
        None
    }

    /// Returns what a watch makes of each record, which costs less than the states around them.
    pub fn watched<W: Watch + 'a>(
        mut self,
        mut watch: W,
    ) -> impl Iterator<Item = Result<W::Made, EngineError>> + use<'a, W> {
        std::iter::from_fn(move || {
            if let Some(error) = self.reach_begin() {
                return Some(Err(error));
            }
            let seen = self.replay_next(&mut |seen, state| see(&mut watch, seen, state))?;
            let state = &self.place.ledger.view.state;
            Some(seen.map(|entry| watch.record(entry, state)))
        })
    }

    pub(crate) fn next_entry(&mut self) -> Option<Result<Entry, EngineError>> {
        match self.reach_begin() {
            Some(error) => Some(Err(error)),
            None => self.replay_next(&mut |_, _| {}),
        }
    }

    /// Replays the next record, and lets `see` the state around each of its events.
    fn replay_next(&mut self, see: See<'_>) -> Option<Result<Entry, EngineError>> {
        let record = match self.next_record()? {
            Ok(record) => record,
            Err(error) => return Some(Err(self.resume(error))),
        };
        self.last_bytes = replay::size(&record);
        let ledger = &mut self.place.ledger;
        let entry = match compare(self.after, Some(record.head())) {
            Ok(()) => ledger
                .decode(&record)
                .and_then(|facts| ledger.apply(&record, facts, see))
                .map_err(EngineError::from),
            Err(error) => Err(error.into()),
        };
        if entry.is_err() {
            self.end = End::Reached;
            self.batch.clear();
        }
        Some(entry)
    }

    fn next_record(&mut self) -> Option<Result<Record, EngineError>> {
        if self.last.is_some() && self.place.ledger.seq >= self.last {
            return None;
        }
        loop {
            if let Some(record) = self.batch.pop_front() {
                return Some(Ok(record));
            }
            match std::mem::replace(&mut self.end, End::Reached) {
                End::Open => self.fill(),
                End::Fault(error) => return Some(Err(error)),
                End::Reached => {
                    let had = self
                        .after
                        .filter(|had| Some(had.seq) > self.place.ledger.seq)?;
                    self.after = None;
                    let end = self.place.ledger.view.head;
                    return Some(Err(StoreError::Truncated { had, end }.into()));
                }
            }
        }
    }

    /// Reads the next batch.
    fn fill(&mut self) {
        let mut batch = VecDeque::new();
        let mut bytes = 0;
        let from = self.place.ledger.view.head;
        let each = &mut |record: Record| {
            bytes += replay::size(&record);
            batch.push_back(record);
            if batch.len() < replay::LOT && bytes < replay::LOT_BYTES {
                Ok(())
            } else {
                Err(StoreError::Stopped)
            }
        };
        let read = match &mut self.place.reader {
            Some(reader) => chain::read(reader.as_mut(), self.log.known(), from, each),
            None => chain::read(self.log.store().as_mut(), self.log.known(), from, each),
        };
        self.end = match read {
            Ok(()) => End::Reached,
            Err(StoreError::Stopped) => End::Open,
            Err(error) => End::Fault(error.into()),
        };
        self.batch = batch;
    }

    /// Goes on behind the bridge, if that is where the log begins by now.
    fn resume(&mut self, error: EngineError) -> EngineError {
        if let Some(StoreError::Archived { start, .. }) = error.store()
            && let Ok(next) = History::new(self.log, Some(start.seq), Some(*start))
        {
            let last = self.last;
            *self = History { last, ..next };
        }
        error
    }

    /// Reads on until the state is that after the record `seq`, or the end of the log if that is before it.
    pub(crate) fn view_at(mut self, seq: Seq) -> Result<View, EngineError> {
        // Damage behind that record does not matter.
        while self.place.ledger.seq < Some(seq)
            && let Some(entry) = self.replay_next(&mut |_, _| {})
        {
            entry?;
        }
        Ok(self.place.ledger.view)
    }
}

impl Iterator for History<'_> {
    type Item = Result<Step, EngineError>;

    fn next(&mut self) -> Option<Result<Step, EngineError>> {
        if let Some(error) = self.reach_begin() {
            return Some(Err(error));
        }
        let before = self.place.ledger.view.clone();
        let entry = self.replay_next(&mut |_, _| {})?;
        Some(entry.map(|entry| Step {
            before,
            entry,
            after: self.place.ledger.view.clone(),
        }))
    }
}

/// The entries of a [`History`].
#[derive(Debug)]
pub struct Entries<'a>(History<'a>);

impl Entries<'_> {
    /// The state after the entry that was given out last.
    pub fn view(&self) -> &View {
        self.0.view()
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, EngineError>;

    fn next(&mut self) -> Option<Result<Entry, EngineError>> {
        self.0.next_entry()
    }
}

impl Log {
    /// Returns the history behind the record `after`, from the first record that is not archived if that is `None`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if there is no store, [`StoreError::Archived`] if records behind `after` were moved to an
    /// archive, [`StoreError::Replaced`] if another store stands where this one was. What comes up while it is read is an
    /// item of the history: [`StoreError::Forked`] if another record stands where `after` does,
    /// [`StoreError::Truncated`] if the log ends before it.
    pub fn history(&self, after: Option<Head>) -> Result<History<'_>, EngineError> {
        History::new(self, after.map(|after| after.seq), after)
    }

    /// Returns the history from a record on; from the first one that is not archived if that is later.
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history).
    pub fn history_from(&self, seq: Seq) -> Result<History<'_>, EngineError> {
        let start = self.start()?.map(|start| start.seq);
        History::new(self, Seq::new(seq.get() - 1).max(start), None)
    }

    /// Returns the entries behind the record `after`. Where they are moved to an archive meanwhile, and the caller has
    /// named no record, it begins again with what is there.
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history) and its items.
    pub fn entries(&self, after: Option<Head>) -> Result<Vec<Entry>, EngineError> {
        for _ in 0..OVERTAKEN_MAX {
            match self.collect(after) {
                Err(error) if error.is_archived() && after.is_none() => {}
                read => return read,
            }
        }
        self.collect(after)
    }

    fn collect(&self, after: Option<Head>) -> Result<Vec<Entry>, EngineError> {
        self.history(after)?.entries().collect()
    }
}

/// Refuses a record that stands where another one was read.
fn compare(after: Option<Head>, found: Option<Head>) -> Result<(), StoreError> {
    match (after, found) {
        (Some(after), Some(found)) if after.seq == found.seq && after != found => {
            Err(StoreError::Forked { at: after.seq })
        }
        _ => Ok(()),
    }
}
