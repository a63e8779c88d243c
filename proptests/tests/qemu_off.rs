//! A guest that is off, with images of a real `qemu-storage-daemon`: what they hold, and what is removed from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use momentlog::core::{Attachment, HypervisorRun};
use momentlog::driver::{DiskState, Driver as _, Guest, Tops};
use momentlog::store::LogId;
use momentlog::{
    CheckpointCreateFlags, Connection, Domain, ErrorCode, Options, SnapshotCreateFlags,
};
use momentlog_proptests::real_qemu::{Layer, PROGRAMS, RealDaemon, create, info, leaves_out, run};
use momentlog_qemu::{AskError, EnterError, Hypervisor, Monitor, Qemu, QmpSockets, Request};
use serde_json::{Value, json};

const SIZE: u64 = 1 << 20;

/// Leads to real monitors, until a request of this name is done: then whoever asks is gone.
#[derive(Clone, Debug)]
struct Mortal {
    last: &'static str,
    is_gone: Arc<AtomicBool>,
}

#[derive(Debug)]
struct MortalMonitor(Mortal, Box<dyn Monitor>);

impl Mortal {
    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }
}

impl Hypervisor for Mortal {
    fn enter(&self, socket: &Path, wait: Duration) -> Result<Box<dyn Monitor>, EnterError> {
        if self.is_gone() {
            let socket = socket.display().to_string();
            return Err(EnterError::Held { socket, wait });
        }
        let monitor = QmpSockets::default().enter(socket, wait)?;
        Ok(Box::new(MortalMonitor(self.clone(), monitor)))
    }

    fn remove_file(&self, path: &Path) -> std::io::Result<()> {
        if self.is_gone() {
            return Err(std::io::Error::other("whoever asks is gone"));
        }
        std::fs::remove_file(path)
    }
}

impl Monitor for MortalMonitor {
    fn run(&self) -> Option<HypervisorRun> {
        self.1.run()
    }

    fn ask(&mut self, request: &Request) -> Result<Value, AskError> {
        let closed = || AskError::Closed {
            execute: request.execute.to_string(),
        };
        if self.0.is_gone() {
            return Err(closed());
        }
        let answer = self.1.ask(request);
        if request.execute == self.0.last {
            self.0.is_gone.store(true, Ordering::Relaxed);
            return Err(closed());
        }
        answer
    }
}

/// A guest with one disk, in a directory of its own.
struct World {
    dir: tempfile::TempDir,
    daemon: Option<RealDaemon>,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().expect("a scratch directory can be made");
        let mut world = World { dir, daemon: None };
        create(&world.path("base"), SIZE, None).expect("an image is made");
        world.start(&["base"]);
        let domain = world.connection(&Qemu::default());
        let domain = domain
            .define_domain_xml(&world.xml("base", "qcow2"))
            .expect("a domain is defined");
        let policy = momentlog::core::Policy::NONE;
        let set = domain.connection().set_policy(domain.uuid(), policy);
        set.expect("rules are set");
        domain
            .attach(Qemu::NAME, &world.socket(), false)
            .expect("it is attached");
        world
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.dir.path().join(name);
        path.display().to_string()
    }

    fn socket(&self) -> String {
        let socket = RealDaemon::driver_socket(self.dir.path());
        socket.display().to_string()
    }

    fn xml(&self, image: &str, format: &str) -> String {
        let image = self.path(image);
        format!(
            "<domain type='qemu'><name>vm</name><uuid>8f1b8d2e-33d4-4c6c-9d4f-000000000001</uuid><memory>8192</memory>\
             <os><type>hvm</type></os><devices><disk type='file'><driver type='{format}'/><source file='{image}'/>\
             <target dev='vda'/></disk></devices></domain>"
        )
    }

    /// Starts the guest with these images, from the top down.
    fn start(&mut self, images: &[&str]) {
        let layers = images.iter().enumerate().map(|(at, image)| Layer {
            node: format!("vda{at}"),
            path: self.path(image),
        });
        let layers: Vec<Layer> = layers.collect();
        let mut daemon = RealDaemon::start(self.dir.path(), [&layers[..]].into_iter())
            .expect("a storage daemon starts");
        let path = daemon.exports().display().to_string();
        let server = json!({ "addr": { "type": "unix", "data": { "path": path } } });
        let export = json!({ "type": "nbd", "id": "vda", "node-name": "vda0", "name": "vda", "writable": true });
        for (execute, arguments) in [("nbd-server-start", server), ("block-export-add", export)] {
            let asked = daemon.ask(&Request::new(execute, arguments));
            asked.expect("the disk can be written");
        }
        self.daemon = Some(daemon);
    }

    /// Ends the guest, and returns whether it has ended in order: QEMU 7.2 may fail an assertion of its own if it is to end
    /// while it makes an image.
    fn end(&mut self, in_order: bool) -> bool {
        let mut daemon = self.daemon.take().expect("it runs");
        if in_order {
            // It may be gone before its answer is read.
            let _ = daemon.ask(&Request::bare("quit"));
            daemon.wait().expect("it is waited for").success()
        } else {
            daemon.kill().expect("it is killed");
            false
        }
    }

    fn connection(&self, qemu: &Qemu) -> Connection {
        let options = Options {
            lock_wait: Duration::from_secs(10),
            ..Options::default()
        };
        let uri = format!("momentlog:{}", self.path("store"));
        let connection = Connection::open_with(&uri, options).expect("the store is opened");
        connection.with_drivers([Arc::new(qemu.clone()) as Arc<_>])
    }

    fn domain(&self, qemu: &Qemu) -> Domain {
        let connection = self.connection(qemu);
        let domain = connection.lookup_domain_by_name("vm");
        domain.expect("the domain is there")
    }

    fn checkpoint(&self, name: &str) {
        let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
        let domain = self.domain(&Qemu::default());
        let made = domain.checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE);
        made.expect("it is made");
    }

    /// Makes a snapshot onto the overlay `over`.
    fn snapshot(&self, qemu: &Qemu) -> momentlog::Result<()> {
        let over = self.path("over");
        let xml = format!(
            "<domainsnapshot><name>s1</name><disks><disk name='vda' snapshot='external'>\
             <source file='{over}'/></disk></disks></domainsnapshot>"
        );
        let domain = self.domain(qemu);
        let made = domain.snapshot_create_xml(&xml, SnapshotCreateFlags::DISK_ONLY);
        made.map(|_| ())
    }

    /// Lets the guest write, and flush.
    fn write(&self) {
        let daemon = self.daemon.as_ref().expect("it runs");
        let uri = format!("nbd+unix:///vda?socket={}", daemon.exports().display());
        let write = ["-f", "raw", "-c", "write -P 7 0 64k", "-c", "flush", &uri];
        run("qemu-io", &write).expect("it is written");
    }

    /// What is said of the disk of each checkpoint: its word, and the images that have the bitmap.
    fn words(&self) -> Vec<(String, DiskState, Vec<String>)> {
        let domain = self.domain(&Qemu::default());
        let found = domain.reconcile().expect("they are compared");
        assert!(!found.running && found.jobs.is_empty(), "{found:?}");
        let words = found.checkpoints.iter().map(|found| {
            let disk = &found.disks[0];
            let images = disk.layers.iter().map(|layer| layer.image.to_string());
            (found.checkpoint.to_string(), disk.state, images.collect())
        });
        words.collect()
    }

    fn bitmaps(&self, image: &str) -> Value {
        let info = info(&self.path(image)).expect("it is an image");
        info["format-specific"]["data"]["bitmaps"].clone()
    }
}

#[test]
fn a_snapshot_whose_caller_is_gone_is_told_by_its_overlay() {
    if leaves_out(&PROGRAMS) {
        return;
    }
    let deaths = ["blockdev-add", "blockdev-create", "transaction"];
    for (last, in_order) in deaths.map(|last| [(last, true), (last, false)]).concat() {
        let mut world = World::new();
        world.checkpoint("c1");
        let mortal = Mortal {
            last,
            is_gone: Arc::default(),
        };
        let made = world.snapshot(&Qemu::over(Arc::new(mortal)));
        made.expect_err("whoever asks is gone");
        world.write();
        let in_order = world.end(in_order);
        let over = world.path("over");
        let map = ["map", "--output=json", &over];
        let map = run("qemu-img", &map).unwrap_or_default();
        let map = String::from_utf8_lossy(&map);
        let is_above = ["0", "1"].map(|depth| map.contains(&format!("\"depth\": {depth}")));
        let is_above = is_above == [true; 2];
        assert_eq!(is_above, last == "transaction");
        let words = world.words();
        let domain = world.domain(&Qemu::default());
        let is_there = domain.snapshot_lookup_by_name("s1").is_ok();
        assert_eq!(is_there, is_above, "after {last}, in order: {in_order}");
        let mut images = vec![world.path("base")];
        if is_above {
            images.insert(0, over);
        }
        let expected = match (in_order, is_above) {
            (true, _) => (DiskState::Ok, images),
            // It became read only below the overlay, and was stored there.
            (false, true) => (DiskState::Broken, images.split_off(1)),
            (false, false) => (DiskState::Lost, Vec::new()),
        };
        assert_eq!(
            words,
            [("c1".to_owned(), expected.0, expected.1)],
            "after {last}, in order: {in_order}"
        );
    }
}

#[test]
fn a_guest_that_is_off_is_repaired_and_other_bitmaps_stay() {
    if leaves_out(&PROGRAMS) {
        return;
    }
    let mut world = World::new();
    world.checkpoint("c1");
    world.snapshot(&Qemu::default()).expect("it is made");
    assert!(world.end(true));
    let theirs = ["bitmap", "--add", &world.path("over"), "theirs"];
    run("qemu-img", &theirs).expect("it is added");
    world.start(&["over", "base"]);
    world.checkpoint("c2");
    world.write();
    assert!(!world.end(false));
    let theirs = ["bitmap", "--remove", &world.path("over"), "theirs"];
    run("qemu-img", &theirs).expect("what is in use is removed");
    let theirs = ["bitmap", "--add", &world.path("over"), "theirs"];
    run("qemu-img", &theirs).expect("it is added");

    let images = vec![world.path("over"), world.path("base")];
    let c1 = ("c1".to_owned(), DiskState::Inconsistent, images);
    let c2 = ("c2".to_owned(), DiskState::Lost, Vec::new());
    assert_eq!(world.words(), [c1, c2]);
    let domain = world.domain(&Qemu::default());
    let plan = domain.reconcile().expect("they are compared").plan;
    for step in &plan {
        domain.repair(step).expect("it is repaired");
    }
    let found = domain.reconcile().expect("they are compared");
    assert!(
        found.checkpoints.is_empty() && found.plan.is_empty(),
        "{found:?}"
    );
    let left = found.unrecorded.iter().map(|found| &*found.bitmap);
    assert_eq!(left.collect::<Vec<_>>(), ["theirs"]);
    let flags = json!(["auto"]);
    assert_eq!(world.bitmaps("over")[0]["flags"], flags);
    assert_eq!(world.bitmaps("base"), Value::Null);
    for image in ["over", "base"] {
        let check = ["check", "-q", "-f", "qcow2", &world.path(image)];
        run("qemu-img", &check).expect("the image is sound");
    }
    let over = info(&world.path("over")).expect("it is an image");
    assert_eq!(over["backing-filename"], json!(world.path("base")));
    assert_eq!(over["backing-filename-format"], "qcow2");
}

#[test]
fn images_in_use_are_unknown_and_not_touched() {
    if leaves_out(&PROGRAMS) {
        return;
    }
    let mut world = World::new();
    world.checkpoint("c1");
    assert!(world.end(true));
    let domain = world.domain(&Qemu::default());
    let checkpoint = domain.checkpoint_lookup_by_name("c1").expect("it is there");
    checkpoint
        .delete(momentlog::CheckpointDeleteFlags::METADATA_ONLY)
        .expect("its record is deleted");
    let plan = domain.reconcile().expect("they are compared").plan;
    // Another program starts the guest, at another socket.
    let layer = Layer {
        node: "theirs".to_owned(),
        path: world.path("base"),
    };
    std::fs::create_dir(world.path("other")).expect("a directory is made");
    let other = RealDaemon::start(Path::new(&world.path("other")), [&[layer][..]].into_iter());
    let other = other.expect("a storage daemon starts");
    let refused = domain.repair(&plan[0]).expect_err("the image is in use");
    assert_eq!(refused.code(), ErrorCode::OperationInvalid);
    let qemu = Qemu::default();
    let guest = guest(&domain);
    let look = qemu.look_off(&guest, &Tops::default());
    assert!(look.expect_err("it is in use").detail.contains("lock"));
    let mut effect = momentlog::core::DiskEffect {
        disk: "vda".into(),
        kind: momentlog::core::EffectKind::BitmapRemoved,
        image: world.path("base").into(),
        node: "".into(),
        bitmap: Some("c1".into()),
        bitmap_was_there: true,
        file: None,
    };
    let removed = qemu.remove_bitmaps_off(&guest, std::slice::from_ref(&effect));
    assert!(removed.expect_err("it is in use").leaves_unknown);
    drop(other);
    // It was in use when it was killed, and can be removed.
    assert_eq!(world.bitmaps("base")[0]["name"], "c1");
    effect.bitmap = Some("c9".into());
    let gone = qemu.remove_bitmaps_off(&guest, std::slice::from_ref(&effect));
    gone.expect("what is not there is removed");
    domain.repair(&plan[0]).expect("it is removed");
    assert_eq!(world.bitmaps("base"), Value::Null);
}

/// The guest of a domain, as a driver is given it.
fn guest(domain: &Domain) -> Guest {
    let view = domain.connection().view();
    let known = view.state().domain(domain.uuid());
    Guest {
        log: LogId([1; 16]),
        uuid: domain.uuid(),
        def: known.expect("it is defined").def().clone(),
        attachment: Arc::new(Attachment {
            driver: Qemu::NAME.into(),
            socket: "/none".into(),
            look_only: false,
        }),
    }
}

#[test]
fn an_image_is_what_the_definition_says_whatever_it_holds() {
    if leaves_out(&PROGRAMS) {
        return;
    }
    let mut world = World::new();
    assert!(world.end(true));
    // A raw disk into which its guest has written an image that lies above a file of the host.
    create(&world.path("raw"), SIZE, Some(&world.path("base"))).expect("an image is made");
    let domain = world.domain(&Qemu::default());
    domain.look().expect("it is off");
    let look = |image: &str, format: &str, tops: &Tops| {
        let connection = domain.connection();
        let defined = connection.define_domain_xml(&world.xml(image, format));
        let seen = Qemu::default().look_off(&guest(&defined.expect("it is defined")), tops);
        seen.map(|sight| {
            let layers = sight.disks[0].layers.iter();
            let layers = layers.map(|layer| (layer.image.to_string(), layer.format.to_string()));
            layers.collect::<Vec<_>>()
        })
    };
    let none = Tops::default();
    let raw = (world.path("raw"), "raw".to_owned());
    let base = (world.path("base"), "qcow2".to_owned());
    let seen = look("raw", "raw", &none).expect("it is raw");
    assert_eq!(seen, std::slice::from_ref(&raw));
    let qcow2 = (raw.0.clone(), base.1.clone());
    assert_eq!(
        look("raw", "qcow2", &none).expect("it is qcow2"),
        [qcow2, base]
    );
    look("raw", "vmdk", &none).expect_err("it is not vmdk");

    // An overlay that says what is below it, and one that does not.
    let tops = Tops {
        known: [("vda".into(), vec![world.path("over").into()])].into(),
        ..Tops::default()
    };
    let over = world.path("over");
    let create = [
        "create", "-q", "-f", "qcow2", "-b", &raw.0, "-F", "raw", &over,
    ];
    run("qemu-img", &create).expect("an overlay is made");
    let chain = [(over.clone(), "qcow2".to_owned()), raw];
    assert_eq!(look("raw", "raw", &tops).expect("they are told"), chain);
    let rebase = [
        "rebase",
        "-u",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        &chain[1].0,
        &over,
    ];
    run("qemu-img", &rebase).expect("it says otherwise");
    look("raw", "raw", &tops).expect_err("the overlay and the domain do not agree");

    // One above itself.
    let rebase = [
        "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", &over, &over,
    ];
    run("qemu-img", &rebase).expect("it lies above itself");
    look("raw", "raw", &tops).expect_err("there is no end of it");
}
