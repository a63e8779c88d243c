//! What a caller asks for.

use std::sync::Arc;

use crate::CheckpointDef;
use crate::{
    CheckpointDisk, DomainDef, DomainUuid, Hold, HoldTag, Memory, MomentId, MomentKind, MomentName,
    Policy, SnapshotDef, SnapshotDisk,
};

/// A wish about one domain. [`State::decide`](crate::State::decide) says what would come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The domain.
    pub domain: DomainUuid,
    /// What to do.
    pub action: Action,
}

/// What to do with a domain or its moments. Times and names that the caller's clock decides are already read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Define the domain persistently, or replace its definition. Follows `virDomainDefineXML`.
    Define(Arc<DomainDef>),
    /// Replace the definition of a guest that is active, and leave that of the next start as it is. It is for what a guest
    /// does not see. Follows `virDomainSetMetadata`.
    DefineLive(Arc<DomainDef>),
    /// Start the domain with this definition, transiently unless it is persistent already. Follows `virDomainCreateXML`.
    CreateLive(Arc<DomainDef>),
    /// Change the run state.
    ChangeState(StateChange),
    /// Forget the persistent definition. Follows `virDomainUndefineFlags`.
    Undefine {
        /// Whether the snapshots of an inactive domain may go with it.
        with_snapshots: bool,
    },
    /// Be found under another name, that of this definition, which is otherwise the one of the domain. Follows
    /// `virDomainRename`.
    Rename(Arc<DomainDef>),
    /// Start with the host, or do not. Follows `virDomainSetAutostart`.
    SetAutostart(bool),
    /// Follow other rules from now on.
    SetPolicy(Policy),
    /// Make a snapshot below the current one. Follows `virDomainSnapshotCreateXML`.
    CreateSnapshot(CreateSnapshot),
    /// Put a snapshot's record back, or change it. Follows `virDomainSnapshotCreateXML` with REDEFINE.
    RedefineSnapshot(Redefine<SnapshotDef>),
    /// Make a checkpoint below the current one. Follows `virDomainCheckpointCreateXML`.
    CreateCheckpoint(CreateCheckpoint),
    /// Put a checkpoint's record back, or change it. Follows `virDomainCheckpointCreateXML` with REDEFINE.
    RedefineCheckpoint(Redefine<CheckpointDef>),
    /// Delete a moment or what hangs below it. Follows `virDomainSnapshotDelete` and `virDomainCheckpointDelete`.
    Delete {
        /// Which list.
        kind: MomentKind,
        /// The moment.
        name: MomentName,
        /// How much of the tree.
        extent: Extent,
    },
    /// Hang a moment, with what is below it, elsewhere.
    Reparent {
        /// Which list.
        kind: MomentKind,
        /// The moment.
        name: MomentName,
        /// Its new parent; none makes it a root.
        parent: Option<MomentName>,
    },
    /// Make a moment current, or none.
    SetCurrent {
        /// Which list.
        kind: MomentKind,
        /// The moment.
        name: Option<MomentName>,
    },
    /// Put back moments that were deleted. The rules of the domain are asked of the result.
    ///
    /// It names moments that are there by their ids. Who makes it of a deletion must know which moment of then is which of
    /// now: a moment that was deleted and put back has another id. If the record that made it says that it takes back the
    /// record that deleted the other, and it has that one's name or is the only one of its kind on both sides, it is the same
    /// moment, and so on from one return to the next. It is treated as if it had never been away, wherever it was moved since.
    Undelete(Box<Undelete>),
    /// Hold a moment: until it is released, it is neither deleted, nor redefined, nor hung elsewhere as asked.
    Hold {
        /// Which list.
        kind: MomentKind,
        /// The moment.
        name: MomentName,
        /// The tag, one of its own among the holds of the moment.
        tag: HoldTag,
        /// Who holds it, and since when.
        hold: Hold,
    },
    /// Release a hold.
    Release {
        /// Which list.
        kind: MomentKind,
        /// The moment.
        name: MomentName,
        /// The tag of the hold.
        tag: HoldTag,
    },
    /// Go back to a snapshot. Follows `virDomainRevertToSnapshot`.
    Revert {
        /// The snapshot.
        name: MomentName,
        /// The run state wanted afterwards; none takes the snapshot's.
        resume: Option<Resume>,
    },
}

/// A change of run state, as the driver's calls name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// `virDomainCreate`.
    Start,
    /// `virDomainShutdown`.
    Shutdown,
    /// `virDomainDestroy`.
    Destroy,
    /// `virDomainSuspend`.
    Suspend,
    /// `virDomainResume`.
    Resume,
    /// `virDomainReboot`, with whether the guest ends in place of that.
    Reboot {
        /// Whether the definition says that it ends.
        ends: bool,
    },
    /// `virDomainReset`.
    Reset,
}

/// The run state that a revert is asked to end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Running.
    Running,
    /// Paused.
    Paused,
}

/// A snapshot to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateSnapshot {
    /// The name; none takes the second of `now`.
    pub name: Option<MomentName>,
    /// Free text for people.
    pub description: Option<Arc<str>>,
    /// The time, in seconds since 1970.
    pub now: i64,
    /// Where to keep the memory. Only an external file is a wish; the rest follows from the run state.
    pub memory: Option<Memory>,
    /// Wishes for disks.
    pub disks: Vec<SnapshotDisk>,
    /// What else its XML held, see [`SnapshotDef::extra`](crate::SnapshotDef::extra).
    pub extra: Option<Arc<str>>,
    /// Whether to keep the disks alone, in overlays; the memory of an active guest is left out then.
    pub disk_only: bool,
    /// Whether to shut the guest off afterwards.
    pub halt: bool,
}

/// A checkpoint to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateCheckpoint {
    /// The name; none takes the second of `now`.
    pub name: Option<MomentName>,
    /// Free text for people.
    pub description: Option<Arc<str>>,
    /// The time, in seconds since 1970.
    pub now: i64,
    /// Wishes for disks.
    pub disks: Vec<CheckpointDisk>,
}

/// A moment's record to be put back or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redefine<D> {
    /// The name.
    pub name: MomentName,
    /// The parent; none makes it a root.
    pub parent: Option<MomentName>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The definition, with disks as they were given.
    pub def: D,
    /// Whether to make it current. Checkpoints ignore it: there the rule decides.
    pub current: bool,
}

/// Moments to be put back: of each kind, parents before children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undelete {
    /// The snapshots.
    pub snapshots: Vec<Undeleted<SnapshotDef>>,
    /// The checkpoints.
    pub checkpoints: Vec<Undeleted<CheckpointDef>>,
}

/// A moment to be put back, under an id of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeleted<D> {
    /// The name, which no other moment has.
    pub name: MomentName,
    /// Where it hangs.
    pub parent: Above,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The definition.
    pub def: Arc<D>,
    /// Moments that are there and hang below it from then on.
    pub children: Vec<MomentId>,
    /// Whether it is current from then on.
    pub current: bool,
}

/// What a moment that is put back hangs below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Above {
    /// Nothing: it is a root.
    Nothing,
    /// A moment that is there.
    Moment(MomentId),
    /// The moment at this place of the same list, before its own.
    Undeleted(usize),
}

/// How much of the tree a delete takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The moment; its children move to its parent.
    One,
    /// The moment and everything below it.
    Subtree,
    /// Everything below the moment.
    ChildrenOnly,
}
