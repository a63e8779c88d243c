//! The same random steps on a simulated hypervisor and on a real one, until they differ.

mod backups;
mod compare;
mod steps;

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use momentlog_qemu::{AskError, Hypervisor as _, Monitor, Request};
use serde_json::{Value, json};

use crate::real_qemu::{Layer, RealDaemon, create};
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

    /// Starts again with empty disks.
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

/// A refusal's text without the names, which differ from case to case.
fn without_names(desc: &str) -> String {
    let mut kept = String::new();
    for (at, part) in desc.split('\'').enumerate() {
        kept.push_str(if at % 2 == 0 { part } else { "…" });
    }
    let is_name = |word: &str| {
        let number = word.strip_prefix(['n', 'c']).unwrap_or_default();
        number.starts_with(|first: char| first.is_ascii_digit())
    };
    let words = kept.split(' ');
    let words = words.map(|word| if is_name(word) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}
