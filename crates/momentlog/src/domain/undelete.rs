//! Putting back what a deletion took.

use std::collections::BTreeMap;
use std::sync::Arc;

use momentlog_core::{
    Above, Action, Change, CheckpointDef, Domain as DomainState, DomainDef, DomainUuid,
    MomentChange, MomentId, MomentList, MomentName, Scope, SnapshotDef, Undelete, Undeleted,
};
use momentlog_engine::{Call, Outcome, Step};
use momentlog_store::Seq;

use super::Domain;
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
    /// changed it since. All of it or nothing; the rules of the domain are asked of the result. It brings back records, no data.
    ///
    /// `rename` is another name for what comes back, if that is one moment.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; [`ErrorCode::NoDomain`] if the domain is gone: define it
    /// first; [`ErrorCode::InvalidArg`] if the record deletes no moment of this domain, or several were to have one name;
    /// [`ErrorCode::OperationFailed`] if a name is taken; [`ErrorCode::OperationUnsupported`] if a rule forbids the result;
    /// what the store says: [`Error::store`] is `Archived` if the record is in an archive.
    pub fn undelete(&self, record: Seq, rename: Option<&MomentName>) -> Result<Undeletion> {
        self.connection
            .deny_read_only("undelete", ErrorDomain::Domain)?;
        let step = self.deletion(record)?;
        let provenance = momentlog_engine::Provenance {
            undoes: Some(record),
            ..self.connection.provenance().clone()
        };
        let connection = self.connection.with_provenance(provenance);
        let seq = record.get().to_le_bytes();
        let name = rename.map_or("", MomentName::as_str);
        let request = connection.request(
            (Call::UNDELETE, 0),
            Some(self.uuid),
            &[&seq, name.as_bytes()],
        );
        let mut found = None;
        let outcome = connection.decide(request, &mut |decision| {
            let now = self.of(decision.view())?;
            let planned = plan(&step, self.uuid, now, rename)?;
            let command = self.command(Action::Undelete(Box::new(planned.undelete)));
            recordable::decide(decision, &command)?;
            found = Some((planned.stayed, planned.elsewhere));
            Ok::<_, Error>(())
        })?;
        let (stayed, elsewhere) = found.unwrap_or_default();
        Ok(Undeletion {
            outcome,
            stayed,
            elsewhere,
        })
    }

    /// Returns the step of a record that deletes moments of this domain.
    fn deletion(&self, record: Seq) -> Result<Step> {
        // That it was archived is said by itself.
        self.connection.entry(record)?;
        let step = self.connection.history_from(record)?.next().transpose()?;
        let step = step.filter(|step| step.entry.head.seq == record);
        let deletes = |step: &Step| {
            let before = step.before.state().domain(self.uuid);
            let mut events = step.entry.events.iter();
            step.entry.domain == Some(self.uuid)
                && events.any(|event| is_deletion(&event.change, before))
        };
        step.filter(deletes).ok_or_else(|| {
            let detail = format!(
                "record {record} deletes no moment of domain '{}'",
                self.name
            );
            Error::new(ErrorCode::InvalidArg, ErrorDomain::None, detail)
        })
    }
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
            let was = self.before.parent(moment.id).map(|parent| parent.id);
            if let Above::Moment(_) | Above::Nothing = parent
                && was != living
            {
                let below = living.and_then(|id| self.now.get(id));
                elsewhere.push((moment.name.clone(), below.map(|below| below.name.clone())));
            }
            let mut children = Vec::new();
            for child in self.before.walk(Scope::ChildrenOf(moment.id)) {
                if is_gone(child.id) || self.now.get(child.id).is_none() {
                    continue;
                }
                // Where the deletion left it, or where later ones of that parent moved it.
                let hangs = self.now.parent(child.id).map(|parent| parent.id);
                if hangs == self.nearest_living(moment.id) {
                    children.push(child.id);
                } else {
                    stayed.push(child.id);
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
            if self.now.get(at).is_some() {
                return Some(at);
            }
        }
    }

    /// Whether the deletion took it from being current, and that was not changed since.
    fn was_current(&self, id: MomentId) -> bool {
        let after = self.after.and_then(MomentList::current_id);
        self.before.current_id() == Some(id) && self.now.current_id() == after
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
