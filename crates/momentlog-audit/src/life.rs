//! The life of a moment: where it was made, each move and what caused it, when it was current, and its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use momentlog_core::{
    DiskSeen, Domain, DomainUuid, Extent, Hold, HoldTag, MomentId, MomentKind, MomentList,
};
use momentlog_engine::{Entry, Step, View};
use momentlog_store::Seq;

use crate::consequence::{Consequence, Named, What};
use crate::field::FieldChange;
use crate::told::{MomentRef, Told};

/// The life of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// The domain's name, as it was last.
    pub domain: Arc<str>,
    /// Its uuid.
    pub uuid: DomainUuid,
    /// The moment's kind.
    pub kind: MomentKind,
    /// The moment.
    pub moment: Named,
    /// When it was made, in seconds since 1970, as its definition says.
    pub created: Option<i64>,
    /// What has become of it.
    pub fate: Fate,
    /// What happened to it, by record.
    pub turns: Vec<Turn>,
}

/// What has become of a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    Alive {
        /// Its parent; none for a root.
        below: Option<Named>,
        /// Since which record it hangs there; none if that is in an archive.
        since: Option<Seq>,
        /// Whether it is current.
        current: bool,
    },
    /// It is gone since this record.
    Gone {
        /// The record.
        by: Seq,
        /// The moment that was last put back for it, if its deletion was taken back.
        restored: Option<Named>,
    },
}

/// What one record did to a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The record.
    pub entry: Entry,
    /// What it did to the moment.
    pub what: TurnOf,
}

/// What happened to a moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TurnOf {
    /// It was there already where the log begins by now.
    Found {
        /// Its parent then.
        below: Option<Named>,
    },
    /// It was created.
    Created {
        /// Its parent.
        below: Option<Named>,
        /// Whether it is current from then on.
        current: bool,
    },
    /// It was redefined.
    Redefined {
        /// Its parent from then on.
        below: Option<Named>,
        /// What has changed of it.
        fields: Vec<FieldChange>,
    },
    /// It hangs elsewhere.
    Moved {
        /// Its parent before.
        from: Option<Named>,
        /// Its parent from then on.
        to: Option<Named>,
        /// What caused it.
        because: Cause,
    },
    /// It is current from then on.
    Current(Cause),
    /// It is not current any more.
    NotCurrent(Cause),
    /// The domain went back to it.
    Reverted,
    /// It is held.
    Held(HoldTag, Hold),
    /// It is not held under this tag any more.
    Released(HoldTag),
    /// Its bitmaps were seen, as the log did not know them.
    Seen(Vec<DiskSeen>),
    /// It is gone.
    Deleted {
        /// What caused it.
        because: Cause,
        /// Its children that hang below its parent from then on.
        moved: Vec<Named>,
    },
}

/// What caused a change of a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was asked for.
    Asked,
    /// Another moment was created.
    Created(Named),
    /// Another moment was redefined.
    Redefined(Named),
    /// Another moment was deleted, alone or with what hung below it.
    Deleted(Named, Extent),
    /// The domain went back to a snapshot.
    Reverted(Named),
    /// The domain was removed.
    DomainRemoved,
}

/// Returns the lives of the moments of a domain that are meant, of one kind or both, by id. `begin` is the first step of
/// the log, and `steps` is the history of that domain.
///
/// # Errors
///
/// The first error of `steps`.
pub fn lives<E>(
    begin: Option<&Step>,
    steps: impl IntoIterator<Item = Result<Step, E>>,
    domain: DomainUuid,
    kind: Option<MomentKind>,
    wanted: &MomentRef,
) -> Result<Vec<Life>, E> {
    let mut lives = Lives {
        domain,
        kind,
        wanted,
        found: BTreeMap::new(),
        restored: Vec::new(),
    };
    let mut last = None;
    // A bridge stands for what came before, and says nothing of it.
    if let Some(begin) = begin.filter(|begin| begin.entry.bridge.is_some()) {
        lives.find_there(&begin.after, &begin.entry);
        last = Some(begin.after.clone());
    }
    for step in steps {
        let step = step?;
        lives.step(&step);
        last = Some(step.after);
    }
    Ok(lives.finish(last.as_ref()))
}

/// Lives that are being read.
struct Lives<'a> {
    domain: DomainUuid,
    kind: Option<MomentKind>,
    wanted: &'a MomentRef,
    found: BTreeMap<MomentId, Life>,
    /// Records that were taken back, each with the moments that came back.
    restored: Vec<(Seq, Vec<(MomentKind, Named)>)>,
}

impl Lives<'_> {
    fn wants(&self, kind: MomentKind, moment: &Named) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind) && self.wanted.is(moment)
    }

    fn begin(&mut self, name: Option<&Arc<str>>, kind: MomentKind, moment: &Named) {
        let life = Life {
            domain: name.cloned().unwrap_or_else(|| "".into()),
            uuid: self.domain,
            kind,
            moment: moment.clone(),
            created: None,
            fate: Fate::Alive {
                below: None,
                since: None,
                current: false,
            },
            turns: Vec::new(),
        };
        self.found.insert(moment.id, life);
    }

    /// Begins with what is there where the log begins.
    fn find_there(&mut self, there: &View, entry: &Entry) {
        let Some(domain) = there.state().domain(self.domain) else {
            return;
        };
        let there = all(domain.snapshots())
            .map(|found| (MomentKind::Snapshot, found))
            .chain(all(domain.checkpoints()).map(|found| (MomentKind::Checkpoint, found)));
        for (kind, (moment, below)) in there.collect::<Vec<_>>() {
            if self.wants(kind, &moment) {
                self.begin(Some(domain.name()), kind, &moment);
                self.note_time(Some(domain), moment.id);
                self.turn(moment.id, entry, TurnOf::Found { below });
            }
        }
    }

    fn turn(&mut self, id: MomentId, entry: &Entry, what: TurnOf) {
        if let Some(life) = self.found.get_mut(&id) {
            life.turns.push(Turn {
                entry: entry.clone(),
                what,
            });
        }
    }

    /// Takes note of the time that a moment's definition says.
    fn note_time(&mut self, domain: Option<&Domain>, id: MomentId) {
        if let Some(life) = self.found.get_mut(&id)
            && let Some(time) = domain.and_then(|domain| created(domain, life.kind, id))
        {
            life.created = Some(time);
        }
    }

    fn step(&mut self, step: &Step) {
        let told = Told::of(step);
        let mut made = Vec::new();
        for consequence in &told.consequences {
            if let What::Created { kind, moment, .. } = &consequence.what {
                made.push((*kind, moment.clone()));
                if self.wants(*kind, moment) {
                    self.begin(told.domain.as_ref(), *kind, moment);
                }
            }
            self.consequence(&told.entry, consequence);
            if let What::Created { moment, .. } | What::Redefined { moment, .. } = &consequence.what
            {
                self.note_time(step.after.state().domain(self.domain), moment.id);
            }
        }
        if let Some(undone) = told.entry.undoes {
            self.restored.push((undone, made));
        }
    }

    fn consequence(&mut self, entry: &Entry, consequence: &Consequence) {
        let id = match &consequence.what {
            What::Created { moment, below, .. } => {
                let current = consequence.current.is_some();
                let below = below.clone();
                self.turn(moment.id, entry, TurnOf::Created { below, current });
                Some(moment.id)
            }
            What::Redefined {
                moment,
                below,
                fields,
                ..
            } => {
                let (below, fields) = (below.clone(), fields.clone());
                self.turn(moment.id, entry, TurnOf::Redefined { below, fields });
                Some(moment.id)
            }
            What::Reverted { moment, .. } => {
                self.turn(moment.id, entry, TurnOf::Reverted);
                Some(moment.id)
            }
            What::Held {
                moment, tag, hold, ..
            } => {
                self.turn(moment.id, entry, TurnOf::Held(tag.clone(), hold.clone()));
                None
            }
            What::Released { moment, tag, .. } => {
                self.turn(moment.id, entry, TurnOf::Released(tag.clone()));
                None
            }
            What::Seen { moment, disks } => {
                self.turn(moment.id, entry, TurnOf::Seen(disks.clone()));
                None
            }
            What::Deleted { removed, .. } => {
                self.deleted(entry, consequence, removed);
                None
            }
            What::DomainRemoved {
                snapshots,
                checkpoints,
            } => {
                for removed in snapshots.iter().chain(checkpoints) {
                    let (because, moved) = (Cause::DomainRemoved, Vec::new());
                    self.turn(removed.id, entry, TurnOf::Deleted { because, moved });
                }
                None
            }
            _ => None,
        };
        for moved in &consequence.moved {
            let what = TurnOf::Moved {
                from: moved.from.clone(),
                to: moved.to.clone(),
                because: cause(consequence, Some(moved.moment.id)),
            };
            self.turn(moved.moment.id, entry, what);
        }
        let Some(change) = &consequence.current else {
            return;
        };
        if let Some(from) = &change.from {
            let because = cause(consequence, Some(from.id));
            // What is gone is not current either.
            if !is_removed(consequence, from.id) {
                self.turn(from.id, entry, TurnOf::NotCurrent(because));
            }
        }
        if let Some(to) = &change.to
            && !matches!(consequence.what, What::Created { .. } if id == Some(to.id))
        {
            self.turn(
                to.id,
                entry,
                TurnOf::Current(cause(consequence, Some(to.id))),
            );
        }
    }

    fn deleted(&mut self, entry: &Entry, consequence: &Consequence, removed: &[Named]) {
        for gone in removed {
            let because = cause(consequence, Some(gone.id));
            let moved = consequence.moved.iter().map(|moved| moved.moment.clone());
            let moved = moved.collect();
            self.turn(gone.id, entry, TurnOf::Deleted { because, moved });
        }
    }

    /// Says what has become of each, by the last state.
    fn finish(self, last: Option<&View>) -> Vec<Life> {
        let domain = last.and_then(|view| view.state().domain(self.domain));
        let restored = self.restored;
        let lives = self.found.into_values().map(|mut life| {
            if let Some(domain) = domain {
                life.domain = domain.name().clone();
            }
            life.fate = life.fate_in(domain, &restored);
            life
        });
        lives.collect()
    }
}

impl Life {
    /// Names its domain as it is called in a later state, if it is there.
    #[must_use]
    pub fn of_domain(mut self, later: &View) -> Life {
        if let Some(domain) = later.state().domain(self.uuid) {
            self.domain = domain.name().clone();
        }
        self
    }

    fn fate_in(
        &self,
        domain: Option<&Domain>,
        restored: &[(Seq, Vec<(MomentKind, Named)>)],
    ) -> Fate {
        let end = self.turns.iter().rev().find_map(|turn| match &turn.what {
            TurnOf::Deleted { .. } => Some(turn.entry.head.seq),
            _ => None,
        });
        if let Some(by) = end {
            let mut back = restored.iter().rev().filter(|(undone, _)| *undone == by);
            let restored = back.find_map(|(_, made)| self.stands_for(made));
            return Fate::Gone { by, restored };
        }
        let since = self.turns.iter().rev().find_map(|turn| match &turn.what {
            TurnOf::Created { .. } | TurnOf::Moved { .. } => Some(turn.entry.head.seq),
            _ => None,
        });
        let (below, current) = match (domain, self.kind) {
            (None, _) => (None, false),
            (Some(domain), MomentKind::Snapshot) => place(domain.snapshots(), self.moment.id),
            (Some(domain), MomentKind::Checkpoint) => place(domain.checkpoints(), self.moment.id),
        };
        Fate::Alive {
            below,
            since,
            current,
        }
    }
}

impl Life {
    /// Which of the moments that a record put back stands for it. One that comes back alone may have another name.
    fn stands_for(&self, made: &[(MomentKind, Named)]) -> Option<Named> {
        let is_alone = made.len() == 1;
        let mut made = made.iter().filter(|(kind, _)| *kind == self.kind);
        let found = made.find(|(_, made)| is_alone || made.name == self.moment.name);
        found.map(|(_, made)| made.clone())
    }
}

/// What caused a change of the moment `id` within a consequence.
fn cause(consequence: &Consequence, id: Option<MomentId>) -> Cause {
    let other = |moment: &Named| Some(moment.id) != id;
    match &consequence.what {
        What::Created { moment, .. } if other(moment) => Cause::Created(moment.clone()),
        What::Redefined { moment, .. } if other(moment) => Cause::Redefined(moment.clone()),
        What::Deleted { moment, extent, .. } if other(moment) => {
            Cause::Deleted(moment.clone(), *extent)
        }
        What::Reverted { moment, .. } if other(moment) => Cause::Reverted(moment.clone()),
        What::DomainRemoved { .. } => Cause::DomainRemoved,
        _ => Cause::Asked,
    }
}

fn is_removed(consequence: &Consequence, id: MomentId) -> bool {
    match &consequence.what {
        What::Deleted { removed, .. } => removed.iter().any(|gone| gone.id == id),
        _ => false,
    }
}

/// All moments of a list with their parents.
fn all<D>(list: &MomentList<D>) -> impl Iterator<Item = (Named, Option<Named>)> {
    let walk = list.walk(momentlog_core::Scope::All);
    walk.map(|moment| {
        let parent = list.parent(moment.id).map(Named::from);
        (Named::from(moment), parent)
    })
}

/// The parent of a moment, and whether it is current.
fn place<D>(list: &MomentList<D>, id: MomentId) -> (Option<Named>, bool) {
    let parent = list.parent(id).map(Named::from);
    (parent, list.current_id() == Some(id))
}

fn created(domain: &Domain, kind: MomentKind, id: MomentId) -> Option<i64> {
    match kind {
        MomentKind::Snapshot => Some(domain.snapshots().get(id)?.created),
        MomentKind::Checkpoint => Some(domain.checkpoints().get(id)?.created),
    }
}
