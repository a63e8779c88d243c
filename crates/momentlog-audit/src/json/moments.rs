//! `momentlog.moments/1`: snapshots or checkpoints of a domain, as they are.

use std::collections::{BTreeMap, HashMap};

use momentlog_core::{
    CheckpointDef, Domain, Moment, MomentId, MomentKind, MomentList, MomentName, Scope, SnapshotDef,
};
use serde::Serialize;
use serde_json::Value as Json;

use super::{DomainDoc, MomentDoc, claimed, erasable};

/// Moments of one kind of a domain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MomentsDoc {
    schema: &'static str,
    domain: DomainDoc,
    kind: &'static str,
    moments: Vec<MomentStateDoc>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct MomentStateDoc {
    id: u64,
    name: String,
    below: Option<MomentDoc>,
    current: bool,
    claimed: Option<String>,
    claimed_s: i64,
    description: Json,
    /// Of a snapshot: what the guest was doing.
    state: Option<&'static str>,
    /// Of a snapshot: `internal` or `external`.
    location: Option<&'static str>,
    children: usize,
    descendants: usize,
    held: Vec<String>,
    backup: Option<&'static str>,
}

impl MomentsDoc {
    /// Returns the document of those of these moments that are there, in their order. `backups` has a word for what became
    /// of the newest backup of each checkpoint.
    pub fn of<'a>(
        domain: &Domain,
        kind: MomentKind,
        names: impl IntoIterator<Item = &'a MomentName>,
        backups: &HashMap<MomentId, &'static str>,
    ) -> MomentsDoc {
        let moments = match kind {
            MomentKind::Snapshot => all(domain, domain.snapshots(), names, |doc, def| {
                of_snapshot(doc, def);
            }),
            MomentKind::Checkpoint => all(domain, domain.checkpoints(), names, |doc, def| {
                of_checkpoint(doc, def);
                doc.backup = MomentId::new(doc.id).and_then(|id| backups.get(&id).copied());
            }),
        };
        MomentsDoc {
            schema: "momentlog.moments/1",
            domain: DomainDoc::of(domain.uuid(), Some(domain.name())),
            kind: kind.as_str(),
            moments,
        }
    }
}

fn of_snapshot(doc: &mut MomentStateDoc, def: &SnapshotDef) {
    doc.description = erasable(def.description.as_deref());
    doc.state = Some(def.state.as_str());
    let external = def.is_external();
    doc.location = Some(if external { "external" } else { "internal" });
}

fn of_checkpoint(doc: &mut MomentStateDoc, def: &CheckpointDef) {
    doc.description = erasable(def.description.as_deref());
}

fn all<'a, D>(
    domain: &Domain,
    list: &MomentList<D>,
    names: impl IntoIterator<Item = &'a MomentName>,
    add: impl Fn(&mut MomentStateDoc, &D),
) -> Vec<MomentStateDoc> {
    let below = descendants(list);
    let mut tags: BTreeMap<MomentId, Vec<String>> = BTreeMap::new();
    for (id, tag, _) in domain.holds().iter() {
        tags.entry(id).or_default().push(tag.to_string());
    }
    let doc = |moment: Moment<'_, D>| {
        let parent = list.parent(moment.id);
        let mut doc = MomentStateDoc {
            id: moment.id.get(),
            name: moment.name.to_string(),
            below: parent.map(|parent| MomentDoc::new(parent.id, parent.name.as_str())),
            current: list.current_id() == Some(moment.id),
            claimed: claimed(moment.created),
            claimed_s: moment.created,
            description: Json::Null,
            state: None,
            location: None,
            children: list.child_count(Some(moment.id)),
            descendants: below.get(&moment.id).copied().unwrap_or(0),
            held: tags.get(&moment.id).cloned().unwrap_or_default(),
            backup: None,
        };
        add(&mut doc, moment.def);
        doc
    };
    let found = names
        .into_iter()
        .filter_map(|name| list.find(name.as_str()));
    found.map(doc).collect()
}

/// How many moments hang below each, at any depth; one with none is not in it.
fn descendants<D>(list: &MomentList<D>) -> HashMap<MomentId, usize> {
    // Parents come before their children.
    let all: Vec<MomentId> = list.walk(Scope::All).map(|moment| moment.id).collect();
    let mut below = HashMap::new();
    for id in all.into_iter().rev() {
        let own = below.get(&id).copied().unwrap_or(0);
        if let Some(parent) = list.parent(id) {
            *below.entry(parent.id).or_insert(0) += own + 1;
        }
    }
    below
}
