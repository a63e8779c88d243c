//! The moment list: a forest of named moments with at most one current.
//!
//! One list serves both kinds. Snapshots and checkpoints differ only in the definition `D` that they keep.

mod check;
mod links;
mod names;
mod restore;
mod table;
mod walk;

use std::fmt;
use std::sync::Arc;

use crate::{MomentId, MomentName};
use links::Links;
use names::NameIndex;
use table::{Slot, Table};

pub use check::Broken;
pub use restore::{ListRow, Skeleton};
pub use walk::{LeafFilter, Scope, Walk};

/// Moments of one kind and one domain, as a forest.
///
/// There is no hidden root: a root has no parent, and looking for no name finds nothing.
/// Cloning is O(1) and a clone never changes, so a reader keeps its version for as long as it likes.
///
/// 1. Every parent is in the list.  2. No moment is its own ancestor.
/// 3. The children of a moment, read along their sibling links, are exactly the moments that name it as parent, each once.
/// 4. Looking for a name leads to the moment that has it.  5. Current is in the list.  6. Ids ascend with slots.
/// 7. The number of leaves is that of moments without children.
pub struct MomentList<D> {
    /// In the order in which moments came; one that is gone leaves its slot empty until the list is rebuilt.
    rows: Table<Row<D>>,
    links: Links,
    names: NameIndex,
    current: Option<Slot>,
    len: usize,
    /// The id in the last slot.
    last: Option<MomentId>,
}

/// Short: how many moments there are, and which is current.
impl<D> fmt::Debug for MomentList<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MomentList")
            .field("len", &self.len)
            .field("current", &self.current().map(|current| current.name))
            .finish_non_exhaustive()
    }
}

/// What is kept of a moment besides its links. Lists are equal if rows and links are, so a new field is compared, too.
#[derive(PartialEq)]
struct Row<D> {
    id: MomentId,
    name: MomentName,
    created: i64,
    /// None once the moment is gone.
    def: Option<Arc<D>>,
}

/// One moment: its identity and its definition. Where it hangs is the list's business.
#[derive(Debug)]
pub struct Moment<'a, D> {
    /// The id, unique in the store.
    pub id: MomentId,
    /// The name, unique in the list.
    pub name: &'a MomentName,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The definition. Moments with equal definitions may share one.
    pub def: &'a Arc<D>,
    slot: Slot,
}

/// Why a moment cannot hang below the parent that was asked for; libvirt's three refusals.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParentRefused {
    /// The moment names itself.
    #[error("cannot set moment {name} as its own parent")]
    OwnParent {
        /// The moment.
        name: MomentName,
    },
    /// The parent is not in the list.
    #[error("parent {parent} for moment {name} not found")]
    NotFound {
        /// The parent that was asked for.
        parent: MomentName,
        /// The moment.
        name: MomentName,
    },
    /// The parent hangs below the moment itself.
    #[error("parent {ancestor} would create cycle to {name}")]
    Cycle {
        /// The child of the moment through which the cycle would close.
        ancestor: MomentName,
        /// The moment.
        name: MomentName,
    },
}

/// What looking for a moment among another's ancestors found.
enum Climb {
    /// It is none of them; the search took this many steps.
    Free(u64),
    /// It is the parent of this one.
    Cycle(Slot),
    /// Nothing yet: there are more ancestors than steps were allowed.
    TooFar,
}

/// Why a moment cannot hang where an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CannotHang {
    /// The parent is not listed, or hangs below the moment.
    Parent,
    /// Finding out takes more steps than were allowed.
    TooFar,
}

impl<D> MomentList<D> {
    /// Returns an empty list.
    pub fn new() -> MomentList<D> {
        MomentList {
            rows: Table::default(),
            links: Links::default(),
            names: NameIndex::default(),
            current: None,
            len: 0,
            last: None,
        }
    }

    /// Number of moments.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no moment.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the moment with this id. O(log n); O(1) where ids are as even as a store gives them out.
    pub fn get(&self, id: MomentId) -> Option<Moment<'_, D>> {
        self.moment(self.slot_of(id)?)
    }

    /// Returns the moment of this name. Follows `virDomainMomentFindByName`.
    pub fn find(&self, name: &str) -> Option<Moment<'_, D>> {
        self.names.find(name, &self.rows)
    }

    /// The ids of all moments, ascending.
    pub(crate) fn ids(&self) -> impl Iterator<Item = MomentId> {
        let listed = self.rows.iter().filter(|(_, row)| row.def.is_some());
        listed.map(|(_, row)| row.id)
    }

    /// The highest id of a moment that is or was here, since the list was rebuilt.
    pub(crate) fn last_id(&self) -> Option<MomentId> {
        self.last
    }

    /// Returns the current moment.
    pub fn current(&self) -> Option<Moment<'_, D>> {
        self.moment(self.current?)
    }

    /// Returns the id of the current moment.
    pub fn current_id(&self) -> Option<MomentId> {
        self.current().map(|moment| moment.id)
    }

    /// Returns the parent, or `None` for a root and for a moment that is not listed.
    pub fn parent(&self, id: MomentId) -> Option<Moment<'_, D>> {
        self.moment(self.links.of(self.slot_of(id)?)?.parent?)
    }

    /// Number of direct children of a moment, or of roots.
    pub fn child_count(&self, parent: Option<MomentId>) -> usize {
        let slot = match parent {
            None => None,
            Some(parent) => match self.slot_of(parent) {
                None => return 0,
                slot => slot,
            },
        };
        self.links.children(slot).count as usize
    }

    /// Returns the single leaf, if the whole list is one unbranched chain. Follows `virDomainMomentFindLeaf`.
    pub fn leaf(&self) -> Option<Moment<'_, D>> {
        let mut at = None;
        loop {
            let children = self.links.children(at);
            match (children.count, children.first) {
                (0, _) => return self.moment(at?),
                (1, Some(only)) => at = Some(only),
                _ => return None,
            }
        }
    }

    /// Returns the moments of `scope`, parents before children and siblings newest link first.
    ///
    /// This is the only order there is: it is topological by construction, whether or not the caller asked for that.
    pub fn walk(&self, scope: Scope) -> Walk<'_, D> {
        Walk::new(self, scope)
    }

    /// Returns the moments of `scope` that pass the leaf filter and the caller's predicate, in the order of [`walk`](Self::walk).
    ///
    /// Follows `virDomainMomentObjListGetNames`; the caller has translated its public flags.
    pub fn list<'a>(
        &'a self,
        scope: Scope,
        leaves: LeafFilter,
        keep: impl Fn(&D) -> bool + 'a,
    ) -> impl Iterator<Item = Moment<'a, D>> {
        self.walk(scope).filter(move |moment| {
            leaves.keeps(self.links.children(Some(moment.slot)).count == 0) && keep(moment.def)
        })
    }

    /// Number of moments of `scope` that pass the leaf filter. O(1) for the whole list.
    pub fn count(&self, scope: Scope, leaves: LeafFilter) -> usize {
        let (all, leaf) = (self.len, self.links.leaves());
        match (scope, leaves) {
            (_, LeafFilter::Nothing) => 0,
            (Scope::All, LeafFilter::Any) => all,
            (Scope::All, LeafFilter::Leaves) => leaf,
            (Scope::All, LeafFilter::Inner) => all - leaf,
            (Scope::Roots, LeafFilter::Any) => self.child_count(None),
            (Scope::ChildrenOf(id), LeafFilter::Any) => self.child_count(Some(id)),
            (scope, LeafFilter::Any) => self.walk(scope).count(),
            (scope, leaves) => self.list(scope, leaves, |_| true).count(),
        }
    }

    /// Returns the id of the parent that a moment called `name` may hang below.
    ///
    /// Follows `virDomainMomentCheckCycles`. A moment that is new or has no children cannot close a cycle,
    /// so only the rest walks up: O(depth).
    ///
    /// # Errors
    ///
    /// [`ParentRefused`], in the order of its variants.
    pub fn check_parent(
        &self,
        name: &MomentName,
        parent: Option<&MomentName>,
    ) -> Result<Option<MomentId>, ParentRefused> {
        let Some(parent) = parent else {
            return Ok(None);
        };
        if parent == name {
            return Err(ParentRefused::OwnParent { name: name.clone() });
        }
        let Some(found) = self.find(parent.as_str()) else {
            return Err(ParentRefused::NotFound {
                parent: parent.clone(),
                name: name.clone(),
            });
        };
        if let Some(moment) = self.find(name.as_str())
            && let Climb::Cycle(ancestor) = self.climb(moment.slot, found.slot, u64::MAX)
        {
            let ancestor = self.moment(ancestor).expect("an ancestor is listed");
            return Err(ParentRefused::Cycle {
                ancestor: ancestor.name.clone(),
                name: name.clone(),
            });
        }
        Ok(Some(found.id))
    }

    /// Looks for `slot` among the ancestors of `parent`, in at most `steps` steps.
    fn climb(&self, slot: Slot, parent: Slot, steps: u64) -> Climb {
        let Some(links) = self.links.of(slot) else {
            return Climb::Free(0);
        };
        if links.children.count == 0 || links.parent == Some(parent) {
            return Climb::Free(0);
        }
        let mut at = parent;
        for step in 0..=steps {
            let Some(above) = self.links.of(at).and_then(|links| links.parent) else {
                return Climb::Free(step);
            };
            if above == slot {
                return Climb::Cycle(at);
            }
            at = above;
        }
        Climb::TooFar
    }

    /// Returns in how many steps it is found that `parent` is listed (or none) and `id` may hang below it without closing
    /// a cycle: 0 for a moment that is new or has no children.
    pub(crate) fn can_hang(
        &self,
        id: MomentId,
        parent: Option<MomentId>,
        steps: u64,
    ) -> Result<u64, CannotHang> {
        let Some(parent) = parent else {
            return Ok(0);
        };
        let found = self.slot_of(parent).filter(|_| parent != id);
        let parent = found.ok_or(CannotHang::Parent)?;
        let Some(slot) = self.slot_of(id) else {
            return Ok(0);
        };
        match self.climb(slot, parent, steps) {
            Climb::Free(steps) => Ok(steps),
            Climb::Cycle(_) => Err(CannotHang::Parent),
            Climb::TooFar => Err(CannotHang::TooFar),
        }
    }

    /// Returns a definition for a moment: that of a moment like it, if they are equal.
    pub(crate) fn share(def: D, like: Option<Moment<'_, D>>) -> Arc<D>
    where
        D: PartialEq,
    {
        match like {
            Some(like) if **like.def == def => like.def.clone(),
            _ => Arc::new(def),
        }
    }

    /// Returns the moment in a slot, unless it is gone.
    fn moment(&self, slot: Slot) -> Option<Moment<'_, D>> {
        moment_at(&self.rows, slot)
    }

    /// Returns the slot of a listed moment.
    ///
    /// Ids ascend, mostly evenly, so the place is guessed from the ends a few times before the middle is taken.
    fn slot_of(&self, id: MomentId) -> Option<Slot> {
        const GUESSES: usize = 4;
        let row_at = |index| self.rows.get(Slot::at(index));
        let id_at = |index| row_at(index).map(|row| row.id.get());
        let (mut low, mut high) = (0, self.rows.len().checked_sub(1)?);
        let mut last = self.last?.get();
        if id.get() == last {
            let slot = Slot::at(high);
            return self.moment(slot).map(|_| slot);
        }
        for step in 0.. {
            let first = id_at(low)?;
            if low > high || !(first..=last).contains(&id.get()) {
                return None;
            }
            let at = if step < GUESSES {
                low + interpolate(high - low, id.get() - first, last - first)
            } else {
                low + (high - low) / 2
            };
            let row = row_at(at)?;
            match row.id.cmp(&id) {
                std::cmp::Ordering::Equal => {
                    return row.def.is_some().then(|| Slot::at(at));
                }
                std::cmp::Ordering::Less => low = at + 1,
                std::cmp::Ordering::Greater => {
                    high = at.checked_sub(1)?;
                    last = id_at(high)?;
                }
            }
        }
        None
    }
}

/// Returns the moment in a slot, unless it is gone.
fn moment_at<D>(rows: &Table<Row<D>>, slot: Slot) -> Option<Moment<'_, D>> {
    let Row {
        id,
        name,
        created,
        def,
    } = rows.get(slot)?;
    Some(Moment {
        id: *id,
        name,
        created: *created,
        def: def.as_ref()?,
        slot,
    })
}

/// Returns `whole * above / below`, which is at most `whole`; 0 of nothing.
fn interpolate(whole: usize, above: u64, below: u64) -> usize {
    let part = u128::from(above) * whole as u128 / u128::from(below.max(1));
    usize::try_from(part).map_or(whole, |part| part.min(whole))
}

/// Changes, for `apply` alone. Each is called with what was checked before; none of them decides.
impl<D> MomentList<D> {
    /// Links a brand-new moment, whose id is above all others, below `parent`, as its first child. Follows
    /// `virDomainMomentLinkParent`. Returns whether the name was free, and does nothing if not.
    pub(crate) fn link(
        &mut self,
        id: MomentId,
        parent: Option<MomentId>,
        name: MomentName,
        created: i64,
        def: Arc<D>,
    ) -> bool {
        let slot = Slot::at(self.rows.len());
        if !self.names.insert(&name, slot, &self.rows) {
            return false;
        }
        let parent = parent.map(|parent| self.listed(parent));
        self.links.push(parent);
        self.rows.push(Row {
            id,
            name,
            created,
            def: Some(def),
        });
        self.len += 1;
        self.last = Some(id);
        debug_assert_eq!(self.check_around(id), Ok(()));
        true
    }

    /// Unlinks a moment and links it below `parent`, as its first child; its own children stay with it.
    pub(crate) fn relink(&mut self, id: MomentId, parent: Option<MomentId>) {
        let slot = self.listed(id);
        let parent = parent.map(|parent| self.listed(parent));
        self.links.unlink(slot);
        self.links.link(slot, parent);
        debug_assert_eq!(self.check_around(id), Ok(()));
    }

    /// Replaces a moment's definition.
    pub(crate) fn redefine(&mut self, id: MomentId, created: i64, def: Arc<D>) {
        let slot = self.listed(id);
        self.rows.update(slot, |row| {
            row.created = created;
            row.def = Some(def);
        });
    }

    /// Removes one moment; its children, if any, go in front of its siblings as a block, in their order.
    pub(crate) fn remove(&mut self, id: MomentId) {
        let slot = self.listed(id);
        let parent = self.links.of(slot).and_then(|link| link.parent);
        self.links.move_children(slot, parent);
        self.links.unlink(slot);
        self.forget(slot);
        debug_assert_eq!(self.check_around(id), Ok(()));
        self.compact_if_sparse();
    }

    /// Removes all descendants of a moment, which `descendants` must be.
    pub(crate) fn remove_descendants(&mut self, id: MomentId, descendants: &[MomentId]) {
        self.links.drop_children(self.listed(id));
        for descendant in descendants {
            self.forget(self.listed(*descendant));
        }
        debug_assert_eq!(self.check_around(id), Ok(()));
        self.compact_if_sparse();
    }

    /// Makes a listed moment current, or none.
    pub(crate) fn set_current(&mut self, current: Option<MomentId>) {
        self.current = current.map(|id| self.listed(id));
    }

    fn listed(&self, id: MomentId) -> Slot {
        self.slot_of(id).expect("a changed moment is listed")
    }

    /// Empties the slot of a moment that nothing links to any more.
    fn forget(&mut self, slot: Slot) {
        let name = self.rows.get(slot).map(|row| row.name.clone());
        let name = name.expect("a forgotten moment is listed");
        self.names.remove(&name, slot);
        self.rows.update(slot, |row| row.def = None);
        self.links.forget(slot);
        self.len -= 1;
        if self.current == Some(slot) {
            self.current = None;
        }
    }
}

impl<D> Default for MomentList<D> {
    fn default() -> MomentList<D> {
        MomentList::new()
    }
}

// Derived, these would ask the same of `D`, which sharing does not need.
impl<D> Clone for MomentList<D> {
    fn clone(&self) -> MomentList<D> {
        MomentList {
            rows: self.rows.clone(),
            links: self.links.clone(),
            names: self.names.clone(),
            current: self.current,
            len: self.len,
            last: self.last,
        }
    }
}

impl<D> Clone for Row<D> {
    fn clone(&self) -> Row<D> {
        Row {
            id: self.id,
            name: self.name.clone(),
            created: self.created,
            def: self.def.clone(),
        }
    }
}

impl<D> Clone for Moment<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D> Copy for Moment<'_, D> {}

/// Two lists are equal if they hold the same moments, each below the same parent and among its siblings in the same order.
impl<D: Eq> Eq for MomentList<D> {}

/// Where a list keeps a moment is no part of it.
impl<D: PartialEq> PartialEq for Moment<'_, D> {
    fn eq(&self, other: &Self) -> bool {
        let Moment {
            id,
            name,
            created,
            def,
            slot: _,
        } = self;
        (*id, *name, *created, *def) == (other.id, other.name, other.created, other.def)
    }
}

impl<D: Eq> Eq for Moment<'_, D> {}

impl<D: PartialEq> PartialEq for MomentList<D> {
    fn eq(&self, other: &MomentList<D>) -> bool {
        let parent_of = |list: &MomentList<D>, slot: Slot| {
            let parent = list.links.of(slot).and_then(|link| link.parent);
            parent
                .and_then(|parent| list.moment(parent))
                .map(|parent| parent.id)
        };
        // All that is asked for of the lists themselves; the rest follows from it.
        let MomentList {
            rows: _,
            links: _,
            names: _,
            current: _,
            len,
            last: _,
        } = self;
        *len == other.len
            && self.current_id() == other.current_id()
            && self
                .walk(Scope::All)
                .zip(other.walk(Scope::All))
                .all(|(own, its)| {
                    self.rows.get(own.slot) == other.rows.get(its.slot)
                        && parent_of(self, own.slot) == parent_of(other, its.slot)
                })
    }
}

#[cfg(test)]
mod tests;
