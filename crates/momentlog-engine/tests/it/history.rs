//! The history of a log, and those who wait for more of it.

use std::time::{Duration, Instant};

use momentlog_store::{FileStore, RealDisk, Seq};

use super::*;

#[test]
fn a_history_ends_at_the_first_of_its_bounds() {
    let log = log();
    let seq = |number| Seq::new(number).unwrap();
    for bounds in [[2, 3], [3, 2]] {
        let mut history = log.history(None).unwrap();
        for bound in bounds {
            history = history.up_to(seq(bound));
        }
        let last = history.entries().last().unwrap().unwrap();
        assert_eq!(last.head.seq, seq(2), "{bounds:?}");
    }
}

#[test]
fn a_history_is_read_while_the_log_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Box<dyn Store>; 2] = [
        Box::new(MemoryStore::new()),
        Box::new(FileStore::new(RealDisk::new(dir.path().join("store")))),
    ];
    for store in stores {
        let log = log_over(store);
        // More than one batch.
        for _ in 0..400 {
            execute(&log, checkpoint("a"));
            execute(
                &log,
                Action::Delete {
                    kind: momentlog_core::MomentKind::Checkpoint,
                    name: MomentName::new("a").unwrap(),
                    extent: momentlog_core::Extent::One,
                },
            );
        }
        let mut last = 0;
        for step in log.history(None).unwrap() {
            let step = step.unwrap();
            let seq = step.entry.head.seq;
            assert_eq!(seq.get(), last + 1);
            assert_eq!(step.before.head().map_or(0, |head| head.seq.get()), last);
            assert_eq!(step.after.head(), Some(step.entry.head));
            if seq.get() % 100 == 0 {
                // Neither of these waits for the history.
                assert_eq!(log.view_at(seq).unwrap(), step.after);
                execute(&log, Action::ChangeState(StateChange::Suspend));
                execute(&log, Action::ChangeState(StateChange::Resume));
            }
            last = seq.get();
        }
        let end = log.view().head().unwrap();
        assert!(last >= 803, "{last}");
        let behind = log.history(Some(end)).unwrap().count();
        assert_eq!(behind, 0);
    }
}

#[test]
fn a_history_from_a_record_begins_behind_it() {
    let log = log();
    for name in ["a", "b", "c"] {
        execute(&log, checkpoint(name));
    }
    let entries = log.entries(None).unwrap();
    for (index, entry) in entries.iter().enumerate() {
        let behind: Vec<_> = log
            .history(Some(entry.head))
            .unwrap()
            .entries()
            .map(Result::unwrap)
            .collect();
        assert_eq!(behind, entries[index + 1..]);
        let view = log.view_at(Seq::new(index as u64 + 1).unwrap()).unwrap();
        assert_eq!(view.head(), Some(entry.head));
    }
}

#[test]
fn a_writer_of_this_process_wakes_a_subscriber() {
    const WAIT: Duration = Duration::from_mins(1);
    let log = Arc::new(log());
    let end = log.view().head();
    for _ in 0..20 {
        let mut subscription = log.subscribe(end);
        let waiter = std::thread::spawn(move || {
            let begun = Instant::now();
            let entries = subscription.next(WAIT).unwrap();
            (entries.len(), begun.elapsed())
        });
        execute(&log, Action::ChangeState(StateChange::Suspend));
        execute(&log, Action::ChangeState(StateChange::Resume));
        let (count, after) = waiter.join().unwrap();
        // One that is not woken sleeps until its wait is over, and finds the entries then.
        assert!(count > 0 && after < WAIT, "{count} after {after:?}");
    }
}

#[test]
fn the_state_as_of_a_time_is_that_of_the_last_record_until_then() {
    use momentlog_engine::ManualClock;
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at_second(100));
    let (store, archive) = (dir.path().join("store"), dir.path().join("archive"));
    let options = Options {
        clock: clock.clone(),
        ..Options::default()
    };
    let log = log_with(Box::new(FileStore::new(RealDisk::new(&store))), options);
    // Records 1 to 3 are of second 100.
    for (second, name) in [(200, "a"), (200, "b"), (300, "c"), (400, "d")] {
        clock.set_second(second);
        execute(&log, checkpoint(name));
        if name == "b" {
            log.make_image().unwrap();
        }
    }
    let seq_at = |second: i64| {
        let view = log.view_as_of(second * 1_000_000).unwrap();
        view.head().map_or(0, |head| head.seq.get())
    };
    let expected = [
        (99, 0),
        (100, 3),
        (199, 3),
        (200, 5),
        (299, 5),
        (300, 6),
        (500, 7),
    ];
    for (second, seq) in expected {
        assert_eq!(seq_at(second), seq, "second {second}");
    }
    log.archive(&Provenance::default(), &RealDisk::new(&archive))
        .unwrap();
    assert_eq!(seq_at(500), 8);
    let gone = log.view_as_of(300_000_000).unwrap_err();
    assert!(gone.to_string().contains("moved to an archive"), "{gone}");
}

#[test]
fn one_entry_and_the_steps_of_one_domain_are_found() {
    let log = log();
    let other = DomainUuid::from_bytes([9; 16]);
    let def = momentlog_core::DomainDef {
        name: "other".into(),
        uuid: other,
        memory_kib: 1,
        disks: Vec::new(),
        xml: "<domain/>\n".into(),
    };
    let define = Command {
        domain: other,
        action: Action::Define(Arc::new(def)),
    };
    log.execute(&Provenance::default(), &define).unwrap();
    execute(&log, checkpoint("a"));
    let entries = log.entries(None).unwrap();
    for entry in &entries {
        let found = log.entry(entry.head.seq).unwrap();
        assert_eq!(found.as_ref(), Some(entry));
    }
    assert_eq!(log.entry(Seq::new(6).unwrap()).unwrap(), None);
    let steps = |domain| -> Vec<u64> {
        let steps = log.history_of(domain).unwrap();
        steps
            .map(|step| step.unwrap().entry.head.seq.get())
            .collect()
    };
    assert_eq!(steps(DOMAIN), [2, 3, 5]);
    assert_eq!(steps(other), [4]);
}

#[test]
fn what_was_submitted_is_durable_after_a_flush() {
    let log = log();
    let who = Provenance::default();
    let request = momentlog_engine::Request::of_command(
        &who,
        (momentlog_engine::Call::EXECUTE, 0),
        &command(checkpoint("a")),
    );
    let pending = log.submit(&[request], &mut |decision, _| {
        decision.decide(&command(checkpoint("a")))?;
        Ok::<_, momentlog_engine::EngineError>(())
    });
    assert_eq!(log.view().head().unwrap().seq.get(), 3);
    log.flush().unwrap();
    assert_eq!(log.view().head().unwrap().seq.get(), 4);
    assert_eq!(log.answer(pending.unwrap()).unwrap()[0].seq.get(), 4);
    log.close().unwrap();
}

/// The one writer of a store need not look at it. Once others may write, a waiter must.
#[test]
fn a_waiter_looks_at_the_store_once_another_process_may_write() {
    const WAIT: Duration = Duration::from_mins(1);
    let dir = tempfile::tempdir().unwrap();
    let files = || Box::new(FileStore::new(RealDisk::new(dir.path().join("store"))));
    let log = Arc::new(log_over(files()));
    let other = Log::over(files(), Options::default());
    // In most rounds the waiter is asleep when the store is released.
    for round in 0..20 {
        let mut subscription = log.subscribe(log.refresh().unwrap().head());
        let waiter = std::thread::spawn(move || {
            let begun = Instant::now();
            let entries = subscription.next(WAIT).unwrap();
            (entries.len(), begun.elapsed())
        });
        std::thread::yield_now();
        log.release();
        let change = [StateChange::Suspend, StateChange::Resume][round % 2];
        execute(&other, Action::ChangeState(change));
        let (count, after) = waiter.join().unwrap();
        assert!(count == 1 && after < WAIT, "{count} after {after:?}");
        other.release();
        // It is the one writer again.
        let back = [StateChange::Resume, StateChange::Suspend][round % 2];
        execute(&log, Action::ChangeState(back));
        execute(&log, Action::ChangeState(change));
    }
}
