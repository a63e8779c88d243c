//! The simulated hypervisor against a real one.
#![expect(
    clippy::print_stdout,
    reason = "the seed and the counts are the result"
)]

use momentlog_proptests::real_qemu::{PROGRAMS, leaves_out};
use momentlog_proptests::twin_qemu::compare_with_real;

/// Random steps, unless `MOMENTLOG_QEMU_STEPS` says how many.
const STEPS: u64 = 300;

#[test]
fn the_simulation_does_what_a_real_storage_daemon_does() {
    if leaves_out(&PROGRAMS) {
        return;
    }
    let steps = std::env::var("MOMENTLOG_QEMU_STEPS").map_or(STEPS, |steps| {
        steps.parse().expect("MOMENTLOG_QEMU_STEPS is a number")
    });
    let directory = tempfile::tempdir().expect("a scratch directory can be made");
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let agreed = compare_with_real(directory.path(), seed, steps)
        .unwrap_or_else(|difference| panic!("{difference}"));
    println!("{agreed:#?}");
}
