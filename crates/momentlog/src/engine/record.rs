//! From decided events to drafts of records.

use momentlog_core::State;
use momentlog_store::{Draft, FRAME_LEN_MAX, LogId, Seq, StoreError};

use super::decide::{Pending, apply};
use super::{Engine, Inner, Outcome};
use crate::environment::Provenance;
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::ledger::View;
use crate::stored::{Content, Facts};
use crate::test_driver;

/// What one call wants written: its records, and the state after them.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) log: LogId,
    pub(super) drafts: Vec<Draft>,
    /// Its head is not known before it is written.
    pub(super) view: View,
}

impl Engine {
    /// Applies and encodes what was decided; the log has none of it yet.
    pub(super) fn record(
        &self,
        inner: &mut Inner,
        pending: Vec<Pending>,
    ) -> Result<(Job, Vec<Outcome>)> {
        let recorded = self.record_all(inner, pending);
        // What it has taught the ledger is in no record.
        inner.stale |= recorded.is_err();
        recorded
    }

    fn record_all(&self, inner: &mut Inner, pending: Vec<Pending>) -> Result<(Job, Vec<Outcome>)> {
        let now = self.options.clock.now();
        let mut contents = Vec::with_capacity(pending.len() + 2);
        let profile = inner.ledger.view.state.profile();
        if inner.ledger.seq.is_none() {
            let mut id = [0; 16];
            self.fill(&mut id)?;
            inner.log = Some(LogId(id));
            let writer = concat!("momentlog ", env!("CARGO_PKG_VERSION")).to_owned();
            contents.push((None, Content::Genesis { profile, writer }));
        }
        if inner.ledger.seq <= Some(Seq::FIRST) {
            // A crash may have come between the first record and this one.
            inner.ledger.view.state = State::new(profile);
            let events = test_driver::built_in(profile);
            if let Some(event) = events.first() {
                let content = Content::Command {
                    actor: "momentlog".into(),
                    reason: None,
                    request: None,
                    events: events.clone(),
                };
                contents.push((Some(event.domain), content));
            }
        }
        let own = contents.len();
        contents.extend(pending.into_iter().map(|pending| {
            let Provenance { actor, reason, .. } = pending.provenance;
            let content = Content::Command {
                actor,
                reason,
                request: pending.request,
                events: pending.events,
            };
            (Some(pending.domain), content)
        }));
        let log = inner.log.expect("a log with a record has an id");
        let mut salts = Salts::new(self);
        let mut drafts = Vec::with_capacity(contents.len());
        let mut settled = Vec::with_capacity(contents.len());
        let mut seq = inner.ledger.seq;
        for (domain, content) in contents {
            let next = Seq::after(seq);
            seq = Some(next);
            let facts = Facts {
                recorded: now.max(inner.ledger.recorded),
                domain,
                previous: domain
                    .and_then(|domain| inner.ledger.view.revisions.get(&domain).copied()),
                content,
            };
            let draft = inner
                .ledger
                .dictionary
                .encode(next, &facts, &mut || salts.next());
            let length = draft.frame_len();
            drafts.push(draft);
            if length > FRAME_LEN_MAX {
                return Err(StoreError::TooLarge { length }.into());
            }
            if let Content::Command { events, .. } = &facts.content {
                apply(&mut inner.ledger.view.state, events)?;
            }
            if let Some(domain) = domain {
                inner.ledger.view.revisions.insert(domain, next);
            }
            settled.push((next, facts));
        }
        salts.check()?;
        let mut outcomes = Vec::with_capacity(settled.len());
        for (index, (seq, facts)) in settled.into_iter().enumerate() {
            let state = inner.ledger.view.state.clone();
            let entry = inner.ledger.settle(seq, facts);
            inner.ledger.view.state = state;
            if index >= own {
                outcomes.push(Outcome {
                    seq,
                    events: entry.events,
                    repeated: false,
                });
            }
        }
        let view = inner.ledger.view.clone();
        Ok((Job { log, drafts, view }, outcomes))
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        self.options.entropy.fill(bytes).map_err(|error| {
            Error::new(
                ErrorCode::SystemError,
                ErrorDomain::Test,
                format!("cannot get random bytes: {error}"),
            )
        })
    }
}

/// Random bytes for the salts of texts, until they cannot be had.
pub(super) struct Salts<'a> {
    engine: &'a Engine,
    failed: Option<Error>,
}

impl<'a> Salts<'a> {
    pub(super) fn new(engine: &'a Engine) -> Salts<'a> {
        Salts {
            engine,
            failed: None,
        }
    }

    pub(super) fn next(&mut self) -> [u8; 32] {
        let mut salt = [0; 32];
        if let Err(error) = self.engine.fill(&mut salt) {
            self.failed = Some(error);
        }
        salt
    }

    pub(super) fn check(self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}
