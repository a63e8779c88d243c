//! What it takes to hold a moment, and what holds forbid.

use super::moments::require;
use crate::{
    Change, Domain, Hold, HoldTag, MomentChange, MomentId, MomentKind, MomentList, MomentName,
    Refusal,
};

impl Domain {
    pub(super) fn add_hold(
        &self,
        kind: MomentKind,
        name: &MomentName,
        tag: &HoldTag,
        hold: &Hold,
    ) -> Result<Change, Refusal> {
        let id = self.require_moment(kind, name)?;
        if !hold.is_recordable() {
            return Err(Refusal::HoldBy { name: name.clone() });
        }
        if self.is_held_under(id, tag) {
            return Err(Refusal::HeldAlready {
                kind,
                name: name.clone(),
                tag: tag.clone(),
            });
        }
        Ok(Change::HoldAdded {
            id,
            tag: tag.clone(),
            hold: hold.clone(),
        })
    }

    pub(super) fn release(
        &self,
        kind: MomentKind,
        name: &MomentName,
        tag: &HoldTag,
    ) -> Result<Change, Refusal> {
        let id = self.require_moment(kind, name)?;
        if !self.is_held_under(id, tag) {
            return Err(Refusal::NotHeld {
                kind,
                name: name.clone(),
                tag: tag.clone(),
            });
        }
        Ok(Change::HoldRemoved {
            id,
            tag: tag.clone(),
        })
    }

    /// Refuses changes by which a held moment would go, be redefined, or hang elsewhere as asked. That its parent goes, and it
    /// moves up, is no such change.
    pub(super) fn respects_holds(&self, changes: &[Change]) -> Result<(), Refusal> {
        if self.holds.is_empty() {
            return Ok(());
        }
        let held = changes.iter().find_map(|change| match change {
            Change::DomainRemoved => self.holds.iter().next().map(|(id, ..)| id),
            Change::Snapshot(change) => self.first_held(change),
            Change::Checkpoint(change) => self.first_held(change),
            _ => None,
        });
        match held {
            Some(id) => Err(self.is_held(id)),
            None => Ok(()),
        }
    }

    /// The first held moment that a change takes away, redefines or hangs elsewhere.
    fn first_held<D>(&self, change: &MomentChange<D>) -> Option<MomentId> {
        let is_held = |id: &MomentId| self.holds.of(*id).next().is_some();
        match change {
            MomentChange::Redefined { id, .. } | MomentChange::Reparented { id, .. } => {
                Some(*id).filter(is_held)
            }
            MomentChange::Deleted { removed, .. } => {
                // There are few holds, and a deletion may take many moments.
                let mut held = self.holds.iter().map(|(id, ..)| id);
                held.find(|id| removed.contains(*id))
            }
            MomentChange::Created { .. } | MomentChange::CurrentSet(_) => None,
        }
    }

    /// The refusal of what would change a held moment.
    fn is_held(&self, id: MomentId) -> Refusal {
        let (tag, hold) = self.holds.of(id).next().expect("the moment is held");
        let (kind, name) = match self.snapshots.get(id) {
            Some(snapshot) => (MomentKind::Snapshot, snapshot.name),
            None => {
                let checkpoint = self.checkpoints.get(id).expect("a held moment is listed");
                (MomentKind::Checkpoint, checkpoint.name)
            }
        };
        Refusal::Held {
            kind,
            name: name.clone(),
            tag: tag.clone(),
            by: hold.by.clone(),
            since: hold.since,
        }
    }

    fn is_held_under(&self, id: MomentId, tag: &HoldTag) -> bool {
        self.holds.of(id).any(|(held, _)| held == tag)
    }

    fn require_moment(&self, kind: MomentKind, name: &MomentName) -> Result<MomentId, Refusal> {
        fn id<D>(
            list: &MomentList<D>,
            kind: MomentKind,
            name: &MomentName,
        ) -> Result<MomentId, Refusal> {
            Ok(require(list, kind, name)?.id)
        }
        match kind {
            MomentKind::Snapshot => id(&self.snapshots, kind, name),
            MomentKind::Checkpoint => id(&self.checkpoints, kind, name),
        }
    }
}
