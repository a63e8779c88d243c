//! The steps that copy a disk, or keep what is overwritten.

use std::error::Error;
use std::time::Duration;

use momentlog_qemu::Request;
use serde_json::json;

use super::{Done, SIZE, Twins};
use crate::real_qemu::Layer;
use crate::sim_qemu::SimImage;

impl Twins {
    /// A backup to a new image, whole or of what a bitmap says, or one that only keeps what is overwritten meanwhile.
    pub(super) fn backup(&mut self) -> Done {
        let disk = self.disk();
        let source = self.disks[disk][0].clone();
        let over = self.chance(40).then_some(&source);
        let target = self.new_target(over)?;
        let have = self.bitmaps_of(&source.node);
        let base = self.pick(&have).unwrap_or_else(|| self.name());
        let sync = self
            .pick(&["full", "incremental", "none"])
            .unwrap_or("full");
        let mut options = json!({
            "device": source.node, "target": target.node, "job-id": "job", "sync": sync,
            "filter-node-name": "filter", "auto-dismiss": false,
        });
        let mut actions = Vec::new();
        if sync == "incremental" {
            // The bitmap itself, or what it says now.
            options["bitmap"] = json!(base);
            if self.chance(80) {
                options["bitmap"] = json!("temporary");
                actions = vec![
                    json!({"type": "block-dirty-bitmap-add", "data": {
                        "node": source.node, "name": "temporary", "disabled": true,
                    }}),
                    json!({"type": "block-dirty-bitmap-merge", "data": {
                        "node": source.node, "target": "temporary", "bitmaps": [base],
                    }}),
                ];
            }
        }
        if self.chance(10) {
            let (key, value) = self
                .pick(&[
                    ("device", "nowhere"),
                    ("target", "nowhere"),
                    ("bitmap", "nothing"),
                    ("job-id", "1"),
                ])
                .unwrap_or(("job-id", "1"));
            options[key] = json!(value);
        }
        actions.push(json!({"type": "blockdev-backup", "data": options}));
        if self.ask(&Request::new("transaction", json!({"actions": actions})))? {
            if sync == "none" {
                let boots = self.boots;
                self.overwrite_meanwhile(disk, &target)?;
                if self.boots > boots {
                    return self.remove_target(&target);
                }
                self.ask(&Request::new(
                    "block-job-cancel",
                    json!({"device": "job", "force": true}),
                ))?;
            }
            self.jobs_end()?;
            self.agreed.count(format!("backups, {sync}"));
        }
        if self.chance(20) {
            self.kill()?;
            self.compare_image(&target)?;
            self.compare_disks()?;
            self.remove_target(&target)?;
            return self.boot();
        }
        self.compare_memory()?;
        let below = over.map(|over| &over.node);
        self.ask(&Request::new(
            "blockdev-reopen",
            json!({"options": [{
                "driver": "qcow2", "node-name": target.node, "file": format!("{}-file", target.node),
                "backing": below, "read-only": true,
            }]}),
        ))?;
        for node in [target.node.clone(), format!("{}-file", target.node)] {
            self.ask(&Request::new("blockdev-del", json!({"node-name": node})))?;
        }
        self.ask(&Request::new("job-dismiss", json!({"id": "job"})))?;
        self.ask(&Request::new(
            "block-dirty-bitmap-remove",
            json!({"node": source.node, "name": "temporary"}),
        ))?;
        self.compare_image(&target)?;
        self.remove_target(&target)
    }

    /// An image that the hypervisor makes in an empty file, with the disk below it or nothing.
    pub(super) fn new_target(&mut self, over: Option<&Layer>) -> Result<Layer, Box<dyn Error>> {
        self.images_made += 1;
        let node = format!("n{}", self.images_made);
        let file = format!("{node}-file");
        let path = self.directory.join(format!("target-{node}.qcow2"));
        let path = path.to_string_lossy().into_owned();
        std::fs::write(&path, "")?;
        self.sim.put_image(&path, SimImage::raw(0));
        self.ask(&Request::new(
            "blockdev-add",
            json!({"driver": "file", "filename": path, "node-name": file}),
        ))?;
        let mut options = json!({"driver": "qcow2", "file": file, "size": SIZE});
        if let Some(over) = over {
            options["backing-file"] = json!(over.path);
            options["backing-fmt"] = json!("qcow2");
        }
        self.ask(&Request::new(
            "blockdev-create",
            json!({"job-id": "create", "options": options}),
        ))?;
        self.jobs_end()?;
        self.ask(&Request::new("job-dismiss", json!({"id": "create"})))?;
        let backing = over.map(|over| &over.node);
        self.ask(&Request::new(
            "blockdev-add",
            json!({"driver": "qcow2", "node-name": node, "file": file, "backing": backing}),
        ))?;
        self.compare_memory()?;
        Ok(Layer { node, path })
    }

    pub(super) fn remove_target(&mut self, target: &Layer) -> Done {
        self.sim.remove_image(&target.path);
        std::fs::remove_file(&target.path)?;
        Ok(())
    }

    /// Writes while a job copies what is overwritten, and compares what a client of the target sees.
    pub(super) fn overwrite_meanwhile(&mut self, disk: &str, target: &Layer) -> Done {
        let named = self.ask(&Request::new(
            "block-dirty-bitmap-add",
            json!({"node": target.node, "name": "told", "disabled": true}),
        ))?;
        self.ask(&Request::new(
            "block-export-add",
            json!({
                "type": "nbd", "id": "export", "name": "pull", "node-name": target.node, "writable": false,
                "bitmaps": if named { vec!["told"] } else { Vec::new() },
            }),
        ))?;
        for _ in 0..self.random.below(3) {
            self.write()?;
            self.compare_memory()?;
        }
        let boots = self.boots;
        match self.random.below(6) {
            0 => self.snapshot()?,
            1 => self.reopen()?,
            2 => {
                let layers = self.disks[disk].clone();
                let some = self.pick(&layers).map(|layer| layer.node);
                let node = self
                    .pick(&[some, Some(target.node.clone()), None])
                    .flatten();
                let node = node.unwrap_or_else(|| format!("{}-file", target.node));
                self.ask(&Request::new("blockdev-del", json!({"node-name": node})))?;
            }
            3 => {
                let source = self.disks[disk][0].node.clone();
                self.ask(&Request::new(
                    "blockdev-backup",
                    json!({"device": source, "target": target.node, "job-id": "job", "sync": "full"}),
                ))?;
            }
            _ => self.change_bitmaps()?,
        }
        let Some(running) = self.running.as_ref().filter(|_| self.boots == boots) else {
            return Ok(());
        };
        let real = running
            .real
            .read("pull", &self.directory.join("scratch.raw"))?;
        let sim = self.sim.read_export(&self.socket, "pull");
        if sim.is_none_or(|sim| sim.content != real) {
            return Err(format!("the export of a backup of {disk} has other data").into());
        }
        self.compare_memory()?;
        self.ask(&Request::new("block-export-del", json!({"id": "export"})))?;
        Ok(())
    }

    /// Waits until the real jobs have ended, as the simulated ones have, and compares them.
    pub(super) fn jobs_end(&mut self) -> Done {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let request = Request::bare("query-jobs");
        let real = loop {
            let jobs = running.real.ask(&request)?;
            let mut each = jobs.as_array().into_iter().flatten();
            if each.all(|job| job["status"] == "concluded") {
                break jobs;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let sim = running.sim.ask(&request)?;
        if real != sim {
            return Err(format!("QEMU's jobs are {real}, those of the simulation {sim}").into());
        }
        Ok(())
    }
}
