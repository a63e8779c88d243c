//! What can stand next in a command: a verb, an option, or the name of something that is there.

use clap::CommandFactory as _;
use clap::Parser as _;
use clap::error::{ContextKind, ContextValue};
use momentlog::core::{Domain, MomentKind, Rule, Scope};
use momentlog::{Connection, Options};
use momentlog_audit::RecordKind;
use std::time::Duration;

use crate::grammar::{Invocation, OptionSpec, Spec, Takes};
use crate::hint;
use crate::options::Arguments;
use crate::script::Commands;
use crate::verbs;

/// Something that can stand next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The whole word, not quoted.
    pub text: String,
    /// What it is, in a line; empty for a name.
    pub help: &'static str,
}

/// What can stand next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// One of these.
    Words(Vec<Candidate>),
    /// The name of a file or directory, which shells complete themselves.
    File,
}

/// Stands where the next word is typed. No word that is typed has it.
const HERE: &str = "\u{1}";

/// A line that is typed, up to the cursor: its last command.
#[derive(Debug, PartialEq, Eq)]
pub struct Typed {
    /// The words before the one that is typed.
    pub words: Vec<String>,
    /// What there is of the word that is typed, without its quotes.
    pub word: String,
    /// Where that word begins in the line, in bytes.
    pub start: usize,
}

impl Typed {
    /// Splits a line as scripts are split.
    pub fn new(line: &str) -> Typed {
        let (words, word) = split(line);
        let begins = |at: &usize| {
            let before = line[..*at].chars().next_back();
            let parted = before.is_none_or(|before| " \t\n;".contains(before));
            parted && split(&line[..*at]).1.is_empty()
        };
        let start = (0..=line.len())
            .rev()
            .filter(|at| line.is_char_boundary(*at))
            .find(begins)
            .unwrap_or(line.len());
        Typed { words, word, start }
    }
}

/// The words of the last command of a line, and what there is of the one behind them.
fn split(line: &str) -> (Vec<String>, String) {
    // A quotation may still be open.
    for end in ["", "\""] {
        let marked = format!("{line}{HERE}{end}");
        let commands: Result<Vec<_>, _> = Commands::new(marked.as_bytes()).collect();
        if let Ok(mut commands) = commands
            && let Some(mut words) = commands.pop()
            && let Some(word) = words.pop()
            && let Some(word) = word.strip_suffix(HERE)
        {
            return (words, word.to_owned());
        }
    }
    (Vec::new(), String::new())
}

/// Returns what can stand next in a command of the program's shell. The connection is asked for where names are.
pub fn next(words: &[String], word: &str, connection: &dyn Fn() -> Option<Connection>) -> Next {
    let Some((name, given)) = words.split_first() else {
        return matching(word, verbs::all().map(|verb| of_verb(&verb.spec)));
    };
    let Some(verb) = verbs::find(name) else {
        return Next::Words(Vec::new());
    };
    let spec = &verb.spec;
    // Who asks for help needs no option, so that the command may be unfinished.
    let read = |last: &[&str]| {
        let help = std::iter::once("--help");
        let given = given.iter().map(String::as_str);
        let words: Vec<String> = help
            .chain(given)
            .chain(last.iter().copied())
            .map(str::to_owned)
            .collect();
        Invocation::parse(spec, &words).ok()
    };
    let whole = read(&[]);
    // Behind two dashes there are no options.
    let takes_options = !given.iter().any(|word| word == "--");
    let is_option = word.starts_with('-') && takes_options;
    if let (Some(whole), true) = (&whole, is_option) {
        let Some((option, _)) = word.split_once('=') else {
            return matching(word, options(spec, whole));
        };
        let Some(invocation) = read(&[&format!("{option}={HERE}")]) else {
            return Next::Words(Vec::new());
        };
        let values = awaited(&invocation).map(|option| values(option, &invocation, connection));
        return match values {
            Some(Next::Words(values)) => matching(
                word,
                values.into_iter().map(|value| Candidate {
                    text: format!("{option}={}", value.text),
                    ..value
                }),
            ),
            other => other.unwrap_or(Next::Words(Vec::new())),
        };
    }
    let Some(invocation) = read(&[HERE]) else {
        let whole = whole.filter(|_| takes_options);
        return matching(word, whole.iter().flat_map(|whole| options(spec, whole)));
    };
    let Some(option) = awaited(&invocation) else {
        return Next::Words(Vec::new());
    };
    // Where a listing begins is asked for by its name.
    let is_named = whole.is_none() || option.required || option.name != "from";
    let found = match values(option, &invocation, connection) {
        Next::File => return Next::File,
        Next::Words(found) if is_named => found,
        Next::Words(_) => Vec::new(),
    };
    match whole {
        Some(whole) if found.is_empty() && takes_options => matching(word, options(spec, &whole)),
        _ => matching(word, found.into_iter()),
    }
}

/// Keeps what begins with what is typed.
fn matching(word: &str, candidates: impl Iterator<Item = Candidate>) -> Next {
    Next::Words(
        candidates
            .filter(|candidate| candidate.text.starts_with(word))
            .collect(),
    )
}

fn of_verb(spec: &Spec) -> Candidate {
    Candidate {
        text: spec.name.to_owned(),
        help: spec.help,
    }
}

/// The options of a verb that may still be given.
fn options(spec: &Spec, given: &Invocation) -> impl Iterator<Item = Candidate> {
    let free = |option: &OptionSpec| option.takes == Takes::Words || !given.has(option.name);
    let options = spec.all_options().filter(free).map(|option| Candidate {
        text: format!("--{}", option.name),
        help: option.help,
    });
    let options: Vec<Candidate> = options.collect();
    options.into_iter()
}

/// The option whose value is being typed.
fn awaited(invocation: &Invocation) -> Option<OptionSpec> {
    let is_here = |option: &OptionSpec| {
        let values = invocation.all(option.name);
        values.last().is_some_and(|value| value == HERE)
    };
    invocation.verb.all_options().find(is_here)
}

/// The values that an option of a command may take, as far as they are known.
fn values(
    option: OptionSpec,
    invocation: &Invocation,
    connection: &dyn Fn() -> Option<Connection>,
) -> Next {
    let of_domain = |of: &dyn Fn(&Connection, &Domain) -> Vec<String>| {
        let connection = connection()?;
        let view = connection.refresh().ok()?;
        let takes = invocation.verb.takes("domain");
        let named = takes.then(|| invocation.get("domain")).flatten()?;
        let mut domains = view.state().domains();
        let is_named =
            |domain: &&Domain| **domain.name() == *named || domain.uuid().to_string() == named;
        Some(of(&connection, domains.find(is_named)?))
    };
    let verb = invocation.verb.name;
    let moments = |kind: Option<MomentKind>| {
        of_domain(&|connection, domain| {
            // What is gone can be asked for, and put back.
            let (there, gone) = match verb {
                _ if verb.ends_with("-undelete") => (false, true),
                "why" => (true, true),
                _ => (true, false),
            };
            let mut found = if there {
                names(domain, kind)
            } else {
                Vec::new()
            };
            if gone {
                let deleted = hint::deleted(connection, domain, kind).into_iter();
                found.extend(deleted.map(|(name, _)| name));
            }
            found
        })
    };
    let found = match option.name {
        "domain" => connection().and_then(|connection| domains(&connection)),
        "checkpointname" => moments(Some(MomentKind::Checkpoint)),
        "snapshotname" => moments(Some(MomentKind::Snapshot)),
        "from" if verb == "checkpoint-list" => moments(Some(MomentKind::Checkpoint)),
        "from" if verb == "snapshot-list" => moments(Some(MomentKind::Snapshot)),
        "moment" => moments(None),
        "tag" => of_domain(&|_, domain| tags(domain)),
        "command" => {
            let verbs = verbs::all().map(|verb| of_verb(&verb.spec));
            return Next::Words(verbs.collect());
        }
        "format" => Some(vec!["text".to_owned(), "json".to_owned()]),
        "shell" => Some(["bash", "zsh", "fish"].map(str::to_owned).to_vec()),
        "kind" if verb == "log" => {
            let kinds = RecordKind::ALL.iter();
            Some(kinds.map(|(_, word)| (*word).to_owned()).collect())
        }
        "kind" => Some(vec!["snapshot".to_owned(), "checkpoint".to_owned()]),
        "rule" => {
            let rules = Rule::ALL.iter();
            Some(
                rules
                    .flat_map(|rule| ["on", "off"].map(|to| format!("{}={to}", rule.name())))
                    .collect(),
            )
        }
        "file" | "xmlfile" | "backupxml" | "checkpointxml" | "output" | "html" | "svg"
        | "socket" | "read-only-socket" | "upstream" | "dir" | "out" | "archive" | "against" => {
            return Next::File;
        }
        "to" if verb == "archive" || verb == "backup-begin" => return Next::File,
        _ => None,
    };
    let candidate = |text: String| Candidate { text, help: "" };
    Next::Words(found.into_iter().flatten().map(candidate).collect())
}

fn domains(connection: &Connection) -> Option<Vec<String>> {
    let view = connection.refresh().ok()?;
    let mut names: Vec<String> = view
        .state()
        .domains()
        .map(|domain| domain.name().to_string())
        .collect();
    names.sort_unstable();
    Some(names)
}

/// The names of the moments of a domain, in the order in which they were made.
pub fn names(domain: &Domain, kind: Option<MomentKind>) -> Vec<String> {
    let is_asked = |of: MomentKind| kind.is_none_or(|kind| kind == of);
    let mut names = Vec::new();
    if is_asked(MomentKind::Snapshot) {
        let moments = domain.snapshots().walk(Scope::All);
        names.extend(moments.map(|moment| (moment.id, moment.name.to_string())));
    }
    if is_asked(MomentKind::Checkpoint) {
        let moments = domain.checkpoints().walk(Scope::All);
        names.extend(moments.map(|moment| (moment.id, moment.name.to_string())));
    }
    names.sort_unstable();
    names.into_iter().map(|(_, name)| name).collect()
}

/// The tags of the holds of a domain.
fn tags(domain: &Domain) -> Vec<String> {
    let mut tags: Vec<String> = domain
        .holds()
        .iter()
        .map(|(_, tag, _)| tag.to_string())
        .collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// Returns what can stand next in a line that begins with this program: its own options, too.
fn after_program(typed: &Typed) -> Next {
    let given = typed.words.iter().map(String::as_str);
    let arguments = match Arguments::try_parse_from(given.chain([HERE])) {
        Ok(arguments) => arguments,
        Err(error) => {
            // It says what it would have taken.
            let known = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(known)) => known.clone(),
                _ => Vec::new(),
            };
            let known = known.into_iter().map(|text| Candidate { text, help: "" });
            return matching(&typed.word, known);
        }
    };
    let here = |path: &Option<std::path::PathBuf>| {
        path.as_ref().is_some_and(|path| path.as_os_str() == HERE)
    };
    if here(&arguments.file) || here(&arguments.log) {
        return Next::File;
    }
    match arguments.command.split_last() {
        Some((_, [])) if typed.word.starts_with('-') => {
            let command = Arguments::command();
            let options = command.get_arguments().filter_map(|argument| {
                let text = format!("--{}", argument.get_long()?);
                Some(Candidate { text, help: "" })
            });
            matching(&typed.word, options)
        }
        Some((_, words)) => next(words, &typed.word, &|| {
            // It looks, and neither makes a store nor waits for one.
            let options = Options {
                read_only: true,
                lock_wait: Duration::ZERO,
                ..Options::default()
            };
            let uri = arguments.uri().ok()?;
            crate::place::open(&uri, options).ok()
        }),
        None => Next::Words(Vec::new()),
    }
}

/// The exit status that tells a shell to complete the name of a file.
const FILE: u8 = 3;

/// Answers a completion script: `words` are the shell's name, and what is typed up to the cursor. Returns what is printed,
/// and the exit status. There are no errors: what cannot be read has nothing to offer.
pub fn answer(words: &[String]) -> (String, u8) {
    let [shell, line] = words else {
        return (String::new(), 1);
    };
    let typed = Typed::new(line);
    let Next::Words(found) = after_program(&typed) else {
        return (String::new(), FILE);
    };
    let raw = &line[typed.start..];
    let line = |candidate: Candidate| match shell.as_str() {
        "bash" => Some(for_bash(&candidate.text, &typed.word, raw)? + "\n"),
        _ => Some(format!("{}\t{}\n", candidate.text, candidate.help)),
    };
    // A name with a line break cannot be told to a shell.
    let found = found
        .into_iter()
        .filter(|found| !found.text.contains(['\n', '\t']));
    (found.filter_map(line).collect(), 0)
}

/// A word as bash puts it in: it replaces what stands behind the last `:` or `=`, and quotes nothing. `None` behind a quote
/// for a word that would not stay one there: bash would run what it names.
fn for_bash(text: &str, word: &str, raw: &str) -> Option<String> {
    let kept = word.rfind([':', '=']).map_or(0, |at| at + 1);
    let text = &text[kept..];
    if raw.starts_with(['"', '\'']) {
        let stays = !text.contains(['"', '\'', '$', '`', '\\', '!']);
        return stays.then(|| text.to_owned());
    }
    let plain = |char: char| char.is_alphanumeric() || "_-./:=@%+,".contains(char);
    let quoted = text.chars().map(|char| {
        if plain(char) {
            char.to_string()
        } else {
            format!("\\{char}")
        }
    });
    Some(quoted.collect())
}

/// The script that makes a shell ask this program; none for a shell that is not known.
pub fn script(shell: &str) -> Option<&'static str> {
    match shell {
        "bash" => Some(include_str!("complete/momentlog.bash")),
        "zsh" => Some(include_str!("complete/momentlog.zsh")),
        "fish" => Some(include_str!("complete/momentlog.fish")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, words: &[&str], word: &str, start: usize) {
        let typed = Typed::new(line);
        let found: Vec<&str> = typed.words.iter().map(String::as_str).collect();
        assert_eq!(
            (&found[..], &*typed.word, typed.start),
            (words, word, start),
            "{line}"
        );
    }

    #[test]
    fn the_word_that_is_typed_is_the_last_one() {
        check("", &[], "", 0);
        check("lo", &[], "lo", 0);
        check("log ", &["log"], "", 4);
        check("log web01; sho", &[], "sho", 11);
        check("echo a;b", &[], "b", 7);
    }

    #[test]
    fn quotations_need_not_be_closed() {
        check("log \"my do", &["log"], "my do", 4);
        check("log 'my do", &["log"], "my do", 4);
        check("log my\\ do", &["log"], "my do", 4);
        check("log \"my do\" c", &["log", "my do"], "c", 12);
    }

    fn texts(words: &[&str], word: &str) -> Vec<String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        match next(&words, word, &|| None) {
            Next::File => vec!["FILE".to_owned()],
            Next::Words(found) => found.into_iter().map(|found| found.text).collect(),
        }
    }

    #[test]
    fn an_option_is_offered_until_it_is_given() {
        assert_eq!(texts(&["domstate", "web01"], "--rea"), ["--reason"]);
        assert!(texts(&["domstate", "web01"], "--chain").is_empty());
        let offered = texts(&["checkpoint-list", "web01"], "--t");
        assert_eq!(offered, ["--tree", "--topological"]);
        assert_eq!(
            texts(&["checkpoint-list", "web01", "--tree"], "--t"),
            ["--topological"]
        );
        assert!(texts(&["checkpoint-list", "web01", "--"], "--t").is_empty());
    }

    #[test]
    fn the_value_of_an_option_is_known_or_a_file() {
        assert_eq!(
            texts(&["why", "web01", "c1", "--kind"], ""),
            ["snapshot", "checkpoint"]
        );
        assert_eq!(
            texts(&["why", "web01", "c1"], "--kind=s"),
            ["--kind=snapshot"]
        );
        assert_eq!(texts(&["define"], "web"), ["FILE"]);
        assert_eq!(
            texts(&["policy", "web01"], "chain=o"),
            ["chain=on", "chain=off"]
        );
        assert!(texts(&["no-such"], "").is_empty());
    }

    #[test]
    fn bash_replaces_what_stands_behind_its_breaks() {
        let inserted = |text, word, raw| for_bash(text, word, raw).unwrap_or_default();
        assert_eq!(
            inserted("--kind=snapshot", "--kind=s", "--kind=s"),
            "snapshot"
        );
        assert_eq!(inserted("my c", "my", "my"), "my\\ c");
        assert_eq!(inserted("my c", "my", "\"my"), "my c");
    }

    #[test]
    fn a_name_is_never_what_bash_runs() {
        assert_eq!(
            for_bash("we$(id)`", "we", "we").as_deref(),
            Some("we\\$\\(id\\)\\`")
        );
        for name in ["we$(id)", "we`id`", "we\"; id", "we'; id", "we\\", "we!id"] {
            for raw in ["\"we", "'we"] {
                assert_eq!(for_bash(name, "we", raw), None, "{raw} {name}");
            }
        }
    }
}
