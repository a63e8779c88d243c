#![no_main]
//! Any bytes as a frame.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| momentlog_proptests::untrusted::frame(bytes));
