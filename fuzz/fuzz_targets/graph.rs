#![no_main]
//! Any history and any names, as a page and as an SVG.

use momentlog_proptests::{Op, picture};

libfuzzer_sys::fuzz_target!(|input: (Vec<Op>, Vec<String>)| {
    picture(&input.0, &input.1);
});
