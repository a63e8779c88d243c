//! The program's own options, before the verb: momentlog's, and virsh's with their meaning where there is one.

use std::path::PathBuf;

use clap::{ArgAction, CommandFactory as _, Parser};

use crate::failure::complain;
use crate::session::Format;

/// Keeps the snapshots and checkpoints of virtual machines in an append-only, hash-chained log.
///
/// With one argument COMMAND is a script: commands separated by `;` or line ends. With several it is one command. With
/// none, and no FILE, commands are read from standard input, or typed in a shell. `momentlog help` lists them.
#[derive(Debug, Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own on the command line"
)]
#[command(
    name = "momentlog",
    disable_help_subcommand = true,
    disable_version_flag = true,
    infer_long_args = true
)]
pub struct Arguments {
    /// The store: `momentlog:DIR`, `momentlog:///DIR`, `postgres://USER@HOST/DATABASE?log=NAME`, or `test:///default` (in memory); with `?driver=qemu` the domains
    /// that are attached to a QEMU are changed there as well. By default what `MOMENTLOG_DEFAULT_URI` names; or
    /// `VIRSH_DEFAULT_CONNECT_URI` or `LIBVIRT_DEFAULT_URI`, if that is a store
    #[arg(short, long = "connect", value_name = "URI")]
    pub connect: Option<String>,

    /// Refuse changes
    #[arg(short, long)]
    pub readonly: bool,

    /// Print data only
    #[arg(short, long)]
    pub quiet: bool,

    /// Print the time that each command took
    #[arg(short, long)]
    pub timing: bool,

    /// Run the commands of this file
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Who asks; by default the operating system's user and host
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,

    /// Why; kept in every record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,

    /// How long to wait for another writer, in seconds, once for a whole script
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub lock_wait: u64,

    /// Answer as of this point of the log: a record's number, a time, a receipt or its file; for commands that read
    #[arg(long, value_name = "POINT")]
    pub at: Option<String>,

    /// How the commands answer; all but help and echo have a JSON form
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// How much is logged: 0 (all) to 4 (errors)
    #[arg(short, long, value_name = "NUM")]
    pub debug: Option<String>,

    /// Tell what goes on, and errors, in this file
    #[arg(short, long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Taken without effect: no connection here goes over a network
    #[arg(short = 'k', long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub keepalive_interval: Option<String>,

    /// Taken without effect, as the interval is
    #[arg(short = 'K', long, value_name = "NUM", allow_hyphen_values = true)]
    pub keepalive_count: Option<String>,

    /// Taken without effect: there is no console here to leave
    #[arg(short, long, value_name = "CHAR")]
    pub escape: Option<String>,

    /// Print the version
    #[arg(short = 'v', action = ArgAction::SetTrue)]
    pub short_version: bool,

    /// Print the version, and what the program reads and writes
    #[arg(short = 'V', action = ArgAction::SetTrue)]
    pub long_version: bool,

    /// Print the version: short or long
    #[arg(long, value_name = "TYPE", num_args = 0..=1, require_equals = true, default_missing_value = "short")]
    pub version: Option<String>,

    /// What to run
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub command: Vec<String>,
}

impl Arguments {
    /// What the program prints instead of running commands, if that is asked for.
    pub fn told(&self) -> Option<String> {
        let version = env!("CARGO_PKG_VERSION");
        if self.long_version || self.version.as_deref() == Some("long") {
            return Some(format!(
                "momentlog {version}\n\n\
                 Stores: momentlog:DIR, momentlog:///DIR, postgres://USER@HOST/DATABASE?log=NAME, test:///default (in memory)\n\
                 Commands and XML: libvirt 9.0.0, snapshots, checkpoints and domains\n"
            ));
        }
        let short = self.short_version || self.version.is_some();
        short.then(|| format!("{version}\n"))
    }

    /// Whether a store is named. Otherwise it is the user's own.
    pub fn names_store(&self) -> bool {
        self.connect.is_some() || std::env::var_os("MOMENTLOG_DEFAULT_URI").is_some()
    }

    /// Whether the command needs no store besides those that it names itself.
    pub fn needs_no_store(&self) -> bool {
        let verb = self
            .command
            .first()
            .and_then(|first| first.split(' ').next());
        let without = ["completion", "copy", "man", "proxy-install", "proxy-remove"];
        verb.is_some_and(|verb| without.contains(&verb))
    }

    /// Checks what clap does not, with virsh's words for it. Returns the level of what is logged, from 0 to 4.
    ///
    /// # Errors
    ///
    /// What is wrong with an option.
    pub fn check(&self) -> Result<Option<u8>, String> {
        for (name, value) in [("actor", &self.actor), ("reason", &self.reason)] {
            if value.as_deref() == Some("") {
                return Err(format!(
                    "Failed to get option '{name}': Option argument is empty"
                ));
            }
        }
        for (letter, value) in [
            ('k', &self.keepalive_interval),
            ('K', &self.keepalive_count),
        ] {
            match value.as_deref().map(str::parse::<i32>) {
                None | Some(Ok(0..)) => {}
                Some(Ok(_)) => {
                    return Err(format!(
                        "option -{letter} requires a positive integer argument"
                    ));
                }
                Some(Err(_)) => return Err(format!("Invalid value for option -{letter}")),
            }
        }
        if let Some(escape) = &self.escape
            && escape.strip_prefix('^').unwrap_or(escape).chars().count() != 1
        {
            return Err(format!("Invalid string '{escape}' for escape sequence"));
        }
        match self.debug.as_deref().map(str::parse::<i64>) {
            None => Ok(None),
            Some(Err(_)) => Err("option -d takes a numeric argument".to_owned()),
            Some(Ok(level)) => match u8::try_from(level) {
                Ok(level @ 0..=4) => Ok(Some(level)),
                _ => {
                    complain(&[format!("ignoring debug level {level} out of range [0-4]")]);
                    Ok(None)
                }
            },
        }
    }

    /// The store to open: the one that is named, or the first that the environment names, or one in the user's data
    /// directory. A leading `~` of its directory is the user's home.
    ///
    /// # Errors
    ///
    /// If there is none, or no home for `~`.
    pub fn uri(&self) -> Result<String, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|uri| !uri.is_empty());
        let of_virsh = |name: &str| variable(name).filter(|uri| names_a_store(uri));
        let uri = (self.connect.clone())
            .or_else(|| variable("MOMENTLOG_DEFAULT_URI"))
            .or_else(|| of_virsh("VIRSH_DEFAULT_CONNECT_URI"))
            .or_else(|| of_virsh("LIBVIRT_DEFAULT_URI"))
            .or_else(default_uri);
        let uri = uri.ok_or("no store is named: use -c URI, or set MOMENTLOG_DEFAULT_URI")?;
        with_home(uri)
    }
}

/// Whether a URI is one of momentlog's, and not of a hypervisor.
pub fn names_a_store(uri: &str) -> bool {
    uri.starts_with("momentlog:") || crate::place::is_database(uri) || uri == "test:///default"
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// A store in the user's data directory.
fn default_uri() -> Option<String> {
    let data = std::env::var_os("XDG_DATA_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let path = data
        .or_else(|| home().map(|home| home.join(".local/share")))
        .filter(|path| path.is_absolute())?
        .join("momentlog");
    Some(format!("momentlog://{}", path.display()))
}

/// Puts the user's home for a leading `~`, which no shell replaces behind `momentlog:`.
fn with_home(uri: String) -> Result<String, String> {
    let Some(path) = uri.strip_prefix("momentlog:") else {
        return Ok(uri);
    };
    let path = path
        .strip_prefix("///")
        .or_else(|| path.strip_prefix("//"))
        .unwrap_or(path);
    let Some(rest) = path.strip_prefix('~') else {
        return Ok(uri);
    };
    if !(rest.is_empty() || rest.starts_with(['/', '?'])) {
        return Err(format!(
            "the home directory of another user is not known here: write the directory for '~' in {uri}"
        ));
    }
    let home = home().ok_or("there is no HOME for '~' in the URI")?;
    Ok(format!("momentlog://{}{rest}", home.display()))
}

/// Says what is wrong with the program's own options, as virsh does where it has words for it.
pub fn complaint(error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let option = error.get(ContextKind::InvalidArg)?;
    match error.kind() {
        ErrorKind::UnknownArgument => Some(format!("unsupported option '{option}'. See --help.")),
        ErrorKind::InvalidValue => {
            let missing = match error.get(ContextKind::InvalidValue) {
                None => true,
                Some(ContextValue::String(value)) => value.is_empty(),
                Some(_) => false,
            };
            let option = option.to_string();
            let long = option
                .split([' ', '='])
                .next()?
                .strip_prefix("--")?
                .to_owned();
            let command = Arguments::command();
            let mut all = command.get_arguments();
            let found = all.find(|argument| argument.get_long() == Some(&long))?;
            let names = match found.get_short() {
                Some(short) => format!("'-{short}'/'--{long}'"),
                None => format!("'--{long}'"),
            };
            missing.then(|| format!("option {names} requires an argument"))
        }
        _ => None,
    }
}
