//! What happened to a domain, to its moments, or to the store.
//!
//! Events are facts: names are chosen, parents resolved, disks aligned and times read before an event exists. Applying
//! one therefore never decides, and never sees a policy. The stored form is separate, so these types derive no
//! serialisation.

use std::fmt;
use std::sync::Arc;

use crate::{
    Attachment, CheckpointDef, DiskSeen, DomainDef, DomainUuid, Extent, Hold, HoldTag, Job, JobId,
    JobOutcome, MomentId, MomentName, Policy, Power, Settings, SnapshotDef,
};

/// One fact about one domain, or about the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The domain; none if it is about the store.
    pub domain: Option<DomainUuid>,
    /// What happened.
    pub change: Change,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The domain has this definition.
    DomainDefined {
        /// The definition.
        def: Arc<DomainDef>,
        /// The rules in force, in full.
        policy: Policy,
        /// Whether it is the definition of a guest that is active or about to start, rather than the persistent one.
        live: bool,
    },
    /// The domain is in this run state, as a caller reported. A persistent domain that stopped takes its next definition.
    StateChanged(Power),
    /// The domain lives only as long as its guest from now on.
    MadeTransient,
    /// The domain is gone, with all its moments. It has no open job.
    DomainRemoved,
    /// The domain is found under another name, that of this definition, which is the next start's from now on. It keeps its
    /// moments.
    DomainRenamed(Arc<DomainDef>),
    /// Whether the domain starts with its host.
    AutostartSet(bool),
    /// Other rules are in force.
    PolicySet(Policy),
    /// A snapshot changed.
    Snapshot(MomentChange<SnapshotDef>),
    /// A checkpoint changed.
    Checkpoint(MomentChange<CheckpointDef>),
    /// The domain went back to a snapshot: that is current, its definition is the domain's.
    Reverted {
        /// The snapshot.
        id: MomentId,
        /// The run state afterwards.
        power: Power,
    },
    /// A hypervisor is about to be asked for something.
    JobBegun {
        /// The job's number, the next one of the store.
        id: JobId,
        /// What its outcome needs.
        job: Arc<Job>,
    },
    /// An open job has done what it was begun for. What it made or deleted is in events of the same record.
    JobEnded(JobOutcome),
    /// An open job has not done what it was begun for.
    JobFailed(JobOutcome),
    /// The domain's hypervisor is asked there from now on.
    HypervisorAttached(Arc<Attachment>),
    /// The domain's hypervisor is not asked any more.
    HypervisorDetached,
    /// What was seen of a checkpoint's bitmaps. It changes nothing in the state: what was made stays made.
    CheckpointSeen {
        /// The checkpoint.
        id: MomentId,
        /// What was seen, of one or more of the disks that the checkpoint tracks, in its order.
        disks: Vec<DiskSeen>,
    },
    /// A moment is held, in addition to the holds that it has.
    HoldAdded {
        /// The moment, of either kind.
        id: MomentId,
        /// The hold's tag.
        tag: HoldTag,
        /// Who holds it, and since when.
        hold: Hold,
    },
    /// A moment is no longer held under this tag.
    HoldRemoved {
        /// The moment, of either kind.
        id: MomentId,
        /// The hold's tag.
        tag: HoldTag,
    },
    /// The store has these settings. The only event that is about no domain.
    SettingsSet(Settings),
}

/// What happened to a moment of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MomentChange<D> {
    /// A moment that was not there hangs below `parent`.
    Created {
        /// Its id, the next one of the store.
        id: MomentId,
        /// Its parent.
        parent: Option<MomentId>,
        /// Its name.
        name: MomentName,
        /// When it was made, in seconds since 1970.
        created: i64,
        /// Its definition.
        def: Arc<D>,
        /// Whether it is current now.
        current: bool,
    },
    /// A moment has another definition and is its parent's newest child.
    Redefined {
        /// The moment.
        id: MomentId,
        /// Its parent, the same or another.
        parent: Option<MomentId>,
        /// When it was made, in seconds since 1970.
        created: i64,
        /// Its definition.
        def: Arc<D>,
        /// Whether it is current now; otherwise current did not change.
        current: bool,
    },
    /// A moment, or what hangs below it, is gone.
    Deleted {
        /// The moment.
        id: MomentId,
        /// How much of the tree went.
        extent: Extent,
        /// All ids that are gone.
        removed: IdRuns,
        /// How many children moved to the parent.
        children_moved: u64,
        /// What is current now.
        current: Option<MomentId>,
    },
    /// A moment hangs elsewhere, with what is below it, and is its parent's newest child.
    Reparented {
        /// The moment.
        id: MomentId,
        /// Its parent.
        parent: Option<MomentId>,
    },
    /// Another moment is current, or none.
    CurrentSet(Option<MomentId>),
}

/// A set of ids as runs of neighbours, so that a subtree made in one go is one pair of numbers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IdRuns(Vec<(MomentId, u64)>);

/// The first runs, as `first..after`.
impl fmt::Debug for IdRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How many runs are shown.
        const SHOWN: usize = 8;
        let runs = self.0.iter().take(SHOWN);
        let runs = runs.map(|(first, length)| first.get()..first.get().saturating_add(*length));
        let mut list = f.debug_list();
        list.entries(runs);
        if self.0.len() > SHOWN {
            list.entry(&format_args!("and {} more", self.0.len() - SHOWN));
        }
        list.finish()
    }
}

impl IdRuns {
    /// Returns the runs of these ids, in any order; one that comes twice is there once.
    pub fn from_ids(mut ids: Vec<MomentId>) -> IdRuns {
        ids.sort_unstable();
        ids.dedup();
        let mut runs: Vec<(MomentId, u64)> = Vec::new();
        for id in ids {
            match runs.last_mut() {
                Some((first, length)) if first.get() + *length == id.get() => *length += 1,
                _ => runs.push((id, 1)),
            }
        }
        IdRuns(runs)
    }

    /// Returns these runs, or `None` if they are empty, overlap, touch, or are not in order.
    pub fn from_runs(runs: Vec<(MomentId, u64)>) -> Option<IdRuns> {
        let mut end = 0;
        for (first, length) in &runs {
            if *length == 0 || (end != 0 && first.get() <= end) {
                return None;
            }
            end = first.get().checked_add(*length)?;
        }
        Some(IdRuns(runs))
    }

    /// The runs: first id and length, ascending and apart.
    pub fn runs(&self) -> &[(MomentId, u64)] {
        &self.0
    }

    /// The ids, ascending.
    pub fn ids(&self) -> impl Iterator<Item = MomentId> {
        let of_run = |&(first, length): &(MomentId, u64)| {
            (first.get()..first.get() + length).filter_map(MomentId::new)
        };
        self.0.iter().flat_map(of_run)
    }

    /// Number of ids.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(_, length)| length).sum()
    }

    /// Whether `id` is one of them. O(log runs).
    pub fn contains(&self, id: MomentId) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= id);
        after > 0 && id.get() - self.0[after - 1].0.get() < self.0[after - 1].1
    }

    /// Whether there is no id.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> MomentId {
        MomentId::new(number).unwrap()
    }

    #[test]
    fn neighbours_make_one_run() {
        let runs = IdRuns::from_ids([7, 3, 4, 9, 5].map(id).to_vec());
        assert_eq!(runs.runs(), [(id(3), 3), (id(7), 1), (id(9), 1)]);
        assert_eq!(runs.len(), 5);
        let twice = IdRuns::from_ids([7, 3, 7, 4, 3, 9, 5].map(id).to_vec());
        assert_eq!(twice, runs);
        assert_eq!(IdRuns::from_runs(runs.runs().to_vec()), Some(runs));
    }

    #[test]
    fn runs_that_no_set_of_ids_makes_are_refused() {
        for bad in [
            vec![(3, 0)],
            vec![(3, 2), (5, 1)],
            vec![(5, 1), (3, 1)],
            vec![(u64::MAX, 1)],
        ] {
            let runs = bad
                .iter()
                .map(|(first, length)| (id(*first), *length))
                .collect();
            assert_eq!(IdRuns::from_runs(runs), None, "{bad:?}");
        }
    }
}
