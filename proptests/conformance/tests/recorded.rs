//! Every recorded trace, on libvirt's test driver and on a durable store of the same profile.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::Path;

use momentlog::procedure::Procedure;
use momentlog_conformance::{Report, Stage, play, play_on};

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
fn every_recorded_call_is_a_procedure_and_every_procedure_but_these_is_recorded() {
    let recorded: BTreeSet<String> = traces()
        .iter()
        .flat_map(|(_, text)| text.lines().skip(1))
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter_map(|line| Some(line.get("call")?.as_str()?.to_owned()))
        .collect();
    let procedures: BTreeSet<String> = Procedure::ALL
        .iter()
        .map(|procedure| procedure.name().to_owned())
        .collect();
    // libvirt's client knows the name of its handle, and makes no call.
    assert_eq!(
        recorded.difference(&procedures).collect::<Vec<_>>(),
        ["virDomainCheckpointGetName", "virDomainSnapshotGetName"]
    );
    assert_eq!(
        procedures.difference(&recorded).collect::<Vec<_>>(),
        [
            "virConnectListAllDomains",
            "virDomainAbortJob",
            "virDomainBackupBegin",
            "virDomainBackupGetXMLDesc",
            "virDomainCreateWithFlags",
            "virDomainDefineXMLFlags",
            "virDomainDestroyFlags",
            "virDomainFSFreeze",
            "virDomainFSThaw",
            "virDomainGetAutostart",
            "virDomainGetBlockJobInfo",
            "virDomainGetInfo",
            "virDomainGetJobInfo",
            "virDomainGetJobStats",
            "virDomainGetMaxMemory",
            "virDomainGetMetadata",
            "virDomainGetOSType",
            "virDomainGetXMLDesc",
            "virDomainHasManagedSaveImage",
            "virDomainIsUpdated",
            "virDomainLookupByID",
            "virDomainLookupByName",
            "virDomainLookupByUUID",
            "virDomainReboot",
            "virDomainRename",
            "virDomainReset",
            "virDomainSetAutostart",
            "virDomainSetMetadata",
            "virDomainShutdownFlags",
        ]
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
fn a_durable_store_that_is_reopened_now_and_then_answers_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut report = Report::default();
    for (name, text) in traces() {
        let path = dir.path().join(&name);
        let uri = format!("momentlog://{}?profile=libvirt-test", path.display());
        let stage = Stage {
            uri,
            reopen_every: Some(23),
            chain: false,
        };
        report.add(play_on(&name, &text, &stage).unwrap());
        let verified = momentlog::verify(&path, None, None, &mut |_| {}).unwrap();
        assert_eq!(
            verified.verdict().exit_status(false),
            0,
            "{name}: {verified:?}"
        );
    }
    assert_agrees(&report);
}

#[test]
fn under_the_chain_policy_every_divergence_follows_from_a_refused_fork() {
    let mut refused = 0;
    for (name, text) in traces() {
        let stage = Stage {
            chain: true,
            ..Stage::test_driver()
        };
        let report = play_on(&name, &text, &stage).unwrap();
        if let Some(first) = report.divergences.first() {
            let of_call = report
                .divergences
                .iter()
                .filter(|divergence| divergence.call == first.call);
            let fork = of_call
                .into_iter()
                .any(|divergence| divergence.got.contains("would fork the chain"));
            assert!(fork, "{first}");
            refused += 1;
        }
    }
    assert!(refused > 10, "only {refused} traces fork");
}

/// What libvirt wrote, call by call: kind, and XML without the embedded domain.
fn recorded_xml() -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for (_, text) in traces() {
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(xml) = value
                .pointer("/result/xml_stripped")
                .and_then(serde_json::Value::as_str)
            {
                found.push((xml.starts_with("<domaincheckpoint>"), xml.to_owned()));
            }
        }
    }
    found
}

#[test]
fn writing_what_was_read_from_recorded_xml_gives_the_recorded_bytes() {
    use momentlog::core::DomainUuid;
    use momentlog::xml::{
        Carry, CheckpointView, MomentRule, RecentDomain, Rule, SnapshotView,
        read_checkpoint_redefine, read_snapshot_redefine, write_checkpoint, write_snapshot,
    };
    let recent = RecentDomain::default();
    let nobody = DomainUuid::from_bytes([0; 16]);
    let no_domain =
        "  <domain>\n    <uuid>00000000-0000-0000-0000-000000000000</uuid>\n  </domain>\n";
    let (mut same, mut unreadable) = (0, 0);
    for (is_checkpoint, xml) in recorded_xml() {
        // libvirt writes no time 0, and then reads none back.
        if !xml.contains("<creationTime>") {
            unreadable += 1;
            continue;
        }
        let written = if is_checkpoint {
            let read = read_checkpoint_redefine(&xml, &recent, || nobody).unwrap();
            let view = CheckpointView {
                name: &read.name,
                parent: read.parent.as_ref(),
                created: read.created,
                def: &read.def,
                sizes: None,
            };
            write_checkpoint(view, true, false)
        } else {
            let read =
                match read_snapshot_redefine(&xml, false, Carry::Everything, &recent, || nobody) {
                    Ok(read) => read,
                    // libvirt takes external memory of a guest that is off, and then reads it back no more than we do.
                    Err(error) if error.rule == Rule::Moment(MomentRule::MemoryOffline) => {
                        unreadable += 1;
                        continue;
                    }
                    Err(error) => panic!("{error}: {xml}"),
                };
            let view = SnapshotView {
                name: &read.name,
                parent: read.parent.as_ref(),
                created: read.created,
                def: &read.def,
                domain: nobody,
            };
            write_snapshot(view, false).replace(no_domain, "")
        };
        assert_eq!(written, xml);
        same += 1;
    }
    assert!(
        same > 700,
        "{same} documents the same, {unreadable} unreadable"
    );
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
