//! Reading from any store: what it gives out continues what was read before, or it is refused.

use crate::{Damage, Digest, Head, LogId, Record, Seq, Store, StoreError};

/// Calls `each` with the records after `after`, as [`Store::read`] does, and checks that they are the next ones of the
/// log `known`; of the log that the store names, if that is `None`. Unless the store [`verifies`](Store::verifies), their
/// digests are recomputed.
///
/// # Errors
///
/// As [`Store::read`], for any store; [`StoreError::Untrue`] if it gives out a record that is not the next one, is not what
/// its digest says, or is of another log.
pub fn read_checked(
    store: &mut dyn Store,
    known: Option<LogId>,
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
    check_log(store, known.or(log), last)?;
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

/// Checks that a store still holds the log `known`. `read` is the last record that was read of it.
///
/// # Errors
///
/// [`StoreError::Untrue`] if it holds another log.
pub fn check_log(
    store: &dyn Store,
    known: Option<LogId>,
    read: Option<Head>,
) -> Result<(), StoreError> {
    match (known, store.log_id()) {
        (Some(known), Some(found)) if known != found => {
            let seq = read.map_or(Seq::FIRST, |read| read.seq);
            let why = Damage::OtherLog { found };
            Err(StoreError::Untrue { seq, why })
        }
        _ => Ok(()),
    }
}
