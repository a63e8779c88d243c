//! Writing one record's events.

use std::sync::Arc;

use momentlog_core::{
    Change, CheckpointDef, DomainDef, Extent, MomentChange, MomentId, MomentName, SnapshotDef,
};
use momentlog_store::Seq;

use super::body::{self, TextRef, encode_body};
use super::{BODY_VERSION, Dictionary, kind, length};

/// Writes one record's events, and collects the texts that no record before has.
pub(super) struct Encoder<'a> {
    pub(super) dictionary: &'a mut Dictionary,
    pub(super) seq: Seq,
    pub(super) texts: Vec<Arc<str>>,
}

impl Encoder<'_> {
    pub(super) fn text(&mut self, text: &Arc<str>) -> TextRef {
        if let Some(place) = self.dictionary.by_text.get(text) {
            return place.named_in(self.seq);
        }
        let place = TextRef {
            seq: self.seq.get(),
            index: length(self.texts.len()),
        };
        self.dictionary.learn(text.clone(), place);
        self.texts.push(text.clone());
        place.named_in(self.seq)
    }

    pub(super) fn domain<'d>(&mut self, def: &'d Arc<DomainDef>) -> body::Domain<'d> {
        let xml = self.text(&def.xml);
        let place = xml.seen_from(self.seq);
        let known = self.dictionary.domains.get(&place);
        let facts = match known {
            Some(known) if Arc::ptr_eq(known, def) || known == def => None,
            _ => {
                self.dictionary.domains.insert(place, def.clone());
                Some(body::DomainFacts::of(def))
            }
        };
        body::Domain { xml, facts }
    }

    pub(super) fn snapshot<'d>(&mut self, def: &'d SnapshotDef) -> body::Snapshot<'d> {
        let (memory, memory_file) = body::memory_of(&def.memory);
        body::Snapshot {
            created: def.created,
            state: body::state_of(def.state),
            memory,
            memory_file,
            description: def.description.as_ref().map(|text| self.text(text)),
            disks: def.disks.iter().map(Into::into).collect(),
            domain: def.domain.as_ref().map(|domain| self.domain(domain)),
            inactive_domain: def
                .inactive_domain
                .as_ref()
                .map(|domain| self.domain(domain)),
        }
    }

    pub(super) fn checkpoint<'d>(&mut self, def: &'d CheckpointDef) -> body::Checkpoint<'d> {
        body::Checkpoint {
            created: def.created,
            description: def.description.as_ref().map(|text| self.text(text)),
            disks: def.disks.iter().map(Into::into).collect(),
            domain: def.domain.as_ref().map(|domain| self.domain(domain)),
        }
    }

    pub(super) fn event(&mut self, change: &Change, out: &mut Vec<u8>) {
        let (number, id, parent, body) = match change {
            Change::DomainDefined { def, policy, live } => {
                let stored = body::DomainDefined {
                    domain: self.domain(def),
                    policy: (*policy).into(),
                    live: *live,
                };
                (kind::DOMAIN_DEFINED, None, None, encode_body(&stored))
            }
            Change::StateChanged(power) => (kind::STATE_CHANGED, None, None, body::power(*power)),
            Change::MadeTransient => (kind::MADE_TRANSIENT, None, None, Vec::new()),
            Change::DomainRemoved => (kind::DOMAIN_REMOVED, None, None, Vec::new()),
            Change::PolicySet(policy) => (kind::POLICY_SET, None, None, body::policy(*policy)),
            Change::Reverted { id, power } => {
                (kind::REVERTED, Some(*id), None, body::power(*power))
            }
            Change::Snapshot(change) => {
                let encode =
                    |encoder: &mut Self, name: Option<&MomentName>, current, def: &SnapshotDef| {
                        let def = encoder.snapshot(def);
                        body::created_or_redefined(name, current, def)
                    };
                self.moment(kind::SNAPSHOT, change, encode)
            }
            Change::Checkpoint(change) => {
                let encode = |encoder: &mut Self,
                              name: Option<&MomentName>,
                              current,
                              def: &CheckpointDef| {
                    let def = encoder.checkpoint(def);
                    body::created_or_redefined(name, current, def)
                };
                self.moment(kind::CHECKPOINT, change, encode)
            }
        };
        out.extend(number.to_le_bytes());
        out.extend(BODY_VERSION.to_le_bytes());
        out.extend(id.map_or(0, MomentId::get).to_le_bytes());
        out.extend(parent.map_or(0, MomentId::get).to_le_bytes());
        out.extend(length(body.len()).to_le_bytes());
        out.extend([0; 4]);
        out.extend(body);
    }

    fn moment<D>(
        &mut self,
        base: u16,
        change: &MomentChange<D>,
        encode: impl Fn(&mut Self, Option<&MomentName>, bool, &D) -> Vec<u8>,
    ) -> (u16, Option<MomentId>, Option<MomentId>, Vec<u8>) {
        match change {
            MomentChange::Created {
                id,
                parent,
                name,
                def,
                current,
            } => (
                base + kind::CREATED,
                Some(*id),
                *parent,
                encode(self, Some(name), *current, def),
            ),
            MomentChange::Redefined {
                id,
                parent,
                def,
                current,
            } => (
                base + kind::REDEFINED,
                Some(*id),
                *parent,
                encode(self, None, *current, def),
            ),
            MomentChange::Deleted {
                id,
                extent,
                removed,
                children_moved,
                current,
            } => {
                let stored = body::Deleted {
                    extent: match extent {
                        Extent::One => 0,
                        Extent::Subtree => 1,
                        Extent::ChildrenOnly => 2,
                    },
                    removed: removed
                        .runs()
                        .iter()
                        .map(|(first, length)| (first.get(), *length))
                        .collect(),
                    children_moved: *children_moved,
                    current: current.map_or(0, MomentId::get),
                };
                (base + kind::DELETED, Some(*id), None, encode_body(&stored))
            }
            MomentChange::Reparented { id, parent } => {
                (base + kind::REPARENTED, Some(*id), *parent, Vec::new())
            }
            MomentChange::CurrentSet(current) => {
                (base + kind::CURRENT_SET, None, *current, Vec::new())
            }
        }
    }
}
