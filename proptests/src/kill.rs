//! Real processes that write and read one store, and are killed again and again.
//!
//! A writer process has several threads and prints a line for every answer; a reader process prints a line for every
//! record that it sees. A second writer waits for the first one's lock. After each kill, what was printed must be in the
//! log.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use momentlog::core::{Action, Command as Asked, CreateCheckpoint, DomainUuid};
use momentlog::store::Verdict;
use momentlog::{Connection, Options};

use crate::sim_disk::Random;
use crate::suite::domain_def_of;

/// How many writing threads a writer process has.
const THREADS: u8 = 4;

/// How many reader processes there are.
const READERS: usize = 2;

/// A store that long is left for a new one, so that opening it stays quick.
const RECORDS_MAX: u64 = 6_000;

/// What a run of kills found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kills {
    /// Rounds, each with two reader processes that are killed last.
    pub rounds: u64,
    /// Writer processes that were killed, one of them while the other waited to take over.
    pub writers: u64,
    /// Records that were acknowledged, and are there.
    pub acknowledged: u64,
    /// Records that were on their way, and are there as a whole.
    pub in_flight: u64,
    /// Records that reader processes saw, and are there.
    pub seen: u64,
}

fn options() -> Options {
    Options {
        lock_wait: Duration::from_mins(1),
        ..Options::default()
    }
}

/// The work of a writer process: threads that create checkpoints, each of a domain of its own, for ever.
///
/// # Errors
///
/// What the store says.
///
/// # Panics
///
/// If a thread panics.
pub fn write_until_killed(uri: &str) -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(Connection::open_with(uri, options())?);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || write(&store, thread).map_err(|error| error.to_string()))
        })
        .collect();
    for thread in threads {
        thread.join().expect("a writer does not panic")?;
    }
    Ok(())
}

fn write(store: &Connection, thread: u8) -> Result<(), Box<dyn std::error::Error>> {
    let uuid = DomainUuid::from_bytes([thread + 1; 16]);
    let def = domain_def_of(&format!("vm{thread}"), uuid);
    let execute = |action| {
        let outcome = store.execute(&Asked {
            domain: uuid,
            action,
        })?;
        // One write for a line, so that no line is mixed with another's or cut by the kill.
        let line = format!("{}\n", outcome.seq);
        io::stdout().lock().write_all(line.as_bytes())?;
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    execute(Action::Define(def))?;
    let mut now = 0;
    loop {
        now += 1;
        execute(Action::CreateCheckpoint(CreateCheckpoint {
            name: None,
            description: None,
            now,
            disks: Vec::new(),
        }))?;
    }
}

/// The work of a reader process: following the log, for ever.
///
/// # Errors
///
/// What the store says.
pub fn read_until_killed(uri: &str) -> Result<(), Box<dyn std::error::Error>> {
    let store = Connection::open_with(
        uri,
        Options {
            read_only: true,
            ..options()
        },
    );
    let mut entries = match store {
        Ok(store) => store.subscribe(None),
        // The writer has not begun yet.
        Err(_) => Connection::open_with(uri, options())?.subscribe(None),
    };
    loop {
        for entry in entries.next(Duration::from_secs(1))? {
            let line = format!("{} {}\n", entry.head.seq, entry.head.digest);
            io::stdout().lock().write_all(line.as_bytes())?;
        }
    }
}

/// Kills writers, and readers with them, `rounds` times on stores in `dir`. `program` is run with the words `write URI` or
/// `read URI`, and must then call [`write_until_killed`] or [`read_until_killed`]. `progress` is called with each round.
///
/// # Errors
///
/// What the operating system or the store says.
///
/// # Panics
///
/// If an acknowledged record, or one that a reader saw, is lost, or the log does not verify; the message has the seed.
pub fn kill_writers(
    program: &Path,
    dir: &Path,
    rounds: u64,
    seed: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Kills, Box<dyn std::error::Error>> {
    let mut random = Random(seed);
    let mut kills = Kills::default();
    let mut stores = 0;
    let mut known: BTreeMap<u64, String> = BTreeMap::new();
    for round in 0..rounds {
        if known.len() as u64 > RECORDS_MAX {
            known.clear();
            stores += 1;
        }
        let path = dir.join(format!("store-{stores}"));
        let uri = format!("momentlog://{}", path.display());
        let mut readers: Vec<Child> = (0..READERS)
            .map(|_| spawn(program, "read", &uri))
            .collect::<io::Result<_>>()?;
        let mut acknowledged = Vec::new();
        // The first writer has the lock, and the second one waits for it; sometimes neither gets far.
        let mut first = spawn(program, "write", &uri)?;
        let mut answers = BufReader::new(first.stdout.take().expect("it is piped"));
        let patience = random.below(60);
        acknowledged.extend(some_lines(&mut answers, patience)?);
        let mut second = match patience {
            0 => None,
            _ => Some(spawn(program, "write", &uri)?),
        };
        acknowledged.extend(some_lines(&mut answers, patience / 2)?);
        kill_after(&mut first, random.below(3_000))?;
        acknowledged.extend(answers.lines().collect::<io::Result<Vec<_>>>()?);
        if let Some(second) = &mut second {
            let mut answers = BufReader::new(second.stdout.take().expect("it is piped"));
            acknowledged.extend(some_lines(&mut answers, random.below(20))?);
            kill_after(second, random.below(3_000))?;
            acknowledged.extend(answers.lines().collect::<io::Result<Vec<_>>>()?);
        }
        let mut shown = Vec::new();
        for reader in &mut readers {
            kill(reader)?;
            let out = reader.stdout.take().expect("it is piped");
            shown.extend(
                BufReader::new(out)
                    .lines()
                    .collect::<io::Result<Vec<_>>>()?,
            );
        }

        let context = format!("round {round}, seed {seed}");
        if !path.exists() {
            assert!(acknowledged.is_empty() && shown.is_empty(), "{context}");
            continue;
        }
        let verified = momentlog::verify(&path, None, None, &mut |_| {});
        let found = match verified {
            Ok(verified) => {
                let verdict = verified.verdict();
                assert!(
                    matches!(verdict, Verdict::Unanchored | Verdict::TornTail),
                    "{context}: {verified:?}"
                );
                let mut found = BTreeMap::new();
                let store = Connection::open_read_only(&uri)?;
                for entry in store.history(None)?.entries() {
                    let head = entry?.head;
                    found.insert(head.seq.get(), head.digest.to_string());
                }
                found
            }
            // Nothing was written yet.
            Err(_) => BTreeMap::new(),
        };
        for (seq, digest) in &known {
            assert_eq!(found.get(seq), Some(digest), "{context}: record {seq}");
        }
        for line in &acknowledged {
            let seq: u64 = line.trim().parse()?;
            assert!(found.contains_key(&seq), "{context}: record {seq} is lost");
        }
        for line in &shown {
            let (seq, digest) = line.split_once(' ').expect("a reader prints both");
            let there = found.get(&seq.parse()?).map(String::as_str);
            assert_eq!(there, Some(digest), "{context}: record {seq} has vanished");
        }
        let new = (found.len() - known.len()) as u64;
        let in_flight = new.saturating_sub(acknowledged.len() as u64);
        // The first record has no answer of its own.
        let most = 2 * u64::from(THREADS) + u64::from(known.is_empty());
        assert!(
            in_flight <= most,
            "{context}: {in_flight} more than answered"
        );
        kills.rounds += 1;
        kills.writers += 1 + u64::from(second.is_some());
        kills.acknowledged += acknowledged.len() as u64;
        kills.in_flight += in_flight;
        kills.seen += shown.len() as u64;
        assert!(
            found.keys().copied().eq(1..=found.len() as u64),
            "{context}"
        );
        known = found;
        progress(round + 1);
    }
    Ok(kills)
}

fn some_lines(from: &mut impl io::BufRead, count: u64) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for _ in 0..count {
        let mut line = String::new();
        from.read_line(&mut line)?;
        lines.push(line);
    }
    Ok(lines)
}

fn kill_after(child: &mut Child, micros: u64) -> io::Result<()> {
    std::thread::sleep(Duration::from_micros(micros));
    kill(child)
}

/// Kills a process, which must not have ended by itself: what it was answered would be missing from its lines.
fn kill(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    let ended = child.wait()?;
    assert_eq!(ended.code(), None, "it ended before it was killed: {ended}");
    Ok(())
}

fn spawn(program: &Path, word: &str, uri: &str) -> io::Result<Child> {
    Command::new(program)
        .args([word, uri])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
}
