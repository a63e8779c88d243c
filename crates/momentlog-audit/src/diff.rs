//! What differs between two points of a log, and which records made the difference.

use std::collections::BTreeMap;
use std::sync::Arc;

use momentlog_core::{
    Domain, DomainUuid, Event, Moment, MomentId, MomentKind, MomentList, Policy, Power, State,
};
use momentlog_engine::{Entry, Watch};
use momentlog_store::Seq;

use crate::consequence::{Consequence, Named, What};
use crate::field::{Described, FieldChange, def_changes, moment_changes};
use crate::told::{Teller, Told};

/// What differs of one domain.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainDiff {
    /// Its name, as it was last.
    pub domain: Arc<str>,
    /// Its uuid.
    pub uuid: DomainUuid,
    /// Whether it was there before, after, or both; a domain that came and went is neither.
    pub existence: Existence,
    /// Its rules, if they are others now.
    pub policy: Option<(Policy, Policy)>,
    /// Its run state, if it is another now.
    pub power: Option<(Power, Power)>,
    /// Whether it started with its host before and does now, if that differs.
    pub autostart: Option<(bool, bool)>,
    /// What has changed of its definition in force.
    pub definition: Vec<FieldChange>,
    /// The snapshots.
    pub snapshots: ListDiff,
    /// The checkpoints.
    pub checkpoints: ListDiff,
    /// Records that changed rules, in order, with the rules before and after: also where it came to nothing.
    pub policies: Vec<(By, Policy, Policy)>,
}

/// Whether a domain was there before, and is there after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// Both times.
    Both,
    /// Only before.
    Gone(Seq),
    /// Only after.
    New(Seq),
    /// Only in between.
    Between,
}

/// What differs between two lists of moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListDiff {
    /// The moments that are gone, by id.
    pub removed: Vec<Removed>,
    /// Those that are both there and differ, by id.
    pub changed: Vec<Changed>,
    /// The moments that are new, by id.
    pub added: Vec<Added>,
    /// The current moment before and after, if it is another one.
    pub current: Option<(Option<Named>, Option<Named>)>,
    /// Moments that came and went in between, by id.
    pub between: Vec<Between>,
}

/// A record that made a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// Its number.
    pub seq: Seq,
    /// Who is said to have asked.
    pub actor: Arc<str>,
    /// Why; empty if that was erased.
    pub reason: Option<Arc<str>>,
}

/// A moment that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The moment.
    pub moment: Named,
    /// What removed it.
    pub by: By,
}

/// A moment that is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The moment.
    pub moment: Named,
    /// Its parent now.
    pub below: Option<Named>,
    /// What made it.
    pub by: By,
}

/// A moment that came and went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Between {
    /// The moment.
    pub moment: Named,
    /// The record that made it.
    pub created: Seq,
    /// The record that removed it.
    pub removed: Seq,
}

/// A moment that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The moment.
    pub moment: Named,
    /// Where it hung before and hangs now, if that differs, and what moved it last.
    pub moved: Option<Moved>,
    /// What has changed of its definition, and the records that redefined it.
    pub redefined: Option<Redefined>,
}

/// A moment hangs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its parent before.
    pub from: Option<Named>,
    /// Its parent now.
    pub to: Option<Named>,
    /// What moved it last.
    pub by: By,
    /// The moment whose deletion moved it, if that did.
    pub because: Option<Named>,
}

/// A moment has another definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redefined {
    /// The records that redefined it.
    pub by: Vec<By>,
    /// What has changed.
    pub fields: Vec<FieldChange>,
}

/// Gathers what differs while records are replayed: those between two points, of all domains or of some.
#[derive(Default)]
pub struct Differences {
    teller: Teller,
    touched: BTreeMap<DomainUuid, Touched>,
}

impl Differences {
    /// Returns what differs of the domains that the records were about, by name.
    pub fn by_name(self) -> Vec<DomainDiff> {
        let touched = self.touched.into_iter();
        let diffs = touched.map(|(uuid, touched)| touched.diff(uuid));
        let mut diffs: Vec<DomainDiff> = diffs.filter(|diff| !diff.is_empty()).collect();
        diffs.sort_by(|one, other| (&one.domain, one.uuid).cmp(&(&other.domain, other.uuid)));
        diffs
    }
}

impl Watch for Differences {
    type Made = ();

    fn begin(&mut self, domain: Option<DomainUuid>, state: &State) {
        self.teller.begin(domain, state);
        if let Some(uuid) = domain {
            let touched = self.touched.entry(uuid).or_insert_with(|| Touched {
                before: state.keep_domain(uuid),
                ..Touched::default()
            });
            // What is kept is copied when it is changed.
            touched.after = None;
        }
    }

    fn before(&mut self, event: &Event, state: &State) {
        self.teller.before(event, state);
    }

    fn after(&mut self, event: &Event, state: &State) {
        self.teller.after(event, state);
    }

    fn record(&mut self, entry: Entry, state: &State) {
        let told = self.teller.record(entry, state);
        let domain = told.entry.domain;
        if let Some((uuid, touched)) =
            domain.and_then(|uuid| Some((uuid, self.touched.get_mut(&uuid)?)))
        {
            touched.after = state.keep_domain(uuid);
            touched.step(&told);
        }
    }
}

impl DomainDiff {
    /// Whether nothing differs, and nothing came and went.
    fn is_empty(&self) -> bool {
        self.existence == Existence::Both
            && self.policy.is_none()
            && self.power.is_none()
            && self.autostart.is_none()
            && self.definition.is_empty()
            && self.snapshots.is_empty()
            && self.checkpoints.is_empty()
            && self.policies.is_empty()
    }
}

impl ListDiff {
    /// Whether nothing differs, and nothing came and went.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty()
            && self.changed.is_empty()
            && self.added.is_empty()
            && self.current.is_none()
            && self.between.is_empty()
    }
}

/// What records did to a domain between two points.
#[derive(Default)]
struct Touched {
    /// The domain before the first of them, and after the last.
    before: Option<Arc<Domain>>,
    after: Option<Arc<Domain>>,
    name: Option<Arc<str>>,
    defined: Option<Seq>,
    removed: Option<Seq>,
    policies: Vec<(By, Policy, Policy)>,
    moments: BTreeMap<MomentId, TouchedMoment>,
}

/// What records did to a moment between two points.
#[derive(Default)]
struct TouchedMoment {
    kind: Option<MomentKind>,
    name: Option<Named>,
    created: Option<By>,
    removed: Option<By>,
    moved: Option<(By, Option<Named>)>,
    redefined: Vec<By>,
}

impl Touched {
    fn step(&mut self, told: &Told) {
        let by = By {
            seq: told.seq(),
            actor: told.entry.actor.clone(),
            reason: told.entry.reason.clone(),
        };
        self.name = told.domain.clone().or(self.name.take());
        for consequence in &told.consequences {
            self.consequence(consequence, &by);
        }
    }

    fn consequence(&mut self, consequence: &Consequence, by: &By) {
        match &consequence.what {
            What::DomainDefined { fields: None, .. } => self.defined = Some(by.seq),
            What::DomainRemoved {
                snapshots,
                checkpoints,
            } => {
                self.removed = Some(by.seq);
                for moment in snapshots {
                    self.moment(MomentKind::Snapshot, moment).removed = Some(by.clone());
                }
                for moment in checkpoints {
                    self.moment(MomentKind::Checkpoint, moment).removed = Some(by.clone());
                }
            }
            What::PolicySet { from, to } if from != to => {
                self.policies.push((by.clone(), *from, *to));
            }
            What::Created { kind, moment, .. } => {
                self.moment(*kind, moment).created = Some(by.clone());
            }
            What::Redefined { kind, moment, .. } => {
                self.moment(*kind, moment).redefined.push(by.clone());
            }
            What::Deleted { kind, removed, .. } => {
                for moment in removed {
                    self.moment(*kind, moment).removed = Some(by.clone());
                }
            }
            _ => {}
        }
        let because = match &consequence.what {
            What::Deleted { moment, .. } => Some(moment.clone()),
            _ => None,
        };
        if let Some(kind) = consequence.kind() {
            for moved in &consequence.moved {
                self.moment(kind, &moved.moment).moved = Some((by.clone(), because.clone()));
            }
        }
    }

    fn moment(&mut self, kind: MomentKind, moment: &Named) -> &mut TouchedMoment {
        let touched = self.moments.entry(moment.id).or_default();
        touched.kind = Some(kind);
        touched.name = Some(moment.clone());
        touched
    }

    fn diff(self, uuid: DomainUuid) -> DomainDiff {
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        let both = before.zip(after);
        let existence = match (before, after, self.defined, self.removed) {
            (Some(_), None, _, Some(by)) => Existence::Gone(by),
            (None, Some(_), Some(by), _) => Existence::New(by),
            (None, None, ..) => Existence::Between,
            _ => Existence::Both,
        };
        let policy = both.map(|(before, after)| (before.policy(), after.policy()));
        let power = both.map(|(before, after)| (before.power(), after.power()));
        let autostart = both.map(|(before, after)| (before.autostart(), after.autostart()));
        DomainDiff {
            domain: self.name.clone().unwrap_or_else(|| "".into()),
            uuid,
            existence,
            policy: policy.filter(|(before, after)| before != after),
            power: power.filter(|(before, after)| before.state != after.state),
            autostart: autostart.filter(|(before, after)| before != after),
            definition: both.map_or_else(Vec::new, |(before, after)| {
                def_changes(before.def(), after.def())
            }),
            snapshots: self.list(
                MomentKind::Snapshot,
                before.map(Domain::snapshots),
                after.map(Domain::snapshots),
            ),
            checkpoints: self.list(
                MomentKind::Checkpoint,
                before.map(Domain::checkpoints),
                after.map(Domain::checkpoints),
            ),
            policies: self.policies,
        }
    }

    fn list<D: Described + PartialEq>(
        &self,
        kind: MomentKind,
        before: Option<&MomentList<D>>,
        after: Option<&MomentList<D>>,
    ) -> ListDiff {
        let mut diff = ListDiff::default();
        let touched = self.moments.iter();
        for (id, touched) in touched.filter(|(_, touched)| touched.kind == Some(kind)) {
            let was = before.and_then(|list| list.get(*id));
            let is = after.and_then(|list| list.get(*id));
            match (was, is, &touched.created, &touched.removed) {
                (Some(was), None, _, Some(by)) => diff.removed.push(Removed {
                    moment: was.into(),
                    by: by.clone(),
                }),
                (None, Some(is), Some(by), _) => diff.added.push(Added {
                    below: parent(after, *id),
                    moment: is.into(),
                    by: by.clone(),
                }),
                (None, None, Some(created), Some(removed)) => {
                    let between = touched.name.clone().map(|moment| Between {
                        moment,
                        created: created.seq,
                        removed: removed.seq,
                    });
                    diff.between.extend(between);
                }
                (Some(was), Some(is), ..) => {
                    let parents = (parent(before, *id), parent(after, *id));
                    diff.changed.extend(touched.changed(&was, &is, parents));
                }
                _ => {}
            }
        }
        let current = |list: Option<&MomentList<D>>| list?.current().map(Named::from);
        let (from, to) = (current(before), current(after));
        if from.as_ref().map(|from| from.id) != to.as_ref().map(|to| to.id) {
            diff.current = Some((from, to));
        }
        diff
    }
}

impl TouchedMoment {
    /// What differs of a moment that is there before and after.
    fn changed<D: Described + PartialEq>(
        &self,
        was: &Moment<'_, D>,
        is: &Moment<'_, D>,
        (from, to): (Option<Named>, Option<Named>),
    ) -> Option<Changed> {
        let elsewhere = from.as_ref().map(|from| from.id) != to.as_ref().map(|to| to.id);
        let moved = self.moved.as_ref().filter(|_| elsewhere);
        let moved = moved.map(|(by, because)| Moved {
            from,
            to,
            by: by.clone(),
            because: because.clone(),
        });
        let fields = moment_changes((was.created, was.def), (is.created, is.def));
        let redefined = (!fields.is_empty()).then(|| Redefined {
            by: self.redefined.clone(),
            fields,
        });
        (moved.is_some() || redefined.is_some()).then(|| Changed {
            moment: Named {
                id: is.id,
                name: is.name.clone(),
            },
            moved,
            redefined,
        })
    }
}

fn parent<D>(list: Option<&MomentList<D>>, id: MomentId) -> Option<Named> {
    list?.parent(id).map(Named::from)
}
