//! The line of a text that an error shows: cut to a length, without secrets, and without what drives a terminal.

use std::ops::Range;

/// Most characters of an excerpt, before they are escaped.
const CHARS_MAX: usize = 80;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// A part of one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) text: String,
    /// How many characters of `text` come before the place that it is shown for.
    pub(crate) before: usize,
}

/// Returns the part of the line around `offset`, without what only a caller with `VIR_DOMAIN_XML_SECURE` may see.
pub(crate) fn excerpt(text: &str, offset: usize) -> Excerpt {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let begin = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let end = text[offset..]
        .find('\n')
        .map_or(text.len(), |at| offset + at);
    // A line that is longer is shown from where the place is its last character but one.
    let shown_before = text[begin..offset].chars().rev().take(CHARS_MAX - 1);
    let begin = offset - shown_before.map(char::len_utf8).sum::<usize>();
    let shown: usize = text[begin..end]
        .chars()
        .take(CHARS_MAX)
        .map(char::len_utf8)
        .sum();
    let end = begin + shown;
    let secrets = secrets(text, begin..end);
    let mut excerpt = Excerpt {
        text: String::new(),
        before: 0,
    };
    let mut at = begin;
    for secret in secrets.iter().chain(std::iter::once(&(end..end))) {
        if let Some(plain) = text.get(at..secret.start.max(at)) {
            for (char_at, char) in plain.char_indices() {
                if at + char_at < offset {
                    excerpt.before += escape(char, |_| {});
                }
                escape(char, |char| excerpt.text.push(char));
            }
        }
        if !secret.is_empty() && secret.end > at {
            if secret.start.max(at) < offset {
                excerpt.before += HIDDEN.len();
            }
            excerpt.text.push_str(HIDDEN);
        }
        at = at.max(secret.end);
    }
    excerpt
}

/// Returns the text with everything escaped that moves a cursor, changes a terminal or turns the order of letters around.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        escape(char, |char| out.push(char));
    }
    out
}

/// Gives the character to `each`, or what it is escaped as; returns how many characters that are.
fn escape(char: char, mut each: impl FnMut(char)) -> usize {
    let turns = matches!(
        char,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    if char == '\t' || !(char.is_control() || turns) {
        each(char);
        return 1;
    }
    char.escape_unicode().map(&mut each).count()
}

/// Returns which parts of `within` may hold a secret, in order and apart.
///
/// The text may be malformed, so that nothing is known of its structure: whatever could be the value of a password's
/// attribute or the content of `<cookies>` is one, wherever it stands.
fn secrets(text: &str, within: Range<usize>) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let before_end = &text[..within.end];
    for (at, name) in before_end.match_indices("passwd") {
        found.extend(value(text, at + name.len()));
    }
    let mut closed = 0;
    for (at, name) in before_end.match_indices("<cookies") {
        if at < closed {
            continue;
        }
        let rest = &text[at + name.len()..];
        closed = at + name.len() + rest.find("</cookies").unwrap_or(rest.len());
        found.push(at + name.len()..closed);
    }
    found.sort_by_key(|secret| secret.start);
    let mut apart: Vec<Range<usize>> = Vec::new();
    for secret in found {
        let secret = secret.start.max(within.start)..secret.end.min(within.end);
        match apart.last_mut() {
            _ if secret.is_empty() => {}
            Some(last) if secret.start <= last.end => last.end = last.end.max(secret.end),
            _ => apart.push(secret),
        }
    }
    apart
}

/// Returns the value of the attribute whose name ends at `at`: up to its quote, or as far as it goes without one.
fn value(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = text[at..].trim_ascii_start().strip_prefix('=')?;
    let rest = rest.trim_ascii_start();
    let start = text.len() - rest.len();
    let length = match rest.chars().next()? {
        quote @ ('\'' | '"') => {
            let inside = &rest[1..];
            let length = inside.find(quote).unwrap_or(inside.len());
            return Some(start + 1..start + 1 + length);
        }
        _ => rest.find(|char: char| char.is_whitespace() || char == '>'),
    };
    Some(start..start + length.unwrap_or(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `|` in `text` is the place, in `expected` as well.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let offset = text.find('|').unwrap_or_default();
        let Excerpt { text, before } = excerpt(&text.replacen('|', "", 1), offset);
        let at = text
            .char_indices()
            .nth(before)
            .map_or(text.len(), |at| at.0);
        let (left, right) = text.split_at(at);
        assert_eq!(format!("{left}|{right}"), expected);
    }

    #[test]
    fn the_line_of_the_place_is_shown() {
        check("a\nb|c\nd", "b|c");
        check("|", "|");
        check("a\n|", "|");
        check("\u{e4}\u{e4}|b", "\u{e4}\u{e4}|b");
        let long = format!("{}|{}", "a".repeat(200), "b".repeat(200));
        check(&long, &format!("{}|b", "a".repeat(79)));
        check(
            &format!("|{}", "b".repeat(200)),
            &format!("|{}", "b".repeat(80)),
        );
    }

    #[test]
    fn secrets_are_hidden() {
        for (text, expected) in [
            ("<graphics passwd='s3cret'|/>", "<graphics passwd='***'|/>"),
            (
                "<graphics passwd = \"s3cret\"|/>",
                "<graphics passwd = \"***\"|/>",
            ),
            ("|<graphics passwd=s3cret/>", "|<graphics passwd=***>"),
            ("|<graphics passwd='s3cret", "|<graphics passwd='***"),
            ("<graphics\npasswd='s3\ncr|et' a='b'", "***|' a='b'"),
            ("x passwdValidTo='2026'|", "x passwdValidTo='2026'|"),
            (
                "<cookies><cookie name='a'>s|</cookie></cookies>",
                "<cookies***|</cookies>",
            ),
            ("<cookies>\n<cookie name='a'>s</cookie|\n", "***|"),
            (
                "|<!-- passwd='a' --><b passwd='c'/>",
                "|<!-- passwd='***' --><b passwd='***'/>",
            ),
            ("|t=\"passwd='\" passwd='c'>", "|t=\"passwd='***'***'>"),
            ("|passwd=''", "|passwd=''"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn what_drives_a_terminal_is_escaped() {
        check(
            "\u{9b}31m|\u{202e}\u{7f}\t\u{2066}",
            "\\u{9b}31m|\\u{202e}\\u{7f}\t\\u{2066}",
        );
        check("\u{1b}]0;a\u{7}|", "\\u{1b}]0;a\\u{7}|");
        assert_eq!(
            printable("a\nb\u{85}\u{200f}\u{e4}"),
            "a\\u{a}b\\u{85}\\u{200f}\u{e4}"
        );
    }
}
