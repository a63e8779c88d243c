//! Which moments are not as the log has them, though libvirtd lists their names.
//!
//! A look reads the definition of each moment that is new, and of each whose parent is gone. Others are taken over from the
//! log, but for those that are named here: what a call may have changed is read before the call as well, so that nothing that
//! came by another way is taken for its doing.

use std::collections::BTreeSet;

use momentlog::core::{Domain, MomentKind, MomentList, MomentName, Scope};

/// What may have changed of moments that keep their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alters {
    /// Nothing.
    Nothing,
    /// These moments.
    Moments(BTreeSet<(MomentKind, MomentName)>),
    /// What hangs below a moment that is deleted. libvirt also changes the definitions of other snapshots when it deletes
    /// one that has files of its own.
    Below(MomentKind, MomentName),
    /// Any moment.
    All,
}

impl Alters {
    /// Returns the moments whose definitions are read again, of those that a domain of the log has; `None` if all are.
    pub(super) fn of(&self, domain: &Domain) -> Option<BTreeSet<(MomentKind, MomentName)>> {
        match self {
            Alters::Nothing => Some(BTreeSet::new()),
            Alters::Moments(moments) => Some(moments.clone()),
            Alters::Below(kind, name) => below(domain, *kind, name),
            Alters::All => None,
        }
    }
}

fn below(
    domain: &Domain,
    kind: MomentKind,
    name: &MomentName,
) -> Option<BTreeSet<(MomentKind, MomentName)>> {
    let children = match kind {
        MomentKind::Snapshot => {
            let mut all = domain.snapshots().walk(Scope::All);
            if all.any(|snapshot| snapshot.def.is_external()) {
                return None;
            }
            children(domain.snapshots(), name)
        }
        MomentKind::Checkpoint => children(domain.checkpoints(), name),
    };
    Some(children.into_iter().map(|child| (kind, child)).collect())
}

fn children<D>(list: &MomentList<D>, name: &MomentName) -> Vec<MomentName> {
    let Some(found) = list.find(name.as_str()) else {
        return Vec::new();
    };
    let children = list.walk(Scope::ChildrenOf(found.id));
    children.map(|child| child.name.clone()).collect()
}
