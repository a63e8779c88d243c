//! What a deletion takes along: planned once, for the one who decides it and for the one who compares.

use crate::{Extent, IdRuns, MomentId, MomentList, Scope};

/// What the deletion of one moment removes and moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeletionPlan {
    id: MomentId,
    extent: Extent,
    /// What hangs below the moment and goes, parents before children.
    below: Vec<MomentId>,
    /// All ids that go.
    pub(crate) removed: IdRuns,
    /// How many children move to the parent.
    pub(crate) children_moved: u64,
}

impl DeletionPlan {
    /// Returns what deleting a listed moment to this extent does. O(moments that go).
    pub(crate) fn of<D>(list: &MomentList<D>, id: MomentId, extent: Extent) -> DeletionPlan {
        let below: Vec<MomentId> = match extent {
            Extent::One => Vec::new(),
            Extent::Subtree | Extent::ChildrenOnly => list
                .walk(Scope::DescendantsOf(id))
                .map(|moment| moment.id)
                .collect(),
        };
        let mut removed = below.clone();
        if extent != Extent::ChildrenOnly {
            removed.push(id);
        }
        let children_moved = match extent {
            Extent::One => list.child_count(Some(id)) as u64,
            Extent::Subtree | Extent::ChildrenOnly => 0,
        };
        DeletionPlan {
            id,
            extent,
            below,
            removed: IdRuns::from_ids(removed),
            children_moved,
        }
    }

    /// Returns what is current after the deletion: the parent if the current moment goes, or the moment itself if only
    /// that stays.
    pub(crate) fn current_after<D>(&self, list: &MomentList<D>) -> Option<MomentId> {
        match list.current_id() {
            Some(current) if self.removed.contains(current) => match self.extent {
                Extent::ChildrenOnly => Some(self.id),
                Extent::One | Extent::Subtree => list.parent(self.id).map(|parent| parent.id),
            },
            current => current,
        }
    }

    /// Removes what the plan says from the list that it was made of.
    pub(crate) fn carry_out<D>(&self, list: &mut MomentList<D>) {
        if self.extent != Extent::One {
            list.remove_descendants(self.id, &self.below);
        }
        if self.extent != Extent::ChildrenOnly {
            list.remove(self.id);
        }
    }
}
