//! `momentlog-conformance [--qemu] [--level LEVEL] FILE…`: plays traces, and prints where momentlog differs from libvirt.
//! With `--qemu` they are recordings of its qemu driver, which are played on a real QEMU.
#![expect(clippy::print_stderr, reason = "it is a program")]

use std::io::{BufWriter, ErrorKind, Write as _};
use std::process::ExitCode;

use momentlog_conformance::{Level, Report, play, play_qemu};

/// Divergences that are printed in full.
const SHOWN_MAX: usize = 20;

fn main() -> ExitCode {
    let mut files = Vec::new();
    let mut only = None;
    let mut qemu = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--level" => {
                let word = arguments.next().unwrap_or_default();
                only = Level::ALL.into_iter().find(|level| level.as_str() == word);
                if only.is_none() {
                    return usage();
                }
            }
            "--qemu" => qemu = true,
            _ if argument.starts_with("--") => return usage(),
            _ => files.push(argument),
        }
    }
    if files.is_empty() {
        return usage();
    }
    let mut report = Report::default();
    for file in &files {
        let played = std::fs::read_to_string(file)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                let name = std::path::Path::new(file)
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy();
                if qemu {
                    play_on_qemu(&name, &text)
                } else {
                    play(&name, &text).map_err(|error| error.to_string())
                }
            });
        match played {
            Ok(found) => report.add(found),
            Err(why) => {
                eprintln!("{file}: {why}");
                return ExitCode::from(2);
            }
        }
    }
    report
        .divergences
        .retain(|divergence| only.is_none_or(|level| divergence.level == level));
    match print(&report, only) {
        Ok(()) => {}
        // A reader that has seen enough is no fault.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cannot write the report: {error}");
            return ExitCode::from(2);
        }
    }
    ExitCode::from(u8::from(!report.divergences.is_empty()))
}

/// Plays a recording of the qemu driver in a directory of its own.
fn play_on_qemu(name: &str, text: &str) -> Result<Report, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    play_qemu(name, text, dir.path()).map_err(|error| error.to_string())
}

/// Prints the first divergences, and how much of each level agrees.
fn print(report: &Report, only: Option<Level>) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for divergence in report.divergences.iter().take(SHOWN_MAX) {
        writeln!(out, "{divergence}")?;
    }
    for level in Level::ALL
        .into_iter()
        .filter(|level| only.is_none_or(|only| only == *level))
    {
        let compared = report.compared.get(&level).copied().unwrap_or_default();
        let divergent = report
            .divergences
            .iter()
            .filter(|divergence| divergence.level == level)
            .count();
        writeln!(
            out,
            "{:8} {:6} of {compared:6} agree",
            level.as_str(),
            compared - divergent
        )?;
    }
    for (rule, count) in &report.improved {
        writeln!(out, "improved {count:6}: {rule}")?;
    }
    writeln!(
        out,
        "conformance: {} calls, {} divergent",
        report.calls,
        report.divergences.len()
    )?;
    out.flush()
}

fn usage() -> ExitCode {
    let levels = Level::ALL.map(Level::as_str).join("|");
    eprintln!("usage: momentlog-conformance [--qemu] [--level {levels}] FILE…");
    ExitCode::from(2)
}
