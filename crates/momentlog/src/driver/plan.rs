//! What a job will do to each image, by what was seen: pure functions.

use std::sync::Arc;

use momentlog_core::{
    CheckpointDef, DiskEffect, DiskLocation, DiskTracking, EffectKind, FileToMake, MomentName,
    SnapshotDef,
};

use super::{Fault, Layer, Sight};
use crate::error::ErrorCode;

/// A disk that a checkpoint tracks, and the bitmap that does it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tracked {
    pub(crate) disk: Arc<str>,
    pub(crate) bitmap: Arc<str>,
}

impl Tracked {
    /// Returns what a checkpoint tracks, in the order of its disks.
    pub(crate) fn of(name: &MomentName, def: &CheckpointDef) -> Vec<Tracked> {
        let tracked = def.disks.iter().filter_map(|disk| {
            let bitmap = match &disk.tracking {
                DiskTracking::No => return None,
                DiskTracking::Bitmap(None) => name.as_str().into(),
                DiskTracking::Bitmap(Some(bitmap)) => bitmap.clone(),
            };
            let disk = disk.name.clone();
            Some(Tracked { disk, bitmap })
        });
        tracked.collect()
    }
}

/// Refuses disks whose top image cannot keep a bitmap.
///
/// An image that would take a bitmap and lose it is refused here, because QEMU does not refuse it.
pub(crate) fn vet_tops(sight: &Sight, tracked: &[Tracked]) -> Result<(), Fault> {
    for Tracked { disk, .. } in tracked {
        let top = top(sight, disk)?;
        let detail = if !top.keeps_bitmaps {
            let format = &top.format;
            format!("checkpoint for disk {disk} unsupported for storage type {format}")
        } else if top.read_only {
            format!("disk '{disk}' is empty or readonly")
        } else {
            continue;
        };
        return Err(Fault::refused(ErrorCode::ConfigUnsupported, detail));
    }
    Ok(())
}

/// The bitmaps that a new checkpoint adds, one on the top image of each disk that it tracks.
pub(crate) fn additions(sight: &Sight, tracked: &[Tracked]) -> Result<Vec<DiskEffect>, Fault> {
    vet_tops(sight, tracked)?;
    let add = |Tracked { disk, bitmap }: &Tracked| {
        let top = top(sight, disk)?;
        Ok(DiskEffect {
            kind: EffectKind::BitmapAdded,
            bitmap: Some(bitmap.clone()),
            bitmap_was_there: top.bitmap(bitmap).is_some(),
            ..on(disk, top)
        })
    };
    tracked.iter().map(add).collect()
}

/// The bitmaps that a deletion removes: those of every image that has them.
pub(crate) fn removals(sight: &Sight, tracked: &[Tracked]) -> Result<Vec<DiskEffect>, Fault> {
    let mut effects = Vec::new();
    for Tracked { disk, bitmap } in tracked {
        let layers = sight.disk(disk).map_or(&[][..], |disk| &disk.layers);
        let having = layers.iter().filter(|layer| layer.bitmap(bitmap).is_some());
        let before = effects.len();
        effects.extend(having.map(|layer| DiskEffect {
            kind: EffectKind::BitmapRemoved,
            bitmap: Some(bitmap.clone()),
            bitmap_was_there: true,
            ..on(disk, layer)
        }));
        if effects.len() == before {
            let detail = format!("bitmap '{bitmap}' not found in backing chain of '{disk}'");
            return Err(Fault::refused(ErrorCode::InternalError, detail));
        }
    }
    Ok(effects)
}

/// The bitmaps that are left of a checkpoint, wherever they are.
pub(crate) fn leftovers(sight: &Sight, tracked: &[Tracked]) -> Vec<DiskEffect> {
    let mut effects = Vec::new();
    for tracked in tracked {
        effects.extend(removals(sight, std::slice::from_ref(tracked)).unwrap_or_default());
    }
    effects
}

/// Checks that the bitmaps of a checkpoint have seen every write since they were made.
pub(crate) fn validate(sight: &Sight, tracked: &[Tracked]) -> Result<(), Fault> {
    for Tracked { disk, bitmap } in tracked {
        if !sight.disk(disk).is_some_and(|disk| disk.tracks(bitmap)) {
            return Err(Fault::refused(
                ErrorCode::CheckpointInconsistent,
                format!("missing or broken bitmap '{bitmap}' for disk '{disk}'"),
            ));
        }
    }
    Ok(())
}

/// The overlays that an external snapshot puts above disks, and the files that they need.
pub(crate) fn overlays(
    sight: &Sight,
    def: &SnapshotDef,
    reuse: bool,
) -> Result<(Vec<DiskEffect>, Vec<FileToMake>), Fault> {
    let mut effects = Vec::new();
    let mut files = Vec::new();
    for disk in &def.disks {
        if disk.location != Some(DiskLocation::External) {
            continue;
        }
        let Some(file) = &disk.source else {
            continue;
        };
        let top = top(sight, &disk.name)?;
        effects.push(DiskEffect {
            kind: EffectKind::OverlayAdded,
            file: Some(file.clone()),
            ..on(&disk.name, top)
        });
        if !reuse {
            files.push(FileToMake {
                disk: disk.name.clone(),
                path: file.clone(),
            });
        }
    }
    Ok((effects, files))
}

/// The overlays that the deletion of a snapshot merges into the images below: those that the disks write to now. One that is
/// merged already is passed over.
pub(crate) fn merges(sight: &Sight, def: &SnapshotDef) -> Result<Vec<DiskEffect>, Fault> {
    let mut effects = Vec::new();
    for disk in &def.disks {
        let (Some(DiskLocation::External), Some(file)) = (disk.location, &disk.source) else {
            continue;
        };
        let layers = sight.disk(&disk.name).map_or(&[][..], |disk| &disk.layers);
        match layers.iter().position(|layer| layer.is(file)) {
            None => {}
            Some(0) if layers.len() > 1 => effects.push(DiskEffect {
                kind: EffectKind::OverlayMerged,
                file: Some(layers[1].image.clone()),
                ..on(&disk.name, &layers[0])
            }),
            Some(_) => {
                let name = &disk.name;
                let detail = format!(
                    "disk '{name}' does not write to '{file}': only the newest overlay is merged"
                );
                return Err(Fault::refused(ErrorCode::OperationUnsupported, detail));
            }
        }
    }
    Ok(effects)
}

/// The top image of a disk.
pub(crate) fn top<'a>(sight: &'a Sight, disk: &str) -> Result<&'a Layer, Fault> {
    let found = sight.disk(disk).and_then(|disk| disk.layers.first());
    found.ok_or_else(|| {
        let detail = format!("disk '{disk}' is not one that the hypervisor has");
        Fault::refused(ErrorCode::ConfigUnsupported, detail)
    })
}

/// An effect on this image that does nothing yet.
pub(crate) fn on(disk: &Arc<str>, layer: &Layer) -> DiskEffect {
    DiskEffect {
        disk: disk.clone(),
        kind: EffectKind::Copied,
        image: layer.image.clone(),
        node: layer.node.clone(),
        bitmap: None,
        bitmap_was_there: false,
        file: None,
    }
}
