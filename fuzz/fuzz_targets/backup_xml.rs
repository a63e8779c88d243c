#![no_main]
//! Any text as the XML of a backup.

libfuzzer_sys::fuzz_target!(|text: &str| momentlog_proptests::untrusted::backup_xml(text));
