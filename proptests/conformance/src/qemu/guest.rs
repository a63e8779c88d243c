//! A real QEMU, started as a recording had it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use momentlog_qemu::{Hypervisor as _, Monitor, QmpSockets, Request};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// How long QEMU may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// One disk of a profile.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) target: &'static str,
    format: &'static str,
    pub(super) is_cdrom: bool,
    /// The images, from the top down.
    pub(super) chain: Vec<String>,
}

/// The guest of a trace: its images, and QEMU while it runs.
#[derive(Debug)]
pub(super) struct Guest {
    dir: PathBuf,
    pub(super) disks: Vec<Disk>,
    running: Option<Child>,
    monitor: Option<Box<dyn Monitor>>,
}

impl Guest {
    pub(super) fn new(dir: &Path, profile: &str, size: u64) -> Result<Guest, String> {
        let disks: &[(&str, &str, bool)] = match profile {
            "two" => &[("vda", "qcow2", false), ("vdb", "qcow2", false)],
            "mixed" => &[
                ("vda", "qcow2", false),
                ("vdb", "raw", false),
                ("vdc", "qcow2", false),
                ("sda", "raw", true),
            ],
            other => return Err(format!("profile '{other}' is not known")),
        };
        let mut guest = Guest {
            dir: dir.to_owned(),
            disks: Vec::new(),
            running: None,
            monitor: None,
        };
        for (target, format, is_cdrom) in disks {
            let extension = if *format == "qcow2" { "qcow2" } else { "img" };
            let path = dir
                .join(format!("{target}.{extension}"))
                .display()
                .to_string();
            if *is_cdrom {
                let zeros = vec![0; usize::try_from(MIB).unwrap_or_default()];
                std::fs::write(&path, zeros).map_err(|error| error.to_string())?;
            } else {
                run(
                    "qemu-img",
                    &["create", "-q", "-f", format, &path, &size.to_string()],
                )?;
            }
            guest.disks.push(Disk {
                target,
                format,
                is_cdrom: *is_cdrom,
                chain: vec![path],
            });
        }
        Ok(guest)
    }

    /// A text of a recording, with the paths of this directory.
    pub(super) fn here(&self, text: &str) -> String {
        text.replace("/images", &self.dir.display().to_string())
    }

    /// A text with the paths of a recording.
    pub(super) fn there(&self, text: &str) -> String {
        text.replace(&self.dir.display().to_string(), "/images")
    }

    /// The socket that momentlog has to itself.
    pub(super) fn socket(&self) -> String {
        self.dir.join("momentlog.qmp").display().to_string()
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn start(&mut self) -> Result<(), String> {
        let own = self.dir.join("player.qmp");
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-M",
                "q35",
                "-accel",
                "tcg",
                "-m",
                "64",
                "-nodefaults",
                "-display",
                "none",
                "-boot",
                "strict=on",
                "-S",
            ])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", self.socket()))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", own.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut virtio = 0;
        for disk in &self.disks {
            // From the base up, each image over the one before.
            let mut below = Value::Null;
            for (level, path) in disk.chain.iter().enumerate().rev() {
                let name = format!("{}-{level}", disk.target);
                let read_only = level > 0 || disk.is_cdrom;
                let storage = json!({
                    "driver": "file", "filename": path, "node-name": format!("{name}s"),
                    "auto-read-only": true, "discard": "unmap"
                });
                let is_base = level + 1 == disk.chain.len();
                let driver = if is_base { disk.format } else { "qcow2" };
                let mut format = json!({
                    "driver": driver, "node-name": format!("{name}f"), "read-only": read_only,
                    "discard": "unmap", "file": format!("{name}s")
                });
                if driver == "qcow2" {
                    format["backing"] = below;
                }
                below = format!("{name}f").into();
                command.arg("-blockdev").arg(storage.to_string());
                command.arg("-blockdev").arg(format.to_string());
            }
            let node = format!("{}-0f", disk.target);
            command.arg("-device");
            if disk.is_cdrom {
                command.arg(format!("ide-cd,drive={node},id=sata0-0-0"));
            } else {
                // The firmware takes the disk that it boots from and no other, and turns its write cache off. A player is
                // faster than the firmware.
                let boot = if virtio == 0 {
                    ",bootindex=1,write-cache=off"
                } else {
                    ""
                };
                let device = format!("virtio-blk-pci,drive={node},id=virtio-disk{virtio}");
                command.arg(device + boot);
                virtio += 1;
            }
        }
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start qemu-system-x86_64: {error}"))?;
        self.running = Some(child);
        let begun = Instant::now();
        let mut monitor = loop {
            match QmpSockets::default().enter(&own, PATIENCE) {
                Ok(monitor) => break monitor,
                Err(error) if begun.elapsed() > PATIENCE => return Err(error.to_string()),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        ask(&mut *monitor, "cont", Value::Null)?;
        self.monitor = Some(monitor);
        Ok(())
    }

    /// Ends QEMU in order.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        if let Some(monitor) = &mut self.monitor {
            // The answer may come or not.
            let _ = monitor.ask(&Request::bare("quit"));
        }
        self.wait()
    }

    pub(super) fn kill(&mut self) -> Result<(), String> {
        if let Some(child) = &mut self.running {
            child.kill().map_err(|error| error.to_string())?;
        }
        self.wait()
    }

    fn wait(&mut self) -> Result<(), String> {
        self.monitor = None;
        match self.running.take() {
            Some(mut child) => child.wait().map(|_| ()).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Lets the guest's device write.
    pub(super) fn write(
        &mut self,
        disk: &str,
        offset: u64,
        length: u64,
        pattern: u8,
    ) -> Result<(), String> {
        let disks = self.disks.iter().filter(|disk| !disk.is_cdrom);
        let index = disks.into_iter().position(|found| found.target == disk);
        let index = index.ok_or_else(|| format!("no disk '{disk}'"))?;
        let line = format!(
            "qemu-io -d /machine/peripheral/virtio-disk{index}/virtio-backend \"write -P {pattern} {offset} {length}\""
        );
        let answer = self.ask("human-monitor-command", json!({ "command-line": line }))?;
        let said = answer.as_str().unwrap_or_default().trim().to_owned();
        if said.is_empty() || said.contains("wrote") {
            Ok(())
        } else {
            Err(said)
        }
    }

    pub(super) fn ask(&mut self, execute: &'static str, arguments: Value) -> Result<Value, String> {
        let monitor = self.monitor.as_mut().ok_or("QEMU does not run")?;
        ask(&mut **monitor, execute, arguments)
    }

    /// Takes note of which images each disk has now.
    pub(super) fn look(&mut self) -> Result<(), String> {
        if self.monitor.is_none() {
            return Ok(());
        }
        let devices = self.ask("query-block", Value::Null)?;
        for disk in &mut self.disks {
            let devices = devices.as_array().into_iter().flatten();
            let mut inserted = devices.filter_map(|device| device.get("inserted"));
            let base = disk.chain.last().cloned().unwrap_or_default();
            let found = inserted.find_map(|inserted| {
                let chain = chain_of(inserted);
                chain.contains(&base).then_some(chain)
            });
            if let Some(chain) = found {
                disk.chain = chain;
            }
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn chain_of(inserted: &Value) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    let mut image = inserted.get("image");
    while let Some(here) = image {
        let name = here
            .get("filename")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if chain.last().map(String::as_str) != Some(name) {
            chain.push(name.to_owned());
        }
        image = here.get("backing-image");
    }
    chain
}

fn ask(
    monitor: &mut dyn Monitor,
    execute: &'static str,
    arguments: Value,
) -> Result<Value, String> {
    let asked = monitor.ask(&Request::new(execute, arguments));
    asked.map_err(|error| format!("{execute}: {error}"))
}

/// Runs a program, and returns what it prints.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// The ranges that the top image of a file holds itself, neighbours joined.
pub(super) fn extents(path: &str) -> Result<Value, String> {
    let Ok(found) = run("qemu-img", &["map", "--output=json", "-U", path]) else {
        return Ok(Value::Null);
    };
    let found: Vec<Value> = serde_json::from_str(&found).map_err(|error| error.to_string())?;
    let mut joined: Vec<(u64, u64, &str)> = Vec::new();
    for extent in &found {
        let is = |key: &str| extent[key].as_bool().unwrap_or(key == "present");
        if extent["depth"] != 0 || !(is("data") || is("zero")) || !is("present") {
            continue;
        }
        let kind = if is("data") { "data" } else { "zero" };
        let number = |key: &str| extent[key].as_u64().unwrap_or_default();
        let (start, length) = (number("start"), number("length"));
        match joined.last_mut() {
            Some(last) if last.0 + last.1 == start && last.2 == kind => last.1 += length,
            _ => joined.push((start, length, kind)),
        }
    }
    Ok(json!(joined))
}

/// What a client of a pull backup sees of the bitmap that says what to copy.
pub(super) fn dirty_over_nbd(disk: &str, socket: &str) -> Result<Value, String> {
    let uri = format!("nbd+unix:///{disk}?socket={socket}");
    let map = format!("--map=qemu:dirty-bitmap:backup-{disk}");
    let Ok(found) = run("nbdinfo", &[&map, "--json", &uri]) else {
        return Ok(json!({ "no_map": true }));
    };
    let found: Vec<Value> = serde_json::from_str(&found).map_err(|error| error.to_string())?;
    let dirty: Vec<[u64; 2]> = found
        .iter()
        .filter(|extent| extent["type"].as_u64().unwrap_or_default() & 1 == 1)
        .map(|extent| ["offset", "length"].map(|key| extent[key].as_u64().unwrap_or_default()))
        .collect();
    Ok(json!({ "dirty": dirty }))
}
