//! The store over a server of its own.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
#![expect(clippy::print_stdout, reason = "the counts are the result")]

mod contract;
mod faults;
mod following;
mod hostile;
mod keeper;
mod played;
mod pool;
mod relay;
mod replication;
mod threads;
mod tls;

use momentlog_postgres::{Address, PostgresStore};
use momentlog_proptests::PostgresServer;
use momentlog_store::{Draft, Head, LogId, Record, Store, StoreError, Text};

const LOG: LogId = LogId([7; 16]);

/// Chain, digests and end of all logs, by a query that uses none of our functions.
const VERIFY: &str = include_str!("../verify.sql");

/// Starts a server with the schema, a user of each role, and the log `main`.
fn server(left_out: &str) -> Option<PostgresServer> {
    let server = PostgresServer::start(left_out)?;
    init(&server, "main");
    let users = "CREATE USER agent IN ROLE momentlog_writer; CREATE USER auditor IN ROLE momentlog_reader; \
        CREATE USER keeper IN ROLE momentlog_keeper; CREATE USER stranger";
    server.psql("admin", users).unwrap();
    Some(server)
}

fn init(server: &PostgresServer, log: &str) {
    PostgresStore::init(address(server, "admin", log)).unwrap();
}

fn address(server: &PostgresServer, user: &str, log: &str) -> Address {
    Address::parse(&server.uri(user)).unwrap().with_log(log)
}

fn open(server: &PostgresServer, user: &str, log: &str) -> PostgresStore {
    PostgresStore::open(address(server, user, log)).unwrap()
}

/// A number of the environment, by which a test does more than in an ordinary run.
fn effort(variable: &str, ordinary: usize) -> usize {
    std::env::var(variable).map_or(ordinary, |value| value.parse().unwrap())
}

fn draft(facts: &str) -> Draft {
    let text = |bytes: &str| Text::Plain {
        salt: [3; 32],
        bytes: bytes.into(),
    };
    Draft {
        facts: facts.into(),
        texts: vec![text("a text"), text("")],
    }
}

fn read(store: &mut PostgresStore, after: Option<Head>) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::new();
    store.read(after, &mut |record| {
        records.push(record);
        Ok(())
    })?;
    Ok(records)
}
