//! What libvirt's bits ask of a listing: they end here, and the moment list sees scope and filters.

use momentlog_core::{
    Domain as DomainState, LeafFilter, MomentId, MomentName, RunState, Scope, SnapshotDef,
    SnapshotState,
};

use crate::error::Result;
use crate::flags::{CheckpointListFlags, SnapshotListFlags};

/// Returns the scope of a domain's listing: its roots, or all.
pub(crate) fn within(wide: bool) -> Scope {
    if wide { Scope::Roots } else { Scope::All }
}

/// Returns the scope of a listing from one moment: everything below it, or its children.
pub(crate) fn below(wide: bool, id: MomentId) -> Scope {
    if wide {
        Scope::DescendantsOf(id)
    } else {
        Scope::ChildrenOf(id)
    }
}

/// What libvirt's bits ask of a listing of snapshots.
pub(crate) struct SnapshotListing {
    /// The bit that reads two ways: roots of a domain, or descendants of a snapshot.
    pub(crate) wide: bool,
    leaves: LeafFilter,
    /// Run state and location: what no moment list knows.
    filters: SnapshotListFlags,
}

impl SnapshotListing {
    pub(crate) fn new(flags: SnapshotListFlags, function: &str) -> Result<SnapshotListing> {
        use SnapshotListFlags as Flags;
        flags.refuse_all_but(Flags::ALL, function)?;
        let has = |flag: Flags| flags.contains(flag);
        let only_without_metadata = has(Flags::NO_METADATA) && !has(Flags::METADATA);
        let leaves = if only_without_metadata {
            LeafFilter::Nothing
        } else {
            LeafFilter::from_bits(has(Flags::LEAVES), has(Flags::NO_LEAVES))
        };
        // All filters of a group together are as good as none.
        let group = |group: Flags| {
            if has(group) {
                Flags::NONE
            } else {
                flags.without(Flags::ALL.without(group))
            }
        };
        let status = group(Flags::INACTIVE | Flags::ACTIVE | Flags::DISK_ONLY);
        let location = group(Flags::INTERNAL | Flags::EXTERNAL);
        Ok(SnapshotListing {
            wide: has(Flags::ROOTS),
            leaves,
            filters: status | location,
        })
    }

    pub(crate) fn of_domain<'a>(
        &'a self,
        domain: &'a DomainState,
    ) -> impl Iterator<Item = MomentName> + 'a {
        self.of_scope(domain, within(self.wide))
    }

    pub(crate) fn of_scope<'a>(
        &'a self,
        domain: &'a DomainState,
        scope: Scope,
    ) -> impl Iterator<Item = MomentName> + 'a {
        let keep = move |def: &SnapshotDef| self.keeps(def);
        domain
            .snapshots()
            .list(scope, self.leaves, keep)
            .map(|moment| moment.name.clone())
    }

    /// Number of what [`of_domain`](Self::of_domain) lists.
    pub(crate) fn count_of_domain(&self, domain: &DomainState) -> usize {
        self.count_of_scope(domain, within(self.wide))
    }

    /// Number of what [`of_scope`](Self::of_scope) lists.
    pub(crate) fn count_of_scope(&self, domain: &DomainState, scope: Scope) -> usize {
        if self.filters == SnapshotListFlags::NONE {
            domain.snapshots().count(scope, self.leaves)
        } else {
            self.of_scope(domain, scope).count()
        }
    }

    /// The filter that only snapshots have: run state and location.
    fn keeps(&self, def: &SnapshotDef) -> bool {
        use SnapshotListFlags as Flags;
        let has = |flag: Flags| self.filters.intersects(flag);
        let status = Flags::INACTIVE | Flags::ACTIVE | Flags::DISK_ONLY;
        let wanted = match def.state {
            SnapshotState::Run(RunState::Shutoff) => Flags::INACTIVE,
            SnapshotState::DiskSnapshot => Flags::DISK_ONLY,
            SnapshotState::Run(_) => Flags::ACTIVE,
        };
        if has(status) && !has(wanted) {
            return false;
        }
        let external = def.is_external();
        !(has(Flags::INTERNAL) && external || has(Flags::EXTERNAL) && !external)
    }
}

/// What libvirt's bits ask of a listing of checkpoints.
pub(crate) struct CheckpointListing {
    /// The bit that reads two ways: roots of a domain, or descendants of a checkpoint.
    pub(crate) wide: bool,
    pub(crate) leaves: LeafFilter,
}

impl CheckpointListing {
    pub(crate) fn new(flags: CheckpointListFlags, function: &str) -> Result<CheckpointListing> {
        use CheckpointListFlags as Flags;
        flags.refuse_all_but(Flags::ALL, function)?;
        let has = |flag: Flags| flags.contains(flag);
        let leaves = LeafFilter::from_bits(has(Flags::LEAVES), has(Flags::NO_LEAVES));
        Ok(CheckpointListing {
            wide: has(Flags::ROOTS),
            leaves,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_takes_every_flag_of_its_set_and_no_other() {
        for bit in 0..32 {
            let bits = 1 << bit;
            let flags = SnapshotListFlags::from_bits_retain(bits);
            let known = SnapshotListFlags::from_bits(bits).is_some();
            assert_eq!(SnapshotListing::new(flags, "f").is_ok(), known);
            let flags = CheckpointListFlags::from_bits_retain(bits);
            let known = CheckpointListFlags::from_bits(bits).is_some();
            assert_eq!(CheckpointListing::new(flags, "f").is_ok(), known);
        }
        assert!(SnapshotListing::new(SnapshotListFlags::ALL, "f").is_ok());
        assert!(CheckpointListing::new(CheckpointListFlags::ALL, "f").is_ok());
    }
}
