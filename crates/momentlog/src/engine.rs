//! Where it all meets: the store, the state, and the order of a write.
//!
//! decide → apply (privately) → encode → append (durable) → publish. A record that cannot be applied is never written,
//! and an answer, a refusal included, is never given on a state that is not durable.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use momentlog_core::{Change, DomainUuid, Event, State};
use momentlog_store::{LogId, Seq, Store, StoreError};

use crate::environment::{ACTOR_LEN_MAX, Options, Provenance, Revision};
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::ledger::{Entry, Ledger, ReplayError, View};
use crate::stored::{Content, Facts, REQUEST_ID_LEN_MAX, RequestKey};
use crate::test_driver;

/// The answer to an accepted command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The record.
    pub seq: Seq,
    /// What happened.
    pub events: Vec<Event>,
    /// Whether this is the first answer to the same request, which was asked before.
    pub repeated: bool,
}

/// One accepted command on its way into the log.
struct Pending {
    domain: DomainUuid,
    provenance: Provenance,
    request: Option<RequestKey>,
    events: Vec<Event>,
}

/// A command about one domain, as the layer above wants it decided.
pub(crate) struct Ask<'a> {
    pub(crate) domain: DomainUuid,
    pub(crate) provenance: &'a Provenance,
    /// Digest of what was asked, for a request id.
    pub(crate) digest: [u8; 32],
}

/// The one writer and all readers of a store in this process.
#[derive(Debug)]
pub(crate) struct Engine {
    inner: Mutex<Inner>,
    view: RwLock<Arc<View>>,
    news: Condvar,
    pub(crate) options: Options,
}

#[derive(Debug)]
struct Inner {
    store: Box<dyn Store>,
    ledger: Ledger,
    /// Set while the ledger may hold what the log does not; it is replayed anew then.
    stale: bool,
    /// What ends the log before its time, if it is damaged.
    damage: Option<Arc<str>>,
}

impl Engine {
    pub(crate) fn new(store: Box<dyn Store>, options: Options) -> Engine {
        let ledger = Ledger::new(options.profile);
        let view = RwLock::new(Arc::new(ledger.view.clone()));
        Engine {
            inner: Mutex::new(Inner {
                store,
                ledger,
                stale: false,
                damage: None,
            }),
            view,
            news: Condvar::new(),
            options,
        }
    }

    /// Returns the newest view that this process knows, without looking at the store.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads what others have appended, and returns the view after that.
    pub(crate) fn refresh(&self) -> Result<Arc<View>> {
        let mut inner = self.lock();
        inner.catch_up()?;
        Ok(self.publish(&inner))
    }

    /// What ends the log before its time, as of the last look at it.
    pub(crate) fn damage(&self) -> Option<Arc<str>> {
        self.lock().damage.clone()
    }

    /// Lets other processes write, until the next change here.
    pub(crate) fn release(&self) {
        self.lock().store.end();
    }

    /// Waits until the log has a record after `seen`, or `wait` is over; returns the newest view.
    pub(crate) fn wait(&self, seen: Option<Seq>, wait: Duration) -> Result<Arc<View>> {
        /// How often a log that another process writes is looked at.
        const LOOK: Duration = Duration::from_millis(20);
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        // A wait that no clock can hold ends after a day, and the caller asks again.
        let now = std::time::Instant::now();
        let end = now.checked_add(wait).unwrap_or(now + DAY);
        let mut inner = self.lock();
        loop {
            match inner.catch_up() {
                Err(error) if is_missing(&error) => {}
                caught_up => caught_up?,
            }
            let left = end.saturating_duration_since(std::time::Instant::now());
            if inner.ledger.view.head.map(|head| head.seq) > seen || left.is_zero() {
                return Ok(self.publish(&inner));
            }
            inner = self
                .news
                .wait_timeout(inner, left.min(LOOK))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Calls `each` with the decoded entries after `after`, up to the durable end.
    ///
    /// Texts and domains may be told in any record before, so the log is read from its start.
    pub(crate) fn entries(
        &self,
        after: Option<Seq>,
        each: &mut dyn FnMut(Entry, &View),
    ) -> Result<()> {
        let mut ledger = Ledger::new(self.options.profile);
        let mut fault = None;
        let read = self.lock().store.read(None, &mut |record| {
            if fault.is_none() {
                match ledger.replay(&record) {
                    Ok(entry) if Some(entry.head.seq) > after => each(entry, &ledger.view),
                    Ok(_) => {}
                    Err(error) => fault = Some(error),
                }
            }
            Ok(())
        });
        match fault {
            Some(error) => Err(unreadable(&error)),
            None => Ok(read?),
        }
    }

    /// The log's id, once there is a record.
    pub(crate) fn log_id(&self) -> Option<LogId> {
        self.lock().store.log_id()
    }

    /// Decides, applies, records and publishes one command.
    pub(crate) fn execute(
        &self,
        ask: &Ask<'_>,
        decide: &mut dyn FnMut(&View) -> Result<Vec<Event>>,
    ) -> Result<Outcome> {
        vet(ask.provenance)?;
        let mut inner = self.lock();
        if !inner.store.is_writer() {
            // A refusal needs neither the lock nor a store; only what is accepted is decided again as the writer.
            match inner.catch_up() {
                Err(error) if is_missing(&error) => {}
                caught_up => caught_up?,
            }
            match self.decide(&mut inner, ask, decide)? {
                Decided::Repeated(outcome) => return Ok(outcome),
                Decided::Accepted(_) => inner.store.begin(self.options.lock_wait)?,
            }
        }
        inner.catch_up()?;
        let pending = match self.decide(&mut inner, ask, decide)? {
            Decided::Repeated(outcome) => return Ok(outcome),
            Decided::Accepted(pending) => pending,
        };
        let seqs = self.record(&mut inner, vec![pending])?;
        self.publish(&inner);
        let (seq, events) = seqs
            .into_iter()
            .next()
            .expect("one command gives one record");
        Ok(Outcome {
            seq,
            events,
            repeated: false,
        })
    }

    /// As [`execute`](Self::execute), for many commands under one sync: all of them, or none.
    ///
    /// Each of `decide` sees the state that those before have made.
    pub(crate) fn execute_all(
        &self,
        provenance: &Provenance,
        commands: &[(DomainUuid, [u8; 32])],
        decide: &mut dyn FnMut(&View, usize) -> Result<Vec<Event>>,
    ) -> Result<Vec<Outcome>> {
        vet(provenance)?;
        if provenance.request_id.is_some() && commands.len() > 1 {
            let message = "a request id stands for one command, not for a batch".to_owned();
            return Err(Error::argument(ErrorDomain::Domain, message));
        }
        let mut inner = self.lock();
        if !inner.store.is_writer() {
            // As for one command: a refusal needs neither the lock nor a store.
            match inner.catch_up() {
                Err(error) if is_missing(&error) => {}
                caught_up => caught_up?,
            }
            self.decide_all(&mut inner, provenance, commands, decide)?;
            inner.store.begin(self.options.lock_wait)?;
        }
        inner.catch_up()?;
        let pending = self.decide_all(&mut inner, provenance, commands, decide)?;
        let seqs = self.record(&mut inner, pending)?;
        self.publish(&inner);
        let outcome = |(seq, events)| Outcome {
            seq,
            events,
            repeated: false,
        };
        Ok(seqs.into_iter().map(outcome).collect())
    }

    /// Decides a batch on the state that it makes as it goes; the ledger is as before after that.
    fn decide_all(
        &self,
        inner: &mut Inner,
        provenance: &Provenance,
        commands: &[(DomainUuid, [u8; 32])],
        decide: &mut dyn FnMut(&View, usize) -> Result<Vec<Event>>,
    ) -> Result<Vec<Pending>> {
        let before = inner.ledger.view.clone();
        let mut pending = Vec::with_capacity(commands.len());
        let mut decided = Ok(());
        for (index, (domain, digest)) in commands.iter().enumerate() {
            let ask = Ask {
                domain: *domain,
                provenance,
                digest: *digest,
            };
            decided = match self.decide(inner, &ask, &mut |view| decide(view, index)) {
                Ok(Decided::Accepted(accepted)) => {
                    let applied = apply(&mut inner.ledger.view.state, &accepted.events);
                    pending.push(accepted);
                    applied
                }
                Ok(Decided::Repeated(_)) => {
                    let message = "the request was recorded before".to_owned();
                    Err(Error::argument(ErrorDomain::Domain, message))
                }
                Err(error) => Err(error),
            };
            if decided.is_err() {
                break;
            }
        }
        inner.ledger.view = before;
        decided.map(|()| pending)
    }

    /// Checks request id and expected revision, then decides.
    fn decide(
        &self,
        inner: &mut Inner,
        ask: &Ask<'_>,
        decide: &mut dyn FnMut(&View) -> Result<Vec<Event>>,
    ) -> Result<Decided> {
        let provenance = ask.provenance;
        let request = provenance.request_id.clone().map(|id| RequestKey {
            id,
            digest: ask.digest,
        });
        if let Some(key) = &request
            && let Some((seq, digest)) = inner.ledger.requests.get(&key.id).copied()
        {
            if digest != key.digest {
                let detail = format!(
                    "request id '{}' was used for another command, in record {seq}",
                    key.id
                );
                return Err(Error::new(ErrorCode::InvalidArg, ErrorDomain::Test, detail));
            }
            return Ok(Decided::Repeated(self.first_answer(inner, seq)?));
        }
        if let Some(expected) = provenance.expected_revision {
            let found = inner.ledger.view.revision(ask.domain);
            if found != expected {
                let text = |revision| match revision {
                    Revision::None => "none".to_owned(),
                    Revision::At(seq) => seq.to_string(),
                };
                let detail = format!(
                    "the domain has revision {}, not {}",
                    text(found),
                    text(expected)
                );
                return Err(Error::new(
                    ErrorCode::OperationAborted,
                    ErrorDomain::Test,
                    detail,
                ));
            }
        }
        let events = decide(&inner.ledger.view)?;
        Ok(Decided::Accepted(Pending {
            domain: ask.domain,
            provenance: provenance.clone(),
            request,
            events,
        }))
    }

    /// Returns the answer that the request got when it was recorded.
    fn first_answer(&self, inner: &mut Inner, seq: Seq) -> Result<Outcome> {
        let mut ledger = Ledger::new(self.options.profile);
        let mut found = None;
        inner.store.read(None, &mut |record| {
            if found.is_none()
                && let Ok(entry) = ledger.replay(&record)
                && entry.head.seq == seq
            {
                found = Some(entry.events);
            }
            Ok(())
        })?;
        let events = found.expect("a request that the ledger knows is in the log");
        Ok(Outcome {
            seq,
            events,
            repeated: true,
        })
    }

    /// Applies, encodes and appends; publishes nothing.
    fn record(&self, inner: &mut Inner, pending: Vec<Pending>) -> Result<Vec<(Seq, Vec<Event>)>> {
        let now = self.options.clock.now();
        let mut log = inner.store.log_id();
        let mut facts = Vec::with_capacity(pending.len() + 2);
        let profile = inner.ledger.view.state.profile();
        if inner.ledger.view.head.is_none() {
            let mut id = [0; 16];
            self.fill(&mut id)?;
            log = Some(LogId(id));
            let writer = concat!("momentlog ", env!("CARGO_PKG_VERSION")).to_owned();
            facts.push((None, Content::Genesis { profile, writer }));
            inner.stale = true;
            inner.ledger.view.state = State::new(profile);
            let events = test_driver::built_in(profile);
            if let Some(event) = events.first() {
                let content = Content::Command {
                    actor: "momentlog".into(),
                    reason: None,
                    request: None,
                    events: events.clone(),
                };
                facts.push((Some(event.domain), content));
            }
        }
        let own = facts.len();
        facts.extend(pending.into_iter().map(
            |Pending {
                 domain,
                 provenance,
                 request,
                 events,
             }| {
                let Provenance { actor, reason, .. } = provenance;
                (
                    Some(domain),
                    Content::Command {
                        actor,
                        reason,
                        request,
                        events,
                    },
                )
            },
        ));
        let log = log.expect("a log with a record has an id");
        let expected = inner.ledger.view.head;
        inner.stale = true;
        let mut seq = expected.map(|head| head.seq);
        let mut settled = Vec::with_capacity(facts.len());
        let mut drafts = Vec::with_capacity(facts.len());
        let mut entropy_failed = None;
        for (domain, content) in facts {
            let next = Seq::after(seq);
            seq = Some(next);
            let recorded = now.max(inner.ledger.recorded);
            let previous =
                domain.and_then(|domain| inner.ledger.view.revisions.get(&domain).copied());
            let facts = Facts {
                recorded,
                domain,
                previous,
                content,
            };
            let draft = inner.ledger.dictionary.encode(next, &facts, &mut || {
                let mut salt = [0; 32];
                if let Err(error) = self.fill(&mut salt) {
                    entropy_failed = Some(error);
                }
                salt
            });
            if let Content::Command { events, .. } = &facts.content {
                apply(&mut inner.ledger.view.state, events)?;
            }
            if let Some(domain) = domain {
                inner.ledger.view.revisions.insert(domain, next);
            }
            drafts.push(draft);
            settled.push(facts);
        }
        if let Some(error) = entropy_failed {
            return Err(error);
        }
        let records = inner.store.append(log, expected, drafts)?;
        let mut answers = Vec::with_capacity(records.len());
        for (record, facts) in records.iter().zip(settled) {
            let state = inner.ledger.view.state.clone();
            let entry = inner.ledger.settle(record.head(), facts);
            inner.ledger.view.state = state;
            answers.push((record.seq, entry.events));
        }
        inner.stale = false;
        Ok(answers.split_off(own))
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

    fn publish(&self, inner: &Inner) -> Arc<View> {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        if view.head != inner.ledger.view.head {
            *view = Arc::new(inner.ledger.view.clone());
            self.news.notify_all();
        }
        view.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(|poisoned| {
            // A panic of ours may have left the ledger half changed.
            let mut inner = poisoned.into_inner();
            inner.stale = true;
            inner
        });
        if inner.stale {
            inner.ledger = Ledger::new(self.options.profile);
            inner.stale = false;
        }
        inner
    }
}

enum Decided {
    Accepted(Pending),
    Repeated(Outcome),
}

impl Inner {
    /// Reads what was appended since the last time.
    fn catch_up(&mut self) -> Result<()> {
        if self.store.is_writer() && self.store.head() == self.ledger.view.head {
            return Ok(());
        }
        let mut fault = None;
        let Inner {
            store,
            ledger,
            stale,
            damage,
        } = self;
        let read = store.read(ledger.view.head, &mut |record| {
            if fault.is_none() {
                fault = ledger.replay(&record).err();
            }
            Ok(())
        });
        if let Some(error) = fault {
            *stale = true;
            return Err(unreadable(&error));
        }
        // What comes before the damage can be read; a writer is refused when it begins.
        *damage = match &read {
            Err(error @ StoreError::Damaged { .. }) => Some(error.to_string().into()),
            _ => None,
        };
        match read {
            Err(StoreError::Damaged { .. }) if ledger.view.head.is_some() => Ok(()),
            read => Ok(read?),
        }
    }
}

/// Applies decided events: that they do not fit would be our own bug, and nothing was written.
fn apply(state: &mut State, events: &[Event]) -> Result<()> {
    for event in events {
        state.advance(event).map_err(|misfit| {
            Error::new(
                ErrorCode::InternalError,
                ErrorDomain::Test,
                format!("a decided event does not fit: {misfit}"),
            )
        })?;
    }
    debug_assert_eq!(
        events
            .iter()
            .find_map(|event| check_around(state, event).err()),
        None
    );
    Ok(())
}

/// Checks the rules around what an event changed.
fn check_around(state: &State, event: &Event) -> std::result::Result<(), momentlog_core::Broken> {
    use momentlog_core::MomentChange::{Created, CurrentSet, Deleted, Redefined, Reparented};
    let Some(domain) = state.domain(event.domain) else {
        return Ok(());
    };
    match &event.change {
        Change::Snapshot(
            Created { id, .. } | Redefined { id, .. } | Deleted { id, .. } | Reparented { id, .. },
        )
        | Change::Reverted { id, .. } => domain.snapshots().check_around(*id),
        Change::Checkpoint(
            Created { id, .. } | Redefined { id, .. } | Deleted { id, .. } | Reparented { id, .. },
        ) => domain.checkpoints().check_around(*id),
        Change::Snapshot(CurrentSet(Some(id))) => domain.snapshots().check_around(*id),
        Change::Checkpoint(CurrentSet(Some(id))) => domain.checkpoints().check_around(*id),
        _ => Ok(()),
    }
}

fn vet(provenance: &Provenance) -> Result<()> {
    let refuse = |message: String| Err(Error::argument(ErrorDomain::Domain, message));
    if provenance.actor.len() > ACTOR_LEN_MAX {
        return refuse(format!("the actor has more than {ACTOR_LEN_MAX} bytes"));
    }
    match provenance.request_id.as_deref() {
        Some("") => refuse("the request id is empty".to_owned()),
        Some(id) if id.len() > REQUEST_ID_LEN_MAX => refuse(format!(
            "the request id has more than {REQUEST_ID_LEN_MAX} bytes"
        )),
        _ => Ok(()),
    }
}

pub(crate) fn is_missing(error: &Error) -> bool {
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<StoreError>());
    matches!(source, Some(StoreError::Missing { .. }))
}

pub(crate) fn unreadable(error: &ReplayError) -> Error {
    let detail = format!("{error}: {}", error.why);
    Error::new(ErrorCode::SystemError, ErrorDomain::Test, detail)
}
