//! The images of a guest that is off, as `qemu-img` tells them.

use std::path::Path;
use std::process::{Command, Stdio};

use momentlog::ErrorCode;
use momentlog::core::RunState;
use momentlog::driver::{Bitmap, Fault, Guest, Layer, SeenDisk, Sight};
use serde::Deserialize;
use serde_json::Value;

use crate::monitor::Hypervisor;

/// Asks `qemu-img` about an image and those below it. It fails if a hypervisor uses the image: then only that one knows.
pub(crate) fn image_info(path: &Path) -> Result<Value, String> {
    let output = Command::new("qemu-img")
        .args(["info", "--output=json", "--backing-chain", "--"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run qemu-img: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("the answer of qemu-img makes no sense: {error}"))
}

#[derive(Deserialize)]
struct Info {
    filename: String,
    format: String,
    #[serde(rename = "virtual-size", default)]
    size: u64,
    #[serde(rename = "cluster-size", default)]
    cluster: Option<u64>,
    #[serde(rename = "format-specific", default)]
    specific: Option<Specific>,
}

#[derive(Deserialize)]
struct Specific {
    #[serde(default)]
    data: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    compat: Option<String>,
    #[serde(default)]
    bitmaps: Vec<Stored>,
}

#[derive(Deserialize)]
struct Stored {
    name: String,
    granularity: u64,
    #[serde(default)]
    flags: Vec<String>,
}

/// Looks at the images of a guest that is off.
pub(crate) fn look(hypervisor: &dyn Hypervisor, guest: &Guest) -> Result<Sight, Fault> {
    let mut disks = Vec::new();
    for disk in &guest.def.disks {
        let layers = match &disk.source {
            Some(source) if source.starts_with('/') => layers(hypervisor, source)?,
            _ => Vec::new(),
        };
        disks.push(SeenDisk {
            target: disk.target.clone(),
            layers,
        });
    }
    Ok(Sight {
        power: (RunState::Shutoff, 0),
        disks,
        witnesses: Vec::new(),
        copies: std::collections::BTreeMap::new(),
    })
}

fn layers(hypervisor: &dyn Hypervisor, source: &str) -> Result<Vec<Layer>, Fault> {
    let fault = |why: String| {
        let detail = format!("cannot look at the image '{source}': {why}");
        Fault::refused(ErrorCode::OperationFailed, detail)
    };
    let info = hypervisor.image_info(Path::new(source)).map_err(fault)?;
    let infos: Vec<Info> =
        serde_json::from_value(info).map_err(|error| fault(error.to_string()))?;
    Ok(infos.into_iter().map(layer).collect())
}

fn layer(info: Info) -> Layer {
    let details = info.specific.and_then(|specific| specific.data);
    let is_old = details.as_ref().and_then(|data| data.compat.as_deref()) == Some("0.10");
    let stored = details.map(|data| data.bitmaps).unwrap_or_default();
    Layer {
        image: info.filename.into(),
        node: "".into(),
        keeps_bitmaps: info.format == "qcow2" && !is_old,
        format: info.format.into(),
        read_only: false,
        size: info.size,
        cluster: info.cluster,
        bitmaps: stored.into_iter().map(bitmap).collect(),
    }
}

fn bitmap(stored: Stored) -> Bitmap {
    let has = |flag: &str| stored.flags.iter().any(|found| found == flag);
    Bitmap {
        // What was in use when a hypervisor ended has not seen all writes.
        recording: has("auto") && !has("in-use"),
        inconsistent: has("in-use"),
        persistent: true,
        busy: false,
        count: None,
        granularity: stored.granularity,
        name: stored.name.into(),
    }
}
