//! The newest durable state, for everybody who reads.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use momentlog_store::Seq;

use crate::view::View;

/// The newest durable view that this process knows, and what wakes those who wait for a newer one.
#[derive(Debug)]
pub(super) struct Published {
    view: RwLock<Arc<View>>,
    /// A publisher takes it between its change and its wake-up, so that a waiter, who holds it while it looks, misses
    /// neither.
    waiting: Mutex<()>,
    news: Condvar,
    /// How many threads wait, or are about to: waking none would still be a call to the system.
    waiters: AtomicUsize,
    /// How often the store has said that others may have appended.
    heard: AtomicU64,
}

impl Published {
    pub(super) fn new(view: View) -> Published {
        Published {
            view: RwLock::new(Arc::new(view)),
            waiting: Mutex::new(()),
            news: Condvar::new(),
            waiters: AtomicUsize::new(0),
            heard: AtomicU64::new(0),
        }
    }

    pub(super) fn newest(&self) -> Arc<View> {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn publish(&self, newest: View) {
        let newest = Arc::new(newest);
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        if view.head == newest.head {
            return;
        }
        let before = std::mem::replace(&mut *view, newest);
        drop(view);
        // Without the lock: this may be the last reference to that view.
        drop(before);
        self.wake();
    }

    /// Others may have appended: those who wait look at the store.
    pub(super) fn hear(&self) {
        self.heard.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// How often that was said. One who looks at the store afterwards, and then waits only if it was not said since, misses
    /// nothing.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::SeqCst)
    }

    /// Wakes all waiters, so that they look again.
    pub(super) fn wake(&self) {
        // A waiter counts itself before it looks: one that saw the state of before is counted here.
        fence(Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) > 0 {
            drop(self.waiting());
            self.news.notify_all();
        }
    }

    /// Waits until the view has a record after `seen`, or is woken, or the time is over that `most` returns. `most` is asked
    /// when a wake-up is not missed any more.
    pub(super) fn wait(&self, seen: Option<Seq>, most: impl FnOnce() -> Duration) {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let waiting = self.waiting();
        if self.newest().head.map(|head| head.seq) <= seen {
            drop(self.news.wait_timeout(waiting, most()));
        }
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    fn waiting(&self) -> MutexGuard<'_, ()> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
