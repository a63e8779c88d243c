//! What a record has caused, an event each, with the names of what it is about.

use std::sync::Arc;

use momentlog_core::{
    Attachment, Change, CheckpointDef, DiskSeen, Domain, DomainDef, Event, Extent, Hold, HoldTag,
    Job, JobId, JobOutcome, Moment, MomentChange, MomentId, MomentKind, MomentList, MomentName,
    Policy, Power, Scope, Settings, SnapshotDef, State,
};
use momentlog_engine::{Bridge, Entry, Step};
use momentlog_store::Seq;

use crate::field::{Described, FieldChange, def_changes, moment_changes};

/// A moment, by its id and the name that it has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// Its id, unique in the log.
    pub id: MomentId,
    /// Its name, unique among the moments of its kind and domain that are there at the same time.
    pub name: MomentName,
}

/// What one event has caused.
#[derive(Clone, Debug, PartialEq)]
pub struct Consequence {
    /// What happened.
    pub what: What,
    /// The moments that hang elsewhere now.
    pub moved: Vec<Move>,
    /// The change of the current moment, if it has changed.
    pub current: Option<CurrentChange>,
}

/// A moment that hangs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The moment.
    pub moment: Named,
    /// Its parent before; none if it was a root.
    pub from: Option<Named>,
    /// Its parent now; none if it is a root.
    pub to: Option<Named>,
}

/// Another moment is current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentChange {
    /// The one before.
    pub from: Option<Named>,
    /// The one now.
    pub to: Option<Named>,
}

/// What happened, with names.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// The log was begun.
    Begun,
    /// Records were moved to an archive.
    Archived(Bridge),
    /// The store was set.
    SettingsSet {
        /// Its settings before.
        from: Settings,
        /// Its settings now.
        to: Settings,
    },
    /// The domain has this definition.
    DomainDefined {
        /// Whether it is the definition of a guest about to start, rather than the persistent one.
        live: bool,
        /// The definition.
        def: Arc<DomainDef>,
        /// What differs from the definition in force before; `None` if the domain was not there.
        fields: Option<Vec<FieldChange>>,
    },
    /// The domain is in another run state.
    StateChanged {
        /// The state before.
        from: Power,
        /// The state now.
        to: Power,
    },
    /// The domain lives only as long as its guest from now on.
    MadeTransient,
    /// The domain is gone.
    DomainRemoved {
        /// The snapshots that went with it.
        snapshots: Vec<Named>,
        /// The checkpoints that went with it.
        checkpoints: Vec<Named>,
    },
    /// The domain is found under another name.
    DomainRenamed {
        /// The name before.
        from: Arc<str>,
        /// The name now.
        to: Arc<str>,
    },
    /// Whether the domain starts with its host.
    AutostartSet {
        /// Whether it did before.
        from: bool,
        /// Whether it does now.
        to: bool,
    },
    /// Other rules are in force.
    PolicySet {
        /// The rules before.
        from: Policy,
        /// The rules now.
        to: Policy,
    },
    /// A moment was created.
    Created {
        /// Its kind.
        kind: MomentKind,
        /// The moment.
        moment: Named,
        /// Its parent; none for a root.
        below: Option<Named>,
    },
    /// A moment has another definition.
    Redefined {
        /// Its kind.
        kind: MomentKind,
        /// The moment.
        moment: Named,
        /// Its parent now; none for a root.
        below: Option<Named>,
        /// What has changed of it.
        fields: Vec<FieldChange>,
    },
    /// A moment, or what hung below it, is gone.
    Deleted {
        /// Its kind.
        kind: MomentKind,
        /// The moment.
        moment: Named,
        /// Its parent before; none if it was a root.
        below: Option<Named>,
        /// How much of the tree went.
        extent: Extent,
        /// All moments that are gone, by id.
        removed: Vec<Named>,
    },
    /// A moment was hung elsewhere; from where is in [`Consequence::moved`], unless it hangs where it did.
    Moved {
        /// Its kind.
        kind: MomentKind,
        /// The moment.
        moment: Named,
        /// Its parent now; none for a root.
        below: Option<Named>,
    },
    /// A moment was made current, or none; which is in [`Consequence::current`], unless it was current before.
    CurrentSet {
        /// The kind of the moments.
        kind: MomentKind,
        /// The moment.
        moment: Option<Named>,
    },
    /// The domain went back to a snapshot.
    Reverted {
        /// The snapshot.
        moment: Named,
        /// The run state afterwards.
        power: Power,
    },
    /// A hypervisor is about to be asked for something.
    JobBegun {
        /// The job's number.
        id: JobId,
        /// The job.
        job: Arc<Job>,
        /// The moments that its end deletes.
        deletes: Vec<Named>,
    },
    /// An open job has done what it was begun for.
    JobEnded(JobOutcome),
    /// An open job has not done what it was begun for.
    JobFailed(JobOutcome),
    /// The domain's hypervisor is asked there from now on.
    Attached(Arc<Attachment>),
    /// The domain's hypervisor is not asked any more.
    Detached,
    /// A moment is held.
    Held {
        /// Its kind.
        kind: MomentKind,
        /// The moment.
        moment: Named,
        /// The tag.
        tag: HoldTag,
        /// Who holds it, and since when.
        hold: Hold,
    },
    /// A checkpoint's bitmaps were seen, as the log did not know them.
    Seen {
        /// The checkpoint.
        moment: Named,
        /// What was seen, by disk.
        disks: Vec<DiskSeen>,
    },
    /// A moment is no longer held under this tag.
    Released {
        /// Its kind.
        kind: MomentKind,
        /// The moment.
        moment: Named,
        /// The tag.
        tag: HoldTag,
    },
}

/// Returns what a record has caused, a consequence for each event in their order; for a record without events, what it is.
pub fn consequences(step: &Step) -> Vec<Consequence> {
    let is_second = step.before.head().map(|head| head.seq) == Some(Seq::FIRST);
    if let ([event], false) = (&step.entry.events[..], is_second) {
        return vec![consequence(event, step.before.state(), step.after.state())];
    }
    let mut state = before(step, is_second);
    fold(&mut state, &step.entry, Some(step.after.state()))
}

/// Returns the state before a record. What is there before the first command is what that command makes.
fn before(step: &Step, is_second: bool) -> State {
    let state = step.before.state();
    if is_second {
        State::new(state.profile())
    } else {
        state.clone()
    }
}

/// Returns what a record has caused, and brings the state before it to the one after it, which may be known.
pub(crate) fn fold(state: &mut State, entry: &Entry, after: Option<&State>) -> Vec<Consequence> {
    if let Some(bridge) = &entry.bridge {
        return vec![Consequence::of(What::Archived(bridge.clone()))];
    }
    if entry.agent.is_none() {
        return vec![Consequence::of(What::Begun)];
    }
    let mut consequences = Vec::with_capacity(entry.events.len());
    for (index, event) in entry.events.iter().enumerate() {
        let next = match after {
            Some(after) if index + 1 == entry.events.len() => after.clone(),
            // Events that were recorded fit the state that the records before them made.
            _ => state.apply(event).unwrap_or_else(|_| state.clone()),
        };
        consequences.push(consequence(event, state, &next));
        *state = next;
    }
    consequences
}

/// Returns what one event has caused between two states.
fn consequence(event: &Event, before: &State, after: &State) -> Consequence {
    if let Change::SettingsSet(to) = &event.change {
        return Consequence::of(What::SettingsSet {
            from: before.settings(),
            to: *to,
        });
    }
    let [before, after] =
        [before, after].map(|state| event.domain.and_then(|uuid| state.domain(uuid)));
    consequence_of_domain(event, before, after)
}

/// Returns what one event about a domain has caused, between what the domain was before and after it.
pub(crate) fn consequence_of_domain(
    event: &Event,
    before: Option<&Domain>,
    after: Option<&Domain>,
) -> Consequence {
    let around = Around { before, after };
    match &event.change {
        Change::DomainDefined { def, live, .. } => Consequence::of(What::DomainDefined {
            live: *live,
            def: def.clone(),
            fields: around.before.map(|before| def_changes(before.def(), def)),
        }),
        Change::StateChanged(to) => Consequence::of(What::StateChanged {
            from: around.before.map_or(*to, Domain::power),
            to: *to,
        }),
        Change::MadeTransient => Consequence::of(What::MadeTransient),
        Change::DomainRemoved => Consequence::of(What::DomainRemoved {
            snapshots: around.before.map(all_snapshots).unwrap_or_default(),
            checkpoints: around.before.map(all_checkpoints).unwrap_or_default(),
        }),
        Change::DomainRenamed(def) => Consequence::of(What::DomainRenamed {
            from: around
                .before
                .map_or_else(|| def.name.clone(), |before| before.name().clone()),
            to: def.name.clone(),
        }),
        Change::AutostartSet(to) => Consequence::of(What::AutostartSet {
            from: around.before.map_or(*to, Domain::autostart),
            to: *to,
        }),
        Change::PolicySet(to) => Consequence::of(What::PolicySet {
            from: around.before.map_or(*to, Domain::policy),
            to: *to,
        }),
        Change::Snapshot(change) => around.snapshots().consequence(change),
        Change::Checkpoint(change) => around.checkpoints().consequence(change),
        Change::Reverted { id, power } => {
            let snapshots = around.snapshots();
            Consequence {
                current: snapshots.current(),
                ..Consequence::of(What::Reverted {
                    moment: snapshots.named(*id),
                    power: *power,
                })
            }
        }
        Change::JobBegun { id, job } => {
            let deletions = job.deletions.iter();
            let deleted = deletions.flat_map(|deletion| deletion.removed.ids());
            Consequence::of(What::JobBegun {
                id: *id,
                job: job.clone(),
                deletes: deleted.map(|id| around.moment(id).1).collect(),
            })
        }
        Change::JobEnded(outcome) => Consequence::of(What::JobEnded(outcome.clone())),
        Change::JobFailed(outcome) => Consequence::of(What::JobFailed(outcome.clone())),
        Change::HypervisorAttached(attachment) => {
            Consequence::of(What::Attached(attachment.clone()))
        }
        Change::HypervisorDetached => Consequence::of(What::Detached),
        Change::CheckpointSeen { id, disks } => Consequence::of(What::Seen {
            moment: around.moment(*id).1,
            disks: disks.clone(),
        }),
        Change::HoldAdded { id, tag, hold } => {
            let (kind, moment) = around.moment(*id);
            Consequence::of(What::Held {
                kind,
                moment,
                tag: tag.clone(),
                hold: hold.clone(),
            })
        }
        Change::HoldRemoved { id, tag } => {
            let (kind, moment) = around.moment(*id);
            Consequence::of(What::Released {
                kind,
                moment,
                tag: tag.clone(),
            })
        }
        // No event about a domain sets them: they are the store's.
        Change::SettingsSet(to) => Consequence::of(What::SettingsSet { from: *to, to: *to }),
    }
}

impl Consequence {
    fn of(what: What) -> Consequence {
        Consequence {
            what,
            moved: Vec::new(),
            current: None,
        }
    }

    /// The kind of moments that it is about, if it is about moments of one kind.
    pub fn kind(&self) -> Option<MomentKind> {
        match &self.what {
            What::Created { kind, .. }
            | What::Redefined { kind, .. }
            | What::Deleted { kind, .. }
            | What::Moved { kind, .. }
            | What::CurrentSet { kind, .. }
            | What::Held { kind, .. }
            | What::Released { kind, .. } => Some(*kind),
            What::Reverted { .. } => Some(MomentKind::Snapshot),
            What::Seen { .. } => Some(MomentKind::Checkpoint),
            _ => None,
        }
    }
}

/// A domain right before an event and right after it.
#[derive(Clone, Copy)]
struct Around<'a> {
    before: Option<&'a Domain>,
    after: Option<&'a Domain>,
}

impl<'a> Around<'a> {
    fn snapshots(self) -> Lists<'a, SnapshotDef> {
        Lists {
            kind: MomentKind::Snapshot,
            before: self.before.map(Domain::snapshots),
            after: self.after.map(Domain::snapshots),
        }
    }

    fn checkpoints(self) -> Lists<'a, CheckpointDef> {
        Lists {
            kind: MomentKind::Checkpoint,
            before: self.before.map(Domain::checkpoints),
            after: self.after.map(Domain::checkpoints),
        }
    }

    /// A moment of either kind.
    fn moment(self, id: MomentId) -> (MomentKind, Named) {
        let snapshots = self.snapshots();
        if snapshots.get(id).is_some() {
            (MomentKind::Snapshot, snapshots.named(id))
        } else {
            (MomentKind::Checkpoint, self.checkpoints().named(id))
        }
    }
}

/// The moments of one kind right before an event and right after it.
#[derive(Clone, Copy)]
struct Lists<'a, D> {
    kind: MomentKind,
    before: Option<&'a MomentList<D>>,
    after: Option<&'a MomentList<D>>,
}

impl<'a, D: Described + PartialEq> Lists<'a, D> {
    /// What a change of these moments has caused.
    fn consequence(&self, change: &MomentChange<D>) -> Consequence {
        let kind = self.kind;
        let current = self.current();
        let (what, moved) = match change {
            MomentChange::Created { id, parent, .. } => {
                let (moment, below) = (self.named(*id), parent.map(|id| self.named(id)));
                let what = What::Created {
                    kind,
                    moment,
                    below,
                };
                (what, Vec::new())
            }
            MomentChange::Redefined { id, parent, .. } => {
                let what = What::Redefined {
                    kind,
                    moment: self.named(*id),
                    below: parent.map(|id| self.named(id)),
                    fields: self.fields(*id),
                };
                (what, self.moves([*id]))
            }
            MomentChange::Deleted {
                id,
                extent,
                removed,
                ..
            } => {
                let children = self.before.filter(|_| *extent == Extent::One);
                let children = children.map(|list| list.walk(Scope::ChildrenOf(*id)));
                let children = children.into_iter().flatten().map(|child| child.id);
                let what = What::Deleted {
                    kind,
                    moment: self.named(*id),
                    below: parent(self.before, *id),
                    extent: *extent,
                    removed: removed.ids().map(|id| self.named(id)).collect(),
                };
                (what, self.moves(children))
            }
            MomentChange::Reparented { id, .. } => {
                let what = What::Moved {
                    kind,
                    moment: self.named(*id),
                    below: parent(self.after, *id),
                };
                (what, self.moves([*id]))
            }
            MomentChange::CurrentSet(id) => {
                let moment = id.map(|id| self.named(id));
                (What::CurrentSet { kind, moment }, Vec::new())
            }
        };
        Consequence {
            what,
            moved,
            current,
        }
    }

    /// Those of these moments that hang elsewhere now.
    fn moves(&self, ids: impl IntoIterator<Item = MomentId>) -> Vec<Move> {
        let moves = ids.into_iter().map(|id| Move {
            moment: self.named(id),
            from: parent(self.before, id),
            to: parent(self.after, id),
        });
        moves.filter(|moved| moved.from != moved.to).collect()
    }

    fn current(&self) -> Option<CurrentChange> {
        let from = self.before.and_then(MomentList::current);
        let to = self.after.and_then(MomentList::current);
        let changed = from.as_ref().map(|from| from.id) != to.as_ref().map(|to| to.id);
        changed.then(|| CurrentChange {
            from: from.map(Named::from),
            to: to.map(Named::from),
        })
    }

    /// What has changed of a moment.
    fn fields(&self, id: MomentId) -> Vec<FieldChange> {
        match (self.before.and_then(|list| list.get(id)), self.get(id)) {
            (Some(before), Some(after)) => moment_changes(&before, &after),
            _ => Vec::new(),
        }
    }

    /// The moment as it is now, or was before.
    fn get(&self, id: MomentId) -> Option<Moment<'a, D>> {
        let after = self.after.and_then(|list| list.get(id));
        after.or_else(|| self.before.and_then(|list| list.get(id)))
    }

    fn named(&self, id: MomentId) -> Named {
        match self.get(id) {
            Some(moment) => moment.into(),
            // An event that fits names only moments that are there before or after it.
            None => Named::unknown(id),
        }
    }
}

fn parent<D>(list: Option<&MomentList<D>>, id: MomentId) -> Option<Named> {
    list?.parent(id).map(Named::from)
}

fn all_snapshots(domain: &Domain) -> Vec<Named> {
    all(domain.snapshots())
}

fn all_checkpoints(domain: &Domain) -> Vec<Named> {
    all(domain.checkpoints())
}

/// All moments of a list, by id.
fn all<D>(list: &MomentList<D>) -> Vec<Named> {
    let mut all: Vec<Named> = list.walk(Scope::All).map(Named::from).collect();
    all.sort_unstable();
    all
}

impl<D> From<Moment<'_, D>> for Named {
    fn from(moment: Moment<'_, D>) -> Named {
        Named {
            id: moment.id,
            name: moment.name.clone(),
        }
    }
}

impl Named {
    fn unknown(id: MomentId) -> Named {
        let name = MomentName::new(&format!("#{id}")).expect("a number makes a name");
        Named { id, name }
    }
}
