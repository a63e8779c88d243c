//! `<domainbackup>`.

use std::collections::HashSet;
use std::num::NonZeroU16;
use std::sync::Arc;

use momentlog_core::{
    BackupDef, BackupDisk, BackupExtent, BackupMode, BackupServer, Relabel, SecurityLabel,
    SourceKind,
};

use crate::disk_source;
use crate::document::{Element, Source};
use crate::error::{BackupRule, DocumentKind, Rule, SourceRule, XmlError};
use crate::limits::backup_fits;
use crate::schema;
use crate::snapshot::IMAGE_FORMATS;
use crate::write::Writer;

/// Reads the XML of a backup to be begun. Of a disk that is not copied only the name is kept, as in libvirt.
///
/// # Errors
///
/// [`XmlError`]: where, and the first rule that the text breaks. The schema always counts.
pub fn read_backup(xml: &str) -> Result<BackupDef, XmlError> {
    let source = Source {
        kind: DocumentKind::Backup,
        text: xml,
    };
    let document = source.parse()?;
    let root = document.root();
    source.expect_root(root)?;
    schema::backup(&source, root)?;
    let wrong = |rule: BackupRule| source.error(root.offset(), rule);
    let mode = match root.attribute("mode") {
        None | Some("push") => BackupMode::Push,
        Some("pull") => BackupMode::Pull,
        Some(other) => return Err(wrong(BackupRule::Mode(other.to_owned()))),
    };
    let server = root.child("server");
    let server = server.map(|server| read_server(&source, server));
    let server = server.transpose()?;
    let disks = root.child("disks");
    let disks = disks.into_iter().flat_map(Element::elements);
    let disks = disks.map(|disk| read_disk(&source, disk));
    let def = BackupDef {
        mode,
        incremental: root.child_text("incremental").map(Arc::from),
        server,
        disks: disks.collect::<Result<_, _>>()?,
    };
    backup_fits(&def).map_err(wrong)?;
    Ok(def)
}

/// Returns the error that an attribute is none of the words that are read, although the schema takes it.
fn no_word(
    source: &Source<'_>,
    of: Element<'_>,
    element: &'static str,
    attribute: &'static str,
    value: &str,
) -> XmlError {
    let value = value.to_owned();
    let rule = Rule::Word {
        element,
        attribute,
        value,
    };
    source.error(of.offset(), rule)
}

fn read_server(source: &Source<'_>, server: Element<'_>) -> Result<BackupServer, XmlError> {
    let wrong = |rule: Rule| Err(source.error(server.offset(), rule));
    let text = |key: &str| server.attribute(key).unwrap_or_default();
    let tls = || match server.attribute("tls") {
        None => Ok(None),
        Some("yes") => Ok(Some(true)),
        Some("no") => Ok(Some(false)),
        Some(other) => Err(no_word(source, server, "server", "tls", other)),
    };
    match server.attribute("transport") {
        None | Some("tcp") => {
            let port = server.attribute("port").map(str::parse::<u16>);
            let Ok(port) = port.transpose() else {
                return wrong(SourceRule::PortRange(text("port").to_owned()).into());
            };
            Ok(BackupServer::Tcp {
                name: text("name").into(),
                port: port.and_then(NonZeroU16::new),
                tls: tls()?,
            })
        }
        Some("unix") => {
            let socket = text("socket");
            if !socket.starts_with('/') {
                return wrong(BackupRule::SocketPath(socket.to_owned()).into());
            }
            Ok(BackupServer::Unix {
                socket: socket.into(),
                tls: tls()?,
            })
        }
        Some(other) => wrong(SourceRule::Transport(other.to_owned()).into()),
    }
}

fn read_disk(source: &Source<'_>, disk: Element<'_>) -> Result<BackupDisk, XmlError> {
    let wrong = |rule: BackupRule| Err(source.error(disk.offset(), rule));
    let text = |key: &str| disk.attribute(key).map(Arc::from);
    let name: Arc<str> = text("name").unwrap_or_default();
    match disk.attribute("backup") {
        None | Some("yes") => {}
        Some("no") => return Ok(BackupDisk::new(name, false)),
        Some(other) => return Err(no_word(source, disk, "disk", "backup", other)),
    }
    let extent = match disk.attribute("backupmode") {
        None => None,
        Some("full") => Some(BackupExtent::Full),
        Some("incremental") => Some(BackupExtent::Incremental),
        Some(other) => return Err(no_word(source, disk, "disk", "backupmode", other)),
    };
    let kind = match disk.attribute("type") {
        None | Some("file") => SourceKind::File,
        Some("block") => SourceKind::Block,
        Some(other) => return wrong(BackupRule::DestinationKind(other.to_owned())),
    };
    let driver = disk.child("driver");
    let format = driver.and_then(|driver| driver.attribute("type"));
    if let Some(format) = format
        && !IMAGE_FORMATS.contains(&format)
    {
        return wrong(BackupRule::DestinationFormat(format.to_owned()));
    }
    let destination = disk.child("target").or_else(|| disk.child("scratch"));
    let mut labels = Vec::new();
    if let Some(destination) = destination {
        disk_source::check(source, SourceKind::File, destination)?;
        if destination.child("encryption").is_some() {
            return wrong(BackupRule::Encryption(name.to_string()));
        }
        labels = read_labels(source, destination)?;
    }
    let path = destination.and_then(|destination| {
        let path = destination.attribute("file");
        path.or_else(|| destination.attribute("dev"))
    });
    Ok(BackupDisk {
        name,
        backup: true,
        kind: Some(kind),
        extent,
        incremental: text("incremental"),
        export_name: text("exportname"),
        export_bitmap: text("exportbitmap"),
        index: None,
        format: format.map(Arc::from),
        destination: path.map(Arc::from),
        labels,
    })
}

/// Reads the `<seclabel>`s of a target or scratch space: at most one for each model.
fn read_labels(
    source: &Source<'_>,
    destination: Element<'_>,
) -> Result<Vec<SecurityLabel>, XmlError> {
    let mut models = HashSet::new();
    let mut labels = Vec::new();
    for element in destination.named("seclabel") {
        let model = element.attribute("model");
        if let Some(model) = model
            && !models.insert(model)
        {
            let rule = BackupRule::LabelTwice(model.to_owned());
            return Err(source.error(element.offset(), rule));
        }
        let relabel = match (element.attribute("relabel"), element.attribute("labelskip")) {
            (Some("no"), _) => Relabel::No,
            (None, Some("yes")) => Relabel::Skip,
            (None | Some("yes"), None) => {
                let label = element.child_text("label").unwrap_or_default();
                Relabel::To(label.into())
            }
            (Some(other), _) => return Err(no_word(source, element, "seclabel", "relabel", other)),
            (None, Some(other)) => {
                return Err(no_word(source, element, "seclabel", "labelskip", other));
            }
        };
        labels.push(SecurityLabel {
            model: model.map(Arc::from),
            relabel,
        });
    }
    Ok(labels)
}

/// Returns the backup's XML, byte for byte as libvirt formats it. Follows `virDomainBackupGetXMLDesc`.
pub fn write_backup(def: &BackupDef) -> String {
    let mut writer = Writer::new();
    writer.open("domainbackup", &[("mode", def.mode.as_str())]);
    writer.text(
        "incremental",
        def.incremental.as_deref().unwrap_or_default(),
    );
    if let Some(server) = &def.server {
        write_server(&mut writer, server);
    }
    if !def.disks.is_empty() {
        writer.open("disks", &[]);
        for disk in &def.disks {
            write_disk(&mut writer, def.mode, disk);
        }
        writer.close("disks");
    }
    writer.close("domainbackup");
    writer.finish()
}

/// The attributes that there are.
fn given<'a, const N: usize>(
    attributes: [(&'a str, Option<&'a str>); N],
) -> Vec<(&'a str, &'a str)> {
    let given = attributes.into_iter();
    given
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

fn write_server(writer: &mut Writer, server: &BackupServer) {
    let yes_or_no = |is: bool| if is { "yes" } else { "no" };
    match server {
        BackupServer::Tcp { name, port, tls } => {
            let port = port.map(|port| port.to_string());
            let attributes = given([
                ("transport", Some("tcp")),
                ("tls", tls.map(yes_or_no)),
                ("name", Some(name)),
                ("port", port.as_deref()),
            ]);
            writer.empty("server", &attributes);
        }
        BackupServer::Unix { socket, tls } => {
            let attributes = given([
                ("transport", Some("unix")),
                ("tls", tls.map(yes_or_no)),
                ("socket", Some(socket)),
            ]);
            writer.empty("server", &attributes);
        }
    }
}

fn write_disk(writer: &mut Writer, mode: BackupMode, disk: &BackupDisk) {
    if !disk.backup {
        return writer.empty("disk", &[("name", &disk.name), ("backup", "no")]);
    }
    let index = disk.index.map(|index| index.to_string());
    let attributes = given([
        ("name", Some(&disk.name)),
        ("backup", Some("yes")),
        ("type", disk.kind.map(SourceKind::as_str)),
        ("backupmode", disk.extent.map(BackupExtent::as_str)),
        ("incremental", disk.incremental.as_deref()),
        ("exportname", disk.export_name.as_deref()),
        ("exportbitmap", disk.export_bitmap.as_deref()),
        ("index", index.as_deref()),
    ]);
    if disk.format.is_none() && disk.destination.is_none() {
        return writer.empty("disk", &attributes);
    }
    writer.open("disk", &attributes);
    if let Some(format) = &disk.format {
        writer.empty("driver", &[("type", format)]);
    }
    if let Some(path) = &disk.destination {
        write_destination(writer, mode, disk, path);
    }
    writer.close("disk");
}

fn write_destination(writer: &mut Writer, mode: BackupMode, disk: &BackupDisk, path: &str) {
    let element = match mode {
        BackupMode::Push => "target",
        BackupMode::Pull => "scratch",
    };
    let key = match disk.kind {
        Some(SourceKind::Block) => "dev",
        _ => "file",
    };
    if disk.labels.is_empty() {
        return writer.empty(element, &[(key, path)]);
    }
    writer.open(element, &[(key, path)]);
    for SecurityLabel { model, relabel } in &disk.labels {
        let (key, word, text) = match relabel {
            Relabel::No => ("relabel", "no", ""),
            Relabel::Skip => ("labelskip", "yes", ""),
            Relabel::To(label) => ("relabel", "yes", &**label),
        };
        let attributes = given([("model", model.as_deref()), (key, Some(word))]);
        if text.is_empty() {
            writer.empty("seclabel", &attributes);
        } else {
            writer.open("seclabel", &attributes);
            writer.text("label", text);
            writer.close("seclabel");
        }
    }
    writer.close(element);
}
