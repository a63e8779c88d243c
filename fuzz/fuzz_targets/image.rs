#![no_main]
//! A changed image with correct checksums.

use momentlog_proptests::{Op, untrusted};

libfuzzer_sys::fuzz_target!(|input: (Vec<Op>, Vec<untrusted::Edit>)| {
    untrusted::image(&input.0, &input.1)
});
