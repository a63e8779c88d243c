//! Writing XML as libvirt does: two blanks a level, single quotes, no declaration.

use crate::document::{Element, Node, is_blank};

/// XML that is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    out: String,
    depth: usize,
}

/// Bytes that most documents fit in.
const USUAL_LEN: usize = 512;

impl Writer {
    pub(crate) fn new() -> Writer {
        Writer {
            out: String::with_capacity(USUAL_LEN),
            depth: 0,
        }
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    /// Writes `<name attributes>` and indents what follows.
    pub(crate) fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.tag(name, attributes, ">\n");
        self.depth += 1;
    }

    /// Ends an element that [`open`](Self::open) began.
    pub(crate) fn close(&mut self, name: &str) {
        self.depth -= 1;
        self.indent();
        self.end(name);
    }

    /// Writes an element without content.
    pub(crate) fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.tag(name, attributes, "/>\n");
    }

    /// Writes an element that holds text, unless the text is empty.
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.tag(name, &[], ">");
            escape(&mut self.out, text);
            self.end(name);
        }
    }

    /// Writes a canonical text at this depth: only the lines that begin an element or a comment move.
    pub(crate) fn canonical(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let mut rest = text;
        self.indent();
        while let Some(at) = next_line_of_markup(rest) {
            self.out.push_str(&rest[..at]);
            self.indent();
            rest = &rest[at..];
        }
        self.out.push_str(rest);
    }

    fn tag(&mut self, name: &str, attributes: &[(&str, &str)], end: &str) {
        self.indent();
        self.out.push('<');
        self.out.push_str(name);
        for (key, value) in attributes {
            begin_attribute(&mut self.out, key);
            escape(&mut self.out, value);
            self.out.push('\'');
        }
        self.out.push_str(end);
    }

    fn end(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push_str(">\n");
    }

    fn indent(&mut self) {
        self.out.extend(std::iter::repeat_n("  ", self.depth));
    }
}

/// Appends text as libvirt escapes it, in attributes and elements alike. Control characters are dropped.
fn escape(out: &mut String, text: &str) {
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'\'' => "&apos;",
            b'"' => "&quot;",
            b'\t' | b'\n' | b'\r' | b' '.. => continue,
            _ => "",
        };
        out.push_str(&text[written..at]);
        out.push_str(escaped);
        written = at + 1;
    }
    out.push_str(&text[written..]);
}

fn begin_attribute(out: &mut String, key: &str) {
    out.push(' ');
    out.push_str(key);
    out.push_str("='");
}

/// Returns the offset of the next line of a canonical text that begins with markup, after its line break.
///
/// Such a break follows a `>`, comes before blanks and a `<`, and is not inside a comment: text and attributes escape `>`.
fn next_line_of_markup(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let newline = at + text[at..].find('\n')?;
        if let Some(comment) = text[at..newline].find("<!--") {
            at += comment + text[at + comment..].find("-->")? + 3;
            continue;
        }
        let begins = bytes[newline + 1..].iter().find(|byte| **byte != b' ') == Some(&b'<');
        if newline > 0 && bytes[newline - 1] == b'>' && begins {
            return Some(newline + 1);
        }
        at = newline + 1;
    }
}

/// Returns the canonical text of an element: what [`Writer::canonical`] can print at any depth.
///
/// An element that holds text is written on one line as it is, so that reading it gives the same text again.
pub(crate) fn canonical(root: &Element) -> String {
    let mut out = String::with_capacity(USUAL_LEN);
    let mut stack: Vec<(&Element, std::slice::Iter<'_, Node>, bool)> = Vec::new();
    let holds_text = |element: &Element| {
        element
            .children
            .iter()
            .any(|node| matches!(node, Node::Text(_)))
    };
    let begin = |out: &mut String, element: &Element| {
        out.push('<');
        out.push_str(&element.name);
        for (key, value) in &element.attributes {
            begin_attribute(out, key);
            escape_canonical(out, value, true);
            out.push('\'');
        }
        out.push_str(if element.children.is_empty() {
            "/>"
        } else {
            ">"
        });
    };
    begin(&mut out, root);
    if !root.children.is_empty() {
        stack.push((root, root.children.iter(), holds_text(root)));
    }
    loop {
        let depth = stack.len();
        let Some((element, nodes, on_one_line)) = stack.last_mut() else {
            break;
        };
        let (element, on_one_line) = (*element, *on_one_line);
        let next = nodes.next();
        // What stands on a line of its own begins with a line break and the indent.
        let line = |out: &mut String, depth: usize| {
            if !on_one_line {
                out.push('\n');
                out.extend(std::iter::repeat_n("  ", depth));
            }
        };
        match next {
            // A blank text with a line break would look like a break between elements.
            Some(Node::Text(text)) => escape_canonical(&mut out, text, is_blank(text)),
            Some(Node::Comment(comment)) => {
                line(&mut out, depth);
                out.push_str("<!--");
                out.push_str(comment);
                out.push_str("-->");
            }
            Some(Node::Element(child)) => {
                line(&mut out, depth);
                begin(&mut out, child);
                if !child.children.is_empty() {
                    stack.push((
                        child,
                        child.children.iter(),
                        on_one_line || holds_text(child),
                    ));
                }
            }
            None => {
                line(&mut out, depth - 1);
                stack.pop();
                out.push_str("</");
                out.push_str(&element.name);
                out.push('>');
            }
        }
    }
    out.push('\n');
    out
}

/// As [`escape`], but what a reader would normalise is written by reference; with `line_breaks`, those too.
fn escape_canonical(out: &mut String, text: &str, line_breaks: bool) {
    let mut rest = text;
    while let Some(at) = rest.find(['\t', '\n', '\r']) {
        escape(out, &rest[..at]);
        match &rest[at..=at] {
            "\r" => out.push_str("&#13;"),
            "\n" if line_breaks => out.push_str("&#10;"),
            "\t" if line_breaks => out.push_str("&#9;"),
            blank => out.push_str(blank),
        }
        rest = &rest[at + 1..];
    }
    escape(out, rest);
}
