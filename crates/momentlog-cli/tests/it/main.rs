//! The program, run as people run it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod backups;
mod bad_input;
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
mod kill;
mod libvirt;
mod listing;
mod metadata;
mod options;
mod output;
mod pages;
mod postgres;
mod proxy;
mod readme;
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

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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
