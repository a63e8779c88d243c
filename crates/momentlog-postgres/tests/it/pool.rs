//! Clients of a pool that gives each transaction another connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use momentlog_postgres::{Address, PostgresStore};
use momentlog_proptests::PostgresPool;
use momentlog_store::verify;

use super::faults::{check, clients};
use super::following::{wait_until, watch};
use super::{VERIFY, open, server};

#[test]
fn clients_of_a_pool_in_transaction_mode_take_turns_and_lose_nothing() {
    let left_out = "clients of a pool of PostgreSQL";
    let Some(server) = server(left_out) else {
        return;
    };
    let Some(pool) = PostgresPool::start(&server, &["agent"], left_out) else {
        return;
    };
    let address = Address::parse(&pool.uri("agent")).unwrap();
    // There are more clients than connections.
    let mut most = 0;
    let acknowledged = clients(&address, 8, 25, |done| {
        let connections = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent'";
        while !done.load(Ordering::Relaxed) {
            let found = server.psql("admin", connections).unwrap();
            most = most.max(found.parse::<usize>().unwrap());
        }
    });
    assert!((1..=3).contains(&most), "{most} connections");
    check(&mut open(&server, "auditor", "main"), &acknowledged);
    let mut through = PostgresStore::open(address).unwrap();
    let report = verify(&mut through, None, &mut |_| {}).unwrap();
    assert_eq!(report.records, 8 * 25);
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
}

#[test]
fn a_follower_behind_a_pool_leaves_no_lock_in_a_session_that_others_use() {
    let left_out = "a follower behind a pool of PostgreSQL";
    let Some(server) = server(left_out) else {
        return;
    };
    let Some(pool) = PostgresPool::start(&server, &["agent"], left_out) else {
        return;
    };
    let address = Address::parse(&pool.uri("agent")).unwrap();
    let (listens, calls) = watch(&mut PostgresStore::open(address).unwrap());
    wait_until("its end", || Arc::strong_count(&calls) == 1);
    assert!(!listens.load(Ordering::SeqCst));
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(server.psql("admin", locks).unwrap(), "0");
}
