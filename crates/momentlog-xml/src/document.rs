//! XML text as a tree, within limits, with the place of every element.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::BufRead as _;
use std::ops::Range;
use std::sync::Arc;

use momentlog_core::DomainDef;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::attributes::Attributes;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::error::{DocumentKind, Position, Rule, XmlError};
use crate::recent::{Embedded, Known};

/// Longest text that is read, in bytes.
pub const XML_LEN_MAX: usize = 16 << 20;

/// Most elements inside each other.
pub const XML_DEPTH_MAX: usize = 256;

/// Most attributes of one element.
pub const XML_ATTRIBUTES_MAX: usize = 256;

/// Most elements of one document.
pub const XML_ELEMENTS_MAX: usize = 1 << 18;

/// A document that was read: what it consists of in the order of the text, which is borrowed wherever it says the same.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    /// The root is the first; what an element contains follows it.
    nodes: Vec<Node<'a>>,
    attributes: Vec<(&'a str, Cow<'a, str>)>,
    /// What was known before, whose content is passed over where it stands.
    known: Option<Arc<Known>>,
    /// The first `<domain>` inside the root.
    embedded: Option<Embedded>,
}

#[derive(Debug)]
struct Node<'a> {
    content: Content<'a>,
    /// The index of the element that contains it; its own for the root.
    parent: usize,
    /// The index after all that it contains.
    end: usize,
}

#[derive(Debug)]
enum Content<'a> {
    Element(Tag<'a>),
    Text(Cow<'a, str>),
    Comment(Cow<'a, str>),
}

#[derive(Debug)]
struct Tag<'a> {
    name: &'a str,
    namespaced: bool,
    has_elements: bool,
    /// Whether it is the known one, whose content is not here.
    known: bool,
    attributes: Range<usize>,
    offset: usize,
}

/// An element of a document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'d> {
    document: &'d Document<'d>,
    index: usize,
    tag: &'d Tag<'d>,
}

/// What an element contains. Whitespace between elements is kept out; processing instructions are, too.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Child<'d> {
    Element(Element<'d>),
    Text(&'d str),
    Comment(&'d str),
}

impl<'a> Document<'a> {
    pub(crate) fn root(&self) -> Element<'_> {
        self.element(0)
            .expect("a document that was read has a root")
    }

    fn element(&self, index: usize) -> Option<Element<'_>> {
        match &self.nodes.get(index)?.content {
            Content::Element(tag) => Some(Element {
                document: self,
                index,
                tag,
            }),
            Content::Text(_) | Content::Comment(_) => None,
        }
    }

    fn tag_mut(&mut self, index: usize) -> &mut Tag<'a> {
        match &mut self.nodes[index].content {
            Content::Element(tag) => tag,
            Content::Text(_) | Content::Comment(_) => unreachable!("only elements are open"),
        }
    }

    /// Whether a text only separates elements. An element of nothing but blanks keeps them: a name may be one.
    fn separates(&self, node: &Node<'_>, text: &str) -> bool {
        matches!(&self.nodes[node.parent].content, Content::Element(tag) if tag.has_elements)
            && is_blank(text)
    }
}

impl PartialEq for Element<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.tag, other.tag)
    }
}

impl<'d> Element<'d> {
    /// The name as written, prefix included.
    pub(crate) fn name(self) -> &'d str {
        self.tag.name
    }

    /// The name without its prefix.
    pub(crate) fn local_name(self) -> &'d str {
        let name = self.tag.name;
        name.rsplit_once(':').map_or(name, |(_, local)| local)
    }

    /// Whether the element is in a namespace. libvirt's own are not, and it sees no other.
    pub(crate) fn is_namespaced(self) -> bool {
        self.tag.namespaced
    }

    /// Offset of its `<` in the text.
    pub(crate) fn offset(self) -> usize {
        self.tag.offset
    }

    /// What it was read as before, if it is the known one. Then nothing else can be asked but its attributes.
    pub(crate) fn known(self) -> Option<&'d Arc<DomainDef>> {
        let known = self.document.known.as_ref().filter(|_| self.tag.known);
        known.map(|known| &known.def)
    }

    /// Where it stands, if it can be known from now on.
    pub(crate) fn embedded(self) -> Option<&'d Embedded> {
        let embedded = self.document.embedded.as_ref();
        embedded.filter(|embedded| embedded.index == self.index)
    }

    /// The element that contains it.
    pub(crate) fn parent(self) -> Option<Element<'d>> {
        let parent = self.document.nodes[self.index].parent;
        if parent == self.index {
            return None;
        }
        self.document.element(parent)
    }

    /// Its attributes, with their values.
    pub(crate) fn attributes(self) -> impl Iterator<Item = (&'d str, &'d str)> {
        self.document.attributes[self.tag.attributes.clone()]
            .iter()
            .map(|(key, value)| (*key, &**value))
    }

    /// The value of an attribute.
    pub(crate) fn attribute(self, name: &str) -> Option<&'d str> {
        self.attributes()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// What it contains, in order.
    pub(crate) fn children(self) -> Children<'d> {
        Children {
            document: self.document,
            next: self.index + 1,
            end: self.document.nodes[self.index].end,
        }
    }

    /// All elements among the children.
    pub(crate) fn all_elements(self) -> impl Iterator<Item = Element<'d>> {
        let document = self.document;
        let end = document.nodes[self.index].end;
        let first = (self.index + 1 < end).then_some(self.index + 1);
        std::iter::successors(first, move |index| {
            let next = document.nodes[*index].end;
            (next < end).then_some(next)
        })
        .filter_map(|index| document.element(index))
    }

    /// The elements among the children that are in no namespace.
    pub(crate) fn elements(self) -> impl Iterator<Item = Element<'d>> {
        self.all_elements()
            .filter(|element| !element.is_namespaced())
    }

    /// All children of this name.
    pub(crate) fn named<'n>(
        self,
        name: &'n str,
    ) -> impl Iterator<Item = Element<'d>> + use<'d, 'n> {
        self.elements()
            .filter(move |element| element.name() == name)
    }

    /// The first child of this name.
    pub(crate) fn child(self, name: &str) -> Option<Element<'d>> {
        self.named(name).next()
    }

    /// The text of the first child of this name; an empty one counts as absent.
    pub(crate) fn child_text(self, name: &str) -> Option<Cow<'d, str>> {
        self.child(name)
            .map(Element::text)
            .filter(|text| !text.is_empty())
    }

    /// All text inside, in order.
    pub(crate) fn text(self) -> Cow<'d, str> {
        let inside = self.index + 1..self.document.nodes[self.index].end;
        let mut all = Cow::Borrowed("");
        for node in &self.document.nodes[inside] {
            match &node.content {
                Content::Text(text) if !self.document.separates(node, text) => all += &**text,
                _ => {}
            }
        }
        all
    }
}

/// The children of an element.
#[derive(Clone, Debug)]
pub(crate) struct Children<'d> {
    document: &'d Document<'d>,
    next: usize,
    end: usize,
}

impl<'d> Iterator for Children<'d> {
    type Item = Child<'d>;

    fn next(&mut self) -> Option<Child<'d>> {
        while self.next < self.end {
            let index = self.next;
            let node = &self.document.nodes[index];
            self.next = node.end;
            match &node.content {
                Content::Element(tag) => {
                    return Some(Child::Element(Element {
                        document: self.document,
                        index,
                        tag,
                    }));
                }
                Content::Text(text) if self.document.separates(node, text) => {}
                Content::Text(text) => return Some(Child::Text(text)),
                Content::Comment(text) => return Some(Child::Comment(text)),
            }
        }
        None
    }
}

/// Says what is wrong with which text, for the readers of one document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) kind: DocumentKind,
    pub(crate) text: &'a str,
}

impl<'a> Source<'a> {
    /// Returns the error that `rule` is broken at `offset`.
    pub(crate) fn error(&self, offset: usize, rule: impl Into<Rule>) -> XmlError {
        let position = Position::of(self.text, offset);
        let line = self.text.split('\n').nth(position.line - 1).unwrap_or("");
        let excerpt = line.chars().take(80).collect();
        XmlError {
            document: self.kind,
            position,
            excerpt,
            rule: rule.into(),
        }
    }

    fn malformed(&self, offset: usize, rule: impl Into<String>) -> XmlError {
        self.error(offset, Rule::WellFormed(rule.into()))
    }

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
        if self.text.len() > XML_LEN_MAX {
            return Err(self.malformed(
                XML_LEN_MAX,
                format!("document is longer than {XML_LEN_MAX} bytes"),
            ));
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

    /// Checks the name of the root element. Follows libvirt: its prefix does not matter.
    pub(crate) fn expect_root(&self, root: Element<'_>) -> Result<(), XmlError> {
        let expected = self.kind.root();
        let found = if root.is_namespaced() {
            root.local_name()
        } else {
            root.name()
        };
        if found == expected {
            return Ok(());
        }
        Err(self.error(
            root.offset(),
            Rule::Root {
                expected,
                found: found.to_owned(),
            },
        ))
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
                    // A character is found sooner than a text, and mostly is not there.
                    if text.contains(']')
                        && let Some(at) = text.find("]]>")
                    {
                        return Err(self
                            .source
                            .malformed(offset + at, "`]]>` is not allowed in text"));
                    }
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
                    if let Some(parent) = self.open.last() {
                        self.push(*parent, Content::Comment(comment.xml10_content()));
                        self.text = None;
                    }
                }
                Event::Decl(declaration) => {
                    if offset != skipped {
                        return Err(self
                            .source
                            .malformed(offset, "the XML declaration is not at the start"));
                    }
                    if let Some(encoding) = declaration.encoding() {
                        let encoding = encoding
                            .map_err(|error| self.source.malformed(offset, error.to_string()))?;
                        if !["utf-8", "us-ascii", "ascii"]
                            .contains(&encoding.to_ascii_lowercase().as_str())
                        {
                            let rule =
                                format!("encoding '{encoding}' is not supported, only UTF-8 is");
                            return Err(self.source.malformed(offset, rule));
                        }
                    }
                }
                Event::PI(_) => {}
                Event::DocType(_) => {
                    return Err(self
                        .source
                        .malformed(offset, "a document type is not processed, and not allowed"));
                }
                Event::Eof => break,
            }
        }
        let end = self.source.text.len();
        if let Some(open) = self.open.last() {
            let open = self.document.tag_mut(*open);
            let line = Position::of(self.source.text, open.offset).line;
            return Err(self.source.malformed(
                end,
                format!("element '{}' of line {line} is not closed", open.name),
            ));
        }
        if self.document.nodes.is_empty() {
            return Err(self
                .source
                .malformed(0, "a start tag is expected, '<' not found"));
        }
        Ok(self.document)
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
        if self.open.len() == XML_DEPTH_MAX {
            return malformed(format!("elements are nested deeper than {XML_DEPTH_MAX}"));
        }
        self.elements += 1;
        if self.elements > XML_ELEMENTS_MAX {
            return malformed(format!(
                "the document has more than {XML_ELEMENTS_MAX} elements"
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
        let namespaced = self.enter_namespaces(name, attributes.clone());
        let tag = Tag {
            name,
            namespaced,
            has_elements: false,
            known: false,
            attributes,
            offset,
        };
        let parent = self.open.last().copied();
        if let Some(parent) = parent {
            self.document.tag_mut(parent).has_elements = true;
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

    /// Enters an element's declarations, and returns whether its prefix, or its lack of one, is bound to a namespace.
    fn enter_namespaces(&mut self, name: &str, attributes: Range<usize>) -> bool {
        for (key, uri) in &self.document.attributes[attributes] {
            if let Some(prefix) = declared(key) {
                let bound = !uri.is_empty();
                self.bindings.entry(prefix).or_default().push(bound);
            }
        }
        match name.split_once(':') {
            Some(("xml", _)) => true,
            Some((prefix, _)) => self.is_bound(prefix),
            None => self.is_bound(""),
        }
    }

    fn is_bound(&self, prefix: &str) -> bool {
        self.bindings.get(prefix).and_then(|bound| bound.last()) == Some(&true)
    }

    /// If the element that was opened last is the known one, returns the length of its content, which begins at `content`.
    ///
    /// Namespaces outside do not matter: what is in one is not read, and the canonical text has names as they are written.
    fn pass_known(&mut self, content: usize) -> usize {
        let [_, index] = self.open[..] else { return 0 };
        let Some(known) = self.document.known.clone() else {
            return 0;
        };
        let elements = self.elements + known.elements - 1;
        let tag = self.document.tag_mut(index);
        let is_known = self.source.text[tag.offset..].starts_with(&known.text);
        if !is_known || elements > XML_ELEMENTS_MAX {
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
        if name != "domain" || self.document.embedded.is_some() {
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
        let Some(parent) = self.open.last() else {
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
        let before = self
            .text
            .map(|before| &mut self.document.nodes[before].content);
        match before {
            Some(Content::Text(before)) => *before += text,
            _ => {
                self.text = Some(self.document.nodes.len());
                self.push(*parent, Content::Text(text));
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

/// The prefix that an attribute of this name declares, empty for none.
fn declared(key: &str) -> Option<&str> {
    match key.strip_prefix("xmlns")? {
        "" => Some(""),
        rest => rest.strip_prefix(':'),
    }
}

pub(crate) fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
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
