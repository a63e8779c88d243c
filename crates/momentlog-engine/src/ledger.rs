//! Folding records into a state, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use momentlog_core::{Change, DomainUuid, Event, Misfit, Profile, State};
use momentlog_store::{Digest, Head, Record, Seq};

use crate::codec::{Content, DecodeError, Dictionary, Facts};
use crate::entry::Entry;
use crate::requests::{Remembered, Requests};
use crate::view::View;
use crate::watch::{See, Seen};

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
        let facts = self.decode(record)?;
        self.apply(record, facts, &mut |_, _| {})
    }

    /// Reads the facts of the next record.
    pub(crate) fn decode(&mut self, record: &Record) -> Result<Facts, ReplayError> {
        self.dictionary.decode(record).map_err(|error| ReplayError {
            seq: record.seq,
            why: error.into(),
        })
    }

    /// Applies one record whose facts were read, lets `see` the state around each event, and returns what the record says.
    pub(crate) fn apply(
        &mut self,
        record: &Record,
        facts: Facts,
        see: See<'_>,
    ) -> Result<Entry, ReplayError> {
        let fault = |why: ReplayFault| ReplayError {
            seq: record.seq,
            why,
        };
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
        see(Seen::Begin(facts.domain), &self.view.state);
        match &facts.content {
            Content::Genesis { profile, .. } => self.begin(View::empty(*profile).state),
            Content::Command { events, .. } => {
                self.begin_with_second();
                for event in events {
                    if event.change == Change::DomainRemoved {
                        let domain = event.domain;
                        removed.extend(domain.and_then(|uuid| self.view.state.keep_domain(uuid)));
                    }
                    let state = &mut self.view.state;
                    see(Seen::Before(event), state);
                    state.advance(event).map_err(|error| fault(error.into()))?;
                    see(Seen::After(event), state);
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

    /// Begins with what is there before the first command: all of it, or what a ledger of some domains has of it.
    fn begin(&mut self, state: State) {
        self.view.state = match self.view.state.only_domains() {
            Some(domains) => state.only(domains),
            None => state,
        };
    }

    /// Begins with nothing, if the next record is the second one: what was there already is what that record makes.
    fn begin_with_second(&mut self) {
        if self.seq == Some(Seq::FIRST) {
            self.begin(State::new(self.view.state.profile()));
        }
    }

    /// Returns what this ledger has of some domains: it replays their records alone, and [passes](Self::pass) others.
    pub(crate) fn only(self, domains: &[DomainUuid]) -> Ledger {
        let revision = |domain: &DomainUuid| Some((*domain, *self.view.revisions.get(domain)?));
        let view = View {
            head: self.view.head,
            state: self.view.state.only(domains),
            revisions: domains.iter().filter_map(revision).collect(),
        };
        Ledger {
            view,
            requests: Requests::default(),
            answers: im::OrdMap::new(),
            ..self
        }
    }

    /// Moves past records of other domains, up to `last`, with as many events as that.
    pub(crate) fn pass(&mut self, last: Seq, events: u32) {
        self.begin_with_second();
        self.view.state.pass(events);
        self.seq = Some(last);
    }

    /// Takes note of a record whose events the state already has. Its digest may not be known yet.
    pub(crate) fn settle(&mut self, seq: Seq, facts: Facts) -> Entry {
        self.recorded = facts.recorded;
        self.seq = Some(seq);
        if let Some(domain) = facts.domain {
            self.view.revisions.insert(domain, seq);
        }
        if self.view.state.only_domains().is_none() {
            self.note_requests(seq, &facts);
        }
        let head = Head {
            seq,
            digest: Digest::ZERO,
        };
        Entry::of(head, facts)
    }

    /// Takes note of the request of a record, and of those that its jobs settle; forgets those that are too old.
    fn note_requests(&mut self, seq: Seq, facts: &Facts) {
        let recorded = facts.recorded;
        if let Content::Command { asked, events } = &facts.content {
            let id = asked.request.as_ref().map(|key| &key.id);
            if let Some(key) = &asked.request {
                let request = Remembered {
                    seq,
                    recorded,
                    digest: key.digest,
                };
                if let Some(before) = self.requests.remember(key.id.clone(), request) {
                    self.answers.remove(&before);
                }
            }
            self.note_jobs(id, events);
        }
        let (settings, answers) = (self.view.state.settings(), &mut self.answers);
        self.requests.forget(settings, recorded, |seq| {
            answers.remove(&seq);
        });
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
