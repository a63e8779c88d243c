//! Typed commands record what XML can say, and nothing else.

use std::sync::Arc;

use momentlog::core::{
    Action, CheckpointDef, CheckpointDisk, Command, DiskTracking, DomainDef, DomainUuid, Memory,
    MomentName, Profile, Redefine, RunState, SnapshotDef, SnapshotDisk, SnapshotState, SourceKind,
};
use momentlog::store::MemoryStore;
use momentlog::xml::{CheckpointRequest, XML_AROUND_LEN_MAX, read_domain};
use momentlog::{Connection, ErrorCode, Options, SnapshotCreateFlags, SnapshotXmlFlags};

const UUID: DomainUuid = DomainUuid::from_bytes([7; 16]);

fn def() -> DomainDef {
    let xml = "<domain type='kvm'><name>vm</name><os><type>hvm</type></os><devices>\
        <disk type='file'><source file='/i/a.qcow2'/><target dev='vda'/></disk></devices></domain>";
    read_domain(xml, || UUID).unwrap()
}

fn store() -> Connection {
    let store = Connection::over(Box::new(MemoryStore::new()), Options::default());
    store
        .execute(&command(Action::Define(Arc::new(def()))))
        .unwrap();
    store
}

fn command(action: Action) -> Command {
    Command {
        domain: UUID,
        action,
    }
}

fn snapshot() -> Redefine<SnapshotDef> {
    Redefine {
        name: MomentName::new("s").unwrap(),
        parent: None,
        created: 5,
        def: SnapshotDef {
            description: None,
            state: SnapshotState::Run(RunState::Running),
            memory: Memory::Internal,
            disks: Vec::new(),
            domain: Some(Arc::new(def())),
            inactive_domain: None,
            revert_disks: None,
            extra: None,
        },
        current: false,
    }
}

fn checkpoint() -> Redefine<CheckpointDef> {
    Redefine {
        name: MomentName::new("c").unwrap(),
        parent: None,
        created: 5,
        def: CheckpointDef {
            description: None,
            disks: Vec::new(),
            domain: None,
        },
        current: false,
    }
}

/// Checks that a command is refused, and that nothing is recorded.
#[track_caller]
fn refused(action: Action, expected: &str) {
    let store = store();
    let before = store.view().head();
    let error = store.execute(&command(action)).unwrap_err();
    assert!(error.message().contains(expected), "{}", error.message());
    assert_eq!(store.view().head(), before);
}

/// A change of what is accepted, and what the refusal says.
type Case<'a, D> = (&'a dyn Fn(&mut Redefine<D>), &'a str);

#[test]
fn a_definition_is_what_its_xml_says() {
    let broken = |change: &dyn Fn(&mut DomainDef)| {
        let mut def = def();
        change(&mut def);
        Arc::new(def)
    };
    let not_its = "the definition is not what its XML";
    let disk = def().disks[0].clone();
    for (def, expected) in [
        (
            broken(&|def| def.xml = "no XML".into()),
            "the definition has no valid XML",
        ),
        (
            broken(&|def| def.xml = "".into()),
            "the definition has no valid XML",
        ),
        (broken(&|def| def.memory_kib = 7), not_its),
        (
            broken(&|def| {
                def.disks[0].target = "foo".into();
                def.xml = def.xml.replace("vda", "foo").into();
            }),
            "the definition has no valid XML: Unknown disk name 'foo' and no address specified",
        ),
        (broken(&|def| def.disks.push(disk.clone())), not_its),
        (
            broken(&|def| def.xml = def.xml.replace('\'', "\"").into()),
            not_its,
        ),
        (
            broken(&|def| def.xml = def.xml.replace("vda", "vdb").into()),
            not_its,
        ),
    ] {
        refused(Action::Define(def.clone()), expected);
        refused(Action::CreateLive(def.clone()), expected);
        let mut redefine = snapshot();
        redefine.def.domain = Some(def.clone());
        refused(Action::RedefineSnapshot(redefine), expected);
        let mut redefine = snapshot();
        redefine.def.inactive_domain = Some(def.clone());
        refused(Action::RedefineSnapshot(redefine), expected);
        let mut redefine = checkpoint();
        redefine.def.domain = Some(def);
        refused(Action::RedefineCheckpoint(redefine), expected);
    }
}

#[test]
fn a_snapshot_is_what_xml_can_say() {
    let disk = SnapshotDisk {
        name: "vda".into(),
        location: None,
        kind: SourceKind::File,
        driver: None,
        source: None,
        xml: None,
    };
    let long = "a".repeat(XML_AROUND_LEN_MAX);
    let cases: [Case<'_, SnapshotDef>; 7] = [
        (
            &|it| it.def.memory = Memory::External("m".into()),
            "must be absolute",
        ),
        (
            &|it| it.def.description = Some("a\u{1}".into()),
            "text that XML does not keep",
        ),
        (
            &|it| it.def.description = Some("a\r".into()),
            "text that XML does not keep",
        ),
        (
            &|it| it.name = MomentName::new("a\rb").unwrap(),
            "text that XML does not keep",
        ),
        (
            &|it| it.def.memory = Memory::External("/m\n".into()),
            "text that XML does not keep",
        ),
        (
            &|it| it.def.description = Some(long.as_str().into()),
            "what goes around",
        ),
        (
            &|it| {
                it.def.disks = vec![SnapshotDisk {
                    driver: Some("nope".into()),
                    location: Some(momentlog::core::DiskLocation::External),
                    source: Some("/o".into()),
                    ..disk.clone()
                }];
            },
            "unknown disk snapshot driver",
        ),
    ];
    for (change, expected) in cases {
        let mut redefine = snapshot();
        change(&mut redefine);
        refused(Action::RedefineSnapshot(redefine), expected);
    }
    let store = store();
    store
        .execute(&command(Action::RedefineSnapshot(snapshot())))
        .unwrap();
}

/// libvirt excludes an empty floppy from a snapshot, and refuses that from its own dump.
#[test]
fn an_empty_floppy_is_put_back_in_a_store_of_ones_own_alone() {
    let xml = "<domain type='test'><name>win</name><memory>65536</memory><os><type>hvm</type></os><devices>\
        <disk type='file'><source file='/i/a.qcow2'/><target dev='hda'/></disk>\
        <disk type='file' device='floppy'><target dev='fda'/></disk></devices></domain>";
    for (profile, refused) in [(Profile::Own, ""), (Profile::LibvirtTest, "'internal'")] {
        let options = Options {
            profile,
            ..Options::default()
        };
        let store = Connection::over(Box::new(MemoryStore::new()), options);
        let vm = store.define_domain_xml(xml).unwrap();
        let new = "<domainsnapshot><name>s</name></domainsnapshot>";
        let made = vm
            .snapshot_create_xml(new, SnapshotCreateFlags::NONE)
            .unwrap();
        let dump = made.xml_desc(SnapshotXmlFlags::SECURE).unwrap();
        assert!(dump.contains("<disk name='fda' snapshot='no'/>"), "{dump}");
        let again = vm.snapshot_create_xml(&dump, SnapshotCreateFlags::REDEFINE);
        let message = again.map_or_else(|error| error.message().to_owned(), |_| String::new());
        assert!(
            message.ends_with(refused) && message.is_empty() == refused.is_empty(),
            "{message}"
        );
        assert_eq!(made.xml_desc(SnapshotXmlFlags::SECURE).unwrap(), dump);
    }
}

#[test]
fn a_checkpoint_is_what_xml_can_say() {
    let disk = |name: &str, bitmap: &str| CheckpointDisk {
        name: name.into(),
        tracking: DiskTracking::Bitmap(Some(bitmap.into())),
    };
    let cases: [Case<'_, CheckpointDef>; 5] = [
        (&|it| it.created = -7, "is not an unsigned number"),
        (
            &|it| it.def.description = Some("a\u{1}".into()),
            "text that XML does not keep",
        ),
        (
            &|it| it.def.disks = vec![disk("odd name", "b")],
            "not a target or an absolute path",
        ),
        (
            &|it| it.def.disks = vec![disk("vda", "b\tc")],
            "text that XML does not keep",
        ),
        (
            &|it| it.def.disks = vec![disk("vda", "b\u{ffff}")],
            "not what XML can say",
        ),
    ];
    for (change, expected) in cases {
        let mut redefine = checkpoint();
        change(&mut redefine);
        refused(Action::RedefineCheckpoint(redefine), expected);
    }
    let store = store();
    store
        .execute(&command(Action::RedefineCheckpoint(checkpoint())))
        .unwrap();
    let vm = store.lookup_domain_by_uuid(UUID).unwrap();
    let request = |description: &str| CheckpointRequest {
        name: MomentName::new("d"),
        description: Some(description.into()),
        disks: Vec::new(),
    };
    let error = vm.create_checkpoint(request("a\u{1b}[2J")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArg, "{}", error.message());
    vm.create_checkpoint(request("two\nlines")).unwrap();
}
