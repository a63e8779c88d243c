//! Colour, on a terminal alone, and never the only sign of anything.

use std::io::IsTerminal;
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};

/// The numbers of records.
pub const NUMBER: Style = AnsiColor::Yellow.on_default();
/// What a text is about.
pub const HEADING: Style = Style::new().bold();
/// The word `error`.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The word `hint`.
pub const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// Whether a stream takes colour: a terminal that knows them, without `NO_COLOR`.
fn takes_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !anstyle_query::no_color() && anstyle_query::term_supports_color()
}

fn on_stdout() -> bool {
    static TAKES: OnceLock<bool> = OnceLock::new();
    *TAKES.get_or_init(|| takes_colour(&std::io::stdout()))
}

/// Returns a text for standard output in a style.
pub fn painted(style: Style, text: &str) -> String {
    in_style(on_stdout(), style, text)
}

/// Returns a text for standard error in a style.
pub fn painted_err(style: Style, text: &str) -> String {
    in_style(takes_colour(&std::io::stderr()), style, text)
}

fn in_style(takes: bool, style: Style, text: &str) -> String {
    if takes && !text.is_empty() {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

/// Returns lines of which those are coloured that have a sign of a difference behind an indent.
pub fn signed(text: &str, indent: usize) -> String {
    if !on_stdout() {
        return text.to_owned();
    }
    let line = |line: &str| {
        let colour = match line.as_bytes().get(indent) {
            Some(b'+') => AnsiColor::Green,
            Some(b'-') => AnsiColor::Red,
            Some(b'~') => AnsiColor::Yellow,
            Some(b'@') => AnsiColor::Cyan,
            _ => return line.to_owned(),
        };
        let (text, end) = line
            .strip_suffix('\n')
            .map_or((line, ""), |text| (text, "\n"));
        painted(colour.on_default(), text) + end
    };
    text.split_inclusive('\n').map(line).collect()
}

/// Returns lines of which the first is a heading.
pub fn headed(text: &str) -> String {
    match text.split_once('\n') {
        Some((heading, rest)) => format!("{}\n{rest}", painted(HEADING, heading)),
        None => painted(HEADING, text),
    }
}

/// Returns the help of a verb, whose sections have headings.
pub fn sections(text: &str) -> String {
    let line = |line: &str| match line.trim_end() {
        title @ ("  NAME" | "  SYNOPSIS" | "  OPTIONS") => painted(HEADING, title) + "\n",
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}
