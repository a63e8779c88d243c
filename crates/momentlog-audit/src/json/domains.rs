//! `momentlog.domains/1` and `momentlog.disks/1`: domains as they are, and the disks of one.

use momentlog_core::{Attachment, Domain, DomainUuid};
use momentlog_engine::{Revision, View};
use serde::Serialize;

use super::DomainDoc;

/// Domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DomainsDoc {
    schema: &'static str,
    domains: Vec<DomainStateDoc>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct DomainStateDoc {
    name: String,
    uuid: String,
    /// The number of a running domain.
    id: Option<u32>,
    state: &'static str,
    /// libvirt's number of the reason for that state.
    reason: u8,
    persistent: bool,
    memory_kib: u64,
    snapshots: usize,
    checkpoints: usize,
    /// The last record that changed the domain.
    revision: Option<u64>,
    attached: Option<AttachedDoc>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct AttachedDoc {
    driver: String,
    socket: String,
    look_only: bool,
}

impl AttachedDoc {
    fn of(attachment: &Attachment) -> AttachedDoc {
        AttachedDoc {
            driver: attachment.driver.to_string(),
            socket: attachment.socket.to_string(),
            look_only: attachment.look_only,
        }
    }
}

impl DomainsDoc {
    /// Returns the document of those of these domains that a view has, in their order.
    pub fn of(view: &View, domains: impl IntoIterator<Item = DomainUuid>) -> DomainsDoc {
        let found = domains
            .into_iter()
            .filter_map(|uuid| view.state().domain(uuid));
        DomainsDoc {
            schema: "momentlog.domains/1",
            domains: found.map(|domain| state(view, domain)).collect(),
        }
    }
}

fn state(view: &View, domain: &Domain) -> DomainStateDoc {
    let power = domain.power();
    DomainStateDoc {
        name: domain.name().to_string(),
        uuid: domain.uuid().to_string(),
        id: power.id,
        state: momentlog_core::SnapshotState::Run(power.state).as_str(),
        reason: power.reason,
        persistent: domain.is_persistent(),
        memory_kib: domain.def().memory_kib,
        snapshots: domain.snapshots().len(),
        checkpoints: domain.checkpoints().len(),
        revision: match view.revision(domain.uuid()) {
            Revision::At(seq) => Some(seq.get()),
            Revision::None => None,
        },
        attached: domain
            .attachment()
            .map(|attachment| AttachedDoc::of(attachment)),
    }
}

/// The disks of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DisksDoc {
    schema: &'static str,
    domain: DomainDoc,
    disks: Vec<DiskDoc>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct DiskDoc {
    #[serde(rename = "type")]
    kind: String,
    device: String,
    target: String,
    source: Option<String>,
}

impl DisksDoc {
    /// Returns the document of disks, each with its type, device, target and source, as virsh lists them: `-` is no source.
    pub fn of(domain: DomainDoc, disks: Vec<[String; 4]>) -> DisksDoc {
        let doc = |[kind, device, target, source]: [String; 4]| DiskDoc {
            kind,
            device,
            target,
            source: Some(source).filter(|source| source != "-"),
        };
        DisksDoc {
            schema: "momentlog.disks/1",
            domain,
            disks: disks.into_iter().map(doc).collect(),
        }
    }
}
