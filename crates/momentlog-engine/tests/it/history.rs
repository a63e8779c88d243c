//! The history of a log, and those who wait for more of it.

use std::time::{Duration, Instant};

use momentlog_store::{FileStore, RealDisk, Seq};

use super::*;

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
    let log = Arc::new(log());
    let end = log.view().head();
    for _ in 0..20 {
        let mut subscription = log.subscribe(end);
        let waiter = std::thread::spawn(move || {
            let begun = Instant::now();
            let entries = subscription.next(Duration::from_mins(1)).unwrap();
            (entries.len(), begun.elapsed())
        });
        execute(&log, Action::ChangeState(StateChange::Suspend));
        execute(&log, Action::ChangeState(StateChange::Resume));
        let (count, waited) = waiter.join().unwrap();
        assert!(count > 0, "it was not woken within {waited:?}");
    }
}
