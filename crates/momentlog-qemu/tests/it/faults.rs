//! Faults of the driver on a real storage daemon: each is a typed error with libvirt's code, and nothing is left of it.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use momentlog::core::Policy;
use momentlog::{BackupBeginFlags, CheckpointCreateFlags, Connection, Domain, Error, Options};
use momentlog_qemu::{Monitor as _, Qemu, QmpSockets, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{LONG, qemu_is_there};

const SIZE: u64 = 1 << 20;

/// A domain of two disks, the second one raw, and the daemon that has them.
pub(crate) struct World {
    dir: TempDir,
    daemon: Child,
    pub(crate) domain: Domain,
}

impl World {
    /// `None` where QEMU is not installed.
    pub(crate) fn new() -> Option<World> {
        if !qemu_is_there() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut disks = String::new();
        let mut command = Command::new("qemu-storage-daemon");
        let socket = path("qmp.sock");
        command
            .arg("--chardev")
            .arg(format!("socket,path={socket},server=on,wait=off,id=c"))
            .args(["--monitor", "chardev=c"]);
        for (disk, format) in [("vda", "qcow2"), ("vdb", "raw"), ("vdc", "qcow2")] {
            let image = path(disk);
            qemu_img(&["create", "-q", "-f", format, &image, &SIZE.to_string()]);
            command.arg("--blockdev").arg(format!(
                "{format},node-name={disk},file.driver=file,file.filename={image},file.node-name={disk}-file"
            ));
            disks += &format!(
                "<disk type='file'><driver name='qemu' type='{format}'/><source file='{image}'/><target dev='{disk}'/></disk>"
            );
        }
        let mut daemon = command.spawn().unwrap();
        while UnixStream::connect(&socket).is_err() {
            assert_eq!(daemon.try_wait().unwrap(), None);
            thread::sleep(Duration::from_millis(5));
        }
        let uri = format!("momentlog://{}", path("store"));
        let options = Options {
            lock_wait: LONG,
            ..Options::default()
        };
        let connection = Connection::open_with(&uri, options).unwrap();
        let connection = connection.with_drivers([Arc::new(Qemu::default()) as Arc<_>]);
        let xml = format!(
            "<domain type='qemu'><name>vm</name><memory>8192</memory><os><type>hvm</type></os><devices>{disks}</devices></domain>"
        );
        let domain = connection.define_domain_xml(&xml).unwrap();
        connection.set_policy(domain.uuid(), Policy::NONE).unwrap();
        domain.attach(Qemu::NAME, &socket, false).unwrap();
        Some(World {
            dir,
            daemon,
            domain,
        })
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Asks the daemon itself.
    pub(crate) fn ask(&self, execute: &'static str, arguments: Value) -> Value {
        let socket = self.path("qmp.sock");
        let mut monitor = QmpSockets::default()
            .connect(Path::new(&socket), LONG)
            .unwrap();
        monitor.ask(&Request::new(execute, arguments)).unwrap()
    }

    /// Nodes, bitmaps, jobs and exports, as the daemon lists them.
    pub(crate) fn everything(&self) -> Vec<Value> {
        let nodes = json!({ "flat": true });
        vec![
            self.ask("query-named-block-nodes", nodes),
            self.ask("query-jobs", Value::Null),
            self.ask("query-block-exports", Value::Null),
        ]
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        names
    }

    /// Checks that a call is refused so, and that neither the hypervisor, nor the files, nor the log's moments are others
    /// than before.
    #[track_caller]
    fn refuses(&self, code: u32, part: &str, call: impl FnOnce(&World) -> Result<(), Error>) {
        let before = (
            self.everything(),
            self.files(),
            self.domain.reconcile().unwrap(),
        );
        let error = call(self).unwrap_err();
        assert_eq!(error.code().number(), code, "{error}");
        assert!(error.message().contains(part), "{error}");
        let after = (
            self.everything(),
            self.files(),
            self.domain.reconcile().unwrap(),
        );
        assert_eq!(after, before, "{error}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn qemu_img(arguments: &[&str]) {
    let made = Command::new("qemu-img").args(arguments).status().unwrap();
    assert!(made.success(), "{arguments:?}");
}

fn checkpoint(world: &World, name: &str, disks: &[&str]) -> Result<(), Error> {
    let mut listed = String::new();
    for disk in ["vda", "vdb", "vdc"] {
        let wish = if disks.contains(&disk) {
            "bitmap"
        } else {
            "no"
        };
        listed += &format!("<disk name='{disk}' checkpoint='{wish}'/>");
    }
    let xml =
        format!("<domaincheckpoint><name>{name}</name><disks>{listed}</disks></domaincheckpoint>");
    let made = world
        .domain
        .checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE);
    made.map(|_| ())
}

/// A backup of vda to this file, and of nothing else.
fn push(world: &World, file: &str, more: &str, flags: BackupBeginFlags) -> Result<(), Error> {
    let xml = format!(
        "<domainbackup>{more}<disks><disk name='vda' type='file'><target file='{file}'/><driver type='qcow2'/></disk></disks></domainbackup>"
    );
    world.domain.backup_begin(&xml, None, flags)
}

fn pull(world: &World, socket: &str, names: [&str; 2]) -> Result<(), Error> {
    let mut disks = String::new();
    for (disk, name) in ["vda", "vdc"].into_iter().zip(names) {
        let scratch = world.path(&format!("scratch-{disk}"));
        disks += &format!(
            "<disk name='{disk}' type='file' exportname='{name}'><scratch file='{scratch}'/></disk>"
        );
    }
    let xml = format!(
        "<domainbackup mode='pull'><server transport='unix' socket='{socket}'/><disks>{disks}</disks></domainbackup>"
    );
    let with =
        "<domaincheckpoint><name>p1</name><disks><disk name='vda'/></disks></domaincheckpoint>";
    world
        .domain
        .backup_begin(&xml, Some(with), BackupBeginFlags::NONE)
}

#[test]
fn checkpoints_that_cannot_be_made_leave_nothing() {
    let Some(world) = World::new() else {
        return;
    };
    world.refuses(67, "storage type raw", |world| {
        checkpoint(world, "c1", &["vdb"])
    });
    // Another program's bitmap is in the way, on the second disk only.
    let theirs = json!({ "node": "vdc", "name": "c1" });
    world.ask("block-dirty-bitmap-add", theirs.clone());
    world.refuses(1, "Bitmap already exists: c1", |world| {
        checkpoint(world, "c1", &["vda", "vdc"])
    });
    world.ask("block-dirty-bitmap-remove", theirs);
    checkpoint(&world, "c1", &["vda", "vdc"]).unwrap();
    assert!(world.domain.reconcile().unwrap().agrees());
}

#[test]
fn an_image_of_an_old_version_and_one_that_may_not_be_written_are_refused_by_us() {
    let Some(world) = World::new() else {
        return;
    };
    // QEMU takes a bitmap on an image that it may only read, and loses it.
    let node = json!({
        "driver": "qcow2", "node-name": "vda", "file": "vda-file", "read-only": true
    });
    world.ask("blockdev-reopen", json!({ "options": [node] }));
    world.refuses(67, "readonly", |world| checkpoint(world, "c1", &["vda"]));
    let node = json!({
        "driver": "qcow2", "node-name": "vda", "file": "vda-file", "read-only": false
    });
    world.ask("blockdev-reopen", json!({ "options": [node] }));
    checkpoint(&world, "c1", &["vda"]).unwrap();
}

#[test]
fn backups_that_cannot_begin_leave_nothing() {
    let Some(world) = World::new() else {
        return;
    };
    let none = BackupBeginFlags::NONE;
    let there = world.path("there");
    std::fs::write(&there, b"mine").unwrap();
    world.refuses(8, "exists", |world| push(world, &there, "", none));
    assert_eq!(std::fs::read(&there).unwrap(), b"mine");
    world.refuses(38, "failed to create image file", |world| {
        push(world, &world.path("nowhere/target"), "", none)
    });
    world.refuses(103, "Checkpoint 'c9'", |world| {
        let since = "<incremental>c9</incremental>";
        push(world, &world.path("target"), since, none)
    });
    // A target that is too small, and that is not ours to remove.
    let small = world.path("small");
    qemu_img(&["create", "-q", "-f", "qcow2", &small, "65536"]);
    world.refuses(1, "different sizes", |world| {
        push(world, &small, "", BackupBeginFlags::REUSE_EXTERNAL)
    });
    assert!(Path::new(&small).exists());
    // Two disks under one name are refused after the transaction.
    let socket = world.path("nbd");
    world.refuses(1, "already has export named 'x'", |world| {
        pull(world, &socket, ["x", "x"])
    });
    // The server of another program is in the way, and stays.
    let theirs = world.path("theirs");
    let address = json!({ "addr": { "type": "unix", "data": { "path": &theirs } } });
    world.ask("nbd-server-start", address);
    world.refuses(1, "NBD server already running", |world| {
        pull(world, &socket, ["x", "y"])
    });
    world.ask("nbd-server-stop", Value::Null);
    pull(&world, &socket, ["x", "y"]).unwrap();
    world.domain.abort_job().unwrap();
    assert!(world.domain.reconcile().unwrap().agrees());
}

#[test]
fn a_backup_runs_alone_and_ends_when_it_is_aborted() {
    let Some(world) = World::new() else {
        return;
    };
    let before = world.files();
    pull(&world, &world.path("nbd"), ["x", "y"]).unwrap();
    let quick = world.domain.connection();
    assert!(quick.lookup_domain_by_name("vm").is_ok());
    assert!(world.domain.job_info().unwrap().unwrap().pull);
    checkpoint(&world, "c2", &["vda"]).unwrap();
    world.domain.abort_job().unwrap();
    assert_eq!(world.domain.job_info().unwrap(), None);
    let after: Vec<String> = world.files();
    assert_eq!(after, before, "scratch files and the socket are gone");
    let again = world.domain.abort_job().unwrap_err();
    assert_eq!(again.code().number(), 55);
    assert!(world.domain.reconcile().unwrap().agrees());
}
