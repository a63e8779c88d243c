//! The rules of a list, each written once.

use super::table::Slot;
use super::{Moment, MomentList};
use crate::MomentId;

/// Which rule of a list is broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A parent is not in the list.
    #[error("the parent of moment {0} is not in the list")]
    ParentMissing(MomentId),
    /// A moment cannot be reached from a root: it is its own ancestor, or hangs below one that is.
    #[error("only {reached} of {len} moments hang below a root")]
    Cycle {
        /// How many the walk reached.
        reached: usize,
        /// How many the list has.
        len: usize,
    },
    /// Sibling links and parents disagree at this moment.
    #[error("the links around moment {0} disagree")]
    Links(MomentId),
    /// The count of children is not that of the sibling links.
    #[error("moment {0:?} counts other children than it has")]
    ChildCount(Option<MomentId>),
    /// The number of leaves is not that of moments without children.
    #[error("{counted} leaves are counted, and there are {found}")]
    Leaves {
        /// What the list counts.
        counted: usize,
        /// How many there are.
        found: usize,
    },
    /// The name index does not lead back to the moment.
    #[error("the name of moment {0} does not lead to it")]
    Name(MomentId),
    /// The columns do not hold the same moments.
    #[error("the columns of the list hold different moments")]
    Columns,
    /// Moments do not come in the order of their ids.
    #[error("moment {0} comes after one with a higher id")]
    Order(MomentId),
    /// Current is not in the list.
    #[error("the current moment is not in the list")]
    Current,
    /// An id is not below the store's counter.
    #[error("moment {0} is not below the counter of ids")]
    Counter(MomentId),
    /// An id stands in two lists of one store.
    #[error("moment {0} is listed twice")]
    Twice(MomentId),
    /// Two domains have one uuid or one name.
    #[error("domain {0} is there twice, or its name is")]
    Domain(crate::DomainUuid),
}

impl<D> MomentList<D> {
    /// Checks every rule of the list. O(n).
    ///
    /// # Errors
    ///
    /// The first rule that is [`Broken`].
    pub fn check(&self) -> Result<(), Broken> {
        self.check_links()?;
        for (slot, row) in self.rows.iter() {
            if self.moment(slot).is_some() && !self.leads_to(slot, row.name.as_str()) {
                return Err(Broken::Name(row.id));
            }
        }
        Ok(())
    }

    /// Checks that no two moments of a restored list have one name, which was seen when its index of names was made. O(1).
    ///
    /// # Errors
    ///
    /// [`Broken::Name`].
    pub fn check_names(&self) -> Result<(), Broken> {
        let twice = self.names.twice().and_then(|slot| self.moment(slot));
        twice.map_or(Ok(()), |moment| Err(Broken::Name(moment.id)))
    }

    /// Checks every rule but that of names. O(n).
    ///
    /// # Errors
    ///
    /// The first rule that is [`Broken`].
    pub fn check_links(&self) -> Result<(), Broken> {
        if self.links.len() != self.rows.len() {
            return Err(Broken::Columns);
        }
        let mut last = None;
        let mut in_lists = self.check_children(None)?;
        let (mut len, mut leaves) = (0, 0);
        let mut is_ordered = true;
        for (slot, row) in self.rows.iter() {
            if last >= Some(row.id) {
                return Err(Broken::Order(row.id));
            }
            last = Some(row.id);
            let Some(moment) = self.moment(slot) else {
                continue;
            };
            len += 1;
            let parent = self.links.of(slot).and_then(|link| link.parent);
            if parent.is_some_and(|parent| self.moment(parent).is_none()) {
                return Err(Broken::ParentMissing(row.id));
            }
            is_ordered &= parent < Some(slot);
            let children = self.check_children(Some(moment))?;
            in_lists += children;
            leaves += usize::from(children == 0);
        }
        if len != self.len || last != self.last {
            return Err(Broken::Columns);
        }
        if leaves != self.links.leaves() {
            return Err(Broken::Leaves {
                counted: self.links.leaves(),
                found: leaves,
            });
        }
        // Every list of children is sound and names its parent, so each moment is in one list at most,
        // and all are in one if the lengths add up. What is left is that all hang below a root: where every
        // parent is older than its children, whoever goes up arrives at one.
        let reached = if in_lists == len && !is_ordered {
            self.walk(super::Scope::All).count()
        } else {
            in_lists
        };
        if reached != len {
            return Err(Broken::Cycle { reached, len });
        }
        match self.current {
            Some(current) if self.moment(current).is_none() => Err(Broken::Current),
            _ => Ok(()),
        }
    }

    /// Checks one list of children: each knows its parent and its neighbour before, and they are as many as counted.
    fn check_children(&self, parent: Option<Moment<'_, D>>) -> Result<usize, Broken> {
        let parent_slot = parent.map(|parent| parent.slot);
        let children = self.links.children(parent_slot);
        let wrong = Broken::ChildCount(parent.map(|parent| parent.id));
        let mut previous = None;
        let mut at = children.first;
        let mut count = 0;
        while let Some(slot) = at {
            let (Some(moment), Some(link)) = (self.moment(slot), self.links.of(slot)) else {
                return Err(wrong);
            };
            count += 1;
            if link.parent != parent_slot || link.previous != previous || count > children.count {
                return Err(Broken::Links(moment.id));
            }
            previous = Some(slot);
            at = link.next;
        }
        if count == children.count {
            Ok(count as usize)
        } else {
            Err(wrong)
        }
    }

    /// Checks the rules around one moment: itself, its parent and its neighbours. O(log n).
    ///
    /// A moment that is no longer listed must have left nothing behind.
    ///
    /// # Errors
    ///
    /// The rule that is [`Broken`].
    pub fn check_around(&self, id: MomentId) -> Result<(), Broken> {
        let Some(moment) = self.get(id) else {
            return match self.current {
                Some(current) if self.moment(current).is_none() => Err(Broken::Current),
                _ => Ok(()),
            };
        };
        let slot = moment.slot;
        let link = self.links.of(slot).ok_or(Broken::Columns)?;
        if link
            .parent
            .is_some_and(|parent| self.moment(parent).is_none())
        {
            return Err(Broken::ParentMissing(id));
        }
        let listed = |slot: Slot| self.moment(slot).and_then(|_| self.links.of(slot));
        let before = match link.previous {
            Some(previous) => {
                listed(previous).is_some_and(|it| it.next == Some(slot) && it.parent == link.parent)
            }
            None => self.links.children(link.parent).first == Some(slot),
        };
        let after = link.next.is_none_or(|next| {
            listed(next).is_some_and(|it| it.previous == Some(slot) && it.parent == link.parent)
        });
        let below = match link.children.first {
            Some(first) => {
                listed(first).is_some_and(|it| it.previous.is_none() && it.parent == Some(slot))
            }
            None => link.children.count == 0,
        };
        if !before || !after || !below {
            return Err(Broken::Links(id));
        }
        if !self.leads_to(slot, moment.name.as_str()) {
            return Err(Broken::Name(id));
        }
        Ok(())
    }

    /// Whether the index finds this moment by its name.
    fn leads_to(&self, slot: Slot, name: &str) -> bool {
        self.find(Some(name))
            .is_some_and(|found| found.slot == slot)
    }
}
