//! What a record has caused, an event each, with the names of what it is about.

use std::sync::Arc;

use momentlog_core::{
    Attachment, DiskSeen, DomainDef, Extent, Hold, HoldTag, Job, JobId, JobOutcome, Moment,
    MomentId, MomentKind, MomentName, Policy, Power, Settings, State,
};
use momentlog_engine::{Bridge, Entry, Step};
use momentlog_store::Seq;

use crate::before::Before;
use crate::field::FieldChange;

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
        let caused = Before::of(event, step.before.state()).consequence(event, step.after.state());
        return vec![caused];
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

/// What a record is that is no command.
pub(crate) fn of_log(entry: &Entry) -> Option<What> {
    if let Some(bridge) = &entry.bridge {
        return Some(What::Archived(bridge.clone()));
    }
    entry.agent.is_none().then_some(What::Begun)
}

/// Returns what a record has caused, and brings the state before it to the one after it, which may be known.
pub(crate) fn fold(state: &mut State, entry: &Entry, after: Option<&State>) -> Vec<Consequence> {
    if let Some(what) = of_log(entry) {
        return vec![Consequence::of(what)];
    }
    let mut consequences = Vec::with_capacity(entry.events.len());
    for (index, event) in entry.events.iter().enumerate() {
        let next = match after {
            Some(after) if index + 1 == entry.events.len() => after.clone(),
            // Events that were recorded fit the state that the records before them made.
            _ => state.apply(event).unwrap_or_else(|_| state.clone()),
        };
        consequences.push(Before::of(event, state).consequence(event, &next));
        *state = next;
    }
    consequences
}

impl Consequence {
    pub(crate) fn of(what: What) -> Consequence {
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

impl<D> From<Moment<'_, D>> for Named {
    fn from(moment: Moment<'_, D>) -> Named {
        Named {
            id: moment.id,
            name: moment.name.clone(),
        }
    }
}

impl Named {
    pub(crate) fn unknown(id: MomentId) -> Named {
        let name = MomentName::new(&format!("#{id}")).expect("a number makes a name");
        Named { id, name }
    }
}
