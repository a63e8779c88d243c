//! Title, description and metadata of a domain. What libvirt answers is compared by `crates/momentlog-cli/tests/it/serve.rs`.

use momentlog_xml::{
    MetadataChange, domain_description, domain_metadata, domain_title, set_domain_metadata,
    write_domain,
};

use super::*;

fn element<'a>(prefix: &'a str, uri: &'a str, xml: &'a str) -> MetadataChange<'a> {
    MetadataChange::Element {
        uri,
        new: Some((prefix, xml)),
    }
}

/// The definition of a domain that has `more`, after a change.
#[track_caller]
fn changed(more: &str, change: MetadataChange<'_>) -> String {
    let changed = set_domain_metadata(&domain(more).unwrap(), change).unwrap();
    let written = write_domain(&changed, None, true);
    // It is canonical already.
    assert_eq!(read_domain(&written, || FRESH).unwrap(), changed);
    written
}

#[test]
fn the_three_stand_after_the_uuid_and_the_rest_stays() {
    let more = "<memory>1</memory><metadata><p:a xmlns:p='u'>&#13;</p:a></metadata><x/><description>d</description>";
    assert_eq!(
        changed(more, MetadataChange::Title("<t>")),
        "<domain type='kvm'>
  <name>d</name>
  <uuid>09090909-0909-0909-0909-090909090909</uuid>
  <title>&lt;t&gt;</title>
  <description>d</description>
  <metadata>
    <p:a xmlns:p='u'>&#13;</p:a>
  </metadata>
  <os>
    <type>hvm</type>
  </os>
  <memory>1</memory>
  <x/>
</domain>
"
    );
}

#[test]
fn what_is_set_is_what_is_found() {
    let def = domain("<title>old</title><title>second</title>").unwrap();
    let def = set_domain_metadata(&def, MetadataChange::Description(" two\r\n\tlines ")).unwrap();
    assert_eq!(domain_title(&def).as_deref(), Some("old"));
    let def = set_domain_metadata(&def, MetadataChange::Title("")).unwrap();
    assert_eq!(domain_title(&def), None);
    assert_eq!(
        domain_description(&def).as_deref(),
        Some(" two\r\n\tlines ")
    );
    let xml = "<a b=\"&quot;'\">t<c/></a>";
    let def = set_domain_metadata(&def, element("k", "urn:k", xml)).unwrap();
    assert_eq!(domain_metadata(&def, "urn:k").as_deref(), Some(xml));
    assert_eq!(domain_metadata(&def, "urn"), None);
    let gone = MetadataChange::Element {
        uri: "urn:k",
        new: None,
    };
    let def = set_domain_metadata(&def, gone).unwrap();
    assert!(!write_domain(&def, None, true).contains("metadata"));
}

#[test]
fn an_element_that_is_shown_declares_what_it_uses_and_not_its_own_namespace() {
    let def = domain(
        "<metadata xmlns:o='urn:o' xmlns:k='urn:k'><k:a k:b='1' o:c='2'><o:d/><e xmlns='urn:k' xmlns:k='urn:z'><k:f/></e></k:a></metadata>",
    );
    assert_eq!(
        domain_metadata(&def.unwrap(), "urn:k").unwrap(),
        "<a xmlns:o=\"urn:o\" b=\"1\" o:c=\"2\">\n  <o:d/>\n  <e xmlns:k=\"urn:z\">\n    <k:f/>\n  </e>\n</a>"
    );
}

#[test]
fn an_element_that_cannot_be_kept_is_refused_where_it_is_wrong() {
    let def = domain("").unwrap();
    let deep = "<a>".repeat(254) + &"</a>".repeat(254);
    let long = format!("<a>{}</a>", "x".repeat(4 << 20));
    let rows = [
        ("k", "<a/>", ""),
        ("k", "", "1:1 document is empty"),
        ("k", "\n<p:a/>", "2:1 prefix 'p' of 'p:a' is not declared"),
        (
            "xml",
            "<a/>",
            "1:1 failed to validate prefix for a new XML namespace",
        ),
        (
            "Xmlns",
            "<a/>",
            "1:1 failed to validate prefix for a new XML namespace",
        ),
        (
            "",
            "<a/>",
            "1:1 failed to validate prefix for a new XML namespace",
        ),
        (
            "é'",
            "<a/>",
            "1:1 failed to validate prefix for a new XML namespace",
        ),
        (
            "k",
            "<a>\n<b xmlns:k='x'/></a>",
            "2:1 failed to create a new XML namespace",
        ),
        ("k", &deep, "1:760 elements are nested deeper than 253"),
        (
            "k",
            &long,
            "1:4194305 document is longer than 4194304 bytes",
        ),
    ];
    for (prefix, xml, expected) in rows {
        let found = set_domain_metadata(&def, element(prefix, "u", xml));
        let found = found.err().map(|error| at(&error)).unwrap_or_default();
        assert_eq!(found, expected, "{prefix} {}", &xml[..xml.len().min(40)]);
    }
}
