//! What commands cause that moments of both kinds take.

use crate::deletion::DeletionPlan;
use crate::{
    Change, Domain, DomainDef, Extent, Moment, MomentChange, MomentId, MomentKind, MomentList,
    MomentName, Policy, Redefine, Refusal,
};

impl Domain {
    pub(super) fn delete(
        &self,
        kind: MomentKind,
        name: &MomentName,
        extent: Extent,
    ) -> Result<Change, Refusal> {
        Ok(match kind {
            MomentKind::Snapshot => Change::Snapshot(delete(&self.snapshots, kind, name, extent)?),
            MomentKind::Checkpoint => {
                Change::Checkpoint(delete(&self.checkpoints, kind, name, extent)?)
            }
        })
    }

    pub(super) fn reparent(
        &self,
        kind: MomentKind,
        name: &MomentName,
        parent: Option<&MomentName>,
    ) -> Result<Change, Refusal> {
        Ok(match kind {
            MomentKind::Snapshot => {
                Change::Snapshot(reparent(&self.snapshots, kind, name, parent)?)
            }
            MomentKind::Checkpoint => {
                let change = reparent(&self.checkpoints, kind, name, parent)?;
                self.keeps_chain(name, parent)?;
                Change::Checkpoint(change)
            }
        })
    }

    pub(super) fn set_current(
        &self,
        kind: MomentKind,
        name: Option<&MomentName>,
    ) -> Result<Change, Refusal> {
        Ok(match kind {
            MomentKind::Snapshot => Change::Snapshot(set_current(&self.snapshots, kind, name)?),
            MomentKind::Checkpoint => {
                let change = set_current(&self.checkpoints, kind, name)?;
                self.keeps_leaf_current(name)?;
                Change::Checkpoint(change)
            }
        })
    }

    pub(super) fn own_uuid(
        &self,
        kind: MomentKind,
        name: &MomentName,
        domain: Option<&DomainDef>,
    ) -> Result<(), Refusal> {
        match domain {
            Some(domain) if domain.uuid != self.uuid => Err(Refusal::WrongUuid {
                kind,
                name: name.clone(),
                uuid: self.uuid,
            }),
            _ => Ok(()),
        }
    }
}

pub(super) fn require<'a, D>(
    list: &'a MomentList<D>,
    kind: MomentKind,
    name: &MomentName,
) -> Result<Moment<'a, D>, Refusal> {
    list.find(name.as_str()).ok_or_else(|| Refusal::NoMoment {
        kind,
        name: name.clone(),
    })
}

pub(super) fn require_free<D>(list: &MomentList<D>, name: &MomentName) -> Result<(), Refusal> {
    match list.find(name.as_str()) {
        Some(_) => Err(Refusal::NameTaken { name: name.clone() }),
        None => Ok(()),
    }
}

/// Returns the name asked for, or the second; under `suffix` the first of `NOW`, `NOW-2`, `NOW-3`, … that is free.
pub(super) fn chosen_name<D>(
    list: &MomentList<D>,
    name: Option<&MomentName>,
    now: i64,
    policy: Policy,
) -> MomentName {
    if let Some(name) = name {
        return name.clone();
    }
    let second = MomentName::new(&now.to_string()).expect("a number is a name");
    if !policy.suffix || list.find(second.as_str()).is_none() {
        return second;
    }
    (2..=u64::MAX)
        .filter_map(|number| MomentName::new(&format!("{now}-{number}")))
        .find(|name| list.find(name.as_str()).is_none())
        .expect("a list does not hold every name")
}

/// Returns the change that puts a moment's record back under the number `next`, or changes it if it is there.
pub(super) fn put_back<D: PartialEq>(
    list: &MomentList<D>,
    redefine: Redefine<D>,
    parent: Option<MomentId>,
    next: MomentId,
) -> MomentChange<D> {
    let Redefine {
        name,
        created,
        def,
        current,
        ..
    } = redefine;
    let existing = list.find(name.as_str());
    let like = existing.or_else(|| list.get(parent?));
    let def = MomentList::share(def, like);
    match existing {
        Some(moment) => MomentChange::Redefined {
            id: moment.id,
            parent,
            created,
            def,
            current,
        },
        None => MomentChange::Created {
            id: next,
            parent,
            name,
            created,
            def,
            current,
        },
    }
}

fn delete<D>(
    list: &MomentList<D>,
    kind: MomentKind,
    name: &MomentName,
    extent: Extent,
) -> Result<MomentChange<D>, Refusal> {
    let id = require(list, kind, name)?.id;
    let plan = DeletionPlan::of(list, id, extent);
    Ok(MomentChange::Deleted {
        id,
        extent,
        current: plan.current_after(list),
        children_moved: plan.children_moved,
        removed: plan.removed,
    })
}

fn reparent<D>(
    list: &MomentList<D>,
    kind: MomentKind,
    name: &MomentName,
    parent: Option<&MomentName>,
) -> Result<MomentChange<D>, Refusal> {
    let id = require(list, kind, name)?.id;
    let parent = list.check_parent(name, parent)?;
    Ok(MomentChange::Reparented { id, parent })
}

fn set_current<D>(
    list: &MomentList<D>,
    kind: MomentKind,
    name: Option<&MomentName>,
) -> Result<MomentChange<D>, Refusal> {
    let current = name
        .map(|name| require(list, kind, name).map(|moment| moment.id))
        .transpose()?;
    Ok(MomentChange::CurrentSet(current))
}
