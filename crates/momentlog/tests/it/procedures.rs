//! Procedures: what only the table answers.

use momentlog::core::RunState;
use momentlog::procedure::{Answer, Procedure, Takes};
use momentlog::{Connection, Result};

use crate::{Scratch, checkpoint, snapshot, told};

fn takes(name: &str) -> Takes {
    Procedure::by_name(name).unwrap().takes()
}

/// The answer of a procedure that takes flags and the moment `name`, or the domain.
fn of_vm(store: &Connection, procedure: &str, name: &str, flags: u32) -> Result<Answer> {
    let domain = store.lookup_domain_by_name("vm").unwrap();
    match takes(procedure) {
        Takes::DomainFlags(call) => call(&domain, flags),
        Takes::DomainTextFlags(call) => call(&domain, name, flags),
        Takes::SnapshotFlags(call) => call(&domain.snapshot_lookup_by_name(name)?, flags),
        Takes::CheckpointFlags(call) => call(&domain.checkpoint_lookup_by_name(name)?, flags),
        other => panic!("{procedure} takes {other:?}"),
    }
}

#[test]
fn a_root_has_an_error_in_place_of_a_parent() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    snapshot(&domain, "s").unwrap();
    let root = "Domain snapshot not found: snapshot 's' does not have a parent";
    let answer = of_vm(&store, "virDomainSnapshotGetParent", "s", 0);
    assert_eq!(told(answer), (72, 12, root.to_owned()));
    snapshot(&domain, "t").unwrap();
    let answer = of_vm(&store, "virDomainSnapshotGetParent", "t", 0).unwrap();
    assert!(matches!(answer, Answer::Snapshot(parent) if parent.name().as_str() == "s"));

    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    checkpoint(&domain, "c").unwrap();
    let root = "Domain checkpoint not found: checkpoint 'c' does not have a parent";
    let answer = of_vm(&store, "virDomainCheckpointGetParent", "c", 0);
    assert_eq!(told(answer), (103, 12, root.to_owned()));
}

#[test]
fn calls_without_flags_refuse_any_bit_before_anything_is_looked_for() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    snapshot(&domain, "s").unwrap();
    for procedure in [
        "virDomainSnapshotLookupByName",
        "virDomainCheckpointLookupByName",
        "virDomainHasCurrentSnapshot",
        "virDomainSnapshotCurrent",
        "virDomainSnapshotGetParent",
        "virDomainSnapshotIsCurrent",
        "virDomainSnapshotHasMetadata",
        "virDomainGetState",
    ] {
        let unknown = format!("unsupported flags (0x1) in function {procedure}");
        let answer = of_vm(&store, procedure, "s", 1);
        assert_eq!(told(answer), (8, 12, unknown));
    }
}

/// What a procedure that takes flags answers of `test:///default`'s domain.
fn of_test(store: &Connection, procedure: &str, flags: u32) -> Result<Answer> {
    let domain = store.lookup_domain_by_name("test").unwrap();
    let Takes::DomainFlags(call) = takes(procedure) else {
        panic!("{procedure} takes no flags")
    };
    call(&domain, flags)
}

#[test]
fn of_a_domain_each_bit_is_taken_or_refused_as_by_the_test_driver() {
    // Observed of libvirt 9.0.0.
    for (procedure, taken) in [
        ("virDomainCreateWithFlags", 0),
        ("virDomainDestroyFlags", 1),
        ("virDomainShutdownFlags", 0),
        ("virDomainGetXMLDesc", 1 | 2 | 8),
        ("virDomainUndefineFlags", 1 | 2),
    ] {
        for bit in (0..32).map(|bit| 1_u32 << bit) {
            let store = Connection::open("test:///default").unwrap();
            let answer = of_test(&store, procedure, bit);
            if bit & taken != 0 {
                assert!(answer.is_ok(), "{procedure} {bit:#x} {answer:?}");
                continue;
            }
            let function = procedure.replacen("vir", "test", 1);
            let why = format!("unsupported flags ({bit:#x}) in function {function}");
            let (code, domain, message) = told(answer);
            assert_eq!((code, domain), (8, 12), "{procedure} {bit:#x}");
            assert!(message.ends_with(&why), "{message}");
        }
    }
    let xml = "<domain type='test'><name>x</name><os><type>hvm</type></os></domain>";
    for (procedure, taken) in [("virDomainCreateXML", 16), ("virDomainDefineXMLFlags", 1)] {
        let Takes::TextFlags(call) = takes(procedure) else {
            panic!("{procedure} takes no XML")
        };
        for bit in (0..32).map(|bit| 1_u32 << bit) {
            let store = Connection::open("test:///default").unwrap();
            assert_eq!(call(&store, xml, bit).is_ok(), bit & taken != 0, "{bit:#x}");
        }
    }
    let Takes::List(list) = takes("virConnectListAllDomains") else {
        panic!("it takes flags")
    };
    let store = Connection::open("test:///default").unwrap();
    for (bits, listed) in [
        (1, 1),
        (2, 0),
        (1 | 2, 1),
        (4, 1),
        (8, 0),
        (16, 1),
        (32 | 64, 0),
        (256, 0),
        (512, 1),
        (2048, 1),
        (1 | 64, 0),
    ] {
        let Answer::Domains(found) = list(&store, bits).unwrap() else {
            panic!("a list")
        };
        assert_eq!(found.len(), listed, "{bits:#x}");
    }
    let why = "unsupported flags (0x10000) in function testConnectListAllDomains";
    assert_eq!(told(list(&store, 0x1_0000)).2, why);
}

#[test]
fn a_call_without_flags_reports_itself_by_its_own_name() {
    let store = Connection::open("test:///default").unwrap();
    let reader = store.read_only();
    let domain = reader.lookup_domain_by_name("test").unwrap();
    let denied = |call: &str| {
        (
            29,
            20,
            format!("operation forbidden: read only access prevents {call}"),
        )
    };
    let flags = momentlog::UndefineFlags::SNAPSHOTS_METADATA;
    assert_eq!(
        told(domain.undefine(flags)),
        denied("virDomainUndefineFlags")
    );
    let flags = momentlog::UndefineFlags::NONE;
    assert_eq!(told(domain.undefine(flags)), denied("virDomainUndefine"));
    for procedure in [
        "virDomainCreateWithFlags",
        "virDomainDestroyFlags",
        "virDomainShutdownFlags",
    ] {
        // Read-only comes before flags.
        assert_eq!(told(of_test(&reader, procedure, 0x40)), denied(procedure));
    }
    let migratable = "operation forbidden: virDomainGetXMLDesc with secure flag";
    assert_eq!(
        told(of_test(&reader, "virDomainGetXMLDesc", 8)).2,
        migratable
    );
}

#[test]
fn a_start_that_leaves_the_guest_paused_is_one_record() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    domain
        .start_with_flags(momentlog::StartFlags::PAUSED)
        .unwrap();
    assert_eq!(domain.state().unwrap(), (RunState::Paused, 1));
    let entries = store.entries(None).unwrap();
    let last = entries.last().unwrap();
    assert_eq!((last.call.number(), last.flags), (196, 1));
    assert_eq!(last.events.len(), 2);
}

#[test]
fn creating_a_domain_refuses_read_only_before_flags_and_flags_before_xml() {
    let store = Connection::open("test:///default").unwrap();
    let Takes::TextFlags(create) = takes("virDomainCreateXML") else {
        panic!("it takes XML and flags")
    };
    let denied = "operation forbidden: read only access prevents virDomainCreateXML";
    let answer = create(&store.read_only(), "<", 1);
    assert_eq!(told(answer), (29, 20, denied.to_owned()));
    let unknown = "unsupported flags (0x1) in function testDomainCreateXML";
    assert_eq!(told(create(&store, "<", 1)), (8, 12, unknown.to_owned()));
    assert_eq!(told(create(&store, "<", 0)).0, 35);
}
