//! The log that is written, opened again where what was open cannot be written any more.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use momentlog::store::StoreError;
use momentlog::{Connection, Result};

/// Opens the log.
type Open = Box<dyn Fn() -> Result<Connection> + Send + Sync>;

/// Writes the log.
pub(super) struct Writer {
    open: Open,
    connection: Mutex<Connection>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Opens the log.
    pub(super) fn new(open: Open) -> Result<Writer> {
        let connection = Mutex::new(open()?);
        Ok(Writer { open, connection })
    }

    /// The connection that is open now.
    pub(super) fn connection(&self) -> Connection {
        self.lock().clone()
    }

    /// Writes. A connection that nothing can be written to any more, as the disk was full or the store gone, is opened again
    /// first.
    pub(super) fn write<T>(&self, write: impl Fn(&Connection) -> Result<T>) -> Result<T> {
        let written = write(&self.connection());
        let Err(error) = &written else {
            return written;
        };
        match error.store() {
            Some(StoreError::Replaced { .. } | StoreError::Poisoned { .. }) if self.reopen() => {
                return write(&self.connection());
            }
            Some(StoreError::Unknown { .. } | StoreError::Io { .. }) => {
                self.reopen();
            }
            _ => {}
        }
        written
    }

    /// Opens the log again, if it is there and the same.
    fn reopen(&self) -> bool {
        let mut connection = self.lock();
        let opened = (self.open)().and_then(|opened| {
            opened.refresh()?;
            Ok(opened)
        });
        let Ok(opened) = opened else {
            return false;
        };
        let known = connection.log_id();
        let is_same = known.is_none() || opened.log_id() == known;
        if is_same {
            connection.release();
            *connection = opened;
        }
        is_same
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
