//! A guest that libvirt manages: its list of checkpoints beside the log's, and what would put the list right: pure functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use momentlog_core::{CheckpointDef, Domain, MomentId, MomentName, Scope};

use super::reconcile::finding;
use super::{DiskState, Sight, Tracked};
use crate::redefinition::Redefinition;

/// What libvirt tells of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedGuest {
    /// Whether it runs.
    pub running: bool,
    /// Its checkpoints, in any order.
    pub checkpoints: Vec<Listed>,
}

/// A checkpoint, as libvirt lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: MomentName,
    /// The name of its parent.
    pub parent: Option<MomentName>,
    /// Its definition.
    pub def: CheckpointDef,
    /// Bytes of each disk that were written since, by target. While the guest runs, exactly the disks whose bitmaps are valid
    /// have a size; while it is off, none has.
    pub sizes: BTreeMap<Arc<str>, u64>,
}

/// What libvirt's list and the log do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Whether the guest runs.
    pub running: bool,
    /// Each checkpoint of the log, in the order of its list.
    pub checkpoints: Vec<ListedFinding>,
    /// Checkpoints that libvirt has and the log has not, in the order that libvirt has them.
    pub unrecorded: Vec<Unlisted>,
    /// What would give libvirt the checkpoints back that it does not list, parents first, each below the next one above it
    /// that libvirt lists by then, and without the domain. It is for people to carry out: momentlog changes nothing in libvirt.
    pub plan: Vec<Redefinition>,
}

/// What libvirt has of a checkpoint of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFinding {
    /// The checkpoint.
    pub checkpoint: MomentName,
    /// What libvirt has.
    pub state: ListedState,
    /// The disks that it tracks.
    pub disks: Vec<ListedDisk>,
}

/// What is known of a disk of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDisk {
    /// The disk.
    pub disk: Arc<str>,
    /// The bitmap.
    pub bitmap: Arc<str>,
    /// Whether the bitmap has seen every write since the checkpoint; none if that cannot be seen now. libvirt tells it of the
    /// checkpoints that it lists while the guest runs; of a guest that is off, the images do.
    pub valid: Option<bool>,
    /// Bytes that were written since, if libvirt tells them.
    pub bytes: Option<u64>,
}

/// What libvirt has of a checkpoint of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedState {
    /// It lists it, and no bitmap is known to be bad.
    Listed,
    /// It does not list it.
    NotListed,
    /// It lists it, and a bitmap is missing or has not seen all writes.
    NotValid,
}

impl ListedState {
    /// The words for it, in text and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ListedState::Listed => "listed",
            ListedState::NotListed => "not listed",
            ListedState::NotValid => "listed and not valid",
        }
    }
}

/// A checkpoint that libvirt has and the log has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// The checkpoint.
    pub name: MomentName,
    /// Its parent.
    pub parent: Option<MomentName>,
}

/// Compares the checkpoints of a domain with those that libvirt tells. `sight` is what is seen of the images of a guest that
/// is off.
pub(crate) fn compare(domain: &Domain, told: &ManagedGuest, sight: Option<&Sight>) -> Listing {
    let list = domain.checkpoints();
    let listed: BTreeMap<&str, &Listed> = told
        .checkpoints
        .iter()
        .map(|listed| (listed.name.as_str(), listed))
        .collect();
    let mut found = Vec::new();
    let mut plan = Vec::new();
    // Of each checkpoint, the nearest one from it upwards that libvirt lists, or will by the plan. Parents are walked first.
    let mut nearest: BTreeMap<MomentId, Option<MomentName>> = BTreeMap::new();
    for moment in list.walk(Scope::All) {
        let theirs = listed.get(moment.name.as_str()).copied();
        let disks: Vec<ListedDisk> = Tracked::of(moment.name, moment.def)
            .into_iter()
            .map(|tracked| disk(tracked, theirs, told.running, sight))
            .collect();
        let is_bad = disks.iter().any(|disk| disk.valid == Some(false));
        let state = match theirs {
            Some(_) if is_bad => ListedState::NotValid,
            Some(_) => ListedState::Listed,
            None => ListedState::NotListed,
        };
        let parent = list
            .parent(moment.id)
            .and_then(|parent| nearest.get(&parent.id));
        let parent = parent.cloned().flatten();
        let is_planned = theirs.is_none() && !is_bad;
        if is_planned {
            let parent = parent.as_ref();
            plan.push(Redefinition::of_checkpoint(moment, parent, false, false));
        }
        let is_there = theirs.is_some() || is_planned;
        let next = if is_there {
            Some(moment.name.clone())
        } else {
            parent
        };
        nearest.insert(moment.id, next);
        found.push(ListedFinding {
            checkpoint: moment.name.clone(),
            state,
            disks,
        });
    }
    let unknown = |listed: &&Listed| list.find(listed.name.as_str()).is_none();
    let unrecorded = told.checkpoints.iter().filter(unknown);
    Listing {
        running: told.running,
        checkpoints: found,
        unrecorded: unrecorded
            .map(|listed| Unlisted {
                name: listed.name.clone(),
                parent: listed.parent.clone(),
            })
            .collect(),
        plan,
    }
}

/// What is known of a disk that a checkpoint of the log tracks.
fn disk(
    tracked: Tracked,
    listed: Option<&Listed>,
    running: bool,
    sight: Option<&Sight>,
) -> ListedDisk {
    let Tracked { disk, bitmap } = tracked.clone();
    let bytes = listed.and_then(|listed| listed.sizes.get(&disk).copied());
    let valid = match listed {
        // libvirt's checkpoint of this name is about other bitmaps.
        Some(listed) if !Tracked::of(&listed.name, &listed.def).contains(&tracked) => Some(false),
        Some(_) if running => Some(bytes.is_some()),
        // Only libvirt knows, and it says so only of what it lists.
        None if running => None,
        _ => match finding(tracked, sight).state {
            DiskState::Unknown => None,
            state => Some(state == DiskState::Ok),
        },
    };
    ListedDisk {
        disk,
        bitmap,
        valid,
        bytes,
    }
}

impl Listing {
    /// Whether libvirt's list and the log agree, and all bitmaps are known to be valid.
    pub fn agrees(&self) -> bool {
        let good = |found: &ListedFinding| {
            found.state == ListedState::Listed
                && found.disks.iter().all(|disk| disk.valid == Some(true))
        };
        self.checkpoints.iter().all(good) && self.unrecorded.is_empty()
    }

    /// Whether of each checkpoint that libvirt lists could be seen whether its bitmaps are valid.
    pub fn is_whole(&self) -> bool {
        let mut listed = self.checkpoints.iter();
        listed.all(|found| {
            found.state != ListedState::Listed
                || found.disks.iter().all(|disk| disk.valid.is_some())
        })
    }
}

#[cfg(test)]
mod tests;
