//! Jobs that go on after their request was answered, and exports.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Value, json};

use super::bitmap::Bitmap;
use super::image::{CLUSTER_LEN, Images, SimImage, ZEROS, touched};
use super::process::{Node, NodeKind, Process, World, no_device};
use super::requests::Trouble;

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: String,
    /// Absent while it runs; then its end.
    pub(super) end: Option<Result<(), String>>,
    auto_dismiss: bool,
    /// Requests until it ends by itself.
    requests_left: Option<u32>,
    /// The error with which it will end.
    error: Option<String>,
    total: u64,
    done: u64,
    work: Work,
}

#[derive(Clone, Debug)]
enum Work {
    Create(Creation),
    Backup {
        source: String,
        target: String,
        filter: String,
        /// Clusters that are not copied yet.
        todo: BTreeSet<u64>,
        /// The source's bitmap that says what to copy, and is as if new after a success.
        bitmap: Option<String>,
    },
}

/// What `blockdev-create` makes.
#[derive(Clone, Debug)]
pub(super) enum Creation {
    /// An empty file.
    File { path: String, size: u64 },
    /// An image in a file that is there.
    Image { file: String, image: SimImage },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    Full,
    Top,
    Incremental,
    None,
}

/// The arguments of `blockdev-backup`.
#[derive(Clone, Debug)]
pub(super) struct BackupOptions {
    pub(super) device: String,
    pub(super) target: String,
    pub(super) id: Option<String>,
    pub(super) sync: Sync,
    pub(super) bitmap: Option<String>,
    pub(super) bitmap_mode: Option<String>,
    pub(super) filter: Option<String>,
    pub(super) auto_dismiss: bool,
}

/// A node that an NBD client can read.
#[derive(Clone, Debug)]
pub(super) struct Export {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) node: String,
    pub(super) bitmaps: Vec<String>,
}

impl Job {
    pub(super) fn kind(&self) -> &'static str {
        match self.work {
            Work::Create(_) => "create",
            Work::Backup { .. } => "backup",
        }
    }

    fn status(&self) -> &'static str {
        match self.end {
            None => "running",
            Some(_) => "concluded",
        }
    }

    /// As `query-jobs` tells it.
    pub(super) fn reply(&self) -> Value {
        let mut reply = json!({
            "id": self.id,
            "type": self.kind(),
            "status": self.status(),
            "current-progress": self.done,
            "total-progress": self.total,
        });
        if let Some(Err(error)) = &self.end {
            reply["error"] = json!(error);
        }
        reply
    }

    /// As `query-block-jobs` tells it, which knows backups only.
    pub(super) fn block_reply(&self) -> Option<Value> {
        let mut reply = json!({
            "device": self.id,
            "type": self.kind(),
            "status": self.status(),
            "offset": self.done,
            "len": self.total,
            "speed": 0,
            "busy": false,
            "paused": false,
            "ready": false,
            "io-status": "ok",
            "auto-finalize": true,
            "auto-dismiss": self.auto_dismiss,
        });
        if let Some(Err(error)) = &self.end {
            reply["error"] = json!(error);
        }
        matches!(self.work, Work::Backup { .. }).then_some(reply)
    }

    pub(super) fn writes_to(&self, node: &str) -> bool {
        self.end.is_none() && matches!(&self.work, Work::Backup { target, .. } if target == node)
    }
}

impl Process {
    fn check_job_id(&self, id: &str) -> Result<(), Trouble> {
        let letter = id.starts_with(|first: char| first.is_ascii_alphabetic());
        if !letter
            || !id
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        {
            return Err(Trouble::refused(format!("Invalid job ID '{id}'")));
        }
        if self.jobs.iter().any(|job| job.id == id) {
            return Err(Trouble::refused(format!("Job ID '{id}' already in use")));
        }
        Ok(())
    }

    pub(super) fn begin_creation(
        &mut self,
        world: &mut World<'_>,
        id: String,
        creation: Creation,
    ) -> Result<(), Trouble> {
        self.check_job_id(&id)?;
        self.jobs.insert(
            0,
            Job {
                id,
                end: None,
                auto_dismiss: false,
                requests_left: Some(world.job_requests),
                error: world.job_error.clone(),
                total: 1,
                done: 0,
                work: Work::Create(creation),
            },
        );
        self.end_due_jobs(world.images);
        Ok(())
    }

    /// Begins a backup as the guest's disk is now.
    pub(super) fn begin_backup(
        &mut self,
        world: &mut World<'_>,
        options: BackupOptions,
    ) -> Result<(), Trouble> {
        let source = self.below_filters(&options.device).to_owned();
        let source_path = self.existing(&source)?.path.clone();
        let target = self.existing(&options.target)?;
        let size = |path: &str| world.images.get(path).map_or(0, |image| image.size);
        let bytes = size(&source_path);
        if source == options.target {
            return Err(Trouble::refused("Source and target cannot be the same"));
        }
        if target.read_only {
            return Err(Trouble::refused(
                "Could not create node: Block node is read-only",
            ));
        }
        let same_size = size(&target.path) == bytes;
        self.check_no_job(&options.target)?;
        let todo = self.clusters_to_copy(&options, &source, bytes)?;
        if !same_size {
            return Err(Trouble::refused(
                "Source and target image have different sizes",
            ));
        }
        let id = options.id.unwrap_or_default();
        let filter = match options.filter {
            Some(filter) => filter,
            None => self.made_name(),
        };
        let bitmap = options.bitmap;
        self.check_job_id(&id)?;
        if self.node(&filter).is_some() {
            return Err(Trouble::refused(format!(
                "Duplicate nodes with node-name='{filter}'"
            )));
        }
        let total = todo.len() as u64 * CLUSTER_LEN;
        self.add_job_bitmaps(&id, &source, bitmap.as_deref(), &todo);
        let access = (0..bytes.div_ceil(CLUSTER_LEN)).collect();
        self.nodes.insert(
            0,
            Node {
                name: filter.clone(),
                path: source_path,
                kind: NodeKind::Filter {
                    below: source.clone(),
                    job: id.clone(),
                },
                read_only: false,
                owned: false,
                bitmaps: vec![of_job(&id, access), of_job(&id, BTreeSet::new())],
                pending: std::collections::BTreeMap::new(),
            },
        );
        self.move_roots(&source, &filter);
        self.jobs.insert(
            0,
            Job {
                id,
                end: None,
                auto_dismiss: options.auto_dismiss,
                // With `none` only what is overwritten is copied, until it is cancelled.
                requests_left: (options.sync != Sync::None).then_some(world.job_requests),
                error: world.job_error.clone(),
                total,
                done: 0,
                work: Work::Backup {
                    source,
                    target: options.target,
                    filter,
                    todo,
                    bitmap,
                },
            },
        );
        Ok(())
    }

    fn clusters_to_copy(
        &self,
        options: &BackupOptions,
        source: &str,
        bytes: u64,
    ) -> Result<BTreeSet<u64>, Trouble> {
        let Some(name) = &options.bitmap else {
            return match options.sync {
                Sync::Incremental => Err(Trouble::refused(
                    "must provide a valid bitmap name for 'incremental' sync mode",
                )),
                Sync::Full | Sync::Top | Sync::None => {
                    Ok((0..bytes.div_ceil(CLUSTER_LEN)).collect())
                }
            };
        };
        let bitmap = self
            .existing(source)?
            .bitmap(name)
            .ok_or_else(|| Trouble::refused(format!("Bitmap '{name}' could not be found")))?;
        let mode = options.bitmap_mode.as_deref();
        match (options.sync, mode) {
            (Sync::Incremental, None | Some("on-success")) => {}
            (Sync::Incremental, Some(_)) => {
                return Err(Trouble::refused(
                    "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'",
                ));
            }
            (_, _) => {
                return Err(Trouble::refused(
                    "Bitmap sync mode must be given when providing a bitmap",
                ));
            }
        }
        bitmap.check_free()?;
        bitmap.check_consistent()?;
        bitmap.check_writable()?;
        Ok(bitmap
            .granules
            .iter()
            .flat_map(|granule| {
                touched(
                    granule * bitmap.granularity,
                    bitmap.granularity,
                    CLUSTER_LEN,
                )
            })
            .collect())
    }

    /// Puts the nameless bitmaps of a job on its source. What its own bitmap would record, a nameless one records.
    fn add_job_bitmaps(
        &mut self,
        id: &str,
        source: &str,
        bitmap: Option<&str>,
        todo: &BTreeSet<u64>,
    ) {
        let Some(node) = self.node_mut(source) else {
            return;
        };
        if let Some(bitmap) = bitmap.and_then(|name| node.bitmap_mut(name)) {
            let successor = Bitmap {
                recording: std::mem::take(&mut bitmap.recording),
                job: Some(id.to_owned()),
                ..Bitmap::new(None, bitmap.granularity)
            };
            bitmap.busy = true;
            node.bitmaps.insert(0, successor);
        }
        node.bitmaps.insert(0, of_job(id, todo.clone()));
    }

    /// Copies what a guest is about to overwrite.
    pub(super) fn copy_before_write(
        &mut self,
        images: &mut Images,
        id: &str,
        clusters: Range<u64>,
    ) {
        for cluster in clusters {
            self.copy(images, id, cluster);
        }
    }

    fn copy(&mut self, images: &mut Images, id: &str, cluster: u64) {
        let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) else {
            return;
        };
        let Work::Backup {
            source,
            target,
            todo,
            filter,
            ..
        } = &mut job.work
        else {
            return;
        };
        if !todo.remove(&cluster) {
            return;
        }
        job.done += CLUSTER_LEN;
        let (source, target, filter) = (source.clone(), target.clone(), filter.clone());
        if let Some(done) = self
            .node_mut(&filter)
            .and_then(|node| node.bitmaps.last_mut())
        {
            done.granules.insert(cluster);
        }
        if let Some(left) = self
            .node_mut(&source)
            .and_then(|node| copy_bitmap(node, id))
        {
            left.granules.remove(&cluster);
        }
        let below = self.node(&target).and_then(Node::backing).is_some();
        match self.read(images, &source, cluster) {
            Some(data) => self.put(images, &target, cluster, data),
            None if below => self.put(images, &target, cluster, ZEROS),
            None => {}
        }
    }

    /// Lets jobs go on by what happens during one request.
    pub(super) fn go_on(&mut self, images: &mut Images) {
        for at in 0..self.jobs.len() {
            let job = &mut self.jobs[at];
            if job.end.is_some() {
                continue;
            }
            let Some(left) = &mut job.requests_left else {
                continue;
            };
            *left = left.saturating_sub(1);
            let share = u64::from(*left) + 1;
            if let Work::Backup { todo, .. } = &job.work
                && job.error.is_none()
            {
                let id = job.id.clone();
                let some = todo.len().div_ceil(usize::try_from(share).unwrap_or(1));
                let some: Vec<u64> = todo.iter().copied().take(some).collect();
                for cluster in some {
                    self.copy(images, &id, cluster);
                }
            }
        }
        self.end_due_jobs(images);
    }

    /// Ends the jobs whose time has come.
    pub(super) fn end_due_jobs(&mut self, images: &mut Images) {
        let due: Vec<String> = self
            .jobs
            .iter()
            .filter(|job| job.end.is_none() && job.requests_left == Some(0))
            .map(|job| job.id.clone())
            .collect();
        for id in due {
            self.end_job(images, &id);
        }
    }

    /// Lets every job that ends by itself end now.
    pub(super) fn end_all_jobs(&mut self, images: &mut Images) {
        for job in &mut self.jobs {
            job.requests_left = job.requests_left.map(|_| 0);
        }
        self.end_due_jobs(images);
    }

    fn end_job(&mut self, images: &mut Images, id: &str) {
        let Some(job) = self.jobs.iter().find(|job| job.id == id) else {
            return;
        };
        let end = match (&job.error, job.work.clone()) {
            (Some(error), _) => Err(error.clone()),
            (None, Work::Create(creation)) => self.create(images, &creation),
            (None, Work::Backup { todo, .. }) => {
                for cluster in todo {
                    self.copy(images, id, cluster);
                }
                Ok(())
            }
        };
        self.conclude(id, &end);
    }

    fn create(&self, images: &mut Images, creation: &Creation) -> Result<(), String> {
        match creation {
            Creation::File { path, size } => {
                images.insert(path.clone(), SimImage::raw(*size));
                Ok(())
            }
            Creation::Image { file, image } => {
                let node = self.node(file).ok_or_else(|| no_device(file).to_string())?;
                self.check_alone(file, "an unnamed block device")
                    .map_err(|trouble| trouble.to_string())?;
                images.insert(node.path.clone(), image.clone());
                Ok(())
            }
        }
    }

    fn conclude(&mut self, id: &str, end: &Result<(), String>) {
        let Some(at) = self.jobs.iter().position(|job| job.id == id) else {
            return;
        };
        let job = &mut self.jobs[at];
        if end.is_ok() {
            job.done = job.total;
        }
        job.end = Some(end.clone());
        if let Work::Backup {
            source,
            filter,
            bitmap,
            ..
        } = job.work.clone()
        {
            if let Some(node) = self.node_mut(&source) {
                give_back(node, id, bitmap.as_deref(), end.is_ok());
            }
            let below = self.below_filters(&filter).to_owned();
            self.nodes.retain(|node| node.name != filter);
            self.move_roots(&filter, &below);
        }
        if self.jobs[at].auto_dismiss {
            self.jobs.remove(at);
        }
    }

    /// Cancels a job that runs.
    ///
    /// # Errors
    ///
    /// If it has ended already.
    pub(super) fn cancel(&mut self, id: &str, missing: Trouble) -> Result<(), Trouble> {
        let job = self.jobs.iter().find(|job| job.id == id).ok_or(missing)?;
        if job.end.is_some() {
            return Err(Trouble::refused(format!(
                "Job '{id}' in state 'concluded' cannot accept command verb 'cancel'"
            )));
        }
        self.conclude(id, &Err("Operation canceled".to_owned()));
        Ok(())
    }

    pub(super) fn cancel_all(&mut self) {
        let running = self.jobs.iter().filter(|job| job.end.is_none());
        for id in running.map(|job| job.id.clone()).collect::<Vec<_>>() {
            self.conclude(&id, &Err("Operation canceled".to_owned()));
        }
    }

    /// Forgets a job that has ended.
    ///
    /// # Errors
    ///
    /// If it still runs.
    pub(super) fn dismiss(&mut self, id: &str, missing: Trouble) -> Result<(), Trouble> {
        let at = self
            .jobs
            .iter()
            .position(|job| job.id == id)
            .ok_or(missing)?;
        if self.jobs[at].end.is_none() {
            return Err(Trouble::refused(format!(
                "Job '{id}' in state 'running' cannot accept command verb 'dismiss'"
            )));
        }
        self.jobs.remove(at);
        Ok(())
    }
}

fn of_job(id: &str, granules: BTreeSet<u64>) -> Bitmap {
    Bitmap {
        granules,
        job: Some(id.to_owned()),
        ..Bitmap::new(None, CLUSTER_LEN)
    }
}

/// The nameless bitmap of what a job still has to copy: it was added last.
fn copy_bitmap<'a>(node: &'a mut Node, id: &str) -> Option<&'a mut Bitmap> {
    node.bitmaps
        .iter_mut()
        .find(|bitmap| bitmap.job.as_deref() == Some(id))
}

/// Takes a job's bitmaps from its source. Its own bitmap goes on with what was recorded meanwhile, and after a failure
/// still says what it said before.
fn give_back(node: &mut Node, id: &str, bitmap: Option<&str>, success: bool) {
    let (of_job, others) = std::mem::take(&mut node.bitmaps)
        .into_iter()
        .partition(|bitmap| bitmap.job.as_deref() == Some(id));
    node.bitmaps = others;
    let of_job: Vec<Bitmap> = of_job;
    let Some(bitmap) = bitmap.and_then(|name| node.bitmap_mut(name)) else {
        return;
    };
    bitmap.busy = false;
    if let [_, successor] = &of_job[..] {
        bitmap.recording = successor.recording;
        if success {
            bitmap.granules.clear();
        }
        bitmap.merge(&successor.granules, successor.granularity);
    }
}
