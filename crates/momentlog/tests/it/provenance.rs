//! Who asked for what: it is in every record.

use std::sync::Arc;

use momentlog::core::{Action, Command, SettingsChange, StateChange};
use momentlog::store::{MemoryStore, Seq};
use momentlog::{
    Call, CheckpointCreateFlags, CheckpointDeleteFlags, Connection, ErrorCode, Options, Provenance,
    RevertFlags, SnapshotCreateFlags, SnapshotDeleteFlags, UndefineFlags,
};

use crate::DOMAIN;

fn store() -> Connection {
    Connection::over(Box::new(MemoryStore::new()), Options::default())
}

#[test]
fn every_call_records_its_number_and_its_flags() {
    let store = store();
    let domain = store.define_domain_xml(DOMAIN).unwrap();
    let checkpoint = domain
        .checkpoint_create_xml(
            "<domaincheckpoint><name>c</name></domaincheckpoint>",
            CheckpointCreateFlags::QUIESCE,
        )
        .unwrap();
    checkpoint
        .delete(CheckpointDeleteFlags::METADATA_ONLY)
        .unwrap();
    let snapshot = domain
        .snapshot_create_xml(
            "<domainsnapshot><name>s</name></domainsnapshot>",
            SnapshotCreateFlags::ATOMIC,
        )
        .unwrap();
    snapshot.revert(RevertFlags::FORCE).unwrap();
    snapshot.delete(SnapshotDeleteFlags::CHILDREN).unwrap();
    domain.start().unwrap();
    domain.suspend().unwrap();
    domain.resume().unwrap();
    domain.shutdown().unwrap();
    store
        .execute(&Command {
            domain: domain.uuid(),
            action: Action::ChangeState(StateChange::Start),
        })
        .unwrap();
    domain.destroy().unwrap();
    let policy = domain.policy().unwrap();
    store.set_policy(domain.uuid(), policy).unwrap();
    store.set_settings(SettingsChange::default()).unwrap();
    domain.undefine(UndefineFlags::KEEP_NVRAM).unwrap();
    store.create_domain_xml(DOMAIN).unwrap();
    let entries = store.entries(None).unwrap();
    let called: Vec<_> = entries[1..]
        .iter()
        .map(|entry| (entry.call, entry.flags))
        .collect();
    assert_eq!(
        called,
        [
            (Call::DEFINE_XML, 0),
            (Call::CHECKPOINT_CREATE_XML, 2),
            (Call::CHECKPOINT_DELETE, 2),
            (Call::SNAPSHOT_CREATE_XML, 128),
            (Call::REVERT_TO_SNAPSHOT, 4),
            (Call::SNAPSHOT_DELETE, 1),
            (Call::CREATE, 0),
            (Call::SUSPEND, 0),
            (Call::RESUME, 0),
            (Call::SHUTDOWN, 0),
            (Call::EXECUTE, 0),
            (Call::DESTROY, 0),
            (Call::SET_POLICY, 0),
            (Call::SET_SETTINGS, 0),
            (Call::UNDEFINE_FLAGS, UndefineFlags::KEEP_NVRAM.bits()),
            (Call::CREATE_XML, 0),
        ]
    );
    let agent: Arc<str> = Provenance::default().agent;
    assert!(agent.contains(" momentlog/"), "{agent}");
    assert!(
        entries[1..]
            .iter()
            .all(|entry| entry.agent == Some(agent.clone()))
    );
    assert_eq!(entries[0].agent, None);
}

#[test]
fn who_asks_is_never_empty() {
    let store = store();
    assert_ne!(&*store.provenance().actor, "");
    for provenance in [
        Provenance {
            actor: "".into(),
            ..Provenance::default()
        },
        Provenance {
            agent: "".into(),
            ..Provenance::default()
        },
        Provenance {
            agent: "x".repeat(1025).into(),
            ..Provenance::default()
        },
    ] {
        let refused = store.with_provenance(provenance).define_domain_xml(DOMAIN);
        assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidArg);
    }
    assert_eq!(store.entries(None).unwrap(), []);
}

#[test]
fn what_a_record_takes_back_must_be_there() {
    let store = store();
    let undoing = |seq| {
        store.with_provenance(Provenance {
            undoes: Seq::new(seq),
            ..Provenance::default()
        })
    };
    let domain = store.define_domain_xml(DOMAIN).unwrap();
    let refused = undoing(3).domain_handle(domain.uuid(), "vm").start();
    assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidArg);
    undoing(2)
        .domain_handle(domain.uuid(), "vm")
        .start()
        .unwrap();
    let entries = store.entries(None).unwrap();
    let undone: Vec<_> = entries.iter().map(|entry| entry.undoes).collect();
    assert_eq!(undone, [None, None, Seq::new(2)]);
}

#[test]
fn a_recording_knows_the_records_of_calls_that_return_something_else() {
    let store = store();
    store.define_domain_xml(DOMAIN).unwrap();
    let recording = store.recording();
    let asked = |request_id: &str| {
        let provenance = Provenance {
            request_id: Some(request_id.into()),
            ..Provenance::default()
        };
        let connection = recording.connection().with_provenance(provenance);
        connection.lookup_domain_by_name("vm").unwrap()
    };
    crate::checkpoint(&asked("a"), "c").unwrap();
    crate::checkpoint(&asked("b"), "c").unwrap_err();
    crate::checkpoint(&asked("a"), "c").unwrap();
    // What is asked of the store itself is not of this recording.
    store.lookup_domain_by_name("vm").unwrap().start().unwrap();
    let outcomes = recording.outcomes();
    let found: Vec<_> = outcomes
        .iter()
        .map(|outcome| (outcome.seq.get(), outcome.repeated))
        .collect();
    assert_eq!(found, [(3, false), (3, true)]);
    assert_eq!(outcomes[0].created().unwrap().as_str(), "c");
}
