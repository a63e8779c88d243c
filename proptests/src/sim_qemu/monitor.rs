//! The monitors of the guests, and how requests to them fail.

use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use momentlog::core::HypervisorRun;
use momentlog_qemu::{AskError, EnterError, Hypervisor, Monitor, Request};
use serde_json::{Value, json};

use super::requests::Trouble;
use super::{Guest, Machine, Power, QemuFault, Side, SimHost, SimImage};

impl Hypervisor for SimHost {
    /// Time is not simulated: a monitor that another has is waited for, a hypervisor that was stopped is not.
    fn enter(&self, socket: &Path, wait: Duration) -> Result<Box<dyn Monitor>, EnterError> {
        let begun = Instant::now();
        let named = || socket.display().to_string();
        let mut machine = self.machine();
        loop {
            if machine.asker_gone {
                return Err(EnterError::Io {
                    socket: named(),
                    source: io::Error::other("whoever asks is gone"),
                });
            }
            let Some(guest) = machine.guests.get_mut(socket) else {
                return Err(EnterError::Missing { socket: named() });
            };
            let pid = match &guest.power {
                Power::Off => return Err(EnterError::Missing { socket: named() }),
                Power::Killed => return Err(EnterError::Dead { socket: named() }),
                Power::Running(process) => process.pid,
            };
            if !guest.held && !guest.hung {
                guest.held = true;
                return Ok(Box::new(SimMonitor {
                    host: self.clone(),
                    socket: socket.to_owned(),
                    pid,
                    wait,
                    broken: false,
                }));
            }
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() || guest.hung {
                return Err(EnterError::Held {
                    socket: named(),
                    wait,
                });
            }
            machine = self
                .0
                .changed
                .wait_timeout(machine, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn create_file(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        machine.asker_is_there()?;
        match machine.images.entry(path.display().to_string()) {
            Entry::Occupied(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Entry::Vacant(free) => {
                free.insert(SimImage::raw(0));
                Ok(())
            }
        }
    }

    fn is_there(&self, path: &Path) -> bool {
        self.image(&path.display().to_string()).is_some()
    }

    fn sync_files(&self, paths: &[&Path]) -> io::Result<()> {
        let machine = self.machine();
        machine.asker_is_there()?;
        let is_there = |path: &&Path| machine.images.contains_key(&path.display().to_string());
        if paths.iter().all(is_there) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        machine.asker_is_there()?;
        match machine.images.remove(&path.display().to_string()) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn image_info(&self, path: &Path, format: Option<&str>) -> Result<Value, String> {
        let machine = self.machine();
        machine
            .asker_is_there()
            .map_err(|error| error.to_string())?;
        let mut chain = Vec::new();
        let mut next = Some((path.display().to_string(), format));
        while let Some((path, format)) = next {
            let image = machine.unused_image(&path)?;
            if format.is_some_and(|format| format != image.format.name()) {
                return Err(format!(
                    "Image is not in {} format",
                    format.unwrap_or_default()
                ));
            }
            if chain.len() > machine.images.len() {
                return Err(format!("Backing file '{path}' creates an infinite loop."));
            }
            let bitmaps = image.bitmaps.iter().map(|bitmap| {
                let auto = bitmap.auto.then_some("auto");
                let flags: Vec<&str> = auto
                    .into_iter()
                    .chain(bitmap.in_use.then_some("in-use"))
                    .collect();
                json!({ "name": bitmap.name, "granularity": bitmap.granularity, "flags": flags })
            });
            let bitmaps: Vec<Value> = bitmaps.collect();
            chain.push(json!({
                "filename": path, "format": image.format.name(), "virtual-size": image.size,
                "cluster-size": image.cluster_size,
                "format-specific": { "data": { "compat": "1.1", "bitmaps": bitmaps } }
            }));
            next = image.backing.clone().map(|path| (path, None));
        }
        Ok(chain.into())
    }

    fn holds_data(&self, path: &Path) -> Result<bool, String> {
        let machine = self.machine();
        machine
            .asker_is_there()
            .map_err(|error| error.to_string())?;
        let image = machine.unused_image(&path.display().to_string())?;
        Ok(!image.clusters.is_empty())
    }

    /// It is counted as a request. One that is killed in the middle leaves the image's bitmaps as in use.
    fn remove_stored_bitmap(&self, path: &Path, bitmap: &str) -> Result<(), String> {
        let path = path.display().to_string();
        let mut machine = self.machine();
        machine
            .asker_is_there()
            .map_err(|error| error.to_string())?;
        machine.unused_image(&path)?;
        machine.requests += 1;
        let number = machine.requests;
        let fault = machine.faults.remove(&number);
        let image = machine.images.get_mut(&path).ok_or("it is not there")?;
        let had = image.bitmap(bitmap).is_some();
        match fault {
            Some(
                QemuFault::Refused
                | QemuFault::Killed(Side::Before)
                | QemuFault::Closed(Side::Before)
                | QemuFault::Silent(Side::Before)
                | QemuFault::Gone(Side::Before),
            ) => {}
            Some(QemuFault::KilledWithin(_)) => image.mark_in_use(),
            _ => image.drop_bitmap(bitmap),
        }
        machine.asker_gone |= matches!(fault, Some(QemuFault::Gone(_)));
        match fault {
            None if had => Ok(()),
            None => Err(format!("Dirty bitmap '{bitmap}' not found")),
            Some(fault) => Err(format!("request {number} was told to fail: {fault:?}")),
        }
    }
}

impl Machine {
    /// The image at this path, if `qemu-img` would open it.
    fn unused_image(&self, path: &str) -> Result<&SimImage, String> {
        let mut running = self.guests.values().filter_map(Guest::process);
        if running.any(|process| process.locks().any(|(open, _)| open == path)) {
            return Err(format!("{path} is in use"));
        }
        let image = self.images.get(path);
        image.ok_or_else(|| format!("{path} is not there"))
    }
}

/// The monitor of one run of a guest.
struct SimMonitor {
    host: SimHost,
    socket: PathBuf,
    pid: u32,
    wait: Duration,
    broken: bool,
}

impl fmt::Debug for SimMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimMonitor")
            .field("socket", &self.socket)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl Monitor for SimMonitor {
    fn run(&self) -> Option<HypervisorRun> {
        let is_known = !self.host.machine().runs_unknown;
        is_known.then(|| HypervisorRun {
            pid: self.pid,
            start: u64::from(self.pid) * 100,
            boot: [7; 16],
        })
    }

    fn ask(&mut self, request: &Request) -> Result<Value, AskError> {
        let answer = self.asked(request);
        self.broken |= matches!(&answer, Err(error) if error.leaves_unknown());
        answer
    }
}

impl SimMonitor {
    fn asked(&self, request: &Request) -> Result<Value, AskError> {
        let execute = request.execute.as_ref();
        let closed = || AskError::Closed {
            execute: execute.to_owned(),
        };
        let silent = || AskError::Silent {
            execute: execute.to_owned(),
            wait: self.wait,
        };
        let mut machine = self.host.machine();
        if self.broken || machine.asker_gone {
            return Err(closed());
        }
        match machine.guests.get(&self.socket) {
            Some(guest) if guest.hung => return Err(silent()),
            Some(guest)
                if guest
                    .process()
                    .is_some_and(|process| process.pid == self.pid) => {}
            _ => return Err(closed()),
        }
        machine.requests += 1;
        let number = machine.requests;
        let fault = machine.faults.remove(&number);
        let done = match fault {
            Some(QemuFault::Refused) => {
                return Err(AskError::Refused {
                    class: "GenericError".to_owned(),
                    desc: format!("request {number} was told to fail"),
                });
            }
            Some(
                QemuFault::Killed(Side::Before)
                | QemuFault::Silent(Side::Before)
                | QemuFault::Closed(Side::Before)
                | QemuFault::Gone(Side::Before),
            ) => Ok(Value::Null),
            _ => self.done(&mut machine, execute, &request.arguments, fault),
        };
        let died = matches!(done, Err(Trouble::Died));
        if died
            || matches!(
                fault,
                Some(QemuFault::Killed(_) | QemuFault::KilledWithin(_))
            )
        {
            machine.end(&self.socket, false);
            self.host.0.changed.notify_all();
            return Err(closed());
        }
        match fault {
            Some(QemuFault::Silent(_)) => {
                if let Some(guest) = machine.guests.get_mut(&self.socket) {
                    guest.hung = true;
                }
                return Err(silent());
            }
            Some(QemuFault::Closed(_)) => return Err(closed()),
            Some(QemuFault::Gone(_)) => {
                machine.asker_gone = true;
                return Err(closed());
            }
            _ => {}
        }
        if execute == "quit" {
            machine.end(&self.socket, true);
            self.host.0.changed.notify_all();
        }
        done.map_err(|trouble| match trouble {
            Trouble::Refused { class, desc } => AskError::Refused {
                class: class.to_owned(),
                desc,
            },
            Trouble::Died => closed(),
        })
    }

    fn done(
        &self,
        machine: &mut Machine,
        execute: &str,
        arguments: &Value,
        fault: Option<QemuFault>,
    ) -> Result<Value, Trouble> {
        let dies_after = match fault {
            Some(QemuFault::KilledWithin(actions)) => Some(actions),
            _ => None,
        };
        machine
            .with(&self.socket, |process, world| {
                process.request(world, execute, arguments, dies_after)
            })
            .unwrap_or(Err(Trouble::Died))
    }
}

impl Drop for SimMonitor {
    fn drop(&mut self) {
        let mut machine = self.host.machine();
        if let Some(guest) = machine.guests.get_mut(&self.socket)
            && guest
                .process()
                .is_some_and(|process| process.pid == self.pid)
        {
            guest.held = false;
        }
        self.host.0.changed.notify_all();
    }
}
