//! Any sequence of commands agrees with the model, in memory and in files.

use std::sync::Arc;

use momentlog::core::Profile;
use momentlog::store::{FileStore, Limits, MemoryStore, RealDisk, Verdict};
use momentlog::{Connection, ManualClock, Options};
use momentlog_proptests::{Op, connection, ops, run};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_sequence_agrees_with_the_model(ops in ops(60)) {
        run(&ops, Box::new(MemoryStore::new()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_store_of_files_agrees_too_and_reads_back_the_same(ops in ops(30)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        // Segments so short that most sequences fill several.
        let limits = Limits { segment_len_first: 1024, segment_len_max: 4096, fill_len_max: 512 };
        run(&ops, Box::new(FileStore::with_limits(Arc::new(RealDisk::new(&path)), limits)));
        if path.exists() {
            let verified = momentlog::verify(&path, None, &mut |_| {}).unwrap();
            prop_assert_eq!(verified.verdict(), Verdict::Unanchored, "{:?}", verified);
            prop_assert_eq!(verified.breach, None);
        }
    }
}

/// A bug of an earlier day stays a case of its own.
#[track_caller]
fn regression(ops: &[Op]) {
    run(ops, Box::new(MemoryStore::new()));
}

#[test]
fn a_redefine_below_the_leaf_of_an_emptied_chain() {
    let create = |name| Op::Create {
        snapshot: false,
        name: Some(name),
        halt: false,
    };
    let delete = Op::Delete {
        snapshot: false,
        name: 0,
        extent: 1,
    };
    let redefine = |parent| Op::Redefine {
        snapshot: false,
        name: 1,
        parent,
        current: false,
        state: 0,
        domain: true,
    };
    regression(&[
        Op::Define,
        create(0),
        create(1),
        delete,
        redefine(Some(0)),
        redefine(None),
        create(0),
    ]);
}

#[test]
fn a_profile_is_part_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("momentlog://{}/store", dir.path().display());
    let options = || Options {
        clock: Arc::new(ManualClock::at_second(7)),
        ..Options::default()
    };
    let test = Connection::open_with(&format!("{uri}?profile=libvirt-test"), options()).unwrap();
    test.lookup_domain_by_name("test").unwrap_err();
    test.define_domain_xml("<domain type='test'><name>vm</name><os><type>hvm</type></os></domain>")
        .unwrap();
    let own = Connection::open_with(&format!("{uri}?profile=own"), options()).unwrap();
    assert_eq!(
        own.refresh().unwrap().state().profile(),
        Profile::LibvirtTest
    );
    assert!(
        own.lookup_domain_by_name("test")
            .unwrap()
            .is_active()
            .unwrap()
    );
    let memory = connection(
        Box::new(MemoryStore::new()),
        Arc::new(ManualClock::default()),
    );
    assert_eq!(memory.view().state().profile(), Profile::Own);
}
