//! What libvirt's schemas take, as far as they reach: rules of structure, each with the place where it is broken.

mod backup;

use momentlog_core::{DomainUuid, MomentName};

use crate::disk_source::NETWORK_PARTS;
use crate::document::{Child, Element, Source, is_blank};
use crate::domain::DOMAIN_TYPES;
use crate::error::{Rule, XmlError};

pub(crate) use backup::backup;

/// Image formats that a backing image may have.
const BACKING_FORMATS: [&str; 5] = ["cow", "qcow", "qcow2", "qed", "vmdk"];

type Checked = Result<(), XmlError>;

fn broken(source: &Source<'_>, at: Element<'_>, rule: String) -> Checked {
    Err(source.error(at.offset(), Rule::Schema(rule)))
}

/// Checks the names, order and number of what an element may hold: each child at most once, unless it is in `many`.
fn structure(
    source: &Source<'_>,
    element: Element<'_>,
    attributes: &[&str],
    once: &[&str],
    many: &[&str],
) -> Checked {
    let name = element.name();
    if element.is_namespaced() {
        return broken(
            source,
            element,
            format!("element '{name}' must be in no namespace"),
        );
    }
    let is_declaration = |key: &str| key == "xmlns" || key.starts_with("xmlns:");
    for (key, _) in element.attributes() {
        if !is_declaration(key) && !attributes.contains(&key) {
            return broken(
                source,
                element,
                format!("attribute '{key}' is not allowed in '{name}'"),
            );
        }
    }
    let mut seen: Vec<&str> = Vec::new();
    for child in element.children() {
        match child {
            Child::Comment(_) | Child::Instruction(_) => {}
            Child::Text(text) if is_blank(text) => {}
            Child::Text(_) => {
                return broken(source, element, format!("text is not allowed in '{name}'"));
            }
            Child::Element(child) => {
                let name_of = child.name();
                let known =
                    !child.is_namespaced() && (once.contains(&name_of) || many.contains(&name_of));
                if !known {
                    return broken(
                        source,
                        child,
                        format!("element '{}' is not allowed in '{name}'", child.name()),
                    );
                }
                if once.contains(&name_of) && seen.contains(&name_of) {
                    return broken(
                        source,
                        child,
                        format!("element '{}' may stand in '{name}' only once", child.name()),
                    );
                }
                seen.push(name_of);
            }
        }
    }
    Ok(())
}

/// Checks an element that holds text alone.
fn text_only(
    source: &Source<'_>,
    element: Element<'_>,
    takes: impl Fn(&str) -> bool,
    what: &str,
) -> Checked {
    if let Some(child) = element.all_elements().next() {
        return broken(
            source,
            child,
            format!(
                "element '{}' is not allowed in '{}'",
                child.name(),
                element.name()
            ),
        );
    }
    if let Some((key, _)) = element.attributes().next() {
        return broken(
            source,
            element,
            format!("attribute '{key}' is not allowed in '{}'", element.name()),
        );
    }
    let text = element.text();
    if takes(&text) {
        Ok(())
    } else {
        broken(
            source,
            element,
            format!("'{text}' in '{}' is not {what}", element.name()),
        )
    }
}

/// Whether a value is one of some words: in a schema's list, blanks around it do not count. What is read afterwards takes
/// none, and says so itself.
fn is_word(words: &[&str]) -> impl Fn(&str) -> bool {
    move |value| words.contains(&value.trim_matches([' ', '\t', '\r', '\n']))
}

/// Checks the value of an attribute.
fn attribute(
    source: &Source<'_>,
    element: Element<'_>,
    key: &str,
    takes: impl Fn(&str) -> bool,
    what: &str,
) -> Checked {
    match element.attribute(key) {
        Some(value) if !takes(value) => broken(
            source,
            element,
            format!(
                "'{value}' in attribute '{key}' of '{}' is not {what}",
                element.name()
            ),
        ),
        _ => Ok(()),
    }
}

fn is_unsigned_long(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u64>().is_ok()
}

fn is_absolute(text: &str) -> bool {
    let rest = text.strip_prefix('/').or_else(|| {
        let drive = text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
        text.get(1..)
            .and_then(|text| text.strip_prefix(":\\"))
            .filter(|_| drive)
    });
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['\n', '\r']))
}

fn is_disk_name(text: &str) -> bool {
    let plain = text.strip_prefix("ioemu:").unwrap_or(text);
    let prefixes = ["fd", "hd", "sd", "vd", "xvd", "ubd"];
    let target = prefixes
        .iter()
        .filter_map(|prefix| plain.strip_prefix(prefix))
        .any(|rest| {
            !rest.is_empty()
                && rest
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        });
    target || is_absolute(text)
}

fn disk_name(source: &Source<'_>, disk: Element<'_>) -> Checked {
    if disk.attribute("name").is_none() {
        return broken(source, disk, "'disk' needs a 'name'".to_owned());
    }
    attribute(
        source,
        disk,
        "name",
        is_disk_name,
        "a target or an absolute path",
    )
}

/// Checks `<parent>`, which holds a name alone.
fn parent(
    source: &Source<'_>,
    parent: Element<'_>,
    name: impl Fn(Element<'_>) -> Checked,
) -> Checked {
    structure(source, parent, &[], &["name"], &[])?;
    match parent.child("name") {
        Some(element) => name(element),
        None => broken(source, parent, "'parent' needs a 'name'".to_owned()),
    }
}

/// `domaincheckpoint.rng`.
pub(crate) fn checkpoint(source: &Source<'_>, root: Element<'_>) -> Checked {
    structure(
        source,
        root,
        &[],
        &[
            "name",
            "description",
            "parent",
            "creationTime",
            "disks",
            "domain",
        ],
        &[],
    )?;
    let name = |element: Element<'_>| {
        text_only(
            source,
            element,
            MomentName::is_checkpoint_name,
            "the name of a checkpoint",
        )
    };
    for child in root.elements() {
        match child.name() {
            "name" => name(child)?,
            "description" => text_only(source, child, |_| true, "a text")?,
            "parent" => parent(source, child, name)?,
            "creationTime" => text_only(source, child, is_unsigned_long, "an unsigned number")?,
            "disks" => {
                structure(source, child, &[], &[], &["disk"])?;
                if child.elements().next().is_none() {
                    broken(
                        source,
                        child,
                        "'disks' needs at least one 'disk'".to_owned(),
                    )?;
                }
                child
                    .elements()
                    .try_for_each(|disk| checkpoint_disk(source, disk))?;
            }
            _ => domain(source, child)?,
        }
    }
    Ok(())
}

fn checkpoint_disk(source: &Source<'_>, disk: Element<'_>) -> Checked {
    structure(
        source,
        disk,
        &["name", "checkpoint", "bitmap", "size"],
        &[],
        &[],
    )?;
    disk_name(source, disk)?;
    attribute(
        source,
        disk,
        "checkpoint",
        |word| matches!(word, "no" | "bitmap"),
        "'no' or 'bitmap'",
    )?;
    attribute(source, disk, "size", is_unsigned_long, "an unsigned number")?;
    if disk.attribute("checkpoint") == Some("no") {
        for key in ["bitmap", "size"] {
            if disk.attribute(key).is_some() {
                return broken(
                    source,
                    disk,
                    format!("attribute '{key}' is not allowed with checkpoint='no'"),
                );
            }
        }
    }
    Ok(())
}

/// `domainsnapshot.rng`.
pub(crate) fn snapshot(source: &Source<'_>, root: Element<'_>) -> Checked {
    let once = [
        "name",
        "description",
        "state",
        "parent",
        "creationTime",
        "memory",
        "disks",
        "domain",
        "inactiveDomain",
        "cookie",
        "active",
        "revertDisks",
    ];
    structure(source, root, &[], &once, &[])?;
    let states = [
        "running",
        "blocked",
        "paused",
        "shutdown",
        "shutoff",
        "crashed",
        "disk-snapshot",
    ];
    for child in root.elements() {
        match child.name() {
            "name" | "description" | "creationTime" => {
                text_only(source, child, |_| true, "a text")?;
            }
            "state" => text_only(source, child, is_word(&states), "a state")?,
            "active" => text_only(source, child, is_word(&["0", "1"]), "0 or 1")?,
            "parent" => parent(source, child, |name| {
                text_only(source, name, |_| true, "a text")
            })?,
            "memory" => snapshot_memory(source, child)?,
            "disks" | "revertDisks" => {
                structure(source, child, &[], &[], &["disk"])?;
                child
                    .elements()
                    .try_for_each(|disk| snapshot_disk(source, disk))?;
            }
            "inactiveDomain" => domain(source, child)?,
            "domain" => {
                let uuid_alone = child.known().is_none()
                    && child.attributes().next().is_none()
                    && child.all_elements().count() == 1
                    && child
                        .child("uuid")
                        .is_some_and(|uuid| uuid.text().parse::<DomainUuid>().is_ok());
                if !uuid_alone {
                    domain(source, child)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn snapshot_memory(source: &Source<'_>, memory: Element<'_>) -> Checked {
    structure(source, memory, &["snapshot", "file"], &[], &[])?;
    attribute(
        source,
        memory,
        "snapshot",
        is_word(&["no", "internal", "external"]),
        "a location",
    )?;
    attribute(source, memory, "file", is_absolute, "an absolute path")?;
    let location = memory.attribute("snapshot").map(str::trim_ascii);
    match (location, memory.attribute("file")) {
        (Some(location @ ("no" | "internal")), Some(_)) => broken(
            source,
            memory,
            format!("attribute 'file' is not allowed with snapshot='{location}'"),
        ),
        (None | Some("external"), None) => broken(
            source,
            memory,
            "external 'memory' needs a 'file'".to_owned(),
        ),
        _ => Ok(()),
    }
}

fn snapshot_disk(source: &Source<'_>, disk: Element<'_>) -> Checked {
    structure(
        source,
        disk,
        &["name", "snapshot", "type"],
        &["driver", "source", "snapshotDeleteInProgress"],
        &[],
    )?;
    disk_name(source, disk)?;
    let locations = ["no", "internal", "external", "manual"];
    attribute(source, disk, "snapshot", is_word(&locations), "a location")?;
    attribute(
        source,
        disk,
        "type",
        is_word(&["file", "block", "network"]),
        "a type of overlay",
    )?;
    let location = disk.attribute("snapshot").map(str::trim_ascii);
    let external = matches!(location, None | Some("external"));
    for child in disk.elements() {
        match child.name() {
            "driver" | "source" if !external => {
                broken(
                    source,
                    child,
                    format!(
                        "'{}' is only allowed with snapshot='external'",
                        child.name()
                    ),
                )?;
            }
            "driver" if disk.attribute("type").map(str::trim_ascii) == Some("network") => {
                let rule = "'driver' is not allowed with type='network'".to_owned();
                broken(source, child, rule)?;
            }
            "driver" => {
                structure(source, child, &["type"], &["metadata_cache"], &[])?;
                attribute(
                    source,
                    child,
                    "type",
                    is_word(&BACKING_FORMATS),
                    "a format with a backing image",
                )?;
            }
            "source" => overlay_source(source, disk, child)?,
            _ => {}
        }
    }
    if !external && disk.attribute("type").is_some() {
        return broken(
            source,
            disk,
            "attribute 'type' is only allowed with snapshot='external'".to_owned(),
        );
    }
    Ok(())
}

/// The `<source>` of an overlay: which attributes and elements its kind and protocol take.
fn overlay_source(source: &Source<'_>, disk: Element<'_>, element: Element<'_>) -> Checked {
    let kind = disk.attribute("type").map_or("file", str::trim_ascii);
    match kind {
        "network" => {
            let protocol = element.attribute("protocol").unwrap_or_default();
            let (attributes, once) = network_source(protocol.trim_ascii());
            let attributes = [&["protocol", "name", "index"], attributes].concat();
            let once = [&["encryption", "slices"], once].concat();
            structure(source, element, &attributes, &once, &["host"])?;
        }
        kind => {
            let path = if kind == "block" { "dev" } else { "file" };
            let once = ["encryption", "slices"];
            structure(source, element, &[path, "index"], &once, &["seclabel"])?;
            if kind == "block" && element.attribute(path).is_none() {
                return broken(source, element, format!("'source' needs a '{path}'"));
            }
            attribute(source, element, path, is_absolute, "an absolute path")?;
        }
    }
    attribute(
        source,
        element,
        "index",
        is_unsigned_long,
        "an unsigned number",
    )
}

/// The attributes and the elements of a network source that are of its protocol alone.
fn network_source(protocol: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match protocol {
        "nbd" => (&["tls"], &[]),
        "rbd" => (&[], &["snapshot", "config", "auth"]),
        "iscsi" => (&[], &["auth", "initiator"]),
        "https" => (
            &["query"],
            &["auth", "ssl", "cookies", "readahead", "timeout"],
        ),
        // Which of them take what was not tried.
        _ => (&["tls", "query"], &NETWORK_PARTS),
    }
}

/// What of `domaincommon.rng` is checked: type, name and uuid, each at most once. (An os type is asked for when the domain is read.)
fn domain(source: &Source<'_>, domain: Element<'_>) -> Checked {
    if domain.known().is_some() {
        return Ok(());
    }
    let need = |what: &str| broken(source, domain, format!("'domain' needs {what}"));
    match domain.attribute("type") {
        None => return need("a 'type'"),
        Some(kind) if !is_word(&DOMAIN_TYPES)(kind) => return need("a 'type' that is known"),
        Some(_) => {}
    }
    for once in ["name", "uuid", "os", "memory", "devices"] {
        if let Some(again) = domain.named(once).nth(1) {
            return broken(
                source,
                again,
                format!("element '{once}' may stand in 'domain' only once"),
            );
        }
    }
    if domain.child_text("name").is_none() {
        return need("a 'name'");
    }
    if let Some(uuid) = domain.child("uuid")
        && uuid.text().parse::<DomainUuid>().is_err()
    {
        return broken(source, uuid, format!("'{}' is not a uuid", uuid.text()));
    }
    Ok(())
}
