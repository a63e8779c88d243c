//! One directory, opened more than once in one process, and writers that have nothing to do.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use momentlog::{CheckpointListFlags, ManualClock};

use super::*;

/// Options of connections that wait for no lock, and whose writers keep it.
fn at_once() -> Options {
    Options {
        lock_wait: Duration::ZERO,
        hold_lock: Duration::MAX,
        ..Options::default()
    }
}

fn checkpoint(domain: &Domain, name: &str) -> Result<(), Error> {
    let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
    let made = domain.checkpoint_create_xml(&xml, CheckpointCreateFlags::default());
    made.map(|_| ())
}

fn names(domain: &Domain) -> Vec<String> {
    let all = domain
        .list_all_checkpoints(CheckpointListFlags::NONE)
        .unwrap();
    all.iter()
        .map(|checkpoint| checkpoint.name().to_string())
        .collect()
}

#[test]
fn connections_to_one_directory_share_its_engine_whichever_way_it_is_written() {
    let scratch = Scratch::new();
    let link = scratch.path().with_file_name("link");
    symlink(scratch.path(), &link).unwrap();
    let first = Connection::open_with(&scratch.uri(), at_once()).unwrap();
    let domain = first.define_domain_xml(DOMAIN).unwrap();
    domain.start().unwrap();
    // The first one holds the lock, and the others write without it.
    let uris = [scratch.uri(), format!("momentlog://{}", link.display())];
    for (uri, name) in uris.iter().zip(["a", "b"]) {
        let other = Connection::open_with(uri, at_once()).unwrap();
        let domain = other.lookup_domain_by_name("vm").unwrap();
        checkpoint(&domain, name).unwrap();
    }
    assert_eq!(names(&domain), ["a", "b"]);
    // Each has a caller of its own.
    let read_only = Options {
        read_only: true,
        ..at_once()
    };
    let reader = Connection::open_with(&scratch.uri(), read_only).unwrap();
    let domain = reader.lookup_domain_by_name("vm").unwrap();
    assert!(checkpoint(&domain, "c").is_err());
    assert_eq!(names(&domain), ["a", "b"]);
}

#[test]
fn threads_that_open_one_directory_at_once_lose_nothing() {
    let scratch = Scratch::new();
    let first = Connection::open_with(&scratch.uri(), Options::default()).unwrap();
    first.define_domain_xml(DOMAIN).unwrap().start().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let uri = scratch.uri();
            scope.spawn(move || {
                for count in 0..10 {
                    let store = Connection::open(&uri).unwrap();
                    let domain = store.lookup_domain_by_name("vm").unwrap();
                    checkpoint(&domain, &format!("{thread}-{count}")).unwrap();
                }
            });
        }
    });
    let domain = first.lookup_domain_by_name("vm").unwrap();
    assert_eq!(names(&domain).len(), 80);
}

#[test]
fn one_with_another_clock_or_wait_is_opened_once_more() {
    let scratch = Scratch::new();
    let first = Connection::open_with(&scratch.uri(), at_once()).unwrap();
    first.define_domain_xml(DOMAIN).unwrap().start().unwrap();
    let clock = Options {
        clock: Arc::new(ManualClock::default()),
        ..at_once()
    };
    let wait = Options {
        lock_wait: Duration::from_millis(1),
        ..at_once()
    };
    let alone = Options {
        shared: false,
        ..at_once()
    };
    for options in [clock, wait, alone] {
        let other = Connection::open_with(&scratch.uri(), options).unwrap();
        let domain = other.lookup_domain_by_name("vm").unwrap();
        let error = checkpoint(&domain, "a").unwrap_err();
        assert!(error.to_string().contains("is being written"), "{error}");
    }
}

#[test]
fn the_last_one_that_is_dropped_lets_others_write() {
    let scratch = Scratch::new();
    let first = Connection::open_with(&scratch.uri(), at_once()).unwrap();
    let second = Connection::open_with(&scratch.uri(), at_once()).unwrap();
    first.define_domain_xml(DOMAIN).unwrap().start().unwrap();
    let end = first.view().head();
    // What is followed keeps no lock.
    let mut subscription = second.subscribe(end);
    let alone = || Options {
        shared: false,
        ..at_once()
    };
    let other = Connection::open_with(&scratch.uri(), alone()).unwrap();
    let domain = other.lookup_domain_by_name("vm").unwrap();
    drop(first);
    assert!(checkpoint(&domain, "a").is_err());
    drop(second);
    checkpoint(&domain, "a").unwrap();
    let entries = subscription.next(Duration::from_mins(1)).unwrap();
    assert_eq!(entries.len(), 1);
}

#[test]
fn a_writer_that_is_idle_lets_others_in_and_comes_back() {
    let scratch = Scratch::new();
    let open = |shared| {
        let options = Options {
            shared,
            hold_lock: Duration::from_millis(1),
            lock_wait: Duration::from_mins(5),
            ..Options::default()
        };
        Connection::open_with(&scratch.uri(), options).unwrap()
    };
    let stores = [open(true), open(false), open(false)];
    stores[0]
        .define_domain_xml(DOMAIN)
        .unwrap()
        .start()
        .unwrap();
    for round in 0..3 {
        for (index, store) in stores.iter().enumerate() {
            let domain = store.lookup_domain_by_name("vm").unwrap();
            checkpoint(&domain, &format!("{round}-{index}")).unwrap();
        }
    }
    let domain = stores[0].lookup_domain_by_name("vm").unwrap();
    assert_eq!(names(&domain).len(), 9);
}

#[test]
fn a_directory_that_was_replaced_is_opened_once_more() {
    let scratch = Scratch::new();
    let before = Connection::open(&scratch.uri()).unwrap();
    let gone = before.define_domain_xml(DOMAIN).unwrap();
    std::fs::remove_dir_all(scratch.path()).unwrap();
    let alone = scratch.open();
    let other = DOMAIN.replace("<name>vm<", "<name>other<");
    alone.define_domain_xml(&other).unwrap();
    drop(alone);
    let after = Connection::open(&scratch.uri()).unwrap();
    let domain = after.lookup_domain_by_name("other").unwrap();
    domain.start().unwrap();
    assert!(gone.start().is_err());
    assert_eq!(after.entries(None).unwrap().len(), 3);
}
