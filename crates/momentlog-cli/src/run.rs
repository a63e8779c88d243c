//! Running commands: parsing those of a script, and one after another what their verbs do.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek as _};
use std::path::Path;
use std::time::Instant;

use crate::colour;
use crate::failure::{Answer, Failure, Place, reason};
use crate::grammar::Invocation;
use crate::hint;
use crate::layout::escaped;
use crate::outcome;
use crate::progress;
use crate::script::Commands;
use crate::session::{Format, Session};
use crate::verbs::{self, Verb};

/// A command that parsed.
struct Command {
    verb: &'static Verb,
    invocation: Invocation,
    /// How it answers.
    format: Format,
    /// Where it stands in a script.
    place: Option<Place>,
}

/// Verbs whose answers a pager shows on a terminal.
const PAGED: [&str; 5] = ["log", "show", "why", "diff", "help"];

/// Runs a script: all of it is parsed before any of it runs; `line` is the number of its first line. Returns the exit status:
/// that of the last command.
pub fn run_script(session: &mut Session, text: &str, line: u64) -> u8 {
    let script = || Script::new(text.as_bytes(), None, line);
    match script().check(session) {
        Ok(()) => run_all(session, script()),
        Err(failure) => session.tell(failure, session.usual_format()),
    }
}

/// Runs the script in a file: as [`run_script`], without holding more than one command of it. What can be read only once
/// runs command by command, up to the first that does not parse. What does not parse is named by its file and line.
pub fn run_file(session: &mut Session, path: &Path) -> u8 {
    let cannot = |doing: &str, error: &std::io::Error| {
        let (file, why) = (path.display().to_string(), reason(error));
        Failure::new(format!("Failed to {doing} file '{file}': {why}")).in_file(file)
    };
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.is_file(), file)));
    let (twice, mut file) = match opened {
        Ok(opened) => opened,
        Err(error) => return cannot("open", &error).show(session.usual_format()),
    };
    if twice {
        if let Err(failure) = Script::new(BufReader::new(&mut file), Some(path), 1).check(session) {
            return session.tell(failure, session.usual_format());
        }
        if let Err(error) = file.rewind() {
            return cannot("read", &error).show(session.usual_format());
        }
    }
    run_all(session, Script::new(BufReader::new(file), Some(path), 1))
}

/// Runs one command whose words are taken as they are.
pub fn run_words(session: &mut Session, words: &[String]) -> u8 {
    // virsh takes such a word for the start of a comment, here as well.
    if words.first().is_some_and(|word| word.starts_with('#')) {
        return 0;
    }
    let status = match Command::parse(words, session.usual_format()) {
        Ok(command) => command.run(session),
        Err(failure) => session.tell(failure, session.usual_format()),
    };
    session.rest(status)
}

fn run_all(session: &mut Session, mut script: Script<impl BufRead>) -> u8 {
    let mut status = 0;
    while let Some(command) = script.next(session.usual_format()) {
        match command {
            Ok(command) => status = command.run(session),
            Err(failure) => {
                status = session.tell(failure, session.usual_format());
                break;
            }
        }
        if session.is_over() || session.was_interrupted() {
            break;
        }
    }
    session.rest(status)
}

/// The commands of a script, parsed, and where they are.
struct Script<'a, R> {
    commands: Commands<R>,
    file: Option<&'a Path>,
    first_line: u64,
}

impl<'a, R: BufRead> Script<'a, R> {
    fn new(script: R, file: Option<&'a Path>, first_line: u64) -> Script<'a, R> {
        Script {
            commands: Commands::new(script),
            file,
            first_line,
        }
    }

    /// Parses the next command. An error says in which line that command begins.
    fn next(&mut self, format: Format) -> Option<Result<Command, Failure>> {
        let words = self.commands.next()?;
        let place = Some(Place {
            path: self.file.map(|file| file.display().to_string()),
            line: self.commands.line() + self.first_line - 1,
        });
        let command = words
            .map_err(|unfinished| Failure::new(unfinished.message()))
            .and_then(|words| Command::parse(&words, format));
        Some(match command {
            Ok(command) => Ok(Command { place, ..command }),
            Err(failure) => Err(failure.at(place)),
        })
    }

    /// Parses all commands, and runs none.
    fn check(&mut self, session: &Session) -> Result<(), Failure> {
        while let Some(command) = self.next(session.usual_format()) {
            command?;
        }
        Ok(())
    }
}

impl Command {
    /// Reads a command, and how it answers; `usual` is how without an option `--format`.
    fn parse(words: &[String], usual: Format) -> Result<Command, Failure> {
        let (name, words) = words.split_first().expect("a command has words");
        let verb = verbs::find(name).ok_or_else(|| {
            let failure = Failure::new(format!("unknown command: '{name}'"));
            failure.hinted(Some(hint::no_verb(name)))
        })?;
        let invocation = Invocation::parse(&verb.spec, words)
            .map_err(|why| Failure::new(why).hinted(Some(format!("help {name}"))))?;
        let format = match invocation.get("format") {
            None => usual,
            Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => {
                let other = escaped(other);
                return Err(Failure::new(format!(
                    "'{other}' is no format: text or json"
                )));
            }
        };
        if format == Format::Json && !verb.spec.json {
            return Err(Failure::new(format!("command '{name}' has no JSON form")));
        }
        Ok(Command {
            verb,
            invocation,
            format,
            place: None,
        })
    }

    /// Runs the command and writes its output, before the next one runs.
    fn run(&self, session: &mut Session) -> u8 {
        let begun = Instant::now();
        let spec = &self.verb.spec;
        let asks_for_help = self.invocation.help;
        let format = if asks_for_help {
            Format::Text
        } else {
            self.format
        };
        let follows = spec.takes("follow") && self.invocation.has("follow");
        let paged = asks_for_help || PAGED.contains(&spec.name) && !follows;
        session.begin(format, spec, paged && self.format == Format::Text);
        let serves = ["serve", "proxy"].contains(&spec.name);
        if !follows && !serves && (!spec.changes || spec.name == "archive") {
            progress::begin(spec.name);
        }
        let answer = if asks_for_help {
            session.print(&colour::sections(&spec.usage()));
            Ok(0)
        } else {
            match self.invocation.empty_option() {
                Some(name) => {
                    let why = "Option argument is empty";
                    Err(Failure::new(format!(
                        "Failed to get option '{name}': {why}"
                    )))
                }
                None => self
                    .answer(session)
                    .map_err(|failure| self.advised(session, failure)),
            }
        };
        let answer = answer.map_err(|failure| failure.at(self.place.clone()));
        session.finish(answer, begun)
    }

    /// Names the file that a failure is in, and says what can be done about it.
    fn advised(&self, session: &Session, failure: Failure) -> Failure {
        let mut failure = verbs::in_its_file(failure, &self.invocation);
        if failure.hint.is_none() {
            failure.hint = hint::of(session, &self.invocation, &failure);
        }
        failure
    }

    /// Does what the verb does, as of the point that is asked for.
    fn answer(&self, session: &mut Session) -> Answer {
        if self.invocation.verb.changes && self.invocation.has("dry-run") {
            return crate::dry_run::show(session, &self.invocation, |session| {
                let answer = (self.verb.run)(session, &self.invocation);
                answer.map_err(|failure| self.advised(session, failure))
            });
        }
        let mut at = session.connection_at(&self.invocation)?;
        if self.invocation.verb.takes("verified") && self.invocation.has("verified") {
            let connection = at.unwrap_or_else(|| session.connection.clone());
            at = Some(verbs::verified(session, &self.invocation, connection)?);
        }
        let Some(connection) = at else {
            if self.invocation.verb.changes && session.format == Format::Json {
                return outcome::show(session, |session| {
                    (self.verb.run)(session, &self.invocation)
                });
            }
            return (self.verb.run)(session, &self.invocation);
        };
        let newest = std::mem::replace(&mut session.connection, connection);
        let answer = (self.verb.run)(session, &self.invocation);
        session.connection = newest;
        answer
    }
}
