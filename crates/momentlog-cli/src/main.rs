//! The program `momentlog`: virsh's verbs for snapshots, checkpoints and domains over an audit log, and its own.

mod colour;
mod complete;
mod dry_run;
mod failure;
mod grammar;
mod hint;
mod interrupt;
mod layout;
mod lines;
mod manual;
mod options;
mod outcome;
mod output;
mod pager;
mod place;
mod progress;
mod reversed;
mod run;
mod script;
mod session;
mod shell;
mod time;
mod verbs;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use momentlog::{Options, Provenance};
use momentlog_rpc::{PROXY_CONNECT, proxy_connect};
use tracing_subscriber::filter::LevelFilter;

use failure::{Failure, LOG, complain, reason};
use options::Arguments;
use output::put_out;
use session::{Session, Shown};

fn main() -> ExitCode {
    // A proxy of root's asks: nothing comes before this has become another user.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == PROXY_CONNECT) {
        return connect_for_proxy(words);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return reject(&error),
    };
    if let Some(text) = arguments.told() {
        return ExitCode::from(put_out(&text));
    }
    // A completion script asks: it is answered before anything is said or opened.
    if let [verb, words @ ..] = arguments.command.as_slice()
        && verb == "complete"
    {
        let (text, status) = complete::answer(words);
        return ExitCode::from(status.max(put_out(&text)));
    }
    let level = match arguments.check() {
        Ok(level) => level,
        Err(message) => return ExitCode::from(Failure::new(message).show(arguments.format)),
    };
    if let Err(message) = tell(level, arguments.log.as_deref()) {
        return ExitCode::from(Failure::new(message).show(arguments.format));
    }
    interrupt::install();
    ExitCode::from(run(arguments))
}

/// Connects to libvirtd as another user, for a proxy.
fn connect_for_proxy(words: impl Iterator<Item = OsString>) -> ExitCode {
    match proxy_connect(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&[format!(
                "only a proxy starts {}: {}",
                PROXY_CONNECT,
                reason(&error)
            )]);
            ExitCode::FAILURE
        }
    }
}

/// Tells what goes on: to standard error, or to a file.
fn tell(level: Option<u8>, file: Option<&Path>) -> Result<(), String> {
    let level = match level {
        Some(0) => LevelFilter::DEBUG,
        Some(1 | 2) => LevelFilter::INFO,
        Some(4) => LevelFilter::ERROR,
        _ => LevelFilter::WARN,
    };
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("MOMENTLOG_LOG")
        .from_env_lossy();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // What cannot be written to standard error cannot be said there either: it would be a panic.
        .log_internal_errors(false)
        .without_time()
        .with_target(false);
    match file {
        None => subscriber.with_writer(std::io::stderr).init(),
        Some(file) => {
            let opened = OpenOptions::new().append(true).create(true).open(file);
            let opened = opened
                .and_then(|file| Ok((file.try_clone()?, file)))
                .map_err(|error| {
                    let why = reason(&error);
                    format!("failed to open the log file '{}': {why}", file.display())
                })?;
            let _ = LOG.set(opened.0);
            subscriber
                .with_writer(Arc::new(opened.1))
                .with_ansi(false)
                .init();
        }
    }
    Ok(())
}

fn run(arguments: Arguments) -> u8 {
    let uri = match arguments.uri() {
        // What is asked of the program alone, or of the stores that a command names, needs no other one.
        _ if arguments.needs_no_store() => "test:///default".to_owned(),
        Ok(uri) => uri,
        Err(message) => return Failure::new(message).show(arguments.format),
    };
    let names_store = arguments.names_store();
    let user = momentlog::process_user();
    let agent = format!("{user} momentlog-cli/{}", env!("CARGO_PKG_VERSION"));
    let lock_wait = Duration::from_secs(arguments.lock_wait);
    let options = Options {
        read_only: arguments.readonly,
        provenance: Provenance {
            actor: arguments.actor.unwrap_or(user).into(),
            agent: agent.into(),
            reason: arguments.reason.map(Into::into),
            ..Provenance::default()
        },
        lock_wait,
        lock_wait_shared: true,
        ..Options::default()
    };
    progress::begin("reading the log");
    let opened = place::open(&uri, options);
    progress::end();
    let connection = match opened {
        Ok(connection) => connection,
        Err(error) => {
            let mut failure = Failure::under("failed to connect to the store")(error);
            if !options::names_a_store(&uri) {
                failure = failure.and(
                    "a store is named by momentlog:DIR; guests of a hypervisor are virsh's to manage",
                );
            }
            return failure.show(arguments.format);
        }
    };
    let shown = Shown {
        quiet: arguments.quiet,
        format: arguments.format,
        timing: arguments.timing,
        at: arguments.at,
        names_store,
    };
    let mut session = Session::new(connection, uri, lock_wait, shown);
    let status = match (arguments.file, arguments.command.as_slice()) {
        (Some(file), []) => run::run_file(&mut session, &file),
        (Some(_), _) => {
            Failure::new("a file and a command exclude each other").show(session.usual_format())
        }
        (None, [script]) if script.is_empty() => 1,
        (None, [script]) => run::run_script(&mut session, script, 1),
        (None, []) if std::io::stdin().is_terminal() => shell::interactive(&mut session),
        (None, []) => shell::from_input(&mut session),
        (None, words) => run::run_words(&mut session, words),
    };
    session.connection.release();
    // The process ends: taking a large state apart first would only take time.
    std::mem::forget(session);
    status
}

/// Answers options that do not parse, and `--help`.
fn reject(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return ExitCode::from(put_out(&error.to_string()));
    }
    match options::complaint(error) {
        Some(complaint) => {
            complain(&[complaint]);
        }
        None => {
            let _ = write!(std::io::stderr(), "{error}");
        }
    }
    ExitCode::FAILURE
}
