//! What a connection reads of its log forward: its history, and what comes while it waits.

use std::time::Duration;

use momentlog_engine::{DomainStep, Entry, Step, View};
use momentlog_store::Seq;

#[cfg(doc)]
use super::Connection;
#[cfg(doc)]
use crate::error::ErrorCode;
use crate::error::{Error, Result};

/// The history of a log, see [`Connection::history`].
#[derive(Debug)]
pub struct History<'a> {
    pub(super) inner: momentlog_engine::History<'a>,
    /// Where it ends, if the connection answers as of a point.
    pub(super) last: Option<Seq>,
}

impl<'a> History<'a> {
    /// The state after the entry that was given out last; before the first one, that of an image before it.
    pub fn view(&self) -> &View {
        self.inner.view()
    }

    /// Returns the entries alone, which costs less than the states around them.
    pub fn entries(self) -> Entries<'a> {
        Entries {
            inner: self.inner.entries(),
            last: self.last,
        }
    }

    /// Returns the steps with the domains that they are about, which costs less than with the whole states.
    pub fn by_domain(self) -> impl Iterator<Item = Result<DomainStep>> + 'a {
        let (steps, last) = (self.inner.by_domain(), self.last);
        steps
            .map(|step| Ok(step?))
            .take_while(move |step| is_known(step, last, |step: &DomainStep| step.entry.head.seq))
    }
}

/// The entries of a [`History`].
#[derive(Debug)]
pub struct Entries<'a> {
    inner: momentlog_engine::Entries<'a>,
    last: Option<Seq>,
}

impl Entries<'_> {
    /// The state after the entry that was given out last.
    pub fn view(&self) -> &View {
        self.inner.view()
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        let next = self.inner.next()?.map_err(Error::from);
        is_known(&next, self.last, |entry| entry.head.seq).then_some(next)
    }
}

impl Iterator for History<'_> {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Result<Step>> {
        let next = self.inner.next()?.map_err(Error::from);
        is_known(&next, self.last, |step| step.entry.head.seq).then_some(next)
    }
}

/// Whether a record is not behind the last one that a connection knows.
pub(super) fn is_known<T>(next: &Result<T>, last: Option<Seq>, seq: impl Fn(&T) -> Seq) -> bool {
    match (next, last) {
        (Ok(next), Some(last)) => seq(next) <= last,
        _ => true,
    }
}

/// Waits for entries that this or another process appends.
#[derive(Debug)]
pub struct Subscription(pub(super) momentlog_engine::Subscription);

impl Subscription {
    /// Returns the entries since the last call, at once if there are any, or none after `wait`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read, after all entries before that; [`Error::store`] tells more,
    /// as for [`Connection::entries`]. `Archived` comes once and says which records were missed: the next call goes on
    /// behind them. That the store is not there yet is no error.
    pub fn next(&mut self, wait: Duration) -> Result<Vec<Entry>> {
        Ok(self.0.next(wait)?)
    }
}
