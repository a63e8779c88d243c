//! Putting back many moments that were saved as XML, in one record: all of them, or none.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use momentlog_core::{
    Action, Change, Domain as DomainState, Event, MomentChange, MomentKind, MomentList, MomentName,
    Scope,
};
use momentlog_store::Seq;
use momentlog_xml::{SavedMoment, read_saved_moment};

use super::Domain;
#[cfg(doc)]
use crate::error::ErrorCode;
use crate::error::{Error, ErrorDomain, Result};
use momentlog_engine::{Call, Decision};

/// How many files or parents a message names at most.
const NAMED_MAX: usize = 8;

/// What becomes of a moment whose parent is neither given with it nor in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissingParent {
    /// Nothing is restored, and the error says which parents are missing.
    #[default]
    Refuse,
    /// It becomes a root, with what hangs below it.
    Reroot,
    /// The chain ends before the gap: it is left out, with what hangs below it.
    Truncate,
}

impl OnMissingParent {
    /// The flag word that a record keeps of it.
    fn flags(self) -> u32 {
        match self {
            OnMissingParent::Refuse => 0,
            OnMissingParent::Reroot => 1,
            OnMissingParent::Truncate => 2,
        }
    }
}

/// One moment as XML, and what messages call it: the name of its file, say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// What messages call it.
    pub label: Arc<str>,
    /// The XML, as `snapshot-dumpxml` or `checkpoint-dumpxml` prints it, or as libvirt keeps it.
    pub xml: String,
}

/// What became of one moment that was to be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredMoment {
    /// What it was called.
    pub label: Arc<str>,
    /// Which list it belongs to.
    pub kind: MomentKind,
    /// Its name.
    pub name: MomentName,
    /// Its parent according to the XML.
    pub parent: Option<MomentName>,
    /// What was done.
    pub fate: Fate,
    /// Whether a moment of this name was there, and was redefined.
    pub redefined: bool,
}

/// What was done with a moment that was to be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is where the XML says.
    Restored,
    /// It is a root, because this parent is gone.
    Rerooted {
        /// The parent.
        missing: MomentName,
    },
    /// It is not restored, because this parent, its own or that of a moment above it, is gone.
    LeftOut {
        /// The parent.
        missing: MomentName,
    },
}

/// The answer to [`Domain::restore_moments`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restoration {
    /// The one record that holds all of it; `None` if everything was there as it was saved, and nothing was written.
    pub seq: Option<Seq>,
    /// Whether this is the first answer to the same request, which was asked before.
    pub repeated: bool,
    /// What became of each, in the order in which they were given.
    pub moments: Vec<RestoredMoment>,
}

/// The moment that an event made: whether it is a snapshot, and its name.
fn made(event: &Event) -> Option<(bool, &str)> {
    match &event.change {
        Change::Snapshot(MomentChange::Created { name, .. }) => Some((true, name.as_str())),
        Change::Checkpoint(MomentChange::Created { name, .. }) => Some((false, name.as_str())),
        _ => None,
    }
}

/// One saved moment that was read.
struct File {
    label: Arc<str>,
    moment: SavedMoment,
}

impl File {
    fn kind(&self) -> MomentKind {
        match &self.moment {
            SavedMoment::Snapshot { .. } => MomentKind::Snapshot,
            SavedMoment::Checkpoint(_) => MomentKind::Checkpoint,
        }
    }

    fn name(&self) -> &MomentName {
        match &self.moment {
            SavedMoment::Snapshot { redefine, .. } => &redefine.name,
            SavedMoment::Checkpoint(redefine) => &redefine.name,
        }
    }

    fn parent(&self) -> Option<&MomentName> {
        match &self.moment {
            SavedMoment::Snapshot { redefine, .. } => redefine.parent.as_ref(),
            SavedMoment::Checkpoint(redefine) => redefine.parent.as_ref(),
        }
    }

    fn created(&self) -> i64 {
        match &self.moment {
            SavedMoment::Snapshot { redefine, .. } => redefine.created,
            SavedMoment::Checkpoint(redefine) => redefine.created,
        }
    }

    fn active(&self) -> Option<bool> {
        match &self.moment {
            SavedMoment::Snapshot { active, .. } => *active,
            SavedMoment::Checkpoint(_) => None,
        }
    }

    /// Returns the command that puts it back, as a root if it says so.
    fn action(&self, as_root: bool) -> Action {
        match &self.moment {
            SavedMoment::Snapshot { redefine, .. } => {
                let mut redefine = redefine.clone();
                redefine.parent = redefine.parent.filter(|_| !as_root);
                Action::RedefineSnapshot(redefine)
            }
            SavedMoment::Checkpoint(redefine) => {
                let mut redefine = redefine.clone();
                redefine.parent = redefine.parent.filter(|_| !as_root);
                Action::RedefineCheckpoint(redefine)
            }
        }
    }

    /// Returns the error with the label before it.
    fn blame(&self, error: impl Into<Error>) -> Error {
        labelled(&self.label, error.into())
    }
}

fn labelled(label: &str, mut error: Error) -> Error {
    let message = format!("{label}: {}", error.message());
    error.set_message(&message);
    error
}

/// In which order files are put back, and what becomes of each.
struct Plan {
    /// Those that are put back, parents first.
    order: Vec<usize>,
    /// By file.
    fates: Vec<Fate>,
}

impl Domain {
    /// Puts moments back that were saved as XML, snapshots and checkpoints in any order. Each is redefined, as
    /// [`snapshot_create_xml`](Self::snapshot_create_xml) and [`checkpoint_create_xml`](Self::checkpoint_create_xml) do it
    /// with REDEFINE, after the one that it hangs below. All of it is one record: either everything is restored, or
    /// nothing.
    ///
    /// A parent may also be a moment that the store has. One that is nowhere is treated as `on_missing` says.
    ///
    /// The snapshot that says `<active>1</active>` becomes current, as libvirt marks it in its own files. Where no snapshot
    /// says anything about it, and for checkpoints, a domain that had no current one gets the last leaf by its time, and
    /// of several of one time the last by name.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArg`] if there is nothing to restore, names come twice, parents form a cycle or are missing, or
    /// several snapshots say that they are current; otherwise as for a redefinition, and the message begins with the label
    /// of the one that is at fault.
    pub fn restore_moments(
        &self,
        saved: &[Saved],
        on_missing: OnMissingParent,
    ) -> Result<Restoration> {
        const FUNCTION: &str = "restore_moments";
        self.connection
            .deny_read_only(FUNCTION, ErrorDomain::Domain)?;
        let files = self.read_saved(saved)?;
        let call = (Call::RESTORE_MOMENTS, on_missing.flags());
        // The order in which they are given means nothing.
        let mut sorted: Vec<&Saved> = saved.iter().collect();
        sorted.sort_by_key(|saved| (&*saved.label, &*saved.xml));
        let arguments: Vec<&str> = sorted
            .iter()
            .flat_map(|saved| [&*saved.label, &*saved.xml])
            .collect();
        if let Some(fates) = self.is_there(&files, on_missing)? {
            return Ok(Restoration {
                seq: None,
                repeated: false,
                moments: restored(&files, fates, &[]),
            });
        }
        let mut fates = None;
        let request = self.request(call, &arguments);
        let outcome = self.connection.decide(request, &mut |decision| {
            let before = self.of(decision.view())?;
            let plan = plan(&files, Some(before), on_missing)?;
            self.decide_plan(decision, &files, &plan)?;
            fates = Some(plan.fates);
            Ok::<_, Error>(())
        })?;
        let fates = match fates {
            Some(fates) if !outcome.repeated => fates,
            _ if on_missing == OnMissingParent::Refuse => vec![Fate::Restored; files.len()],
            _ => {
                // What was there then decides what was missing.
                let before = self.connection.for_retry()?.read()?;
                plan(&files, before.state().domain(self.uuid), on_missing)?.fates
            }
        };
        Ok(Restoration {
            seq: Some(outcome.seq),
            repeated: outcome.repeated,
            moments: restored(&files, fates, &outcome.events),
        })
    }

    /// Returns what becomes of each file, if restoring them changes nothing and no record has to say that it was asked.
    fn is_there(&self, files: &[File], on_missing: OnMissingParent) -> Result<Option<Vec<Fate>>> {
        let provenance = self.connection.provenance();
        if provenance.request_id.is_some() || provenance.undoes.is_some() {
            return Ok(None);
        }
        let view = self.connection.read()?;
        let before = self.of(&view)?;
        let expected = provenance.expected_revision;
        if expected.is_some_and(|expected| expected != view.revision(self.uuid)) {
            return Ok(None);
        }
        let plan = plan(files, Some(before), on_missing)?;
        let mut restored = plan.order.iter().map(|index| &files[*index]);
        if !restored.all(|file| has(before, file.kind(), file.name())) {
            return Ok(None);
        }
        let mut decision = Decision::on(&view);
        self.decide_plan(&mut decision, files, &plan)?;
        let is_same = decision.state().domain(self.uuid) == Some(before);
        Ok(is_same.then_some(plan.fates))
    }

    fn read_saved(&self, saved: &[Saved]) -> Result<Vec<File>> {
        if saved.is_empty() {
            return Err(refused("there is nothing to restore"));
        }
        let facts = self.connection.facts();
        let read = |Saved { label, xml }: &Saved| {
            let read = self
                .connection
                .read_xml(|recent, fresh| read_saved_moment(xml, facts.carry, recent, fresh))
                .map_err(|error| labelled(label, error))?;
            let file = File {
                label: label.clone(),
                moment: read.map_err(|error| labelled(label, error.into()))?,
            };
            if file.kind() == MomentKind::Snapshot {
                facts
                    .vet_snapshot_name(Some(file.name()))
                    .map_err(|error| file.blame(error))?;
            }
            Ok(file)
        };
        saved.iter().map(read).collect()
    }

    /// Decides all commands, each on what those before it have made.
    fn decide_plan(&self, decision: &mut Decision<'_>, files: &[File], plan: &Plan) -> Result<()> {
        let before = decision.view().state();
        let decide = |decision: &mut Decision<'_>, action: Action| -> Result<()> {
            decision
                .decide(&self.command(action))
                .map_err(|refusal| self.named(refusal))?;
            Ok(())
        };
        for index in &plan.order {
            let file = &files[*index];
            let as_root = matches!(plan.fates[*index], Fate::Rerooted { .. });
            decide(decision, file.action(as_root)).map_err(|error| file.blame(error))?;
        }
        for kind in [MomentKind::Snapshot, MomentKind::Checkpoint] {
            let restored = plan.order.iter().map(|index| &files[*index]);
            let restored: Vec<&File> = restored.filter(|file| file.kind() == kind).collect();
            let (before, after) = (before.domain(self.uuid), decision.state().domain(self.uuid));
            let (Some(before), Some(after)) = (before, after) else {
                continue;
            };
            let Some(wanted) = wanted_current(&restored, kind, before, after) else {
                continue;
            };
            if current(after, kind).as_ref() != Some(wanted.name()) {
                let name = Some(wanted.name().clone());
                decide(decision, Action::SetCurrent { kind, name })
                    .map_err(|error| wanted.blame(error))?;
            }
        }
        Ok(())
    }
}

/// Says what became of each file, where these events happened.
fn restored(files: &[File], fates: Vec<Fate>, events: &[Event]) -> Vec<RestoredMoment> {
    let made: BTreeSet<(bool, &str)> = events.iter().filter_map(made).collect();
    let moments = files.iter().zip(fates).map(|(file, fate)| {
        let is_snapshot = file.kind() == MomentKind::Snapshot;
        let is_new = made.contains(&(is_snapshot, file.name().as_str()));
        RestoredMoment {
            label: file.label.clone(),
            kind: file.kind(),
            name: file.name().clone(),
            parent: file.parent().cloned(),
            redefined: !is_new && !matches!(fate, Fate::LeftOut { .. }),
            fate,
        }
    });
    moments.collect()
}

/// Returns the moment that becomes current among those that were restored, if there is any.
fn wanted_current<'a>(
    restored: &[&'a File],
    kind: MomentKind,
    before: &DomainState,
    after: &DomainState,
) -> Option<&'a File> {
    let active = restored.iter().find(|file| file.active() == Some(true));
    if let Some(active) = active {
        return Some(active);
    }
    let silent = restored.iter().all(|file| file.active().is_none());
    if !silent || current(before, kind).is_some() {
        return None;
    }
    let leaves = restored
        .iter()
        .filter(|file| is_leaf(after, kind, file.name()));
    leaves
        .max_by_key(|file| (file.created(), file.name().as_str()))
        .copied()
}

fn current(domain: &DomainState, kind: MomentKind) -> Option<MomentName> {
    match kind {
        MomentKind::Snapshot => domain.snapshots().current().map(|it| it.name.clone()),
        MomentKind::Checkpoint => domain.checkpoints().current().map(|it| it.name.clone()),
    }
}

fn is_leaf(domain: &DomainState, kind: MomentKind, name: &MomentName) -> bool {
    fn of<D>(list: &MomentList<D>, name: &MomentName) -> bool {
        let found = list.find(name.as_str());
        found.is_some_and(|moment| list.walk(Scope::ChildrenOf(moment.id)).next().is_none())
    }
    match kind {
        MomentKind::Snapshot => of(domain.snapshots(), name),
        MomentKind::Checkpoint => of(domain.checkpoints(), name),
    }
}

fn has(domain: &DomainState, kind: MomentKind, name: &MomentName) -> bool {
    match kind {
        MomentKind::Snapshot => domain.snapshots().find(name.as_str()).is_some(),
        MomentKind::Checkpoint => domain.checkpoints().find(name.as_str()).is_some(),
    }
}

/// Says in which order the files are put back, and what becomes of each, in a domain as it is.
fn plan(files: &[File], domain: Option<&DomainState>, on_missing: OnMissingParent) -> Result<Plan> {
    let mut by_name = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        if let Some(other) = by_name.insert((file.kind(), file.name()), index) {
            let (kind, name) = (file.kind(), file.name());
            let (one, two) = (&files[other].label, &file.label);
            return Err(refused(format!("{one} and {two} are both {kind} {name}")));
        }
    }
    let mut active = files.iter().filter(|file| file.active() == Some(true));
    if let (Some(one), Some(two)) = (active.next(), active.next()) {
        let (one, two) = (&one.label, &two.label);
        return Err(refused(format!(
            "{one} and {two} both say that they are current"
        )));
    }

    let mut children = vec![Vec::new(); files.len()];
    let mut fates = vec![Fate::Restored; files.len()];
    // The eldest first, so that the same files are always put back in the same order.
    let mut ready = BTreeSet::new();
    let age = |index: usize| (files[index].created(), files[index].name().as_str(), index);
    for (index, file) in files.iter().enumerate() {
        match file.parent() {
            Some(parent) => match by_name.get(&(file.kind(), parent)) {
                Some(above) => children[*above].push(index),
                None => {
                    if !domain.is_some_and(|domain| has(domain, file.kind(), parent)) {
                        let missing = parent.clone();
                        fates[index] = match on_missing {
                            OnMissingParent::Truncate => Fate::LeftOut { missing },
                            _ => Fate::Rerooted { missing },
                        };
                    }
                    ready.insert(age(index));
                }
            },
            None => {
                ready.insert(age(index));
            }
        }
    }
    if on_missing == OnMissingParent::Refuse {
        refuse_missing(files, &fates)?;
    }

    let mut order = Vec::new();
    let mut reached = 0;
    while let Some((_, _, index)) = ready.pop_first() {
        reached += 1;
        for child in &children[index] {
            if let left_out @ Fate::LeftOut { .. } = &fates[index] {
                fates[*child] = left_out.clone();
            }
            ready.insert(age(*child));
        }
        if !matches!(fates[index], Fate::LeftOut { .. }) {
            order.push(index);
        }
    }
    if reached < files.len() {
        return Err(cycle(files, &children));
    }
    if order.is_empty() {
        let why = "nothing is left to restore: every chain begins with a parent that is missing";
        return Err(refused(why));
    }
    Ok(Plan { order, fates })
}

/// Refuses files whose parents are missing, and names both.
fn refuse_missing(files: &[File], fates: &[Fate]) -> Result<()> {
    let missing: Vec<String> = files
        .iter()
        .zip(fates)
        .filter_map(|(file, fate)| match fate {
            Fate::Rerooted { missing } => {
                let (label, kind) = (&file.label, file.kind());
                Some(format!("{label}: its parent, {kind} {missing}, is missing"))
            }
            _ => None,
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(refused(some_of(&missing, "; ")))
}

/// Returns the error that names the files of one cycle.
fn cycle(files: &[File], children: &[Vec<usize>]) -> Error {
    let mut above = vec![None; files.len()];
    for (index, below) in children.iter().enumerate() {
        for child in below {
            above[*child] = Some(index);
        }
    }
    // A climb from a file that no root reaches comes to a cycle, and stays in it.
    let climb = |from: usize, steps: usize| (0..steps).try_fold(from, |at, _| above[at]);
    let inside = (0..files.len()).find_map(|index| climb(index, files.len()));
    let inside = inside.expect("a file that no root reaches is below a cycle");
    let mut labels = vec![files[inside].label.to_string()];
    let mut at = inside;
    while let Some(next) = above[at].filter(|next| *next != inside) {
        labels.push(files[next].label.to_string());
        at = next;
    }
    let what = if labels.len() == 1 {
        "is its own parent"
    } else {
        "hang below each other in a circle"
    };
    refused(format!("{} {what}", some_of(&labels, ", ")))
}

/// Joins the first few texts, and says how many more there are.
fn some_of(texts: &[String], between: &str) -> String {
    let mut joined = texts[..texts.len().min(NAMED_MAX)].join(between);
    if texts.len() > NAMED_MAX {
        joined += &format!("{between}and {} more", texts.len() - NAMED_MAX);
    }
    joined
}

fn refused(message: impl Into<String>) -> Error {
    Error::argument(ErrorDomain::Domain, message.into())
}
