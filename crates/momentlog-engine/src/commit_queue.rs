//! Group commit: threads that hand in work together share one write.
//!
//! The first thread that needs an answer while no thread writes is the leader: it writes for all threads that wait. What
//! arrives meanwhile is the next group. Nothing is answered before it is settled. The tests run this file under a scheduler that
//! tries the interleavings, so it takes its locks from [`crate::sync`].

use std::sync::{Arc, PoisonError};

use crate::sync::{AtomicBool, AtomicU64, Condvar, Latch, Mutex, MutexGuard, Ordering};

/// Work in the order in which it was decided. The first thread that needs an answer while no thread writes writes it.
#[derive(Debug)]
pub struct CommitQueue<T, E> {
    state: Mutex<State<T, E>>,
    /// Tells leaders that no thread writes any more.
    idle: Condvar,
    /// How many writes have failed: what was decided before one of them was decided on what is not there. It changes under
    /// the lock.
    generation: AtomicU64,
}

#[derive(Debug)]
struct State<T, E> {
    waiting: Vec<T>,
    /// The group of all that is waiting.
    open: Ticket<E>,
    /// The group that is being written.
    writing: Option<Ticket<E>>,
    /// How many leaders sleep until no thread writes.
    asleep: usize,
}

/// Stands for a group of work that was handed in, until it is settled.
#[derive(Debug)]
pub struct Ticket<E>(Arc<Group<E>>);

#[derive(Debug)]
struct Group<E> {
    /// Whether a thread writes it, or will.
    led: AtomicBool,
    settled: Latch<Settled<E>>,
}

/// What became of a group of work.
#[derive(Debug)]
enum Settled<E> {
    Written,
    Failed(Arc<E>),
    /// The leader panicked.
    Lost,
}

/// A write has failed since the work was decided. Nothing was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a write has failed since this was decided")]
pub struct Outdated;

impl<T, E> Default for CommitQueue<T, E> {
    fn default() -> CommitQueue<T, E> {
        CommitQueue::new()
    }
}

impl<T, E> CommitQueue<T, E> {
    /// Returns an empty queue.
    pub fn new() -> CommitQueue<T, E> {
        CommitQueue {
            state: Mutex::new(State {
                waiting: Vec::new(),
                open: Ticket::new(),
                writing: None,
                asleep: 0,
            }),
            idle: Condvar::new(),
            generation: AtomicU64::new(0),
        }
    }

    /// How many writes have failed so far. Work decided in an earlier generation is not taken.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How much is waiting to be written.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether nothing is waiting to be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands in work that was decided in `generation`, behind everything that was handed in before.
    ///
    /// # Errors
    ///
    /// [`Outdated`]: a write has failed since.
    pub fn push(&self, generation: u64, item: T) -> Result<Ticket<E>, Outdated> {
        self.push_with(generation, |_| item)
    }

    /// As [`push`](Self::push), of what `make` makes, which sees what is waiting. Until it returns, no leader takes what is waiting.
    ///
    /// # Errors
    ///
    /// [`Outdated`]: a write has failed since, and `make` was not called.
    pub fn push_with(
        &self,
        generation: u64,
        make: impl FnOnce(&mut [T]) -> T,
    ) -> Result<Ticket<E>, Outdated> {
        let mut state = self.lock();
        if self.generation() != generation {
            return Err(Outdated);
        }
        let item = make(&mut state.waiting);
        state.waiting.push(item);
        Ok(state.open.clone())
    }

    /// The ticket that is settled last of all that were handed in; `None` if nothing is unsettled.
    pub fn last(&self) -> Option<Ticket<E>> {
        let state = self.lock();
        if state.waiting.is_empty() {
            state.writing.clone()
        } else {
            Some(state.open.clone())
        }
    }

    /// Waits until the work is settled. If no thread writes, this one writes it, with all else that waits.
    ///
    /// `write` gets the work in the order in which it was handed in. If it fails, so does all that is waiting.
    ///
    /// # Errors
    ///
    /// What `write` returned for the group.
    ///
    /// # Panics
    ///
    /// If the thread that wrote for this one panicked.
    pub fn wait(
        &self,
        ticket: &Ticket<E>,
        write: &mut dyn FnMut(Vec<T>) -> Result<(), E>,
    ) -> Result<(), Arc<E>> {
        let group = &ticket.0;
        if !group.led.swap(true, Ordering::AcqRel) {
            self.lead(ticket, write);
        }
        ticket.follow()
    }

    /// Writes the open group as soon as no other thread writes, unless that has failed.
    fn lead(&self, ticket: &Ticket<E>, write: &mut dyn FnMut(Vec<T>) -> Result<(), E>) {
        let mut state = self.lock();
        loop {
            if ticket.0.settled.get().is_some() {
                return;
            }
            if state.writing.is_none() {
                break;
            }
            state.asleep += 1;
            state = self
                .idle
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.asleep -= 1;
        }
        let items = std::mem::take(&mut state.waiting);
        let group = std::mem::replace(&mut state.open, Ticket::new());
        state.writing = Some(group.clone());
        drop(state);
        let mut lead = Lead {
            queue: self,
            group,
            outcome: Settled::Lost,
        };
        lead.outcome = match write(items) {
            Ok(()) => Settled::Written,
            Err(error) => Settled::Failed(Arc::new(error)),
        };
    }

    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A leader's turn; dropping it settles its group, also if the leader panicked.
struct Lead<'a, T, E> {
    queue: &'a CommitQueue<T, E>,
    group: Ticket<E>,
    outcome: Settled<E>,
}

impl<T, E> Drop for Lead<'_, T, E> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.writing = None;
        let mut abandoned = Vec::new();
        if !matches!(self.outcome, Settled::Written) {
            self.queue.generation.fetch_add(1, Ordering::AcqRel);
            abandoned = std::mem::take(&mut state.waiting);
            let open = std::mem::replace(&mut state.open, Ticket::new());
            open.0.settled.set(self.outcome.clone());
        }
        let asleep = state.asleep > 0;
        drop(state);
        // Without the lock: it may be much.
        drop(abandoned);
        // Who writes next goes on first, and those who have their answer after that. One thread sleeps there at most,
        // but for leaders whose groups have failed: waking only one of them could leave the next writer asleep.
        // A wake without a sleeping thread would still be a call to the system.
        if asleep {
            self.queue.idle.notify_all();
        }
        self.group.0.settled.set(self.outcome.clone());
    }
}

impl<E> Ticket<E> {
    fn new() -> Ticket<E> {
        Ticket(Arc::new(Group {
            led: AtomicBool::new(false),
            settled: Latch::new(),
        }))
    }

    /// Waits until the work is settled, and leaves it to another thread to write it.
    ///
    /// # Errors
    ///
    /// As [`CommitQueue::wait`].
    ///
    /// # Panics
    ///
    /// If the thread that wrote for this one panicked.
    pub fn follow(&self) -> Result<(), Arc<E>> {
        match self.0.settled.wait() {
            Settled::Written => Ok(()),
            Settled::Failed(error) => Err(error),
            Settled::Lost => panic!("the thread that wrote for this one panicked"),
        }
    }
}

impl<E> Clone for Ticket<E> {
    fn clone(&self) -> Ticket<E> {
        Ticket(self.0.clone())
    }
}

impl<E> Clone for Settled<E> {
    fn clone(&self) -> Settled<E> {
        match self {
            Settled::Written => Settled::Written,
            Settled::Failed(error) => Settled::Failed(error.clone()),
            Settled::Lost => Settled::Lost,
        }
    }
}
