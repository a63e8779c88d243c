//! Compares momentlog with other stores and the bare disk: both sides on the same work, in turn, in one run.
//!
//! `momentlog-bench [--short] [--only PART] [--dir DIR] [--markdown FILE]`. `docs/performance.md` explains each row.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints what it measured"
)]

mod append;
mod ask;
mod beside;
mod command;
mod hot;
mod libvirt;
mod libvirtd;
mod look;
mod measure;
mod peers;
mod postgres;
mod proxy;
mod qemu;
mod serve;
mod state;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use measure::{Effort, Table};

/// Why a measurement was not made.
type Failed = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: momentlog-bench [--short] [--only append|command|state|beside|look|ask|libvirt|serve|proxy|qemu|postgres] [--dir DIR] [--markdown FILE]";

/// Measures some rows, with files in a directory.
type Rows = fn(&Path, Effort, &mut Table) -> Result<(), Failed>;

const PARTS: [(&str, Rows); 11] = [
    ("append", append::rows),
    ("command", command::rows),
    ("state", state::rows),
    ("beside", beside::rows),
    ("look", look::rows),
    ("ask", ask::rows),
    ("libvirt", libvirt::rows),
    ("serve", serve::rows),
    ("proxy", proxy::rows),
    ("qemu", qemu::rows),
    ("postgres", postgres::rows),
];

fn main() -> Result<(), Failed> {
    let mut effort = Effort {
        rounds: 9,
        round: Duration::from_millis(600),
        live: 100_000,
        many: 1_000_000,
    };
    let mut instructions = false;
    let (mut dir, mut markdown, mut only) = (PathBuf::from("."), None, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--short" => {
                effort = Effort {
                    rounds: 3,
                    round: Duration::from_millis(200),
                    live: 10_000,
                    many: 20_000,
                }
            }
            "--only" => only = Some(words.next().ok_or(USAGE)?),
            "--dir" => dir = words.next().ok_or(USAGE)?.into(),
            "--hot" => {
                let name = words.next().ok_or(USAGE)?;
                let mut number = || words.next().ok_or(USAGE)?.parse().map_err(|_| USAGE);
                return hot::run(&name, number()?, number()?);
            }
            "--memory" => {
                let moments = words.next().ok_or(USAGE)?.parse().map_err(|_| USAGE)?;
                println!("{}", state::grown(moments)?);
                return Ok(());
            }
            "--fleet-memory" => {
                let domains = words.next().ok_or(USAGE)?.parse().map_err(|_| USAGE)?;
                println!("{}", beside::fleet_memory(domains)?);
                return Ok(());
            }
            "--look" => {
                let path = PathBuf::from(words.next().ok_or(USAGE)?);
                println!("{}", look::look(&path, &words.next().ok_or(USAGE)?)?);
                return Ok(());
            }
            "--nightly" => {
                let path = PathBuf::from(words.next().ok_or(USAGE)?);
                let mut number = || words.next().ok_or(USAGE)?.parse().map_err(|_| USAGE);
                return look::make(&path, number()?, number()?);
            }
            "--ask" => {
                let path = PathBuf::from(words.next().ok_or(USAGE)?);
                let mut number = || words.next().ok_or(USAGE)?.parse().map_err(|_| USAGE);
                ask::of_store(&path, number()?, number()?, effort, &mut Table::default())?;
                return Ok(());
            }
            "--idle" => {
                let path = PathBuf::from(words.next().ok_or(USAGE)?);
                let count = words.next().ok_or(USAGE)?.parse().map_err(|_| USAGE)?;
                return proxy::idle(&path, count);
            }
            "--run" => {
                println!("{}", ask::run(words)?);
                return Ok(());
            }
            "--checkpoints" => {
                let mut word = || words.next().ok_or(USAGE);
                let (store, name) = (PathBuf::from(word()?), word()?);
                let time = Duration::from_millis(word()?.parse().map_err(|_| USAGE)?);
                println!("{}", qemu::checkpoints(&store, &name, time)?);
                return Ok(());
            }
            "--instructions" => instructions = true,
            "--markdown" => markdown = Some(PathBuf::from(words.next().ok_or(USAGE)?)),
            _ => return Err(USAGE.into()),
        }
    }
    if instructions {
        let text = hot::instructions()?;
        println!("{text}");
        return Ok(markdown.map_or(Ok(()), |path| std::fs::write(path, text))?);
    }
    let begun = Instant::now();
    // On the disk that is asked for: the system's temporary directory is often memory.
    let scratch = tempfile::Builder::new()
        .prefix("momentlog-bench-")
        .tempdir_in(&dir)?;
    let mut table = Table::default();
    for (part, rows) in PARTS {
        if only.as_deref().is_none_or(|only| only == part) {
            rows(scratch.path(), effort, &mut table)?;
        }
    }
    println!("{}", table.to_text());
    eprintln!("{:.0?} in all", begun.elapsed());
    if let Some(path) = markdown {
        std::fs::write(path, table.to_markdown())?;
    }
    Ok(())
}
