//! What [`crate::commit_queue`] waits on; its tests put the locks of a scheduler in their place.

use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

/// A value that is set once, and that threads wait for without a lock between them.
#[derive(Debug)]
pub(crate) struct Latch<T>(OnceLock<T>);

impl<T: Clone> Latch<T> {
    pub(crate) fn new() -> Latch<T> {
        Latch(OnceLock::new())
    }

    /// Sets the value, unless it is set.
    pub(crate) fn set(&self, value: T) {
        let _ = self.0.set(value);
    }

    pub(crate) fn get(&self) -> Option<T> {
        self.0.get().cloned()
    }

    /// Waits until the value is set.
    pub(crate) fn wait(&self) -> T {
        self.0.wait().clone()
    }
}
