//! The disks of a domain, as `virsh domblklist` shows them, and what `dominfo` shows of its guest.

use std::borrow::Cow;

use momentlog_core::DomainDef;

use crate::document::{Element, Source};
use crate::domain::{kib, targets_in_order};
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

/// What a domain's XML says of its guest, as `virsh dominfo` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFacts {
    /// The type of the operating system, such as `hvm`.
    pub os_type: String,
    /// The vCPUs that it begins with, and at most has; at least 1 each.
    pub vcpus: (u32, u32),
    /// The memory that it begins with, in KiB: at most that of the definition.
    pub memory_kib: u64,
    /// Whether it ends where another guest would begin again.
    pub ends_on_reboot: bool,
}

/// Returns what a domain's XML says of its guest. What does not read has libvirt's default.
pub fn guest_facts(def: &DomainDef) -> GuestFacts {
    let source = Source {
        kind: DocumentKind::Domain,
        text: &def.xml,
    };
    let document = source.parse().ok();
    let root = document.as_ref().map(|document| document.root());
    let child = |name: &str| root.and_then(|root| root.child(name));
    // A guest of a boot loader, which alone may lack it, is one of Xen.
    let os_type = child("os").and_then(|os| os.child_text("type"));
    let vcpu = child("vcpu");
    let number = |text: &str| text.trim().parse().ok().filter(|number| *number > 0);
    let vcpus_max = vcpu.and_then(|vcpu| number(&vcpu.text())).unwrap_or(1);
    let current = vcpu.and_then(|vcpu| number(vcpu.attribute("current")?));
    let memory = child("currentMemory").and_then(kib);
    let on_reboot = root.and_then(|root| root.child_text("on_reboot"));
    GuestFacts {
        os_type: os_type.map_or("xen".to_owned(), Cow::into_owned),
        vcpus: (current.unwrap_or(vcpus_max).min(vcpus_max), vcpus_max),
        memory_kib: memory
            .filter(|memory| (1..=def.memory_kib).contains(memory))
            .unwrap_or(def.memory_kib),
        ends_on_reboot: on_reboot.is_some_and(|what| ["destroy", "preserve"].contains(&&*what)),
    }
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
