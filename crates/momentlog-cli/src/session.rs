//! One run of the program: its connection, its output, and the commands that it runs one after another.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Seek as _, Write as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use momentlog::{Connection, Error, Provenance, Revision};

use crate::grammar::{Answer, Invocation};
use crate::layout::{Table, escaped};
use crate::script::{Commands, Unfinished, Words};
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

/// How the verbs that have a JSON form answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How a run shows its answers.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Whether only data is printed.
    pub quiet: bool,
    /// How verbs answer without an option `--format`.
    pub format: Format,
    /// Whether the time that each command took is printed.
    pub timing: bool,
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
            writable: Writable::Yes,
            ended: false,
            warned: false,
        }
    }

    /// Adds data to the command's output. Long output is written at once.
    pub fn print(&mut self, text: &str) {
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

    /// Runs a script: all of it is parsed before any of it runs. Returns the exit status: that of the last command.
    pub fn run_script(&mut self, text: &str) -> u8 {
        match self.check(text.as_bytes()) {
            Ok(()) => self.run_commands(text.as_bytes()),
            Err(message) => complain(&[message]),
        }
    }

    /// Runs the script in a file: as [`run_script`](Self::run_script), without holding more than one command of it. What
    /// can be read only once runs command by command, up to the first that does not parse.
    pub fn run_file(&mut self, path: &Path) -> u8 {
        let cannot = |doing: &str, error: &std::io::Error| {
            complain(&[format!(
                "Failed to {doing} file '{}': {}",
                path.display(),
                reason(error)
            )])
        };
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.is_file(), file)));
        let (twice, mut file) = match opened {
            Ok(opened) => opened,
            Err(error) => return cannot("open", &error),
        };
        if twice {
            if let Err(message) = self.check(BufReader::new(&mut file)) {
                return complain(&[message]);
            }
            if let Err(error) = file.rewind() {
                return cannot("read", &error);
            }
        }
        self.run_commands(BufReader::new(file))
    }

    /// Runs one command whose words are taken as they are.
    pub fn run_words(&mut self, words: &[String]) -> u8 {
        // virsh takes such a word for the start of a comment, here as well.
        if words.first().is_some_and(|word| word.starts_with('#')) {
            return 0;
        }
        let status = match self.parse(words) {
            Ok((invocation, format)) => self.run(&invocation, format),
            Err(message) => complain(&[message]),
        };
        self.rest(status)
    }

    /// Parses all commands of a script, and runs none.
    fn check(&self, script: impl BufRead) -> Result<(), String> {
        for words in Commands::new(script) {
            self.parsed(words)?;
        }
        Ok(())
    }

    fn run_commands(&mut self, script: impl BufRead) -> u8 {
        let mut status = 0;
        for words in Commands::new(script) {
            match self.parsed(words) {
                Ok((invocation, format)) => status = self.run(&invocation, format),
                Err(message) => {
                    status = complain(&[message]);
                    break;
                }
            }
            if self.ended {
                break;
            }
        }
        self.rest(status)
    }

    /// Lets others write, while the next line is being typed. Returns the status of what ran.
    pub fn rest(&mut self, status: u8) -> u8 {
        self.connection.release();
        if self.writable == Writable::Failed {
            return 1;
        }
        status
    }

    fn parsed(&self, words: Result<Words, Unfinished>) -> Result<(Invocation, Format), String> {
        self.parse(&words.map_err(|unfinished| unfinished.message())?)
    }

    /// Reads a command, and how it answers.
    fn parse(&self, words: &[String]) -> Result<(Invocation, Format), String> {
        let invocation = Invocation::parse(VERBS, words)?;
        let format = match invocation.get("format") {
            None => self.shown.format,
            Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => return Err(format!("'{}' is no format: text or json", escaped(other))),
        };
        if format == Format::Json && !invocation.verb.json {
            return Err(format!(
                "command '{}' has no JSON form",
                invocation.verb.name
            ));
        }
        Ok((invocation, format))
    }

    /// Runs a command and writes its output, before the next one runs.
    fn run(&mut self, invocation: &Invocation, format: Format) -> u8 {
        let begun = Instant::now();
        self.format = format;
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
        self.finish(answer, begun)
    }

    /// Writes the output, then errors, then virsh's empty line, so that they read in this order on one terminal. A JSON
    /// document has no such line.
    fn finish(&mut self, answer: Answer, begun: Instant) -> u8 {
        self.write();
        self.warn_of_damage();
        let status = match answer {
            Ok(status) => status,
            Err(failure) => complain(&failure.lines),
        };
        if self.shown.timing {
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            self.out += &format!("\n(Time: {ms:.3} ms)\n\n");
        } else if !self.quiet && !self.ended && self.format == Format::Text {
            self.out.push('\n');
        }
        self.write();
        status
    }

    /// Writes what is no command's answer.
    pub fn put(&mut self, text: &str) {
        self.out.push_str(text);
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

/// What the operating system calls an error, without Rust's number.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
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

/// The file of `--log`, which errors go to as well.
pub static LOG: OnceLock<File> = OnceLock::new();

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
