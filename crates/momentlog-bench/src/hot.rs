//! The hottest operations, one at a time: for a profiler, and to count their instructions.
//!
//! Counts say the same on a noisy machine as on a quiet one. Each operation runs N times and 2 N times, so that what
//! comes before it cancels out.

use std::hint::black_box;
use std::path::Path;
use std::process::Command as Process;

use momentlog::core::{CheckpointList, LeafFilter, Scope, State};
use momentlog::store::{Draft, FileStore, LogId, RealDisk, Store as _};
use momentlog::{CheckpointListFlags, CheckpointXmlFlags, Connection};

use crate::Failed;
use crate::command::{DOMAIN, create, store};
use crate::state::{created, open};

/// Does one operation `times` times, on a store of `moments` moments.
type Run = fn(&Path, moments: usize, times: usize) -> Result<(), Failed>;

/// One operation.
struct Operation {
    name: &'static str,
    what: &'static str,
    /// How often it is done when its instructions are counted.
    times: usize,
    /// Whether one time does all moments.
    each: bool,
    run: Run,
}

const fn one(name: &'static str, what: &'static str, times: usize, run: Run) -> Operation {
    Operation {
        name,
        what,
        times,
        each: false,
        run,
    }
}

const fn each(name: &'static str, what: &'static str, times: usize, run: Run) -> Operation {
    Operation {
        each: true,
        ..one(name, what, times, run)
    }
}

const OPERATIONS: [Operation; 13] = [
    one("append", "append one record of 250 bytes", 300, append),
    one("batch", "append 64 such records under one sync", 20, batch),
    one("command", "create a checkpoint, to the sync", 300, command),
    one("apply", "one event, the version before held", 2_000, apply),
    each("replay", "replay a log, each record", 1, replay),
    each("image", "open from an image, each moment", 1, image),
    one("find", "look a moment up by name", 20_000, find),
    one("parent", "the parent of a moment", 20_000, parent),
    each("list", "list all with handles, each moment", 2, list),
    each("leaves", "walk all for leaves, each moment", 5, leaves),
    one("redefine", "redefine from XML, in memory", 2_000, redefine),
    one("other", "the same, another domain each time", 2_000, other),
    one("xml", "XML of a checkpoint alone", 2_000, xml),
];

/// Moments that the store has when instructions are counted.
const MOMENTS: usize = 5_000;

/// Does one operation `times` times, on a store of `moments` moments.
pub(crate) fn run(name: &str, moments: usize, times: usize) -> Result<(), Failed> {
    let found = OPERATIONS.iter().find(|operation| operation.name == name);
    let operation = found.ok_or("no such operation")?;
    let scratch = tempfile::tempdir()?;
    (operation.run)(&scratch.path().join("store"), moments, times)
}

/// Counts the instructions of each operation with `valgrind`, and returns them as Markdown.
pub(crate) fn instructions() -> Result<String, Failed> {
    let mut text = "| operation | | instructions |\n|---|---|---|\n".to_owned();
    for Operation {
        name,
        what,
        times,
        each,
        ..
    } in OPERATIONS
    {
        let once = count(name, times)?;
        let twice = count(name, 2 * times)?;
        let units = if each { times * MOMENTS } else { times };
        let instructions = twice.saturating_sub(once) / units as u64;
        text += &format!("| `{name}` | {what} | {instructions} |\n");
    }
    Ok(text)
}

fn count(name: &str, times: usize) -> Result<u64, Failed> {
    let done = Process::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--hot", name, &MOMENTS.to_string(), &times.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let line = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    match line {
        Some((_, number)) if done.status.success() => Ok(number.trim().parse()?),
        _ => Err(said.into()),
    }
}

fn append(path: &Path, _: usize, times: usize) -> Result<(), Failed> {
    let mut store = FileStore::new(RealDisk::new(path));
    store.acquire(std::time::Duration::ZERO)?;
    for _ in 0..times {
        let head = store.head();
        let draft = Draft {
            facts: vec![7; 250],
            texts: Vec::new(),
        };
        store.append(LogId(*b"log of the bench"), head, vec![draft])?;
    }
    Ok(())
}

fn batch(path: &Path, _: usize, times: usize) -> Result<(), Failed> {
    let mut store = FileStore::new(RealDisk::new(path));
    store.acquire(std::time::Duration::ZERO)?;
    for _ in 0..times {
        let head = store.head();
        let draft = || Draft {
            facts: vec![7; 250],
            texts: Vec::new(),
        };
        let drafts = std::iter::repeat_with(draft).take(64).collect();
        store.append(LogId(*b"log of the bench"), head, drafts)?;
    }
    Ok(())
}

fn command(path: &Path, moments: usize, times: usize) -> Result<(), Failed> {
    let connection = store(path, moments)?;
    for name in moments..moments + times {
        connection.execute(&create(name as u64))?;
    }
    Ok(())
}

fn apply(path: &Path, moments: usize, times: usize) -> Result<(), Failed> {
    let connection = store(path, moments)?;
    let mut held: State = connection.view().state().clone();
    let current = held
        .domain(DOMAIN)
        .and_then(|domain| domain.checkpoints().current());
    let current = current.ok_or("there are checkpoints")?;
    let (mut parent, def) = (Some(current.id), current.def.clone());
    for _ in 0..times {
        let id = held.next_moment().ok_or("there are ids")?;
        held = created(&held, &format!("applied-{id}"), parent, &def)?;
        parent = Some(id);
    }
    Ok(())
}

fn replay(path: &Path, moments: usize, times: usize) -> Result<(), Failed> {
    let connection = store(path, moments)?;
    // Without an image, which closing would make.
    let bare = path.with_file_name("bare");
    crate::state::copy(path, &bare, |name| !crate::state::is_image(name))?;
    drop(connection);
    for _ in 0..times {
        black_box(open(&bare)?);
    }
    Ok(())
}

fn image(path: &Path, moments: usize, times: usize) -> Result<(), Failed> {
    let connection = store(path, moments)?;
    connection.make_image()?;
    drop(connection);
    for _ in 0..times {
        black_box(open(path)?);
    }
    Ok(())
}

/// Returns a store that was opened again, so that it is as most are read.
fn reopened(path: &Path, moments: usize) -> Result<Connection, Failed> {
    drop(store(path, moments)?);
    open(path)
}

/// Reads the checkpoints of a store that was opened again.
fn reading(path: &Path, moments: usize, read: impl FnOnce(&CheckpointList)) -> Result<(), Failed> {
    let view = reopened(path, moments)?.view();
    let domain = view.state().domain(DOMAIN).ok_or("the domain is there")?;
    read(domain.checkpoints());
    Ok(())
}

fn find(path: &Path, moments: usize, times: usize) -> Result<(), Failed> {
    reading(path, moments, |list| {
        let names: Vec<_> = list.walk(Scope::All).map(|moment| moment.name).collect();
        for name in names.iter().cycle().take(times) {
            black_box(list.find(name.as_str()));
        }
    })
}

fn parent(path: &Path, moments: usize, times: usize) -> Result<(), Failed> {
    reading(path, moments, |list| {
        let ids: Vec<_> = list.walk(Scope::All).map(|moment| moment.id).collect();
        for id in ids.iter().cycle().take(times) {
            black_box(list.parent(*id));
        }
    })
}

fn list(path: &Path, moments: usize, times: usize) -> Result<(), Failed> {
    let connection = reopened(path, moments)?;
    let domain = connection.lookup_domain_by_name("vm")?;
    for _ in 0..times {
        black_box(domain.list_all_checkpoints(CheckpointListFlags::NONE)?);
    }
    Ok(())
}

fn leaves(path: &Path, moments: usize, times: usize) -> Result<(), Failed> {
    reading(path, moments, |list| {
        for _ in 0..times {
            black_box(list.list(Scope::All, LeafFilter::Leaves, |_| true).count());
        }
    })
}

fn redefine(_: &Path, _: usize, times: usize) -> Result<(), Failed> {
    crate::libvirt::ours("redefine-wide", times, 1e6).map(|_| ())
}

fn other(_: &Path, _: usize, times: usize) -> Result<(), Failed> {
    crate::libvirt::ours("redefine-other", times, 1e6).map(|_| ())
}

fn xml(_: &Path, _: usize, times: usize) -> Result<(), Failed> {
    let domain = crate::libvirt::guest()?;
    crate::libvirt::checkpoint(&domain, 0)?;
    let checkpoint = domain.checkpoint_lookup_by_name("n0")?;
    for _ in 0..times {
        black_box(checkpoint.xml_desc(CheckpointXmlFlags::NO_DOMAIN)?);
    }
    Ok(())
}
