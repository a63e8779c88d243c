//! Who hangs below whom: plain values in one persistent column.

use super::Broken;
use crate::MomentId;

/// The links of all moments. Children form a doubly linked list in link order, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Links {
    column: im::OrdMap<MomentId, Link>,
    roots: Children,
}

/// Where one moment hangs, and what hangs below it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Link {
    pub(super) parent: Option<MomentId>,
    pub(super) previous: Option<MomentId>,
    pub(super) next: Option<MomentId>,
    pub(super) children: Children,
}

/// The head of a list of children.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Children {
    pub(super) first: Option<MomentId>,
    pub(super) count: usize,
}

impl Links {
    pub(super) fn len(&self) -> usize {
        self.column.len()
    }

    pub(super) fn of(&self, id: MomentId) -> Option<&Link> {
        self.column.get(&id)
    }

    /// The children of a moment, or the roots; nothing for a moment that is not listed.
    pub(super) fn children(&self, parent: Option<MomentId>) -> Children {
        match parent {
            None => self.roots,
            Some(parent) => self
                .of(parent)
                .map_or(Children::default(), |link| link.children),
        }
    }

    /// Puts a moment in front of the children of `parent`. Its own children stay with it.
    pub(super) fn link(&mut self, id: MomentId, parent: Option<MomentId>) {
        let siblings = self.children_mut(parent);
        let next = siblings.first.replace(id);
        siblings.count += 1;
        if let Some(next) = next {
            self.link_mut(next).previous = Some(id);
        }
        let children = self
            .of(id)
            .map_or(Children::default(), |link| link.children);
        self.column.insert(
            id,
            Link {
                parent,
                previous: None,
                next,
                children,
            },
        );
    }

    /// Puts a moment that is not there yet behind `last`, the last child of `parent` so far.
    pub(super) fn link_last(
        &mut self,
        id: MomentId,
        parent: Option<MomentId>,
        last: Option<MomentId>,
    ) {
        let siblings = self.children_mut(parent);
        siblings.first.get_or_insert(id);
        siblings.count += 1;
        if let Some(last) = last {
            self.link_mut(last).next = Some(id);
        }
        self.column.insert(
            id,
            Link {
                parent,
                previous: last,
                next: None,
                children: Children::default(),
            },
        );
    }

    /// Takes a moment out of its siblings. It stays in the column until it is linked again or forgotten.
    pub(super) fn unlink(&mut self, id: MomentId) {
        let Link {
            parent,
            previous,
            next,
            ..
        } = *self.link_mut(id);
        if let Some(next) = next {
            self.link_mut(next).previous = previous;
        }
        if let Some(previous) = previous {
            self.link_mut(previous).next = next;
        }
        let siblings = self.children_mut(parent);
        siblings.count -= 1;
        if previous.is_none() {
            siblings.first = next;
        }
    }

    /// Splices the children of `from` in front of those of `to`, in their order. O(children).
    pub(super) fn move_children(&mut self, from: MomentId, to: Option<MomentId>) {
        let moved = std::mem::take(self.children_mut(Some(from)));
        let Some(first) = moved.first else {
            return;
        };
        let mut last = first;
        let mut at = Some(first);
        while let Some(id) = at {
            let link = self.link_mut(id);
            link.parent = to;
            at = link.next;
            last = id;
        }
        let siblings = self.children_mut(to);
        siblings.count += moved.count;
        let behind = siblings.first.replace(first);
        self.link_mut(last).next = behind;
        if let Some(behind) = behind {
            self.link_mut(behind).previous = Some(last);
        }
    }

    /// Lets go of all children of a moment, which the caller forgets one by one.
    pub(super) fn drop_children(&mut self, id: MomentId) {
        *self.children_mut(Some(id)) = Children::default();
    }

    /// Takes a moment out of the column.
    pub(super) fn forget(&mut self, id: MomentId) {
        self.column.remove(&id);
    }

    /// Rules 1 to 3 of the list.
    pub(super) fn check(&self) -> Result<(), Broken> {
        let mut reached = 0;
        self.check_children(None, &mut reached)?;
        for (id, link) in &self.column {
            if let Some(parent) = link.parent
                && !self.column.contains_key(&parent)
            {
                return Err(Broken::ParentMissing {
                    moment: *id,
                    parent,
                });
            }
            self.check_children(Some(*id), &mut reached)?;
        }
        // Every list of children is sound and names its parent, so each moment is in one list at most,
        // and all are in one if the lengths add up. What is left is that all hang below a root.
        if reached != self.column.len() {
            return Err(Broken::Cycle {
                reached,
                len: self.column.len(),
            });
        }
        let mut reached = 0;
        let mut at = self.roots.first;
        while let Some(id) = at {
            reached += 1;
            at = self.after(id, None, true);
        }
        if reached != self.column.len() {
            return Err(Broken::Cycle {
                reached,
                len: self.column.len(),
            });
        }
        Ok(())
    }

    /// The moment and its links to parent and siblings, in both directions.
    pub(super) fn check_around(&self, id: MomentId) -> Result<(), Broken> {
        let Some(link) = self.of(id) else {
            return Ok(());
        };
        if let Some(parent) = link.parent
            && !self.column.contains_key(&parent)
        {
            return Err(Broken::ParentMissing { moment: id, parent });
        }
        let before = match link.previous {
            Some(previous) => self
                .of(previous)
                .is_some_and(|it| it.next == Some(id) && it.parent == link.parent),
            None => self.children(link.parent).first == Some(id),
        };
        let after = link.next.is_none_or(|next| {
            self.of(next)
                .is_some_and(|it| it.previous == Some(id) && it.parent == link.parent)
        });
        let below = match link.children.first {
            Some(first) => self
                .of(first)
                .is_some_and(|it| it.previous.is_none() && it.parent == Some(id)),
            None => link.children.count == 0,
        };
        if before && after && below {
            Ok(())
        } else {
            Err(Broken::Links(id))
        }
    }

    /// One list of children: each knows its parent and its neighbour before, and they are as many as counted.
    fn check_children(&self, parent: Option<MomentId>, reached: &mut usize) -> Result<(), Broken> {
        let children = self.children(parent);
        let mut previous = None;
        let mut at = children.first;
        let mut count = 0;
        while let Some(id) = at {
            let link = self.of(id).ok_or(Broken::Links(id))?;
            count += 1;
            if link.parent != parent || link.previous != previous || count > children.count {
                return Err(Broken::Links(id));
            }
            previous = Some(id);
            at = link.next;
        }
        *reached += count;
        if count == children.count {
            Ok(())
        } else {
            Err(Broken::ChildCount(parent))
        }
    }

    /// The moment after `id` in pre-order, without leaving `within`.
    pub(super) fn after(
        &self,
        id: MomentId,
        within: Option<MomentId>,
        deep: bool,
    ) -> Option<MomentId> {
        let mut link = self.of(id)?;
        if deep && link.children.first.is_some() {
            return link.children.first;
        }
        loop {
            if link.next.is_some() {
                return link.next;
            }
            if link.parent == within {
                return None;
            }
            link = self.of(link.parent?)?;
        }
    }

    fn link_mut(&mut self, id: MomentId) -> &mut Link {
        self.column
            .get_mut(&id)
            .expect("links name only listed moments")
    }

    fn children_mut(&mut self, parent: Option<MomentId>) -> &mut Children {
        match parent {
            None => &mut self.roots,
            Some(parent) => &mut self.link_mut(parent).children,
        }
    }
}
