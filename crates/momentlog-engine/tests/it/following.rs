//! Subscriptions: each sees every entry once, and the store is read once for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use momentlog_engine::{Call, EngineError, Request, Subscription};
use momentlog_store::{Draft, FileStore, Head, LogId, RealDisk, Record, StoreError};

use super::*;

/// Counts how often it is read.
#[derive(Debug)]
struct Counted {
    store: MemoryStore,
    reads: Arc<AtomicUsize>,
}

impl Store for Counted {
    fn log_id(&self) -> Option<LogId> {
        self.store.log_id()
    }

    fn head(&self) -> Option<Head> {
        self.store.head()
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        self.store.append(log, expected, drafts)
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.read(after, each)
    }

    fn acquire(&mut self, wait: Duration) -> Result<(), StoreError> {
        self.store.acquire(wait)
    }

    fn release(&mut self) {
        self.store.release();
    }

    fn is_exclusive(&self) -> bool {
        self.store.is_exclusive()
    }
}

fn seqs(subscription: &mut Subscription) -> Vec<u64> {
    let entries = subscription.next(Duration::ZERO).unwrap();
    entries.iter().map(|entry| entry.head.seq.get()).collect()
}

#[test]
fn the_store_is_read_once_for_all_subscriptions() {
    let reads = Arc::new(AtomicUsize::new(0));
    let log = Arc::new(log_over(Box::new(Counted {
        store: MemoryStore::new(),
        reads: reads.clone(),
    })));
    let end = log.view().head();
    let mut subscriptions: Vec<_> = (0..50).map(|_| log.subscribe(end)).collect();
    for name in ["a", "b", "c"] {
        let seq = execute(&log, checkpoint(name));
        let before = reads.load(Ordering::Relaxed);
        for subscription in &mut subscriptions {
            assert_eq!(seqs(subscription), [seq]);
            assert_eq!(seqs(subscription), [0; 0]);
        }
        assert_eq!(reads.load(Ordering::Relaxed), before + 1, "{name}");
    }
}

#[test]
fn one_that_comes_late_or_begins_early_misses_nothing() {
    let log = Arc::new(log());
    let end = log.view().head();
    let mut prompt = log.subscribe(end);
    let mut late = log.subscribe(end);
    let mut from_the_first = log.subscribe(None);
    let mut seen = Vec::new();
    // More than is kept.
    for _ in 0..1_500 {
        execute(&log, Action::ChangeState(StateChange::Suspend));
        let last = execute(&log, Action::ChangeState(StateChange::Resume));
        seen.extend(seqs(&mut prompt));
        assert_eq!(seen.last(), Some(&last));
    }
    let all: Vec<u64> = (1..=*seen.last().unwrap()).collect();
    let begun = usize::try_from(end.unwrap().seq.get()).unwrap();
    assert_eq!(seen, all[begun..]);
    assert_eq!(seqs(&mut late), all[begun..]);
    assert_eq!(seqs(&mut from_the_first), all);
    let last = execute(&log, Action::ChangeState(StateChange::Suspend));
    for subscription in [&mut prompt, &mut late, &mut from_the_first] {
        assert_eq!(seqs(subscription), [last]);
    }
}

#[test]
fn one_that_has_seen_another_record_is_told_so_beside_those_that_have_not() {
    let log = Arc::new(log());
    let end = log.view().head().unwrap();
    let mut sound = log.subscribe(Some(end));
    execute(&log, checkpoint("a"));
    assert_eq!(seqs(&mut sound).len(), 1);
    let mut other = end;
    other.digest.0[0] ^= 1;
    let mut forked = log.subscribe(Some(other));
    let error = forked.next(Duration::ZERO).unwrap_err();
    assert!(
        matches!(error.store(), Some(StoreError::Forked { at }) if *at == end.seq),
        "{error}"
    );
    execute(&log, checkpoint("b"));
    assert_eq!(seqs(&mut sound).len(), 1);
}

#[test]
fn many_threads_follow_what_two_logs_of_one_store_append() {
    let dir = tempfile::tempdir().unwrap();
    let store = || Box::new(FileStore::new(RealDisk::new(dir.path().join("store"))));
    let log = Arc::new(log_over(store()));
    let end = log.view().head();
    let stop = AtomicBool::new(false);
    let follow = |mut subscription: Subscription| {
        let mut seen = Vec::new();
        loop {
            // What was appended before the stop is found by one more look.
            let last = stop.load(Ordering::Acquire);
            let entries = subscription.next(Duration::from_millis(5)).unwrap();
            seen.extend(entries.iter().map(|entry| entry.head.seq.get()));
            if last && entries.is_empty() {
                return seen;
            }
        }
    };
    let (last, seen) = std::thread::scope(|scope| {
        let followers: Vec<_> = (0..20)
            .map(|_| {
                let subscription = log.subscribe(end);
                scope.spawn(|| follow(subscription))
            })
            .collect();
        let mut last = 0;
        for _ in 0..20 {
            execute(&log, Action::ChangeState(StateChange::Suspend));
            log.release();
            let other = Log::over(store(), Options::default());
            last = execute(&other, Action::ChangeState(StateChange::Resume));
        }
        stop.store(true, Ordering::Release);
        let seen: Vec<_> = followers
            .into_iter()
            .map(|follower| follower.join().unwrap())
            .collect();
        (last, seen)
    });
    let all: Vec<u64> = (end.unwrap().seq.get() + 1..=last).collect();
    for seen in seen {
        assert_eq!(seen, all);
    }
}

#[test]
fn a_panic_of_a_caller_costs_one_replay() {
    let reads = Arc::new(AtomicUsize::new(0));
    let log = log_over(Box::new(Counted {
        store: MemoryStore::new(),
        reads: reads.clone(),
    }));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let who = Provenance::default();
        let request = Request::of_call(&who, (Call::EXECUTE, 0), Some(DOMAIN), &[]);
        log.decide(request, &mut |_| -> Result<(), EngineError> {
            panic!("of the caller")
        })
    }));
    assert!(panicked.is_err());
    execute(&log, checkpoint("a"));
    let before = reads.load(Ordering::Relaxed);
    for name in ["b", "c"] {
        execute(&log, checkpoint(name));
    }
    assert_eq!(reads.load(Ordering::Relaxed), before);
}
