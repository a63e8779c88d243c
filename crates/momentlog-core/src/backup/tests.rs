use super::*;
use crate::DomainUuid;

fn domain(disks: &[DomainDisk]) -> DomainDef {
    DomainDef {
        name: "vm".into(),
        uuid: DomainUuid::from_bytes([7; 16]),
        memory_kib: 65_536,
        disks: disks.to_vec(),
        xml: "<domain/>\n".into(),
    }
}

fn file(target: &str) -> DomainDisk {
    DomainDisk {
        target: target.into(),
        kind: SourceKind::File,
        source: Some(format!("/images/{target}.qcow2").into()),
        empty: false,
        format: Some("qcow2".into()),
        readonly: false,
        snapshot: None,
    }
}

fn readonly(target: &str) -> DomainDisk {
    DomainDisk {
        readonly: true,
        ..file(target)
    }
}

fn empty(target: &str) -> DomainDisk {
    DomainDisk {
        source: None,
        empty: true,
        ..readonly(target)
    }
}

fn block(target: &str) -> DomainDisk {
    DomainDisk {
        kind: SourceKind::Block,
        ..file(target)
    }
}

fn backup(mode: BackupMode, incremental: Option<&str>, disks: &[BackupDisk]) -> BackupDef {
    BackupDef {
        mode,
        incremental: incremental.map(Arc::from),
        server: None,
        disks: disks.to_vec(),
    }
}

fn yes(name: &str) -> BackupDisk {
    BackupDisk::new(name.into(), true)
}

fn no(name: &str) -> BackupDisk {
    BackupDisk::new(name.into(), false)
}

fn since(name: &str, extent: Option<BackupExtent>, checkpoint: Option<&str>) -> BackupDisk {
    BackupDisk {
        extent,
        incremental: checkpoint.map(Arc::from),
        ..yes(name)
    }
}

/// What is said of the disks of an aligned backup: name, extent and destination.
fn said(def: &BackupDef) -> Vec<String> {
    let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
    let disk = |disk: &BackupDisk| match disk.extent {
        None => format!("{} no", disk.name),
        Some(_) => {
            let (since, path) = (text(&disk.incremental), text(&disk.destination));
            format!("{} since {since} to {path}", disk.name)
        }
    };
    def.disks.iter().map(disk).collect()
}

#[test]
fn disks_that_are_not_listed_follow_and_are_copied_only_if_none_is() {
    let domain = domain(&[file("vda"), file("vdb"), readonly("vdc"), empty("sda")]);
    for (listed, expected) in [
        (
            vec![],
            vec![
                "vda since - to /images/vda.qcow2.5",
                "vdb since - to /images/vdb.qcow2.5",
                "vdc no",
                "sda no",
            ],
        ),
        (
            vec![yes("vdc"), no("sda"), yes("vda")],
            vec![
                "vdc since - to /images/vdc.qcow2.5",
                "sda no",
                "vda since - to /images/vda.qcow2.5",
                "vdb no",
            ],
        ),
        (
            vec![no("vdb")],
            vec!["vdb no", "vda no", "vdc no", "sda no"],
        ),
    ] {
        let aligned = backup(BackupMode::Push, None, &listed).align(&domain, "5");
        assert_eq!(said(&aligned.unwrap()), expected, "{listed:?}");
    }
}

#[test]
fn a_disk_is_copied_since_its_own_checkpoint_or_that_of_all() {
    use BackupExtent::{Full, Incremental};
    let domain = domain(&[file("vda")]);
    for (all, disk, expected) in [
        (None, since("vda", None, None), "-"),
        (None, since("vda", None, Some("c")), "c"),
        (None, since("vda", Some(Incremental), Some("c")), "c"),
        (Some("a"), since("vda", None, None), "a"),
        (Some("a"), since("vda", Some(Incremental), None), "a"),
        (Some("a"), since("vda", None, Some("c")), "c"),
        (Some("a"), since("vda", Some(Full), None), "-"),
    ] {
        let aligned =
            backup(BackupMode::Pull, all, std::slice::from_ref(&disk)).align(&domain, "5");
        let aligned = &aligned.unwrap().disks[0];
        let found = aligned.incremental.as_deref().unwrap_or("-");
        assert_eq!(found, expected, "{all:?} {disk:?}");
        let bitmap = aligned.export_bitmap.as_deref();
        assert_eq!(
            bitmap,
            (expected != "-").then_some("backup-vda"),
            "{disk:?}"
        );
    }
}

#[test]
fn a_pull_backup_exports_each_disk_and_a_push_backup_none() {
    let domain = domain(&[file("vda"), file("vdb")]);
    let named = BackupDisk {
        export_name: Some("e".into()),
        export_bitmap: Some("b".into()),
        ..yes("vda")
    };
    let exports = |mode| {
        let aligned = backup(mode, Some("c"), &[named.clone(), yes("vdb")]).align(&domain, "5");
        let disks = aligned.unwrap().disks.into_iter();
        disks
            .map(|disk| (disk.export_name, disk.export_bitmap))
            .collect::<Vec<_>>()
    };
    let some = |text: &str| Some(Arc::from(text));
    let expected = [(some("e"), some("b")), (some("vdb"), some("backup-vdb"))];
    assert_eq!(exports(BackupMode::Pull), expected);
    assert_eq!(exports(BackupMode::Push), [(None, None), (None, None)]);
}

#[test]
fn a_backup_that_does_not_fit_is_refused_by_the_first_rule_that_it_breaks() {
    let domain = domain(&[file("vda"), block("vdb"), empty("sda")]);
    let incremental = |name| since(name, Some(BackupExtent::Incremental), None);
    let to_block = BackupDisk {
        kind: Some(SourceKind::Block),
        ..yes("vda")
    };
    for (listed, expected) in [
        (vec![no("vdz")], "no disk named 'vdz'"),
        (
            vec![no("/images/vda.qcow2")],
            "no disk named '/images/vda.qcow2'",
        ),
        (vec![no("vda"), no("vda")], "disk 'vda' specified twice"),
        (
            vec![incremental("vda"), no("vdz")],
            "'incremental' backup mode of disk 'vda' requires setting 'incremental' field for disk or backup",
        ),
        (
            vec![incremental("sda")],
            "'incremental' backup mode of disk 'sda' requires setting 'incremental' field for disk or backup",
        ),
        (vec![yes("sda"), no("vdz")], "disk 'sda' has no media"),
        (
            vec![yes("vdb")],
            "refusing to generate file name for disk 'vdb'",
        ),
        (
            vec![to_block],
            "refusing to generate file name for disk 'vda'",
        ),
        (vec![], "refusing to generate file name for disk 'vdb'"),
    ] {
        let refused = backup(BackupMode::Push, None, &listed).align(&domain, "5");
        assert_eq!(refused.unwrap_err().to_string(), expected, "{listed:?}");
    }
    let refused = backup(BackupMode::Push, None, &[no("vda")]).align(&self::domain(&[]), "5");
    assert_eq!(
        refused.unwrap_err().to_string(),
        "domain must have at least one disk to perform backup"
    );
}

#[test]
fn a_backup_needs_a_disk_and_a_port() {
    let mut def = backup(BackupMode::Pull, None, &[no("vda"), yes("vdb")]);
    assert_eq!((def.check_selected(), def.check_port()), (Ok(()), Ok(())));
    def.disks.pop();
    assert_eq!(def.check_selected(), Err(BackupRefused::NoneSelected));
    for (port, expected) in [
        (None, Err(BackupRefused::PortMissing)),
        (NonZeroU16::new(10_809), Ok(())),
    ] {
        def.server = Some(BackupServer::Tcp {
            name: "localhost".into(),
            port,
            tls: None,
        });
        assert_eq!(def.check_port(), expected);
    }
}

#[test]
fn aligning_once_more_changes_nothing() {
    let domain = domain(&[file("vda"), file("vdb"), readonly("vdc"), empty("sda")]);
    for listed in [vec![], vec![yes("vdb"), no("sda")], vec![no("vda")]] {
        for all in [None, Some("c")] {
            for mode in [BackupMode::Push, BackupMode::Pull] {
                let once = backup(mode, all, &listed).align(&domain, "5").unwrap();
                assert_eq!(once.align(&domain, "6"), Ok(once.clone()), "{listed:?}");
            }
        }
    }
}
