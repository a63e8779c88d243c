//! Why the engine refuses, in its own words: it knows no libvirt.

use std::io;
use std::sync::Arc;

use momentlog_core::{Misfit, Refusal};
use momentlog_store::{Seq, StoreError};

use crate::environment::Revision;
use crate::image::ImageError;
use crate::ledger::ReplayError;

/// Why a command, a read or a maintenance job failed.
///
/// Nothing changed, unless it is [`StoreError::Unknown`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A rule of the domain, its moments or the store refuses the command.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Provenance that cannot be recorded, or that does not fit the command.
    #[error(transparent)]
    Provenance(#[from] BadProvenance),
    /// A request id that stands for another command.
    #[error("request id '{id}' was used for another command, in record {seq}")]
    RequestReused {
        /// The id.
        id: Arc<str>,
        /// The record that it stands for.
        seq: Seq,
    },
    /// The domain has not the revision that the command expects.
    #[error("the domain has revision {found}, not {expected}")]
    Stale {
        /// The revision that the command expects.
        expected: Revision,
        /// The revision that the domain has.
        found: Revision,
    },
    /// A write failed before this command, so that what it was decided on may not be recorded.
    #[error("an earlier write failed: reopen the store to settle what was written")]
    EarlierWrite,
    /// The log has nothing to save or to move.
    #[error("the log has {0}")]
    Nothing(&'static str),
    /// The records before `start` are archived, and no image holds what they made.
    #[error("records up to {start} were moved to an archive, and no image tells what they made")]
    NoImage {
        /// The last record that was moved.
        start: Seq,
    },
    /// A record that this process has read is not in the log any more.
    #[error("the log does not have record {0} any more")]
    Lost(Seq),
    /// What the store says.
    #[error("{0}")]
    Store(#[source] Arc<StoreError>),
    /// A record of a sound chain that makes no sense to this version.
    #[error("{0}: {why}", why = .0.why)]
    Replay(#[from] ReplayError),
    /// A bug: what was decided does not fit the state. Nothing was written.
    #[error("a decided event does not fit: {0}")]
    Misfit(#[from] Misfit),
    /// A bug: the log and the memory of this process disagree. Nothing was moved.
    #[error("the log does not give the state that is in memory")]
    Differs,
    /// A bug: an image that was made cannot be read back. Nothing was moved.
    #[error("the image of the log cannot be read back: {0}")]
    Image(#[from] ImageError),
    /// What the operating system does not give.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the operating system says.
        source: Arc<io::Error>,
    },
}

/// Why provenance is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadProvenance {
    /// An actor, an agent or a request id without a character.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// An actor, an agent or a request id that is too long.
    #[error("the {what} has more than {max} bytes")]
    TooLong {
        /// Which of them.
        what: &'static str,
        /// The most that it may have, in bytes.
        max: usize,
    },
    /// A request id of several commands.
    #[error("a request id stands for one command, not for a batch")]
    Batch,
    /// A revision that is expected of the store's settings.
    #[error("the store's settings have no revision")]
    NoRevision,
    /// A record to be undone that is not in the log.
    #[error("record {0}, which is to be undone, is not in the log")]
    Undoes(Seq),
    /// An archiving with what only a command has.
    #[error("archiving takes no request id and no revision, and undoes nothing")]
    Archiving,
}

impl EngineError {
    /// What the store said, if that is the reason.
    pub fn store(&self) -> Option<&StoreError> {
        match self {
            EngineError::Store(error) => Some(error),
            _ => None,
        }
    }

    pub(crate) fn is_archived(&self) -> bool {
        matches!(self.store(), Some(StoreError::Archived { .. }))
    }

    /// Whether there is no store yet.
    pub fn is_missing(&self) -> bool {
        matches!(self.store(), Some(StoreError::Missing { .. }))
    }

    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self.store(), Some(StoreError::Conflict { .. }))
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> EngineError {
        EngineError::Store(Arc::new(error))
    }
}

/// Threads that shared a write share its failure.
impl From<Arc<StoreError>> for EngineError {
    fn from(error: Arc<StoreError>) -> EngineError {
        EngineError::Store(error)
    }
}
