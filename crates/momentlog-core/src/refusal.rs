//! Why a command was not accepted. The texts are libvirt's details, without its prefixes.

use std::sync::Arc;

use crate::hold::Day;
use crate::{
    BackupRefused, DomainUuid, HoldTag, JobId, JobLength, MomentKind, MomentName, ParentRefused,
    PolicyBreach, SourceKind,
};

/// Why a command was not accepted; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such domain.
    #[error("no domain with matching uuid '{uuid}'")]
    NoDomain {
        /// The uuid that was asked for.
        uuid: DomainUuid,
    },
    /// There is no such moment.
    #[error("no domain {kind} with matching name '{name}'")]
    NoMoment {
        /// Which list.
        kind: MomentKind,
        /// The name that was asked for.
        name: MomentName,
    },
    /// The change takes more steps than the store's events so far leave; see [`Budget`](crate::Budget).
    #[error(
        "changing moment '{moment}' takes more than the {left} steps that this store has left for deep or wide changes"
    )]
    OverBudget {
        /// The moment.
        moment: MomentName,
        /// The steps left.
        left: u64,
    },
    /// The state is that of some domains, folded from their own events: nothing is decided on it.
    #[error("the state is of some domains alone, and commands are decided on that of the store")]
    Partial,
    /// Another domain has the name.
    #[error("domain '{name}' already exists with uuid {uuid}")]
    DomainNameTaken {
        /// The name.
        name: Arc<str>,
        /// The uuid of the domain that has it.
        uuid: DomainUuid,
    },
    /// The domain has another name.
    #[error("domain '{name}' is already defined with uuid {uuid}")]
    DomainRenamed {
        /// The name that it has.
        name: Arc<str>,
        /// Its uuid.
        uuid: DomainUuid,
    },
    /// A running domain was to have another name.
    #[error("cannot rename active domain")]
    RenameActive,
    /// A domain was to have the name that it has.
    #[error("Can't rename domain to itself")]
    RenameToItself,
    /// A domain was to have another one's name.
    #[error("domain with name '{name}' already exists")]
    RenameTaken {
        /// The name.
        name: Arc<str>,
    },
    /// The definition's uuid is not the domain's that the command is about.
    #[error("the definition has uuid {found}, not {expected}")]
    DefinitionUuid {
        /// The domain's.
        expected: DomainUuid,
        /// The definition's.
        found: DomainUuid,
    },
    /// A running domain was to be created.
    #[error("domain '{name}' is already active")]
    AlreadyActive {
        /// The domain.
        name: Arc<str>,
    },
    /// A transient domain that a revert has shut off was to be created; it is still there.
    #[error("domain '{name}' is already being started")]
    BeingStarted {
        /// The domain.
        name: Arc<str>,
    },
    /// A running domain was to be started.
    #[error("Domain '{name}' is already running")]
    AlreadyRunning {
        /// The domain.
        name: Arc<str>,
    },
    /// The domain is not running, for a shutdown or suspend.
    #[error("domain '{name}' not running")]
    NotRunning {
        /// The domain.
        name: Arc<str>,
    },
    /// The domain is not paused, for a resume.
    #[error("domain '{name}' not paused")]
    NotPaused {
        /// The domain.
        name: Arc<str>,
    },
    /// The call needs an active domain.
    #[error("domain is not running")]
    Inactive,
    /// An inactive domain with snapshots was to be undefined without them.
    #[error("cannot delete inactive domain with {count} snapshots")]
    HasSnapshots {
        /// How many.
        count: usize,
    },
    /// The policy is exclusive and there are moments of the other kind.
    #[error("cannot create {kind} while {} exists", .kind.other())]
    Excluded {
        /// The kind that was to be created.
        kind: MomentKind,
    },
    /// The policy wants an active domain for checkpoints.
    #[error("cannot create checkpoint for inactive domain")]
    CheckpointInactive,
    /// A snapshot of a transient domain was to halt it.
    #[error("cannot halt after transient domain snapshot")]
    HaltTransient,
    /// The name is not one that a checkpoint may have.
    #[error("'{name}' is not a name for a checkpoint: [a-zA-Z0-9_-][a-zA-Z0-9_.-]*")]
    CheckpointName {
        /// The name.
        name: MomentName,
    },
    /// The name is in use.
    #[error("domain moment {name} already exists")]
    NameTaken {
        /// The name.
        name: MomentName,
    },
    /// The moment cannot hang there.
    #[error(transparent)]
    Parent(#[from] ParentRefused),
    /// The policy wants a chain, and this would fork it.
    #[error(
        "checkpoint {name} would fork the chain: its parent must be the current checkpoint {current}, until `policy {domain} chain=off`"
    )]
    Fork {
        /// The domain.
        domain: Arc<str>,
        /// The checkpoint.
        name: MomentName,
        /// The leaf of the chain.
        current: MomentName,
    },
    /// The policy wants the leaf of the chain to be current.
    #[error(
        "checkpoint {current} is the leaf of the chain and stays current, until `policy {domain} chain=off`"
    )]
    LeafIsCurrent {
        /// The domain.
        domain: Arc<str>,
        /// The leaf.
        current: MomentName,
    },
    /// The definition embeds another domain.
    #[error("definition for {kind} {name} must use uuid {uuid}")]
    WrongUuid {
        /// Which list.
        kind: MomentKind,
        /// The moment.
        name: MomentName,
        /// The domain's uuid.
        uuid: DomainUuid,
    },
    /// An online snapshot was to become offline, or the other way round.
    #[error("cannot change between online and offline snapshot state in snapshot {name}")]
    OnlineChange {
        /// The snapshot.
        name: MomentName,
    },
    /// A disk-only snapshot was to become a full one, or the other way round.
    #[error("cannot change between disk only and full system in snapshot {name}")]
    DiskOnlyChange {
        /// The snapshot.
        name: MomentName,
    },
    /// The embedded domains differ in what the guest sees.
    #[error("Target domain max memory {target} does not match source {source_kib}")]
    MemoryChange {
        /// KiB in the new definition.
        target: u64,
        /// KiB in the old one.
        source_kib: u64,
    },
    /// Disks do not fit the domain.
    #[error(transparent)]
    Disks(#[from] DiskRefused),
    /// A backup does not fit the domain.
    #[error(transparent)]
    Backup(#[from] BackupRefused),
    /// A transient domain cannot be left shut off.
    #[error("transient domain needs to request run or pause to revert to inactive snapshot")]
    RevertTransient,
    /// The snapshot holds no domain to go back to.
    #[error("snapshot '{name}' lacks domain '{domain}' rollback info")]
    NoRollback {
        /// The snapshot.
        name: MomentName,
        /// The domain.
        domain: Arc<str>,
    },
    /// The domain does not meet the policy that was to be set.
    #[error("the domain does not meet the policy: {0}")]
    PolicyUnmet(PolicyBreach),
    /// An open job of the domain forbids it.
    #[error("domain '{name}' has the open job {job}, which must be settled first")]
    JobOpen {
        /// The domain.
        name: Arc<str>,
        /// The open job.
        job: JobId,
        /// The call that began it, by its number in the log.
        call: u16,
        /// Whether it may go on for long.
        length: JobLength,
    },
    /// An open job forbids to revert.
    #[error("domain has active block job")]
    RevertDuringJob,
    /// The job is not open: another process has settled it.
    #[error("job {0} is not open")]
    JobNotOpen(JobId),
    /// The domain is attached to no hypervisor.
    #[error("domain '{name}' is not attached to a hypervisor")]
    NotAttached {
        /// The domain.
        name: Arc<str>,
    },
    /// The socket or the driver cannot be recorded.
    #[error("'{socket}' is no absolute path of a socket that can be recorded")]
    Attachment {
        /// The path as given.
        socket: Arc<str>,
    },
    /// A moment that is put back was to hang below one that is not there, or below what hangs below it.
    #[error("what is put back cannot hang there")]
    CannotHang,
    /// A moment that would go, change or move is held.
    #[error("{kind} {name} is held (tag `{tag}`, by {by}, since {})", Day(*since))]
    Held {
        /// Which list.
        kind: MomentKind,
        /// The moment.
        name: MomentName,
        /// The tag of the first of its holds.
        tag: HoldTag,
        /// Who holds it.
        by: Arc<str>,
        /// Since when, in seconds since 1970.
        since: i64,
    },
    /// The moment is held under this tag already.
    #[error("{kind} {name} is held under the tag `{tag}` already")]
    HeldAlready {
        /// Which list.
        kind: MomentKind,
        /// The moment.
        name: MomentName,
        /// The tag.
        tag: HoldTag,
    },
    /// The moment is not held under this tag.
    #[error("{kind} {name} is not held under the tag `{tag}`")]
    NotHeld {
        /// Which list.
        kind: MomentKind,
        /// The moment.
        name: MomentName,
        /// The tag.
        tag: HoldTag,
    },
    /// Who holds a moment cannot be recorded.
    #[error(
        "who holds {name} must be named in 1 to {} bytes",
        crate::Hold::BY_LEN_MAX
    )]
    HoldBy {
        /// The moment.
        name: MomentName,
    },
    /// The store has allocated every id there is.
    #[error("no moment id is left")]
    IdsExhausted,
}

/// Why a moment's disks do not fit those of the domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskRefused {
    /// There is no domain definition to align with.
    #[error("missing domain in {kind}")]
    NoDomain {
        /// Which list.
        kind: MomentKind,
    },
    /// More disks than the domain has.
    #[error("too many disk {kind} requests for domain")]
    TooMany {
        /// Which list.
        kind: MomentKind,
    },
    /// The domain has no disk at all.
    #[error("domain must have at least one disk to perform checkpoints")]
    NoDisks,
    /// No disk of this name, or several of this source.
    #[error("no disk named '{disk}'")]
    Unknown {
        /// Which list.
        kind: MomentKind,
        /// The disk as given.
        disk: Arc<str>,
    },
    /// The same disk again.
    #[error("disk '{disk}' specified twice")]
    Twice {
        /// Which list.
        kind: MomentKind,
        /// The disk as given.
        disk: Arc<str>,
    },
    /// A checkpoint cannot track it.
    #[error("disk '{disk}' is empty or readonly")]
    EmptyOrReadonly {
        /// The disk as given.
        disk: Arc<str>,
    },
    /// A snapshot with an internal default has only internal disks.
    #[error("disk '{disk}' must use snapshot mode 'internal'")]
    NotInternal {
        /// The disk as given.
        disk: Arc<str>,
    },
    /// Only external disks have a file of their own.
    #[error("file '{file}' for disk '{disk}' requires use of external snapshot mode")]
    FileNotExternal {
        /// The file.
        file: Arc<str>,
        /// The disk as given.
        disk: Arc<str>,
    },
    /// The disks of an active guest are kept in overlays, if they are kept alone.
    #[error("active qemu domains require external disk snapshots; disk {disk} requested internal")]
    ActiveInternal {
        /// The disk.
        disk: Arc<str>,
    },
    /// Nothing can lie above another image in this format.
    #[error("external snapshot format for disk {disk} is unsupported: {format}")]
    OverlayFormat {
        /// The disk.
        disk: Arc<str>,
        /// The format.
        format: Arc<str>,
    },
    /// No disk takes part in a snapshot of disks alone.
    #[error("nothing selected for snapshot")]
    NoneSelected,
    /// Some disks would be kept in their images and some in overlays.
    #[error("mixing internal and external targets for a snapshot is not yet supported")]
    Mixed,
    /// No driver here can leave a disk to another program.
    #[error("'manual' snapshot mode is not supported by the test driver")]
    Manual,
    /// No name can be made up for an overlay that is not a file.
    #[error("cannot generate external snapshot name for disk '{disk}' on a '{}' device", .kind.as_str())]
    OverlayOnDevice {
        /// The disk.
        disk: Arc<str>,
        /// What kind it is.
        kind: SourceKind,
    },
    /// No name can be made up for an overlay of an empty drive.
    #[error("cannot generate external snapshot name for disk '{disk}' without source")]
    OverlayWithoutSource {
        /// The disk.
        disk: Arc<str>,
    },
    /// The policy makes up no names, or the disk is not a file.
    #[error(
        "source for disk '{disk}' is not a regular file; refusing to generate external snapshot name"
    )]
    OverlayNotRegular {
        /// The disk.
        disk: Arc<str>,
    },
    /// The made-up name is another disk's.
    #[error(
        "cannot generate external snapshot name for disk '{disk}': collision with disk '{other}'"
    )]
    OverlayTwice {
        /// The disk.
        disk: Arc<str>,
        /// The disk that has the name.
        other: Arc<str>,
    },
}
