//! The program `momentlog-conformance`, and who reads what it prints.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn play_into(out: impl Into<Stdio>) -> Output {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let first = std::fs::read_dir(traces).unwrap().next().unwrap().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog-conformance"));
    let child = command.arg(first.path()).stdout(out).stderr(Stdio::piped());
    child.spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn a_reader_that_went_away_is_no_fault() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = play_into(writer);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_full_disk_is_an_error() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = play_into(full);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with("cannot write the report: No space left"),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(2));
}
