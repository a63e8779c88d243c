//! What it takes to put deleted moments back.

use std::collections::BTreeSet;

use super::moments::require_free;
use crate::{
    Above, Change, Domain, DomainUuid, Event, Misfit, MomentChange, MomentId, MomentKind,
    MomentList, MomentName, Refusal, State, Undelete, Undeleted,
};

impl State {
    /// Returns the changes that put moments back. The domain's rules are asked of what they make together.
    pub(super) fn undelete(
        &self,
        uuid: DomainUuid,
        undelete: &Undelete,
    ) -> Result<Vec<Change>, Refusal> {
        let domain = self.known(uuid)?;
        let mut next = Next(self.next_moment);
        let (kind, list) = (MomentKind::Snapshot, &domain.snapshots);
        let snapshots = put_back(list, kind, &undelete.snapshots, &mut next)?;
        let (kind, list) = (MomentKind::Checkpoint, &domain.checkpoints);
        let checkpoints = put_back(list, kind, &undelete.checkpoints, &mut next)?;
        let mut changes: Vec<Change> = snapshots.into_iter().map(Change::Snapshot).collect();
        changes.extend(checkpoints.into_iter().map(Change::Checkpoint));
        self.keeps_policy(domain, &changes)?;
        Ok(changes)
    }

    /// Refuses changes after which the domain does not meet its own rules.
    fn keeps_policy(&self, domain: &Domain, changes: &[Change]) -> Result<(), Refusal> {
        let mut state = self.clone();
        for change in changes {
            let event = Event {
                domain: Some(domain.uuid),
                change: change.clone(),
            };
            state.advance(&event).map_err(|misfit| match misfit {
                Misfit::OverBudget { moment, .. } => Refusal::OverBudget {
                    moment: name_of(domain, moment),
                    left: self.budget.steps(),
                },
                // A moment would hang below itself: what hangs below it was named as its parent.
                _ => Refusal::CannotHang,
            })?;
        }
        let after = state.known(domain.uuid)?;
        after.meets(after.policy).map_err(Refusal::PolicyUnmet)
    }
}

/// The name of a moment that is there.
fn name_of(domain: &Domain, id: MomentId) -> MomentName {
    let snapshot = domain.snapshots.get(id).map(|moment| moment.name);
    let checkpoint = || domain.checkpoints.get(id).map(|moment| moment.name);
    let name = snapshot.or_else(checkpoint);
    name.expect("only a moment that is there costs steps")
        .clone()
}

/// The next id, as long as there are some.
struct Next(Option<MomentId>);

impl Next {
    fn take(&mut self) -> Result<MomentId, Refusal> {
        let id = self.0.ok_or(Refusal::IdsExhausted)?;
        self.0 = id.next();
        Ok(id)
    }
}

/// The changes to one list: first the moments, then what hangs below them again.
fn put_back<D>(
    list: &MomentList<D>,
    kind: MomentKind,
    moments: &[Undeleted<D>],
    next: &mut Next,
) -> Result<Vec<MomentChange<D>>, Refusal> {
    let mut names = BTreeSet::new();
    let mut made: Vec<MomentId> = Vec::new();
    let mut changes = Vec::new();
    let mut adopted = Vec::new();
    let there = |id: MomentId| list.get(id).map(|_| id).ok_or(Refusal::CannotHang);
    for moment in moments {
        require_free(list, &moment.name)?;
        let name = || moment.name.clone();
        if !names.insert(&moment.name) {
            return Err(Refusal::NameTaken { name: name() });
        }
        if kind == MomentKind::Checkpoint && !MomentName::is_checkpoint_name(moment.name.as_str()) {
            return Err(Refusal::CheckpointName { name: name() });
        }
        let parent = match moment.parent {
            Above::Nothing => None,
            Above::Moment(id) => Some(there(id)?),
            Above::Undeleted(place) => Some(*made.get(place).ok_or(Refusal::CannotHang)?),
        };
        let id = next.take()?;
        changes.push(MomentChange::Created {
            id,
            parent,
            name: name(),
            created: moment.created,
            def: moment.def.clone(),
            current: moment.current,
        });
        for child in &moment.children {
            adopted.push(MomentChange::Reparented {
                id: there(*child)?,
                parent: Some(id),
            });
        }
        made.push(id);
    }
    changes.extend(adopted);
    Ok(changes)
}
