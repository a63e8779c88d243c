//! One record, decoded: who did what, when and why.

use std::fmt;
use std::sync::Arc;

use momentlog_core::{Domain, DomainUuid, Event};
use momentlog_store::{Head, Seq};

use crate::call::Call;
use crate::codec::{Asked, Content, Facts};

/// One entry of the log, decoded: who did what, when and why.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands, and its digest.
    pub head: Head,
    /// Microseconds since 1970; never less than the entry's before.
    pub recorded: i64,
    /// The domain that it is about; none for the first entry of a log.
    pub domain: Option<DomainUuid>,
    /// The entry before that is about the same domain.
    pub previous: Option<Seq>,
    /// Who is said to have asked.
    pub actor: Arc<str>,
    /// Who really did: a user, host and program; empty if that was erased. None for the first entry of a log.
    pub agent: Option<Arc<str>>,
    /// What was called.
    pub call: Call,
    /// The flag word of the call.
    pub flags: u32,
    /// Why; empty if that was erased.
    pub reason: Option<Arc<str>>,
    /// The request's key.
    pub request_id: Option<Arc<str>>,
    /// The entry that this one takes back.
    pub undoes: Option<Seq>,
    /// What happened; nothing in the first entry and in a bridge.
    pub events: Vec<Event>,
    /// The domains that events of this entry removed, as they were right before that, with all moments that went with
    /// them; in the order of the events.
    pub removed: Vec<Arc<Domain>>,
    /// What was moved to an archive, if this entry stands for that.
    pub bridge: Option<Bridge>,
}

/// Short, and without texts.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("head", &self.head)
            .field("recorded", &self.recorded)
            .field("domain", &self.domain)
            .field("actor", &self.actor)
            .field("call", &self.call)
            .field("request_id", &self.request_id)
            .field("events", &self.events.len())
            .field("bridge", &self.bridge)
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// Returns the entry of a record with these facts, which knows no domain that it removed.
    pub(crate) fn of(head: Head, facts: Facts) -> Entry {
        let entry = Entry {
            head,
            recorded: facts.recorded,
            domain: facts.domain,
            previous: facts.previous,
            actor: "".into(),
            agent: None,
            call: Call::UNKNOWN,
            flags: 0,
            reason: None,
            request_id: None,
            undoes: None,
            events: Vec::new(),
            removed: Vec::new(),
            bridge: None,
        };
        match facts.content {
            Content::Genesis { writer, .. } => Entry {
                actor: writer.into(),
                ..entry
            },
            Content::Bridge { asked, bridge } => Entry {
                bridge: Some(bridge),
                ..entry.asked(asked)
            },
            Content::Command { asked, events } => Entry {
                events,
                ..entry.asked(asked)
            },
        }
    }

    fn asked(self, asked: Asked) -> Entry {
        let Asked {
            actor,
            agent,
            call,
            flags,
            reason,
            request,
            undoes,
        } = asked;
        Entry {
            actor,
            agent: Some(agent),
            call,
            flags,
            reason,
            request_id: request.map(|key| key.id),
            undoes,
            ..self
        }
    }
}

/// Stands for records that were moved to an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// The first record that was moved.
    pub first: Seq,
    /// The last one, and its digest. It is the record right before the bridge.
    pub last: Head,
    /// SHA-256 of the body of the image with which the log begins.
    pub image: [u8; 32],
    /// Where they were moved, as the mover called it; empty if that was erased, and none if it was not said.
    pub archive: Option<Arc<str>>,
}
