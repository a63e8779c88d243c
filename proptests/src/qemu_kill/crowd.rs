//! Processes that make checkpoints of one guest at once, half of which are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use momentlog::core::{Change, MomentChange};
use momentlog::store::Verdict;
use momentlog::{CheckpointCreateFlags, Connection, Domain};
use momentlog_qemu::Qemu;

use super::guest::{Guest, Place, kill};
use super::work::{LOCK_WAIT, checkpoint_xml, open, say};
use super::{KILL_AFTER_MAX, listed, settled};
use crate::sim_disk::Random;

/// Checkpoints that each process makes, unless it is killed before.
const CHECKPOINTS: u64 = 8;

/// What processes on one guest at once have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Processes.
    pub processes: u64,
    /// Those of them that were killed before they had made all of their checkpoints.
    pub killed: u64,
    /// Checkpoints whose making was answered.
    pub made: u64,
    /// Checkpoints that a killed process had on its way, and that were found made.
    pub in_flight: u64,
    /// Jobs that were found open by another process than the one that began them, and settled.
    pub settled: u64,
    /// The longest time that one call took.
    pub longest: Duration,
}

/// What one process has said.
#[derive(Default)]
struct Said {
    made: Vec<String>,
    longest: Duration,
    was_killed: bool,
}

/// Lets `processes` processes make checkpoints of one guest in `dir` at once, and kills every second one of them at a moment
/// of its own. `program` is run with the words `qemu-crowd-work DIR NAME`, and must then call [`join_crowd`].
///
/// # Errors
///
/// What the operating system says, that QEMU cannot be started, and what was found wrong: a checkpoint that was answered is
/// not there, or one that none has asked for is; a record makes two; a job is open, something is left over, or log and
/// QEMU do not agree, after the next look; a call fails or waits longer than it may.
pub fn kill_half(
    program: &Path,
    dir: &Path,
    processes: u64,
    seed: u64,
) -> Result<Crowd, Box<dyn Error>> {
    let place = Place(dir);
    Guest::prepare(&place)?;
    let _guest = Guest::start(&place)?;
    let connection = open(&place)?;
    let domain = connection.define_domain_xml(&place.domain_xml())?;
    domain.attach(Qemu::NAME, &place.socket().display().to_string(), false)?;
    connection.release();
    let mut random = Random(seed);
    let said = thread::scope(|scope| {
        let runs: Vec<_> = (0..processes)
            .map(|number| {
                let dies_after = (number % 2 == 0).then(|| {
                    let micros = random.below(KILL_AFTER_MAX);
                    (random.below(CHECKPOINTS), Duration::from_micros(micros))
                });
                scope.spawn(move || {
                    run(program, dir, number, dies_after).map_err(|error| error.to_string())
                })
            })
            .collect();
        let runs = runs.into_iter();
        runs.map(|run| run.join().unwrap_or_else(|_| Err("it has panicked".into())))
            .collect::<Result<Vec<Said>, String>>()
    })?;
    check(&place, &domain, &said)
}

/// The work of one process of a crowd.
///
/// # Errors
///
/// If it cannot print.
pub fn join_crowd(dir: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let place = Place(Path::new(dir));
    match make_checkpoints(&place, name) {
        Ok(()) => Ok(()),
        Err(error) => say(&format!("failed {error}")),
    }
}

fn make_checkpoints(place: &Place<'_>, name: &str) -> Result<(), Box<dyn Error>> {
    let connection = open(place)?;
    let domain = connection.lookup_domain_by_name("vm")?;
    for number in 0..CHECKPOINTS {
        let begun = Instant::now();
        let xml = checkpoint_xml(&checkpoint(name, number));
        domain.checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE)?;
        say(&format!("made {}", begun.elapsed().as_micros()))?;
        // Others write to the log in between.
        connection.release();
    }
    Ok(())
}

/// The name of a checkpoint of a process.
fn checkpoint(process: &str, number: u64) -> String {
    format!("{process}-{number}")
}

/// Runs a process, and kills it a while after a number of answers.
fn run(
    program: &Path,
    dir: &Path,
    number: u64,
    dies_after: Option<(u64, Duration)>,
) -> Result<Said, Box<dyn Error>> {
    let name = format!("p{number}");
    let mut process = Command::new(program)
        .arg("qemu-crowd-work")
        .arg(dir)
        .arg(&name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut answers = BufReader::new(process.stdout.take().ok_or("it is piped")?);
    let mut said = Said::default();
    let mut heard = 0;
    loop {
        if let Some((answers, after)) = dies_after
            && heard == answers
            && !said.was_killed
        {
            thread::sleep(after);
            said.was_killed = process.try_wait()?.is_none();
            kill(&mut process)?;
        }
        let mut line = String::new();
        if answers.read_line(&mut line)? == 0 {
            break;
        }
        let micros = line.strip_prefix("made ").map(|time| time.trim().parse());
        let Some(Ok(micros)) = micros else {
            return Err(format!("{name}: {}", line.trim()).into());
        };
        said.longest = said.longest.max(Duration::from_micros(micros));
        said.made.push(checkpoint(&name, heard));
        heard += 1;
    }
    let status = process.wait()?;
    if !said.was_killed && heard < CHECKPOINTS {
        return Err(format!("{name}: {status} after {heard} checkpoints").into());
    }
    said.was_killed &= heard < CHECKPOINTS;
    Ok(said)
}

fn check(place: &Place<'_>, domain: &Domain, said: &[Said]) -> Result<Crowd, Box<dyn Error>> {
    let mut crowd = Crowd::default();
    domain.look()?;
    let found = domain.reconcile()?;
    settled(&found)?;
    if !found.agrees() {
        return Err(format!("QEMU was not killed, and something is lost: {found:?}").into());
    }
    let mut there = listed(domain)?;
    let records = made_by_record(domain.connection())?;
    if there != records {
        return Err(format!("{there:?} are there, and {records:?} in the log").into());
    }
    for (number, said) in said.iter().enumerate() {
        crowd.processes += 1;
        crowd.killed += u64::from(said.was_killed);
        crowd.made += u64::try_from(said.made.len())?;
        crowd.longest = crowd.longest.max(said.longest);
        if let Some(name) = said.made.iter().find(|name| !there.remove(*name)) {
            return Err(format!("{name} was answered, and is not there").into());
        }
        let next = checkpoint(&format!("p{number}"), u64::try_from(said.made.len())?);
        if said.was_killed && there.remove(&next) {
            crowd.in_flight += 1;
        }
    }
    if let Some(name) = there.first() {
        return Err(format!("{name} is there, and was not asked for").into());
    }
    if crowd.longest > LOCK_WAIT {
        return Err(format!("a call has taken {:?}", crowd.longest).into());
    }
    crowd.settled = settled_by_others(domain.connection())?;
    let verified = momentlog::verify(&place.store(), None, None, &mut |_| {})?;
    match verified.verdict() {
        Verdict::Unanchored | Verdict::TornTail => Ok(crowd),
        _ => Err(format!("{verified:?}").into()),
    }
}

/// The checkpoints that the log has made, one by a record.
fn made_by_record(connection: &Connection) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    for entry in connection.history(None)?.entries() {
        let entry = entry?;
        let made = entry.events.iter().filter_map(|event| match &event.change {
            Change::Checkpoint(MomentChange::Created { name, .. }) => Some(name.to_string()),
            _ => None,
        });
        for name in made {
            if let Some(other) = found.insert(entry.head.seq, name) {
                return Err(format!("the record that makes {other} makes another").into());
            }
        }
    }
    Ok(found.into_values().collect())
}

fn settled_by_others(connection: &Connection) -> Result<u64, Box<dyn Error>> {
    use momentlog::core::SettledBy;
    let mut settled = 0;
    for entry in connection.history(None)?.entries() {
        let outcomes = entry?.events.into_iter().filter(|event| {
            matches!(&event.change, Change::JobEnded(outcome) | Change::JobFailed(outcome)
                if outcome.settled_by == SettledBy::Later)
        });
        settled += u64::try_from(outcomes.count())?;
    }
    Ok(settled)
}
