//! `<domainsnapshot>`.

use std::sync::Arc;

use momentlog_core::{
    DiskLocation, DomainUuid, Memory, MomentKind, MomentName, Redefine, SnapshotDef, SnapshotDisk,
    SnapshotState, SourceKind,
};

use crate::document::{Document, Element, Source};
use crate::domain::{disk_location, embedded_def, write_embedded};
use crate::error::{DocumentKind, MomentRule, Rule, XmlError};
use crate::limits::snapshot_fits;
use crate::recent::RecentDomain;
use crate::schema;
use crate::write::Writer;

/// Image formats that libvirt's parser knows.
const IMAGE_FORMATS: [&str; 16] = [
    "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow",
    "qcow", "qcow2", "qed", "vmdk",
];

/// What of a `<domainsnapshot>` counts when a snapshot is made. The rest is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// The name, if there is one.
    pub name: Option<MomentName>,
    /// Free text for people.
    pub description: Option<Arc<str>>,
    /// Where to keep the memory, if it says.
    pub memory: Option<Memory>,
    /// Wishes for disks.
    pub disks: Vec<SnapshotDisk>,
}

/// Reads the XML of a snapshot to be made; the schema counts only if `validate` is set.
///
/// # Errors
///
/// [`XmlError`]: where, and the first rule that the text breaks.
pub fn read_snapshot(xml: &str, validate: bool) -> Result<SnapshotRequest, XmlError> {
    let (source, document) = parse(xml, validate, None)?;
    let root = document.root();
    let name = root
        .child_text("name")
        .and_then(|name| MomentName::new(&name));
    let memory = memory(&source, root, false)?;
    let disks = disks(&source, root)?;
    Ok(SnapshotRequest {
        name,
        description: root.child_text("description").map(Arc::from),
        memory,
        disks,
    })
}

/// Reads the XML of a snapshot to be redefined. An embedded `<domain>` is taken from `recent` if it is there, and kept there;
/// one without a uuid gets one that `fresh` returns.
///
/// # Errors
///
/// [`XmlError`]: where, and the first rule that the text breaks.
pub fn read_snapshot_redefine(
    xml: &str,
    validate: bool,
    recent: &RecentDomain,
    mut fresh: impl FnMut() -> DomainUuid,
) -> Result<Redefine<SnapshotDef>, XmlError> {
    let (source, document) = parse(xml, validate, Some(recent))?;
    let root = document.root();
    let kind = MomentKind::Snapshot.as_str();
    let wrong = |rule: MomentRule| source.error(root.offset(), rule);
    let name = root
        .child_text("name")
        .and_then(|name| MomentName::new(&name));
    let name = name.ok_or_else(|| wrong(MomentRule::NameMissing(kind)))?;
    let created = root
        .child_text("creationTime")
        .and_then(|time| decimal(&time));
    let created = created.ok_or_else(|| wrong(MomentRule::TimeMissing(kind)))?;
    let parent = root
        .child("parent")
        .and_then(|parent| parent.child_text("name"));
    let word = root
        .child_text("state")
        .ok_or_else(|| wrong(MomentRule::StateMissing))?;
    let state = SnapshotState::from_word(&word)
        .ok_or_else(|| wrong(MomentRule::State(word.into_owned())))?;
    let mut embedded = |name: &str| {
        let found = embedded(root, name);
        found
            .map(|found| embedded_def(&source, found, validate, recent, &mut fresh))
            .transpose()
    };
    let domain = embedded("domain")?;
    let inactive_domain = match domain {
        Some(_) => embedded("inactiveDomain")?,
        None => None,
    };
    let default = if state.is_memoryless() {
        Memory::No
    } else {
        Memory::Internal
    };
    let memory = memory(&source, root, state.is_memoryless())?.unwrap_or(default);
    let disks = disks(&source, root)?;
    let description = root.child_text("description").map(Arc::from);
    let def = SnapshotDef {
        description,
        state,
        memory,
        disks,
        domain,
        inactive_domain,
    };
    snapshot_fits(&name, &def).map_err(wrong)?;
    Ok(Redefine {
        name,
        parent: parent.and_then(|parent| MomentName::new(&parent)),
        created,
        def,
        current: false,
    })
}

fn parse<'a>(
    xml: &'a str,
    validate: bool,
    recent: Option<&RecentDomain>,
) -> Result<(Source<'a>, Document<'a>), XmlError> {
    let source = Source {
        kind: DocumentKind::Snapshot,
        text: xml,
    };
    let document = source.parse_knowing(recent.and_then(|recent| recent.get(validate)))?;
    source.expect_root(document.root())?;
    if validate {
        schema::snapshot(&source, document.root())?;
    }
    Ok((source, document))
}

/// Returns the first embedded domain, if any of them has a type: only then libvirt takes it for a definition.
fn embedded<'d>(root: Element<'d>, name: &str) -> Option<Element<'d>> {
    let typed = root.named(name).any(|domain| {
        domain
            .attribute("type")
            .is_some_and(|kind| !kind.is_empty())
    });
    root.child(name).filter(|_| typed)
}

/// Reads a number as C's `strtoll` does: blanks and a sign may come first, nothing may follow.
fn decimal(text: &str) -> Option<i64> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Reads `<memory>`; `offline` says that the snapshot's state has none.
fn memory(
    source: &Source<'_>,
    root: Element<'_>,
    offline: bool,
) -> Result<Option<Memory>, XmlError> {
    let Some(element) = root.child("memory") else {
        return Ok(None);
    };
    let wrong = |rule: MomentRule| source.error(element.offset(), rule);
    let file = element.attribute("file").filter(|file| !file.is_empty());
    let memory = match (element.attribute("snapshot"), file) {
        (None, None) => return Ok(None),
        (Some("manual"), _) => return Err(wrong(MomentRule::MemoryManual)),
        (Some("no"), None) => Memory::No,
        (Some("internal"), None) => Memory::Internal,
        (Some("no" | "internal"), Some(file)) => {
            return Err(wrong(MomentRule::MemoryFile(file.to_owned())));
        }
        (Some("external"), None) => return Err(wrong(MomentRule::MemoryFileMissing)),
        (None | Some("external"), Some(file)) => Memory::External(file.into()),
        (Some(value), _) => {
            let rule = Rule::Word {
                element: "memory",
                attribute: "snapshot",
                value: value.to_owned(),
            };
            return Err(source.error(element.offset(), rule));
        }
    };
    if offline && memory != Memory::No {
        return Err(wrong(MomentRule::MemoryOffline));
    }
    match &memory {
        Memory::External(file) if !file.starts_with('/') => {
            Err(wrong(MomentRule::MemoryPath(file.to_string())))
        }
        _ => Ok(Some(memory)),
    }
}

/// Reads every element inside `<disks>`, whatever it is called, as libvirt does.
fn disks(source: &Source<'_>, root: Element<'_>) -> Result<Vec<SnapshotDisk>, XmlError> {
    root.named("disks")
        .flat_map(Element::all_elements)
        .map(|element| disk(source, element))
        .collect()
}

fn disk(source: &Source<'_>, element: Element<'_>) -> Result<SnapshotDisk, XmlError> {
    let wrong = |rule: MomentRule| source.error(element.offset(), rule);
    let name = element
        .attribute("name")
        .ok_or_else(|| wrong(MomentRule::DiskName))?;
    let location = element
        .attribute("snapshot")
        .map(|word| disk_location(source, element, word))
        .transpose()?;
    let kind = match element.attribute("type") {
        None | Some("file") => SourceKind::File,
        Some("block") => SourceKind::Block,
        Some("network") => SourceKind::Network,
        Some(other @ ("dir" | "volume" | "nvme" | "vhostuser" | "vhostvdpa")) => {
            return Err(wrong(MomentRule::DiskType(other.to_owned())));
        }
        Some(value) => {
            let rule = Rule::Word {
                element: "disk",
                attribute: "type",
                value: value.to_owned(),
            };
            return Err(source.error(element.offset(), rule));
        }
    };
    let key = match kind {
        SourceKind::Block => "dev",
        SourceKind::Network => "name",
        _ => "file",
    };
    let path = element
        .child("source")
        .and_then(|source| source.attribute(key))
        .filter(|path| !path.is_empty());
    let driver = element
        .child("driver")
        .and_then(|driver| driver.attribute("type"))
        .filter(|word| !word.is_empty());
    if let Some(driver) = driver
        && !IMAGE_FORMATS.contains(&driver)
    {
        return Err(wrong(MomentRule::DiskDriver(driver.to_owned())));
    }
    if let Some(path) = path
        && kind != SourceKind::Network
        && !path.starts_with('/')
    {
        return Err(wrong(MomentRule::DiskPath(path.to_owned())));
    }
    let implied = (path.is_some() || driver.is_some()).then_some(DiskLocation::External);
    Ok(SnapshotDisk {
        name: name.into(),
        location: location.or(implied),
        kind,
        driver: driver.map(Arc::from),
        source: path.map(Arc::from),
    })
}

/// What of a snapshot is written.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotView<'a> {
    /// Its name.
    pub name: &'a MomentName,
    /// The name of its parent.
    pub parent: Option<&'a MomentName>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its definition.
    pub def: &'a SnapshotDef,
    /// The domain it belongs to.
    pub domain: DomainUuid,
}

/// Returns the snapshot's XML, byte for byte as libvirt formats it. Follows `virDomainSnapshotGetXMLDesc`.
pub fn write_snapshot(snapshot: SnapshotView<'_>, secure: bool) -> String {
    let SnapshotView {
        name,
        parent,
        created,
        def,
        domain,
    } = snapshot;
    let mut writer = Writer::new();
    writer.open("domainsnapshot", &[]);
    writer.text("name", name.as_str());
    writer.text(
        "description",
        def.description.as_deref().unwrap_or_default(),
    );
    writer.text("state", def.state.as_str());
    if let Some(parent) = parent {
        writer.open("parent", &[]);
        writer.text("name", parent.as_str());
        writer.close("parent");
    }
    if created != 0 {
        writer.text("creationTime", &created.to_string());
    }
    match &def.memory {
        Memory::No => writer.empty("memory", &[("snapshot", "no")]),
        Memory::Internal => writer.empty("memory", &[("snapshot", "internal")]),
        Memory::External(file) => {
            writer.empty("memory", &[("snapshot", "external"), ("file", file)]);
        }
    }
    if !def.disks.is_empty() {
        writer.open("disks", &[]);
        def.disks
            .iter()
            .for_each(|disk| write_disk(&mut writer, disk));
        writer.close("disks");
    }
    match def
        .domain
        .as_deref()
        .filter(|domain| !domain.xml.is_empty())
    {
        Some(domain) => write_embedded(&mut writer, "domain", domain, secure),
        None => {
            writer.open("domain", &[]);
            writer.text("uuid", &domain.to_string());
            writer.close("domain");
        }
    }
    if let Some(inactive) = &def.inactive_domain {
        write_embedded(&mut writer, "inactiveDomain", inactive, secure);
    }
    writer.close("domainsnapshot");
    writer.finish()
}

fn write_disk(writer: &mut Writer, disk: &SnapshotDisk) {
    let mut attributes = vec![("name", &*disk.name)];
    attributes.extend(
        disk.location
            .map(|location| ("snapshot", location.as_str())),
    );
    if disk.source.is_none() && disk.driver.is_none() {
        writer.empty("disk", &attributes);
        return;
    }
    attributes.push(("type", disk.kind.as_str()));
    writer.open("disk", &attributes);
    if let Some(driver) = &disk.driver {
        writer.empty("driver", &[("type", driver)]);
    }
    if let Some(source) = &disk.source {
        let key = match disk.kind {
            SourceKind::Block => "dev",
            SourceKind::Network => "name",
            _ => "file",
        };
        writer.empty("source", &[(key, source)]);
    }
    writer.close("disk");
}
