#![no_main]
//! Any text as the XML of a checkpoint.

libfuzzer_sys::fuzz_target!(|text: &str| momentlog_proptests::untrusted::checkpoint_xml(text));
