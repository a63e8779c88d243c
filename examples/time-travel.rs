//! The state as of any record: what was there before it was deleted, and who deleted it.
//!
//! `cargo run --example time-travel`
#![expect(clippy::print_stdout, reason = "it is a program")]

use momentlog::core::{Change, MomentChange, Scope};
use momentlog::{CheckpointCreateFlags, CheckpointDeleteFlags, Connection, Provenance, View};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let store = Connection::open(&format!("momentlog://{}/store", scratch.path().display()))?;
    let domain = store.define_domain_xml(include_str!("web01.xml"))?;
    for name in ["monday", "tuesday", "wednesday"] {
        let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
        domain.checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE)?;
    }
    let careless = Provenance {
        actor: "intern".into(),
        reason: Some("looked old".into()),
        ..Provenance::default()
    };
    let theirs = store
        .with_provenance(careless)
        .lookup_domain_by_name("web01")?;
    theirs
        .checkpoint_lookup_by_name("monday")?
        .delete(CheckpointDeleteFlags::CHILDREN)?;

    let names = |view: &View| -> Vec<String> {
        let checkpoints = view
            .state()
            .domain(domain.uuid())
            .map(momentlog::core::Domain::checkpoints);
        checkpoints
            .into_iter()
            .flat_map(|list| list.walk(Scope::All))
            .map(|moment| moment.name.to_string())
            .collect()
    };
    let now = store.refresh()?;
    println!("now: {:?}", names(&now));

    for entry in store.entries(None)? {
        let deletion = entry.events.iter().find_map(|event| match &event.change {
            Change::Checkpoint(MomentChange::Deleted { removed, .. }) => Some(removed.len()),
            _ => None,
        });
        if let Some(count) = deletion {
            let reason = entry.reason.as_deref().unwrap_or("no reason");
            println!(
                "record {}: {} deleted {count} checkpoints, because: {reason}",
                entry.head.seq, entry.actor
            );
            let before = entry
                .previous
                .expect("a deletion is not a domain's first record");
            let view = store.view_at(before)?;
            println!("as of record {before}: {:?}", names(&view));
            assert_eq!(names(&view), ["monday", "tuesday", "wednesday"]);
        }
    }
    assert!(names(&now).is_empty());
    Ok(())
}
