//! The same random steps on a simulated hypervisor and on a real one, until they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use momentlog_qemu::{AskError, Hypervisor as _, Monitor, Request};
use serde_json::{Value, json};

use crate::real_qemu::{Layer, RealDaemon, content, create, info};
use crate::sim_disk::Random;
use crate::sim_qemu::{SimGuest, SimGuestDisk, SimHost, SimImage};

/// Bytes of each disk.
const SIZE: u64 = 1 << 20;

const DISKS: [&str; 2] = ["vda", "vdb"];
const NAMES: [&str; 4] = ["c1", "c2", "c3", "c4"];

/// Most images of one disk.
const LAYERS_MAX: usize = 4;

/// What was done and compared without a difference, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreed(pub BTreeMap<String, u64>);

impl Agreed {
    fn count(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }
}

type Done = Result<(), Box<dyn Error>>;

/// Makes `steps` random steps in a directory, and compares after each: every answer, the nodes and bitmaps in memory, the
/// bitmaps that the images on the disk have, and whenever the daemon has ended also their data.
///
/// # Errors
///
/// The first difference, with its step, or that a program failed.
pub fn compare_with_real(
    directory: &Path,
    seed: u64,
    steps: u64,
) -> Result<Agreed, Box<dyn Error>> {
    let mut twins = Twins::start(directory, seed)?;
    for step in 0..steps {
        twins.log.clear();
        if let Err(error) = twins.step() {
            let log = twins.log.join("\n  ");
            return Err(format!("seed {seed}, step {step}: {error}\n  {log}").into());
        }
    }
    Ok(twins.agreed)
}

/// A guest twice, with the same images at the same paths.
struct Twins {
    directory: PathBuf,
    socket: PathBuf,
    random: Random,
    sim: SimHost,
    /// Absent while both are off.
    running: Option<Running>,
    /// The images of each disk from the top down.
    disks: BTreeMap<&'static str, Vec<Layer>>,
    images_made: u32,
    boots: u64,
    /// What was asked in this step.
    log: Vec<String>,
    agreed: Agreed,
}

struct Running {
    sim: Box<dyn Monitor>,
    real: RealDaemon,
}

impl Twins {
    fn start(directory: &Path, seed: u64) -> Result<Twins, Box<dyn Error>> {
        let mut twins = Twins {
            directory: directory.to_owned(),
            socket: directory.join("monitor"),
            random: Random(seed),
            sim: SimHost::new(),
            running: None,
            disks: BTreeMap::new(),
            images_made: 0,
            boots: 0,
            log: Vec::new(),
            agreed: Agreed::default(),
        };
        twins.fresh()?;
        Ok(twins)
    }

    /// Begins anew with empty disks.
    fn fresh(&mut self) -> Done {
        self.kill()?;
        for path in self.sim.image_paths() {
            self.sim.remove_image(&path);
            std::fs::remove_file(path)?;
        }
        for disk in DISKS {
            let layer = self.new_image(disk, None)?;
            self.disks.insert(disk, vec![layer]);
        }
        self.boot()
    }

    fn new_image(&mut self, disk: &str, backing: Option<&str>) -> io::Result<Layer> {
        self.images_made += 1;
        let node = format!("n{}", self.images_made);
        let path = self.directory.join(format!("{disk}-{node}.qcow2"));
        let path = path.to_string_lossy().into_owned();
        create(&path, SIZE, backing)?;
        let mut image = SimImage::qcow2(SIZE);
        image.backing = backing.map(str::to_owned);
        self.sim.put_image(&path, image);
        Ok(Layer { node, path })
    }

    fn boot(&mut self) -> Done {
        let real = RealDaemon::start(&self.directory, self.disks.values().map(Vec::as_slice))?;
        let exports = real.exports().to_owned();
        let config = SimGuest {
            daemon: true,
            disks: self
                .disks
                .iter()
                .map(|(disk, layers)| SimGuestDisk {
                    below: layers[1..].iter().map(|layer| layer.node.clone()).collect(),
                    ..SimGuestDisk::new(*disk, &layers[0].node, &layers[0].path)
                })
                .collect(),
            ..SimGuest::default()
        };
        self.sim.start(&self.socket, config)?;
        let sim = self.sim.enter(&self.socket, Duration::ZERO)?;
        self.running = Some(Running { sim, real });
        self.boots += 1;
        self.ask(&Request::new(
            "nbd-server-start",
            json!({"addr": {"type": "unix", "data": {"path": exports}}}),
        ))?;
        for disk in DISKS {
            let top = self.disks[disk][0].node.clone();
            self.ask(&Request::new(
                "block-export-add",
                json!({
                    "type": "nbd", "id": format!("w{disk}"), "name": disk, "node-name": top, "writable": true,
                }),
            ))?;
        }
        self.compare_memory()
    }

    /// Asks both, and returns whether it was done; both may die of it.
    fn ask(&mut self, request: &Request) -> Result<bool, Box<dyn Error>> {
        let asked = serde_json::to_string(request)?;
        self.log.push(asked);
        let Some(running) = &mut self.running else {
            return Err("nothing runs".into());
        };
        let real = running.real.ask(request);
        let sim = running.sim.ask(request);
        let (real_says, sim_says) = (said(&real), said(&sim));
        if real_says != sim_says {
            return Err(format!("QEMU answers {real_says}, the simulation {sim_says}").into());
        }
        match real {
            Ok(_) => self.agreed.count("done"),
            Err(AskError::Refused { desc, .. }) => {
                self.agreed
                    .count(format!("refused: {}", without_names(&desc)));
                return Ok(false);
            }
            Err(_) => {
                self.agreed.count("died of it");
                let Some(running) = self.running.take() else {
                    return Ok(false);
                };
                running.real.wait()?;
                self.compare_disks()?;
                self.boot()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn kill(&mut self) -> Done {
        if let Some(running) = self.running.take() {
            running.real.kill()?;
            self.sim.kill(&self.socket);
        }
        Ok(())
    }

    fn quit(&mut self) -> Done {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        let quit = Request::bare("quit");
        // The daemon may have ended before its answer is sent.
        match running.real.ask(&quit) {
            Ok(_) | Err(AskError::Closed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        running.sim.ask(&quit)?;
        let status = running.real.wait()?;
        if !status.success() {
            return Err(format!("QEMU was to end in order: {status}").into());
        }
        Ok(())
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = self.random.below(from.len().max(1) as u64);
        from.get(usize::try_from(at).ok()?).cloned()
    }

    fn disk(&mut self) -> &'static str {
        self.pick(&DISKS).unwrap_or(DISKS[0])
    }

    fn step(&mut self) -> Done {
        match self.random.below(100) {
            0..50 => self.change_bitmaps()?,
            50..72 => self.write()?,
            72..80 => self.backup()?,
            80..86 => self.snapshot()?,
            86..92 => self.reopen()?,
            92..96 => {
                self.quit()?;
                self.agreed.count("ends in order");
                self.compare_disks()?;
                self.boot()?;
            }
            _ => {
                self.kill()?;
                self.agreed.count("kills");
                self.compare_disks()?;
                self.boot()?;
            }
        }
        self.compare_memory()?;
        if self.disks.values().any(|layers| layers.len() >= LAYERS_MAX) && self.chance(20) {
            self.fresh()?;
        }
        Ok(())
    }

    /// One to three actions together, or one by itself.
    fn change_bitmaps(&mut self) -> Done {
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

    /// The named bitmaps of a node.
    fn bitmaps_of(&mut self, node: &str) -> Vec<String> {
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

    fn name(&mut self) -> String {
        self.pick(&NAMES).unwrap_or(NAMES[0]).to_owned()
    }

    fn action(&mut self, alone: bool) -> (String, Value) {
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

    fn write(&mut self) -> Done {
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
    fn snapshot(&mut self) -> Done {
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

    /// Reopens an image, one below a top as a rule, the other way.
    fn reopen(&mut self) -> Done {
        let disk = self.disk();
        let layers = self.disks[disk].clone();
        let at = self.random.below(layers.len() as u64);
        let at = usize::try_from(at).unwrap_or(0);
        let layer = &layers[at];
        let read_only = self.node(&layer.node)["ro"] != json!(true);
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

    /// A backup to a new image, whole or of what a bitmap says, or one that only keeps what is overwritten meanwhile.
    fn backup(&mut self) -> Done {
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
    fn new_target(&mut self, over: Option<&Layer>) -> Result<Layer, Box<dyn Error>> {
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

    fn remove_target(&mut self, target: &Layer) -> Done {
        self.sim.remove_image(&target.path);
        std::fs::remove_file(&target.path)?;
        Ok(())
    }

    /// Writes while a job copies what is overwritten, and compares what a client of the target sees.
    fn overwrite_meanwhile(&mut self, disk: &str, target: &Layer) -> Done {
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
        self.change_bitmaps()?;
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
    fn jobs_end(&mut self) -> Done {
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

    fn node(&mut self, name: &str) -> Value {
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

    fn compare_memory(&mut self) -> Done {
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
    fn compare_disks(&mut self) -> Done {
        for layer in self.disks.values().flatten() {
            self.compare_image(layer)?;
        }
        self.agreed.count("comparisons of disks");
        Ok(())
    }

    /// Compares an image that no process has open: its bitmaps, and what it and those below it hold.
    fn compare_image(&self, layer: &Layer) -> Done {
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

fn nodes_request() -> Request {
    Request::new("query-named-block-nodes", json!({"flat": true}))
}

fn said(answer: &Result<Value, AskError>) -> String {
    match answer {
        Ok(value) => format!("{value}"),
        Err(AskError::Refused { class, desc }) => format!("{class}: {desc}"),
        Err(AskError::Closed { .. }) => "nothing, as it died".to_owned(),
        Err(other) => other.to_string(),
    }
}

/// A refusal's text without what differs from case to case.
fn without_names(desc: &str) -> String {
    let mut kept = String::new();
    for (at, part) in desc.split('\'').enumerate() {
        kept.push_str(if at % 2 == 0 { part } else { "…" });
    }
    kept.split_once(": c")
        .map_or(kept.clone(), |(text, _)| text.to_owned())
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
