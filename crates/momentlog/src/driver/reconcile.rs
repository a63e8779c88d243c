//! What log and hypervisor do not agree on, in words, and what would put it right: pure functions.

use std::collections::BTreeSet;
use std::sync::Arc;

use momentlog_core::{DiskState, Domain, JobId, MomentId, MomentName, Scope};
use momentlog_store::LogId;

use super::{Bitmap, Layer, SeenDisk, Sight, Tracked, temporary_prefix};

/// What was found of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// Whether the guest runs.
    pub running: bool,
    /// Each checkpoint, in the order of its list.
    pub checkpoints: Vec<Finding>,
    /// Bitmaps that belong to no checkpoint of the log.
    pub unrecorded: Vec<Unrecorded>,
    /// Jobs that are still open.
    pub jobs: Vec<JobId>,
    /// What would put it right, in an order that is safe to stop anywhere.
    pub plan: Vec<Step>,
}

/// What was found of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The checkpoint.
    pub checkpoint: MomentName,
    /// Its id, which no other checkpoint of this name has.
    pub id: MomentId,
    /// The disks that it tracks.
    pub disks: Vec<DiskFinding>,
}

/// What was found of a checkpoint's bitmap on one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFinding {
    /// The disk.
    pub disk: Arc<str>,
    /// What has become of the bitmap.
    pub state: DiskState,
    /// Its name.
    pub bitmap: Arc<str>,
    /// How many bytes it says are dirty, in all layers that have it; none if none has it, or the guest is off.
    pub bytes: Option<u64>,
    /// The images of the disk that have it, from the top down.
    pub layers: Vec<Layered>,
    /// When the log last knew it to be good before this look, in microseconds since 1970; none if it never did. See
    /// [`Domain::reconcile`](crate::Domain::reconcile).
    pub last_ok: Option<i64>,
}

/// A bitmap in one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layered {
    /// The image.
    pub image: Arc<str>,
    /// What has become of the bitmap there.
    pub state: DiskState,
}

/// A bitmap that belongs to no checkpoint of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrecorded {
    /// The disk.
    pub disk: Arc<str>,
    /// The image.
    pub image: Arc<str>,
    /// The bitmap.
    pub bitmap: Arc<str>,
    /// Whose it is.
    pub kind: BitmapKind,
}

/// Whose a bitmap is that belongs to no checkpoint of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitmapKind {
    /// A temporary one of this log, of a job that is not open.
    Leftover,
    /// One that the log made once, or had a checkpoint of, and that it has not removed.
    Orphan,
    /// Another program's. It is never touched.
    Foreign,
}

impl BitmapKind {
    /// The word for it, in text and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            BitmapKind::Leftover => "leftover",
            BitmapKind::Orphan => "orphan",
            BitmapKind::Foreign => "foreign",
        }
    }
}

/// One step that puts something right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A bitmap is removed that belongs to no checkpoint.
    RemoveBitmap(Unrecorded),
    /// A checkpoint that can be used no more is deleted, with what is left of its bitmaps.
    DropCheckpoint {
        /// The checkpoint.
        checkpoint: MomentName,
        /// What is wrong with it.
        why: DiskState,
    },
}

/// Compares a domain with what was seen of it. `sight` is none if nothing can be seen now. `had` holds what the log has
/// made and not removed.
pub(crate) fn compare(
    domain: &Domain,
    log: LogId,
    sight: Option<&Sight>,
    running: bool,
    had: &BTreeSet<Tracked>,
) -> Reconciled {
    let list = domain.checkpoints();
    let moments: Vec<_> = list.walk(Scope::All).collect();
    let checkpoints: Vec<Finding> = moments
        .iter()
        .map(|moment| Finding {
            checkpoint: moment.name.clone(),
            id: moment.id,
            disks: Tracked::of(moment.name, moment.def)
                .into_iter()
                .map(|tracked| finding(tracked, sight))
                .collect(),
        })
        .collect();
    let recorded: BTreeSet<(Arc<str>, Arc<str>)> = checkpoints
        .iter()
        .flat_map(|finding| &finding.disks)
        .map(|disk| (disk.disk.clone(), disk.bitmap.clone()))
        .collect();
    let unrecorded = unrecorded(log, sight, &recorded, had);
    let mut plan: Vec<Step> = Vec::new();
    let of_kind = |kind: BitmapKind| {
        let found = unrecorded.iter().filter(move |found| found.kind == kind);
        found.cloned().map(Step::RemoveBitmap)
    };
    plan.extend(of_kind(BitmapKind::Leftover));
    // Leaves first, so that a plan that is stopped leaves a whole tree.
    for finding in checkpoints.iter().rev() {
        let bad = finding.disks.iter().map(|disk| disk.state);
        let bad = bad.filter(|state| {
            !matches!(
                state,
                DiskState::Ok | DiskState::Unknown | DiskState::DiskGone
            )
        });
        if let Some(why) = bad.min() {
            let checkpoint = finding.checkpoint.clone();
            plan.push(Step::DropCheckpoint { checkpoint, why });
        }
    }
    plan.extend(of_kind(BitmapKind::Orphan));
    Reconciled {
        running,
        checkpoints,
        unrecorded,
        jobs: domain.jobs().iter().map(|open| open.id).collect(),
        plan,
    }
}

impl Reconciled {
    /// Whether log and hypervisor agree.
    pub fn agrees(&self) -> bool {
        let mut disks = self.checkpoints.iter().flat_map(|finding| &finding.disks);
        disks.all(|disk| disk.state == DiskState::Ok)
            && self.unrecorded.is_empty()
            && self.jobs.is_empty()
    }
}

/// What is seen of a bitmap. `sight` is none if nothing can be seen now.
pub(super) fn finding(tracked: Tracked, sight: Option<&Sight>) -> DiskFinding {
    let Tracked { disk, bitmap } = tracked;
    let with = |state, bytes, layers| DiskFinding {
        disk: disk.clone(),
        state,
        bitmap: bitmap.clone(),
        bytes,
        layers,
        last_ok: None,
    };
    let Some(sight) = sight else {
        return with(DiskState::Unknown, None, Vec::new());
    };
    let Some(seen) = sight.disk(&disk).filter(|seen| !seen.layers.is_empty()) else {
        return with(DiskState::DiskGone, None, Vec::new());
    };
    let having: Vec<(&Layer, &Bitmap)> = seen
        .layers
        .iter()
        .filter_map(|layer| Some((layer, layer.bitmap(&bitmap)?)))
        .collect();
    let layers: Vec<Layered> = having
        .iter()
        .map(|(layer, bitmap)| Layered {
            image: layer.image.clone(),
            state: state_of(bitmap),
        })
        .collect();
    let is_run = seen.layers.iter().zip(&layers);
    let mut is_run = is_run.map(|(layer, found)| layer.image == found.image);
    let state = if layers.is_empty() {
        DiskState::Lost
    } else if !is_run.all(|same| same) {
        DiskState::Broken
    } else {
        let worst = layers.iter().map(|layer| layer.state).min();
        worst.unwrap_or(DiskState::Lost)
    };
    let counts = having.iter().map(|(_, bitmap)| bitmap.count);
    let add = |sum: Option<u64>, count: Option<u64>| Some(sum?.saturating_add(count?));
    let bytes = counts.reduce(add).flatten();
    with(state, bytes, layers)
}

fn state_of(bitmap: &Bitmap) -> DiskState {
    if bitmap.inconsistent {
        DiskState::Inconsistent
    } else if !bitmap.recording {
        DiskState::Stopped
    } else if !bitmap.persistent {
        DiskState::Temporary
    } else {
        DiskState::Ok
    }
}

fn unrecorded(
    log: LogId,
    sight: Option<&Sight>,
    recorded: &BTreeSet<(Arc<str>, Arc<str>)>,
    had: &BTreeSet<Tracked>,
) -> Vec<Unrecorded> {
    let ours = temporary_prefix(log);
    let disks = sight.map_or(&[][..], |sight| &sight.disks);
    let mut found = Vec::new();
    for disk in disks {
        for layer in &disk.layers {
            for bitmap in &layer.bitmaps {
                let key = (disk.target.clone(), bitmap.name.clone());
                if recorded.contains(&key) {
                    continue;
                }
                let kind = if bitmap.name.starts_with(&ours) {
                    BitmapKind::Leftover
                } else if had.contains(&tracked(disk, bitmap)) {
                    BitmapKind::Orphan
                } else {
                    BitmapKind::Foreign
                };
                found.push(Unrecorded {
                    disk: disk.target.clone(),
                    image: layer.image.clone(),
                    bitmap: bitmap.name.clone(),
                    kind,
                });
            }
        }
    }
    found
}

fn tracked(disk: &SeenDisk, bitmap: &Bitmap) -> Tracked {
    Tracked {
        disk: disk.target.clone(),
        bitmap: bitmap.name.clone(),
    }
}
