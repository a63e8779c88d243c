//! What a command answers, and how a failure is shown.

use std::fs::File;
use std::io::Write as _;
use std::sync::OnceLock;

use momentlog::Error;
use momentlog::core::Refusal;

use crate::layout::escaped;

/// What a verb answers: its exit status.
pub type Answer = Result<u8, Failure>;

/// Why a command failed: what goes to standard error, a line each.
#[derive(Debug)]
pub struct Failure {
    /// The lines.
    pub lines: Vec<String>,
    /// What can be done about it, if that is known: a command, where `DOMAIN` stands for the one that the failed command named.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure that the verb itself found.
    pub fn new(line: impl Into<String>) -> Failure {
        Failure {
            lines: vec![line.into()],
            hint: None,
        }
    }

    /// Adds a line.
    #[must_use]
    pub fn and(mut self, line: impl Into<String>) -> Failure {
        self.lines.push(line.into());
        self
    }

    /// Puts the verb's own line before what the library says.
    pub fn under(line: impl Into<String>) -> impl FnOnce(Error) -> Failure {
        let line = line.into();
        move |error| Failure {
            lines: vec![line, error.message().to_owned()],
            hint: hint(&error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure {
            hint: hint(&error),
            ..Failure::new(error.message())
        }
    }
}

/// What can be done about an error.
fn hint(error: &Error) -> Option<String> {
    match error.refusal()? {
        Refusal::Held {
            kind, name, tag, ..
        } => {
            let (name, tag) = (escaped(name.as_str()), escaped(tag.as_str()));
            Some(format!("{kind}-release DOMAIN {name} --tag {tag}"))
        }
        _ => None,
    }
}

/// Writes what can be done about a failure to standard error.
pub fn advise(hint: &str) {
    let _ = writeln!(std::io::stderr().lock(), "hint: {hint}");
}

/// What the operating system calls an error, without Rust's number.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// An error with what caused it.
pub fn with_reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The file of `--log`, which errors go to as well.
pub static LOG: OnceLock<File> = OnceLock::new();

/// Writes a line about what is taken for granted to standard error.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "momentlog: {line}");
}

/// Writes errors to standard error; returns the exit status 1.
pub fn complain(lines: &[String]) -> u8 {
    let mut stderr = std::io::stderr().lock();
    for line in lines {
        let _ = writeln!(stderr, "error: {line}");
        if let Some(mut log) = LOG.get() {
            let _ = writeln!(log, "ERROR {}", escaped(line));
        }
    }
    1
}
