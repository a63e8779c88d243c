//! Jobs: what a hypervisor is asked to do, written down before it is asked, so that a later reader can tell what
//! became of it.
//!
//! A job is open from the event that begins it to the one that ends it or says that it failed. No command begins one: a
//! driver does.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::{CheckpointDef, Extent, IdRuns, MomentId, MomentName, SnapshotDef};

/// Number of one job within a store. Never reused, and allocated in order from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(NonZeroU64);

impl JobId {
    /// The first number that a store allocates.
    pub const FIRST: JobId = JobId(NonZeroU64::MIN);

    /// Returns the job numbered `number`, or `None` for 0, which means "no job" in the log.
    pub fn new(number: u64) -> Option<JobId> {
        NonZeroU64::new(number).map(JobId)
    }

    /// The number, at least 1.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The number after this one, or `None` after `u64::MAX`.
    pub fn next(self) -> Option<JobId> {
        self.0.checked_add(1).map(JobId)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All that the outcome of a job needs, so that another process can write it.
///
/// Moments to be made have no ids: those are given when they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What is to be done.
    pub kind: JobKind,
    /// Whether the domain's other changes wait for it.
    pub length: JobLength,
    /// The call that wants it, by its number in the log.
    pub call: u16,
    /// The flags of that call.
    pub flags: u32,
    /// What the call was given and no moment says, such as the XML of a backup.
    pub document: Option<Arc<str>>,
    /// The snapshots that its end makes.
    pub snapshots: Vec<MomentToMake<SnapshotDef>>,
    /// The checkpoints that its end makes.
    pub checkpoints: Vec<MomentToMake<CheckpointDef>>,
    /// The moments that its end deletes.
    pub deletions: Vec<Deletion>,
    /// What it does to disks.
    pub effects: Vec<DiskEffect>,
    /// Files that are not there yet and that it makes, by the disk that they are for.
    pub files: Vec<FileToMake>,
    /// The run of the hypervisor that is asked; `None` if the guest is off.
    pub run: Option<HypervisorRun>,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Makes checkpoints.
    CreateCheckpoint,
    /// Deletes checkpoints.
    DeleteCheckpoint,
    /// Makes snapshots.
    CreateSnapshot,
    /// Deletes snapshots.
    DeleteSnapshot,
    /// Copies what disks hold, or offers it to be copied; may make a checkpoint at the same instant.
    Backup,
    /// Takes away bitmaps that belong to no moment any more.
    Repair,
    /// Forwards a call to the program that manages the guest. What the call did is seen afterwards.
    Forward,
}

impl Job {
    /// Whether the file at this path is one that the job makes.
    pub fn makes(&self, path: &str) -> bool {
        self.files.iter().any(|file| &*file.path == path)
    }
}

impl JobKind {
    /// All kinds, by number.
    pub const ALL: [JobKind; 7] = [
        JobKind::CreateCheckpoint,
        JobKind::DeleteCheckpoint,
        JobKind::CreateSnapshot,
        JobKind::DeleteSnapshot,
        JobKind::Backup,
        JobKind::Repair,
        JobKind::Forward,
    ];

    /// Its number in the log.
    pub fn number(self) -> u16 {
        match self {
            JobKind::CreateCheckpoint => 1,
            JobKind::DeleteCheckpoint => 2,
            JobKind::CreateSnapshot => 3,
            JobKind::DeleteSnapshot => 4,
            JobKind::Backup => 5,
            JobKind::Repair => 6,
            JobKind::Forward => 7,
        }
    }

    /// Returns the kind with this number, if it is one.
    pub fn from_number(number: u16) -> Option<JobKind> {
        JobKind::ALL
            .into_iter()
            .find(|kind| kind.number() == number)
    }

    /// A few words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            JobKind::CreateCheckpoint => "create checkpoint",
            JobKind::DeleteCheckpoint => "delete checkpoint",
            JobKind::CreateSnapshot => "create snapshot",
            JobKind::DeleteSnapshot => "delete snapshot",
            JobKind::Backup => "backup",
            JobKind::Repair => "repair",
            JobKind::Forward => "forward call",
        }
    }
}

/// Whether other changes of the domain wait for a job. A domain has at most one job of each length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobLength {
    /// One changing call: it ends before the next one begins.
    Short,
    /// It goes on beside changing calls, as a backup does.
    Long,
}

impl JobLength {
    /// Its number in the log.
    pub fn number(self) -> u8 {
        match self {
            JobLength::Short => 1,
            JobLength::Long => 2,
        }
    }

    /// Returns the length with this number, if it is one.
    pub fn from_number(number: u8) -> Option<JobLength> {
        [JobLength::Short, JobLength::Long]
            .into_iter()
            .find(|length| length.number() == number)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            JobLength::Short => "short",
            JobLength::Long => "long",
        }
    }
}

/// A moment that a job's end makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MomentToMake<D> {
    /// Its name.
    pub name: MomentName,
    /// Its parent.
    pub parent: Option<MomentId>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its definition.
    pub def: Arc<D>,
    /// Whether it is current then.
    pub current: bool,
}

/// Moments that a job's end deletes in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The moment.
    pub id: MomentId,
    /// How much of the tree goes.
    pub extent: Extent,
    /// All ids that go.
    pub removed: IdRuns,
}

/// What a job does to one image of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DiskEffect {
    /// The disk, by its target.
    pub disk: Arc<str>,
    /// What is done.
    pub kind: EffectKind,
    /// The image.
    pub image: Arc<str>,
    /// The hypervisor's node of that image; empty if the guest is off.
    pub node: Arc<str>,
    /// The bitmap that takes part.
    pub bitmap: Option<Arc<str>>,
    /// Whether there was a bitmap of that name before.
    pub bitmap_was_there: bool,
    /// The other file that takes part: the overlay, or what the copy goes to.
    pub file: Option<Arc<str>>,
}

/// What is done to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EffectKind {
    /// A bitmap is added.
    BitmapAdded,
    /// A bitmap is removed.
    BitmapRemoved,
    /// An overlay is put above it.
    OverlayAdded,
    /// It is copied, or offered to be copied.
    Copied,
    /// It is an overlay, and merged into the image below.
    OverlayMerged,
}

impl EffectKind {
    /// All kinds, by number.
    pub const ALL: [EffectKind; 5] = [
        EffectKind::BitmapAdded,
        EffectKind::BitmapRemoved,
        EffectKind::OverlayAdded,
        EffectKind::Copied,
        EffectKind::OverlayMerged,
    ];

    /// Its number in the log.
    pub fn number(self) -> u8 {
        match self {
            EffectKind::BitmapAdded => 1,
            EffectKind::BitmapRemoved => 2,
            EffectKind::OverlayAdded => 3,
            EffectKind::Copied => 4,
            EffectKind::OverlayMerged => 5,
        }
    }

    /// Returns the kind with this number, if it is one.
    pub fn from_number(number: u8) -> Option<EffectKind> {
        EffectKind::ALL
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// A file that a job makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileToMake {
    /// The disk that it is for, by its target.
    pub disk: Arc<str>,
    /// Where it is made.
    pub path: Arc<str>,
}

/// Which run of a hypervisor it is: never the same after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HypervisorRun {
    /// Number of the process.
    pub pid: u32,
    /// When the process started, in clock ticks since the machine started, as `/proc/PID/stat` tells.
    pub start: u64,
    /// The run of the machine: its boot id.
    pub boot: [u8; 16],
}

/// How an open job was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOutcome {
    /// The job.
    pub job: JobId,
    /// What was seen of it.
    pub seen: Seen,
    /// Whether the process that began it settled it, or a later one.
    pub settled_by: SettledBy,
    /// That process: its user, host, program and version.
    pub agent: Arc<str>,
}

/// Which process settled a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SettledBy {
    /// The one that began it.
    Beginner,
    /// A later one, which found it open.
    Later,
}

impl SettledBy {
    /// Its number in the log.
    pub fn number(self) -> u8 {
        match self {
            SettledBy::Beginner => 1,
            SettledBy::Later => 2,
        }
    }

    /// Returns the one with this number, if there is one.
    pub fn from_number(number: u8) -> Option<SettledBy> {
        [SettledBy::Beginner, SettledBy::Later]
            .into_iter()
            .find(|by| by.number() == number)
    }
}

/// What was seen when a job was settled: pairs of a thing, such as a disk, and what was found of it. At most
/// [`Seen::COUNT_MAX`] of them, of [`Seen::LEN_MAX`] bytes in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(Vec<(Arc<str>, Arc<str>)>);

impl Seen {
    /// Most pairs.
    pub const COUNT_MAX: usize = 1024;

    /// Most bytes of all pairs together.
    pub const LEN_MAX: usize = 64 << 10;

    /// Returns these pairs, or `None` if they are more or longer than may be.
    pub fn new(pairs: Vec<(Arc<str>, Arc<str>)>) -> Option<Seen> {
        let length: usize = pairs
            .iter()
            .map(|(thing, found)| thing.len() + found.len())
            .sum();
        (pairs.len() <= Seen::COUNT_MAX && length <= Seen::LEN_MAX).then_some(Seen(pairs))
    }

    /// The pairs: a thing, and what was found of it.
    pub fn pairs(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.0
    }
}

/// A job that was begun and not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenJob {
    /// Its number.
    pub id: JobId,
    /// What its outcome needs.
    pub job: Arc<Job>,
}

/// The open jobs of one domain: at most one of each length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenJobs {
    short: Option<OpenJob>,
    long: Option<OpenJob>,
}

impl OpenJobs {
    /// Returns the open job of this length.
    pub fn get(&self, length: JobLength) -> Option<&OpenJob> {
        match length {
            JobLength::Short => self.short.as_ref(),
            JobLength::Long => self.long.as_ref(),
        }
    }

    /// Returns the open jobs, the short one first.
    pub fn iter(&self) -> impl Iterator<Item = &OpenJob> {
        self.short.iter().chain(&self.long)
    }

    /// Whether no job is open.
    pub fn is_empty(&self) -> bool {
        self.short.is_none() && self.long.is_none()
    }

    /// Adds an open job.
    ///
    /// # Errors
    ///
    /// The open job that has its place.
    pub fn add(&mut self, open: OpenJob) -> Result<(), JobId> {
        let slot = match open.job.length {
            JobLength::Short => &mut self.short,
            JobLength::Long => &mut self.long,
        };
        match slot {
            Some(other) => Err(other.id),
            None => {
                *slot = Some(open);
                Ok(())
            }
        }
    }

    /// Takes an open job out; returns whether it was there.
    pub(crate) fn settle(&mut self, id: JobId) -> bool {
        [&mut self.short, &mut self.long]
            .into_iter()
            .any(|slot| slot.take_if(|open| open.id == id).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_what_they_stand_for() {
        for kind in JobKind::ALL {
            assert_eq!(JobKind::from_number(kind.number()), Some(kind));
        }
        for kind in EffectKind::ALL {
            assert_eq!(EffectKind::from_number(kind.number()), Some(kind));
        }
        for length in [JobLength::Short, JobLength::Long] {
            assert_eq!(JobLength::from_number(length.number()), Some(length));
        }
        for by in [SettledBy::Beginner, SettledBy::Later] {
            assert_eq!(SettledBy::from_number(by.number()), Some(by));
        }
        assert_eq!(JobKind::from_number(0), None);
        assert_eq!(EffectKind::from_number(6), None);
    }

    #[test]
    fn what_was_seen_is_bounded() {
        let pair = |length: usize| ("".into(), "x".repeat(length).into());
        assert!(Seen::new(vec![pair(0); Seen::COUNT_MAX]).is_some());
        assert_eq!(Seen::new(vec![pair(0); Seen::COUNT_MAX + 1]), None);
        assert!(Seen::new(vec![pair(Seen::LEN_MAX)]).is_some());
        assert_eq!(Seen::new(vec![pair(Seen::LEN_MAX + 1)]), None);
    }
}
