//! A connection that answers as of a point of the log.

use std::sync::Arc;

use momentlog_core::Domain;
use momentlog_engine::Point;
use momentlog_store::{Head, Receipt, Seq};

use crate::connection::Connection;
use crate::error::{Error, ErrorCode, ErrorDomain, Result};

impl Connection {
    /// Returns the record after which a point lies. Nothing is replayed: a time is bisected, and a record found by its seq.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArg`] if the point lies before the first record, or is a receipt of another log or another
    /// record; [`ErrorCode::SystemError`] if there is no store, or it cannot be read: [`Error::store`] is `Archived` if what
    /// was there then is in an archive.
    pub fn locate(&self, point: &Point) -> Result<Head> {
        let newest = self.read()?.head();
        let found = match point {
            Point::Now => newest,
            Point::Seq(seq) => self.head_at(*seq, newest)?,
            Point::Time(time) => self.log.locate(*time)?,
            Point::Receipt(receipt) => {
                let found = self.head_at(receipt.head.seq, newest)?;
                self.is_of(receipt, found)?;
                found
            }
        };
        // A connection that is at a point knows nothing behind it.
        let is_known = |found: &Head| newest.is_some_and(|newest| found.seq <= newest.seq);
        found
            .filter(is_known)
            .or(found.and(newest))
            .ok_or_else(before_the_first)
    }

    /// The record `seq`, or the newest one if the log ends before it.
    fn head_at(&self, seq: Seq, newest: Option<Head>) -> Result<Option<Head>> {
        if newest.is_some_and(|newest| newest.seq <= seq) {
            return Ok(newest);
        }
        Ok(self.log.head_at(seq)?)
    }

    /// Refuses a receipt that is not of the record that was found.
    fn is_of(&self, receipt: &Receipt, found: Option<Head>) -> Result<()> {
        if self.log_id() != Some(receipt.log) {
            return Err(refused("the receipt is of another log"));
        }
        if found != Some(receipt.head) {
            let seq = receipt.head.seq;
            return Err(refused(format!(
                "record {seq} here is not the receipt's: verify tells more"
            )));
        }
        Ok(())
    }

    /// Returns a connection for reading only that answers as of a point: it and every handle that comes from it find, list
    /// and show what was there then, and the history ends there. No hypervisor is asked.
    ///
    /// # Errors
    ///
    /// As [`locate`](Self::locate).
    pub fn at(&self, point: &Point) -> Result<Connection> {
        let head = self.locate(point)?;
        let newest = self.read()?;
        let view = if newest.head() == Some(head) {
            newest
        } else {
            Arc::new(self.view_at(head.seq)?)
        };
        Ok(self.as_of(view))
    }

    /// As [`at`](Self::at), for questions about one domain alone, by its name or uuid: others may be left out, so that their
    /// records are not replayed.
    ///
    /// # Errors
    ///
    /// As [`at`](Self::at).
    pub fn at_for(&self, point: &Point, domain: &str) -> Result<Connection> {
        // A text of digits may be the id of any domain.
        if domain.parse::<u32>().is_err() {
            let head = self.locate(point)?;
            let newest = self.read()?;
            // A name is that of one domain at a time, and mostly of the one that has it now.
            let known = newest.state().domain_by_name(domain).map(Domain::uuid);
            let named = domain.parse().ok().filter(|_| domain.len() == 36);
            if newest.head() != Some(head)
                && let Some(uuid) = named.or(known)
            {
                let view = self.view_of_domain(uuid, head.seq)?;
                let found = view.state().domain(uuid);
                if found.is_some_and(|found| named.is_some() || &**found.name() == domain) {
                    return Ok(self.as_of(Arc::new(view)));
                }
            }
        }
        self.at(point)
    }
}

fn before_the_first() -> Error {
    refused("the log has no record as old as that")
}

fn refused(detail: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidArg, ErrorDomain::None, detail.into())
}
