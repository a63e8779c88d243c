//! Any text as XML.

use momentlog::core::{DomainDef, DomainDisk, DomainUuid, MomentName, Relabel, SourceKind};
use momentlog::xml::{
    Carry, CheckpointView, RecentDomain, SnapshotView, backup_fits, read_backup, read_checkpoint,
    read_checkpoint_redefine, read_domain, read_snapshot, read_snapshot_redefine, write_backup,
    write_checkpoint, write_domain, write_snapshot,
};

const FRESH: DomainUuid = DomainUuid::from_bytes([0xf5; 16]);

/// Reads any text as each kind of snapshot XML; what was read is written and read back the same.
///
/// # Panics
///
/// If one of these does not hold.
pub fn snapshot_xml(text: &str) {
    recent_domain(text);
    for validate in [false, true] {
        let _ = read_snapshot(text, validate, Carry::Everything);
        let Ok(read) = read_snapshot_redefine(
            text,
            validate,
            Carry::Everything,
            &RecentDomain::default(),
            || FRESH,
        ) else {
            continue;
        };
        let view = SnapshotView {
            name: &read.name,
            parent: read.parent.as_ref(),
            created: read.created,
            def: &read.def,
            domain: FRESH,
        };
        let written = write_snapshot(view, true);
        let again = match read_snapshot_redefine(
            &written,
            false,
            Carry::Everything,
            &RecentDomain::default(),
            || FRESH,
        ) {
            Ok(again) => again,
            // libvirt writes no time 0, and reads none back.
            Err(_) if read.created == 0 => continue,
            Err(error) => panic!("{error}: {written}"),
        };
        assert_eq!(normal(&again.name), normal(&read.name), "{written}");
        assert_eq!(
            (again.def.domain, again.def.state),
            (read.def.domain, read.def.state),
            "{written}"
        );
        assert_eq!(again.created, read.created, "{written}");
    }
}

/// Reads any text as each kind of checkpoint XML; what was read is written and read back the same.
///
/// # Panics
///
/// If one of these does not hold.
pub fn checkpoint_xml(text: &str) {
    recent_domain(text);
    let _ = read_checkpoint(text);
    let Ok(read) = read_checkpoint_redefine(text, &RecentDomain::default(), || FRESH) else {
        return;
    };
    let view = CheckpointView {
        name: &read.name,
        parent: read.parent.as_ref(),
        created: read.created,
        def: &read.def,
        sizes: None,
    };
    let written = write_checkpoint(view, true, true);
    match read_checkpoint_redefine(&written, &RecentDomain::default(), || FRESH) {
        Ok(again) => {
            assert_eq!(
                (&again.name, &again.parent),
                (&read.name, &read.parent),
                "{written}"
            );
            assert_eq!(again.def.domain, read.def.domain, "{written}");
        }
        Err(_) if read.created == 0 => {}
        Err(error) => panic!("{error}: {written}"),
    }
}

/// Reads any text as the XML of a backup. As it was read, and aligned with a domain, it is written and read back the same;
/// aligning it once more changes nothing.
///
/// # Panics
///
/// If one of these does not hold.
pub fn backup_xml(text: &str) {
    let Ok(read) = read_backup(text) else {
        return;
    };
    let domain = guest();
    let mut defs = vec![read.clone()];
    if let Ok(aligned) = read.align(&domain, "5") {
        assert_eq!(aligned.align(&domain, "6").as_ref(), Ok(&aligned), "{text}");
        defs.push(aligned);
    }
    let unlabelled = |relabel: &Relabel| matches!(relabel, Relabel::To(label) if label.is_empty());
    for def in defs.iter().filter(|def| backup_fits(def).is_ok()) {
        let written = write_backup(def);
        let mut labels = def.disks.iter().flat_map(|disk| &disk.labels);
        match read_backup(&written) {
            Ok(again) => assert_eq!(one_line(&write_backup(&again)), one_line(&written)),
            // libvirt prints an empty label as none, and takes none back.
            Err(_) if labels.any(|label| unlabelled(&label.relabel)) => {}
            Err(error) => panic!("{error}: {written}"),
        }
    }
}

/// A domain with two images and an empty drive.
fn guest() -> DomainDef {
    let disk = |target: &str, source: Option<&str>| DomainDisk {
        target: target.into(),
        kind: SourceKind::File,
        source: source.map(Into::into),
        empty: source.is_none(),
        format: None,
        readonly: source.is_none(),
        snapshot: None,
    };
    DomainDef {
        name: "d".into(),
        uuid: FRESH,
        memory_kib: 0,
        disks: vec![
            disk("vda", Some("/a")),
            disk("vdb", Some("/b")),
            disk("sda", None),
        ],
        xml: "<domain/>\n".into(),
    }
}

/// A text after a reader's line ends and its blanks for line breaks in attributes, which libvirt does not escape.
fn one_line(text: &str) -> String {
    text.replace("\r\n", " ").replace(['\r', '\n', '\t'], " ")
}

/// Reads a text and what differs from it in one thing as moments, one after the other, with the domain of the one before
/// at hand: that changes nothing.
fn recent_domain(text: &str) {
    if !text.contains("</domain>") {
        return;
    }
    let other_root = |from: &str, to: &str| {
        text.replacen(from, to, 1)
            .replace(&format!("/{from}"), &format!("/{to}"))
    };
    let texts = [
        text.to_owned(),
        text.to_owned(),
        other_root("domainsnapshot", "domaincheckpoint"),
        other_root("domaincheckpoint", "domainsnapshot"),
        text.replacen("<name>", "<domain type='kvm'/><name>", 1),
        text.replacen("</domain>", "<a/></domain>", 1),
        text.replacen("<domain ", "<!--<domain ", 1),
        text.replacen("snapshot>", "snapshot xmlns='a'>", 1),
        text.replacen("checkpoint>", "checkpoint xmlns:a='a'>", 1),
        text.to_owned(),
    ];
    let recent = RecentDomain::default();
    for text in &texts {
        for validate in [false, true] {
            let with = read_snapshot_redefine(text, validate, Carry::Everything, &recent, || FRESH);
            let without = read_snapshot_redefine(
                text,
                validate,
                Carry::Everything,
                &RecentDomain::default(),
                || FRESH,
            );
            assert_eq!(with, without, "{text}");
        }
        let with = read_checkpoint_redefine(text, &recent, || FRESH);
        let without = read_checkpoint_redefine(text, &RecentDomain::default(), || FRESH);
        assert_eq!(with, without, "{text}");
    }
}

/// Reads any text as a domain; its canonical text is a fixed point, and shows no secret unless asked.
///
/// # Panics
///
/// If one of these does not hold.
pub fn domain_xml(text: &str) {
    let Ok(read) = read_domain(text, || FRESH) else {
        return;
    };
    let again = read_domain(&read.xml, || FRESH);
    assert_eq!(again.as_ref(), Ok(&read), "{}", read.xml);
    let open = write_domain(&read, Some(7), false);
    assert!(read_domain(&open, || FRESH).is_ok(), "{open}");
}

/// A name after a reader's line ends: CR comes back as LF.
fn normal(name: &MomentName) -> String {
    name.as_str().replace("\r\n", "\n").replace('\r', "\n")
}
