//! Title, description and metadata: what is recorded. What is answered is compared with libvirt by the program's tests.

use momentlog::core::Change;
use momentlog::{AffectFlags, Call, Connection, DomainXmlFlags, MetadataKind, Provenance};

use crate::{Scratch, told};

const BOTH: AffectFlags = AffectFlags::LIVE.union(AffectFlags::CONFIG);

#[test]
fn what_is_set_is_one_record_of_definitions_and_tells_no_lifecycle() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    domain.start().unwrap();
    let mut events = store.lifecycle().unwrap();
    domain
        .set_metadata(MetadataKind::TITLE, Some("web"), None, None, BOTH)
        .unwrap();
    let entries = store.entries(None).unwrap();
    let last = entries.last().unwrap();
    assert_eq!((last.call, last.flags), (Call::SET_METADATA, 3));
    let defined = last.events.iter().map(|event| match &event.change {
        Change::DomainDefined { live, def, .. } => (*live, def.xml.contains("<title>web")),
        other => panic!("{other:?}"),
    });
    assert_eq!(defined.collect::<Vec<_>>(), [(true, true), (false, true)]);
    let told = events.next(std::time::Duration::ZERO).unwrap();
    assert_eq!(told, []);

    // The guest's alone goes with the guest.
    domain
        .set_metadata(
            MetadataKind::TITLE,
            Some("now"),
            None,
            None,
            AffectFlags::LIVE,
        )
        .unwrap();
    let title = |flags| domain.metadata(MetadataKind::TITLE, None, flags).unwrap();
    assert_eq!(title(AffectFlags::NONE), "now");
    assert_eq!(title(AffectFlags::CONFIG), "web");
    domain.destroy().unwrap();
    assert_eq!(title(AffectFlags::NONE), "web");
    drop((store, domain));
    let store = scratch.open();
    let domain = store.lookup_domain_by_name("vm").unwrap();
    assert_eq!(domain.title().unwrap().as_deref(), Some("web"));
}

#[test]
fn a_request_id_stands_for_all_that_was_set() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let under = |id: &str| {
        let provenance = Provenance {
            request_id: Some(id.into()),
            ..Provenance::default()
        };
        domain.with_provenance(provenance)
    };
    let set = |text: Option<&str>, key: Option<&str>| {
        let uri = Some("urn:x");
        under("one").set_metadata(MetadataKind::ELEMENT, text, key, uri, AffectFlags::NONE)
    };
    set(Some("<a/>"), Some("k")).unwrap();
    let count = store.entries(None).unwrap().len();
    set(Some("<a/>"), Some("k")).unwrap();
    assert_eq!(store.entries(None).unwrap().len(), count);
    for (text, key) in [
        (Some("<b/>"), Some("k")),
        (Some("<a/>"), Some("l")),
        (None, Some("k")),
        (None, None),
    ] {
        assert_eq!(told(set(text, key)).0, 8, "{text:?} {key:?}");
    }
}

#[test]
fn what_libvirt_takes_without_a_meaning_is_refused() {
    let store = Connection::open("test:///default").unwrap();
    let domain = store.lookup_domain_by_name("test").unwrap();
    let before = domain.xml_desc(DomainXmlFlags::NONE).unwrap();
    let set = |kind, text, key, uri| {
        let set = domain.set_metadata(kind, text, key, uri, AffectFlags::NONE);
        let (code, domain, message) = told(set);
        (code, domain, message)
    };
    let refused = |code, domain, message: &str| (code, domain, message.to_owned());
    assert_eq!(
        set(MetadataKind(-1), Some("x"), None, None),
        refused(8, 20, "invalid argument: unknown metadata type '-1'")
    );
    assert_eq!(
        set(MetadataKind::ELEMENT, Some("<a/>"), Some("k"), Some("")),
        refused(8, 20, "uri in virDomainSetMetadata must not be empty")
    );
    assert_eq!(
        set(MetadataKind::ELEMENT, Some("<a/>"), Some("xml"), Some("u")),
        refused(
            1,
            5,
            "internal error: failed to validate prefix for a new XML namespace"
        )
    );
    assert_eq!(domain.xml_desc(DomainXmlFlags::NONE).unwrap(), before);
}
