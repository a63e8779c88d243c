//! Snapshot or checkpoint.

use std::fmt;

/// Snapshot or checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MomentKind {
    /// A point to roll back to.
    Snapshot,
    /// A point to make incremental backups from.
    Checkpoint,
}

impl MomentKind {
    /// The word, `snapshot` or `checkpoint`.
    pub fn as_str(self) -> &'static str {
        match self {
            MomentKind::Snapshot => "snapshot",
            MomentKind::Checkpoint => "checkpoint",
        }
    }

    /// The other kind.
    pub(crate) fn other(self) -> MomentKind {
        match self {
            MomentKind::Snapshot => MomentKind::Checkpoint,
            MomentKind::Checkpoint => MomentKind::Snapshot,
        }
    }
}

impl fmt::Display for MomentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
