//! What a backup's XML says, and what libvirt 9.0.0 printed of it.

use std::num::NonZeroU16;
use std::sync::Arc;

use momentlog_core::{
    BackupDef, BackupDisk, BackupExtent, BackupMode, BackupServer, Relabel, SecurityLabel,
    SourceKind,
};
use momentlog_xml::{XML_AROUND_LEN_MAX, backup_fits, read_backup, write_backup};

use super::*;

const SERVER: &str = "<server transport='unix' socket='/images/nbd.sock'/>";

fn pull(inside: &str) -> String {
    format!("<domainbackup mode='pull'>\n{SERVER}{inside}</domainbackup>")
}

/// A domain of images, among them a raw one, and an image in a drive.
fn mixed() -> DomainDef {
    let disk = |target: &str, format: &str, more: &str| {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='{format}'/>\
             <source file='/images/{target}.{format}'/><target dev='{target}' bus='virtio'/>{more}</disk>"
        )
    };
    let disks = [
        disk("vda", "qcow2", ""),
        disk("vdb", "raw", ""),
        disk("vdc", "qcow2", ""),
    ];
    let drive = "<disk type='file' device='cdrom'><source file='/images/sda.raw'/><target dev='sda' bus='sata'/><readonly/></disk>";
    domain(&format!("<devices>{}{drive}</devices>", disks.concat())).unwrap()
}

/// A domain of two images.
fn two() -> DomainDef {
    let mut def = mixed();
    def.disks
        .retain(|disk| matches!(&*disk.target, "vda" | "vdb"));
    def
}

/// Reads a backup, aligns it, numbers the images of its disks from `index` on, and writes it.
fn begun(domain: &DomainDef, xml: &str, index: u32) -> String {
    let mut def = read_backup(xml)
        .unwrap()
        .align(domain, "1795785492")
        .unwrap();
    assert_eq!(read_backup(&write_backup(&def)).as_ref(), Ok(&def));
    let copied = def.disks.iter_mut().filter(|disk| disk.backup);
    for (index, disk) in (index..).zip(copied) {
        disk.index = Some(index);
    }
    write_backup(&def)
}

/// Guest, number of the first image that is made, the XML of a pull backup and what libvirt printed of it: from the recorded
/// traces of its qemu driver.
type Recorded = (fn() -> DomainDef, u32, &'static str, &'static str);

const RECORDED: [Recorded; 6] = [
    (
        two,
        5,
        "<domainbackup mode='pull'><server transport='unix' socket='/images/nbd66.sock'/>\
         <disks><disk name='vda' type='file'><scratch file='/images/scratch10-vda.qcow2'/><driver type='qcow2'/></disk>\
         <disk name='vdb' type='file'><scratch file='/images/scratch11-vdb.qcow2'/><driver type='qcow2'/></disk></disks></domainbackup>",
        "<domainbackup mode='pull'>
  <server transport='unix' socket='/images/nbd66.sock'/>
  <disks>
    <disk name='vda' backup='yes' type='file' backupmode='full' exportname='vda' index='5'>
      <driver type='qcow2'/>
      <scratch file='/images/scratch10-vda.qcow2'/>
    </disk>
    <disk name='vdb' backup='yes' type='file' backupmode='full' exportname='vdb' index='6'>
      <driver type='qcow2'/>
      <scratch file='/images/scratch11-vdb.qcow2'/>
    </disk>
  </disks>
</domainbackup>
",
    ),
    (
        mixed,
        11,
        "<domainbackup mode='pull'><server transport='unix' socket='/images/nbd25.sock'/>\
         <disks><disk name='vda' type='file'><scratch file='/images/scratch3-vda.qcow2'/><driver type='qcow2'/></disk>\
         <disk name='vdb' type='file'><scratch file='/images/scratch4-vdb.qcow2'/><driver type='qcow2'/></disk>\
         <disk name='vdc' backup='no'/></disks></domainbackup>",
        "<domainbackup mode='pull'>
  <server transport='unix' socket='/images/nbd25.sock'/>
  <disks>
    <disk name='vda' backup='yes' type='file' backupmode='full' exportname='vda' index='11'>
      <driver type='qcow2'/>
      <scratch file='/images/scratch3-vda.qcow2'/>
    </disk>
    <disk name='vdb' backup='yes' type='file' backupmode='full' exportname='vdb' index='12'>
      <driver type='qcow2'/>
      <scratch file='/images/scratch4-vdb.qcow2'/>
    </disk>
    <disk name='vdc' backup='no'/>
    <disk name='sda' backup='no'/>
  </disks>
</domainbackup>
",
    ),
    (
        two,
        5,
        "<domainbackup mode='pull'><incremental>c3</incremental><server transport='unix' socket='/images/nbd15.sock'/>\
         <disks><disk name='vda' type='file'><scratch file='/images/scratch6-vda.qcow2'/><driver type='qcow2'/></disk>\
         <disk name='vdb' type='file'><scratch file='/images/scratch7-vdb.qcow2'/><driver type='qcow2'/></disk></disks></domainbackup>",
        "<domainbackup mode='pull'>
  <incremental>c3</incremental>
  <server transport='unix' socket='/images/nbd15.sock'/>
  <disks>
    <disk name='vda' backup='yes' type='file' backupmode='incremental' incremental='c3' exportname='vda' exportbitmap='backup-vda' index='5'>
      <driver type='qcow2'/>
      <scratch file='/images/scratch6-vda.qcow2'/>
    </disk>
    <disk name='vdb' backup='yes' type='file' backupmode='incremental' incremental='c3' exportname='vdb' exportbitmap='backup-vdb' index='6'>
      <driver type='qcow2'/>
      <scratch file='/images/scratch7-vdb.qcow2'/>
    </disk>
  </disks>
</domainbackup>
",
    ),
    (
        two,
        7,
        "<domainbackup mode='pull'><server transport='unix' socket='/images/nbd48.sock'/>\
         <disks><disk name='vda' backup='no'/><disk name='vdb' type='file'><scratch file='/images/scratch20-vdb.qcow2'/><driver type='qcow2'/></disk></disks></domainbackup>",
        "<domainbackup mode='pull'>
  <server transport='unix' socket='/images/nbd48.sock'/>
  <disks>
    <disk name='vda' backup='no'/>
    <disk name='vdb' backup='yes' type='file' backupmode='full' exportname='vdb' index='7'>
      <driver type='qcow2'/>
      <scratch file='/images/scratch20-vdb.qcow2'/>
    </disk>
  </disks>
</domainbackup>
",
    ),
    (
        two,
        7,
        "<domainbackup mode='pull'><incremental>b7</incremental><server transport='unix' socket='/images/nbd30.sock'/>\
         <disks><disk name='vda' backup='no'/><disk name='vdb' type='file'><scratch file='/images/scratch5-vdb.qcow2'/><driver type='qcow2'/></disk></disks></domainbackup>",
        "<domainbackup mode='pull'>
  <incremental>b7</incremental>
  <server transport='unix' socket='/images/nbd30.sock'/>
  <disks>
    <disk name='vda' backup='no'/>
    <disk name='vdb' backup='yes' type='file' backupmode='incremental' incremental='b7' exportname='vdb' exportbitmap='backup-vdb' index='7'>
      <driver type='qcow2'/>
      <scratch file='/images/scratch5-vdb.qcow2'/>
    </disk>
  </disks>
</domainbackup>
",
    ),
    (
        mixed,
        11,
        "<domainbackup mode='pull'><incremental>b35</incremental><server transport='unix' socket='/images/nbd74.sock'/>\
         <disks><disk name='vda' type='file'><scratch file='/images/scratch30-vda.qcow2'/><driver type='qcow2'/></disk>\
         <disk name='vdb' type='file'><scratch file='/images/scratch31-vdb.qcow2'/><driver type='qcow2'/></disk>\
         <disk name='vdc' backup='no'/></disks></domainbackup>",
        "<domainbackup mode='pull'>
  <incremental>b35</incremental>
  <server transport='unix' socket='/images/nbd74.sock'/>
  <disks>
    <disk name='vda' backup='yes' type='file' backupmode='incremental' incremental='b35' exportname='vda' exportbitmap='backup-vda' index='11'>
      <driver type='qcow2'/>
      <scratch file='/images/scratch30-vda.qcow2'/>
    </disk>
    <disk name='vdb' backup='yes' type='file' backupmode='incremental' incremental='b35' exportname='vdb' exportbitmap='backup-vdb' index='12'>
      <driver type='qcow2'/>
      <scratch file='/images/scratch31-vdb.qcow2'/>
    </disk>
    <disk name='vdc' backup='no'/>
    <disk name='sda' backup='no'/>
  </disks>
</domainbackup>
",
    ),
];

#[test]
fn a_backup_is_printed_as_libvirt_printed_it() {
    for (domain, index, xml, expected) in RECORDED {
        assert_eq!(begun(&domain(), xml, index), expected, "{xml}");
    }
}

/// As the same libvirt printed them when asked for each attribute and element.
#[test]
fn each_part_of_a_backup_is_printed_as_libvirt_prints_it() {
    let rows = [
        (
            "<domainbackup/>",
            "<domainbackup mode='push'>
  <disks>
    <disk name='vda' backup='yes' type='file' backupmode='full' index='3'>
      <driver type='qcow2'/>
      <target file='/images/vda.qcow2.1795785492'/>
    </disk>
    <disk name='vdb' backup='yes' type='file' backupmode='full' index='4'>
      <driver type='qcow2'/>
      <target file='/images/vdb.raw.1795785492'/>
    </disk>
  </disks>
</domainbackup>
",
        ),
        (
            "<domainbackup mode='pull'><server tls='no' port='010809' name='localhost'/><disks>\
             <disk name='vdb' exportname='' exportbitmap='e&amp;'><scratch file='/t'/></disk></disks></domainbackup>",
            "<domainbackup mode='pull'>
  <server transport='tcp' tls='no' name='localhost' port='10809'/>
  <disks>
    <disk name='vdb' backup='yes' type='file' backupmode='full' exportname='' exportbitmap='e&amp;' index='3'>
      <driver type='qcow2'/>
      <scratch file='/t'/>
    </disk>
    <disk name='vda' backup='no'/>
  </disks>
</domainbackup>
",
        ),
        (
            "<domainbackup><incremental>c1</incremental><disks><disk name='vda' type='file' backupmode='full'>\
             <driver type='raw'/><target file='/a'><seclabel model='dac'><label>+0:+0</label></seclabel>\
             <seclabel model='selinux' labelskip='yes'/><seclabel relabel='no'/></target></disk>\
             <disk name='vdb' type='block' incremental='c2'><target dev='/dev/b'/></disk></disks></domainbackup>",
            "<domainbackup mode='push'>
  <incremental>c1</incremental>
  <disks>
    <disk name='vda' backup='yes' type='file' backupmode='full' index='3'>
      <driver type='raw'/>
      <target file='/a'>
        <seclabel model='dac' relabel='yes'>
          <label>+0:+0</label>
        </seclabel>
        <seclabel model='selinux' labelskip='yes'/>
        <seclabel relabel='no'/>
      </target>
    </disk>
    <disk name='vdb' backup='yes' type='block' backupmode='incremental' incremental='c2' index='4'>
      <driver type='qcow2'/>
      <target dev='/dev/b'/>
    </disk>
  </disks>
</domainbackup>
",
        ),
    ];
    for (xml, expected) in rows {
        assert_eq!(begun(&two(), xml, 3), expected, "{xml}");
    }
}

#[test]
fn a_disk_that_is_not_copied_says_nothing_else() {
    let xml = pull(
        "<disks><disk name='vda' backup='no' backupmode=' full ' exportname='e' exportbitmap='b'/></disks>",
    );
    let def = read_backup(&xml).unwrap();
    assert_eq!(def.disks, [BackupDisk::new("vda".into(), false)]);
}

/// Every backup that these parts can make reads as it was written, before and after it is aligned.
#[test]
fn what_is_written_of_a_backup_reads_the_same() {
    let text = |text: &str| Some(Arc::from(text));
    let servers = [
        BackupServer::Tcp {
            name: "h".into(),
            port: None,
            tls: None,
        },
        BackupServer::Tcp {
            name: "::1".into(),
            port: NonZeroU16::new(1),
            tls: Some(true),
        },
        BackupServer::Unix {
            socket: "/s'<".into(),
            tls: Some(false),
        },
    ];
    let extents = [
        (None, None),
        (None, text("c")),
        (Some(BackupExtent::Full), None),
        (Some(BackupExtent::Incremental), text("c > d")),
    ];
    let labels = [
        vec![],
        vec![
            SecurityLabel {
                model: None,
                relabel: Relabel::No,
            },
            SecurityLabel {
                model: text("dac"),
                relabel: Relabel::To("a\n b&".into()),
            },
            SecurityLabel {
                model: text(""),
                relabel: Relabel::Skip,
            },
        ],
    ];
    let mut checked = 0;
    for server in std::iter::once(None).chain(servers.map(Some)) {
        let mode = match server {
            None => BackupMode::Push,
            Some(_) => BackupMode::Pull,
        };
        let export = |name: &str| text(name).filter(|_| mode == BackupMode::Pull);
        for (extent, incremental) in &extents {
            for labels in &labels {
                for (kind, all) in [(SourceKind::File, None), (SourceKind::Block, text("a"))] {
                    let disk = BackupDisk {
                        kind: Some(kind),
                        extent: *extent,
                        incremental: incremental.clone(),
                        export_name: export("e \u{e4}"),
                        export_bitmap: export(""),
                        format: text("qcow2"),
                        destination: text("/d\"&"),
                        labels: labels.clone(),
                        ..BackupDisk::new("vdb".into(), true)
                    };
                    let given = BackupDef {
                        mode,
                        incremental: all,
                        server: server.clone(),
                        disks: vec![disk, BackupDisk::new("vda".into(), false)],
                    };
                    let aligned = given.align(&mixed(), "5").unwrap();
                    for def in [given, aligned] {
                        let written = write_backup(&def);
                        assert_eq!(read_backup(&written).as_ref(), Ok(&def), "{written}");
                        checked += 1;
                    }
                }
            }
        }
    }
    assert_eq!(checked, 128);
}

#[test]
fn a_backup_is_as_long_as_it_can_be_written() {
    let named = |length: usize| {
        let name = "e".repeat(length);
        let xml = format!("<disks><disk name='vda' exportname='{name}'/></disks>");
        read_backup(&pull(&xml))
    };
    let longest = named(XML_AROUND_LEN_MAX - 2048).unwrap();
    let written = write_backup(&longest.align(&two(), "5").unwrap());
    assert_eq!(read_backup(&written).map(|def| def.disks.len()), Ok(2));
    let error = named(XML_AROUND_LEN_MAX - 512).unwrap_err();
    assert_eq!(at(&error), "1:1 the backup takes more than 4194304 bytes");
    let error = named(XML_AROUND_LEN_MAX).unwrap_err();
    assert!(error.to_string().contains("is longer than"), "{error}");
    let suffix = "s".repeat(XML_AROUND_LEN_MAX);
    let aligned = read_backup(&pull("")).unwrap().align(&two(), &suffix);
    assert!(backup_fits(&aligned.unwrap()).is_err());
}
