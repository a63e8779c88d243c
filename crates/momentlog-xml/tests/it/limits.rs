//! Whatever is accepted can be written, and what is written can be read again.

use std::sync::Arc;

use momentlog_core::{
    CheckpointDef, CheckpointDisk, DiskTracking, Memory, MomentName, RunState, SnapshotDef,
    SnapshotState,
};
use momentlog_xml::{
    Carry, RecentDomain, SnapshotView, XML_AROUND_LEN_MAX, XML_DEPTH_MAX, XML_ELEMENTS_MAX,
    XML_LEN_MAX, checkpoint_fits, names_fit, read_snapshot_redefine, write_snapshot,
};

use super::*;

/// Dumps a snapshot of a guest whose definition of the next start is as large, and reads it.
fn put_back(def: &DomainDef, description: &str) -> Result<SnapshotDef, XmlError> {
    let domain = Arc::new(def.clone());
    let def = SnapshotDef {
        description: Some(description.into()).filter(|text: &Arc<str>| !text.is_empty()),
        state: SnapshotState::Run(RunState::Running),
        memory: Memory::Internal,
        disks: Vec::new(),
        domain: Some(domain.clone()),
        inactive_domain: Some(domain.clone()),
        revert_disks: None,
        extra: None,
    };
    let name = MomentName::new("s").unwrap();
    let view = SnapshotView {
        name: &name,
        parent: None,
        created: 5,
        def: &def,
        domain: domain.uuid,
    };
    let dump = write_snapshot(view, true);
    let recent = RecentDomain::default();
    let read = read_snapshot_redefine(&dump, true, Carry::Everything, &recent, || FRESH)?;
    assert_eq!(read.def, def);
    Ok(read.def)
}

#[test]
fn a_domain_is_nested_as_deep_as_its_moment_may_be() {
    let nested = |deep: usize| domain(&format!("{}{}", "<a>".repeat(deep), "</a>".repeat(deep)));
    let deepest = XML_DEPTH_MAX - 2;
    put_back(&nested(deepest).unwrap(), "").unwrap();
    let error = nested(deepest + 1).unwrap_err();
    assert!(
        error.to_string().contains("nested deeper than 255"),
        "{error}"
    );
}

#[test]
fn a_domain_is_as_long_as_its_moment_takes_twice() {
    let long = |length: usize| domain(&format!("<title>{}</title>", "a".repeat(length)));
    put_back(&long(9 << 20).unwrap(), "").unwrap();
    put_back(&long(XML_LEN_MAX - 500).unwrap(), &"'".repeat(600_000)).unwrap();
    assert!(long(XML_LEN_MAX).is_err());
    // What is longer as it is written than as it was given.
    let apostrophes = domain(&format!("<title>{}</title>", "'".repeat(XML_LEN_MAX / 5)));
    let error = apostrophes.map(|_| "taken").unwrap_err();
    assert!(
        error.to_string().starts_with("the domain takes more than"),
        "{error}"
    );
    let (open, close) = ("<a>".repeat(200), "</a>".repeat(200));
    let indented = format!("{open}{}{close}", "<b/>".repeat(50_000));
    let error = domain(&indented).map(|_| "taken").unwrap_err();
    assert!(
        error.to_string().starts_with("the domain takes more than"),
        "{error}"
    );
}

#[test]
fn a_domain_has_as_many_elements_as_its_moment_takes_twice() {
    // The domain itself, its name, its os and that one's type are elements, too, and the uuid that it gets.
    let with = |elements: usize| domain(&"<a/>".repeat(elements - 5));
    put_back(&with(XML_ELEMENTS_MAX).unwrap(), "").unwrap();
    assert!(with(XML_ELEMENTS_MAX + 1).is_err());
}

#[test]
fn what_goes_around_a_domain_is_bounded_as_it_is_written() {
    let def = domain("").unwrap();
    put_back(&def, &"a".repeat(XML_AROUND_LEN_MAX - 1000)).unwrap();
    for description in [
        "a".repeat(XML_AROUND_LEN_MAX),
        "'".repeat(XML_AROUND_LEN_MAX / 5),
    ] {
        let error = put_back(&def, &description).unwrap_err();
        assert!(error.to_string().starts_with("what goes around"), "{error}");
    }
}

#[test]
fn the_name_of_a_checkpoint_counts_for_each_bitmap() {
    let disk = CheckpointDisk {
        name: "vda".into(),
        tracking: DiskTracking::Bitmap(None),
    };
    let def = CheckpointDef {
        description: None,
        disks: vec![disk; 1000],
        domain: None,
    };
    let name = |length: usize| MomentName::new(&"a".repeat(length)).unwrap();
    assert!(checkpoint_fits(&name(1000), &def).is_ok());
    assert!(checkpoint_fits(&name(10_000), &def).is_err());
    let disk = |disk| format!("<disk><target dev='vda{disk}'/></disk>");
    let disks: Vec<String> = (0..1000).map(disk).collect();
    let disks = disks.concat();
    let def = domain(&format!("<devices>{disks}</devices>")).unwrap();
    assert!(names_fit(&name(1000), &def).is_ok());
    assert!(names_fit(&name(10_000), &def).is_err());
}
