//! What an event has caused, by what its domain was right before it and is right after it.

use std::sync::Arc;

use momentlog_core::{
    Change, CheckpointDef, Domain, DomainDef, Event, Extent, MomentChange, MomentId, MomentKind,
    MomentList, Policy, Power, Scope, Settings, SnapshotDef, State,
};

use crate::consequence::{Consequence, CurrentChange, Move, Named, What};
use crate::field::{Described, def_changes, moment_changes};

/// What was there right before an event, as far as it is needed to say what the event has caused.
pub(crate) struct Before {
    settings: Settings,
    /// The domain that the event is about; `None` if it was not there, or the event is about the store.
    domain: Option<DomainBefore>,
    snapshots: ListBefore<SnapshotDef>,
    checkpoints: ListBefore<CheckpointDef>,
}

struct DomainBefore {
    name: Arc<str>,
    def: Arc<DomainDef>,
    power: Power,
    autostart: bool,
    policy: Policy,
}

/// The moments of one kind right before an event.
struct ListBefore<D> {
    current: Option<Named>,
    /// The moment that the event is about.
    moment: Option<MomentBefore<D>>,
    /// The moments that the event deletes.
    removed: Vec<Named>,
    /// The moments that hang elsewhere after it, or may, each with its parent.
    parents: Vec<(Named, Option<Named>)>,
}

struct MomentBefore<D> {
    moment: Named,
    parent: Option<Named>,
    created: i64,
    def: Arc<D>,
}

impl Before {
    /// Takes from the state right before an event what is needed of it.
    pub(crate) fn of(event: &Event, state: &State) -> Before {
        let domain = event.domain.and_then(|uuid| state.domain(uuid));
        let mut before = Before {
            settings: state.settings(),
            domain: domain.map(|domain| DomainBefore {
                name: domain.name().clone(),
                def: domain.def().clone(),
                power: domain.power(),
                autostart: domain.autostart(),
                policy: domain.policy(),
            }),
            snapshots: ListBefore::default(),
            checkpoints: ListBefore::default(),
        };
        if let Some(domain) = domain {
            let (snapshots, checkpoints) = (domain.snapshots(), domain.checkpoints());
            match &event.change {
                Change::Snapshot(change) => before.snapshots = ListBefore::of(change, snapshots),
                Change::Checkpoint(change) => {
                    before.checkpoints = ListBefore::of(change, checkpoints);
                }
                Change::Reverted { .. } => {
                    before.snapshots.current = snapshots.current().map(Named::from);
                }
                Change::DomainRemoved => {
                    before.snapshots.removed = all(snapshots);
                    before.checkpoints.removed = all(checkpoints);
                }
                _ => {}
            }
        }
        before
    }

    /// Returns what the event has caused, by the state right after it.
    pub(crate) fn consequence(self, event: &Event, after: &State) -> Consequence {
        let domain = self.domain.as_ref();
        let after = event.domain.and_then(|uuid| after.domain(uuid));
        let moment = |id| any_moment(after, id);
        Consequence::of(match &event.change {
            Change::SettingsSet(to) => What::SettingsSet {
                from: self.settings,
                to: *to,
            },
            Change::DomainDefined { def, live, .. } => What::DomainDefined {
                live: *live,
                def: def.clone(),
                fields: domain.map(|before| def_changes(&before.def, def)),
            },
            Change::StateChanged(to) => What::StateChanged {
                from: domain.map_or(*to, |before| before.power),
                to: *to,
            },
            Change::MadeTransient => What::MadeTransient,
            Change::DomainRemoved => What::DomainRemoved {
                snapshots: self.snapshots.removed,
                checkpoints: self.checkpoints.removed,
            },
            Change::DomainRenamed(def) => What::DomainRenamed {
                from: domain.map_or(&def.name, |before| &before.name).clone(),
                to: def.name.clone(),
            },
            Change::AutostartSet(to) => What::AutostartSet {
                from: domain.map_or(*to, |before| before.autostart),
                to: *to,
            },
            Change::PolicySet(to) => What::PolicySet {
                from: domain.map_or(*to, |before| before.policy),
                to: *to,
            },
            Change::Snapshot(change) => {
                let list = after.map(Domain::snapshots);
                return self
                    .snapshots
                    .consequence(MomentKind::Snapshot, change, list);
            }
            Change::Checkpoint(change) => {
                let list = after.map(Domain::checkpoints);
                return self
                    .checkpoints
                    .consequence(MomentKind::Checkpoint, change, list);
            }
            Change::Reverted { id, power } => {
                let list = after.map(Domain::snapshots);
                let what = What::Reverted {
                    moment: named(list, *id),
                    power: *power,
                };
                let current = current_change(self.snapshots.current, list);
                return Consequence {
                    current,
                    ..Consequence::of(what)
                };
            }
            Change::JobBegun { id, job } => {
                let deletions = job.deletions.iter();
                let deleted = deletions.flat_map(|deletion| deletion.removed.ids());
                What::JobBegun {
                    id: *id,
                    job: job.clone(),
                    deletes: deleted.map(|id| moment(id).1).collect(),
                }
            }
            Change::JobEnded(outcome) => What::JobEnded(outcome.clone()),
            Change::JobFailed(outcome) => What::JobFailed(outcome.clone()),
            Change::HypervisorAttached(attachment) => What::Attached(attachment.clone()),
            Change::HypervisorDetached => What::Detached,
            Change::CheckpointSeen { id, disks } => What::Seen {
                moment: moment(*id).1,
                disks: disks.clone(),
            },
            Change::HoldAdded { id, tag, hold } => {
                let (kind, moment) = moment(*id);
                What::Held {
                    kind,
                    moment,
                    tag: tag.clone(),
                    hold: hold.clone(),
                }
            }
            Change::HoldRemoved { id, tag } => {
                let (kind, moment) = moment(*id);
                What::Released {
                    kind,
                    moment,
                    tag: tag.clone(),
                }
            }
        })
    }
}

impl<D> Default for ListBefore<D> {
    fn default() -> ListBefore<D> {
        ListBefore {
            current: None,
            moment: None,
            removed: Vec::new(),
            parents: Vec::new(),
        }
    }
}

impl<D: Described + PartialEq> ListBefore<D> {
    fn of(change: &MomentChange<D>, list: &MomentList<D>) -> ListBefore<D> {
        let with_parent = |id| (named(Some(list), id), parent(Some(list), id));
        let before = ListBefore {
            current: list.current().map(Named::from),
            ..ListBefore::default()
        };
        match change {
            MomentChange::Created { .. } | MomentChange::CurrentSet(_) => before,
            MomentChange::Redefined { id, .. } => ListBefore {
                moment: MomentBefore::of(list, *id),
                parents: vec![with_parent(*id)],
                ..before
            },
            MomentChange::Reparented { id, .. } => ListBefore {
                parents: vec![with_parent(*id)],
                ..before
            },
            MomentChange::Deleted {
                id,
                extent,
                removed,
                ..
            } => {
                let children = (*extent == Extent::One).then(|| list.walk(Scope::ChildrenOf(*id)));
                let children = children.into_iter().flatten();
                ListBefore {
                    moment: MomentBefore::of(list, *id),
                    removed: removed.ids().map(|id| named(Some(list), id)).collect(),
                    parents: children.map(|child| with_parent(child.id)).collect(),
                    ..before
                }
            }
        }
    }

    /// What a change of these moments has caused.
    fn consequence(
        self,
        kind: MomentKind,
        change: &MomentChange<D>,
        after: Option<&MomentList<D>>,
    ) -> Consequence {
        let what = match change {
            MomentChange::Created { id, parent, .. } => What::Created {
                kind,
                moment: named(after, *id),
                below: parent.map(|id| named(after, id)),
            },
            MomentChange::Redefined { id, parent, .. } => {
                let around = self.moment.zip(after.and_then(|list| list.get(*id)));
                let fields = around.map(|(before, after)| {
                    moment_changes((before.created, &before.def), (after.created, after.def))
                });
                What::Redefined {
                    kind,
                    moment: named(after, *id),
                    below: parent.map(|id| named(after, id)),
                    fields: fields.unwrap_or_default(),
                }
            }
            MomentChange::Deleted { id, extent, .. } => {
                let (moment, below) = match self.moment {
                    Some(before) => (before.moment, before.parent),
                    None => (Named::unknown(*id), None),
                };
                What::Deleted {
                    kind,
                    moment,
                    below,
                    extent: *extent,
                    removed: self.removed,
                }
            }
            MomentChange::Reparented { id, .. } => What::Moved {
                kind,
                moment: named(after, *id),
                below: parent(after, *id),
            },
            MomentChange::CurrentSet(id) => What::CurrentSet {
                kind,
                moment: id.map(|id| named(after, id)),
            },
        };
        let moved = self.parents.into_iter().map(|(moment, from)| Move {
            to: parent(after, moment.id),
            moment,
            from,
        });
        Consequence {
            what,
            moved: moved.filter(|moved| moved.from != moved.to).collect(),
            current: current_change(self.current, after),
        }
    }
}

impl<D> MomentBefore<D> {
    fn of(list: &MomentList<D>, id: MomentId) -> Option<MomentBefore<D>> {
        let moment = list.get(id)?;
        Some(MomentBefore {
            created: moment.created,
            def: moment.def.clone(),
            moment: moment.into(),
            parent: parent(Some(list), id),
        })
    }
}

fn current_change<D>(from: Option<Named>, after: Option<&MomentList<D>>) -> Option<CurrentChange> {
    let to = after.and_then(MomentList::current);
    let changed = from.as_ref().map(|from| from.id) != to.as_ref().map(|to| to.id);
    changed.then(|| CurrentChange {
        from,
        to: to.map(Named::from),
    })
}

/// A moment of either kind.
fn any_moment(domain: Option<&Domain>, id: MomentId) -> (MomentKind, Named) {
    let snapshots = domain.map(Domain::snapshots);
    match snapshots.and_then(|list| list.get(id)) {
        Some(snapshot) => (MomentKind::Snapshot, snapshot.into()),
        None => (
            MomentKind::Checkpoint,
            named(domain.map(Domain::checkpoints), id),
        ),
    }
}

/// A moment that an event names; one that fits names only those that are there.
fn named<D>(list: Option<&MomentList<D>>, id: MomentId) -> Named {
    let moment = list.and_then(|list| list.get(id));
    moment.map_or_else(|| Named::unknown(id), Named::from)
}

fn parent<D>(list: Option<&MomentList<D>>, id: MomentId) -> Option<Named> {
    list?.parent(id).map(Named::from)
}

/// All moments of a list, by id.
fn all<D>(list: &MomentList<D>) -> Vec<Named> {
    let mut all: Vec<Named> = list.walk(Scope::All).map(Named::from).collect();
    all.sort_unstable();
    all
}
