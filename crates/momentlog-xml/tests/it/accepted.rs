//! What is taken, though it looks odd, because libvirt takes it.

use super::*;

#[test]
fn a_domain_without_a_uuid_gets_one() {
    let def = domain("").unwrap();
    assert_eq!(def.uuid, FRESH);
    assert!(
        def.xml.contains(&format!("  <uuid>{FRESH}</uuid>\n")),
        "{}",
        def.xml
    );
    let uuid = DomainUuid::from_bytes([7; 16]);
    let def = domain(&format!("<uuid>{uuid}</uuid>")).unwrap();
    assert_eq!(def.uuid, uuid);
}

#[test]
fn a_uuid_is_read_as_libvirt_reads_it() {
    let uuid: DomainUuid = "28280000-0000-4000-8000-000000000001".parse().unwrap();
    for (text, expected) in [
        ("", Some(FRESH)),
        ("<!-- none -->", Some(FRESH)),
        (" 28280000-0000-4000-8000-000000000001\n", Some(uuid)),
        ("&#9;28280000000040008000000000000001&#13; ", Some(uuid)),
        ("2828 0000-0000-4000-8000-000000000001", Some(uuid)),
        ("28-280000-0000-4000-8000-000000000001", Some(uuid)),
        ("28280000--0000-4000-8000-000000000001", Some(uuid)),
        (" - 28280000000040008000000000000001", Some(uuid)),
        ("--28280000-0000-4000-8000-000000000001", Some(uuid)),
        (" ", None),
        ("2-8280000-0000-4000-8000-000000000001", None),
        ("28280000-0000-4000-8000-000000000001-", None),
        ("28280000-0000-4000-8000-000000000001x", None),
        ("28280000-0000-4000-8000-00000000000", None),
        ("28280000\n-0000-4000-8000-000000000001", None),
        ("\u{e9}8280000-0000-4000-8000-000000000001", None),
    ] {
        let read = domain(&format!("<uuid>{text}</uuid>"));
        let found = read.as_ref().ok().map(|def| def.uuid);
        assert_eq!(found, expected, "{text:?}");
        let Ok(def) = read else { continue };
        // It is written as libvirt writes it, once.
        assert_eq!(def.xml.matches("<uuid>").count(), 1, "{}", def.xml);
        let again = read_domain(&def.xml, || unreachable!("the text has a uuid")).unwrap();
        assert_eq!(again, def, "{text:?}");
    }
    let twice = domain(&format!("<uuid/><uuid>{uuid}</uuid>")).unwrap();
    assert_eq!((twice.uuid, twice.xml.matches("<uuid").count()), (FRESH, 1));
}

#[test]
fn a_boot_loader_of_the_host_needs_no_os_type() {
    let read = |more: &str| {
        let xml = format!("<domain type='xen'><name>d</name>{more}</domain>");
        read_domain(&xml, || FRESH).map_err(|error| error.rule.to_string())
    };
    let missing = Err("an os <type> must be specified".to_owned());
    for taken in [
        "<bootloader>/usr/bin/pygrub</bootloader>",
        "<bootloader>/x</bootloader><os><kernel>/k</kernel></os>",
    ] {
        assert!(read(taken).is_ok(), "{taken}");
    }
    for refused in [
        "",
        "<bootloader/>",
        "<bootloader_args>x</bootloader_args>",
        "<os><type/></os>",
    ] {
        assert_eq!(read(refused), missing, "{refused}");
    }
}

#[test]
fn a_memory_without_a_unit_is_in_kib() {
    for (memory, expected) in [
        ("<memory>65536</memory>", Some(65536)),
        ("<memory unit=''>65536</memory>", Some(65536)),
        ("<memory unit='mIb'>1</memory>", Some(1024)),
        ("<memory unit='MB'>1</memory>", Some(977)),
        ("<memory unit='byte'>1025</memory>", Some(2)),
        ("<memory unit=' '>65536</memory>", None),
        ("<memory unit='KiB '>65536</memory>", None),
        ("<memory unit='y'>1</memory>", None),
    ] {
        let found = domain(memory).ok().map(|def| def.memory_kib);
        assert_eq!(found, expected, "{memory}");
    }
}
