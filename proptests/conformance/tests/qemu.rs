//! Every recording of libvirt's qemu driver, on a real QEMU.
#![expect(clippy::print_stdout, reason = "what is left out is said")]

use std::path::Path;
use std::process::{Command, Stdio};

use momentlog_conformance::{Report, play_qemu};

/// Whether QEMU is here. Where it must be, `MOMENTLOG_NEED_QEMU` is set.
fn qemu_is_there() -> bool {
    let programs = ["qemu-system-x86_64", "qemu-img", "nbdinfo"];
    let missing = programs.into_iter().find(|program| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null());
        command.stderr(Stdio::null()).status().is_err()
    });
    match missing {
        None => true,
        Some(program) if std::env::var_os("MOMENTLOG_NEED_QEMU").is_some() => {
            panic!("{program} is not installed")
        }
        Some(program) => {
            println!("left out: {program} is not installed");
            false
        }
    }
}

#[test]
fn every_recording_of_the_qemu_driver_agrees_at_every_level() {
    if !qemu_is_there() {
        return;
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("qemu");
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 24, "{} recordings", paths.len());
    let mut report = Report::default();
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap();
        let dir = tempfile::tempdir().unwrap();
        report.add(play_qemu(&name, &text, dir.path()).unwrap());
    }
    let shown: Vec<String> = report
        .divergences
        .iter()
        .take(3)
        .map(ToString::to_string)
        .collect();
    assert!(shown.is_empty(), "{}", shown.join("\n"));
    assert!(report.calls > 1800, "{} calls", report.calls);
    let improved: usize = report.improved.values().sum();
    println!("{} calls, {improved} improved", report.calls);
}
