//! Points of a log, at which questions are asked.

use momentlog_store::{Receipt, Seq};

/// A point of the log, at which a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Right after this record; after the last one, if the log ends before it.
    Seq(Seq),
    /// Right after the last record that was recorded at this time or before it, in microseconds since 1970.
    Time(i64),
    /// Right after the record of a receipt, which must be the one that the log has there.
    Receipt(Receipt),
    /// The end of the log.
    Now,
}
