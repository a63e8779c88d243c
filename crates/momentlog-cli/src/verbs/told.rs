//! How a record is laid out: who did what, when and why.

use momentlog::Entry;
use momentlog::core::{Domain, Extent, MomentKind};
use momentlog_audit::{
    Cause, CurrentChange, FieldChange, Named, Suspicion, SuspicionOf, Told, Value,
};

use crate::colour;
use crate::layout::escaped;
use crate::lines;
use crate::time::{claimed, recorded};

/// From this width on, a record is one line.
const ONE_LINE_WIDTH: usize = 110;

/// How records are laid out.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// How wide lines may be.
    pub width: usize,
    /// Whether a record is one line, however long.
    pub one_line: bool,
    /// Whether such a line is cut where the width ends.
    pub cut: bool,
    /// How many columns the numbers of records take.
    pub digits: usize,
}

impl Rows {
    /// Returns how records are laid out on this output; `last` is the largest number that is shown.
    pub fn new(one_line: bool, last: u64) -> Rows {
        use std::io::IsTerminal as _;
        let width = lines::width();
        let is_terminal = std::io::stdout().is_terminal();
        Rows {
            width,
            one_line: one_line || is_terminal && width >= ONE_LINE_WIDTH,
            cut: is_terminal,
            digits: last
                .checked_ilog10()
                .map_or(1, |log| log as usize + 1)
                .max(2),
        }
    }

    /// How far what a record says is indented.
    pub fn indent(&self) -> usize {
        self.digits + 3
    }

    /// Returns the lines of a record.
    pub fn record(&self, told: &Told) -> String {
        let entry = &told.entry;
        let domain = told.domain.as_deref().map(escaped);
        let head = self.head(entry, domain.as_deref());
        let reason = reason(entry);
        if self.one_line {
            let mut line = format!("{head}  {}", told.summary());
            if !reason.is_empty() {
                line += &format!("  {reason}");
            }
            return self.numbered(&self.one(&line));
        }
        let mut text = self.numbered(&self.broken(&head));
        lines::push(
            &mut text,
            self.indent(),
            &told.summary(),
            &reason,
            self.width,
        );
        text
    }

    /// Returns the first line of a record: its number, when, who, and what it is about.
    pub fn head(&self, entry: &Entry, about: Option<&str>) -> String {
        let (seq, time, actor) = (
            entry.head.seq,
            recorded(entry.recorded),
            escaped(&entry.actor),
        );
        let digits = self.digits;
        let mut head = format!(" {seq:>digits$}  {time}  {actor}");
        if let Some(about) = about {
            head += &format!("  {about}");
        }
        head
    }

    /// Returns the first line of a record, broken where it is too wide.
    pub fn broken(&self, head: &str) -> String {
        if head.len() <= self.width && head.is_ascii() {
            return format!("{head}\n");
        }
        let number = self.indent();
        let mut text = String::new();
        let (front, rest) = head.split_at(number.min(head.len()));
        for (index, line) in pieces(rest, self.width.saturating_sub(number))
            .iter()
            .enumerate()
        {
            text += if index == 0 { front } else { "" };
            if index > 0 {
                text += &" ".repeat(number);
            }
            text += line;
            text.push('\n');
        }
        text
    }

    /// Returns what is odd about claimed times of a record, a line each.
    pub fn suspicions(&self, suspicions: &[Suspicion]) -> String {
        let mut text = String::new();
        for suspicion in suspicions {
            let (moment, time) = (with_id(&suspicion.moment), claimed(suspicion.claimed));
            let why = match &suspicion.why {
                SuspicionOf::Future => "in the future of the record".to_owned(),
                SuspicionOf::BeforeParent {
                    parent,
                    claimed: of,
                } => {
                    format!("before its parent {}: {}", with_id(parent), claimed(*of))
                }
                SuspicionOf::Changed { from } => format!("and {} before", claimed(*from)),
                SuspicionOf::SameAsSibling { sibling } => {
                    format!("as its sibling {} does", with_id(sibling))
                }
            };
            let line = format!("? {moment} claims {time}, {why}");
            lines::push_hanging(&mut text, self.indent(), &line, self.width);
        }
        text
    }

    /// Colours the number of a record, at the begin of its lines.
    pub fn numbered(&self, text: &str) -> String {
        match text.split_at_checked(self.digits + 1) {
            Some((number, rest)) => colour::painted(colour::NUMBER, number) + rest,
            None => text.to_owned(),
        }
    }

    fn one(&self, line: &str) -> String {
        use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};
        if !self.cut || line.width() <= self.width {
            return format!("{line}\n");
        }
        let mut out = String::new();
        let mut used = 1;
        for char in line.chars() {
            used += char.width().unwrap_or(0);
            if used > self.width {
                break;
            }
            out.push(char);
        }
        out + "…\n"
    }
}

/// Breaks a line at the double blanks between its parts.
fn pieces(line: &str, width: usize) -> Vec<String> {
    use unicode_width::UnicodeWidthStr as _;
    let mut lines: Vec<String> = Vec::new();
    for part in line.split("  ") {
        match lines.last_mut() {
            Some(last) if last.width() + 2 + part.width() <= width => {
                last.push_str("  ");
                last.push_str(part);
            }
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}

/// Why, in quotes; empty if no reason was given.
pub fn reason(entry: &Entry) -> String {
    match entry.reason.as_deref() {
        None => String::new(),
        Some("") => "(reason erased)".to_owned(),
        Some(reason) => format!("\"{}\"", escaped(reason)),
    }
}

/// A moment with its id, which no other moment has or had.
pub fn with_id(moment: &Named) -> String {
    format!("{moment} (#{})", moment.id)
}

/// Where a moment hangs.
pub fn below(parent: Option<&Named>) -> String {
    parent.map_or("a root".to_owned(), |parent| format!("below {parent}"))
}

/// What caused a change of a moment.
pub fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Asked => "as asked".to_owned(),
        Cause::Created(moment) => format!("{} was created", with_id(moment)),
        Cause::Redefined(moment) => format!("{} was redefined", with_id(moment)),
        Cause::Deleted(moment, Extent::One) => format!("{} was deleted", with_id(moment)),
        Cause::Deleted(moment, Extent::Subtree) => {
            format!("{} was deleted with its children", with_id(moment))
        }
        Cause::Deleted(moment, Extent::ChildrenOnly) => {
            format!("the children of {} were deleted", with_id(moment))
        }
        Cause::Reverted(moment) => format!("the domain went back to {}", with_id(moment)),
        Cause::DomainRemoved => "the domain was removed".to_owned(),
    }
}

/// The current moment before and after.
pub fn current(change: &CurrentChange) -> String {
    let name = |moment: Option<&Named>| moment.map_or("none".to_owned(), Named::to_string);
    format!(
        "{} -> {}",
        name(change.from.as_ref()),
        name(change.to.as_ref())
    )
}

/// The name of the current moment of a kind.
pub fn current_of(domain: &Domain, kind: MomentKind) -> Option<String> {
    let name = match kind {
        MomentKind::Snapshot => domain.snapshots().current()?.name.clone(),
        MomentKind::Checkpoint => domain.checkpoints().current()?.name.clone(),
    };
    Some(escaped(name.as_str()))
}

/// What has changed of a definition, a line for each field.
pub fn push_fields(out: &mut String, indent: usize, fields: &[FieldChange], width: usize) {
    /// How many columns the names of fields take.
    const NAME_WIDTH: usize = 13;
    for change in fields {
        let (from, to) = (value(change.from.as_ref()), value(change.to.as_ref()));
        let name = escaped(&change.field);
        let line = format!("{name:NAME_WIDTH$}  {from} -> {to}");
        let text = if unicode_width::UnicodeWidthStr::width(line.as_str()) + indent <= width {
            line
        } else {
            format!("{name}  {from} -> {to}")
        };
        lines::push_hanging(out, indent, &text, width);
    }
}

fn value(value: Option<&Value>) -> String {
    match value {
        None => "none".to_owned(),
        Some(Value::Time(seconds)) => claimed(*seconds),
        Some(Value::Text(text)) => escaped(text),
        Some(Value::Document(text)) => match text.lines().count() {
            1 => "1 line".to_owned(),
            lines => format!("{lines} lines"),
        },
        Some(Value::Kib(kib)) => format!("{kib} KiB"),
        Some(Value::Erased) => "erased".to_owned(),
        Some(other) => format!("{other:?}"),
    }
}
