#![no_main]
//! Any sequence of commands about several domains, under request ids and expected revisions, against the model.

use momentlog_proptests::{SharedStore, Turns, run_fleet};

libfuzzer_sys::fuzz_target!(|turns: Turns| {
    let store = SharedStore::new();
    run_fleet(&turns.0, &mut || Box::new(store.clone()));
});
