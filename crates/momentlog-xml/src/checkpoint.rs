//! `<domaincheckpoint>`.

use std::collections::BTreeMap;
use std::sync::Arc;

use momentlog_core::{
    CheckpointDef, CheckpointDisk, DiskTracking, DomainUuid, MomentKind, MomentName, Redefine,
};

use crate::document::{Document, Element, Source};
use crate::domain::{embedded_def, write_embedded};
use crate::error::{DocumentKind, MomentRule, XmlError};
use crate::limits::checkpoint_fits;
use crate::recent::RecentDomain;
use crate::schema;
use crate::write::Writer;

/// What of a `<domaincheckpoint>` counts when a checkpoint is made. The rest is checked and ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRequest {
    /// The name, if there is one.
    pub name: Option<MomentName>,
    /// Free text for people.
    pub description: Option<Arc<str>>,
    /// Wishes for disks.
    pub disks: Vec<CheckpointDisk>,
}

/// Reads the XML of a checkpoint to be made.
///
/// # Errors
///
/// [`XmlError`]: where, and the first rule that the text breaks. The schema always counts.
pub fn read_checkpoint(xml: &str) -> Result<CheckpointRequest, XmlError> {
    let (_, document) = parse(xml, None)?;
    let root = document.root();
    let name = root
        .child_text("name")
        .and_then(|name| MomentName::new(&name));
    Ok(CheckpointRequest {
        name,
        description: root.child_text("description").map(Arc::from),
        disks: disks(root),
    })
}

/// Reads the XML of a checkpoint to be redefined. An embedded domain is taken from `recent` if it is there, and kept there;
/// one without a uuid gets the one that `fresh` returns.
///
/// # Errors
///
/// [`XmlError`]: where, and the first rule that the text breaks.
pub fn read_checkpoint_redefine(
    xml: &str,
    recent: &RecentDomain,
    fresh: impl FnOnce() -> DomainUuid,
) -> Result<Redefine<CheckpointDef>, XmlError> {
    let (source, document) = parse(xml, Some(recent))?;
    let root = document.root();
    let kind = MomentKind::Checkpoint.as_str();
    let wrong = |rule: MomentRule| source.error(root.offset(), rule);
    let name = root
        .child_text("name")
        .and_then(|name| MomentName::new(&name));
    let name = name.ok_or_else(|| wrong(MomentRule::NameMissing(kind)))?;
    let time = root
        .child_text("creationTime")
        .and_then(|time| time.parse().ok());
    let created = time.ok_or_else(|| wrong(MomentRule::TimeMissing(kind)))?;
    let parent = root
        .child("parent")
        .and_then(|parent| parent.child_text("name"));
    let domain = root
        .child("domain")
        .map(|domain| embedded_def(&source, domain, true, recent, fresh))
        .transpose()?;
    let def = CheckpointDef {
        description: root.child_text("description").map(Arc::from),
        disks: disks(root),
        domain,
    };
    checkpoint_fits(&name, &def).map_err(wrong)?;
    Ok(Redefine {
        name,
        parent: parent.and_then(|parent| MomentName::new(&parent)),
        created,
        def,
        current: false,
    })
}

/// Reads how many bytes of each disk were written since a checkpoint, by target, from XML that was dumped with sizes. A disk
/// without a size has none.
///
/// # Errors
///
/// [`XmlError`]: where, and the first rule that the text breaks.
pub fn read_checkpoint_sizes(xml: &str) -> Result<BTreeMap<Arc<str>, u64>, XmlError> {
    let (_, document) = parse(xml, None)?;
    let disks = document.root().child("disks");
    let size = |disk: Element<'_>| {
        let size = disk.attribute("size")?.trim().parse().ok()?;
        Some((disk.attribute("name")?.into(), size))
    };
    Ok(disks.map_or_else(BTreeMap::new, |disks| {
        disks.elements().filter_map(size).collect()
    }))
}

fn parse<'a>(
    xml: &'a str,
    recent: Option<&RecentDomain>,
) -> Result<(Source<'a>, Document<'a>), XmlError> {
    let source = Source {
        kind: DocumentKind::Checkpoint,
        text: xml,
    };
    let document = source.parse_knowing(recent.and_then(|recent| recent.get(true)))?;
    source.expect_root(document.root())?;
    schema::checkpoint(&source, document.root())?;
    Ok((source, document))
}

fn disks(root: Element<'_>) -> Vec<CheckpointDisk> {
    let disk = |element: Element<'_>| CheckpointDisk {
        name: element.attribute("name").unwrap_or_default().into(),
        tracking: match element.attribute("checkpoint") {
            Some("no") => DiskTracking::No,
            _ => DiskTracking::Bitmap(element.attribute("bitmap").map(Arc::from)),
        },
    };
    root.child("disks")
        .map(|disks| disks.elements().map(disk).collect())
        .unwrap_or_default()
}

/// What of a checkpoint is written.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointView<'a> {
    /// Its name.
    pub name: &'a MomentName,
    /// The name of its parent.
    pub parent: Option<&'a MomentName>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its definition.
    pub def: &'a CheckpointDef,
    /// Bytes of each disk that were written since, by target, where that is known and wanted.
    pub sizes: Option<&'a BTreeMap<Arc<str>, u64>>,
}

/// Returns the checkpoint's XML, byte for byte as libvirt formats it. Follows `virDomainCheckpointGetXMLDesc`.
pub fn write_checkpoint(checkpoint: CheckpointView<'_>, with_domain: bool, secure: bool) -> String {
    let CheckpointView {
        name,
        parent,
        created,
        def,
        sizes,
    } = checkpoint;
    let mut writer = Writer::new();
    writer.open("domaincheckpoint", &[]);
    writer.text("name", name.as_str());
    writer.erasable("description", def.description.as_deref());
    if let Some(parent) = parent {
        writer.open("parent", &[]);
        writer.text("name", parent.as_str());
        writer.close("parent");
    }
    if created != 0 {
        writer.text("creationTime", &created.to_string());
    }
    if !def.disks.is_empty() {
        writer.open("disks", &[]);
        for disk in &def.disks {
            match &disk.tracking {
                DiskTracking::No => {
                    writer.empty("disk", &[("name", &disk.name), ("checkpoint", "no")]);
                }
                DiskTracking::Bitmap(bitmap) => {
                    let bitmap = bitmap.as_deref().unwrap_or(name.as_str());
                    let size = sizes.and_then(|sizes| sizes.get(&disk.name));
                    let size = size.map(u64::to_string);
                    let mut attributes = vec![
                        ("name", &*disk.name),
                        ("checkpoint", "bitmap"),
                        ("bitmap", bitmap),
                    ];
                    attributes.extend(size.as_deref().map(|size| ("size", size)));
                    writer.empty("disk", &attributes);
                }
            }
        }
        writer.close("disks");
    }
    match def.domain.as_deref().filter(|_| with_domain) {
        Some(domain) if domain.xml.is_empty() => writer.erased("domain"),
        Some(domain) => write_embedded(&mut writer, "domain", domain, secure),
        None => {}
    }
    writer.close("domaincheckpoint");
    writer.finish()
}
