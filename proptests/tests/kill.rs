//! `kill -9` over a writer process with several threads and two reader processes, hundreds of times.
#![expect(
    clippy::print_stdout,
    reason = "the seed and the counts are the result"
)]

use std::path::Path;

use momentlog_proptests::kill::kill_writers;

const ROUNDS: u64 = 200;

#[test]
fn no_answer_is_lost_and_nothing_that_was_seen_vanishes() {
    let dir = tempfile::tempdir().expect("a scratch directory can be made");
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let program = Path::new(env!("CARGO_BIN_EXE_torture"));
    let kills = kill_writers(program, dir.path(), ROUNDS, seed, &mut |_| {})
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    println!("{kills:?}");
    assert!(
        kills.acknowledged > ROUNDS && kills.seen > ROUNDS,
        "{kills:?}"
    );
}
