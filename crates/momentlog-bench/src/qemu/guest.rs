//! A real QEMU with disks that nothing has written to, and its monitor without momentlog.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Failed;

/// Bytes of a disk.
pub(super) const DISK_LEN: u64 = 16 << 20;

/// How long QEMU may take to start.
const START_WAIT: Duration = Duration::from_secs(20);

/// The programs that are needed.
const PROGRAMS: [&str; 2] = ["qemu-system-x86_64", "qemu-img"];

/// The first of the needed programs that is not installed.
pub(super) fn missing_program() -> Option<&'static str> {
    PROGRAMS.into_iter().find(|program| {
        let asked = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        asked.is_err()
    })
}

/// A QEMU whose guest is never started. It is killed when it is dropped.
pub(super) struct Guest {
    process: Child,
    /// Paths of sockets are short, so that they are not beside the images.
    sockets: TempDir,
    images: Vec<PathBuf>,
}

impl Guest {
    /// Starts one with this number of disks in `dir`, and waits for its monitors.
    pub(super) fn start(dir: &Path, disks: usize) -> Result<Guest, Failed> {
        fs::create_dir_all(dir)?;
        // QEMU names files as its command line does.
        let dir = dir.canonicalize()?;
        let sockets = tempfile::tempdir()?;
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-M", "q35", "-accel", "tcg", "-m", "64"]);
        command.args(["-nodefaults", "-display", "none", "-S"]);
        for name in [OURS, BARE] {
            let path = sockets.path().join(name);
            let monitor = format!("unix:{},server=on,wait=off", path.display());
            command.args(["-qmp", &monitor]);
        }
        let mut images = Vec::new();
        for disk in 0..disks {
            let image = dir.join(format!("{disk}.qcow2"));
            make_image(&image)?;
            let name = node(disk);
            let options = json!({
                "driver": "qcow2", "node-name": name,
                "file": { "driver": "file", "filename": &image, "node-name": format!("{name}s") }
            });
            command.args(["-blockdev", &options.to_string()]);
            let device = format!("virtio-blk-pci,drive={name},id=disk{disk}");
            command.args(["-device", &device]);
            images.push(image);
        }
        let mut guest = Guest {
            process: command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?,
            sockets,
            images,
        };
        let begun = Instant::now();
        while let Err(error) = guest.bare() {
            if guest.process.try_wait()?.is_some() || begun.elapsed() > START_WAIT {
                return Err(format!("QEMU does not start: {error}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(guest)
    }

    /// The XML of a domain with these disks.
    pub(super) fn definition(&self) -> String {
        let disks = self.images.iter().enumerate().map(|(number, image)| {
            format!(
                "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{}'/><target dev='{}'/></disk>",
                image.display(),
                target(number)
            )
        });
        format!(
            "<domain type='qemu'><name>bench</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>\
             <devices>{}</devices></domain>",
            disks.collect::<String>()
        )
    }

    /// The socket that momentlog asks.
    pub(super) fn socket(&self) -> PathBuf {
        self.sockets.path().join(OURS)
    }

    /// Connects to the other socket, as far as the first request.
    pub(super) fn bare(&self) -> Result<Bare, Failed> {
        let stream = UnixStream::connect(self.sockets.path().join(BARE))?;
        let mut bare = Bare(BufReader::new(stream));
        // An event may come before the greeting.
        while bare.line()?.get("QMP").is_none() {}
        bare.ask("qmp_capabilities", Value::Null)?;
        Ok(bare)
    }

    /// Lets the device of a disk write.
    pub(super) fn write(&self, disk: usize, length: u64) -> Result<(), Failed> {
        let line = format!(
            "qemu-io -d /machine/peripheral/disk{disk}/virtio-backend \"write -P 7 0 {length}\""
        );
        let arguments = json!({ "command-line": line });
        self.bare()?.ask("human-monitor-command", arguments)?;
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Names of the two sockets.
const OURS: &str = "momentlog.qmp";
const BARE: &str = "bare.qmp";

/// The node of a disk.
pub(super) fn node(disk: usize) -> String {
    format!("disk{disk}f")
}

/// The target of a disk in its domain.
pub(super) fn target(disk: usize) -> String {
    let letter = u8::try_from(disk).map_or('z', |disk| char::from(b'a' + disk % 26));
    format!("vd{letter}")
}

pub(super) fn make_image(path: &Path) -> Result<(), Failed> {
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(path)
        .arg(DISK_LEN.to_string())
        .output()?;
    if made.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&made.stderr).into_owned().into())
    }
}

/// A connection to a monitor that does nothing but send a line and read one.
pub(super) struct Bare(BufReader<UnixStream>);

impl Bare {
    /// Sends one request and returns what it returns.
    pub(super) fn ask(&mut self, execute: &str, arguments: Value) -> Result<Value, Failed> {
        let mut request = json!({ "execute": execute });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        self.0
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut answer = self.line()?;
            if let Some(error) = answer.get("error") {
                return Err(format!("{execute}: {error}").into());
            }
            // Anything else is an event.
            if let Some(found) = answer.get_mut("return") {
                return Ok(found.take());
            }
        }
    }

    /// As [`ask`](Self::ask), of a transaction.
    pub(super) fn transaction(&mut self, actions: &[Value]) -> Result<(), Failed> {
        self.ask("transaction", json!({ "actions": actions }))?;
        Ok(())
    }

    fn line(&mut self) -> Result<Value, Failed> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err("the monitor closed the connection".into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}
