//! Tables, trees and times, laid out as virsh does.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

/// A table of text cells.
#[derive(Debug)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Returns an empty table.
    pub fn new(header: &[&'static str]) -> Table {
        Table {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row of as many cells as the header has.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(cells);
    }

    /// Returns the table as text; without header and separator if `quiet`.
    pub fn render(&self, quiet: bool) -> String {
        let header: Vec<String> = self.header.iter().map(ToString::to_string).collect();
        let lines = self.rows.iter().chain((!quiet).then_some(&header));
        let mut widths = vec![0; self.header.len()];
        for cells in lines {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.width());
            }
        }
        let mut text = String::new();
        if !quiet {
            line(&mut text, &header, &widths);
            let dashes: usize = widths.iter().map(|width| width + 3).sum();
            let _ = writeln!(text, "{}", "-".repeat(dashes));
        }
        for row in &self.rows {
            line(&mut text, row, &widths);
        }
        text
    }
}

fn line(text: &mut String, cells: &[String], widths: &[usize]) {
    text.push(' ');
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        text.push_str(cell);
        if index + 1 < cells.len() {
            text.extend(std::iter::repeat_n(' ', width - cell.width() + 3));
        }
    }
    text.push('\n');
}

/// Returns a forest as text: `parents[i]` is the index of the parent of `names[i]`. Siblings keep their order.
pub fn tree(names: &[String], parents: &[Option<usize>]) -> String {
    let mut children = vec![Vec::new(); names.len()];
    let mut roots = Vec::new();
    for (index, parent) in parents.iter().enumerate() {
        match parent {
            Some(parent) => children[*parent].push(index),
            None => roots.push(index),
        }
    }
    let mut text = String::new();
    for root in roots {
        // Each entry: node, indent of its line, whether it is the last of its siblings. Deep trees need no recursion.
        let mut open = vec![(root, String::new(), true)];
        while let Some((node, mut indent, last)) = open.pop() {
            if node == root {
                let _ = writeln!(text, "{}", names[node]);
            } else {
                let _ = writeln!(text, "{indent}+- {}", names[node]);
                indent.push_str(if last { "  " } else { "| " });
            }
            if !children[node].is_empty() {
                let _ = writeln!(text, "{indent}  |");
            } else if last {
                let _ = writeln!(text, "{indent}");
            }
            for (place, child) in children[node].iter().enumerate().rev() {
                open.push((
                    *child,
                    format!("{indent}  "),
                    place + 1 == children[node].len(),
                ));
            }
        }
    }
    text
}

/// Returns a line of an info listing.
pub fn info(label: &str, value: impl std::fmt::Display) -> String {
    format!("{:<15} {value}\n", format!("{label}:"))
}

/// Returns a second since 1970 as local time, `YYYY-MM-DD HH:MM:SS +ZZZZ`; as a number if no calendar reaches it.
pub fn time(second: i64) -> String {
    match jiff::Timestamp::from_second(second) {
        Ok(time) => time
            .to_zoned_datetime(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S %z")
            .to_string(),
        Err(_) => second.to_string(),
    }
}

/// Returns a text with control characters escaped, so that no name can forge a line or drive a terminal.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        let unseen = char.is_control()
            || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if unseen {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_pads_all_cells_but_the_last() {
        let mut table = Table::new(&["Name", "State", "Parent"]);
        table.row(vec!["日本".into(), "on".into(), String::new()]);
        assert_eq!(
            table.render(false),
            " Name   State   Parent\n------------------------\n 日本   on      \n"
        );
        assert_eq!(table.render(true), " 日本   on   \n");
    }

    #[test]
    fn a_tree_keeps_virshs_blanks() {
        let names: Vec<String> = ["r", "a", "a1", "b"].map(String::from).to_vec();
        let text = tree(&names, &[None, Some(0), Some(1), Some(0)]);
        assert_eq!(
            text,
            "r\n  |\n  +- a\n  |   |\n  |   +- a1\n  |     \n  +- b\n    \n"
        );
        assert_eq!(tree(&names[..1], &[None]), "r\n\n");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            escaped("a\n\u{1b}[31mb\u{202e}c é"),
            "a\\n\\u{1b}[31mb\\u{202e}c é"
        );
    }
}
