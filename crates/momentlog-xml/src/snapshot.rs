//! `<domainsnapshot>`.

use std::sync::Arc;

use momentlog_core::{
    DiskLocation, DomainUuid, Memory, MomentKind, MomentName, Redefine, SnapshotDef, SnapshotDisk,
    SnapshotState, SourceKind,
};

use crate::disk_source::{self, NETWORK_PARTS};
use crate::document::{Document, Element, Source};
use crate::domain::{disk_location, embedded_def, guarded_extra, write_embedded};
use crate::error::{DocumentKind, MomentRule, Rule, XmlError};
use crate::limits::snapshot_fits;
use crate::recent::RecentDomain;
use crate::schema;
use crate::write::{Changes, Writer, canonical};

/// Image formats that libvirt's parser knows.
pub(crate) const IMAGE_FORMATS: [&str; 16] = [
    "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow",
    "qcow", "qcow2", "qed", "vmdk",
];

/// What of a snapshot's XML is kept although no field says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// Everything, whether libvirt knows it or not.
    Everything,
    /// What libvirt 9.0.0's test driver keeps: the details of overlays.
    TestDriver,
}

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
    /// What else it holds and libvirt does not know, see [`SnapshotDef::extra`].
    pub extra: Option<Arc<str>>,
}

/// Reads the XML of a snapshot to be made; the schema counts only if `validate` is set.
///
/// # Errors
///
/// [`XmlError`]: where, and the first rule that the text breaks.
pub fn read_snapshot(xml: &str, validate: bool, carry: Carry) -> Result<SnapshotRequest, XmlError> {
    let (source, document) = parse(xml, validate, None)?;
    let root = document.root();
    let name = root
        .child_text("name")
        .and_then(|name| MomentName::new(&name));
    let memory = memory(&source, root, false)?;
    let disks = disks(&source, root, carry)?;
    Ok(SnapshotRequest {
        name,
        description: root.child_text("description").map(Arc::from),
        memory,
        disks,
        extra: extra(root, carry, |name| name != "cookie"),
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
    carry: Carry,
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
    let disks = disks(&source, root, carry)?;
    let revert_disks = match carry {
        Carry::Everything => carried(root.named("revertDisks")),
        Carry::TestDriver => None,
    };
    let description = root.child_text("description").map(Arc::from);
    let def = SnapshotDef {
        description,
        state,
        memory,
        disks,
        domain,
        inactive_domain,
        revert_disks,
        extra: extra(root, carry, |_| true),
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

/// Elements of a snapshot that a field says, that libvirt makes itself, or that are kept apart.
const KNOWN: [&str; 11] = [
    "name",
    "description",
    "state",
    "parent",
    "creationTime",
    "memory",
    "disks",
    "domain",
    "inactiveDomain",
    "active",
    "revertDisks",
];

/// What the snapshot holds besides what is known, as canonical XML in its order.
fn extra(root: Element<'_>, carry: Carry, wanted: impl Fn(&str) -> bool) -> Option<Arc<str>> {
    if carry == Carry::TestDriver {
        return None;
    }
    carried(root.all_elements().filter(|element| {
        let known = !element.is_namespaced() && KNOWN.contains(&element.name());
        !known && wanted(element.name())
    }))
}

/// The canonical XML of elements, one after the other; none if there are none.
fn carried<'d>(elements: impl Iterator<Item = Element<'d>>) -> Option<Arc<str>> {
    let text: String = elements
        .map(|element| {
            let changes = Changes {
                root: element.name(),
                after: None,
                without_attribute: &|_, _| false,
                without: &|_| false,
            };
            canonical(element, &changes)
        })
        .collect();
    (!text.is_empty()).then(|| text.into())
}

/// Reads every element inside `<disks>`, whatever it is called, as libvirt does.
fn disks(
    source: &Source<'_>,
    root: Element<'_>,
    carry: Carry,
) -> Result<Vec<SnapshotDisk>, XmlError> {
    root.named("disks")
        .flat_map(Element::all_elements)
        .map(|element| disk(source, element, carry))
        .collect()
}

fn disk(source: &Source<'_>, element: Element<'_>, carry: Carry) -> Result<SnapshotDisk, XmlError> {
    let wrong = |rule: MomentRule| source.error(element.offset(), rule);
    let name = element
        .attribute("name")
        .ok_or_else(|| wrong(MomentRule::DiskName))?;
    let location = element
        .attribute("snapshot")
        .map(|word| disk_location(source, element, word))
        .transpose()?;
    let kind = disk_source::kind(source, element)?;
    if !matches!(
        kind,
        SourceKind::File | SourceKind::Block | SourceKind::Network
    ) {
        return Err(wrong(MomentRule::DiskType(kind.as_str().to_owned())));
    }
    let given = element.child("source");
    if let Some(given) = given {
        disk_source::check(source, kind, given)?;
    }
    let path = given.and_then(|given| disk_source::path(kind, given));
    let driver = element
        .child("driver")
        .and_then(|driver| driver.attribute("type"))
        .filter(|word| !word.is_empty());
    if let Some(driver) = driver
        && !IMAGE_FORMATS.contains(&driver)
    {
        return Err(wrong(MomentRule::DiskDriver(driver.to_owned())));
    }
    if let Some(path) = &path
        && kind != SourceKind::Network
        && !path.starts_with('/')
    {
        return Err(wrong(MomentRule::DiskPath(path.clone())));
    }
    let implied = (path.is_some() || driver.is_some()).then_some(DiskLocation::External);
    Ok(SnapshotDisk {
        name: name.into(),
        location: location.or(implied),
        kind,
        driver: driver.map(Arc::from),
        source: path.map(Arc::from),
        xml: says_more(element, kind, carry).then(|| disk_xml(element, carry)),
    })
}

/// The attribute of an overlay's `<source>` that its field says.
fn path_key(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Block => "dev",
        SourceKind::Network => "name",
        _ => "file",
    }
}

/// What of an overlay libvirt's test driver keeps.
const DISK_CHILDREN: [&str; 3] = ["snapshotDeleteInProgress", "driver", "source"];
const SOURCE_ATTRIBUTES: [&str; 7] = [
    "file",
    "dev",
    "name",
    "protocol",
    "tls",
    "tlsHostname",
    "query",
];
/// Besides [`NETWORK_PARTS`].
const SOURCE_CHILDREN: [&str; 5] = ["host", "encryption", "seclabel", "reservations", "slices"];

/// Whether an attribute of an overlay, or of its driver or source, is carried.
fn carries_attribute(disk: Element<'_>, of: Element<'_>, key: &str, carry: Carry) -> bool {
    if of == disk {
        let said = matches!(key, "name" | "snapshot" | "type");
        return !said && carry == Carry::Everything;
    }
    if carry == Carry::Everything || of.parent() != Some(disk) {
        return true;
    }
    match of.name() {
        "driver" => key == "type",
        "source" => SOURCE_ATTRIBUTES.contains(&key),
        _ => false,
    }
}

/// Whether an element inside an overlay is carried.
fn carries_element(disk: Element<'_>, inside: Element<'_>, carry: Carry) -> bool {
    if carry == Carry::Everything {
        return true;
    }
    let Some(parent) = inside.parent() else {
        return true;
    };
    let name = inside.name();
    if parent == disk {
        return DISK_CHILDREN.contains(&name);
    }
    if parent.parent() != Some(disk) {
        return true;
    }
    match parent.name() {
        "driver" => name == "metadata_cache",
        // Slices without one and empty parts are what libvirt does not print.
        "source" => {
            let of_network = NETWORK_PARTS.contains(&name) && name != "reconnect";
            (of_network || SOURCE_CHILDREN.contains(&name)) && has_content(inside)
        }
        _ => false,
    }
}

fn has_content(element: Element<'_>) -> bool {
    element.attributes().next().is_some() || element.all_elements().next().is_some()
}

/// Whether an overlay's content says more than its image format and its path.
fn says_more(disk: Element<'_>, kind: SourceKind, carry: Carry) -> bool {
    let of = |element: Element<'_>, said: &str| {
        element
            .attributes()
            .any(|(key, _)| key != said && carries_attribute(disk, element, key, carry))
            || element
                .all_elements()
                .any(|inside| carries_element(disk, inside, carry))
    };
    let attributes = disk
        .attributes()
        .any(|(key, _)| carries_attribute(disk, disk, key, carry));
    let mut children = disk
        .all_elements()
        .filter(|child| carries_element(disk, *child, carry));
    let more = |child: Element<'_>| match child.name() {
        "driver" => of(child, "type"),
        "source" => of(child, path_key(kind)),
        _ => true,
    };
    attributes || children.any(more)
}

/// The `<disk>` as canonical XML, without the attributes that its fields say.
fn disk_xml(disk: Element<'_>, carry: Carry) -> Arc<str> {
    let changes = Changes {
        after: None,
        root: "disk",
        without_attribute: &|of, key| !carries_attribute(disk, of, key, carry),
        without: &|inside| !carries_element(disk, inside, carry),
    };
    canonical(disk, &changes).into()
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
    writer.erasable("description", def.description.as_deref());
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
            .for_each(|disk| write_disk(&mut writer, disk, secure));
        writer.close("disks");
    }
    write_carried(
        &mut writer,
        "revertDisks",
        def.revert_disks.as_deref(),
        secure,
    );
    match def
        .domain
        .as_deref()
        .filter(|domain| !domain.xml.is_empty())
    {
        Some(domain) => write_embedded(&mut writer, "domain", domain, secure),
        None => {
            if def.domain.is_some() {
                writer.erased("domain");
            }
            writer.open("domain", &[]);
            writer.text("uuid", &domain.to_string());
            writer.close("domain");
        }
    }
    if let Some(inactive) = &def.inactive_domain {
        write_embedded(&mut writer, "inactiveDomain", inactive, secure);
    }
    write_carried(&mut writer, "rest", def.extra.as_deref(), secure);
    writer.close("domainsnapshot");
    writer.finish()
}

/// Writes what is carried, or that it was erased.
fn write_carried(writer: &mut Writer, what: &str, text: Option<&str>, secure: bool) {
    match text {
        Some("") => writer.erased(what),
        text => writer.canonical(&guarded_extra(text.unwrap_or_default(), secure)),
    }
}

fn write_disk(writer: &mut Writer, disk: &SnapshotDisk, secure: bool) {
    let mut attributes = vec![("name", &*disk.name)];
    attributes.extend(
        disk.location
            .map(|location| ("snapshot", location.as_str())),
    );
    let is_erased = disk.xml.as_deref() == Some("");
    if let Some(xml) = disk.xml.as_ref().filter(|_| !is_erased) {
        attributes.push(("type", disk.kind.as_str()));
        writer.canonical_with("disk", &attributes, &guarded_extra(xml, secure));
        return;
    }
    if disk.source.is_none() && disk.driver.is_none() && !is_erased {
        writer.empty("disk", &attributes);
        return;
    }
    attributes.push(("type", disk.kind.as_str()));
    writer.open("disk", &attributes);
    if is_erased {
        writer.erased("rest of the disk");
    }
    if let Some(driver) = &disk.driver {
        writer.empty("driver", &[("type", driver)]);
    }
    if let Some(source) = &disk.source {
        writer.empty("source", &[(path_key(disk.kind), source)]);
    }
    writer.close("disk");
}
