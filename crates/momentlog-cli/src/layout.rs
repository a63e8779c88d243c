//! Tables, trees and times, laid out as virsh does.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

pub use momentlog_audit::escaped;

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
        let cells = cells.into_iter().map(|cell| escaped(&cell)).collect();
        self.rows.push(cells);
    }

    /// Returns the lines of the table, each made when it is asked for: one wide cell makes every row of its column as wide.
    /// Without header and separator if `quiet`.
    pub fn lines(&self, quiet: bool) -> impl Iterator<Item = String> {
        let widths = self.widths(quiet);
        let dashes: usize = widths.iter().map(|width| width + 3).sum();
        let head = (!quiet).then(|| {
            let mut head = line(&self.header(), &widths);
            head.push_str(&"-".repeat(dashes));
            head.push('\n');
            head
        });
        let rows = self.rows.iter().map(move |row| line(row, &widths));
        head.into_iter().chain(rows)
    }

    fn header(&self) -> Vec<String> {
        self.header.iter().map(ToString::to_string).collect()
    }

    /// The width of the widest cell of each column.
    fn widths(&self, quiet: bool) -> Vec<usize> {
        let header = self.header();
        let lines = self.rows.iter().chain((!quiet).then_some(&header));
        let mut widths = vec![0; self.header.len()];
        for cells in lines {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.width());
            }
        }
        widths
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut text = String::from(" ");
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        text.push_str(cell);
        if index + 1 < cells.len() {
            let padding = width.saturating_sub(cell.width());
            text.push_str(&" ".repeat(padding + 3));
        }
    }
    text.push('\n');
    text
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

/// Returns a number of bytes in the largest unit of which there is one, as virsh does.
pub fn capacity(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = bytes.checked_ilog2().unwrap_or(0) / 10;
    #[expect(
        clippy::cast_precision_loss,
        reason = "three digits are shown behind the point"
    )]
    let count = bytes as f64 / (1_u64 << (10 * unit)) as f64;
    format!("{count:.3} {}", UNITS[unit as usize])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_pads_all_cells_but_the_last() {
        let mut table = Table::new(&["Name", "State", "Parent"]);
        table.row(vec!["日本".into(), "on".into(), String::new()]);
        assert_eq!(
            table.lines(false).collect::<String>(),
            " Name   State   Parent\n------------------------\n 日本   on      \n"
        );
        assert_eq!(table.lines(true).collect::<String>(), " 日本   on   \n");
    }

    #[test]
    fn a_cell_with_a_line_break_forges_no_row() {
        let mut table = Table::new(&["Name", "State"]);
        table.row(vec!["a\n b\u{202e}\u{7f}".into(), "on".into()]);
        let text: String = table.lines(true).collect();
        assert_eq!(text, " a\\x0a b\\xe2\\x80\\xae\\x7f   on\n");
    }

    #[test]
    fn a_wide_cell_makes_each_row_wide_and_no_text_of_all_of_them() {
        const ROWS: usize = 3_000;
        const WIDE: usize = 1 << 20;
        let mut table = Table::new(&["Name", "State"]);
        table.row(vec!["x".repeat(WIDE), "on".into()]);
        for _ in 1..ROWS {
            table.row(vec!["y".into(), "off".into()]);
        }
        // Together they are three GiB, and only those that are asked for are made.
        let mut lines = table.lines(true);
        assert_eq!(lines.next().unwrap().len(), 1 + WIDE + 3 + "on\n".len());
        let second = lines.next().unwrap();
        assert_eq!(second.len(), 1 + WIDE + 3 + "off\n".len());
        assert!(second.starts_with(" y   ") && second.ends_with("   off\n"));
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
    fn bytes_are_shown_in_the_largest_unit_of_which_there_is_one() {
        assert_eq!(capacity(0), "0.000 B");
        assert_eq!(capacity(1023), "1023.000 B");
        assert_eq!(capacity(1024), "1.000 KiB");
        assert_eq!(capacity(82 << 20), "82.000 MiB");
        assert_eq!(capacity(u64::MAX), "16.000 EiB");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            escaped("a\n\u{1b}[31mb\u{202e}c é"),
            "a\\x0a\\x1b[31mb\\xe2\\x80\\xaec é"
        );
    }
}
