//! Row 27: questions about one record, one time or one domain, against the replay of the whole log.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;
use std::time::Instant;

use momentlog::core::{
    Action, Command, CreateCheckpoint, DomainUuid, Extent, MomentKind, MomentName,
};
use momentlog::store::{FileStore, RealDisk, Seq, Store};
use momentlog::xml::read_domain;
use momentlog::{Connection, Options};

use crate::Failed;
use crate::measure::{Effort, Table, Target, median};
use crate::state::is_image;

/// Live checkpoints of each domain.
const LIVE: u64 = 14;

/// What is asked, the words of its row, and how long it may take and how much memory it may use: in seconds and MiB, of a
/// million records of a thousand domains, and of one domain.
type Question = (&'static str, &'static str, [(f64, f64); 2]);

const QUESTIONS: [Question; 7] = [
    ("scan", "scan of all facts", [(0.15, 8.0), (0.15, 8.0)]),
    ("locate", "a time is located", [(0.05, 8.0), (0.05, 8.0)]),
    ("entry", "one entry", [(0.25, 16.0), (0.25, 16.0)]),
    ("last", "the last entry", [(0.25, 16.0), (0.25, 16.0)]),
    (
        "history",
        "history of one domain",
        [(0.2, 64.0), (1.0, 64.0)],
    ),
    (
        "entries",
        "entries of one domain",
        [(0.2, 64.0), (1.0, 64.0)],
    ),
    ("view", "one domain at a record", [(0.2, 64.0), (1.0, 64.0)]),
];

pub(crate) fn rows(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let thousand = (effort.many / 1000).max(2);
    for (column, domains) in [thousand, 1].into_iter().enumerate() {
        let path = dir.join(format!("look-{domains}"));
        make(&path, domains, effort.many)?;
        remove_images(&path)?;
        let of = match domains {
            1 => "one domain".to_owned(),
            domains => format!("{domains} domains"),
        };
        let mut replay = Vec::new();
        for _ in 0..effort.rounds.min(3) {
            replay.push(asked(&path, "replay")?);
        }
        let replayed = median(&replay.iter().map(|(time, _)| *time).collect::<Vec<_>>());
        let most = replay.iter().map(|(_, memory)| *memory).fold(0.0, f64::max);
        println!(
            "27 replay of {} records of {of}: {:.0} ms, {most:.0} MiB",
            effort.many,
            replayed * 1e3
        );
        for (question, words, limits) in QUESTIONS {
            let mut answers = Vec::new();
            for _ in 0..effort.rounds.min(3) {
                answers.push(asked(&path, question)?);
            }
            let times: Vec<f64> = answers.iter().map(|(time, _)| *time).collect();
            let memory = answers
                .iter()
                .map(|(_, memory)| *memory)
                .fold(0.0, f64::max);
            let (time, (time_max, memory_max)) = (median(&times), limits[column]);
            let work = format!(
                "27 {words}, {} records of {of} ({:.1} ms, {memory:.0} MiB; replay {:.0} ms)",
                effort.many,
                time * 1e3,
                replayed * 1e3
            );
            let peer = if time_max < 1.0 {
                "50 to 250 ms, 8 to 64 MiB"
            } else {
                "1 s, 64 MiB"
            };
            let ratio = 1.0;
            // What is worse of the two, time or memory, is what counts.
            let (ours, theirs) = if time / time_max > memory / memory_max {
                (1.0 / time, 1.0 / time_max)
            } else {
                (1.0 / memory, 1.0 / memory_max)
            };
            table.relate(&work, ours, theirs, Target { peer, ratio });
        }
    }
    Ok(())
}

pub(crate) fn uuid(number: usize) -> DomainUuid {
    let mut bytes = [0x77; 16];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    DomainUuid::from_bytes(bytes)
}

/// Makes a log of nightly checkpoints, of which each domain keeps the last few, with the images that its writer leaves.
pub(crate) fn make(path: &Path, domains: usize, records: usize) -> Result<(), Failed> {
    let files = FileStore::new(RealDisk::new(path));
    let connection = Connection::over(Box::new(files), Options::default());
    let mut batch = Vec::new();
    for number in 0..domains {
        let xml = format!(
            "<domain type='kvm'><name>vm-{number}</name><memory>1048576</memory><os><type>hvm</type></os><devices>\
             <disk type='file'><source file='/images/{number}.qcow2'/><target dev='vda'/></disk></devices></domain>"
        );
        let def = read_domain(&xml, || uuid(number))?;
        let domain = def.uuid;
        let action = Action::Define(Arc::new(def));
        batch.push(Command { domain, action });
    }
    let mut made = batch.len() + 1;
    let mut night = 0;
    while made < records {
        for number in 0..domains {
            let name = |night: u64| MomentName::new(&format!("night-{night}"));
            let domain = uuid(number);
            let create = CreateCheckpoint {
                name: name(night),
                description: None,
                now: 1_700_000_000 + i64::try_from(night)?,
                disks: Vec::new(),
            };
            let action = Action::CreateCheckpoint(create);
            batch.push(Command { domain, action });
            if let Some(oldest) = night.checked_sub(LIVE) {
                let name = name(oldest).ok_or("a name")?;
                let (kind, extent) = (MomentKind::Checkpoint, Extent::One);
                let action = Action::Delete { kind, name, extent };
                batch.push(Command { domain, action });
                made += 1;
            }
            made += 1;
        }
        night += 1;
        if batch.len() >= 10_000 || made >= records {
            connection.execute_all(&batch)?;
            batch.clear();
        }
    }
    Ok(connection.close()?)
}

pub(crate) fn remove_images(path: &Path) -> Result<(), Failed> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_image) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Asks in a process of its own; returns how many seconds it took, and by how many MiB the process grew.
fn asked(path: &Path, question: &str) -> Result<(f64, f64), Failed> {
    let done = Process::new(std::env::current_exe()?)
        .arg("--look")
        .arg(path)
        .arg(question)
        .output()?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
    }
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let (time, memory) = text.trim().split_once(' ').ok_or("two numbers")?;
    Ok((time.parse()?, memory.parse()?))
}

/// Asks one question of a log whose images were removed, and returns seconds and MiB.
pub(crate) fn look(path: &PathBuf, question: &str) -> Result<String, Failed> {
    let files = || FileStore::new(RealDisk::new(path));
    let options = Options {
        read_only: true,
        ..Options::default()
    };
    let connection = Connection::over(Box::new(files()), options);
    let end = files()
        .last_where(&mut |_| true)?
        .ok_or("the log has records")?
        .seq
        .get();
    let middle = Seq::new(end / 2 + 1).ok_or("a record")?;
    let time = connection.entry(middle)?.ok_or("an entry")?.recorded;
    let before = memory("VmRSS:")?;
    let begun = Instant::now();
    match question {
        "replay" => drop(black_box(connection.refresh()?)),
        "scan" => {
            let mut count = 0_u64;
            files().scan(None, &mut |outline| {
                count += black_box(outline.facts.len() as u64).min(1);
                ControlFlow::Continue(())
            })?;
            if count != end {
                return Err(format!("{count} of {end} records").into());
            }
        }
        "locate" => drop(black_box(connection.locate(&momentlog::Point::Time(time))?)),
        "entry" => drop(black_box(connection.entry(middle)?)),
        "last" => drop(black_box(
            connection.entry(Seq::new(end).ok_or("a record")?)?,
        )),
        "history" => {
            for step in connection.history_of(uuid(0))? {
                black_box(step?);
            }
        }
        "entries" => {
            let log = momentlog::engine::Log::over(Box::new(files()), Options::default());
            for entry in log.history_of(uuid(0))?.entries() {
                black_box(entry?);
            }
        }
        "view" => drop(black_box(connection.view_of_domain(uuid(0), middle)?)),
        _ => return Err("no such question".into()),
    }
    let took = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 bytes")]
    let grown = memory("VmHWM:")?.saturating_sub(before) as f64;
    Ok(format!("{took} {}", grown / f64::from(1 << 20)))
}

/// Bytes of memory of this process, by their name in its status.
fn memory(name: &str) -> Result<u64, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = number
        .ok_or("the kernel says how much memory there is")?
        .parse()?;
    Ok(kib * 1024)
}
