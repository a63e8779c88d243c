//! Folding records into a state, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use momentlog_core::{Change, Event, Misfit, Profile, State};
use momentlog_store::{Digest, Head, Record, Seq};

use crate::call::Call;
use crate::codec::{Asked, Content, DecodeError, Dictionary, Facts};
use crate::entry::Entry;
use crate::requests::{Remembered, Requests};
use crate::view::View;

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
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// The last record. The view has its digest as well, once it is known.
    pub(crate) seq: Option<Seq>,
    pub(crate) view: View,
    pub(crate) dictionary: Dictionary,
    pub(crate) requests: Requests,
    /// Facts of the records with a request id that is remembered, if they were archived, so that a retry still gets its
    /// answer.
    pub(crate) answers: im::OrdMap<Seq, Arc<[u8]>>,
    pub(crate) recorded: i64,
}

impl Ledger {
    pub(crate) fn new(profile: Profile) -> Ledger {
        Ledger {
            seq: None,
            view: View::empty(profile),
            dictionary: Dictionary::default(),
            requests: Requests::default(),
            answers: im::OrdMap::new(),
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

    /// Whether an image has every answer that this ledger knows from the same records, and no other than in `facts`: what
    /// records with a request id that is remembered hold.
    pub(crate) fn answers_agree(&self, image: &Ledger, facts: &BTreeMap<Seq, Arc<[u8]>>) -> bool {
        let knows = |seq: &Seq, answer: &Arc<[u8]>| {
            self.answers.get(seq).or_else(|| facts.get(seq)) == Some(answer)
        };
        let mut found = image.answers.iter();
        let mut needed = self.answers.keys();
        found.all(|(seq, answer)| knows(seq, answer))
            && needed.all(|seq| image.answers.contains_key(seq))
    }

    /// Applies one record of the log, and returns what it says.
    pub(crate) fn replay(&mut self, record: &Record) -> Result<Entry, ReplayError> {
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
            Content::Command { asked, events } => {
                let entry = self.told(entry, asked);
                self.note_jobs(entry.request_id.as_ref(), &events);
                Entry { events, ..entry }
            }
        };
        let (settings, answers) = (self.view.state.settings(), &mut self.answers);
        self.requests.forget(settings, recorded, |seq| {
            answers.remove(&seq);
        });
        entry
    }

    /// Takes note of which request began which job, and lets go of the id of one that failed.
    fn note_jobs(&mut self, request_id: Option<&Arc<str>>, events: &[Event]) {
        for event in events {
            let settled = match &event.change {
                Change::JobBegun { id, .. } => {
                    if let Some(request) = request_id {
                        self.requests.begin(*id, request.clone());
                    }
                    continue;
                }
                Change::JobEnded(outcome) => self.requests.settle(outcome.job, false),
                Change::JobFailed(outcome) => self.requests.settle(outcome.job, true),
                _ => continue,
            };
            if let Some(freed) = settled {
                self.answers.remove(&freed);
            }
        }
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
            let request = Remembered {
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
    pub(crate) fn first_answer(&self, seq: Seq) -> Option<Result<Vec<Event>, ReplayError>> {
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
