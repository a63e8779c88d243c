//! One run of the program: its connection and its output.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use momentlog::{Connection, Provenance, Recording, Revision};
use momentlog_audit::json;
use serde::Serialize;

use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec};
use crate::interrupt::{self, Doing};
use crate::layout::{Table, escaped};
use crate::output::Output;
use crate::progress;

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
    /// Whether the store was named, rather than taken for the user's own.
    pub names_store: bool,
}

/// One run of the program.
#[derive(Debug)]
pub struct Session {
    /// The connection of the whole run.
    pub connection: Connection,
    /// Its URI.
    pub uri: String,
    /// How long a change waits for another writer.
    pub lock_wait: Duration,
    /// Whether only data is printed.
    pub quiet: bool,
    /// How the present command answers.
    pub format: Format,
    /// Whether the store was named, rather than taken for the user's own.
    pub names_store: bool,
    shown: Shown,
    output: Output,
    /// How many documents the present command has answered with.
    documents: usize,
    /// What its calls are answered, if a document is to say so.
    pub recording: Option<Recording>,
    /// The records that it made before it failed, if a document is to say so.
    pub made: Vec<u64>,
    goes: Goes,
    warned: bool,
}

/// Whether there is a next command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    On,
    /// Ctrl-C ended the last command: a script goes no further, and a shell asks for the next one.
    Interrupted,
    Over,
}

impl Session {
    /// Returns a session over a connection.
    pub fn new(connection: Connection, uri: String, lock_wait: Duration, shown: Shown) -> Session {
        Session {
            connection,
            uri,
            lock_wait,
            quiet: shown.quiet,
            format: shown.format,
            names_store: shown.names_store,
            shown,
            output: Output::default(),
            documents: 0,
            recording: None,
            made: Vec::new(),
            goes: Goes::On,
            warned: false,
        }
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
        self.output.print(text);
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
        self.goes = Goes::Over;
    }

    /// Whether the session is over.
    pub fn is_over(&self) -> bool {
        self.goes == Goes::Over
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
        if self.output.has_failed() {
            return 1;
        }
        status
    }

    /// Begins a command, which answers in a format, and whose answer a pager shows if that is wanted and there is a
    /// terminal.
    pub fn begin(&mut self, format: Format, spec: &Spec, paged: bool) {
        self.format = format;
        self.documents = 0;
        self.goes = Goes::On;
        let paged = self.output.begin(paged);
        interrupt::forget();
        interrupt::now(match (spec.changes, paged) {
            (true, _) => Doing::Changing,
            (false, true) => Doing::Paging,
            (false, false) => Doing::Reading,
        });
    }

    /// Whether Ctrl-C ended the last command.
    pub fn was_interrupted(&self) -> bool {
        self.goes == Goes::Interrupted
    }

    /// Shows a failure; returns the exit status 1. The test driver's are virsh's, byte for byte.
    pub fn tell(&self, mut failure: Failure, format: Format) -> u8 {
        if self.uri == "test:///default" {
            failure.hint = None;
        }
        failure.show_with(format, &self.made)
    }

    /// Writes the output, then errors, then virsh's empty line, so that they read in this order on one terminal. A JSON
    /// document has no such line.
    pub fn finish(&mut self, answer: Answer, begun: Instant) -> u8 {
        self.output.end();
        progress::end();
        let stopped = interrupt::stops();
        interrupt::now(Doing::Nothing);
        let interrupted = interrupt::forget();
        if !stopped {
            self.warn_of_damage();
        }
        let mut status = match answer {
            Err(failure) if !stopped => self.tell(failure, self.format),
            answer => answer.unwrap_or(1),
        };
        self.made.clear();
        if interrupted {
            status = interrupt::STATUS;
        }
        if self.shown.timing {
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            match self.format {
                Format::Text => self.output.print(&format!("\n(Time: {ms:.3} ms)\n\n")),
                Format::Json => crate::failure::note(&format!("{ms:.3} ms")),
            }
        } else if !self.quiet && !self.is_over() && self.format == Format::Text {
            self.output.print("\n");
        }
        if interrupted && !self.is_over() {
            self.goes = Goes::Interrupted;
        }
        self.output.write();
        status
    }

    /// Runs a command whose output is not shown.
    pub fn without_output(&mut self, run: impl FnOnce(&mut Session) -> Answer) -> Answer {
        let before = std::mem::replace(&mut self.output, Output::closed());
        let answer = run(self);
        self.output = before;
        answer
    }

    /// Writes what there is by now, in the middle of a command.
    pub fn flush(&mut self) {
        self.output.write();
    }

    /// Whether what is printed still has a reader.
    pub fn is_heard(&self) -> bool {
        self.output.is_heard()
    }

    /// Writes what is no command's answer, for people.
    pub fn put(&mut self, text: &str) {
        if self.usual_format() == Format::Text {
            self.output.print(text);
        }
        self.output.write();
    }
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
