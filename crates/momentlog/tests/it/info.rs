//! The facts of a guest, of the host, and of a process that asks over a socket.

use momentlog::core::RunState;
use momentlog::{Connection, DomainInfo, Peer, Provenance, RenameFlags, ShutdownFlags};

use crate::{Scratch, told};

#[test]
fn memory_and_vcpus_are_those_of_the_definition() {
    let scratch = Scratch::new();
    let store = scratch.open();
    // As libvirt 9.0.0 was seen to read them.
    for (name, given, (max, memory, vcpus), os_type) in [
        (
            "a",
            "<memory>8192</memory><os><type>hvm</type></os>",
            (8192, 8192, 1),
            "hvm",
        ),
        (
            "b",
            "<memory unit='MiB'>8192</memory><currentMemory>5000</currentMemory><vcpu current='2'>4</vcpu>\
             <os><type>xen</type></os>",
            (8_388_608, 5000, 2),
            "xen",
        ),
        (
            "c",
            "<memory unit='MiB'>8</memory><currentMemory unit='GiB'>5</currentMemory><os><type>hvm</type></os>",
            (8192, 8192, 1),
            "hvm",
        ),
        (
            "d",
            "<bootloader>/x</bootloader><memory unit='MiB'>8</memory>",
            (8192, 8192, 1),
            "xen",
        ),
    ] {
        let xml = format!("<domain type='kvm'><name>{name}</name>{given}</domain>");
        let domain = store.define_domain_xml(&xml).unwrap();
        let expected = DomainInfo {
            state: RunState::Shutoff,
            max_memory_kib: max,
            memory_kib: memory,
            vcpus,
        };
        assert_eq!(domain.info().unwrap(), expected, "{name}");
        assert_eq!(domain.max_memory().unwrap(), max);
        assert_eq!(domain.os_type().unwrap(), os_type);
        assert!(!domain.has_managed_save_image().unwrap());
    }
    let built_in = Connection::open("test:///default").unwrap();
    let domain = built_in.lookup_domain_by_name("test").unwrap();
    assert_eq!(domain.os_type().unwrap(), "linux");
    let expected = DomainInfo {
        state: RunState::Running,
        max_memory_kib: 8_388_608,
        memory_kib: 2_097_152,
        vcpus: 2,
    };
    assert_eq!(domain.info().unwrap(), expected);
}

#[test]
fn another_name_is_refused_as_by_the_test_driver() {
    const ID: &str = "3f2c7a90-5d1e-4b7c-9a52-0c6f1d8e4b21";
    let store = Connection::open("test:///default").unwrap();
    let xml = |name: &str| {
        format!(
            "<domain type='test'><name>{name}</name><uuid>{ID}</uuid><os><type>hvm</type></os></domain>"
        )
    };
    let a = store.define_domain_xml(&xml("a")).unwrap();
    let running = store.lookup_domain_by_name("test").unwrap();
    let none = RenameFlags::NONE;
    let invalid = |why: &str| format!("Requested operation is not valid: {why}");
    let active = invalid("cannot rename active domain");
    assert_eq!(told(running.rename("x", none)), (55, 12, active));
    let taken = invalid("domain with name 'test' already exists");
    assert_eq!(told(a.rename("test", none)), (55, 20, taken));
    let itself = invalid("Can't rename domain to itself");
    assert_eq!(told(a.rename("a", none)), (55, 20, itself));
    let empty = "string new_name in virDomainRename must not be empty";
    assert_eq!(told(a.rename("", none)), (8, 20, empty.to_owned()));
    let slash = "XML error: name x/y cannot contain '/'";
    assert_eq!(told(a.rename("x/y", none)), (27, 12, slash.to_owned()));
    let flags = "unsupported flags (0x1) in function testDomainRename";
    let one = RenameFlags::from_bits_retain(1);
    assert_eq!(told(a.rename("b", one)), (8, 12, flags.to_owned()));
    let denied = "operation forbidden: read only access prevents virDomainRename";
    let reader = store.read_only().lookup_domain_by_name("a").unwrap();
    assert_eq!(told(reader.rename("b", one)), (29, 20, denied.to_owned()));
    assert_eq!(told(a.rename("\u{1}", none)).0, 27);
    a.rename("x\n<&>", none).unwrap();
    assert_eq!(
        store.lookup_domain_by_uuid(a.uuid()).unwrap().name(),
        "x\n<&>"
    );
    a.undefine(momentlog::UndefineFlags::NONE).unwrap();
    let (code, _, message) = told(a.rename("b", none));
    assert_eq!(code, 42);
    assert_eq!(
        message,
        format!("Domain not found: no domain with matching uuid '{ID}' (a)")
    );
}

#[test]
fn a_domain_with_another_name_keeps_its_moments_and_its_past() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    crate::snapshot(&domain, "s").unwrap();
    let before = domain.xml_desc(momentlog::DomainXmlFlags::NONE).unwrap();
    let named = store.with_provenance(Provenance {
        request_id: Some("r".into()),
        ..Provenance::default()
    });
    let rename = |connection: &Connection, name: &str| {
        let domain = connection.domain_handle(domain.uuid(), "vm");
        domain.rename(name, RenameFlags::NONE)
    };
    rename(&named, "web01").unwrap();
    // Asked again it gets its first answer, and for something else it is refused.
    rename(&named, "web01").unwrap();
    assert_eq!(told(rename(&named, "web02")).0, 8);
    assert_eq!(told(store.lookup_domain_by_name("vm")).0, 42);
    let renamed = store.lookup_domain_by_name("web01").unwrap();
    let xml = renamed.xml_desc(momentlog::DomainXmlFlags::NONE).unwrap();
    assert_eq!(xml, before.replace("<name>vm<", "<name>web01<"));
    assert_eq!(
        renamed
            .snapshot_list_names(momentlog::SnapshotListFlags::NONE)
            .unwrap()
            .len(),
        1
    );
    renamed.set_autostart(true).unwrap();
    for name in ["vm", "web01"] {
        assert_eq!(
            store.domains_called(name).unwrap(),
            [domain.uuid()],
            "{name}"
        );
    }
    // Another domain may have the name that is free now.
    let other = crate::DOMAIN.replace("3f2c7a90", "4f2c7a90");
    store.define_domain_xml(&other).unwrap();
    store.make_image().unwrap();
    store.release();
    let again = scratch.open();
    assert!(*again.refresh().unwrap().state() == *store.refresh().unwrap().state());
    let renamed = again.lookup_domain_by_name("web01").unwrap();
    assert!(renamed.autostart().unwrap());
    let listed = again
        .list_all_domains(momentlog::DomainListFlags::AUTOSTART)
        .unwrap();
    assert_eq!(listed.len(), 1);
    let steps: Vec<_> = again
        .history_of(domain.uuid())
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(
        steps
            .last()
            .unwrap()
            .after
            .state()
            .domain(domain.uuid())
            .unwrap()
            .name()
            .as_ref(),
        "web01"
    );
}

#[test]
fn a_reboot_and_a_reset_do_what_the_test_driver_was_seen_to_do() {
    let store = Connection::open("test:///default").unwrap();
    let domain = store.lookup_domain_by_name("test").unwrap();
    let none = ShutdownFlags::NONE;
    domain.suspend().unwrap();
    domain.reset().unwrap();
    assert_eq!(domain.state().unwrap(), (RunState::Paused, 1));
    domain.reboot(none).unwrap();
    assert_eq!(
        (domain.state().unwrap(), domain.id().unwrap()),
        ((RunState::Running, 1), Some(1))
    );
    let bits = ShutdownFlags::from_bits_retain(0x20);
    assert_eq!(told(domain.reboot(bits)).0, 8);
    domain.destroy().unwrap();
    let off = (
        55,
        20,
        "Requested operation is not valid: domain is not running".to_owned(),
    );
    assert_eq!(told(domain.reboot(none)), off);
    assert_eq!(told(domain.reset()), off);
    for (what, name, defined) in [("destroy", "a", true), ("preserve", "b", false)] {
        let xml = format!(
            "<domain type='test'><name>{name}</name><os><type>hvm</type></os><on_reboot>{what}</on_reboot></domain>"
        );
        if defined {
            store.define_domain_xml(&xml).unwrap();
        }
        let domain = store
            .create_domain_xml(&store.lookup_domain_by_name(name).map_or(xml, |domain| {
                domain.xml_desc(momentlog::DomainXmlFlags::NONE).unwrap()
            }))
            .unwrap();
        domain.reboot(none).unwrap();
        if defined {
            assert_eq!(domain.state().unwrap(), (RunState::Shutoff, 1));
        } else {
            assert_eq!(told(domain.state()).0, 42, "a transient guest is gone");
        }
    }
}

#[test]
fn the_host_of_the_test_driver_is_as_libvirt_tells_it() {
    let store = Connection::open("test:///default").unwrap();
    assert_eq!((store.type_name().as_str(), store.version()), ("TEST", 2));
    let node = store.node_info();
    assert_eq!(
        (node.model, node.memory_kib, node.cpus),
        ("i686", 3_145_728, 16)
    );
    let capabilities = store.capabilities();
    assert!(
        capabilities.contains("<domain type='test'/>"),
        "{capabilities}"
    );
    let of = |arch, kind| store.domain_capabilities(arch, kind);
    let named = of(Some("i686"), Some("test")).unwrap();
    assert_eq!(named, of(None, None).unwrap());
    assert!(named.contains("<arch>i686</arch>") && named.contains("<domain>test</domain>"));
    let refused = "invalid argument: arch '<x>' is not known";
    assert_eq!(told(of(Some("<x>"), None)), (8, 12, refused.to_owned()));
    let scratch = Scratch::new();
    assert_eq!(scratch.open().node_info().model, "x86_64");
}

#[test]
fn a_process_that_asks_over_a_socket_is_named_in_the_record() {
    let scratch = Scratch::new();
    let peer = Peer {
        uid: 1000,
        gid: 1001,
        pid: Some(4711),
        user: Some("ann".to_owned()),
        program: Some("virsh".to_owned()),
    };
    let store = scratch.open().with_provenance(peer.provenance());
    store.define_domain_xml(crate::DOMAIN).unwrap();
    let entries = store.entries(None).unwrap();
    let last = entries.last().unwrap();
    assert!(last.actor.starts_with("ann"), "{last:?}");
    let agent = last.agent.as_deref().unwrap();
    let own = Provenance::default().agent;
    assert!(
        agent.contains(" virsh (pid 4711, uid 1000, gid 1001) through "),
        "{agent}"
    );
    assert!(agent.ends_with(&*own), "{agent}");
    // Whatever a process calls itself, a record takes it.
    let long = Peer {
        pid: None,
        user: None,
        program: Some("ä".repeat(5000)),
        ..peer
    };
    let domain = store.lookup_domain_by_name("vm").unwrap();
    domain.with_provenance(long.provenance()).start().unwrap();
    let entries = store.entries(None).unwrap();
    assert!(entries.last().unwrap().actor.starts_with("uid 1000"));
}
