//! A record with what it has caused, and which records are asked for.

use std::sync::Arc;

use momentlog_core::{Domain, DomainUuid, Event, MomentId, MomentKind, State};
use momentlog_engine::{Entry, Mention, Step, Watch};
use momentlog_store::Seq;

use crate::before::Before;
use crate::consequence::{Consequence, Named, What, consequences, fold, of_log};
use crate::words::summary;

/// A record, with what it has caused.
#[derive(Clone, Debug)]
pub struct Told {
    /// Who did it, when and why.
    pub entry: Entry,
    /// The name of the domain that it is about.
    pub domain: Option<Arc<str>>,
    /// What it has caused, a consequence for each event.
    pub consequences: Vec<Consequence>,
}

impl Told {
    /// Tells a step of the history.
    pub fn of(step: &Step) -> Told {
        Told::of_step(step.clone())
    }

    /// As [`of`](Self::of), of a step that is not needed any more.
    pub fn of_step(step: Step) -> Told {
        Told {
            domain: name(step.after.state(), step.entry.domain)
                .or_else(|| name(step.before.state(), step.entry.domain)),
            consequences: consequences(&step),
            entry: step.entry,
        }
    }

    /// Tells an entry that follows on a state, and brings the state to the one after it: for entries that come without
    /// their states, as those of a subscription.
    pub fn next(state: &mut State, entry: Entry) -> Told {
        let before = name(state, entry.domain);
        let consequences = fold(state, &entry, None);
        Told {
            domain: name(state, entry.domain).or(before),
            consequences,
            entry,
        }
    }

    /// What all its consequences are, in one line; if it has none, what was called.
    pub fn summary(&self) -> String {
        let mut words = match &self.consequences[..] {
            [] => self.entry.call.to_string(),
            consequences => summary(consequences),
        };
        if let Some(seq) = self.entry.undoes {
            words += &format!("; takes back record {seq}");
        }
        words
    }

    /// Number of the record.
    pub fn seq(&self) -> Seq {
        self.entry.head.seq
    }

    /// Whether anything of it is about a moment: one that it names, moved, removed, or that was current.
    pub fn is_about(&self, moment: &MomentRef) -> bool {
        let mut consequences = self.consequences.iter();
        consequences.any(|consequence| consequence.moments().any(|named| moment.is(named)))
    }
}

/// Tells each record of a history while it is replayed.
#[derive(Default)]
pub struct Teller {
    /// What was there before the event that is applied.
    before: Option<Before>,
    /// The name of the domain before the record.
    domain: Option<Arc<str>>,
    consequences: Vec<Consequence>,
}

impl Watch for Teller {
    type Made = Told;

    fn begin(&mut self, domain: Option<DomainUuid>, state: &State) {
        self.domain = name(state, domain);
    }

    fn before(&mut self, event: &Event, state: &State) {
        self.before = Some(Before::of(event, state));
    }

    fn after(&mut self, event: &Event, state: &State) {
        let before = self.before.take();
        let caused = before.map(|before| before.consequence(event, state));
        self.consequences.extend(caused);
    }

    fn record(&mut self, entry: Entry, state: &State) -> Told {
        let before = self.domain.take();
        let consequences = std::mem::take(&mut self.consequences);
        Told {
            domain: name(state, entry.domain).or(before),
            consequences: match of_log(&entry) {
                Some(what) => vec![Consequence::of(what)],
                None => consequences,
            },
            entry,
        }
    }
}

/// The name of a domain in a state.
fn name(state: &State, domain: Option<DomainUuid>) -> Option<Arc<str>> {
    let domain = domain.and_then(|uuid| state.domain(uuid));
    domain.map(|domain| domain.name().clone())
}

/// A moment, by the name that people use for it or by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MomentRef {
    /// Every moment that has or had this name.
    Name(Arc<str>),
    /// The moment of this id.
    Id(MomentId),
}

impl MomentRef {
    /// Reads a name, or an id as `#7`. A moment that is called `#7` is found by its id alone.
    pub fn parse(text: &str) -> MomentRef {
        let number = text
            .strip_prefix('#')
            .and_then(|digits| digits.parse().ok());
        match number.and_then(MomentId::new) {
            Some(id) => MomentRef::Id(id),
            None => MomentRef::Name(text.into()),
        }
    }

    /// Whether it means this moment.
    pub fn is(&self, moment: &Named) -> bool {
        match self {
            MomentRef::Name(name) => moment.name.as_str() == &**name,
            MomentRef::Id(id) => moment.id == *id,
        }
    }
}

impl MomentRef {
    /// Whether a moment that is meant is there in a domain.
    pub fn is_in(&self, domain: &Domain) -> bool {
        let (snapshots, checkpoints) = (domain.snapshots(), domain.checkpoints());
        match self {
            MomentRef::Id(id) => snapshots.get(*id).is_some() || checkpoints.get(*id).is_some(),
            MomentRef::Name(name) => {
                snapshots.find(name).is_some() || checkpoints.find(name).is_some()
            }
        }
    }

    /// Whether a record may begin the life of a moment that is meant: it creates one, or takes back the end of one.
    pub fn may_begin(&self, mention: Mention<'_>) -> bool {
        match (mention, self) {
            (Mention::Created { name, .. }, MomentRef::Name(wanted)) => **wanted == *name,
            (Mention::Created { id, .. }, MomentRef::Id(wanted)) => *wanted == id,
            (Mention::TakesBack(_), _) => true,
            (Mention::Redefined(_), _) => false,
        }
    }
}

impl Consequence {
    /// The moments that it is about: those that it names, moved, removed, or that were current.
    pub fn moments(&self) -> impl Iterator<Item = &Named> {
        let (one, many): (Option<&Named>, [&[Named]; 2]) = match &self.what {
            What::Created { moment, .. }
            | What::Redefined { moment, .. }
            | What::Moved { moment, .. }
            | What::Reverted { moment, .. }
            | What::Held { moment, .. }
            | What::Seen { moment, .. }
            | What::Released { moment, .. } => (Some(moment), [&[], &[]]),
            What::CurrentSet { moment, .. } => (moment.as_ref(), [&[], &[]]),
            What::Deleted {
                moment, removed, ..
            } => (Some(moment), [removed, &[]]),
            What::DomainRemoved {
                snapshots,
                checkpoints,
            } => (None, [snapshots, checkpoints]),
            What::JobBegun { deletes, .. } => (None, [deletes, &[]]),
            _ => (None, [&[], &[]]),
        };
        let current = self.current.iter();
        let current = current.flat_map(|change| [&change.from, &change.to]);
        let moved = self.moved.iter().map(|moved| &moved.moment);
        one.into_iter()
            .chain(many.into_iter().flatten())
            .chain(moved)
            .chain(current.flatten())
    }
}

/// Words for what a record does, by which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// The log was begun.
    Begun,
    /// Records were archived.
    Archived,
    /// The store was set.
    Settings,
    /// A domain was defined.
    Defined,
    /// A run state changed, or a domain was made transient.
    State,
    /// A domain was removed.
    Removed,
    /// Rules were set.
    Policy,
    /// A moment was created.
    Created,
    /// A moment was redefined.
    Redefined,
    /// Moments were deleted, also with their domain.
    Deleted,
    /// A moment hangs elsewhere, also because its parent was deleted.
    Moved,
    /// Another moment is current, whatever made it so.
    Current,
    /// A domain went back to a snapshot.
    Reverted,
    /// A job was begun, has ended or failed.
    Job,
    /// A domain was attached to its hypervisor, or detached.
    Attached,
    /// A moment is held or released.
    Held,
    /// Anything about snapshots.
    Snapshot,
    /// Anything about checkpoints.
    Checkpoint,
}

impl RecordKind {
    /// All kinds, with their words.
    pub const ALL: [(RecordKind, &'static str); 18] = [
        (RecordKind::Begun, "begun"),
        (RecordKind::Archived, "archived"),
        (RecordKind::Settings, "settings"),
        (RecordKind::Defined, "defined"),
        (RecordKind::State, "state"),
        (RecordKind::Removed, "removed"),
        (RecordKind::Policy, "policy"),
        (RecordKind::Created, "created"),
        (RecordKind::Redefined, "redefined"),
        (RecordKind::Deleted, "deleted"),
        (RecordKind::Moved, "moved"),
        (RecordKind::Current, "current"),
        (RecordKind::Reverted, "reverted"),
        (RecordKind::Job, "job"),
        (RecordKind::Attached, "attached"),
        (RecordKind::Held, "held"),
        (RecordKind::Snapshot, "snapshot"),
        (RecordKind::Checkpoint, "checkpoint"),
    ];

    /// Returns the kind of this word.
    pub fn from_word(word: &str) -> Option<RecordKind> {
        let found = RecordKind::ALL
            .into_iter()
            .find(|(_, known)| *known == word);
        found.map(|(kind, _)| kind)
    }

    /// Whether a consequence is of this kind.
    pub fn is(self, consequence: &Consequence) -> bool {
        let what = &consequence.what;
        match self {
            RecordKind::Begun => matches!(what, What::Begun),
            RecordKind::Archived => matches!(what, What::Archived(_)),
            RecordKind::Settings => matches!(what, What::SettingsSet { .. }),
            RecordKind::Defined => matches!(
                what,
                What::DomainDefined { .. } | What::DomainRenamed { .. } | What::AutostartSet { .. }
            ),
            RecordKind::State => matches!(what, What::StateChanged { .. } | What::MadeTransient),
            RecordKind::Removed => matches!(what, What::DomainRemoved { .. }),
            RecordKind::Policy => matches!(what, What::PolicySet { .. }),
            RecordKind::Created => matches!(what, What::Created { .. }),
            RecordKind::Redefined => matches!(what, What::Redefined { .. }),
            RecordKind::Deleted => match what {
                What::Deleted { .. } => true,
                What::DomainRemoved {
                    snapshots,
                    checkpoints,
                } => !snapshots.is_empty() || !checkpoints.is_empty(),
                _ => false,
            },
            RecordKind::Moved => {
                !consequence.moved.is_empty() || matches!(what, What::Moved { .. })
            }
            RecordKind::Current => {
                consequence.current.is_some() || matches!(what, What::CurrentSet { .. })
            }
            RecordKind::Reverted => matches!(what, What::Reverted { .. }),
            RecordKind::Job => matches!(
                what,
                What::JobBegun { .. } | What::JobEnded(_) | What::JobFailed(_)
            ),
            RecordKind::Attached => matches!(what, What::Attached(_) | What::Detached),
            RecordKind::Held => matches!(what, What::Held { .. } | What::Released { .. }),
            RecordKind::Snapshot => consequence.kind() == Some(MomentKind::Snapshot),
            RecordKind::Checkpoint => consequence.kind() == Some(MomentKind::Checkpoint),
        }
    }
}

/// Which records are asked for: those that meet all that is set.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Records about this domain.
    pub domain: Option<DomainUuid>,
    /// Records about this moment.
    pub moment: Option<MomentRef>,
    /// Records that this actor is said to have asked for, or that such a user really did: all of it, or up to its `@`.
    pub by: Option<String>,
    /// Records with this text in their reason, their actor or what they say, whatever the case of its letters.
    pub grep: Option<String>,
    /// Records of one of these kinds; any, if there is none.
    pub kinds: Vec<RecordKind>,
    /// Records from this time on, in microseconds since 1970.
    pub since: Option<i64>,
    /// Records up to this time.
    pub until: Option<i64>,
    /// Records from this one on.
    pub from: Option<Seq>,
    /// Records up to this one.
    pub to: Option<Seq>,
}

impl Wanted {
    /// Whether a record is asked for.
    pub fn keeps(&self, told: &Told) -> bool {
        let entry = &told.entry;
        self.domain.is_none_or(|uuid| entry.domain == Some(uuid))
            && self.from.is_none_or(|from| entry.head.seq >= from)
            && self.to.is_none_or(|to| entry.head.seq <= to)
            && self.since.is_none_or(|since| entry.recorded >= since)
            && self.until.is_none_or(|until| entry.recorded <= until)
            && self
                .moment
                .as_ref()
                .is_none_or(|moment| told.is_about(moment))
            && self.by.as_deref().is_none_or(|by| is_by(entry, by))
            && self.keeps_kinds(told)
            && self.grep.as_deref().is_none_or(|text| says(told, text))
    }

    /// Whether no record behind this one can be asked for.
    pub fn ends_at(&self, told: &Told) -> bool {
        self.to.is_some_and(|to| told.entry.head.seq >= to)
            || self.until.is_some_and(|until| told.entry.recorded > until)
    }

    fn keeps_kinds(&self, told: &Told) -> bool {
        let is_moments =
            |kind: &RecordKind| matches!(kind, RecordKind::Snapshot | RecordKind::Checkpoint);
        let (of, what): (Vec<RecordKind>, Vec<RecordKind>) =
            self.kinds.iter().copied().partition(is_moments);
        let any = |kinds: &[RecordKind], consequence: &Consequence| {
            kinds.is_empty() || kinds.iter().any(|kind| kind.is(consequence))
        };
        self.kinds.is_empty()
            || told
                .consequences
                .iter()
                .any(|consequence| any(&of, consequence) && any(&what, consequence))
    }
}

fn is_by(entry: &Entry, by: &str) -> bool {
    let is = |who: &str| who == by || who.split('@').next() == Some(by);
    let user = entry
        .agent
        .as_deref()
        .and_then(|agent| agent.split(' ').next());
    is(&entry.actor) || user.is_some_and(is)
}

fn says(told: &Told, text: &str) -> bool {
    let text = text.to_lowercase();
    let has = |other: &str| other.to_lowercase().contains(&text);
    let reason = told.entry.reason.as_deref();
    has(&told.entry.actor) || reason.is_some_and(has) || has(&told.summary())
}
