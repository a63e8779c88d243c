//! One run of the program: its connection and its output.

use std::io::{ErrorKind, Write as _};
use std::sync::Arc;
use std::time::Instant;

use momentlog::{Connection, Provenance, Recording, Revision};

use momentlog_audit::json;
use serde::Serialize;

use crate::failure::{Answer, Failure, complain, reason};
use crate::grammar::Invocation;
use crate::layout::{Table, escaped};

/// How the verbs answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How a run shows its answers.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Whether only data is printed.
    pub quiet: bool,
    /// How verbs answer without an option `--format`.
    pub format: Format,
    /// Whether the time that each command took is printed.
    pub timing: bool,
    /// The point as of which every command answers, as it was typed.
    pub at: Option<String>,
}

/// One run of the program.
#[derive(Debug)]
pub struct Session {
    /// The connection of the whole run.
    pub connection: Connection,
    /// Its URI.
    pub uri: String,
    /// Whether only data is printed.
    pub quiet: bool,
    /// How the present command answers.
    pub format: Format,
    shown: Shown,
    out: String,
    /// How many documents the present command has answered with.
    documents: usize,
    /// What its calls are answered, if a document is to say so.
    pub recording: Option<Recording>,
    /// Whether standard output took everything, or its reader went away.
    writable: Writable,
    ended: bool,
    warned: bool,
}

/// What became of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writable {
    Yes,
    /// Its reader went away: the commands still count, and write no more.
    Closed,
    /// It failed: the run does, too.
    Failed,
}

/// Output that a command has before it is written, in bytes.
const OUT_LEN_MAX: usize = 64 << 10;

impl Session {
    /// Returns a session over a connection.
    pub fn new(connection: Connection, uri: String, shown: Shown) -> Session {
        Session {
            connection,
            uri,
            quiet: shown.quiet,
            format: shown.format,
            shown,
            out: String::new(),
            documents: 0,
            recording: None,
            writable: Writable::Yes,
            ended: false,
            warned: false,
        }
    }

    /// Says how the next command answers.
    pub fn begin(&mut self, format: Format) {
        self.format = format;
        self.documents = 0;
    }

    /// Adds data for people to the command's output.
    pub fn print(&mut self, text: &str) {
        if self.format == Format::Text {
            self.answer(text);
        }
    }

    /// Adds a document for programs to the command's output, which is all that they get.
    pub fn document(&mut self, document: &impl Serialize) {
        if self.format == Format::Json {
            self.answer(&json::line(document));
        }
    }

    /// Whether the present command has answered with a document.
    pub fn is_documented(&self) -> bool {
        self.documents > 0
    }

    /// Adds what is laid out as the command answers. Long output is written at once.
    pub fn answer(&mut self, text: &str) {
        self.documents += usize::from(self.format == Format::Json);
        self.out.push_str(text);
        if self.out.len() > OUT_LEN_MAX {
            self.write();
        }
    }

    /// Adds a table, line by line.
    pub fn print_table(&mut self, table: &Table) {
        for line in table.lines(self.quiet) {
            self.print(&line);
        }
    }

    /// Adds a message of success, unless only data is printed.
    pub fn say(&mut self, text: &str) {
        if !self.quiet {
            self.print(text);
        }
    }

    /// Says that the session is over after this command.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the session is over.
    pub fn is_over(&self) -> bool {
        self.ended
    }

    /// The point as of which every command answers.
    pub fn at(&self) -> Option<&str> {
        self.shown.at.as_deref()
    }

    /// How a command answers that has no option `--format`.
    pub fn usual_format(&self) -> Format {
        self.shown.format
    }

    /// Returns the connection under the provenance that a command's options give.
    pub fn connection_for(&self, invocation: &Invocation) -> Result<Connection, Failure> {
        if !invocation.verb.changes {
            return Ok(self.connection.clone());
        }
        let base = self.connection.provenance().clone();
        let given = |name: &str| invocation.get(name).map(Arc::from);
        let seq = |text: &str| text.parse().ok().and_then(momentlog::store::Seq::new);
        let undoes = match invocation.get("undoes") {
            None => None,
            Some(text) => Some(seq(text).ok_or_else(|| {
                Failure::new(format!("'{}' is no number of a record", escaped(text)))
            })?),
        };
        let expected_revision = match invocation.get("expect-revision") {
            None => base.expected_revision,
            Some("none") => Some(Revision::None),
            Some(text) => {
                let invalid = || {
                    Failure::new(format!(
                        "'{}' is not a revision: a number, or none",
                        text.escape_debug()
                    ))
                };
                Some(Revision::At(seq(text).ok_or_else(invalid)?))
            }
        };
        let connection = self.connection.with_provenance(Provenance {
            actor: given("actor").unwrap_or(base.actor),
            reason: given("reason").or(base.reason),
            request_id: given("request-id").or(base.request_id),
            expected_revision,
            undoes: undoes.or(base.undoes),
            ..base
        });
        // A command that is repeated means what was there then.
        Ok(connection.for_retry()?)
    }

    /// Lets others write, while the next line is being typed. Returns the status of what ran.
    pub fn rest(&mut self, status: u8) -> u8 {
        self.connection.release();
        if self.writable == Writable::Failed {
            return 1;
        }
        status
    }

    /// Writes the output, then errors, then virsh's empty line, so that they read in this order on one terminal. A JSON
    /// document has no such line.
    pub fn finish(&mut self, answer: Answer, begun: Instant) -> u8 {
        self.write();
        self.warn_of_damage();
        let status = match answer {
            Ok(status) => status,
            Err(failure) => failure.show(self.format),
        };
        if self.shown.timing {
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            match self.format {
                Format::Text => self.out += &format!("\n(Time: {ms:.3} ms)\n\n"),
                Format::Json => crate::failure::note(&format!("{ms:.3} ms")),
            }
        } else if !self.quiet && !self.ended && self.format == Format::Text {
            self.out.push('\n');
        }
        self.write();
        status
    }

    /// Runs a command whose output is not shown.
    pub fn without_output(&mut self, run: impl FnOnce(&mut Session) -> Answer) -> Answer {
        let before = std::mem::replace(&mut self.writable, Writable::Closed);
        let out = std::mem::take(&mut self.out);
        let answer = run(self);
        self.out = out;
        self.writable = before;
        answer
    }

    /// Writes what there is by now, in the middle of a command.
    pub fn flush(&mut self) {
        self.write();
    }

    /// Whether standard output still has a reader.
    pub fn is_heard(&self) -> bool {
        self.writable == Writable::Yes
    }

    /// Writes what is no command's answer, for people.
    pub fn put(&mut self, text: &str) {
        if self.usual_format() == Format::Text {
            self.out.push_str(text);
        }
        self.write();
    }

    fn write(&mut self) {
        if self.writable == Writable::Yes {
            self.writable = write_out(&self.out);
        }
        self.out.clear();
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

impl Session {
    /// Says once that what is shown ends where the log is damaged.
    fn warn_of_damage(&mut self) {
        if let Some(damage) = self.connection.damage().filter(|_| !self.warned) {
            self.warned = true;
            let line = format!("warning: only what comes before can be read: {damage}");
            let line = escaped(&line);
            match self.format {
                Format::Text => {
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
                Format::Json => crate::failure::note(&line),
            }
        }
    }
}
