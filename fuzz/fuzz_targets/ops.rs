#![no_main]
//! Any sequence of commands, against the model.

use momentlog::store::MemoryStore;
use momentlog_proptests::{Op, run};

libfuzzer_sys::fuzz_target!(|ops: Vec<Op>| run(&ops, Box::new(MemoryStore::new())));
