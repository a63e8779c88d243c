//! Where it all meets: the store, the state, and the order of a write.
//!
//! decide → apply (privately) → encode → append (durable) → publish. A record that cannot be applied is never written,
//! and an answer, a refusal included, is never given on a state that is not durable.
//!
//! Threads decide one after the other, each on what those before have decided, and then share one write: see
//! [`CommitQueue`]. What is decided and not yet durable is in the ledger; what is durable is in the view.
//!
//! Three owners have a lock each, taken in this order: what decides ([`Decider`]), what commits (the store and the
//! queue), what is published.

mod admission;
pub(crate) mod chain;
mod commit;
mod published;
mod read;
pub(crate) mod replay;
mod retention;
mod turns;
mod waiting;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use momentlog_core::{Change, Command, Event, MomentChange, MomentName, Profile};
use momentlog_store::{LogId, Receipt, Seq, Store, StoreError};

use crate::call::Call;
use crate::commit_queue::{CommitQueue, Ticket};
use crate::decision::Decision;
use crate::environment::{Clock, Entropy, Options, Provenance};
use crate::error::{BadProvenance, EngineError};
use crate::ledger::Ledger;
use crate::plan::{Plan, PlanStore};
use crate::request::Request;
use crate::subscription::Tail;
use crate::view::View;
use admission::{Decided, decide_all, validate};
use commit::Append;
use published::Published;
use retention::Imaging;

pub use retention::Archived;
pub(crate) use retention::start;

/// How much may be submitted and not waited for.
const SUBMITTED_MAX: usize = 1_024;

/// How often reading begins again because another process has archived what was being read.
pub(crate) const OVERTAKEN_MAX: usize = 16;

/// How long after a turn of this process its state is new enough to say whether another turn is worth waiting for.
const RECENT: Duration = Duration::from_secs(1);

/// How often a store that others write as well is tried again, when one of them came first.
const CONFLICTS_MAX: usize = 16;

/// The answer to an accepted request.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The record.
    pub seq: Seq,
    /// What happened.
    pub events: Vec<Event>,
    /// Whether this is the first answer to the same request, which was asked before.
    pub repeated: bool,
}

impl Outcome {
    /// The name of the moment that the request made, or that its job makes; none if it made none. Of several, the first.
    pub fn created(&self) -> Option<&MomentName> {
        use MomentChange::Created;
        self.events.iter().find_map(|event| match &event.change {
            Change::Snapshot(Created { name, .. }) | Change::Checkpoint(Created { name, .. }) => {
                Some(name)
            }
            Change::JobBegun { job, .. } => {
                let snapshots = job.snapshots.iter().map(|made| &made.name);
                let checkpoints = job.checkpoints.iter().map(|made| &made.name);
                snapshots.chain(checkpoints).next()
            }
            _ => None,
        })
    }
}

/// Short, and without texts.
impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("seq", &self.seq)
            .field("events", &self.events.len())
            .field("repeated", &self.repeated)
            .finish()
    }
}

/// Requests that were submitted, and are not durable yet. Dropping it takes nothing back.
#[must_use = "nothing is durable before `Log::answer` says so"]
#[derive(Debug)]
pub struct Pending<E> {
    ticket: Option<Ticket<StoreError>>,
    answer: Answer<E>,
}

#[derive(Debug)]
enum Answer<E> {
    Recorded(Vec<Outcome>),
    Repeated(Seq),
    Refused(E),
}

/// A log, for its one writer in this process and for all who read it here.
pub struct Log {
    /// Whose lock a thread holds decides.
    decider: Mutex<Decider>,
    store: Mutex<Box<dyn Store>>,
    /// The id of the log, once a record was read.
    known: OnceLock<LogId>,
    queue: CommitQueue<Append, StoreError>,
    published: Arc<Published>,
    /// Whether the store says at present when others have appended, once it was asked to.
    watched: OnceLock<Option<Arc<AtomicBool>>>,
    /// As long as there is a subscription.
    tail: Mutex<Weak<Tail>>,
    /// How often it was asked for a change.
    asked: AtomicU64,
    /// Whether no other process can have appended, so that the view is the newest there is.
    exclusive: AtomicBool,
    /// How many threads are about to decide.
    arrived: AtomicUsize,
    /// The record of the newest image that was loaded or tried; 0 for none.
    image: AtomicU64,
    /// The image that is being made beside the writers.
    imaging: Imaging,
    options: Options,
}

/// Short: up to where it is known.
impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("head", &self.view().head)
            .finish_non_exhaustive()
    }
}

/// What the thread has that decides.
struct Decider {
    ledger: Ledger,
    /// The generation of the queue that the ledger belongs to.
    generation: u64,
    /// Set while the ledger may hold what the log does not; it is replayed from the log then.
    stale: bool,
    /// While this process has a turn that its threads share: the bytes of the records that they have decided in it.
    turn: Option<usize>,
    /// When the last turn ended.
    turned: Option<Instant>,
    log: Option<LogId>,
    /// How much of the wait for the lock is used up.
    waited: Duration,
    /// What ends the log before its time, if it is damaged.
    damage: Option<Arc<str>>,
}

impl Log {
    /// Returns the log in a store. Nothing is read before it is asked for.
    pub fn over(store: Box<dyn Store>, options: Options) -> Log {
        let ledger = Ledger::new(options.profile);
        let published = Arc::new(Published::new(ledger.view.clone()));
        Log {
            decider: Mutex::new(Decider {
                ledger,
                generation: 0,
                stale: false,
                turn: None,
                turned: None,
                log: None,
                waited: Duration::ZERO,
                damage: None,
            }),
            store: Mutex::new(store),
            known: OnceLock::new(),
            queue: CommitQueue::new(),
            published,
            watched: OnceLock::new(),
            tail: Mutex::default(),
            asked: AtomicU64::new(0),
            exclusive: AtomicBool::new(false),
            arrived: AtomicUsize::new(0),
            image: AtomicU64::new(0),
            imaging: Imaging::default(),
            options,
        }
    }

    /// Returns a log that goes on from the newest state of this one in memory alone, for what commands would cause.
    ///
    /// # Errors
    ///
    /// As [`refresh`](Self::refresh). That there is no store yet is no error.
    pub fn plan(self: &Arc<Self>) -> Result<Plan, EngineError> {
        let mut decider = self.enter_alone();
        if !self.is_exclusive() {
            self.catch_up_if_there(&mut decider)?;
        }
        // What is decided and not durable yet may still fail.
        self.drain(&mut decider)?;
        let mut base = decider.ledger.clone();
        base.view.head = self.view().head;
        let id = self.store().log_id();
        drop(decider);
        let store = PlanStore::new(self, id, base.view.head);
        let log = Log::over(Box::new(store), self.options.clone());
        log.published.publish(base.view.clone());
        {
            let mut decider = log.enter();
            decider.ledger = base.clone();
            decider.log = id;
        }
        log.exclusive.store(true, Ordering::Release);
        // As if there were an image of it: a plan makes none.
        log.image
            .store(base.seq.map_or(0, Seq::get), Ordering::Relaxed);
        if let Some(id) = id {
            let _ = log.known.set(id);
        }
        Ok(Plan::new(log, base))
    }

    /// Returns the newest view that this process knows, without looking at the store.
    pub fn view(&self) -> Arc<View> {
        self.published.newest()
    }

    /// Reads what other processes have appended, and returns the view after that.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] or [`EngineError::Replay`] if the log cannot be read.
    pub fn refresh(&self) -> Result<Arc<View>, EngineError> {
        while !self.is_exclusive() {
            let mut decider = self.enter();
            if let Some(ticket) = self.queue.last().filter(|_| decider.turn.is_some()) {
                drop(decider);
                // What is appended in the turn is the end of the log then.
                if ticket.follow().is_ok() {
                    break;
                }
            } else if !self.is_exclusive() {
                self.end_turn(&mut decider);
                self.catch_up(&mut decider)?;
                break;
            }
        }
        Ok(self.view())
    }

    /// What ends the log before its time, as of the last look at it.
    pub fn damage(&self) -> Option<Arc<str>> {
        self.enter().damage.clone()
    }

    /// The log's id, once there is a record.
    pub fn log_id(&self) -> Option<LogId> {
        self.store().log_id()
    }

    /// Returns a receipt of the log as it is now; `None` as long as there is no record.
    ///
    /// # Errors
    ///
    /// As [`refresh`](Self::refresh).
    pub fn receipt(&self) -> Result<Option<Receipt>, EngineError> {
        let head = self.refresh()?.head();
        let both = self.log_id().zip(head);
        Ok(both.map(|(log, head)| Receipt { log, head }))
    }

    /// Who asks, unless a request says otherwise.
    pub fn provenance(&self) -> &Provenance {
        &self.options.provenance
    }

    /// How long a change waits for another one.
    pub fn lock_wait(&self) -> Duration {
        self.options.lock_wait
    }

    /// The clock of the log.
    pub fn clock(&self) -> &dyn Clock {
        self.options.clock.as_ref()
    }

    /// The randomness of the log.
    pub fn entropy(&self) -> &dyn Entropy {
        self.options.entropy.as_ref()
    }

    /// Waits until everything that was submitted is durable.
    ///
    /// # Errors
    ///
    /// What the store says of a write that failed.
    pub fn flush(&self) -> Result<(), EngineError> {
        let mut decider = self.lock();
        self.end_turn(&mut decider);
        Ok(self.commit_all()?)
    }

    /// Waits until everything that was submitted is durable, and lets other processes write. Dropping the log does the
    /// same, and cannot say whether it failed.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn close(&self) -> Result<(), EngineError> {
        let flushed = self.flush();
        self.release();
        flushed
    }

    pub(crate) fn is_opened_as(&self, options: &Options) -> bool {
        self.options.opens_as(options)
    }

    pub(crate) fn hold_lock(&self) -> Duration {
        self.options.hold_lock
    }

    /// Decides, applies, records and publishes a typed command.
    ///
    /// # Errors
    ///
    /// [`EngineError::Refused`] with the rule that refuses it; what is wrong with the provenance; what the store says.
    pub fn execute(
        &self,
        provenance: &Provenance,
        command: &Command,
    ) -> Result<Outcome, EngineError> {
        let request = Request::of_command(provenance, (Call::EXECUTE, 0), command);
        self.decide(request, &mut |decision| {
            decision.decide(command)?;
            Ok(())
        })
    }

    /// Decides, applies, records and publishes one request: what `decide` decides becomes one record.
    ///
    /// `decide` may be called more than once, and must not use the log: it sees the state in the [`Decision`].
    ///
    /// # Errors
    ///
    /// What `decide` refuses; what is wrong with the provenance; what the store says.
    pub fn decide<E: From<EngineError>>(
        &self,
        request: Request<'_>,
        decide: &mut dyn FnMut(&mut Decision<'_>) -> Result<(), E>,
    ) -> Result<Outcome, E> {
        let pending = self.submit(&[request], &mut |decision, _| decide(decision))?;
        Ok(self.answer(pending)?.remove(0))
    }

    /// As [`decide`](Self::decide), for many requests under one sync: all of them are accepted, or none. Each sees the
    /// state that those before it have made.
    ///
    /// # Errors
    ///
    /// As there, for the first one that is refused; [`BadProvenance::Batch`] if one of several has a request id.
    pub fn decide_all<E: From<EngineError>>(
        &self,
        requests: &[Request<'_>],
        decide: &mut dyn FnMut(&mut Decision<'_>, usize) -> Result<(), E>,
    ) -> Result<Vec<Outcome>, E> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let pending = self.submit(requests, decide)?;
        self.answer(pending)
    }

    /// Decides requests and hands in what they cause. The answer, also a refusal, comes with [`answer`](Self::answer):
    /// it may rest on what is not durable yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the provenance; what the store says before anything is written.
    pub fn submit<E: From<EngineError>>(
        &self,
        requests: &[Request<'_>],
        decide: &mut dyn FnMut(&mut Decision<'_>, usize) -> Result<(), E>,
    ) -> Result<Pending<E>, E> {
        for request in requests {
            validate(request.provenance).map_err(EngineError::from)?;
            if request.digest.is_some() && requests.len() > 1 {
                return Err(EngineError::from(BadProvenance::Batch).into());
            }
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut conflicts = 0;
        loop {
            let arrival = self.arrive();
            let mut decider = self.enter();
            // A thread that finds a turn decides in it.
            if !self.is_exclusive() && decider.turn.is_none() {
                // A refusal needs neither the lock nor a store; only what is accepted is decided again as the writer. A
                // request that the state after a recent turn accepts is decided again in the next turn, so nothing is read
                // before it.
                let is_recent = decider.turned.is_some_and(|at| at.elapsed() < RECENT);
                let is_accepted = |decided| matches!(decided, Ok(Decided::Accepted(_)));
                if !(is_recent && is_accepted(decide_all(&mut decider.ledger, requests, decide))) {
                    self.catch_up_if_there(&mut decider)?;
                    if let Decided::Repeated(seq) =
                        decide_all(&mut decider.ledger, requests, decide)?
                    {
                        return Ok(Pending {
                            ticket: None,
                            answer: Answer::Repeated(seq),
                        });
                    }
                }
                decider = self.acquire(decider, &arrival)?;
            }
            let mut waiting = 0;
            let mut ticket = None;
            let answer = match decide_all(&mut decider.ledger, requests, decide) {
                Err(error) => Answer::Refused(error),
                Ok(Decided::Repeated(seq)) => Answer::Repeated(seq),
                Ok(Decided::Accepted(accepted)) => {
                    let Some(recorded) = self.record(&mut decider, accepted)? else {
                        continue;
                    };
                    waiting = recorded.waiting;
                    ticket = Some(recorded.ticket);
                    Answer::Recorded(recorded.outcomes)
                }
            };
            if ticket.is_none() {
                ticket = self.queue.last();
                if self.queue.generation() != decider.generation {
                    // Decided on what is not there.
                    continue;
                }
            }
            let pending = Pending { ticket, answer };
            let in_turn = self.end_turn_if_due(&mut decider);
            drop(decider);
            drop(arrival);
            if !in_turn {
                if waiting >= SUBMITTED_MAX {
                    // Whether it succeeds is the answer to those who wait for it.
                    let _ = self.commit(&pending);
                }
                return Ok(pending);
            }
            // Others may append as soon as the turn is over, so that the next decision here needs to know what became of it.
            let ended = pending.ticket.as_ref().map_or(Ok(()), Ticket::follow);
            match ended.map_err(EngineError::from) {
                Err(error) if error.is_conflict() && conflicts < CONFLICTS_MAX => conflicts += 1,
                ended => return ended.map(|()| pending).map_err(E::from),
            }
        }
    }

    /// Waits until all that an answer rests on is durable, and gives it.
    ///
    /// # Errors
    ///
    /// The refusal; what the store says.
    pub fn answer<E: From<EngineError>>(&self, pending: Pending<E>) -> Result<Vec<Outcome>, E> {
        self.commit(&pending)?;
        match pending.answer {
            Answer::Recorded(outcomes) => {
                if let Some(last) = outcomes.last() {
                    self.make_image_if_due(last.seq);
                }
                Ok(outcomes)
            }
            Answer::Repeated(seq) => {
                // Whoever appended the record may have had no answer, because it is not durable yet.
                self.store().confirm().map_err(EngineError::from)?;
                Ok(vec![self.first_answer(seq)?])
            }
            Answer::Refused(error) => Err(error),
        }
    }

    pub(crate) fn profile(&self) -> Profile {
        self.options.profile
    }

    pub(crate) fn known(&self) -> &OnceLock<LogId> {
        &self.known
    }

    /// Returns the end of the log that all subscriptions share.
    pub(crate) fn tail(&self) -> Arc<Tail> {
        let mut shared = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let tail = Arc::new(Tail::default());
            *shared = Arc::downgrade(&tail);
            tail
        })
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Box<dyn Store>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Decider> {
        self.decider.lock().unwrap_or_else(|poisoned| {
            // A panic in it may have left the ledger half changed.
            self.decider.clear_poison();
            let mut decider = poisoned.into_inner();
            decider.stale = true;
            decider
        })
    }

    /// Begins to decide. A ledger that may hold what the log does not is thrown away.
    fn enter(&self) -> MutexGuard<'_, Decider> {
        let mut decider = self.lock();
        self.renew_if_stale(&mut decider);
        decider
    }

    /// As [`enter`](Self::enter), after the turn that threads share, if there is one: what others append can be read.
    fn enter_alone(&self) -> MutexGuard<'_, Decider> {
        let mut decider = self.enter();
        self.end_turn(&mut decider);
        self.renew_if_stale(&mut decider);
        decider
    }

    fn renew_if_stale(&self, decider: &mut Decider) {
        if decider.stale || decider.generation != self.queue.generation() {
            // Queued work was decided on a sound ledger; its waiters get its outcome.
            self.end_turn(decider);
            let _ = self.commit_all();
            decider.ledger = Ledger::new(self.options.profile);
            decider.generation = self.queue.generation();
            decider.stale = false;
            self.share();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let mut decider = self.enter();
        self.stop_writing(&mut decider);
    }
}
