//! An auditor that follows a log from another process, without ever standing in the writer's way.
//!
//! `cargo run --example audit-reader [-- URI [SECONDS]]` prints every entry as it becomes durable. Without a URI it starts
//! a second process of itself that writes, and follows that one.
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::time::{Duration, Instant};

use momentlog::core::Change;
use momentlog::{CheckpointCreateFlags, Connection, Entry, UndefineFlags};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--write", uri] => write(uri),
        [] => demonstrate(),
        [uri] => follow(uri, Duration::from_hours(1)).map(|_| ()),
        [uri, seconds] => follow(uri, Duration::from_secs(seconds.parse()?)).map(|_| ()),
        _ => Err("usage: audit-reader [URI [SECONDS]]".into()),
    }
}

/// Prints entries as they come, until the time is over or the domain is gone; returns how many there were.
fn follow(uri: &str, time: Duration) -> Result<usize, Box<dyn std::error::Error>> {
    let reader = Connection::open(uri)?.read_only();
    let mut subscription = reader.subscribe(None);
    let end = Instant::now() + time;
    let mut seen = 0;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let entries = subscription.next(left.min(Duration::from_secs(1)))?;
        for entry in &entries {
            println!("{}", told(entry));
        }
        seen += entries.len();
        let gone = |entry: &Entry| {
            entry
                .events
                .iter()
                .any(|event| event.change == Change::DomainRemoved)
        };
        if left.is_zero() || entries.iter().any(gone) {
            return Ok(seen);
        }
    }
}

fn told(entry: &Entry) -> String {
    let digest = entry.head.digest.to_string();
    let events = entry.events.len();
    format!(
        "record {} {}… by {}: {events} events",
        entry.head.seq,
        &digest[..12],
        entry.actor
    )
}

fn write(uri: &str) -> Result<(), Box<dyn std::error::Error>> {
    let store = Connection::open(uri)?;
    let domain = store.define_domain_xml(include_str!("web01.xml"))?;
    for name in ["one", "two", "three"] {
        let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
        domain.checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE)?;
    }
    domain.undefine(UndefineFlags::NONE)?;
    Ok(())
}

fn demonstrate() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let uri = format!("momentlog://{}/store", scratch.path().display());
    let mut writer = std::process::Command::new(std::env::current_exe()?)
        .args(["--write", &uri])
        .spawn()?;
    let seen = follow(&uri, Duration::from_secs(30))?;
    assert!(writer.wait()?.success());
    // Genesis, one definition, three checkpoints, one removal.
    assert_eq!(seen, 6);
    Ok(())
}
