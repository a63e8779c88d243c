//! A store of one's own: a table with a unique key, as any database has it.
//!
//! `cargo run --example embed-your-own-store`
//!
//! Several connections write at the same time, and none of them holds a lock: who inserts a row that another has inserted
//! first is refused, reads on, decides again, and tries once more. `momentlog-proptests` checks this store with its
//! `store_suite`, as it would check yours.
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use momentlog::store::{Draft, Head, LogId, Record, Seq, Store, StoreError};
use momentlog::{CheckpointCreateFlags, CheckpointListFlags, Connection, Options};

/// The database: one row for each record, under its number, and one for the log's id.
#[derive(Debug, Default)]
pub(crate) struct Database {
    log: Option<LogId>,
    records: BTreeMap<Seq, Record>,
}

/// One handle of the table. A clone is another one, as another process would have it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    database: Arc<Mutex<Database>>,
    /// What this handle has seen of the log: its id, and the last record.
    seen: Option<(LogId, Head)>,
}

impl Table {
    /// Begins a transaction.
    fn begin(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Database {
    fn end(&self) -> Option<Head> {
        self.records.values().next_back().map(Record::head)
    }
}

impl Store for Table {
    fn log_id(&self) -> Option<LogId> {
        self.seen.map(|(log, _)| log)
    }

    fn head(&self) -> Option<Head> {
        self.seen.map(|(_, head)| head)
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        let mut database = self.begin();
        // In SQL: the insert of the first row fails, because its key is taken, and the transaction is rolled back.
        let found = database.end();
        if found != expected {
            return Err(StoreError::Conflict { expected, found });
        }
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let log = *database.log.get_or_insert(log);
        let mut records = Vec::new();
        for draft in drafts {
            let record = Record::new(log, database.end(), None, draft);
            database.records.insert(record.seq, record.clone());
            records.push(record);
        }
        let seen = database.end().map(|end| (log, end));
        drop(database);
        self.seen = seen;
        Ok(records)
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let database = self.begin();
        let end = database.end();
        if let Some(had) = after {
            match database.records.get(&had.seq).map(Record::head) {
                Some(stands) if stands == had => {}
                Some(_) => return Err(StoreError::Forked { at: had.seq }),
                None => return Err(StoreError::Truncated { had, end }),
            }
        }
        let first = Seq::after(after.map(|head| head.seq));
        let rest: Vec<Record> = database
            .records
            .range(first..)
            .map(|(_, record)| record.clone())
            .collect();
        let seen = database.log.zip(end);
        // Nothing is held while the caller looks at a record: it may ask the store meanwhile.
        drop(database);
        self.seen = seen;
        rest.into_iter().try_for_each(each)
    }

    fn reader(&self) -> Option<Box<dyn Store>> {
        Some(Box::new(self.clone()))
    }

    fn acquire(&mut self, _wait: Duration) -> Result<(), StoreError> {
        // There is no lock: each append compares.
        Ok(())
    }

    fn release(&mut self) {}

    fn is_exclusive(&self) -> bool {
        false
    }
}

#[cfg_attr(test, expect(dead_code, reason = "a test has this file for the table"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let table = Table::default();
    let connect = || Connection::over(Box::new(table.clone()), Options::default());
    connect().define_domain_xml(include_str!("web01.xml"))?;
    std::thread::scope(|scope| {
        for program in ["backup", "upgrade", "operator"] {
            let connection = connect();
            scope.spawn(move || {
                let domain = connection.lookup_domain_by_name("web01")?;
                for number in 1..=3 {
                    let xml = format!(
                        "<domaincheckpoint><name>{program}-{number}</name></domaincheckpoint>"
                    );
                    domain.checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE)?;
                }
                Ok::<(), momentlog::Error>(())
            });
        }
    });
    let domain = connect().lookup_domain_by_name("web01")?;
    let checkpoints = domain.list_all_checkpoints(CheckpointListFlags::NONE)?;
    for checkpoint in &checkpoints {
        println!("{}", checkpoint.name());
    }
    assert_eq!(checkpoints.len(), 9);
    Ok(())
}
