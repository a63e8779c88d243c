//! Looking through a log for records, without reading all of each.

use std::fmt;
use std::ops::ControlFlow;

use crate::{Head, Record, Seq, Store, StoreError};

/// A record of which the facts were read. Its checksum was compared where the store has one, its digest was not.
pub struct Outline<'a> {
    /// Its place.
    pub seq: Seq,
    /// Its facts.
    pub facts: &'a [u8],
    read: &'a dyn Fn() -> Result<Record, StoreError>,
}

impl<'a> Outline<'a> {
    /// Returns the outline of a record, which `read` reads as a whole.
    pub fn new(
        seq: Seq,
        facts: &'a [u8],
        read: &'a dyn Fn() -> Result<Record, StoreError>,
    ) -> Outline<'a> {
        Outline { seq, facts, read }
    }

    /// Reads the record as a whole, with its texts and its digest.
    ///
    /// # Errors
    ///
    /// What the store cannot read.
    pub fn record(&self) -> Result<Record, StoreError> {
        (self.read)()
    }
}

/// Short: which record, and how long its facts are.
impl fmt::Debug for Outline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outline")
            .field("seq", &self.seq)
            .field("facts", &self.facts.len())
            .finish_non_exhaustive()
    }
}

/// As [`Store::scan`] says, by reading every record as a whole.
pub(crate) fn scan_by_reading<S: Store + ?Sized>(
    store: &mut S,
    after: Option<Head>,
    each: &mut dyn FnMut(&Outline<'_>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut enough = false;
    let read = store.read(after, &mut |record| {
        let read = || Ok(record.clone());
        if each(&Outline::new(record.seq, &record.facts, &read)).is_break() {
            enough = true;
            return Err(StoreError::Stopped);
        }
        Ok(())
    });
    match read {
        Err(StoreError::Stopped) if enough => Ok(()),
        read => read,
    }
}

/// As [`Store::last_where`] says, by a scan from the first record.
pub(crate) fn last_by_scanning<S: Store + ?Sized>(
    store: &mut S,
    holds: &mut dyn FnMut(&Outline<'_>) -> bool,
) -> Result<Option<Record>, StoreError> {
    let start = match store.retention() {
        Some(retention) => retention.start()?,
        None => None,
    };
    last_behind(store, start, holds)
}

/// As [`last_by_scanning`], of the records after `after`.
pub(crate) fn last_behind<S: Store + ?Sized>(
    store: &mut S,
    after: Option<Head>,
    holds: &mut dyn FnMut(&Outline<'_>) -> bool,
) -> Result<Option<Record>, StoreError> {
    let mut last = Ok(None);
    store.scan(after, &mut |outline| {
        if !holds(outline) {
            return ControlFlow::Break(());
        }
        last = outline.record().map(Some);
        if last.is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    last
}
