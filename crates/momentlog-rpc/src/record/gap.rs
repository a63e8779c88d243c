//! Calls that were passed on and not recorded, until the log says so.

use std::sync::{Mutex, PoisonError};

use momentlog::Call;

/// Most calls that are named.
const NAMED_MAX: usize = 16;

/// What the log does not say yet.
#[derive(Debug, Default)]
pub(super) struct Gap(Mutex<Missed>);

#[derive(Debug, Default)]
struct Missed {
    /// When the first was passed on, in microseconds since 1970.
    since: i64,
    count: u64,
    /// The first of them.
    named: Vec<String>,
}

impl Gap {
    /// Adds a call.
    pub(super) fn add(&self, now: i64, call: Call, agent: &str) {
        let mut missed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if missed.count == 0 {
            missed.since = now;
        }
        missed.count += 1;
        if missed.named.len() < NAMED_MAX {
            missed.named.push(format!("{call} by {agent}"));
        }
    }

    /// Has the calls told, if there are any. They are told again if that fails.
    pub(super) fn tell<E>(&self, tell: impl FnOnce(String) -> Result<(), E>) -> Result<(), E> {
        let mut missed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if missed.count == 0 {
            return Ok(());
        }
        let more = missed.count - missed.named.len() as u64;
        let mut said = format!(
            "calls that were passed on and not recorded, from {} microseconds since 1970: {}",
            missed.since,
            missed.named.join("; ")
        );
        if more > 0 {
            said += &format!("; and {more} more");
        }
        tell(said)?;
        *missed = Missed::default();
        Ok(())
    }
}
