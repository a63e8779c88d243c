//! The program `momentlog`: virsh's verbs for snapshots, checkpoints and domains over an audit log, and its own.

mod grammar;
mod layout;
mod script;
mod session;
mod shell;
mod verbs;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};
use momentlog::{Connection, Options, Provenance};

use session::{Format, Session, complain};

/// Keeps the snapshots and checkpoints of virtual machines in an append-only, hash-chained log.
///
/// With one argument COMMAND is a script: commands separated by `;` or line ends. With several it is one command. With
/// none, and no FILE, commands are read from standard input, or typed in a shell. `momentlog help` lists them.
#[derive(Debug, Parser)]
#[command(name = "momentlog", version, disable_help_subcommand = true)]
struct Arguments {
    /// The store: `momentlog:DIR`, `momentlog:///DIR`, or `test:///default` (in memory)
    #[arg(
        short,
        long = "connect",
        value_name = "URI",
        env = "MOMENTLOG_DEFAULT_URI"
    )]
    connect: Option<String>,

    /// Refuse changes
    #[arg(short, long)]
    readonly: bool,

    /// Print data only
    #[arg(short, long)]
    quiet: bool,

    /// Run the commands of this file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Who asks; by default the operating system's user and host
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,

    /// Why; kept in every record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// How long to wait for another writer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    lock_wait: u64,

    /// How momentlog's own commands answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Print a completion script for this shell
    #[arg(long, value_name = "SHELL")]
    completions: Option<clap_complete::Shell>,

    /// What to run
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return reject(&error),
    };
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
        .with_env_var("MOMENTLOG_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
    if let Some(shell) = arguments.completions {
        clap_complete::generate(
            shell,
            &mut Arguments::command(),
            "momentlog",
            &mut std::io::stdout(),
        );
        return ExitCode::SUCCESS;
    }
    ExitCode::from(run(arguments))
}

fn run(arguments: Arguments) -> u8 {
    let Some(uri) = arguments.connect.or_else(default_uri) else {
        return complain(&[
            "no store is named: use -c URI, or set MOMENTLOG_DEFAULT_URI".to_owned(),
        ]);
    };
    let actor = arguments.actor.unwrap_or_else(operating_system_user);
    let options = Options {
        read_only: arguments.readonly,
        provenance: Provenance {
            actor: actor.into(),
            reason: arguments.reason.map(Into::into),
            ..Provenance::default()
        },
        lock_wait: Duration::from_secs(arguments.lock_wait),
        ..Options::default()
    };
    let connection = match Connection::open_with(&uri, options) {
        Ok(connection) => connection,
        Err(error) => {
            return complain(&[
                "failed to connect to the store".to_owned(),
                error.message().to_owned(),
            ]);
        }
    };
    let mut session = Session::new(connection, uri, arguments.quiet, arguments.format);
    let status = match (arguments.file, arguments.command.as_slice()) {
        (Some(file), []) => match std::fs::read_to_string(&file) {
            Ok(text) => session.run_script(&text),
            Err(error) => complain(&[format!("Failed to open file '{}': {error}", file.display())]),
        },
        (Some(_), _) => complain(&["a file and a command exclude each other".to_owned()]),
        (None, [script]) if script.is_empty() => 1,
        (None, [script]) => session.run_script(script),
        (None, []) if std::io::stdin().is_terminal() => shell::interactive(&mut session),
        (None, []) => shell::from_input(&mut session),
        (None, words) => session.run_words(words),
    };
    session.connection.release();
    // The process ends: taking a large state apart first would only take time.
    std::mem::forget(session);
    status
}

/// A store in the user's data directory.
fn default_uri() -> Option<String> {
    let data = std::env::var_os("XDG_DATA_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let path = data
        .or_else(home)
        .filter(|path| path.is_absolute())?
        .join("momentlog");
    Some(format!("momentlog://{}", path.display()))
}

/// The actor of a run that names none: `user@host`.
fn operating_system_user() -> String {
    let user = whoami::username().unwrap_or_else(|_| "unknown".to_owned());
    match whoami::hostname() {
        Ok(host) => format!("{user}@{host}"),
        Err(_) => user,
    }
}

/// Says what is wrong with the program's own options, as virsh does where it has words for it.
fn reject(error: &clap::Error) -> ExitCode {
    use clap::error::{ContextKind, ErrorKind};
    if !error.use_stderr() {
        let _ = write!(std::io::stdout(), "{error}");
        return ExitCode::SUCCESS;
    }
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(option)) => {
            complain(&[format!("unsupported option '{option}'. See --help.")]);
        }
        _ => {
            let _ = write!(std::io::stderr(), "{error}");
        }
    }
    ExitCode::FAILURE
}
