//! Reading a text into a document, from the events of `quick_xml`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::BufRead as _;
use std::ops::Range;
use std::sync::Arc;

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::attributes::Attributes;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};

use super::{Content, Document, Node, Source, Tag, declared, is_blank};
use crate::error::{Position, XmlError};
use crate::limits::XML_ATTRIBUTES_MAX;
use crate::recent::{Embedded, Known};

impl<'a> Source<'a> {
    /// Reads the text, whatever its root is called.
    pub(crate) fn parse(&self) -> Result<Document<'a>, XmlError> {
        self.parse_knowing(None)
    }

    /// As [`parse`](Self::parse), without what is inside the `<domain>` that is known.
    pub(crate) fn parse_knowing(
        &self,
        known: Option<Arc<Known>>,
    ) -> Result<Document<'a>, XmlError> {
        if self.text.is_empty() {
            return Err(self.malformed(0, "document is empty"));
        }
        let len_max = self.kind.len_max();
        if self.text.len() > len_max {
            return Err(self.malformed(len_max, format!("document is longer than {len_max} bytes")));
        }
        // Most texts are of such bytes alone, which is soon seen.
        if !is_plain(self.text)
            && let Some((offset, char)) = self
                .text
                .char_indices()
                .find(|(_, char)| !is_xml_char(*char))
        {
            return Err(self.malformed(
                offset,
                format!("character U+{:04X} is not allowed", char as u32),
            ));
        }
        Builder {
            source: *self,
            document: Document {
                nodes: Vec::with_capacity(USUAL_NODES),
                attributes: Vec::with_capacity(USUAL_ATTRIBUTES),
                known,
                embedded: None,
            },
            open: Vec::with_capacity(USUAL_DEPTH),
            text: None,
            elements: 0,
            bindings: HashMap::new(),
        }
        .build()
    }
}

/// Builds the tree from the reader's events, without recursion.
struct Builder<'a> {
    source: Source<'a>,
    document: Document<'a>,
    /// The elements that are not closed yet, innermost last.
    open: Vec<usize>,
    /// The text that the next piece of text continues.
    text: Option<usize>,
    elements: usize,
    /// For each prefix, empty for none: whether the declarations in scope bind it, innermost last.
    bindings: HashMap<&'a str, Vec<bool>>,
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// What most documents fit in.
const USUAL_NODES: usize = 32;
const USUAL_ATTRIBUTES: usize = 16;
const USUAL_DEPTH: usize = 8;

impl<'a> Builder<'a> {
    fn build(mut self) -> Result<Document<'a>, XmlError> {
        // The reader would skip one, and not count it.
        let body = self.source.text.trim_start_matches(BYTE_ORDER_MARK);
        let skipped = self.source.text.len() - body.len();
        if skipped > BYTE_ORDER_MARK.len_utf8() {
            let rule = "a byte order mark may stand at the start only once";
            return Err(self.source.malformed(0, rule));
        }
        let offset_of = |position| skipped + in_memory(position);
        let mut reader = quick_xml::Reader::from_str(body);
        reader.config_mut().enable_all_checks(true);
        loop {
            let offset = offset_of(reader.buffer_position());
            let event = reader.read_event();
            let event = event.map_err(|error| {
                let at = offset_of(reader.error_position());
                self.source.malformed(at, error.to_string())
            })?;
            match event {
                Event::Start(start) => {
                    let end = offset_of(reader.buffer_position()) - ">".len();
                    self.start(&start, end)?;
                    let passed = self.pass_known(end + ">".len());
                    reader.stream().consume(passed);
                }
                Event::Empty(start) => {
                    let end = offset_of(reader.buffer_position()) - "/>".len();
                    self.start(&start, end)?;
                    self.end();
                }
                Event::End(_) => {
                    self.keep_embedded(offset..offset_of(reader.buffer_position()));
                    self.end();
                }
                Event::Text(text) => {
                    self.check_plain(&text, offset)?;
                    self.text(text.xml10_content(), offset)?;
                }
                Event::CData(text) => self.text(text.xml10_content(), offset)?,
                Event::GeneralRef(reference) => {
                    let Some(resolved) = resolve(&reference) else {
                        let name = reference.xml10_content().into_owned();
                        return Err(self
                            .source
                            .malformed(offset, format!("entity '{name}' is not defined")));
                    };
                    self.text(resolved, offset)?;
                }
                Event::Comment(comment) => {
                    self.markup(Content::Comment(comment.xml10_content()));
                }
                Event::Decl(declaration) => {
                    if offset != skipped {
                        let rule = "the XML declaration is not at the start";
                        return Err(self.source.malformed(offset, rule));
                    }
                    self.check_encoding(&declaration, offset)?;
                }
                Event::PI(_) => self.markup(Content::Instruction(self.instruction(offset))),
                Event::DocType(_) => {
                    let rule = "a document type is not processed, and not allowed";
                    return Err(self.source.malformed(offset, rule));
                }
                Event::Eof => break,
            }
        }
        self.finish()
    }

    /// Returns the document, if its root is there and closed.
    fn finish(mut self) -> Result<Document<'a>, XmlError> {
        let end = self.source.text.len();
        if let Some(open) = self.open.last() {
            let open = self.document.tag_mut(*open);
            let line = Position::of(self.source.text, open.offset).line;
            let rule = format!("element '{}' of line {line} is not closed", open.name);
            return Err(self.source.malformed(end, rule));
        }
        if self.document.nodes.is_empty() {
            let rule = "a start tag is expected, '<' not found";
            return Err(self.source.malformed(0, rule));
        }
        Ok(self.document)
    }

    /// Checks that a text does not hold the end of a section.
    fn check_plain(&self, text: &str, offset: usize) -> Result<(), XmlError> {
        // A character is found sooner than a text, and mostly is not there.
        if text.contains(']')
            && let Some(at) = text.find("]]>")
        {
            let rule = "`]]>` is not allowed in text";
            return Err(self.source.malformed(offset + at, rule));
        }
        Ok(())
    }

    /// Checks that a declaration names no encoding, or one that a text in memory has.
    fn check_encoding(&self, declaration: &BytesDecl<'_>, offset: usize) -> Result<(), XmlError> {
        let Some(encoding) = declaration.encoding() else {
            return Ok(());
        };
        let encoding =
            encoding.map_err(|error| self.source.malformed(offset, error.to_string()))?;
        let read = ["utf-8", "us-ascii", "ascii"];
        if read.contains(&encoding.to_ascii_lowercase().as_str()) {
            return Ok(());
        }
        let rule = format!("encoding '{encoding}' is not supported, only UTF-8 is");
        Err(self.source.malformed(offset, rule))
    }

    /// Opens the element whose tag, without its brackets, ends at `end`.
    fn start(&mut self, start: &BytesStart<'_>, end: usize) -> Result<(), XmlError> {
        // The reader's copy lives no longer than its event.
        let tag: &'a str = &self.source.text[end - start.len()..end];
        let name = &tag[..start.name().as_ref().len()];
        let offset = end - tag.len() - "<".len();
        let malformed = |rule: String| Err(self.source.malformed(offset, rule));
        if self.open.is_empty() && !self.document.nodes.is_empty() {
            return malformed("extra content at the end of the document".to_owned());
        }
        let depth_max = self.source.kind.depth_max();
        if self.open.len() == depth_max {
            return malformed(format!("elements are nested deeper than {depth_max}"));
        }
        self.elements += 1;
        let elements_max = self.source.kind.elements_max();
        if self.elements > elements_max {
            return malformed(format!(
                "the document has more than {elements_max} elements"
            ));
        }
        if !is_xml_name(name) {
            return malformed(format!("'{name}' is not the name of an element"));
        }
        let first = self.document.attributes.len();
        for attribute in Attributes::new(tag, name.len()) {
            let attribute =
                attribute.map_err(|error| self.source.malformed(offset, error.to_string()))?;
            if self.document.attributes.len() - first == XML_ATTRIBUTES_MAX {
                return malformed(format!(
                    "an element has more than {XML_ATTRIBUTES_MAX} attributes"
                ));
            }
            let key = attribute.key.into_inner();
            if !is_xml_name(key) {
                return malformed(format!("'{key}' is not the name of an attribute"));
            }
            if attribute.value.contains('<') {
                return malformed(format!("the value of attribute '{key}' holds a '<'"));
            }
            let value = attribute.normalized_value(XmlVersion::Explicit1_0);
            let value = value.map_err(|error| self.source.malformed(offset, error.to_string()))?;
            // What is borrowed is of characters that were looked at before.
            if matches!(value, Cow::Owned(_)) && !value.chars().all(is_xml_char) {
                return malformed(format!(
                    "the value of attribute '{key}' holds a character that is not allowed"
                ));
            }
            self.document.attributes.push((key, value));
        }
        let attributes = first..self.document.attributes.len();
        let namespaced = self.enter_namespaces(name, attributes.clone(), offset)?;
        let tag = Tag {
            name,
            namespaced,
            has_elements: false,
            has_markup: false,
            has_words: false,
            known: false,
            attributes,
            offset,
        };
        let parent = self.open.last().copied();
        if let Some(parent) = parent {
            let parent = self.document.tag_mut(parent);
            parent.has_elements = true;
            parent.has_markup = true;
        }
        let index = self.document.nodes.len();
        self.push(parent.unwrap_or(index), Content::Element(tag));
        self.open.push(index);
        self.text = None;
        Ok(())
    }

    fn push(&mut self, parent: usize, content: Content<'a>) {
        let end = self.document.nodes.len() + 1;
        self.document.nodes.push(Node {
            content,
            parent,
            end,
        });
    }

    /// What stands between the brackets of the instruction at `offset`, with line ends as a reader gives them.
    fn instruction(&self, offset: usize) -> Cow<'a, str> {
        let inside = &self.source.text[offset + "<?".len()..];
        let inside = &inside[..inside.find("?>").unwrap_or(inside.len())];
        if inside.contains('\r') {
            return inside.replace("\r\n", "\n").replace('\r', "\n").into();
        }
        inside.into()
    }

    /// Takes in a comment or an instruction; one outside the root means nothing.
    fn markup(&mut self, content: Content<'a>) {
        if let Some(parent) = self.open.last() {
            self.document.tag_mut(*parent).has_markup = true;
            self.push(*parent, content);
            self.text = None;
        }
    }

    /// Enters an element's declarations, and returns whether its prefix, or its lack of one, is bound to a namespace.
    fn enter_namespaces(
        &mut self,
        name: &str,
        attributes: Range<usize>,
        offset: usize,
    ) -> Result<bool, XmlError> {
        for (key, uri) in &self.document.attributes[attributes.clone()] {
            if let Some(prefix) = declared(key) {
                let bound = !uri.is_empty();
                self.bindings.entry(prefix).or_default().push(bound);
            }
        }
        let keys = self.document.attributes[attributes]
            .iter()
            .map(|(key, _)| *key);
        for used in keys.filter(|key| declared(key).is_none()).chain([name]) {
            if let Some((prefix, _)) = used.split_once(':')
                && prefix != "xml"
                && !self.is_bound(prefix)
            {
                let rule = format!("prefix '{prefix}' of '{used}' is not declared");
                return Err(self.source.malformed(offset, rule));
            }
        }
        Ok(name.contains(':') || self.is_bound(""))
    }

    fn is_bound(&self, prefix: &str) -> bool {
        self.bindings.get(prefix).and_then(|bound| bound.last()) == Some(&true)
    }

    /// Whether the root declares a namespace: then what an element inside means is not in its text alone.
    fn root_declares(&self) -> bool {
        let Content::Element(root) = &self.document.nodes[0].content else {
            return false;
        };
        self.document.attributes[root.attributes.clone()]
            .iter()
            .any(|(key, _)| declared(key).is_some())
    }

    /// If the element that was opened last is the known one, returns the length of its content, which begins at `content`.
    fn pass_known(&mut self, content: usize) -> usize {
        let [_, index] = self.open[..] else { return 0 };
        if self.root_declares() {
            return 0;
        }
        let Some(known) = self.document.known.clone() else {
            return 0;
        };
        let elements = self.elements + known.elements - 1;
        let tag = self.document.tag_mut(index);
        let is_known = self.source.text[tag.offset..].starts_with(&known.text);
        if !is_known || elements > self.source.kind.elements_max() {
            return 0;
        }
        tag.known = true;
        self.elements = elements;
        tag.offset + known.end_tag - content
    }

    /// Notes where the first `<domain>` inside the root stands, whose end is being read.
    fn keep_embedded(&mut self, end: Range<usize>) {
        let [_, index] = self.open[..] else { return };
        let tag = self.document.tag_mut(index);
        let (name, range) = (tag.name, tag.offset..end.end);
        if name != "domain" || self.document.embedded.is_some() || self.root_declares() {
            return;
        }
        let inside = &self.document.nodes[index..];
        let is_element = |node: &&Node<'_>| matches!(node.content, Content::Element(_));
        self.document.embedded = Some(Embedded {
            index,
            range,
            end_tag: end.start,
            elements: inside.iter().filter(is_element).count(),
        });
    }

    fn end(&mut self) {
        let index = self.open.pop().expect("the reader matches end tags");
        self.document.nodes[index].end = self.document.nodes.len();
        let attributes = self.document.tag_mut(index).attributes.clone();
        for (key, _) in &self.document.attributes[attributes] {
            if let Some(prefix) = declared(key) {
                self.bindings.get_mut(prefix).map(Vec::pop);
            }
        }
        self.text = None;
    }

    fn text(&mut self, text: Cow<'a, str>, offset: usize) -> Result<(), XmlError> {
        let Some(parent) = self.open.last().copied() else {
            if is_blank(&text) {
                return Ok(());
            }
            let rule = if self.document.nodes.is_empty() {
                "a start tag is expected, '<' not found"
            } else {
                "extra content at the end of the document"
            };
            return Err(self.source.malformed(offset, rule));
        };
        if text.is_empty() {
            return Ok(());
        }
        if !is_blank(&text) {
            self.document.tag_mut(parent).has_words = true;
        }
        let before = self
            .text
            .map(|before| &mut self.document.nodes[before].content);
        match before {
            Some(Content::Text(before)) => *before += text,
            _ => {
                self.text = Some(self.document.nodes.len());
                self.push(parent, Content::Text(text));
            }
        }
        Ok(())
    }
}

/// What a reference in text stands for: a character, or one of XML's own entities.
fn resolve(reference: &BytesRef<'_>) -> Option<Cow<'static, str>> {
    match reference.resolve_char_ref().ok()? {
        Some(char) => is_xml_char(char).then(|| char.to_string().into()),
        None => resolve_predefined_entity(&reference.xml10_content()).map(Cow::Borrowed),
    }
}

fn in_memory(position: u64) -> usize {
    usize::try_from(position).expect("a text in memory has offsets of this size")
}

/// Whether a text is of printable ASCII and line breaks alone, in a form that takes many bytes at a time.
fn is_plain(text: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\n');
    text.bytes()
        .fold(true, |plain, byte| plain & is_plain(byte))
}

/// Whether XML 1.0 takes the character at all.
fn is_xml_char(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn is_xml_name(name: &str) -> bool {
    let starts =
        |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':') || !byte.is_ascii();
    let continues = |byte: u8| starts(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    name.bytes().next().is_some_and(starts) && name.bytes().all(continues)
}
