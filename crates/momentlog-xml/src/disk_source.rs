//! The `<source>` of a disk, of a domain or of an overlay: what libvirt refuses in one.

use momentlog_core::SourceKind;

use crate::document::{Element, Source};
use crate::error::{Rule, SourceRule, XmlError};

/// Protocols of network disks that libvirt's parser knows.
const PROTOCOLS: [&str; 15] = [
    "none", "nbd", "rbd", "sheepdog", "gluster", "iscsi", "http", "https", "ftp", "ftps", "tftp",
    "ssh", "vxhs", "nfs", "vdpa",
];

/// What may stand inside a network `<source>` besides hosts, encryption and slices. Which protocol takes what, the schema
/// says.
pub(crate) const NETWORK_PARTS: [&str; 10] = [
    "snapshot",
    "config",
    "auth",
    "initiator",
    "ssl",
    "cookies",
    "readahead",
    "timeout",
    "identity",
    "reconnect",
];

const ENCRYPTIONS: [&str; 5] = ["default", "qcow", "luks", "luks2", "luks-any"];

/// Reads the `type` of a disk; without one it is a file.
///
/// # Errors
///
/// A word that means no kind.
pub(crate) fn kind(source: &Source<'_>, disk: Element<'_>) -> Result<SourceKind, XmlError> {
    Ok(match disk.attribute("type").unwrap_or("file") {
        "file" => SourceKind::File,
        "block" => SourceKind::Block,
        "dir" => SourceKind::Dir,
        "network" => SourceKind::Network,
        "volume" => SourceKind::Volume,
        "nvme" => SourceKind::Nvme,
        "vhostuser" => SourceKind::VhostUser,
        "vhostvdpa" => SourceKind::VhostVdpa,
        value => {
            let rule = Rule::Word {
                element: "disk",
                attribute: "type",
                value: value.to_owned(),
            };
            return Err(source.error(disk.offset(), rule));
        }
    })
}

/// The path or name that a `<source>` of this kind gives; an empty one counts as absent.
pub(crate) fn path(kind: SourceKind, element: Element<'_>) -> Option<String> {
    let of = |key: &str| element.attribute(key).filter(|path| !path.is_empty());
    match kind {
        SourceKind::File => of("file").map(str::to_owned),
        SourceKind::Block | SourceKind::VhostVdpa => of("dev").map(str::to_owned),
        SourceKind::Dir => of("dir").map(str::to_owned),
        SourceKind::Network => of("name").map(str::to_owned),
        SourceKind::VhostUser => of("path").map(str::to_owned),
        SourceKind::Volume => of("pool")
            .zip(of("volume"))
            .map(|(pool, volume)| format!("{pool}/{volume}")),
        SourceKind::Nvme => None,
    }
}

/// Whether libvirt takes a drive with this source for empty.
pub(crate) fn is_empty(kind: SourceKind, element: Option<Element<'_>>) -> bool {
    let Some(element) = element else { return true };
    match kind {
        SourceKind::File | SourceKind::Block | SourceKind::Dir => path(kind, element).is_none(),
        SourceKind::Network => matches!(element.attribute("protocol"), None | Some("none")),
        SourceKind::Volume | SourceKind::Nvme | SourceKind::VhostUser | SourceKind::VhostVdpa => {
            false
        }
    }
}

/// Checks a `<source>` as libvirt's parser does: protocol and name, hosts, what the transport needs, then encryption and
/// authentication.
///
/// # Errors
///
/// The first rule that it breaks.
pub(crate) fn check(
    source: &Source<'_>,
    kind: SourceKind,
    element: Element<'_>,
) -> Result<(), XmlError> {
    if kind == SourceKind::Network {
        check_network(source, element)?;
    }
    for auth in element.named("auth") {
        if auth.attribute("username").is_none() {
            return Err(source.error(auth.offset(), SourceRule::AuthUser));
        }
    }
    for encryption in element.named("encryption") {
        let wrong = |rule: SourceRule| Err(source.error(encryption.offset(), rule));
        match encryption.attribute("format") {
            None => return wrong(SourceRule::EncryptionMissing),
            Some(format) if !ENCRYPTIONS.contains(&format) => {
                return wrong(SourceRule::Encryption(format.to_owned()));
            }
            Some(_) => {}
        }
        for secret in encryption.named("secret") {
            match secret.attribute("type") {
                Some("passphrase") => {}
                None => return wrong(SourceRule::SecretMissing),
                Some(other) => return wrong(SourceRule::Secret(other.to_owned())),
            }
        }
    }
    Ok(())
}

fn check_network(source: &Source<'_>, element: Element<'_>) -> Result<(), XmlError> {
    let wrong = |rule: SourceRule| Err(source.error(element.offset(), rule));
    let word = |element: Element<'_>, name, attribute, value: &str| {
        let rule = Rule::Word {
            element: name,
            attribute,
            value: value.to_owned(),
        };
        Err(source.error(element.offset(), rule))
    };
    let Some(protocol) = element.attribute("protocol") else {
        let rule = Rule::Required {
            element: "source",
            attribute: "protocol",
        };
        return Err(source.error(element.offset(), rule));
    };
    if !PROTOCOLS.contains(&protocol) {
        return word(element, "source", "protocol", protocol);
    }
    if let Some(tls) = element.attribute("tls")
        && !matches!(tls, "yes" | "no")
    {
        return word(element, "source", "tls", tls);
    }
    match element.attribute("name") {
        None if !matches!(protocol, "nbd" | "none") => return wrong(SourceRule::NameMissing),
        Some(name) if protocol == "gluster" => match name.split_once('/') {
            Some((volume, _)) if !volume.is_empty() => {}
            _ => return wrong(SourceRule::VolumePath(name.to_owned())),
        },
        _ => {}
    }
    for host in element.named("host") {
        check_host(source, host)?;
    }
    for ssl in element.named("ssl") {
        if let Some(verify) = ssl.attribute("verify")
            && !matches!(verify, "yes" | "no")
        {
            return word(ssl, "ssl", "verify", verify);
        }
    }
    Ok(())
}

fn check_host(source: &Source<'_>, host: Element<'_>) -> Result<(), XmlError> {
    let wrong = |rule: SourceRule| Err(source.error(host.offset(), rule));
    let transport = host.attribute("transport");
    match transport {
        None | Some("tcp" | "unix" | "rdma") => {}
        Some(other) => return wrong(SourceRule::Transport(other.to_owned())),
    }
    let socket = host.attribute("socket");
    if transport == Some("unix") {
        return match socket {
            None => wrong(SourceRule::SocketMissing),
            Some(_) => Ok(()),
        };
    }
    if socket.is_some() {
        return wrong(SourceRule::SocketOf(
            transport.unwrap_or("(null)").to_owned(),
        ));
    }
    if host.attribute("name").is_none() {
        return wrong(SourceRule::HostMissing);
    }
    match host
        .attribute("port")
        .map(|port| (port, port.parse::<u64>()))
    {
        None => Ok(()),
        Some((port, Err(_))) => wrong(SourceRule::Port(port.to_owned())),
        Some((port, Ok(number))) if number > u64::from(u16::MAX) => {
            wrong(SourceRule::PortRange(port.to_owned()))
        }
        Some(_) => Ok(()),
    }
}
