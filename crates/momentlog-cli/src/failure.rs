//! What a command answers, and how a failure is shown.

use std::fs::File;
use std::io::Write as _;
use std::sync::OnceLock;

use momentlog::Error;
use momentlog_audit::json::{self, ErrorDoc};

use crate::colour::{ERROR, HINT, painted_err};
use crate::layout::escaped;
use crate::progress;
use crate::session::Format;

/// What a verb answers: its exit status.
pub type Answer = Result<u8, Failure>;

/// Why a command failed: what goes to standard error, a line each.
#[derive(Debug)]
pub struct Failure {
    /// The lines.
    pub lines: Vec<String>,
    /// What can be done about it, if that is known.
    pub hint: Option<String>,
    /// What the library says, if it is the library's.
    pub error: Option<Error>,
    /// The file that the fault is in, if it is known.
    pub path: Option<String>,
    /// Where the command stands in its script.
    pub place: Option<Box<Place>>,
}

/// Where a command begins in a script.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file; none for a script that is no file.
    pub path: Option<String>,
    /// The line, from 1.
    pub line: u64,
}

impl Failure {
    /// A failure that the verb itself found.
    pub fn new(line: impl Into<String>) -> Failure {
        Failure {
            lines: vec![line.into()],
            hint: None,
            error: None,
            path: None,
            place: None,
        }
    }

    /// Names the file that the fault is in.
    #[must_use]
    pub fn in_file(mut self, path: impl Into<String>) -> Failure {
        self.path = Some(path.into());
        self
    }

    /// Adds what can be done about it.
    #[must_use]
    pub fn hinted(mut self, hint: Option<String>) -> Failure {
        self.hint = hint;
        self
    }

    /// Says where the command stands.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> Failure {
        self.place = place.map(Box::new);
        self
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
            hint: None,
            path: path(&error),
            error: Some(error),
            place: None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure {
            lines: vec![error.message().to_owned()],
            hint: None,
            path: path(&error),
            error: Some(error),
            place: None,
        }
    }
}

impl Failure {
    /// The failure as a document of one line, with the records that its command made before.
    fn document(&self, records: &[u64]) -> String {
        let mut document = ErrorDoc::of(self.lines.join("; "));
        document.hint.clone_from(&self.hint);
        document.records = records.to_vec();
        if let Some(path) = &self.path {
            // The fault is in that file, and not in the script.
            document.path = Some(path.clone());
        } else if let Some(place) = &self.place {
            document.path.clone_from(&place.path);
            document.line = Some(place.line);
        }
        if let Some(error) = &self.error {
            let at = error.xml().map(|error| error.position);
            document.code = Some(error.code().number());
            document.name = Some(error.code().name());
            document.domain = Some(error.domain().number());
            error.message().clone_into(&mut document.message);
            if let Some(at) = at {
                document.path.clone_from(&self.path);
                document.line = Some(at.line as u64);
                document.column = Some(at.column as u64);
            }
        }
        json::line(&document)
    }

    /// The lines, the first with the file and line of the command.
    fn placed(&self) -> Vec<String> {
        let mut lines = self.lines.clone();
        if let (
            Some(Place {
                path: Some(path),
                line,
            }),
            Some(first),
        ) = (self.place.as_deref(), lines.first_mut())
        {
            *first = format!("{}:{line}: {first}", escaped(path));
        }
        lines
    }

    /// Shows the failure on standard error, as its command answers; returns the exit status 1.
    pub fn show(&self, format: Format) -> u8 {
        self.show_with(format, &[])
    }

    /// As [`show`](Self::show), with the records that the command made before.
    pub fn show_with(&self, format: Format, records: &[u64]) -> u8 {
        if self.lines.is_empty() {
            return 1;
        }
        match format {
            Format::Text => {
                complain(&self.placed());
                if let Some(hint) = &self.hint {
                    let word = painted_err(HINT, "hint:");
                    let _ = writeln!(std::io::stderr().lock(), "{word} {hint}");
                }
            }
            Format::Json => {
                let _ = write!(std::io::stderr().lock(), "{}", self.document(records));
                self.lines.iter().for_each(|line| note_in_log(line));
            }
        }
        1
    }
}

/// The file or directory that the store says an error is in.
fn path(error: &Error) -> Option<String> {
    let path = error.store()?.place()?.path()?;
    Some(path.display().to_string())
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
    progress::end();
    let _ = writeln!(std::io::stderr().lock(), "momentlog: {line}");
}

/// Writes errors to standard error; returns the exit status 1.
pub fn complain(lines: &[String]) -> u8 {
    progress::end();
    let mut stderr = std::io::stderr().lock();
    for line in lines {
        let word = painted_err(ERROR, "error:");
        let _ = writeln!(stderr, "{word} {line}");
        note_in_log(line);
    }
    1
}

/// Writes an error to the file of `--log`, if there is one.
fn note_in_log(line: &str) {
    if let Some(mut log) = LOG.get() {
        let _ = writeln!(log, "ERROR {}", escaped(line));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use momentlog::store::StoreError;
    use serde_json::Value;

    use super::*;

    fn document(error: StoreError) -> Value {
        let text = Failure::from(Error::from(error)).document(&[]);
        serde_json::from_str(&text).expect("it is JSON")
    }

    #[test]
    fn what_only_a_fault_or_another_writer_causes_has_its_number_and_its_file() {
        let conflict = document(StoreError::Conflict {
            expected: None,
            found: None,
        });
        assert_eq!(conflict["name"], "VIR_ERR_OPERATION_ABORTED");
        assert_eq!(conflict["path"], Value::Null);
        let unknown = document(StoreError::Unknown {
            doing: "sync",
            path: PathBuf::from("/store/1.seg").into(),
            source: std::io::Error::other("gone").into(),
        });
        assert_eq!(unknown["name"], "VIR_ERR_OPERATION_TIMEOUT");
        assert_eq!(unknown["path"], "/store/1.seg");
    }
}
