//! Where it all meets: the store, the state, and the order of a write.
//!
//! decide → apply (privately) → encode → append (durable) → publish. A record that cannot be applied is never written,
//! and an answer, a refusal included, is never given on a state that is not durable.
//!
//! Threads decide one after the other, each on what those before have decided, and then share one write: see
//! [`CommitQueue`]. What is decided and not yet durable is in the ledger; what is durable is in the view.

mod chain;
mod decide;
mod record;
mod replay;
mod retain;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use momentlog_core::{DomainUuid, Event};
use momentlog_store::{CommitQueue, Head, LogId, Receipt, Seq, Store, StoreError, Ticket};
use momentlog_xml::RecentDomain;

use crate::call::Call;
use crate::environment::{Options, Provenance};
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::ledger::{Entry, Ledger, ReplayError, View};
use crate::stored::image;
use decide::{Decided, decide_all, vet};
use record::Job;

pub(crate) use decide::Ask;
pub use retain::Archived;

/// How much may be handed in and not waited for.
const HANDED_IN_MAX: usize = 1_024;

/// How often reading begins again because another process has archived what was being read.
pub(crate) const OVERTAKEN_MAX: usize = 16;

/// How often a log that another process writes is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How often a store that others write as well is tried again, when one of them came first.
const CONFLICTS_MAX: usize = 16;

/// The answer to an accepted command.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The record.
    pub seq: Seq,
    /// What happened.
    pub events: Vec<Event>,
    /// Whether this is the first answer to the same request, which was asked before.
    pub repeated: bool,
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

/// The answer to what was handed in, as soon as all that it rests on is durable.
#[derive(Debug)]
pub(crate) struct Promise {
    ticket: Option<Ticket<StoreError>>,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Recorded(Vec<Outcome>),
    Repeated(Seq),
    Refused(Error),
}

/// The one writer and all readers of a store in this process.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Who holds this decides. It is taken before `store`.
    inner: Mutex<Inner>,
    store: Mutex<Box<dyn Store>>,
    /// The id of the log, once a record was read.
    known: OnceLock<LogId>,
    queue: CommitQueue<Job, StoreError>,
    /// The newest durable state that this process knows.
    view: RwLock<Arc<View>>,
    /// Whether nobody else can have appended, so that the view is the newest there is.
    exclusive: AtomicBool,
    /// The record of the newest image that was loaded or tried; 0 for none.
    image: AtomicU64,
    news: Condvar,
    /// How many threads wait for news, or are about to.
    listeners: AtomicUsize,
    /// The domain that was embedded last in a moment's XML.
    pub(crate) recent_domain: RecentDomain,
    pub(crate) options: Options,
}

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    /// The generation of the queue that the ledger belongs to.
    generation: u64,
    /// Set while the ledger may hold what the log does not; it is replayed anew then.
    stale: bool,
    log: Option<LogId>,
    /// How much of the wait for the lock is used up.
    waited: Duration,
    /// What ends the log before its time, if it is damaged.
    damage: Option<Arc<str>>,
}

impl Engine {
    pub(crate) fn new(store: Box<dyn Store>, options: Options) -> Engine {
        let ledger = Ledger::new(options.profile);
        let view = RwLock::new(Arc::new(ledger.view.clone()));
        Engine {
            inner: Mutex::new(Inner {
                ledger,
                generation: 0,
                stale: false,
                log: None,
                waited: Duration::ZERO,
                damage: None,
            }),
            store: Mutex::new(store),
            known: OnceLock::new(),
            queue: CommitQueue::new(),
            view,
            exclusive: AtomicBool::new(false),
            image: AtomicU64::new(0),
            news: Condvar::new(),
            listeners: AtomicUsize::new(0),
            recent_domain: RecentDomain::default(),
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
        if !self.is_exclusive() {
            let mut inner = self.lock();
            if !self.is_exclusive() {
                self.catch_up(&mut inner)?;
            }
        }
        Ok(self.view())
    }

    /// What ends the log before its time, as of the last look at it.
    pub(crate) fn damage(&self) -> Option<Arc<str>> {
        self.lock().damage.clone()
    }

    /// Lets other processes write, until the next change here.
    pub(crate) fn release(&self) {
        let mut inner = self.lock();
        self.close(&mut inner);
        inner.waited = Duration::ZERO;
    }

    /// Waits until the log has a record after `seen`, or `wait` is over; returns the newest view.
    pub(crate) fn wait(&self, seen: Option<Seq>, wait: Duration) -> Result<Arc<View>> {
        self.listeners.fetch_add(1, Ordering::SeqCst);
        let newest = self.wait_for_news(seen, wait);
        self.listeners.fetch_sub(1, Ordering::SeqCst);
        newest
    }

    /// As [`wait`](Self::wait), for a store that could not be read: it is looked at until it can be, or `wait` is over.
    pub(crate) fn wait_while_it_fails(
        &self,
        seen: Option<Seq>,
        wait: Duration,
    ) -> Result<Arc<View>> {
        let end = end_of(wait);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.wait(seen, left) {
                Err(_) if !left.is_zero() => std::thread::sleep(left.min(LOOK)),
                newest => return newest,
            }
        }
    }

    fn wait_for_news(&self, seen: Option<Seq>, wait: Duration) -> Result<Arc<View>> {
        let end = end_of(wait);
        loop {
            let view = match self.refresh() {
                Err(error) if is_missing(&error) => self.view(),
                refreshed => refreshed?,
            };
            let left = end.saturating_duration_since(Instant::now());
            if view.head.map(|head| head.seq) > seen || left.is_zero() {
                return Ok(view);
            }
            // Word of this process comes at once, that of others with the next look.
            drop(self.news.wait_timeout(self.lock(), left.min(LOOK)));
        }
    }

    /// Calls `each` with the decoded entries after `after`, up to the durable end.
    pub(crate) fn entries(
        &self,
        after: Option<Head>,
        each: &mut dyn FnMut(Entry, &View),
    ) -> Result<()> {
        self.entries_behind(after.map(|after| after.seq), after, each)
    }

    /// As [`entries`](Self::entries), from a seq on; `after`, if it is known, is the record of that seq.
    fn entries_behind(
        &self,
        seq: Option<Seq>,
        after: Option<Head>,
        each: &mut dyn FnMut(Entry, &View),
    ) -> Result<()> {
        let mut store = self.store();
        let mut ledger = self.ledger_at(store.as_mut(), seq)?;
        compare(after, ledger.view.head)?;
        let mut fault = None;
        let from = ledger.view.head;
        let read = chain::read(store.as_mut(), &self.known, from, &mut |record| {
            compare(after, Some(record.head()))?;
            if fault.is_none() {
                match ledger.replay(&record) {
                    Ok(entry) if Some(entry.head.seq) > seq => each(entry, &ledger.view),
                    Ok(_) => {}
                    Err(error) => fault = Some(error),
                }
            }
            Ok(())
        });
        match (fault, after) {
            (Some(error), _) => Err(unreadable(&error)),
            (None, Some(had)) if read.is_ok() && ledger.seq < seq => {
                let end = ledger.view.head;
                Err(StoreError::Truncated { had, end }.into())
            }
            (None, _) => Ok(read?),
        }
    }

    /// Puts the decoded entries after `after` into `entries`; on an error, those before it. Where they are moved to an
    /// archive meanwhile, and the caller has not named a place before that, it begins again with what is there.
    pub(crate) fn all_entries(&self, after: Option<Head>, entries: &mut Vec<Entry>) -> Result<()> {
        let mut overtaken = 0;
        loop {
            entries.clear();
            match self.entries(after, &mut |entry, _| entries.push(entry)) {
                Err(error)
                    if is_archived(&error) && after.is_none() && overtaken < OVERTAKEN_MAX =>
                {
                    overtaken += 1;
                }
                read => return read,
            }
        }
    }

    /// Checks that the log continues the one that `receipt` is of, from its record to the end, and returns the receipt of
    /// that end.
    pub(crate) fn verify_since(&self, receipt: Receipt) -> Result<Receipt> {
        let mut head = receipt.head;
        self.entries(Some(receipt.head), &mut |entry, _| head = entry.head)?;
        match self.log_id() {
            Some(log) if log == receipt.log => Ok(Receipt { log, head }),
            _ => Err(StoreError::Forked { at: Seq::FIRST }.into()),
        }
    }

    /// Returns the state as of a record: the end of the log if that is before it.
    pub(crate) fn view_at(&self, seq: Seq) -> Result<View> {
        let mut store = self.store();
        let mut ledger = self.ledger_at(store.as_mut(), Some(seq))?;
        let mut fault = None;
        let from = ledger.view.head;
        let read = chain::read(store.as_mut(), &self.known, from, &mut |record| {
            if fault.is_none() && record.seq <= seq {
                fault = ledger.replay(&record).err();
            }
            Ok(())
        });
        match fault {
            Some(error) => Err(unreadable(&error)),
            // Damage after that record does not matter.
            None if ledger.seq == Some(seq) => Ok(ledger.view),
            None => {
                read?;
                Ok(ledger.view)
            }
        }
    }

    /// Returns the state right before the record that a request id stands for; `None` if it stands for none, or that
    /// record was archived.
    pub(crate) fn before_request(&self, id: &str) -> Result<Option<View>> {
        let mut inner = self.lock();
        if !self.is_exclusive() {
            self.catch_up_if_there(&mut inner)?;
        }
        let Some(request) = inner.ledger.requests.get(id) else {
            return Ok(None);
        };
        drop(inner);
        // What was decided may not be durable yet, and its answer will say so.
        let Some(before) = Seq::new(request.seq.get() - 1) else {
            return Ok(None);
        };
        let start = self.store().start()?;
        if start.is_some_and(|start| start.seq > before) {
            return Ok(None);
        }
        self.view_at(before).map(Some)
    }

    /// Returns the domain that the archived record of a request id is about; `None` if the id stands for no such record.
    pub(crate) fn archived_request(&self, id: &str) -> Result<Option<DomainUuid>> {
        let inner = self.lock();
        let request = inner.ledger.requests.get(id);
        let answer = request.and_then(|request| inner.ledger.first_answer(request.seq));
        let Some(events) = answer else {
            return Ok(None);
        };
        let events = events.map_err(|error| unreadable(&error))?;
        Ok(events.iter().find_map(|event| event.domain))
    }

    /// The log's id, once there is a record.
    pub(crate) fn log_id(&self) -> Option<LogId> {
        self.store().log_id()
    }

    /// Decides, applies, records and publishes one command.
    pub(crate) fn execute(
        &self,
        ask: Ask<'_>,
        decide: &mut dyn FnMut(&View) -> Result<Vec<Event>>,
    ) -> Result<Outcome> {
        let promise = self.hand_in(&[ask], &mut |view, _| decide(view))?;
        Ok(self.answer(promise)?.remove(0))
    }

    /// As [`execute`](Self::execute), for many commands under one sync: all of them are accepted, or none.
    ///
    /// Each of `decide` sees the state that those before have made.
    pub(crate) fn execute_all(
        &self,
        provenance: &Provenance,
        commands: &[(DomainUuid, Option<[u8; 32]>)],
        decide: &mut dyn FnMut(&View, usize) -> Result<Vec<Event>>,
    ) -> Result<Vec<Outcome>> {
        if provenance.request_id.is_some() && commands.len() > 1 {
            let message = "a request id stands for one command, not for a batch".to_owned();
            return Err(Error::argument(ErrorDomain::Domain, message));
        }
        let asks: Vec<Ask<'_>> = commands
            .iter()
            .map(|(domain, digest)| Ask {
                domain: Some(*domain),
                provenance,
                call: Call::EXECUTE,
                flags: 0,
                digest: *digest,
            })
            .collect();
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let promise = self.hand_in(&asks, decide)?;
        self.answer(promise)
    }

    /// Decides commands and hands in what they cause. The answer, also a refusal, comes with [`answer`](Self::answer):
    /// it may rest on what is not durable yet.
    pub(crate) fn hand_in(
        &self,
        asks: &[Ask<'_>],
        decide: &mut dyn FnMut(&View, usize) -> Result<Vec<Event>>,
    ) -> Result<Promise> {
        asks.iter().try_for_each(|ask| vet(ask.provenance))?;
        let mut conflicts = 0;
        loop {
            let mut inner = self.lock();
            if !self.is_exclusive() {
                // A refusal needs neither the lock nor a store; only what is accepted is decided again as the writer.
                self.catch_up_if_there(&mut inner)?;
                if let Decided::Repeated(seq) = decide_all(&mut inner.ledger, asks, decide)? {
                    return Ok(Promise {
                        ticket: None,
                        answer: Answer::Repeated(seq),
                    });
                }
                self.begin(&mut inner)?;
            }
            let answer = match decide_all(&mut inner.ledger, asks, decide) {
                Err(error) => Answer::Refused(error),
                Ok(Decided::Repeated(seq)) => Answer::Repeated(seq),
                Ok(Decided::Accepted(pending)) => {
                    let Some(recorded) = self.record(&mut inner, pending)? else {
                        continue;
                    };
                    let promise = Promise {
                        ticket: Some(recorded.ticket),
                        answer: Answer::Recorded(recorded.outcomes),
                    };
                    if self.is_exclusive() {
                        drop(inner);
                        if recorded.waiting >= HANDED_IN_MAX {
                            // Whether it succeeds is told to whoever waits for it.
                            let _ = self.settle(&promise);
                        }
                        return Ok(promise);
                    }
                    // Others may append, so that the next decision needs to know what became of this one.
                    match self.settle(&promise) {
                        Err(error) if is_conflict(&error) && conflicts < CONFLICTS_MAX => {
                            conflicts += 1;
                            continue;
                        }
                        settled => settled?,
                    }
                    inner.ledger.view.head = self.view().head;
                    return Ok(promise);
                }
            };
            let ticket = self.queue.last();
            if self.queue.generation() != inner.generation {
                // Decided on what is not there.
                continue;
            }
            return Ok(Promise { ticket, answer });
        }
    }

    /// Waits until all that an answer rests on is durable, and gives it.
    pub(crate) fn answer(&self, promise: Promise) -> Result<Vec<Outcome>> {
        self.settle(&promise)?;
        match promise.answer {
            Answer::Recorded(outcomes) => {
                if let Some(last) = outcomes.last() {
                    self.make_image_if_due(last.seq);
                }
                Ok(outcomes)
            }
            Answer::Repeated(seq) => Ok(vec![self.first_answer(seq)?]),
            Answer::Refused(error) => Err(error),
        }
    }

    fn settle(&self, promise: &Promise) -> Result<()> {
        let Some(ticket) = &promise.ticket else {
            return Ok(());
        };
        self.queue
            .wait(ticket, &mut |jobs| self.write(jobs))
            .map_err(Error::from)
    }

    /// Appends what a group of threads has handed in, under one sync, and publishes the state after it.
    fn write(&self, jobs: Vec<Job>) -> std::result::Result<(), StoreError> {
        let mut drafts = Vec::with_capacity(jobs.len());
        let mut last = None;
        for job in jobs {
            drafts.extend(job.drafts);
            last = Some((job.log, job.view));
        }
        let Some((log, view)) = last else {
            return Ok(());
        };
        let records = {
            let mut store = self.store();
            let expected = store.head();
            store.append(log, expected, drafts)?
        };
        match view {
            Some(mut view) => {
                view.head = records.last().map(momentlog_store::Record::head);
                self.publish(view);
            }
            // The ledger is replayed anew before anybody reads.
            None => self.exclusive.store(false, Ordering::Release),
        }
        Ok(())
    }

    /// Returns the ledger from which the entries after `after` can be read: that of an image at or before it, that at the
    /// start of an archived log, or an empty one.
    fn ledger_at(&self, store: &mut dyn Store, after: Option<Seq>) -> Result<Ledger> {
        let start = store.start()?;
        let most = after.or(start.map(|start| start.seq));
        let loaded = match most {
            Some(most) => load(store, Some(most))?,
            None => None,
        };
        if let (Some(after), Some(start)) = (after, start)
            && after < start.seq
        {
            // The store says so itself, and where.
            store.read(None, &mut |_| Ok(()))?;
        }
        match (loaded, start) {
            (Some(ledger), _) => Ok(ledger),
            (None, Some(start)) => {
                let detail = format!(
                    "records up to {} were moved to an archive, and no image tells what they made",
                    start.seq
                );
                Err(Error::new(
                    ErrorCode::SystemError,
                    ErrorDomain::Test,
                    detail,
                ))
            }
            (None, None) => Ok(Ledger::new(self.options.profile)),
        }
    }

    /// Returns the answer that the request got when it was recorded.
    fn first_answer(&self, seq: Seq) -> Result<Outcome> {
        let mut overtaken = 0;
        loop {
            let answered = self.lock().ledger.first_answer(seq);
            let mut events = answered.transpose().map_err(|error| unreadable(&error))?;
            if events.is_none() {
                let before = Seq::new(seq.get() - 1);
                let read = self.entries_behind(before, None, &mut |entry, _| {
                    if entry.head.seq == seq {
                        events = Some(entry.events);
                    }
                });
                match read {
                    // The image with which the log begins now has the answer.
                    Err(error) if is_archived(&error) && overtaken < OVERTAKEN_MAX => {
                        overtaken += 1;
                        self.lock().stale = true;
                        self.refresh()?;
                        continue;
                    }
                    read => read?,
                }
            }
            return match events {
                Some(events) => Ok(Outcome {
                    seq,
                    events,
                    repeated: true,
                }),
                None => Err(self.lost(seq)),
            };
        }
    }

    /// Returns the error of a record that was read, and is not there any more.
    fn lost(&self, seq: Seq) -> Error {
        match self.view().head {
            Some(had) => {
                let end = self.store().head();
                StoreError::Truncated { had, end }.into()
            }
            None => {
                let detail = format!("the log does not have record {seq} any more");
                Error::new(ErrorCode::SystemError, ErrorDomain::Test, detail)
            }
        }
    }

    fn publish(&self, newest: View) {
        let newest = Arc::new(newest);
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        if view.head != newest.head {
            let before = std::mem::replace(&mut *view, newest);
            drop(view);
            // Without the lock: it may be the last who has that view.
            drop(before);
            // Waking nobody would still be a call to the system.
            if self.listeners.load(Ordering::SeqCst) > 0 {
                self.news.notify_all();
            }
        }
    }

    fn is_exclusive(&self) -> bool {
        self.exclusive.load(Ordering::Acquire)
    }

    fn store(&self) -> MutexGuard<'_, Box<dyn Store>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(|poisoned| {
            // A panic of ours may have left the ledger half changed.
            let mut inner = poisoned.into_inner();
            inner.stale = true;
            inner
        });
        if inner.stale || inner.generation != self.queue.generation() {
            // What is on its way was decided on a sound ledger; whether it arrives is told to those who wait for it.
            let _ = self.wait_for_all();
            inner.ledger = Ledger::new(self.options.profile);
            inner.generation = self.queue.generation();
            inner.stale = false;
            self.exclusive.store(false, Ordering::Release);
        }
        inner
    }

    fn wait_for_all(&self) -> std::result::Result<(), Arc<StoreError>> {
        match self.queue.last() {
            Some(ticket) => self.queue.wait(&ticket, &mut |jobs| self.write(jobs)),
            None => Ok(()),
        }
    }

    /// Waits until everything decided so far is durable, so that the ledger is that of the log.
    fn drain(&self, inner: &mut Inner) -> Result<()> {
        self.wait_for_all().map_err(Error::from)?;
        if inner.generation != self.queue.generation() {
            let detail = "an earlier write failed: reopen the store to settle what was written";
            return Err(Error::new(
                ErrorCode::SystemError,
                ErrorDomain::Test,
                detail,
            ));
        }
        inner.ledger.view.head = self.view().head;
        Ok(())
    }

    /// Becomes the writer, and reads on to what is the end of the log then.
    fn begin(&self, inner: &mut Inner) -> Result<()> {
        let alone = {
            let wait = self.options.lock_wait.saturating_sub(inner.waited);
            let begun = Instant::now();
            let mut store = self.store();
            let taken = store.begin(wait);
            if self.options.lock_wait_shared {
                inner.waited = inner.waited.saturating_add(begun.elapsed());
            }
            taken?;
            store.is_writer()
        };
        self.catch_up_if_there(inner)?;
        self.exclusive.store(alone, Ordering::Release);
        Ok(())
    }

    /// Stops being the writer.
    fn close(&self, inner: &mut Inner) {
        if self.is_exclusive() && self.drain(inner).is_ok() {
            self.make_image_if_worth_it(inner);
        }
        self.exclusive.store(false, Ordering::Release);
        self.store().end();
    }

    /// Reads what was appended since the last time. That there is no store yet is no error.
    fn catch_up_if_there(&self, inner: &mut Inner) -> Result<()> {
        match self.catch_up(inner) {
            Err(error) if is_missing(&error) => Ok(()),
            caught_up => caught_up,
        }
    }

    /// Reads what was appended since the last time, and publishes the state after it.
    fn catch_up(&self, inner: &mut Inner) -> Result<()> {
        let mut store = self.store();
        let mut read = self.read_on(inner, store.as_mut());
        for _ in 0..OVERTAKEN_MAX {
            if !matches!(read, Err(CannotRead::Store(StoreError::Archived { .. }))) {
                break;
            }
            // Another process has archived what this ledger has not read: it begins again, with an image.
            inner.ledger = Ledger::new(self.options.profile);
            read = self.read_on(inner, store.as_mut());
        }
        inner.log = store.log_id().or(inner.log);
        drop(store);
        // What comes before the damage can be read; a writer is refused when it begins.
        inner.damage = match &read {
            Err(CannotRead::Store(error @ StoreError::Damaged { .. })) => {
                Some(error.to_string().into())
            }
            _ => None,
        };
        match read {
            Ok(()) => {}
            Err(CannotRead::Store(StoreError::Damaged { .. }))
                if inner.ledger.view.head.is_some() => {}
            Err(CannotRead::Store(error)) => return Err(error.into()),
            Err(CannotRead::Replay(error)) => {
                inner.stale = true;
                return Err(unreadable(&error));
            }
            Err(CannotRead::Thread(error)) => {
                let detail = format!("cannot start a thread that replays: {error}");
                return Err(Error::new(
                    ErrorCode::SystemError,
                    ErrorDomain::Test,
                    detail,
                ));
            }
        }
        self.publish(inner.ledger.view.clone());
        Ok(())
    }

    fn read_on(
        &self,
        inner: &mut Inner,
        store: &mut dyn Store,
    ) -> std::result::Result<(), CannotRead> {
        if inner.ledger.seq.is_none()
            && let Some(ledger) = load(store, None).map_err(CannotRead::Store)?
        {
            let seq = ledger.seq.map_or(0, Seq::get);
            self.image.store(seq, Ordering::Relaxed);
            inner.ledger = ledger;
        }
        replay::read_on(store, &self.known, &mut inner.ledger)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let mut inner = self.lock();
        self.close(&mut inner);
    }
}

/// Returns when a wait is over. One that no clock can hold ends after a day, and the caller asks again.
fn end_of(wait: Duration) -> Instant {
    const DAY: Duration = Duration::from_hours(24);
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now + DAY)
}

/// Why a ledger is not at the end of the log.
enum CannotRead {
    Store(StoreError),
    Replay(ReplayError),
    Thread(std::io::Error),
}

/// Returns the ledger of the newest image at or before `most` that agrees with the log and can be read.
fn load(
    store: &mut dyn Store,
    mut most: Option<Seq>,
) -> std::result::Result<Option<Ledger>, StoreError> {
    while let Some((head, body)) = store.image(most)? {
        match image::decode(head, &body) {
            Ok(ledger) => return Ok(Some(ledger)),
            Err(why) => tracing::warn!(seq = %head.seq, %why, "ignored an image"),
        }
        most = Seq::new(head.seq.get() - 1);
        if most.is_none() {
            break;
        }
    }
    Ok(None)
}

/// Refuses a record that stands where another one was read.
fn compare(after: Option<Head>, found: Option<Head>) -> std::result::Result<(), StoreError> {
    match (after, found) {
        (Some(after), Some(found)) if after.seq == found.seq && after != found => {
            Err(StoreError::Forked { at: after.seq })
        }
        _ => Ok(()),
    }
}

fn is_archived(error: &Error) -> bool {
    matches!(error.store(), Some(StoreError::Archived { .. }))
}

pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(error.store(), Some(StoreError::Missing { .. }))
}

fn is_conflict(error: &Error) -> bool {
    matches!(error.store(), Some(StoreError::Conflict { .. }))
}

fn unreadable(error: &ReplayError) -> Error {
    let detail = format!("{error}: {}", error.why);
    Error::new(ErrorCode::SystemError, ErrorDomain::Test, detail)
}
