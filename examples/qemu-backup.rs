//! Incremental backups of a running QEMU, and every one of them restored.
//!
//! A QEMU with two disks runs without a guest system. Each night a backup copies what was written since the checkpoint of
//! the night before, and makes a checkpoint at the same instant, from which the next night goes on. In the end each disk is
//! restored as it was on each night, and compared byte by byte with what QEMU itself read from it then.
//!
//! `cargo run -p momentlog-qemu --example qemu-backup`; it needs `qemu-system-x86_64` and `qemu-img`. Without them it does
//! nothing, which is an error only if `MOMENTLOG_NEED_QEMU` is set.
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use momentlog::{BackupBeginFlags, Connection, Domain, Options};
use momentlog_qemu::{EnterError, Monitor as _, Qemu, QmpMonitor, QmpSockets, Request};
use serde_json::json;

const UUID: &str = "8d3f5a34-6f0e-4b1c-9a57-2f9f0f5f7c11";
const DISKS: [&str; 2] = ["vda", "vdb"];

/// Each night, and what was written since the one before: the disk, then pattern, offset and length as `qemu-io` takes them.
const NIGHTS: [(&str, &[(&str, &str)]); 4] = [
    ("monday", &[("vda", "-P 1 0 8M"), ("vdb", "-P 2 1M 3M")]),
    (
        "tuesday",
        &[
            ("vda", "-P 3 4M 64k"),
            ("vda", "-P 4 40000000 512"),
            ("vdb", "-P 5 63M 1M"),
        ],
    ),
    // Nothing on vdb; on vda, what was there is written over, and zeroed in part.
    ("wednesday", &[("vda", "-P 6 4M 32k"), ("vda", "-z 1M 1M")]),
    (
        "thursday",
        &[
            ("vda", "-P 7 0 512"),
            ("vdb", "-P 8 1M 128k"),
            ("vdb", "-P 9 20M 5M"),
        ],
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let needed = ["qemu-system-x86_64", "qemu-img"];
    if let Some(missing) = needed.into_iter().find(is_missing) {
        println!("left out: {missing} is not installed");
        return match std::env::var_os("MOMENTLOG_NEED_QEMU") {
            Some(_) => Err("MOMENTLOG_NEED_QEMU is set".into()),
            None => Ok(()),
        };
    }
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path();
    let backups = dir.join("backups");
    std::fs::create_dir(&backups)?;
    let mut machine = Machine::start(dir)?;

    let uri = format!("momentlog:{}?driver=qemu", dir.join("store").display());
    let store = Connection::open_driven(&uri, Options::default(), &[Arc::new(Qemu::default())])?;
    let domain = store.define_domain_xml(&machine.domain_xml())?;
    domain.attach(Qemu::NAME, &text(&machine.socket()), false)?;

    let mut before = None;
    for (night, writes) in NIGHTS {
        for (disk, write) in writes {
            machine.write(disk, write)?;
        }
        for disk in DISKS {
            machine.read_whole(disk, &dir.join(format!("{disk}.{night}.raw")))?;
        }
        back_up(&domain, &backups, night, before)?;
        before = Some(night);
    }
    machine.end()?;

    let mut differing = 0;
    for (night, _) in NIGHTS {
        for disk in DISKS {
            let restored = dir.join("restored.raw");
            restore(&backups, disk, night, &restored)?;
            let was = std::fs::read(dir.join(format!("{disk}.{night}.raw")))?;
            if std::fs::read(&restored)? == was {
                println!("{disk} of {night}: restored, equal byte by byte");
            } else {
                println!("{disk} of {night}: restored, and it DIFFERS");
                differing += 1;
            }
        }
    }
    match differing {
        0 => Ok(()),
        _ => Err(format!("{differing} restored disks differ").into()),
    }
}

/// The file of a night's backup of a disk.
fn file_of(disk: &str, night: &str) -> String {
    format!("{disk}.{night}.qcow2")
}

/// Backs up all disks: whole, or what was written since the checkpoint of the night before.
fn back_up(
    domain: &Domain,
    backups: &Path,
    night: &str,
    before: Option<&str>,
) -> Result<(), Box<dyn Error>> {
    let since = before.map(|before| format!("<incremental>{before}</incremental>"));
    let since = since.unwrap_or_default();
    let targets = DISKS.map(|disk| {
        let file = backups.join(file_of(disk, night));
        format!(
            "<disk name='{disk}' type='file'><target file='{}'/></disk>",
            file.display()
        )
    });
    let xml = format!(
        "<domainbackup>{since}<disks>{}</disks></domainbackup>",
        targets.concat()
    );
    let checkpoint = format!("<domaincheckpoint><name>{night}</name></domaincheckpoint>");
    domain.backup_begin(&xml, Some(&checkpoint), BackupBeginFlags::NONE)?;

    // It was begun, and goes on in QEMU without us. To ask for it also records its end, once it has come.
    while domain.job_info()?.is_some() {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Only a backup that the log calls done may be used, and only its checkpoint be built on.
    let backup = domain.backups()?.pop();
    let backup = backup.ok_or("the backup is not in the log")?;
    if !backup.is_done() {
        return Err(format!("the backup of {night} failed: {:?}", backup.end).into());
    }

    for disk in DISKS {
        let path = backups.join(file_of(disk, night));
        if let Some(before) = before {
            // QEMU has put the new file above the running disk, where all but the changes reads as of now. It belongs above
            // the backup of the night before. With -u only the name of the image below is written, and no data.
            let below = file_of(disk, before);
            qemu_img(&["rebase", "-u", "-F", "qcow2", "-b", &below, &text(&path)])?;
        }
        let bytes = path.metadata()?.len();
        println!(
            "{night}: {disk} since {}: {} KiB",
            before.unwrap_or("ever"),
            bytes / 1024
        );
    }
    Ok(())
}

/// Restores a disk as it was in a night: its backup of that night is the top of a chain down to the whole one.
fn restore(backups: &Path, disk: &str, night: &str, to: &Path) -> Result<(), Box<dyn Error>> {
    let top = text(&backups.join(file_of(disk, night)));
    qemu_img(&["convert", "-f", "qcow2", "-O", "raw", &top, &text(to)])
}

/// A running QEMU. It has two monitors, as each takes one client at a time: one is momentlog's, and through the other the
/// disks are written and read as a guest would.
struct Machine {
    dir: PathBuf,
    qemu: Child,
    monitor: QmpMonitor,
}

impl Machine {
    fn start(dir: &Path) -> Result<Machine, Box<dyn Error>> {
        let mut command = Command::new("qemu-system-x86_64");
        let options = "-M q35 -accel tcg -nodefaults -display none -S";
        command.args(options.split(' ')).args(["-uuid", UUID]);
        let own = dir.join("own.qmp");
        for socket in [&dir.join("momentlog.qmp"), &own] {
            command
                .arg("-qmp")
                .arg(format!("unix:{},server=on,wait=off", socket.display()));
        }
        for disk in DISKS {
            let image = image_of(dir, disk);
            qemu_img(&["create", "-q", "-f", "qcow2", &text(&image), "64M"])?;
            let file = format!("{disk}-file");
            let storage = json!({ "driver": "file", "filename": image, "node-name": file });
            let format = json!({ "driver": "qcow2", "file": file, "node-name": disk });
            let device = format!("virtio-blk-pci,drive={disk},id=device-{disk}");
            command.arg("-blockdev").arg(storage.to_string());
            command.arg("-blockdev").arg(format.to_string());
            command.arg("-device").arg(device);
        }
        let mut qemu = command.stdin(Stdio::null()).spawn()?;
        let monitor = loop {
            match QmpSockets::default().connect(&own, Duration::from_secs(10)) {
                Ok(monitor) => break monitor,
                // It has not come so far yet.
                Err(EnterError::Missing { .. } | EnterError::Dead { .. })
                    if qemu.try_wait()?.is_none() =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => {
                    qemu.kill()?;
                    return Err(error.into());
                }
            }
        };
        let mut machine = Machine {
            dir: dir.to_owned(),
            qemu,
            monitor,
        };
        let nbd = text(&dir.join("nbd.sock"));
        machine.ask(
            "nbd-server-start",
            json!({ "addr": { "type": "unix", "data": { "path": nbd } } }),
        )?;
        Ok(machine)
    }

    /// The monitor that momentlog has to itself.
    fn socket(&self) -> PathBuf {
        self.dir.join("momentlog.qmp")
    }

    /// What momentlog needs to know of it: its uuid, and the file of each disk.
    fn domain_xml(&self) -> String {
        let disks = DISKS.map(|disk| {
            let image = image_of(&self.dir, disk);
            format!(
                "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{}'/>\
                 <target dev='{disk}' bus='virtio'/></disk>",
                image.display()
            )
        });
        format!(
            "<domain type='qemu'><name>vm</name><uuid>{UUID}</uuid><os><type>hvm</type></os>\
             <devices>{}</devices></domain>",
            disks.concat()
        )
    }

    /// Writes through the disk's device, as its guest would.
    fn write(&mut self, disk: &str, write: &str) -> Result<(), Box<dyn Error>> {
        let device = format!("/machine/peripheral/device-{disk}/virtio-backend");
        let line = format!("qemu-io -d {device} \"write -q {write}\"");
        let said = self.ask("human-monitor-command", json!({ "command-line": line }))?;
        match said.as_str().unwrap_or_default().trim() {
            "" => Ok(()),
            said => Err(format!("write {write}: {said}").into()),
        }
    }

    /// Copies a disk as its guest would read it now.
    fn read_whole(&mut self, disk: &str, to: &Path) -> Result<(), Box<dyn Error>> {
        self.ask(
            "block-export-add",
            json!({ "type": "nbd", "id": "read", "node-name": disk, "name": disk }),
        )?;
        let from = format!(
            "nbd+unix:///{disk}?socket={}",
            self.dir.join("nbd.sock").display()
        );
        qemu_img(&["convert", "-f", "raw", "-O", "raw", &from, &text(to)])?;
        self.ask("block-export-del", json!({ "id": "read", "mode": "hard" }))?;
        Ok(())
    }

    /// Ends QEMU in order, which stores the bitmaps of the checkpoints in the images.
    fn end(mut self) -> Result<(), Box<dyn Error>> {
        // It may be gone before its answer is read.
        let _ = self.ask("quit", json!({}));
        match self.qemu.wait()? {
            ended if ended.success() => Ok(()),
            ended => Err(format!("QEMU: {ended}").into()),
        }
    }

    fn ask(
        &mut self,
        execute: &'static str,
        arguments: serde_json::Value,
    ) -> Result<serde_json::Value, Box<dyn Error>> {
        let asked = self.monitor.ask(&Request::new(execute, arguments));
        asked.map_err(|error| format!("{execute}: {error}").into())
    }
}

/// However this program ends, QEMU ends with it.
impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn image_of(dir: &Path, disk: &str) -> PathBuf {
    dir.join(format!("{disk}.qcow2"))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn is_missing(program: &&str) -> bool {
    let mut command = Command::new(program);
    let asked = command.arg("--version").stdout(Stdio::null()).status();
    asked.is_err()
}

fn qemu_img(words: &[&str]) -> Result<(), Box<dyn Error>> {
    let status = Command::new("qemu-img").args(words).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("qemu-img {}: {status}", words.join(" ")).into())
    }
}
