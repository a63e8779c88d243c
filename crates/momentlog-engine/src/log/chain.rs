//! Reading the log that this process knows, from any store.

use std::sync::OnceLock;

use momentlog_store::{Head, LogId, Record, Store, StoreError, read_checked};

/// Calls `each` with the records after `after`, and checks that they are the next ones of the log `known`, which is
/// learned with the first record.
pub(crate) fn read(
    store: &mut dyn Store,
    known: &OnceLock<LogId>,
    after: Option<Head>,
    each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut has_record = after.is_some();
    let read = read_checked(store, known.get().copied(), after, &mut |record| {
        has_record = true;
        each(record)
    });
    if read.is_ok() && has_record {
        learn(store, known);
    }
    read
}

/// Checks that a log keeps its id, once it has a record.
pub(crate) fn check_log(
    store: &dyn Store,
    known: &OnceLock<LogId>,
    read: Option<Head>,
) -> Result<(), StoreError> {
    momentlog_store::check_log(store, known.get().copied(), read)?;
    if read.is_some() {
        learn(store, known);
    }
    Ok(())
}

fn learn(store: &dyn Store, known: &OnceLock<LogId>) {
    if let Some(found) = store.log_id() {
        known.get_or_init(|| found);
    }
}
