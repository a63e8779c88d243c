//! The campaigns of `docs/durability.md` in full:
//! `torture kill|crash|fault|tamper|driven|answers|qemu|qemu-kill|qemu-crowd|all [--rounds N] [--cases N] [--seed N]`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that tells what it found"
)]

use std::error::Error;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use momentlog_proptests::twin_qemu::compare_with_real;
use momentlog_proptests::{
    Driven, Effort, Step, Tally, compare_answers, crash_everywhere, drive_everywhere,
    fail_everywhere, kill, qemu_kill, real_qemu, some_driven, steps, tamper_everywhere,
    write_answers,
};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const USAGE: &str = "usage: torture kill|crash|fault|tamper|driven|answers|qemu|qemu-kill|qemu-crowd|all [--rounds N] [--cases N] [--seed N]";

/// Longest workload, in commands.
const COMMANDS_MAX: usize = 12;

/// Length of a workload on a hypervisor, in steps.
const STEPS_MAX: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (what, rest) = words.split_first().ok_or(USAGE)?;
    if let ("write" | "read", [uri]) = (*what, rest) {
        return match *what {
            "write" => kill::write_until_killed(uri),
            _ => kill::read_until_killed(uri),
        };
    }
    if let ("qemu-work", [dir, round, seed]) = (*what, rest) {
        return qemu_kill::work_until_killed(dir, round, seed);
    }
    if let ("qemu-crowd-work", [dir, name]) = (*what, rest) {
        return qemu_kill::join_crowd(dir, name);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (mut rounds, mut cases, mut seed) = (1000, 200, now);
    for pair in rest.chunks(2) {
        match pair {
            ["--rounds", value] => rounds = value.parse()?,
            ["--cases", value] => cases = value.parse()?,
            ["--seed", value] => seed = value.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    let all = *what == "all";
    let known = [
        "kill",
        "crash",
        "fault",
        "tamper",
        "driven",
        "answers",
        "qemu",
        "qemu-kill",
        "qemu-crowd",
    ];
    if !all && !known.contains(what) {
        return Err(USAGE.into());
    }
    println!("seed {seed}");
    if all || *what == "kill" {
        let dir = tempfile::tempdir()?;
        let begun = Instant::now();
        let program = std::env::current_exe()?;
        let kills = kill::kill_writers(&program, dir.path(), rounds, seed, &mut |round| {
            if round % 100 == 0 {
                eprintln!("{round} of {rounds} kills");
            }
        })?;
        println!("{kills:?} in {:.0?}", begun.elapsed());
    }
    if all || *what == "crash" {
        let effort = Effort {
            samples: 64,
            nested_every: 8,
        };
        campaign("crash", seed, cases, &|steps| {
            crash_everywhere(steps, effort)
        });
    }
    if all || *what == "fault" {
        let effort = Effort {
            samples: 16,
            nested_every: u64::MAX,
        };
        campaign("fault", seed, cases, &|steps| {
            fail_everywhere(steps, effort)
        });
    }
    // Its cases are longer than those of the others, so it is not of all.
    if *what == "driven" {
        drive(seed, cases);
    }
    // It needs Python, and the checkout.
    if *what == "answers" {
        return answers(seed, cases);
    }
    // These three need QEMU, which not every machine has, so they are not of all.
    if *what == "qemu-kill" {
        return kill_qemu(rounds, seed);
    }
    if *what == "qemu-crowd" {
        return kill_crowds(rounds, seed);
    }
    if *what == "qemu" {
        let dir = tempfile::tempdir()?;
        let begun = Instant::now();
        let agreed = compare_with_real(dir.path(), seed, rounds)?;
        println!(
            "{rounds} steps, 0 differences in {:.0?}\n{agreed:#?}",
            begun.elapsed()
        );
    }
    if all || *what == "tamper" {
        let begun = Instant::now();
        println!("{:?} in {:.0?}", tamper_everywhere(), begun.elapsed());
    }
    Ok(())
}

/// Lets caller and hypervisor die everywhere, in workloads whose seeds follow from this one.
fn drive(seed: u64, cases: usize) {
    let begun = Instant::now();
    let mut tally = Driven::default();
    for (case, seed) in (1..=cases).zip(seed..) {
        tally += drive_everywhere(&some_driven(seed, STEPS_MAX));
        eprintln!("{case} of {cases} workloads: {tally:?}");
    }
    println!(
        "driven: {cases} workloads, {tally:?} in {:.0?}",
        begun.elapsed()
    );
}

/// Asks stores of 2,000 records everything, and compares the answers with those of the model that reads their bytes.
fn answers(seed: u64, cases: usize) -> Result<(), Box<dyn Error>> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format/audit.py");
    let begun = Instant::now();
    for (case, seed) in (1..=cases).zip(seed..) {
        let dir = tempfile::tempdir()?;
        let answered = write_answers(dir.path(), seed, 2000, 200);
        compare_answers(&model, dir.path()).map_err(|found| format!("seed {seed}: {found}"))?;
        eprintln!("{case} of {cases} stores: {answered:?}, 0 differences");
    }
    println!(
        "answers: {cases} stores, 0 differences in {:.0?}",
        begun.elapsed()
    );
    Ok(())
}

fn kill_qemu(rounds: u64, seed: u64) -> Result<(), Box<dyn Error>> {
    if let Some(program) = real_qemu::missing(&qemu_kill::PROGRAMS) {
        return Err(format!("{program} is not installed").into());
    }
    let dir = tempfile::tempdir()?;
    let begun = Instant::now();
    let program = std::env::current_exe()?;
    let found = qemu_kill::kill_qemu(&program, dir.path(), rounds, seed, &mut |round, found| {
        if round % 20 == 0 {
            eprintln!(
                "{round} of {rounds} rounds, {} failures",
                found.failures.len()
            );
        }
    })?;
    for failure in &found.failures {
        println!("{failure}");
    }
    let failures = found.failures.len();
    println!("{found:?} in {:.0?}", begun.elapsed());
    match failures {
        0 => Ok(()),
        _ => Err(format!("{failures} failures; see {}", dir.keep().display()).into()),
    }
}

/// Lets twenty processes work on one guest at once, of which half are killed, some times.
fn kill_crowds(rounds: u64, seed: u64) -> Result<(), Box<dyn Error>> {
    if let Some(program) = real_qemu::missing(&qemu_kill::PROGRAMS) {
        return Err(format!("{program} is not installed").into());
    }
    let program = std::env::current_exe()?;
    for round in 0..rounds {
        let dir = tempfile::tempdir()?;
        let crowd = qemu_kill::kill_half(&program, dir.path(), 20, seed + round)
            .map_err(|error| format!("round {round}, seed {}: {error}", seed + round))?;
        println!("{crowd:?}");
    }
    Ok(())
}

/// Runs a check over generated workloads, and adds up what it counted.
fn campaign(name: &str, seed: u64, cases: usize, check: &dyn Fn(&[Step]) -> Tally) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let begun = Instant::now();
    let mut total = Tally::default();
    for case in 1..=cases {
        let steps = steps(COMMANDS_MAX)
            .new_tree(&mut runner)
            .expect("workloads can be generated")
            .current();
        total += check(&steps);
        if case % 10 == 0 {
            eprintln!("{case} of {cases} workloads: {total:?}");
        }
    }
    println!(
        "{name}: {cases} workloads, {total:?} in {:.0?}",
        begun.elapsed()
    );
}
