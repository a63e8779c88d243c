//! Rows 19 to 21: what a writer waits while others read, a fleet of domains, and verification.

use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use momentlog::core::{Action, Command, CreateCheckpoint, DomainUuid, MomentName};
use momentlog::store::{FileStore, RealDisk};
use momentlog::{Connection, Options};

use crate::Failed;
use crate::command::{create, store};
use crate::measure::{Effort, Table, Target, median};
use crate::state::{open, resident_bytes};

/// Subscribers of row 19.
const SUBSCRIBERS: usize = 100;

/// Checkpoints of each domain of row 20.
const EACH: i64 = 10;

pub(crate) fn rows(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    waiting(&dir.join("beside"), effort, table)?;
    fleet(&dir.join("fleet"), effort, table)?;
    verifying(&dir.join("beside"), effort, table)
}

/// What others do until they are stopped.
type Others<'a> = &'a (dyn Fn(&AtomicBool) -> Result<(), Failed> + Sync);

/// Row 19: the longest wait of one writer, alone and beside others that read.
fn waiting(path: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let connection = &store(path, effort.many)?;
    let mut next = effort.many as u64;
    let many = effort.many;
    let beside: [(String, Others<'_>); 3] = [
        (format!("{many} records are read"), &|stop| {
            while !stop.load(Ordering::Relaxed) {
                for entry in connection.history(None)?.entries() {
                    std::hint::black_box(entry?);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
            Ok(())
        }),
        (format!("an image of {many} is made"), &|stop| {
            while !stop.load(Ordering::Relaxed) {
                connection.make_image()?;
            }
            Ok(())
        }),
        (format!("{SUBSCRIBERS} subscribers follow"), &|stop| {
            let head = connection.view().head();
            std::thread::scope(|scope| {
                let follow = move || -> Result<(), Failed> {
                    let mut subscription = connection.subscribe(head);
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::black_box(subscription.next(Duration::from_millis(50))?);
                    }
                    Ok(())
                };
                let threads: Vec<_> = (0..SUBSCRIBERS).map(|_| scope.spawn(follow)).collect();
                let mut threads = threads.into_iter();
                threads.try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
            })
        }),
    ];
    for (what, work) in beside {
        let (mut alone, mut busy) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds.min(3) {
            alone.push(longest(connection, &mut next, effort.round)?);
            let stop = AtomicBool::new(false);
            let waited = std::thread::scope(|scope| {
                let others = scope.spawn(|| work(&stop));
                // They are under way.
                std::thread::sleep(Duration::from_millis(100));
                let waited = longest(connection, &mut next, effort.round);
                stop.store(true, Ordering::Relaxed);
                others.join().map_err(|_| "a thread panicked")??;
                waited
            })?;
            busy.push(waited);
        }
        let most = |waits: &[f64]| waits.iter().copied().fold(0.0, f64::max);
        let (alone, busy) = (most(&alone), most(&busy));
        let work = format!(
            "19 longest wait while {what} ({:.1} ms, alone {:.1})",
            busy * 1e3,
            alone * 1e3
        );
        let target = Target {
            peer: "alone and 5 ms",
            ratio: 1.0,
        };
        table.relate(&work, 1.0 / busy, 1.0 / (alone + 0.005), target);
    }
    Ok(())
}

/// Executes commands one after the other, and returns the longest time that one of them took, in seconds.
fn longest(connection: &Connection, next: &mut u64, time: Duration) -> Result<f64, Failed> {
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < time {
        let command = create(*next);
        *next += 1;
        let asked = Instant::now();
        connection.execute(&command)?;
        longest = longest.max(asked.elapsed());
    }
    Ok(longest.as_secs_f64())
}

/// Row 20: domains with a definition of 4 KiB of their own and ten checkpoints each: made, opened, kept.
fn fleet(path: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let domains = (effort.many / 50).max(100);
    let begun = Instant::now();
    let connection = make_fleet(path, domains)?;
    let made = begun.elapsed().as_secs_f64();
    // In a process of its own, whose memory nothing has used before.
    let done = Process::new(std::env::current_exe()?)
        .args(["--fleet-memory", &domains.to_string()])
        .output()?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
    }
    let memory: f64 = String::from_utf8_lossy(&done.stdout).trim().parse()?;
    connection.make_image()?;
    drop(connection);
    let mut opened = Vec::new();
    for _ in 0..effort.rounds.min(3) {
        let begun = Instant::now();
        std::hint::black_box(open(path)?);
        opened.push(begun.elapsed().as_secs_f64());
    }
    let image = std::fs::metadata(crate::state::newest_image(path)?)?.len();
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52")]
    let (count, image) = (domains as f64, image as f64);
    let work = format!(
        "20 fleet of {domains} domains made ({:.0} a second)",
        count / made
    );
    let bound = |peer| Target { peer, ratio: 1.0 };
    table.relate(&work, count / made, 100.0, bound("100 domains a second"));
    let opened = median(&opened);
    let work = format!("20 fleet opened from its image ({:.0} ms)", opened * 1e3);
    table.relate(&work, count / opened, count, bound("1 s"));
    let work = format!(
        "20 fleet, memory a domain ({:.1} KiB)",
        memory / count / 1024.0
    );
    let allowed = bound("three times its definition");
    table.relate(&work, count / memory, 1.0 / (3.0 * 4096.0), allowed);
    let work = format!(
        "20 fleet, image a domain ({:.1} KiB)",
        image / count / 1024.0
    );
    let allowed = bound("twice its definition");
    table.relate(&work, count / image, 1.0 / (2.0 * 4096.0), allowed);
    Ok(())
}

fn make_fleet(path: &Path, domains: usize) -> Result<Connection, Failed> {
    let files = FileStore::new(RealDisk::new(path));
    let connection = Connection::over(Box::new(files), Options::default());
    for number in 0..domains {
        let domain = connection.define_domain_xml(&definition(number))?;
        let commands: Vec<Command> = (0..EACH)
            .map(|night| nightly(domain.uuid(), night))
            .collect();
        connection.execute_all(&commands)?;
    }
    Ok(connection)
}

/// Returns how many bytes this process grows by when it makes a fleet.
pub(crate) fn fleet_memory(domains: usize) -> Result<u64, Failed> {
    let scratch = tempfile::tempdir()?;
    let before = resident_bytes();
    let connection = make_fleet(&scratch.path().join("store"), domains)?;
    let after = resident_bytes();
    drop(connection);
    Ok(after.saturating_sub(before))
}

/// A domain whose XML has 4 KiB that no other domain has.
fn definition(number: usize) -> String {
    let mut devices = String::new();
    for slot in 0..30 {
        devices += &format!(
            "<hostdev mode='subsystem' type='usb'><source><address bus='{number}' device='{slot}'/></source>\
             <alias name='ua-{number}-{slot}-of-the-fleet'/></hostdev>"
        );
    }
    format!(
        "<domain type='kvm'><name>vm-{number}</name><memory unit='MiB'>512</memory><os><type>hvm</type></os><devices>\
         <disk type='file'><source file='/images/{number}.qcow2'/><target dev='vda'/></disk>{devices}</devices></domain>"
    )
}

fn nightly(domain: DomainUuid, night: i64) -> Command {
    let create = CreateCheckpoint {
        name: MomentName::new(&format!("night-{night}")),
        description: None,
        now: 1_700_000_000 + night,
        disks: Vec::new(),
    };
    Command {
        domain,
        action: Action::CreateCheckpoint(create),
    }
}

/// Row 21: `verify` of a log, with its image, against `sha256sum` of the same files, all in the cache.
fn verifying(path: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let files: Vec<_> = std::fs::read_dir(path)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "seg" || end == "img")
        })
        .collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds.clamp(2, 3) {
        let begun = Instant::now();
        let done = Process::new("sha256sum").args(&files).output()?;
        if !done.status.success() {
            return Err("sha256sum has failed".into());
        }
        theirs.push(1.0 / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let disk = Arc::new(RealDisk::new(path));
        let found = momentlog::verify_disk(disk, None, None, &mut |_| {})?;
        if found.verdict().exit_status(false) != 0 {
            return Err(format!("{found:?}").into());
        }
        ours.push(1.0 / begun.elapsed().as_secs_f64());
    }
    let target = Target {
        peer: "sha256sum of the same files",
        ratio: 0.5,
    };
    let work = format!("21 verify {} records and their images", effort.many);
    table.rounds(&work, &ours, &theirs, target);
    Ok(())
}
