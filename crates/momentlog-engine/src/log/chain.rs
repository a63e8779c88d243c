//! Reading from any store: what it gives out continues what was read before, or it is refused.

use std::sync::OnceLock;

use momentlog_store::{Damage, Digest, Head, LogId, Record, Seq, Store, StoreError};

/// Calls `each` with the records after `after`, and checks that they are the next ones of the log `known`, which is
/// learned with the first record.
pub(crate) fn read(
    store: &mut dyn Store,
    known: &OnceLock<LogId>,
    after: Option<Head>,
    each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let recomputes = !store.verifies();
    if recomputes && store.log_id().is_none() {
        // A store may learn its id by reading, and digests cannot be checked without it.
        store.read(after, &mut |_| Ok(()))?;
    }
    check_log(store, known, after)?;
    let log = store.log_id();
    let mut last = after;
    store.read(after, &mut |record| {
        let seq = Seq::after(last.map(|last| last.seq));
        let previous = last.map_or(Digest::ZERO, |last| last.digest);
        let untrue = |why| Err(StoreError::Untrue { seq, why });
        if record.seq != seq {
            return untrue(Damage::Order { found: record.seq });
        }
        if record.previous != previous {
            return match after {
                Some(after) if last == Some(after) => Err(StoreError::Forked { at: after.seq }),
                _ => untrue(Damage::Chain),
            };
        }
        if recomputes && log.is_none_or(|log| record.computed(log) != record.digest) {
            return untrue(Damage::Digest);
        }
        last = Some(record.head());
        each(record)
    })?;
    check_log(store, known, last)?;
    match (after, store.head()) {
        (Some(had), Some(end)) if last == after && end.seq <= had.seq && end != had => {
            Err(if end.seq == had.seq {
                StoreError::Forked { at: had.seq }
            } else {
                let end = Some(end);
                StoreError::Truncated { had, end }
            })
        }
        _ => Ok(()),
    }
}

/// Checks that a log keeps its id, once it has a record.
pub(crate) fn check_log(
    store: &dyn Store,
    known: &OnceLock<LogId>,
    read: Option<Head>,
) -> Result<(), StoreError> {
    let Some(found) = store.log_id() else {
        return Ok(());
    };
    let known = match read {
        Some(_) => Some(known.get_or_init(|| found)),
        None => known.get(),
    };
    if known.is_none_or(|known| *known == found) {
        return Ok(());
    }
    let seq = read.map_or(Seq::FIRST, |read| read.seq);
    let why = Damage::OtherLog { found };
    Err(StoreError::Untrue { seq, why })
}
