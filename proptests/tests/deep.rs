//! Chains that are as deep as they are long, walked in a default stack of 2 MiB.
//!
//! The test command runs 20,000. The full size is
//! `MOMENTLOG_DEPTH=1000000 cargo test --release -p momentlog-proptests --test deep -- --nocapture`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and a long one tells how far it is"
)]

use std::sync::Arc;
use std::time::Instant;

use momentlog::core::{
    Action, Command, CreateCheckpoint, CreateSnapshot, Extent, LeafFilter, MomentKind, MomentName,
    Scope,
};
use momentlog::store::{FileStore, RealDisk, Verdict};
use momentlog::{Connection, Options};
use momentlog_proptests::domain_def;

const BATCH: usize = 10_000;
const STACK_LEN: usize = 2 << 20;

fn depth() -> usize {
    std::env::var("MOMENTLOG_DEPTH").map_or(20_000, |depth| {
        depth.parse().expect("MOMENTLOG_DEPTH is a number")
    })
}

fn in_a_default_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(STACK_LEN)
        .spawn(test)
        .unwrap()
        .join()
        .unwrap();
}

fn create(kind: MomentKind, index: usize) -> Action {
    let name = MomentName::new(&format!("m{index}"));
    let now = i64::try_from(index).unwrap();
    match kind {
        MomentKind::Snapshot => Action::CreateSnapshot(CreateSnapshot {
            name,
            description: None,
            now,
            memory: None,
            disks: Vec::new(),
            extra: None,
            disk_only: false,
            halt: false,
        }),
        MomentKind::Checkpoint => Action::CreateCheckpoint(CreateCheckpoint {
            name,
            description: None,
            now,
            disks: Vec::new(),
        }),
    }
}

fn chain(kind: MomentKind) {
    let depth = depth();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let open = || {
        Connection::over(
            Box::new(FileStore::new(RealDisk::new(&path))),
            Options::default(),
        )
    };
    let def = domain_def();
    let domain = def.uuid;
    let time = Instant::now();
    let lap = |what: &str| {
        println!(
            "{kind} {depth}: {what} after {:.1} s",
            time.elapsed().as_secs_f64()
        );
    };

    let store = open();
    store
        .execute(&Command {
            domain,
            action: Action::Define(Arc::clone(&def)),
        })
        .unwrap();
    let indices: Vec<usize> = (0..depth).collect();
    for batch in indices.chunks(BATCH) {
        let commands: Vec<_> = batch
            .iter()
            .map(|index| Command {
                domain,
                action: create(kind, *index),
            })
            .collect();
        store.execute_all(&commands).unwrap();
    }
    lap("built");
    let view = store.view();
    drop(store);

    let count = |view: &momentlog::View, leaves: LeafFilter| {
        let found = view.state().domain(domain).unwrap();
        match kind {
            MomentKind::Snapshot => found.snapshots().list(Scope::All, leaves, |_| true).count(),
            MomentKind::Checkpoint => found
                .checkpoints()
                .list(Scope::All, leaves, |_| true)
                .count(),
        }
    };
    assert_eq!(count(&view, LeafFilter::Any), depth);
    assert_eq!(count(&view, LeafFilter::Leaves), 1);
    let found = view.state().domain(domain).unwrap();
    let names: Vec<String> = match kind {
        MomentKind::Snapshot => found
            .snapshots()
            .walk(Scope::All)
            .map(|moment| moment.name.to_string())
            .collect(),
        MomentKind::Checkpoint => found
            .checkpoints()
            .walk(Scope::All)
            .map(|moment| moment.name.to_string())
            .collect(),
    };
    assert!(
        names
            .iter()
            .enumerate()
            .all(|(index, name)| *name == format!("m{index}"))
    );
    assert_eq!(view.state().check(), Ok(()));
    lap("listed and checked");

    let again = open();
    let replayed = again.refresh().unwrap();
    lap("replayed");
    assert!(replayed.state() == view.state());
    drop(view);
    let root = MomentName::new("m0").unwrap();
    let action = Action::Delete {
        kind,
        name: root,
        extent: Extent::Subtree,
    };
    again.execute(&Command { domain, action }).unwrap();
    lap("deleted with children");
    assert_eq!(count(&again.view(), LeafFilter::Any), 0);
    drop(replayed);
    drop(again);
    let verified = momentlog::verify(&path, None, None, &mut |_| {}).unwrap();
    assert_eq!(verified.verdict(), Verdict::Unanchored, "{verified:?}");
    assert_eq!(verified.counts, (1, 0, 0));
    lap("verified");
}

#[test]
fn a_deep_chain_of_checkpoints() {
    in_a_default_stack(|| chain(MomentKind::Checkpoint));
}

#[test]
fn a_deep_chain_of_snapshots() {
    in_a_default_stack(|| chain(MomentKind::Snapshot));
}
