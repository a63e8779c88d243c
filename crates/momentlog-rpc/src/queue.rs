//! A queue between two threads, bounded by the bytes and the number of what waits in it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue. What is longer than the bound of bytes is taken when nothing else waits.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    len_max: usize,
    count_max: usize,
}

#[derive(Debug)]
struct State<T> {
    /// What waits, each with its length in bytes.
    items: VecDeque<(T, usize)>,
    len: usize,
    ended: bool,
}

/// Why nothing was put into a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// There is no room.
    Full,
    /// The queue has ended.
    Ended,
}

impl<T> Queue<T> {
    /// A queue of at most `count_max` items with at most `len_max` bytes together.
    pub(crate) fn new(count_max: usize, len_max: usize) -> Queue<T> {
        Queue {
            state: Mutex::new(State {
                items: VecDeque::new(),
                len: 0,
                ended: false,
            }),
            changed: Condvar::new(),
            len_max,
            count_max,
        }
    }

    /// Puts an item in if there is room.
    pub(crate) fn try_push(&self, item: T, len: usize) -> Result<(), Rejected> {
        let mut state = self.lock();
        if state.ended {
            return Err(Rejected::Ended);
        }
        if !self.has_room(&state, len) {
            return Err(Rejected::Full);
        }
        self.put(&mut state, item, len);
        Ok(())
    }

    /// Puts an item in, and waits for room; `false` if the queue has ended.
    pub(crate) fn push(&self, item: T, len: usize) -> bool {
        let wait = |state: &mut State<T>| !state.ended && !self.has_room(state, len);
        let waited = self.changed.wait_while(self.lock(), wait);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return false;
        }
        self.put(&mut state, item, len);
        true
    }

    /// Takes the first item, and waits for one; `None` once the queue has ended and is empty.
    pub(crate) fn pop(&self) -> Option<T> {
        let wait = |state: &mut State<T>| !state.ended && state.items.is_empty();
        let waited = self.changed.wait_while(self.lock(), wait);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let (item, len) = state.items.pop_front()?;
        state.len -= len;
        self.changed.notify_all();
        Some(item)
    }

    /// Ends the queue: nothing comes in, and what waits is still taken.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Ends the queue, and throws away what waits.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.items.clear();
        state.len = 0;
        self.changed.notify_all();
    }

    fn has_room(&self, state: &State<T>, len: usize) -> bool {
        let fits = state.len.saturating_add(len) <= self.len_max;
        state.items.is_empty() || fits && state.items.len() < self.count_max
    }

    fn put(&self, state: &mut State<T>, item: T, len: usize) {
        state.items.push_back((item, len));
        state.len += len;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_takes_what_fits_and_one_item_that_does_not() {
        let queue = Queue::new(2, 10);
        assert_eq!(queue.try_push('a', 11), Ok(()));
        assert_eq!(queue.try_push('b', 0), Err(Rejected::Full));
        assert_eq!(queue.pop(), Some('a'));
        assert_eq!(queue.try_push('b', 5), Ok(()));
        assert_eq!(queue.try_push('c', 6), Err(Rejected::Full));
        assert_eq!(queue.try_push('c', 5), Ok(()));
        assert_eq!(queue.try_push('d', 0), Err(Rejected::Full));
    }

    #[test]
    fn an_ended_queue_gives_out_what_it_has_and_an_abandoned_one_does_not() {
        let queue = Queue::new(2, 10);
        assert!(queue.push('a', 1));
        queue.end();
        assert!(!queue.push('b', 1));
        assert_eq!(queue.try_push('b', 1), Err(Rejected::Ended));
        assert_eq!((queue.pop(), queue.pop()), (Some('a'), None));

        let queue = Queue::new(2, 10);
        assert!(queue.push('a', 1));
        queue.abandon();
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn who_waits_for_room_goes_on_when_there_is_some_or_the_queue_ends() {
        let queue = Queue::new(1, 10);
        assert!(queue.push(1, 1));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| queue.push(2, 1));
            assert_eq!(queue.pop(), Some(1));
            assert!(second.join().unwrap());
            let third = scope.spawn(|| queue.push(3, 1));
            queue.abandon();
            assert!(!third.join().unwrap() || queue.pop().is_none());
        });
    }
}
