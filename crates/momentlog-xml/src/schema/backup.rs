//! `domainbackup.rng`.

use std::net::IpAddr;

use super::{
    Checked, attribute, broken, disk_name, is_absolute, is_unsigned_long, is_word, structure,
    text_only,
};
use crate::document::{Element, Source};
use crate::snapshot::IMAGE_FORMATS;

const YES_OR_NO: [&str; 2] = ["yes", "no"];

/// What a mode allows.
struct Mode {
    is_pull: bool,
    /// Attributes of a disk besides its `type`.
    disk_attributes: &'static [&'static str],
    /// The element that says where a disk is copied to.
    destination: &'static str,
    /// Image formats in words.
    formats: &'static str,
    takes_format: fn(&str) -> bool,
}

const PUSH: Mode = Mode {
    is_pull: false,
    disk_attributes: &["name", "backup", "backupmode", "incremental"],
    destination: "target",
    formats: "an image format",
    takes_format: |format| is_word(&IMAGE_FORMATS)(format) || is_word(&["luks"])(format),
};

const PULL: Mode = Mode {
    is_pull: true,
    disk_attributes: &[
        "name",
        "backup",
        "backupmode",
        "incremental",
        "exportname",
        "exportbitmap",
    ],
    destination: "scratch",
    formats: "'qcow2'",
    takes_format: |format| is_word(&["qcow2"])(format),
};

/// Checks a `<domainbackup>`.
pub(crate) fn backup(source: &Source<'_>, root: Element<'_>) -> Checked {
    structure(
        source,
        root,
        &["mode"],
        &["incremental", "server", "disks"],
        &[],
    )?;
    let is_mode = is_word(&["push", "pull"]);
    attribute(source, root, "mode", is_mode, "'push' or 'pull'")?;
    let mode = match word(root, "mode") {
        Some("pull") => PULL,
        _ => PUSH,
    };
    match root.child("server") {
        Some(_) if mode.is_pull => {}
        Some(element) => {
            let rule = "'server' is only allowed with mode='pull'";
            return broken(source, element, rule.to_owned());
        }
        None if mode.is_pull => {
            let rule = "'domainbackup' with mode='pull' needs a 'server'";
            return broken(source, root, rule.to_owned());
        }
        None => {}
    }
    for child in root.elements() {
        match child.name() {
            "incremental" => text_only(source, child, |_| true, "a text")?,
            "server" => server(source, child)?,
            _ => {
                structure(source, child, &[], &[], &["disk"])?;
                if child.elements().next().is_none() {
                    let rule = "'disks' needs at least one 'disk'".to_owned();
                    return broken(source, child, rule);
                }
                child
                    .elements()
                    .try_for_each(|element| disk(source, element, &mode))?;
            }
        }
    }
    Ok(())
}

/// The word that an attribute is, without the blanks that a schema allows around it.
fn word<'d>(element: Element<'d>, key: &str) -> Option<&'d str> {
    let blank = [' ', '\t', '\r', '\n'];
    element
        .attribute(key)
        .map(|value| value.trim_matches(blank))
}

/// Requires an attribute whose value is right.
fn required(
    source: &Source<'_>,
    element: Element<'_>,
    key: &str,
    takes: impl Fn(&str) -> bool,
    what: &str,
) -> Checked {
    if element.attribute(key).is_none() {
        let rule = format!("'{}' needs a '{key}'", element.name());
        return broken(source, element, rule);
    }
    attribute(source, element, key, takes, what)
}

fn server(source: &Source<'_>, server: Element<'_>) -> Checked {
    let is_transport = is_word(&["tcp", "unix"]);
    attribute(source, server, "transport", is_transport, "'tcp' or 'unix'")?;
    attribute(source, server, "tls", is_word(&YES_OR_NO), "'yes' or 'no'")?;
    if word(server, "transport") == Some("unix") {
        structure(source, server, &["transport", "tls", "socket"], &[], &[])?;
        required(source, server, "socket", is_absolute, "an absolute path")
    } else {
        structure(
            source,
            server,
            &["transport", "tls", "name", "port"],
            &[],
            &[],
        )?;
        required(source, server, "name", is_host, "a host's name or address")?;
        attribute(
            source,
            server,
            "port",
            is_unsigned_int,
            "an unsigned number",
        )
    }
}

fn is_host(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let is_dns_name = !name.is_empty() && name.bytes().all(plain);
    is_dns_name || name.parse::<IpAddr>().is_ok()
}

fn is_unsigned_int(text: &str) -> bool {
    is_unsigned_long(text) && text.parse::<u32>().is_ok()
}

fn disk(source: &Source<'_>, disk: Element<'_>, mode: &Mode) -> Checked {
    attribute(source, disk, "backup", is_word(&YES_OR_NO), "'yes' or 'no'")?;
    if word(disk, "backup") == Some("no") {
        structure(source, disk, mode.disk_attributes, &[], &[])?;
        return disk_name_and_extent(source, disk);
    }
    let attributes = [mode.disk_attributes, &["type"]].concat();
    structure(
        source,
        disk,
        &attributes,
        &[mode.destination, "driver"],
        &[],
    )?;
    disk_name_and_extent(source, disk)?;
    if mode.is_pull && disk.attribute("backup").is_none() {
        attribute(source, disk, "type", is_destination, "'file' or 'block'")?;
    } else {
        required(source, disk, "type", is_destination, "'file' or 'block'")?;
    }
    let is_block = word(disk, "type") == Some("block");
    let destination = disk.child(mode.destination);
    if let Some(element) = destination {
        self::destination(source, element, is_block)?;
    } else if mode.is_pull && (is_block || disk.child("driver").is_some()) {
        let rule = "'disk' with type='block' or a 'driver' needs a 'scratch'";
        return broken(source, disk, rule.to_owned());
    }
    if let Some(driver) = disk.child("driver") {
        structure(source, driver, &["type"], &[], &[])?;
        required(source, driver, "type", mode.takes_format, mode.formats)?;
    }
    Ok(())
}

fn is_destination(kind: &str) -> bool {
    is_word(&["file", "block"])(kind)
}

/// Checks what any disk says: which it is, and how much of it is copied.
fn disk_name_and_extent(source: &Source<'_>, disk: Element<'_>) -> Checked {
    disk_name(source, disk)?;
    if disk.attribute("name").is_some_and(is_absolute) {
        let rule = "attribute 'name' of 'disk' is a path, not a target";
        return broken(source, disk, rule.to_owned());
    }
    let is_extent = is_word(&["full", "incremental"]);
    attribute(
        source,
        disk,
        "backupmode",
        is_extent,
        "'full' or 'incremental'",
    )?;
    if word(disk, "backupmode") == Some("full") && disk.attribute("incremental").is_some() {
        let rule = "attribute 'incremental' is not allowed with backupmode='full'";
        return broken(source, disk, rule.to_owned());
    }
    Ok(())
}

fn destination(source: &Source<'_>, element: Element<'_>, is_block: bool) -> Checked {
    let path = if is_block { "dev" } else { "file" };
    structure(source, element, &[path], &["encryption"], &["seclabel"])?;
    required(source, element, path, is_absolute, "an absolute path")?;
    for child in element.elements() {
        match child.name() {
            "seclabel" => security_label(source, child)?,
            _ => encryption(source, child)?,
        }
    }
    Ok(())
}

fn security_label(source: &Source<'_>, element: Element<'_>) -> Checked {
    let attributes = ["model", "relabel", "labelskip"];
    structure(source, element, &attributes, &[], &["label"])?;
    attribute(
        source,
        element,
        "relabel",
        is_word(&YES_OR_NO),
        "'yes' or 'no'",
    )?;
    attribute(source, element, "labelskip", is_word(&["yes"]), "'yes'")?;
    for label in element.elements() {
        text_only(source, label, |_| true, "a text")?;
    }
    let relabel = word(element, "relabel");
    let leaves = relabel == Some("no");
    let skips = element.attribute("labelskip").is_some();
    let labels = element.elements().next().is_some();
    let fits = match (skips, leaves) {
        (true, _) => relabel.is_none() && !labels,
        (false, leaves) => leaves != labels,
    };
    if fits {
        return Ok(());
    }
    let rule = "'seclabel' needs one of relabel='no', labelskip='yes' and a 'label'";
    broken(source, element, rule.to_owned())
}

fn encryption(source: &Source<'_>, element: Element<'_>) -> Checked {
    structure(
        source,
        element,
        &["format", "engine"],
        &["cipher", "ivgen"],
        &["secret"],
    )?;
    required(source, element, "format", is_word(&["luks"]), "'luks'")?;
    let mut secrets = element.named("secret").peekable();
    if secrets.peek().is_none() {
        let rule = "'encryption' needs a 'secret'".to_owned();
        return broken(source, element, rule);
    }
    for secret in secrets {
        structure(source, secret, &["type", "uuid", "usage"], &[], &[])?;
        required(
            source,
            secret,
            "type",
            is_word(&["passphrase"]),
            "'passphrase'",
        )?;
        if secret.attribute("uuid").is_some() == secret.attribute("usage").is_some() {
            let rule = "'secret' needs one of 'uuid' and 'usage'".to_owned();
            return broken(source, secret, rule);
        }
    }
    Ok(())
}
