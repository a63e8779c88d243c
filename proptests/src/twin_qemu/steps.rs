//! The steps that change bitmaps, data and layers.

use momentlog_qemu::Request;
use serde_json::{Value, json};

use super::{Done, LAYERS_MAX, NAMES, SIZE, Twins, nodes_request};

impl Twins {
    /// One to three actions together, or one by itself.
    pub(super) fn change_bitmaps(&mut self) -> Done {
        if self.chance(30) {
            let (kind, data) = self.action(true);
            self.ask(&Request {
                execute: kind.into(),
                arguments: data,
            })?;
            return Ok(());
        }
        let count = self.pick(&[1, 1, 2, 2, 3]).unwrap_or(1);
        let mut actions: Vec<Value> = Vec::new();
        for _ in 0..count {
            let (kind, data) = self.action(false);
            actions.push(json!({"type": kind, "data": data}));
        }
        if self.chance(5) {
            actions.push(json!({"type": "abort", "data": {}}));
        }
        self.ask(&Request::new("transaction", json!({"actions": actions})))?;
        Ok(())
    }

    pub(super) fn action(&mut self, alone: bool) -> (String, Value) {
        let kinds = [
            "add", "add", "add", "add", "remove", "remove", "clear", "disable", "disable", "merge",
            "merge", "enable",
        ];
        let kind = self.pick(&kinds).unwrap_or("add");
        let disk = self.disk();
        let layers = self.disks[disk].clone();
        let top = self.chance(70);
        let layer = if top {
            layers.first().cloned()
        } else {
            self.pick(&layers)
        };
        let mut node = layer.map(|layer| layer.node).unwrap_or_default();
        let have = self.bitmaps_of(&node);
        let kind = match have[..] {
            [] if self.chance(85) => "add",
            _ => kind,
        };
        let mut name = self.name();
        if self.chance(85) {
            let free: Vec<String> = NAMES
                .iter()
                .map(|name| (*name).to_owned())
                .filter(|name| !have.contains(name))
                .collect();
            let likely = if kind == "add" { free } else { have.clone() };
            name = self.pick(&likely).unwrap_or(name);
        }
        if self.chance(2) {
            "nowhere".clone_into(&mut node);
        }
        // QEMU dies of enabling a missing bitmap in a transaction, which is tried now and then.
        let kind = if kind == "enable" && !alone && !have.contains(&name) && !self.chance(10) {
            "disable"
        } else {
            kind
        };
        let data = match kind {
            "add" => {
                let mut data = json!({
                    "node": node, "name": name, "persistent": self.chance(80), "disabled": self.chance(20),
                });
                if self.chance(20) {
                    let granularity = self.pick(&[512, 4096, 32768, 131_072, 1 << 20, 1000, 256]);
                    data["granularity"] = json!(granularity);
                }
                if self.chance(2) {
                    data["name"] = json!("");
                }
                data
            }
            "merge" => {
                let mut sources = Vec::new();
                for _ in 0..=self.random.below(2) {
                    let other = self.pick(&layers).map(|layer| layer.node);
                    let source = self.pick(&have).unwrap_or_else(|| self.name());
                    sources.push(match other {
                        Some(other) if self.chance(30) => {
                            json!({"node": other, "name": self.name()})
                        }
                        _ => json!(source),
                    });
                }
                json!({"node": node, "target": name, "bitmaps": sources})
            }
            _ => json!({"node": node, "name": name}),
        };
        (format!("block-dirty-bitmap-{kind}"), data)
    }

    /// The named bitmaps of a node.
    pub(super) fn bitmaps_of(&mut self, node: &str) -> Vec<String> {
        let nodes = self
            .running
            .as_mut()
            .and_then(|running| running.sim.ask(&nodes_request()).ok());
        let nodes = nodes.as_ref().and_then(Value::as_array);
        let node = nodes.and_then(|nodes| nodes.iter().find(|other| other["node-name"] == node));
        let bitmaps = node.and_then(|node| node["dirty-bitmaps"].as_array());
        bitmaps
            .into_iter()
            .flatten()
            .filter_map(|bitmap| Some(bitmap["name"].as_str()?.to_owned()))
            .collect()
    }

    pub(super) fn name(&mut self) -> String {
        self.pick(&NAMES).unwrap_or(NAMES[0]).to_owned()
    }

    pub(super) fn write(&mut self) -> Done {
        let disk = self.disk();
        let sectors = SIZE / 512;
        let first = self.random.below(sectors);
        let most = self.pick(&[1, 8, 300]).unwrap_or(1).min(sectors - first);
        let count = 1 + self.random.below(most);
        let pattern = u8::try_from(self.random.below(255)).unwrap_or(0);
        self.log
            .push(format!("write {disk} {pattern} {first} {count}"));
        let running = self.running.as_ref().ok_or("nothing runs")?;
        let real = running.real.write(disk, pattern, first * 512, count * 512);
        let sim = self
            .sim
            .write(&self.socket, disk, pattern, first * 512, count * 512);
        match (real, sim) {
            (Ok(()), Ok(())) => self.agreed.count("writes"),
            (Err(real), Err(sim)) if real.to_string().ends_with(&sim.to_string()) => {
                self.agreed.count(sim.to_string());
            }
            (real, sim) => return Err(format!("QEMU {real:?}, the simulation {sim:?}").into()),
        }
        Ok(())
    }

    /// An overlay, with the bitmaps that libvirt carries over, or some of them.
    pub(super) fn snapshot(&mut self) -> Done {
        if self.disks.values().any(|layers| layers.len() >= LAYERS_MAX) {
            return Ok(());
        }
        let disk = self.disk();
        let base = self.disks[disk][0].clone();
        let over = self.new_image(disk, Some(&base.path))?;
        self.ask(&Request::new(
            "blockdev-add",
            json!({
                "driver": "qcow2",
                "node-name": over.node,
                "file": {"driver": "file", "filename": over.path, "node-name": format!("{}-file", over.node)},
                "backing": null,
            }),
        ))?;
        self.compare_memory()?;
        let mut actions = Vec::new();
        for name in self.bitmaps_of(&base.node) {
            if self.chance(90) {
                actions.push(json!({
                    "type": "block-dirty-bitmap-add",
                    "data": {"node": over.node, "name": name, "persistent": true, "granularity": 65536},
                }));
            }
        }
        actions.push(json!({
            "type": "blockdev-snapshot",
            "data": {"node": base.node, "overlay": over.node},
        }));
        if self.chance(30) {
            let (kind, data) = self.action(false);
            if !kind.ends_with("enable") {
                let at = usize::from(self.chance(50)) * actions.len();
                actions.insert(at, json!({"type": kind, "data": data}));
            }
        }
        if self.ask(&Request::new("transaction", json!({"actions": actions})))? {
            self.agreed.count("snapshots");
            if let Some(layers) = self.disks.get_mut(disk) {
                layers.insert(0, over);
            }
        } else {
            self.ask(&Request::new(
                "blockdev-del",
                json!({"node-name": over.node}),
            ))?;
            self.sim.remove_image(&over.path);
            std::fs::remove_file(&over.path)?;
        }
        Ok(())
    }

    /// Reopens an image, the other way as a rule.
    pub(super) fn reopen(&mut self) -> Done {
        let disk = self.disk();
        let layers = self.disks[disk].clone();
        let at = self.random.below(layers.len() as u64);
        let at = usize::try_from(at).unwrap_or(0);
        let layer = &layers[at];
        let is_read_only = self.node(&layer.node)["ro"] == json!(true);
        let read_only = is_read_only != self.chance(80);
        let below = layers.get(at + 1).map(|below| &below.node);
        self.ask(&Request::new(
            "blockdev-reopen",
            json!({"options": [{
                "driver": "qcow2",
                "node-name": layer.node,
                "file": format!("{}-file", layer.node),
                "backing": below,
                "read-only": read_only,
            }]}),
        ))?;
        Ok(())
    }

    pub(super) fn node(&mut self, name: &str) -> Value {
        let nodes = self
            .running
            .as_mut()
            .and_then(|running| running.sim.ask(&nodes_request()).ok())
            .unwrap_or_default();
        let mut nodes = nodes.as_array().into_iter().flatten();
        nodes
            .find(|node| node["node-name"] == name)
            .cloned()
            .unwrap_or_default()
    }
}
