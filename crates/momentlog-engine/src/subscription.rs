//! Following a log: waiting for entries, and reading them once for all who wait.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use momentlog_store::{Head, StoreError};

use crate::entry::Entry;
use crate::error::EngineError;
use crate::history::{History, Place};
use crate::log::Log;

/// How many entries, and how many bytes of their records, are kept for subscriptions that come a little later.
const KEPT: usize = 1_024;
const KEPT_BYTES: usize = 1 << 20;

/// Waits for entries that this or another process appends.
pub struct Subscription {
    log: Arc<Log>,
    seen: Option<Head>,
    tail: Arc<Tail>,
    /// What ended the last read, if entries came before it.
    fault: Option<EngineError>,
    /// Whether the last call gave an error.
    failed: bool,
}

/// Short: up to where it has given out entries.
impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    /// Returns the entries since the last call, at once if there are any, or none after `wait`.
    ///
    /// # Errors
    ///
    /// What the store cannot read. The sound entries before the damage come first, and the next call returns the error. An
    /// error that lasts comes again after each `wait`. `Archived` comes once and says which records were missed: the next
    /// call goes on behind them. That the store is not there yet is no error.
    pub fn next(&mut self, wait: Duration) -> Result<Vec<Entry>, EngineError> {
        let next = match self.fault.take() {
            Some(fault) => Err(fault),
            None => self.read(wait),
        };
        self.failed = next.is_err();
        if let Err(error) = &next
            && let Some(StoreError::Archived { start, .. }) = error.store()
        {
            self.seen = Some(*start);
        }
        next
    }

    fn read(&mut self, wait: Duration) -> Result<Vec<Entry>, EngineError> {
        let seen = self.seen.map(|seen| seen.seq);
        let newest = if self.failed {
            self.log.wait_while_it_fails(seen, wait)
        } else {
            self.log.wait(seen, wait)
        };
        if let Ok(view) = &newest {
            if (view.head().is_none() || view.head() == self.seen) && self.log.damage().is_none() {
                return Ok(Vec::new());
            }
            if let Some((seen, newest)) = self.seen.zip(view.head())
                && let Some(entries) = self.tail.behind(seen, newest, &self.log)
            {
                self.seen = entries.last().map(|entry| entry.head);
                return Ok(entries);
            }
        }
        self.read_alone(newest.map(|_| ()))
    }

    /// Reads what the tail does not have, or could not read.
    fn read_alone(&mut self, waited: Result<(), EngineError>) -> Result<Vec<Entry>, EngineError> {
        let mut history = self.log.history(self.seen)?;
        let mut entries = Vec::new();
        loop {
            match history.next_entry() {
                Some(Ok(entry)) => {
                    self.seen = Some(entry.head);
                    entries.push(entry);
                }
                Some(Err(error)) if entries.is_empty() => return Err(error),
                Some(Err(error)) => {
                    self.fault = Some(error);
                    break;
                }
                None => {
                    self.tail.begin(history.into_place());
                    break;
                }
            }
        }
        if entries.is_empty() {
            waited?;
        }
        Ok(entries)
    }
}

impl Log {
    /// Returns a subscription to the entries behind the record `after`.
    pub fn subscribe(self: &Arc<Self>, after: Option<Head>) -> Subscription {
        let tail = self.tail();
        // From the end of the log, reading need not begin with an image.
        if let Some(after) = after
            && let Some(place) = self.newest_place(after)
        {
            tail.begin(place);
        }
        Subscription {
            log: self.clone(),
            seen: after,
            tail,
            fault: None,
            failed: false,
        }
    }
}

/// The end of a log, read once for all subscriptions of this process.
#[derive(Debug, Default)]
pub(crate) struct Tail(Mutex<Option<Followed>>);

#[derive(Debug)]
struct Followed {
    /// The end of what was read.
    place: Place,
    newest: Newest,
}

/// The entries that were read last.
#[derive(Debug)]
struct Newest {
    /// The record before the first one that is kept.
    before: Head,
    /// With the bytes of its record each.
    kept: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Tail {
    /// Begins to follow the log from `place`, unless the log was read further already.
    fn begin(&self, place: Place) {
        let mut followed = self.lock();
        let reached = followed.as_ref().map(|followed| followed.newest.end().seq);
        if let Some(before) = place.ledger.view.head
            && reached < Some(before.seq)
        {
            *followed = Some(Followed {
                place,
                newest: Newest {
                    before,
                    kept: VecDeque::new(),
                    bytes: 0,
                },
            });
        }
    }

    /// Returns the entries behind the record `seen`, `newest` included, and reads them first if that is needed. `None` if
    /// they are not kept, or cannot be read: the caller finds out why.
    fn behind(&self, seen: Head, newest: Head, log: &Log) -> Option<Vec<Entry>> {
        let mut followed = self.lock();
        let mut read = followed.take()?;
        if read.newest.end().seq < newest.seq {
            // One that meets an error is not used again.
            read = read.read_on(log).ok()?;
        }
        followed.insert(read).newest.behind(seen)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Followed>> {
        self.0.lock().unwrap_or_else(|poisoned| {
            // A panic of ours may have left it half changed.
            let mut followed = poisoned.into_inner();
            *followed = None;
            followed
        })
    }
}

impl Followed {
    fn read_on(self, log: &Log) -> Result<Followed, EngineError> {
        let Followed { place, mut newest } = self;
        log.check_store()?;
        let end = newest.end();
        let mut history = History::at(log, place, Some(end.seq), Some(end));
        while let Some(entry) = history.next_entry() {
            newest.keep(entry?, history.last_bytes());
        }
        Ok(Followed {
            place: history.into_place(),
            newest,
        })
    }
}

impl Newest {
    fn end(&self) -> Head {
        self.kept
            .back()
            .map_or(self.before, |(entry, _)| entry.head)
    }

    fn keep(&mut self, entry: Entry, bytes: usize) {
        self.kept.push_back((entry, bytes));
        self.bytes += bytes;
        while (self.kept.len() > KEPT || self.bytes > KEPT_BYTES)
            && let Some((oldest, bytes)) = self.kept.pop_front()
        {
            self.before = oldest.head;
            self.bytes -= bytes;
        }
    }

    /// Returns the entries behind the record `seen`; `None` if there are none, or not all are kept.
    fn behind(&self, seen: Head) -> Option<Vec<Entry>> {
        let first = self
            .kept
            .partition_point(|(entry, _)| entry.head.seq <= seen.seq);
        let before = match first.checked_sub(1) {
            Some(last) => self.kept[last].0.head,
            None => self.before,
        };
        let behind = self.kept.range(first..).map(|(entry, _)| entry.clone());
        (before == seen && first < self.kept.len()).then(|| behind.collect())
    }
}
