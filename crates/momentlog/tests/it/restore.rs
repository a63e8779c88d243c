//! Putting back many saved moments at once.

use momentlog::{
    CheckpointListFlags, CheckpointXmlFlags, Connection, ErrorCode, Fate, OnMissingParent,
    Provenance, Restoration, Revision, Saved, SnapshotListFlags, UndefineFlags,
};

use super::*;

fn saved_checkpoint(name: &str, parent: Option<&str>, time: u32) -> Saved {
    let parent = parent.map_or(String::new(), |parent| {
        format!("<parent><name>{parent}</name></parent>")
    });
    Saved {
        label: format!("{name}.xml").into(),
        xml: format!(
            "<domaincheckpoint><name>{name}</name>{parent}<creationTime>{time}</creationTime></domaincheckpoint>"
        ),
    }
}

fn saved_snapshot(name: &str, parent: Option<&str>, time: u32, active: &str) -> Saved {
    let parent = parent.map_or(String::new(), |parent| {
        format!("<parent><name>{parent}</name></parent>")
    });
    Saved {
        label: format!("{name}.xml").into(),
        xml: format!(
            "<!-- as libvirt keeps it -->\n<domainsnapshot><name>{name}</name><state>shutoff</state>{parent}\
             <creationTime>{time}</creationTime>{DOMAIN}{active}</domainsnapshot>"
        ),
    }
}

fn checkpoints(domain: &Domain) -> Vec<(String, Option<String>)> {
    let all = domain
        .list_all_checkpoints(CheckpointListFlags::TOPOLOGICAL)
        .unwrap();
    let parent = |name: &str| {
        let view = domain.connection().refresh().unwrap();
        let list = view
            .state()
            .domain(domain.uuid())
            .unwrap()
            .checkpoints()
            .clone();
        let id = list.find(name).unwrap().id;
        list.parent(id).map(|parent| parent.name.to_string())
    };
    all.iter()
        .map(|it| (it.name().to_string(), parent(it.name().as_str())))
        .collect()
}

fn set_rules(store: &Connection, domain: &Domain, exclusive: bool, chain: bool) {
    let mut policy = domain.policy().unwrap();
    (policy.exclusive, policy.chain) = (exclusive, chain);
    store.set_policy(domain.uuid(), policy).unwrap();
}

/// All orders of a few things.
fn permutations<T: Clone>(things: &[T]) -> Vec<Vec<T>> {
    if things.is_empty() {
        return vec![Vec::new()];
    }
    (0..things.len())
        .flat_map(|first| {
            let mut rest = things.to_vec();
            let first = rest.remove(first);
            permutations(&rest).into_iter().map(move |mut rest| {
                rest.insert(0, first.clone());
                rest
            })
        })
        .collect()
}

fn fates(restored: &Restoration) -> Vec<(&str, &Fate)> {
    let moments = restored.moments.iter();
    moments.map(|it| (it.name.as_str(), &it.fate)).collect()
}

fn named(name: &str) -> momentlog::core::MomentName {
    momentlog::core::MomentName::new(name).unwrap()
}

#[test]
fn a_folder_in_any_order_is_one_record_and_gives_what_was_saved() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    for name in ["a", "b", "c", "d"] {
        checkpoint(&domain, name).unwrap();
    }
    let saved: Vec<Saved> = ["a", "b", "c", "d"]
        .map(|name| {
            let checkpoint = domain.checkpoint_lookup_by_name(name).unwrap();
            let xml = checkpoint.xml_desc(CheckpointXmlFlags::NONE).unwrap();
            let label = name.into();
            Saved { label, xml }
        })
        .into();
    for saved in permutations(&saved) {
        let scratch = Scratch::new();
        let (store, domain) = scratch.with_domain();
        let before = store.refresh().unwrap().head().unwrap().seq.get();
        let restored = domain
            .restore_moments(&saved, OnMissingParent::Refuse)
            .unwrap();
        assert_eq!(restored.seq.unwrap().get(), before + 1);
        assert!(
            restored
                .moments
                .iter()
                .all(|moment| moment.fate == Fate::Restored)
        );
        for Saved { label, xml } in &saved {
            let found = domain.checkpoint_lookup_by_name(label).unwrap();
            assert_eq!(&found.xml_desc(CheckpointXmlFlags::NONE).unwrap(), xml);
        }
        // The chain rule holds, and what is restored can be gone on with.
        checkpoint(&domain, "e").unwrap();
        let replayed = scratch.open();
        assert_eq!(
            replayed.refresh().unwrap().state(),
            store.refresh().unwrap().state()
        );
    }
}

#[test]
fn snapshots_and_checkpoints_may_be_mixed() {
    let files = [
        saved_snapshot("s2", Some("s1"), 20, ""),
        saved_checkpoint("c2", Some("c1"), 2),
        saved_checkpoint("c1", None, 1),
        saved_snapshot("s1", None, 10, ""),
        saved_snapshot("s3", Some("s1"), 15, ""),
    ];
    for files in permutations(&files) {
        let scratch = Scratch::new();
        let (store, domain) = scratch.with_domain();
        let refused = domain.restore_moments(&files, OnMissingParent::Refuse);
        let (code, _, message) = told(refused);
        assert_eq!(code, ErrorCode::OperationUnsupported.number(), "{message}");
        assert!(message.contains(".xml: "), "{message}");
        set_rules(&store, &domain, false, true);
        domain
            .restore_moments(&files, OnMissingParent::Refuse)
            .unwrap();
        let names = domain.snapshot_list_names(SnapshotListFlags::TOPOLOGICAL);
        assert_eq!(names.unwrap().len(), 3);
        assert_eq!(checkpoints(&domain).len(), 2);
        // No file says which is current, so that it is the last leaf.
        assert_eq!(domain.snapshot_current().unwrap().name().as_str(), "s2");
    }
}

#[test]
fn the_snapshot_that_says_so_is_current() {
    let no = "<active>0</active>";
    let files = [
        saved_snapshot("s1", None, 10, " <active> 1 </active>"),
        saved_snapshot("s2", Some("s1"), 20, no),
    ];
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    domain
        .restore_moments(&files, OnMissingParent::Refuse)
        .unwrap();
    assert_eq!(domain.snapshot_current().unwrap().name().as_str(), "s1");

    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    let none = [saved_snapshot("s1", None, 10, no)];
    domain
        .restore_moments(&none, OnMissingParent::Refuse)
        .unwrap();
    assert!(!domain.has_current_snapshot().unwrap());

    let two = ["s1", "s2"].map(|name| saved_snapshot(name, None, 1, "<active>1</active>"));
    let refused = domain.restore_moments(&two, OnMissingParent::Refuse);
    let says = "s1.xml and s2.xml both say that they are current".to_owned();
    assert_eq!(told(refused), (8, 20, says));
    let odd = [saved_snapshot("s1", None, 1, "<active>yes</active>")];
    let refused = domain.restore_moments(&odd, OnMissingParent::Refuse);
    let (_, _, message) = told(refused);
    assert!(
        message.starts_with("s1.xml: ") && message.contains("'yes' in 'active' is neither 0 nor 1"),
        "{message}"
    );
}

#[test]
fn a_current_snapshot_that_is_there_stays_if_no_file_says_otherwise() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    snapshot(&domain, "here").unwrap();
    domain
        .restore_moments(
            &[saved_snapshot("s", Some("here"), 9, "")],
            OnMissingParent::Refuse,
        )
        .unwrap();
    assert_eq!(domain.snapshot_current().unwrap().name().as_str(), "here");
}

#[test]
fn a_missing_parent_is_refused_by_name_rerooted_or_cuts_the_chain() {
    // `a` was lost, and so was `x`.
    let files = [
        saved_checkpoint("c", Some("b"), 3),
        saved_checkpoint("b", Some("a"), 2),
        saved_checkpoint("y", Some("x"), 1),
        saved_checkpoint("r", None, 1),
    ];
    for files in permutations(&files) {
        let scratch = Scratch::new();
        let (store, domain) = scratch.with_domain();
        let head = store.refresh().unwrap().head();
        let (code, _, message) = told(domain.restore_moments(&files, OnMissingParent::Refuse));
        assert_eq!(code, ErrorCode::InvalidArg.number());
        assert!(
            message.contains("b.xml: its parent, checkpoint a, is missing"),
            "{message}"
        );
        assert!(
            message.contains("y.xml: its parent, checkpoint x, is missing"),
            "{message}"
        );
        // Under the chain rule, several roots are none.
        let (_, _, message) = told(domain.restore_moments(&files, OnMissingParent::Reroot));
        assert!(message.contains("would fork the chain"), "{message}");
        assert_eq!(store.refresh().unwrap().head(), head);

        let restored = domain
            .restore_moments(&files, OnMissingParent::Truncate)
            .unwrap();
        let left_out = |missing| Fate::LeftOut {
            missing: named(missing),
        };
        let mut found = fates(&restored);
        found.sort_by_key(|(name, _)| *name);
        let expected = [
            ("b", &left_out("a")),
            ("c", &left_out("a")),
            ("r", &Fate::Restored),
            ("y", &left_out("x")),
        ];
        assert_eq!(found, expected);
        assert_eq!(checkpoints(&domain), [("r".to_owned(), None)]);

        let scratch = Scratch::new();
        let (store, domain) = scratch.with_domain();
        set_rules(&store, &domain, true, false);
        let restored = domain
            .restore_moments(&files, OnMissingParent::Reroot)
            .unwrap();
        let rerooted = |missing| Fate::Rerooted {
            missing: named(missing),
        };
        let mut found = fates(&restored);
        found.sort_by_key(|(name, _)| *name);
        let expected = [
            ("b", &rerooted("a")),
            ("c", &Fate::Restored),
            ("r", &Fate::Restored),
            ("y", &rerooted("x")),
        ];
        assert_eq!(found, expected);
        let view = store.refresh().unwrap();
        let list = view.state().domain(domain.uuid()).unwrap().checkpoints();
        assert_eq!(list.current().unwrap().name.as_str(), "c");
    }
}

#[test]
fn a_parent_that_the_store_has_is_not_missing() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    let files = [
        saved_checkpoint("c", Some("b"), 3),
        saved_checkpoint("b", Some("a"), 2),
    ];
    domain
        .restore_moments(&files, OnMissingParent::Refuse)
        .unwrap();
    let below = |name: &str, parent: &str| (name.to_owned(), Some(parent.to_owned()));
    let expected = [("a".to_owned(), None), below("b", "a"), below("c", "b")];
    assert_eq!(checkpoints(&domain), expected);
}

#[test]
fn what_makes_no_sense_is_refused_by_name_and_nothing_is_written() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let head = store.refresh().unwrap().head();
    let with = |file: Saved| vec![saved_checkpoint("a", None, 1), file];
    let raw = |xml: &str| Saved {
        label: "bad.xml".into(),
        xml: xml.to_owned(),
    };
    let other = DOMAIN.replace("3f2c7a90", "00000000");
    let mut copy = saved_checkpoint("a", None, 1);
    copy.label = "copy.xml".into();
    let mut circle = vec![
        saved_checkpoint("a", Some("c"), 1),
        saved_checkpoint("b", Some("a"), 1),
        saved_checkpoint("c", Some("b"), 1),
        saved_checkpoint("below", Some("c"), 1),
    ];
    circle.rotate_left(1);
    let cases: Vec<(Vec<Saved>, &str)> = vec![
        (vec![], "there is nothing to restore"),
        (with(copy), "a.xml and copy.xml are both checkpoint a"),
        (with(raw("not XML")), "bad.xml: "),
        (
            with(raw("<domain/>")),
            "bad.xml: XML error: expecting root element of 'domainsnapshot' or 'domaincheckpoint', not 'domain'",
        ),
        (
            with(raw("<domaincheckpoint><name>x</name></domaincheckpoint>")),
            "bad.xml: ",
        ),
        (
            with(raw(&format!(
                "<domaincheckpoint><name>x</name><parent><name>a</name></parent><creationTime>1</creationTime>{other}</domaincheckpoint>"
            ))),
            "bad.xml: invalid argument: definition for checkpoint x must use uuid",
        ),
        (
            with(saved_checkpoint("b", Some("b"), 1)),
            "b.xml is its own parent",
        ),
        (circle, "hang below each other in a circle"),
        (
            with(saved_checkpoint("fork", None, 1)),
            "fork.xml: Operation not supported",
        ),
    ];
    for (files, says) in cases {
        for on_missing in [
            OnMissingParent::Refuse,
            OnMissingParent::Reroot,
            OnMissingParent::Truncate,
        ] {
            let (_, _, message) = told(domain.restore_moments(&files, on_missing));
            assert!(message.contains(says), "{message}");
        }
    }
    let orphan = [saved_checkpoint("b", Some("a"), 1)];
    let (_, _, message) = told(domain.restore_moments(&orphan, OnMissingParent::Truncate));
    assert!(message.starts_with("nothing is left"), "{message}");
    assert_eq!(store.refresh().unwrap().head(), head);
    let (code, _, _) = told(
        store
            .read_only()
            .lookup_domain_by_name("vm")
            .unwrap()
            .restore_moments(&orphan, OnMissingParent::Reroot),
    );
    assert_eq!(code, ErrorCode::OperationDenied.number());
}

#[test]
fn asked_again_under_its_request_id_it_gets_the_first_answer() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let asking = store.with_provenance(Provenance {
        request_id: Some("night-1".into()),
        ..store.provenance().clone()
    });
    let mut files = vec![
        saved_checkpoint("b", Some("a"), 2),
        saved_checkpoint("c", Some("b"), 3),
    ];
    let restore = |files: &[Saved], on_missing| {
        asking
            .domain_handle(domain.uuid(), "vm")
            .restore_moments(files, on_missing)
    };
    let first = restore(&files, OnMissingParent::Reroot).unwrap();
    assert!(!first.repeated);
    // Now `a` is there, which changes nothing about the first answer.
    set_rules(&store, &domain, true, false);
    domain
        .restore_moments(&[saved_checkpoint("a", None, 1)], OnMissingParent::Refuse)
        .unwrap();
    let again = restore(&files, OnMissingParent::Reroot).unwrap();
    assert!(again.repeated);
    assert_eq!((&again.moments, again.seq), (&first.moments, first.seq));
    // The order of the files means nothing, what is done with them does.
    files.reverse();
    assert!(restore(&files, OnMissingParent::Reroot).unwrap().repeated);
    let (code, _, message) = told(restore(&files, OnMissingParent::Truncate));
    assert_eq!(code, ErrorCode::InvalidArg.number());
    assert!(
        message.contains("was used for another command"),
        "{message}"
    );
    domain.undefine(UndefineFlags::NONE).unwrap();
    assert!(restore(&files, OnMissingParent::Reroot).unwrap().repeated);
}

#[test]
fn a_folder_of_thousands_is_restored_in_the_order_of_its_chain() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    let name = |number: u32| format!("m{number:05}");
    let mut files: Vec<Saved> = (0..3_000_u32)
        .map(|number| {
            let parent = number.checked_sub(1).map(name);
            // Clocks went backwards meanwhile.
            saved_checkpoint(&name(number), parent.as_deref(), 9_000 - number)
        })
        .collect();
    files.reverse();
    domain
        .restore_moments(&files, OnMissingParent::Refuse)
        .unwrap();
    let leaf = domain.list_all_checkpoints(CheckpointListFlags::LEAVES);
    assert_eq!(leaf.unwrap()[0].name().as_str(), name(2_999));
    let view = domain.connection().refresh().unwrap();
    let list = view.state().domain(domain.uuid()).unwrap().checkpoints();
    assert_eq!(list.current().unwrap().name.as_str(), name(2_999));
}

#[test]
fn a_moment_that_is_there_is_told_as_redefined() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    let saved = [
        saved_snapshot("a", None, 1, ""),
        saved_snapshot("b", Some("a"), 2, ""),
    ];
    let redefined = |saved: &[Saved]| -> Vec<bool> {
        let restored = domain
            .restore_moments(saved, OnMissingParent::Refuse)
            .unwrap();
        restored.moments.iter().map(|it| it.redefined).collect()
    };
    assert_eq!(redefined(&saved[..1]), [false]);
    assert_eq!(redefined(&saved), [true, false]);
}

#[test]
fn a_restoration_that_changes_nothing_writes_no_record() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    set_rules(&store, &domain, false, true);
    let mut saved = vec![
        saved_snapshot("a", None, 1, ""),
        saved_snapshot("b", Some("a"), 2, "<active>1</active>"),
        saved_checkpoint("c", None, 3),
        saved_checkpoint("d", Some("c"), 4),
    ];
    let restore = |saved: &[Saved]| domain.restore_moments(saved, OnMissingParent::Truncate);
    let head = || store.refresh().unwrap().head().unwrap().seq;
    let first = restore(&saved).unwrap();
    assert_eq!(first.seq, Some(head()));
    saved.reverse();
    let again = restore(&saved).unwrap();
    assert_eq!((again.seq, again.repeated), (None, false));
    assert!(again.moments.iter().all(|moment| moment.redefined));
    assert_eq!(Some(head()), first.seq);
    // What is left out changes nothing either.
    saved.push(saved_checkpoint("x", Some("gone"), 5));
    let again = restore(&saved).unwrap();
    assert_eq!(again.seq, None);
    let missing = named("gone");
    assert_eq!(again.moments[4].fate, Fate::LeftOut { missing });
    // A refusal comes first, and a request id is kept by a record.
    let with = |change: &dyn Fn(&mut Provenance)| {
        let mut provenance = store.provenance().clone();
        change(&mut provenance);
        let store = store.with_provenance(provenance);
        let domain = store.domain_handle(domain.uuid(), "vm");
        domain.restore_moments(&saved, OnMissingParent::Truncate)
    };
    let stale = with(&|it| it.expected_revision = Some(Revision::None));
    assert_eq!(told(stale).0, ErrorCode::OperationAborted.number());
    assert_eq!(Some(head()), first.seq);
    let keyed = || with(&|it| it.request_id = Some("r".into())).unwrap();
    let kept = keyed();
    assert_eq!(kept.seq, Some(head()));
    assert_ne!(kept.seq, first.seq);
    let again = keyed();
    assert_eq!((again.seq, again.repeated), (kept.seq, true));
    // One that differs is written.
    saved[2] = saved_snapshot("b", Some("a"), 9, "");
    assert!(restore(&saved).unwrap().seq > kept.seq);
}
