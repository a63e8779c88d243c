//! What a snapshot's XML says, and what a redefined one must say.

use momentlog_core::{DiskLocation, Memory, Redefine, SnapshotDef, SnapshotState};
use momentlog_xml::{Carry, RecentDomain, read_snapshot, read_snapshot_redefine};

use super::*;

fn redefine(inside: &str) -> Result<Redefine<SnapshotDef>, XmlError> {
    let xml = format!("<domainsnapshot>\n{inside}</domainsnapshot>");
    let recent = RecentDomain::default();
    read_snapshot_redefine(&xml, false, Carry::Everything, &recent, || FRESH)
}

/// Reads a running snapshot with `more` in it.
fn running(more: &str) -> Result<Redefine<SnapshotDef>, XmlError> {
    redefine(&format!(
        "<name>s</name><creationTime>5</creationTime><state>running</state>\n{more}"
    ))
}

#[test]
fn a_redefined_snapshot_has_a_name_a_time_and_a_state() {
    let rows = [
        (
            "<name>s</name><creationTime>5</creationTime><state>running</state>",
            "",
        ),
        (
            "<creationTime>5</creationTime><state>running</state>",
            "1:1 a redefined snapshot must have a name",
        ),
        (
            "<name/><creationTime>5</creationTime><state>running</state>",
            "1:1 a redefined snapshot must have a name",
        ),
        (
            "<name>s</name><state>running</state>",
            "1:1 missing creationTime from existing snapshot",
        ),
        (
            "<name>s</name><creationTime>x</creationTime><state>running</state>",
            "1:1 missing creationTime from existing snapshot",
        ),
        (
            "<name>s</name><creationTime>5x</creationTime><state>running</state>",
            "1:1 missing creationTime from existing snapshot",
        ),
        (
            "<name>s</name><creationTime> +5</creationTime><state>running</state>",
            "",
        ),
        (
            "<name>s</name><creationTime>-5</creationTime><state>running</state>",
            "",
        ),
        (
            "<name>s</name><creationTime>5</creationTime>",
            "1:1 missing state from existing snapshot",
        ),
        (
            "<name>s</name><creationTime>5</creationTime><state>off</state>",
            "1:1 Invalid state 'off' in domain snapshot XML",
        ),
        (
            "<name>s</name><creationTime>5</creationTime><state>Running</state>",
            "1:1 Invalid state 'Running' in domain snapshot XML",
        ),
    ];
    check_table(&rows, redefine);
}

#[test]
fn a_state_is_one_of_libvirts_words() {
    for word in [
        "running",
        "blocked",
        "paused",
        "shutdown",
        "shutoff",
        "crashed",
        "pmsuspended",
        "disk-snapshot",
        "nostate",
    ] {
        let read = redefine(&format!(
            "<name>s</name><creationTime>5</creationTime><state>{word}</state>"
        ));
        let state = read.ok().map(|read| read.def.state);
        assert_eq!(state, SnapshotState::from_word(word), "{word}");
    }
}

#[test]
fn memory_is_refused_where_it_makes_no_sense() {
    let rows = [
        ("<memory/>", ""),
        ("<memory snapshot='no'/>", ""),
        ("<memory snapshot='internal'/>", ""),
        ("<memory snapshot='external' file='/m'/>", ""),
        ("<memory file='/m'/>", ""),
        (
            "<memory snapshot='manual'/>",
            "3:1 'manual' memory snapshot mode not supported",
        ),
        (
            "<memory snapshot='external'/>",
            "3:1 external memory snapshots require a filename",
        ),
        (
            "<memory snapshot='external' file=''/>",
            "3:1 external memory snapshots require a filename",
        ),
        (
            "<memory snapshot='no' file='/m'/>",
            "3:1 memory filename '/m' requires external snapshot",
        ),
        (
            "<memory snapshot='internal' file='/m'/>",
            "3:1 memory filename '/m' requires external snapshot",
        ),
        (
            "<memory file='m'/>",
            "3:1 memory snapshot file path (m) must be absolute",
        ),
        (
            "<memory snapshot='x'/>",
            "3:1 Invalid value for attribute 'snapshot' in element 'memory': 'x'.",
        ),
    ];
    check_table(&rows, running);
    let offline = "memory state cannot be saved with offline or disk-only snapshot";
    for state in ["shutoff", "disk-snapshot"] {
        let with = |memory: &str| {
            redefine(&format!(
                "<name>s</name><creationTime>5</creationTime><state>{state}</state>\n{memory}"
            ))
        };
        let error = with("<memory snapshot='internal'/>").unwrap_err();
        assert_eq!(at(&error), format!("3:1 {offline}"), "{state}");
        let error = with("<memory file='/m'/>").unwrap_err();
        assert_eq!(at(&error), format!("3:1 {offline}"), "{state}");
        assert_eq!(with("").unwrap().def.memory, Memory::No, "{state}");
    }
    assert_eq!(running("").unwrap().def.memory, Memory::Internal);
}

#[test]
fn disks_of_a_snapshot_are_refused_where_they_stand() {
    let with = |disk: &str| running(&format!("<disks>\n  {disk}</disks>"));
    let rows = [
        ("<disk name='vda'/>", ""),
        ("<disk/>", "4:3 missing name from disk snapshot element"),
        (
            "<disk name='vda' snapshot='x'/>",
            "4:3 Invalid value for attribute 'snapshot' in element 'disk': 'x'.",
        ),
        (
            "<disk name='vda' type='x'/>",
            "4:3 Invalid value for attribute 'type' in element 'disk': 'x'.",
        ),
        (
            "<disk name='vda' type='dir'/>",
            "4:3 unsupported disk snapshot type 'dir'",
        ),
        (
            "<disk name='vda' type='volume'/>",
            "4:3 unsupported disk snapshot type 'volume'",
        ),
        (
            "<disk name='vda'><driver type='x'/></disk>",
            "4:3 unknown disk snapshot driver 'x'",
        ),
        (
            "<disk name='vda'><source file='a'/></disk>",
            "4:3 disk snapshot image path 'a' must be absolute",
        ),
        (
            "<disk name='vda' type='block'><source dev='a'/></disk>",
            "4:3 disk snapshot image path 'a' must be absolute",
        ),
        (
            "<disk name='vda' type='network'><source protocol='rbd' name='a'/></disk>",
            "",
        ),
        (
            "<disk name='vda' type='network'><source protocol='rbd'/></disk>",
            "4:35 missing name for disk source",
        ),
        (
            "<disk name='vda' type='network'><source name='a'/></disk>",
            "4:35 Missing required attribute 'protocol' in element 'source'",
        ),
        (
            "<disk name='vda'><source file='/a'><auth/></source></disk>",
            "4:38 missing username for auth",
        ),
    ];
    check_table(&rows, with);
}

/// A disk that says where its overlay is, or in which format, is external without saying so.
#[test]
fn what_a_disk_says_implies_where_it_is_kept() {
    for (disk, expected) in [
        ("<disk name='vda'/>", None),
        ("<disk name='vda'><source/></disk>", None),
        ("<disk name='vda'><driver type=''/></disk>", None),
        (
            "<disk name='vda'><driver type='qcow2'/></disk>",
            Some(DiskLocation::External),
        ),
        (
            "<disk name='vda'><source file='/a'/></disk>",
            Some(DiskLocation::External),
        ),
        (
            "<disk name='vda' snapshot='internal'/>",
            Some(DiskLocation::Internal),
        ),
        (
            "<disk name='vda' snapshot='no'><source file='/a'/></disk>",
            Some(DiskLocation::No),
        ),
        (
            "<disk name='vda' snapshot='manual'/>",
            Some(DiskLocation::Manual),
        ),
    ] {
        let xml = format!("<domainsnapshot><disks>{disk}</disks></domainsnapshot>");
        let request = read_snapshot(&xml, false, Carry::Everything).unwrap();
        assert_eq!(request.disks[0].location, expected, "{disk}");
    }
}

#[test]
fn a_snapshot_that_says_nothing_has_the_defaults() {
    let request = read_snapshot("<domainsnapshot/>", true, Carry::Everything).unwrap();
    assert_eq!((request.name, request.description), (None, None));
    assert_eq!((request.memory, request.extra), (None, None));
    assert!(request.disks.is_empty());
    let def = running("").unwrap().def;
    assert_eq!((def.domain, def.inactive_domain), (None, None));
}
