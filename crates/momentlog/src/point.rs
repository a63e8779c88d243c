//! A connection that answers as of a point of the log.

use std::sync::Arc;

use momentlog_engine::{Point, View};
use momentlog_store::Head;

use crate::connection::Connection;
use crate::error::{Error, ErrorCode, ErrorDomain, Result};

impl Connection {
    /// Returns the record after which a point lies.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArg`] if the point lies before the first record, or is a receipt of another log or another
    /// record; [`ErrorCode::SystemError`] if there is no store, or it cannot be read: [`Error::store`] is `Archived` if what
    /// was there then is in an archive.
    pub fn locate(&self, point: &Point) -> Result<Head> {
        self.view_of(point)?.head().ok_or_else(before_the_first)
    }

    /// Returns a connection for reading only that answers as of a point: it and every handle that comes from it find, list
    /// and show what was there then, and the history ends there. No hypervisor is asked.
    ///
    /// # Errors
    ///
    /// As [`locate`](Self::locate).
    pub fn at(&self, point: &Point) -> Result<Connection> {
        let view = self.view_of(point)?;
        if view.head().is_none() {
            return Err(before_the_first());
        }
        Ok(self.as_of(view))
    }

    fn view_of(&self, point: &Point) -> Result<Arc<View>> {
        let newest = self.read()?;
        Ok(match point {
            Point::Now => newest,
            Point::Seq(seq) if newest.head().is_some_and(|head| head.seq <= *seq) => newest,
            Point::Seq(seq) => Arc::new(self.view_at(*seq)?),
            Point::Time(time) => {
                let view = self.view_as_of(*time)?;
                // A connection that is at a point knows nothing behind it.
                if view.head().map(|head| head.seq) > newest.head().map(|head| head.seq) {
                    newest
                } else {
                    Arc::new(view)
                }
            }
            Point::Receipt(receipt) => {
                let view = self.view_of(&Point::Seq(receipt.head.seq))?;
                if self.log_id() != Some(receipt.log) {
                    return Err(refused("the receipt is of another log"));
                }
                if view.head() != Some(receipt.head) {
                    let seq = receipt.head.seq;
                    return Err(refused(format!(
                        "record {seq} here is not the receipt's: verify tells more"
                    )));
                }
                view
            }
        })
    }
}

fn before_the_first() -> Error {
    refused("the log has no record as old as that")
}

fn refused(detail: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidArg, ErrorDomain::None, detail.into())
}
