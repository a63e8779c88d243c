//! The rules of a list, each written once.

use super::MomentList;
use super::links::{Link, Links};
use super::table::Slot;
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
}

/// Which rule the links break, and around which moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BrokenLinks {
    Parent(Slot),
    Siblings(Slot),
    ChildCount(Option<Slot>),
    Leaves { counted: usize, found: usize },
    Cycle { reached: usize, len: usize },
}

impl Links {
    /// Checks every rule of links, of which those of moments that are not `listed` do not count. Returns how many moments
    /// there are. O(n).
    ///
    /// # Errors
    ///
    /// The first [`BrokenLinks`].
    pub(super) fn check(&self, listed: impl Fn(Slot) -> bool) -> Result<usize, BrokenLinks> {
        let mut in_lists = self.check_children(None, &listed)?;
        let (mut len, mut leaves) = (0, 0);
        let mut is_ordered = true;
        for (slot, link) in self.iter().filter(|(slot, _)| listed(*slot)) {
            len += 1;
            if let Some(parent) = link.parent
                && self.of_listed(parent, &listed).is_none()
            {
                return Err(BrokenLinks::Parent(slot));
            }
            is_ordered &= link.parent < Some(slot);
            let children = self.check_children(Some(slot), &listed)?;
            in_lists += children;
            leaves += usize::from(children == 0);
        }
        if leaves != self.leaves() {
            return Err(BrokenLinks::Leaves {
                counted: self.leaves(),
                found: leaves,
            });
        }
        // Every list of children is sound and names its parent, so each moment is in one list at most,
        // and all are in one if the lengths add up. What is left is that all hang below a root: where every
        // parent is older than its children, the way up ends at a root.
        let reached = if in_lists == len && !is_ordered {
            let after = |slot: &Slot| self.after(*slot, None, true);
            std::iter::successors(self.children(None).first, after).count()
        } else {
            in_lists
        };
        if reached != len {
            return Err(BrokenLinks::Cycle { reached, len });
        }
        Ok(len)
    }

    /// Checks one list of children: each knows its parent and its neighbour before, and they are as many as counted.
    fn check_children(
        &self,
        parent: Option<Slot>,
        listed: &impl Fn(Slot) -> bool,
    ) -> Result<usize, BrokenLinks> {
        let children = self.children(parent);
        let mut previous = None;
        let mut at = children.first;
        let mut count = 0;
        while let Some(slot) = at {
            let Some(link) = self.of_listed(slot, listed) else {
                return Err(BrokenLinks::ChildCount(parent));
            };
            count += 1;
            if link.parent != parent || link.previous != previous || count > children.count {
                return Err(BrokenLinks::Siblings(slot));
            }
            previous = Some(slot);
            at = link.next;
        }
        if count == children.count {
            Ok(count as usize)
        } else {
            Err(BrokenLinks::ChildCount(parent))
        }
    }

    fn of_listed(&self, slot: Slot, listed: &impl Fn(Slot) -> bool) -> Option<&Link> {
        self.of(slot).filter(|_| listed(slot))
    }
}

impl<D> MomentList<D> {
    /// Checks every rule of the list. O(n).
    ///
    /// # Errors
    ///
    /// The first rule that is [`Broken`].
    pub fn check(&self) -> Result<(), Broken> {
        self.check_rows()?;
        let links = self.links.check(|slot| self.moment(slot).is_some());
        self.check_columns(links)?;
        for (slot, row) in self.rows.iter() {
            if self.moment(slot).is_some() && !self.leads_to(slot, row.name.as_str()) {
                return Err(Broken::Name(row.id));
            }
        }
        Ok(())
    }

    /// Checks that moments come in the order of their ids, and that the current one is there. O(n).
    pub(super) fn check_rows(&self) -> Result<(), Broken> {
        let mut last = None;
        for (_, row) in self.rows.iter() {
            if last >= Some(row.id) {
                return Err(Broken::Order(row.id));
            }
            last = Some(row.id);
        }
        if last != self.last {
            return Err(Broken::Columns);
        }
        match self.current {
            Some(current) if self.moment(current).is_none() => Err(Broken::Current),
            _ => Ok(()),
        }
    }

    /// Checks that the number of sound links is the number of moments. O(1).
    pub(super) fn check_columns(&self, links: Result<usize, BrokenLinks>) -> Result<(), Broken> {
        if self.links.len() != self.rows.len() {
            return Err(Broken::Columns);
        }
        let id = |slot| self.rows.get(slot).map(|row| row.id);
        let broken = match links {
            Ok(len) if len == self.len => return Ok(()),
            Ok(_) => None,
            Err(BrokenLinks::Parent(slot)) => id(slot).map(Broken::ParentMissing),
            Err(BrokenLinks::Siblings(slot)) => id(slot).map(Broken::Links),
            Err(BrokenLinks::ChildCount(parent)) => Some(Broken::ChildCount(parent.and_then(id))),
            Err(BrokenLinks::Leaves { counted, found }) => Some(Broken::Leaves { counted, found }),
            Err(BrokenLinks::Cycle { reached, len }) => Some(Broken::Cycle { reached, len }),
        };
        Err(broken.unwrap_or(Broken::Columns))
    }

    /// Checks that no two moments of a restored list have one name, which was seen when its index of names was made. O(1).
    pub(super) fn check_names(&self) -> Result<(), Broken> {
        let twice = self.names.duplicate().and_then(|slot| self.moment(slot));
        twice.map_or(Ok(()), |moment| Err(Broken::Name(moment.id)))
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
        self.find(name).is_some_and(|found| found.slot == slot)
    }
}
