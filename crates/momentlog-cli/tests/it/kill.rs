//! `kill -9` at a random moment of a long script, again and again on the same store.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};

use super::*;

const ROUNDS: u64 = 50;
const COMMANDS: u64 = 400;

/// A small generator, so that a seed replays a run.
fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn every_command_that_answered_is_there_after_the_kill() {
    let program = Program::with_domain();
    let seed = std::process::id();
    println!("seed {seed}");
    let mut random = u64::from(seed);
    let mut expected: BTreeSet<String> = BTreeSet::new();
    let mut in_flight = 0;
    for round in 0..ROUNDS {
        let name = |index: u64| format!("r{round}-c{index}");
        let commands =
            (0..COMMANDS).map(|index| format!("checkpoint-create-as web01 {}", name(index)));
        let script = commands.collect::<Vec<_>>().join(
            "
",
        );
        let mut child = program
            .command()
            .arg(script)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut answers = String::new();
        for _ in 0..next(&mut random) % (COMMANDS / 4) {
            out.read_line(&mut answers).unwrap();
        }
        // Somewhere inside what comes next, too, not only right after an answer.
        for _ in 0..next(&mut random) % 2_000_000 {
            std::hint::black_box(round);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        out.read_to_string(&mut answers).unwrap();

        let answered = answers
            .lines()
            .filter(|line| line.ends_with(" created"))
            .count() as u64;
        expected.extend((0..answered).map(name));
        let listed = program.run(&["-q", "checkpoint-list", "web01", "--name"]);
        let found: BTreeSet<String> = listed.out.lines().map(str::to_owned).collect();
        let lost: Vec<_> = expected.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}, seed {seed}: lost {lost:?}");
        let more: Vec<String> = found.difference(&expected).cloned().collect();
        assert!(
            more.is_empty() || more == [name(answered)],
            "round {round}, seed {seed}: {more:?}"
        );
        in_flight += more.len();
        expected.extend(more);
        let verified = program.run(&["verify"]);
        assert!(
            matches!(verified.status, 0 | 4),
            "round {round}, seed {seed}: {verified:?}"
        );
    }
    // What a torn tail left is cut by the next writer, and then nothing is left to say.
    assert_eq!(
        program
            .run(&["checkpoint-create-as", "web01", "last"])
            .status,
        0
    );
    let verified = program.run(&["verify"]);
    assert_eq!(verified.status, 0, "{verified:?}");
    println!(
        "{ROUNDS} kills, {} answered, {in_flight} in flight and recorded",
        expected.len()
    );
}
