//! A backup tool that keeps its chain of checkpoints in momentlog.
//!
//! Every night it makes a checkpoint, backs up what changed since the one before, and lets go of the oldest when there
//! are more than it keeps. A request id makes the night's work safe to repeat: if the tool dies after the checkpoint was
//! recorded, the retry gets the same checkpoint instead of a second one.
//!
//! `cargo run --example nightly-backup [-- URI]`; without a URI it uses a store that is gone afterwards.
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::sync::Arc;

use momentlog::core::{CheckpointDisk, DiskTracking, MomentName};
use momentlog::xml::CheckpointRequest;
use momentlog::{CheckpointDeleteFlags, CheckpointListFlags, Connection, Provenance};

const KEPT: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let scratch_uri = format!("momentlog://{}/store", scratch.path().display());
    let uri = std::env::args().nth(1).unwrap_or(scratch_uri);
    five_nights(&Connection::open(&uri)?)
}

/// Backs up from the first night on.
pub(crate) fn five_nights(store: &Connection) -> Result<(), Box<dyn std::error::Error>> {
    store.define_domain_xml(include_str!("web01.xml"))?;

    for night in 1..=5 {
        back_up(store, night)?;
        // As if the tool had died before it could note that the night is done.
        back_up(store, night)?;
    }

    let domain = store.lookup_domain_by_name("web01")?;
    let names: Vec<String> = domain
        .list_all_checkpoints(CheckpointListFlags::TOPOLOGICAL)?
        .iter()
        .map(|checkpoint| checkpoint.name().to_string())
        .collect();
    println!("kept: {}", names.join(" <- "));
    assert_eq!(names, ["night-3", "night-4", "night-5"]);
    Ok(())
}

fn back_up(store: &Connection, night: u32) -> Result<(), Box<dyn std::error::Error>> {
    let provenance = Provenance {
        actor: "nightly-backup".into(),
        reason: Some(format!("night {night}").into()),
        request_id: Some(format!("web01/night-{night}/checkpoint").into()),
        ..Provenance::default()
    };
    let domain = store
        .with_provenance(provenance.clone())
        .lookup_domain_by_name("web01")?;
    let tracked = |disk: &str| CheckpointDisk {
        name: disk.into(),
        tracking: DiskTracking::Bitmap(None),
    };
    let checkpoint = domain.create_checkpoint(CheckpointRequest {
        name: MomentName::new(&format!("night-{night}")),
        description: Some("nightly incremental backup".into()),
        disks: vec![tracked("vda"), tracked("vdb")],
    })?;
    // A late retry may get its first answer back for a checkpoint that is gone since: that is an error here.
    match checkpoint.parent()? {
        Some(parent) => println!(
            "{}: copy what changed since {}",
            checkpoint.name(),
            parent.name()
        ),
        None => println!("{}: copy everything", checkpoint.name()),
    }

    let chain = domain.list_all_checkpoints(CheckpointListFlags::TOPOLOGICAL)?;
    for oldest in chain.iter().take(chain.len().saturating_sub(KEPT)) {
        let request_id: Arc<str> = format!("web01/delete/{}", oldest.name()).into();
        let cleaning = Provenance {
            request_id: Some(request_id),
            ..provenance.clone()
        };
        let domain = store
            .with_provenance(cleaning)
            .lookup_domain_by_name("web01")?;
        domain
            .checkpoint_handle(oldest.name().clone())
            .delete(CheckpointDeleteFlags::NONE)?;
    }
    Ok(())
}
