//! Rows 9 to 16: the same calls with the same XML on libvirt's test driver, and libvirt's files.

use std::hint::black_box;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::{Duration, Instant};

use momentlog::{
    CheckpointCreateFlags, CheckpointXmlFlags, Connection, Domain, SnapshotCreateFlags,
    SnapshotDeleteFlags, SnapshotListFlags, SnapshotXmlFlags,
};

use crate::Failed;
use crate::measure::{Effort, Table, Target, median};

const LIBVIRT: &str = "libvirt's test driver";

/// KiB of the guest.
const MEMORY: usize = 8192;

fn domain_xml(memory: usize) -> String {
    format!(
        "<domain type='test'><name>bench</name><uuid>bbbbbbbb-0000-4000-8000-000000000001</uuid>\
         <memory>{memory}</memory><os><type>hvm</type></os><devices>\
         <disk type='file' device='disk'><source file='/i/1'/><target dev='vda'/></disk>\
         </devices></domain>"
    )
}

/// One work, as `libvirt.c` names it, with how many, and the ratio that it should reach.
struct Work {
    row: &'static str,
    name: &'static str,
    count: usize,
    ratio: f64,
}

const fn work(row: &'static str, name: &'static str, count: usize, ratio: f64) -> Work {
    Work {
        row,
        name,
        count,
        ratio,
    }
}

const WORKS: [Work; 14] = [
    work("9 checkpoint create", "checkpoint-create", 100, 1000.0),
    work("9 checkpoint create", "checkpoint-create", 10_000, 1000.0),
    work("9 checkpoint create", "checkpoint-create", 100_000, 1000.0),
    work("10 snapshot create", "snapshot-create", 10_000, 15.0),
    work(
        "10 redefine into a wide tree",
        "redefine-wide",
        10_000,
        15.0,
    ),
    work(
        "10 redefine, another domain each time,",
        "redefine-other",
        10_000,
        5.0,
    ),
    work(
        "11 redefine building a chain",
        "redefine-chain",
        10_000,
        100.0,
    ),
    work(
        "11 redefine building a chain",
        "redefine-chain",
        100_000,
        100.0,
    ),
    work(
        "12 delete the oldest sibling",
        "delete-oldest",
        100_000,
        1000.0,
    ),
    work("13 list all with handles", "list", 10_000, 10.0),
    work("13 list all, topological", "list-topological", 10_000, 10.0),
    work("14 count leaves", "count-leaves", 100_000, 100.0),
    work(
        "15 XML of a checkpoint without domain",
        "checkpoint-xml",
        1,
        3.0,
    ),
    work("15 XML of a snapshot with domain", "snapshot-xml", 1, 3.0),
];

pub(crate) fn rows(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    files(dir, table)?;
    per_redefine(effort, table)?;
    let program = match build(dir, include_str!("libvirt.c")) {
        Ok(program) => program,
        Err(why) => {
            table.missing("9 to 15", &format!("libvirt's library is missing: {why}"));
            return Ok(());
        }
    };
    let seconds = effort.round.as_secs_f64() * 4.0;
    for work in &WORKS {
        let count = work.count.min(effort.live);
        // Making a large tree takes libvirt longer than what is measured then.
        let rounds = if count >= 100_000 {
            1
        } else {
            effort.rounds.min(3)
        };
        // To the end of the chain, of which the last part is the slowest for libvirt.
        let seconds = if work.name == "redefine-chain" {
            10.0 * seconds
        } else {
            seconds
        };
        let (mut own, mut its) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            // An operation of a few milliseconds is repeated until the turn is over, so that nothing beside it decides.
            let begun = Instant::now();
            let mut turn = vec![ours(work.name, count, seconds)?];
            while begun.elapsed() < effort.round {
                turn.push(ours(work.name, count, seconds)?);
            }
            own.push(median(&turn));
            its.push(theirs(&program, work.name, count, seconds)?);
        }
        let target = Target {
            peer: LIBVIRT,
            ratio: work.ratio,
        };
        table.rounds(&format!("{} at {count}", work.row), &own, &its, target);
    }
    Ok(())
}

/// Builds a program for libvirt's side.
pub(crate) fn build(dir: &Path, text: &str) -> Result<PathBuf, Failed> {
    let source = dir.join("libvirt.c");
    std::fs::write(&source, text)?;
    let program = dir.join("libvirt");
    let built = Process::new("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(&source)
        .arg("-lvirt")
        .output()?;
    if built.status.success() {
        Ok(program)
    } else {
        let said = String::from_utf8_lossy(&built.stderr);
        Err(said.lines().next().unwrap_or_default().to_owned().into())
    }
}

/// Lets libvirt do a work, and returns its rate.
fn theirs(program: &Path, name: &str, count: usize, seconds: f64) -> Result<f64, Failed> {
    let done = Process::new(program)
        .args([name, &count.to_string(), &seconds.to_string()])
        // The driver's own warnings.
        .env("LIBVIRT_DEBUG", "4")
        .output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let mut words = said.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some(count), Some(seconds)) if done.status.success() => {
            Ok(count.parse::<f64>()? / seconds.parse::<f64>()?)
        }
        _ => Err(String::from_utf8_lossy(&done.stderr).into_owned().into()),
    }
}

/// Does the same work, and returns our rate.
pub(crate) fn ours(name: &str, count: usize, seconds: f64) -> Result<f64, Failed> {
    let domain = guest()?;
    let limit = Duration::from_secs_f64(seconds);
    // Until all is done, or the time is over.
    let some = |each: &mut dyn FnMut(usize) -> Result<(), Failed>| {
        let begun = Instant::now();
        let mut done = 0;
        while done < count && begun.elapsed() < limit {
            each(done)?;
            done += 1;
        }
        Ok(rate(done, begun.elapsed()))
    };
    // Until the time is over.
    let again = |each: &mut dyn FnMut() -> Result<(), Failed>| {
        let begun = Instant::now();
        let mut done = 0;
        while begun.elapsed() < limit {
            each()?;
            done += 1;
        }
        Ok(rate(done, begun.elapsed()))
    };
    match name {
        "checkpoint-create" => some(&mut |number| checkpoint(&domain, number)),
        "snapshot-create" => some(&mut |number| snapshot(&domain, number)),
        "redefine-wide" => some(&mut |number| redefine(&domain, number, (number > 0).then_some(0))),
        "redefine-other" => some(&mut |number| {
            redefine_with(&domain, number, (number > 0).then_some(0), MEMORY + number)
        }),
        "redefine-chain" => some(&mut |number| redefine(&domain, number, number.checked_sub(1))),
        "delete-oldest" => {
            redefine_wide(&domain, count + 1)?;
            some(&mut |number| {
                let found = domain.snapshot_lookup_by_name(&format!("n{}", number + 1))?;
                Ok(found.delete(SnapshotDeleteFlags::NONE)?)
            })
        }
        "list" | "list-topological" => {
            redefine_wide(&domain, count)?;
            let flags = SnapshotListFlags::NONE
                .with(SnapshotListFlags::TOPOLOGICAL, name == "list-topological");
            again(&mut || {
                black_box(domain.list_all_snapshots(flags)?);
                Ok(())
            })
        }
        "count-leaves" => {
            redefine_wide(&domain, count)?;
            again(&mut || {
                black_box(domain.snapshot_num(SnapshotListFlags::LEAVES)?);
                Ok(())
            })
        }
        "checkpoint-xml" => {
            checkpoint(&domain, 0)?;
            let found = domain.checkpoint_lookup_by_name("n0")?;
            again(&mut || {
                black_box(found.xml_desc(CheckpointXmlFlags::NO_DOMAIN)?);
                Ok(())
            })
        }
        "snapshot-xml" => {
            snapshot(&domain, 0)?;
            let found = domain.snapshot_lookup_by_name("n0")?;
            again(&mut || {
                black_box(found.xml_desc(SnapshotXmlFlags::NONE)?);
                Ok(())
            })
        }
        _ => Err("no such work".into()),
    }
}

/// A running guest of a store in memory, as libvirt's test driver keeps it.
pub(crate) fn guest() -> Result<Domain, Failed> {
    let domain = Connection::open("test:///default")?.define_domain_xml(&domain_xml(MEMORY))?;
    domain.start()?;
    Ok(domain)
}

fn rate(done: usize, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 pieces")]
    let done = done as f64;
    done / time.as_secs_f64()
}

fn snapshot(domain: &Domain, number: usize) -> Result<(), Failed> {
    let xml = format!("<domainsnapshot><name>n{number}</name></domainsnapshot>");
    domain.snapshot_create_xml(&xml, SnapshotCreateFlags::NONE)?;
    Ok(())
}

pub(crate) fn checkpoint(domain: &Domain, number: usize) -> Result<(), Failed> {
    let xml = format!("<domaincheckpoint><name>n{number}</name></domaincheckpoint>");
    domain.checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE)?;
    Ok(())
}

fn redefine(domain: &Domain, number: usize, parent: Option<usize>) -> Result<(), Failed> {
    redefine_with(domain, number, parent, MEMORY)
}

/// With a domain of so much memory embedded.
fn redefine_with(
    domain: &Domain,
    number: usize,
    parent: Option<usize>,
    memory: usize,
) -> Result<(), Failed> {
    let below = parent.map_or(String::new(), |parent| {
        format!("<parent><name>n{parent}</name></parent>")
    });
    let xml = format!(
        "<domainsnapshot><name>n{number}</name><state>running</state>{below}\
         <creationTime>{}</creationTime>{}</domainsnapshot>",
        1_200_000_000 + number,
        domain_xml(memory)
    );
    domain.snapshot_create_xml(&xml, SnapshotCreateFlags::REDEFINE)?;
    Ok(())
}

fn redefine_wide(domain: &Domain, count: usize) -> Result<(), Failed> {
    (0..count).try_for_each(|number| redefine(domain, number, (number > 0).then_some(0)))
}

/// The second half of row 11: what one redefine costs at the end of a long chain, against a short one.
fn per_redefine(effort: Effort, table: &mut Table) -> Result<(), Failed> {
    const AT_THE_END: usize = 1000;
    let mut rates = Vec::new();
    for length in [effort.many, AT_THE_END] {
        let domain = guest()?;
        let chain = |number: usize| redefine(&domain, number, number.checked_sub(1));
        (0..length).try_for_each(chain)?;
        let begun = Instant::now();
        (length..length + AT_THE_END).try_for_each(chain)?;
        rates.push(rate(AT_THE_END, begun.elapsed()));
    }
    let target = Target {
        peer: "ours at 1000",
        ratio: 1.0 / 3.0,
    };
    let work = format!("11 redefine at the end of {}", effort.many);
    table.relate(&work, rates[0], rates[1], target);
    Ok(())
}

/// Row 16: bytes on disk for each checkpoint, against one file with its XML and its domain for each.
fn files(dir: &Path, table: &mut Table) -> Result<(), Failed> {
    let padding = format!("<description>{}</description>", "d".repeat(3600));
    let xml = domain_xml(MEMORY)
        .replace("type='test'", "type='kvm'")
        .replace("<memory>", &format!("{padding}<memory>"));
    for count in [100, 10_000] {
        let own = dir.join(format!("disk-{count}"));
        let its = dir.join(format!("files-{count}"));
        std::fs::create_dir(&its)?;
        let connection = Connection::open(&format!(
            "momentlog:{}",
            std::path::absolute(&own)?.display()
        ))?;
        let domain = connection.define_domain_xml(&xml)?;
        domain.start()?;
        for number in 0..count {
            checkpoint(&domain, number)?;
            let found = domain.checkpoint_lookup_by_name(&format!("n{number}"))?;
            // As its driver of real guests keeps them: all of it, behind a comment.
            let text = format!("{HEADER}{}", found.xml_desc(CheckpointXmlFlags::NONE)?);
            std::fs::write(its.join(format!("n{number}.xml")), text)?;
        }
        drop(domain);
        connection.release();
        let (own, its) = (size(&own)?, size(&its)?);
        for (which, own, its) in [("apparent", own.0, its.0), ("blocks", own.1, its.1)] {
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 bytes")]
            let each = |bytes: u64| bytes as f64 / count as f64;
            let work = format!(
                "16 bytes a checkpoint, {which}, at {count} ({:.0}, {:.0})",
                each(own),
                each(its)
            );
            let target = Target {
                peer: "one file for each",
                ratio: 10.0,
            };
            table.relate(&work, 1.0 / each(own), 1.0 / each(its), target);
        }
    }
    Ok(())
}

const HEADER: &str = "<!--\nThis file is made by a program. Changes made by hand are lost; use virsh checkpoint-edit.\n-->\n\n";

/// Apparent bytes and bytes of blocks of all files in a directory.
fn size(path: &Path) -> Result<(u64, u64), Failed> {
    let mut size = (0, 0);
    for entry in std::fs::read_dir(path)? {
        let metadata = entry?.metadata()?;
        size.0 += metadata.len();
        size.1 += metadata.blocks() * 512;
    }
    Ok(size)
}
