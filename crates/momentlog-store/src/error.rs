//! Why the log refused or failed.

use std::io;
use std::path::PathBuf;

use crate::{FrameError, Head, LogId, Seq};

/// Why the store refused or failed. What the caller can do next tells the variants apart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no store; reading never makes one.
    #[error("there is no store at {}", .path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds something else than a store.
    #[error("{} holds files, but no store", .path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was tried: `open`, `read`, ….
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What it said; an [`Unsafe`](crate::Unsafe) inside says why a file cannot be trusted.
        source: io::Error,
    },
    /// The records that were asked for were moved to an archive: begin from an image, or join the archive.
    #[error("{}: records up to {} were moved to an archive", .path.display(), .start.seq)]
    Archived {
        /// The directory.
        path: PathBuf,
        /// The last record that was moved away.
        start: Head,
    },
    /// This kind of store has no images, or no archive.
    #[error("this store cannot {doing}")]
    Unsupported {
        /// What was asked.
        doing: &'static str,
    },
    /// Somebody else writes. Nothing was written: try later.
    #[error("{} is being written by process {pid} on {host}", .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The holder's process, as it said itself.
        pid: String,
        /// The holder's machine.
        host: String,
    },
    /// Another writer appended first. Nothing was written: read on, decide again, retry.
    #[error("the log ends at {found:?}, not at {expected:?}")]
    Conflict {
        /// Where the caller took the end to be.
        expected: Option<Head>,
        /// Where it is.
        found: Option<Head>,
    },
    /// The record is longer than a frame can be. Nothing was written.
    #[error("the record needs {length} bytes, and a record has at most {max}", max = crate::FRAME_LEN_MAX)]
    TooLarge {
        /// Bytes of its frame.
        length: usize,
    },
    /// The bytes may or may not survive. This handle writes no more; reopening settles it.
    #[error("cannot {doing} {}: the record may or may not have been written", .path.display())]
    Unknown {
        /// `write` or `sync`.
        doing: &'static str,
        /// The segment.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// An earlier append ended in [`StoreError::Unknown`]. Nothing was written: reopen the store.
    #[error("an earlier write to {} failed: reopen the store to settle what was written", .path.display())]
    Poisoned {
        /// The directory.
        path: PathBuf,
    },
    /// The log is from a newer version. Nothing was changed.
    #[error("{} has format {found}, and this version knows up to {max}", .path.display(), max = crate::FORMAT_VERSION)]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The log is damaged. What comes before can be read; nothing is written past it.
    #[error("{} is damaged at offset {offset}, where record {seq} should be: {why}", .path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The record that should be there.
        seq: Seq,
        /// What is wrong.
        why: Damage,
    },
}

/// What is wrong with a damaged log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The bytes are not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame stands out of order.
    #[error("the frame there is that of record {found}")]
    Order {
        /// Its seq.
        found: Seq,
    },
    /// A frame does not continue the chain.
    #[error("the record there does not continue the chain of digests")]
    Chain,
    /// The file `start`, which says what was archived, is not what was written.
    #[error("the file that says where the log begins is not what was written")]
    Start,
    /// A segment of another log.
    #[error("the segment belongs to log {found}")]
    OtherLog {
        /// That log.
        found: LogId,
    },
    /// The log ends before what `head` says was durable.
    #[error("the log ends here, and `head` says that record {head} was durable")]
    Truncated {
        /// What `head` says.
        head: Seq,
    },
    /// A whole segment is missing.
    #[error("the segment is missing, and one that begins with record {next} follows")]
    Gap {
        /// The first record of the next segment.
        next: Seq,
    },
    /// Bytes that are not zero follow the last frame of a segment that another follows.
    #[error("bytes that belong to no record follow the last one of the segment")]
    Trailing,
}

/// What a failed append leaves behind. That it succeeded is the third answer: then it is written, and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing was written, now or later.
    No,
    /// It may or may not be there when the store is opened again.
    Unknown,
}

impl StoreError {
    /// Whether the append that failed with this may have written something.
    pub fn written(&self) -> Written {
        match self {
            StoreError::Unknown { .. } => Written::Unknown,
            _ => Written::No,
        }
    }

    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.into();
        move |source| StoreError::Io {
            doing,
            path,
            source,
        }
    }
}
