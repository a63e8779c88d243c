//! What the engine promises: provenance, retries, revisions, batches and time travel.

use std::sync::Arc;

use momentlog::core::{Action, Command, CreateCheckpoint, MomentName, Refusal};
use momentlog::store::Seq;
use momentlog::{
    ErrorCode, ManualClock, Options, Point, Provenance, RenameFlags, Revision, SnapshotDeleteFlags,
};

use super::*;

fn create(domain: &Domain, name: &str, now: i64) -> Command {
    let name = MomentName::new(name);
    let action = Action::CreateCheckpoint(CreateCheckpoint {
        name,
        description: None,
        now,
        disks: Vec::new(),
    });
    Command {
        domain: domain.uuid(),
        action,
    }
}

fn asked(actor: &str, request_id: Option<&str>, expected_revision: Option<Revision>) -> Provenance {
    Provenance {
        actor: actor.into(),
        reason: None,
        request_id: request_id.map(Arc::from),
        expected_revision,
        ..Provenance::default()
    }
}

fn at(seq: u64) -> Seq {
    Seq::new(seq).unwrap()
}

#[test]
fn every_entry_tells_who_why_and_what_came_before() {
    let scratch = Scratch::new();
    let (store, _) = scratch.with_domain();
    let provenance = Provenance {
        reason: Some("nightly".into()),
        ..asked("alice", Some("r1"), None)
    };
    checkpoint(
        &store
            .with_provenance(provenance)
            .lookup_domain_by_name("vm")
            .unwrap(),
        "a",
    )
    .unwrap();
    let second = store.entries(None).unwrap()[1].head;
    let entries = scratch.open().entries(Some(second)).unwrap();
    let [entry] = &entries[..] else {
        panic!("{entries:?}")
    };
    assert_eq!(
        (&*entry.actor, entry.reason.as_deref()),
        ("alice", Some("nightly"))
    );
    assert_eq!(
        (entry.request_id.as_deref(), entry.previous),
        (Some("r1"), Some(at(2)))
    );
}

#[test]
fn the_same_request_gets_the_first_answer_also_after_reopening() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    let ask = |name: &str, now| {
        scratch
            .open()
            .with_provenance(asked("tool", Some("r1"), None))
            .execute(&create(&domain, name, now))
    };
    domain.connection().release();
    let first = ask("a", 5).unwrap();
    let again = ask("a", 6).unwrap();
    assert_eq!(
        (again.seq, &again.events, again.repeated),
        (first.seq, &first.events, true)
    );
    let (code, _, message) = told(ask("b", 5));
    assert_eq!(
        (code, message.as_str()),
        (
            8,
            "invalid argument: request id 'r1' was used for another command, in record 3"
        )
    );
}

#[test]
fn a_nameless_retry_returns_the_name_that_was_chosen_first() {
    let scratch = Scratch::new();
    let clock = Arc::new(ManualClock::at_second(100));
    let options = Options {
        clock: clock.clone(),
        provenance: asked("tool", Some("r1"), None),
        ..Options::default()
    };
    scratch.with_domain();
    let domain = Connection::open_with(&scratch.uri(), options)
        .unwrap()
        .lookup_domain_by_name("vm")
        .unwrap();
    let create = || {
        domain
            .checkpoint_create_xml("<domaincheckpoint/>", CheckpointCreateFlags::NONE)
            .unwrap()
    };
    assert_eq!(create().name().as_str(), "100");
    clock.set_second(200);
    assert_eq!(create().name().as_str(), "100");
}

#[test]
fn a_stale_revision_is_refused_and_nothing_is_written() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    assert_eq!(store.view().revision(domain.uuid()), Revision::At(at(2)));
    let ask = |revision, name: &str| {
        store
            .with_provenance(asked("tool", None, Some(revision)))
            .execute(&create(&domain, name, 5))
    };
    ask(Revision::At(at(2)), "a").unwrap();
    let stale = "operation aborted: the domain has revision 3, not 2";
    assert_eq!(
        told(ask(Revision::At(at(2)), "b")),
        (78, 12, stale.to_owned())
    );
    assert_eq!(told(ask(Revision::None, "b")).0, 78);
    assert_eq!(store.refresh().unwrap().head().unwrap().seq, at(3));
}

#[test]
fn a_batch_is_recorded_whole_or_not_at_all() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let names = |names: &[&str]| -> Vec<Command> {
        names.iter().map(|name| create(&domain, name, 5)).collect()
    };
    let outcomes = store.execute_all(&names(&["a", "b", "c"])).unwrap();
    assert_eq!(
        outcomes
            .iter()
            .map(|outcome| outcome.seq.get())
            .collect::<Vec<_>>(),
        [3, 4, 5]
    );
    let error = store.execute_all(&names(&["d", "a", "e"])).unwrap_err();
    let taken = Refusal::NameTaken {
        name: MomentName::new("a").unwrap(),
    };
    assert_eq!(error.refusal(), Some(&taken));
    assert_eq!(store.refresh().unwrap().head().unwrap().seq, at(5));
    drop(store);
    domain.connection().release();
    let reopened = scratch.open().refresh().unwrap();
    assert_eq!(
        reopened
            .state()
            .domain(domain.uuid())
            .unwrap()
            .checkpoints()
            .len(),
        3
    );
}

#[test]
fn a_batch_that_is_refused_makes_no_store() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let nobody = Command {
        domain: "00000000-0000-4000-8000-000000000001".parse().unwrap(),
        action: Action::Undefine {
            with_snapshots: false,
        },
    };
    assert_eq!(told(store.execute_all(&[nobody])).0, 42);
    assert!(!scratch.path().exists());
}

#[test]
fn the_state_as_of_any_record_can_be_seen() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    for name in ["a", "b", "c"] {
        checkpoint(&domain, name).unwrap();
    }
    let count = |seq| {
        let view = store.view_at(at(seq)).unwrap();
        view.state()
            .domain(domain.uuid())
            .map(|domain| domain.checkpoints().len())
    };
    assert_eq!(
        [1, 2, 3, 4, 5, 99].map(count),
        [None, Some(0), Some(1), Some(2), Some(3), Some(3)]
    );
}

#[test]
fn a_text_that_was_seen_before_is_stored_once() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    checkpoint(&domain, "first").unwrap();
    let length = || {
        std::fs::metadata(scratch.path().join("00000000000000000001.seg"))
            .unwrap()
            .len()
    };
    domain.connection().release();
    let before = length();
    for index in 0..10 {
        checkpoint(&domain, &format!("c{index}")).unwrap();
    }
    domain.connection().release();
    assert!(
        (length() - before) / 10 < 400,
        "{} bytes a checkpoint",
        (length() - before) / 10
    );
}

#[test]
fn time_never_runs_backwards_in_the_log() {
    let scratch = Scratch::new();
    let clock = Arc::new(ManualClock::at_second(100));
    let store = Connection::open_with(
        &scratch.uri(),
        Options {
            clock: clock.clone(),
            ..Options::default()
        },
    )
    .unwrap();
    let domain = store.define_domain_xml(DOMAIN).unwrap();
    clock.set_second(50);
    checkpoint(&domain, "a").unwrap();
    let times: Vec<i64> = store
        .entries(None)
        .unwrap()
        .iter()
        .map(|entry| entry.recorded)
        .collect();
    assert_eq!(times, [100_000_000; 3]);
}

#[test]
fn an_overlong_request_id_is_refused() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    for id in ["", &"x".repeat(65)] {
        let asking = store.with_provenance(asked("tool", Some(id), None));
        assert_eq!(told(asking.execute(&create(&domain, "a", 5))).0, 8);
    }
}

#[test]
fn a_name_means_at_a_point_the_domain_that_had_it_then() {
    let scratch = Scratch::new();
    let (store, web01) = scratch.with_domain();
    let name = web01.name().to_owned();
    let os = "<os><type>hvm</type></os>";
    let xml = format!("<domain type='kvm'><name>second</name><memory>1024</memory>{os}</domain>");
    let later = store.define_domain_xml(&xml).unwrap();
    snapshot(&later, "a").unwrap();
    let then = store.view().head().unwrap().seq;
    web01.rename("other", RenameFlags::NONE).unwrap();
    let gone = later.snapshot_lookup_by_name("a").unwrap();
    gone.delete(SnapshotDeleteFlags::NONE).unwrap();
    later.rename(&name, RenameFlags::NONE).unwrap();
    let of = |seq, name: &str| {
        let at = store.at_for(&Point::Seq(seq), name).unwrap();
        at.lookup_domain_by_name(name).map(|domain| domain.uuid())
    };
    let now = store.view().head().unwrap().seq;
    assert_eq!(of(then, &name).unwrap(), web01.uuid());
    assert_eq!(of(now, &name).unwrap(), later.uuid());
    assert_eq!(of(now, "other").unwrap(), web01.uuid());
    assert_eq!(of(then, "other").unwrap_err().code(), ErrorCode::NoDomain);
    // What is asked about one domain has that one, with its moments as of then.
    let uuid = later.uuid();
    let at = store.at_for(&Point::Seq(then), &uuid.to_string()).unwrap();
    let whole = store.at(&Point::Seq(then)).unwrap();
    let domain = |connection: &Connection| connection.view().state().keep_domain(uuid);
    assert_eq!(domain(&at), domain(&whole));
    assert_eq!(at.view().head(), whole.view().head());
}
