//! libvirt's calls, their refusals, and what they leave behind.

use momentlog::{
    CheckpointCreateFlags, CheckpointDeleteFlags, CheckpointListFlags, CheckpointXmlFlags,
    Connection, DomainXmlFlags, RevertFlags, SnapshotCreateFlags, SnapshotDeleteFlags,
    SnapshotListFlags, SnapshotXmlFlags, UndefineFlags,
};

use super::*;

fn names(domain: &Domain) -> Vec<String> {
    let checkpoints = domain
        .list_all_checkpoints(CheckpointListFlags::TOPOLOGICAL)
        .unwrap();
    checkpoints
        .iter()
        .map(|checkpoint| checkpoint.name().to_string())
        .collect()
}

fn redefine(domain: &Domain, name: &str, parent: &str) -> Result<(), Error> {
    let xml = format!(
        "<domaincheckpoint><name>{name}</name><parent><name>{parent}</name></parent>\
         <creationTime>5</creationTime></domaincheckpoint>"
    );
    domain
        .checkpoint_create_xml(&xml, CheckpointCreateFlags::REDEFINE)
        .map(|_| ())
}

#[test]
fn deleting_the_middle_of_a_chain_reparents_its_child() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    for name in ["a", "b", "c"] {
        checkpoint(&domain, name).unwrap();
    }
    let middle = domain.checkpoint_lookup_by_name("b").unwrap();
    middle.delete(CheckpointDeleteFlags::NONE).unwrap();
    assert_eq!(names(&domain), ["a", "c"]);
    let child = domain.checkpoint_lookup_by_name("c").unwrap();
    assert_eq!(child.parent().unwrap().unwrap().name().as_str(), "a");
    let gone = "Domain checkpoint not found: no domain checkpoint with matching name 'b'";
    assert_eq!(told(middle.parent()), (103, 12, gone.to_owned()));
}

#[test]
fn looking_for_no_name_finds_nothing_and_no_hidden_root() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    let root = domain.checkpoint_lookup_by_name("a").unwrap();
    assert!(root.parent().unwrap().is_none());
    let view = store.refresh().unwrap();
    let checkpoints = view.domain(domain.uuid()).unwrap().checkpoints();
    let absent: Option<&str> = None;
    assert!(absent.and_then(|name| checkpoints.find(name)).is_none());
    assert!(checkpoints.find("").is_none());
    let missing = "Domain checkpoint not found: no domain checkpoint with matching name ''";
    assert_eq!(
        told(domain.checkpoint_lookup_by_name("")),
        (103, 12, missing.to_owned())
    );
}

#[test]
fn cycles_forks_and_orphans_are_refused_and_change_nothing() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    for name in ["a", "b", "c"] {
        checkpoint(&domain, name).unwrap();
    }
    let head = store.refresh().unwrap().head();
    let cycle = "invalid argument: parent b would create cycle to a";
    assert_eq!(told(redefine(&domain, "a", "c")), (8, 20, cycle.to_owned()));
    let own = "invalid argument: cannot set moment a as its own parent";
    assert_eq!(told(redefine(&domain, "a", "a")), (8, 20, own.to_owned()));
    let orphan = "invalid argument: parent nobody for moment x not found";
    assert_eq!(
        told(redefine(&domain, "x", "nobody")),
        (8, 20, orphan.to_owned())
    );
    let (code, from, message) = told(redefine(&domain, "x", "a"));
    assert_eq!((code, from), (84, 12));
    assert!(message.contains("would fork the chain"), "{message}");
    assert_eq!(store.refresh().unwrap().head(), head);
}

#[test]
fn snapshots_and_checkpoints_exclude_each_other() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    snapshot(&domain, "s").unwrap();
    let excluded = "Operation not supported: cannot create checkpoint while snapshot exists";
    assert_eq!(
        told(checkpoint(&domain, "c")),
        (84, 12, excluded.to_owned())
    );
    domain
        .snapshot_lookup_by_name("s")
        .unwrap()
        .delete(SnapshotDeleteFlags::NONE)
        .unwrap();
    checkpoint(&domain, "c").unwrap();
    let excluded = "Operation not supported: cannot create snapshot while checkpoint exists";
    assert_eq!(told(snapshot(&domain, "s")), (84, 12, excluded.to_owned()));
}

#[test]
fn a_checkpoint_can_be_dumped_lost_and_put_back() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    checkpoint(&domain, "b").unwrap();
    let lost = domain.checkpoint_lookup_by_name("b").unwrap();
    let xml = lost.xml_desc(CheckpointXmlFlags::SECURE).unwrap();
    lost.delete(CheckpointDeleteFlags::METADATA_ONLY).unwrap();
    domain
        .checkpoint_create_xml(&xml, CheckpointCreateFlags::REDEFINE)
        .unwrap();
    assert_eq!(lost.xml_desc(CheckpointXmlFlags::SECURE).unwrap(), xml);
}

#[test]
fn a_snapshot_knows_what_libvirt_asks_of_it() {
    let store = Connection::open("test:///default").unwrap();
    let domain = store.lookup_domain_by_name("test").unwrap();
    assert!(!domain.has_current_snapshot().unwrap());
    let none = "Domain snapshot not found: the domain does not have a current snapshot";
    assert_eq!(told(domain.snapshot_current()), (72, 12, none.to_owned()));
    for name in ["a", "b", "c"] {
        snapshot(&domain, name).unwrap();
    }
    let [a, b] = ["a", "b"].map(|name| domain.snapshot_lookup_by_name(name).unwrap());
    assert_eq!(domain.snapshot_current().unwrap().name().as_str(), "c");
    assert_eq!(
        (
            a.num_children(SnapshotListFlags::NONE).unwrap(),
            a.is_current().unwrap()
        ),
        (1, false)
    );
    assert_eq!(a.num_children(SnapshotListFlags::DESCENDANTS).unwrap(), 2);
    assert_eq!(domain.snapshot_num(SnapshotListFlags::LEAVES).unwrap(), 1);
    assert_eq!(
        domain.snapshot_num(SnapshotListFlags::NO_METADATA).unwrap(),
        0
    );
    assert_eq!(b.parent().unwrap().unwrap().name(), a.name());
    assert!(b.has_metadata().unwrap());
    b.revert(RevertFlags::PAUSED).unwrap();
    assert!(b.is_current().unwrap());
    assert_eq!(domain.state().unwrap().0.number(), 3);
    assert!(a.parent().unwrap().is_none());
    a.delete(SnapshotDeleteFlags::CHILDREN).unwrap();
    assert_eq!(
        domain.snapshot_list_names(SnapshotListFlags::NONE).unwrap(),
        []
    );
}

#[test]
fn flags_are_checked_before_anything_is_looked_for() {
    let store = Connection::open("test:///default").unwrap();
    let domain = store.lookup_domain_by_name("test").unwrap();
    let create =
        |bits| domain.snapshot_create_xml("<", SnapshotCreateFlags::from_bits_retain(bits));
    let needs = "Flag 'VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE' is required by flag 'VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT'";
    assert_eq!(told(create(2)), (8, 35, needs.to_owned()));
    let unknown = "unsupported flags (0x410) in function virDomainSnapshotCreateXML";
    assert_eq!(told(create(0x410)), (8, 12, unknown.to_owned()));
    let exclusive = SnapshotCreateFlags::REDEFINE | SnapshotCreateFlags::HALT;
    assert_eq!(told(domain.snapshot_create_xml("<", exclusive)).0, 8);
}

#[test]
fn a_read_only_connection_refuses_changes_and_secrets() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    snapshot(&domain, "s").unwrap();
    let reader = Connection::open_read_only(&scratch.uri()).unwrap();
    let domain = reader.lookup_domain_by_name("vm").unwrap();
    let denied = "operation forbidden: read only access prevents virDomainSnapshotCreateXML";
    assert_eq!(told(snapshot(&domain, "t")), (29, 35, denied.to_owned()));
    let s = domain.snapshot_lookup_by_name("s").unwrap();
    let denied = "operation forbidden: virDomainSnapshotGetXMLDesc with secure flag";
    assert_eq!(
        told(s.xml_desc(SnapshotXmlFlags::SECURE)),
        (29, 35, denied.to_owned())
    );
    assert!(s.xml_desc(SnapshotXmlFlags::NONE).is_ok());
    assert_eq!(told(domain.start()).0, 29);
}

#[test]
fn secrets_are_shown_only_when_asked_for() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let domain = store
        .define_domain_xml(include_str!("../../../../examples/web01.xml"))
        .unwrap();
    let open = domain.xml_desc(DomainXmlFlags::NONE).unwrap();
    let secure = domain.xml_desc(DomainXmlFlags::SECURE).unwrap();
    assert!(!open.contains("only for the console") && open.contains("<graphics type='vnc'"));
    assert!(secure.contains("passwd='only for the console'"));
    checkpoint(&domain, "c").unwrap();
    let c = domain.checkpoint_lookup_by_name("c").unwrap();
    assert!(
        !c.xml_desc(CheckpointXmlFlags::NONE)
            .unwrap()
            .contains("passwd")
    );
    assert!(
        c.xml_desc(CheckpointXmlFlags::SECURE)
            .unwrap()
            .contains("passwd")
    );
}

#[test]
fn an_inactive_domain_with_snapshots_is_undefined_only_with_them() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    snapshot(&domain, "s").unwrap();
    let has = "Requested operation is not valid: cannot delete inactive domain with 1 snapshots";
    assert_eq!(
        told(domain.undefine(UndefineFlags::NONE)),
        (55, 12, has.to_owned())
    );
    domain.undefine(UndefineFlags::SNAPSHOTS_METADATA).unwrap();
    let gone = "Domain not found: no domain with matching uuid '3f2c7a90-5d1e-4b7c-9a52-0c6f1d8e4b21' (vm)";
    assert_eq!(
        told(domain.snapshot_num(SnapshotListFlags::NONE)),
        (42, 12, gone.to_owned())
    );
    assert_eq!(
        told(store.lookup_domain_by_name("vm")),
        (42, 12, "Domain not found".to_owned())
    );
}

#[test]
fn xml_that_is_refused_says_where_and_why() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    let create = |xml: &str| {
        domain
            .checkpoint_create_xml(xml, CheckpointCreateFlags::NONE)
            .map(|_| ())
    };
    let (code, from, message) = told(create("<domaincheckpoint>\n  <name>x</nam>"));
    assert_eq!((code, from), (35, 69));
    assert!(
        message.starts_with("(domain_checkpoint):2: ") && message.ends_with('^'),
        "{message}"
    );
    let (code, from, message) = told(create("<domaincheckpoint>\n  <bogus/></domaincheckpoint>"));
    assert_eq!((code, from), (92, 5));
    assert!(
        message.starts_with("XML document failed to validate against schema: line 2, column 3: "),
        "{message}"
    );
    let root = "XML error: expecting root element of 'domaincheckpoint', not 'x'";
    assert_eq!(told(create("<x/>")), (27, 5, root.to_owned()));
    assert_eq!(told(create("")).0, 35);
}

#[test]
fn a_handle_that_is_looked_up_for_a_retry_gives_the_first_answer() {
    use momentlog::Provenance;
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    for name in ["a", "b"] {
        snapshot(&domain, name).unwrap();
    }
    let under = |id: &str| {
        store.with_provenance(Provenance {
            actor: "backup".into(),
            request_id: Some(id.into()),
            ..Provenance::default()
        })
    };
    let records = || store.refresh().unwrap().head().unwrap().seq;
    let delete = || {
        let domain = under("delete").lookup_domain_by_name("vm")?;
        let snapshot = domain.snapshot_lookup_by_name("a")?;
        snapshot.delete(SnapshotDeleteFlags::NONE)
    };
    let undefine = || {
        let domain = under("undefine").lookup_domain_by_uuid(domain.uuid())?;
        domain.undefine(UndefineFlags::SNAPSHOTS_METADATA)
    };
    let define = || {
        under("define").define_domain_xml(
            "<domain type='kvm'><name>n</name><memory>1</memory><os><type>hvm</type></os></domain>",
        )
    };
    delete().unwrap();
    let seq = records();
    delete().unwrap();
    assert_eq!(records(), seq);
    undefine().unwrap();
    let made = define().unwrap();
    let seq = records();
    undefine().unwrap();
    delete().unwrap();
    assert_eq!(define().unwrap().uuid(), made.uuid());
    assert_eq!(records(), seq);
    // Without the request id, or under another, it is gone.
    assert_eq!(told(store.lookup_domain_by_name("vm")).0, 42);
    assert_eq!(told(under("other").lookup_domain_by_name("vm")).0, 42);

    // What the newest state has comes first, unless a retry is asked for.
    let again = under("delete").for_retry().unwrap();
    let then = again.lookup_domain_by_name("vm").unwrap();
    assert_eq!(then.snapshot_current().unwrap().name().as_str(), "b");
    assert_eq!(then.snapshot_num(SnapshotListFlags::NONE).unwrap(), 2);
}
