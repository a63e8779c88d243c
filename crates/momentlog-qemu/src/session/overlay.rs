//! External snapshots: overlays are put above the disks, and the bitmaps go on in them.

use std::path::Path;

use momentlog::ErrorCode;
use momentlog::core::{DiskEffect, EffectKind, Job, JobId};
use momentlog::driver::Fault;
use serde_json::{Value, json};

use super::QemuSession;
use super::bitmaps::add;
use crate::names::Names;

/// Bytes of a cluster of a new image, as QEMU has it by default.
const CLUSTER_LEN: u64 = 65536;

/// A new image: its file, its nodes, and what it is made like.
pub(super) struct NewImage<'a> {
    /// The file.
    pub(super) path: &'a str,
    /// Whether the file is there already, with an image in it.
    pub(super) reuse: bool,
    /// `qcow2` or `raw`.
    pub(super) format: &'a str,
    /// The node of the format, and that of the file.
    pub(super) nodes: [String; 2],
    /// Its size for the guest, in bytes.
    pub(super) size: u64,
    /// Bytes of a cluster, if it has any.
    pub(super) cluster: u64,
    /// File and format of the image below it.
    pub(super) backing: Option<(&'a str, &'a str)>,
    /// The node below it: that of `backing`, or none yet.
    pub(super) below: Option<&'a str>,
}

impl QemuSession {
    /// Puts an overlay above each disk, with the bitmaps that go on in it and the witness, in one transaction.
    pub(super) fn add_overlays(&mut self, id: JobId, job: &Job) -> Result<(), Fault> {
        let looked = self.look()?;
        let disks = self.placed(&looked.graph)?;
        let effects = job
            .effects
            .iter()
            .filter(|effect| effect.kind == EffectKind::OverlayAdded);
        let effects: Vec<&DiskEffect> = effects.collect();
        let mut made = Vec::new();
        let mut actions = Vec::new();
        let mut outcome = Ok(());
        for (number, effect) in effects.iter().enumerate() {
            let layers = disks.iter().find(|(target, _)| *target == effect.disk);
            let top = layers.and_then(|(_, layers)| layers.first());
            let Some(top) = top.map(|top| &top.layer) else {
                let detail = format!("the hypervisor has no disk '{}'", effect.disk);
                outcome = Err(Fault::refused(ErrorCode::ConfigUnsupported, detail));
                break;
            };
            let nodes = self.names.overlay(id, number);
            let file = effect.file.as_deref().unwrap_or_default();
            let reuse = !job.makes(file);
            if !reuse && self.hypervisor.is_there(Path::new(file)) {
                let detail = format!(
                    "external snapshot file for disk {} already exists and is not a block device: {file}",
                    effect.disk
                );
                outcome = Err(Fault::refused(ErrorCode::ConfigUnsupported, detail));
                break;
            }
            let image = NewImage {
                path: file,
                reuse,
                format: "qcow2",
                nodes: nodes.clone(),
                size: top.size,
                cluster: top.cluster.unwrap_or(CLUSTER_LEN),
                backing: Some((&top.image, &top.format)),
                below: None,
            };
            outcome = self.make_image(&image);
            if outcome.is_err() {
                break;
            }
            made.push((nodes.clone(), (!image.reuse).then(|| file.to_owned())));
            // The guest will write to it: it must not be lost.
            outcome = self.sync(&[file]);
            if outcome.is_err() {
                break;
            }
            let carried = top.bitmaps.iter().filter(|bitmap| bitmap.is_sound());
            let [node, _] = &nodes;
            actions.extend(carried.map(|found| add(node, &found.name, Some(found.granularity))));
            actions.push(json!({ "type": "blockdev-snapshot", "data": {
                "node": &*top.node, "overlay": node
            } }));
            if number == 0 {
                actions.push(self.witness(id, node));
            }
        }
        let outcome = outcome.and_then(|()| self.transaction(&actions));
        if let Err(fault) = &outcome
            && !fault.leaves_unknown
        {
            for (nodes, file) in made {
                self.unmake(&nodes, file.as_deref())?;
            }
        }
        outcome
    }

    /// Takes away the overlays that a job made and has put above no disk. A file goes only if the hypervisor has it open
    /// under the name that this job gave it, which says that the job made it.
    pub(super) fn take_overlays_back(&mut self, id: JobId, job: &Job) -> Result<(), Fault> {
        let effects = job.effects.iter();
        let effects = effects.filter(|effect| effect.kind == EffectKind::OverlayAdded);
        for (number, effect) in effects.enumerate() {
            let [format, storage] = self.names.overlay(id, number);
            self.try_ask("blockdev-del", json!({ "node-name": format }))?;
            let closed = self.try_ask("blockdev-del", json!({ "node-name": storage }))?;
            let file = effect.file.as_deref().unwrap_or_default();
            if closed && job.makes(file) {
                // Whether it can be removed changes nothing but space.
                let _ = self.hypervisor.remove_file(Path::new(file));
            }
        }
        Ok(())
    }

    /// Makes an image, unless it is there, and opens it. If that is refused, nothing is left of it; a file that was there
    /// before is.
    pub(super) fn make_image(&mut self, image: &NewImage<'_>) -> Result<(), Fault> {
        if !image.reuse {
            let made = self.hypervisor.create_file(Path::new(image.path));
            made.map_err(|error| {
                let detail = format!("failed to create image file '{}': {error}", image.path);
                Fault::refused(ErrorCode::SystemError, detail)
            })?;
        }
        let opened = self.write_and_open(image);
        if let Err(fault) = &opened
            && !fault.leaves_unknown
        {
            let file = (!image.reuse).then_some(image.path);
            self.unmake(&image.nodes, file)?;
        }
        opened
    }

    /// Has the hypervisor write an empty image into a file that was made, unless it is there, and open it.
    fn write_and_open(&mut self, image: &NewImage<'_>) -> Result<(), Fault> {
        let [format, storage] = &image.nodes;
        if !image.reuse && image.format == "raw" {
            // The file is the image: it is made as long as it will be before it is opened.
            let options = json!({ "driver": "file", "filename": image.path, "size": image.size });
            self.create(format, &options)?;
        }
        self.ask(
            "blockdev-add",
            json!({
                "driver": "file", "filename": image.path, "node-name": storage,
                "auto-read-only": true, "discard": "unmap"
            }),
        )?;
        if !image.reuse && image.format != "raw" {
            let mut options = json!({
                "driver": image.format, "file": storage, "size": image.size,
                "cluster-size": image.cluster
            });
            if let Some((file, format)) = image.backing {
                options["backing-file"] = file.into();
                options["backing-fmt"] = format.into();
            }
            self.create(format, &options)?;
        }
        let mut options = json!({
            "node-name": format, "read-only": false, "driver": image.format, "file": storage
        });
        if image.format != "raw" {
            options["backing"] = image.below.map_or(Value::Null, Value::from);
        }
        self.ask("blockdev-add", options).map(|_| ())
    }

    /// Has the hypervisor write an empty image.
    fn create(&mut self, node: &str, options: &Value) -> Result<(), Fault> {
        let id = Names::image_job(node);
        self.run_job(
            &id,
            "blockdev-create",
            json!({ "job-id": id, "options": options }),
        )
    }

    /// Takes back what [`make_image`](Self::make_image) has made.
    pub(super) fn unmake(&mut self, nodes: &[String; 2], file: Option<&str>) -> Result<(), Fault> {
        for node in nodes {
            self.try_ask("blockdev-del", json!({ "node-name": node }))?;
        }
        if let Some(file) = file {
            // Whether it can be removed changes nothing but space.
            let _ = self.hypervisor.remove_file(Path::new(file));
        }
        Ok(())
    }
}
