//! `momentlog.reconcile/1`: what log and hypervisor do not agree on, for programs.

use momentlog::core::{DomainUuid, MomentName};
use momentlog::driver::{DiskFinding, DiskState, Listing, Reconciled, Step};
use serde::Serialize;

use super::{Looked, Managing, listing};

/// What became of some domains.
#[derive(Debug, Serialize)]
pub struct ReconcileDoc<'a> {
    schema: &'static str,
    domains: Vec<DomainDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct DomainDoc<'a> {
    domain: &'a str,
    uuid: String,
    running: Option<bool>,
    checkpoints: Option<Vec<CheckpointDoc<'a>>>,
    unrecorded: Option<Vec<BitmapDoc<'a>>>,
    jobs: Option<Vec<u64>>,
    plan: Option<Vec<StepDoc<'a>>>,
    repaired: Vec<StepDoc<'a>>,
    libvirt: Option<ListingDoc<'a>>,
    errors: &'a [String],
}

#[derive(Debug, Serialize)]
struct CheckpointDoc<'a> {
    name: &'a str,
    disks: Vec<DiskDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct DiskDoc<'a> {
    disk: &'a str,
    state: &'static str,
    bitmap: &'a str,
    bytes: Option<u64>,
    layers: Vec<LayerDoc<'a>>,
    last_ok: Option<String>,
}

#[derive(Debug, Serialize)]
struct LayerDoc<'a> {
    image: &'a str,
    state: &'static str,
}

#[derive(Debug, Serialize)]
struct BitmapDoc<'a> {
    disk: &'a str,
    image: &'a str,
    bitmap: &'a str,
    kind: &'static str,
}

#[derive(Debug, Serialize)]
struct StepDoc<'a> {
    step: usize,
    r#do: &'static str,
    disk: Option<&'a str>,
    image: Option<&'a str>,
    bitmap: Option<&'a str>,
    checkpoint: Option<&'a str>,
    why: &'static str,
}

#[derive(Debug, Serialize)]
struct ListingDoc<'a> {
    uri: &'a str,
    running: bool,
    checkpoints: Vec<ListedDoc<'a>>,
    unrecorded: Vec<UnlistedDoc<'a>>,
    plan: Vec<RedefinitionDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct ListedDoc<'a> {
    name: &'a str,
    state: &'static str,
    disks: Vec<ListedDiskDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct ListedDiskDoc<'a> {
    disk: &'a str,
    bitmap: &'a str,
    valid: Option<bool>,
    bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct UnlistedDoc<'a> {
    name: &'a str,
    parent: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct RedefinitionDoc<'a> {
    step: usize,
    r#do: &'static str,
    checkpoint: &'a str,
    parent: Option<&'a str>,
    why: &'static str,
    command: Vec<String>,
    xml: &'a str,
}

/// Returns the document of what became of some domains.
pub fn document<'a>(looked: &'a [Looked], managing: Option<&'a Managing<'_>>) -> ReconcileDoc<'a> {
    ReconcileDoc {
        schema: "momentlog.reconcile/1",
        domains: looked.iter().map(|looked| of(looked, managing)).collect(),
    }
}

fn of<'a>(looked: &'a Looked, managing: Option<&'a Managing<'_>>) -> DomainDoc<'a> {
    let found = looked.found.as_ref();
    let libvirt = managing.zip(looked.listing.as_ref());
    DomainDoc {
        domain: &looked.domain,
        uuid: looked.uuid.to_string(),
        running: found.map(|found| found.running),
        checkpoints: found.map(checkpoints),
        unrecorded: found.map(unrecorded),
        jobs: found.map(|found| found.jobs.iter().map(|job| job.get()).collect()),
        plan: found.map(|found| steps(&found.plan)),
        repaired: steps(&looked.repaired),
        libvirt: libvirt.map(|(managing, listing)| listed(managing.uri, looked.uuid, listing)),
        errors: &looked.faults,
    }
}

fn checkpoints(found: &Reconciled) -> Vec<CheckpointDoc<'_>> {
    let doc = |disk: &DiskFinding| -> Option<String> {
        if disk.state == DiskState::Ok {
            let now = jiff::Timestamp::now().as_microsecond();
            return momentlog_audit::json::recorded(now);
        }
        momentlog_audit::json::recorded(disk.last_ok?)
    };
    let findings = found.checkpoints.iter().map(|finding| CheckpointDoc {
        name: finding.checkpoint.as_str(),
        disks: finding
            .disks
            .iter()
            .map(|disk| DiskDoc {
                disk: &disk.disk,
                state: disk.state.as_str(),
                bitmap: &disk.bitmap,
                bytes: disk.bytes,
                layers: disk
                    .layers
                    .iter()
                    .map(|layer| LayerDoc {
                        image: &layer.image,
                        state: layer.state.as_str(),
                    })
                    .collect(),
                last_ok: doc(disk),
            })
            .collect(),
    });
    findings.collect()
}

fn unrecorded(found: &Reconciled) -> Vec<BitmapDoc<'_>> {
    let bitmaps = found.unrecorded.iter().map(|bitmap| BitmapDoc {
        disk: &bitmap.disk,
        image: &bitmap.image,
        bitmap: &bitmap.bitmap,
        kind: bitmap.kind.as_str(),
    });
    bitmaps.collect()
}

fn steps(steps: &[Step]) -> Vec<StepDoc<'_>> {
    (1..)
        .zip(steps)
        .map(|(number, taken)| step(number, taken))
        .collect()
}

fn step(number: usize, taken: &Step) -> StepDoc<'_> {
    match taken {
        Step::RemoveBitmap(found) => StepDoc {
            step: number,
            r#do: "remove-bitmap",
            disk: Some(&*found.disk),
            image: Some(&*found.image),
            bitmap: Some(&*found.bitmap),
            checkpoint: None,
            why: found.kind.as_str(),
        },
        Step::DropCheckpoint { checkpoint, why } => StepDoc {
            step: number,
            r#do: "drop-checkpoint",
            disk: None,
            image: None,
            bitmap: None,
            checkpoint: Some(checkpoint.as_str()),
            why: why.as_str(),
        },
    }
}

fn listed<'a>(uri: &'a str, domain: DomainUuid, found: &'a Listing) -> ListingDoc<'a> {
    let checkpoints = found.checkpoints.iter().map(|found| ListedDoc {
        name: found.checkpoint.as_str(),
        state: found.state.as_str(),
        disks: found
            .disks
            .iter()
            .map(|disk| ListedDiskDoc {
                disk: &disk.disk,
                bitmap: &disk.bitmap,
                valid: disk.valid,
                bytes: disk.bytes,
            })
            .collect(),
    });
    let unrecorded = found.unrecorded.iter().map(|unlisted| UnlistedDoc {
        name: unlisted.name.as_str(),
        parent: unlisted.parent.as_ref().map(MomentName::as_str),
    });
    let plan = (1..)
        .zip(&found.plan)
        .map(|(step, redefinition)| RedefinitionDoc {
            step,
            r#do: "redefine-checkpoint",
            checkpoint: redefinition.moment.as_str(),
            parent: redefinition.parent.as_ref().map(MomentName::as_str),
            why: "not listed",
            command: listing::command(uri, domain, redefinition),
            xml: &redefinition.xml,
        });
    ListingDoc {
        uri,
        running: found.running,
        checkpoints: checkpoints.collect(),
        unrecorded: unrecorded.collect(),
        plan: plan.collect(),
    }
}
