//! Domains: their definition as far as moments need it, and their run state.

use std::fmt;
use std::sync::Arc;

use crate::{
    Attachment, CheckpointList, DomainUuid, Holds, MomentId, OpenJobs, Policy, SnapshotList,
};

/// What momentlog reads from a domain's XML; everything else stays in `xml`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DomainDef {
    /// The domain's name within this definition.
    pub name: Arc<str>,
    /// The domain's uuid.
    pub uuid: DomainUuid,
    /// Maximum memory in KiB: the part of the guest's interface that a redefine compares.
    pub memory_kib: u64,
    /// The disks in libvirt's order, which every `<disks>` output follows.
    pub disks: Vec<DomainDisk>,
    /// The inactive definition as one canonical `<domain>` text at indent 0; empty if it was erased.
    pub xml: Arc<str>,
}

/// Short, and without the text, which may hold passwords.
impl fmt::Debug for DomainDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainDef")
            .field("name", &self.name)
            .field("uuid", &self.uuid)
            .field("memory_kib", &self.memory_kib)
            .field("disks", &self.disks.len())
            .field("xml", &format_args!("{} bytes", self.xml.len()))
            .finish()
    }
}

/// One disk of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DomainDisk {
    /// Target name, such as `vda`; unique within the domain.
    pub target: Arc<str>,
    /// What kind of thing the source is.
    pub kind: SourceKind,
    /// Source path or name; `None` for an empty drive, and for sources that have neither.
    pub source: Option<Arc<str>>,
    /// Whether libvirt takes the drive for empty: a local source without a path, or a network source without a protocol.
    pub empty: bool,
    /// The image format that the driver names.
    pub format: Option<Arc<str>>,
    /// Whether the guest may not write it.
    pub readonly: bool,
    /// The domain's own wish for snapshots of this disk; read-only disks wish `No`.
    pub snapshot: Option<DiskLocation>,
}

/// The `type` of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// A file on the host.
    File,
    /// A block device of the host.
    Block,
    /// A directory shown as a disk.
    Dir,
    /// A network disk.
    Network,
    /// A volume of a storage pool.
    Volume,
    /// An `NVMe` device of the host, without the host's driver.
    Nvme,
    /// A disk that another process serves over a socket.
    VhostUser,
    /// A vDPA device of the host.
    VhostVdpa,
}

impl SourceKind {
    /// Whether the source names a disk in a moment's XML: a volume and a socket do not.
    pub fn has_disk_name(self) -> bool {
        !matches!(self, SourceKind::Volume | SourceKind::VhostUser)
    }

    /// The word in XML.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceKind::File => "file",
            SourceKind::Block => "block",
            SourceKind::Dir => "dir",
            SourceKind::Network => "network",
            SourceKind::Volume => "volume",
            SourceKind::Nvme => "nvme",
            SourceKind::VhostUser => "vhostuser",
            SourceKind::VhostVdpa => "vhostvdpa",
        }
    }
}

/// Where a snapshot keeps the state of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskLocation {
    /// The disk takes no part.
    No,
    /// Inside the disk's own image.
    Internal,
    /// In a new overlay above the disk's image.
    External,
    /// Another program takes care of it.
    Manual,
}

impl DiskLocation {
    /// The word in XML.
    pub fn as_str(self) -> &'static str {
        match self {
            DiskLocation::No => "no",
            DiskLocation::Internal => "internal",
            DiskLocation::External => "external",
            DiskLocation::Manual => "manual",
        }
    }
}

impl DomainDisk {
    /// Where a snapshot keeps the disk, if it does not say so.
    pub(crate) fn place(&self, default: DiskLocation) -> DiskLocation {
        if self.empty {
            DiskLocation::No
        } else {
            self.snapshot.unwrap_or(default)
        }
    }
}

impl DomainDef {
    /// Returns the position of the disk that `name` means: an absolute path must be the source of exactly one disk,
    /// any other name is compared with the targets.
    pub fn find_disk(&self, name: &str) -> Option<usize> {
        if !name.starts_with('/') {
            return self.disks.iter().position(|disk| &*disk.target == name);
        }
        let mut found =
            self.disks.iter().enumerate().filter(|(_, disk)| {
                disk.kind.has_disk_name() && disk.source.as_deref() == Some(name)
            });
        let (index, _) = found.next()?;
        found.next().is_none().then_some(index)
    }
}

/// Run state of a domain, numbered as `virDomainState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    /// The guest runs.
    Running,
    /// The guest is blocked on a resource.
    Blocked,
    /// The guest is paused.
    Paused,
    /// The guest is shutting down.
    Shutdown,
    /// The guest is off.
    Shutoff,
    /// The guest crashed.
    Crashed,
    /// The guest is suspended by its own power management.
    PmSuspended,
}

impl RunState {
    /// The `virDomainState` number, 1 to 7.
    pub fn number(self) -> u8 {
        match self {
            RunState::Running => 1,
            RunState::Blocked => 2,
            RunState::Paused => 3,
            RunState::Shutdown => 4,
            RunState::Shutoff => 5,
            RunState::Crashed => 6,
            RunState::PmSuspended => 7,
        }
    }

    /// Returns the state with this `virDomainState` number, if it is one of 1 to 7.
    pub fn from_number(number: u8) -> Option<RunState> {
        Some(match number {
            1 => RunState::Running,
            2 => RunState::Blocked,
            3 => RunState::Paused,
            4 => RunState::Shutdown,
            5 => RunState::Shutoff,
            6 => RunState::Crashed,
            7 => RunState::PmSuspended,
            _ => return None,
        })
    }
}

/// The last report of whether and why a domain runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Power {
    /// The state.
    pub state: RunState,
    /// Why, in the numbers of `virDomainRunningReason` and its kin; 0 is unknown.
    pub reason: u8,
    /// The number by which a running domain is known until it stops.
    pub id: Option<u32>,
}

impl Power {
    /// Off, for an unknown reason.
    pub const OFF: Power = Power {
        state: RunState::Shutoff,
        reason: 0,
        id: None,
    };

    /// Returns whether the domain is active, that is, not shut off.
    pub fn is_active(&self) -> bool {
        self.state != RunState::Shutoff
    }
}

/// One domain with its moments.
#[derive(Clone, PartialEq, Eq)]
pub struct Domain {
    pub(crate) uuid: DomainUuid,
    pub(crate) name: Arc<str>,
    pub(crate) def: Arc<DomainDef>,
    pub(crate) next_def: Option<Arc<DomainDef>>,
    pub(crate) persistent: bool,
    pub(crate) autostart: bool,
    pub(crate) power: Power,
    pub(crate) policy: Policy,
    pub(crate) snapshots: SnapshotList,
    pub(crate) checkpoints: CheckpointList,
    pub(crate) holds: Holds,
    pub(crate) jobs: OpenJobs,
    pub(crate) attachment: Option<Arc<Attachment>>,
}

/// Short, and without texts.
impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain")
            .field("name", &self.name)
            .field("uuid", &self.uuid)
            .field("persistent", &self.persistent)
            .field("power", &self.power)
            .field("policy", &self.policy)
            .field("snapshots", &self.snapshots)
            .field("checkpoints", &self.checkpoints)
            .finish_non_exhaustive()
    }
}

impl Domain {
    /// The uuid.
    pub fn uuid(&self) -> DomainUuid {
        self.uuid
    }

    /// The name under which the domain is found.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The definition in force: that of the running guest, or else the persistent one.
    pub fn def(&self) -> &Arc<DomainDef> {
        &self.def
    }

    /// The definition that the next start will use.
    pub fn inactive_def(&self) -> &Arc<DomainDef> {
        self.next_def.as_ref().unwrap_or(&self.def)
    }

    /// The definition of the next start, if that is another than the one in force.
    pub fn next_def(&self) -> Option<&Arc<DomainDef>> {
        self.next_def.as_ref()
    }

    /// Whether the domain outlives its guest.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Whether it starts with its host.
    pub fn autostart(&self) -> bool {
        self.autostart
    }

    /// The last report of the run state.
    pub fn power(&self) -> Power {
        self.power
    }

    /// The rules in force.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The snapshots.
    pub fn snapshots(&self) -> &SnapshotList {
        &self.snapshots
    }

    /// The checkpoints.
    pub fn checkpoints(&self) -> &CheckpointList {
        &self.checkpoints
    }

    /// The holds of its moments.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// The open jobs.
    pub fn jobs(&self) -> &OpenJobs {
        &self.jobs
    }

    /// Where its hypervisor is asked; none if it is not.
    pub fn attachment(&self) -> Option<&Arc<Attachment>> {
        self.attachment.as_ref()
    }

    /// Whether a moment of either kind is listed.
    pub(crate) fn has_moment(&self, id: MomentId) -> bool {
        self.snapshots.get(id).is_some() || self.checkpoints.get(id).is_some()
    }
}
