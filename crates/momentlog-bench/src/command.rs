//! Row 4: the whole typed command, from `decide` to the sync, with many live moments.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use momentlog::core::{Action, Command, CreateCheckpoint, DomainUuid, MomentName};
use momentlog::engine::CommitQueue;
use momentlog::store::{Draft, FileStore, LogId, RealDisk, Store as _, StoreError};
use momentlog::xml::read_domain;
use momentlog::{Connection, Options};

use crate::Failed;
use crate::measure::{Effort, Side, Table, Target, threads};

/// Threads that wait for their commands.
const THREADS: usize = 64;

pub(crate) const DOMAIN: DomainUuid = DomainUuid::from_bytes([0xb1; 16]);

pub(crate) fn create(name: u64) -> Command {
    Command {
        domain: DOMAIN,
        action: Action::CreateCheckpoint(CreateCheckpoint {
            name: MomentName::new(&format!("checkpoint-{name}")),
            description: None,
            now: i64::try_from(name).expect("a short run"),
            disks: Vec::new(),
        }),
    }
}

/// A store with a domain of two disks and `live` checkpoints.
pub(crate) fn store(path: &Path, live: usize) -> Result<Connection, Failed> {
    let store = Connection::over(
        Box::new(FileStore::new(RealDisk::new(path))),
        Options::default(),
    );
    let disk = |target: &str| {
        format!(
            "<disk type='file'><source file='/images/{target}.qcow2'/><target dev='{target}'/></disk>"
        )
    };
    let disks = disk("vda") + &disk("vdb");
    let xml = format!(
        "<domain type='kvm'><name>vm</name><memory>1048576</memory><os><type>hvm</type></os>\
         <devices>{disks}</devices></domain>"
    );
    let def = read_domain(&xml, || DOMAIN)?;
    store.execute(&Command {
        domain: DOMAIN,
        action: Action::Define(Arc::new(def)),
    })?;
    let all: Vec<Command> = (0..live as u64).map(create).collect();
    for batch in all.chunks(10_000) {
        store.execute_all(batch)?;
    }
    Ok(store)
}

pub(crate) fn rows(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let ours = store(&dir.join("command"), effort.live)?;
    let next = AtomicU64::new(effort.live as u64);
    // Row 2 once more, beside it, with payloads of the same length.
    let mut payloads = FileStore::new(RealDisk::new(dir.join("command-payloads")));
    payloads.acquire(std::time::Duration::ZERO)?;
    let payloads = std::sync::Mutex::new(payloads);
    let queue: CommitQueue<Draft, StoreError> = CommitQueue::new();
    let mut sides = [
        Side {
            name: "momentlog",
            turn: Box::new(|time| {
                threads(THREADS, time, |_| {
                    let name = next.fetch_add(1, Ordering::Relaxed);
                    Ok(ours.execute(&create(name)).map(|_| 1)?)
                })
            }),
        },
        Side {
            name: "payloads only (row 2)",
            turn: Box::new(|time| {
                threads(THREADS, time, |_| {
                    let draft = Draft {
                        facts: vec![7; 250],
                        texts: Vec::new(),
                    };
                    let ticket = queue.push(0, draft)?;
                    let written = queue.wait(&ticket, &mut |drafts| {
                        let mut store = payloads
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner);
                        let head = store.head();
                        let log = LogId(*b"log of the bench");
                        store.append(log, head, drafts).map(|_| ())
                    });
                    Ok(written.map(|()| 1)?)
                })
            }),
        },
    ];
    let target = Target {
        peer: "payloads only (row 2)",
        ratio: 0.7,
    };
    let work = format!("4 whole command, {THREADS} threads, {} live", effort.live);
    table.compare(&work, effort, &mut sides, &[target])?;
    drop(sides);
    waiting(dir, effort, table)
}

/// How long one writer waits for a command with many live moments, against few: half of all times, and 999 of 1,000.
fn waiting(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    const FEW: usize = 1000;
    let live = [effort.many, FEW];
    let mut stores = Vec::new();
    for live in live {
        stores.push((
            store(&dir.join(format!("waiting-{live}")), live)?,
            live as u64,
        ));
    }
    for store in &stores {
        // The image that this number of records makes due.
        store.0.make_image()?;
    }
    let mut rates: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..effort.rounds {
        for ((store, next), rates) in stores.iter_mut().zip(&mut rates) {
            let mut times = Vec::new();
            let round = Instant::now();
            while round.elapsed() < effort.round {
                let begun = Instant::now();
                store.execute(&create(*next))?;
                times.push(begun.elapsed());
                *next += 1;
            }
            times.sort_unstable();
            for (part, rates) in [500, 999].into_iter().zip(rates) {
                rates.push(1.0 / times[times.len() * part / 1000].as_secs_f64());
            }
        }
    }
    let [many, few] = &rates;
    for (which, (many, few)) in ["half", "999 of 1000"].iter().zip(many.iter().zip(few)) {
        let target = Target {
            peer: "ours at 1000",
            ratio: 1.0 / 3.0,
        };
        let work = format!("4 one writer's command at {}, {which}", effort.many);
        table.rounds(&work, many, few, target);
    }
    Ok(())
}
