//! Rows 1 to 3: durable appends of encoded payloads through the store.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use momentlog::engine::CommitQueue;
use momentlog::store::{Draft, FileStore, LogId, RealDisk, Record, Store as _, StoreError};

use crate::Failed;
use crate::measure::{Effort, Side, Table, Target, threads, until};
use crate::peers::{Raw, RawGroup, Redb, Sqlite};

/// Bytes of an event.
const EVENT_LEN: usize = 250;

/// Events under one sync.
const BATCH: usize = 64;

const LOG: LogId = LogId(*b"log of the bench");

fn event() -> Vec<u8> {
    (0..EVENT_LEN)
        .map(|at| u8::try_from(at * 7 % 251).expect("it is below 251"))
        .collect()
}

fn draft(event: &[u8]) -> Draft {
    Draft {
        facts: event.to_vec(),
        texts: Vec::new(),
    }
}

/// A log that is open for writing.
fn store(path: &Path) -> Result<FileStore, StoreError> {
    let mut store = FileStore::new(RealDisk::new(path));
    store.acquire(Duration::ZERO)?;
    Ok(store)
}

fn append(store: &mut FileStore, drafts: Vec<Draft>) -> Result<Vec<Record>, StoreError> {
    let head = store.head();
    store.append(LOG, head, drafts)
}

pub(crate) fn rows(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    one_writer(dir, effort, table)?;
    let waiting = [16, 64].map(|count| many_writers(dir, effort, table, count));
    let [_, at_64] = waiting;
    batches(dir, effort, table, at_64?)
}

fn one_writer(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let event = event();
    let mut ours = store(&dir.join("one"))?;
    let raw = Raw::new(&dir.join("one.raw"))?;
    let sqlite = Sqlite::new(&dir.join("one.sqlite"))?;
    let redb = Redb::new(&dir.join("one.redb"))?;
    let mut sides = [
        Side {
            name: "momentlog",
            turn: Box::new(|time| {
                until(time, || {
                    Ok(append(&mut ours, vec![draft(&event)]).map(|_| 1)?)
                })
            }),
        },
        Side {
            name: "write + fdatasync",
            turn: Box::new(|time| until(time, || raw.append(&event).map(|()| 1))),
        },
        Side {
            name: "SQLite WAL FULL",
            turn: Box::new(|time| until(time, || sqlite.append(&event).map(|()| 1))),
        },
        Side {
            name: "redb",
            turn: Box::new(|time| until(time, || redb.append(&event).map(|()| 1))),
        },
    ];
    let targets = [
        ("write + fdatasync", 0.95),
        ("SQLite WAL FULL", 1.05),
        ("redb", 2.0),
    ];
    table.compare(
        "1 durable append, one writer",
        effort,
        &mut sides,
        &targets.map(|(peer, ratio)| Target { peer, ratio }),
    )?;
    Ok(())
}

/// Returns our rate.
fn many_writers(
    dir: &Path,
    effort: Effort,
    table: &mut Table,
    count: usize,
) -> Result<f64, Failed> {
    let event = event();
    let path = |ending: &str| dir.join(format!("many-{count}{ending}"));
    let ours = Mutex::new(store(&path(""))?);
    let queue: CommitQueue<Draft, StoreError> = CommitQueue::new();
    let raw = RawGroup::new(&path(".raw"))?;
    let sqlite = Sqlite::new(&path(".sqlite"))?;
    let redb = Redb::new(&path(".redb"))?;
    let mut sides = [
        Side {
            name: "momentlog",
            turn: Box::new(|time| {
                threads(count, time, |_| {
                    let ticket = queue.push(0, draft(&event))?;
                    let written = queue.wait(&ticket, &mut |drafts| {
                        let mut store = ours.lock().unwrap_or_else(PoisonError::into_inner);
                        append(&mut store, drafts).map(|_| ())
                    });
                    Ok(written.map(|()| 1)?)
                })
            }),
        },
        Side {
            name: "group write + fdatasync",
            turn: Box::new(|time| threads(count, time, |_| raw.append(&event).map(|()| 1))),
        },
        Side {
            name: "SQLite WAL FULL",
            turn: Box::new(|time| threads(count, time, |_| sqlite.append(&event).map(|()| 1))),
        },
        Side {
            name: "redb",
            turn: Box::new(|time| threads(count, time, |_| redb.append(&event).map(|()| 1))),
        },
    ];
    let mut targets = vec![
        Target {
            peer: "group write + fdatasync",
            ratio: 1.0,
        },
        Target {
            peer: "SQLite WAL FULL",
            ratio: if count == 64 { 10.0 } else { 1.0 },
        },
    ];
    targets.push(Target {
        peer: "redb",
        ratio: if count == 64 { 20.0 } else { 2.0 },
    });
    table.compare(
        &format!("2 durable append, {count} waiting threads"),
        effort,
        &mut sides,
        &targets,
    )
}

fn batches(dir: &Path, effort: Effort, table: &mut Table, at_64: f64) -> Result<(), Failed> {
    let mut ours = store(&dir.join("batch"))?;
    let raw = Raw::new(&dir.join("batch.raw"))?;
    let event = event();
    let batch = event.repeat(BATCH);
    let mut sides = [
        Side {
            name: "momentlog",
            turn: Box::new(|time| {
                until(time, || {
                    let drafts = (0..BATCH).map(|_| draft(&event)).collect();
                    Ok(append(&mut ours, drafts)?.len() as u64)
                })
            }),
        },
        Side {
            name: "batch write + fdatasync",
            turn: Box::new(|time| until(time, || raw.append(&batch).map(|()| BATCH as u64))),
        },
    ];
    let work = format!("3 batches of {BATCH}, one thread");
    let target = Target {
        peer: "batch write + fdatasync",
        ratio: 0.8,
    };
    let rate = table.compare(&work, effort, &mut sides, &[target])?;
    let target = Target {
        peer: "row 2 at 64 threads",
        ratio: 5.0,
    };
    table.relate(&work, rate, at_64, target);
    Ok(())
}
