//! Folding records into a state, in order.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use momentlog_core::{
    Change, Domain as DomainState, DomainUuid, Event, Misfit, Profile, Refusal, State,
};
use momentlog_store::{Digest, Head, Record, Seq};

use crate::call::Call;
use crate::environment::Revision;
use crate::requests::{Request, Requests};
use crate::stored::{Asked, Content, DecodeError, Dictionary, Facts};
use crate::test_driver;

/// The state at one point of the log. It never changes, so a reader keeps it for as long as it likes.
#[derive(Clone, PartialEq)]
pub struct View {
    pub(crate) head: Option<Head>,
    pub(crate) state: State,
    pub(crate) revisions: im::OrdMap<DomainUuid, Seq>,
}

/// Short: where it is, and how much there is.
impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("head", &self.head)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl View {
    /// The view of a log without records: what its first record will make is there already.
    fn empty(profile: Profile) -> View {
        let mut state = State::new(profile);
        for event in test_driver::built_in(profile) {
            state
                .advance(&event)
                .expect("the built-in domain fits an empty state");
        }
        View {
            head: None,
            state,
            revisions: im::OrdMap::new(),
        }
    }

    /// The last record that the view includes.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// The domains and their moments.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The revision of a domain, which may be gone.
    pub fn revision(&self, domain: DomainUuid) -> Revision {
        Revision::of(self.revisions.get(&domain).copied())
    }

    pub(crate) fn domain(&self, uuid: DomainUuid) -> std::result::Result<&DomainState, Refusal> {
        self.state.domain(uuid).ok_or(Refusal::NoDomain { uuid })
    }
}

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
    pub removed: Vec<Arc<DomainState>>,
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

/// Stands for records that were moved to an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// The first record that was moved.
    pub first: Seq,
    /// The last one, and its digest. It is the record right before the bridge.
    pub last: Head,
    /// SHA-256 of the body of the image with which the log begins.
    pub image: [u8; 32],
}

/// Why a log cannot be replayed although its chain is whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} cannot be replayed")]
pub struct ReplayError {
    /// The record.
    pub seq: Seq,
    /// Why.
    #[source]
    pub why: ReplayFault,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayFault {
    /// Its bytes mean nothing to this version.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its events do not fit the state.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// Its time is before that of the record before.
    #[error("its time is before that of the record before")]
    Time,
    /// It is a bridge over other records than those before it.
    #[error("it is a bridge over records up to {found:?}, and {expected:?} is before it")]
    Bridge {
        /// What it says.
        found: Head,
        /// What it is.
        expected: Option<Head>,
    },
    /// It names another record as the one before about its domain.
    #[error(
        "it names record {found:?} as the one before about its domain, and that is {expected:?}"
    )]
    Previous {
        /// What it says.
        found: Option<Seq>,
        /// What it is.
        expected: Option<Seq>,
    },
}

/// Folds records into a state, in order.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The last record. The view has its digest as well, once it is known.
    pub(crate) seq: Option<Seq>,
    pub(crate) view: View,
    pub(crate) dictionary: Dictionary,
    pub(crate) requests: Requests,
    /// Facts of the records with a request id that is remembered, if they were archived, so that a retry still gets its
    /// answer.
    pub(crate) answers: BTreeMap<Seq, Arc<[u8]>>,
    pub(crate) recorded: i64,
}

impl Ledger {
    pub(crate) fn new(profile: Profile) -> Ledger {
        Ledger {
            seq: None,
            view: View::empty(profile),
            dictionary: Dictionary::default(),
            requests: Requests::default(),
            answers: BTreeMap::new(),
            recorded: i64::MIN,
        }
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Whether both are what the same records make.
    pub(crate) fn agrees_with(&self, other: &Ledger) -> bool {
        let Ledger {
            seq,
            view,
            dictionary,
            requests,
            answers: _,
            recorded,
        } = self;
        *seq == other.seq
            && *view == other.view
            && dictionary.agrees_with(&other.dictionary)
            && *requests == other.requests
            && *recorded == other.recorded
    }

    /// Applies one record of the log, and returns what it says.
    pub(crate) fn replay(&mut self, record: &Record) -> std::result::Result<Entry, ReplayError> {
        let fault = |why: ReplayFault| ReplayError {
            seq: record.seq,
            why,
        };
        let facts = self
            .dictionary
            .decode(record)
            .map_err(|error| fault(error.into()))?;
        if facts.recorded < self.recorded {
            return Err(fault(ReplayFault::Time));
        }
        let expected = facts
            .domain
            .and_then(|domain| self.view.revisions.get(&domain).copied());
        if facts.previous != expected {
            return Err(fault(ReplayFault::Previous {
                found: facts.previous,
                expected,
            }));
        }
        if let Content::Bridge { bridge, .. } = &facts.content
            && Some(bridge.last) != self.view.head
        {
            return Err(fault(ReplayFault::Bridge {
                found: bridge.last,
                expected: self.view.head,
            }));
        }
        let mut removed = Vec::new();
        match &facts.content {
            Content::Genesis { profile, .. } => self.view.state = View::empty(*profile).state,
            Content::Command { events, .. } => {
                if self.seq == Some(Seq::FIRST) {
                    // What was there already is what this record makes.
                    self.view.state = State::new(self.view.state.profile());
                }
                for event in events {
                    if event.change == Change::DomainRemoved {
                        let domain = event.domain;
                        removed.extend(domain.and_then(|uuid| self.view.state.keep_domain(uuid)));
                    }
                    self.view
                        .state
                        .advance(event)
                        .map_err(|error| fault(error.into()))?;
                }
            }
            Content::Bridge { .. } => {}
        }
        let entry = self.settle(record.seq, facts);
        self.view.head = Some(record.head());
        Ok(Entry {
            head: record.head(),
            removed,
            ..entry
        })
    }

    /// Takes note of a record whose events the state already has. Its digest may not be known yet.
    pub(crate) fn settle(&mut self, seq: Seq, facts: Facts) -> Entry {
        self.recorded = facts.recorded;
        self.seq = Some(seq);
        if let Some(domain) = facts.domain {
            self.view.revisions.insert(domain, seq);
        }
        let head = Head {
            seq,
            digest: Digest::ZERO,
        };
        let recorded = facts.recorded;
        let entry = Entry {
            head,
            recorded,
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
        let entry = match facts.content {
            Content::Genesis { writer, .. } => Entry {
                actor: writer.into(),
                ..entry
            },
            Content::Bridge { asked, bridge } => Entry {
                bridge: Some(bridge),
                ..self.told(entry, asked)
            },
            Content::Command { asked, events } => Entry {
                events,
                ..self.told(entry, asked)
            },
        };
        let (settings, answers) = (self.view.state.settings(), &mut self.answers);
        self.requests.forget(settings, recorded, |seq| {
            answers.remove(&seq);
        });
        entry
    }

    /// Tells an entry's provenance, and remembers its request.
    fn told(&mut self, entry: Entry, asked: Asked) -> Entry {
        let Asked {
            actor,
            agent,
            call,
            flags,
            reason,
            request,
            undoes,
        } = asked;
        let request_id = request.map(|key| {
            let request = Request {
                seq: entry.head.seq,
                recorded: entry.recorded,
                digest: key.digest,
            };
            if let Some(before) = self.requests.remember(key.id.clone(), request) {
                self.answers.remove(&before);
            }
            key.id
        });
        Entry {
            actor,
            agent: Some(agent),
            call,
            flags,
            reason,
            request_id,
            undoes,
            ..entry
        }
    }

    /// Returns what happened in an archived record with a request id, if it is one.
    pub(crate) fn first_answer(
        &self,
        seq: Seq,
    ) -> Option<std::result::Result<Vec<Event>, ReplayError>> {
        let facts = self.answers.get(&seq)?;
        // Decoding learns what the domains mean there, and that is not what they mean now.
        let decoded = self.dictionary.clone().events(seq, facts);
        Some(match decoded {
            Ok(events) => Ok(events),
            Err(error) => Err(ReplayError {
                seq,
                why: error.into(),
            }),
        })
    }
}
