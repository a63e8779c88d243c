//! A real QEMU and a real process that works on it, killed again and again: one of them, or both.
//!
//! The process makes and deletes checkpoints and backs up what the guest has written, whole and since a checkpoint, and prints
//! a line for every answer. After each kill QEMU is started again if it is dead, and a new connection looks: no job is open and
//! nothing temporary is left; each checkpoint that was answered is there, and can be used unless QEMU was killed; and each
//! backup that the log calls done holds, byte by byte, what its disk held when it was begun.

mod crowd;
mod guest;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use momentlog::core::JobId;
use momentlog::driver::{BitmapKind, Reconciled};
use momentlog::store::Verdict;
use momentlog::{Backup, CheckpointListFlags, Domain};
use momentlog_qemu::Qemu;

use crate::sim_disk::Random;
use guest::{DISKS, Guest, Place, kill, qemu_img};
use work::open;

pub use crowd::{Crowd, join_crowd, kill_half};

/// The number of rounds on one guest and one log, so that reading all of a log stays quick.
const ROUNDS_OF_A_LOG: u64 = 20;

/// Longest time from the chosen answer to the kill, in microseconds.
const KILL_AFTER_MAX: u64 = 60_000;

/// How long a process may go on whose QEMU is gone.
const PATIENCE: Duration = Duration::from_mins(1);

/// What lies where a backup must not be written.
const PRECIOUS: &[u8] = b"not to be touched";

/// What a run of kills found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QemuKills {
    /// Rounds.
    pub rounds: u64,
    /// Rounds in which the working process alone was killed.
    pub workers: u64,
    /// Rounds in which QEMU alone was killed.
    pub hypervisors: u64,
    /// Rounds in which both were killed.
    pub both: u64,
    /// Rounds in which QEMU was ended in order while the process worked.
    pub quits: u64,
    /// Rounds in which QEMU was to end in order and crashed.
    pub crashes: u64,
    /// Checkpoints whose making was answered.
    pub made: u64,
    /// Checkpoints whose deletion was answered.
    pub deleted: u64,
    /// Checkpoints that were on their way, and were found made.
    pub in_flight: u64,
    /// Copies of whole disks that the log calls done, each equal to its disk.
    pub whole: u64,
    /// Copies since a checkpoint that the log calls done, each equal to its disk.
    pub incremental: u64,
    /// Backups that the log calls failed, none of which left a file.
    pub failed: u64,
    /// What had become of the checkpoints of killed QEMUs, by disk and word.
    pub states: BTreeMap<&'static str, u64>,
    /// Repairs.
    pub repairs: u64,
    /// What was not as it should be, with round and seed.
    pub failures: Vec<String>,
}

/// The programs that are needed.
pub const PROGRAMS: [&str; 2] = ["qemu-system-x86_64", "qemu-img"];

/// The work of the process that is killed.
///
/// # Errors
///
/// If it cannot print.
pub fn work_until_killed(dir: &str, round: &str, seed: &str) -> Result<(), Box<dyn Error>> {
    work::work(Path::new(dir), round.parse()?, seed.parse()?)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Worker,
    Hypervisor,
    Both,
    /// None is killed: QEMU is ended in order.
    Quit,
    /// As before, but QEMU crashed instead.
    Crash,
}

/// Kills `rounds` times, in `dir`. `program` is run with the words `qemu-work DIR ROUND SEED`, and must then call
/// [`work_until_killed`]. `progress` is called with each round and what was found so far.
///
/// # Errors
///
/// What the operating system says, or that QEMU cannot be started. What is found wrong is no error, but in
/// [`QemuKills::failures`].
pub fn kill_qemu(
    program: &Path,
    dir: &Path,
    rounds: u64,
    seed: u64,
    progress: &mut dyn FnMut(u64, &QemuKills),
) -> Result<QemuKills, Box<dyn Error>> {
    let mut kills = QemuKills::default();
    let mut random = Random(seed);
    let mut bench: Option<Bench> = None;
    for round in 0..rounds {
        if round % ROUNDS_OF_A_LOG == 0 {
            bench = None;
        }
        let mut current = match bench.take() {
            Some(bench) => bench,
            None => Bench::new(dir.join(format!("from-{round}")))?,
        };
        match current.round(program, round, &mut random, &mut kills) {
            Ok(()) => bench = Some(current),
            // What comes after it would be its consequence. The directory stays to be looked at.
            Err(error) => kills
                .failures
                .push(format!("round {round}, seed {seed}: {error}")),
        }
        kills.rounds += 1;
        progress(round + 1, &kills);
    }
    Ok(kills)
}

/// One guest with its log, and what is known of both.
struct Bench {
    dir: PathBuf,
    guest: Option<Guest>,
    /// The checkpoints that must be there.
    known: BTreeSet<String>,
    /// The backups that were compared.
    compared: BTreeSet<JobId>,
}

/// What a working process has said.
#[derive(Default)]
struct Answers {
    made: BTreeSet<String>,
    deleted: BTreeSet<String>,
    /// The deletion that was asked for last.
    deleting: Option<String>,
    done: Vec<String>,
    stopped: Option<String>,
}

impl Bench {
    fn new(dir: PathBuf) -> Result<Bench, Box<dyn Error>> {
        std::fs::create_dir(&dir)?;
        let place = Place(&dir);
        Guest::prepare(&place)?;
        std::fs::write(dir.join("precious"), PRECIOUS)?;
        let guest = Guest::start(&place)?;
        let domain = open(&place)?.define_domain_xml(&place.domain_xml())?;
        domain.attach(Qemu::NAME, &place.socket().display().to_string(), false)?;
        Ok(Bench {
            dir,
            guest: Some(guest),
            known: BTreeSet::new(),
            compared: BTreeSet::new(),
        })
    }

    fn round(
        &mut self,
        program: &Path,
        round: u64,
        random: &mut Random,
        kills: &mut QemuKills,
    ) -> Result<(), Box<dyn Error>> {
        let victim = match random.below(8) {
            0..3 => Victim::Worker,
            3 | 4 => Victim::Hypervisor,
            5 | 6 => Victim::Both,
            _ => Victim::Quit,
        };
        let (lines, victim) = self.kill_one(program, round, victim, random)?;
        match victim {
            Victim::Worker => kills.workers += 1,
            Victim::Hypervisor => kills.hypervisors += 1,
            Victim::Both => kills.both += 1,
            Victim::Quit => kills.quits += 1,
            Victim::Crash => kills.crashes += 1,
        }
        let answers = Answers::read(&lines)?;
        if self.guest.is_none() {
            self.guest = Some(Guest::start(&Place(&self.dir))?);
        }
        let checked = self.check(&answers, victim, kills);
        checked.map_err(|error| format!("{victim:?}: {error}; it had said {lines:?}").into())
    }

    /// Has a process work, kills, and returns what the process has said, and what has died.
    fn kill_one(
        &mut self,
        program: &Path,
        round: u64,
        mut victim: Victim,
        random: &mut Random,
    ) -> Result<(Vec<String>, Victim), Box<dyn Error>> {
        let mut worker = Command::new(program)
            .arg("qemu-work")
            .arg(&self.dir)
            .args([round.to_string(), random.next().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut answers = BufReader::new(worker.stdout.take().ok_or("it is piped")?);
        let mut lines = Vec::new();
        for _ in 0..=random.below(6) {
            let mut line = String::new();
            if answers.read_line(&mut line)? == 0 {
                kill(&mut worker)?;
                return Err(
                    format!("the process has ended by itself; it had said {lines:?}").into(),
                );
            }
            lines.push(line.trim_end().to_owned());
        }
        thread::sleep(Duration::from_micros(random.below(KILL_AFTER_MAX)));
        let guest = self.guest.as_mut().ok_or("QEMU runs")?;
        if !guest.is_running()? {
            return Err("QEMU has ended by itself".into());
        }
        match victim {
            Victim::Worker => {}
            Victim::Hypervisor => self.kill_guest()?,
            Victim::Both if random.below(2) == 0 => {
                self.kill_guest()?;
                thread::sleep(Duration::from_micros(random.below(KILL_AFTER_MAX / 10)));
            }
            Victim::Both => {
                kill(&mut worker)?;
                thread::sleep(Duration::from_micros(random.below(KILL_AFTER_MAX / 10)));
                self.kill_guest()?;
            }
            Victim::Quit | Victim::Crash => {
                let guest = self.guest.take().ok_or("QEMU runs")?;
                if !guest.quit()? {
                    victim = Victim::Crash;
                }
            }
        }
        match victim {
            Victim::Worker | Victim::Both => kill(&mut worker)?,
            Victim::Hypervisor | Victim::Quit | Victim::Crash => wait(&mut worker)?,
        }
        for line in answers.lines() {
            lines.push(line?);
        }
        Ok((lines, victim))
    }

    fn kill_guest(&mut self) -> Result<(), Box<dyn Error>> {
        match self.guest.take() {
            Some(guest) => Ok(guest.kill()?),
            None => Ok(()),
        }
    }

    fn check(
        &mut self,
        answers: &Answers,
        victim: Victim,
        kills: &mut QemuKills,
    ) -> Result<(), Box<dyn Error>> {
        if let (Victim::Worker, Some(why)) = (victim, &answers.stopped) {
            return Err(format!("it stopped before it was killed: {why}").into());
        }
        let domain = open(&Place(&self.dir))?.lookup_domain_by_name("vm")?;
        domain.look()?;
        let begun = Instant::now();
        while domain.job_info()?.is_some() {
            if begun.elapsed() > PATIENCE {
                return Err("a backup of small disks does not end".into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        let found = domain.reconcile()?;
        settled(&found)?;
        self.check_checkpoints(&domain, answers, kills)?;
        if matches!(victim, Victim::Worker | Victim::Quit) && !found.agrees() {
            return Err(format!("QEMU was not killed, and something is lost: {found:?}").into());
        }
        self.check_backups(&domain, answers, kills)?;
        repair(&domain, &found, kills)?;
        self.known = listed(&domain)?;
        let verified = momentlog::verify(&Place(&self.dir).store(), None, None, &mut |_| {})?;
        match verified.verdict() {
            Verdict::Unanchored | Verdict::TornTail => Ok(()),
            _ => Err(format!("{verified:?}").into()),
        }
    }

    /// Checks that what was answered is so, and that no more was done than one call.
    fn check_checkpoints(
        &self,
        domain: &Domain,
        answers: &Answers,
        kills: &mut QemuKills,
    ) -> Result<(), Box<dyn Error>> {
        let there = listed(domain)?;
        let mut expected: BTreeSet<String> = self.known.union(&answers.made).cloned().collect();
        for name in &answers.deleted {
            if there.contains(name) {
                return Err(format!("{name} was deleted, and is there").into());
            }
            expected.remove(name);
        }
        for name in expected.difference(&there) {
            if answers.deleting.as_ref() != Some(name) {
                return Err(format!("{name} was made, and is not there").into());
            }
        }
        let more = there.difference(&expected).count();
        if more > 1 {
            return Err(format!("{more} checkpoints more than were answered").into());
        }
        kills.made += u64::try_from(answers.made.len())?;
        kills.deleted += u64::try_from(answers.deleted.len())?;
        kills.in_flight += u64::try_from(more)?;
        Ok(())
    }

    /// Compares the backups that are done with their disks, and checks that no other file is left.
    fn check_backups(
        &mut self,
        domain: &Domain,
        answers: &Answers,
        kills: &mut QemuKills,
    ) -> Result<(), Box<dyn Error>> {
        let place = Place(&self.dir);
        let mut files = BTreeSet::new();
        let mut done = BTreeSet::new();
        for backup in domain.backups()? {
            let name = name_of(&backup)?;
            let is_new = self.compared.insert(backup.job);
            if backup.is_done() {
                files.extend(backup.disks.iter().map(|disk| PathBuf::from(&disk.file)));
                if is_new {
                    compare(&place, &backup, &name, kills)?;
                }
                done.insert(name);
            } else if is_new {
                kills.failed += 1;
            }
        }
        if let Some(name) = answers.done.iter().find(|name| !done.contains(*name)) {
            return Err(format!("backup {name} was done, and is not").into());
        }
        for entry in std::fs::read_dir(place.backups())? {
            let path = entry?.path();
            if !files.remove(&path) {
                return Err(format!("{} is of no backup that is done", path.display()).into());
            }
        }
        if let Some(path) = files.first() {
            return Err(format!("{} is gone", path.display()).into());
        }
        let precious = std::fs::read(self.dir.join("precious"));
        if !precious.is_ok_and(|found| found == PRECIOUS) {
            return Err("a file was touched that was there before".into());
        }
        Ok(())
    }
}

impl Answers {
    fn read(lines: &[String]) -> Result<Answers, Box<dyn Error>> {
        let mut answers = Answers::default();
        for line in lines {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let rest = rest.to_owned();
            match word {
                "ready" => {}
                "made" => {
                    answers.made.insert(rest);
                }
                "deleting" => answers.deleting = Some(rest),
                "deleted" => {
                    answers.deleting = None;
                    answers.deleted.insert(rest);
                }
                "done" => answers.done.push(rest),
                "stopped" => answers.stopped = Some(rest),
                _ => return Err(format!("it said {line:?}").into()),
            }
        }
        Ok(answers)
    }
}

fn listed(domain: &Domain) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let found = domain.list_all_checkpoints(CheckpointListFlags::NONE)?;
    Ok(found.iter().map(|found| found.name().to_string()).collect())
}

/// Checks that no job is open, and that nothing is left of one.
fn settled(found: &Reconciled) -> Result<(), Box<dyn Error>> {
    let is_left = |kind| kind == BitmapKind::Leftover;
    if !found.running || !found.jobs.is_empty() {
        return Err(format!("it is not settled: {found:?}").into());
    }
    match found.unrecorded.iter().find(|found| is_left(found.kind)) {
        Some(left) => Err(format!("left over: {left:?}").into()),
        None => Ok(()),
    }
}

/// Takes all steps of the plan, after which log and hypervisor agree.
fn repair(
    domain: &Domain,
    found: &Reconciled,
    kills: &mut QemuKills,
) -> Result<(), Box<dyn Error>> {
    if found.agrees() {
        return Ok(());
    }
    for disk in found.checkpoints.iter().flat_map(|found| &found.disks) {
        *kills.states.entry(disk.state.as_str()).or_default() += 1;
    }
    for unrecorded in &found.unrecorded {
        *kills.states.entry(unrecorded.kind.as_str()).or_default() += 1;
    }
    for step in &found.plan {
        domain.repair(step)?;
        kills.repairs += 1;
    }
    let again = domain.reconcile()?;
    if again.agrees() {
        Ok(())
    } else {
        Err(format!("it is repaired, and differs: {again:?}").into())
    }
}

/// The name that the process gave a backup.
fn name_of(backup: &Backup) -> Result<String, Box<dyn Error>> {
    let file = backup.disks.first().map(|disk| Path::new(&disk.file));
    let name = file.and_then(|file| file.file_name()?.to_str()?.split_once('.'));
    let (name, _) = name.ok_or("a backup without a file")?;
    Ok(name.to_owned())
}

/// Compares the copies of a backup with what its disks held when it was begun.
fn compare(
    place: &Place<'_>,
    backup: &Backup,
    name: &str,
    kills: &mut QemuKills,
) -> Result<(), Box<dyn Error>> {
    for copied in &backup.disks {
        let disk = DISKS.into_iter().find(|disk| *disk == copied.disk);
        let disk = disk.ok_or("a backup of another disk")?;
        let file = Path::new(&copied.file);
        match &copied.since {
            None => kills.whole += 1,
            Some(since) => {
                // What it does not hold is as it was when the checkpoint was made.
                let below = place.content(since, disk).display().to_string();
                qemu_img(&["rebase", "-u", "-F", "raw", "-b", &below], file)?;
                kills.incremental += 1;
            }
        }
        let restored = place.0.join("restored");
        let from = copied.file.as_str();
        let words = ["convert", "-f", "qcow2", "-O", "raw", from];
        qemu_img(&words, &restored)?;
        if std::fs::read(&restored)? != std::fs::read(place.content(name, disk))? {
            return Err(format!("backup {name} of {disk} is done, and differs: {backup:?}").into());
        }
    }
    Ok(())
}

/// Waits for a process that must end by itself.
fn wait(process: &mut Child) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    while process.try_wait()?.is_none() {
        if begun.elapsed() > PATIENCE {
            kill(process)?;
            return Err("the process hangs without its QEMU".into());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
