//! From decided events to drafts of records.

use std::sync::Arc;

use momentlog_core::State;
use momentlog_store::{Draft, FRAME_LEN_MAX, LogId, Seq, StoreError};

use super::admission::{Accepted, apply};
use super::{Decider, Log, Outcome, Pending};
use crate::call::Call;
use crate::codec::{Asked, Content, Facts};
use crate::commit_queue::Ticket;
use crate::error::EngineError;
use crate::ledger::Ledger;
use crate::view::View;

/// What one call wants written: its records, and the state after them.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) log: LogId,
    pub(super) drafts: Vec<Draft>,
    /// Its head is not known before it is written. Only the last job of a group has it; none if that could not be applied,
    /// which nothing but a bug of ours brings about.
    pub(super) view: Option<View>,
}

/// What was handed in.
pub(super) struct Recorded {
    pub(super) ticket: Ticket<StoreError>,
    pub(super) outcomes: Vec<Outcome>,
    /// How many calls wait to be written, this one included.
    pub(super) waiting: usize,
}

/// Records that are encoded, and not yet applied.
pub(super) struct Encoded {
    log: LogId,
    drafts: Vec<Draft>,
    facts: Vec<(Seq, Facts)>,
    /// How many of them come before what was asked for.
    before: usize,
    /// The length of their frames.
    bytes: usize,
}

impl Log {
    /// Applies what was decided and hands it in; the log has none of it yet. `None` if a write has failed meanwhile.
    pub(super) fn record(
        &self,
        decider: &mut Decider,
        accepted: Vec<Accepted>,
    ) -> Result<Option<Recorded>, EngineError> {
        let encoded = self.encode(decider, accepted);
        // What it has taught the ledger is in no record.
        decider.stale |= encoded.is_err();
        let Encoded {
            log,
            drafts,
            facts,
            before,
            bytes,
        } = encoded?;
        let mut applied = Ok(Vec::new());
        let mut count = 0;
        let pushed = self.queue.push_with(decider.generation, |waiting| {
            count = waiting.len() + 1;
            // The state before this one is not needed any more, so that it is changed in place.
            if let Some(last) = waiting.last_mut() {
                last.view = None;
            }
            applied = apply_all(&mut decider.ledger, facts);
            let fits = applied.is_ok();
            Append {
                log,
                drafts: if fits { drafts } else { Vec::new() },
                view: fits.then(|| decider.ledger.view.clone()),
            }
        });
        decider.stale |= applied.is_err();
        let Ok(ticket) = pushed else {
            return Ok(None);
        };
        if let Some(in_turn) = &mut decider.turn {
            *in_turn = in_turn.saturating_add(bytes);
        }
        Ok(Some(Recorded {
            ticket,
            outcomes: applied?.split_off(before),
            waiting: count,
        }))
    }

    fn encode(
        &self,
        decider: &mut Decider,
        accepted: Vec<Accepted>,
    ) -> Result<Encoded, EngineError> {
        let now = self.options.clock.now();
        let mut contents = Vec::with_capacity(accepted.len() + 2);
        let profile = decider.ledger.view.state.profile();
        if decider.ledger.seq.is_none() {
            let mut id = [0; 16];
            self.fill(&mut id)?;
            decider.log = Some(LogId(id));
            let writer = concat!("momentlog ", env!("CARGO_PKG_VERSION")).to_owned();
            contents.push((None, Content::Genesis { profile, writer }));
        }
        if decider.ledger.seq <= Some(Seq::FIRST) {
            // A crash may have come between the first record and this one.
            decider.ledger.view.state = State::new(profile);
            let events = profile.built_in();
            if let Some(event) = events.first() {
                let content = Content::Command {
                    asked: Asked {
                        actor: "momentlog".into(),
                        agent: self.options.provenance.agent.clone(),
                        call: Call::BUILT_IN,
                        flags: 0,
                        reason: None,
                        request: None,
                        undoes: None,
                    },
                    events: events.clone(),
                };
                contents.push((event.domain, content));
            }
        }
        let before = contents.len();
        contents.extend(accepted.into_iter().map(|accepted| {
            let content = Content::Command {
                asked: accepted.asked,
                events: accepted.events,
            };
            (accepted.domain, content)
        }));
        let log = decider.log.expect("a log with a record has an id");
        let mut salts = Salts::new(self);
        let mut drafts = Vec::with_capacity(contents.len());
        let mut encoded = Vec::with_capacity(contents.len());
        let mut seq = decider.ledger.seq;
        let mut bytes = 0;
        for (domain, content) in contents {
            let next = Seq::after(seq);
            seq = Some(next);
            let facts = Facts {
                recorded: now.max(decider.ledger.recorded),
                domain,
                previous: domain
                    .and_then(|domain| decider.ledger.view.revisions.get(&domain).copied()),
                content,
            };
            let draft = decider
                .ledger
                .dictionary
                .encode(next, &facts, &mut || salts.next());
            let length = draft.frame_len();
            bytes += length;
            drafts.push(draft);
            if length > FRAME_LEN_MAX {
                return Err(StoreError::TooLarge { length }.into());
            }
            if let Some(domain) = domain {
                decider.ledger.view.revisions.insert(domain, next);
            }
            encoded.push((next, facts));
        }
        salts.check()?;
        Ok(Encoded {
            log,
            drafts,
            facts: encoded,
            before,
            bytes,
        })
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), EngineError> {
        let filled = self.options.entropy.fill(bytes);
        filled.map_err(|source| EngineError::System {
            doing: "get random bytes",
            source: Arc::new(source),
        })
    }

    /// Waits until a submitted request is durable.
    pub(super) fn commit<E>(&self, pending: &Pending<E>) -> Result<(), EngineError> {
        let Some(ticket) = &pending.ticket else {
            return Ok(());
        };
        Ok(self
            .queue
            .wait(ticket, &mut |appends| self.write(appends))?)
    }

    /// Waits until everything that was submitted is durable.
    pub(super) fn commit_all(&self) -> Result<(), Arc<StoreError>> {
        match self.queue.last() {
            Some(ticket) => self.queue.wait(&ticket, &mut |appends| self.write(appends)),
            None => Ok(()),
        }
    }

    /// Waits until everything decided so far is durable, so that the ledger is that of the log.
    pub(super) fn drain(&self, decider: &mut Decider) -> Result<(), EngineError> {
        self.commit_all()?;
        if decider.generation != self.queue.generation() {
            return Err(EngineError::EarlierWrite);
        }
        decider.ledger.view.head = self.view().head;
        Ok(())
    }

    /// Appends what a group of threads has submitted, under one sync, and publishes the state after it.
    fn write(&self, appends: Vec<Append>) -> Result<(), StoreError> {
        let mut drafts = Vec::with_capacity(appends.len());
        let mut last = None;
        for append in appends {
            drafts.extend(append.drafts);
            last = Some((append.log, append.view));
        }
        let Some((log, view)) = last else {
            return Ok(());
        };
        let records = {
            // What it was decided on: the store may have seen more since, where others write as well.
            let expected = self.view().head;
            self.store().append(log, expected, drafts)?
        };
        match view {
            Some(mut view) => {
                view.head = records.last().map(momentlog_store::Record::head);
                self.published.publish(view);
            }
            // The ledger is replayed from the log before the next decision.
            None => self.share(),
        }
        Ok(())
    }
}

/// Applies records that are encoded, and says what they did.
fn apply_all(ledger: &mut Ledger, facts: Vec<(Seq, Facts)>) -> Result<Vec<Outcome>, EngineError> {
    let mut outcomes = Vec::with_capacity(facts.len());
    for (seq, facts) in facts {
        if let Content::Command { events, .. } = &facts.content {
            apply(&mut ledger.view.state, events)?;
        }
        outcomes.push(Outcome {
            seq,
            events: ledger.settle(seq, facts).events,
            repeated: false,
        });
    }
    Ok(outcomes)
}

/// Random bytes for the salts of texts, until they cannot be had.
pub(super) struct Salts<'a> {
    log: &'a Log,
    failed: Option<EngineError>,
}

impl<'a> Salts<'a> {
    pub(super) fn new(log: &'a Log) -> Salts<'a> {
        Salts { log, failed: None }
    }

    pub(super) fn next(&mut self) -> [u8; 32] {
        let mut salt = [0; 32];
        if let Err(error) = self.log.fill(&mut salt) {
            self.failed = Some(error);
        }
        salt
    }

    pub(super) fn check(self) -> Result<(), EngineError> {
        self.failed.map_or(Ok(()), Err)
    }
}
