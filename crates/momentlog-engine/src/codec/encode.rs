//! Writing one record's events.

use std::sync::Arc;

use momentlog_core::{Change, CheckpointDef, DomainDef, MomentChange, MomentId, SnapshotDef};
use momentlog_store::Seq;

use super::body::{self, TextRef, put_body};
use super::job::{Attached, StoredSettings, stored_hold, stored_seen};
use super::{Asked, Dictionary, at, events, kind, length};

/// The kinds of the events of one kind of moment.
struct Kinds {
    created: u16,
    redefined: u16,
    deleted: u16,
    reparented: u16,
    current_set: u16,
}

const SNAPSHOT: Kinds = Kinds {
    created: kind::SNAPSHOT_CREATED,
    redefined: kind::SNAPSHOT_REDEFINED,
    deleted: kind::SNAPSHOT_DELETED,
    reparented: kind::SNAPSHOT_REPARENTED,
    current_set: kind::CURRENT_SNAPSHOT_SET,
};

const CHECKPOINT: Kinds = Kinds {
    created: kind::CHECKPOINT_CREATED,
    redefined: kind::CHECKPOINT_REDEFINED,
    deleted: kind::CHECKPOINT_DELETED,
    reparented: kind::CHECKPOINT_REPARENTED,
    current_set: kind::CURRENT_CHECKPOINT_SET,
};

/// Writes one record's events, and collects the texts that no record before has.
pub(crate) struct Encoder<'a> {
    pub(crate) dictionary: &'a mut Dictionary,
    pub(crate) seq: Seq,
    pub(crate) texts: Vec<Arc<str>>,
}

impl Encoder<'_> {
    pub(crate) fn text(&mut self, text: &Arc<str>) -> TextRef {
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

    /// A text of this record that no record refers to, and that is not learnt.
    fn own_text(&mut self, text: &Arc<str>) -> TextRef {
        let index = length(self.texts.len());
        self.texts.push(text.clone());
        TextRef { seq: 0, index }
    }

    pub(crate) fn provenance<'d>(&mut self, asked: &'d Asked) -> body::Provenance<'d> {
        let agent = self.text(&asked.agent);
        let reason = asked.reason.as_ref().map(|reason| self.own_text(reason));
        let request = asked.request.as_ref().map(|key| (&*key.id, key.digest));
        body::Provenance {
            actor: &asked.actor,
            agent,
            call: asked.call.number(),
            flags: asked.flags,
            reason,
            request,
            undoes: asked.undoes.map_or(0, Seq::get),
        }
    }

    pub(crate) fn domain<'d>(&mut self, def: &'d Arc<DomainDef>) -> body::Domain<'d> {
        if let Some((written, place)) = &self.dictionary.written
            && Arc::ptr_eq(written, def)
        {
            return body::Domain {
                xml: place.named_in(self.seq),
                facts: None,
            };
        }
        let xml = self.text(&def.xml);
        let place = xml.seen_from(self.seq);
        let known = self.dictionary.domains.get(&place);
        let facts = match known {
            Some(known) if Arc::ptr_eq(known, def) || known == def => None,
            _ => {
                self.dictionary.define(place, def.clone());
                Some(body::DomainFacts::of(def))
            }
        };
        self.dictionary.written = Some((def.clone(), place));
        body::Domain { xml, facts }
    }

    pub(crate) fn snapshot<'d>(&mut self, def: &'d SnapshotDef) -> body::Snapshot<'d> {
        let (memory, memory_file) = body::memory_of(&def.memory);
        body::Snapshot {
            state: body::state_of(def.state),
            memory,
            memory_file,
            description: def.description.as_ref().map(|text| self.text(text)),
            disks: def
                .disks
                .iter()
                .map(|disk| {
                    let xml = disk.xml.as_ref().map(|text| self.text(text));
                    body::StoredSnapshotDisk::of(disk, xml)
                })
                .collect(),
            domain: def.domain.as_ref().map(|domain| self.domain(domain)),
            inactive_domain: def
                .inactive_domain
                .as_ref()
                .map(|domain| self.domain(domain)),
            revert_disks: def.revert_disks.as_ref().map(|text| self.text(text)),
            extra: def.extra.as_ref().map(|text| self.text(text)),
        }
    }

    pub(crate) fn checkpoint<'d>(&mut self, def: &'d CheckpointDef) -> body::Checkpoint<'d> {
        body::Checkpoint {
            description: def.description.as_ref().map(|text| self.text(text)),
            disks: def.disks.iter().map(Into::into).collect(),
            domain: def.domain.as_ref().map(|domain| self.domain(domain)),
        }
    }

    pub(crate) fn event(&mut self, change: &Change, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend([0; at::EVENT_LEN]);
        let (number, id, parent) = match change {
            Change::DomainDefined { def, policy, live } => {
                let stored = body::DomainDefined {
                    domain: self.domain(def),
                    policy: (*policy).into(),
                    live: *live,
                };
                put_body(&stored, out);
                (kind::DOMAIN_DEFINED, None, None)
            }
            Change::StateChanged(power) => {
                put_body(&body::StoredPower::from(*power), out);
                (kind::STATE_CHANGED, None, None)
            }
            Change::MadeTransient => (kind::MADE_TRANSIENT, None, None),
            Change::DomainRemoved => (kind::DOMAIN_REMOVED, None, None),
            Change::DomainRenamed(def) => {
                put_body(&self.domain(def), out);
                (kind::DOMAIN_RENAMED, None, None)
            }
            Change::AutostartSet(autostart) => {
                put_body(autostart, out);
                (kind::AUTOSTART_SET, None, None)
            }
            Change::PolicySet(policy) => {
                put_body(&body::StoredPolicy::from(*policy), out);
                (kind::POLICY_SET, None, None)
            }
            Change::Reverted { id, power } => {
                put_body(&body::StoredPower::from(*power), out);
                (kind::REVERTED, Some(*id), None)
            }
            Change::JobBegun { id, job } => {
                put_body(&self.job(*id, job), out);
                (kind::JOB_BEGUN, None, None)
            }
            Change::JobEnded(outcome) => {
                put_body(&self.outcome(outcome), out);
                (kind::JOB_ENDED, None, None)
            }
            Change::JobFailed(outcome) => {
                put_body(&self.outcome(outcome), out);
                (kind::JOB_FAILED, None, None)
            }
            Change::HypervisorAttached(attachment) => {
                put_body(&Attached::of(attachment), out);
                (kind::HYPERVISOR_ATTACHED, None, None)
            }
            Change::HypervisorDetached => (kind::HYPERVISOR_DETACHED, None, None),
            Change::CheckpointSeen { id, disks } => {
                put_body(&stored_seen(disks), out);
                (kind::CHECKPOINT_SEEN, Some(*id), None)
            }
            Change::HoldAdded { id, tag, hold } => {
                put_body(&stored_hold(tag, hold), out);
                (kind::HOLD_ADDED, Some(*id), None)
            }
            Change::HoldRemoved { id, tag } => {
                put_body(&tag.as_str(), out);
                (kind::HOLD_REMOVED, Some(*id), None)
            }
            Change::SettingsSet(settings) => {
                put_body(&StoredSettings::from(*settings), out);
                (kind::SETTINGS_SET, None, None)
            }
            Change::Snapshot(change) => self.moment(&SNAPSHOT, change, out, |encoder, def, out| {
                put_body(&encoder.snapshot(def), out);
            }),
            Change::Checkpoint(change) => {
                self.moment(&CHECKPOINT, change, out, |encoder, def, out| {
                    put_body(&encoder.checkpoint(def), out);
                })
            }
        };
        let body_len = length(out.len() - begin - at::EVENT_LEN);
        let head = &mut out[begin..begin + at::EVENT_LEN];
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        put(at::EVENT_KIND, &number.to_le_bytes());
        put(at::EVENT_VERSION, &events::version_of(number).to_le_bytes());
        put(at::EVENT_MOMENT, &id.map_or(0, MomentId::get).to_le_bytes());
        put(
            at::EVENT_PARENT,
            &parent.map_or(0, MomentId::get).to_le_bytes(),
        );
        put(at::EVENT_BODY_LEN, &body_len.to_le_bytes());
    }

    /// Writes the body of a change of either kind of moment; `put` writes a definition.
    fn moment<D>(
        &mut self,
        kinds: &Kinds,
        change: &MomentChange<D>,
        out: &mut Vec<u8>,
        put: impl Fn(&mut Self, &D, &mut Vec<u8>),
    ) -> (u16, Option<MomentId>, Option<MomentId>) {
        match change {
            MomentChange::Created {
                id,
                parent,
                name,
                created,
                def,
                current,
            } => {
                let head = body::Created {
                    current: *current,
                    name: name.as_str(),
                    time: *created,
                };
                put_body(&head, out);
                put(self, def, out);
                (kinds.created, Some(*id), *parent)
            }
            MomentChange::Redefined {
                id,
                parent,
                created,
                def,
                current,
            } => {
                let head = body::Redefined {
                    current: *current,
                    time: *created,
                };
                put_body(&head, out);
                put(self, def, out);
                (kinds.redefined, Some(*id), *parent)
            }
            MomentChange::Deleted {
                id,
                extent,
                removed,
                children_moved,
                current,
            } => {
                let stored = body::Deleted {
                    extent: body::extent_of(*extent),
                    removed: body::runs_of(removed),
                    children_moved: *children_moved,
                    current: current.map_or(0, MomentId::get),
                };
                put_body(&stored, out);
                (kinds.deleted, Some(*id), None)
            }
            MomentChange::Reparented { id, parent } => (kinds.reparented, Some(*id), *parent),
            MomentChange::CurrentSet(current) => (kinds.current_set, None, *current),
        }
    }
}
