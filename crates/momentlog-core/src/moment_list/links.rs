//! Who hangs below whom: plain values by slot.

use super::table::{Slot, Table};

/// The links of all moments. Children form a doubly linked list in link order, newest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    table: Table<Link>,
    roots: Children,
    /// Moments without children.
    leaves: usize,
}

/// Where one moment hangs, and what hangs below it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Link {
    pub(super) parent: Option<Slot>,
    pub(super) previous: Option<Slot>,
    pub(super) next: Option<Slot>,
    pub(super) children: Children,
}

/// The head of a list of children.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Children {
    pub(super) first: Option<Slot>,
    pub(super) count: u32,
}

impl Links {
    /// Returns links of which each says its parent and the sibling after it; the rest follows from that.
    ///
    /// They are not checked: what does not fit together shows as links that disagree. Slots that are not there are
    /// ignored likewise.
    pub(super) fn restore(mut links: Vec<Link>) -> Links {
        let mut roots = Children::default();
        for index in 0..links.len() {
            if let Some(next) = links[index]
                .next
                .and_then(|next| links.get_mut(next.index()))
            {
                next.previous = Some(Slot::at(index));
            }
        }
        for index in 0..links.len() {
            let Link {
                parent, previous, ..
            } = links[index];
            let children = match parent {
                None => &mut roots,
                Some(parent) => match links.get_mut(parent.index()) {
                    Some(parent) => &mut parent.children,
                    None => continue,
                },
            };
            children.count += 1;
            if previous.is_none() {
                children.first = Some(Slot::at(index));
            }
        }
        Links {
            leaves: links.iter().filter(|link| link.children.count == 0).count(),
            table: links.into(),
            roots,
        }
    }

    /// Number of moments without children.
    pub(super) fn leaves(&self) -> usize {
        self.leaves
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// All links with their slots, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Link)> {
        self.table.iter()
    }

    pub(super) fn of(&self, slot: Slot) -> Option<&Link> {
        self.table.get(slot)
    }

    /// The children of a moment, or the roots; nothing for a moment that is not listed.
    pub(super) fn children(&self, parent: Option<Slot>) -> Children {
        match parent {
            None => self.roots,
            Some(parent) => self
                .of(parent)
                .map_or(Children::default(), |link| link.children),
        }
    }

    /// Puts a new moment in front of the children of `parent`.
    pub(super) fn push(&mut self, parent: Option<Slot>) {
        self.leaves += 1;
        let slot = Slot::at(self.table.len());
        let next = self.put_in_front(slot, parent);
        self.table.push(Link {
            parent,
            next,
            ..Link::default()
        });
    }

    /// Puts a moment that was unlinked in front of the children of `parent`. Its own children stay with it.
    pub(super) fn link(&mut self, slot: Slot, parent: Option<Slot>) {
        let next = self.put_in_front(slot, parent);
        self.update(slot, |link| {
            *link = Link {
                parent,
                previous: None,
                next,
                children: link.children,
            };
        });
    }

    /// Makes a moment the first child of `parent`, and returns the one that was.
    fn put_in_front(&mut self, slot: Slot, parent: Option<Slot>) -> Option<Slot> {
        let next = self.update_children(parent, |siblings| {
            siblings.count += 1;
            siblings.first.replace(slot)
        });
        if let Some(next) = next {
            self.update(next, |link| link.previous = Some(slot));
        }
        next
    }

    /// Takes a moment out of its siblings. It keeps its children until it is linked again or forgotten.
    pub(super) fn unlink(&mut self, slot: Slot) {
        let Link {
            parent,
            previous,
            next,
            ..
        } = *self.of(slot).expect("links name only listed moments");
        if let Some(next) = next {
            self.update(next, |link| link.previous = previous);
        }
        if let Some(previous) = previous {
            self.update(previous, |link| link.next = next);
        }
        self.update_children(parent, |siblings| {
            siblings.count -= 1;
            if previous.is_none() {
                siblings.first = next;
            }
        });
    }

    /// Splices the children of `from` in front of those of `to`, in their order. O(children).
    pub(super) fn move_children(&mut self, from: Slot, to: Option<Slot>) {
        let moved = self.update_children(Some(from), std::mem::take);
        let Some(first) = moved.first else {
            return;
        };
        let mut last = first;
        let mut at = Some(first);
        while let Some(slot) = at {
            at = self.update(slot, |link| {
                link.parent = to;
                link.next
            });
            last = slot;
        }
        let behind = self.update_children(to, |siblings| {
            siblings.count += moved.count;
            siblings.first.replace(first)
        });
        self.update(last, |link| link.next = behind);
        if let Some(behind) = behind {
            self.update(behind, |link| link.previous = Some(last));
        }
    }

    /// Lets go of all children of a moment, which the caller forgets one by one.
    pub(super) fn drop_children(&mut self, slot: Slot) {
        self.update_children(Some(slot), |children| *children = Children::default());
    }

    /// Clears the links of a moment that nothing links to any more.
    pub(super) fn forget(&mut self, slot: Slot) {
        let forgotten = self.update(slot, std::mem::take);
        self.leaves -= usize::from(forgotten.children.count == 0);
    }

    /// The moment after `slot` in pre-order, without leaving `within`. Inlined, a walk has a sixth fewer instructions.
    #[inline]
    pub(super) fn after(&self, slot: Slot, within: Option<Slot>, deep: bool) -> Option<Slot> {
        let mut link = self.of(slot)?;
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

    fn update<T>(&mut self, slot: Slot, change: impl FnOnce(&mut Link) -> T) -> T {
        self.table
            .update(slot, change)
            .expect("links name only listed moments")
    }

    fn update_children<T>(
        &mut self,
        parent: Option<Slot>,
        change: impl FnOnce(&mut Children) -> T,
    ) -> T {
        let Some(parent) = parent else {
            return change(&mut self.roots);
        };
        let (was_leaf, result, is_leaf) = self.update(parent, |link| {
            let was_leaf = link.children.count == 0;
            let result = change(&mut link.children);
            (was_leaf, result, link.children.count == 0)
        });
        self.leaves = self.leaves + usize::from(is_leaf) - usize::from(was_leaf);
        result
    }
}
