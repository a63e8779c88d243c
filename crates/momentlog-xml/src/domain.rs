//! `<domain>`: kept as one canonical text, with what moments need read from it.

use std::borrow::Cow;
use std::sync::Arc;

use momentlog_core::{DiskLocation, DomainDef, DomainDisk, DomainUuid, SourceKind};

use crate::disk_source;
use crate::document::{Element, Source};
use crate::error::{DocumentKind, DomainRule, Rule, XmlError};
use crate::limits::{XML_ELEMENTS_MAX, domain_fits};
use crate::recent::RecentDomain;
use crate::write::{Changes, Writer, canonical, escape};

/// Domain types that libvirt knows.
pub(crate) const DOMAIN_TYPES: [&str; 18] = [
    "qemu",
    "kqemu",
    "kvm",
    "xen",
    "lxc",
    "uml",
    "openvz",
    "test",
    "vmware",
    "hyperv",
    "vbox",
    "phyp",
    "parallels",
    "bhyve",
    "vz",
    "hvf",
    "nitro",
    "ch",
];

/// Most disks of one domain: far more than any hypervisor takes, and few enough to compare each with each.
pub const DISKS_MAX: usize = 4096;

/// Reads a domain definition. A domain without a uuid gets the one that `fresh` returns.
///
/// # Errors
///
/// [`XmlError`]: where, and the first rule that the text breaks.
pub fn read_domain(xml: &str, fresh: impl FnOnce() -> DomainUuid) -> Result<DomainDef, XmlError> {
    let source = Source {
        kind: DocumentKind::Domain,
        text: xml,
    };
    let document = source.parse()?;
    let root = document.root();
    source.expect_root(root)?;
    domain_def(&source, root, root.name(), fresh)
}

/// Returns the domain's XML: the inactive form, or that of a running domain under its `id`.
///
/// Without `secure`, passwords and cookies are left out, as without `VIR_DOMAIN_XML_SECURE`.
pub fn write_domain(def: &DomainDef, id: Option<u32>, secure: bool) -> String {
    let text = guarded(&def.xml, secure);
    match id {
        Some(id) if !text.is_empty() => {
            let end = text
                .find(['>', '\n'])
                .map_or(0, |end| end - usize::from(text[..end].ends_with('/')));
            format!("{} id='{id}'{}", &text[..end], &text[end..])
        }
        _ => text.into_owned(),
    }
}

/// Returns the definition under another name; `None` if XML cannot say the name, or the definition was erased.
pub fn rename_domain(def: &DomainDef, name: &str) -> Option<DomainDef> {
    let source = Source {
        kind: DocumentKind::Domain,
        text: &def.xml,
    };
    let begin = source.parse().ok()?.root().child("name")?.offset();
    let given = &def.xml[begin..];
    let end = begin + given.find("</name>")?;
    let begin = begin + given.find('>')? + 1;
    let (before, after) = (&def.xml[..begin], &def.xml[end..]);
    let mut xml = before.to_owned();
    escape(&mut xml, name);
    xml.push_str(after);
    let renamed = read_domain(&xml, || def.uuid).ok()?;
    let same = DomainDef {
        name: def.name.clone(),
        xml: def.xml.clone(),
        ..renamed.clone()
    };
    (*renamed.name == *name && same == *def).then_some(renamed)
}

/// Reads the element into a definition, whose text calls it `called`. Follows libvirt's order: name, uuid, type, os type,
/// then the rest.
pub(crate) fn domain_def(
    source: &Source<'_>,
    root: Element<'_>,
    called: &str,
    fresh: impl FnOnce() -> DomainUuid,
) -> Result<DomainDef, XmlError> {
    let wrong = |rule: DomainRule| source.error(root.offset(), rule);
    let name = root
        .child_text("name")
        .ok_or_else(|| wrong(DomainRule::NameMissing))?;
    if name.contains('/') {
        return Err(wrong(DomainRule::NameSlash(name.to_string())));
    }
    let given = root.child("uuid").filter(|uuid| !uuid.text().is_empty());
    let uuid = match given {
        None => None,
        Some(element) => {
            let malformed = || source.error(element.offset(), DomainRule::Uuid);
            Some(uuid(&element.text()).ok_or_else(malformed)?)
        }
    };
    match root.attribute("type") {
        None => return Err(wrong(DomainRule::TypeMissing)),
        Some(kind) if !DOMAIN_TYPES.contains(&kind) => {
            return Err(wrong(DomainRule::Type(kind.to_owned())));
        }
        Some(_) => {}
    }
    let os_type = root.child("os").and_then(|os| os.child_text("type"));
    // A guest that a boot loader of the host starts gets it from there.
    if os_type.is_none() && root.child_text("bootloader").is_none() {
        return Err(wrong(DomainRule::OsType));
    }
    let memory_kib = match root.child("memory") {
        None => 0,
        Some(memory) => {
            kib(memory).ok_or_else(|| source.error(memory.offset(), DomainRule::Memory))?
        }
    };
    let disks = disks(source, root)?;
    // Last, so that no uuid is made that is not used.
    let uuid = uuid.unwrap_or_else(fresh);
    // libvirt reads the first one alone, and writes it in its own way.
    let is_as_written = given.is_some_and(|given| given.text() == *uuid.to_string());
    let is_uuid = |element: Element<'_>| {
        element.name() == "uuid" && !element.is_namespaced() && element.parent() == Some(root)
    };
    let changes = Changes {
        root: called,
        after: (!is_as_written).then(|| ("name", format!("<uuid>{uuid}</uuid>"))),
        without_attribute: &|element, key| element == root && key == "id",
        without: &|element| !is_as_written && is_uuid(element),
    };
    let xml = canonical(root, &changes);
    // Without a uuid that is read, one more is written.
    let elements_max = XML_ELEMENTS_MAX - usize::from(given.is_none());
    if root.has_more_elements_than(elements_max) || !domain_fits(&xml) {
        return Err(wrong(DomainRule::TooLarge));
    }
    let xml = xml.into();
    Ok(DomainDef {
        name: Arc::from(name),
        uuid,
        memory_kib,
        disks,
        xml,
    })
}

/// Reads an element inside the root into a definition, or takes that from `recent`. A schema took it if `validated`.
pub(crate) fn embedded_def(
    source: &Source<'_>,
    element: Element<'_>,
    validated: bool,
    recent: &RecentDomain,
    fresh: impl FnOnce() -> DomainUuid,
) -> Result<Arc<DomainDef>, XmlError> {
    if let Some(known) = element.known() {
        return Ok(known.clone());
    }
    let def = Arc::new(domain_def(source, element, "domain", fresh)?);
    // Without a uuid in it, the text is not all that the definition is made of.
    let whole = element
        .embedded()
        .filter(|_| element.child_text("uuid").is_some());
    if let Some(at) = whole {
        recent.set(source.text, at, validated, &def);
    }
    Ok(def)
}

/// Reads a uuid as libvirt does: blanks may come first and last, dashes and blanks between two digits of a byte and the next.
fn uuid(text: &str) -> Option<DomainUuid> {
    let is_blank = |char: char| char.is_ascii_whitespace() || char == '\u{b}';
    let mut rest = text.trim_matches(is_blank).trim_start_matches(['-', ' ']);
    let mut digits = String::with_capacity(32);
    while !rest.is_empty() && digits.len() < 32 {
        let byte = rest.get(..2)?;
        digits.push_str(byte);
        rest = &rest[2..];
        if digits.len() < 32 {
            rest = rest.trim_start_matches(['-', ' ']);
        }
    }
    digits.parse().ok().filter(|_| rest.is_empty())
}

/// Returns a memory size in KiB, rounded up.
pub(crate) fn kib(memory: Element<'_>) -> Option<u64> {
    let value: u128 = memory.text().trim().parse::<u64>().ok()?.into();
    let unit = memory.attribute("unit").filter(|unit| !unit.is_empty());
    let Some(unit) = unit else {
        return u64::try_from(value).ok();
    };
    let scale = |base: u128, power: u32| Some(base.pow(power));
    let bytes = match unit.to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => Some(1),
        "k" | "kib" => scale(1024, 1),
        "m" | "mib" => scale(1024, 2),
        "g" | "gib" => scale(1024, 3),
        "t" | "tib" => scale(1024, 4),
        "p" | "pib" => scale(1024, 5),
        "e" | "eib" => scale(1024, 6),
        "kb" => scale(1000, 1),
        "mb" => scale(1000, 2),
        "gb" => scale(1000, 3),
        "tb" => scale(1000, 4),
        "pb" => scale(1000, 5),
        "eb" => scale(1000, 6),
        _ => None,
    }?;
    u64::try_from((value * bytes).div_ceil(1024)).ok()
}

/// A disk as it stands in the XML, before libvirt puts it in order.
struct Placed<'d> {
    disk: DomainDisk,
    bus: Option<&'d str>,
    index: u64,
}

fn disks(source: &Source<'_>, root: Element<'_>) -> Result<Vec<DomainDisk>, XmlError> {
    // libvirt fills in the default bus only after that, and a copy of the definition is put in order again with it.
    let placed = placed(source, root)?;
    let mut settled = Vec::with_capacity(placed.len());
    for mut disk in placed {
        disk.bus = disk.bus.or_else(|| default_bus(&disk.disk.target));
        insert(&mut settled, disk);
    }
    Ok(settled.into_iter().map(|placed| placed.disk).collect())
}

/// Returns the targets of the disks in the order of the definition itself: the buses that it names, and no defaults.
pub(crate) fn targets_in_order(
    source: &Source<'_>,
    root: Element<'_>,
) -> Result<Vec<String>, XmlError> {
    let placed = placed(source, root)?.into_iter();
    Ok(placed
        .map(|placed| placed.disk.target.to_string())
        .collect())
}

fn placed<'d>(source: &Source<'_>, root: Element<'d>) -> Result<Vec<Placed<'d>>, XmlError> {
    let mut placed: Vec<Placed<'_>> = Vec::new();
    for element in root
        .named("devices")
        .flat_map(|devices| devices.named("disk"))
    {
        if placed.len() == DISKS_MAX {
            return Err(source.error(element.offset(), DomainRule::DisksTooMany));
        }
        let disk = disk(source, element)?;
        if let Some(other) = placed
            .iter()
            .find(|other| other.disk.target == disk.disk.target)
        {
            let of = |disk: &DomainDisk| disk.source.as_deref().unwrap_or("<null>").into();
            let rule = DomainRule::DiskTwice {
                target: (*disk.disk.target).into(),
                first: of(&other.disk),
                second: of(&disk.disk),
            };
            return Err(source.error(element.offset(), rule));
        }
        insert(&mut placed, disk);
    }
    Ok(placed)
}

/// Inserts a disk before those of its bus that have a higher index, else after its bus, else at the end.
fn insert<'d>(disks: &mut Vec<Placed<'d>>, disk: Placed<'d>) {
    let mut at = None;
    for (index, other) in disks
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, other)| other.bus == disk.bus)
    {
        if other.index <= disk.index {
            at = at.or(Some(index + 1));
            break;
        }
        at = Some(index);
    }
    disks.insert(at.unwrap_or(disks.len()), disk);
}

fn disk<'d>(source: &Source<'_>, element: Element<'d>) -> Result<Placed<'d>, XmlError> {
    let kind = disk_source::kind(source, element)?;
    let given = element.child("source");
    if let Some(given) = given {
        disk_source::check(source, kind, given)?;
    }
    let path = given.and_then(|given| disk_source::path(kind, given));
    let target = element.child("target");
    let Some(dev) = target.and_then(|target| target.attribute("dev")) else {
        let rule = DomainRule::DiskTarget(path.unwrap_or_else(|| "<null>".to_owned()));
        return Err(source.error(element.offset(), rule));
    };
    if !tells_place(dev) && element.child("address").is_none() {
        return Err(source.error(element.offset(), DomainRule::DiskName(dev.into())));
    }
    let readonly =
        element.child("readonly").is_some() || element.attribute("device") == Some("cdrom");
    let snapshot = match element.attribute("snapshot") {
        None => (readonly || kind == SourceKind::VhostUser).then_some(DiskLocation::No),
        Some(word) => Some(disk_location(source, element, word)?),
    };
    let bus = target.and_then(|target| target.attribute("bus"));
    let disk = DomainDisk {
        target: dev.into(),
        kind,
        source: path.map(Arc::from),
        empty: disk_source::is_empty(kind, given),
        format: element
            .child("driver")
            .and_then(|driver| driver.attribute("type"))
            .filter(|format| !format.is_empty())
            .map(Arc::from),
        readonly,
        snapshot,
    };
    Ok(Placed {
        index: drive_index(dev),
        disk,
        bus,
    })
}

/// Reads the `snapshot` attribute of a disk.
pub(crate) fn disk_location(
    source: &Source<'_>,
    element: Element<'_>,
    word: &str,
) -> Result<DiskLocation, XmlError> {
    Ok(match word {
        "no" => DiskLocation::No,
        "internal" => DiskLocation::Internal,
        "external" => DiskLocation::External,
        "manual" => DiskLocation::Manual,
        _ => {
            let rule = Rule::Word {
                element: "disk",
                attribute: "snapshot",
                value: word.to_owned(),
            };
            return Err(source.error(element.offset(), rule));
        }
    })
}

fn default_bus(target: &str) -> Option<&'static str> {
    let buses = [
        ("xvd", "xen"),
        ("ubd", "uml"),
        ("fd", "fdc"),
        ("hd", "ide"),
        ("sd", "scsi"),
        ("vd", "virtio"),
    ];
    buses
        .iter()
        .find(|(prefix, _)| target.starts_with(prefix))
        .map(|(_, bus)| *bus)
}

/// Whether a target tells the place of its disk: the prefix of a bus, letters, and the number of a partition at most.
fn tells_place(target: &str) -> bool {
    let target = target.strip_prefix("ioemu:").unwrap_or(target);
    let prefixes = ["xvd", "ubd", "fd", "hd", "sd", "vd"];
    let place = prefixes
        .iter()
        .find_map(|prefix| target.strip_prefix(prefix));
    place.is_some_and(|place| {
        let number = place.trim_start_matches(|letter: char| letter.is_ascii_lowercase());
        number.len() < place.len() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// Returns the number that the letters after a target's prefix make: `a` is 0, `z` 25, `aa` 26.
fn drive_index(target: &str) -> u64 {
    let prefixes = ["ioemu:xvd", "xvd", "ubd", "fd", "hd", "sd", "vd"];
    let letters = prefixes
        .iter()
        .find_map(|prefix| target.strip_prefix(prefix))
        .unwrap_or(target);
    letters
        .bytes()
        .take_while(u8::is_ascii_lowercase)
        .fold(0_u64, |index, letter| {
            index
                .saturating_mul(26)
                .saturating_add(u64::from(letter - b'a') + 1)
        })
        .saturating_sub(1)
}

/// Writes an embedded domain, or the uuid alone where there is none to show.
pub(crate) fn write_embedded(writer: &mut Writer, root: &str, def: &DomainDef, secure: bool) {
    let text = guarded(&def.xml, secure);
    if root == "domain" {
        writer.canonical(&text);
        return;
    }
    let inner = text
        .strip_prefix("<domain")
        .and_then(|text| text.strip_suffix("</domain>\n"));
    if let Some(inner) = inner {
        writer.canonical(&format!("<{root}{inner}</{root}>\n"));
    }
}

/// Returns the text without what only `secure` may see: the graphics password, and the cookies of a network source.
fn guarded(xml: &str, secure: bool) -> Cow<'_, str> {
    if secure || !(xml.contains("passwd=") || xml.contains("<cookies")) {
        return xml.into();
    }
    let source = Source {
        kind: DocumentKind::Domain,
        text: xml,
    };
    let Ok(document) = source.parse() else {
        // Never the secret: a text that does not read shows nothing.
        return "".into();
    };
    let root = document.root();
    let changes = Changes {
        root: root.name(),
        after: None,
        without_attribute: &|element, key| key == "passwd" && is_device(element, "graphics"),
        without: &is_secret,
    };
    canonical(root, &changes).into()
}

/// Returns what a moment carries without what only `secure` may see, wherever in it that stands. The text is any number of
/// elements.
pub(crate) fn guarded_extra(xml: &str, secure: bool) -> Cow<'_, str> {
    if secure || !(xml.contains("passwd=") || xml.contains("<cookies")) {
        return xml.into();
    }
    let whole = format!("<extra>{xml}</extra>");
    let source = Source {
        kind: DocumentKind::Snapshot,
        text: &whole,
    };
    let Ok(document) = source.parse() else {
        // Never the secret: a text that does not read shows nothing.
        return "".into();
    };
    let guarded: String = document
        .root()
        .all_elements()
        .map(|element| {
            let changes = Changes {
                root: element.name(),
                after: None,
                without_attribute: &|of, key| key == "passwd" && of.name() == "graphics",
                without: &|of| {
                    let source = of.parent().is_some_and(|outer| outer.name() == "source");
                    of.name() == "cookies" && source
                },
            };
            canonical(element, &changes)
        })
        .collect();
    guarded.into()
}

/// Whether the element is a device of that name.
fn is_device(element: Element<'_>, name: &str) -> bool {
    let devices = element.parent().filter(|outer| outer.name() == "devices");
    let root = devices.and_then(Element::parent);
    element.name() == name && root.is_some_and(|root| root.parent().is_none())
}

/// Whether the element is the cookies of a disk's source, those of its backing chain and its mirror included.
fn is_secret(element: Element<'_>) -> bool {
    let source = element.parent().filter(|outer| outer.name() == "source");
    element.name() == "cookies"
        && std::iter::successors(source, |inner| inner.parent())
            .any(|outer| is_device(outer, "disk"))
}
