#![no_main]
//! Made-up facts and texts, in a log whose chain is whole.

libfuzzer_sys::fuzz_target!(
    |made_up: Vec<momentlog_proptests::untrusted::MadeUpFacts>| {
        momentlog_proptests::untrusted::facts(&made_up)
    }
);
