//! The qemu driver on a simulated host: what it must never remove, claim or wait for.

use std::sync::Arc;
use std::time::Duration;

use momentlog::core::{DiskEffect, Job};
use momentlog::driver::{
    Absent, DiskState, Driver, Fault, Guest, Session, Sight, Tops as KnownTops,
};
use momentlog::store::FileStore;
use momentlog::xml::{CheckpointRequest, read_checkpoint};
use momentlog::{
    BackupBeginFlags, CheckpointCreateFlags, CheckpointDeleteFlags, CheckpointXmlFlags, Clock,
    Connection, Domain, ErrorCode, ManualClock, Options, SnapshotCreateFlags,
};
use momentlog_proptests::SimDisk;
use momentlog_proptests::sim_qemu::{
    CLUSTER_LEN, QemuFault, Side, SimGuest, SimGuestDisk, SimHost, SimImage, Tops,
};
use momentlog_qemu::{Hypervisor as _, Qemu, Request};
use serde_json::{Value, json};

const SOCKET: &str = "/run/vm.qmp";
const DISK: &str = "/images/vda.qcow2";
const DEVICE: &str = "/machine/peripheral/vda/virtio-backend";
const SIZE: u64 = 1 << 20;

const PUSH: &str = "<domainbackup><disks><disk name='vda' type='file'><target file='/images/t'/>\
                    <driver type='qcow2'/></disk></disks></domainbackup>";
const PULL: &str = "<domainbackup mode='pull'><server transport='unix' socket='/run/nbd'/><disks>\
                    <disk name='vda' type='file'><scratch file='/images/t'/></disk></disks></domainbackup>";
const CHECKPOINT: &str = "<domaincheckpoint><name>c1</name></domaincheckpoint>";
const SNAPSHOT: &str = "<domainsnapshot><name>s1</name><disks><disk name='vda' snapshot='external'>\
                        <source file='/images/over'/></disk></disks></domainsnapshot>";

fn domain_xml(image: &str) -> String {
    format!(
        "<domain type='qemu'><name>vm</name><uuid>8f1b8d2e-33d4-4c6c-9d4f-000000000001</uuid><memory>8192</memory>\
         <os><type>hvm</type></os><devices><disk type='file'><driver type='qcow2'/><source file='{image}'/>\
         <target dev='vda'/></disk></devices></domain>"
    )
}

/// A log, and a host with one guest that has one disk.
#[derive(Clone)]
struct World {
    log: SimDisk,
    host: SimHost,
}

impl World {
    fn new() -> World {
        let host = SimHost::new();
        host.put_image(DISK, SimImage::qcow2(SIZE));
        let disks = vec![SimGuestDisk::new(DEVICE, "vda", DISK)];
        let guest = SimGuest {
            disks,
            ..SimGuest::default()
        };
        host.start(SOCKET, guest).expect("a guest starts");
        World::with(SimDisk::new("store"), host)
    }

    /// A log of the guest of a host.
    fn with(log: SimDisk, host: SimHost) -> World {
        let world = World { log, host };
        let connection = world.connection();
        let xml = domain_xml(DISK);
        let domain = connection.define_domain_xml(&xml).expect("it is defined");
        let policy = momentlog::core::Policy::NONE;
        connection
            .set_policy(domain.uuid(), policy)
            .expect("rules are set");
        domain
            .attach(Qemu::NAME, SOCKET, false)
            .expect("it is attached");
        world
    }

    fn start(&self, socket: &str, image: &str) {
        let disks = vec![SimGuestDisk::new(DEVICE, "vda", image)];
        let guest = SimGuest {
            disks,
            ..SimGuest::default()
        };
        self.host.start(socket, guest).expect("a guest starts");
    }

    /// Another process with the same log and host.
    fn connection(&self) -> Connection {
        self.connection_with(Options {
            clock: Arc::new(ManualClock::at_second(1_000)),
            ..Options::default()
        })
    }

    fn connection_with(&self, options: Options) -> Connection {
        let options = Options {
            lock_wait: Duration::from_millis(100),
            ..options
        };
        let store = FileStore::over(Arc::new(self.log.clone()));
        let qemu = Qemu::over(Arc::new(self.host.clone()));
        Connection::over(Box::new(store), options).with_drivers([Arc::new(qemu) as Arc<_>])
    }

    fn domain(&self) -> Domain {
        let connection = self.connection();
        connection
            .lookup_domain_by_name("vm")
            .expect("the domain is there")
    }

    /// Asks the hypervisor, as another program may.
    fn ask(&self, execute: &'static str, arguments: Value) -> Value {
        let socket = std::path::Path::new(SOCKET);
        let mut monitor = self
            .host
            .enter(socket, Duration::ZERO)
            .expect("the monitor is free");
        monitor
            .ask(&Request::new(execute, arguments))
            .unwrap_or_else(|error| panic!("{execute}: {error}"))
    }

    fn nodes(&self) -> Vec<String> {
        let nodes = self.ask("query-named-block-nodes", json!({"flat": true}));
        let nodes = nodes.as_array().into_iter().flatten();
        nodes
            .map(|node| node["node-name"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Lets whoever asks die at each request of a call in turn, and calls `check` with what is left each time.
    fn die_everywhere(prepare: fn(&World), call: fn(&Domain), check: fn(&World, u64, Side)) {
        for side in [Side::Before, Side::After] {
            for request in 1.. {
                let world = World::new();
                prepare(&world);
                let before = world.host.requests();
                world.host.fault_at(before + request, QemuFault::Gone(side));
                call(&world.domain());
                let came = world.host.requests() >= before + request;
                world.host.come_back();
                if !came {
                    break;
                }
                check(&world, request, side);
            }
        }
    }
}

/// An image of another program.
fn foreign() -> SimImage {
    SimImage::qcow2(3 * CLUSTER_LEN)
}

#[test]
fn a_snapshot_whose_overlay_file_is_there_leaves_it_there() {
    let world = World::new();
    world.host.put_image("/images/over", foreign());
    let made = world
        .domain()
        .snapshot_create_xml(SNAPSHOT, SnapshotCreateFlags::DISK_ONLY);
    assert!(made.is_err());
    let left = world.host.image("/images/over").expect("it is there");
    assert_eq!(left.size, 3 * CLUSTER_LEN);
}

#[test]
fn a_snapshot_onto_the_disk_itself_leaves_the_disk() {
    let world = World::new();
    let xml = SNAPSHOT.replace("/images/over", DISK);
    let made = world
        .domain()
        .snapshot_create_xml(&xml, SnapshotCreateFlags::DISK_ONLY);
    assert!(made.is_err());
    assert!(world.host.image(DISK).is_some());
}

#[test]
fn settling_a_backup_that_never_began_removes_no_file_that_was_there() {
    World::die_everywhere(
        |world| world.host.put_image("/images/t", foreign()),
        |domain| {
            let _ = domain.backup_begin(PUSH, None, BackupBeginFlags::NONE);
        },
        |world, request, side| {
            world.domain().look().expect("the guest is entered");
            let left = world.host.image("/images/t");
            assert!(left.is_some(), "{side:?} {request}");
        },
    );
}

#[test]
fn settling_a_snapshot_that_was_not_made_takes_away_its_overlay() {
    World::die_everywhere(
        |_| {},
        |domain| {
            let _ = domain.snapshot_create_xml(SNAPSHOT, SnapshotCreateFlags::DISK_ONLY);
        },
        |world, request, side| {
            world.domain().look().expect("the guest is entered");
            let made = world.domain().snapshot_lookup_by_name("s1").is_ok();
            let nodes = world.nodes();
            let overlays = nodes.iter().filter(|node| node.starts_with("mo-")).count();
            assert_eq!(
                overlays,
                if made { 2 } else { 0 },
                "{side:?} {request}: {nodes:?}"
            );
        },
    );
}

#[test]
fn a_backup_that_cannot_begin_leaves_the_nbd_server_of_another_program() {
    let world = World::new();
    let address = json!({"addr": {"type": "unix", "data": {"path": "/run/other"}}});
    world.ask("nbd-server-start", address);
    let begun = world
        .domain()
        .backup_begin(PULL, None, BackupBeginFlags::NONE);
    assert!(begun.is_err());
    // It would be refused if there were none.
    world.ask("nbd-server-stop", Value::Null);
}

#[test]
fn a_backup_that_was_not_begun_is_not_said_to_be() {
    for side in [Side::Before, Side::After] {
        for request in 1..40 {
            let world = World::new();
            let domain = world.domain();
            world
                .host
                .fault_at(world.host.requests() + request, QemuFault::Closed(side));
            let begun = domain.backup_begin(PUSH, None, BackupBeginFlags::NONE);
            world.host.come_back();
            while domain.job_info().is_ok_and(|info| info.is_some()) {}
            let backups = domain.backups().expect("they are told");
            assert_eq!(
                begun.is_ok(),
                !backups.is_empty(),
                "{side:?} {request}: {begun:?}"
            );
        }
    }
}

/// A clock that lets something happen when it is asked for the first time.
struct Meanwhile(std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Clock for Meanwhile {
    fn now(&self) -> i64 {
        let happens = self.0.lock().expect("no test panics here").take();
        if let Some(happens) = happens {
            happens();
        }
        1_000_000_000
    }
}

#[test]
fn a_checkpoint_that_is_made_while_another_process_attaches_is_made_there() {
    let world = World::new();
    world.domain().detach().expect("it is detached");
    let other = world.clone();
    let attach = move || {
        let attached = other.domain().attach(Qemu::NAME, SOCKET, false);
        attached.expect("it is attached");
    };
    let clock = Meanwhile(std::sync::Mutex::new(Some(Box::new(attach))));
    let connection = world.connection_with(Options {
        clock: Arc::new(clock),
        ..Options::default()
    });
    let domain = connection
        .lookup_domain_by_name("vm")
        .expect("the domain is there");
    domain
        .checkpoint_create_xml(CHECKPOINT, CheckpointCreateFlags::NONE)
        .expect("it is made");
    let found = domain.reconcile().expect("they are compared");
    assert!(found.agrees(), "{found:?}");
}

/// A driver before whose first entering something happens.
#[derive(Debug)]
struct Late {
    qemu: Qemu,
    meanwhile: Meanwhile,
}

impl Driver for Late {
    fn name(&self) -> &'static str {
        self.qemu.name()
    }

    fn enter(&self, guest: &Guest, wait: Duration) -> Result<Box<dyn Session>, Absent> {
        self.meanwhile.now();
        self.qemu.enter(guest, wait)
    }

    fn look_off(&self, guest: &Guest, tops: &KnownTops) -> Result<Sight, Fault> {
        self.qemu.look_off(guest, tops)
    }

    fn remove_bitmaps_off(&self, guest: &Guest, effects: &[DiskEffect]) -> Result<(), Fault> {
        self.qemu.remove_bitmaps_off(guest, effects)
    }

    fn remove_files(&self, job: &Job) {
        self.qemu.remove_files(job);
    }
}

#[test]
fn a_checkpoint_is_made_in_the_guest_that_is_attached_when_it_is_entered() {
    const OTHER: &str = "/run/other.qmp";
    let world = World::new();
    let other = world.clone();
    let attach = move || {
        other.host.kill(SOCKET);
        other.start(OTHER, DISK);
        let domain = other.domain();
        domain
            .attach(Qemu::NAME, OTHER, false)
            .expect("it is attached");
    };
    let driver = Late {
        qemu: Qemu::over(Arc::new(world.host.clone())),
        meanwhile: Meanwhile(std::sync::Mutex::new(Some(Box::new(attach)))),
    };
    let connection = world
        .connection()
        .with_drivers([Arc::new(driver) as Arc<_>]);
    let domain = connection
        .lookup_domain_by_name("vm")
        .expect("the domain is there");
    domain
        .checkpoint_create_xml(CHECKPOINT, CheckpointCreateFlags::NONE)
        .expect("it is made");
    drop((domain, connection));
    let found = world.domain().reconcile().expect("they are compared");
    assert!(found.agrees(), "{found:?}");
}

#[test]
fn an_abort_that_is_asked_twice_ends_no_later_backup() {
    let world = World::new();
    let domain = world.domain();
    let asked = |id: &str| {
        let provenance = momentlog::Provenance {
            request_id: Some(id.into()),
            ..domain.connection().provenance().clone()
        };
        domain.with_provenance(provenance)
    };
    domain
        .backup_begin(PULL, None, BackupBeginFlags::NONE)
        .expect("it begins");
    asked("abort-1").abort_job().expect("it is ended");
    domain
        .backup_begin(PULL, None, BackupBeginFlags::NONE)
        .expect("it begins");
    asked("abort-1").abort_job().expect("it was ended");
    let info = domain.job_info().expect("the store answers");
    assert!(info.is_some(), "the second backup goes on");
    assert!(world.host.read_export(SOCKET, "vda").is_some());
    assert!(world.host.image("/images/t").is_some());
}

#[test]
fn what_a_guest_cannot_have_is_refused_before_anything_is_begun() {
    let world = World::new();
    let domain = world.domain();
    domain.detach().expect("it is detached");
    domain
        .attach(Qemu::NAME, SOCKET, true)
        .expect("it is attached to look only");
    world.host.put_image("/images/t", foreign());
    let requests = world.log.changes();
    let made = domain.checkpoint_create_xml(CHECKPOINT, CheckpointCreateFlags::NONE);
    let code = made.expect_err("it is looked at only").code();
    assert_eq!(code, ErrorCode::OperationUnsupported);
    assert!(
        domain
            .backup_begin(PUSH, None, BackupBeginFlags::NONE)
            .is_err()
    );
    assert_eq!(world.log.changes(), requests, "nothing is recorded");
    assert!(world.host.image("/images/t").is_some());
}

#[test]
fn a_copy_goes_on_though_the_runs_of_the_hypervisor_cannot_be_told_apart() {
    let world = World::new();
    world.host.set_run_known(false);
    world.host.set_job_requests(40);
    let domain = world.domain();
    domain
        .backup_begin(PUSH, None, BackupBeginFlags::NONE)
        .expect("it begins");
    while domain.job_info().expect("the store answers").is_some() {}
    let backups = domain.backups().expect("they are told");
    assert!(backups[0].is_done(), "{backups:?}");
}

/// A guest whose disk has a checkpoint's bitmap in two images, both on disk.
fn two_layers() -> World {
    let world = World::new();
    let domain = world.domain();
    domain
        .checkpoint_create_xml(CHECKPOINT, CheckpointCreateFlags::NONE)
        .expect("it is made");
    domain
        .snapshot_create_xml(SNAPSHOT, SnapshotCreateFlags::DISK_ONLY)
        .expect("it is made");
    let restarted = world.host.restart(SOCKET, Tops::Newest);
    restarted.expect("it starts again");
    world
}

/// Deletes the checkpoint of [`two_layers`], and lets QEMU die in the middle of the request of this number. Returns
/// whether one of its bitmaps is gone.
fn delete_half(world: &World, request: u64) -> bool {
    let domain = world.domain();
    let checkpoint = domain.checkpoint_lookup_by_name("c1");
    let checkpoint = checkpoint.expect("it is there");
    let at = world.host.requests() + request;
    world.host.fault_at(at, QemuFault::KilledWithin(1));
    // What is left would be removed from the images.
    let next = QemuFault::Gone(Side::Before);
    world.host.fault_at(at + 1, next);
    let _ = checkpoint.delete(CheckpointDeleteFlags::NONE);
    world.host.come_back();
    let restarted = world.host.restart(SOCKET, Tops::Newest);
    restarted.expect("it starts again");
    let images = [DISK, "/images/over"].map(|path| world.host.image(path));
    let having = images
        .iter()
        .flatten()
        .filter(|image| image.bitmaps.iter().any(|bitmap| bitmap.name == "c1"));
    having.count() == 1
}

#[test]
fn a_deletion_that_cannot_be_rolled_forward_does_not_keep_the_domain() {
    let half = (1..40).find(|request| delete_half(&two_layers(), *request));
    let half = half.expect("one request removes the bitmaps");
    for request in 1..40 {
        let world = two_layers();
        delete_half(&world, half);
        let at = world.host.requests() + request;
        world.host.fault_at(at, QemuFault::Refused);
        let _ = world.domain().look();
        world.host.come_back();
        let domain = world.domain();
        domain.look().expect("the guest is entered");
        let found = domain.reconcile().expect("they are compared");
        assert_eq!(found.jobs, [], "{request}");
    }
    // What refuses once and again ends the job as well.
    let world = two_layers();
    delete_half(&world, half);
    for request in 1..200 {
        let at = world.host.requests() + request;
        world.host.fault_at(at, QemuFault::Refused);
    }
    let _ = world.domain().look();
}

#[test]
fn a_checkpoint_is_measured_on_a_connection_that_only_reads() {
    let world = World::new();
    let domain = world.domain();
    domain
        .checkpoint_create_xml(CHECKPOINT, CheckpointCreateFlags::NONE)
        .expect("it is made");
    drop(domain);
    world.ask("stop", Value::Null);
    let changes = world.log.changes();
    let connection = world.connection_with(Options {
        read_only: true,
        ..Options::default()
    });
    let domain = connection
        .lookup_domain_by_name("vm")
        .expect("the domain is there");
    let checkpoint = domain.checkpoint_lookup_by_name("c1").expect("it is there");
    let xml = checkpoint
        .xml_desc(CheckpointXmlFlags::SIZE)
        .expect("the store answers");
    assert!(xml.contains("size='0'"), "{xml}");
    assert_eq!(world.log.changes(), changes);
}

#[test]
fn a_guest_that_only_may_be_looked_at_is_measured_without_a_change() {
    let world = two_layers();
    let domain = world.domain();
    domain.detach().expect("it is detached");
    let attached = domain.attach(Qemu::NAME, SOCKET, true);
    attached.expect("it is attached to look only");
    let checkpoint = domain.checkpoint_lookup_by_name("c1").expect("it is there");
    assert!(checkpoint.xml_desc(CheckpointXmlFlags::SIZE).is_err());
}

#[test]
fn a_transient_domain_whose_guest_is_off_goes_when_its_job_is_settled() {
    let world = World::new();
    world.host.set_job_requests(1000);
    let domain = world.domain();
    domain.look().expect("the guest is entered");
    domain
        .undefine(momentlog::UndefineFlags::NONE)
        .expect("it is transient now");
    domain
        .backup_begin(PULL, None, BackupBeginFlags::NONE)
        .expect("it begins");
    world.host.kill(SOCKET);
    let _ = domain.look();
    let gone = domain.connection().lookup_domain_by_name("vm");
    assert_eq!(gone.expect_err("it is gone").code(), ErrorCode::NoDomain);
}

#[test]
fn a_domain_with_an_open_job_is_found_at_another_socket() {
    let world = World::new();
    world.host.set_job_requests(1000);
    let domain = world.domain();
    domain
        .backup_begin(PULL, None, BackupBeginFlags::NONE)
        .expect("it begins");
    // The guest is started again by a program that gives its monitor another place, and its image is locked by that one.
    world.host.kill(SOCKET);
    world.start("/run/new.qmp", DISK);
    domain
        .attach(Qemu::NAME, "/run/new.qmp", false)
        .expect("it is attached");
    assert_eq!(domain.job_info().expect("the store answers"), None);
}

#[test]
fn a_bitmap_of_another_store_is_foreign_though_this_one_has_had_one_of_its_name() {
    let world = World::new();
    let domain = world.domain();
    let checkpoint = domain
        .checkpoint_create_xml(CHECKPOINT, CheckpointCreateFlags::NONE)
        .expect("it is made");
    checkpoint
        .delete(CheckpointDeleteFlags::NONE)
        .expect("it is deleted");
    let other = World::with(SimDisk::new("other"), world.host.clone());
    other
        .domain()
        .checkpoint_create_xml(CHECKPOINT, CheckpointCreateFlags::NONE)
        .expect("it is made");
    let found = domain.reconcile().expect("they are compared");
    assert_eq!(found.unrecorded.len(), 1, "{found:?}");
    assert_eq!(found.plan, [], "{found:?}");
    assert!(
        other
            .domain()
            .reconcile()
            .expect("they are compared")
            .agrees()
    );
}

#[test]
fn a_typed_checkpoint_that_xml_cannot_say_is_refused_before_the_hypervisor_is_asked() {
    let world = World::new();
    let domain = world.domain();
    let request = CheckpointRequest {
        description: Some("\u{1}".into()),
        ..read_checkpoint(CHECKPOINT).expect("it is read")
    };
    let error = domain
        .create_checkpoint(request)
        .expect_err("it is refused");
    assert_eq!(error.code(), ErrorCode::InvalidArg, "{error}");
    let found = domain.reconcile().expect("they are compared");
    assert!(found.agrees() && found.checkpoints.is_empty(), "{found:?}");
}

/// A guest with a checkpoint, which has a snapshot made of it until whoever asks for that is gone, after the request of this
/// number. Returns whether the guest writes to the overlay.
fn snapshot_until(world: &World, request: u64) -> bool {
    let domain = world.domain();
    domain
        .checkpoint_create_xml(CHECKPOINT, CheckpointCreateFlags::NONE)
        .expect("it is made");
    let at = world.host.requests() + request;
    world.host.fault_at(at, QemuFault::Gone(Side::After));
    let _ = domain.snapshot_create_xml(SNAPSHOT, SnapshotCreateFlags::DISK_ONLY);
    world.host.come_back();
    let written = world.host.write(SOCKET, DEVICE, 7, 0, CLUSTER_LEN);
    written.expect("the guest writes");
    let overlay = world.host.image("/images/over");
    overlay.is_some_and(|overlay| !overlay.clusters.is_empty())
}

#[test]
fn a_snapshot_whose_caller_is_gone_is_told_by_its_overlay_when_the_guest_is_off() {
    let mut made = 0;
    for request in 1..20 {
        for in_order in [true, false] {
            let world = World::new();
            let is_above = snapshot_until(&world, request);
            if in_order {
                world.host.stop(SOCKET);
            } else {
                world.host.kill(SOCKET);
            }
            let domain = world.domain();
            domain.look().expect("its images are looked at");
            let found = domain.reconcile().expect("they are compared");
            assert_eq!(found.jobs, [], "{request}");
            let is_there = domain.snapshot_lookup_by_name("s1").is_ok();
            assert_eq!(is_there, is_above, "{request}, in order: {in_order}");
            let layers = &found.checkpoints[0].disks[0].layers;
            if is_above && in_order {
                assert_eq!(&*layers[0].image, "/images/over", "{found:?}");
                assert!(found.agrees(), "{found:?}");
                made += 1;
            }
        }
    }
    assert!(made > 0, "one request puts the overlay above the disk");
}

/// A guest that was killed with a checkpoint in two images, and is off; another checkpoint is lost.
fn killed_with_two_layers() -> World {
    let world = two_layers();
    let xml = CHECKPOINT.replace("c1", "c2");
    let made = world
        .domain()
        .checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE);
    made.expect("it is made");
    world.host.kill(SOCKET);
    world
}

#[test]
fn a_guest_that_is_off_is_repaired_wherever_whoever_repairs_it_dies() {
    let faults = [
        QemuFault::Refused,
        QemuFault::Killed(Side::After),
        QemuFault::KilledWithin(0),
        QemuFault::Gone(Side::Before),
        QemuFault::Gone(Side::After),
    ];
    for fault in faults {
        for request in 1.. {
            let world = killed_with_two_layers();
            let at = world.host.requests() + request;
            world.host.fault_at(at, fault);
            let domain = world.domain();
            let plan = domain.reconcile().expect("they are compared").plan;
            assert_eq!(plan.len(), 2, "{plan:?}");
            for step in &plan {
                let _ = domain.repair(step);
            }
            let came = world.host.requests() >= at;
            world.host.come_back();
            drop(domain);
            let domain = world.domain();
            for step in domain.reconcile().expect("they are compared").plan {
                domain.repair(&step).expect("it is repaired");
            }
            let found = domain.reconcile().expect("they are compared");
            assert!(
                found.agrees() && !found.running,
                "{fault:?} {request}: {found:?}"
            );
            assert_eq!(found.checkpoints, [], "{fault:?} {request}");
            for path in [DISK, "/images/over"] {
                let image = world.host.image(path).expect("it is there");
                assert_eq!(image.bitmaps, [], "{fault:?} {request}");
            }
            if !came {
                break;
            }
        }
    }
}

#[test]
fn a_repair_of_images_whose_process_is_gone_is_rolled_forward() {
    let world = killed_with_two_layers();
    let domain = world.domain();
    let plan = domain.reconcile().expect("they are compared").plan;
    domain.repair(&plan[0]).expect("the lost one is dropped");
    let at = world.host.requests() + 1;
    world.host.fault_at(at, QemuFault::Gone(Side::Before));
    domain.repair(&plan[1]).expect_err("whoever asks is gone");
    drop(domain);
    world.host.come_back();
    let domain = world.domain();
    domain.look().expect("its images are looked at");
    assert!(domain.checkpoint_lookup_by_name("c1").is_err());
    let found = domain.reconcile().expect("they are compared");
    assert!(found.agrees(), "{found:?}");
}

#[test]
fn images_that_another_guest_uses_are_not_repaired() {
    let world = killed_with_two_layers();
    let domain = world.domain();
    let plan = domain.reconcile().expect("they are compared").plan;
    world.start("/run/other.qmp", "/images/over");
    let refused = domain.repair(&plan[1]).expect_err("they are in use");
    assert_eq!(refused.code(), ErrorCode::OperationInvalid);
    let found = domain.reconcile().expect("they are compared");
    let states = found.checkpoints.iter().flat_map(|found| &found.disks);
    for disk in states {
        assert_eq!(disk.state, DiskState::Unknown, "{found:?}");
    }
    assert_eq!(found.plan, []);
}

/// What is said of the only disk of each checkpoint.
fn words(domain: &Domain) -> Vec<(String, DiskState, Vec<String>)> {
    let found = domain.reconcile().expect("they are compared");
    let checkpoints = found.checkpoints.iter();
    let words = checkpoints.map(|found| {
        let layers = found.disks[0].layers.iter();
        let images = layers.map(|layer| layer.image.to_string());
        let name = found.checkpoint.to_string();
        (name, found.disks[0].state, images.collect())
    });
    words.collect()
}

fn word(name: &str, state: DiskState, images: &[&str]) -> (String, DiskState, Vec<String>) {
    let images = images.iter().map(|image| (*image).to_owned());
    (name.to_owned(), state, images.collect())
}

#[test]
fn a_guest_that_is_off_is_looked_at_from_the_newest_overlay_that_is_there() {
    let world = two_layers();
    let domain = world.domain();
    let second = SNAPSHOT.replace("s1", "s2").replace("over", "second");
    domain
        .snapshot_create_xml(&second, SnapshotCreateFlags::DISK_ONLY)
        .expect("it is made");
    let xml = CHECKPOINT.replace("c1", "c2");
    domain
        .checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE)
        .expect("it is made");
    world.host.stop(SOCKET);
    let all = ["/images/second", "/images/over", DISK];
    let c1 = |images: &[&str]| word("c1", DiskState::Ok, images);
    assert_eq!(
        words(&domain),
        [c1(&all), word("c2", DiskState::Ok, &all[..1])]
    );

    // The definition names the overlay.
    let define = |image: &str| {
        let defined = domain.connection().define_domain_xml(&domain_xml(image));
        defined.expect("it is defined");
    };
    define(all[0]);
    assert_eq!(words(&domain)[0], c1(&all));
    // It names the image below again: that is where the guest will write.
    define(DISK);
    let lost = word("c2", DiskState::Lost, &[]);
    assert_eq!(words(&domain), [c1(&all[2..]), lost]);
}

#[test]
fn an_overlay_that_is_gone_is_passed_over_and_an_image_that_is_gone_is_told() {
    let world = two_layers();
    let domain = world.domain();
    world.host.stop(SOCKET);
    assert!(world.host.remove_image("/images/over"));
    let base = word("c1", DiskState::Ok, &[DISK]);
    assert_eq!(words(&domain), [base]);
    assert!(world.host.remove_image(DISK));
    assert_eq!(words(&domain), [word("c1", DiskState::DiskGone, &[])]);
}

#[test]
fn overlays_that_are_not_what_the_log_knows_are_not_followed() {
    let world = two_layers();
    let domain = world.domain();
    world.host.stop(SOCKET);
    let base = word("c1", DiskState::Ok, &[DISK]);
    let unknown = word("c1", DiskState::Unknown, &[]);
    let cases = [
        (SimImage::qcow2(SIZE), &base),
        (SimImage::raw(SIZE), &base),
        (SimImage::qcow2(SIZE).over("/images/over"), &unknown),
        (SimImage::qcow2(SIZE).over("/images/none"), &unknown),
    ];
    for (overlay, expected) in cases {
        world.host.put_image("/images/over", overlay);
        assert_eq!(words(&domain), std::slice::from_ref(expected));
    }
    // The image is not what the definition says.
    world.host.remove_image("/images/over");
    world.host.put_image(DISK, SimImage::raw(SIZE));
    assert_eq!(words(&domain), [unknown]);
}

#[test]
fn a_guest_that_went_back_to_its_old_image_is_looked_at_from_there() {
    let world = two_layers();
    let restarted = world.host.restart(SOCKET, Tops::Same);
    restarted.expect("it starts again");
    world.host.stop(SOCKET);
    world.start(SOCKET, DISK);
    let domain = world.domain();
    let xml = CHECKPOINT.replace("c1", "c2");
    domain
        .checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE)
        .expect("it is made");
    world.host.stop(SOCKET);
    let c2 = words(&domain).pop();
    assert_eq!(c2, Some(word("c2", DiskState::Ok, &[DISK])));
}
