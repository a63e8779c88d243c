//! A simulated host with hypervisors that follow QEMU's rules, die, hang and refuse when told.
//!
//! The rules were seen on QEMU 7.2 and are held against a real `qemu-storage-daemon` by a test:
//!
//! * A bitmap that is added lies in memory, and is stored in its image when the image is closed in order or reopened
//!   read-only. From opening an image read-write on, what it has stored is marked as in use.
//! * A killed hypervisor leaves what is on the disk: bitmaps that were stored are inconsistent from then on, others are gone,
//!   and so are clusters of which the image's tables do not know yet, those of a concluded backup too.
//! * A refused request does nothing, with one exception: an image that a guest writes stays open read-write when it is to be
//!   reopened read-only, but its bitmaps are stored and may not be changed any more, so that the guest's writes fail until
//!   it is reopened read-write.
//! * A transaction does all of its actions or none, but removing a persistent bitmap takes it from the disk at once.
//!
//! Not in the model: events, internal snapshots, commit and mirror jobs, grouped jobs, images of other formats, writes of less
//! than a sector, time.

mod bitmap;
mod conflicts;
mod image;
mod jobs;
mod monitor;
mod process;
mod replies;
mod requests;
mod transaction;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub use image::{CLUSTER_LEN, Cluster, ImageFormat, SECTOR_LEN, SimImage, StoredBitmap};
use image::{Images, ZEROS};
use process::{BackingNode, Device, FileNode, Opening, Process, World};
use requests::Trouble;

/// What a reader of a disk sees, by number of the cluster. What is all zeros is left out.
pub type Content = BTreeMap<u64, Cluster>;

/// What a client of an NBD export sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportView {
    /// The data.
    pub content: Content,
    /// For each of its bitmaps the parts that are dirty, as offset and length.
    pub dirty: BTreeMap<String, Vec<(u64, u64)>>,
}

/// A host with images and guests. Clones are the same host.
#[derive(Clone, Default)]
pub struct SimHost(Arc<Shared>);

#[derive(Default)]
struct Shared {
    machine: Mutex<Machine>,
    /// A monitor was left, or a guest's power has changed.
    changed: Condvar,
}

#[derive(Default)]
struct Machine {
    images: Images,
    guests: BTreeMap<PathBuf, Guest>,
    requests: u64,
    faults: BTreeMap<u64, QemuFault>,
    asker_gone: bool,
    job_requests: u32,
    job_error: Option<String>,
    runs_unknown: bool,
    processes: u32,
}

struct Guest {
    config: SimGuest,
    power: Power,
    held: bool,
    hung: bool,
    /// The image on top of each disk when the guest ended last.
    tops: BTreeMap<String, String>,
}

enum Power {
    Off,
    Killed,
    Running(Box<Process>),
}

/// A guest as its hypervisor is started.
#[derive(Clone, Debug, Default)]
pub struct SimGuest {
    /// It is a `qemu-storage-daemon`: it has no run state, name and uuid, and its disks are known by their nodes alone.
    pub daemon: bool,
    /// What `query-name` tells.
    pub name: Option<String>,
    /// What `query-uuid` tells; zeros if empty.
    pub uuid: String,
    /// Its disks.
    pub disks: Vec<SimGuestDisk>,
}

/// A disk as a hypervisor is configured with it.
#[derive(Clone, Debug)]
pub struct SimGuestDisk {
    /// The device: the path of its object, as `query-block` has it under `qdev`, or a name.
    pub device: String,
    /// The node of its image; `NODE-file` is that of the file.
    pub node: String,
    /// The path of its image.
    pub image: String,
    /// The nodes of the images below, from the top down. Those that are not named here get names from QEMU.
    pub below: Vec<String>,
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QemuFault {
    /// It is refused.
    Refused,
    /// The hypervisor is killed.
    Killed(Side),
    /// The hypervisor is killed in the middle of a transaction, when it has prepared this many of its actions.
    KilledWithin(usize),
    /// The hypervisor stops, and never answers until [`SimHost::thaw`].
    Silent(Side),
    /// The connection is closed.
    Closed(Side),
    /// Whoever asks is gone: no later request reaches any guest until [`SimHost::come_back`].
    Gone(Side),
}

/// When something happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before it is done.
    Before,
    /// When it is done, before it is answered.
    After,
}

/// With which images a guest starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tops {
    /// With those with which it was started before.
    Same,
    /// With those that were on top when it ended.
    Newest,
}

/// Why a test cannot do what it wants, in QEMU's words where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SimError(String);

impl SimGuestDisk {
    /// Returns a disk with one image, or with images whose nodes below the top get names from QEMU.
    pub fn new(
        device: impl Into<String>,
        node: impl Into<String>,
        image: impl Into<String>,
    ) -> SimGuestDisk {
        SimGuestDisk {
            device: device.into(),
            node: node.into(),
            image: image.into(),
            below: Vec::new(),
        }
    }
}

impl SimHost {
    /// Returns a host without images and guests.
    pub fn new() -> SimHost {
        SimHost::default()
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0
            .machine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an image there, over what was there.
    pub fn put_image(&self, path: impl Into<String>, image: SimImage) {
        self.machine().images.insert(path.into(), image);
    }

    /// Removes an image, and returns whether it was there.
    pub fn remove_image(&self, path: &str) -> bool {
        self.machine().images.remove(path).is_some()
    }

    /// The image as it is on the disk, which is old while a hypervisor has it open.
    pub fn image(&self, path: &str) -> Option<SimImage> {
        self.machine().images.get(path).cloned()
    }

    /// The paths of all images.
    pub fn image_paths(&self) -> Vec<String> {
        self.machine().images.keys().cloned().collect()
    }

    /// Whether a running guest has the image open, so that `qemu-img` would refuse to look.
    pub fn is_open(&self, path: &str) -> bool {
        let machine = self.machine();
        let mut running = machine.guests.values().filter_map(Guest::process);
        running.any(|process| process.locks().any(|(open, _)| open == path))
    }

    /// What the image at `path` and those below it hold on the disk. What is missing reads as zeros.
    pub fn read_disk(&self, path: &str) -> Content {
        let machine = self.machine();
        let mut content = Content::new();
        let mut next = machine.images.get(path);
        // Bounded, as images may name each other.
        for _ in 0..machine.images.len() {
            let Some(image) = next else { break };
            for (cluster, data) in &image.clusters {
                content.entry(*cluster).or_insert(*data);
            }
            next = image
                .backing
                .as_ref()
                .and_then(|path| machine.images.get(path));
        }
        without_zeros(content)
    }

    /// Starts a guest whose monitor is at `socket`.
    ///
    /// # Errors
    ///
    /// If it runs already, or an image cannot be opened.
    pub fn start(&self, socket: impl Into<PathBuf>, config: SimGuest) -> Result<(), SimError> {
        let socket = socket.into();
        let mut machine = self.machine();
        if machine
            .guests
            .get(&socket)
            .and_then(Guest::process)
            .is_some()
        {
            return Err(SimError(format!("{} is running", socket.display())));
        }
        let process = machine.boot(&config)?;
        let guest = Guest {
            config,
            power: Power::Running(Box::new(process)),
            held: false,
            hung: false,
            tops: BTreeMap::new(),
        };
        machine.guests.insert(socket, guest);
        self.0.changed.notify_all();
        Ok(())
    }

    /// Starts a guest again that was started before, after stopping it in order if it runs.
    ///
    /// # Errors
    ///
    /// If it was never started, or an image cannot be opened.
    pub fn restart(&self, socket: impl AsRef<Path>, tops: Tops) -> Result<(), SimError> {
        let socket = socket.as_ref();
        self.stop(socket);
        let machine = self.machine();
        let guest = machine.guests.get(socket);
        let guest =
            guest.ok_or_else(|| SimError(format!("{} was never started", socket.display())))?;
        let mut config = guest.config.clone();
        for disk in &mut config.disks {
            if let Some(top) = guest.tops.get(&disk.device)
                && tops == Tops::Newest
                && *top != disk.image
            {
                disk.image.clone_from(top);
                disk.below.clear();
            }
        }
        drop(machine);
        self.start(socket, config)
    }

    /// Ends a guest in order, as `quit` and SIGTERM do.
    pub fn stop(&self, socket: impl AsRef<Path>) {
        self.end(socket.as_ref(), true);
    }

    /// Kills a guest's hypervisor.
    pub fn kill(&self, socket: impl AsRef<Path>) {
        self.end(socket.as_ref(), false);
    }

    fn end(&self, socket: &Path, in_order: bool) {
        self.machine().end(socket, in_order);
        self.0.changed.notify_all();
    }

    /// Whether the guest at this socket runs.
    pub fn runs(&self, socket: impl AsRef<Path>) -> bool {
        let machine = self.machine();
        let guest = machine.guests.get(socket.as_ref());
        guest.and_then(Guest::process).is_some()
    }

    /// The paths of the images that a running guest writes to.
    pub fn tops(&self, socket: impl AsRef<Path>) -> Vec<String> {
        let machine = self.machine();
        let guest = machine.guests.get(socket.as_ref());
        let process = guest.and_then(Guest::process);
        process.map_or_else(Vec::new, |process| process.tops().into_values().collect())
    }

    /// Stops a guest's hypervisor, as SIGSTOP does: it answers no more.
    pub fn freeze(&self, socket: impl AsRef<Path>) {
        if let Some(guest) = self.machine().guests.get_mut(socket.as_ref()) {
            guest.hung = true;
        }
    }

    /// Lets a guest's hypervisor answer again.
    pub fn thaw(&self, socket: impl AsRef<Path>) {
        if let Some(guest) = self.machine().guests.get_mut(socket.as_ref()) {
            guest.hung = false;
        }
    }

    /// Requests so far, of all monitors of the host.
    pub fn requests(&self) -> u64 {
        self.machine().requests
    }

    /// Lets the request of this number fail, counted as [`requests`](SimHost::requests) counts: the next one is one more.
    pub fn fault_at(&self, request: u64, fault: QemuFault) {
        self.machine().faults.insert(request, fault);
    }

    /// Lets requests reach guests again after [`QemuFault::Gone`], and takes back the faults that have not come yet.
    pub fn come_back(&self) {
        let mut machine = self.machine();
        machine.asker_gone = false;
        machine.faults.clear();
    }

    /// Lets jobs that begin from now on take this many further requests to their end. At first it is 0: they have ended when
    /// the request that begins them is answered.
    pub fn set_job_requests(&self, requests: u32) {
        self.machine().job_requests = requests;
    }

    /// Lets jobs that begin from now on end with this error.
    pub fn set_job_error(&self, error: Option<&str>) {
        self.machine().job_error = error.map(str::to_owned);
    }

    /// Whether monitors tell which run of the hypervisor they are of. At first they do.
    pub fn set_run_known(&self, is_known: bool) {
        self.machine().runs_unknown = !is_known;
    }

    /// Lets the jobs of a guest end that end by themselves.
    pub fn end_jobs(&self, socket: impl AsRef<Path>) {
        self.machine().with(socket.as_ref(), |process, world| {
            process.end_all_jobs(world.images);
        });
    }

    /// Lets the guest write `length` bytes to a disk, and flush.
    ///
    /// # Errors
    ///
    /// If there is no such disk, or the write is refused; offset and length are multiples of [`SECTOR_LEN`].
    pub fn write(
        &self,
        socket: impl AsRef<Path>,
        device: &str,
        pattern: u8,
        offset: u64,
        length: u64,
    ) -> Result<(), SimError> {
        let written = self.machine().with(socket.as_ref(), |process, world| {
            let root = process.device_root(device)?;
            let written = process.write(world.images, &root, pattern, offset, length);
            let top = process.below_filters(&root).to_owned();
            process.flush(world.images, &top);
            Some(written)
        });
        let written = written.flatten();
        let written = written.ok_or_else(|| SimError(format!("no running guest has {device}")))?;
        written.map_err(|trouble| SimError(trouble.to_string()))
    }

    /// What the guest sees on a disk; absent if it does not run.
    pub fn read(&self, socket: impl AsRef<Path>, device: &str) -> Option<Content> {
        let read = |process: &mut Process, world: &mut World<'_>| {
            let root = process.device_root(device)?;
            Some(read_node(process, world.images, &root))
        };
        self.machine().with(socket.as_ref(), read).flatten()
    }

    /// What a client of an export sees; absent if there is no such export.
    pub fn read_export(&self, socket: impl AsRef<Path>, name: &str) -> Option<ExportView> {
        let read = |process: &mut Process, world: &mut World<'_>| {
            let export = process.exports.iter().find(|export| export.name == name)?;
            let node = process.node(&export.node)?;
            let dirty = export.bitmaps.iter().filter_map(|name| {
                let bitmap = node.bitmap(name)?;
                let granules = bitmap.granules.iter();
                let parts = granules.map(|at| (at * bitmap.granularity, bitmap.granularity));
                Some((name.clone(), parts.collect()))
            });
            Some(ExportView {
                content: read_node(process, world.images, &export.node),
                dirty: dirty.collect(),
            })
        };
        self.machine().with(socket.as_ref(), read).flatten()
    }
}

fn read_node(process: &Process, images: &Images, node: &str) -> Content {
    let size = process
        .node(node)
        .and_then(|node| images.get(&node.path))
        .map_or(0, |image| image.size);
    let clusters = 0..size.div_ceil(CLUSTER_LEN);
    without_zeros(
        clusters
            .filter_map(|at| Some((at, process.read(images, node, at)?)))
            .collect(),
    )
}

fn without_zeros(mut content: Content) -> Content {
    content.retain(|_, data| *data != ZEROS);
    content
}

impl fmt::Debug for SimHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimHost")
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}

impl Guest {
    fn process(&self) -> Option<&Process> {
        match &self.power {
            Power::Running(process) => Some(process),
            Power::Off | Power::Killed => None,
        }
    }
}

impl Machine {
    /// Whether whoever asks is there to do anything else.
    fn asker_is_there(&self) -> std::io::Result<()> {
        if self.asker_gone {
            Err(std::io::Error::other("whoever asks is gone"))
        } else {
            Ok(())
        }
    }

    fn boot(&mut self, config: &SimGuest) -> Result<Process, SimError> {
        self.processes += 1;
        let mut process = Process {
            pid: 1000 + self.processes,
            daemon: config.daemon,
            name: config.name.clone(),
            uuid: match config.uuid.as_str() {
                "" => "00000000-0000-0000-0000-000000000000".to_owned(),
                uuid => uuid.to_owned(),
            },
            ..Process::default()
        };
        let before = self.images.clone();
        let locked = self.locked(None);
        let mut world = World {
            images: &mut self.images,
            locked: &locked,
            job_requests: 0,
            job_error: None,
        };
        for disk in &config.disks {
            if let Err(trouble) = open_disk(&mut process, &mut world, disk) {
                self.images = before;
                return Err(SimError(trouble.to_string()));
            }
        }
        Ok(process)
    }

    /// The images that guests have open, but for the guest at one socket.
    fn locked(&self, but: Option<&Path>) -> Vec<(String, bool)> {
        self.guests
            .iter()
            .filter(|(socket, _)| Some(socket.as_path()) != but)
            .filter_map(|(_, guest)| guest.process())
            .flat_map(Process::locks)
            .collect()
    }

    fn end(&mut self, socket: &Path, in_order: bool) {
        let Some(guest) = self.guests.get_mut(socket) else {
            return;
        };
        let Power::Running(process) = &mut guest.power else {
            return;
        };
        guest.tops = process.tops();
        if in_order {
            process.end(&mut self.images);
        }
        guest.power = if in_order { Power::Off } else { Power::Killed };
        guest.held = false;
        guest.hung = false;
    }

    /// Does something with a running guest's process.
    fn with<T>(
        &mut self,
        socket: &Path,
        work: impl FnOnce(&mut Process, &mut World<'_>) -> T,
    ) -> Option<T> {
        let locked = self.locked(Some(socket));
        let Power::Running(process) = &mut self.guests.get_mut(socket)?.power else {
            return None;
        };
        let mut world = World {
            images: &mut self.images,
            locked: &locked,
            job_requests: self.job_requests,
            job_error: self.job_error.clone(),
        };
        Some(work(process, &mut world))
    }
}

/// Opens the images of a disk, the lowest first.
fn open_disk(
    process: &mut Process,
    world: &mut World<'_>,
    disk: &SimGuestDisk,
) -> Result<(), Trouble> {
    let mut layers = vec![(disk.node.clone(), disk.image.clone())];
    for node in &disk.below {
        let (_, above) = layers.last().expect("the top is a layer");
        let Some(path) = world
            .images
            .get(above)
            .and_then(|image| image.backing.clone())
        else {
            break;
        };
        layers.push((node.clone(), path));
    }
    let mut backing = BackingNode::Image;
    for (at, (node, path)) in layers.into_iter().enumerate().rev() {
        let image = world.images.get(&path);
        let opening = Opening {
            node: node.clone(),
            format: image.map_or(ImageFormat::Raw, |image| image.format),
            file: FileNode::Inline {
                node: Some(format!("{node}-file")),
                path,
            },
            backing: std::mem::replace(&mut backing, BackingNode::Named(node)),
            read_only: at > 0,
            owned: true,
        };
        process.open(world, opening)?;
    }
    process.devices.push(Device {
        id: disk.device.clone(),
        root: disk.node.clone(),
    });
    Ok(())
}

impl Process {
    /// The image on top of each disk.
    fn tops(&self) -> BTreeMap<String, String> {
        self.devices
            .iter()
            .filter_map(|device| {
                let top = self.node(self.below_filters(&device.root))?;
                Some((device.id.clone(), top.path.clone()))
            })
            .collect()
    }
}
