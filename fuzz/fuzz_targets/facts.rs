#![no_main]
//! Any facts and texts in a log whose chain is whole.

libfuzzer_sys::fuzz_target!(|drafts: Vec<(Vec<u8>, Vec<u8>)>| {
    momentlog_proptests::untrusted::facts(&drafts)
});
