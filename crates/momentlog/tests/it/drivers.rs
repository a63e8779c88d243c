//! What libvirt's two drivers take and refuse: a store of one's own records what the qemu driver would take.

use momentlog::core::{DiskLocation, DomainUuid, SnapshotState};
use momentlog::{
    CheckpointCreateFlags, CheckpointDeleteFlags, RevertFlags, SnapshotCreateFlags as Create,
    SnapshotDeleteFlags, SnapshotListFlags, SnapshotXmlFlags, UndefineFlags,
};

use super::*;

const PLAIN: &str = "<domainsnapshot><name>p</name></domainsnapshot>";
const FILES: &str = "<domainsnapshot><name>e</name><disks>\
    <disk name='vda' snapshot='external'><source file='/images/e-vda.qcow2'/></disk>\
    <disk name='vdb' snapshot='external'><source file='/images/e-vdb.qcow2'/></disk></disks></domainsnapshot>";
const MEMORY_FILE: &str = "<domainsnapshot><name>m</name><memory snapshot='external' file='/images/m.mem'/>\
    <disks><disk name='vda' snapshot='external'><source file='/images/m-vda.qcow2'/></disk>\
    <disk name='vdb' snapshot='external'><source file='/images/m-vdb.qcow2'/></disk></disks></domainsnapshot>";

/// Asks a new domain for a snapshot.
#[track_caller]
fn asked(active: bool, xml: &str, flags: Create) -> Result<String, (u32, String)> {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    if active {
        domain.start().unwrap();
    }
    let made = domain
        .snapshot_create_xml(xml, flags)
        .map_err(|error| (error.code().number(), error.message().to_owned()))?;
    Ok(made.xml_desc(SnapshotXmlFlags::NONE).unwrap())
}

#[track_caller]
fn refused(active: bool, xml: &str, flags: Create, code: u32, message: &str) {
    assert_eq!(asked(active, xml, flags), Err((code, message.to_owned())));
}

fn disks(list: &str) -> String {
    format!("<domainsnapshot><name>d</name><disks>{list}</disks></domainsnapshot>")
}

#[test]
fn disks_alone_are_recorded_with_the_state_that_libvirt_gives_them() {
    for (active, state) in [(true, "disk-snapshot"), (false, "shutoff")] {
        for flags in [
            Create::DISK_ONLY,
            Create::DISK_ONLY | Create::ATOMIC,
            Create::DISK_ONLY | Create::REUSE_EXT,
            Create::DISK_ONLY | Create::QUIESCE,
            Create::DISK_ONLY | Create::HALT,
        ] {
            let xml = asked(active, FILES, flags).unwrap();
            assert!(xml.contains(&format!("<state>{state}</state>")), "{xml}");
            assert!(xml.contains("<memory snapshot='no'/>"), "{xml}");
            assert!(
                xml.contains("<source file='/images/e-vda.qcow2'/>"),
                "{xml}"
            );
            assert!(xml.contains("<driver type='qcow2'/>"), "{xml}");
        }
    }
    // Names of overlays are made up.
    let xml = asked(true, PLAIN, Create::DISK_ONLY).unwrap();
    assert!(xml.contains("<source file='/images/a.p'/>"), "{xml}");
}

#[test]
fn what_was_kept_alone_is_put_back_from_its_own_dump() {
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    domain.start().unwrap();
    let made = domain
        .snapshot_create_xml(FILES, Create::DISK_ONLY)
        .unwrap();
    let dump = made.xml_desc(SnapshotXmlFlags::SECURE).unwrap();
    made.delete(SnapshotDeleteFlags::METADATA_ONLY).unwrap();
    assert_eq!(domain.snapshot_num(SnapshotListFlags::NONE).unwrap(), 0);
    for flags in [
        Create::REDEFINE,
        Create::REDEFINE | Create::DISK_ONLY,
        Create::REDEFINE | Create::DISK_ONLY | Create::REUSE_EXT | Create::QUIESCE | Create::ATOMIC,
    ] {
        let back = domain.snapshot_create_xml(&dump, flags).unwrap();
        assert_eq!(back.xml_desc(SnapshotXmlFlags::SECURE).unwrap(), dump);
    }
    let view = scratch.open().refresh().unwrap();
    let moments = view.state().domain(domain.uuid()).unwrap().snapshots();
    let kept = moments.find("e").unwrap().def;
    assert_eq!(kept.state, SnapshotState::DiskSnapshot);
    assert_eq!(kept.disks[0].location, Some(DiskLocation::External));
}

#[test]
fn flags_that_need_or_exclude_each_other_are_refused_as_the_qemu_driver_does() {
    let flag = "VIR_DOMAIN_SNAPSHOT_CREATE_";
    for active in [true, false] {
        let needs = format!("Flag '{flag}DISK_ONLY' is required by flag '{flag}QUIESCE'");
        refused(active, "<", Create::QUIESCE, 8, &needs);
        refused(active, "<", Create::QUIESCE | Create::REDEFINE, 8, &needs);
        let both = format!("Flags '{flag}LIVE' and '{flag}REDEFINE' are mutually exclusive");
        refused(active, "<", Create::LIVE | Create::REDEFINE, 8, &both);
        let live = "Operation not supported: live snapshot creation is supported only during full system snapshots";
        refused(active, PLAIN, Create::LIVE, 84, live);
        refused(active, FILES, Create::LIVE | Create::DISK_ONLY, 84, live);
        let words = "a snapshot without metadata leaves nothing to record (NO_METADATA)";
        refused(active, PLAIN, Create::NO_METADATA, 8, words);
        let both = format!("Flags '{flag}REDEFINE' and '{flag}NO_METADATA' are mutually exclusive");
        let flags = Create::NO_METADATA | Create::REDEFINE | Create::QUIESCE;
        refused(active, PLAIN, flags, 8, &both);
    }
    asked(true, MEMORY_FILE, Create::LIVE).unwrap();
    asked(true, MEMORY_FILE, Create::ATOMIC | Create::HALT).unwrap();
}

#[test]
fn memory_that_cannot_be_kept_is_refused() {
    let offline = "XML error: memory state cannot be saved with offline or disk-only snapshot";
    refused(false, MEMORY_FILE, Create::NONE, 27, offline);
    refused(false, MEMORY_FILE, Create::LIVE, 27, offline);
    refused(true, MEMORY_FILE, Create::DISK_ONLY, 27, offline);
    let internal = "<domainsnapshot><memory snapshot='internal'/></domainsnapshot>";
    refused(true, internal, Create::DISK_ONLY, 27, offline);
    let without = "<domainsnapshot><memory snapshot='no'/></domainsnapshot>";
    let running =
        "Operation not supported: internal snapshot of a running VM must include the memory state";
    refused(true, without, Create::NONE, 84, running);
    asked(false, without, Create::NONE).unwrap();
    asked(true, without, Create::DISK_ONLY).unwrap();
}

#[test]
fn disks_that_cannot_be_kept_alone_are_refused() {
    let none = "unsupported configuration: nothing selected for snapshot";
    let no = disks("<disk name='vda' snapshot='no'/><disk name='vdb' snapshot='no'/>");
    let internal =
        disks("<disk name='vda' snapshot='internal'/><disk name='vdb' snapshot='internal'/>");
    let mixed =
        disks("<disk name='vda' snapshot='external'/><disk name='vdb' snapshot='internal'/>");
    let raw = disks(
        "<disk name='vda' snapshot='external'><driver type='raw'/><source file='/i/z'/></disk>",
    );
    for active in [true, false] {
        refused(active, &no, Create::DISK_ONLY, 67, none);
        let format =
            "unsupported configuration: external snapshot format for disk vda is unsupported: raw";
        refused(active, &raw, Create::DISK_ONLY, 67, format);
    }
    let wants = "unsupported configuration: active qemu domains require external disk snapshots; disk vda requested internal";
    refused(true, &internal, Create::DISK_ONLY, 67, wants);
    asked(false, &internal, Create::DISK_ONLY).unwrap();
    let mixing = "unsupported configuration: mixing internal and external targets for a snapshot is not yet supported";
    refused(false, &mixed, Create::DISK_ONLY, 67, mixing);
}

#[test]
fn a_snapshot_has_a_name_that_a_file_could_have() {
    for (name, why) in [
        ("a/b", "can't contain '/'"),
        (".x", "can't start with '.'"),
        ("..", "can't start with '.'"),
    ] {
        let message = format!("invalid snapshot name '{name}': name {why}");
        let xml = format!("<domainsnapshot><name>{name}</name></domainsnapshot>");
        refused(true, &xml, Create::NONE, 35, &message);
        let scratch = Scratch::new();
        let (_, domain) = scratch.with_domain();
        snapshot(&domain, "s").unwrap();
        let made = domain.snapshot_lookup_by_name("s").unwrap();
        let dump = made.xml_desc(SnapshotXmlFlags::SECURE).unwrap();
        let renamed = dump.replacen("<name>s<", &format!("<name>{name}<"), 1);
        let redefined = domain.snapshot_create_xml(&renamed, Create::REDEFINE);
        assert_eq!(told(redefined).2, message);
        // libvirt's test driver takes any.
        let test = Connection::open("test:///default").unwrap();
        snapshot(&test.lookup_domain_by_name("test").unwrap(), name).unwrap();
    }
    let message = "invalid argument: disk-only flag for snapshot s requires disk-snapshot state";
    let scratch = Scratch::new();
    let (_, domain) = scratch.with_domain();
    snapshot(&domain, "s").unwrap();
    let made = domain.snapshot_lookup_by_name("s").unwrap();
    let dump = made.xml_desc(SnapshotXmlFlags::SECURE).unwrap();
    let redefined = domain.snapshot_create_xml(&dump, Create::REDEFINE | Create::DISK_ONLY);
    assert_eq!(told(redefined), (8, 35, message.to_owned()));
}

#[test]
fn what_concerns_the_host_is_taken_on_a_store_of_ones_own_and_nowhere_else() {
    use UndefineFlags as Undefine;
    let everything = Undefine::MANAGED_SAVE
        | Undefine::SNAPSHOTS_METADATA
        | Undefine::CHECKPOINTS_METADATA
        | Undefine::NVRAM
        | Undefine::TPM
        | Undefine::STORAGE;
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    for one in [
        Undefine::NVRAM | Undefine::KEEP_NVRAM,
        Undefine::TPM | Undefine::KEEP_TPM,
    ] {
        let (code, _, message) = told(domain.undefine(one));
        assert_eq!(code, 55);
        assert!(message.contains("cannot both keep and delete"), "{message}");
    }
    checkpoint(&domain, "c").unwrap();
    domain.undefine(everything).unwrap();
    assert_eq!(store.refresh().unwrap().state().domains().count(), 0);
    let unknown = "unsupported flags (0x80) in function virDomainUndefineFlags";
    assert_eq!(
        told(domain.undefine(Undefine::from_bits_retain(0x80))),
        (8, 12, unknown.to_owned())
    );

    let domain = store.define_domain_xml(DOMAIN).unwrap();
    snapshot(&domain, "s").unwrap();
    let made = domain.snapshot_lookup_by_name("s").unwrap();
    made.revert(RevertFlags::RESET_NVRAM).unwrap();
    made.delete(SnapshotDeleteFlags::METADATA_ONLY | SnapshotDeleteFlags::CHILDREN)
        .unwrap();
    checkpoint(&domain, "c").unwrap();
    let made = domain.checkpoint_lookup_by_name("c").unwrap();
    let dump = made
        .xml_desc(momentlog::CheckpointXmlFlags::SECURE)
        .unwrap();
    let flags = CheckpointCreateFlags::REDEFINE | CheckpointCreateFlags::REDEFINE_VALIDATE;
    domain.checkpoint_create_xml(&dump, flags).unwrap();
    made.delete(CheckpointDeleteFlags::METADATA_ONLY | CheckpointDeleteFlags::CHILDREN)
        .unwrap();

    let test = Connection::open("test:///default").unwrap();
    let domain = test.lookup_domain_by_name("test").unwrap();
    for flag in [Create::DISK_ONLY, Create::REUSE_EXT, Create::NO_METADATA] {
        assert_eq!(told(domain.snapshot_create_xml(PLAIN, flag)).0, 8);
    }
    for flag in [4, 8, 16, 32, 64, 0x8000_0000] {
        let message = format!("unsupported flags (0x{flag:x}) in function testDomainUndefineFlags");
        assert_eq!(
            told(domain.undefine(Undefine::from_bits_retain(flag))),
            (8, 12, message)
        );
    }
    snapshot(&domain, "s").unwrap();
    let made = domain.snapshot_lookup_by_name("s").unwrap();
    assert_eq!(told(made.delete(SnapshotDeleteFlags::METADATA_ONLY)).0, 8);
    assert_eq!(told(made.revert(RevertFlags::RESET_NVRAM)).0, 8);
}

#[test]
fn a_domain_has_a_name_that_a_file_could_have() {
    let xml = |name: &str| {
        format!(
            "<domain type='test'><name>{name}</name><uuid>30300000-0000-4000-8000-000000000001</uuid>\
             <memory>65536</memory><os><type>hvm</type></os></domain>"
        )
    };
    let scratch = Scratch::new();
    for store in [scratch.open(), Connection::open("test:///default").unwrap()] {
        let slash = (27, 20, "XML error: name a/b cannot contain '/'".to_owned());
        assert_eq!(told(store.define_domain_xml(&xml("a/b"))), slash);
        assert_eq!(told(store.create_domain_xml(&xml("a/b"))), slash);
        let line = (35, 5, "invalid char in name: \n".to_owned());
        assert_eq!(told(store.define_domain_xml(&xml("a&#10;b"))), line);
        for name in ["a&#9;b", "a&#13;b", " ", "..", "-x"] {
            let domain = store.define_domain_xml(&xml(name)).unwrap();
            domain.undefine(UndefineFlags::NONE).unwrap();
        }
        store.create_domain_xml(&xml("a&#10;b")).unwrap();
    }
}

#[test]
fn a_transient_guest_that_a_revert_has_shut_off_is_still_there() {
    let test = Connection::open("test:///default").unwrap();
    let xml = "<domain type='test'><name>vm2</name><uuid>aaaaaaaa-0000-4000-8000-000000000002</uuid>\
               <memory>65536</memory><os><type>hvm</type></os></domain>";
    let domain = test.create_domain_xml(xml).unwrap();
    snapshot(&domain, "s").unwrap();
    let made = domain.snapshot_lookup_by_name("s").unwrap();
    let off = made.xml_desc(SnapshotXmlFlags::NONE).unwrap();
    let off = off.replacen("<name>s<", "<name>off<", 1);
    let off = off.replace("<state>running", "<state>shutoff");
    let off = off.replace("<memory snapshot='internal'/>", "<memory snapshot='no'/>");
    let off = domain.snapshot_create_xml(&off, Create::REDEFINE).unwrap();
    off.revert(RevertFlags::RUNNING | RevertFlags::FORCE)
        .unwrap();
    assert!(!domain.is_active().unwrap());
    let message = "Requested operation is not valid: domain 'vm2' is already being started";
    assert_eq!(
        told(test.create_domain_xml(xml)),
        (55, 20, message.to_owned())
    );
    domain.start().unwrap();
    assert_eq!(
        domain.uuid(),
        "aaaaaaaa-0000-4000-8000-000000000002"
            .parse::<DomainUuid>()
            .unwrap()
    );
}

/// libvirt's test driver takes any format, its qemu driver `qcow2` alone.
#[test]
fn a_disk_that_cannot_keep_a_bitmap_is_not_tracked() {
    let xml = DOMAIN.replace(
        "<source file",
        "<driver name='qemu' type='raw'/><source file",
    );
    assert_ne!(xml, DOMAIN);
    let create = "<domaincheckpoint><name>c</name></domaincheckpoint>";
    let none = CheckpointCreateFlags::NONE;
    let scratch = Scratch::new();
    let domain = scratch.open().define_domain_xml(&xml).unwrap();
    let error = domain.checkpoint_create_xml(create, none).unwrap_err();
    let expected =
        "unsupported configuration: checkpoint for disk vda unsupported for storage type raw";
    assert_eq!((error.code().number(), error.message()), (67, expected));
    let error = domain
        .create_checkpoint(momentlog::xml::CheckpointRequest {
            name: None,
            description: None,
            disks: Vec::new(),
        })
        .unwrap_err();
    assert_eq!(error.message(), expected);
    let left_out = "<domaincheckpoint><name>c</name><disks><disk name='vda' checkpoint='no'/></disks></domaincheckpoint>";
    domain.checkpoint_create_xml(left_out, none).unwrap();

    let test = Connection::open("test:///default").unwrap();
    let domain = test.define_domain_xml(&xml).unwrap();
    domain.start().unwrap();
    domain.checkpoint_create_xml(create, none).unwrap();
}

/// libvirt's own dump of a guest with an empty floppy excludes it, and its rule for internal snapshots refuses that.
#[test]
fn a_snapshot_of_a_guest_with_an_empty_drive_is_put_back_from_its_own_dump() {
    let floppy = "<disk device='floppy'><target dev='fda' bus='fdc'/></disk></devices>";
    let xml = DOMAIN.replace("</devices>", floppy);
    let scratch = Scratch::new();
    let domain = scratch.open().define_domain_xml(&xml).unwrap();
    let made = domain.snapshot_create_xml(PLAIN, Create::NONE).unwrap();
    let dump = made.xml_desc(SnapshotXmlFlags::NONE).unwrap();
    assert!(dump.contains("<disk name='fda' snapshot='no'/>"), "{dump}");
    made.delete(SnapshotDeleteFlags::NONE).unwrap();
    let back = domain.snapshot_create_xml(&dump, Create::REDEFINE).unwrap();
    assert_eq!(back.xml_desc(SnapshotXmlFlags::NONE).unwrap(), dump);
    back.delete(SnapshotDeleteFlags::NONE).unwrap();
    let saved = [momentlog::Saved {
        label: "s.xml".into(),
        xml: dump.clone(),
    }];
    domain
        .restore_moments(&saved, momentlog::OnMissingParent::Refuse)
        .unwrap();

    let test = Connection::open("test:///default").unwrap();
    let domain = test.define_domain_xml(&xml).unwrap();
    let made = domain.snapshot_create_xml(PLAIN, Create::NONE).unwrap();
    let dump = made.xml_desc(SnapshotXmlFlags::NONE).unwrap();
    let error = domain
        .snapshot_create_xml(&dump, Create::REDEFINE)
        .unwrap_err();
    assert_eq!(
        error.message(),
        "unsupported configuration: disk 'fda' must use snapshot mode 'internal'"
    );
}
