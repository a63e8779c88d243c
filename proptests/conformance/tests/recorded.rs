//! Every recorded trace, on libvirt's test driver and on a durable store of the same profile.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use momentlog_conformance::{Report, play, play_on};

fn traces() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 127, "{} traces", paths.len());
    let named =
        |path: &std::path::PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    paths
        .iter()
        .map(|path| (named(path), std::fs::read_to_string(path).unwrap()))
        .collect()
}

#[track_caller]
fn assert_agrees(report: &Report) {
    let shown: Vec<String> = report
        .divergences
        .iter()
        .take(3)
        .map(ToString::to_string)
        .collect();
    assert!(
        shown.is_empty(),
        "{} divergences, the first are\n{}",
        report.divergences.len(),
        shown.join("\n")
    );
}

#[test]
fn every_trace_is_answered_as_recorded() {
    let mut report = Report::default();
    for (name, text) in traces() {
        report.add(play(&name, &text).unwrap());
    }
    assert_agrees(&report);
    assert!(report.calls > 16_000, "{} calls", report.calls);
}

#[test]
fn a_durable_store_of_the_test_profile_answers_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in traces()
        .into_iter()
        .filter(|(name, _)| name.starts_with("scenario-"))
    {
        let path = dir.path().join(&name);
        let report = play_on(
            &name,
            &text,
            &format!("momentlog://{}?profile=libvirt-test", path.display()),
        )
        .unwrap();
        assert_agrees(&report);
        let verified = momentlog::verify(&path, None, &mut |_| {});
        // A trace without a change makes no store.
        assert!(
            !path.exists() || verified.unwrap().log.error.is_none(),
            "{name}"
        );
    }
}

#[test]
fn a_wrong_answer_is_told() {
    let trace = r#"{"format":"momentlog-oracle-trace","version":1,"clock_base":1000000000}
{"n":0,"call":"virDomainSnapshotNum","domain":"test","moment":null,"flags":0,"readonly":false,"result":1}
{"n":1,"call":"virDomainSnapshotNum","domain":"test","moment":null,"flags":4096,"readonly":false,"result":0}"#;
    let report = play("wrong", trace).unwrap();
    assert_eq!(report.divergences.len(), 2);
    assert!(play("not a trace", "{}").is_err());
}
