//! The one canonical text of a domain: what it changes, what it leaves, and that it changes nothing twice.

use momentlog_xml::write_domain;

use super::*;

/// Checks how `inside`, in a domain with a name and a uuid, is written.
#[track_caller]
fn check(inside: &str, expected: &str) {
    const UUID: &str = "28280000-0000-4000-8000-000000000001";
    let around = |inside: &str| {
        format!(
            "<domain type='kvm'>\n  <name>d</name>\n  <uuid>{UUID}</uuid>\n  <os>\n    <type>hvm</type>\n  </os>\n{inside}</domain>\n"
        )
    };
    let def = read_domain(&around(inside), || FRESH).unwrap();
    assert_eq!(&*def.xml, around(expected), "{inside}");
    let again = read_domain(&def.xml, || FRESH).unwrap();
    assert_eq!(
        again, def,
        "the canonical text of {inside} is a fixed point"
    );
}

#[test]
fn elements_are_indented_and_attributes_are_quoted_once() {
    check("<a/>", "  <a/>\n");
    check("<a></a>", "  <a/>\n");
    check("<a  b=\"c\"   d='e' />", "  <a b='c' d='e'/>\n");
    check("<a><b/></a>", "  <a>\n    <b/>\n  </a>\n");
    check("\t<a>\n\n<b/> </a>\n\n", "  <a>\n    <b/>\n  </a>\n");
}

#[test]
fn text_is_kept_with_its_blanks_and_escaped_alike() {
    check("<a> b </a>", "  <a> b </a>\n");
    check("<a><![CDATA[b<c]]></a>", "  <a>b&lt;c</a>\n");
    check("<a>&#65;&gt;</a>", "  <a>A&gt;</a>\n");
    check("<a>\"'</a>", "  <a>&quot;&apos;</a>\n");
    check("<a b='&quot;'/>", "  <a b='&quot;'/>\n");
    check("<a b=\"'\"/>", "  <a b='&apos;'/>\n");
}

#[test]
fn the_number_of_a_running_domain_is_not_in_the_text() {
    let xml = domain_xml("").replacen("<domain ", "<domain id='7' ", 1);
    let def = read_domain(&xml, || FRESH).unwrap();
    assert_eq!(def, domain("").unwrap());
    assert!(write_domain(&def, Some(8), false).starts_with("<domain type='kvm' id='8'>\n"));
    assert_eq!(write_domain(&def, None, false), &*def.xml);
}

#[test]
fn secrets_are_written_only_when_asked_for() {
    for (device, shown) in [
        (
            "<graphics type='vnc' passwd='p'/>",
            "<graphics type='vnc'/>",
        ),
        (
            "<graphics passwd='p' type='vnc'/>",
            "<graphics type='vnc'/>",
        ),
        ("<sound passwd='p'/>", "<sound passwd='p'/>"),
    ] {
        let def = domain(&format!("<devices>{device}</devices>")).unwrap();
        assert!(write_domain(&def, None, true).contains(device), "{device}");
        let public = write_domain(&def, None, false);
        assert!(public.contains(shown), "{public}");
    }
}
