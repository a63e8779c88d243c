//! A real QEMU with two disks, which is killed and started again.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use momentlog_qemu::{EnterError, Monitor as _, QmpMonitor, QmpSockets, Request};
use serde_json::{Value, json};

pub(super) const DISKS: [&str; 2] = ["vda", "vdb"];

/// Bytes of a disk.
pub(super) const DISK_LEN: u64 = 4 << 20;

/// How long QEMU may take to start, and a client to leave its monitor.
const PATIENCE: Duration = Duration::from_secs(30);

const UUID: &str = "5b0f0d9c-3f0a-4a53-8a0e-7f6d7a1c2e44";

/// Which part of the directory of a guest.
pub(super) struct Place<'a>(pub(super) &'a Path);

impl Place<'_> {
    pub(super) fn uri(&self) -> String {
        format!("momentlog:{}?driver=qemu", self.store().display())
    }

    pub(super) fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// The monitor that momentlog has to itself.
    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("momentlog.qmp")
    }

    fn image(&self, disk: &str) -> PathBuf {
        self.0.join(format!("{disk}.qcow2"))
    }

    /// Where the copies of disks are.
    pub(super) fn backups(&self) -> PathBuf {
        self.0.join("backups")
    }

    pub(super) fn backup(&self, name: &str, disk: &str) -> PathBuf {
        self.backups().join(format!("{name}.{disk}.qcow2"))
    }

    /// What a disk held when a backup was begun or a checkpoint made.
    pub(super) fn content(&self, name: &str, disk: &str) -> PathBuf {
        self.0.join("content").join(format!("{name}.{disk}.raw"))
    }

    pub(super) fn domain_xml(&self) -> String {
        let disks = DISKS.map(|disk| {
            format!(
                "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{}'/>\
                 <target dev='{disk}' bus='virtio'/></disk>",
                self.image(disk).display()
            )
        });
        format!(
            "<domain type='qemu'><name>vm</name><uuid>{UUID}</uuid><os><type>hvm</type></os>\
             <devices>{}</devices></domain>",
            disks.concat()
        )
    }

    /// Reads a whole disk as its guest would, while QEMU runs.
    pub(super) fn read(&self, disk: &str) -> Result<Vec<u8>, Box<dyn Error>> {
        let to = self.0.join(format!("{disk}.now"));
        let socket = self.0.join("nbd.sock");
        let from = format!("nbd+unix:///{disk}?socket={}", socket.display());
        let words = ["convert", "-f", "raw", "-O", "raw", &from];
        qemu_img(&words, &to)?;
        Ok(std::fs::read(&to)?)
    }
}

/// A QEMU that runs.
pub(super) struct Guest {
    qemu: Child,
    monitor: QmpMonitor,
}

impl Guest {
    /// Makes the directories and the images of a guest.
    pub(super) fn prepare(place: &Place<'_>) -> Result<(), Box<dyn Error>> {
        for dir in ["backups", "content"] {
            std::fs::create_dir(place.0.join(dir))?;
        }
        for disk in DISKS {
            let words = ["create", "-q", "-f", "qcow2", "-o"];
            let size = format!("size={DISK_LEN}");
            qemu_img(&[&words[..], &[&size]].concat(), &place.image(disk))?;
        }
        Ok(())
    }

    pub(super) fn start(place: &Place<'_>) -> Result<Guest, Box<dyn Error>> {
        let mut command = Command::new("qemu-system-x86_64");
        let options = "-M q35 -accel tcg -m 32 -nodefaults -display none -S";
        command.args(options.split(' ')).args(["-uuid", UUID]);
        let own = place.0.join("parent.qmp");
        for socket in [&place.socket(), &place.0.join("work.qmp"), &own] {
            let socket = format!("unix:{},server=on,wait=off", socket.display());
            command.arg("-qmp").arg(socket);
        }
        for disk in DISKS {
            let file = format!("{disk}-file");
            let image = place.image(disk);
            let storage = json!({ "driver": "file", "filename": image, "node-name": file });
            let format = json!({ "driver": "qcow2", "file": file, "node-name": disk });
            let device = format!("virtio-blk-pci,drive={disk},id=device-{disk}");
            command.arg("-blockdev").arg(storage.to_string());
            command.arg("-blockdev").arg(format.to_string());
            command.arg("-device").arg(device);
        }
        let mut qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(place.0.join("qemu.log"))?,
            )
            .spawn()?;
        let monitor = loop {
            match QmpSockets::default().connect(&own, PATIENCE) {
                Ok(monitor) => break monitor,
                // Between its start and its listening; the socket of a killed one is still there.
                Err(EnterError::Missing { .. } | EnterError::Dead { .. })
                    if qemu.try_wait()?.is_none() =>
                {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => {
                    kill(&mut qemu)?;
                    return Err(error.into());
                }
            }
        };
        let mut guest = Guest { qemu, monitor };
        let path = place.0.join("nbd.sock");
        let server = json!({ "addr": { "type": "unix", "data": { "path": path } } });
        ask(&mut guest.monitor, "nbd-server-start", server)?;
        for disk in DISKS {
            let export = json!({ "type": "nbd", "id": disk, "node-name": disk, "name": disk });
            ask(&mut guest.monitor, "block-export-add", export)?;
        }
        Ok(guest)
    }

    /// Ends it in order, and returns whether it has: QEMU 7.2 may fail an assertion of its own if a copy begins or ends just
    /// then (`bdrv_do_drained_begin_quiesce`), which loses as much as a kill.
    pub(super) fn quit(mut self) -> io::Result<bool> {
        // It may be gone before its answer is read.
        let _ = ask(&mut self.monitor, "quit", Value::Null);
        Ok(self.qemu.wait()?.success())
    }

    pub(super) fn kill(mut self) -> io::Result<()> {
        kill(&mut self.qemu)
    }

    pub(super) fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.qemu.try_wait()?.is_none())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = kill(&mut self.qemu);
    }
}

/// The device of a guest, which writes.
pub(super) struct Writer(QmpMonitor);

impl Writer {
    pub(super) fn new(place: &Place<'_>) -> Result<Writer, Box<dyn Error>> {
        let monitor = QmpSockets::default().connect(&place.0.join("work.qmp"), PATIENCE)?;
        Ok(Writer(monitor))
    }

    pub(super) fn write(
        &mut self,
        disk: &str,
        offset: u64,
        len: u64,
        pattern: u8,
    ) -> Result<(), Box<dyn Error>> {
        let device = format!("/machine/peripheral/device-{disk}/virtio-backend");
        let line = format!("qemu-io -d {device} \"write -q -P {pattern} {offset} {len}\"");
        let line = json!({ "command-line": line });
        let said = ask(&mut self.0, "human-monitor-command", line)?;
        match said.as_str().unwrap_or_default().trim() {
            "" => Ok(()),
            said => Err(format!("write: {said}").into()),
        }
    }
}

fn ask(
    monitor: &mut QmpMonitor,
    execute: &'static str,
    arguments: Value,
) -> Result<Value, Box<dyn Error>> {
    let asked = monitor.ask(&Request::new(execute, arguments));
    asked.map_err(|error| format!("{execute}: {error}").into())
}

pub(super) fn kill(process: &mut Child) -> io::Result<()> {
    process.kill()?;
    process.wait().map(|_| ())
}

/// Runs `qemu-img`; the file comes last.
pub(super) fn qemu_img(words: &[&str], file: &Path) -> Result<(), Box<dyn Error>> {
    let mut command = Command::new("qemu-img");
    let output = command.args(words).arg(file).output()?;
    if output.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        let words = words.join(" ");
        Err(format!("qemu-img {words} {}: {}", file.display(), said.trim()).into())
    }
}
