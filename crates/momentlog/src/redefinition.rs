//! What gives another libvirt a moment of the log, or all of them: pure functions of a domain's state.
//!
//! libvirt puts a new moment before its siblings, and takes the parent from the XML. A snapshot is current if it is redefined
//! with CURRENT. A checkpoint cannot be made current: it is if its parent is when it is redefined, or if none is.

use std::collections::BTreeSet;
use std::sync::Arc;

use momentlog_core::{
    CheckpointDef, Domain, DomainUuid, Moment, MomentId, MomentKind, MomentList, MomentName, Scope,
    SnapshotDef,
};
use momentlog_engine::View;
use momentlog_xml::{CheckpointView, SnapshotView, write_checkpoint, write_snapshot};

/// A moment that libvirt lists once it is redefined there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redefinition {
    /// Its kind.
    pub kind: MomentKind,
    /// Its name.
    pub moment: MomentName,
    /// The parent that it is given; none for a root.
    pub parent: Option<MomentName>,
    /// Whether it is redefined with CURRENT, which only snapshots are.
    pub current: bool,
    /// Its XML.
    pub xml: String,
}

/// What gives a libvirt that has none of them all moments of one kind of a domain, with their parents, the order of siblings
/// and the current one.
#[derive(Clone, Debug)]
pub struct RedefinePlan {
    /// The state that it is of.
    view: Arc<View>,
    domain: DomainUuid,
    kind: MomentKind,
    secure: bool,
    order: Order,
}

/// A step of a [`RedefinePlan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedefineStep {
    /// Redefine a moment. One that is redefined once more goes before its siblings.
    Redefine(MomentId),
    /// Redefine a checkpoint that is none of the log's. It is current until it is deleted.
    Placeholder,
    /// Delete the metadata of the placeholder, which makes its parent current.
    DeletePlaceholder,
}

impl RedefinePlan {
    /// Returns the plan of a domain of a view. With `secure`, passwords are in the XML.
    pub(crate) fn of(view: &Arc<View>, domain: &Domain, kind: MomentKind, secure: bool) -> Self {
        RedefinePlan {
            view: view.clone(),
            domain: domain.uuid(),
            kind,
            secure,
            order: Order::of(domain, kind),
        }
    }

    /// The kind of the moments.
    pub fn kind(&self) -> MomentKind {
        self.kind
    }

    /// What is to be done, in this order.
    pub fn steps(&self) -> &[RedefineStep] {
        &self.order.steps
    }

    /// The name of the moment that is current in the end.
    pub fn current(&self) -> Option<&MomentName> {
        self.order.current.as_ref()
    }

    /// Snapshots whose domain was erased: libvirt takes none without it.
    pub fn erased(&self) -> &[MomentName] {
        &self.order.erased
    }

    /// Returns what a step redefines; for the one that deletes the placeholder, the placeholder.
    ///
    /// # Panics
    ///
    /// If the step is of another plan.
    pub fn redefinition(&self, step: RedefineStep) -> Redefinition {
        let domain = self.view.state().domain(self.domain);
        let domain = domain.expect("the plan is of a domain of its view");
        let found = self.order.redefinition(domain, step, self.secure);
        found.expect("the step is one of this plan")
    }
}

impl Redefinition {
    /// The redefinition of a checkpoint below a parent.
    pub(crate) fn of_checkpoint(
        checkpoint: Moment<'_, CheckpointDef>,
        parent: Option<&MomentName>,
        with_domain: bool,
        secure: bool,
    ) -> Redefinition {
        let view = CheckpointView {
            name: checkpoint.name,
            parent,
            created: checkpoint.created,
            def: checkpoint.def,
            sizes: None,
        };
        Redefinition {
            kind: MomentKind::Checkpoint,
            moment: checkpoint.name.clone(),
            parent: parent.cloned(),
            current: false,
            xml: write_checkpoint(view, with_domain, secure),
        }
    }
}

/// The steps in their order, and what they come to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    steps: Vec<RedefineStep>,
    placeholder: Option<Redefinition>,
    current: Option<MomentName>,
    erased: Vec<MomentName>,
}

impl Order {
    fn of(domain: &Domain, kind: MomentKind) -> Order {
        match kind {
            MomentKind::Snapshot => Order::of_snapshots(domain.snapshots()),
            MomentKind::Checkpoint => Order::of_checkpoints(domain.checkpoints()),
        }
    }

    fn new<D>(list: &MomentList<D>) -> Order {
        Order {
            steps: Vec::new(),
            placeholder: None,
            current: list.current().map(|current| current.name.clone()),
            erased: Vec::new(),
        }
    }

    fn of_snapshots(list: &MomentList<SnapshotDef>) -> Order {
        let mut order = Order::new(list);
        for snapshot in last_sibling_first(list) {
            let domain = snapshot.def.domain.as_ref();
            if domain.is_none_or(|domain| domain.xml.is_empty()) {
                order.erased.push(snapshot.name.clone());
            }
            order.steps.push(RedefineStep::Redefine(snapshot.id));
        }
        order
    }

    fn of_checkpoints(list: &MomentList<CheckpointDef>) -> Order {
        let redefine =
            |checkpoint: Moment<'_, CheckpointDef>| RedefineStep::Redefine(checkpoint.id);
        let mut order = Order::new(list);
        let steps = &mut order.steps;
        if current_after(list) == list.current_id() {
            steps.extend(last_sibling_first(list).map(redefine));
            return order;
        }
        // The current one and its ancestors come first, each current in its turn.
        let mut path: Vec<Moment<'_, CheckpointDef>> = list.current().into_iter().collect();
        while let Some(parent) = path.last().and_then(|last| list.parent(last.id)) {
            path.push(parent);
        }
        steps.extend(path.iter().rev().copied().map(redefine));
        // A child of the current one would be current after it. A placeholder is, until all children are there.
        let has_children = |id| list.child_count(Some(id)) > 0;
        if list.current_id().is_none_or(has_children) {
            order.placeholder = Some(placeholder(list));
            steps.push(RedefineStep::Placeholder);
        }
        let path: BTreeSet<MomentId> = path.iter().map(|moment| moment.id).collect();
        let mut parents = BTreeSet::new();
        for checkpoint in last_sibling_first(list) {
            let parent = list.parent(checkpoint.id).map(|parent| parent.id);
            // The last of the siblings is where it belongs: all others go before it.
            let is_last = parents.insert(parent);
            if !(path.contains(&checkpoint.id) && is_last) {
                steps.push(redefine(checkpoint));
            }
        }
        if order.placeholder.is_some() {
            steps.push(RedefineStep::DeletePlaceholder);
        }
        order
    }

    /// What a step redefines; none if the domain has no such moment.
    fn redefinition(
        &self,
        domain: &Domain,
        step: RedefineStep,
        secure: bool,
    ) -> Option<Redefinition> {
        let RedefineStep::Redefine(id) = step else {
            return self.placeholder.clone();
        };
        if let Some(checkpoint) = domain.checkpoints().get(id) {
            let parent = domain.checkpoints().parent(id).map(|parent| parent.name);
            return Some(Redefinition::of_checkpoint(
                checkpoint, parent, true, secure,
            ));
        }
        let list = domain.snapshots();
        let snapshot = list.get(id)?;
        let parent = list.parent(id).map(|parent| parent.name);
        let view = SnapshotView {
            name: snapshot.name,
            parent,
            created: snapshot.created,
            def: snapshot.def,
            domain: domain.uuid(),
        };
        Some(Redefinition {
            kind: MomentKind::Snapshot,
            moment: snapshot.name.clone(),
            parent: parent.cloned(),
            current: list.current_id() == Some(id),
            xml: write_snapshot(view, secure),
        })
    }
}

/// The moments of a list, parents first and of siblings the last one first.
fn last_sibling_first<D>(list: &MomentList<D>) -> impl Iterator<Item = Moment<'_, D>> {
    let mut waiting: Vec<Moment<'_, D>> = list.walk(Scope::Roots).collect();
    std::iter::from_fn(move || {
        let next = waiting.pop()?;
        waiting.extend(list.walk(Scope::ChildrenOf(next.id)));
        Some(next)
    })
}

/// The checkpoint that is current once all are redefined in this order.
fn current_after(list: &MomentList<CheckpointDef>) -> Option<MomentId> {
    last_sibling_first(list).fold(None, |current, checkpoint| {
        let parent = list.parent(checkpoint.id).map(|parent| parent.id);
        if current.is_none() || parent == current {
            Some(checkpoint.id)
        } else {
            current
        }
    })
}

/// A checkpoint of no disks below the current one, or a root if none is current.
fn placeholder(list: &MomentList<CheckpointDef>) -> Redefinition {
    let names = (1_u64..).map(|number| match number {
        1 => "placeholder".to_owned(),
        _ => format!("placeholder-{number}"),
    });
    let mut free = names.filter(|name| list.find(name).is_none());
    let name = free.next().expect("a list does not hold every name");
    let name = MomentName::new(&name).expect("letters and digits are a name");
    let def = CheckpointDef {
        description: None,
        disks: Vec::new(),
        domain: None,
    };
    let parent = list.current().map(|current| current.name.clone());
    let view = CheckpointView {
        name: &name,
        parent: parent.as_ref(),
        created: 1,
        def: &def,
        sizes: None,
    };
    Redefinition {
        kind: MomentKind::Checkpoint,
        xml: write_checkpoint(view, false, false),
        moment: name,
        parent,
        current: false,
    }
}

#[cfg(test)]
mod tests;
