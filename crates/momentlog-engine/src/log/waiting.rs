//! Waiting for what is appended, by this process or another.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use momentlog_store::Seq;

use super::Log;
use crate::error::EngineError;
use crate::view::View;

/// How often a log that another process may write is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The same, of a store that says itself when others have appended.
const LOOK_WATCHED: Duration = Duration::from_secs(1);

impl Log {
    /// Waits until the log has a record after `seen`, or `wait` is over; returns the newest view. That there is no store
    /// yet is no error.
    ///
    /// # Errors
    ///
    /// As [`refresh`](Self::refresh).
    pub fn wait(&self, seen: Option<Seq>, wait: Duration) -> Result<Arc<View>, EngineError> {
        let end = end_of(wait);
        loop {
            let heard = self.published.heard();
            let view = match self.refresh() {
                Err(error) if error.is_missing() => self.view(),
                refreshed => refreshed?,
            };
            let left = end.saturating_duration_since(Instant::now());
            if view.head.map(|head| head.seq) > seen || left.is_zero() {
                return Ok(view);
            }
            // The writers of this process wake it, and a store that learns what others write; the rest is found by looking.
            let look = self.look_after();
            self.published.wait(seen, || {
                if self.is_exclusive() {
                    left
                } else if self.published.heard() == heard {
                    left.min(look)
                } else {
                    Duration::ZERO
                }
            });
            let view = self.view();
            if view.head.map(|head| head.seq) > seen {
                return Ok(view);
            }
        }
    }

    /// How long a reader that waits for what others append goes without looking.
    fn look_after(&self) -> Duration {
        if self.is_exclusive() {
            return LOOK;
        }
        let watched = self.watched.get_or_init(|| {
            let published = self.published.clone();
            self.store().watch(Box::new(move || published.hear()))
        });
        match watched {
            Some(watched) if watched.load(Ordering::Acquire) => LOOK_WATCHED,
            _ => LOOK,
        }
    }

    /// As [`wait`](Self::wait), for a store that could not be read: it is looked at until it can be, or `wait` is over.
    pub(crate) fn wait_while_it_fails(
        &self,
        seen: Option<Seq>,
        wait: Duration,
    ) -> Result<Arc<View>, EngineError> {
        let end = end_of(wait);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.wait(seen, left) {
                Err(_) if !left.is_zero() => std::thread::sleep(left.min(LOOK)),
                newest => return newest,
            }
        }
    }
}

/// Returns when a wait is over. One that no clock can hold ends after a day, and the caller asks again.
fn end_of(wait: Duration) -> Instant {
    const DAY: Duration = Duration::from_hours(24);
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now + DAY)
}
