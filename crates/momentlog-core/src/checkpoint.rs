//! Checkpoints: what one records, and how its disks follow those of the domain.

use std::sync::Arc;

use crate::{DiskRefused, DomainDef, MomentKind, MomentList};

/// The checkpoints of one domain.
pub type CheckpointList = MomentList<CheckpointDef>;

/// What a checkpoint records besides its name and its place in the list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckpointDef {
    /// Free text for people; empty if it was erased.
    pub description: Option<Arc<str>>,
    /// The disks; all of the domain's, in its order, once they were aligned with it.
    pub disks: Vec<CheckpointDisk>,
    /// The domain as it was defined then.
    pub domain: Option<Arc<DomainDef>>,
}

impl CheckpointDef {
    /// The disks that it tracks, in the order of all.
    pub fn tracked(&self) -> impl Iterator<Item = &CheckpointDisk> {
        let disks = self.disks.iter();
        disks.filter(|disk| disk.tracking != DiskTracking::No)
    }
}

/// One disk of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckpointDisk {
    /// The disk: a target, or before alignment also a source path.
    pub name: Arc<str>,
    /// Whether and how writes are tracked.
    pub tracking: DiskTracking,
}

/// Whether a checkpoint tracks the writes to a disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DiskTracking {
    /// Not at all.
    No,
    /// With a bitmap of this name; `None` stands for the name of the checkpoint.
    Bitmap(Option<Arc<str>>),
}

/// Returns the disks of a checkpoint of `domain`: exactly the domain's, in its order.
///
/// Follows `virDomainCheckpointAlignDisks`: disks that `listed` leaves out are tracked only if it lists none at all.
///
/// # Errors
///
/// [`DiskRefused`]: too many, no disk, then for each listed disk unknown, twice, empty or read-only.
pub fn align_disks(
    listed: &[CheckpointDisk],
    domain: &DomainDef,
) -> Result<Vec<CheckpointDisk>, DiskRefused> {
    let kind = MomentKind::Checkpoint;
    if listed.len() > domain.disks.len() {
        return Err(DiskRefused::TooMany { kind });
    }
    if domain.disks.is_empty() {
        return Err(DiskRefused::NoDisks);
    }
    let mut aligned: Vec<Option<DiskTracking>> = vec![None; domain.disks.len()];
    for disk in listed {
        let index = domain
            .find_disk(&disk.name)
            .ok_or_else(|| DiskRefused::Unknown {
                kind,
                disk: disk.name.clone(),
            })?;
        if aligned[index].is_some() {
            return Err(DiskRefused::Twice {
                kind,
                disk: disk.name.clone(),
            });
        }
        let of_domain = &domain.disks[index];
        if disk.tracking != DiskTracking::No && (of_domain.empty || of_domain.readonly) {
            return Err(DiskRefused::EmptyOrReadonly {
                disk: disk.name.clone(),
            });
        }
        aligned[index] = Some(disk.tracking.clone());
    }
    let aligned = aligned
        .into_iter()
        .zip(&domain.disks)
        .map(|(tracking, disk)| {
            let tracked = listed.is_empty() && !disk.empty && !disk.readonly;
            let default = || {
                if tracked {
                    DiskTracking::Bitmap(None)
                } else {
                    DiskTracking::No
                }
            };
            CheckpointDisk {
                name: disk.target.clone(),
                tracking: tracking.unwrap_or_else(default),
            }
        });
    Ok(aligned.collect())
}
