//! Turns: being the writer, and letting the writers of other processes in.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use momentlog_store::StoreError;

use super::{Decider, Log};
use crate::error::EngineError;

/// How long a thread that waits for another writer keeps the other threads of this process waiting.
const TURN: Duration = Duration::from_millis(50);

/// How long it lets them go on in between.
const BETWEEN_TURNS: Duration = Duration::from_millis(1);

impl Log {
    /// Lets other processes write, until the next change here.
    pub fn release(&self) {
        let mut decider = self.enter();
        self.stop_writing(&mut decider);
        decider.waited = Duration::ZERO;
    }

    /// Lets other processes write, if it was asked for no change since it was asked `asked` times.
    pub(crate) fn release_if_idle(&self, asked: u64) {
        if !self.is_exclusive() {
            return;
        }
        let mut decider = self.enter();
        if self.asked() == asked {
            self.stop_writing(&mut decider);
        }
    }

    /// How often it was asked for a change.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether no other process can have appended.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.exclusive.load(Ordering::Acquire)
    }

    /// From now on other processes may append: those who wait for news look at the store.
    pub(super) fn share(&self) {
        if self.exclusive.swap(false, Ordering::AcqRel) {
            self.published.wake();
        }
    }

    /// Becomes the writer, and reads on to what is the end of the log then. Others may read while this waits, unless the
    /// store lets writers in as they come, who would lose their places. Where an append ends the turn, so does dropping it.
    pub(super) fn acquire<'log>(
        &'log self,
        mut decider: MutexGuard<'log, Decider>,
    ) -> Result<(MutexGuard<'log, Decider>, Turn<'log>), EngineError> {
        let wait = self.options.lock_wait.saturating_sub(decider.waited);
        let begun = Instant::now();
        let (waited, taken) = loop {
            let left = wait.saturating_sub(begun.elapsed());
            let taken = {
                let mut store = self.store();
                let stays = store.stays_writer();
                let taken = store.acquire(if stays { left.min(TURN) } else { left });
                taken.map(|()| stays && store.is_exclusive())
            };
            let waited = begun.elapsed();
            if waited >= wait || !matches!(taken, Err(StoreError::Locked { .. })) {
                break (waited, taken);
            }
            drop(decider);
            std::thread::sleep(BETWEEN_TURNS);
            decider = self.enter();
            if self.is_exclusive() {
                // Another thread of this process was faster.
                break (waited, Ok(true));
            }
        };
        if self.options.lock_wait_shared {
            decider.waited = decider.waited.saturating_add(waited);
        }
        let alone = taken?;
        let turn = Turn((!alone).then_some(self));
        self.catch_up_if_there(&mut decider)?;
        self.exclusive.store(alone, Ordering::Release);
        Ok((decider, turn))
    }

    /// Stops being the writer.
    pub(super) fn stop_writing(&self, decider: &mut Decider) {
        self.imaging.finish();
        if self.is_exclusive() && self.drain(decider).is_ok() {
            self.make_image_if_worth_it(decider);
        }
        self.share();
        self.store().release();
    }
}

/// The turn of a writer that does not stay it. Dropping it lets others write, also if nothing was appended.
#[must_use = "the turn ends when it is dropped"]
pub(super) struct Turn<'log>(Option<&'log Log>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(log) = self.0 {
            log.store().release();
        }
    }
}
