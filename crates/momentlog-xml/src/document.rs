//! XML text as a tree, within limits, with the place of every element.

use std::collections::HashMap;

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use smol_str::SmolStr;

use crate::error::{DocumentKind, Position, Rule, XmlError};

/// Longest text that is read, in bytes.
pub const XML_LEN_MAX: usize = 16 << 20;

/// Most elements inside each other.
pub const XML_DEPTH_MAX: usize = 256;

/// Most attributes of one element.
pub const XML_ATTRIBUTES_MAX: usize = 256;

/// Most elements of one document.
pub const XML_ELEMENTS_MAX: usize = 1 << 18;

/// One element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// The name as written, prefix included.
    pub(crate) name: SmolStr,
    /// Whether the element is in a namespace. libvirt's own are not, and it sees no other.
    pub(crate) namespaced: bool,
    pub(crate) attributes: Vec<(SmolStr, SmolStr)>,
    pub(crate) children: Vec<Node>,
    /// Offset of its `<` in the text.
    pub(crate) offset: usize,
}

/// What an element contains. Whitespace between elements is kept out; processing instructions are, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Element(Element),
    Text(String),
    Comment(String),
}

impl Element {
    /// The elements among the children that are in no namespace.
    pub(crate) fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) if !element.namespaced => Some(element),
            _ => None,
        })
    }

    /// All elements among the children.
    pub(crate) fn all_elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            _ => None,
        })
    }

    /// All children of this name.
    pub(crate) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.elements().filter(move |element| element.name == name)
    }

    /// The first child of this name.
    pub(crate) fn child(&self, name: &str) -> Option<&Element> {
        self.elements().find(|element| element.name == name)
    }

    /// Takes the first child of this name out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Element> {
        let is_it = |node: &Node| matches!(node, Node::Element(child) if !child.namespaced && child.name == name);
        let at = self.children.iter().position(is_it)?;
        match self.children.remove(at) {
            Node::Element(child) => Some(child),
            Node::Text(_) | Node::Comment(_) => None,
        }
    }

    /// The text of the first child of this name; an empty one counts as absent.
    pub(crate) fn child_text(&self, name: &str) -> Option<String> {
        self.child(name)
            .map(Element::text)
            .filter(|text| !text.is_empty())
    }

    /// All text inside, in order.
    pub(crate) fn text(&self) -> String {
        if let [Node::Text(text)] = &self.children[..] {
            return text.clone();
        }
        let mut text = String::new();
        let mut stack = vec![self.children.iter()];
        while let Some(nodes) = stack.last_mut() {
            match nodes.next() {
                Some(Node::Text(part)) => text.push_str(part),
                Some(Node::Element(element)) => stack.push(element.children.iter()),
                Some(Node::Comment(_)) => {}
                None => {
                    stack.pop();
                }
            }
        }
        text
    }

    /// The value of an attribute.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The name without its prefix.
    pub(crate) fn local_name(&self) -> &str {
        self.name
            .rsplit_once(':')
            .map_or(&self.name, |(_, local)| local)
    }
}

/// Says what is wrong with which text, for the readers of one document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) kind: DocumentKind,
    pub(crate) text: &'a str,
}

impl Source<'_> {
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

    /// Reads the text and returns its root element, whatever that is called.
    pub(crate) fn parse(&self) -> Result<Element, XmlError> {
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
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\n');
        if !self.text.bytes().all(is_plain)
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
            open: Vec::new(),
            root: None,
            elements: 0,
            bindings: HashMap::new(),
        }
        .build()
    }

    /// Checks the name of the root element. Follows libvirt: its prefix does not matter.
    pub(crate) fn expect_root(&self, root: &Element) -> Result<(), XmlError> {
        let expected = self.kind.root();
        let found = if root.namespaced {
            root.local_name()
        } else {
            &root.name
        };
        if found == expected {
            return Ok(());
        }
        Err(self.error(
            root.offset,
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
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
    /// For each prefix, empty for none: whether the declarations in scope bind it, innermost last.
    bindings: HashMap<String, Vec<bool>>,
}

impl Builder<'_> {
    fn build(mut self) -> Result<Element, XmlError> {
        let mut reader = quick_xml::Reader::from_str(self.source.text);
        reader.config_mut().enable_all_checks(true);
        loop {
            let offset = offset_of(reader.buffer_position());
            let event = reader.read_event();
            let event = event.map_err(|error| {
                let at = offset_of(reader.error_position());
                self.source.malformed(at, error.to_string())
            })?;
            match event {
                Event::Start(start) => self.start(&start, offset)?,
                Event::Empty(start) => {
                    self.start(&start, offset)?;
                    self.end();
                }
                Event::End(_) => self.end(),
                Event::Text(text) => {
                    if let Some(at) = text.find("]]>") {
                        return Err(self
                            .source
                            .malformed(offset + at, "`]]>` is not allowed in text"));
                    }
                    self.text(&text.xml10_content(), offset)?;
                }
                Event::CData(text) => self.text(&text.xml10_content(), offset)?,
                Event::GeneralRef(reference) => {
                    let resolved = match reference.resolve_char_ref() {
                        Ok(Some(char)) if is_xml_char(char) => Some(char.to_string()),
                        Ok(Some(_)) | Err(_) => None,
                        Ok(None) => {
                            resolve_predefined_entity(&reference.xml10_content()).map(str::to_owned)
                        }
                    };
                    let Some(resolved) = resolved else {
                        let name = reference.xml10_content().into_owned();
                        return Err(self
                            .source
                            .malformed(offset, format!("entity '{name}' is not defined")));
                    };
                    self.text(&resolved, offset)?;
                }
                Event::Comment(comment) => {
                    if let Some(parent) = self.open.last_mut() {
                        parent
                            .children
                            .push(Node::Comment(comment.xml10_content().into_owned()));
                    }
                }
                Event::Decl(declaration) => {
                    if offset != 0 {
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
            let line = Position::of(self.source.text, open.offset).line;
            return Err(self.source.malformed(
                end,
                format!("element '{}' of line {line} is not closed", open.name),
            ));
        }
        self.root.ok_or_else(|| {
            self.source
                .malformed(0, "a start tag is expected, '<' not found")
        })
    }

    fn start(&mut self, start: &BytesStart<'_>, offset: usize) -> Result<(), XmlError> {
        let malformed = |rule: String| Err(self.source.malformed(offset, rule));
        if self.root.is_some() {
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
        let name = SmolStr::new(start.name().as_ref());
        if !is_xml_name(&name) {
            return malformed(format!("'{name}' is not the name of an element"));
        }
        let mut attributes: Vec<(SmolStr, SmolStr)> = Vec::new();
        for attribute in start.attributes() {
            let attribute =
                attribute.map_err(|error| self.source.malformed(offset, error.to_string()))?;
            if attributes.len() == XML_ATTRIBUTES_MAX {
                return malformed(format!(
                    "an element has more than {XML_ATTRIBUTES_MAX} attributes"
                ));
            }
            let key = SmolStr::new(attribute.key.as_ref());
            if !is_xml_name(&key) {
                return malformed(format!("'{key}' is not the name of an attribute"));
            }
            if attribute.value.contains('<') {
                return malformed(format!("the value of attribute '{key}' holds a '<'"));
            }
            let value = attribute.normalized_value(XmlVersion::Explicit1_0);
            let value = value.map_err(|error| self.source.malformed(offset, error.to_string()))?;
            if !value.chars().all(is_xml_char) {
                return malformed(format!(
                    "the value of attribute '{key}' holds a character that is not allowed"
                ));
            }
            attributes.push((key, SmolStr::new(value)));
        }
        let mut element = Element {
            name,
            namespaced: false,
            attributes,
            children: Vec::new(),
            offset,
        };
        element.namespaced = self.enter_namespaces(&element);
        self.open.push(element);
        Ok(())
    }

    /// Enters the element's declarations, and returns whether its prefix, or its lack of one, is bound to a namespace.
    fn enter_namespaces(&mut self, element: &Element) -> bool {
        for (prefix, uri) in declarations(element) {
            let bound = !uri.is_empty();
            self.bindings
                .entry(prefix.to_owned())
                .or_default()
                .push(bound);
        }
        match element.name.split_once(':') {
            Some(("xml", _)) => true,
            Some((prefix, _)) => self.is_bound(prefix),
            None => self.is_bound(""),
        }
    }

    fn is_bound(&self, prefix: &str) -> bool {
        self.bindings.get(prefix).and_then(|bound| bound.last()) == Some(&true)
    }

    fn end(&mut self) {
        let mut element = self.open.pop().expect("the reader matches end tags");
        for (prefix, _) in declarations(&element) {
            self.bindings.get_mut(prefix).map(Vec::pop);
        }
        drop_blank_text(&mut element);
        match self.open.last_mut() {
            Some(parent) => parent.children.push(Node::Element(element)),
            None => self.root = Some(element),
        }
    }

    fn text(&mut self, text: &str, offset: usize) -> Result<(), XmlError> {
        let Some(parent) = self.open.last_mut() else {
            if text.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
                return Ok(());
            }
            let rule = match self.root {
                Some(_) => "extra content at the end of the document",
                None => "a start tag is expected, '<' not found",
            };
            return Err(self.source.malformed(offset, rule));
        };
        match parent.children.last_mut() {
            Some(Node::Text(before)) => before.push_str(text),
            _ => parent.children.push(Node::Text(text.to_owned())),
        }
        Ok(())
    }
}

/// The namespaces that an element declares: prefix, empty for none, and URI.
fn declarations(element: &Element) -> impl Iterator<Item = (&str, &str)> {
    element
        .attributes
        .iter()
        .filter_map(|(key, uri)| match key.split_once(':') {
            None if key == "xmlns" => Some(("", uri.as_str())),
            Some(("xmlns", prefix)) => Some((prefix, uri.as_str())),
            _ => None,
        })
}

/// Drops text that only separates elements. An element of nothing but blanks keeps them: a name may be one.
fn drop_blank_text(element: &mut Element) {
    let has_elements = element
        .children
        .iter()
        .any(|node| matches!(node, Node::Element(_)));
    if has_elements {
        element
            .children
            .retain(|node| !matches!(node, Node::Text(text) if is_blank(text)));
    }
}

pub(crate) fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

fn offset_of(position: u64) -> usize {
    usize::try_from(position).expect("a text in memory has offsets of this size")
}

/// Whether XML 1.0 takes the character at all.
fn is_xml_char(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn is_xml_name(name: &str) -> bool {
    let starts =
        |char: char| char.is_ascii_alphabetic() || char == '_' || char == ':' || !char.is_ascii();
    let continues =
        |char: char| starts(char) || char.is_ascii_digit() || char == '-' || char == '.';
    name.starts_with(starts) && name.chars().all(continues)
}
