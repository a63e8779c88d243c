//! A store is put back, archived, or made up, while connections to it are open.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use momentlog::core::{Action, Command, StateChange};
use momentlog::store::{
    Damage, Digest, Draft, Head, LogId, MemoryStore, Record, Seq, Store, StoreError,
};
use momentlog::{Connection, Options, Provenance};

use super::*;

fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

fn put_back(path: &Path, copy: &Path) {
    std::fs::remove_dir_all(path).unwrap();
    std::fs::rename(copy, path).unwrap();
}

#[track_caller]
fn is_replaced<T: std::fmt::Debug>(result: Result<T, Error>, had: u64, found: u64) {
    let error = result.unwrap_err();
    match error.store() {
        Some(StoreError::Replaced {
            had: Some(was),
            found: Some(is),
            ..
        }) => assert_eq!((was.seq.get(), is.seq.get()), (had, found)),
        other => panic!("{other:?}"),
    }
    assert_eq!(error.code(), momentlog::ErrorCode::SystemError);
}

#[test]
fn a_connection_that_was_open_when_a_copy_was_put_back_acknowledges_nothing() {
    let scratch = Scratch::new();
    let old = scratch.path().with_extension("old");
    {
        let (_, domain) = scratch.with_domain();
        checkpoint(&domain, "monday").unwrap();
    }
    copy(&scratch.path(), &old);
    let keyed = |store: &Connection| {
        store.with_provenance(Provenance {
            request_id: Some("k1".into()),
            ..Provenance::default()
        })
    };
    let writer = scratch.open();
    let domain = writer.lookup_domain_by_name("vm").unwrap();
    checkpoint(&domain, "tuesday").unwrap();
    let start = Command {
        domain: domain.uuid(),
        action: Action::ChangeState(StateChange::Start),
    };
    keyed(&writer).execute(&start).unwrap();
    writer.release();
    let reader = scratch.open();
    reader.refresh().unwrap();
    let auditor = Connection::open_read_only(&scratch.uri()).unwrap();
    let mut subscription = auditor.subscribe(auditor.view().head());
    let kept = auditor.receipt().unwrap().unwrap();
    let last = kept.head.seq.get();

    put_back(&scratch.path(), &old);
    for store in [&writer, &reader] {
        for _ in 0..2 {
            let domain = store.domain_handle(domain.uuid(), "vm");
            is_replaced(checkpoint(&domain, "thursday"), last, 3);
            is_replaced(keyed(store).execute(&start), last, 3);
            is_replaced(store.refresh(), last, 3);
        }
    }
    is_replaced(auditor.refresh(), last, 3);
    is_replaced(auditor.receipt(), last, 3);
    is_replaced(auditor.entries(None), last, 3);
    is_replaced(auditor.verify_since(kept), last, 3);
    is_replaced(subscription.next(Duration::from_millis(1)), last, 3);
    drop((writer, reader, auditor, subscription));

    // What was put back is sound, and goes on.
    let store = scratch.open();
    let domain = store.lookup_domain_by_name("vm").unwrap();
    checkpoint(&domain, "friday").unwrap();
    let forked = store.verify_since(kept).unwrap_err();
    assert!(
        matches!(forked.store(), Some(StoreError::Truncated { had, end: Some(_) }) if *had == kept.head),
        "{forked:?}"
    );
    for name in ["a", "b", "c", "d"] {
        checkpoint(&domain, name).unwrap();
    }
    drop((store, domain));
    let found = momentlog::verify(&scratch.path(), None, None, &mut |_| {}).unwrap();
    assert_eq!(found.verdict().exit_status(false), 0);
    // A place that was read before is not passed over in silence.
    let store = scratch.open();
    for error in [
        store.entries(Some(kept.head)).unwrap_err(),
        store
            .subscribe(Some(kept.head))
            .next(Duration::ZERO)
            .unwrap_err(),
        store.verify_since(kept).unwrap_err(),
    ] {
        assert!(
            matches!(error.store(), Some(StoreError::Forked { at }) if *at == kept.head.seq),
            "{error:?}"
        );
    }
}

#[test]
fn the_holder_of_the_lock_acknowledges_nothing_once_a_copy_was_put_back() {
    let scratch = Scratch::new();
    let old = scratch.path().with_extension("old");
    let (store, domain) = scratch.with_domain();
    copy(&scratch.path(), &old);
    checkpoint(&domain, "monday").unwrap();
    put_back(&scratch.path(), &old);
    is_replaced(checkpoint(&domain, "tuesday"), 3, 2);
    is_replaced(checkpoint(&domain, "wednesday"), 3, 2);
    is_replaced(store.make_image(), 3, 2);
    is_replaced(
        store.archive(&scratch.path().with_extension("archive")),
        3,
        2,
    );
    drop((store, domain));
    let found = momentlog::verify(&scratch.path(), None, None, &mut |_| {}).unwrap();
    assert_eq!(found.verdict().exit_status(false), 0);
    assert_eq!(found.log.records, 2);
}

#[test]
fn a_receipt_is_enough_to_verify_what_comes_after() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let first = store.receipt().unwrap().unwrap();
    assert_eq!(store.verify_since(first).unwrap(), first);
    checkpoint(&domain, "a").unwrap();
    let second = store.receipt().unwrap().unwrap();
    assert_eq!(store.verify_since(first).unwrap(), second);
    let foreign = momentlog::store::Receipt {
        log: LogId([1; 16]),
        ..first
    };
    let error = store.verify_since(foreign).unwrap_err();
    assert!(matches!(error.store(), Some(StoreError::Forked { .. })));
}

#[test]
fn a_subscription_that_an_archive_overtakes_says_so_once_and_goes_on_behind_the_bridge() {
    let scratch = Scratch::new();
    let archive = scratch.path().with_extension("archive");
    let (store, domain) = scratch.with_domain();
    let begin = store.view().head();
    store.release();
    for mut subscription in [store.subscribe(begin), scratch.open().subscribe(begin)] {
        let name = format!("{}", store.view().head().unwrap().seq);
        checkpoint(&domain, &name).unwrap();
        let archived = store.archive(&archive).unwrap();
        store.release();
        let error = subscription.next(Duration::ZERO).unwrap_err();
        match error.store() {
            Some(StoreError::Archived { start, .. }) => assert_eq!(*start, archived.last),
            other => panic!("{other:?}"),
        }
        checkpoint(&domain, &format!("{name}b")).unwrap();
        store.release();
        let entries = subscription.next(Duration::ZERO).unwrap();
        let seqs: Vec<u64> = entries.iter().map(|entry| entry.head.seq.get()).collect();
        let bridge = archived.bridge.seq.get();
        assert_eq!(seqs, [bridge, bridge + 1]);
        assert!(subscription.next(Duration::ZERO).unwrap().is_empty());
    }
}

/// A store of one's own that checks nothing, and changes what it gives out.
#[derive(Debug)]
struct Liar {
    inner: MemoryStore,
    lie: Arc<std::sync::Mutex<Option<Lie>>>,
}

#[derive(Clone, Copy, Debug)]
enum Lie {
    Facts,
    Text,
    ZeroDigest,
    ZeroPrevious,
    OtherLog,
    Skips,
    Shorter,
}

impl Store for Liar {
    fn log_id(&self) -> Option<LogId> {
        match *self.lie.lock().unwrap() {
            Some(Lie::OtherLog) => Some(LogId([3; 16])),
            _ => self.inner.log_id(),
        }
    }

    fn head(&self) -> Option<Head> {
        match (*self.lie.lock().unwrap(), self.inner.head()) {
            (Some(Lie::Shorter), Some(_)) => Some(Head {
                seq: Seq::FIRST,
                digest: Digest([1; 32]),
            }),
            (_, head) => head,
        }
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        self.inner.append(log, expected, drafts)
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let lie = *self.lie.lock().unwrap();
        let third = Seq::new(3).unwrap();
        self.inner.read(after, &mut |mut record| {
            match lie {
                Some(Lie::Facts) if record.seq == third => record.facts[0] ^= 1,
                Some(Lie::Text) => record.texts.clear(),
                Some(Lie::ZeroDigest) if record.seq == third => record.digest = Digest::ZERO,
                Some(Lie::ZeroPrevious) if record.seq == third => record.previous = Digest::ZERO,
                Some(Lie::Skips) if record.seq == third => return Ok(()),
                _ => {}
            }
            each(record)
        })
    }

    fn acquire(&mut self, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn release(&mut self) {}

    fn is_exclusive(&self) -> bool {
        false
    }
}

#[test]
fn a_store_of_ones_own_that_changes_what_was_appended_is_found_out() {
    for lie in [
        Lie::Facts,
        Lie::Text,
        Lie::ZeroDigest,
        Lie::ZeroPrevious,
        Lie::OtherLog,
        Lie::Skips,
        Lie::Shorter,
    ] {
        let switch = Arc::new(std::sync::Mutex::new(None));
        let store = Liar {
            inner: MemoryStore::new(),
            lie: switch.clone(),
        };
        let store = Connection::over(Box::new(store), Options::default());
        let domain = store.define_domain_xml(DOMAIN).unwrap();
        checkpoint(&domain, "a").unwrap();
        checkpoint(&domain, "b").unwrap();
        assert_eq!(store.entries(None).unwrap().len(), 4);
        let end = store.view().head();
        *switch.lock().unwrap() = Some(lie);
        let error = match lie {
            Lie::Shorter => store.refresh().unwrap_err(),
            _ => store.entries(None).unwrap_err(),
        };
        let why = match error.store() {
            Some(StoreError::Untrue { why, .. }) => why.clone(),
            Some(StoreError::Truncated { had, .. }) => {
                assert_eq!(Some(*had), end);
                assert!(matches!(lie, Lie::Shorter));
                continue;
            }
            other => panic!("{lie:?}: {other:?}"),
        };
        let expected = match lie {
            Lie::Facts | Lie::Text | Lie::ZeroDigest => Damage::Digest,
            Lie::ZeroPrevious => Damage::Chain,
            Lie::OtherLog => Damage::OtherLog {
                found: LogId([3; 16]),
            },
            Lie::Skips | Lie::Shorter => Damage::Order {
                found: Seq::new(4).unwrap(),
            },
        };
        assert_eq!(why, expected, "{lie:?}");
        *switch.lock().unwrap() = None;
        assert_eq!(store.entries(None).unwrap().len(), 4);
    }
}

#[test]
fn the_commands_of_a_script_share_their_wait_for_another_writer() {
    let scratch = Scratch::new();
    let (holder, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    let open = |lock_wait, lock_wait_shared| {
        let options = Options {
            lock_wait,
            lock_wait_shared,
            ..Options::default()
        };
        Connection::open_with(&scratch.uri(), options).unwrap()
    };
    let is_locked = |store: &Connection| {
        let domain = store.lookup_domain_by_name("vm").unwrap();
        let error = checkpoint(&domain, "b").unwrap_err();
        assert!(matches!(error.store(), Some(StoreError::Locked { .. })));
    };
    // Once it is used up, none waits: each for itself would take the tests beyond their time.
    let store = open(Duration::from_secs(1), true);
    (0..1_000).for_each(|_| is_locked(&store));
    holder.release();
    let domain = store.lookup_domain_by_name("vm").unwrap();
    checkpoint(&domain, "b").unwrap();
}
