//! One run of the program: its connection, its output, and the commands that it runs one after another.

use std::io::Write as _;
use std::sync::Arc;

use momentlog::{Connection, Error, Provenance, Revision};

use crate::grammar::{Answer, Invocation};
use crate::layout::escaped;
use crate::script;
use crate::verbs::VERBS;

/// Why a command failed: what goes to standard error, a line each.
#[derive(Debug)]
pub struct Failure {
    lines: Vec<String>,
}

impl Failure {
    /// A failure that the verb itself found.
    pub fn new(line: impl Into<String>) -> Failure {
        Failure {
            lines: vec![line.into()],
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
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(error.message())
    }
}

/// How own verbs answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
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
    /// How own verbs answer.
    pub format: Format,
    out: String,
    ended: bool,
    warned: bool,
}

impl Session {
    /// Returns a session over a connection.
    pub fn new(connection: Connection, uri: String, quiet: bool, format: Format) -> Session {
        Session {
            connection,
            uri,
            quiet,
            format,
            out: String::new(),
            ended: false,
            warned: false,
        }
    }

    /// Adds data to the command's output.
    pub fn print(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Adds a message of success, unless only data is printed.
    pub fn say(&mut self, text: &str) {
        if !self.quiet {
            self.out.push_str(text);
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

    /// Returns the connection under the provenance that a command's options give.
    pub fn connection_for(&self, invocation: &Invocation) -> Result<Connection, Failure> {
        if !invocation.verb.changes {
            return Ok(self.connection.clone());
        }
        let base = self.connection.provenance().clone();
        let given = |name: &str| invocation.get(name).map(Arc::from);
        let expected_revision = match invocation.get("expect-revision") {
            None => base.expected_revision,
            Some("none") => Some(Revision::None),
            Some(text) => {
                let seq = text.parse().ok().and_then(momentlog::store::Seq::new);
                let invalid = || {
                    Failure::new(format!(
                        "'{}' is not a revision: a number, or none",
                        text.escape_debug()
                    ))
                };
                Some(Revision::At(seq.ok_or_else(invalid)?))
            }
        };
        let connection = self.connection.with_provenance(Provenance {
            actor: given("actor").unwrap_or(base.actor),
            reason: given("reason").or(base.reason),
            request_id: given("request-id").or(base.request_id),
            expected_revision,
        });
        // Whoever repeats a command means what was there then.
        Ok(connection.for_retry()?)
    }

    /// Runs a script: all of it is parsed before any of it runs. Returns the exit status: that of the last command.
    pub fn run_script(&mut self, text: &str) -> u8 {
        let commands = match script::split(text) {
            Ok(commands) => commands,
            Err(unfinished) => return complain(&[unfinished.message().to_owned()]),
        };
        let parsed: Result<Vec<_>, _> = commands
            .iter()
            .map(|words| Invocation::parse(VERBS, words))
            .collect();
        match parsed {
            Ok(invocations) => self.run_all(&invocations),
            Err(message) => complain(&[message]),
        }
    }

    /// Runs one command whose words are taken as they are.
    pub fn run_words(&mut self, words: &[String]) -> u8 {
        match Invocation::parse(VERBS, words) {
            Ok(invocation) => self.run_all(&[invocation]),
            Err(message) => complain(&[message]),
        }
    }

    fn run_all(&mut self, invocations: &[Invocation]) -> u8 {
        let mut status = 0;
        for invocation in invocations {
            status = self.run(invocation);
            if self.ended {
                break;
            }
        }
        // While the next line is being typed, others may write.
        self.connection.release();
        status
    }

    /// Runs a command and writes its output, before the next one runs.
    fn run(&mut self, invocation: &Invocation) -> u8 {
        let answer = if invocation.help {
            self.print(&invocation.verb.usage());
            Ok(0)
        } else {
            match invocation.empty_option() {
                Some(name) => {
                    let why = "Option argument is empty";
                    Err(Failure::new(format!(
                        "Failed to get option '{name}': {why}"
                    )))
                }
                None => (invocation.verb.run)(self, invocation),
            }
        };
        self.finish(answer)
    }

    /// Writes the output, then errors, then virsh's empty line, so that they read in this order on one terminal.
    fn finish(&mut self, answer: Answer) -> u8 {
        self.write();
        self.warn_of_damage();
        let status = match answer {
            Ok(status) => status,
            Err(failure) => complain(&failure.lines),
        };
        if !self.quiet && !self.ended {
            self.out.push('\n');
            self.write();
        }
        status
    }

    fn write(&mut self) {
        let mut stdout = std::io::stdout().lock();
        // A reader that went away is no reason to fail: the commands still count.
        let _ = stdout
            .write_all(self.out.as_bytes())
            .and_then(|()| stdout.flush());
        self.out.clear();
    }
}

impl Session {
    /// Says once that what is shown ends where the log is damaged.
    fn warn_of_damage(&mut self) {
        if let Some(damage) = self.connection.damage().filter(|_| !self.warned) {
            self.warned = true;
            let line = format!("warning: only what comes before can be read: {damage}");
            let _ = writeln!(std::io::stderr(), "{}", escaped(&line));
        }
    }
}

/// Writes errors to standard error; returns the exit status 1.
pub fn complain(lines: &[String]) -> u8 {
    let mut stderr = std::io::stderr().lock();
    for line in lines {
        let _ = writeln!(stderr, "error: {line}");
    }
    1
}
