//! What a connection reads of its log forward: its history, and what comes while it waits.

use std::time::Duration;

use momentlog_engine::{Entry, Step, View, Watch};
use momentlog_store::Seq;

#[cfg(doc)]
use super::Connection;
#[cfg(doc)]
use crate::error::ErrorCode;
use crate::error::{Error, Result};

/// The history of a log, see [`Connection::history`].
#[derive(Debug)]
pub struct History<'a>(pub(super) momentlog_engine::History<'a>);

impl<'a> History<'a> {
    /// The state after the entry that was given out last; before the first one, that of an image before it.
    pub fn view(&self) -> &View {
        self.0.view()
    }

    /// Ends it behind the record `last`, if it does not end before.
    #[must_use]
    pub fn up_to(self, last: Seq) -> History<'a> {
        History(self.0.up_to(last))
    }

    /// Returns the entries alone, which costs less than the states around them.
    pub fn entries(self) -> Entries<'a> {
        Entries(self.0.entries())
    }

    /// Returns what a watch makes of each record, which costs less than the states around them.
    pub fn watched<W: Watch + 'a>(
        self,
        watch: W,
    ) -> impl Iterator<Item = Result<W::Made>> + use<'a, W> {
        self.0.watched(watch).map(|made| Ok(made?))
    }
}

/// The entries of a [`History`].
#[derive(Debug)]
pub struct Entries<'a>(momentlog_engine::Entries<'a>);

impl Entries<'_> {
    /// The state after the entry that was given out last.
    pub fn view(&self) -> &View {
        self.0.view()
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        Some(self.0.next()?.map_err(Error::from))
    }
}

impl Iterator for History<'_> {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Result<Step>> {
        Some(self.0.next()?.map_err(Error::from))
    }
}

/// The steps of one domain, see [`Connection::history_of`], or a few steps, see [`Connection::steps`].
#[derive(Debug)]
pub struct DomainHistory<'a>(pub(super) momentlog_engine::DomainHistory<'a>);

impl<'a> DomainHistory<'a> {
    /// Returns what a watch makes of each record, which costs less than the states around them.
    pub fn watched<W: Watch + 'a>(
        self,
        watch: W,
    ) -> impl Iterator<Item = Result<W::Made>> + use<'a, W> {
        self.0.watched(watch).map(|made| Ok(made?))
    }
}

impl Iterator for DomainHistory<'_> {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Result<Step>> {
        Some(self.0.next()?.map_err(Error::from))
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
