//! virsh's grammar of one command: a verb, `--options`, and bare words that fill options in their order.

use std::collections::HashMap;

use crate::session::{Failure, Session};

/// How an option takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// No value.
    Nothing,
    /// A value, which a bare word may give.
    Word,
    /// A value, which only `--option` gives: momentlog's own additions to virsh's verbs.
    NamedWord,
    /// Any number of values; takes all bare words that are left.
    Words,
}

/// One option of a verb.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// The name, without dashes.
    pub name: &'static str,
    /// How it takes its value.
    pub takes: Takes,
    /// Whether the verb needs it.
    pub required: bool,
}

/// A boolean option.
pub const fn flag(name: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::Nothing,
        required: false,
    }
}

/// An option with a value.
pub const fn word(name: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::Word,
        required: false,
    }
}

/// An option with a value that only its name gives.
pub const fn named(name: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::NamedWord,
        required: false,
    }
}

/// An option with a value that must be given.
pub const fn needed(name: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::Word,
        required: true,
    }
}

/// An option with any number of values.
pub const fn words(name: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::Words,
        required: false,
    }
}

/// What every verb that changes something takes besides its own options.
pub const PROVENANCE: [OptionSpec; 4] = [
    named("actor"),
    named("reason"),
    named("request-id"),
    named("expect-revision"),
];

/// What a verb answers: its exit status.
pub type Answer = Result<u8, Failure>;

/// One verb.
#[derive(Debug)]
pub struct Verb {
    /// The name.
    pub name: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
    /// Its options, in the order in which bare words fill them.
    pub options: &'static [OptionSpec],
    /// Whether it changes something, and so takes [`PROVENANCE`].
    pub changes: bool,
    /// What it does.
    pub run: fn(&mut Session, &Invocation) -> Answer,
}

impl Verb {
    /// All options, those of provenance included.
    pub fn all_options(&self) -> impl Iterator<Item = OptionSpec> {
        let provenance = if self.changes { &PROVENANCE[..] } else { &[] };
        self.options.iter().chain(provenance).copied()
    }

    /// The help text, as virsh lays it out.
    pub fn usage(&self) -> String {
        let mut synopsis = self.name.to_owned();
        let mut options = String::new();
        for option in self.all_options() {
            let name = option.name;
            synopsis += &match (option.takes, option.required) {
                (Takes::Nothing, _) => format!(" [--{name}]"),
                (Takes::Words, _) => format!(" [[--{name}] <string>]..."),
                (_, true) => format!(" <{name}>"),
                (_, false) => format!(" [--{name} <string>]"),
            };
            let value = match (option.takes, option.required) {
                (Takes::Nothing, _) => format!("--{name}"),
                (_, true) => format!("[--{name}] <string>"),
                (_, false) => format!("--{name} <string>"),
            };
            options += &format!("    {value}\n");
        }
        let name = self.name;
        let help = self.help;
        format!("  NAME\n    {name} - {help}\n\n  SYNOPSIS\n    {synopsis}\n\n  OPTIONS\n{options}")
    }
}

/// A command that parsed: a verb with its options.
#[derive(Debug)]
pub struct Invocation {
    /// The verb.
    pub verb: &'static Verb,
    values: HashMap<&'static str, Vec<String>>,
    /// Whether only its help is asked for.
    pub help: bool,
}

impl Invocation {
    /// Whether a boolean option was given.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The value of an option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .and_then(|values| values.first())
            .map(String::as_str)
    }

    /// The value of an option that the verb needs.
    pub fn need(&self, name: &str) -> &str {
        self.get(name)
            .expect("the grammar asks for what a verb needs")
    }

    /// All values of an option.
    pub fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// The first option whose value is empty; virsh takes no such value, but in a list of words.
    pub fn empty_option(&self) -> Option<&'static str> {
        let is_empty = |option: &OptionSpec| {
            let words = matches!(option.takes, Takes::Word | Takes::NamedWord);
            words && self.get(option.name) == Some("")
        };
        self.verb
            .all_options()
            .find(is_empty)
            .map(|option| option.name)
    }

    /// Reads a command. The message of an error is virsh's.
    pub fn parse(verbs: &'static [Verb], words: &[String]) -> Result<Invocation, String> {
        let (name, words) = words.split_first().expect("a command has words");
        let verb = verbs
            .iter()
            .find(|verb| verb.name == name)
            .ok_or_else(|| format!("unknown command: '{name}'"))?;
        let options: Vec<OptionSpec> = verb.all_options().collect();
        let mut values: HashMap<&'static str, Vec<String>> = HashMap::new();
        let mut words = words.iter();
        let mut only_words = false;
        while let Some(word) = words.next() {
            if !only_words && word == "--" {
                only_words = true;
                continue;
            }
            let long = word.strip_prefix("--").filter(|_| !only_words);
            let Some(long) = long else {
                let free = |option: &&OptionSpec| match option.takes {
                    Takes::Nothing | Takes::NamedWord => false,
                    Takes::Word => !values.contains_key(option.name),
                    Takes::Words => true,
                };
                let option = options
                    .iter()
                    .find(free)
                    .ok_or_else(|| format!("unexpected data '{word}'"))?;
                values.entry(option.name).or_default().push(word.clone());
                continue;
            };
            if long == "help" {
                return Ok(Invocation {
                    verb,
                    values,
                    help: true,
                });
            }
            let (key, attached) = long
                .split_once('=')
                .map_or((long, None), |(key, value)| (key, Some(value)));
            let option = options.iter().find(|option| option.name == key);
            let option = option
                .ok_or_else(|| format!("command '{}' doesn't support option --{key}", verb.name))?;
            if option.takes != Takes::Words && values.contains_key(option.name) {
                return Err(format!("option --{key} already seen"));
            }
            let value = match (option.takes, attached) {
                (Takes::Nothing, Some(_)) => {
                    return Err(format!("invalid '=' after option --{key}"));
                }
                (Takes::Nothing, None) => String::new(),
                (_, Some(value)) => value.to_owned(),
                (_, None) => words
                    .next()
                    .cloned()
                    .ok_or_else(|| format!("expected syntax: --{key} <string>"))?,
            };
            values.entry(option.name).or_default().push(value);
        }
        if let Some(missing) = options
            .iter()
            .find(|option| option.required && !values.contains_key(option.name))
        {
            return Err(format!(
                "command '{}' requires <{}> option",
                verb.name, missing.name
            ));
        }
        Ok(Invocation {
            verb,
            values,
            help: false,
        })
    }
}
