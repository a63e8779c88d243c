#![no_main]
//! Any text as the XML of a snapshot.

libfuzzer_sys::fuzz_target!(|text: &str| momentlog_proptests::untrusted::snapshot_xml(text));
