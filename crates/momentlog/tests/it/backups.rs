//! The XML of a backup, read and aligned with a guest's disks: code, domain and text of each refusal.

use momentlog::core::{BackupDef, DomainUuid, Refusal};
use momentlog::xml::{read_backup, read_domain};

use super::*;

const GUEST: &str = "<domain type='qemu'><name>vm</name><os><type>hvm</type></os><devices>\
    <disk type='file'><source file='/images/vda.qcow2'/><target dev='vda'/></disk>\
    <disk type='block'><source dev='/dev/b'/><target dev='vdb'/></disk>\
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk></devices></domain>";
const DISKLESS: &str = "<domain type='qemu'><name>vm</name><os><type>hvm</type></os></domain>";

/// Does what begins a backup, as far as it needs no guest.
fn begin(guest: &str, xml: &str) -> Result<BackupDef, Error> {
    let guest = read_domain(guest, || DomainUuid::from_bytes([1; 16]))?;
    let aligned = read_backup(xml)?
        .align(&guest, "5")
        .map_err(Refusal::from)?;
    aligned.check_port().map_err(Refusal::from)?;
    aligned.check_selected().map_err(Refusal::from)?;
    Ok(aligned)
}

#[test]
fn a_backup_that_makes_no_sense_is_refused_with_libvirts_numbers_and_texts() {
    for (xml, code, domain, message) in [
        (
            "<domaincheckpoint/>",
            27,
            5,
            "XML error: expecting root element of 'domainbackup', not 'domaincheckpoint'",
        ),
        (
            "<domainbackup mode=' push '/>",
            67,
            20,
            "unsupported configuration: unknown backup mode ' push '",
        ),
        (
            "<domainbackup mode='pull'><server name='h' port='65536'/></domainbackup>",
            8,
            0,
            "invalid argument: port '65536' out of range",
        ),
        (
            "<domainbackup mode='pull'><server name='h' tls=' no '/></domainbackup>",
            27,
            5,
            "XML error: Invalid value for attribute 'tls' in element 'server': ' no '.",
        ),
        (
            "<domainbackup mode='pull'><server transport='unix' socket='c:\\x'/></domainbackup>",
            27,
            20,
            "XML error: backup socket path 'c:\\x' must be absolute",
        ),
        (
            "<domainbackup><disks><disk name='vda' type=' file '/></disks></domainbackup>",
            27,
            20,
            "XML error: unknown storage source type ' file '",
        ),
        (
            "<domainbackup><disks><disk name='vda' type='file'><driver type='luks'/></disk></disks></domainbackup>",
            27,
            20,
            "XML error: unknown storage source format 'luks'",
        ),
        (
            "<domainbackup><disks><disk name='vda' type='file'><target file='/t'><seclabel model='d' relabel='no'/>\
             <seclabel model='d' relabel='no'/></target></disk></disks></domainbackup>",
            35,
            20,
            "seclabel for model d is already provided",
        ),
        (
            "<domainbackup><disks><disk name='vda' type='file'><target file='/t'><encryption format='luks'>\
             <secret type='passphrase' usage='u'/></encryption></target></disk></disks></domainbackup>",
            67,
            20,
            "unsupported configuration: encryption of what is copied from disk 'vda' is not supported",
        ),
    ] {
        let found = told(begin(GUEST, xml));
        assert_eq!(found, (code, domain, message.to_owned()), "{xml}");
    }
}

#[test]
fn a_backup_that_does_not_fit_is_refused_with_libvirts_numbers_and_texts() {
    let no = "<disk name='vda' backup='no'/>";
    for (disks, detail) in [
        ("<disk name='vdz' backup='no'/>", "no disk named 'vdz'"),
        (&no.repeat(2), "disk 'vda' specified twice"),
        ("<disk name='sda' type='file'/>", "disk 'sda' has no media"),
        (
            "<disk name='vda' type='file' backupmode='incremental'/>",
            "'incremental' backup mode of disk 'vda' requires setting 'incremental' field for disk or backup",
        ),
        (
            "<disk name='vdb' type='file'/>",
            "refusing to generate file name for disk 'vdb'",
        ),
    ] {
        let xml = format!("<domainbackup><disks>{disks}</disks></domainbackup>");
        let message = format!("unsupported configuration: {detail}");
        assert_eq!(told(begin(GUEST, &xml)), (67, 20, message), "{xml}");
    }
    let xml = format!("<domainbackup><disks>{no}</disks></domainbackup>");
    let message = "unsupported configuration: domain must have at least one disk to perform backup";
    assert_eq!(told(begin(DISKLESS, &xml)), (67, 20, message.to_owned()));
    let message = "unsupported configuration: no disks selected for backup";
    assert_eq!(told(begin(GUEST, &xml)), (67, 10, message.to_owned()));
    let xml = xml.replace(
        "<domainbackup>",
        "<domainbackup mode='pull'><server name='h'/>",
    );
    let message = "Operation not supported: <domainbackup> must specify TCP port for now";
    assert_eq!(told(begin(GUEST, &xml)), (84, 10, message.to_owned()));
}

#[test]
fn a_malformed_or_invalid_backup_is_refused_under_libvirts_numbers() {
    for (xml, code, domain, begins) in [
        ("<domainbackup", 35, 20, "(domain_backup):1: "),
        ("", 35, 20, "(domain_backup):1: "),
        (
            "<domainbackup><disks/></domainbackup>",
            92,
            5,
            "XML document failed to validate against schema: ",
        ),
        (
            "<domainbackup mode='pull'/>",
            92,
            5,
            "XML document failed to validate against schema: ",
        ),
    ] {
        let (found_code, found_domain, message) = told(begin(GUEST, xml));
        assert_eq!((found_code, found_domain), (code, domain), "{xml}");
        assert!(message.starts_with(begins), "{message}");
    }
}
