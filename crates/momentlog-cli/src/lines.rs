//! Text in lines that are no longer than the terminal is wide.

use std::io::IsTerminal as _;

use unicode_width::UnicodeWidthStr as _;

/// The width of lines where nothing says another one.
const WIDTH: usize = 80;

/// The narrowest width that lines are made for.
const WIDTH_MIN: usize = 40;

/// Returns how wide lines may be: what `COLUMNS` says, or the terminal, or 80.
pub fn width() -> usize {
    let said = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    let terminal = || {
        let stdout = std::io::stdout();
        stdout
            .is_terminal()
            .then(|| terminal_size::terminal_size_of(stdout))
            .flatten()
            .map(|(width, _)| usize::from(width.0))
    };
    said.or_else(terminal).unwrap_or(WIDTH).max(WIDTH_MIN)
}

/// Breaks a text at its blanks into lines of at most `width` columns; a word that is longer stands alone.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    // No letter of ASCII is wider than a column.
    if text.len() <= width && text.is_ascii() && !text.starts_with(' ') {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.width() + 1 + word.width() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Adds a text below an indent, broken into lines, and behind it, at the right, another one: on the last line if both fit
/// there, or on a line of its own.
pub fn push(out: &mut String, indent: usize, text: &str, right: &str, width: usize) {
    let room = width.saturating_sub(indent);
    let blanks = " ".repeat(indent);
    let mut lines = wrapped(text, room);
    if !right.is_empty() {
        let last = lines.last_mut().expect("there is a line");
        let free = room.saturating_sub(last.width() + right.width());
        if free >= 2 {
            last.push_str(&" ".repeat(free));
            last.push_str(right);
        } else {
            for line in wrapped(right, room) {
                let free = room.saturating_sub(line.width());
                lines.push(" ".repeat(free) + &line);
            }
        }
    }
    for line in lines {
        out.push_str(&blanks);
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// Adds a text below an indent, whose lines behind the first are indented by two columns more.
pub fn push_hanging(out: &mut String, indent: usize, text: &str, width: usize) {
    let room = width.saturating_sub(indent + 2);
    for (index, line) in wrapped(text, room).iter().enumerate() {
        let more = if index == 0 { 0 } else { 2 };
        out.push_str(&" ".repeat(indent + more));
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_breaks_at_blanks_and_a_long_word_stands_alone() {
        assert_eq!(wrapped("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrapped("a looooong b", 4), ["a", "looooong", "b"]);
        assert_eq!(wrapped("", 4), [""]);
    }

    #[test]
    fn what_stands_at_the_right_ends_with_the_line_or_has_its_own() {
        let mut out = String::new();
        push(&mut out, 2, "short", "\"why\"", 20);
        push(&mut out, 2, "some more words here", "\"why\"", 20);
        assert_eq!(
            out,
            "  short        \"why\"\n  some more words\n  here         \"why\"\n"
        );
    }
}
