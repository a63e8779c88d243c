//! Every error code of libvirt's that can be reached is reached here, with its domain and text.
//!
//! Out of reach: 77 (revert requires force), because a snapshot never lacks its domain here; 71 and 102 (an invalid
//! handle) and 6 and 7, because a handle is a value and cannot be one.

use momentlog::store::LogId;
use momentlog::{
    DomainXmlFlags, Options, Provenance, RevertFlags, Revision, SnapshotDeleteFlags,
    SnapshotXmlFlags, UndefineFlags,
};

use super::*;

fn test_domain() -> Domain {
    Connection::open("test:///default")
        .unwrap()
        .lookup_domain_by_name("test")
        .unwrap()
}

fn redefined(domain: &Domain, xml: &str) -> Result<(), Error> {
    domain
        .snapshot_create_xml(xml, SnapshotCreateFlags::REDEFINE)
        .map(|_| ())
}

#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T, Error>, code: u32, domain: u32, message: &str) {
    assert_eq!(told(result), (code, domain, message.to_owned()));
}

#[test]
fn internal_error_1() {
    let domain = test_domain();
    check(
        domain.start(),
        1,
        12,
        "internal error: Domain 'test' is already running",
    );
    let timeless = "<domainsnapshot><name>s</name></domainsnapshot>";
    check(
        redefined(&domain, timeless),
        1,
        35,
        "internal error: missing creationTime from existing snapshot",
    );
    let bare = "<domainsnapshot><name>s</name><creationTime>5</creationTime><state>running</state></domainsnapshot>";
    check(
        redefined(&domain, bare),
        1,
        35,
        "internal error: missing domain in snapshot",
    );
    let malformed = "<domain type='test'><name>x</name><uuid>y</uuid></domain>";
    check(
        domain.connection().define_domain_xml(malformed),
        1,
        20,
        "internal error: malformed uuid element",
    );
}

#[test]
fn no_connect_5() {
    check(
        Connection::open("qemu:///system"),
        5,
        0,
        "no connection driver available for qemu:///system",
    );
    for uri in ["momentlog:~/store", "momentlog:///~/store", "momentlog:~"] {
        let why = "(`~` is not replaced here: write the directory, or ./~ for one of that name)";
        let message = format!("no connection driver available for {uri} {why}");
        check(Connection::open(uri), 5, 0, &message);
    }
}

#[test]
fn invalid_argument_8() {
    let domain = test_domain();
    let unknown = "unsupported flags (0x2) in function virDomainSnapshotDelete";
    snapshot(&domain, "s").unwrap();
    check(
        domain
            .snapshot_lookup_by_name("s")
            .unwrap()
            .delete(SnapshotDeleteFlags::METADATA_ONLY),
        8,
        12,
        unknown,
    );
    let both = "Flags 'VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING' and 'VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED' are mutually exclusive";
    let flags = RevertFlags::RUNNING | RevertFlags::PAUSED;
    check(
        domain.snapshot_lookup_by_name("s").unwrap().revert(flags),
        8,
        35,
        both,
    );
}

#[test]
fn operation_failed_9() {
    let domain = test_domain();
    snapshot(&domain, "s").unwrap();
    check(
        snapshot(&domain, "s"),
        9,
        20,
        "operation failed: domain moment s already exists",
    );
}

#[test]
fn no_name_21() {
    let store = test_domain().connection().clone();
    check(
        store.define_domain_xml("<domain type='test'/>"),
        21,
        20,
        "missing name information",
    );
}

#[test]
fn xml_error_27() {
    let domain = test_domain();
    let root = "XML error: expecting root element of 'domainsnapshot', not 'x'";
    check(
        domain.snapshot_create_xml("<x/>", SnapshotCreateFlags::NONE),
        27,
        5,
        root,
    );
    let nameless = "XML error: a redefined snapshot must have a name";
    check(redefined(&domain, "<domainsnapshot/>"), 27, 35, nameless);
    let typeless = "<domain type='test'><name>x</name></domain>";
    let store = domain.connection();
    check(
        store.define_domain_xml(typeless),
        27,
        20,
        "XML error: an os <type> must be specified",
    );
    let twice = "<domain type='test'><name>x</name><os><type>hvm</type></os><devices>\
        <disk><source file='/a'/><target dev='vda'/></disk><disk><target dev='vda'/></disk></devices></domain>";
    let duplicated = "XML error: target 'vda' duplicated for disk sources '/a' and '<null>'";
    check(store.define_domain_xml(twice), 27, 20, duplicated);
}

#[test]
fn operation_denied_29() {
    let domain = test_domain();
    let reader = domain
        .connection()
        .read_only()
        .lookup_domain_by_name("test")
        .unwrap();
    let denied = "operation forbidden: read only access prevents virDomainDestroy";
    check(reader.destroy(), 29, 20, denied);
    let secret = "operation forbidden: virDomainGetXMLDesc with secure flag";
    check(reader.xml_desc(DomainXmlFlags::SECURE), 29, 20, secret);
}

#[test]
fn xml_detail_35() {
    let domain = test_domain();
    let (code, from, message) =
        told(domain.snapshot_create_xml("<domainsnapshot>&e;", SnapshotCreateFlags::NONE));
    assert_eq!((code, from), (35, 35));
    let expected =
        "(domain_snapshot):1: entity 'e' is not defined\n<domainsnapshot>&e;\n----------------^";
    assert_eq!(message, expected);
    assert_eq!(told(domain.connection().define_domain_xml("<")).1, 20);
}

#[test]
fn system_error_38() {
    let scratch = Scratch::new();
    let missing = format!("there is no store at {}", scratch.path().display());
    check(Connection::open_read_only(&scratch.uri()), 38, 12, &missing);
}

#[test]
fn no_domain_42() {
    let store = test_domain().connection().clone();
    check(store.lookup_domain_by_name("x"), 42, 12, "Domain not found");
    let uuid = "6695eb01-f6a4-8304-79aa-97f2502e1930".parse().unwrap();
    let gone =
        "Domain not found: no domain with matching uuid '6695eb01-f6a4-8304-79aa-97f2502e1930' (x)";
    check(store.domain_handle(uuid, "x").start(), 42, 12, gone);
}

#[test]
fn operation_invalid_55() {
    let domain = test_domain();
    domain.destroy().unwrap();
    check(
        domain.destroy(),
        55,
        20,
        "Requested operation is not valid: domain is not running",
    );
    snapshot(&domain, "s").unwrap();
    let has = "Requested operation is not valid: cannot delete inactive domain with 1 snapshots";
    check(domain.undefine(UndefineFlags::NONE), 55, 12, has);
}

#[test]
fn config_unsupported_67() {
    let domain = test_domain();
    let unknown = "<domaincheckpoint><disks><disk name='vdz'/></disks></domaincheckpoint>";
    let create = |xml: &str| domain.checkpoint_create_xml(xml, CheckpointCreateFlags::NONE);
    check(
        create(unknown),
        67,
        69,
        "unsupported configuration: no disk named 'vdz'",
    );
    let typed = "<domain type='nonsense'><name>x</name></domain>";
    let invalid = "unsupported configuration: invalid domain type nonsense";
    check(
        domain.connection().define_domain_xml(typed),
        67,
        20,
        invalid,
    );
}

#[test]
fn no_snapshot_72_and_no_checkpoint_103() {
    let domain = test_domain();
    let missing = "Domain snapshot not found: no domain snapshot with matching name 'x'";
    check(domain.snapshot_lookup_by_name("x"), 72, 12, missing);
    let missing = "Domain checkpoint not found: no domain checkpoint with matching name 'x'";
    check(domain.checkpoint_lookup_by_name("x"), 103, 12, missing);
    snapshot(&domain, "s").unwrap();
    assert!(
        domain
            .snapshot_lookup_by_name("s")
            .unwrap()
            .xml_desc(SnapshotXmlFlags::NONE)
            .is_ok()
    );
}

#[test]
fn operation_aborted_78() {
    let domain = test_domain();
    let store = domain.connection();
    let stale = Provenance {
        expected_revision: Some(Revision::None),
        ..Options::default().provenance
    };
    let theirs = store
        .with_provenance(stale)
        .lookup_domain_by_name("test")
        .unwrap();
    domain.suspend().unwrap();
    check(
        theirs.resume(),
        78,
        12,
        "operation aborted: the domain has revision 3, not none",
    );
    assert_ne!(store.log_id(), Some(LogId([0; 16])));
}

#[test]
fn operation_unsupported_84() {
    let domain = test_domain();
    domain.destroy().unwrap();
    let inactive = "Operation not supported: cannot create checkpoint for inactive domain";
    check(checkpoint(&domain, "c"), 84, 12, inactive);
}

#[test]
fn invalid_schema_92() {
    let xml = "<domaincheckpoint><name>a b</name></domaincheckpoint>";
    let invalid = "XML document failed to validate against schema: \
        line 1, column 19: 'a b' in 'name' is not the name of a checkpoint";
    check(
        test_domain().checkpoint_create_xml(xml, CheckpointCreateFlags::NONE),
        92,
        5,
        invalid,
    );
}

#[test]
fn the_kind_of_an_error_says_what_a_program_can_do() {
    use momentlog::ErrorKind;
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let who = |request: Option<&str>, expected| {
        let provenance = Provenance {
            request_id: request.map(Into::into),
            expected_revision: expected,
            ..Provenance::default()
        };
        domain.with_provenance(provenance)
    };
    let stale = checkpoint(&who(None, Some(Revision::None)), "a").unwrap_err();
    assert!(matches!(
        stale.kind(),
        ErrorKind::Stale {
            expected: Revision::None,
            found: Revision::At(_)
        }
    ));
    checkpoint(&who(Some("r1"), None), "a").unwrap();
    let again = checkpoint(&who(Some("r1"), None), "b").unwrap_err();
    assert!(matches!(again.kind(), ErrorKind::RequestReused { seq } if seq.get() == 3));
    let refused = checkpoint(&domain, "a").unwrap_err();
    assert!(matches!(refused.clone().kind(), ErrorKind::Refused(_)));
    assert!(!refused.is_retryable() && !refused.may_be_recorded());
    let options = Options {
        lock_wait: std::time::Duration::ZERO,
        ..Options::default()
    };
    let other = Connection::open_with(&scratch.uri(), options).unwrap();
    let theirs = other.lookup_domain_by_name("vm").unwrap();
    let busy = checkpoint(&theirs, "c").unwrap_err();
    assert!(matches!(busy.kind(), ErrorKind::Busy) && busy.is_retryable());
    let long = checkpoint(&who(Some(&"r".repeat(65)), None), "d").unwrap_err();
    assert!(matches!(long.kind(), ErrorKind::Provenance(_)));
    drop(store);
}
