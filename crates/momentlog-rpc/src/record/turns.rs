//! Turns: one recorded call of a domain at a time.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use momentlog::core::DomainUuid;

/// What a call has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A domain.
    Domain(DomainUuid),
    /// What is not known before the call is answered, such as a domain that is new.
    New,
}

/// Who has which.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<Key>>,
    changed: Condvar,
}

/// Has a key for itself until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    key: Key,
}

impl Turns {
    /// Waits until `key` is free, and takes it.
    pub(super) fn take(self: &Arc<Self>, key: Key) -> Turn {
        let waited = self
            .changed
            .wait_while(self.lock(), |taken| taken.contains(&key));
        let mut taken = waited.unwrap_or_else(PoisonError::into_inner);
        taken.insert(key);
        Turn {
            turns: self.clone(),
            key,
        }
    }

    /// Takes `key` if it is free.
    pub(super) fn try_take(self: &Arc<Self>, key: Key) -> Option<Turn> {
        self.lock().insert(key).then(|| Turn {
            turns: self.clone(),
            key,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.key);
        self.turns.changed.notify_all();
    }
}
