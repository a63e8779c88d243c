//! The disks of a domain, as `virsh domblklist` shows them, and its title.

use std::borrow::Cow;

use momentlog_core::DomainDef;

use crate::document::{Element, Source};
use crate::domain::targets_in_order;
use crate::error::DocumentKind;

/// Returns type, device, target and source (`-` if none) of each disk, as `virsh domblklist --details` shows them, and in
/// its order.
pub fn disk_details(def: &DomainDef) -> Vec<[String; 4]> {
    let source = Source {
        kind: DocumentKind::Domain,
        text: &def.xml,
    };
    let document = source.parse().ok();
    let elements: Vec<Element<'_>> = document
        .iter()
        .flat_map(|document| document.root().named("devices"))
        .flat_map(|devices| devices.named("disk"))
        .collect();
    let target = |element: &Element<'_>| {
        let target = element.child("target");
        target.and_then(|target| target.attribute("dev").map(str::to_owned))
    };
    let root = document.as_ref().map(|document| document.root());
    let targets = root.and_then(|root| targets_in_order(&source, root).ok());
    let targets = targets.unwrap_or_else(|| {
        let disks = def.disks.iter();
        disks.map(|disk| disk.target.to_string()).collect()
    });
    targets
        .into_iter()
        .map(|name| {
            let element = elements
                .iter()
                .find(|element| target(element).as_deref() == Some(&name));
            let attribute = |key: &str| element.and_then(|element| element.attribute(key));
            let device = attribute("device").unwrap_or("disk").to_owned();
            let source = element.and_then(|element| element.child("source"));
            // A disk without a source is one of a file, whatever it says: libvirt writes it back so.
            let kind = attribute("type").filter(|_| source.is_some());
            let kind = kind.unwrap_or("file");
            let path = source.and_then(|source| path(kind, source));
            [
                kind.to_owned(),
                device,
                name,
                path.unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect()
}

/// Returns the title of a domain, if it has one.
pub fn domain_title(def: &DomainDef) -> Option<String> {
    let source = Source {
        kind: DocumentKind::Domain,
        text: &def.xml,
    };
    let document = source.parse().ok()?;
    document.root().child_text("title").map(Cow::into_owned)
}

/// Returns what a source is called.
fn path(kind: &str, source: Element<'_>) -> Option<String> {
    let key = match kind {
        "file" => "file",
        "block" | "vhostvdpa" => "dev",
        "dir" => "dir",
        "network" => "name",
        "volume" => "volume",
        "vhostuser" => "path",
        "nvme" => return nvme(source),
        _ => return None,
    };
    let path = source.attribute(key).filter(|path| !path.is_empty())?;
    let is_target = source.attribute("protocol") == Some("iscsi") && !path.contains('/');
    // An iscsi target without a unit means its first.
    Some(if is_target {
        format!("{path}/0")
    } else {
        path.to_owned()
    })
}

/// Returns what libvirt calls a namespace of an `NVMe` controller: its PCI address and number.
fn nvme(source: Element<'_>) -> Option<String> {
    let address = source.child("address")?;
    let number = |key: &str| {
        let text = address.attribute(key)?;
        match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    };
    let (domain, bus) = (number("domain").unwrap_or(0), number("bus")?);
    let (slot, function) = (number("slot")?, number("function")?);
    let namespace = source.attribute("namespace")?;
    Some(format!(
        "nvme://{domain:04x}:{bus:02x}:{slot:02x}.{function:x}/{namespace}"
    ))
}
