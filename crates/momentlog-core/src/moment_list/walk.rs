//! Walking the forest without recursion.

use super::table::Slot;
use super::{Moment, MomentList};
use crate::MomentId;

/// Where a listing starts and how deep it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every moment.
    All,
    /// Moments without a parent.
    Roots,
    /// Direct children of one moment.
    ChildrenOf(MomentId),
    /// Everything below one moment, without itself.
    DescendantsOf(MomentId),
}

/// Which moments a listing keeps by whether anything hangs below them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeafFilter {
    /// Both.
    #[default]
    Any,
    /// Only moments without children.
    Leaves,
    /// Only moments with children.
    Inner,
    /// None at all: what libvirt makes of both filter bits together.
    Nothing,
}

impl LeafFilter {
    /// Returns the filter that libvirt's LEAVES and `NO_LEAVES` bits ask for.
    pub fn from_bits(leaves: bool, no_leaves: bool) -> LeafFilter {
        match (leaves, no_leaves) {
            (false, false) => LeafFilter::Any,
            (true, false) => LeafFilter::Leaves,
            (false, true) => LeafFilter::Inner,
            (true, true) => LeafFilter::Nothing,
        }
    }

    pub(super) fn keeps(self, is_leaf: bool) -> bool {
        match self {
            LeafFilter::Any => true,
            LeafFilter::Leaves => is_leaf,
            LeafFilter::Inner => !is_leaf,
            LeafFilter::Nothing => false,
        }
    }
}

/// Iterator over the moments of a [`Scope`]: parents first, siblings newest link first.
///
/// It follows the links, so it needs neither a stack nor memory, however deep the forest is.
#[derive(Debug)]
pub struct Walk<'a, D> {
    list: &'a MomentList<D>,
    within: Option<Slot>,
    deep: bool,
    at: Option<Slot>,
}

impl<'a, D> Walk<'a, D> {
    pub(super) fn new(list: &'a MomentList<D>, scope: Scope) -> Walk<'a, D> {
        let (within, deep) = match scope {
            Scope::All => (None, true),
            Scope::Roots => (None, false),
            Scope::ChildrenOf(id) => (Some(id), false),
            Scope::DescendantsOf(id) => (Some(id), true),
        };
        let slot = within.map(|id| list.slot_of(id));
        Walk {
            list,
            within: slot.flatten(),
            deep,
            at: match slot {
                // Nothing hangs below a moment that is not there.
                Some(None) => None,
                within => list.links.children(within.flatten()).first,
            },
        }
    }
}

impl<'a, D> Iterator for Walk<'a, D> {
    type Item = Moment<'a, D>;

    fn next(&mut self) -> Option<Moment<'a, D>> {
        let slot = self.at?;
        self.at = self.list.links.after(slot, self.within, self.deep);
        self.list.moment(slot)
    }

    /// Counts along the links alone.
    fn count(self) -> usize {
        let after = |slot: &Slot| self.list.links.after(*slot, self.within, self.deep);
        std::iter::successors(self.at, after).count()
    }
}
