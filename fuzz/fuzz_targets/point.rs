#![no_main]
//! Any text as a point of the log, at any time in a few time zones.

use momentlog_proptests::untrusted;

libfuzzer_sys::fuzz_target!(|input: (i64, u8, bool, &str)| {
    let (now, zone, end, text) = input;
    untrusted::point(now, zone, end, text)
});
