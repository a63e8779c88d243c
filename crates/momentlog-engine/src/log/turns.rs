//! Turns: being the writer, and letting the writers of other processes in.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use momentlog_store::StoreError;

use super::{Decider, Log};
use crate::error::EngineError;

/// How long a thread that waits for another writer keeps the other threads of this process waiting.
const SLICE: Duration = Duration::from_millis(50);

/// How long it lets them go on in between.
const BETWEEN_SLICES: Duration = Duration::from_millis(1);

/// A turn is over when this many bytes of records were decided in it.
const TURN_BYTES_MAX: usize = 4 << 20;

impl Log {
    /// Lets other processes write, until the next change here.
    pub fn release(&self) {
        let mut decider = self.enter_alone();
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

    /// Says that this thread is about to decide.
    pub(super) fn arrive(&self) -> Arrival<'_> {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        Arrival {
            log: self,
            at: Instant::now(),
        }
    }

    /// Becomes the writer, and reads on to what is the end of the log then. Others may read while this waits, unless the
    /// store lets writers in as they come, who would lose their places. Where other processes may write all the same, it
    /// begins a turn that the threads of this process share; there is none when this is called.
    pub(super) fn acquire<'log>(
        &'log self,
        mut decider: MutexGuard<'log, Decider>,
        arrival: &Arrival<'log>,
    ) -> Result<MutexGuard<'log, Decider>, EngineError> {
        let begun = Instant::now();
        let wait = self.options.lock_wait.saturating_sub(decider.waited);
        // It may have waited for a thread that waited for the turn.
        let wait = wait.saturating_sub(begun.duration_since(arrival.at));
        let (waited, taken) = loop {
            let left = wait.saturating_sub(begun.elapsed());
            let taken = {
                let mut store = self.store();
                let stays = store.stays_writer();
                let taken = store.acquire(if stays { left.min(SLICE) } else { left });
                taken.map(|()| stays && store.is_exclusive())
            };
            let waited = begun.elapsed();
            if waited >= wait || !matches!(taken, Err(StoreError::Locked { .. })) {
                break (waited, taken);
            }
            drop(decider);
            std::thread::sleep(BETWEEN_SLICES);
            decider = self.enter();
            if self.is_exclusive() || decider.turn.is_some() {
                // Another thread of this process was faster.
                return Ok(decider);
            }
        };
        if self.options.lock_wait_shared {
            decider.waited = decider.waited.saturating_add(waited);
        }
        let alone = taken?;
        if let Err(error) = self.catch_up_if_there(&mut decider) {
            if !alone {
                self.store().release();
            }
            return Err(error);
        }
        self.exclusive.store(alone, Ordering::Release);
        decider.turn = (!alone).then_some(0);
        Ok(decider)
    }

    /// Appends what was decided in the turn, if there is one, and lets others write. Whether that succeeds is the answer to
    /// those who wait for it.
    pub(super) fn end_turn(&self, decider: &mut Decider) {
        if decider.turn.take().is_some() {
            let _ = self.drain(decider);
            self.store().release();
            decider.turned = Some(Instant::now());
        }
    }

    /// Ends the turn if nothing was decided in it, or enough; returns whether there was one. Whoever decides in a turn waits
    /// for its end, so that each thread decides in it once at most.
    pub(super) fn end_turn_if_due(&self, decider: &mut Decider) -> bool {
        match decider.turn {
            None => false,
            Some(bytes) => {
                if bytes == 0 || bytes >= TURN_BYTES_MAX {
                    self.end_turn(decider);
                }
                true
            }
        }
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

/// A thread that is about to decide. The last one to go ends the turn that it shares with the others.
#[must_use = "the thread has gone when it is dropped"]
pub(super) struct Arrival<'log> {
    log: &'log Log,
    at: Instant,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let log = self.log;
        if log.arrived.fetch_sub(1, Ordering::AcqRel) > 1 || log.is_exclusive() {
            return;
        }
        let mut decider = log.enter();
        // One that has come meanwhile decides in the same turn, and is the last one then.
        if log.arrived.load(Ordering::Acquire) == 0 {
            log.end_turn(&mut decider);
        }
    }
}
