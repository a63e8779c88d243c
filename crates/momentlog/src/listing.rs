//! What libvirt's bits ask of a listing: they end here, and the moment list sees scope and filters.

use momentlog_core::{
    Domain as DomainState, LeafFilter, MomentName, RunState, Scope, SnapshotDef, SnapshotState,
};

use crate::error::Result;
use crate::flags::{CheckpointListFlags, SnapshotListFlags};

/// What libvirt's bits ask of a listing of snapshots.
pub(crate) struct SnapshotListing {
    /// The bit that reads two ways: roots of a domain, or descendants of a snapshot.
    pub(crate) wide: bool,
    leaves: LeafFilter,
    flags: u32,
}

impl SnapshotListing {
    pub(crate) fn new(flags: u32, function: &str) -> Result<SnapshotListing> {
        use SnapshotListFlags as Flags;
        let flags = Flags::checked(flags, function)?.bits();
        let has = |flag: Flags| flags & flag.bits() != 0;
        let only_without_metadata = has(Flags::NO_METADATA) && !has(Flags::METADATA);
        let leaves = if only_without_metadata {
            LeafFilter::Nothing
        } else {
            LeafFilter::from_bits(has(Flags::LEAVES), has(Flags::NO_LEAVES))
        };
        // All filters of a group together are as good as none.
        let group = |group: Flags| {
            if flags & group.bits() == group.bits() {
                0
            } else {
                flags & group.bits()
            }
        };
        let status = group(Flags::INACTIVE | Flags::ACTIVE | Flags::DISK_ONLY);
        let location = group(Flags::INTERNAL | Flags::EXTERNAL);
        Ok(SnapshotListing {
            wide: has(Flags::ROOTS),
            leaves,
            flags: status | location,
        })
    }

    pub(crate) fn of_domain<'a>(
        &'a self,
        domain: &'a DomainState,
    ) -> impl Iterator<Item = MomentName> + 'a {
        self.of_scope(domain, if self.wide { Scope::Roots } else { Scope::All })
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
        self.count_of_scope(domain, if self.wide { Scope::Roots } else { Scope::All })
    }

    /// Number of what [`of_scope`](Self::of_scope) lists.
    pub(crate) fn count_of_scope(&self, domain: &DomainState, scope: Scope) -> usize {
        if self.flags == 0 {
            domain.snapshots().count(scope, self.leaves)
        } else {
            self.of_scope(domain, scope).count()
        }
    }

    /// The filter that only snapshots have: run state and location.
    fn keeps(&self, def: &SnapshotDef) -> bool {
        use SnapshotListFlags as Flags;
        let has = |flag: Flags| self.flags & flag.bits() != 0;
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
    pub(crate) fn new(flags: u32, function: &str) -> Result<CheckpointListing> {
        use CheckpointListFlags as Flags;
        let flags = Flags::checked(flags, function)?.bits();
        let has = |flag: Flags| flags & flag.bits() != 0;
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
            let flags = 1 << bit;
            let snapshots = SnapshotListing::new(flags, "f").is_ok();
            assert_eq!(snapshots, SnapshotListFlags::from_bits(flags).is_some());
            let checkpoints = CheckpointListing::new(flags, "f").is_ok();
            assert_eq!(checkpoints, CheckpointListFlags::from_bits(flags).is_some());
        }
        assert!(SnapshotListing::new(SnapshotListFlags::ALL.bits(), "f").is_ok());
        assert!(CheckpointListing::new(CheckpointListFlags::ALL.bits(), "f").is_ok());
    }
}
