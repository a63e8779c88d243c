//! A pager for long answers on a terminal.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

/// What only a shell can read.
const FOR_THE_SHELL: &[char] = &[
    '|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', '\n', '*', '?', '[', '#', '~',
    '=', '%',
];

/// A pager that runs.
#[derive(Debug)]
pub struct Pager(Child);

impl Pager {
    /// Starts what `MOMENTLOG_PAGER` or `PAGER` names, or `less -FRX`. None if no pager is wanted, or it does not start: the
    /// answer then goes to the terminal.
    pub fn start() -> Option<Pager> {
        let named = ["MOMENTLOG_PAGER", "PAGER"];
        let named = named.iter().find_map(|name| std::env::var(name).ok());
        let mut command = match named.as_deref().map(str::trim) {
            Some("" | "cat") => return None,
            Some(named) if named.contains(FOR_THE_SHELL) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", named]);
                shell
            }
            // Without a shell, so that it is known whether there is such a program.
            Some(named) => {
                let mut words = named.split_whitespace();
                let mut pager = Command::new(words.next()?);
                pager.args(words);
                pager
            }
            None => {
                let mut less = Command::new("less");
                less.arg("-FRX");
                less
            }
        };
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", "FRX");
        }
        command.stdin(Stdio::piped()).spawn().ok().map(Pager)
    }

    /// Gives text to the pager.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the pager has ended.
    pub fn write(&mut self, text: &str) -> std::io::Result<()> {
        match &mut self.0.stdin {
            Some(pipe) => pipe.write_all(text.as_bytes()),
            None => Ok(()),
        }
    }

    /// Waits until the reader has seen enough.
    pub fn finish(mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
