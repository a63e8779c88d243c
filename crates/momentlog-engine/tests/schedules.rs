//! The queue of group commit under a scheduler that chooses who runs next: the file itself, on the scheduler's locks.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::sync::Mutex;
use shuttle::thread;

#[path = "../src/commit_queue.rs"]
#[expect(unreachable_pub, reason = "in its own crate it is public")]
mod commit_queue;

mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};

    /// As the real one, of what the scheduler knows.
    #[derive(Debug)]
    pub(crate) struct Latch<T>(Mutex<Option<T>>, Condvar);

    impl<T: Clone> Latch<T> {
        pub(crate) fn new() -> Latch<T> {
            Latch(Mutex::new(None), Condvar::new())
        }

        pub(crate) fn set(&self, value: T) {
            self.0.lock().unwrap().get_or_insert(value);
            self.1.notify_all();
        }

        pub(crate) fn get(&self) -> Option<T> {
            self.0.lock().unwrap().clone()
        }

        pub(crate) fn wait(&self) -> T {
            let mut value = self.0.lock().unwrap();
            while value.is_none() {
                value = self.1.wait(value).unwrap();
            }
            value.clone().unwrap()
        }
    }
}

use commit_queue::CommitQueue;

/// A log that fails at one write, and a ledger of what was decided, as the engine has them.
struct World {
    queue: CommitQueue<u64, &'static str>,
    /// What was decided, and in which generation.
    decided: Mutex<(Vec<u64>, u64)>,
    durable: Mutex<Vec<u64>>,
    writes: AtomicU64,
    fails_at: Option<u64>,
}

impl World {
    fn new(fails_at: Option<u64>) -> Arc<World> {
        Arc::new(World {
            queue: CommitQueue::new(),
            decided: Mutex::new((Vec::new(), 0)),
            durable: Mutex::new(Vec::new()),
            writes: AtomicU64::new(0),
            fails_at,
        })
    }

    fn write(&self, items: Vec<u64>) -> Result<(), &'static str> {
        assert!(!items.is_empty(), "nobody writes nothing");
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        // Where a real write takes its time, others run.
        thread::yield_now();
        if self.fails_at == Some(number) {
            return Err("the disk failed");
        }
        self.durable.lock().unwrap().extend(items);
        Ok(())
    }

    /// Decides on everything decided before, as a thread of an embedder does, and waits for the answer.
    fn execute(&self, item: u64) -> Result<(), &'static str> {
        let ticket = loop {
            let mut decided = self.decided.lock().unwrap();
            if decided.1 != self.queue.generation() {
                decided.0.clone_from(&self.durable.lock().unwrap());
                decided.1 = self.queue.generation();
            }
            decided.0.push(item);
            if let Ok(ticket) = self.queue.push(decided.1, item) {
                break ticket;
            }
        };
        let answer = self.queue.wait(&ticket, &mut |items| self.write(items));
        answer.map_err(|error| *error)
    }

    /// Reads what was decided, and answers no sooner than that is durable. Returns what it saw.
    fn refuse(&self) -> Option<Vec<u64>> {
        let (seen, last) = {
            let decided = self.decided.lock().unwrap();
            let last = self.queue.last();
            if self.queue.generation() != decided.1 {
                return None;
            }
            (decided.0.clone(), last)
        };
        match last {
            Some(ticket) => {
                let answer = self.queue.wait(&ticket, &mut |items| self.write(items));
                answer.is_ok().then_some(seen)
            }
            None => Some(seen),
        }
    }
}

/// Three threads that write and one that is refused; `fails_at` is the write that fails.
fn threads(fails_at: Option<u64>) {
    let world = World::new(fails_at);
    let writers: Vec<_> = (1..=3)
        .map(|item| {
            let world = world.clone();
            thread::spawn(move || {
                let answer = world.execute(item);
                if answer.is_ok() {
                    let durable = world.durable.lock().unwrap();
                    assert!(durable.contains(&item), "answered, and not durable");
                }
                answer
            })
        })
        .collect();
    let refused = {
        let world = world.clone();
        thread::spawn(move || {
            if let Some(seen) = world.refuse() {
                let durable = world.durable.lock().unwrap();
                assert!(
                    durable.starts_with(&seen),
                    "an answer rests on {seen:?}, and {durable:?} is durable"
                );
            }
        })
    };
    let answers: Vec<_> = writers
        .into_iter()
        .map(|writer| writer.join().unwrap())
        .collect();
    refused.join().unwrap();
    let durable = world.durable.lock().unwrap().clone();
    let succeeded = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(durable.len(), succeeded, "{answers:?} {durable:?}");
    assert!(world.queue.last().is_none(), "everything is settled");
    assert!(world.queue.is_empty());
    if fails_at.is_none() {
        assert_eq!(succeeded, 3);
        assert!(world.writes.load(Ordering::Relaxed) <= 3);
    }
}

#[test]
fn no_answer_is_given_before_what_it_rests_on_is_durable() {
    shuttle::check_random(|| threads(None), 20_000);
    shuttle::check_pct(|| threads(None), 20_000, 4);
}

#[test]
fn a_write_that_fails_fails_for_all_that_rest_on_it() {
    for write in 0..2 {
        shuttle::check_random(move || threads(Some(write)), 20_000);
        shuttle::check_pct(move || threads(Some(write)), 20_000, 4);
    }
}

/// A leader whose group failed before its turn, and the leader of a later group, may sleep at once: both must wake up.
#[test]
fn nobody_sleeps_on_after_a_write_that_failed() {
    let run = || {
        let world = World::new(Some(0));
        let writers: Vec<_> = (0..5)
            .map(|item| {
                let world = world.clone();
                thread::spawn(move || world.execute(item))
            })
            .collect();
        for writer in writers {
            // That it ends is what is tested: the scheduler tells when all that are left sleep.
            let _ = writer.join().unwrap();
        }
        assert!(world.queue.last().is_none(), "everything is settled");
    };
    shuttle::check_random(run, 20_000);
    shuttle::check_pct(run, 20_000, 5);
}

#[test]
fn two_writers_in_tens_of_thousands_of_orders() {
    // All of them take minutes.
    shuttle::check_dfs(
        || {
            let world = World::new(None);
            let other = world.clone();
            let writer = thread::spawn(move || other.execute(1));
            assert_eq!(world.execute(2), Ok(()));
            assert_eq!(writer.join().unwrap(), Ok(()));
            let durable = world.durable.lock().unwrap().clone();
            assert!(durable == [1, 2] || durable == [2, 1], "{durable:?}");
        },
        Some(20_000),
    );
}

#[test]
fn threads_that_wait_together_share_a_write() {
    let shared = Arc::new(AtomicU64::new(0));
    let counted = shared.clone();
    shuttle::check_random(
        move || {
            let world = World::new(None);
            let writers: Vec<_> = (0..4)
                .map(|item| {
                    let world = world.clone();
                    thread::spawn(move || world.execute(item))
                })
                .collect();
            for writer in writers {
                assert_eq!(writer.join().unwrap(), Ok(()));
            }
            if world.writes.load(Ordering::Relaxed) < 4 {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        },
        2_000,
    );
    assert!(shared.load(Ordering::Relaxed) > 200, "{shared:?} of 2000");
}
