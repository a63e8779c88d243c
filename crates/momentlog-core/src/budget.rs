//! The steps that a store's events may spend, so that no log takes long to replay.

use crate::moment_list::CannotHang;
use crate::{Change, Domain, MomentChange, MomentId, MomentList, MomentName};

/// Steps that are left for changes that cost more than O(log n): looking for a cycle above a moment that has children
/// takes one per ancestor, deleting a moment whose children move up one per child.
///
/// A store begins with 16,777,216, and each event adds 256, so what is at most 256 deep or wide is never refused, and
/// a hostile log cannot make replay quadratic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Budget(u64);

impl Budget {
    /// The budget of a store without events: 16,777,216 steps.
    pub const FIRST: Budget = Budget(1 << 24);

    /// Steps that each event adds.
    const PER_EVENT: u64 = 256;

    /// Returns a budget of this many steps.
    pub fn of(steps: u64) -> Budget {
        Budget(steps)
    }

    /// The steps left.
    pub fn steps(self) -> u64 {
        self.0
    }

    /// Returns what is left after this many steps, or `None` if there are fewer.
    #[must_use]
    pub(crate) fn spend(self, steps: u64) -> Option<Budget> {
        self.0.checked_sub(steps).map(Budget)
    }

    /// Returns what there is after as many more events as that.
    #[must_use]
    pub(crate) fn earn(self, events: u32) -> Budget {
        Budget(self.0.saturating_add(Budget::PER_EVENT * u64::from(events)))
    }

    /// Returns what is left once `parent` was found to be listed (or none), and not to hang below `id`.
    pub(crate) fn spend_on_parent<D>(
        self,
        list: &MomentList<D>,
        id: MomentId,
        parent: Option<MomentId>,
    ) -> Result<Budget, CannotHang> {
        let steps = list.can_hang(id, parent, self.0)?;
        self.spend(steps).ok_or(CannotHang::TooFar)
    }

    /// Whether a change that `decide` makes can be paid.
    fn covers<D>(self, list: &MomentList<D>, change: &MomentChange<D>) -> bool {
        match change {
            MomentChange::Redefined { id, parent, .. }
            | MomentChange::Reparented { id, parent } => {
                self.spend_on_parent(list, *id, *parent).is_ok()
            }
            MomentChange::Deleted { children_moved, .. } => self.spend(*children_moved).is_some(),
            MomentChange::Created { .. } | MomentChange::CurrentSet(_) => true,
        }
    }
}

impl Domain {
    /// Returns the moment whose change takes more steps than the budget has.
    pub(crate) fn exceeds(&self, changes: &[Change], budget: Budget) -> Option<MomentName> {
        fn exceeds<D>(
            list: &MomentList<D>,
            change: &MomentChange<D>,
            budget: Budget,
        ) -> Option<MomentName> {
            match change {
                // A parent that an earlier one of these changes makes: who decided them has applied them.
                MomentChange::Reparented {
                    parent: Some(parent),
                    ..
                } if list.get(*parent).is_none() => None,
                _ if budget.covers(list, change) => None,
                MomentChange::Redefined { id, .. }
                | MomentChange::Reparented { id, .. }
                | MomentChange::Deleted { id, .. } => {
                    list.get(*id).map(|moment| moment.name.clone())
                }
                MomentChange::Created { .. } | MomentChange::CurrentSet(_) => None,
            }
        }
        changes.iter().find_map(|change| match change {
            Change::Snapshot(change) => exceeds(&self.snapshots, change, budget),
            Change::Checkpoint(change) => exceeds(&self.checkpoints, change, budget),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_to_the_last_step_and_no_further() {
        assert_eq!(Budget::of(3).spend(3), Some(Budget::of(0)));
        assert_eq!(Budget::of(3).spend(4), None);
        assert_eq!(Budget::of(0).spend(0), Some(Budget::of(0)));
    }

    #[test]
    fn an_event_adds_its_steps_and_a_full_budget_stays_full() {
        assert_eq!(Budget::FIRST.earn(1).steps(), 16_777_216 + 256);
        assert_eq!(Budget::of(u64::MAX).earn(1), Budget::of(u64::MAX));
    }
}
