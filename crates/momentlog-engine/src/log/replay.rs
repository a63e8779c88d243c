//! Replaying many records: one thread reads and verifies them, another applies them.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use momentlog_store::{LogId, Record, Seq, Store, StoreError, Text};

use super::chain;
use super::read::CannotRead;
use crate::ledger::Ledger;

/// Records that are handed over at once, unless they are large.
pub(crate) const LOT: usize = 512;

/// Bytes of facts and texts after which a lot is handed over.
pub(crate) const LOT_BYTES: usize = 1 << 20;

/// Lots that may wait.
const LOTS: usize = 4;

/// Brings a ledger to the record `last`, or to the end of the log.
pub(super) fn read_on(
    store: &mut dyn Store,
    known: &OnceLock<LogId>,
    ledger: &mut Ledger,
    last: Option<Seq>,
) -> Result<(), CannotRead> {
    if last.is_some() && ledger.seq >= last {
        return Ok(());
    }
    let after = ledger.view.head;
    let mut fault = None;
    let replay = |record: &Record| {
        if fault.is_none() {
            fault = ledger.replay(record).err();
        }
    };
    let read = in_lots(replay, |each| {
        chain::read(store, known, after, &mut |record| {
            let is_last = last.is_some_and(|last| record.seq >= last);
            each(record);
            if is_last {
                return Err(StoreError::Stopped);
            }
            Ok(())
        })
    });
    match (fault, read) {
        (Some(error), _) => Err(CannotRead::Replay(error)),
        (None, Err(error)) => Err(CannotRead::Thread(error)),
        (None, Ok(Err(StoreError::Stopped))) if last.is_some() => Ok(()),
        (None, Ok(read)) => read.map_err(CannotRead::Store),
    }
}

/// Calls `read` with what takes records, and `apply` with each of them, in order: on a second thread, once there is more
/// than one lot. Returns what `read` returns.
///
/// # Errors
///
/// That no thread can be started; the records up to there were applied.
pub(crate) fn in_lots<T>(
    mut apply: impl FnMut(&Record) + Send,
    read: impl FnOnce(&mut dyn FnMut(Record)) -> T,
) -> io::Result<T> {
    let apply = &mut apply;
    thread::scope(|scope| {
        let mut apply = Some(apply);
        let mut other = None;
        let mut refused = None;
        let mut lot = Vec::new();
        let mut bytes = 0;
        let read = read(&mut |record| {
            bytes += size(&record);
            lot.push(record);
            if lot.len() < LOT && bytes < LOT_BYTES {
                return;
            }
            bytes = 0;
            if let Some(apply) = apply.take() {
                let (sender, lots) = sync_channel::<Vec<Record>>(LOTS);
                let (back, used) = channel();
                let work = move || {
                    for lot in lots {
                        lot.iter().for_each(&mut *apply);
                        let _ = back.send(lot);
                    }
                };
                match thread::Builder::new().spawn_scoped(scope, work) {
                    Ok(thread) => other = Some((sender, used, thread)),
                    Err(error) => refused = Some(error),
                }
            }
            let lot = std::mem::take(&mut lot);
            if let Some((sender, used, _)) = &other {
                // A thread that has panicked is found when it is joined.
                let _ = sender.send(lot);
                // Memory is given back where it was taken.
                used.try_iter().for_each(drop);
            }
        });
        match (other, apply) {
            (Some((sender, _, thread)), _) => {
                let _ = sender.send(lot);
                drop(sender);
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
            (None, Some(apply)) => lot.iter().for_each(apply),
            (None, None) => {}
        }
        refused.map_or(Ok(read), Err)
    })
}

/// Bytes of facts and texts of a record.
pub(crate) fn size(record: &Record) -> usize {
    let text = |text: &Text| match text {
        Text::Plain { bytes, .. } => bytes.len(),
        Text::Erased { .. } => 0,
    };
    record.facts.len() + record.texts.iter().map(text).sum::<usize>()
}
