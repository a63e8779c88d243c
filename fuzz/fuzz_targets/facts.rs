#![no_main]
//! Facts and texts that somebody made up, in a log whose chain is whole.

libfuzzer_sys::fuzz_target!(
    |made_up: Vec<momentlog_proptests::untrusted::MadeUpFacts>| {
        momentlog_proptests::untrusted::facts(&made_up)
    }
);
