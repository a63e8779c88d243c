//! Putting back what a deletion took.

use std::collections::BTreeMap;
use std::sync::Arc;

use momentlog_core::{
    Above, Action, Change, CheckpointDef, Domain as DomainState, DomainDef, DomainUuid, Moment,
    MomentChange, MomentId, MomentKind, MomentList, MomentName, Scope, SnapshotDef, Undelete,
    Undeleted,
};
use momentlog_engine::{Call, EngineError, Outcome, Step};
use momentlog_store::{Seq, StoreError};

use super::Domain;
use crate::connection::Connection;
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::recordable;

/// What putting back a deletion came to.
#[derive(Clone, Debug)]
pub struct Undeletion {
    /// The record that puts back.
    pub outcome: Outcome,
    /// Former children of what came back that hang elsewhere by now, and stay there.
    pub stayed: Vec<MomentId>,
    /// Moments whose parent is gone as well, with what they hang below now; none for a root.
    pub elsewhere: Vec<(MomentName, Option<MomentName>)>,
}

impl Domain {
    /// Puts back what a record deleted, as one record that takes that one back: the moments under ids of their own, with
    /// their names, times and definitions; each below its parent of then, or the nearest ancestor of then that is there; the
    /// children that the deletion moved below them, if they hang where it left them; and current as it was, if nothing has
    /// changed it since. A parent, child or current moment of then that was deleted itself and came back is the one that
    /// came back: see [`Action::Undelete`]. All of it or nothing; the rules of the domain are asked of the result. It brings
    /// back records, no data.
    ///
    /// `rename` is another name for what comes back, if that is one moment.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; [`ErrorCode::NoDomain`] if the domain is gone: define it
    /// first; [`ErrorCode::InvalidArg`] if the record deletes no moment of this domain, or several were to have one name;
    /// [`ErrorCode::OperationFailed`] if a name is taken; [`ErrorCode::OperationUnsupported`] if a rule forbids the result;
    /// what the store says: [`Error::store`] is `Archived` if the record is in an archive:
    /// [`undelete_archived`](Self::undelete_archived) looks there.
    pub fn undelete(&self, record: Seq, rename: Option<&MomentName>) -> Result<Undeletion> {
        // That it was archived is said by itself.
        self.connection.entry(record)?;
        self.undelete_of(None, record, rename)
    }

    /// As [`undelete`](Self::undelete), of a record that may be in an archive of this log, to which `archive` is a
    /// connection.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] also if the archive is one of another log.
    pub fn undelete_archived(
        &self,
        archive: &Connection,
        record: Seq,
        rename: Option<&MomentName>,
    ) -> Result<Undeletion> {
        archive.refresh()?;
        if archive.log_id() != self.connection.log_id() {
            let detail = "the archive is of another log";
            return Err(Error::new(ErrorCode::InvalidArg, ErrorDomain::None, detail));
        }
        self.undelete_of(Some(archive), record, rename)
    }

    fn undelete_of(
        &self,
        archive: Option<&Connection>,
        record: Seq,
        rename: Option<&MomentName>,
    ) -> Result<Undeletion> {
        self.connection
            .deny_read_only("undelete", ErrorDomain::Domain)?;
        let provenance = momentlog_engine::Provenance {
            undoes: Some(record),
            ..self.connection.provenance().clone()
        };
        let connection = self.connection.with_provenance(provenance);
        let seq = record.get().to_le_bytes();
        let name = rename.map_or("", MomentName::as_str);
        loop {
            let read = connection.refresh()?.revision(self.uuid);
            let (step, returns) = self.deletion(archive, record)?;
            let request = connection.request(
                (Call::UNDELETE, 0),
                Some(self.uuid),
                &[&seq, name.as_bytes()],
            );
            let mut found = None;
            let decided = connection.decide(request, &mut |decision| {
                let now = self.of(decision.view())?;
                if decision.view().revision(self.uuid) != read {
                    return Err(Undecided::Overtaken);
                }
                let planned = plan(&step, &returns, self.uuid, now, rename)?;
                let command = self.command(Action::Undelete(Box::new(planned.undelete)));
                recordable::decide(decision, &command)?;
                found = Some((planned.stayed, planned.elsewhere));
                Ok(())
            });
            let outcome = match decided {
                Err(Undecided::Overtaken) => continue,
                Err(Undecided::Refused(error)) => return Err(error),
                Ok(outcome) => outcome,
            };
            let (stayed, elsewhere) = found.unwrap_or_default();
            return Ok(Undeletion {
                outcome,
                stayed,
                elsewhere,
            });
        }
    }

    /// Returns the step of a record that deletes moments of this domain, and which moments have come back, before it or since.
    fn deletion(&self, archive: Option<&Connection>, record: Seq) -> Result<(Step, Returns)> {
        let archived = archive.map(|archive| archive.history_of(self.uuid));
        let archived = archived.transpose()?.into_iter().flatten();
        let steps = archived.chain(self.connection.history_of(self.uuid)?);
        let mut deletion = None;
        let mut returns = Returns::default();
        let mut last = None;
        for step in steps {
            let step = match step {
                // It goes on with what is not archived.
                Err(error) if is_archived(&error) => continue,
                step => step?,
            };
            // An archive and the log may both have it.
            let seq = step.entry.head.seq;
            if last >= Some(seq) {
                continue;
            }
            last = Some(seq);
            returns.follow(&step, self.uuid);
            if seq == record {
                deletion = Some(step);
            }
        }
        let deletes = |step: &Step| {
            let before = step.before.state().domain(self.uuid);
            let mut events = step.entry.events.iter();
            events.any(|event| is_deletion(&event.change, before))
        };
        let deletion = deletion.filter(deletes).ok_or_else(|| {
            let detail = format!(
                "record {record} deletes no moment of domain '{}'",
                self.name
            );
            Error::new(ErrorCode::InvalidArg, ErrorDomain::None, detail)
        })?;
        Ok((deletion, returns))
    }
}

fn is_archived(error: &Error) -> bool {
    matches!(error.store(), Some(StoreError::Archived { .. }))
}

/// Why an undeletion is not recorded.
enum Undecided {
    /// The domain has changed since its history was read, which is to be read again.
    Overtaken,
    Refused(Error),
}

impl From<Error> for Undecided {
    fn from(error: Error) -> Undecided {
        Undecided::Refused(error)
    }
}

impl From<EngineError> for Undecided {
    fn from(error: EngineError) -> Undecided {
        Undecided::Refused(error.into())
    }
}

/// Which moments have come back under other ids.
#[derive(Default)]
struct Returns {
    /// What each record took, with its kind and name.
    taken: BTreeMap<Seq, Vec<Known>>,
    /// The moment that came back for one that was taken.
    by: BTreeMap<MomentId, MomentId>,
}

/// A moment that a record took or made.
#[derive(Clone)]
struct Known {
    kind: MomentKind,
    id: MomentId,
    name: MomentName,
}

impl Known {
    fn of<D>(kind: MomentKind, moment: Moment<'_, D>) -> Known {
        Known {
            kind,
            id: moment.id,
            name: moment.name.clone(),
        }
    }
}

impl Returns {
    /// Takes note of what a record takes, and of what comes back by it.
    fn follow(&mut self, step: &Step, uuid: DomainUuid) {
        let before = step.before.state().domain(uuid);
        let (mut taken, mut made) = (Vec::new(), Vec::new());
        for event in &step.entry.events {
            match &event.change {
                Change::DomainRemoved => taken.extend(before.into_iter().flat_map(all)),
                Change::Snapshot(change) => {
                    let list = before.map(DomainState::snapshots);
                    note(MomentKind::Snapshot, change, list, &mut taken, &mut made);
                }
                Change::Checkpoint(change) => {
                    let list = before.map(DomainState::checkpoints);
                    note(MomentKind::Checkpoint, change, list, &mut taken, &mut made);
                }
                _ => {}
            }
        }
        let undone = step.entry.undoes.and_then(|undone| self.taken.get(&undone));
        for kind in [MomentKind::Snapshot, MomentKind::Checkpoint] {
            let of_kind = |moment: &&Known| moment.kind == kind;
            let undone: Vec<&Known> = undone.into_iter().flatten().filter(of_kind).collect();
            let made: Vec<&Known> = made.iter().filter(of_kind).collect();
            for (was, made) in same(&undone, &made) {
                // A deletion may be taken back again, once what came back by the first time is gone.
                let last = self.now(was);
                let is_there = before.is_some_and(|domain| has(domain, kind, last));
                self.by.insert(if is_there { was } else { last }, made);
            }
        }
        if !taken.is_empty() {
            self.taken.insert(step.entry.head.seq, taken);
        }
    }

    /// The moment that stands for one of then, which may be itself.
    fn now(&self, id: MomentId) -> MomentId {
        let mut id = id;
        // An id is never given twice, so that each one that came back is a later one.
        while let Some(next) = self.by.get(&id) {
            id = *next;
        }
        id
    }
}

fn has(domain: &DomainState, kind: MomentKind, id: MomentId) -> bool {
    match kind {
        MomentKind::Snapshot => domain.snapshots().get(id).is_some(),
        MomentKind::Checkpoint => domain.checkpoints().get(id).is_some(),
    }
}

/// Which of the moments that were made are those that were taken, of one kind: those with their names; if there is one on each
/// side, whatever its name.
fn same(taken: &[&Known], made: &[&Known]) -> Vec<(MomentId, MomentId)> {
    if let ([taken], [made]) = (taken, made) {
        return vec![(taken.id, made.id)];
    }
    let made: BTreeMap<&MomentName, MomentId> =
        made.iter().map(|made| (&made.name, made.id)).collect();
    let same = taken.iter();
    same.filter_map(|taken| Some((taken.id, *made.get(&taken.name)?)))
        .collect()
}

/// Notes the moments that a change takes from a list, and the one that it makes.
fn note<D>(
    kind: MomentKind,
    change: &MomentChange<D>,
    before: Option<&MomentList<D>>,
    taken: &mut Vec<Known>,
    made: &mut Vec<Known>,
) {
    match change {
        MomentChange::Created { id, name, .. } => made.push(Known {
            kind,
            id: *id,
            name: name.clone(),
        }),
        MomentChange::Deleted { removed, .. } => {
            let removed = removed.ids().filter_map(|id| before?.get(id));
            taken.extend(removed.map(|moment| Known::of(kind, moment)));
        }
        _ => {}
    }
}

/// All moments of a domain.
fn all(domain: &DomainState) -> impl Iterator<Item = Known> {
    let snapshots = domain.snapshots().walk(Scope::All);
    let checkpoints = domain.checkpoints().walk(Scope::All);
    snapshots
        .map(|moment| Known::of(MomentKind::Snapshot, moment))
        .chain(checkpoints.map(|moment| Known::of(MomentKind::Checkpoint, moment)))
}

/// Whether moments went by a change; a removed domain may have had none.
fn is_deletion(change: &Change, before: Option<&DomainState>) -> bool {
    match change {
        Change::DomainRemoved => before.is_some_and(|domain| {
            !domain.snapshots().is_empty() || !domain.checkpoints().is_empty()
        }),
        Change::Snapshot(MomentChange::Deleted { removed, .. })
        | Change::Checkpoint(MomentChange::Deleted { removed, .. }) => !removed.is_empty(),
        _ => false,
    }
}

/// What is to be put back, and what cannot be as it was.
struct Planned {
    undelete: Undelete,
    stayed: Vec<MomentId>,
    elsewhere: Vec<(MomentName, Option<MomentName>)>,
}

fn plan(
    step: &Step,
    returns: &Returns,
    uuid: DomainUuid,
    now: &DomainState,
    rename: Option<&MomentName>,
) -> Result<Planned> {
    let before = step.before.state().domain(uuid);
    let after = step.after.state().domain(uuid);
    let mut planned = Planned {
        undelete: Undelete::default(),
        stayed: Vec::new(),
        elsewhere: Vec::new(),
    };
    if let Some(before) = before {
        let lists = Lists {
            before: before.snapshots(),
            after: after.map(DomainState::snapshots),
            now: now.snapshots(),
            returns,
        };
        planned.undelete.snapshots = lists.plan(
            readable_snapshot,
            &mut planned.stayed,
            &mut planned.elsewhere,
        );
        let lists = Lists {
            before: before.checkpoints(),
            after: after.map(DomainState::checkpoints),
            now: now.checkpoints(),
            returns,
        };
        planned.undelete.checkpoints = lists.plan(
            readable_checkpoint,
            &mut planned.stayed,
            &mut planned.elsewhere,
        );
    }
    if let Some(name) = rename {
        let Undelete {
            snapshots,
            checkpoints,
        } = &mut planned.undelete;
        match (&mut snapshots[..], &mut checkpoints[..]) {
            ([one], []) => one.name = name.clone(),
            ([], [one]) => one.name = name.clone(),
            _ => {
                let detail = "only one moment that is put back can have another name";
                return Err(Error::new(ErrorCode::InvalidArg, ErrorDomain::None, detail));
            }
        }
    }
    Ok(planned)
}

/// The moments of one kind right before a deletion, right after it, and now.
struct Lists<'a, D> {
    before: &'a MomentList<D>,
    /// None if the domain went with them.
    after: Option<&'a MomentList<D>>,
    now: &'a MomentList<D>,
    returns: &'a Returns,
}

impl<D> Lists<'_, D> {
    fn plan(
        &self,
        readable: fn(&Arc<D>) -> Arc<D>,
        stayed: &mut Vec<MomentId>,
        elsewhere: &mut Vec<(MomentName, Option<MomentName>)>,
    ) -> Vec<Undeleted<D>> {
        let is_gone = |id: MomentId| self.after.is_none_or(|after| after.get(id).is_none());
        let mut places: BTreeMap<MomentId, usize> = BTreeMap::new();
        let mut moments = Vec::new();
        for moment in self
            .before
            .walk(Scope::All)
            .filter(|moment| is_gone(moment.id))
        {
            let parent = self.above(moment.id, &places);
            let living = match parent {
                Above::Moment(id) => Some(id),
                _ => None,
            };
            let was = self.before.parent(moment.id);
            let was = was.map(|parent| self.returns.now(parent.id));
            if let Above::Moment(_) | Above::Nothing = parent
                && was != living
            {
                let below = living.and_then(|id| self.now.get(id));
                elsewhere.push((moment.name.clone(), below.map(|below| below.name.clone())));
            }
            let mut children = Vec::new();
            for child in self.before.walk(Scope::ChildrenOf(moment.id)) {
                let now = self.returns.now(child.id);
                if is_gone(child.id) || self.now.get(now).is_none() {
                    continue;
                }
                // Where the deletion left it, or where later ones of that parent moved it.
                let hangs = self.now.parent(now).map(|parent| parent.id);
                if hangs == self.nearest_living(moment.id) {
                    children.push(now);
                } else {
                    stayed.push(now);
                }
            }
            places.insert(moment.id, moments.len());
            moments.push(Undeleted {
                name: moment.name.clone(),
                parent,
                created: moment.created,
                def: readable(moment.def),
                children,
                current: self.was_current(moment.id),
            });
        }
        moments
    }

    /// What a moment hangs below again: its parent, if that is put back or there, or else the nearest ancestor.
    fn above(&self, id: MomentId, places: &BTreeMap<MomentId, usize>) -> Above {
        let parent = self.before.parent(id).map(|parent| parent.id);
        match parent.and_then(|parent| places.get(&parent)) {
            Some(place) => Above::Undeleted(*place),
            None => self
                .nearest_living(id)
                .map_or(Above::Nothing, Above::Moment),
        }
    }

    /// The nearest ancestor of then that is there now.
    fn nearest_living(&self, id: MomentId) -> Option<MomentId> {
        let mut at = id;
        loop {
            at = self.before.parent(at)?.id;
            let now = self.returns.now(at);
            if self.now.get(now).is_some() {
                return Some(now);
            }
        }
    }

    /// Whether the deletion took it from being current, and that was not changed since.
    fn was_current(&self, id: MomentId) -> bool {
        let after = self.after.and_then(MomentList::current_id);
        let left = after.map(|after| self.returns.now(after));
        self.before.current_id() == Some(id) && self.now.current_id() == left
    }
}

/// A definition without the texts that were erased: what is recorded has none that are empty.
fn readable_checkpoint(def: &Arc<CheckpointDef>) -> Arc<CheckpointDef> {
    let erased = is_erased(def.description.as_ref()) || is_erased_domain(def.domain.as_ref());
    if !erased {
        return def.clone();
    }
    let mut def = CheckpointDef::clone(def);
    def.description = def.description.filter(|text| !text.is_empty());
    def.domain = def.domain.filter(|domain| !domain.xml.is_empty());
    Arc::new(def)
}

fn readable_snapshot(def: &Arc<SnapshotDef>) -> Arc<SnapshotDef> {
    let texts = [&def.description, &def.revert_disks, &def.extra];
    let disks = def.disks.iter().map(|disk| &disk.xml);
    let domains = [&def.domain, &def.inactive_domain];
    let erased = texts
        .into_iter()
        .chain(disks)
        .any(|text| is_erased(text.as_ref()))
        || domains
            .into_iter()
            .any(|domain| is_erased_domain(domain.as_ref()));
    if !erased {
        return def.clone();
    }
    let mut def = SnapshotDef::clone(def);
    for text in [&mut def.description, &mut def.revert_disks, &mut def.extra] {
        *text = text.take().filter(|text| !text.is_empty());
    }
    for disk in &mut def.disks {
        disk.xml = disk.xml.take().filter(|text| !text.is_empty());
    }
    for domain in [&mut def.domain, &mut def.inactive_domain] {
        *domain = domain.take().filter(|domain| !domain.xml.is_empty());
    }
    Arc::new(def)
}

fn is_erased(text: Option<&Arc<str>>) -> bool {
    text.is_some_and(|text| text.is_empty())
}

fn is_erased_domain(domain: Option<&Arc<DomainDef>>) -> bool {
    domain.is_some_and(|domain| domain.xml.is_empty())
}
