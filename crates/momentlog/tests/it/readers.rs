//! Several connections to one store: one writes, any number read.

use std::time::Duration;

use momentlog::store::{MemoryStore, Seq, StoreError};
use momentlog::{CheckpointListFlags, Options};

use super::*;

#[test]
fn a_reader_sees_what_was_answered_and_never_waits() {
    let scratch = Scratch::new();
    let (_writer, domain) = scratch.with_domain();
    let reader = Connection::open_read_only(&scratch.uri()).unwrap();
    let seen = reader.lookup_domain_by_name("vm").unwrap();
    for count in 1..=5 {
        checkpoint(&domain, &format!("c{count}")).unwrap();
        assert_eq!(
            seen.list_all_checkpoints(CheckpointListFlags::NONE)
                .unwrap()
                .len(),
            count
        );
    }
}

#[test]
fn a_view_stays_as_it_was() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    let view = store.view();
    checkpoint(&domain, "b").unwrap();
    assert_eq!(
        view.state()
            .domain(domain.uuid())
            .unwrap()
            .checkpoints()
            .len(),
        1
    );
    assert_eq!(view.state().check(), Ok(()));
}

#[test]
fn writers_take_turns_when_the_first_lets_go() {
    let scratch = Scratch::new();
    let (one, domain) = scratch.with_domain();
    let options = Options {
        lock_wait: Duration::from_millis(1),
        ..Options::default()
    };
    let two = Connection::open_with(&scratch.uri(), options).unwrap();
    let theirs = two.lookup_domain_by_name("vm").unwrap();
    let (code, _, message) = told(checkpoint(&theirs, "a"));
    assert_eq!(code, 38);
    assert!(
        message.contains(&format!(
            "is being written by process {}",
            std::process::id()
        )),
        "{message}"
    );
    one.release();
    checkpoint(&theirs, "a").unwrap();
    two.release();
    // The first decides on what the second has written.
    assert_eq!(told(checkpoint(&domain, "a")).0, 9);
    checkpoint(&domain, "b").unwrap();
}

#[test]
fn a_thread_that_waits_for_another_writer_keeps_no_reader_waiting() {
    let scratch = Scratch::new();
    let holding = Options {
        hold_lock: Duration::MAX,
        ..Options::default()
    };
    let holder = Connection::open_with(&scratch.uri(), holding).unwrap();
    holder.define_domain_xml(DOMAIN).unwrap();
    holder.lookup_domain_by_name("vm").unwrap().start().unwrap();
    let options = Options {
        lock_wait: Duration::from_secs(5),
        ..Options::default()
    };
    let other = Connection::open_with(&scratch.uri(), options).unwrap();
    let domain = other.lookup_domain_by_name("vm").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| checkpoint(&domain, "a"));
        // A reader who waited for the writer would still wait when the writer has given up.
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(20));
            other.refresh().unwrap();
        }
        holder.release();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn threads_of_one_process_share_a_connection() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let domain = &domain;
            scope.spawn(move || {
                for index in 0..10 {
                    checkpoint(domain, &format!("t{thread}-{index}")).unwrap();
                }
            });
        }
    });
    let view = store.view();
    assert_eq!(
        view.state()
            .domain(domain.uuid())
            .unwrap()
            .checkpoints()
            .len(),
        40
    );
    assert_eq!(
        (view.state().check(), view.state().check_policy()),
        (Ok(()), Ok(()))
    );
}

#[test]
fn a_subscription_brings_each_entry_once() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let mut subscription = scratch
        .open()
        .subscribe(Some(store.entries(None).unwrap()[0].head));
    let mut next = || -> Vec<u64> {
        let entries = subscription.next(Duration::from_millis(1)).unwrap();
        entries.iter().map(|entry| entry.head.seq.get()).collect()
    };
    assert_eq!(next(), [2]);
    assert_eq!(next(), []);
    checkpoint(&domain, "a").unwrap();
    checkpoint(&domain, "b").unwrap();
    assert_eq!(next(), [3, 4]);
    drop(store);
}

#[test]
fn a_subscription_gives_what_is_before_the_damage_and_then_the_error() {
    let wait = Duration::from_millis(60);
    for is_open in [false, true] {
        let scratch = Scratch::new();
        let (store, domain) = scratch.with_domain();
        let reader = is_open.then(|| scratch.open().read_only());
        for name in ["a", "b", "c"] {
            checkpoint(&domain, name).unwrap();
        }
        drop((store, domain));
        let segment = std::fs::read_dir(scratch.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|ending| ending == "seg"))
            .unwrap();
        let mut bytes = std::fs::read(&segment).unwrap();
        let middle = bytes.len() * 3 / 4;
        bytes[middle] ^= 1;
        std::fs::write(&segment, bytes).unwrap();

        let reader = reader.unwrap_or_else(|| scratch.open().read_only());
        let mut subscription = reader.subscribe(None);
        let mut next = || {
            let begun = std::time::Instant::now();
            let found = subscription.next(wait);
            (found, begun.elapsed())
        };
        let sound = next().0.unwrap();
        let seqs: Vec<u64> = sound.iter().map(|entry| entry.head.seq.get()).collect();
        assert!((2..5).contains(&seqs.len()), "{seqs:?}");
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
        for is_first in [true, false, false] {
            let (found, took) = next();
            let error = found.unwrap_err();
            assert!(
                matches!(error.store(), Some(StoreError::Damaged { .. })),
                "{error:?}"
            );
            // A caller who asks again and again is not busy with it.
            assert!(is_first || took >= wait, "{took:?}");
        }
    }
}

#[test]
fn a_store_in_memory_keeps_the_same_promises() {
    let store = Connection::over(Box::new(MemoryStore::new()), Options::default());
    let domain = store.define_domain_xml(DOMAIN).unwrap();
    checkpoint(&domain, "a").unwrap();
    assert_eq!(store.entries(None).unwrap().len(), 3);
    assert_eq!(
        store.view_at(Seq::new(3).unwrap()).unwrap().state(),
        store.view().state()
    );
}

#[test]
fn uris_that_name_no_store_are_refused() {
    for uri in [
        "",
        "qemu:///system",
        "test:///other",
        "momentlog:",
        "momentlog://host/x",
        "momentlog:x?profile=y",
    ] {
        assert_eq!(told(Connection::open(uri)).0, 5, "{uri}");
    }
}

#[test]
fn a_writer_that_waited_decides_on_what_was_written_meanwhile() {
    let scratch = Scratch::new();
    let (one, domain) = scratch.with_domain();
    let two = scratch.open();
    let theirs = two.lookup_domain_by_name("vm").unwrap();
    std::thread::scope(|scope| {
        // It decides, waits for the lock, and has to decide again on all that came in between.
        let waiting = scope.spawn(|| checkpoint(&theirs, "last"));
        for index in 0..200 {
            checkpoint(&domain, &format!("c{index}")).unwrap();
        }
        one.release();
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(
        theirs
            .checkpoint_lookup_by_name("last")
            .unwrap()
            .parent()
            .unwrap()
            .unwrap()
            .name()
            .as_str(),
        "c199"
    );
}

#[test]
fn a_store_that_is_opened_is_known_at_once() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    let head = store.view().head();
    assert!(head.is_some());
    drop((store, domain));
    let reopened = scratch.open();
    assert_eq!(reopened.view().head(), head);
    assert!(reopened.log_id().is_some());
    let mut later = reopened.subscribe(reopened.view().head());
    assert_eq!(later.next(std::time::Duration::ZERO).unwrap(), []);
}

#[test]
fn a_root_and_a_moment_that_is_gone_are_told_apart() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    checkpoint(&domain, "root").unwrap();
    let root = domain.checkpoint_lookup_by_name("root").unwrap();
    assert!(root.parent().unwrap().is_none());
    root.delete(momentlog::CheckpointDeleteFlags::NONE).unwrap();
    let gone = "Domain checkpoint not found: no domain checkpoint with matching name 'root'";
    assert_eq!(told(root.parent()), (103, 12, gone.to_owned()));
    snapshot(&domain, "root").unwrap();
    let root = domain.snapshot_lookup_by_name("root").unwrap();
    assert!(root.parent().unwrap().is_none());
    root.delete(momentlog::SnapshotDeleteFlags::NONE).unwrap();
    assert_eq!(told(root.parent()).0, 72);
}

#[test]
fn an_error_says_its_cause_once() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let errors = [
        domain.resume().unwrap_err(),
        store.define_domain_xml("<domain>").map(|_| ()).unwrap_err(),
        Connection::open_read_only("momentlog:///nowhere/at-all")
            .map(|_| ())
            .unwrap_err(),
    ];
    for error in &errors {
        let mut said = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            assert!(!said.contains(&cause.to_string()), "{said}: {cause}");
            said = format!("{said}: {cause}");
            source = cause.source();
        }
    }
    assert!(errors[0].refusal().is_some());
    assert!(errors[1].xml().is_some());
    assert!(errors[2].store().is_some());
}
