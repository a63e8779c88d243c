//! Writing XML as libvirt does: two blanks a level, single quotes, no declaration.

use crate::document::{Child, Children, Element, is_blank};
use crate::namespaces::{Inherited, inherited};

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

    /// Writes an element that holds a text if there is one, and a comment if that was erased.
    pub(crate) fn erasable(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some("") => self.erased(name),
            text => self.text(name, text.unwrap_or_default()),
        }
    }

    /// Writes the comment that a text was erased.
    pub(crate) fn erased(&mut self, what: &str) {
        self.canonical(&format!("<!-- the {what} was erased -->\n"));
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

    /// Writes a canonical text whose root is `name`, with these attributes before its own.
    pub(crate) fn canonical_with(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) {
        let Some(rest) = text
            .strip_prefix('<')
            .and_then(|text| text.strip_prefix(name))
        else {
            return self.empty(name, attributes);
        };
        let mut whole = String::with_capacity(text.len() + USUAL_LEN);
        begin_tag(&mut whole, name, attributes);
        whole.push_str(rest);
        self.canonical(&whole);
    }

    fn tag(&mut self, name: &str, attributes: &[(&str, &str)], end: &str) {
        self.indent();
        begin_tag(&mut self.out, name, attributes);
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

fn begin_tag(out: &mut String, name: &str, attributes: &[(&str, &str)]) {
    out.push('<');
    out.push_str(name);
    for (key, value) in attributes {
        begin_attribute(out, key);
        escape(out, value);
        out.push('\'');
    }
}

/// Appends text as libvirt escapes it, in attributes and elements alike. Control characters are dropped.
pub(crate) fn escape(out: &mut String, text: &str) {
    replace(out, text, escaped);
}

fn escaped(byte: u8) -> Option<&'static str> {
    match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'\'' => Some("&apos;"),
        b'"' => Some("&quot;"),
        b'\t' | b'\n' | b'\r' | b' '.. => None,
        _ => Some(""),
    }
}

/// Appends text with each byte for which `by` gives something replaced by that. Such a byte is a whole character.
fn replace(out: &mut String, text: &str, by: impl Fn(u8) -> Option<&'static str>) {
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        if let Some(replacement) = by(byte) {
            out.push_str(&text[written..at]);
            out.push_str(replacement);
            written = at + 1;
        }
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
/// Such a break follows a `>`, comes before blanks and a `<`, and is inside neither a comment nor an instruction: text and
/// attributes escape `>`.
fn next_line_of_markup(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let newline = at + text[at..].find('\n')?;
        let line = &text[at..newline];
        let opaque = [("<!--", "-->"), ("<?", "?>")]
            .into_iter()
            .filter_map(|(begin, end)| Some((line.find(begin)?, begin, end)))
            .min();
        if let Some((offset, begin, end)) = opaque {
            let inside = at + offset + begin.len();
            at = inside + text[inside..].find(end)? + end.len();
            continue;
        }
        let begins = bytes[newline + 1..].iter().find(|byte| **byte != b' ') == Some(&b'<');
        if newline > 0 && bytes[newline - 1] == b'>' && begins {
            return Some(newline + 1);
        }
        at = newline + 1;
    }
}

/// What a canonical text says otherwise than the element that it is made of.
pub(crate) struct Changes<'a> {
    /// The name of the root.
    pub(crate) root: &'a str,
    /// What is written after the first child of the root that has this name and content.
    pub(crate) after: Option<(&'a str, String)>,
    /// Says which attributes are left out.
    pub(crate) without_attribute: &'a dyn Fn(Element<'_>, &str) -> bool,
    /// Says which elements are left out.
    pub(crate) without: &'a dyn Fn(Element<'_>) -> bool,
}

impl Changes<'_> {
    fn keeps(&self, child: &Child<'_>) -> bool {
        !matches!(child, Child::Element(element) if (self.without)(*element))
    }

    /// Writes the start of an element, and returns it if there is more of it.
    fn begin<'d>(
        &self,
        out: &mut String,
        name: &'d str,
        element: Element<'d>,
        inherited: &[Inherited<'d>],
    ) -> Option<Open<'d>> {
        out.push('<');
        out.push_str(name);
        for (key, value) in element.attributes() {
            if !(self.without_attribute)(element, key) {
                begin_attribute(out, key);
                escape_canonical(out, value, true);
                out.push('\'');
            }
        }
        for declaration in inherited.iter().filter(|other| other.at == element) {
            begin_attribute(out, declaration.key);
            escape_canonical(out, declaration.uri, true);
            out.push('\'');
        }
        let children = element.children();
        if !children.clone().any(|child| self.keeps(&child)) {
            out.push_str("/>");
            return None;
        }
        out.push('>');
        let on_one_line = children
            .clone()
            .any(|child| matches!(child, Child::Text(_)));
        Some(Open {
            name,
            children,
            on_one_line,
        })
    }
}

/// An element whose end is not written yet.
struct Open<'d> {
    name: &'d str,
    children: Children<'d>,
    on_one_line: bool,
}

/// Returns the canonical text of an element: what [`Writer::canonical`] can print at any depth.
///
/// An element that holds text is written on one line as it is, so that reading it gives the same text again. The
/// namespaces around the element that it uses are declared in it.
pub(crate) fn canonical(root: Element<'_>, changes: &Changes<'_>) -> String {
    let mut out = String::with_capacity(USUAL_LEN);
    let mut after = changes.after.as_ref();
    let inherited = inherited(root);
    let mut open: Vec<Open<'_>> = Vec::new();
    open.extend(changes.begin(&mut out, changes.root, root, &inherited));
    loop {
        let depth = open.len();
        let Some(Open {
            name,
            children,
            on_one_line,
        }) = open.last_mut()
        else {
            break;
        };
        let (name, on_one_line) = (*name, *on_one_line);
        match children.find(|child| changes.keeps(child)) {
            // A blank text with a line break would look like a break between elements.
            Some(Child::Text(text)) => escape_canonical(&mut out, text, is_blank(text)),
            Some(Child::Comment(comment)) => {
                begin_line(&mut out, depth, on_one_line);
                out.push_str("<!--");
                out.push_str(comment);
                out.push_str("-->");
            }
            Some(Child::Instruction(instruction)) => {
                begin_line(&mut out, depth, on_one_line);
                out.push_str("<?");
                out.push_str(instruction);
                out.push_str("?>");
            }
            Some(Child::Element(child)) => {
                begin_line(&mut out, depth, on_one_line);
                let inner = changes.begin(&mut out, child.name(), child, &inherited);
                open.extend(inner.map(|inner| Open {
                    on_one_line: on_one_line || inner.on_one_line,
                    ..inner
                }));
            }
            None => {
                begin_line(&mut out, depth - 1, on_one_line);
                out.push_str("</");
                out.push_str(name);
                out.push('>');
                open.pop();
                if let [root] = &open[..]
                    && let Some((_, text)) = after.take_if(|(child, _)| *child == name)
                {
                    begin_line(&mut out, 1, root.on_one_line);
                    out.push_str(text);
                }
            }
        }
    }
    out.push('\n');
    out
}

/// What stands on a line of its own begins with a line break and the indent.
fn begin_line(out: &mut String, depth: usize, on_one_line: bool) {
    if !on_one_line {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    }
}

/// As [`escape`], but what a reader would normalise is written by reference; with `line_breaks`, those too.
pub(crate) fn escape_canonical(out: &mut String, text: &str, line_breaks: bool) {
    replace(out, text, |byte| match byte {
        b'\r' => Some("&#13;"),
        b'\n' if line_breaks => Some("&#10;"),
        b'\t' if line_breaks => Some("&#9;"),
        _ => escaped(byte),
    });
}
