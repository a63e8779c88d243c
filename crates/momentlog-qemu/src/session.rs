//! One guest, asked over its monitor.

mod backup;
mod bitmaps;
mod commit;
mod overlay;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use momentlog::ErrorCode;
use momentlog::core::{DiskEffect, HypervisorRun, Job, JobId, JobKind, RunState};
use momentlog::driver::{Copy, Fault, Guest, SeenDisk, Session, Sight};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::graph::{Graph, Placed};
use crate::monitor::{AskError, Hypervisor, Monitor, Request};
use crate::names::Names;

/// How often it is asked whether one of the hypervisor's own jobs has ended.
const LOOK: Duration = Duration::from_millis(1);

/// How often it is asked whether an image is made, which takes less.
const MAKING_LOOK: Duration = Duration::from_micros(200);

/// How long the making of an image is waited for that another client has asked for.
const MAKING_MAX: Duration = Duration::from_secs(30);

/// A guest that this process has alone.
#[derive(Debug)]
pub(crate) struct QemuSession {
    hypervisor: Arc<dyn Hypervisor>,
    monitor: Box<dyn Monitor>,
    guest: Guest,
    names: Names,
    /// What was seen last. As this process has the guest alone, it holds until it asks for a change.
    looked: Option<Arc<Looked>>,
    /// What takes the witness away that was left.
    witness: Vec<Request>,
}

/// What the hypervisor says of all of it.
#[derive(Debug)]
struct Looked {
    /// None if it is a storage daemon.
    uuid: Option<String>,
    /// The guest's run state, with libvirt's number of a reason.
    power: (RunState, u8),
    graph: Graph,
    jobs: Vec<QemuJob>,
}

/// The images of each disk, by its target, with the nodes that they are made of.
type Disks = Vec<(Arc<str>, Vec<Placed>)>;

/// One of the hypervisor's jobs, as `query-jobs` tells it.
#[derive(Debug, Deserialize)]
struct QemuJob {
    id: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    status: String,
    #[serde(rename = "current-progress", default)]
    done: u64,
    #[serde(rename = "total-progress", default)]
    total: u64,
    #[serde(default)]
    error: Option<String>,
}

impl QemuSession {
    pub(crate) fn new(
        hypervisor: Arc<dyn Hypervisor>,
        monitor: Box<dyn Monitor>,
        guest: &Guest,
    ) -> QemuSession {
        QemuSession {
            hypervisor,
            monitor,
            names: Names::new(guest.log),
            guest: guest.clone(),
            looked: None,
            witness: Vec::new(),
        }
    }

    /// Refuses a guest that is another than the domain's, or that another program manages.
    pub(crate) fn check_guest(&mut self) -> Result<(), Fault> {
        self.wait_for_images()?;
        let looked = self.look()?;
        let expected = self.guest.uuid.to_string();
        let none = "00000000-0000-0000-0000-000000000000";
        if let Some(found) = &looked.uuid
            && found != none
            && *found != expected
        {
            let detail = format!("the hypervisor's guest has uuid {found}, not {expected}");
            return Err(Fault::refused(ErrorCode::OperationInvalid, detail));
        }
        let managed = looked
            .graph
            .nodes()
            .iter()
            .find(|node| is_of_libvirt(&node.name));
        if let Some(node) = managed
            && !self.guest.attachment.look_only
        {
            let detail = format!(
                "libvirt manages this guest (node '{}'): attach to it to look only",
                node.name
            );
            return Err(Fault::refused(ErrorCode::OperationUnsupported, detail));
        }
        Ok(())
    }

    /// Waits until no image is being made any more that a client before this one has asked for, and takes away such jobs.
    ///
    /// Meanwhile a node is half open, and QEMU 7.2 dies of being asked for its nodes then.
    fn wait_for_images(&mut self) -> Result<(), Fault> {
        let begun = Instant::now();
        loop {
            let jobs = self.jobs()?.into_iter();
            let making = jobs.filter(|job| job.kind == "create");
            let (ended, running): (Vec<_>, Vec<_>) =
                making.partition(|job| job.status == "concluded");
            let Some(job) = running.first() else {
                let may_change = !self.guest.attachment.look_only;
                for job in ended.iter().filter(|_| may_change) {
                    if self.names.makes_image(&job.id) {
                        self.try_ask("job-dismiss", json!({ "id": job.id }))?;
                    }
                }
                return Ok(());
            };
            if begun.elapsed() > MAKING_MAX {
                let detail = format!("the hypervisor is still making an image (job '{}')", job.id);
                return Err(Fault::refused(ErrorCode::OperationTimeout, detail));
            }
            thread::sleep(LOOK);
        }
    }

    fn ask(&mut self, execute: &'static str, arguments: Value) -> Result<Value, Fault> {
        self.looked = None;
        let asked = self.monitor.ask(&Request::new(execute, arguments));
        asked.map_err(|error| fault(execute, error))
    }

    /// Asks for changes in one write, of which none depends on the answer to another.
    fn ask_all(&mut self, requests: &[Request]) -> Result<(), Fault> {
        self.looked = None;
        let answers = self.monitor.ask_all(requests);
        let answers = answers.map_err(|error| Fault::unknown(error.to_string()))?;
        std::iter::zip(requests, answers).try_for_each(|(request, answer)| match answer {
            Ok(_) => Ok(()),
            Err(error) => Err(fault(&request.execute, error)),
        })
    }

    /// As [`ask`](Self::ask), for what cleans up: that there is nothing to clean up is no fault.
    fn try_ask(&mut self, execute: &'static str, arguments: Value) -> Result<bool, Fault> {
        self.looked = None;
        match self.monitor.ask(&Request::new(execute, arguments)) {
            Ok(_) => Ok(true),
            Err(AskError::Refused { .. }) => Ok(false),
            Err(error) => Err(fault(execute, error)),
        }
    }

    fn transaction(&mut self, actions: &[Value]) -> Result<(), Fault> {
        if !actions.is_empty() {
            self.ask("transaction", json!({ "actions": actions }))?;
        }
        Ok(())
    }

    /// Looks at everything, unless that is known.
    fn look(&mut self) -> Result<Arc<Looked>, Fault> {
        if let Some(looked) = &self.looked {
            return Ok(looked.clone());
        }
        let looks = [
            Request::bare("query-uuid"),
            Request::bare("query-status"),
            Request::new("query-named-block-nodes", json!({ "flat": true })),
            Request::bare("query-block"),
            Request::bare("query-jobs"),
        ];
        let answers = self.monitor.ask_all(&looks);
        let answers = answers.map_err(|error| Fault::unknown(error.to_string()))?;
        let mut answers = std::iter::zip(&looks, answers)
            .map(|(look, answer)| answer.map_err(|error| fault(&look.execute, error)));
        let mut next = || answers.next().unwrap_or(Ok(Value::Null));
        // A storage daemon knows neither of the first two.
        let (uuid, status) = (next().ok(), next().ok());
        let looked = Arc::new(Looked {
            uuid: uuid.and_then(|found| found["UUID"].as_str().map(str::to_owned)),
            power: power(status.as_ref()),
            graph: Graph::read(next()?, next()?)?,
            jobs: read_jobs(next()?)?,
        });
        self.looked = Some(looked.clone());
        Ok(looked)
    }

    /// The images of each disk of the definition, with the nodes that they are made of.
    fn placed(&self, graph: &Graph) -> Result<Disks, Fault> {
        let mut disks = Vec::new();
        for disk in &self.guest.def.disks {
            let placed = match &disk.source {
                Some(source) => graph.layers(source)?,
                None => Vec::new(),
            };
            disks.push((disk.target.clone(), placed));
        }
        Ok(disks)
    }

    /// Looks how far the hypervisor's jobs are by now.
    fn jobs(&mut self) -> Result<Vec<QemuJob>, Fault> {
        read_jobs(self.ask("query-jobs", Value::Null)?)
    }

    /// Makes images and their names durable.
    fn sync(&self, paths: &[&str]) -> Result<(), Fault> {
        let files: Vec<&Path> = paths.iter().map(Path::new).collect();
        self.hypervisor.sync_files(&files).map_err(|error| {
            let detail = format!("cannot sync '{}': {error}", paths.join("', '"));
            Fault::refused(ErrorCode::SystemError, detail)
        })
    }

    /// Runs one of the hypervisor's own jobs that make images to its end.
    fn run_job(&mut self, id: &str, execute: &'static str, arguments: Value) -> Result<(), Fault> {
        self.ask(execute, arguments)?;
        loop {
            let jobs = self.jobs()?;
            let Some(job) = jobs.into_iter().find(|job| job.id == id) else {
                return Ok(());
            };
            if job.status == "concluded" {
                self.try_ask("job-dismiss", json!({ "id": id }))?;
                return match job.error {
                    None => Ok(()),
                    Some(error) => Err(Fault::refused(
                        ErrorCode::InternalError,
                        format!("unable to execute QEMU command '{execute}': {error}"),
                    )),
                };
            }
            thread::sleep(MAKING_LOOK);
        }
    }
}

impl Session for QemuSession {
    fn run(&self) -> Option<HypervisorRun> {
        self.monitor.run()
    }

    fn is_there(&self, path: &Path) -> bool {
        self.hypervisor.is_there(path)
    }

    fn see(&mut self) -> Result<Sight, Fault> {
        let looked = self.look()?;
        let disks = self.placed(&looked.graph)?;
        let disks = disks.into_iter().map(|(target, placed)| SeenDisk {
            target,
            layers: placed.into_iter().map(|placed| placed.layer).collect(),
        });
        let bitmaps = looked.graph.nodes().iter().flat_map(|node| &node.bitmaps);
        let named = bitmaps.filter_map(|bitmap| bitmap.name.as_deref());
        let mut witnesses: Vec<JobId> = named
            .filter_map(|name| self.names.job_of_witness(name))
            .collect();
        witnesses.sort_unstable();
        witnesses.dedup();
        let mut copies = BTreeMap::new();
        for job in &looked.jobs {
            if job.kind == "backup" && self.names.is_ours(&job.id) {
                let copy = Copy {
                    ended: job.status == "concluded",
                    error: job.error.as_deref().map(Into::into),
                    progress: (job.done, job.total),
                };
                copies.insert(Arc::from(&*job.id), copy);
            }
        }
        Ok(Sight {
            power: looked.power,
            disks: disks.collect(),
            witnesses,
            copies,
        })
    }

    fn perform(&mut self, id: JobId, job: &Job) -> Result<(), Fault> {
        if self.guest.attachment.look_only {
            return Err(look_only());
        }
        match job.kind {
            JobKind::CreateCheckpoint => self.add_bitmaps(id, &job.effects),
            JobKind::DeleteCheckpoint | JobKind::Repair => {
                self.remove_bitmaps(Some(id), &job.effects)
            }
            JobKind::CreateSnapshot => self.add_overlays(id, job),
            JobKind::Backup => self.begin_backup(job),
            JobKind::DeleteSnapshot => self.merge_overlays(id, job),
            JobKind::Forward => {
                let why = "a call of another program is not the driver's to make";
                Err(Fault::refused(ErrorCode::OperationUnsupported, why))
            }
        }
    }

    fn rehearse(&mut self, effects: &[DiskEffect]) -> Result<(), Fault> {
        self.rehearse_bitmaps(effects)
    }

    fn complete(&mut self, job: &Job) -> Result<(), Fault> {
        match job.kind {
            JobKind::Backup => self.complete_backup(job),
            JobKind::DeleteSnapshot => self.complete_merges(job),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, job: &Job) -> Result<(), Fault> {
        self.close_targets(job)
    }

    fn abort(&mut self, id: JobId, job: &Job) -> Result<(), Fault> {
        if self.guest.attachment.look_only {
            return Ok(());
        }
        match job.kind {
            JobKind::Backup => self.abort_copies(job),
            JobKind::CreateSnapshot => self.take_overlays_back(id, job),
            JobKind::CreateCheckpoint
            | JobKind::DeleteCheckpoint
            | JobKind::DeleteSnapshot
            | JobKind::Repair
            | JobKind::Forward => Ok(()),
        }
    }

    fn sweep(&mut self, open: &[(JobId, &Job)]) -> Result<(), Fault> {
        if self.guest.attachment.look_only {
            return Ok(());
        }
        // What is taken away here is nothing that the look tells of anything else.
        let looked = self.look()?;
        self.sweep_copies(&looked, open)?;
        self.sweep_bitmaps(&looked, open)
    }

    fn take_witness(&mut self) -> Result<(), Fault> {
        let requests = std::mem::take(&mut self.witness);
        if requests.is_empty() {
            return Ok(());
        }
        self.ask_all(&requests)
    }

    fn measure(&mut self, bitmap: &str) -> Result<BTreeMap<Arc<str>, u64>, Fault> {
        self.measure_bitmap(bitmap)
    }

    fn remove_bitmap(&mut self, disk: &str, image: &str, bitmap: &str) -> Result<(), Fault> {
        self.remove_one_bitmap(disk, image, bitmap)
    }
}

/// Why a guest that another program manages is not changed.
pub(crate) fn look_only() -> Fault {
    let detail = "the guest is attached to look only";
    Fault::refused(ErrorCode::OperationUnsupported, detail)
}

fn read_jobs(found: Value) -> Result<Vec<QemuJob>, Fault> {
    serde_json::from_value(found).map_err(|error| {
        let detail = format!("the hypervisor's answer to `query-jobs` makes no sense: {error}");
        Fault::refused(ErrorCode::InternalError, detail)
    })
}

/// The run state, from the reply of `query-status`.
fn power(status: Option<&Value>) -> (RunState, u8) {
    const RUNNING_BOOTED: u8 = 1;
    const PAUSED_USER: u8 = 1;
    match status.and_then(|status| status["status"].as_str()) {
        Some("paused") => (RunState::Paused, PAUSED_USER),
        Some("shutdown") => (RunState::Shutdown, 0),
        Some("guest-panicked" | "internal-error") => (RunState::Crashed, 0),
        Some("suspended") => (RunState::PmSuspended, 0),
        Some("io-error") => (RunState::Paused, 5),
        // A guest that was never started is one that its user keeps waiting, as far as a log is concerned. A storage daemon
        // is there, and that is all.
        _ => (RunState::Running, RUNNING_BOOTED),
    }
}

/// Whether a node is one that libvirt has named.
fn is_of_libvirt(node: &str) -> bool {
    let number = node.strip_prefix("libvirt-").and_then(|rest| {
        rest.strip_suffix("-format")
            .or_else(|| rest.strip_suffix("-storage"))
    });
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
}

/// What a request's error means, in libvirt's words.
pub(crate) fn fault(execute: &str, error: AskError) -> Fault {
    match error {
        AskError::Refused { class, desc } if class == "CommandNotFound" => Fault::refused(
            ErrorCode::OperationUnsupported,
            format!("this hypervisor is too old: it does not know `{execute}` ({desc})"),
        ),
        AskError::Refused { desc, .. } => Fault::refused(
            ErrorCode::InternalError,
            format!("unable to execute QEMU command '{execute}': {desc}"),
        ),
        other => Fault::unknown(other.to_string()),
    }
}
