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
    /// No value, and no line in the help: an option that virsh has and does not list.
    Unlisted,
    /// What the option of this name takes: another name for it, which the help does not list.
    As(&'static str),
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

/// A boolean option that the help does not list.
pub const fn unlisted(name: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::Unlisted,
        required: false,
    }
}

/// Another name for an option, which the help does not list.
pub const fn other_name(name: &'static str, of: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::As(of),
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
pub const PROVENANCE: [OptionSpec; 5] = [
    named("actor"),
    named("reason"),
    named("request-id"),
    named("expect-revision"),
    named("undoes"),
];

/// What every verb takes: how it answers. Only a verb that has a JSON form lists it.
pub const FORMAT: OptionSpec = named("format");

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
    /// Whether it can answer in JSON.
    pub json: bool,
    /// What it does.
    pub run: fn(&mut Session, &Invocation) -> Answer,
}

impl Verb {
    /// Returns the verb as one that can answer in JSON.
    pub const fn with_json(self) -> Verb {
        Verb { json: true, ..self }
    }

    /// All options that the help lists, those of provenance included.
    pub fn all_options(&self) -> impl Iterator<Item = OptionSpec> {
        let unlisted = |option: &OptionSpec| matches!(option.takes, Takes::Unlisted | Takes::As(_));
        let format = self.json.then_some(FORMAT);
        let taken = self.taken().chain(format);
        taken.filter(move |option| !unlisted(option))
    }

    /// All options but [`FORMAT`].
    fn taken(&self) -> impl Iterator<Item = OptionSpec> {
        let provenance = if self.changes { &PROVENANCE[..] } else { &[] };
        self.options.iter().chain(provenance).copied()
    }

    /// Whether the verb has an option of this name.
    pub fn takes(&self, name: &str) -> bool {
        self.taken()
            .chain([FORMAT])
            .any(|option| option.name == name)
    }

    /// The help text, as virsh lays it out.
    pub fn usage(&self) -> String {
        let mut synopsis = self.name.to_owned();
        let mut options = String::new();
        for option in self.all_options() {
            let name = option.name;
            synopsis += &match (option.takes, option.required) {
                (Takes::Nothing | Takes::Unlisted, _) => format!(" [--{name}]"),
                (Takes::Words, _) => format!(" [[--{name}] <string>]..."),
                (_, true) => format!(" <{name}>"),
                (_, false) => format!(" [--{name} <string>]"),
            };
            let value = match (option.takes, option.required) {
                (Takes::Nothing | Takes::Unlisted, _) => format!("--{name}"),
                (_, true) => format!("[--{name}] <string>"),
                (_, false) => format!("--{name} <string>"),
            };
            options += &format!("    {value}\n");
        }
        let name = self.name;
        let help = self.help;
        let mut text = format!("  NAME\n    {name} - {help}\n\n  SYNOPSIS\n    {synopsis}\n");
        if !options.is_empty() {
            text += &format!("\n  OPTIONS\n{options}");
        }
        text
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
    /// Whether an option was given.
    ///
    /// # Panics
    ///
    /// If the verb has no such option, as the other readers of values do: the table of verbs lacks it, or the name is
    /// misspelt.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// The value of an option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    /// The value of an option that the verb needs.
    pub fn need(&self, name: &str) -> &str {
        self.get(name)
            .expect("the grammar asks for what a verb needs")
    }

    /// All values of an option.
    pub fn all(&self, name: &str) -> &[String] {
        assert!(
            self.verb.takes(name),
            "the verb '{}' has no option --{name}",
            self.verb.name
        );
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
        let options: Vec<OptionSpec> = verb.taken().chain([FORMAT]).collect();
        let mut values: HashMap<&'static str, Vec<String>> = HashMap::new();
        let mut words = words.iter();
        let mut only_words = false;
        let mut help = false;
        while let Some(word) = words.next() {
            if !only_words && word == "--" {
                only_words = true;
                continue;
            }
            let long = word.strip_prefix("--").filter(|_| !only_words);
            let Some(long) = long else {
                let free = |option: &&OptionSpec| match option.takes {
                    Takes::Nothing | Takes::Unlisted | Takes::NamedWord | Takes::As(_) => false,
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
            let (key, attached) = long
                .split_once('=')
                .map_or((long, None), |(key, value)| (key, Some(value)));
            if key == "help" {
                if attached.is_some() {
                    return Err(format!("invalid '=' after option --{key}"));
                }
                help = true;
                continue;
            }
            let called = |key: &str| options.iter().find(|option| option.name == key);
            let option = called(key).and_then(|option| match option.takes {
                Takes::As(other) => called(other),
                _ => Some(option),
            });
            let option = option
                .ok_or_else(|| format!("command '{}' doesn't support option --{key}", verb.name))?;
            if option.takes != Takes::Words && values.contains_key(option.name) {
                return Err(format!("option --{key} already seen"));
            }
            let value = match (option.takes, attached) {
                (Takes::Nothing | Takes::Unlisted, Some(_)) => {
                    return Err(format!("invalid '=' after option --{key}"));
                }
                (Takes::Nothing | Takes::Unlisted, None) => String::new(),
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
            .find(|option| !help && option.required && !values.contains_key(option.name))
        {
            return Err(format!(
                "command '{}' requires <{}> option",
                verb.name, missing.name
            ));
        }
        Ok(Invocation { verb, values, help })
    }
}
