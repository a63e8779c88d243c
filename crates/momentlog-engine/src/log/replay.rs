//! Replaying many records: one thread reads and verifies them, another applies them.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

use momentlog_store::{LogId, Record, Store, Text};

use super::chain;
use super::read::CannotRead;
use crate::ledger::{Ledger, ReplayError};

/// Records that are handed over at once, unless they are large.
pub(crate) const LOT: usize = 512;

/// Bytes of facts and texts after which a lot is handed over.
pub(crate) const LOT_BYTES: usize = 1 << 20;

/// Lots that may wait.
pub(crate) const LOTS: usize = 4;

/// Brings a ledger to the end of the log. A second thread is used only where there is more than one lot to read.
pub(super) fn read_on(
    store: &mut dyn Store,
    known: &OnceLock<LogId>,
    ledger: &mut Ledger,
) -> Result<(), CannotRead> {
    let after = ledger.view.head;
    thread::scope(|scope| {
        let mut ledger = Some(ledger);
        let mut other = None;
        let mut refused = None;
        let mut lot = Vec::new();
        let mut bytes = 0;
        let read = chain::read(store, known, after, &mut |record| {
            bytes += size(&record);
            lot.push(record);
            if lot.len() < LOT && bytes < LOT_BYTES {
                return Ok(());
            }
            bytes = 0;
            if let Some(ledger) = ledger.take() {
                let (sender, receiver) = sync_channel(LOTS);
                let (back, used) = channel();
                let apply = move || apply(ledger, &receiver, &back);
                match thread::Builder::new().spawn_scoped(scope, apply) {
                    Ok(thread) => other = Some((sender, used, thread)),
                    Err(error) => refused = Some(error),
                }
            }
            let lot = std::mem::take(&mut lot);
            if let Some((sender, used, _)) = &other {
                // It has stopped at a record that does not fit, if it does not listen any more.
                let _ = sender.send(lot);
                // Memory is given back where it was taken.
                used.try_iter().for_each(drop);
            }
            Ok(())
        });
        let fault = match (other, ledger) {
            (Some((sender, _, thread)), _) => {
                let _ = sender.send(lot);
                drop(sender);
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
            (None, Some(ledger)) => replay(ledger, &lot),
            (None, None) => None,
        };
        match (fault, refused) {
            (Some(error), _) => Err(CannotRead::Replay(error)),
            (None, Some(error)) => Err(CannotRead::Thread(error)),
            (None, None) => read.map_err(CannotRead::Store),
        }
    })
}

/// Applies lots as they come, and gives them back; returns the fault at which it stopped.
fn apply(
    ledger: &mut Ledger,
    lots: &Receiver<Vec<Record>>,
    back: &Sender<Vec<Record>>,
) -> Option<ReplayError> {
    lots.iter().find_map(|lot| {
        let fault = replay(ledger, &lot);
        let _ = back.send(lot);
        fault
    })
}

fn replay(ledger: &mut Ledger, records: &[Record]) -> Option<ReplayError> {
    let mut replayed = records.iter().map(|record| ledger.replay(record));
    replayed.find_map(Result::err)
}

/// Bytes of facts and texts of a record.
pub(crate) fn size(record: &Record) -> usize {
    let text = |text: &Text| match text {
        Text::Plain { bytes, .. } => bytes.len(),
        Text::Erased { .. } => 0,
    };
    record.facts.len() + record.texts.iter().map(text).sum::<usize>()
}
