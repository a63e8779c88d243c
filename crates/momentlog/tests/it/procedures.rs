//! Procedures: what only the table answers.

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

#[test]
fn creating_a_domain_refuses_read_only_before_flags_and_flags_before_xml() {
    let store = Connection::open("test:///default").unwrap();
    let Takes::TextFlags(create) = takes("virDomainCreateXML") else {
        panic!("it takes XML and flags")
    };
    let denied = "operation forbidden: read only access prevents virDomainCreateXML";
    let answer = create(&store.read_only(), "<", 1);
    assert_eq!(told(answer), (29, 20, denied.to_owned()));
    let unknown = "unsupported flags (0x1) in function virDomainCreateXML";
    assert_eq!(told(create(&store, "<", 1)), (8, 12, unknown.to_owned()));
    assert_eq!(told(create(&store, "<", 0)).0, 35);
}
