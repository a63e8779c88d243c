#![no_main]
//! Any text as the XML of a domain.

libfuzzer_sys::fuzz_target!(|text: &str| momentlog_proptests::untrusted::domain_xml(text));
