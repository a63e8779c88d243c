//! What an event does to one list of moments.

use super::Misfit;
use crate::deletion::DeletionPlan;
use crate::moment_list::CannotHang;
use crate::part::Part;
use crate::{Budget, Extent, IdRuns, MomentChange, MomentId, MomentList};

/// Changes a list, and takes ids and steps from the state's counters. Every check comes before the first change.
pub(super) fn change<D>(
    list: &mut MomentList<D>,
    change: &MomentChange<D>,
    (part, next_moment, budget): (&Part, &mut Option<MomentId>, &mut Budget),
) -> Result<(), Misfit> {
    ListToChange {
        list,
        part,
        next_moment,
        budget,
    }
    .change(change)
}

struct ListToChange<'a, D> {
    list: &'a mut MomentList<D>,
    part: &'a Part,
    next_moment: &'a mut Option<MomentId>,
    budget: &'a mut Budget,
}

impl<D> ListToChange<'_, D> {
    fn change(&mut self, change: &MomentChange<D>) -> Result<(), Misfit> {
        match change {
            MomentChange::Created {
                id,
                parent,
                name,
                created,
                def,
                current,
            } => {
                self.is_next(*id)?;
                self.hanging(*id, *parent)?;
                let (list, def) = (&mut *self.list, def.clone());
                if !list.link(*id, *parent, name.clone(), *created, def) {
                    return Err(Misfit::NameOfMoment(name.clone()));
                }
                self.set_current_if(*current, *id);
                *self.next_moment = id.next();
            }
            MomentChange::Redefined {
                id,
                parent,
                created,
                def,
                current,
            } => {
                self.relink(*id, *parent)?;
                self.list.redefine(*id, *created, def.clone());
                self.set_current_if(*current, *id);
            }
            MomentChange::Deleted {
                id,
                extent,
                removed,
                children_moved,
                current,
            } => self.delete(*id, *extent, (removed, *children_moved), *current)?,
            MomentChange::Reparented { id, parent } => self.relink(*id, *parent)?,
            MomentChange::CurrentSet(current) => {
                self.listed_if_any(*current)?;
                self.list.set_current(*current);
            }
        }
        Ok(())
    }

    /// Deletes what an event says, if that is what hangs there.
    fn delete(
        &mut self,
        id: MomentId,
        extent: Extent,
        (removed, children_moved): (&IdRuns, u64),
        current: Option<MomentId>,
    ) -> Result<(), Misfit> {
        self.listed(id)?;
        let plan = DeletionPlan::of(self.list, id, extent);
        if plan.removed != *removed || plan.children_moved != children_moved {
            return Err(Misfit::Extent(id));
        }
        let left = self
            .budget
            .spend(children_moved)
            .ok_or_else(|| self.over_budget(id))?;
        self.listed_if_any(current)?;
        if let Some(gone) = current.filter(|current| removed.contains(*current)) {
            return Err(Misfit::NoMoment(gone));
        }
        plan.carry_out(self.list);
        self.list.set_current(current);
        *self.budget = left;
        Ok(())
    }

    /// Hangs a moment below `parent`, as its first child.
    fn relink(&mut self, id: MomentId, parent: Option<MomentId>) -> Result<(), Misfit> {
        self.listed(id)?;
        let left = self.hanging(id, parent)?;
        self.list.relink(id, parent);
        *self.budget = left;
        Ok(())
    }

    fn set_current_if(&mut self, current: bool, id: MomentId) {
        if current {
            self.list.set_current(Some(id));
        }
    }

    fn is_next(&self, id: MomentId) -> Result<(), Misfit> {
        let next = *self.next_moment;
        if self.part.may_follow(next, id) {
            Ok(())
        } else {
            Err(Misfit::NotNext { found: id, next })
        }
    }

    fn listed(&self, id: MomentId) -> Result<(), Misfit> {
        self.listed_if_any(Some(id))
    }

    fn listed_if_any(&self, id: Option<MomentId>) -> Result<(), Misfit> {
        match id {
            Some(id) if self.list.get(id).is_none() => Err(Misfit::NoMoment(id)),
            _ => Ok(()),
        }
    }

    /// Checks that a moment may hang below `parent`, and returns the budget after that.
    fn hanging(&self, moment: MomentId, parent: Option<MomentId>) -> Result<Budget, Misfit> {
        self.budget
            .spend_on_parent(self.list, moment, parent)
            .map_err(|why| match why {
                CannotHang::Parent => Misfit::Parent { moment, parent },
                CannotHang::TooFar => self.over_budget(moment),
            })
    }

    fn over_budget(&self, moment: MomentId) -> Misfit {
        Misfit::OverBudget {
            moment,
            left: self.budget.steps(),
        }
    }
}
