//! What the records of a log refer to, learnt in their order, and how records are read and written with it.

use std::collections::HashMap;
use std::sync::Arc;

use momentlog_core::{CheckpointDef, DomainDef, Event, SnapshotDef};
use momentlog_store::{Draft, Record, Seq, Text};

use super::body::{self, TextRef, decode_body};
use super::encode::Encoder;
use super::{
    Asked, Content, DecodeError, Facts, KIND_BRIDGE, KIND_COMMAND, KIND_GENESIS, KIND_STORE,
    LAYOUT_VERSION, Outline, length, text_of,
};
use crate::call::Call;

/// Texts and domain definitions that records refer to, learnt in the order of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dictionary {
    pub(crate) by_place: im::HashMap<TextRef, Arc<str>>,
    pub(crate) by_text: im::HashMap<Arc<str>, TextRef>,
    pub(crate) domains: im::HashMap<TextRef, Arc<DomainDef>>,
    /// How often one of them was given a meaning.
    pub(crate) meanings: u64,
    /// The one of them that was written last, which is mostly written again.
    pub(crate) written: Option<(Arc<DomainDef>, TextRef)>,
    snapshots: Recent<SnapshotDef>,
    checkpoints: Recent<CheckpointDef>,
    /// The last provenance without texts of its own and without a request, by its bytes: mostly that of the record before.
    asked: Option<(Box<[u8]>, Asked)>,
}

/// Definitions of moments that were read, by their bytes, so that equal ones are read once and shared.
#[derive(Debug)]
struct Recent<D> {
    all: HashMap<Arc<[u8]>, Arc<D>>,
    /// The one that was found last.
    last: Option<(Arc<[u8]>, Arc<D>)>,
}

/// How many definitions are kept to be shared, and how long their bytes may be.
const RECENT_MAX: usize = 1024;
const RECENT_LEN_MAX: usize = 4096;

impl<D> Recent<D> {
    fn find(&mut self, bytes: &[u8]) -> Option<Arc<D>> {
        if self.last.as_ref().is_none_or(|(last, _)| **last != *bytes) {
            let (bytes, def) = self.all.get_key_value(bytes)?;
            self.last = Some((bytes.clone(), def.clone()));
        }
        self.last.as_ref().map(|(_, def)| def.clone())
    }

    fn keep(&mut self, bytes: &[u8], def: &Arc<D>) {
        if bytes.len() > RECENT_LEN_MAX {
            return;
        }
        if self.all.len() == RECENT_MAX {
            self.all.clear();
        }
        self.all.insert(bytes.into(), def.clone());
    }
}

/// A copy begins without any, so that a ledger is copied in no time.
impl<D> Clone for Recent<D> {
    fn clone(&self) -> Recent<D> {
        Recent::default()
    }
}

impl<D> Default for Recent<D> {
    fn default() -> Recent<D> {
        Recent {
            all: HashMap::new(),
            last: None,
        }
    }
}

impl Dictionary {
    /// Whether both have learnt the same.
    pub(crate) fn agrees_with(&self, other: &Dictionary) -> bool {
        self.by_place == other.by_place
            && self.by_text == other.by_text
            && self.domains == other.domains
    }

    /// Returns the draft of the record `seq` with these facts. `salt` gives the salt of each new text.
    pub(crate) fn encode(
        &mut self,
        seq: Seq,
        facts: &Facts,
        salt: &mut dyn FnMut() -> [u8; 32],
    ) -> Draft {
        let mut encoder = Encoder {
            dictionary: self,
            seq,
            texts: Vec::new(),
        };
        let (kind, events, provenance) = match &facts.content {
            Content::Genesis { profile, writer } => {
                (KIND_GENESIS, &[][..], body::genesis(*profile, writer))
            }
            Content::Command { asked, events } => (
                facts.domain.map_or(KIND_STORE, |_| KIND_COMMAND),
                &events[..],
                body::encode_body(&encoder.provenance(asked)),
            ),
            Content::Bridge { asked, bridge } => {
                let mut bytes = body::encode_body(&encoder.provenance(asked));
                let archive = bridge.archive.as_ref().map(|archive| encoder.text(archive));
                body::put_body(&body::StoredBridge::of(bridge, archive), &mut bytes);
                (KIND_BRIDGE, &[][..], bytes)
            }
        };
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(LAYOUT_VERSION.to_le_bytes());
        bytes.extend(length(events.len()).to_le_bytes());
        bytes.extend(facts.recorded.to_le_bytes());
        bytes.extend(facts.domain.map_or([0; 16], |domain| *domain.as_bytes()));
        bytes.extend(facts.previous.map_or(0, Seq::get).to_le_bytes());
        bytes.extend(length(provenance.len()).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(provenance);
        for event in events {
            encoder.event(&event.change, &mut bytes);
        }
        let plain = |text: Arc<str>| Text::Plain {
            salt: salt(),
            bytes: text.as_bytes().to_vec(),
        };
        let texts = encoder.texts.into_iter().map(plain).collect();
        Draft {
            facts: bytes,
            texts,
        }
    }

    /// Reads a record, and learns its texts and domains.
    pub(crate) fn decode(&mut self, record: &Record) -> Result<Facts, DecodeError> {
        let texts: Result<Vec<Arc<str>>, _> = record.texts.iter().map(text_of).collect();
        self.decode_facts(record.seq, &record.facts, Some(&texts?))
    }

    /// Returns the events of a record whose texts were learnt before, and are not at hand.
    pub(crate) fn events(&mut self, seq: Seq, facts: &[u8]) -> Result<Vec<Event>, DecodeError> {
        Ok(match self.decode_facts(seq, facts, None)?.content {
            Content::Command { events, .. } => events,
            Content::Genesis { .. } | Content::Bridge { .. } => Vec::new(),
        })
    }

    /// Reads facts. Without the record's own texts, they have no reason.
    fn decode_facts(
        &mut self,
        seq: Seq,
        bytes: &[u8],
        texts: Option<&[Arc<str>]>,
    ) -> Result<Facts, DecodeError> {
        let Outline {
            kind,
            recorded,
            domain,
            previous,
            events: count,
            provenance,
            mut rest,
        } = Outline::read(seq, bytes)?;
        let content = if kind == KIND_GENESIS {
            let (profile, writer) = body::decode_genesis(provenance)?;
            self.learn_all(seq, texts, None);
            Content::Genesis { profile, writer }
        } else if kind == KIND_BRIDGE {
            let mut bytes = provenance;
            let stored: body::Provenance<'_> = body::decode_first(&mut bytes, "provenance")?;
            let asked = self.asked(seq, &stored, texts)?;
            let stored: body::StoredBridge = decode_body(bytes, "bridge")?;
            let archive = stored
                .archive
                .map(|place| self.text(seq, place))
                .transpose()?;
            let bridge = stored.into_bridge(archive)?;
            if asked.request.is_some() {
                return Err(DecodeError::Body("bridge"));
            }
            Content::Bridge { asked, bridge }
        } else {
            let asked = self.provenance(seq, provenance, texts)?;
            let mut events = Vec::new();
            let plain = texts.is_some_and(<[_]>::is_empty);
            for _ in 0..count {
                let change;
                (change, rest) = self.decode_event(seq, plain, rest)?;
                events.push(Event { domain, change });
            }
            Content::Command { asked, events }
        };
        if rest.is_empty() {
            Ok(Facts {
                recorded,
                domain,
                previous,
                content,
            })
        } else {
            Err(DecodeError::Length("facts"))
        }
    }

    /// Reads who asked for a command, why, and under which key, and learns the texts of the record.
    fn provenance(
        &mut self,
        seq: Seq,
        bytes: &[u8],
        texts: Option<&[Arc<str>]>,
    ) -> Result<Asked, DecodeError> {
        if let Some((last, asked)) = &self.asked
            && **last == *bytes
        {
            let asked = asked.clone();
            self.learn_all(seq, texts, None);
            return Ok(asked);
        }
        let stored: body::Provenance<'_> = decode_body(bytes, "provenance")?;
        let lasting = stored.agent.seq != 0 && stored.reason.is_none() && stored.undoes == 0;
        let asked = self.asked(seq, &stored, texts)?;
        if lasting && asked.request.is_none() {
            self.asked = Some((bytes.into(), asked.clone()));
        }
        Ok(asked)
    }

    /// Reads a provenance, and learns the texts of the record but its reason, which no record refers to.
    fn asked(
        &mut self,
        seq: Seq,
        stored: &body::Provenance<'_>,
        texts: Option<&[Arc<str>]>,
    ) -> Result<Asked, DecodeError> {
        let reason = match (stored.reason, texts) {
            (Some(place), Some(texts)) => {
                let missing = DecodeError::Text {
                    seq: place.seq,
                    index: place.index,
                };
                let own = (place.seq == 0).then(|| texts.get(place.index as usize));
                Some(own.flatten().ok_or(missing)?.clone())
            }
            _ => None,
        };
        self.learn_all(seq, texts, stored.reason);
        if stored.actor.is_empty() {
            return Err(DecodeError::Body("actor"));
        }
        let undoes = Seq::new(stored.undoes);
        if undoes >= Some(seq) {
            return Err(DecodeError::Word {
                what: "record that could be undone",
                value: stored.undoes,
            });
        }
        Ok(Asked {
            actor: stored.actor.into(),
            agent: self.text(seq, stored.agent)?,
            call: Call(stored.call),
            flags: stored.flags,
            reason,
            request: stored.request.map(body::request_key).transpose()?,
            undoes,
        })
    }

    /// Learns the texts of a record, but the one that is its reason.
    pub(crate) fn learn_all(
        &mut self,
        seq: Seq,
        texts: Option<&[Arc<str>]>,
        reason: Option<TextRef>,
    ) {
        for (index, text) in (0..).zip(texts.unwrap_or_default()) {
            if reason.is_none_or(|reason| reason.index != index) {
                let seq = seq.get();
                self.learn(text.clone(), TextRef { seq, index });
            }
        }
    }

    pub(crate) fn learn(&mut self, text: Arc<str>, place: TextRef) {
        self.by_place.insert(place, text.clone());
        self.by_text.entry(text).or_insert(place);
    }

    /// Returns the text that a record refers to.
    pub(crate) fn text(&self, seq: Seq, place: TextRef) -> Result<Arc<str>, DecodeError> {
        let place = place.seen_from(seq);
        let missing = DecodeError::Text {
            seq: place.seq,
            index: place.index,
        };
        self.by_place.get(&place).cloned().ok_or(missing)
    }

    /// Takes note of what the XML at `place` means from now on.
    pub(crate) fn define(&mut self, place: TextRef, def: Arc<DomainDef>) {
        self.domains.insert(place, def);
        self.meanings += 1;
        self.written = None;
        // The bytes of a definition may mean another domain now.
        self.snapshots = Recent::default();
        self.checkpoints = Recent::default();
    }

    /// Forgets what the XML at `place` means: a record that is not read here says it otherwise.
    pub(crate) fn forget_meaning(&mut self, place: TextRef) {
        if self.domains.remove(&place).is_some() {
            self.snapshots = Recent::default();
            self.checkpoints = Recent::default();
        }
    }

    pub(crate) fn domain(
        &mut self,
        seq: Seq,
        stored: body::Domain<'_>,
    ) -> Result<Arc<DomainDef>, DecodeError> {
        let place = stored.xml.seen_from(seq);
        let xml = self.text(seq, place)?;
        if let Some(facts) = stored.facts {
            self.define(place, Arc::new(facts.into_def(xml)?));
        }
        let missing = DecodeError::Text {
            seq: place.seq,
            index: place.index,
        };
        self.domains.get(&place).cloned().ok_or(missing)
    }

    pub(crate) fn recent_snapshot(
        &mut self,
        seq: Seq,
        plain: bool,
        bytes: &[u8],
    ) -> Result<Arc<SnapshotDef>, DecodeError> {
        if plain && let Some(def) = self.snapshots.find(bytes) {
            return Ok(def);
        }
        let stored: body::Snapshot<'_> = decode_body(bytes, "definition of a snapshot")?;
        let def = Arc::new(self.snapshot(seq, stored)?);
        if plain {
            self.snapshots.keep(bytes, &def);
        }
        Ok(def)
    }

    pub(crate) fn recent_checkpoint(
        &mut self,
        seq: Seq,
        plain: bool,
        bytes: &[u8],
    ) -> Result<Arc<CheckpointDef>, DecodeError> {
        if plain && let Some(def) = self.checkpoints.find(bytes) {
            return Ok(def);
        }
        let stored: body::Checkpoint<'_> = decode_body(bytes, "definition of a checkpoint")?;
        let def = Arc::new(self.checkpoint(seq, stored)?);
        if plain {
            self.checkpoints.keep(bytes, &def);
        }
        Ok(def)
    }

    pub(crate) fn snapshot(
        &mut self,
        seq: Seq,
        stored: body::Snapshot<'_>,
    ) -> Result<SnapshotDef, DecodeError> {
        let description = stored
            .description
            .map(|place| self.text(seq, place))
            .transpose()?;
        let domain = stored
            .domain
            .map(|domain| self.domain(seq, domain))
            .transpose()?;
        let inactive = stored
            .inactive_domain
            .map(|domain| self.domain(seq, domain))
            .transpose()?;
        Ok(SnapshotDef {
            description,
            state: body::state_from(stored.state)?,
            memory: body::memory_from(stored.memory, stored.memory_file)?,
            disks: stored
                .disks
                .into_iter()
                .map(|disk| {
                    let xml = disk.xml.map(|place| self.text(seq, place)).transpose()?;
                    disk.into_disk(xml)
                })
                .collect::<Result<_, _>>()?,
            domain,
            inactive_domain: inactive,
            revert_disks: stored
                .revert_disks
                .map(|place| self.text(seq, place))
                .transpose()?,
            extra: stored
                .extra
                .map(|place| self.text(seq, place))
                .transpose()?,
        })
    }

    pub(crate) fn checkpoint(
        &mut self,
        seq: Seq,
        stored: body::Checkpoint<'_>,
    ) -> Result<CheckpointDef, DecodeError> {
        let description = stored
            .description
            .map(|place| self.text(seq, place))
            .transpose()?;
        let domain = stored
            .domain
            .map(|domain| self.domain(seq, domain))
            .transpose()?;
        Ok(CheckpointDef {
            description,
            disks: stored
                .disks
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            domain,
        })
    }
}
