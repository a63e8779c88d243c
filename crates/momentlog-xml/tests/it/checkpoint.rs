//! What a checkpoint's XML says, and what a redefined one must say.

use momentlog_core::{CheckpointDef, DiskTracking, MomentName, Redefine};
use momentlog_xml::{
    CheckpointView, RecentDomain, read_checkpoint, read_checkpoint_redefine, write_checkpoint,
};

use super::*;

fn redefine(inside: &str) -> Result<Redefine<CheckpointDef>, XmlError> {
    let xml = format!("<domaincheckpoint>\n{inside}</domaincheckpoint>");
    read_checkpoint_redefine(&xml, &RecentDomain::default(), || FRESH)
}

#[test]
fn a_redefined_checkpoint_has_a_name_and_a_time() {
    let rows = [
        ("<name>c</name><creationTime>5</creationTime>", ""),
        (
            "<name>c</name>",
            "1:1 missing creationTime from existing checkpoint",
        ),
        (
            "<creationTime>5</creationTime>",
            "1:1 a redefined checkpoint must have a name",
        ),
        (
            "<name>c</name><creationTime>9223372036854775808</creationTime>",
            "1:1 missing creationTime from existing checkpoint",
        ),
        (
            "<name>c</name><creationTime>5</creationTime>\n <domain type='kvm'><name>d</name></domain>",
            "3:2 an os <type> must be specified",
        ),
        (
            "<name>c</name><creationTime>5</creationTime>\n <domain type='kvm'><name>a/b</name></domain>",
            "3:2 name a/b cannot contain '/'",
        ),
    ];
    check_table(&rows, redefine);
}

#[test]
fn a_checkpoint_that_says_nothing_has_the_defaults() {
    let request = read_checkpoint("<domaincheckpoint/>").unwrap();
    assert_eq!((request.name, request.description), (None, None));
    assert!(request.disks.is_empty());
    let read = redefine("<name>c</name><creationTime>5</creationTime>").unwrap();
    assert_eq!(
        (read.name.as_str(), read.parent, read.created),
        ("c", None, 5)
    );
    assert!(!read.current && read.def.domain.is_none());
}

#[test]
fn a_disk_is_tracked_unless_it_says_no() {
    let bitmap = |name: Option<&str>| DiskTracking::Bitmap(name.map(Into::into));
    for (attributes, expected) in [
        ("", bitmap(None)),
        ("checkpoint='bitmap'", bitmap(None)),
        ("bitmap='b'", bitmap(Some("b"))),
        ("checkpoint='bitmap' bitmap='b'", bitmap(Some("b"))),
        ("checkpoint='no'", DiskTracking::No),
    ] {
        let xml = format!(
            "<domaincheckpoint><disks><disk name='vda' {attributes}/></disks></domaincheckpoint>"
        );
        let request = read_checkpoint(&xml).unwrap();
        assert_eq!(&*request.disks[0].name, "vda", "{attributes}");
        assert_eq!(request.disks[0].tracking, expected, "{attributes}");
    }
}

/// What is read of a checkpoint is written in libvirt's order, and reads the same again.
#[test]
fn a_checkpoint_is_written_in_libvirts_order() {
    for (inside, expected) in [
        (
            "<creationTime>5</creationTime><name>c</name>",
            "<domaincheckpoint>\n  <name>c</name>\n  <creationTime>5</creationTime>\n</domaincheckpoint>\n",
        ),
        (
            "<name>c</name><creationTime>0</creationTime><parent><name>p</name></parent>",
            "<domaincheckpoint>\n  <name>c</name>\n  <parent>\n    <name>p</name>\n  </parent>\n</domaincheckpoint>\n",
        ),
        (
            "<name>c</name><description>a &lt; b</description><creationTime>5</creationTime>",
            "<domaincheckpoint>\n  <name>c</name>\n  <description>a &lt; b</description>\n  <creationTime>5</creationTime>\n</domaincheckpoint>\n",
        ),
        (
            "<name>c</name><creationTime>5</creationTime><disks><disk name='vda'/><disk checkpoint='no' name='vdb'/></disks>",
            "<domaincheckpoint>\n  <name>c</name>\n  <creationTime>5</creationTime>\n  <disks>\n    <disk name='vda' checkpoint='bitmap' bitmap='c'/>\n    <disk name='vdb' checkpoint='no'/>\n  </disks>\n</domaincheckpoint>\n",
        ),
    ] {
        let read = redefine(inside).unwrap();
        let view = CheckpointView {
            name: &read.name,
            parent: read.parent.as_ref(),
            created: read.created,
            def: &read.def,
            sizes: None,
        };
        let written = write_checkpoint(view, true, false);
        assert_eq!(written, expected, "{inside}");
    }
}

#[test]
fn the_name_of_a_checkpoint_is_one_that_a_bitmap_may_have() {
    for (name, taken) in [
        ("a", true),
        ("A-_.0", true),
        ("_", true),
        ("-a", true),
        (".a", false),
        ("a b", false),
        ("a/b", false),
        ("\u{e4}", false),
    ] {
        let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
        let read = read_checkpoint(&xml);
        assert_eq!(read.is_ok(), taken, "{name}");
        assert_eq!(MomentName::is_checkpoint_name(name), taken, "{name}");
    }
}
