//! Several domains, request ids, expected revisions and a second reader agree with the model; broken stores do not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use momentlog::store::{FileStore, Limits, RealDisk, Store, Verdict};
use momentlog_proptests::{
    Call, Expects, Op, Seen, SharedStore, StoreFault, Turn, Vm, fleet, run_fleet,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

fn run_in_memory(turns: &[Turn], store: &SharedStore) -> Seen {
    run_fleet(turns, &mut || Box::new(store.clone()))
}

fn run_in_files(turns: &[Turn]) -> Seen {
    let dir = tempfile::tempdir().expect("a scratch directory can be made");
    let path = dir.path().join("store");
    let limits = Limits {
        segment_len_first: 1024,
        segment_len_max: 4096,
        fill_len_max: 512,
    };
    let seen = run_fleet(turns, &mut || -> Box<dyn Store> {
        let disk = Arc::new(RealDisk::new(&path));
        Box::new(FileStore::with_limits(disk, limits))
    });
    if path.exists() {
        let verified = momentlog::verify(&path, None, None, &mut |_| {});
        let verified = verified.expect("the store can be read");
        assert_eq!(verified.verdict(), Verdict::Unanchored, "{verified:?}");
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn several_domains_agree_with_the_model(turns in fleet(40)) {
        run_in_memory(&turns, &SharedStore::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn several_domains_in_files_agree_too(turns in fleet(30)) {
        run_in_files(&turns);
    }
}

/// The same turns in every run.
fn generated() -> impl Iterator<Item = Vec<Turn>> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    std::iter::repeat_with(move || {
        fleet(60)
            .new_tree(&mut runner)
            .expect("turns can be generated")
            .current()
    })
}

/// What every suite must have met. The rest of [`momentlog::core::Refusal`] comes from no command of the suite: `Work` and
/// `IdsExhausted` need millions of records, `NoRollback` an event that no command causes, and `MemoryChange` domains of other
/// sizes; tests of core have them.
const REFUSALS: [&str; 37] = [
    "(not done)",
    "(reused)",
    "(stale)",
    "AlreadyActive",
    "AlreadyRunning",
    "Attachment",
    "BeingStarted",
    "CheckpointInactive",
    "CheckpointName",
    "DefinitionUuid",
    "DiskOnlyChange",
    "Disks",
    "DomainNameTaken",
    "DomainRenamed",
    "Excluded",
    "Fork",
    "HaltTransient",
    "HasSnapshots",
    "Held",
    "HeldAlready",
    "Inactive",
    "JobNotOpen",
    "JobOpen",
    "LeafIsCurrent",
    "NameTaken",
    "NoDomain",
    "NoMoment",
    "NotAttached",
    "NotHeld",
    "NotPaused",
    "NotRunning",
    "OnlineChange",
    "Parent",
    "PolicyUnmet",
    "RevertDuringJob",
    "RevertTransient",
    "WrongUuid",
];

#[test]
fn every_refusal_that_commands_can_meet_is_met() {
    let mut seen = Seen::new();
    for turns in generated().take(1_500) {
        for (word, count) in run_in_memory(&turns, &SharedStore::new()) {
            *seen.entry(word).or_default() += count;
        }
    }
    let met: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(met, REFUSALS, "{seen:?}");
}

#[test]
fn every_store_that_breaks_its_contract_is_found() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found: Vec<_> = StoreFault::ALL
        .map(|fault| {
            let fails = generated().take(10).any(|turns| {
                let store = SharedStore::broken(fault);
                catch_unwind(AssertUnwindSafe(|| run_in_memory(&turns, &store))).is_err()
            });
            (fault, fails)
        })
        .into();
    std::panic::set_hook(hook);
    assert!(found.iter().all(|(_, fails)| *fails), "{found:?}");
}

fn ask(vm: Vm, call: Call) -> Turn {
    Turn::Ask {
        vm,
        call,
        request: None,
        expects: Expects::Anything,
    }
}

#[test]
fn a_name_is_free_again_when_its_domain_is_gone() {
    let define = |name, uuid| ask(uuid, Call::Define { name, uuid });
    let undefine = Call::Op(Op::Undefine {
        with_snapshots: false,
    });
    let turns = [
        define(Vm::B, Vm::A),
        define(Vm::B, Vm::B),
        define(Vm::A, Vm::A),
        Turn::Look,
        ask(Vm::A, undefine),
        define(Vm::B, Vm::B),
        define(Vm::A, Vm::A),
        Turn::Reopen,
    ];
    let seen = run_in_memory(&turns, &SharedStore::new());
    assert_eq!(seen["DomainNameTaken"], 1);
    assert_eq!(seen["DomainRenamed"], 1);
    assert_eq!(seen.len(), 2);
}

#[test]
fn open_jobs_and_their_requests_outlive_images_archives_and_reopening() {
    let create = |name| Op::Create {
        snapshot: false,
        name: Some(name),
        halt: false,
    };
    let begin = |name| {
        let action = Some(Box::new(create(name)));
        Turn::Ask {
            vm: Vm::A,
            call: Call::Op(Op::Begin {
                long: false,
                action,
            }),
            request: Some(1),
            expects: Expects::Anything,
        }
    };
    let op = |op| ask(Vm::A, Call::Op(op));
    let (end, fail) = (
        Op::End {
            long: false,
            goes_on: true,
        },
        Op::Fail { long: false },
    );
    let turns = [
        op(Op::Define),
        begin(0),
        Turn::Image,
        Turn::Reopen,
        // It was begun already, also for another process.
        begin(0),
        Turn::Look,
        // What waits for it waits on.
        op(create(1)),
        Turn::Archive,
        Turn::Reopen,
        op(fail),
        Turn::Image,
        Turn::Reopen,
        // Its request is free, and stands for another job then.
        begin(2),
        Turn::Archive,
        Turn::Reopen,
        begin(0),
        op(end.clone()),
        Turn::Image,
        Turn::Reopen,
        // The long job leaves checkpoints alone.
        op(create(1)),
        op(end),
        begin(2),
        Turn::Look,
    ];
    let seen = run_in_files(&turns);
    let wanted = [("(reused)", 1), ("JobNotOpen", 1), ("JobOpen", 1)];
    let wanted = wanted.map(|(word, count)| (word.to_owned(), count));
    assert_eq!(seen, Seen::from(wanted));
}
