//! The suites that play commands over a store, and the recordings of libvirt, over a database.

use std::path::Path;

use momentlog::Connection;
use momentlog_conformance::{Report, Stage, play_over};
use momentlog_proptests::{fleet, ops, run, run_fleet};
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{VERIFY, effort, init, open, server};

/// Returns `ordinary` generated values, the same in every run.
fn generated<T>(strategy: impl Strategy<Value = T>, ordinary: usize) -> impl Iterator<Item = T> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[18; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let new = move |_| {
        let tree = strategy.new_tree(&mut runner);
        tree.expect("values can be generated").current()
    };
    (0..effort("MOMENTLOG_CASES", ordinary)).map(new)
}

#[test]
fn every_sequence_of_commands_agrees_with_the_model() {
    let Some(server) = server("generated commands over PostgreSQL") else {
        return;
    };
    for (case, ops) in generated(ops(60), 8).enumerate() {
        let log = format!("ops {case}");
        init(&server, &log);
        run(&ops, Box::new(open(&server, "agent", &log)));
    }
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
}

#[test]
fn several_domains_request_ids_and_archives_agree_with_the_model() {
    let Some(server) = server("generated turns over PostgreSQL") else {
        return;
    };
    for (case, turns) in generated(fleet(40), 8).enumerate() {
        let log = format!("fleet {case}");
        init(&server, &log);
        run_fleet(&turns, &mut || Box::new(open(&server, "keeper", &log)));
    }
    let archived = "SELECT count(*) > 0 FROM momentlog.removals";
    assert_eq!(server.psql("auditor", archived).unwrap(), "t");
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
}

#[test]
fn the_recordings_of_libvirt_are_answered_as_recorded() {
    let Some(server) = server("libvirt's recordings over PostgreSQL") else {
        return;
    };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proptests/conformance/traces");
    let mut traces: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    traces.sort();
    let mut found = Report::default();
    let every = effort("MOMENTLOG_TRACE_EVERY", 12);
    for trace in traces.iter().step_by(every) {
        let name = trace.file_stem().unwrap().to_str().unwrap();
        init(&server, name);
        let stage = Stage {
            reopen_every: Some(50),
            ..Stage::test_driver()
        };
        let text = std::fs::read_to_string(trace).unwrap();
        let report = play_over(name, &text, &stage, &|options| {
            Ok(Connection::over(
                Box::new(open(&server, "agent", name)),
                options,
            ))
        });
        found.add(report.unwrap());
    }
    println!(
        "{} calls of {} traces",
        found.calls,
        traces.len().div_ceil(every)
    );
    let first = found.divergences.first();
    assert!(
        first.is_none(),
        "{} differ, first {}",
        found.divergences.len(),
        first.unwrap()
    );
    assert!(found.calls > 100);
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
}
