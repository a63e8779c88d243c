//! The moment list: a forest of named moments with at most one current.
//!
//! One list serves both kinds. Snapshots and checkpoints differ only in the definition `D` that they keep.

mod links;
mod walk;

use std::sync::Arc;

use crate::{MomentId, MomentName};
use links::Links;

pub use walk::{LeafFilter, Scope, Walk};

/// Moments of one kind and one domain, as a forest.
///
/// There is no hidden root: a root has no parent, and looking for no name finds nothing.
/// Cloning is O(1) and a clone never changes, so a reader keeps its version for as long as it likes.
///
/// 1. Every parent is in the list.  2. No moment is its own ancestor.
/// 3. The children of a moment, read along their sibling links, are exactly the moments that name it as parent, each once.
/// 4. The name index is the inverse of the names.  5. Current is in the list.
#[derive(Debug)]
pub struct MomentList<D> {
    moments: im::OrdMap<MomentId, Arc<Moment<D>>>,
    names: im::HashMap<MomentName, MomentId>,
    links: Links,
    current: Option<MomentId>,
}

/// One moment: its identity and its definition. Where it hangs is the list's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment<D> {
    /// The id, unique in the store.
    pub id: MomentId,
    /// The name, unique in the list.
    pub name: MomentName,
    /// The definition.
    pub def: D,
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
    /// It is none of them, found in so many steps.
    Free(u64),
    /// It is the parent of this one.
    Cycle(MomentId),
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

/// Which rule of a list is broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A parent is not in the list.
    #[error("the parent {parent} of moment {moment} is not in the list")]
    ParentMissing {
        /// The child.
        moment: MomentId,
        /// The id that is not listed.
        parent: MomentId,
    },
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
    #[error("moment {0:?} counts another number of children than it has")]
    ChildCount(Option<MomentId>),
    /// The name index does not lead back to the moment.
    #[error("the name of moment {0} does not lead to it")]
    Name(MomentId),
    /// The columns do not hold the same ids.
    #[error("the columns of the list hold different moments")]
    Columns,
    /// Current is not in the list.
    #[error("the current moment {0} is not in the list")]
    Current(MomentId),
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
    /// Returns an empty list.
    pub fn new() -> MomentList<D> {
        MomentList {
            moments: im::OrdMap::new(),
            names: im::HashMap::new(),
            links: Links::default(),
            current: None,
        }
    }

    /// Number of moments.
    pub fn len(&self) -> usize {
        self.moments.len()
    }

    /// Whether there is no moment.
    pub fn is_empty(&self) -> bool {
        self.moments.is_empty()
    }

    /// Returns the moment with this id.
    pub fn get(&self, id: MomentId) -> Option<&Moment<D>> {
        self.moments.get(&id).map(Arc::as_ref)
    }

    /// Returns the moment of this name; an absent name finds nothing. Follows `virDomainMomentFindByName`.
    pub fn find(&self, name: Option<&str>) -> Option<&Moment<D>> {
        let id = self.names.get(name?)?;
        self.get(*id)
    }

    /// Returns the current moment.
    pub fn current(&self) -> Option<&Moment<D>> {
        self.get(self.current?)
    }

    /// Returns the id of the current moment.
    pub fn current_id(&self) -> Option<MomentId> {
        self.current
    }

    /// Returns the parent, or `None` for a root and for a moment that is not listed.
    pub fn parent(&self, id: MomentId) -> Option<&Moment<D>> {
        self.get(self.links.of(id)?.parent?)
    }

    /// Number of direct children of a moment, or of roots.
    pub fn child_count(&self, parent: Option<MomentId>) -> usize {
        self.links.children(parent).count
    }

    /// Returns the single leaf, if the whole list is one unbranched chain. Follows `virDomainMomentFindLeaf`.
    pub fn leaf(&self) -> Option<&Moment<D>> {
        let mut at = None;
        loop {
            let children = self.links.children(at);
            match (children.count, children.first) {
                (0, _) => return self.get(at?),
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
    ) -> impl Iterator<Item = &'a Moment<D>> {
        self.walk(scope).filter(move |moment| {
            leaves.keeps(self.child_count(Some(moment.id)) == 0) && keep(&moment.def)
        })
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
        let Some(found) = self.find(Some(parent.as_str())) else {
            return Err(ParentRefused::NotFound {
                parent: parent.clone(),
                name: name.clone(),
            });
        };
        if let Some(moment) = self.find(Some(name.as_str()))
            && let Climb::Cycle(ancestor) = self.climb(moment.id, found.id, u64::MAX)
        {
            let ancestor = self
                .get(ancestor)
                .expect("an ancestor is listed")
                .name
                .clone();
            return Err(ParentRefused::Cycle {
                ancestor,
                name: name.clone(),
            });
        }
        Ok(Some(found.id))
    }

    /// Looks for `id` among the ancestors of `parent`, in at most `steps` steps.
    fn climb(&self, id: MomentId, parent: MomentId, steps: u64) -> Climb {
        let Some(links) = self.links.of(id) else {
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
            if above == id {
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
        if parent == id || !self.moments.contains_key(&parent) {
            return Err(CannotHang::Parent);
        }
        match self.climb(id, parent, steps) {
            Climb::Free(steps) => Ok(steps),
            Climb::Cycle(_) => Err(CannotHang::Parent),
            Climb::TooFar => Err(CannotHang::TooFar),
        }
    }

    /// Returns the list of these moments, as [`walk`](Self::walk) gives them: each with its parent, which came before it,
    /// and siblings newest link first.
    ///
    /// # Errors
    ///
    /// The [`Broken`] rule: an id or a name comes twice, or a parent or `current` is not there.
    pub fn restore(
        moments: impl IntoIterator<Item = (Moment<D>, Option<MomentId>)>,
        current: Option<MomentId>,
    ) -> Result<MomentList<D>, Broken> {
        let mut list = MomentList::new();
        let mut youngest = std::collections::HashMap::new();
        for (moment, parent) in moments {
            let id = moment.id;
            if list.moments.contains_key(&id) {
                return Err(Broken::Twice(id));
            }
            if let Some(parent) = parent.filter(|parent| !list.moments.contains_key(parent)) {
                return Err(Broken::ParentMissing { moment: id, parent });
            }
            if list.names.insert(moment.name.clone(), id).is_some() {
                return Err(Broken::Name(id));
            }
            list.moments.insert(id, Arc::new(moment));
            list.links
                .link_last(id, parent, youngest.insert(parent, id));
        }
        match current {
            Some(current) if !list.moments.contains_key(&current) => Err(Broken::Current(current)),
            _ => {
                list.current = current;
                Ok(list)
            }
        }
    }

    /// Checks every rule of the list. O(n log n).
    ///
    /// # Errors
    ///
    /// The first rule that is [`Broken`], in their order.
    pub fn check(&self) -> Result<(), Broken> {
        self.links.check()?;
        if self.links.len() != self.moments.len() || self.names.len() != self.moments.len() {
            return Err(Broken::Columns);
        }
        for (id, moment) in &self.moments {
            if moment.id != *id || self.links.of(*id).is_none() {
                return Err(Broken::Columns);
            }
            if self.names.get(&moment.name) != Some(id) {
                return Err(Broken::Name(*id));
            }
        }
        match self.current {
            Some(current) if !self.moments.contains_key(&current) => Err(Broken::Current(current)),
            _ => Ok(()),
        }
    }

    /// Checks the rules around one moment: itself, its parent and its neighbours. O(log n).
    ///
    /// A moment that is no longer listed must have left nothing behind under its id.
    ///
    /// # Errors
    ///
    /// The rule that is [`Broken`].
    pub fn check_around(&self, id: MomentId) -> Result<(), Broken> {
        self.links.check_around(id)?;
        match (self.moments.get(&id), self.links.of(id)) {
            (Some(moment), Some(_)) if self.names.get(&moment.name) != Some(&id) => {
                Err(Broken::Name(id))
            }
            (Some(_), Some(_)) => Ok(()),
            (None, None) if self.current == Some(id) => Err(Broken::Current(id)),
            (None, None) => Ok(()),
            _ => Err(Broken::Columns),
        }
    }
}

/// Changes, for `apply` alone. Each is called with what was checked before; none of them decides.
impl<D: Clone> MomentList<D> {
    /// Links a brand-new moment below `parent`, as its first child. Follows `virDomainMomentLinkParent`.
    pub(crate) fn link(&mut self, moment: Moment<D>, parent: Option<MomentId>) {
        let id = moment.id;
        self.names.insert(moment.name.clone(), id);
        self.moments.insert(id, Arc::new(moment));
        self.links.link(id, parent);
        debug_assert_eq!(self.check_around(id), Ok(()));
    }

    /// Unlinks a moment and links it below `parent`, as its first child; its own children stay with it.
    pub(crate) fn relink(&mut self, id: MomentId, parent: Option<MomentId>) {
        self.links.unlink(id);
        self.links.link(id, parent);
        debug_assert_eq!(self.check_around(id), Ok(()));
    }

    /// Replaces a moment's definition.
    pub(crate) fn redefine(&mut self, id: MomentId, def: D) {
        let moment = self
            .moments
            .get_mut(&id)
            .expect("a redefined moment is listed");
        let name = moment.name.clone();
        *moment = Arc::new(Moment { id, name, def });
    }

    /// Removes one moment; its children, if any, go in front of its siblings as a block, in their order.
    pub(crate) fn remove(&mut self, id: MomentId) {
        let parent = self
            .links
            .of(id)
            .expect("a removed moment is listed")
            .parent;
        self.links.move_children(id, parent);
        self.links.unlink(id);
        self.forget(id);
        debug_assert_eq!(self.check_around(id), Ok(()));
    }

    /// Removes all descendants of a moment, which `descendants` must be.
    pub(crate) fn remove_descendants(&mut self, id: MomentId, descendants: &[MomentId]) {
        self.links.drop_children(id);
        for descendant in descendants {
            self.forget(*descendant);
        }
        debug_assert_eq!(self.check_around(id), Ok(()));
    }

    /// Makes a listed moment current, or none.
    pub(crate) fn set_current(&mut self, current: Option<MomentId>) {
        debug_assert!(current.is_none_or(|id| self.moments.contains_key(&id)));
        self.current = current;
    }

    /// Takes a moment that nothing links to any more out of the columns.
    fn forget(&mut self, id: MomentId) {
        let moment = self
            .moments
            .remove(&id)
            .expect("a forgotten moment is listed");
        self.names.remove(&moment.name);
        self.links.forget(id);
        if self.current == Some(id) {
            self.current = None;
        }
    }
}

impl<D> Default for MomentList<D> {
    fn default() -> MomentList<D> {
        MomentList::new()
    }
}

// Derived `Clone` would ask for `D: Clone`, which sharing does not need.
impl<D> Clone for MomentList<D> {
    fn clone(&self) -> MomentList<D> {
        MomentList {
            moments: self.moments.clone(),
            names: self.names.clone(),
            links: self.links.clone(),
            current: self.current,
        }
    }
}

impl<D: PartialEq> PartialEq for MomentList<D> {
    fn eq(&self, other: &MomentList<D>) -> bool {
        self.current == other.current && self.moments == other.moments && self.links == other.links
    }
}

#[cfg(test)]
mod tests;
