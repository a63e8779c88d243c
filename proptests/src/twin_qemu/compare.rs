//! What is compared, in memory and on the disk.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Done, Twins, nodes_request};
use crate::real_qemu::{Layer, content, info};

impl Twins {
    pub(super) fn compare_memory(&mut self) -> Done {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let request = nodes_request();
        let real = compared(&running.real.ask(&request)?);
        let sim = compared(&running.sim.ask(&request)?);
        for name in real.keys().chain(sim.keys()).collect::<BTreeSet<_>>() {
            if real.get(name) != sim.get(name) {
                return Err(format!(
                    "node {name}:\n  QEMU       {:?}\n  simulation {:?}",
                    real.get(name).map(Value::to_string),
                    sim.get(name).map(Value::to_string),
                )
                .into());
            }
        }
        self.agreed.count("comparisons of memory");
        Ok(())
    }

    /// Compares images that no process has open.
    pub(super) fn compare_disks(&mut self) -> Done {
        for layer in self.disks.values().flatten() {
            self.compare_image(layer)?;
        }
        self.agreed.count("comparisons of disks");
        Ok(())
    }

    /// Compares an image that no process has open: its bitmaps, and what it and those below it hold.
    pub(super) fn compare_image(&self, layer: &Layer) -> Done {
        let real = sorted(&info(&layer.path)?["format-specific"]["data"]["bitmaps"]);
        let image = self.sim.image(&layer.path).ok_or("the image is gone")?;
        let sim = image.bitmaps.iter().map(|bitmap| {
            let flags = [(bitmap.in_use, "in-use"), (bitmap.auto, "auto")];
            let flags = flags.iter().filter(|flag| flag.0);
            json!({
                "name": bitmap.name,
                "granularity": bitmap.granularity,
                "flags": flags.map(|flag| flag.1).collect::<Vec<_>>(),
            })
        });
        let sim = sorted(&sim.collect());
        if real != sim {
            return Err(format!(
                "{}:\n  QEMU stored       {real:?}\n  simulation stored {sim:?}",
                layer.path
            )
            .into());
        }
        let scratch = self.directory.join("scratch.raw");
        if content("qcow2", &layer.path, &scratch)? != self.sim.read_disk(&layer.path) {
            return Err(format!("{} holds other data", layer.path).into());
        }
        Ok(())
    }
}

fn sorted(list: &Value) -> Vec<String> {
    let mut list: Vec<String> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(Value::to_string)
        .collect();
    list.sort();
    list
}

/// What is compared of the nodes, by name. QEMU tells more, and some of it is the host's.
fn compared(nodes: &Value) -> BTreeMap<String, Value> {
    let mut compared = BTreeMap::new();
    for node in nodes.as_array().into_iter().flatten() {
        let image = &node["image"];
        let mut kept = json!({
            "stored": sorted(&image["format-specific"]["data"]["bitmaps"]),
            "dirty-bitmaps": sorted(&node["dirty-bitmaps"]),
        });
        for key in ["drv", "file", "ro", "backing_file", "backing_file_depth"] {
            kept[key] = node[key].clone();
        }
        let mut keys = vec![
            "filename",
            "format",
            "cluster-size",
            "backing-filename",
            "full-backing-filename",
            "backing-filename-format",
        ];
        if node["drv"] != "file" {
            keys.push("virtual-size");
        }
        for key in keys {
            kept[key] = image[key].clone();
        }
        let name = node["node-name"].as_str().unwrap_or_default();
        compared.insert(name.to_owned(), kept);
    }
    compared
}
