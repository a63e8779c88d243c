//! A domain with its moments, as a program lists them that changes them without asking the log.

use std::sync::Arc;

use crate::{CheckpointDef, DomainDef, MomentName, Power, SnapshotDef};

/// A domain as another program lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSeen {
    /// The definition in force: that of the running guest, or else the persistent one.
    pub def: Arc<DomainDef>,
    /// The definition of the next start, if the domain is active and persistent.
    pub next_def: Option<Arc<DomainDef>>,
    /// Whether the domain outlives its guest.
    pub persistent: bool,
    /// Whether it starts with its host.
    pub autostart: bool,
    /// The run state. Its number is not compared.
    pub power: Power,
    /// The snapshots.
    pub snapshots: MomentsSeen<SnapshotDef>,
    /// The checkpoints.
    pub checkpoints: MomentsSeen<CheckpointDef>,
}

/// All moments of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MomentsSeen<D> {
    /// The moments, in any order, each name once.
    pub moments: Vec<MomentSeen<D>>,
    /// Which one is current.
    pub current: CurrentSeen,
}

/// A moment as another program lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MomentSeen<D> {
    /// Its name.
    pub name: MomentName,
    /// Its parent; none for a root. One that is not listed is taken for none.
    pub parent: Option<MomentName>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its definition.
    pub def: Arc<D>,
}

/// What is seen of which moment is current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CurrentSeen {
    /// The other program does not say. A new moment is current if its parent was, or if none was; if the current one is gone,
    /// its parent is.
    Unseen,
    /// This one, or none.
    Is(Option<MomentName>),
}

impl<D> Default for MomentsSeen<D> {
    fn default() -> MomentsSeen<D> {
        MomentsSeen {
            moments: Vec::new(),
            current: CurrentSeen::Unseen,
        }
    }
}
