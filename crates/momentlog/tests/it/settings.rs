//! What a store as a whole is set to, and what outlives a domain.

use std::sync::Arc;

use momentlog::core::{Action, Command, DomainUuid, Policy, SettingsChange};
use momentlog::{
    CheckpointCreateFlags, ErrorCode, ManualClock, Options, Provenance, Revision, UndefineFlags,
};

use super::*;

fn window(seconds: u32) -> SettingsChange {
    SettingsChange {
        request_window_s: Some(seconds),
        ..SettingsChange::default()
    }
}

fn default_policy(policy: Policy) -> SettingsChange {
    SettingsChange {
        policy: Some(policy),
        ..SettingsChange::default()
    }
}

fn chain_off(policy: Policy) -> Policy {
    Policy {
        chain: false,
        ..policy
    }
}

fn other_domain() -> String {
    DOMAIN
        .replace("<name>vm<", "<name>other<")
        .replace("4b21</uuid>", "4b22</uuid>")
}

#[test]
fn a_default_policy_is_for_new_domains_and_recorded() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let before = domain.policy().unwrap();
    let set = default_policy(chain_off(before));
    let outcome = store.set_settings(set).unwrap();
    assert_eq!(outcome.seq.get(), 3);
    assert_eq!(domain.policy().unwrap(), before);
    let other = store.define_domain_xml(&other_domain()).unwrap();
    assert_eq!(other.policy().unwrap(), chain_off(before));
    drop((store, domain, other));
    let again = Connection::open_read_only(&scratch.uri()).unwrap();
    assert_eq!(again.settings().unwrap().policy, chain_off(before));
    let entry = &again.entries(None).unwrap()[2];
    assert_eq!((entry.domain, entry.previous), (None, None));
    assert_eq!(entry.events.len(), 1);
}

#[test]
fn settings_of_a_store_that_is_not_there_yet_are_those_of_its_profile() {
    let scratch = Scratch::new();
    let store = scratch.open();
    assert_eq!(store.settings().unwrap().request_window_s, 2_592_000);
    // The first change of all may be one of the settings.
    store.set_settings(window(60)).unwrap();
    drop(store);
    let again = scratch.open();
    assert_eq!(again.settings().unwrap().request_window_s, 60);
    let of_test = Connection::open("test:///default").unwrap();
    assert_eq!(of_test.settings().unwrap().request_window_s, 2_592_000);
}

#[test]
fn settings_keep_provenance_and_answer_a_retry() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let asked = Provenance {
        actor: "anna".into(),
        reason: Some("two tools share it".into()),
        request_id: Some("r1".into()),
        ..store.provenance().clone()
    };
    let set = default_policy(chain_off(domain.policy().unwrap()));
    let with_id = store.with_provenance(asked.clone());
    let first = with_id.set_settings(set).unwrap();
    let second = with_id.set_settings(set).unwrap();
    assert!(second.repeated);
    assert_eq!(second.seq, first.seq);
    let other = with_id.set_settings(window(1)).unwrap_err();
    assert_eq!(other.code(), ErrorCode::InvalidArg);
    let entry = store.entries(None).unwrap().pop().unwrap();
    assert_eq!(&*entry.actor, "anna");
    assert_eq!(entry.reason, asked.reason);
    let expecting = Provenance {
        request_id: None,
        expected_revision: Some(Revision::None),
        ..asked
    };
    let refused = store.with_provenance(expecting).set_settings(set);
    assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidArg);
    let read_only = store.read_only().set_settings(set);
    assert_eq!(read_only.unwrap_err().code(), ErrorCode::OperationDenied);
}

#[test]
fn a_policy_that_was_set_is_kept_over_undefine_and_define_and_in_images() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let free = chain_off(domain.policy().unwrap());
    store.set_policy(domain.uuid(), free).unwrap();
    domain.undefine(UndefineFlags::NONE).unwrap();
    store.make_image().unwrap();
    drop((store, domain));
    let again = scratch.open();
    let domain = again.define_domain_xml(DOMAIN).unwrap();
    assert_eq!(domain.policy().unwrap(), free);
}

#[test]
fn a_transient_guest_that_is_created_once_more_has_the_policy_that_was_set() {
    let store = Scratch::new();
    let store = store.open();
    let guest = store.create_domain_xml(DOMAIN).unwrap();
    let free = chain_off(guest.policy().unwrap());
    store.set_policy(guest.uuid(), free).unwrap();
    guest.destroy().unwrap();
    let guest = store.create_domain_xml(DOMAIN).unwrap();
    assert_eq!(guest.policy().unwrap(), free);
}

/// The log says what went with a domain: how many moments, and which.
#[test]
fn an_entry_that_removes_a_domain_has_the_moments_that_went_with_it() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let guest = store.create_domain_xml(DOMAIN).unwrap();
    for name in ["monday", "tuesday"] {
        checkpoint(&guest, name).unwrap();
    }
    guest.destroy().unwrap();
    let entries = store.entries(None).unwrap();
    let (last, before) = entries.split_last().unwrap();
    assert!(before.iter().all(|entry| entry.removed.is_empty()));
    let [gone] = &last.removed[..] else {
        panic!("{last:?}");
    };
    let names: Vec<_> = gone
        .checkpoints()
        .walk(momentlog::core::Scope::All)
        .map(|moment| moment.name.to_string())
        .collect();
    assert_eq!(names, ["monday", "tuesday"]);
    assert!(gone.snapshots().is_empty());
    assert_eq!(&**gone.name(), "vm");
}

#[test]
fn a_request_id_is_new_again_after_the_window_in_every_process() {
    let scratch = Scratch::new();
    let clock = Arc::new(ManualClock::at_second(1_000));
    let options = || Options {
        clock: clock.clone(),
        ..Options::default()
    };
    let open = || Connection::open_with(&scratch.uri(), options()).unwrap();
    let store = open();
    store.set_settings(window(60)).unwrap();
    let domain = store.define_domain_xml(DOMAIN).unwrap();
    let with_id = |store: &Connection| {
        let asked = Provenance {
            request_id: Some("r1".into()),
            ..store.provenance().clone()
        };
        let store = store.with_provenance(asked);
        store.lookup_domain_by_name("vm").unwrap()
    };
    checkpoint(&with_id(&store), "a").unwrap();
    clock.set_second(1_060);
    checkpoint(&domain, "b").unwrap();
    // Still within its window: the same command gets its answer, another is refused.
    checkpoint(&with_id(&store), "a").unwrap();
    assert!(checkpoint(&with_id(&store), "c").is_err());
    clock.set_second(1_061);
    // The clock alone forgets nothing, a record does.
    assert!(checkpoint(&with_id(&store), "c").is_err());
    checkpoint(&domain, "d").unwrap();
    drop((store, domain));
    let replayed = open();
    checkpoint(&with_id(&replayed), "c").unwrap();
    replayed.make_image().unwrap();
    drop(replayed);
    let from_image = open();
    checkpoint(&with_id(&from_image), "c").unwrap();
    assert!(checkpoint(&with_id(&from_image), "e").is_err());
    let listed = from_image
        .lookup_domain_by_name("vm")
        .unwrap()
        .list_all_checkpoints(momentlog::CheckpointListFlags::NONE)
        .unwrap();
    assert_eq!(listed.len(), 4);
}

/// libvirt takes a uuid of zeros; records about no domain have zeros there, too.
#[test]
fn a_domain_may_have_the_uuid_of_zeros() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let xml = DOMAIN.replace(
        "3f2c7a90-5d1e-4b7c-9a52-0c6f1d8e4b21",
        "00000000-0000-0000-0000-000000000000",
    );
    let domain = store.define_domain_xml(&xml).unwrap();
    checkpoint(&domain, "monday").unwrap();
    drop((store, domain));
    let again = scratch.open();
    let nil = DomainUuid::from_bytes([0; 16]);
    let domain = again.lookup_domain_by_uuid(nil).unwrap();
    let xml = "<domaincheckpoint><name>tuesday</name></domaincheckpoint>";
    domain
        .checkpoint_create_xml(xml, CheckpointCreateFlags::NONE)
        .unwrap();
    let undefine = Command {
        domain: nil,
        action: Action::Undefine {
            with_snapshots: false,
        },
    };
    again.execute(&undefine).unwrap();
    assert_eq!(
        again.entries(None).unwrap().pop().unwrap().domain,
        Some(nil)
    );
}
