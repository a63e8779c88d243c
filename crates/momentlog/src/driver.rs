//! The seam to a hypervisor: what a driver is asked, and what it tells.
//!
//! A domain that is *attached* to its hypervisor is changed through a [`Driver`]: its calls enter the guest, which a
//! [`Session`] has alone until it is dropped, and lay every effect between two records. The driver knows how its hypervisor
//! is asked; what is asked, what an open job has come to, and what log and hypervisor do not agree on is decided here, for all
//! drivers alike.

mod managed;
pub(crate) mod plan;
mod reconcile;
mod settle;
mod tops;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use momentlog_core::{
    Attachment, DiskEffect, DomainDef, DomainUuid, HypervisorRun, Job, JobId, RunState,
};
use momentlog_store::LogId;

use crate::error::ErrorCode;

pub(crate) use managed::compare as compare_listed;
pub use managed::{
    Listed, ListedDisk, ListedFinding, ListedState, Listing, ManagedGuest, Unlisted,
};
pub use momentlog_core::DiskState;
pub(crate) use plan::Tracked;
pub(crate) use reconcile::compare;
pub use reconcile::{BitmapKind, DiskFinding, Finding, Layered, Reconciled, Step, Unrecorded};
pub(crate) use settle::{
    BYTES, COPIED, DONE, Verdict, add_progress, left_nothing, read_bytes, seen_bytes, settle,
};
pub use tops::Tops;
pub(crate) use tops::TopsOfLog;

/// Asks the hypervisors of one kind.
pub trait Driver: fmt::Debug + Send + Sync {
    /// Its name, in URIs and attachments.
    fn name(&self) -> &'static str;

    /// Waits up to `wait` until it has the guest alone.
    ///
    /// # Errors
    ///
    /// Why it cannot be had.
    fn enter(&self, guest: &Guest, wait: Duration) -> Result<Box<dyn Session>, Absent>;

    /// Looks at the images of a guest that is off, from the top down.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if they cannot be looked at now.
    fn look_off(&self, guest: &Guest, tops: &Tops) -> Result<Sight, Fault>;

    /// Removes bitmaps from the images of a guest that is off. A bitmap that is gone is passed over, as other processes may do
    /// the same. An image that a guest has opened meanwhile is left as it is.
    ///
    /// # Errors
    ///
    /// A [`Fault`]; unless it is unknown what was done, nothing was.
    fn remove_bitmaps_off(&self, guest: &Guest, effects: &[DiskEffect]) -> Result<(), Fault>;

    /// Removes the files that were made for a job, of a guest that is off. One that cannot be removed costs space alone.
    fn remove_files(&self, job: &Job);
}

/// A guest, as far as a driver needs to know it.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The log that its domain is recorded in: what is made in the hypervisor is named for it.
    pub log: LogId,
    /// The domain.
    pub uuid: DomainUuid,
    /// Its definition in force.
    pub def: Arc<DomainDef>,
    /// Where its hypervisor is asked.
    pub attachment: Arc<Attachment>,
}

/// Why a guest cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum Absent {
    /// It ended in order, or was not started yet.
    #[error("{0}")]
    Ended(String),
    /// Its hypervisor was killed or has crashed.
    #[error("{0}")]
    Killed(String),
    /// Another program has it, or it does not answer.
    #[error("{0}")]
    Held(String),
    /// What answers is not what it should be, or the operating system refuses it.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a hypervisor has not done something.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Fault {
    /// libvirt's code for it.
    pub code: ErrorCode,
    /// What happened, without the code's prefix.
    pub detail: String,
    /// Whether it is unknown if it was done.
    pub leaves_unknown: bool,
}

impl Fault {
    /// Returns a fault after which nothing was done.
    pub fn refused(code: ErrorCode, detail: impl Into<String>) -> Fault {
        Fault {
            code,
            detail: detail.into(),
            leaves_unknown: false,
        }
    }

    /// Returns a fault after which it is unknown what was done.
    pub fn unknown(detail: impl Into<String>) -> Fault {
        Fault {
            code: ErrorCode::SystemError,
            detail: detail.into(),
            leaves_unknown: true,
        }
    }
}

/// A guest that this process has alone, until it is dropped.
///
/// What it makes in the hypervisor and takes away again, such as the *witness* of a job, is named for the log and the job.
pub trait Session: fmt::Debug + Send {
    /// Which run of the hypervisor it is.
    fn run(&self) -> Option<HypervisorRun>;

    /// Whether something is at this path, of whatever kind, where the hypervisor would make a file.
    fn is_there(&self, path: &Path) -> bool;

    /// Looks at everything. What was seen may be told again as long as this session has asked for no change.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if the hypervisor does not answer, or its disks cannot be told apart.
    fn see(&mut self) -> Result<Sight, Fault>;

    /// Does what a job was begun for, all or nothing, and leaves its witness.
    ///
    /// # Errors
    ///
    /// A [`Fault`]; unless it is unknown what was done, nothing was.
    fn perform(&mut self, id: JobId, job: &Job) -> Result<(), Fault>;

    /// Asks the hypervisor whether it would add these bitmaps, and adds none.
    ///
    /// # Errors
    ///
    /// A [`Fault`] with the reason why not.
    fn rehearse(&mut self, effects: &[DiskEffect]) -> Result<(), Fault>;

    /// Does what was left to do after the effect of a job in this run of the hypervisor, such as offering its copies.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if the hypervisor refuses it.
    fn complete(&mut self, job: &Job) -> Result<(), Fault>;

    /// Finishes the copies of a long job that have ended: closes and syncs what they were written to. The copies
    /// themselves stay, as the witness.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if a copy cannot be finished.
    fn finish(&mut self, job: &Job) -> Result<(), Fault>;

    /// Ends what a job has begun, before its time, and takes away what was made for it: the copies of a backup with what
    /// they were written to, the overlays of a snapshot that was not made. What it may not have made stays.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if the hypervisor refuses it.
    fn abort(&mut self, id: JobId, job: &Job) -> Result<(), Fault>;

    /// Takes away what carries the log's name and belongs to no job of `open`.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if the hypervisor does not answer.
    fn sweep(&mut self, open: &[(JobId, &Job)]) -> Result<(), Fault>;

    /// Takes away the witness that [`perform`](Self::perform) or [`finish`](Self::finish) has left in this session, if one
    /// has.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if the hypervisor refuses it, or does not answer.
    fn take_witness(&mut self) -> Result<(), Fault>;

    /// Returns how many bytes the bitmap of this name holds in each disk, by target, if its chain is whole there.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if the hypervisor does not answer.
    fn measure(&mut self, bitmap: &str) -> Result<BTreeMap<Arc<str>, u64>, Fault>;

    /// Removes a bitmap from the layer of this image, whoever made it.
    ///
    /// # Errors
    ///
    /// A [`Fault`]; unless it is unknown what was done, nothing was.
    fn remove_bitmap(&mut self, disk: &str, image: &str, bitmap: &str) -> Result<(), Fault>;
}

/// What was seen of a guest.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// Its run state, with libvirt's number of a reason.
    pub power: (RunState, u8),
    /// The disks of its definition, in that order. One that the hypervisor does not have has no layers.
    pub disks: Vec<SeenDisk>,
    /// The jobs of this log whose witness is there.
    pub witnesses: Vec<JobId>,
    /// The copies of this log that run or have ended, by the name that the job's effect has for them.
    pub copies: BTreeMap<Arc<str>, Copy>,
}

/// A disk, as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenDisk {
    /// Its target.
    pub target: Arc<str>,
    /// Its images, from the top down.
    pub layers: Vec<Layer>,
}

/// One image of a disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The file.
    pub image: Arc<str>,
    /// The hypervisor's name for it; empty if the guest is off.
    pub node: Arc<str>,
    /// Its format.
    pub format: Arc<str>,
    /// Whether bitmaps can be kept in it.
    pub keeps_bitmaps: bool,
    /// Whether it may not be written now.
    pub read_only: bool,
    /// Whether it is a [doubtful](Tops::doubtful) overlay that holds neither data nor bitmaps of its own.
    pub empty: bool,
    /// Its size for the guest, in bytes.
    pub size: u64,
    /// Bytes of a cluster, if it has any.
    pub cluster: Option<u64>,
    /// Its bitmaps with a name, as they were listed.
    pub bitmaps: Vec<Bitmap>,
}

/// A dirty bitmap.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is what a hypervisor says of a bitmap"
)]
pub struct Bitmap {
    /// Its name.
    pub name: Arc<str>,
    /// Bytes that it says are dirty; `None` if the guest is off.
    pub count: Option<u64>,
    /// Bytes of one bit.
    pub granularity: u64,
    /// Whether it takes note of writes.
    pub recording: bool,
    /// Whether it is kept when the hypervisor ends in order.
    pub persistent: bool,
    /// Whether it was not kept when a hypervisor ended, and may only be removed.
    pub inconsistent: bool,
    /// Whether a job uses it.
    pub busy: bool,
}

/// A copy that runs, or has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Whether it has ended.
    pub ended: bool,
    /// Why it failed, if it did.
    pub error: Option<Arc<str>>,
    /// Bytes that are copied, and bytes in all.
    pub progress: (u64, u64),
}

/// The front of the names of what a log makes in a hypervisor and takes away again.
pub fn temporary_prefix(log: LogId) -> String {
    format!("momentlog-{log}-")
}

/// The name of the copy of one disk: of the hypervisor's job, and of the bitmap that says what is copied. `job` is the
/// one that begins it.
pub fn copy_name(log: LogId, job: JobId, disk: &str) -> String {
    format!("{}{job}-{disk}", temporary_prefix(log))
}

/// Returns the job that began the copy of this name, if it is one of this log.
pub fn copy_job(log: LogId, name: &str) -> Option<JobId> {
    let rest = name.strip_prefix(&temporary_prefix(log))?;
    let (job, _) = rest.split_once('-')?;
    JobId::new(job.parse().ok()?)
}

impl Sight {
    /// Returns the disk of this target.
    pub fn disk(&self, target: &str) -> Option<&SeenDisk> {
        self.disks.iter().find(|disk| &*disk.target == target)
    }
}

impl Layer {
    /// Returns the bitmap of this name.
    pub fn bitmap(&self, name: &str) -> Option<&Bitmap> {
        self.bitmaps.iter().find(|bitmap| &*bitmap.name == name)
    }

    /// Whether it is the image in this file.
    pub fn is(&self, image: &str) -> bool {
        Path::new(&*self.image) == Path::new(image)
    }
}

impl Bitmap {
    /// Whether it has seen every write since it was made, and is kept.
    pub fn is_sound(&self) -> bool {
        self.recording && self.persistent && !self.inconsistent
    }
}

impl SeenDisk {
    /// Whether the bitmap of this name has seen every write since it was made: the top layer has it, the layers that have it
    /// form one run from the top, and each of them is sound. Follows libvirt's rule for bitmaps of a chain.
    pub fn tracks(&self, bitmap: &str) -> bool {
        let has = |layer: &Layer| layer.bitmap(bitmap).cloned();
        let run = self.layers.iter().map_while(has);
        let count = run.clone().count();
        let below = self.layers.iter().skip(count);
        count > 0
            && run.into_iter().all(|bitmap| bitmap.is_sound())
            && below
                .into_iter()
                .all(|layer| layer.bitmap(bitmap).is_none())
    }
}

#[cfg(test)]
mod tests;
