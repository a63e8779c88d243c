//! Splitting a script into commands of words, as virsh does, one command after another.

use std::io::{BufRead, ErrorKind};

/// One command: its words.
pub type Words = Vec<String>;

/// The longest command that is read, in bytes of its words and of what is skipped before it.
pub const COMMAND_LEN_MAX: usize = 4 << 20;

/// Why a script cannot be split.
#[derive(Debug)]
pub enum Unfinished {
    /// A `"` is not closed. (An open `'` is, by the end of the text.)
    Quote,
    /// A backslash ends the text.
    Backslash,
    /// A command is longer than [`COMMAND_LEN_MAX`].
    Length,
    /// A word is not UTF-8.
    Encoding,
    /// The script cannot be read.
    Read(std::io::Error),
}

impl Unfinished {
    /// The message, as virsh has it where it has one.
    pub fn message(&self) -> String {
        match self {
            Unfinished::Quote => "missing \"".to_owned(),
            Unfinished::Backslash => "dangling \\".to_owned(),
            Unfinished::Length => format!("a command is longer than {COMMAND_LEN_MAX} bytes"),
            Unfinished::Encoding => "a command is not UTF-8".to_owned(),
            Unfinished::Read(error) => format!("cannot read the commands: {error}"),
        }
    }
}

/// The commands of a script, split at `;` and line ends, and each into words at blanks.
///
/// A word may hold `'…'` as it is, `"…"` with `\` as escape, and `\x` for `x`; a backslash at the end of a line joins it
/// with the next, also inside `"…"`; `#` at the start of a word begins a comment. Empty commands are left out, and so is
/// a command whose first word begins with `#` that was quoted or escaped. No more than one command is in memory.
#[derive(Debug)]
pub struct Commands<R> {
    bytes: Bytes<R>,
    /// The line in which the present command begins.
    line: u64,
    ended: bool,
}

impl<R: BufRead> Commands<R> {
    /// Returns the commands of a script.
    pub fn new(script: R) -> Commands<R> {
        let bytes = Bytes {
            script,
            taken: 0,
            line: 1,
            failure: None,
        };
        Commands {
            bytes,
            line: 1,
            ended: false,
        }
    }

    /// The line, from 1, in which the command begins that was read last, or what is wrong.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Reads up to the end of the next command. `None` at the end of the script.
    fn command(&mut self) -> Result<Option<Words>, Unfinished> {
        let mut words: Words = Vec::new();
        let mut word: Option<Vec<u8>> = None;
        self.bytes.taken = 0;
        loop {
            if words.is_empty() && word.is_none() {
                self.line = self.bytes.line;
            }
            match self.bytes.next() {
                None => self.ended = true,
                Some(b' ' | b'\t') => {
                    finish(&mut words, word.take())?;
                    continue;
                }
                Some(b'\n' | b';') => {}
                Some(b'#') if word.is_none() => {
                    self.bytes.skip_line();
                    continue;
                }
                Some(b'\\') => {
                    match self.bytes.next() {
                        None => return Err(self.bytes.end(Unfinished::Backslash)),
                        Some(b'\n') => {}
                        Some(escaped) => word.get_or_insert_default().push(escaped),
                    }
                    continue;
                }
                Some(b'\'') => {
                    let word = word.get_or_insert_default();
                    word.extend(
                        std::iter::from_fn(|| self.bytes.next()).take_while(|byte| *byte != b'\''),
                    );
                    continue;
                }
                Some(b'"') => {
                    self.quoted(word.get_or_insert_default())?;
                    continue;
                }
                Some(byte) => {
                    word.get_or_insert_default().push(byte);
                    continue;
                }
            }
            if let Some(failure) = self.bytes.failure.take() {
                return Err(failure);
            }
            finish(&mut words, word.take())?;
            let is_comment = words.first().is_some_and(|first| first.starts_with('#'));
            if !words.is_empty() && !is_comment {
                return Ok(Some(words));
            }
            if self.ended {
                return Ok(None);
            }
            words.clear();
            self.bytes.taken = 0;
        }
    }

    /// Reads up to the `"` that ends a quotation.
    fn quoted(&mut self, word: &mut Vec<u8>) -> Result<(), Unfinished> {
        loop {
            match self.bytes.next() {
                None => return Err(self.bytes.end(Unfinished::Quote)),
                Some(b'"') => return Ok(()),
                Some(b'\\') => match self.bytes.next() {
                    None => return Err(self.bytes.end(Unfinished::Backslash)),
                    Some(b'\n') => {}
                    Some(escaped) => word.push(escaped),
                },
                Some(byte) => word.push(byte),
            }
        }
    }
}

impl<R: BufRead> Iterator for Commands<R> {
    type Item = Result<Words, Unfinished>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let command = self.command();
        // What is behind a fault cannot be split any more.
        self.ended |= command.is_err();
        command.transpose()
    }
}

fn finish(words: &mut Words, word: Option<Vec<u8>>) -> Result<(), Unfinished> {
    if let Some(word) = word {
        words.push(String::from_utf8(word).map_err(|_| Unfinished::Encoding)?);
    }
    Ok(())
}

/// The bytes of a script, as many as a command may have.
#[derive(Debug)]
struct Bytes<R> {
    script: R,
    /// Bytes of the present command that were read.
    taken: usize,
    /// The line of the next byte, from 1.
    line: u64,
    /// Why there are no more.
    failure: Option<Unfinished>,
}

impl<R: BufRead> Bytes<R> {
    /// The next byte; `None` at the end, or with `failure` set.
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        if self.taken == COMMAND_LEN_MAX {
            self.failure = Some(Unfinished::Length);
            return None;
        }
        self.taken += 1;
        self.line += u64::from(byte == b'\n');
        self.script.consume(1);
        Some(byte)
    }

    fn peek(&mut self) -> Option<u8> {
        if self.failure.is_some() {
            return None;
        }
        loop {
            match self.script.fill_buf() {
                Ok(bytes) => return bytes.first().copied(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure = Some(Unfinished::Read(error));
                    return None;
                }
            }
        }
    }

    /// Skips a comment, of any length.
    fn skip_line(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.script.consume(1);
        }
    }

    /// Why the bytes ended inside a word: `here`, unless they could not be read.
    fn end(&mut self, here: Unfinished) -> Unfinished {
        self.failure.take().unwrap_or(here)
    }
}

/// Returns a word as a shell reads it back, in quotes where it needs them.
pub fn quoted(word: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "_-./:=@%+,".contains(char);
    if word.is_empty() || !word.chars().all(plain) {
        return format!("'{}'", word.replace('\'', "'\\''"));
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<Vec<Words>, String> {
        let commands = Commands::new(text.as_bytes());
        commands
            .collect::<Result<_, _>>()
            .map_err(|unfinished| unfinished.message())
    }

    #[track_caller]
    fn check(text: &str, expected: &[&[&str]]) {
        let expected: Vec<Words> = expected
            .iter()
            .map(|words| words.iter().map(ToString::to_string).collect())
            .collect();
        assert_eq!(split(text), Ok(expected), "{text}");
    }

    #[test]
    fn commands_end_at_semicolons_and_lines() {
        check(";; a b ;c\n\nd", &[&["a", "b"], &["c"], &["d"]]);
        check("", &[]);
        check("a \\\nb", &[&["a", "b"]]);
    }

    #[test]
    fn quotes_and_backslashes_keep_what_they_hold() {
        check(
            r#"a 'b  c' "d \" e" f\ g"#,
            &[&["a", "b  c", "d \" e", "f g"]],
        );
        check(r#"x'y'"z" '' """#, &[&["xyz", "", ""]]);
        check("a 'open", &[&["a", "open"]]);
        assert_eq!(split("a \"open"), Err("missing \"".to_owned()));
        assert_eq!(split("a \\"), Err("dangling \\".to_owned()));
        assert_eq!(split("a \"b\\"), Err("dangling \\".to_owned()));
    }

    #[test]
    fn a_backslash_joins_lines_in_double_quotes_and_not_in_single_ones() {
        check("a \"b\\\nc\"", &[&["a", "bc"]]);
        check("a 'b\\\nc'", &[&["a", "b\\\nc"]]);
        check("a \"b\nc\"", &[&["a", "b\nc"]]);
    }

    #[test]
    fn a_comment_begins_only_at_the_start_of_a_word() {
        check("# all\na c#d # rest; b\ne", &[&["a", "c#d"], &["e"]]);
    }

    #[test]
    fn a_command_whose_name_begins_with_an_escaped_hash_is_left_out() {
        check("\\#a b; c", &[&["c"]]);
        check("'#a' \"b ; c\" ; d\n\"#\"", &[&["d"]]);
        check("a; '#b'; c '#d'", &[&["a"], &["c", "#d"]]);
    }

    #[test]
    fn a_command_is_in_the_line_in_which_it_begins() {
        let text = "a; b\n# c\n\nd \\\n e\n'f\ng' h\ni \"j";
        let mut commands = Commands::new(text.as_bytes());
        let lines: Vec<u64> = std::iter::from_fn(|| {
            commands.next()?.ok();
            Some(commands.line())
        })
        .collect();
        assert_eq!(lines, [1, 1, 4, 6, 8]);
    }

    #[test]
    fn shell_operators_are_plain_text() {
        check("a && b | $c", &[&["a", "&&", "b", "|", "$c"]]);
    }

    #[test]
    fn a_command_has_a_longest_length_and_a_script_has_none() {
        let zeros = std::io::BufReader::new(std::io::repeat(0));
        let first = Commands::new(zeros).next();
        assert!(matches!(first, Some(Err(Unfinished::Length))), "{first:?}");
        let long = "a ".repeat(100) + ";";
        let script = long.repeat(COMMAND_LEN_MAX / long.len() + 2);
        assert!(Commands::new(script.as_bytes()).all(|command| command.is_ok()));
        let comment = "#".to_owned() + &"x".repeat(COMMAND_LEN_MAX + 1) + "\na";
        assert_eq!(split(&comment).unwrap(), [["a"]]);
    }

    #[test]
    fn what_is_no_text_is_named() {
        let first = Commands::new(&b"a \xff"[..]).next();
        assert!(
            matches!(first, Some(Err(Unfinished::Encoding))),
            "{first:?}"
        );
    }
}
