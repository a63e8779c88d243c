//! From decided events to drafts of records.

use momentlog_core::State;
use momentlog_store::{Draft, FRAME_LEN_MAX, LogId, Seq, StoreError, Ticket};

use super::decide::{Pending, apply};
use super::{Engine, Inner, Outcome};
use crate::call::Call;
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::ledger::{Ledger, View};
use crate::stored::{Asked, Content, Facts};
use crate::test_driver;

/// What one call wants written: its records, and the state after them.
#[derive(Debug)]
pub(super) struct Job {
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
}

impl Engine {
    /// Applies what was decided and hands it in; the log has none of it yet. `None` if a write has failed meanwhile.
    pub(super) fn record(
        &self,
        inner: &mut Inner,
        pending: Vec<Pending>,
    ) -> Result<Option<Recorded>> {
        let encoded = self.encode(inner, pending);
        // What it has taught the ledger is in no record.
        inner.stale |= encoded.is_err();
        let Encoded {
            log,
            drafts,
            facts,
            before,
        } = encoded?;
        let mut applied = Ok(Vec::new());
        let mut count = 0;
        let pushed = self.queue.push_with(inner.generation, |waiting| {
            count = waiting.len() + 1;
            // Nobody needs the state before this one any more, so that it is changed in place.
            if let Some(last) = waiting.last_mut() {
                last.view = None;
            }
            applied = apply_all(&mut inner.ledger, facts);
            let fits = applied.is_ok();
            Job {
                log,
                drafts: if fits { drafts } else { Vec::new() },
                view: fits.then(|| inner.ledger.view.clone()),
            }
        });
        inner.stale |= applied.is_err();
        let Ok(ticket) = pushed else {
            return Ok(None);
        };
        Ok(Some(Recorded {
            ticket,
            outcomes: applied?.split_off(before),
            waiting: count,
        }))
    }

    fn encode(&self, inner: &mut Inner, pending: Vec<Pending>) -> Result<Encoded> {
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
        contents.extend(pending.into_iter().map(|pending| {
            let content = Content::Command {
                asked: pending.asked,
                events: pending.events,
            };
            (pending.domain, content)
        }));
        let log = inner.log.expect("a log with a record has an id");
        let mut salts = Salts::new(self);
        let mut drafts = Vec::with_capacity(contents.len());
        let mut encoded = Vec::with_capacity(contents.len());
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
            if let Some(domain) = domain {
                inner.ledger.view.revisions.insert(domain, next);
            }
            encoded.push((next, facts));
        }
        salts.check()?;
        Ok(Encoded {
            log,
            drafts,
            facts: encoded,
            before,
        })
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

/// Applies records that are encoded, and says what they did.
fn apply_all(ledger: &mut Ledger, facts: Vec<(Seq, Facts)>) -> Result<Vec<Outcome>> {
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
