//! A log and a guest that a workload is played on, and what must be true of both after a death.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use momentlog::driver::{DiskState, Reconciled, Step as Repair};
use momentlog::store::FileStore;
use momentlog::{
    BackupBeginFlags, CheckpointCreateFlags, CheckpointDeleteFlags, CheckpointListFlags,
    Connection, Domain, ManualClock, Options, SnapshotCreateFlags, SnapshotDeleteFlags,
};
use momentlog_qemu::Qemu;

use super::{Driven, DrivenStep, Left};
use crate::crash::Counter;
use crate::sim_disk::SimDisk;
use crate::sim_qemu::{CLUSTER_LEN, Content, SimGuest, SimGuestDisk, SimHost, SimImage, Tops};

const SOCKET: &str = "/run/vm.qmp";
const DISKS: [&str; 2] = ["vda", "vdb"];
pub(super) const SIZE: u64 = 1 << 20;

/// A file that is there, and no backup may write to.
const TAKEN: &str = "/images/taken";

/// Requests that slow copies take.
const SLOW_REQUESTS: u32 = 20;

/// How often a job that has ended is asked for before it must be settled.
const LOOKS_MAX: usize = 50;

/// The log, the host, and what is known of what was asked.
pub(super) struct World {
    pub(super) log: SimDisk,
    pub(super) host: SimHost,
    /// Checkpoints that were acknowledged, and those of which it is not known.
    made: BTreeSet<String>,
    doubtful: BTreeSet<String>,
    /// Checkpoints whose records went without their bitmaps.
    forgotten: BTreeSet<String>,
    /// Whether the guest was ended in order and started again, or could not be attached once more, so that later steps
    /// were of the log alone.
    may_differ: bool,
    /// Snapshots that were asked for, and whether it was asked to delete their records.
    snapshots: BTreeMap<u8, bool>,
    /// Overlays that were there before the snapshot that uses them.
    reused: Vec<String>,
    /// What the guest had on its disks when a backup began, by target.
    copied: BTreeMap<String, Copied>,
    /// What it had when a checkpoint was made.
    at: BTreeMap<String, [Content; 2]>,
    files: u32,
    /// A file of each backup whose beginning was acknowledged.
    begun: BTreeSet<String>,
}

#[derive(Clone)]
struct Copied {
    now: Content,
    since: Option<Content>,
}

fn device(disk: usize) -> String {
    format!("/machine/peripheral/{}/virtio-backend", DISKS[disk])
}

fn named(kind: char, number: u8) -> String {
    format!("{kind}{number}")
}

/// Opens a log as it is, and asks the hypervisors of a host.
fn connection_to(log: &SimDisk, host: &SimHost) -> Connection {
    let store = FileStore::over(Arc::new(log.clone()));
    let options = Options {
        clock: Arc::new(ManualClock::at_second(1_000)),
        entropy: Arc::new(Counter::default()),
        // What an open job forbids is not waited for, so that each run asks the same.
        lock_wait: Duration::ZERO,
        ..Options::default()
    };
    let qemu = Qemu::over(Arc::new(host.clone()));
    Connection::over(Box::new(store), options).with_drivers([Arc::new(qemu) as Arc<_>])
}

impl World {
    pub(super) fn new() -> World {
        let host = SimHost::new();
        let mut disks = Vec::new();
        for (number, target) in DISKS.iter().enumerate() {
            let image = format!("/images/{target}.qcow2");
            host.put_image(&image, SimImage::qcow2(SIZE));
            disks.push(SimGuestDisk::new(device(number), *target, image));
        }
        host.put_image(TAKEN, SimImage::qcow2(SIZE));
        let config = SimGuest {
            disks,
            ..SimGuest::default()
        };
        host.start(SOCKET, config).expect("a guest starts");
        let world = World {
            log: SimDisk::new("store"),
            host,
            made: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            may_differ: false,
            snapshots: BTreeMap::new(),
            reused: Vec::new(),
            copied: BTreeMap::new(),
            at: BTreeMap::new(),
            files: 0,
            begun: BTreeSet::new(),
        };
        let connection = connection_to(&world.log, &world.host);
        let mut disks = String::new();
        for target in DISKS {
            disks += &format!(
                "<disk type='file'><driver type='qcow2'/><source file='/images/{target}.qcow2'/><target dev='{target}'/></disk>"
            );
        }
        let xml = format!(
            "<domain type='qemu'><name>vm</name><memory>8192</memory><os><type>hvm</type></os><devices>{disks}</devices></domain>"
        );
        let domain = connection
            .define_domain_xml(&xml)
            .expect("a domain is defined");
        let policy = momentlog::core::Policy::NONE;
        connection
            .set_policy(domain.uuid(), policy)
            .expect("rules are set");
        domain
            .attach(Qemu::NAME, SOCKET, false)
            .expect("a guest is attached");
        world
    }

    fn content(&self) -> Option<[Content; 2]> {
        let first = self.host.read(SOCKET, &device(0))?;
        Some([first, self.host.read(SOCKET, &device(1))?])
    }

    pub(super) fn play(&mut self, steps: &[DrivenStep]) {
        let connection = connection_to(&self.log, &self.host);
        let Ok(domain) = connection.lookup_domain_by_name("vm") else {
            return;
        };
        for (number, step) in steps.iter().enumerate() {
            self.step(&domain, number, *step);
        }
    }

    fn step(&mut self, domain: &Domain, number: usize, step: DrivenStep) {
        match step {
            DrivenStep::Write { disk, cluster } => {
                let pattern = u8::try_from(number + 1).unwrap_or(u8::MAX);
                let at = cluster * CLUSTER_LEN;
                // A guest whose hypervisor is dead writes nothing.
                let _ = self
                    .host
                    .write(SOCKET, &device(disk), pattern, at, CLUSTER_LEN);
            }
            DrivenStep::Checkpoint(number) => {
                let name = named('c', number);
                let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
                let content = self.content();
                let made = domain.checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE);
                self.at
                    .extend(content.map(|content| (name.clone(), content)));
                self.note(name, made.is_ok());
            }
            DrivenStep::Delete(number) => {
                self.delete(domain, number, CheckpointDeleteFlags::NONE);
            }
            DrivenStep::ForgetCheckpoint(number) => {
                self.forgotten.insert(named('c', number));
                self.delete(domain, number, CheckpointDeleteFlags::METADATA_ONLY);
            }
            DrivenStep::Snapshot(number) => {
                self.snapshots.insert(number, false);
                let xml = snapshot_xml(number);
                let _ = domain.snapshot_create_xml(&xml, SnapshotCreateFlags::DISK_ONLY);
            }
            DrivenStep::Reuse(number) => {
                self.snapshots.insert(number, false);
                for disk in DISKS {
                    let overlay = overlay_path(number, disk);
                    let below = format!("/images/{disk}.qcow2");
                    self.host
                        .put_image(&overlay, SimImage::qcow2(SIZE).over(&below));
                    self.reused.push(overlay);
                }
                let flags = SnapshotCreateFlags::DISK_ONLY | SnapshotCreateFlags::REUSE_EXT;
                let _ = domain.snapshot_create_xml(&snapshot_xml(number), flags);
            }
            DrivenStep::Forget(number) => {
                if let Ok(found) = domain.snapshot_lookup_by_name(&named('s', number)) {
                    self.snapshots.insert(number, true);
                    let _ = found.delete(SnapshotDeleteFlags::METADATA_ONLY);
                }
            }
            DrivenStep::Push { since, checkpoint } => {
                self.push(domain, since, checkpoint);
                wait_for_copies(domain);
            }
            DrivenStep::SlowPush { since, checkpoint } => {
                self.host.set_job_requests(SLOW_REQUESTS);
                self.push(domain, since, checkpoint);
                self.host.set_job_requests(0);
            }
            DrivenStep::FailingPush { checkpoint } => {
                self.host.set_job_error(Some("No space left on device"));
                self.push(domain, None, checkpoint);
                self.host.set_job_error(None);
            }
            DrivenStep::Restart => {
                if self.host.runs(SOCKET) {
                    let restarted = self.host.restart(SOCKET, Tops::Newest);
                    restarted.expect("the guest starts again");
                    self.may_differ = true;
                }
            }
            DrivenStep::Reattach => {
                let _ = domain.detach();
                let attached = domain.attach(Qemu::NAME, SOCKET, false);
                self.may_differ |= attached.is_err();
            }
            DrivenStep::Over => {
                let xml = format!(
                    "<domainbackup><disks><disk name='vda' type='file'><target file='{TAKEN}'/></disk>\
                     <disk name='vdb' backup='no'/></disks></domainbackup>"
                );
                let begun = domain.backup_begin(&xml, None, BackupBeginFlags::NONE);
                assert!(begun.is_err(), "{begun:?}");
            }
            DrivenStep::Pull { since } => {
                let since = since_xml(since);
                let disks = self.disks_xml("scratch", None);
                let xml = format!(
                    "<domainbackup mode='pull'>{since}<server transport='unix' socket='/run/nbd'/><disks>{disks}</disks></domainbackup>"
                );
                let _ = domain.backup_begin(&xml, None, BackupBeginFlags::NONE);
            }
            DrivenStep::Abort => {
                let _ = domain.abort_job();
            }
        }
    }

    fn push(&mut self, domain: &Domain, since: Option<u8>, checkpoint: Option<u8>) {
        let content = self.content();
        let held = content.clone().map(|now| (now, since));
        let disks = self.disks_xml("target", held.as_ref());
        let xml = format!(
            "<domainbackup>{}<disks>{disks}</disks></domainbackup>",
            since_xml(since)
        );
        let name = checkpoint.map(|number| named('c', number));
        let made = name
            .as_ref()
            .map(|name| format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>"));
        let begun = domain.backup_begin(&xml, made.as_deref(), BackupBeginFlags::NONE);
        if let Some(name) = name {
            self.at
                .extend(content.map(|content| (name.clone(), content)));
            self.note(name, begun.is_ok());
        }
        if begun.is_ok() {
            self.begun
                .insert(format!("/images/target{}-vda", self.files));
        }
    }

    fn delete(&mut self, domain: &Domain, number: u8, flags: CheckpointDeleteFlags) {
        let name = named('c', number);
        if let Ok(found) = domain.checkpoint_lookup_by_name(&name) {
            let deleted = found.delete(flags);
            self.made.remove(&name);
            if deleted.is_err() {
                self.doubtful.insert(name);
            }
        }
    }

    fn note(&mut self, name: String, is_made: bool) {
        if is_made {
            self.made.insert(name);
        } else {
            self.doubtful.insert(name);
        }
    }

    /// The disks of a backup, each to a file of its own; `content` is what they hold, and since when it is copied.
    fn disks_xml(&mut self, tag: &str, content: Option<&([Content; 2], Option<u8>)>) -> String {
        self.files += 1;
        let mut xml = String::new();
        for (number, disk) in DISKS.iter().enumerate() {
            let file = format!("/images/{tag}{}-{disk}", self.files);
            xml += &format!(
                "<disk name='{disk}' type='file'><{tag} file='{file}'/><driver type='qcow2'/></disk>"
            );
            if let Some((now, since)) = content {
                let since = since.map(|since| {
                    let at = self.at.get(&named('c', since));
                    at.map(|at| at[number].clone()).unwrap_or_default()
                });
                let now = now[number].clone();
                self.copied.insert(file, Copied { now, since });
            }
        }
        xml
    }

    /// Opens the store again, brings back what is dead, and checks what log and hypervisor say of each other.
    pub(super) fn recover(&self, left: Left, tally: &mut Driven) {
        self.host.come_back();
        self.host.thaw(SOCKET);
        let connection = connection_to(&self.log.killed(), &self.host);
        let told_off = match left {
            Left::Off { in_order } => Some(self.recover_off(&connection, in_order, tally)),
            Left::Alone | Left::Killed => None,
        };
        let died = left != Left::Alone || !self.host.runs(SOCKET);
        if died {
            self.host.kill(SOCKET);
            self.host
                .restart(SOCKET, Tops::Newest)
                .expect("the guest starts again");
        }
        let domain = attached(&connection);
        domain.look().expect("the guest is entered");
        for looks in 0.. {
            match domain.job_info().expect("jobs are told") {
                Some(info) if info.pull => domain.abort_job().expect("a pull backup is ended"),
                Some(_) => assert!(looks < LOOKS_MAX, "a push backup goes on for ever"),
                None => break,
            }
        }
        let found = domain.reconcile().expect("they are compared");
        assert!(found.jobs.is_empty(), "{found:?}");
        match told_off {
            None => self.compare_list(&domain, tally),
            Some(told) if !self.is_on_empty_overlay() => assert_eq!(told, states(&found)),
            Some(_) => {}
        }
        self.compare_backups(&domain, tally);
        self.compare_files(&domain);
        // A backup that was not settled before the guest ended in order leaves the bitmaps of its checkpoint.
        if !died && !self.may_differ {
            let mut disks = found.checkpoints.iter().flat_map(|found| &found.disks);
            let mut unrecorded = found.unrecorded.iter();
            let agrees = disks.all(|disk| disk.state == DiskState::Ok)
                && unrecorded.all(|found| self.forgotten.contains(&*found.bitmap));
            assert!(agrees, "nothing died but a caller: {found:?}");
        }
        for overlay in &self.reused {
            assert!(self.host.image(overlay).is_some(), "{overlay} was there");
        }
        repair(&domain, found, tally);
    }

    /// Settles what is left while the guest is off, and returns what is said of its checkpoints then. After a kill all is put
    /// right before it runs again.
    fn recover_off(
        &self,
        connection: &Connection,
        in_order: bool,
        tally: &mut Driven,
    ) -> BTreeSet<(String, Arc<str>, DiskState)> {
        if in_order {
            self.host.stop(SOCKET);
        } else {
            self.host.kill(SOCKET);
        }
        let domain = attached(connection);
        domain.look().expect("its images are looked at");
        let mut found = domain.reconcile().expect("they are compared");
        assert!(found.jobs.is_empty() && !found.running, "{found:?}");
        self.compare_list(&domain, tally);
        self.compare_overlays(&domain);
        if !in_order {
            repair(&domain, found, tally);
            found = domain.reconcile().expect("they are compared");
        }
        states(&found)
    }

    /// Whether the guest runs with an overlay that may be one of a snapshot that has failed, as nothing was written to it.
    fn is_on_empty_overlay(&self) -> bool {
        let tops = self.host.tops(SOCKET);
        let mut tops = tops.iter().filter_map(|top| self.host.image(top));
        tops.any(|top| top.backing.is_some() && top.clusters.is_empty() && top.bitmaps.is_empty())
    }

    /// Checks that the log knows the snapshot of each overlay that the guest has written to.
    fn compare_overlays(&self, domain: &Domain) {
        for (number, is_forgotten) in &self.snapshots {
            let written = DISKS.iter().any(|disk| {
                let overlay = self.host.image(&overlay_path(*number, disk));
                overlay.is_some_and(|found| !found.clusters.is_empty() || !found.bitmaps.is_empty())
            });
            let known = domain.snapshot_lookup_by_name(&named('s', *number)).is_ok();
            assert!(
                known || !written || *is_forgotten,
                "s{number} is not in the log"
            );
        }
    }

    /// Checks that the checkpoints which the log has are those that were made.
    fn compare_list(&self, domain: &Domain, tally: &mut Driven) {
        let listed = domain
            .list_all_checkpoints(CheckpointListFlags::NONE)
            .expect("they are listed");
        let listed: BTreeSet<String> = listed
            .iter()
            .map(|found| found.name().to_string())
            .collect();
        for name in self.made.difference(&self.doubtful) {
            assert!(
                listed.contains(name),
                "{name} was acknowledged, and is lost"
            );
            tally.kept += 1;
        }
        for name in &listed {
            let known = self.made.contains(name) || self.doubtful.contains(name);
            assert!(known, "{name} was never asked for");
        }
    }

    /// Compares what is recorded as copied with what the guest had then.
    fn compare_backups(&self, domain: &Domain, tally: &mut Driven) {
        for backup in domain.backups().expect("they are read") {
            if !backup.is_done() {
                continue;
            }
            for disk in &backup.disks {
                let copied = &self.copied[&disk.file];
                let image = self.host.image(&disk.file).expect("a target is there");
                match &copied.since {
                    None => assert_eq!(self.host.read_disk(&disk.file), copied.now, "{backup:?}"),
                    Some(since) => {
                        for (at, data) in &copied.now {
                            if since.get(at) != Some(data) {
                                assert_eq!(image.clusters.get(at), Some(data), "{backup:?}");
                            }
                        }
                        for (at, data) in &image.clusters {
                            assert_eq!(copied.now.get(at), Some(data), "{backup:?}");
                        }
                    }
                }
            }
            tally.backups += 1;
        }
    }

    /// Checks that the log lists each backup that was begun, and that the files are those of backups that are done.
    fn compare_files(&self, domain: &Domain) {
        let backups = domain.backups().expect("they are read");
        let files = |done: bool| -> BTreeSet<String> {
            let backups = backups.iter().filter(|backup| !done || backup.is_done());
            let disks = backups.flat_map(|backup| &backup.disks);
            disks.map(|disk| disk.file.clone()).collect()
        };
        let (all, done) = (files(false), files(true));
        let untold = self.begun.difference(&all).next();
        assert_eq!(untold, None, "it was begun, and no backup tells of it");
        assert!(self.host.image(TAKEN).is_some(), "a file of others is gone");
        let there = self.host.image_paths().into_iter();
        let made = ["/images/target", "/images/scratch"];
        let there: BTreeSet<String> = there
            .filter(|path| made.iter().any(|made| path.starts_with(made)))
            .collect();
        assert_eq!(there, done, "files are left, or gone");
    }
}

/// Returns the domain, attached once more if a fault has come between.
fn attached(connection: &Connection) -> Domain {
    let domain = connection
        .lookup_domain_by_name("vm")
        .expect("the domain is there");
    if domain.attachment().expect("the store answers").is_none() {
        let attached = domain.attach(Qemu::NAME, SOCKET, false);
        attached.expect("the guest is attached once more");
    }
    domain
}

/// What is said of each checkpoint and disk.
fn states(found: &Reconciled) -> BTreeSet<(String, Arc<str>, DiskState)> {
    let disks = found.checkpoints.iter().flat_map(|found| {
        let name = found.checkpoint.to_string();
        let disks = found.disks.iter();
        disks.map(move |disk| (name.clone(), disk.disk.clone(), disk.state))
    });
    disks.collect()
}

/// Takes the steps that are proposed, each after a new look, until nothing differs.
fn repair(domain: &Domain, mut found: Reconciled, tally: &mut Driven) {
    for _ in 0..LOOKS_MAX {
        let Some(step) = found.plan.first().cloned() else {
            break;
        };
        domain
            .repair(&step)
            .unwrap_or_else(|error| panic!("{step:?}: {error}"));
        if !matches!(
            step,
            Repair::DropCheckpoint {
                why: DiskState::Lost,
                ..
            }
        ) {
            tally.repaired += 1;
        }
        found = domain.reconcile().expect("they are compared");
    }
    assert!(found.agrees(), "{found:?}");
}

fn since_xml(since: Option<u8>) -> String {
    since.map_or_else(String::new, |since| {
        format!("<incremental>{}</incremental>", named('c', since))
    })
}

fn overlay_path(number: u8, disk: &str) -> String {
    format!("/images/{}-{disk}", named('s', number))
}

fn snapshot_xml(number: u8) -> String {
    let name = named('s', number);
    let disks = DISKS.map(|disk| {
        let overlay = overlay_path(number, disk);
        format!("<disk name='{disk}' snapshot='external'><source file='{overlay}'/></disk>")
    });
    let disks = disks.concat();
    format!("<domainsnapshot><name>{name}</name><disks>{disks}</disks></domainsnapshot>")
}

fn wait_for_copies(domain: &Domain) {
    for _ in 0..LOOKS_MAX {
        match domain.job_info() {
            Ok(Some(_)) => {}
            _ => return,
        }
    }
}
