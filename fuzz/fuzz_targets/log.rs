#![no_main]
//! A log with correct checksums and digests, and then changed.

libfuzzer_sys::fuzz_target!(|made_up: momentlog_proptests::untrusted::MadeUpLog| {
    momentlog_proptests::untrusted::log(&made_up)
});
