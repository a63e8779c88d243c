//! Until when something may take.

use std::time::{Duration, Instant};

use rustix::event::Timespec;

/// Longest single wait; longer ones are made of several.
const POLL_MAX: Duration = Duration::from_hours(1);

/// Until when something may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    /// `None` for ever.
    at: Option<Instant>,
    /// How long that was when the wait began.
    pub(crate) wait: Duration,
}

impl Deadline {
    pub(crate) fn after(wait: Duration) -> Deadline {
        Deadline {
            at: Instant::now().checked_add(wait),
            wait,
        }
    }

    /// Returns how long may still be waited at once, and `None` if the time is over.
    pub(crate) fn left(self) -> Option<Duration> {
        let Some(at) = self.at else {
            return Some(POLL_MAX);
        };
        let left = at.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left.min(POLL_MAX))
    }

    /// As [`left`](Self::left), for the system.
    pub(crate) fn timespec(self) -> Option<Timespec> {
        let left = self.left()?;
        Some(Timespec::try_from(left).expect("an hour is a time that the system knows"))
    }
}
