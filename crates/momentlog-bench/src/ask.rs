//! Row 28: questions to the program about a long log, each as a whole process.

use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::Failed;
use crate::look::{make, remove_images};
use crate::measure::{Effort, Table, Target};

/// How long an answer may take, in seconds, and how much memory the process may use, in MiB.
type Limit = (f64, f64);

/// What the program is asked; `N` stands for a record shortly before the first image, `OLD` for one half as far, `M` for a
/// moment that was there at `N`, and `LAST` for the newest moment.
const QUESTIONS: [(&str, Limit); 12] = [
    ("show N", (0.05, 64.0)),
    ("log -n 20", (0.05, 64.0)),
    ("log --to 20", (0.05, 64.0)),
    ("log vm-0 --moment M", (0.25, 64.0)),
    ("why vm-0 M", (0.25, 64.0)),
    ("why vm-0 LAST", (0.25, 64.0)),
    ("diff OLD N --domain vm-0", (0.25, 64.0)),
    ("--at N checkpoint-list vm-0", (0.25, 64.0)),
    ("--at N list --all", (0.7, 64.0)),
    ("log", (2.5, 96.0)),
    ("log --format json", (5.0, 96.0)),
    ("stat", (2.5, 96.0)),
];

/// The limit of questions about a log of one domain, but for those that print all of it.
const OF_ONE_DOMAIN: Limit = (1.0, 64.0);

pub(crate) fn rows(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    for domains in [(effort.many / 1000).max(2), 1] {
        let path = dir.join(format!("ask-{domains}"));
        make(&path, domains, effort.many)?;
        of_store(&path, domains, effort.many, effort, table)?;
    }
    Ok(())
}

/// Asks of a store with the images that its writer left, and then without images.
pub(crate) fn of_store(
    path: &Path,
    domains: usize,
    records: usize,
    effort: Effort,
    table: &mut Table,
) -> Result<(), Failed> {
    for images in [true, false] {
        if !images {
            remove_images(path)?;
        }
        for (question, limit) in QUESTIONS {
            ask(
                path,
                domains,
                records,
                (question, limit, images),
                effort,
                table,
            )?;
        }
    }
    Ok(())
}

fn ask(
    path: &Path,
    domains: usize,
    records: usize,
    (question, limit, images): (&str, Limit, bool),
    effort: Effort,
    table: &mut Table,
) -> Result<(), Failed> {
    let prints_all = limit.1 > OF_ONE_DOMAIN.1;
    let limit = match domains {
        1 if !prints_all => OF_ONE_DOMAIN,
        _ => limit,
    };
    let near = records / 2 - records / 100;
    // Each domain makes a checkpoint and deletes one in a night.
    let night = |record: usize| (record / domains).saturating_sub(14) / 2;
    let word = |word: &str| match word {
        "N" => near.to_string(),
        "OLD" => (near / 2).to_string(),
        "M" => format!("night-{}", night(near) + 3),
        "LAST" => format!("night-{}", night(records) + 3),
        word => word.to_owned(),
    };
    let exe = std::env::current_exe()?;
    let program = exe.with_file_name("momentlog");
    if !program.exists() {
        return Err(format!("{} is not built", program.display()).into());
    }
    let mut least = [f64::INFINITY; 3];
    for _ in 0..effort.rounds.min(5) {
        let done = Process::new(&exe)
            .arg("--run")
            .arg(&program)
            .args(["-r", "-c", &format!("momentlog:{}", path.display())])
            .args(question.split(' ').map(word))
            .output()?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
        }
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        for (least, found) in least.iter_mut().zip(text.split_whitespace()) {
            *least = least.min(found.parse()?);
        }
    }
    let [wall, processor, memory] = least;
    let of = match domains {
        1 => "one domain".to_owned(),
        domains => format!("{domains} domains"),
    };
    let with = if images { "" } else { ", no images" };
    let asked = format!(
        "28 `{question}`, {records} records of {of}{with} ({:.0} ms, processor {:.0} ms, {memory:.0} MiB; {:.0} ms, {:.0} MiB)",
        wall * 1e3,
        processor * 1e3,
        limit.0 * 1e3,
        limit.1,
    );
    println!("{asked}");
    // What is worse of the two, time or memory, is what counts.
    let (ours, theirs) = if wall / limit.0 > memory / limit.1 {
        (1.0 / wall, 1.0 / limit.0)
    } else {
        (1.0 / memory, 1.0 / limit.1)
    };
    let (peer, ratio) = ("the limit", 1.0);
    table.relate(&asked, ours, theirs, Target { peer, ratio });
    Ok(())
}

/// Runs a program whose output is thrown away; returns seconds from start to end, seconds of processor time, and MiB.
pub(crate) fn run(mut words: impl Iterator<Item = String>) -> Result<String, Failed> {
    let program = words.next().ok_or("a program")?;
    let begun = Instant::now();
    let status = Process::new(program)
        .args(words)
        .stdout(Stdio::null())
        .status()?;
    let wall = begun.elapsed().as_secs_f64();
    if !status.success() {
        return Err("the program has failed".into());
    }
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 microseconds")]
    let processor = (used.user_time() + used.system_time()).num_microseconds() as f64 / 1e6;
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 KiB")]
    let memory = used.max_rss() as f64 / 1024.0;
    Ok(format!("{wall} {processor} {memory}"))
}
