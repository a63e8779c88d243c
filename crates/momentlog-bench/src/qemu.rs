//! Rows 22 to 26: checkpoints and backups of a real QEMU, beside the bare requests and libvirt's qemu driver.

mod guest;
mod libvirt;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use momentlog::core::{Change, HypervisorRun, MomentChange};
use momentlog::store::{Draft, FileStore, LogId, RealDisk, Store as _, Text};
use momentlog::{
    BackupBeginFlags, CheckpointCreateFlags, CheckpointDeleteFlags, Connection, Domain, Options,
};
use momentlog_qemu::{AskError, EnterError, Hypervisor, Monitor, Qemu, QmpSockets, Request};
use serde_json::{Value, json};

use crate::Failed;
use crate::measure::{Effort, Table, Target, median};
use guest::{Bare, DISK_LEN, Guest, node, target};

/// What a checkpoint of two disks may take besides its transaction and its records.
const BESIDES: Duration = Duration::from_micros(2500);

/// Bytes of each disk of row 24 that are written.
const WRITTEN: u64 = 4 << 20;

/// How often it is asked whether a copy has ended.
const LOOK: Duration = Duration::from_millis(1);

/// Processes of row 25.
const PROCESSES: usize = 20;

/// How long a process of row 25 waits for the guest.
const LOCK_WAIT: Duration = Duration::from_secs(30);

pub(crate) fn rows(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    if let Some(program) = guest::missing_program() {
        table.missing("22 to 26", &format!("{program} is not installed"));
        return Ok(());
    }
    checkpoint(&dir.join("qemu-2"), effort, table, 2)?;
    checkpoint(&dir.join("qemu-16"), effort, table, 16)?;
    backup(&dir.join("qemu-backup"), effort, table)?;
    many(&dir.join("qemu-many"), effort, table)?;
    beside_libvirt(dir, effort, table)
}

/// A domain that is attached to a guest, with what was asked of it.
struct Attached {
    connection: Connection,
    domain: Domain,
    asked: Arc<Asked>,
}

impl Attached {
    fn new(dir: &Path, guest: &Guest) -> Result<Attached, Failed> {
        let asked = Arc::new(Asked::default());
        let connection = open(dir, Qemu::over(Arc::new(Counting(asked.clone()))));
        let domain = connection.define_domain_xml(&guest.definition())?;
        let socket = guest.socket().display().to_string();
        domain.attach(Qemu::NAME, &socket, false)?;
        Ok(Attached {
            connection,
            domain,
            asked,
        })
    }
}

/// Opens the store beside the images of a guest.
fn open(dir: &Path, qemu: Qemu) -> Connection {
    let files = FileStore::new(RealDisk::new(dir.join("store")));
    let options = Options {
        lock_wait: LOCK_WAIT,
        ..Options::default()
    };
    Connection::over(Box::new(files), options).with_drivers([Arc::new(qemu) as Arc<_>])
}

fn create(domain: &Domain, name: &str) -> Result<momentlog::Checkpoint, momentlog::Error> {
    let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
    domain.checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE)
}

/// Rows 22 and 23: a checkpoint, beside the transaction that it is for QEMU and two records of the size of its own.
fn checkpoint(dir: &Path, effort: Effort, table: &mut Table, disks: usize) -> Result<(), Failed> {
    let guest = Guest::start(dir, disks)?;
    let attached = Attached::new(dir, &guest)?;
    let mut appends = Appends::new(dir)?;
    let (mut ours, mut entered, mut bare, mut records) = (vec![], vec![], vec![], vec![]);
    let mut asked = [0; 2];
    // The first one warms up.
    for number in 0..=effort.rounds * 20 {
        attached.asked.count_anew();
        let begun = Instant::now();
        let made = create(&attached.domain, "made")?;
        ours.push(begun.elapsed().as_secs_f64());
        asked = attached.asked.counts();
        if number == 0 {
            appends.learn(dir)?;
        }
        made.delete(CheckpointDeleteFlags::NONE)?;

        let action = |action: &str, data: &dyn Fn(String) -> Value| -> Vec<Value> {
            let nodes = (0..disks).map(node);
            nodes
                .map(|node| json!({ "type": action, "data": data(node) }))
                .collect()
        };
        let add = action(
            "block-dirty-bitmap-add",
            &|node| json!({ "node": node, "name": "bare", "persistent": true, "disabled": false }),
        );
        let remove = action(
            "block-dirty-bitmap-remove",
            &|node| json!({ "node": node, "name": "bare" }),
        );
        let begun = Instant::now();
        let mut monitor = guest.bare()?;
        let connected = Instant::now();
        monitor.transaction(&add)?;
        bare.push(connected.elapsed().as_secs_f64());
        entered.push(begun.elapsed().as_secs_f64());
        monitor.transaction(&remove)?;

        records.push(appends.two()?.as_secs_f64());
    }
    let times = [&ours, &entered, &bare, &records].map(|times| &times[1..]);
    let [ours, entered, bare, records] = times;
    let [requests, writes] = asked;
    let row = if disks == 2 { 22 } else { 23 };
    let work = format!(
        "{row} checkpoint of {disks} disks ({}; {requests} requests in {writes} writes; bare {}; with connecting {}; 2 records {})",
        shown(ours),
        shown(bare),
        shown(entered),
        shown(records)
    );
    if disks == 2 {
        let allowed = bare.iter().zip(records);
        let allowed = allowed.map(|(bare, records)| bare + records + BESIDES.as_secs_f64());
        let target = Target {
            peer: "transaction, 2 records and 2.5 ms",
            ratio: 1.0,
        };
        table.rounds(
            &work,
            &rates(ours),
            &rates(&allowed.collect::<Vec<_>>()),
            target,
        );
    } else {
        let target = Target {
            peer: "bare transaction",
            ratio: 0.5,
        };
        table.rounds(&work, &rates(ours), &rates(bare), target);
    }
    Ok(())
}

/// Row 26: the same call on libvirt's qemu driver, over its socket, by a client that stays connected.
fn beside_libvirt(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    const DISKS: usize = 2;
    let mut libvirt = match libvirt::Libvirt::start(&dir.join("qemu-libvirt"), DISKS) {
        Ok(libvirt) => libvirt,
        Err(why) => {
            table.missing("26", &format!("libvirt's qemu driver is not there: {why}"));
            return Ok(());
        }
    };
    let dir = dir.join("qemu-beside");
    let guest = Guest::start(&dir, DISKS)?;
    let attached = Attached::new(&dir, &guest)?;
    let (mut ours, mut theirs) = (vec![], vec![]);
    // The first one warms up.
    for _ in 0..=effort.rounds * 20 {
        let begun = Instant::now();
        let made = create(&attached.domain, "made")?;
        ours.push(begun.elapsed().as_secs_f64());
        made.delete(CheckpointDeleteFlags::NONE)?;
        theirs.push(libvirt.checkpoint()?);
    }
    let (ours, theirs) = (&ours[1..], &theirs[1..]);
    let work = format!(
        "26 checkpoint of {DISKS} disks ({}; theirs {})",
        shown(ours),
        shown(theirs)
    );
    let target = Target {
        peer: "libvirt's qemu driver",
        ratio: 2.0,
    };
    table.rounds(&work, &rates(ours), &rates(theirs), target);
    Ok(())
}

/// The median, and the least, which other work on the machine disturbs least.
fn shown(times: &[f64]) -> String {
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    format!("{:.1} ms, least {:.1}", median(times) * 1e3, least * 1e3)
}

fn rates(times: &[f64]) -> Vec<f64> {
    times.iter().map(|time| 1.0 / time).collect()
}

/// A store of the same kind that takes records as long as those of a checkpoint.
struct Appends {
    store: FileStore,
    lengths: [usize; 2],
}

impl Appends {
    fn new(dir: &Path) -> Result<Appends, Failed> {
        let mut store = FileStore::new(RealDisk::new(dir.join("records")));
        store.acquire(Duration::ZERO)?;
        Ok(Appends {
            store,
            lengths: [0; 2],
        })
    }

    /// Takes the lengths of the last two records of the log.
    fn learn(&mut self, dir: &Path) -> Result<(), Failed> {
        let mut log = FileStore::new(RealDisk::new(dir.join("store")));
        log.read(None, &mut |record| {
            let texts = record.texts.iter().map(|text| match text {
                Text::Plain { bytes, .. } => bytes.len(),
                Text::Erased { length, .. } => *length as usize,
            });
            let length = record.facts.len() + texts.sum::<usize>();
            self.lengths = [self.lengths[1], length];
            Ok(())
        })?;
        Ok(())
    }

    fn two(&mut self) -> Result<Duration, Failed> {
        let begun = Instant::now();
        for length in self.lengths {
            let draft = Draft {
                facts: vec![7; length],
                texts: Vec::new(),
            };
            let head = self.store.head();
            self.store
                .append(LogId(*b"log of the bench"), head, vec![draft])?;
        }
        Ok(begun.elapsed())
    }
}

/// Row 24: a push backup of two disks until it is recorded as done, beside the requests that it is for QEMU.
fn backup(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    const DISKS: usize = 2;
    let guest = Guest::start(dir, DISKS)?;
    for disk in 0..DISKS {
        guest.write(disk, WRITTEN)?;
    }
    let attached = Attached::new(dir, &guest)?;
    let dir = dir.canonicalize()?;
    let targets: Vec<PathBuf> = (0..DISKS)
        .map(|disk| dir.join(format!("{disk}.copy")))
        .collect();
    let disks = targets.iter().enumerate().map(|(disk, path)| {
        format!(
            "<disk name='{}' backup='yes' type='file'><target file='{}'/><driver type='qcow2'/></disk>",
            target(disk),
            path.display()
        )
    });
    let xml = format!(
        "<domainbackup><disks>{}</disks></domainbackup>",
        disks.collect::<String>()
    );
    let domain = &attached.domain;
    let (mut ours, mut bare) = (vec![], vec![]);
    let mut asked = [0; 2];
    for _ in 0..=effort.rounds * 3 {
        attached.asked.count_anew();
        let begun = Instant::now();
        domain.backup_begin(&xml, None, BackupBeginFlags::NONE)?;
        while domain.job_info()?.is_some() {
            std::thread::sleep(LOOK);
        }
        ours.push(begun.elapsed().as_secs_f64());
        asked = attached.asked.counts();
        let backups = domain.backups()?;
        let end = backups.last().and_then(|backup| backup.end.as_ref());
        if !end.is_some_and(|end| end.well) {
            return Err(format!("the backup has failed: {end:?}").into());
        }
        remove(&targets)?;

        let begun = Instant::now();
        bare_backup(&mut guest.bare()?, &targets, &dir)?;
        bare.push(begun.elapsed().as_secs_f64());
        remove(&targets)?;
    }
    let (ours, bare) = (&ours[1..], &bare[1..]);
    let [requests, writes] = asked;
    let work = format!(
        "24 push backup of {DISKS} disks, {} of {} MiB written ({}; {requests} requests in {writes} writes; bare {})",
        WRITTEN >> 20,
        DISK_LEN >> 20,
        shown(ours),
        shown(bare)
    );
    let target = Target {
        peer: "bare requests",
        ratio: 1.0 / 1.2,
    };
    table.rounds(&work, &rates(ours), &rates(bare), target);
    Ok(())
}

fn remove(files: &[PathBuf]) -> Result<(), Failed> {
    Ok(files.iter().try_for_each(std::fs::remove_file)?)
}

/// Copies the disks to new images, closes these, and makes them durable.
fn bare_backup(monitor: &mut Bare, targets: &[PathBuf], dir: &Path) -> Result<(), Failed> {
    let mut actions = Vec::new();
    for (disk, path) in targets.iter().enumerate() {
        let [format, storage, job] = copy_names(disk);
        File::create_new(path)?;
        monitor.ask(
            "blockdev-add",
            json!({ "driver": "file", "filename": path, "node-name": storage }),
        )?;
        let options = json!({
            "driver": "qcow2", "file": storage, "size": DISK_LEN, "cluster-size": 65536
        });
        monitor.ask(
            "blockdev-create",
            json!({ "job-id": job, "options": options }),
        )?;
        wait_for(monitor, &[&job])?;
        monitor.ask("job-dismiss", json!({ "id": job }))?;
        monitor.ask(
            "blockdev-add",
            json!({ "driver": "qcow2", "file": storage, "node-name": format, "backing": null }),
        )?;
        actions.push(json!({ "type": "blockdev-backup", "data": {
            "device": node(disk), "job-id": job, "target": format, "sync": "full",
            "auto-finalize": true, "auto-dismiss": false
        } }));
    }
    monitor.transaction(&actions)?;
    let names: Vec<_> = (0..targets.len()).map(copy_names).collect();
    let jobs: Vec<&str> = names.iter().map(|[.., job]| &**job).collect();
    wait_for(monitor, &jobs)?;
    for ([format, storage, _], path) in names.iter().zip(targets) {
        let options = json!([{
            "driver": "qcow2", "file": storage, "node-name": format, "backing": null, "read-only": true
        }]);
        monitor.ask("blockdev-reopen", json!({ "options": options }))?;
        for node in [format, storage] {
            monitor.ask("blockdev-del", json!({ "node-name": node }))?;
        }
        File::open(path)?.sync_all()?;
    }
    File::open(dir)?.sync_all()?;
    for job in jobs {
        monitor.ask("job-dismiss", json!({ "id": job }))?;
    }
    Ok(())
}

/// The nodes that a disk is copied to, of the format and of the file, and the job.
fn copy_names(disk: usize) -> [String; 3] {
    ["f", "s", "job"].map(|end| format!("copy{disk}{end}"))
}

/// Waits until these jobs have ended well.
fn wait_for(monitor: &mut Bare, jobs: &[&str]) -> Result<(), Failed> {
    loop {
        let found = monitor.ask("query-jobs", Value::Null)?;
        let found = found.as_array().into_iter().flatten();
        let ended = found.filter(|job| {
            job["status"] == "concluded" && jobs.iter().any(|name| job["id"] == *name)
        });
        let ended: Vec<_> = ended.collect();
        if let Some(job) = ended.iter().find(|job| job.get("error").is_some()) {
            return Err(format!("a job has failed: {job}").into());
        }
        if ended.len() == jobs.len() {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

/// Row 25: processes that make checkpoints of one guest at once.
fn many(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let guest = Guest::start(dir, 2)?;
    let attached = Attached::new(dir, &guest)?;
    attached.connection.release();
    let time = effort.round * 5;
    let spawn = |name: String| {
        Process::new(std::env::current_exe()?)
            .arg("--checkpoints")
            .arg(dir.join("store"))
            .args([name, time.as_millis().to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    let begun = Instant::now();
    let processes = (0..PROCESSES).map(|number| spawn(format!("p{number}")));
    let processes = processes.collect::<Result<Vec<_>, _>>()?;
    let (mut acknowledged, mut longest) = (BTreeSet::new(), 0.0_f64);
    for (number, process) in processes.into_iter().enumerate() {
        let done = process.wait_with_output()?;
        let said = String::from_utf8(done.stdout)?;
        let parsed = said.trim().split_once(' ');
        let Some((made, waited)) = parsed.filter(|_| done.status.success()) else {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
        };
        acknowledged.extend((0..made.parse::<usize>()?).map(|made| format!("p{number}-{made}")));
        longest = longest.max(waited.parse()?);
    }
    let elapsed = begun.elapsed().as_secs_f64();
    check_log(&attached.connection, &acknowledged)?;
    check_bitmaps(&guest, acknowledged.len())?;
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52")]
    let rate = acknowledged.len() as f64 / elapsed;
    let work = format!(
        "25 longest wait of {PROCESSES} processes that make {} checkpoints of 2 disks ({longest:.2} s; {rate:.0} a second)",
        acknowledged.len(),
    );
    let target = Target {
        peer: "the wait for a guest, 30 s",
        ratio: 1.0,
    };
    let allowed = 1.0 / LOCK_WAIT.as_secs_f64();
    table.relate(&work, 1.0 / longest, allowed, target);
    Ok(())
}

/// Checks that the log holds the acknowledged checkpoints and no others, one in a record.
fn check_log(connection: &Connection, acknowledged: &BTreeSet<String>) -> Result<(), Failed> {
    let mut found = BTreeSet::new();
    for entry in connection.history(None)?.entries() {
        let entry = entry?;
        let made = entry.events.iter().filter_map(|event| match &event.change {
            Change::Checkpoint(MomentChange::Created { name, .. }) => Some(name.to_string()),
            _ => None,
        });
        let made: Vec<String> = made.collect();
        if made.len() > 1 {
            return Err(format!("one record has made {made:?}").into());
        }
        found.extend(made);
    }
    if found != *acknowledged {
        let (found, acknowledged) = (found.len(), acknowledged.len());
        return Err(format!("{acknowledged} acknowledged, but {found} in the log").into());
    }
    Ok(())
}

/// Checks that each disk has a bitmap for each checkpoint, and nothing else.
fn check_bitmaps(guest: &Guest, checkpoints: usize) -> Result<(), Failed> {
    let nodes = guest
        .bare()?
        .ask("query-named-block-nodes", json!({ "flat": true }))?;
    for disk in [0, 1].map(node) {
        let mut nodes = nodes.as_array().into_iter().flatten();
        let found = nodes.find(|found| found["node-name"] == *disk);
        let bitmaps = found.and_then(|found| found["dirty-bitmaps"].as_array());
        let bitmaps = bitmaps.map_or(0, Vec::len);
        if bitmaps != checkpoints {
            return Err(format!("{disk}: {bitmaps} bitmaps, {checkpoints} checkpoints").into());
        }
    }
    Ok(())
}

/// Makes checkpoints of the guest that is attached in a store until the time is over, in this process of row 25. Returns how
/// many, and the longest time that one of them took, in seconds.
pub(crate) fn checkpoints(store: &Path, name: &str, time: Duration) -> Result<String, Failed> {
    let dir = store.parent().ok_or("a store lies in a directory")?;
    let connection = open(dir, Qemu::default());
    let domain = connection.lookup_domain_by_name("bench")?;
    let (begun, mut made, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while begun.elapsed() < time {
        let asked = Instant::now();
        create(&domain, &format!("{name}-{made}"))?;
        longest = longest.max(asked.elapsed());
        made += 1;
        // Others write to the log in between.
        connection.release();
    }
    Ok(format!("{made} {:.6}", longest.as_secs_f64()))
}

/// How often a hypervisor was asked.
#[derive(Debug, Default)]
struct Asked {
    requests: AtomicU64,
    writes: AtomicU64,
}

impl Asked {
    fn count_anew(&self) {
        self.requests.store(0, Ordering::Relaxed);
        self.writes.store(0, Ordering::Relaxed);
    }

    fn count(&self, requests: usize) {
        self.requests.fetch_add(requests as u64, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests, and writes in which they were sent. What connecting takes is not counted.
    fn counts(&self) -> [u64; 2] {
        [&self.requests, &self.writes].map(|count| count.load(Ordering::Relaxed))
    }
}

/// The sockets of QEMU, counting.
#[derive(Debug)]
struct Counting(Arc<Asked>);

impl Hypervisor for Counting {
    fn enter(&self, socket: &Path, wait: Duration) -> Result<Box<dyn Monitor>, EnterError> {
        let monitor = QmpSockets::default().enter(socket, wait)?;
        let asked = self.0.clone();
        Ok(Box::new(CountingMonitor { monitor, asked }))
    }
}

#[derive(Debug)]
struct CountingMonitor {
    monitor: Box<dyn Monitor>,
    asked: Arc<Asked>,
}

impl Monitor for CountingMonitor {
    fn run(&self) -> Option<HypervisorRun> {
        self.monitor.run()
    }

    fn ask(&mut self, request: &Request) -> Result<Value, AskError> {
        self.asked.count(1);
        self.monitor.ask(request)
    }

    fn ask_all(&mut self, requests: &[Request]) -> Result<Vec<Result<Value, AskError>>, AskError> {
        self.asked.count(requests.len());
        self.monitor.ask_all(requests)
    }
}
