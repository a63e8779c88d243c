#![no_main]
//! A workload that is stopped at one moment, and recovers from a power failure while power fails again.

use momentlog_proptests::{Step, crash_once};

libfuzzer_sys::fuzz_target!(|input: (Vec<Step>, u8, u64)| {
    let (steps, stop, seed) = input;
    crash_once(&steps, stop.into(), seed)
});
