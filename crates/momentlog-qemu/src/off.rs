//! The images of a guest that is off: what they hold, and how bitmaps are removed from them.

use std::collections::BTreeMap;
use std::path::Path;

use momentlog::ErrorCode;
use momentlog::core::{DiskEffect, DomainDisk, RunState};
use momentlog::driver::{Bitmap, Fault, Guest, Layer, SeenDisk, Sight, Tops};
use serde::Deserialize;

use crate::monitor::Hypervisor;
use crate::qemu_img::QCOW2;
use crate::session::look_only;

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
pub(crate) fn look(
    hypervisor: &dyn Hypervisor,
    guest: &Guest,
    tops: &Tops,
) -> Result<Sight, Fault> {
    let disks = guest.def.disks.iter().map(|disk| {
        Ok(SeenDisk {
            target: disk.target.clone(),
            layers: layers(hypervisor, disk, tops)?,
        })
    });
    Ok(Sight {
        power: (RunState::Shutoff, 0),
        disks: disks.collect::<Result<_, Fault>>()?,
        witnesses: Vec::new(),
        copies: BTreeMap::new(),
    })
}

/// Removes bitmaps from the images of a guest that is off, unless they are gone.
pub(crate) fn remove_bitmaps(
    hypervisor: &dyn Hypervisor,
    guest: &Guest,
    effects: &[DiskEffect],
) -> Result<(), Fault> {
    if guest.attachment.look_only {
        return Err(look_only());
    }
    for (number, effect) in effects.iter().enumerate() {
        let image = &*effect.image;
        let bitmap = effect.bitmap.as_deref().unwrap_or_default();
        let Err(why) = hypervisor.remove_stored_bitmap(Path::new(image), bitmap) else {
            continue;
        };
        let layers = chain(hypervisor, image, Some(QCOW2));
        let is_seen = layers.is_ok();
        let mut left = layers.into_iter().flatten();
        if is_seen && !left.any(|layer| layer.is(image) && layer.bitmap(bitmap).is_some()) {
            continue;
        }
        let detail = format!("cannot remove the bitmap '{bitmap}' from '{image}': {why}");
        return Err(Fault {
            leaves_unknown: number > 0 || !is_seen,
            ..Fault::refused(ErrorCode::OperationFailed, detail)
        });
    }
    Ok(())
}

/// The images of a disk, from the top down; none if the one that its definition names is not there.
fn layers(
    hypervisor: &dyn Hypervisor,
    disk: &DomainDisk,
    tops: &Tops,
) -> Result<Vec<Layer>, Fault> {
    let source = disk.source.as_deref();
    let Some(source) = source.filter(|source| source.starts_with('/')) else {
        return Ok(Vec::new());
    };
    let doubtful = tops.doubtful.get(&disk.target);
    let known = tops.known.get(&disk.target).into_iter().flatten();
    let above = doubtful.into_iter().chain(known.rev());
    let above = above.take_while(|image| &***image != source);
    for image in above.filter(|image| hypervisor.is_there(Path::new(&***image))) {
        let mut layers = chain(hypervisor, image, None)?;
        let Some(named) = layers.iter().find(|layer| layer.is(source)) else {
            // A file that was made for an overlay, and is none; or one of another chain.
            continue;
        };
        if let Some(format) = disk
            .format
            .as_deref()
            .filter(|format| *format != &*named.format)
        {
            let why = format!(
                "'{source}' is {} to it, and {format} to the domain",
                named.format
            );
            return Err(cannot_look(image, &why));
        }
        if let Some(top) = layers.first_mut().filter(|_| doubtful == Some(image)) {
            let holds_data = hypervisor.holds_data(Path::new(&**image));
            let holds_data = holds_data.map_err(|why| cannot_look(image, &why))?;
            top.empty = !holds_data && top.bitmaps.is_empty();
        }
        return Ok(layers);
    }
    if hypervisor.is_there(Path::new(source)) {
        chain(hypervisor, source, disk.format.as_deref())
    } else {
        Ok(Vec::new())
    }
}

fn cannot_look(image: &str, why: &str) -> Fault {
    let detail = format!("cannot look at the image '{image}': {why}");
    Fault::refused(ErrorCode::OperationFailed, detail)
}

/// The images of a chain, from the top down.
fn chain(
    hypervisor: &dyn Hypervisor,
    image: &str,
    format: Option<&str>,
) -> Result<Vec<Layer>, Fault> {
    let info = hypervisor.image_info(Path::new(image), format);
    let info = info.map_err(|why| cannot_look(image, &why))?;
    let infos = serde_json::from_value::<Vec<Info>>(info);
    let infos = infos.map_err(|error| cannot_look(image, &error.to_string()))?;
    Ok(infos.into_iter().map(layer).collect())
}

fn layer(info: Info) -> Layer {
    let details = info.specific.and_then(|specific| specific.data);
    let is_old = details.as_ref().and_then(|data| data.compat.as_deref()) == Some("0.10");
    let stored = details.map(|data| data.bitmaps).unwrap_or_default();
    Layer {
        image: info.filename.into(),
        node: "".into(),
        keeps_bitmaps: info.format == QCOW2 && !is_old,
        format: info.format.into(),
        read_only: false,
        empty: false,
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
