//! Followers, who are woken by notifications, or look where none arrive.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use momentlog::{Connection, Options};
use momentlog_postgres::{Address, PostgresStore};
use momentlog_store::{LogId, Store};

use super::{LOG, draft, open, read, server};

const WAIT: Duration = Duration::from_mins(1);

#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + WAIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Watches a store; returns whether it listens, and how often it has called.
pub(crate) fn watch(store: &mut PostgresStore) -> (Arc<AtomicBool>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let listens = store.watch(Box::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    (listens.unwrap(), calls)
}

fn append(store: &mut PostgresStore, log: LogId, facts: &str) {
    store.acquire(WAIT).unwrap();
    let end = store.head();
    store.append(log, end, vec![draft(facts)]).unwrap();
}

#[test]
fn a_follower_is_woken_by_what_another_appends_also_after_its_connection_was_ended() {
    let Some(server) = server("notifications of PostgreSQL") else {
        return;
    };
    let mut writer = open(&server, "agent", "main");
    let mut other_log = open(&server, "agent", "other");
    super::init(&server, "other");
    let mut follower = open(&server, "auditor", "main");
    let (listens, calls) = watch(&mut follower);
    let called = |at_least| {
        wait_until("a call", || calls.load(Ordering::SeqCst) >= at_least);
        assert_eq!(calls.load(Ordering::SeqCst), at_least);
    };
    // One for the notification that it tries itself with, and one when it listens.
    called(2);
    assert!(listens.load(Ordering::SeqCst));
    // What another log appends wakes no follower of this one, though it comes first.
    append(&mut other_log, LogId([8; 16]), "elsewhere");
    append(&mut writer, LOG, "first");
    called(3);
    assert_eq!(read(&mut follower, None).unwrap().len(), 1);
    let end =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'auditor'";
    server.psql("admin", end).unwrap();
    // One when it hears nothing any more, and two as above.
    called(6);
    assert!(listens.load(Ordering::SeqCst));
    append(&mut writer, LOG, "second");
    called(7);
    assert_eq!(read(&mut follower, None).unwrap().len(), 2);
}

/// Passes on what clients and the server say to each other, but for notifications, as a pool does that shares connections
/// between transactions.
fn without_notifications(server: PathBuf, scratch: &Path) {
    const NOTIFICATION: u8 = b'A';
    let listener = UnixListener::bind(scratch.join(".s.PGSQL.5432")).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut server = UnixStream::connect(&server).unwrap();
            let (mut asks, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut asks, &mut asked);
                let _ = asked.shutdown(std::net::Shutdown::Both);
            });
            std::thread::spawn(move || {
                let mut head = [0; 5];
                while server.read_exact(&mut head).is_ok() {
                    let length = u32::from_be_bytes(head[1..].try_into().unwrap());
                    let mut body = vec![0; length as usize - 4];
                    let passed = server.read_exact(&mut body).and_then(|()| {
                        if head[0] == NOTIFICATION {
                            return Ok(());
                        }
                        client.write_all(&head)?;
                        client.write_all(&body)
                    });
                    if passed.is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
}

#[test]
fn a_follower_that_no_notification_reaches_says_so_once_and_looks() {
    let Some(server) = server("PostgreSQL behind a pool") else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    without_notifications(
        server.data().with_file_name(".s.PGSQL.5432"),
        scratch.path(),
    );
    let uri = format!(
        "postgres://auditor@/postgres?host={}&sslmode=disable&log=main",
        scratch.path().display()
    );
    let follower = || PostgresStore::open(Address::parse(&uri).unwrap()).unwrap();
    let mut watched = follower();
    let (listens, calls) = watch(&mut watched);
    // It ends, and gives back what it was to call.
    wait_until("its end", || Arc::strong_count(&calls) == 1);
    assert!(!listens.load(Ordering::SeqCst));
    let mut subscription =
        Connection::over(Box::new(follower()), Options::default()).subscribe(None);
    let writer = Connection::over(Box::new(open(&server, "agent", "main")), Options::default());
    writer.define_domain_xml(super::threads::XML).unwrap();
    let mut seen = 0;
    wait_until("the entries", || {
        seen += subscription.next(Duration::from_secs(1)).unwrap().len();
        seen >= 2
    });
}
