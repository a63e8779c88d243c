//! What the steps of one domain tell of its moments of one kind: who they are, and what each record changed.
//!
//! A moment is a number here: its place among the rows.

use std::collections::{BTreeSet, HashMap};

use momentlog_core::{MomentId, MomentKind, MomentList, Scope};
use momentlog_engine::{Step, View};
use momentlog_store::Seq;

use super::Subject;
use super::order::{Hanging, order};
use crate::consequence::{Consequence, Move, Named, What, consequences};
use crate::words::{escaped, summary};

/// The history of a domain's moments of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    /// The domain's newest name, as it is shown.
    pub(super) domain: String,
    /// All moments that ever were, in the order of their rows.
    pub(super) moments: Vec<Moment>,
    /// What is there before the first record: changes of an empty tree.
    pub(super) start: Vec<Change>,
    /// The records of the domain, in order.
    pub(super) records: Vec<Record>,
}

/// A moment that was there at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Its name as it is shown, with its id if another moment had that name.
    pub(super) name: String,
    /// The place of the record that created it; none if it is older than the history.
    pub(super) record: Option<usize>,
    /// When that record was recorded; of an older moment, when it says that it was made. In seconds since 1970.
    pub(super) created: i64,
}

/// A record, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) seq: Seq,
    /// When it was recorded, in seconds since 1970.
    pub(super) time: i64,
    pub(super) actor: String,
    pub(super) reason: Option<String>,
    /// What it caused.
    pub(super) words: String,
    pub(super) changes: Vec<Change>,
}

/// A change of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Created {
        moment: usize,
        below: Option<usize>,
    },
    Deleted {
        moment: usize,
    },
    Moved {
        moment: usize,
        below: Option<usize>,
    },
    Current {
        moment: Option<usize>,
    },
    Held {
        moment: usize,
        tag: String,
    },
    Released {
        moment: usize,
        tag: String,
    },
    /// The record is about this moment, whatever else it changes.
    Named {
        moment: usize,
    },
}

impl Timeline {
    /// Reads the steps; `end` is the state after them.
    pub(super) fn of<E>(
        subject: Subject,
        steps: impl IntoIterator<Item = Result<Step, E>>,
        end: &View,
    ) -> Result<Timeline, E> {
        let mut reader = Reader::default();
        for step in steps {
            let step = step?;
            if reader.timeline.records.is_empty() {
                reader.begin(subject, &step.before);
            }
            reader.read(subject, &step);
        }
        if reader.timeline.records.is_empty() {
            reader.begin(subject, end);
        }
        Ok(reader.finish())
    }

    /// How many records there are up to `seq`.
    pub(super) fn position(&self, seq: Seq) -> usize {
        self.records.partition_point(|record| record.seq <= seq)
    }

    /// The moments that the record before a position is about: the first of those that its changes name.
    pub(super) fn about(&self, position: usize) -> BTreeSet<usize> {
        const ABOUT_MAX: usize = 12;
        let record = position.checked_sub(1).map(|at| &self.records[at]);
        let mut about = BTreeSet::new();
        for change in record.into_iter().flat_map(|record| &record.changes) {
            about.extend(change.moment());
            if about.len() == ABOUT_MAX {
                break;
            }
        }
        about
    }
}

impl Change {
    fn moment(&self) -> Option<usize> {
        match self {
            Change::Created { moment, .. }
            | Change::Deleted { moment }
            | Change::Moved { moment, .. }
            | Change::Held { moment, .. }
            | Change::Released { moment, .. }
            | Change::Named { moment } => Some(*moment),
            Change::Current { moment } => *moment,
        }
    }

    /// The same change, with other numbers for the moments.
    fn renumber(&mut self, new: &[usize]) {
        let (moment, other) = match self {
            Change::Created { moment, below } | Change::Moved { moment, below } => {
                (Some(moment), below.as_mut())
            }
            Change::Deleted { moment }
            | Change::Held { moment, .. }
            | Change::Released { moment, .. }
            | Change::Named { moment } => (Some(moment), None),
            Change::Current { moment } => (None, moment.as_mut()),
        };
        for number in moment.into_iter().chain(other) {
            *number = new[*number];
        }
    }
}

/// Reads step after step. A moment's number is the order in which it came.
#[derive(Debug, Default)]
struct Reader {
    timeline: Timeline,
    numbers: HashMap<MomentId, usize>,
    /// For each moment its id and its plain name.
    names: Vec<(MomentId, String)>,
    hanging: Vec<Hanging>,
}

impl Reader {
    /// Takes what is there before the first step.
    fn begin(&mut self, subject: Subject, view: &View) {
        let Some(domain) = view.state().domain(subject.domain) else {
            return;
        };
        self.timeline.domain = escaped(domain.name());
        let (mut found, current) = match subject.kind {
            MomentKind::Snapshot => all(domain.snapshots()),
            MomentKind::Checkpoint => all(domain.checkpoints()),
        };
        found.sort_by_key(|found| found.id);
        for found in &found {
            self.number(found.id, &found.name, found.created, None);
        }
        let mut changes = Vec::new();
        for (moment, found) in found.iter().enumerate() {
            let below = found.parent.and_then(|id| self.numbers.get(&id).copied());
            self.hanging[moment].below = below;
            changes.push(Change::Created { moment, below });
        }
        if let Some(moment) = current.and_then(|id| self.numbers.get(&id).copied()) {
            let moment = Some(moment);
            changes.push(Change::Current { moment });
        }
        for (id, tag, _) in domain.holds().iter() {
            if let Some(moment) = self.numbers.get(&id).copied() {
                let tag = escaped(tag.as_str());
                changes.push(Change::Held { moment, tag });
            }
        }
        self.timeline.start = changes;
    }

    fn read(&mut self, subject: Subject, step: &Step) {
        if let Some(domain) = step.after.state().domain(subject.domain) {
            self.timeline.domain = escaped(domain.name());
        } else if let Some(domain) = step.entry.removed.last() {
            self.timeline.domain = escaped(domain.name());
        }
        let consequences = consequences(step);
        let mut changes = Vec::new();
        let entry = &step.entry;
        let time = entry.recorded.div_euclid(1_000_000);
        for consequence in &consequences {
            self.take(subject.kind, time, consequence, &mut changes);
        }
        self.timeline.records.push(Record {
            seq: entry.head.seq,
            time,
            actor: escaped(&entry.actor),
            reason: entry.reason.as_deref().map(|reason| match reason {
                "" => "(erased)".to_owned(),
                reason => escaped(reason),
            }),
            words: summary(&consequences),
            changes,
        });
    }

    /// Turns a consequence into changes.
    fn take(
        &mut self,
        kind: MomentKind,
        time: i64,
        consequence: &Consequence,
        changes: &mut Vec<Change>,
    ) {
        if let What::DomainRemoved {
            snapshots,
            checkpoints,
        } = &consequence.what
        {
            let gone = match kind {
                MomentKind::Snapshot => snapshots,
                MomentKind::Checkpoint => checkpoints,
            };
            self.delete(gone, changes);
            return;
        }
        if consequence.kind() != Some(kind) {
            return;
        }
        match &consequence.what {
            What::Created { moment, below, .. } => {
                let record = self.timeline.records.len();
                let below = self.parent(below.as_ref());
                let number = self.number(moment.id, moment.name.as_str(), time, Some(record));
                self.hanging[number].below = below;
                changes.push(Change::Created {
                    moment: number,
                    below,
                });
            }
            What::Deleted { removed, .. } => self.delete(removed, changes),
            What::Held { moment, tag, .. } => {
                let tag = escaped(tag.as_str());
                let held = |moment| Change::Held { moment, tag };
                changes.extend(self.known(moment).map(held));
            }
            What::Released { moment, tag, .. } => {
                let tag = escaped(tag.as_str());
                let released = |moment| Change::Released { moment, tag };
                changes.extend(self.known(moment).map(released));
            }
            What::Redefined { moment, .. }
            | What::Reverted { moment, .. }
            | What::Moved { moment, .. }
            | What::CurrentSet {
                moment: Some(moment),
                ..
            } => {
                let named = |moment| Change::Named { moment };
                changes.extend(self.known(moment).map(named));
            }
            _ => {}
        }
        // A deletion moves what hung below it, and that is no change of the forest of all that ever were.
        let is_explicit = !matches!(&consequence.what, What::Deleted { .. });
        for moved in &consequence.moved {
            self.hang(moved, is_explicit, changes);
        }
        if let Some(current) = &consequence.current {
            let moment = self.parent(current.to.as_ref());
            changes.push(Change::Current { moment });
        }
    }

    fn delete(&mut self, gone: &[Named], changes: &mut Vec<Change>) {
        for moment in gone
            .iter()
            .filter_map(|gone| self.numbers.get(&gone.id).copied())
        {
            self.hanging[moment].is_alive = false;
            changes.push(Change::Deleted { moment });
        }
    }

    fn hang(&mut self, moved: &Move, is_explicit: bool, changes: &mut Vec<Change>) {
        let Some(moment) = self.known(&moved.moment) else {
            return;
        };
        let below = self.parent(moved.to.as_ref());
        if is_explicit {
            self.hanging[moment].below = below;
        }
        changes.push(Change::Moved { moment, below });
    }

    /// The number of a moment; none if it came while records were missing.
    fn known(&self, moment: &Named) -> Option<usize> {
        self.numbers.get(&moment.id).copied()
    }

    fn parent(&self, parent: Option<&Named>) -> Option<usize> {
        self.known(parent?)
    }

    /// Gives a moment that comes into the history its number.
    fn number(&mut self, id: MomentId, name: &str, created: i64, record: Option<usize>) -> usize {
        let number = self.names.len();
        self.numbers.insert(id, number);
        self.names.push((id, escaped(name)));
        self.hanging.push(Hanging {
            below: None,
            is_alive: true,
        });
        self.timeline.moments.push(Moment {
            name: String::new(),
            record,
            created,
        });
        number
    }

    /// Numbers the moments by their rows, and makes names that differ.
    fn finish(mut self) -> Timeline {
        let mut uses: HashMap<&str, usize> = HashMap::new();
        for (_, name) in &self.names {
            *uses.entry(name).or_default() += 1;
        }
        for (moment, (id, name)) in self.timeline.moments.iter_mut().zip(&self.names) {
            moment.name = match uses[name.as_str()] {
                1 => name.clone(),
                _ => format!("{name} (#{id})"),
            };
        }
        let order = order(&self.hanging);
        let mut rows = vec![0; order.len()];
        for (row, number) in order.iter().enumerate() {
            rows[*number] = row;
        }
        let moments = &self.timeline.moments;
        self.timeline.moments = order
            .iter()
            .map(|number| moments[*number].clone())
            .collect();
        let records = self.timeline.records.iter_mut();
        let changes = records.flat_map(|record| &mut record.changes);
        for change in changes.chain(&mut self.timeline.start) {
            change.renumber(&rows);
        }
        self.timeline
    }
}

/// A moment of a list.
struct Found {
    id: MomentId,
    name: String,
    created: i64,
    parent: Option<MomentId>,
}

/// All moments of a list, and the current one.
fn all<D>(list: &MomentList<D>) -> (Vec<Found>, Option<MomentId>) {
    let all = list.walk(Scope::All).map(|moment| Found {
        id: moment.id,
        name: moment.name.as_str().to_owned(),
        created: moment.created,
        parent: list.parent(moment.id).map(|parent| parent.id),
    });
    (all.collect(), list.current_id())
}
