//! `kill -9` of a real QEMU, of a process that works on it, or of both, some times; and of half of twenty processes.
#![expect(
    clippy::print_stdout,
    reason = "the seed and the counts are the result"
)]

use std::path::Path;

use momentlog_proptests::qemu_kill::{PROGRAMS, kill_half, kill_qemu};
use momentlog_proptests::real_qemu::leaves_out;

const ROUNDS: u64 = 12;

const PROCESSES: u64 = 20;

#[test]
fn what_was_answered_is_there_and_what_a_kill_of_qemu_costs_is_named() {
    if leaves_out(&PROGRAMS) {
        return;
    }
    let dir = tempfile::tempdir().expect("a scratch directory can be made");
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let program = Path::new(env!("CARGO_BIN_EXE_torture"));
    let kills = kill_qemu(program, dir.path(), ROUNDS, seed, &mut |_, _| {})
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    println!("{kills:?}");
    assert!(kills.failures.is_empty(), "{:#?}", kills.failures);
    assert!(kills.made > 0, "{kills:?}");
}

#[test]
fn twenty_processes_on_one_guest_lose_nothing_though_half_of_them_are_killed() {
    if leaves_out(&PROGRAMS) {
        return;
    }
    let dir = tempfile::tempdir().expect("a scratch directory can be made");
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let program = Path::new(env!("CARGO_BIN_EXE_torture"));
    let crowd = kill_half(program, dir.path(), PROCESSES, seed)
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    println!("{crowd:?}");
    assert_eq!(crowd.processes, PROCESSES);
    assert!(crowd.killed > 0, "{crowd:?}");
}
