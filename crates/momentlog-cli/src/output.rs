//! What commands print, on its way to standard output or to a pager.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use crate::failure::{complain, reason};
use crate::interrupt;
use crate::pager::Pager;
use crate::progress;

/// What is printed and not written yet.
#[derive(Debug, Default)]
pub struct Output {
    text: String,
    writable: Writable,
    /// Whether what comes goes to a pager, and the pager once there is something to show.
    paged: bool,
    pager: Option<Pager>,
}

/// What became of standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writable {
    #[default]
    Yes,
    /// Its reader went away: the commands still count, and write no more.
    Closed,
    /// It failed: the run does, too.
    Failed,
}

/// Output that a command has before it is written, in bytes.
const TEXT_LEN_MAX: usize = 64 << 10;

impl Output {
    /// Returns an output that takes no text.
    pub fn closed() -> Output {
        Output {
            writable: Writable::Closed,
            ..Output::default()
        }
    }

    /// Begins the answer of a command; returns whether a pager is to show it, which needs a terminal.
    pub fn begin(&mut self, paged: bool) -> bool {
        self.paged = paged && std::io::stdout().is_terminal();
        self.paged
    }

    /// Adds text. Long text is written at once.
    pub fn print(&mut self, text: &str) {
        self.text.push_str(text);
        if self.text.len() > TEXT_LEN_MAX {
            self.write();
        }
    }

    /// Writes what there is; or drops it, if Ctrl-C ended the command that printed it.
    pub fn write(&mut self) {
        if interrupt::stops() {
            self.text.clear();
        }
        if self.writable == Writable::Yes && !self.text.is_empty() {
            progress::end();
            if self.paged && self.pager.is_none() {
                self.pager = Pager::start();
                self.paged = self.pager.is_some();
            }
            let pager = self.pager.as_mut();
            self.writable = match pager.map(|pager| pager.write(&self.text)) {
                None => write_out(&self.text),
                Some(Ok(())) => Writable::Yes,
                // Whatever the pager does not take was not wanted.
                Some(Err(_)) => Writable::Closed,
            };
        }
        self.text.clear();
    }

    /// Ends the answer of a command: a pager shows it until its reader leaves.
    pub fn end(&mut self) {
        self.write();
        self.paged = false;
        if let Some(pager) = self.pager.take() {
            pager.finish();
            // That the reader has left says nothing about the terminal.
            self.writable = Writable::Yes;
        }
    }

    /// Whether there still is a reader.
    pub fn is_heard(&self) -> bool {
        self.writable == Writable::Yes
    }

    /// Whether standard output did not take what was written.
    pub fn has_failed(&self) -> bool {
        self.writable == Writable::Failed
    }
}

/// Writes to standard output, and says on standard error why it could not.
fn write_out(text: &str) -> Writable {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Ok(()) => Writable::Yes,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Writable::Closed,
        Err(error) => {
            complain(&[format!("cannot write standard output: {}", reason(&error))]);
            Writable::Failed
        }
    }
}

/// Writes what is no command's output to standard output. Returns the exit status: 1 if it could not be written; a reader
/// that went away is no fault.
pub fn put_out(text: &str) -> u8 {
    u8::from(write_out(text) == Writable::Failed)
}
