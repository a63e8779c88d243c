//! Why the log refused or failed.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::{FrameError, Head, LogId, Seq};

/// Where a store is, or a part of it: a path of files, or any other place, such as a table of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Where(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Path(PathBuf),
    Other(Box<str>),
}

impl Where {
    /// A place that is no path, in the words that errors show.
    pub fn other(place: impl Into<Box<str>>) -> Where {
        Where(Place::Other(place.into()))
    }

    /// The path; `None` of another place.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Path(path) => Some(path),
            Place::Other(_) => None,
        }
    }
}

impl From<PathBuf> for Where {
    fn from(path: PathBuf) -> Where {
        Where(Place::Path(path))
    }
}

impl From<&Path> for Where {
    fn from(path: &Path) -> Where {
        Where(Place::Path(path.into()))
    }
}

impl PartialEq<PathBuf> for Where {
    fn eq(&self, path: &PathBuf) -> bool {
        self.path() == Some(path)
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Path(path) => path.display().fmt(f),
            Place::Other(place) => f.write_str(place),
        }
    }
}

/// Why the store refused or failed. What the caller can do next tells the variants apart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no store; reading never makes one.
    #[error("there is no store at {}", .path)]
    Missing {
        /// The directory.
        path: Where,
    },
    /// There is no archive where one was named.
    #[error("there is no archive at {}", .path)]
    NoArchive {
        /// The directory.
        path: Where,
    },
    /// The directory holds an archive, which is read and never written.
    #[error("{} is an archive: it can be read, and nothing is written to it", .path)]
    IsArchive {
        /// The directory.
        path: Where,
    },
    /// The directory holds something else than a store.
    #[error("{} holds files, but no store", .path)]
    NotAStore {
        /// The directory.
        path: Where,
    },
    /// The file system refused.
    #[error("cannot {doing} {}", .path)]
    Io {
        /// What was tried: `open`, `read`, ….
        doing: &'static str,
        /// The file or directory.
        path: Where,
        /// What it said; an [`Unsafe`](crate::Unsafe) inside says why a file cannot be trusted.
        source: io::Error,
    },
    /// What is below a store of another kind refused: a database, a server. Nothing was written.
    #[error("cannot {doing} {place}")]
    Backend {
        /// What was tried: `connect to`, `read`, ….
        doing: &'static str,
        /// The place.
        place: Where,
        /// What it said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The records that were asked for were moved to an archive: begin from an image, or join the archive.
    #[error("{}: records up to {} were moved to an archive", .path, .start.seq)]
    Archived {
        /// The directory.
        path: Where,
        /// The last record that was moved away.
        start: Head,
    },
    /// Another store, or another state of this one, stands where this handle has read or written: a copy was put back,
    /// or the files were overwritten. What this handle appended last may be in neither. It refuses everything from then
    /// on; open the store again.
    #[error(
        "{} was replaced while it was open: {}, and {}; open it again",
        .path, Had(.had), Stands(.found)
    )]
    Replaced {
        /// The directory.
        path: Where,
        /// What this handle had read or written last.
        had: Option<Head>,
        /// What `head` says now; `None` if it says nothing.
        found: Option<Head>,
    },
    /// Another record stands where the caller has read one: the log was put back, and went on in another way.
    #[error("the log was forked: record {at} is another one than the one that was read")]
    Forked {
        /// The first record that is known to be another one.
        at: Seq,
    },
    /// The log ends before a record that the caller has read: an earlier state of it was put back.
    #[error(
        "the log was truncated: record {} was read, and {}", .had.seq, Ends(.end)
    )]
    Truncated {
        /// What the caller has read.
        had: Head,
        /// Where the log ends.
        end: Option<Head>,
    },
    /// The store gave out a record that is not what was appended. Nothing is decided on it.
    #[error("the store's record {seq} is not what was appended: {why}")]
    Untrue {
        /// The record.
        seq: Seq,
        /// What is wrong.
        why: Damage,
    },
    /// The caller has read enough: what the caller of [`Store::read`](crate::Store::read) returns to end it.
    #[error("the reader has stopped")]
    Stopped,
    /// This kind of store has no images, or no archive.
    #[error("this store cannot {doing}")]
    Unsupported {
        /// What was asked.
        doing: &'static str,
    },
    /// Another writer holds the lock. Nothing was written: try later.
    #[error("{} is being written by process {pid} on {host}", .path)]
    Locked {
        /// The directory.
        path: Where,
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
    #[error("cannot {doing} {}: the record may or may not have been written", .path)]
    Unknown {
        /// `write` or `sync`.
        doing: &'static str,
        /// The segment.
        path: Where,
        /// What the file system, or what else is below, said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// An earlier append ended in [`StoreError::Unknown`]. Nothing was written: reopen the store.
    #[error("an earlier write to {} failed: reopen the store to settle what was written", .path)]
    Poisoned {
        /// The directory.
        path: Where,
    },
    /// The log is from a newer version. Nothing was changed.
    #[error("{} has format {found}, and this version knows up to {max}", .path, max = crate::FORMAT_VERSION)]
    NewerFormat {
        /// The file.
        path: Where,
        /// Its format.
        found: u32,
    },
    /// The log is damaged. What comes before can be read; nothing is written past it.
    #[error("{} is damaged at offset {offset}, where record {seq} should be: {why}", .path)]
    Damaged {
        /// The segment.
        path: Where,
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
    /// The digest is not that of what the record holds.
    #[error("its digest is not that of what it holds")]
    Digest,
    /// A segment, or a record, of another log.
    #[error("it belongs to log {found}")]
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
    /// A segment is longer than any segment can be.
    #[error("the segment has {length} bytes, and can have at most {most}")]
    Oversized {
        /// Its length.
        length: u64,
        /// The most it can have.
        most: u64,
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
            StoreError::Unknown { .. } | StoreError::Replaced { .. } => Written::Unknown,
            _ => Written::No,
        }
    }

    /// The store, or the part of it, that this is about; `None` if it is about none.
    pub fn place(&self) -> Option<&Where> {
        match self {
            StoreError::Missing { path }
            | StoreError::NoArchive { path }
            | StoreError::IsArchive { path }
            | StoreError::NotAStore { path }
            | StoreError::Io { path, .. }
            | StoreError::Backend { place: path, .. }
            | StoreError::Archived { path, .. }
            | StoreError::Replaced { path, .. }
            | StoreError::Locked { path, .. }
            | StoreError::Unknown { path, .. }
            | StoreError::Poisoned { path }
            | StoreError::NewerFormat { path, .. }
            | StoreError::Damaged { path, .. } => Some(path),
            StoreError::Forked { .. }
            | StoreError::Truncated { .. }
            | StoreError::Untrue { .. }
            | StoreError::Stopped
            | StoreError::Unsupported { .. }
            | StoreError::Conflict { .. }
            | StoreError::TooLarge { .. } => None,
        }
    }

    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.into();
        move |source| StoreError::Io {
            doing,
            path: path.into(),
            source,
        }
    }
}

/// Says what a handle has read or written last.
struct Had<'a>(&'a Option<Head>);

impl fmt::Display for Had<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(head) => write!(f, "this handle had record {} ({})", head.seq, head.digest),
            None => f.write_str("this handle had no record"),
        }
    }
}

/// Says what a store is known to hold now.
struct Stands<'a>(&'a Option<Head>);

impl fmt::Display for Stands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(head) => write!(f, "now the log has record {} ({})", head.seq, head.digest),
            None => f.write_str("now nothing says which record the log has"),
        }
    }
}

/// Says where a log ends.
struct Ends<'a>(&'a Option<Head>);

impl fmt::Display for Ends<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(head) => write!(f, "the log ends with record {}", head.seq),
            None => f.write_str("the log has no record"),
        }
    }
}
