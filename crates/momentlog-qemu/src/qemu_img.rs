//! What `qemu-img` is asked about images that no hypervisor uses, and told to do to them. It takes QEMU's lock of the image, so
//! it fails while one does.

use std::fmt;
use std::io::{self, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// The format that keeps bitmaps.
pub(crate) const QCOW2: &str = "qcow2";

/// Asks about an image and those below it. Without a format, it is the one that the image seems to have.
pub(crate) fn image_info(path: &Path, format: Option<&str>) -> Result<Value, String> {
    let mut command = Command::new("qemu-img");
    command.args(["info", "--output=json", "--backing-chain"]);
    if let Some(format) = format {
        command.args(["-f", format]);
    }
    let said = said(command.arg("--").arg(path))?;
    serde_json::from_slice(&said).map_err(|error| no_sense(&error))
}

/// Asks whether an overlay holds data, or zeros, of its own. The answer tells of the whole chain, and may be long.
pub(crate) fn holds_data(path: &Path) -> Result<bool, String> {
    let mut command = Command::new("qemu-img");
    command.args(["map", "--output=json", "-f", QCOW2, "--"]);
    command.arg(path).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().map_err(|error| cannot_run(&error))?;
    let mut answer = BufReader::new(running.stdout.take().ok_or("no answer")?);
    let read = serde_json::from_reader(&mut answer).map_err(|error| no_sense(&error));
    drop(answer);
    let ended = running
        .wait_with_output()
        .map_err(|error| cannot_run(&error))?;
    if ended.status.success() {
        read.map(|HasTop(holds)| holds)
    } else {
        Err(message(&ended))
    }
}

/// Has `qemu-img` remove a bitmap from an image, and leave those below it closed.
///
/// While it does, the image's other bitmaps are marked as in use. So it is in a process group of its own, which a Ctrl-C does
/// not reach.
pub(crate) fn remove_stored_bitmap(path: &Path, bitmap: &str) -> Result<(), String> {
    let path = path.to_str().ok_or("the name of the image is no UTF-8")?;
    let image = json!({
        "driver": QCOW2, "backing": null, "file": { "driver": "file", "filename": path }
    });
    let mut command = Command::new("qemu-img");
    command.args(["bitmap", "--remove", "--"]);
    command.args([&format!("json:{image}"), bitmap]);
    said(command.process_group(0)).map(|_| ())
}

/// Runs a command, and returns what it prints.
fn said(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_run(&error))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(message(&output))
    }
}

fn cannot_run(error: &io::Error) -> String {
    format!("cannot run qemu-img: {error}")
}

fn no_sense(error: &serde_json::Error) -> String {
    format!("the answer of qemu-img makes no sense: {error}")
}

fn message(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stderr).trim().to_owned()
}

/// Whether a map of a chain tells of anything in its top image. It is read part by part.
struct HasTop(bool);

/// A part of a chain that is in one image.
#[derive(Deserialize)]
struct Mapped {
    depth: u64,
    #[serde(default = "is_present")]
    present: bool,
}

/// Whether a part is in an image, if it is not said: QEMU before 6.1.
fn is_present() -> bool {
    true
}

impl<'de> Deserialize<'de> for HasTop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HasTop, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = HasTop;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the parts of an image")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<HasTop, A::Error> {
                let mut holds = false;
                while let Some(part) = parts.next_element::<Mapped>()? {
                    holds |= part.depth == 0 && part.present;
                }
                Ok(HasTop(holds))
            }
        }
        deserializer.deserialize_seq(Parts)
    }
}
