//! What `{:?}` prints: a line in a log must neither hold a password nor fill a screen.

use std::fmt::Debug;
use std::time::Duration;

use momentlog::core::{Action, Command};
use momentlog::xml::{RecentDomain, read_domain};
use momentlog::{CheckpointXmlFlags, Options, Provenance, SnapshotXmlFlags, UndefineFlags};

use super::*;

const PASSWORD: &str = "hunter2-of-the-console";

/// Longest text that `{:?}` or `{:#?}` may print, in bytes.
const LEN_MAX: usize = 2_048;

#[track_caller]
fn check(what: &str, value: &dyn Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!text.contains(PASSWORD), "{what} prints the password");
        assert!(text.len() <= LEN_MAX, "{what} prints {} bytes", text.len());
    }
}

#[test]
fn nothing_prints_a_password_or_the_whole_store() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let xml = DOMAIN.replace(
        "<devices>",
        &format!("<devices><graphics type='vnc' passwd='{PASSWORD}'/>"),
    );
    let domain = store.define_domain_xml(&xml).unwrap();
    let uuid = domain.uuid();
    for number in 0..300 {
        checkpoint(&domain, &format!("c{number}")).unwrap();
    }
    let kept = domain.checkpoint_lookup_by_name("c7").unwrap();
    let dump = kept.xml_desc(CheckpointXmlFlags::SECURE).unwrap();
    assert!(dump.contains(PASSWORD));
    let flags = CheckpointCreateFlags::REDEFINE;
    domain.checkpoint_create_xml(&dump, flags).unwrap();

    let view = store.refresh().unwrap();
    let state = view.state();
    let known = state.domain(uuid).unwrap();
    check("Connection", &store);
    check("read-only Connection", &store.read_only());
    check("Connection for a retry", &store.for_retry().unwrap());
    check("Domain", &domain);
    check("Checkpoint", &kept);
    check("View", &view);
    check("State", state);
    check("core::Domain", known);
    check("DomainDef", known.def());
    check("MomentList", known.checkpoints());
    check("Moment", &known.checkpoints().find("c7").unwrap());
    check(
        "Walk",
        &known.checkpoints().walk(momentlog::core::Scope::All),
    );
    check("Options", &Options::default());
    check("Provenance", &Provenance::default());
    for entry in store.entries(None).unwrap() {
        check("Entry", &entry);
        for event in &entry.events {
            check("Event", event);
        }
    }
    let mut subscription = store.subscribe(None);
    check("Subscription", &subscription);
    let entries = subscription.next(Duration::ZERO).unwrap();
    check("entries", &entries.last());
    check("Subscription", &subscription);
    check("receipt", &store.receipt().unwrap());
    let recent = RecentDomain::default();
    check("RecentDomain", &recent);

    let def = read_domain(&xml, || uuid).unwrap();
    check("DomainDef", &def);
    let command = Command {
        domain: uuid,
        action: Action::Define(def.into()),
    };
    check("Command", &command);
    let submitted = store.submit(&command).unwrap();
    check("Submitted", &submitted);
    let outcome = submitted.wait().unwrap();
    check("Outcome", &outcome);
    check("events", &outcome.events);
    let error = domain
        .undefine(UndefineFlags::from_bits_retain(0x100))
        .unwrap_err();
    check("Error", &error);
    domain.undefine(UndefineFlags::NONE).unwrap();
    check(
        "the entry of a removed domain",
        &store.entries(None).unwrap().last(),
    );

    let domain = store.define_domain_xml(&xml).unwrap();
    snapshot(&domain, "s").unwrap();
    let made = domain.snapshot_lookup_by_name("s").unwrap();
    assert!(
        made.xml_desc(SnapshotXmlFlags::SECURE)
            .unwrap()
            .contains(PASSWORD)
    );
    check("Snapshot", &made);
    for entry in store.entries(None).unwrap() {
        check("Entry", &entry);
        check("events", &entry.events);
    }
}

#[test]
fn a_typed_command_with_another_text_is_another_request() {
    let scratch = Scratch::new();
    let store = scratch.open().with_provenance(Provenance {
        request_id: Some("define".into()),
        ..Options::default().provenance
    });
    let define = |path: &str| {
        let def = read_domain(&DOMAIN.replace("/images/a", path), || unreachable!()).unwrap();
        store.execute(&Command {
            domain: def.uuid,
            action: Action::Define(def.into()),
        })
    };
    define("/images/x").unwrap();
    assert!(define("/images/x").unwrap().repeated);
    assert_eq!(told(define("/images/y")).0, 8);
}
