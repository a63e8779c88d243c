//! Kinds of disk: what names one, which is empty, and what libvirt refuses in a source.

use momentlog_core::{DiskLocation, SourceKind};
use momentlog_xml::{Carry, DomainRule, Rule, SourceRule, read_snapshot};

use super::*;

fn disks(more: &str) -> Result<DomainDef, XmlError> {
    domain(&format!("<devices>{more}</devices>"))
}

#[test]
fn each_kind_of_disk_has_its_name_and_its_default() {
    use SourceKind as Kind;
    let no = Some(DiskLocation::No);
    for (xml, kind, source, empty, snapshot) in [
        (
            "<disk><source file='/a'/>",
            Kind::File,
            Some("/a"),
            false,
            None,
        ),
        ("<disk>", Kind::File, None, true, None),
        ("<disk><source/>", Kind::File, None, true, None),
        (
            "<disk device='floppy'><source file=''/>",
            Kind::File,
            None,
            true,
            None,
        ),
        (
            "<disk type='block'><source dev='/b'/>",
            Kind::Block,
            Some("/b"),
            false,
            None,
        ),
        (
            "<disk type='block' device='cdrom'>",
            Kind::Block,
            None,
            true,
            no,
        ),
        (
            "<disk type='dir'><source dir='/d'/>",
            Kind::Dir,
            Some("/d"),
            false,
            None,
        ),
        (
            "<disk type='network'><source protocol='nbd'/>",
            Kind::Network,
            None,
            false,
            None,
        ),
        (
            "<disk type='network'><source protocol='rbd' name='p/x'/>",
            Kind::Network,
            Some("p/x"),
            false,
            None,
        ),
        (
            "<disk type='network' device='cdrom'>",
            Kind::Network,
            None,
            true,
            no,
        ),
        (
            "<disk type='volume'><source pool='p' volume='v'/>",
            Kind::Volume,
            Some("p/v"),
            false,
            None,
        ),
        (
            "<disk type='nvme'><source type='pci' namespace='1'/>",
            Kind::Nvme,
            None,
            false,
            None,
        ),
        (
            "<disk type='vhostuser'><source type='unix' path='/s'/>",
            Kind::VhostUser,
            Some("/s"),
            false,
            no,
        ),
    ] {
        let def = disks(&format!("{xml}<target dev='vda'/></disk>")).unwrap();
        let disk = &def.disks[0];
        let found = (disk.kind, disk.source.as_deref(), disk.empty, disk.snapshot);
        assert_eq!(found, (kind, source, empty, snapshot), "{xml}");
        let named = source.is_some_and(|source| def.find_disk(source).is_some());
        let expected =
            source.is_some_and(|source| source.starts_with('/')) && kind != Kind::VhostUser;
        assert_eq!(named, expected, "{xml}");
    }
    let error = disks("<disk type='foo'><target dev='vda'/></disk>").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Invalid value for attribute 'type' in element 'disk': 'foo'."
    );
}

#[track_caller]
fn refused(source: &str, expected: impl Into<Rule>) {
    let expected = expected.into();
    let overlay = format!(
        "<domainsnapshot><disks><disk name='vda' type='network' snapshot='external'>{source}</disk></disks></domainsnapshot>"
    );
    let error = read_snapshot(&overlay, false, Carry::TestDriver).unwrap_err();
    assert_eq!(error.rule, expected, "{source}");
    let error = disks(&format!(
        "<disk type='network'>{source}<target dev='vda'/></disk>"
    ))
    .unwrap_err();
    assert_eq!(error.rule, expected, "{source}");
}

#[test]
fn a_source_that_libvirt_refuses_is_refused() {
    let required = Rule::Required {
        element: "source",
        attribute: "protocol",
    };
    refused("<source name='x'/>", required);
    let word = |element, attribute, value: &str| Rule::Word {
        element,
        attribute,
        value: value.to_owned(),
    };
    refused(
        "<source protocol='foo' name='x'/>",
        word("source", "protocol", "foo"),
    );
    refused(
        "<source protocol='rbd' name='x' tls='foo'/>",
        word("source", "tls", "foo"),
    );
    refused("<source protocol='rbd'/>", SourceRule::NameMissing);
    refused(
        "<source protocol='gluster' name='x'/>",
        SourceRule::VolumePath("x".into()),
    );
    let host = |host: &str| format!("<source protocol='nbd' name='x'>{host}</source>");
    refused(
        &host("<host name='h' transport='foo'/>"),
        SourceRule::Transport("foo".into()),
    );
    refused(&host("<host transport='unix'/>"), SourceRule::SocketMissing);
    refused(
        &host("<host name='h' socket='/s'/>"),
        SourceRule::SocketOf("(null)".into()),
    );
    refused(&host("<host/>"), SourceRule::HostMissing);
    refused(
        &host("<host name='h' port='foo'/>"),
        SourceRule::Port("foo".into()),
    );
    refused(
        &host("<host name='h' port='70000'/>"),
        SourceRule::PortRange("70000".into()),
    );
    refused(
        &host("<encryption format='foo'/>"),
        SourceRule::Encryption("foo".into()),
    );
    refused(&host("<encryption/>"), SourceRule::EncryptionMissing);
    refused(
        &host("<encryption format='luks'><secret type='foo'/></encryption>"),
        SourceRule::Secret("foo".into()),
    );
    refused(&host("<auth/>"), SourceRule::AuthUser);
}

/// As virsh 9.0.0 takes and refuses them.
#[test]
fn a_target_tells_its_place_or_has_an_address() {
    let disk = |dev: &str, address: &str| {
        let source = "<disk type='file' device='cdrom'><source file='/a'/>";
        disks(&format!("{source}<target dev='{dev}'/>{address}</disk>"))
    };
    for dev in [
        "vda",
        "vdaa10",
        "vda1",
        "vda01",
        "xvda",
        "ubda",
        "hdz",
        "sdab",
        "fda",
        "ioemu:hda",
    ] {
        assert_eq!(&*disk(dev, "").unwrap().disks[0].target, dev);
    }
    let address = "<address type='drive' controller='0' bus='0' target='0' unit='0'/>";
    for dev in [
        "foo", "vd", "vdA", "vda1x", "sd_a", "hda/", " vda", "", "ioemu:", "vd1",
    ] {
        let error = disk(dev, "").unwrap_err();
        assert_eq!(error.rule, DomainRule::DiskName(dev.into()).into());
        assert_eq!(
            error.to_string(),
            format!("Unknown disk name '{dev}' and no address specified")
        );
        assert_eq!(&*disk(dev, address).unwrap().disks[0].target, dev);
    }
}

/// As the real virsh shows them.
#[test]
fn a_list_of_disks_has_the_order_of_the_definition() {
    let def = disks(
        "<disk type='block'><source dev='/dev/vg/a'/><target dev='sda' bus='scsi'/></disk>\
         <disk><source file='/i/b'/><target dev='sdb' bus='usb'/></disk>\
         <disk><source file='/i/c'/><target dev='sdc'/></disk>\
         <disk><source file='/i/d'/><target dev='vda'/></disk>\
         <disk type='network'><source protocol='iscsi' name='iqn:x'/><target dev='vdb'/></disk>\
         <disk type='volume'><source pool='p' volume='v'/><target dev='vdc'/></disk>\
         <disk type='block' device='cdrom'><target dev='hda'/></disk>\
         <disk type='nvme'><source type='pci' namespace='1'><address domain='0x0000' bus='0x01' slot='0x0a' function='0x0'/></source><target dev='vdd' bus='virtio'/></disk>\
         <disk type='vhostuser'><source type='unix' path='/s'/><target dev='vde' bus='virtio'/></disk>\
         <disk type='dir' device='floppy'><source dir='/d'/><target dev='fda'/></disk>",
    )
    .unwrap();
    let rows: Vec<String> = momentlog_xml::disk_details(&def)
        .iter()
        .map(|row| row.join(" "))
        .collect();
    assert_eq!(
        rows,
        [
            "block disk sda /dev/vg/a",
            "file disk sdb /i/b",
            "file disk vda /i/d",
            "file cdrom hda -",
            "dir floppy fda /d",
            "network disk vdb iqn:x/0",
            "file disk sdc /i/c",
            "volume disk vdc v",
            "nvme disk vdd nvme://0000:01:0a.0/1",
            "vhostuser disk vde /s",
        ]
    );
    let order: Vec<&str> = def.disks.iter().map(|disk| &*disk.target).collect();
    assert_eq!(
        order,
        [
            "sda", "sdc", "sdb", "vda", "vdb", "vdc", "vdd", "vde", "hda", "fda"
        ]
    );
}
