//! Group commit: threads that hand in work together share one write.
//!
//! Whoever needs an answer first, and finds nobody writing, writes for everybody who waits: the leader. What arrives
//! meanwhile is the next group. Nothing is answered before it is settled. The tests run this file under a scheduler that
//! tries the interleavings, so it takes its locks from [`crate::sync`].

use std::sync::{Arc, OnceLock, PoisonError};

use crate::sync::{Condvar, Mutex, MutexGuard};

/// Work in the order in which it was decided, written by whoever needs an answer first and finds nobody writing.
#[derive(Debug)]
pub struct CommitQueue<T, E> {
    state: Mutex<State<T, E>>,
    settled: Condvar,
}

#[derive(Debug)]
struct State<T, E> {
    waiting: Vec<(T, Ticket<E>)>,
    /// Whether a leader is writing.
    led: bool,
    /// What was handed in last.
    last: Option<Ticket<E>>,
    /// How many writes have failed: what was decided before one of them was decided on what is not there.
    generation: u64,
}

/// Stands for work that was handed in, until it is settled. Equal tickets are clones.
#[derive(Debug)]
pub struct Ticket<E>(Arc<OnceLock<Settled<E>>>);

/// What became of a piece of work.
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
                led: false,
                last: None,
                generation: 0,
            }),
            settled: Condvar::new(),
        }
    }

    /// How many writes have failed so far. Work decided in an earlier generation is not taken.
    pub fn generation(&self) -> u64 {
        self.lock().generation
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
        let mut state = self.lock();
        if state.generation != generation {
            return Err(Outdated);
        }
        let ticket = Ticket(Arc::new(OnceLock::new()));
        state.last = Some(ticket.clone());
        state.waiting.push((item, ticket.clone()));
        Ok(ticket)
    }

    /// The ticket that is settled last of all that were handed in; `None` if nothing is unsettled.
    pub fn last(&self) -> Option<Ticket<E>> {
        let last = self.lock().last.clone();
        last.filter(|ticket| ticket.0.get().is_none())
    }

    /// Waits until the work is settled, and writes it, with all else that waits, if nobody does.
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
        let mut state = self.lock();
        loop {
            match ticket.0.get() {
                Some(Settled::Written) => return Ok(()),
                Some(Settled::Failed(error)) => return Err(error.clone()),
                Some(Settled::Lost) => panic!("the thread that wrote for this one panicked"),
                None if state.led => {
                    state = self
                        .settled
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    state.led = true;
                    let (items, tickets) = std::mem::take(&mut state.waiting).into_iter().unzip();
                    drop(state);
                    let mut lead = Lead {
                        queue: self,
                        tickets,
                        outcome: None,
                    };
                    lead.outcome = Some(write(items).map_err(Arc::new));
                    drop(lead);
                    state = self.lock();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A leader's turn; dropping it settles its group, also if the leader panicked.
struct Lead<'a, T, E> {
    queue: &'a CommitQueue<T, E>,
    tickets: Vec<Ticket<E>>,
    outcome: Option<Result<(), Arc<E>>>,
}

impl<T, E> Drop for Lead<'_, T, E> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.led = false;
        if !matches!(self.outcome, Some(Ok(()))) {
            state.generation += 1;
            let waiting = std::mem::take(&mut state.waiting);
            self.tickets
                .extend(waiting.into_iter().map(|(_, ticket)| ticket));
        }
        for ticket in &self.tickets {
            let settled = match &self.outcome {
                Some(Ok(())) => Settled::Written,
                Some(Err(error)) => Settled::Failed(error.clone()),
                None => Settled::Lost,
            };
            // Only the leader of its group settles a ticket.
            let _ = ticket.0.set(settled);
        }
        self.queue.settled.notify_all();
    }
}

impl<E> Clone for Ticket<E> {
    fn clone(&self) -> Ticket<E> {
        Ticket(self.0.clone())
    }
}
