#![no_main]
//! Any JSON as the replies of a hypervisor.

libfuzzer_sys::fuzz_target!(|text: &str| momentlog_proptests::untrusted::monitor(text));
