//! A real `qemu-storage-daemon`, started, asked and killed, and the tools that look at its images.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use momentlog_qemu::{AskError, Request};
use serde_json::{Value, json};

use crate::sim_qemu::{CLUSTER_LEN, Content, SECTOR_LEN};

/// The programs that are needed.
pub const PROGRAMS: [&str; 3] = ["qemu-storage-daemon", "qemu-img", "qemu-io"];

/// How long an answer is waited for.
const WAIT: Duration = Duration::from_mins(1);

/// The first of these programs that is not installed.
pub fn missing(programs: &[&'static str]) -> Option<&'static str> {
    let is_missing = |program: &&&str| {
        let mut command = Command::new(program);
        command.arg("--version");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_err()
    };
    programs.iter().find(is_missing).copied()
}

/// Says that a test is left out if one of these programs is not installed, and whether it is.
///
/// # Panics
///
/// If one is not installed, and `MOMENTLOG_NEED_QEMU` is set.
#[expect(clippy::print_stdout, reason = "it says which tests were left out")]
pub fn leaves_out(programs: &[&'static str]) -> bool {
    let Some(program) = missing(programs) else {
        return false;
    };
    assert!(
        std::env::var_os("MOMENTLOG_NEED_QEMU").is_none(),
        "{program} is not installed, and MOMENTLOG_NEED_QEMU is set"
    );
    println!("left out: {program} is not installed");
    true
}

/// An image of a disk and the node that opens it.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its node; `NODE-file` is that of the file.
    pub node: String,
    /// The file.
    pub path: String,
}

/// A running daemon. It is killed when it is dropped.
#[derive(Debug)]
pub struct RealDaemon {
    process: Child,
    monitor: BufReader<UnixStream>,
    exports: PathBuf,
    asked: u64,
}

impl RealDaemon {
    /// Starts a daemon in a directory, with the images of each disk from the top down, and waits for its monitor.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start<'a>(
        directory: &Path,
        disks: impl Iterator<Item = &'a [Layer]>,
    ) -> io::Result<RealDaemon> {
        let socket = directory.join("monitor");
        let exports = directory.join("exports");
        let driver = RealDaemon::driver_socket(directory);
        for left_over in [&socket, &exports, &driver] {
            match std::fs::remove_file(left_over) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let mut command = Command::new("qemu-storage-daemon");
        for (id, socket) in [("monitor", &socket), ("driver", &driver)] {
            let socket = format!("socket,path={},server=on,wait=off", socket.display());
            command.arg("--chardev").arg(format!("{socket},id={id}"));
            command.arg("--monitor").arg(format!("chardev={id}"));
        }
        for layers in disks {
            for (at, layer) in layers.iter().enumerate().rev() {
                let below = layers.get(at + 1).map(|below| &below.node);
                let options = json!({
                    "driver": "qcow2",
                    "node-name": layer.node,
                    "file": {
                        "driver": "file",
                        "filename": layer.path,
                        "node-name": format!("{}-file", layer.node),
                    },
                    "backing": below,
                    "read-only": at > 0,
                });
                command.arg("--blockdev").arg(options.to_string());
            }
        }
        let mut process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        match connect(&socket) {
            Ok(monitor) => {
                let mut daemon = RealDaemon {
                    process,
                    monitor,
                    exports,
                    asked: 0,
                };
                daemon.line()?;
                daemon
                    .ask(&Request::bare("qmp_capabilities"))
                    .map_err(io::Error::other)?;
                Ok(daemon)
            }
            Err(error) => {
                process.kill()?;
                process.wait()?;
                Err(error)
            }
        }
    }

    /// The monitor of the daemon in this directory that is for a driver alone.
    pub fn driver_socket(directory: &Path) -> PathBuf {
        directory.join("driver")
    }

    /// The socket for its exports.
    pub fn exports(&self) -> &Path {
        &self.exports
    }

    fn line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        match self.monitor.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => serde_json::from_str(&line).map_err(io::Error::other),
        }
    }

    /// Sends one request and returns what it returns.
    ///
    /// # Errors
    ///
    /// As [`Monitor::ask`](momentlog_qemu::Monitor::ask).
    pub fn ask(&mut self, request: &Request) -> Result<Value, AskError> {
        let execute = request.execute.to_string();
        self.asked += 1;
        let mut message = json!({"execute": execute, "id": self.asked});
        if !request.arguments.is_null() {
            message["arguments"] = request.arguments.clone();
        }
        let sent = writeln!(self.monitor.get_mut(), "{message}");
        let answer = sent.and_then(|()| {
            loop {
                let mut answer = self.line()?;
                if answer["id"] == message["id"] {
                    break Ok(answer
                        .as_object_mut()
                        .map(std::mem::take)
                        .unwrap_or_default());
                }
            }
        });
        match answer {
            Ok(mut answer) => match answer.remove("error") {
                None => Ok(answer.remove("return").unwrap_or_default()),
                Some(error) => Err(AskError::Refused {
                    class: text(&error["class"]),
                    desc: text(&error["desc"]),
                }),
            },
            Err(source) => match source.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe => Err(AskError::Closed { execute }),
                _ => Err(AskError::Io { execute, source }),
            },
        }
    }

    /// Writes through a writable export.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, export: &str, pattern: u8, offset: u64, length: u64) -> io::Result<()> {
        let uri = format!("nbd+unix:///{export}?socket={}", self.exports.display());
        let write = format!("write -P {pattern} {offset} {length}");
        run("qemu-io", &["-f", "raw", "-c", &write, &uri]).map(|_| ())
    }

    /// Reads an export whole.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn read(&self, export: &str, scratch: &Path) -> io::Result<Content> {
        let uri = format!("nbd+unix:///{export}?socket={}", self.exports.display());
        content("raw", &uri, scratch)
    }

    /// Waits until it has ended by itself, and returns how.
    ///
    /// # Errors
    ///
    /// If it cannot be waited for.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        self.process.wait()
    }

    /// Kills it.
    ///
    /// # Errors
    ///
    /// If it cannot be killed.
    pub fn kill(mut self) -> io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(|_| ())
    }
}

impl Drop for RealDaemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn connect(socket: &Path) -> io::Result<BufReader<UnixStream>> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => {
                stream.set_read_timeout(Some(WAIT))?;
                return Ok(BufReader::new(stream));
            }
            Err(error) if begun.elapsed() > WAIT => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Runs a program and returns what it printed.
///
/// # Errors
///
/// If it fails, with what it said.
pub fn run(program: &str, arguments: &[&str]) -> io::Result<Vec<u8>> {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(arguments).output()?;
    if status.success() {
        return Ok(stdout);
    }
    // qemu-io tells its errors on standard output.
    let said = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    let said = said.trim_end();
    Err(io::Error::other(format!("{program} {arguments:?}: {said}")))
}

/// What `qemu-img info` says of an image that is not open.
///
/// # Errors
///
/// If it is open, or not an image.
pub fn info(path: &str) -> io::Result<Value> {
    let printed = run("qemu-img", &["info", "--output=json", path])?;
    serde_json::from_slice(&printed).map_err(io::Error::other)
}

/// Makes an empty qcow2 image.
///
/// # Errors
///
/// If it cannot be made.
pub fn create(path: &str, size: u64, backing: Option<&str>) -> io::Result<()> {
    let size = size.to_string();
    let mut arguments = vec!["create", "-q", "-f", "qcow2"];
    if let Some(backing) = backing {
        arguments.extend(["-F", "qcow2", "-b", backing]);
    }
    arguments.extend([path, &size]);
    run("qemu-img", &arguments).map(|_| ())
}

/// What an image of this format and those below it hold on the disk, by way of a raw file, even if they are open.
///
/// # Errors
///
/// If it cannot be read, or a sector's bytes are not all the same.
pub fn content(format: &str, image: &str, scratch: &Path) -> io::Result<Content> {
    let path = scratch.to_string_lossy();
    run(
        "qemu-img",
        &["convert", "-U", "-f", format, "-O", "raw", image, &path],
    )?;
    let bytes = std::fs::read(scratch)?;
    std::fs::remove_file(scratch)?;
    let mut content = Content::new();
    for (sector, bytes) in (0_u64..).zip(bytes.chunks(usize::try_from(SECTOR_LEN).unwrap_or(1))) {
        let byte = bytes[0];
        if bytes.iter().any(|other| *other != byte) {
            return Err(io::Error::other(format!(
                "sector {sector} of {image} is mixed"
            )));
        }
        if byte != 0 {
            let cluster = content
                .entry(sector * SECTOR_LEN / CLUSTER_LEN)
                .or_insert([0; _]);
            let within = usize::try_from(sector % (CLUSTER_LEN / SECTOR_LEN)).unwrap_or(0);
            cluster[within] = byte;
        }
    }
    Ok(content)
}
