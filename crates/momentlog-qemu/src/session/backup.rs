//! Backups: copies are begun, finished and ended before their time.
//!
//! A copy that has *concluded* is not on disk: QEMU keeps the tables of the target in memory until its node is closed. So a
//! backup is done when its targets are closed and synced. Its jobs stay concluded until that is recorded: they are the
//! witness.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use momentlog::ErrorCode;
use momentlog::core::{
    BackupDef, BackupDisk, BackupExtent, BackupMode, BackupServer, DiskEffect, EffectKind,
    FileToMake, Job, JobId, JobLength,
};
use momentlog::driver::{Fault, Layer, copy_job};
use momentlog::xml::read_backup;
use serde_json::{Value, json};

use super::bitmaps::{add_temporary, adds, merge};
use super::overlay::NewImage;
use super::{Looked, QemuSession};
use crate::monitor::Request;

/// Bytes of a cluster of a target whose disk has none.
const CLUSTER_LEN: u64 = 65536;

/// How long a copy that was cancelled may take to end.
const CANCEL_WAIT: Duration = Duration::from_secs(30);

/// How often it is asked whether a copy that was cancelled has ended.
const LOOK: Duration = Duration::from_millis(2);

/// One copy: of which disk, to where, and how.
struct Planned<'a> {
    effect: &'a DiskEffect,
    disk: &'a BackupDisk,
    /// The nodes that it is written to: of the format, and of the file.
    nodes: [String; 2],
}

impl Planned<'_> {
    /// The hypervisor's job, and in a push backup also the bitmap that says what is copied.
    fn name(&self) -> &str {
        self.effect.bitmap.as_deref().unwrap_or_default()
    }

    fn format(&self) -> &str {
        self.disk.format.as_deref().unwrap_or("qcow2")
    }

    fn path(&self) -> &str {
        self.effect.file.as_deref().unwrap_or_default()
    }

    fn export_id(&self) -> &str {
        self.name()
    }
}

/// Reads what a backup is from its job.
fn def_of(job: &Job) -> Result<BackupDef, Fault> {
    let document = job.document.as_deref().unwrap_or_default();
    read_backup(document).map_err(|error| {
        let detail = format!("the recorded backup cannot be read: {error}");
        Fault::refused(ErrorCode::InternalError, detail)
    })
}

impl QemuSession {
    /// The copies of a job. Their nodes are named for the job that began them.
    fn planned<'a>(&self, job: &'a Job, def: &'a BackupDef) -> Vec<Planned<'a>> {
        let copied = job
            .effects
            .iter()
            .filter(|effect| effect.kind == EffectKind::Copied);
        let planned = copied.enumerate().filter_map(|(number, effect)| {
            let begun = copy_job(self.guest.log, effect.bitmap.as_deref()?)?;
            let disk = def.disks.iter().find(|disk| disk.name == effect.disk)?;
            Some(Planned {
                effect,
                disk,
                nodes: self.names.target(begun, number),
            })
        });
        planned.collect()
    }

    /// Makes the targets, and in one transaction the checkpoint's bitmaps and the copies.
    pub(super) fn begin_backup(&mut self, job: &Job) -> Result<(), Fault> {
        let def = def_of(job)?;
        let planned = self.planned(job, &def);
        let mut serves = false;
        self.check_free(job)?;
        let began = self.begin_copies(job, &def, &planned, &mut serves);
        if let Err(fault) = &began
            && !fault.leaves_unknown
        {
            self.take_back(job, &def, &planned, serves)?;
        }
        began
    }

    /// Refuses files that are there. The job was begun when they were not, so that what is there later is its own.
    fn check_free(&self, job: &Job) -> Result<(), Fault> {
        let is_there = |file: &&FileToMake| self.hypervisor.is_there(Path::new(&*file.path));
        match job.files.iter().find(is_there) {
            None => Ok(()),
            Some(FileToMake { disk, path }) => {
                let detail = format!("store '{path}' for backup of '{disk}' exists");
                Err(Fault::refused(ErrorCode::InvalidArg, detail))
            }
        }
    }

    fn begin_copies(
        &mut self,
        job: &Job,
        def: &BackupDef,
        planned: &[Planned<'_>],
        serves: &mut bool,
    ) -> Result<(), Fault> {
        let looked = self.look()?;
        let disks = self.placed(&looked.graph)?;
        let mut actions = adds(&job.effects);
        for copy in planned {
            let layers = disks.iter().find(|(target, _)| *target == copy.effect.disk);
            let layers: Vec<&Layer> = layers
                .into_iter()
                .flat_map(|(_, layers)| layers.iter().map(|placed| &placed.layer))
                .collect();
            let Some(top) = layers.first() else {
                let detail = format!("the hypervisor has no disk '{}'", copy.effect.disk);
                return Err(Fault::refused(ErrorCode::ConfigUnsupported, detail));
            };
            let over_the_disk =
                def.mode == BackupMode::Pull || copy.disk.extent == Some(BackupExtent::Incremental);
            let backing = over_the_disk && copy.format() != "raw";
            let path = copy.path();
            self.make_image(&NewImage {
                path,
                reuse: !job.makes(path),
                format: copy.format(),
                nodes: copy.nodes.clone(),
                size: top.size,
                cluster: top.cluster.unwrap_or(CLUSTER_LEN),
                backing: backing.then_some((&*top.image, &*top.format)),
                below: backing.then_some(&*top.node),
            })?;
            actions.extend(copy_actions(def.mode, copy, top, &layers));
        }
        if let Some(server) = &def.server {
            self.ask("nbd-server-start", server_options(server))?;
            *serves = true;
        }
        self.transaction(&actions)?;
        if def.mode == BackupMode::Pull {
            for copy in planned {
                self.ask("block-export-add", export(copy))?;
            }
        }
        Ok(())
    }

    /// Takes back what a backup that could not begin has made, and the bitmaps of its checkpoint.
    fn take_back(
        &mut self,
        job: &Job,
        def: &BackupDef,
        planned: &[Planned<'_>],
        serves: bool,
    ) -> Result<(), Fault> {
        let names: BTreeSet<&str> = planned.iter().map(Planned::name).collect();
        let looked = self.look()?;
        let has_begun = looked.jobs.iter().any(|job| names.contains(&*job.id));
        let made: BTreeSet<String> = looked
            .graph
            .nodes()
            .iter()
            .map(|node| node.name.clone())
            .collect();
        self.end_copies(planned, def.server.is_some() && serves)?;
        for copy in planned {
            let [_, storage] = &copy.nodes;
            let path = copy.path();
            // A file is removed only if it is known that this job has made it.
            if job.makes(path) && made.contains(storage) {
                let _ = self.hypervisor.remove_file(Path::new(path));
            }
        }
        if has_begun {
            let added = job
                .effects
                .iter()
                .filter(|effect| effect.kind == EffectKind::BitmapAdded);
            for effect in added {
                let name = effect.bitmap.as_deref().unwrap_or_default();
                let arguments = json!({ "node": &*effect.node, "name": name });
                self.try_ask("block-dirty-bitmap-remove", arguments)?;
            }
        }
        Ok(())
    }

    /// Offers the disks of a pull backup, if the process that began it died before it did.
    pub(super) fn complete_backup(&mut self, job: &Job) -> Result<(), Fault> {
        let def = def_of(job)?;
        if def.mode == BackupMode::Push {
            return Ok(());
        }
        let ids = self.exports()?;
        for copy in self.planned(job, &def) {
            if !ids.contains(copy.export_id()) {
                self.ask("block-export-add", export(&copy))?;
            }
        }
        Ok(())
    }

    /// Closes the targets of copies that have ended well, and syncs them.
    pub(super) fn close_targets(&mut self, job: &Job) -> Result<(), Fault> {
        let def = def_of(job)?;
        let looked = self.look()?;
        let graph = &looked.graph;
        let planned = self.planned(job, &def);
        let mut requests = Vec::new();
        for copy in &planned {
            let [format, storage] = &copy.nodes;
            if graph.named(format).is_some() {
                let over_the_disk = copy.disk.extent == Some(BackupExtent::Incremental);
                let mut options = json!({
                    "driver": copy.format(), "node-name": format, "file": storage, "read-only": true
                });
                if copy.format() != "raw" {
                    let below = over_the_disk.then_some(&*copy.effect.node);
                    options["backing"] = below.map_or(Value::Null, Value::from);
                }
                // This says what cannot be written any more.
                let options = json!({ "options": [options] });
                requests.push(Request::new("blockdev-reopen", options));
                requests.push(deletion(format));
            }
            if graph.named(storage).is_some() {
                requests.push(deletion(storage));
            }
        }
        self.ask_all(&requests)?;
        let paths: Vec<&str> = planned.iter().map(Planned::path).collect();
        self.sync(&paths)?;
        self.witness = planned.iter().flat_map(leaving).collect();
        Ok(())
    }

    /// Ends copies before their time, and removes the files that were made for them.
    pub(super) fn abort_copies(&mut self, job: &Job) -> Result<(), Fault> {
        let def = def_of(job)?;
        let planned = self.planned(job, &def);
        // The server is this job's if its copies have begun. Otherwise it may be another program's, at another socket.
        let jobs = self.jobs()?;
        let is_there = |copy: &Planned<'_>| jobs.iter().any(|job| job.id == copy.name());
        let has_begun = job.length == JobLength::Long || planned.iter().any(is_there);
        let is_at_its_place = match &def.server {
            Some(BackupServer::Unix { socket, .. }) => {
                self.hypervisor.is_there(Path::new(&**socket))
            }
            _ => false,
        };
        let is_ours = has_begun || is_at_its_place;
        self.end_copies(&planned, def.server.is_some() && is_ours)?;
        self.remove_files(job);
        Ok(())
    }

    /// Removes the files that were made for a job.
    fn remove_files(&self, job: &Job) {
        for file in &job.files {
            // Whether it can be removed changes nothing but space.
            let _ = self.hypervisor.remove_file(Path::new(&*file.path));
        }
    }

    fn end_copies(&mut self, planned: &[Planned<'_>], with_server: bool) -> Result<(), Fault> {
        self.end_exports(planned)?;
        for copy in planned {
            self.cancel(copy.name())?;
        }
        if with_server && self.exports()?.is_empty() {
            self.try_ask("nbd-server-stop", Value::Null)?;
        }
        for copy in planned {
            for node in &copy.nodes {
                self.try_ask("blockdev-del", json!({ "node-name": node }))?;
            }
        }
        Ok(())
    }

    /// Takes away the exports of these copies, whose clients lose their connections, and waits until they are gone.
    fn end_exports(&mut self, planned: &[Planned<'_>]) -> Result<(), Fault> {
        let begun = Instant::now();
        let ours: BTreeSet<&str> = planned.iter().map(Planned::export_id).collect();
        let mut asked = false;
        loop {
            let left = self.exports()?;
            let left = left.iter().filter(|id| ours.contains(&***id));
            let left: Vec<&String> = left.collect();
            let Some(first) = left.first() else {
                return Ok(());
            };
            if begun.elapsed() > CANCEL_WAIT {
                let detail = format!("the hypervisor's export '{first}' does not end");
                return Err(Fault::refused(ErrorCode::OperationTimeout, detail));
            }
            if asked {
                std::thread::sleep(LOOK);
            }
            for id in left {
                // One that is going already is refused.
                let arguments = json!({ "id": id, "mode": "hard" });
                self.try_ask("block-export-del", arguments)?;
            }
            asked = true;
        }
    }

    /// The ids of all exports.
    fn exports(&mut self) -> Result<BTreeSet<String>, Fault> {
        let exports = self.ask("query-block-exports", Value::Null)?;
        let exports = exports.as_array().into_iter().flatten();
        let ids = exports.filter_map(|export| export["id"].as_str().map(str::to_owned));
        Ok(ids.collect())
    }

    /// Cancels one of the hypervisor's jobs, if it runs, and waits for its end; it is dismissed by the sweep.
    pub(super) fn cancel(&mut self, name: &str) -> Result<(), Fault> {
        let begun = Instant::now();
        let mut refused = None;
        let mut asked = false;
        loop {
            let jobs = self.jobs()?;
            match (jobs.iter().find(|job| job.id == name), refused.take()) {
                (None, _) => return Ok(()),
                (Some(job), _) if job.status == "concluded" => return Ok(()),
                (Some(_), Some(fault)) => return Err(fault),
                (Some(_), None) if begun.elapsed() > CANCEL_WAIT => {
                    let detail = format!("the hypervisor's job '{name}' does not end");
                    return Err(Fault::refused(ErrorCode::OperationTimeout, detail));
                }
                (Some(_), None) if asked => std::thread::sleep(LOOK),
                (Some(_), None) => {
                    asked = true;
                    let arguments = json!({ "device": name, "force": true });
                    match self.ask("block-job-cancel", arguments) {
                        // It may have ended meanwhile.
                        Err(fault) if !fault.leaves_unknown => refused = Some(fault),
                        asked => drop(asked?),
                    }
                }
            }
        }
    }

    /// Takes away the copies, and the nodes that copies were written to, that belong to no open job.
    pub(super) fn sweep_copies(
        &mut self,
        looked: &Looked,
        open: &[(JobId, &Job)],
    ) -> Result<(), Fault> {
        let mut kept: BTreeSet<JobId> = open.iter().map(|(id, _)| *id).collect();
        for (_, job) in open {
            let names = job
                .effects
                .iter()
                .filter_map(|effect| effect.bitmap.as_deref());
            kept.extend(names.filter_map(|name| copy_job(self.guest.log, name)));
        }
        let is_kept = |job: Option<JobId>| job.is_some_and(|job| kept.contains(&job));
        let log = self.guest.log;
        let left = looked.jobs.iter();
        let left = left.filter(|job| !is_kept(copy_job(log, &job.id)));
        let names = self.names.clone();
        for job in left.filter(|job| names.is_ours(&job.id)) {
            if job.status != "concluded" {
                self.cancel(&job.id)?;
            }
            self.try_ask("job-dismiss", json!({ "id": job.id }))?;
        }
        let nodes: Vec<String> = looked
            .graph
            .nodes()
            .iter()
            .filter(|node| {
                let job = self.names.job_of_target(&node.name);
                job.is_some() && !is_kept(job)
            })
            .map(|node| node.name.clone())
            .collect();
        // That of the format is before that of the file, which it uses.
        let (formats, files): (Vec<_>, Vec<_>) =
            nodes.into_iter().partition(|node| node.ends_with('f'));
        for node in formats.iter().chain(&files) {
            self.try_ask("blockdev-del", json!({ "node-name": node }))?;
        }
        Ok(())
    }
}

fn deletion(node: &str) -> Request {
    Request::new("blockdev-del", json!({ "node-name": node }))
}

/// What takes away the last of a copy that has ended well: its job, and the bitmap that says what was copied.
fn leaving(copy: &Planned<'_>) -> Vec<Request> {
    let name = copy.name();
    let mut requests = vec![Request::new("job-dismiss", json!({ "id": name }))];
    if copy.disk.incremental.is_some() {
        let arguments = json!({ "node": &*copy.effect.node, "name": name });
        requests.push(Request::new("block-dirty-bitmap-remove", arguments));
    }
    requests
}

/// The actions that begin the copy of one disk at the instant of the transaction.
fn copy_actions(
    mode: BackupMode,
    copy: &Planned<'_>,
    top: &Layer,
    layers: &[&Layer],
) -> Vec<Value> {
    let [target, _] = &copy.nodes;
    let mut actions = Vec::new();
    let mut backup = json!({
        "device": &*top.node, "job-id": copy.name(), "target": target,
        "auto-finalize": true, "auto-dismiss": false,
        "sync": if mode == BackupMode::Pull { "none" } else { "full" }
    });
    if let Some(since) = copy.disk.incremental.as_deref() {
        let having: Vec<_> = layers
            .iter()
            .filter_map(|layer| Some((&*layer.node, layer.bitmap(since)?)))
            .collect();
        let granularity = having
            .first()
            .map_or(CLUSTER_LEN, |(_, bitmap)| bitmap.granularity);
        let from: Vec<_> = having.iter().map(|(node, _)| (*node, since)).collect();
        let (node, name) = match mode {
            BackupMode::Push => (&*top.node, copy.name()),
            BackupMode::Pull => {
                let exported = copy.disk.export_bitmap.as_deref();
                (&**target, exported.unwrap_or_else(|| copy.name()))
            }
        };
        actions.push(add_temporary(node, name, granularity));
        actions.push(merge(node, name, &from));
        if mode == BackupMode::Push {
            backup["sync"] = "incremental".into();
            backup["bitmap"] = name.into();
        }
    }
    actions.push(json!({ "type": "blockdev-backup", "data": backup }));
    actions
}

fn export(copy: &Planned<'_>) -> Value {
    let [target, _] = &copy.nodes;
    let name = copy.disk.export_name.as_deref().unwrap_or(&copy.disk.name);
    let mut export = json!({
        "type": "nbd", "id": copy.export_id(), "node-name": target, "writable": false, "name": name
    });
    if copy.disk.incremental.is_some()
        && let Some(bitmap) = copy.disk.export_bitmap.as_deref()
    {
        export["bitmaps"] = json!([bitmap]);
    }
    export
}

fn server_options(server: &BackupServer) -> Value {
    match server {
        BackupServer::Tcp { name, port, .. } => {
            let port = port.map_or_else(String::new, |port| port.to_string());
            json!({ "addr": { "type": "inet", "data": { "host": &**name, "port": port } } })
        }
        BackupServer::Unix { socket, .. } => {
            json!({ "addr": { "type": "unix", "data": { "path": &**socket } } })
        }
    }
}
