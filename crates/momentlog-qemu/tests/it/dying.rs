//! Callers that die at any request of a call on a real storage daemon, and clients that are in its way.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use momentlog::core::HypervisorRun;
use momentlog::{
    BackupBeginFlags, CheckpointCreateFlags, SnapshotCreateFlags, SnapshotDeleteFlags,
};
use momentlog_qemu::{AskError, EnterError, Hypervisor, Monitor, Qemu, QmpSockets, Request};
use serde_json::{Value, json};

use crate::faults::World;

/// A way to monitors that is cut after some requests.
#[derive(Clone, Debug)]
struct Dying {
    left: Arc<AtomicU64>,
}

#[derive(Debug)]
struct DyingMonitor {
    left: Arc<AtomicU64>,
    monitor: Box<dyn Monitor>,
}

impl Hypervisor for Dying {
    fn enter(&self, socket: &Path, wait: Duration) -> Result<Box<dyn Monitor>, EnterError> {
        if self.left.load(Ordering::Relaxed) == 0 {
            let socket = socket.display().to_string();
            return Err(EnterError::Held { socket, wait });
        }
        let monitor = QmpSockets::default().enter(socket, wait)?;
        let left = self.left.clone();
        Ok(Box::new(DyingMonitor { left, monitor }))
    }
}

impl Monitor for DyingMonitor {
    fn run(&self) -> Option<HypervisorRun> {
        self.monitor.run()
    }

    fn ask(&mut self, request: &Request) -> Result<Value, AskError> {
        let execute = request.execute.to_string();
        if self.left.load(Ordering::Relaxed) == 0 {
            return Err(AskError::Closed { execute });
        }
        let answer = self.monitor.ask(request);
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            // The last one is done, and its answer is not read any more.
            1 => Err(AskError::Closed { execute }),
            _ => answer,
        }
    }
}

fn overlay_xml(world: &World) -> String {
    let file = world.path("over");
    format!(
        "<domainsnapshot><name>s1</name><disks><disk name='vda' snapshot='external'><source file='{file}'/></disk>\
         <disk name='vdb' snapshot='no'/><disk name='vdc' snapshot='no'/></disks></domainsnapshot>"
    )
}

/// Whether a disk of the daemon writes to the overlay: something reads and writes through the node that has it.
fn has_overlay(world: &World) -> bool {
    let nodes = world.ask("query-named-block-nodes", json!({ "flat": true }));
    let file = world.path("over");
    let nodes = nodes.as_array().unwrap();
    let mut overlays = nodes
        .iter()
        .filter(|node| node["drv"] == "qcow2" && node["image"]["filename"] == *file);
    overlays.any(|node| node["image"]["full-backing-filename"].is_string())
}

#[test]
fn an_overlay_is_merged_or_its_snapshot_is_there_wherever_the_caller_dies() {
    for requests in 1.. {
        let Some(world) = World::new() else { return };
        let domain = &world.domain;
        domain
            .snapshot_create_xml(&overlay_xml(&world), SnapshotCreateFlags::DISK_ONLY)
            .unwrap();
        assert!(has_overlay(&world));
        let left = Arc::new(AtomicU64::new(requests));
        let dying = Qemu::over(Arc::new(Dying { left: left.clone() }));
        let connection = domain
            .connection()
            .with_drivers([Arc::new(dying) as Arc<_>]);
        let dying = connection.lookup_domain_by_name("vm").unwrap();
        let snapshot = dying.snapshot_lookup_by_name("s1").unwrap();
        let deleted = snapshot.delete(SnapshotDeleteFlags::NONE);
        let survived = left.load(Ordering::Relaxed) > 0;
        // What is swept after the outcome may fail.
        assert!(deleted.is_ok() || !survived, "{requests}: {deleted:?}");
        domain.look().unwrap();
        let is_there = domain.snapshot_lookup_by_name("s1").is_ok();
        assert_eq!(is_there, has_overlay(&world), "{requests}");
        assert_eq!(
            world.ask("query-jobs", Value::Null),
            json!([]),
            "{requests}"
        );
        if !is_there {
            assert!(!world.files().contains(&"over".to_owned()), "{requests}");
        }
        if survived {
            break;
        }
    }
}

#[test]
fn a_snapshot_is_made_or_nothing_is_left_of_it_wherever_the_caller_dies() {
    for requests in 1.. {
        let Some(world) = World::new() else { return };
        let domain = &world.domain;
        let before = world.everything();
        let left = Arc::new(AtomicU64::new(requests));
        let dying = Qemu::over(Arc::new(Dying { left: left.clone() }));
        let connection = domain
            .connection()
            .with_drivers([Arc::new(dying) as Arc<_>]);
        let dying = connection.lookup_domain_by_name("vm").unwrap();
        let made = dying.snapshot_create_xml(&overlay_xml(&world), SnapshotCreateFlags::DISK_ONLY);
        let survived = left.load(Ordering::Relaxed) > 0;
        assert!(made.is_ok() || !survived, "{requests}: {made:?}");
        domain.look().unwrap();
        let is_made = domain.snapshot_lookup_by_name("s1").is_ok();
        assert!(is_made || world.everything() == before, "{requests}");
        // Every disk can be told from an overlay that is not above it.
        let xml = "<domaincheckpoint><name>c1</name><disks><disk name='vda'/><disk name='vdb' checkpoint='no'/>\
                   <disk name='vdc' checkpoint='no'/></disks></domaincheckpoint>";
        domain
            .checkpoint_create_xml(xml, CheckpointCreateFlags::NONE)
            .unwrap();
        let found = domain.reconcile().unwrap();
        assert!(found.agrees(), "{requests}: {found:?}");
        let images: BTreeSet<String> = found.checkpoints[0].disks[0]
            .layers
            .iter()
            .map(|layer| layer.image.to_string())
            .collect();
        let top = world.path(if is_made { "over" } else { "vda" });
        assert_eq!(images, BTreeSet::from([top]), "{requests}");
        if survived {
            break;
        }
    }
}

#[test]
fn a_pull_backup_that_a_client_reads_is_ended_and_nothing_is_left_of_it() {
    let Some(world) = World::new() else { return };
    let before = (world.everything(), world.files());
    let (socket, scratch) = (world.path("nbd"), world.path("scratch"));
    let xml = format!(
        "<domainbackup mode='pull'><server transport='unix' socket='{socket}'/><disks><disk name='vda' type='file'>\
         <scratch file='{scratch}'/></disk><disk name='vdb' backup='no'/><disk name='vdc' backup='no'/></disks></domainbackup>"
    );
    for _ in 0..3 {
        world
            .domain
            .backup_begin(&xml, None, BackupBeginFlags::NONE)
            .unwrap();
        let mut client = Command::new("qemu-io")
            .args(["-r", "-f", "raw"])
            .arg(format!("nbd+unix:///vda?socket={socket}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It prompts when it is connected.
        let mut prompt = [0];
        std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut prompt).unwrap();
        world.domain.abort_job().unwrap();
        let _ = client.kill();
        client.wait().unwrap();
        let mut after = (world.everything(), world.files());
        // A storage daemon leaves the socket of its server.
        after.1.retain(|file| file != "nbd");
        assert_eq!(after, before);
        assert!(world.domain.job_info().unwrap().is_none());
    }
}
