//! virsh's grammar of one command: a verb, `--options`, and bare words that fill options in their order.

use std::collections::HashMap;

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
    /// What it does, in a line. Empty for an option that the help does not list.
    pub help: &'static str,
}

impl OptionSpec {
    /// How the option is written, with its value.
    pub fn form(&self) -> String {
        let name = self.name;
        match (self.takes, self.required) {
            (Takes::Nothing | Takes::Unlisted, _) => format!("--{name}"),
            (Takes::Words, _) | (_, true) => format!("[--{name}] <string>"),
            (_, false) => format!("--{name} <string>"),
        }
    }
}

/// A boolean option.
pub const fn flag(name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::Nothing,
        required: false,
        help,
    }
}

/// A boolean option that the help does not list.
pub const fn unlisted(name: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::Unlisted,
        required: false,
        help: "",
    }
}

/// Another name for an option, which the help does not list.
pub const fn other_name(name: &'static str, of: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::As(of),
        required: false,
        help: "",
    }
}

/// An option with a value.
pub const fn word(name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::Word,
        required: false,
        help,
    }
}

/// An option with a value that only its name gives.
pub const fn only_named(name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::NamedWord,
        required: false,
        help,
    }
}

/// An option with a value that must be given.
pub const fn needed(name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::Word,
        required: true,
        help,
    }
}

/// An option with any number of values.
pub const fn words(name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        takes: Takes::Words,
        required: false,
        help,
    }
}

/// What every verb that changes something takes besides its own options.
pub const PROVENANCE: [OptionSpec; 6] = [
    only_named(
        "actor",
        "who asks; by default the operating system's user and host",
    ),
    only_named("reason", "why; kept in the record"),
    only_named(
        "request-id",
        "key of this request: a command that is asked twice is done once",
    ),
    only_named(
        "expect-revision",
        "refuse unless the domain's newest record is this one; none for a new domain",
    ),
    only_named("undoes", "number of the record that this one takes back"),
    flag(
        "dry-run",
        "show what would be recorded, or why it would be refused, and change nothing",
    ),
];

/// What every verb takes: how it answers. A verb that has no JSON form does not list it.
pub const FORMAT: OptionSpec = only_named("format", "how the command answers: text or json");

/// What every verb that reads takes: as of when, and where records are that were archived before.
pub const AT: [OptionSpec; 2] = [
    only_named(
        "at",
        "answer as of this point: a record's number, a time, a receipt or its file",
    ),
    only_named(
        "archive",
        "directory of archived records, for points that lie there",
    ),
];

/// What a verb takes that reads archived records itself, and not only for a point that lies there.
pub const ARCHIVE: OptionSpec = only_named(
    "archive",
    "directory of archived records, which are read as well",
);

/// One verb, without what it does.
#[derive(Debug)]
pub struct Spec {
    /// The name.
    pub name: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
    /// Its options, in the order in which bare words fill them.
    pub options: &'static [OptionSpec],
    /// Whether it changes something, and so takes [`PROVENANCE`].
    pub changes: bool,
    /// Whether it can answer as of an earlier point, and so takes [`AT`].
    pub at: bool,
    /// Whether it can answer in JSON.
    pub json: bool,
}

impl Spec {
    /// Returns a verb that changes nothing, and answers as of any point in text or JSON.
    pub const fn new(
        name: &'static str,
        help: &'static str,
        options: &'static [OptionSpec],
    ) -> Spec {
        Spec {
            name,
            help,
            options,
            changes: false,
            at: true,
            json: true,
        }
    }

    /// Returns the verb as one that changes something.
    pub const fn changing(self) -> Spec {
        Spec {
            changes: true,
            at: false,
            ..self
        }
    }

    /// Returns the verb as one that changes something only if its options say so, and reads otherwise.
    pub const fn or_reading(self) -> Spec {
        Spec { at: true, ..self }
    }

    /// Returns the verb as one that answers of what is now alone.
    pub const fn of_now(self) -> Spec {
        Spec { at: false, ..self }
    }

    /// Returns the verb as one that answers in text alone.
    pub const fn in_text(self) -> Spec {
        Spec {
            json: false,
            ..self
        }
    }

    /// All options that the help lists, those that verbs share included.
    pub fn all_options(&self) -> impl Iterator<Item = OptionSpec> {
        let unlisted = |option: &OptionSpec| matches!(option.takes, Takes::Unlisted | Takes::As(_));
        let format = self.json.then_some(FORMAT);
        let taken = self.taken().chain(format);
        taken.filter(move |option| !unlisted(option))
    }

    /// All options but [`FORMAT`].
    fn taken(&self) -> impl Iterator<Item = OptionSpec> {
        let at = if self.at { &AT[..] } else { &[] };
        let provenance = if self.changes { &PROVENANCE[..] } else { &[] };
        // An option of the verb's own that is called as one of these is meant.
        let own = |option: &&OptionSpec| self.options.iter().all(|own| own.name != option.name);
        let shared = at.iter().chain(provenance).filter(own);
        self.options.iter().chain(shared).copied()
    }

    /// Whether the verb has an option of this name of its own, which it does not share with others.
    pub fn has_own(&self, name: &str) -> bool {
        self.options.iter().any(|option| option.name == name)
    }

    /// Whether the verb has an option of this name.
    pub fn takes(&self, name: &str) -> bool {
        self.taken()
            .chain([FORMAT])
            .any(|option| option.name == name)
    }

    /// The verb with its options, in a line.
    pub fn synopsis(&self) -> String {
        let mut synopsis = self.name.to_owned();
        for option in self.all_options() {
            let name = option.name;
            synopsis += &match (option.takes, option.required) {
                (Takes::Nothing | Takes::Unlisted, _) => format!(" [--{name}]"),
                (Takes::Words, _) => format!(" [[--{name}] <string>]..."),
                (_, true) => format!(" <{name}>"),
                (_, false) => format!(" [--{name} <string>]"),
            };
        }
        synopsis
    }

    /// The help text, as virsh lays it out.
    pub fn usage(&self) -> String {
        let (name, help, synopsis) = (self.name, self.help, self.synopsis());
        let mut text = format!("  NAME\n    {name} - {help}\n\n  SYNOPSIS\n    {synopsis}\n");
        let options = self.all_options();
        let options = options.map(|option| format!("    {:<15}  {}\n", option.form(), option.help));
        let options: String = options.collect();
        if !options.is_empty() {
            text += &format!("\n  OPTIONS\n{options}\n");
        }
        text
    }
}

/// A command that parsed: a verb with its options.
#[derive(Debug)]
pub struct Invocation {
    /// The verb.
    pub verb: &'static Spec,
    values: HashMap<&'static str, Vec<String>>,
    /// Whether only its help is asked for.
    pub help: bool,
    /// The words behind the verb, as they were given.
    pub words: Vec<String>,
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

    /// Reads the words behind a verb. The message of an error is virsh's.
    pub fn parse(verb: &'static Spec, words: &[String]) -> Result<Invocation, String> {
        let options: Vec<OptionSpec> = verb.taken().chain([FORMAT]).collect();
        let mut values: HashMap<&'static str, Vec<String>> = HashMap::new();
        let given = words;
        let mut words = words.iter();
        let mut only_words = false;
        let mut help = false;
        while let Some(word) = words.next() {
            if !only_words && word == "--" {
                only_words = true;
                continue;
            }
            // An option of one letter is also written as elsewhere: `-n 3`.
            let short = word
                .strip_prefix('-')
                .filter(|rest| rest.chars().count() == 1);
            let short = short.filter(|short| options.iter().any(|option| option.name == *short));
            let long = word.strip_prefix("--").or(short).filter(|_| !only_words);
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
        Ok(Invocation {
            verb,
            values,
            help,
            words: given.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PLAIN: Spec = Spec::new(
        "pick",
        "pick things",
        &[
            needed("domain", "its name"),
            flag("all", "all of them"),
            word("from", "where to begin"),
            only_named("output", "where to write"),
            unlisted("hi"),
            other_name("start", "from"),
            words("thing", "what to pick"),
        ],
    )
    .in_text();

    static CHANGING: Spec = Spec::new("note", "note something", &[]).changing();

    fn parse(text: &str) -> Result<Invocation, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Invocation::parse(&PLAIN, &words)
    }

    /// Checks the values that words give: of domain, all, from, output, thing.
    #[track_caller]
    fn check(text: &str, expected: [&[&str]; 5]) {
        let invocation = parse(text).expect("it parses");
        let names = ["domain", "all", "from", "output", "thing"];
        assert_eq!(names.map(|name| invocation.all(name)), expected, "{text}");
    }

    #[track_caller]
    fn refuses(text: &str, message: &str) {
        assert_eq!(parse(text).err().as_deref(), Some(message), "{text}");
    }

    #[test]
    fn the_usage_is_laid_out_as_virsh_does() {
        assert_eq!(
            PLAIN.usage(),
            "  NAME
    pick - pick things

  SYNOPSIS
    pick <domain> [--all] [--from <string>] [--output <string>] [[--thing] <string>]... [--at <string>] [--archive <string>]

  OPTIONS
    [--domain] <string>  its name
    --all            all of them
    --from <string>  where to begin
    --output <string>  where to write
    [--thing] <string>  what to pick
    --at <string>    answer as of this point: a record's number, a time, a receipt or its file
    --archive <string>  directory of archived records, for points that lie there

"
        );
    }

    #[test]
    fn the_usage_of_a_verb_that_changes_something_ends_with_provenance_and_format() {
        let usage = CHANGING.usage();
        let names: Vec<&str> = usage
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("--")?.split(' ').next())
            .collect();
        let expected = [
            "actor",
            "reason",
            "request-id",
            "expect-revision",
            "undoes",
            "dry-run",
        ];
        assert_eq!(names[..6], expected);
        assert_eq!(names[6..], ["format"]);
        assert!(!PLAIN.usage().contains("--format") && PLAIN.takes("format"));
    }

    #[test]
    fn bare_words_fill_options_in_their_order_and_skip_those_that_only_a_name_gives() {
        check("d f a b", [&["d"], &[], &["f"], &[], &["a", "b"]]);
        check("--from f d a", [&["d"], &[], &["f"], &[], &["a"]]);
        check("d --all --output o f", [&["d"], &[""], &["f"], &["o"], &[]]);
    }

    #[test]
    fn a_value_is_the_next_word_or_stands_behind_an_equals_sign() {
        check("d --from=a=b", [&["d"], &[], &["a=b"], &[], &[]]);
        check("d --from --all", [&["d"], &[], &["--all"], &[], &[]]);
        check("d --start f", [&["d"], &[], &["f"], &[], &[]]);
        check("d --from=", [&["d"], &[], &[""], &[], &[]]);
        assert_eq!(parse("d --from=").unwrap().empty_option(), Some("from"));
        refuses("d --all=1", "invalid '=' after option --all");
        refuses("d --hi=1", "invalid '=' after option --hi");
        refuses("d --help=1", "invalid '=' after option --help");
        refuses("d --from", "expected syntax: --from <string>");
    }

    #[test]
    fn two_dashes_make_bare_words_of_what_follows() {
        check(
            "d -- --all -- x",
            [&["d"], &[], &["--all"], &[], &["--", "x"]],
        );
    }

    #[test]
    fn only_an_option_of_words_is_given_twice() {
        check(
            "d f --thing=a b --thing c",
            [&["d"], &[], &["f"], &[], &["a", "b", "c"]],
        );
        refuses("d --all --all", "option --all already seen");
        refuses("d --from a --start b", "option --start already seen");
        refuses("d --domain e", "option --domain already seen");
    }

    #[test]
    fn what_a_verb_lacks_or_needs_is_named() {
        refuses("d --some", "command 'pick' doesn't support option --some");
        refuses("", "command 'pick' requires <domain> option");
        refuses("--all", "command 'pick' requires <domain> option");
        let words = ["x".to_owned()];
        let extra = Invocation::parse(&CHANGING, &words).err();
        assert_eq!(extra.as_deref(), Some("unexpected data 'x'"));
    }

    #[test]
    fn who_asks_for_help_needs_no_option() {
        assert!(parse("--help").unwrap().help);
        assert!(!parse("d").unwrap().help);
        refuses(
            "--help --some",
            "command 'pick' doesn't support option --some",
        );
    }
}
