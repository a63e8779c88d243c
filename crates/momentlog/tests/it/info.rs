//! What is told of a guest, of the host, and of a process that asks over a socket.

use momentlog::core::RunState;
use momentlog::{Connection, DomainInfo, Peer, Provenance};

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
