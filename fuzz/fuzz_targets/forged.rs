#![no_main]
//! Any sequence of commands and of events that no command causes.

use momentlog_proptests::{Forged, apply_forged};

libfuzzer_sys::fuzz_target!(|steps: Vec<Forged>| apply_forged(&steps));
