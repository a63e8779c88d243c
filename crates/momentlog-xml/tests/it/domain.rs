//! What a domain must say, where each rule is broken, and what it means when it says nothing.

use super::*;

#[test]
fn what_a_domain_must_say_is_refused_where_it_is_missing() {
    let rows = [
        (
            "<domain type='kvm'><name>d</name><os><type>hvm</type></os></domain>",
            "",
        ),
        (
            "<domain type='kvm'><os><type>hvm</type></os></domain>",
            "1:1 missing name information",
        ),
        (
            "<domain type='kvm'><name/><os><type>hvm</type></os></domain>",
            "1:1 missing name information",
        ),
        (
            "\n <domain type='kvm'><name>a/b</name><os><type>hvm</type></os></domain>",
            "2:2 name a/b cannot contain '/'",
        ),
        (
            "<domain type='kvm'><name>d</name>\n  <uuid>x</uuid><os><type>hvm</type></os></domain>",
            "2:3 malformed uuid element",
        ),
        (
            "<domain><name>d</name><os><type>hvm</type></os></domain>",
            "1:1 Missing required attribute 'type' in element 'domain'",
        ),
        (
            "<domain type=''><name>d</name><os><type>hvm</type></os></domain>",
            "1:1 invalid domain type ",
        ),
        (
            "<domain type='kvm2'><name>d</name><os><type>hvm</type></os></domain>",
            "1:1 invalid domain type kvm2",
        ),
        (
            "<domain type=' kvm'><name>d</name><os><type>hvm</type></os></domain>",
            "1:1 invalid domain type  kvm",
        ),
        (
            "<domain type='kvm'><name>d</name><os/></domain>",
            "1:1 an os <type> must be specified",
        ),
        (
            "<domain type='kvm'><name>d</name><os><type>hvm</type></os>\n<memory>x</memory></domain>",
            "2:1 malformed or missing memory information",
        ),
        (
            "<domain type='kvm'><name>d</name><os><type>hvm</type></os>\n<memory/></domain>",
            "2:1 malformed or missing memory information",
        ),
        (
            "<domain type='kvm'><name>d</name><os><type>hvm</type></os>\n<memory unit='EiB'>20000</memory></domain>",
            "2:1 malformed or missing memory information",
        ),
        (
            "<domainsnapshot/>",
            "1:1 expecting root element of 'domain', not 'domainsnapshot'",
        ),
    ];
    check_table(&rows, |xml| read_domain(xml, || FRESH));
}

/// Several rules are broken at once: the first in libvirt's order is shown.
#[test]
fn the_first_rule_is_that_of_libvirts_order() {
    let rows = [
        (
            "<domain><uuid>x</uuid></domain>",
            "1:1 missing name information",
        ),
        (
            "<domain><name>d</name><uuid>x</uuid></domain>",
            "1:23 malformed uuid element",
        ),
        (
            "<domain><name>d</name><memory>x</memory></domain>",
            "1:1 Missing required attribute 'type' in element 'domain'",
        ),
        (
            "<domain type='no'><name>d</name><memory>x</memory></domain>",
            "1:1 invalid domain type no",
        ),
        (
            "<domain type='kvm'><name>d</name><memory>x</memory></domain>",
            "1:1 an os <type> must be specified",
        ),
    ];
    check_table(&rows, |xml| read_domain(xml, || FRESH));
}

#[test]
fn text_that_is_no_xml_is_refused_where_it_stops_being_xml() {
    let rows = [
        ("", "1:1 document is empty"),
        ("x", "1:1 a start tag is expected, '<' not found"),
        ("<!-- a -->", "1:1 a start tag is expected, '<' not found"),
        ("<domain>\n <a>", "2:5 element 'a' of line 2 is not closed"),
        ("<domain>]]></domain>", "1:9 `]]>` is not allowed in text"),
        (
            "<domain>&nbsp;</domain>",
            "1:9 entity 'nbsp' is not defined",
        ),
        (
            "<domain/><domain/>",
            "1:10 extra content at the end of the document",
        ),
        (
            "<!DOCTYPE domain><domain/>",
            "1:1 a document type is not processed, and not allowed",
        ),
        (
            "<domain a='<'/>",
            "1:1 the value of attribute 'a' holds a '<'",
        ),
        (
            "<domain a='&#1;'/>",
            "1:1 the value of attribute 'a' holds a character that is not allowed",
        ),
        ("<1/>", "1:1 '1' is not the name of an element"),
        ("<domain 1='a'/>", "1:1 '1' is not the name of an attribute"),
        (
            "\u{feff}\u{feff}<domain/>",
            "1:1 a byte order mark may stand at the start only once",
        ),
        (
            " <?xml version='1.0'?><domain/>",
            "1:2 the XML declaration is not at the start",
        ),
        (
            "<domain>\u{1}</domain>",
            "1:9 character U+0001 is not allowed",
        ),
    ];
    check_table(&rows, |xml| read_domain(xml, || FRESH));
}

#[test]
fn disks_are_refused_where_they_stand() {
    let with = |disks: &str| domain(&format!("\n<devices>\n{disks}\n</devices>"));
    let rows = [
        ("<disk><target dev='vda'/></disk>", ""),
        (
            "<disk/>",
            "3:1 missing target information for disk source '<null>'",
        ),
        (
            "<disk><source file='/a'/><target/></disk>",
            "3:1 missing target information for disk source '/a'",
        ),
        (
            "<disk><target dev='x'/></disk>",
            "3:1 Unknown disk name 'x' and no address specified",
        ),
        (
            "<disk type='tape'><target dev='vda'/></disk>",
            "3:1 Invalid value for attribute 'type' in element 'disk': 'tape'.",
        ),
        (
            "<disk snapshot='yes'><target dev='vda'/></disk>",
            "3:1 Invalid value for attribute 'snapshot' in element 'disk': 'yes'.",
        ),
        (
            "<disk><source file='/a'/><target dev='vda'/></disk>\n <disk><target dev='vda'/></disk>",
            "4:2 target 'vda' duplicated for disk sources '/a' and '<null>'",
        ),
        (
            "<disk type='network'><source/><target dev='vda'/></disk>",
            "3:22 Missing required attribute 'protocol' in element 'source'",
        ),
    ];
    check_table(&rows, with);
}

/// What a disk means that says no more than its target.
#[test]
fn a_disk_that_says_nothing_has_the_defaults() {
    let def = domain("<devices><disk><target dev='vda'/></disk></devices>").unwrap();
    let disk = &def.disks[0];
    assert_eq!((&*disk.target, disk.kind.as_str()), ("vda", "file"));
    assert_eq!(
        (disk.source.as_deref(), disk.format.as_deref()),
        (None, None)
    );
    assert!(disk.empty && !disk.readonly);
    assert_eq!(disk.snapshot, None);
    assert_eq!((def.memory_kib, domain("").unwrap().disks.len()), (0, 0));
}

/// Disks come in the order of their buses and letters, whatever the order of the text.
#[test]
fn disks_come_in_libvirts_order() {
    for (targets, expected) in [
        ("vda vdb", "vda vdb"),
        ("vdb vda", "vda vdb"),
        ("vdaa vdb vdz", "vdb vdz vdaa"),
        ("sda vda hda", "sda vda hda"),
        ("sdb vdb sda vda", "sda sdb vda vdb"),
    ] {
        let disk = |target| format!("<disk><target dev='{target}'/></disk>");
        let disks: String = targets.split(' ').map(disk).collect();
        let def = domain(&format!("<devices>{disks}</devices>")).unwrap();
        let found: Vec<&str> = def.disks.iter().map(|disk| &*disk.target).collect();
        assert_eq!(found.join(" "), expected, "{targets}");
    }
}
