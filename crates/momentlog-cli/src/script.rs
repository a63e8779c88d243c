//! Splitting a command string into words, as virsh does.

/// One command: its words.
pub type Words = Vec<String>;

/// Why a string cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// A `"` is not closed. (An open `'` is, by the end of the text.)
    Quote,
    /// A backslash ends the text.
    Backslash,
}

impl Unfinished {
    /// The message, as virsh has it.
    pub fn message(self) -> &'static str {
        match self {
            Unfinished::Quote => "missing \"",
            Unfinished::Backslash => "dangling \\",
        }
    }
}

/// Splits a text into commands at `;` and line ends, and each into words at blanks.
///
/// A word may hold `'…'` as it is, `"…"` with `\` as escape, and `\x` for `x`; a backslash at the end of a line joins it
/// with the next; `#` at the start of a word begins a comment. Empty commands are left out.
pub fn split(text: &str) -> Result<Vec<Words>, Unfinished> {
    let mut commands = Vec::new();
    let mut words: Words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            ' ' | '\t' => words.extend(word.take()),
            '\n' | ';' => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            '#' if word.is_none() => {
                while chars.peek().is_some_and(|char| *char != '\n') {
                    chars.next();
                }
            }
            '\\' => match chars.next() {
                None => return Err(Unfinished::Backslash),
                Some('\n') => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            '\'' => {
                let word = word.get_or_insert_default();
                word.extend(chars.by_ref().take_while(|char| *char != '\''));
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err(Unfinished::Quote),
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            None => return Err(Unfinished::Backslash),
                            Some(escaped) => word.push(escaped),
                        },
                        Some(char) => word.push(char),
                    }
                }
            }
            char => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    commands.push(words);
    commands.retain(|words| !words.is_empty());
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(split("a \"open"), Err(Unfinished::Quote));
        assert_eq!(split("a \\"), Err(Unfinished::Backslash));
    }

    #[test]
    fn a_comment_begins_only_at_the_start_of_a_word() {
        check("# all\na c#d # rest; b\ne", &[&["a", "c#d"], &["e"]]);
    }

    #[test]
    fn shell_operators_are_plain_text() {
        check("a && b | $c", &[&["a", "&&", "b", "|", "$c"]]);
    }
}
