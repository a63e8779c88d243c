//! Commands from standard input: one line after another, each a script of its own.

use std::io::BufRead as _;

use momentlog::Connection;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::config::{CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

use crate::complete::{self, Typed};
use crate::failure::complain;
use crate::interrupt;
use crate::layout::escaped;
use crate::run::run_script;
use crate::script::quoted;
use crate::session::Session;

const BANNER: &str = "Welcome to momentlog, the log of snapshots and checkpoints.

Type:  'help' for help with commands
       'quit' to quit

";

/// Longest line that is read, in bytes.
const LINE_LEN_MAX: u64 = 16 << 20;

fn prompt(session: &Session) -> &'static str {
    if session.connection.is_read_only() {
        "momentlog > "
    } else {
        "momentlog # "
    }
}

/// Reads commands that are not typed, and echoes them after the prompt as virsh does. The exit status
/// is 0, unless what they answered could not be written.
pub fn from_input(session: &mut Session) -> u8 {
    if !session.quiet {
        session.put(BANNER);
    }
    let mut input = std::io::stdin().lock();
    let mut number = 0;
    while !session.is_over() && !session.was_interrupted() {
        number += 1;
        session.put(prompt(session));
        let mut line = Vec::new();
        match std::io::Read::take(&mut input, LINE_LEN_MAX).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(len) if len as u64 == LINE_LEN_MAX && !line.ends_with(b"\n") => {
                complain(&[format!("a line is longer than {LINE_LEN_MAX} bytes")]);
                break;
            }
            Ok(_) => {}
            Err(error) => {
                complain(&[format!("cannot read standard input: {error}")]);
                break;
            }
        }
        match String::from_utf8(line) {
            Ok(line) => {
                let line = line.strip_suffix('\n').unwrap_or(&line);
                session.put(&format!("{line}\n"));
                run_script(session, line, number);
            }
            Err(_) => {
                complain(&["the line is not UTF-8".to_owned()]);
            }
        }
    }
    session.put("\n");
    let status = session.rest(0);
    if session.was_interrupted() {
        return interrupt::STATUS;
    }
    status
}

/// Reads commands that are typed, with history and completion.
pub fn interactive(session: &mut Session) -> u8 {
    // As readline does: what can stand next is listed below, and the line is completed as far as it is certain.
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .build();
    let mut editor: Editor<Words, DefaultHistory> = match Editor::with_config(config) {
        Ok(editor) => editor,
        Err(error) => return complain(&[format!("cannot open the terminal: {error}")]),
    };
    interrupt::in_shell();
    editor.set_helper(Some(Words(session.connection.clone())));
    let history = history_file();
    if let Some(history) = &history {
        // The first session has none to read.
        let _ = editor.load_history(history);
    }
    if !session.quiet {
        session.put(BANNER);
    }
    while !session.is_over() {
        match editor.readline(prompt(session)) {
            Ok(line) => {
                let _ = editor.add_history_entry(&line);
                run_script(session, &line, 1);
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => {
                complain(&[format!("cannot read the terminal: {error}")]);
                break;
            }
        }
    }
    if let Some(history) = &history {
        if let Some(parent) = history.parent() {
            let _ = std::fs::create_dir_all(parent);
        }
        if let Err(error) = editor.save_history(history) {
            complain(&[format!("cannot save the history: {error}")]);
        }
    }
    session.rest(0)
}

fn history_file() -> Option<std::path::PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .filter(|path| !path.is_empty())
        .map(std::path::PathBuf::from);
    let home =
        || std::env::var_os("HOME").map(|home| std::path::PathBuf::from(home).join(".local/state"));
    Some(state.or_else(home)?.join("momentlog/history"))
}

/// Completes what is typed: verbs, options, and the names of what is in the store.
struct Words(Connection);

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = Typed::new(&line[..at]);
        let found = complete::next(&typed.words, &typed.word, &|| Some(self.0.clone()));
        let complete::Next::Words(found) = found else {
            return FilenameCompleter::new().complete(line, at, context);
        };
        // What is certain is a whole word, and the next one follows.
        let behind = if found.len() == 1 { " " } else { "" };
        let pairs = found.into_iter().map(|found| Pair {
            display: escaped(&found.text),
            replacement: quoted(&found.text) + behind,
        });
        Ok((typed.start, pairs.collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}
