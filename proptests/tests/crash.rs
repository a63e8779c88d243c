//! Crashes and faults, everywhere: small workloads in full, generated ones as many as a test run has time for.
//!
//! In full: `cargo run --release -p momentlog-proptests --bin torture -- all`.
#![expect(clippy::print_stdout, reason = "the counts are the result")]

use std::sync::Arc;

use momentlog::store::{FileStore, RealDisk, Verdict};
use momentlog::{Connection, ErrorCode, ManualClock, verify_disk};
use momentlog_proptests::{
    Call, Effort, Op, SimDisk, Step, Vm, connection, crash_everywhere, disk_suite, domain_def,
    fail_everywhere, steps,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const COMMANDS_MAX: usize = 10;

/// How many workloads are generated.
const CASES: usize = 3;

/// Workloads that proptest generates from a seed that is printed.
fn generated(seed: u8) -> impl Iterator<Item = Vec<Step>> {
    println!("seed {seed}");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    std::iter::repeat_with(move || {
        steps(COMMANDS_MAX)
            .new_tree(&mut runner)
            .expect("workloads can be generated")
            .current()
    })
}

fn create(name: u8) -> Op {
    Op::Create {
        snapshot: false,
        name: Some(name),
        halt: false,
    }
}

/// One of everything: several segments, a batch, tickets, images, an archive, reopening.
fn one_of_each() -> Vec<Step> {
    let asked_twice = Step::Ask {
        vm: Vm::B,
        call: Call::Op(Op::Define),
        request: Some(1),
    };
    vec![
        Step::Do(Op::Define),
        Step::Do(create(0)),
        Step::Image,
        Step::Batch(vec![create(1), create(2)]),
        Step::Reopen,
        Step::Submit(vec![create(3), create(3), create(4)]),
        Step::Archive,
        Step::Archive,
        asked_twice.clone(),
        Step::Reopen,
        asked_twice,
        Step::Do(create(6)),
    ]
}

/// A copy that is put back in other files, another in the same ones, and revisions that are stale and not.
fn put_back() -> Vec<Step> {
    let expect = |op, behind| Step::Expect { op, behind };
    vec![
        Step::Do(Op::Define),
        expect(create(0), 0),
        Step::Copy,
        expect(create(1), 1),
        Step::Batch(vec![create(1), create(2)]),
        Step::PutBack { in_place: false },
        expect(create(3), 0),
        Step::Copy,
        Step::Do(create(4)),
        Step::PutBack { in_place: true },
        expect(create(5), 0),
    ]
}

/// A copy that is put back in the same files after a new segment was begun: the writer goes on in one that has no name any
/// more, and only `head` is both its own and the copy's.
fn put_back_without_the_last_segment() -> Vec<Step> {
    let mut steps = vec![Step::Do(Op::Define), Step::Copy];
    steps.extend((0..4).map(|name| Step::Do(create(name))));
    steps.push(Step::PutBack { in_place: true });
    steps
}

#[test]
fn the_real_and_the_simulated_disk_behave_alike() {
    let dir = tempfile::tempdir().expect("a scratch directory can be made");
    disk_suite(&RealDisk::new(dir.path().join("disk")));
    disk_suite(&SimDisk::new("disk"));
    let other = SimDisk::new("one").beside("two");
    disk_suite(&other);
    assert_eq!(Arc::new(other).contents().len(), 0);
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_machine_stops() {
    let effort = Effort {
        samples: 16,
        nested_every: 24,
    };
    let mut workloads = 0;
    let mut total = crash_everywhere(&one_of_each(), effort);
    total += crash_everywhere(&put_back(), effort);
    total += crash_everywhere(&put_back_without_the_last_segment(), effort);
    for steps in generated(1).take(CASES) {
        total += crash_everywhere(&steps, effort);
        workloads += 1;
    }
    assert!(
        total.points > 50 && total.disks > 500 && total.recoveries > 50,
        "{total:?}"
    );
    println!("{workloads} generated workloads: {total:?}");
}

#[test]
fn nothing_acknowledged_is_lost_whichever_call_fails() {
    let effort = Effort {
        samples: 4,
        nested_every: u64::MAX,
    };
    let mut workloads = 0;
    let mut total = fail_everywhere(&one_of_each(), effort);
    total += fail_everywhere(&put_back(), effort);
    total += fail_everywhere(&put_back_without_the_last_segment(), effort);
    // Nothing comes after the archiving that would hide what its failure leaves.
    let archived = [Step::Do(Op::Define), Step::Do(create(0)), Step::Archive];
    total += fail_everywhere(&archived, effort);
    for steps in generated(2).take(CASES) {
        total += fail_everywhere(&steps, effort);
        workloads += 1;
    }
    assert!(total.points > 200 && total.disks > 500, "{total:?}");
    println!("{workloads} generated workloads: {total:?}");
}

#[test]
fn a_full_disk_can_be_opened_and_read_and_goes_on_when_there_is_space() {
    let clock = Arc::new(ManualClock::at_second(1));
    let disk = SimDisk::new("store");
    let open = || {
        let store = FileStore::over(Arc::new(disk.clone()));
        connection(Box::new(store), clock.clone())
    };
    let execute = |store: &Connection, op: &Op| {
        let domain = domain_def().uuid;
        op.asked(1, store.view().state().domain(domain))
            .of(store, domain)
    };
    let store = open();
    execute(&store, &Op::Define).expect("there is space");
    let mut created = 0;
    disk.set_full(true);
    // What was allocated ahead is used up first.
    let full = loop {
        let op = if created % 2 == 0 {
            create(0)
        } else {
            Op::Delete {
                snapshot: false,
                name: 0,
                extent: 0,
            }
        };
        match execute(&store, &op) {
            Ok(_) => created += 1,
            Err(error) => break error,
        }
    };
    assert!(created > 0, "{full}");
    // Nothing was recorded, so the handle is as good as before.
    for full in [
        full,
        execute(&store, &create(1)).expect_err("the disk is full"),
    ] {
        assert_eq!(full.code(), ErrorCode::SystemError, "{full}");
        let text = "no space left on device: cannot write store/";
        assert!(full.message().starts_with(text), "{full}");
    }
    disk.set_full(false);
    execute(&store, &create(1)).expect("there is space");
    disk.set_full(true);
    let head = store.view().head().expect("there are records");
    drop(store);
    // Reading needs no space.
    let reader = open();
    let view = reader.refresh().expect("it can be read");
    assert_eq!(view.head(), Some(head));
    assert_eq!(
        reader.entries(None).expect("it can be read").len() as u64,
        head.seq.get()
    );
    let found = verify_disk(Arc::new(disk.clone()), None, None, &mut |_| {});
    let verdict = found.expect("it can be read").verdict();
    assert!(
        matches!(verdict, Verdict::Unanchored | Verdict::TornTail),
        "{verdict:?}"
    );
    drop(reader);
    disk.set_full(false);
    let store = open();
    execute(&store, &Op::Define).expect("there is space again");
    assert_eq!(
        store.view().head().map(|head| head.seq.get()),
        Some(head.seq.get() + 1)
    );
}
