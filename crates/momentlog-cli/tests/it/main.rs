//! The program, run as people run it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod backup_clients;
mod backups;
mod bad_input;
mod copying;
mod database_fleet;
mod domains;
mod dry_run;
mod edit;
mod failures;
mod format_one;
mod graph;
mod guide;
mod hints;
mod history;
mod holds;
mod hypervisor;
mod identity;
mod kill;
mod libvirt;
mod listing;
mod metadata;
mod options;
mod output;
mod pages;
mod postgres;
mod proxy;
mod proxy_units;
mod readme;
mod recording;
mod redefine_plan;
mod restore;
mod retries;
mod schema;
mod scripts;
mod serve;
mod stores;
mod suspicious;
mod terminal;
mod undelete;
mod verify;
mod virsh;
mod widths;
mod words;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The program, in a directory of its own.
pub(crate) struct Program {
    pub(crate) dir: tempfile::TempDir,
}

/// What the program answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) status: i32,
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

impl Program {
    pub(crate) fn new() -> Program {
        Program {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A program whose store has the domain of the examples.
    pub(crate) fn with_domain() -> Program {
        let program = Program::new();
        let xml = repository().join("examples/web01.xml");
        assert_eq!(program.run(&["define", xml.to_str().unwrap()]).status, 0);
        program
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// The program with its store, to be given words.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        command
            .args(["-c", "momentlog:store"])
            .current_dir(self.dir.path());
        command.env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        let ran = ran(self.command().args(words).output().unwrap());
        let json = words.windows(2).any(|pair| pair == ["--format", "json"]);
        if json || words.contains(&"--format=json") {
            schema::check_all(&ran);
        }
        ran
    }

    /// Runs on libvirt's test driver.
    pub(crate) fn run_on_test(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        command
            .args(["-c", "test:///default"])
            .args(words)
            .current_dir(self.dir.path());
        ran(command.stdin(Stdio::null()).output().unwrap())
    }

    /// Writes a file into the program's directory.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }
}

/// What a program answered; every document in it is one that its schema allows.
pub(crate) fn ran(output: Output) -> Ran {
    let ran = Ran {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        status: output.status.code().unwrap_or(-1),
    };
    let lines = ran.out.lines().chain(ran.err.lines());
    for line in lines.filter(|line| line.starts_with("{\"schema\":")) {
        schema::check(line);
    }
    ran
}

/// Says that a test is left out; it fails where the variable `needed` is set, because nothing may be left out there.
pub(crate) fn left_out(needed: &str, why: &str) {
    let is_needed = std::env::var_os(needed).is_some();
    assert!(!is_needed, "{why}, and {needed} is set");
    eprintln!("left out: {why}");
}

/// Whether the test is root's; a test that needs that is left out for others.
pub(crate) fn is_root() -> bool {
    let is_root = ran(Command::new("id").arg("-u").output().unwrap()).out == "0\n";
    if !is_root {
        eprintln!("left out: only root can be another user");
    }
    is_root
}

/// A process that is killed with the test.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server, and waits until it listens, as it says with this line.
#[track_caller]
pub(crate) fn started(command: &mut Command, says: &str) -> Killed {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut server = Killed(command.spawn().unwrap());
    let mut line = String::new();
    let stdout = server.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, format!("{says}\n"));
    server
}
