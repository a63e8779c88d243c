//! Generated values, written and read back the same.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use momentlog::core::{
    CheckpointDef, CheckpointDisk, DiskLocation, DiskTracking, DomainDef, DomainUuid, Memory,
    MomentName, SnapshotDef, SnapshotDisk, SnapshotState, SourceKind,
};
use momentlog::xml::{
    Carry, CheckpointView, RecentDomain, SnapshotView, XML_ELEMENTS_MAX, read_checkpoint_redefine,
    read_domain, read_snapshot_redefine, write_checkpoint, write_snapshot,
};
use proptest::prelude::*;

const FRESH: DomainUuid = DomainUuid::from_bytes([9; 16]);

/// Any text that XML takes and gives back: no control characters, and no CR, which a reader makes LF.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{1,20}",
        "[a-zé日🙂&<>'\"\\]\n\t]{1,12}",
        Just("]]>".to_owned()),
        Just(" two  spaces ".to_owned()),
    ]
}

fn checkpoint_name() -> impl Strategy<Value = MomentName> {
    "[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,20}".prop_map(|text| MomentName::new(&text).unwrap())
}

fn snapshot_name() -> impl Strategy<Value = MomentName> {
    text().prop_map(|text| MomentName::new(&text).unwrap())
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![1..=i64::MAX, 1_000_000_000..2_000_000_000_i64]
}

fn path() -> impl Strategy<Value = Arc<str>> {
    "/[a-z &'.]{1,12}".prop_map(Arc::from)
}

fn domain() -> impl Strategy<Value = Arc<DomainDef>> {
    (text(), text(), 1..1_u64 << 40, prop::collection::vec(path(), 0..4)).prop_map(|(name, title, memory, disks)| {
        let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;");
        let disks: Vec<String> = disks
            .iter()
            .zip(b'a'..)
            .map(|(path, letter)| {
                let (path, letter) = (escape(path), letter as char);
                format!("<disk type='file'><source file='{path}'/><target dev='vd{letter}'/></disk>")
            })
            .collect();
            let disks = disks.concat();
        // libvirt refuses a slash in a domain's name.
        let (name, title) = (escape(&name.replace('/', "|")), escape(&title));
        let xml = format!(
            "<domain type='kvm' id='3'><name>{name}</name><title>{title}</title><memory>{memory}</memory>\
             <os><type>hvm</type></os><devices>{disks}</devices></domain>"
        );
        Arc::new(read_domain(&xml, || FRESH).unwrap())
    })
}

fn checkpoint() -> impl Strategy<Value = CheckpointDef> {
    let tracking = prop_oneof![
        Just(DiskTracking::No),
        Just(DiskTracking::Bitmap(None)),
        "[a-z]{0,5}".prop_map(|bitmap| DiskTracking::Bitmap(Some(bitmap.into()))),
    ];
    let disk = ("vd[a-z]{1,2}", tracking).prop_map(|(name, tracking)| CheckpointDisk {
        name: name.into(),
        tracking,
    });
    (
        prop::option::of(text()),
        prop::collection::vec(disk, 0..4),
        prop::option::of(domain()),
    )
        .prop_map(|(description, disks, domain)| CheckpointDef {
            description: description.map(Arc::from),
            disks,
            domain,
        })
}

fn snapshot() -> impl Strategy<Value = SnapshotDef> {
    let states = [
        "running",
        "blocked",
        "paused",
        "shutdown",
        "shutoff",
        "crashed",
        "pmsuspended",
        "disk-snapshot",
    ];
    let state = prop::sample::select(states.to_vec())
        .prop_map(|word| SnapshotState::from_word(word).unwrap());
    let kind = prop::sample::select(vec![SourceKind::File, SourceKind::Block]);
    let overlay = (prop::option::of(Just("qcow2")), path(), kind);
    let external = ("vd[a-z]", overlay).prop_map(|(name, (driver, source, kind))| SnapshotDisk {
        name: name.into(),
        location: Some(DiskLocation::External),
        kind,
        driver: driver.map(Arc::from),
        source: Some(source),
        xml: None,
    });
    let plain = prop::sample::select(vec![
        DiskLocation::No,
        DiskLocation::Internal,
        DiskLocation::Manual,
    ]);
    let plain = ("vd[a-z]", plain).prop_map(|(name, location)| SnapshotDisk {
        name: name.into(),
        location: Some(location),
        kind: SourceKind::File,
        driver: None,
        source: None,
        xml: None,
    });
    let disks = prop::collection::vec(prop_oneof![external, plain], 0..4);
    let memory = prop_oneof![
        Just(Memory::No),
        Just(Memory::Internal),
        path().prop_map(Memory::External)
    ];
    let domains = (prop::option::of(domain()), prop::option::of(domain()));
    (prop::option::of(text()), state, memory, disks, domains).prop_map(
        |(description, state, memory, disks, (domain, inactive))| SnapshotDef {
            description: description.map(Arc::from),
            state,
            memory: if state.is_memoryless() {
                Memory::No
            } else {
                memory
            },
            disks,
            inactive_domain: inactive.filter(|_| domain.is_some()),
            domain,
            revert_disks: None,
            extra: None,
        },
    )
}

proptest! {
    #[test]
    fn a_checkpoint_reads_as_it_was_written(
        name in checkpoint_name(),
        parent in prop::option::of(checkpoint_name()),
        created in time(),
        def in checkpoint(),
    ) {
        let written = write_checkpoint(CheckpointView { name: &name, parent: parent.as_ref(), created, def: &def, sizes: None }, true, true);
        let read = read_checkpoint_redefine(&written, &RecentDomain::default(), || FRESH).unwrap_or_else(|error| panic!("{error}\n{written}"));
        // A bitmap called as the checkpoint is written out.
        let mut wanted = def.clone();
        for disk in &mut wanted.disks {
            if disk.tracking == DiskTracking::Bitmap(None) {
                disk.tracking = DiskTracking::Bitmap(Some(name.as_str().into()));
            }
        }
        prop_assert_eq!((read.name, read.parent, read.created, read.def), (name, parent, created, wanted), "{}", written);
    }

    #[test]
    fn a_snapshot_reads_as_it_was_written(
        name in snapshot_name(),
        parent in prop::option::of(snapshot_name()),
        created in time(),
        def in snapshot(),
    ) {
        let view = SnapshotView { name: &name, parent: parent.as_ref(), created, def: &def, domain: FRESH };
        let written = write_snapshot(view, true);
        let read = read_snapshot_redefine(&written, false, Carry::Everything, &RecentDomain::default(), || FRESH).unwrap_or_else(|error| panic!("{error}\n{written}"));
        prop_assert_eq!((read.name, read.parent, read.created, read.def), (name, parent, created, def), "{}", written);
    }

    #[test]
    fn a_domain_reads_as_it_was_written(def in domain()) {
        prop_assert_eq!(read_domain(&def.xml, || FRESH), Ok(DomainDef::clone(&def)));
        prop_assert!(!def.xml.contains("id='3'"));
    }
}

/// It stands before the text, and counts in a place.
#[test]
fn a_byte_order_mark_is_skipped_once() {
    let domain = "<domain type='kvm'><name>é</name><os><type>hvm</type></os></domain>";
    let marked = format!("\u{feff}{domain}");
    assert_eq!(
        read_domain(&marked, || FRESH),
        read_domain(domain, || FRESH)
    );
    assert!(read_domain(&marked, || FRESH).is_ok());
    let declared = format!("\u{feff}<?xml version='1.0'?>{domain}");
    assert_eq!(
        read_domain(&declared, || FRESH),
        read_domain(domain, || FRESH)
    );

    let error = read_domain("\u{feff}<domain>\n <a><b></a></domain>", || FRESH).unwrap_err();
    assert_eq!((error.position.line, error.position.column), (2, 8));
    assert!(read_domain(&format!("\u{feff}{marked}"), || FRESH).is_err());
}

/// A domain as moments embed it, with something inside.
fn embedded(inside: &str) -> String {
    format!("<domain type='kvm'><name>vm</name>{inside}<os><type>hvm</type></os></domain>")
}

const UUID: &str = "<uuid>aaaaaaaa-0000-4000-8000-000000000001</uuid>";

fn snapshot_of(root: &str, name: &str, domain: &str) -> String {
    format!(
        "<domainsnapshot{root}><name>{name}</name><creationTime>1</creationTime><state>running</state>{domain}</domainsnapshot>"
    )
}

#[test]
fn a_domain_that_is_at_hand_is_taken_as_it_is() {
    let recent = RecentDomain::default();
    let read = |name: &str, domain: &str| {
        let text = snapshot_of("", name, domain);
        let read =
            read_snapshot_redefine(&text, false, Carry::Everything, &recent, || FRESH).unwrap();
        read.def.domain.unwrap()
    };
    let inside = embedded(&format!("{UUID}<memory>3</memory>"));
    let between = format!("<b>{}</b>{inside}<domain></domain>", embedded(""));
    assert!(Arc::ptr_eq(&read("x", &between), &read("y", &between)));
    let (first, other) = (
        embedded(UUID),
        embedded(&format!("{UUID}<memory>9</memory>")),
    );
    let kept = read("a", &first);
    assert!(Arc::ptr_eq(&kept, &read("b", &first)));
    let checkpoint = format!(
        "<domaincheckpoint><name>c</name><creationTime>1</creationTime>{first}</domaincheckpoint>"
    );
    for _ in 0..2 {
        // The first time it is read in full, because no schema has seen it.
        let read = read_checkpoint_redefine(&checkpoint, &recent, || FRESH).unwrap();
        assert_eq!(read.def.domain, Some(kept.clone()));
    }
    let kept = read("d", &first);
    assert_eq!(read("e", &other).memory_kib, 9);
    let again = read("f", &first);
    assert!(
        again == kept && !Arc::ptr_eq(&again, &kept),
        "the one before is not kept any more"
    );
}

#[test]
fn a_domain_without_a_uuid_gets_another_each_time() {
    let recent = RecentDomain::default();
    let text = snapshot_of("", "a", &embedded(""));
    for byte in 1..3 {
        let fresh = DomainUuid::from_bytes([byte; 16]);
        let read =
            read_snapshot_redefine(&text, false, Carry::Everything, &recent, || fresh).unwrap();
        assert_eq!(read.def.domain.unwrap().uuid, fresh);
    }
}

#[test]
fn a_domain_that_is_at_hand_changes_nothing() {
    let plain = embedded(UUID);
    let prefixed = embedded(&format!("{UUID}<a:memory>9</a:memory>"));
    let twice = embedded(&format!("{UUID}<name>again</name>"));
    // With two others of its kind beside it, there are too many.
    let many = embedded(&format!("{UUID}{}", "<a/>".repeat(XML_ELEMENTS_MAX - 10)));
    let texts = [
        snapshot_of("", "a", &plain),
        snapshot_of(" xmlns='a'", "a", &plain),
        snapshot_of(" xmlns:a='a'", "a", &plain),
        snapshot_of("", "a", &format!("<b xmlns='b'/>{plain}")),
        snapshot_of("", "a", &format!("<b xmlns='b'>{plain}</b>")),
        snapshot_of("", "a", &format!("<!--{plain}-->")),
        snapshot_of("", "a", &format!("<![CDATA[{plain}]]>")),
        snapshot_of("", "a", &format!("<b>{plain}</b>")),
        snapshot_of("", "a", &format!("{plain}{plain}")),
        snapshot_of("", "a", &format!("<domain>{plain}</domain>")),
        snapshot_of("", "a", &plain.replace("domain", "inactiveDomain")),
        snapshot_of(
            "",
            "a",
            &format!("{plain}{}", plain.replace("domain", "inactiveDomain")),
        ),
        snapshot_of("", "a", &format!("{plain}<")),
        snapshot_of("", "a", &format!("{plain}</b>")),
        snapshot_of("", "a", &plain.replace("</domain>", "</domain \n>")),
        snapshot_of("", "a", &twice),
        snapshot_of("", "a", &many),
        snapshot_of("", "a", &format!("{many}{many}{many}")),
        snapshot_of("", "a", &embedded(&format!("{UUID}<c xmlns='c'/>"))),
        snapshot_of("", "a", &prefixed),
        snapshot_of(" xmlns:a='a'", "a", &prefixed),
    ];
    let both = |recent: &RecentDomain, text: &str, validate| {
        let checkpoint = text
            .replace("domainsnapshot", "domaincheckpoint")
            .replace("<state>running</state>", "");
        (
            read_snapshot_redefine(text, validate, Carry::Everything, recent, || FRESH),
            read_checkpoint_redefine(&checkpoint, recent, || FRESH),
        )
    };
    for before in &texts {
        for text in &texts {
            let is_long = |text: &String| text.len() > many.len() / 2;
            if is_long(text) && !is_long(before) {
                continue;
            }
            for validate in [false, true] {
                let recent = RecentDomain::default();
                let _ = read_snapshot_redefine(before, false, Carry::Everything, &recent, || FRESH);
                assert_eq!(
                    both(&recent, text, validate),
                    both(&RecentDomain::default(), text, validate),
                    "{text:.300}"
                );
            }
        }
    }
}
