//! Deleting external snapshots: the overlay that a disk writes to is merged into the image below, with its bitmaps.

use std::path::Path;
use std::time::Duration;

use momentlog::ErrorCode;
use momentlog::core::{DiskEffect, EffectKind, Job, JobId};
use momentlog::driver::{Fault, copy_name};
use serde_json::{Value, json};

use super::QemuSession;
use super::bitmaps::{add, merge};

/// How often it is asked how far a merge is.
const LOOK: Duration = Duration::from_millis(2);

impl QemuSession {
    /// Merges one overlay after the other. It has no witness: a disk that does not use an overlay any more says it.
    pub(super) fn merge_overlays(&mut self, id: JobId, job: &Job) -> Result<(), Fault> {
        let effects = job.effects.iter();
        let effects = effects.filter(|effect| effect.kind == EffectKind::OverlayMerged);
        let effects: Vec<&DiskEffect> = effects.collect();
        for (number, effect) in effects.iter().enumerate() {
            let merged = self.merge_overlay(id, effect);
            merged.map_err(|fault| {
                let done: Vec<&str> = effects[..number].iter().map(|done| &*done.disk).collect();
                let done = if done.is_empty() {
                    "nothing was merged".to_owned()
                } else {
                    format!("merged so far: {}", done.join(", "))
                };
                let detail = format!("disk '{}': {} ({done})", effect.disk, fault.detail);
                Fault { detail, ..fault }
            })?;
        }
        Ok(())
    }

    fn merge_overlay(&mut self, id: JobId, effect: &DiskEffect) -> Result<(), Fault> {
        let looked = self.look()?;
        let disks = self.placed(&looked.graph)?;
        let layers = disks.iter().find(|(target, _)| *target == effect.disk);
        let layers = layers.map_or(&[][..], |(_, layers)| layers);
        let [top, below, ..] = layers else {
            let detail = "the hypervisor has no image below its overlay";
            return Err(Fault::refused(ErrorCode::ConfigUnsupported, detail));
        };
        let name = copy_name(self.guest.log, id, &effect.disk);
        let base = &*below.layer.node;
        self.ask(
            "block-commit",
            json!({
                "job-id": name, "device": &*top.layer.node, "base-node": base,
                "auto-finalize": true, "auto-dismiss": false
            }),
        )?;
        let completed = self.complete_merge(&name, base, layers);
        if let Err(fault) = completed {
            if !fault.leaves_unknown {
                self.cancel(&name)?;
                self.try_ask("job-dismiss", json!({ "id": name }))?;
            }
            return Err(fault);
        }
        for node in [&*top.layer.node, &*top.storage] {
            self.try_ask("blockdev-del", json!({ "node-name": node }))?;
        }
        // What was in it is below now. Whether it can be removed changes nothing but space.
        let _ = self.hypervisor.remove_file(Path::new(&*effect.image));
        Ok(())
    }

    /// Closes and removes overlays that are merged, if the process that merged them died before it did.
    pub(super) fn complete_merges(&mut self, job: &Job) -> Result<(), Fault> {
        let effects = job.effects.iter();
        for effect in effects.filter(|effect| effect.kind == EffectKind::OverlayMerged) {
            let looked = self.look()?;
            let uses = looked
                .graph
                .nodes()
                .iter()
                .filter(|node| node.file == *effect.image);
            // That of the format is before that of the file, which it uses.
            let (formats, files): (Vec<_>, Vec<_>) =
                uses.partition(|node| node.name == *effect.node);
            let mut is_closed = true;
            for node in formats.iter().chain(&files) {
                let arguments = json!({ "node-name": &node.name });
                is_closed &= self.try_ask("blockdev-del", arguments)?;
            }
            if is_closed {
                // What was in it is below now. Whether it can be removed changes nothing but space.
                let _ = self.hypervisor.remove_file(Path::new(&*effect.image));
            }
        }
        Ok(())
    }

    /// Waits until all is copied, hands the bitmaps down, and lets the disk write to the image below from then on.
    fn complete_merge(
        &mut self,
        name: &str,
        base: &str,
        layers: &[crate::graph::Placed],
    ) -> Result<(), Fault> {
        self.wait_for(name, "ready")?;
        let [top, below, ..] = layers else {
            return Ok(());
        };
        let mut actions: Vec<Value> = Vec::new();
        for bitmap in top.layer.bitmaps.iter().filter(|bitmap| bitmap.is_sound()) {
            if below.layer.bitmap(&bitmap.name).is_none() {
                // It records, so that it also has what is written until the disk writes here.
                actions.push(add(base, &bitmap.name, Some(bitmap.granularity)));
            }
            let from = [(&*top.layer.node, &*bitmap.name)];
            actions.push(merge(base, &bitmap.name, &from));
        }
        self.transaction(&actions)?;
        self.ask("job-complete", json!({ "id": name }))?;
        self.wait_for(name, "concluded")?;
        self.try_ask("job-dismiss", json!({ "id": name }))?;
        Ok(())
    }

    /// Waits until one of the hypervisor's jobs is so far.
    fn wait_for(&mut self, name: &str, status: &str) -> Result<(), Fault> {
        loop {
            let jobs = self.jobs()?;
            let failed = |why: &str| {
                let detail = format!("unable to execute QEMU command 'block-commit': {why}");
                Fault::refused(ErrorCode::InternalError, detail)
            };
            match jobs.iter().find(|job| job.id == name) {
                None => return Err(failed("the job is gone")),
                Some(job) if job.error.is_some() => {
                    return Err(failed(job.error.as_deref().unwrap_or_default()));
                }
                Some(job) if job.status == status => return Ok(()),
                Some(job) if job.status == "concluded" => return Err(failed("it ended early")),
                Some(_) => std::thread::sleep(LOOK),
            }
        }
    }
}
