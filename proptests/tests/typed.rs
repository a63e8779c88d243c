//! Whatever a typed command records: its dump is put back, and dumped again, byte for byte.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use momentlog::core::{
    Action, CheckpointDef, CheckpointDisk, Command, CreateCheckpoint, CreateSnapshot, DiskLocation,
    DiskTracking, DomainDef, DomainUuid, Memory, MomentName, Redefine, RunState, SnapshotDef,
    SnapshotDisk, SnapshotState, SourceKind,
};
use momentlog::store::MemoryStore;
use momentlog::xml::read_domain;
use momentlog::{
    CheckpointCreateFlags, CheckpointXmlFlags, Connection, Options, SnapshotCreateFlags,
    SnapshotXmlFlags,
};
use proptest::prelude::*;

const UUID: DomainUuid = DomainUuid::from_bytes([7; 16]);

fn def() -> Arc<DomainDef> {
    let xml = "<domain type='kvm'><name>vm</name><os><type>hvm</type></os><devices>\
        <disk type='file'><source file='/i/a.qcow2'/><target dev='vda'/></disk>\
        <disk type='file' device='floppy'><target dev='fda'/></disk>\
        <disk type='file' snapshot='manual'><source file='/i/b'/><target dev='vdb'/></disk>\
        <disk type='block' device='cdrom'><target dev='hda'/></disk></devices></domain>";
    Arc::new(read_domain(xml, || UUID).unwrap())
}

/// Texts, mostly such as XML keeps.
fn text() -> impl Strategy<Value = Arc<str>> {
    let kept = "[a-z<&>'\" \u{e9}]{0,6}";
    let odd = "[a\n\t\r\u{1}\u{7f}\u{85}\u{fffe}\u{2028}]{1,3}";
    prop_oneof![4 => kept, 1 => odd].prop_map(Arc::from)
}

fn name() -> impl Strategy<Value = MomentName> {
    prop_oneof![3 => "[a-c]", 1 => text().prop_map(|text| text.to_string())]
        .prop_filter_map("no name", |text| MomentName::new(&text))
}

/// Absolute paths, for the most part.
fn path() -> impl Strategy<Value = Arc<str>> {
    (prop_oneof![6 => Just("/"), 1 => Just("")], text())
        .prop_map(|(root, text)| format!("{root}{text}").into())
}

fn disk_name() -> impl Strategy<Value = Arc<str>> {
    let names = ["vda", "fda", "vdb", "hda", "/i/a.qcow2"];
    prop_oneof![6 => prop::sample::select(names.to_vec()).prop_map(Arc::from), 1 => text()]
}

fn memory() -> impl Strategy<Value = Memory> {
    prop_oneof![
        Just(Memory::No),
        Just(Memory::Internal),
        path().prop_map(Memory::External)
    ]
}

fn snapshot_disk() -> impl Strategy<Value = SnapshotDisk> {
    let locations = [
        None,
        Some(DiskLocation::No),
        Some(DiskLocation::Internal),
        Some(DiskLocation::External),
        Some(DiskLocation::Manual),
    ];
    let kinds = [
        SourceKind::File,
        SourceKind::File,
        SourceKind::Block,
        SourceKind::Network,
        SourceKind::Volume,
    ];
    let drivers = [None, None, Some("qcow2"), Some("nope")];
    (
        disk_name(),
        prop::sample::select(locations.to_vec()),
        prop::sample::select(kinds.to_vec()),
        prop::sample::select(drivers.to_vec()),
        prop::option::of(path()),
    )
        .prop_map(|(name, location, kind, driver, source)| SnapshotDisk {
            name,
            location,
            kind,
            driver: driver.map(Arc::from),
            source,
            xml: None,
        })
}

fn checkpoint_disk() -> impl Strategy<Value = CheckpointDisk> {
    let tracking = prop_oneof![
        Just(DiskTracking::No),
        prop::option::of(text()).prop_map(DiskTracking::Bitmap),
    ];
    (disk_name(), tracking).prop_map(|(name, tracking)| CheckpointDisk { name, tracking })
}

/// Not 0, which is not printed, as in libvirt.
fn time() -> impl Strategy<Value = i64> {
    prop_oneof![Just(-7_i64), 1..=i64::MAX, 1_000_000_000..2_000_000_000_i64]
}

/// Definitions, of which some are not what their XML says.
fn domain() -> impl Strategy<Value = Option<Arc<DomainDef>>> {
    (0..6_u8).prop_map(|case| {
        let mut domain = DomainDef::clone(&def());
        match case {
            0 => return None,
            1 => domain.memory_kib = 3,
            2 => domain.xml = "<domain/>\n".into(),
            _ => {}
        }
        Some(Arc::new(domain))
    })
}

fn action() -> impl Strategy<Value = Action> {
    let states = [
        SnapshotState::Run(RunState::Running),
        SnapshotState::Run(RunState::Shutoff),
        SnapshotState::DiskSnapshot,
    ];
    let snapshot_disks = || prop::collection::vec(snapshot_disk(), 0..3);
    let checkpoint_disks = || prop::collection::vec(checkpoint_disk(), 0..3);
    let description = || prop::option::of(text());
    prop_oneof![
        (
            name(),
            description(),
            time(),
            memory(),
            snapshot_disks(),
            any::<bool>()
        )
            .prop_map(|(name, description, now, memory, disks, disk_only)| {
                Action::CreateSnapshot(CreateSnapshot {
                    name: Some(name),
                    description,
                    now,
                    memory: Some(memory),
                    disks,
                    extra: None,
                    disk_only,
                    halt: false,
                })
            }),
        (
            (name(), description(), time(), memory(), snapshot_disks()),
            prop::sample::select(states.to_vec()),
            domain(),
            domain(),
        )
            .prop_map(
                |((name, description, created, memory, disks), state, domain, inactive)| {
                    let inactive_domain = inactive.filter(|_| domain.is_some());
                    let def = SnapshotDef {
                        description,
                        state,
                        memory,
                        disks,
                        domain,
                        inactive_domain,
                        revert_disks: None,
                        extra: None,
                    };
                    Action::RedefineSnapshot(Redefine {
                        name,
                        parent: None,
                        created,
                        def,
                        current: true,
                    })
                }
            ),
        (name(), description(), time(), checkpoint_disks()).prop_map(
            |(name, description, now, disks)| Action::CreateCheckpoint(CreateCheckpoint {
                name: Some(name),
                description,
                now,
                disks,
            })
        ),
        (name(), description(), time(), checkpoint_disks(), domain()).prop_map(
            |(name, description, created, disks, domain)| {
                let def = CheckpointDef {
                    description,
                    disks,
                    domain,
                };
                Action::RedefineCheckpoint(Redefine {
                    name,
                    parent: None,
                    created,
                    def,
                    current: false,
                })
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_is_put_back_from_its_dump(action in action()) {
        let store = Connection::over(Box::new(MemoryStore::new()), Options::default());
        let command = |action| Command { domain: UUID, action };
        store.execute(&command(Action::Define(def()))).unwrap();
        // About one in four is accepted.
        if store.execute(&command(action)).is_err() {
            return Ok(());
        }
        let vm = store.lookup_domain_by_uuid(UUID).unwrap();
        for snapshot in vm.list_all_snapshots(momentlog::SnapshotListFlags::NONE).unwrap() {
            let dump = snapshot.xml_desc(SnapshotXmlFlags::SECURE).unwrap();
            let flags = SnapshotCreateFlags::REDEFINE;
            let again = vm.snapshot_create_xml(&dump, flags);
            let again = again.unwrap_or_else(|error| panic!("{}: {dump}", error.message()));
            prop_assert_eq!(again.xml_desc(SnapshotXmlFlags::SECURE).unwrap(), dump);
        }
        for checkpoint in vm.list_all_checkpoints(momentlog::CheckpointListFlags::NONE).unwrap() {
            let dump = checkpoint.xml_desc(CheckpointXmlFlags::SECURE).unwrap();
            let flags = CheckpointCreateFlags::REDEFINE;
            let again = vm.checkpoint_create_xml(&dump, flags);
            let again = again.unwrap_or_else(|error| panic!("{}: {dump}", error.message()));
            prop_assert_eq!(again.xml_desc(CheckpointXmlFlags::SECURE).unwrap(), dump);
        }
    }
}
