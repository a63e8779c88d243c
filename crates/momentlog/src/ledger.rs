//! Folding records into a state, in order.

use std::collections::HashMap;
use std::sync::Arc;

use momentlog_core::{Domain as DomainState, DomainUuid, Event, Misfit, Profile, Refusal, State};
use momentlog_store::{Head, Record, Seq};

use crate::environment::Revision;
use crate::stored::{Content, DecodeError, Dictionary, Facts};
use crate::test_driver;

/// The state at one point of the log. It never changes, so a reader keeps it for as long as it likes.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) head: Option<Head>,
    pub(crate) state: State,
    pub(crate) revisions: im::OrdMap<DomainUuid, Seq>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands, and its digest.
    pub head: Head,
    /// Microseconds since 1970; never less than the entry's before.
    pub recorded: i64,
    /// The domain that it is about; none for the first entry of a log.
    pub domain: Option<DomainUuid>,
    /// The entry before that is about the same domain.
    pub previous: Option<Seq>,
    /// Who asked.
    pub actor: Arc<str>,
    /// Why.
    pub reason: Option<Arc<str>>,
    /// The request's key.
    pub request_id: Option<Arc<str>>,
    /// What happened; nothing in the first entry.
    pub events: Vec<Event>,
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
    pub(crate) view: View,
    pub(crate) dictionary: Dictionary,
    pub(crate) requests: HashMap<Arc<str>, (Seq, [u8; 32])>,
    pub(crate) recorded: i64,
}

impl Ledger {
    pub(crate) fn new(profile: Profile) -> Ledger {
        Ledger {
            view: View::empty(profile),
            dictionary: Dictionary::default(),
            requests: HashMap::new(),
            recorded: i64::MIN,
        }
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
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
        if let Content::Command { events, .. } = &facts.content {
            for event in events {
                self.view
                    .state
                    .advance(event)
                    .map_err(|error| fault(error.into()))?;
            }
        }
        Ok(self.settle(record.head(), facts))
    }

    /// Takes note of a record whose events the state already has.
    pub(crate) fn settle(&mut self, head: Head, facts: Facts) -> Entry {
        self.recorded = facts.recorded;
        self.view.head = Some(head);
        if let Some(domain) = facts.domain {
            self.view.revisions.insert(domain, head.seq);
        }
        let Facts {
            recorded,
            domain,
            previous,
            content,
        } = facts;
        match content {
            Content::Genesis { profile, writer } => {
                self.view.state = State::new(profile);
                let actor = writer.into();
                Entry {
                    head,
                    recorded,
                    domain,
                    previous,
                    actor,
                    reason: None,
                    request_id: None,
                    events: Vec::new(),
                }
            }
            Content::Command {
                actor,
                reason,
                request,
                events,
            } => {
                let request_id = request.as_ref().map(|key| key.id.clone());
                if let Some(key) = request {
                    self.requests.insert(key.id, (head.seq, key.digest));
                }
                Entry {
                    head,
                    recorded,
                    domain,
                    previous,
                    actor,
                    reason,
                    request_id,
                    events,
                }
            }
        }
    }
}
