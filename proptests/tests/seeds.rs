//! Every seed and every crasher of the fuzz targets, played without a fuzzer.

use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use momentlog::store::MemoryStore;
use momentlog_proptests::untrusted::{self, Edit, MadeUpFacts, MadeUpLog};
use momentlog_proptests::{
    Forged, Op, SharedStore, Step, Turns, apply_forged, crash_once, picture, run, run_fleet,
};

/// Returns what a target is given for these bytes, as libFuzzer's wrapper makes it; none if they are too few.
fn given<'a, T: Arbitrary<'a>>(bytes: &'a [u8]) -> Option<T> {
    T::arbitrary_take_rest(Unstructured::new(bytes)).ok()
}

/// Plays one input of a target; returns whether there is such a target.
fn play(target: &str, bytes: &[u8]) -> bool {
    match target {
        "frame" => untrusted::frame(bytes),
        "log" => given::<MadeUpLog>(bytes).iter().for_each(untrusted::log),
        "facts" => given::<Vec<MadeUpFacts>>(bytes)
            .iter()
            .for_each(|made_up| untrusted::facts(made_up)),
        "snapshot_xml" => given(bytes).into_iter().for_each(untrusted::snapshot_xml),
        "checkpoint_xml" => given(bytes).into_iter().for_each(untrusted::checkpoint_xml),
        "domain_xml" => given(bytes).into_iter().for_each(untrusted::domain_xml),
        "backup_xml" => given(bytes).into_iter().for_each(untrusted::backup_xml),
        "monitor" => given(bytes).into_iter().for_each(untrusted::monitor),
        "rpc_frame" => untrusted::rpc_frame(bytes),
        "rpc_relay" => untrusted::rpc_relay(bytes),
        "rpc_session" => untrusted::rpc_session(bytes),
        "ops" => given::<Vec<Op>>(bytes)
            .iter()
            .for_each(|ops| run(ops, Box::new(MemoryStore::new()))),
        "fleet" => given::<Turns>(bytes).iter().for_each(|turns| {
            let store = SharedStore::new();
            run_fleet(&turns.0, &mut || Box::new(store.clone()));
        }),
        "image" => given::<(Vec<Op>, Vec<Edit>)>(bytes)
            .iter()
            .for_each(|(ops, edits)| untrusted::image(ops, edits)),
        "crash" => given::<(Vec<Step>, u8, u64)>(bytes)
            .iter()
            .for_each(|(steps, stop, seed)| crash_once(steps, (*stop).into(), *seed)),
        "point" => given::<(i64, u8, bool, &str)>(bytes)
            .into_iter()
            .for_each(|(now, zone, end, text)| untrusted::point(now, zone, end, text)),
        "graph" => given::<(Vec<Op>, Vec<String>)>(bytes)
            .iter()
            .for_each(|(ops, texts)| _ = picture(ops, texts)),
        "forged" => given::<Vec<Forged>>(bytes)
            .iter()
            .for_each(|steps| apply_forged(steps)),
        _ => return false,
    }
    true
}

#[test]
fn every_seed_of_every_target_is_played() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    for entry in std::fs::read_dir(fuzz.join("fuzz_targets")).unwrap() {
        let path = entry.unwrap().path();
        let target = path.file_stem().unwrap().to_str().unwrap();
        assert!(play(target, b""), "{target} is not played here");
        // The fuzzer starts with no target whose directory of seeds is missing.
        let seeds = std::fs::read_dir(fuzz.join("seeds").join(target));
        let seeds = seeds.unwrap_or_else(|error| panic!("seeds of {target}: {error}"));
        let mut played = 0;
        for seed in seeds {
            let path = seed.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let played_well = std::panic::catch_unwind(|| play(target, &bytes));
            assert!(played_well.is_ok(), "{}", path.display());
            played += 1;
        }
        assert!(played > 0, "{target} has no seed");
    }
}
