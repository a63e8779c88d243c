//! XML text as a tree, within limits, with the place of every element.

mod read;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use momentlog_core::DomainDef;

use crate::error::{DocumentKind, Position, Rule, XmlError};
use crate::excerpt::{Excerpt, excerpt};
use crate::recent::{Embedded, Known};

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
    /// What stands between `<?` and `?>`.
    Instruction(Cow<'a, str>),
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of one element, each seen on its own"
)]
struct Tag<'a> {
    name: &'a str,
    namespaced: bool,
    has_elements: bool,
    /// Whether it contains anything but text.
    has_markup: bool,
    /// Whether it contains text that is not blank.
    has_words: bool,
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

/// What an element contains. Blanks that only separate markup are left out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Child<'d> {
    Element(Element<'d>),
    Text(&'d str),
    Comment(&'d str),
    Instruction(&'d str),
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
            Content::Text(_) | Content::Comment(_) | Content::Instruction(_) => None,
        }
    }

    fn tag_mut(&mut self, index: usize) -> &mut Tag<'a> {
        match &mut self.nodes[index].content {
            Content::Element(tag) => tag,
            Content::Text(_) | Content::Comment(_) | Content::Instruction(_) => {
                unreachable!("only elements are open")
            }
        }
    }

    /// Whether a text only separates elements. An element of nothing but blanks keeps them: a name may be one.
    fn separates(&self, node: &Node<'_>, text: &str) -> bool {
        matches!(&self.nodes[node.parent].content, Content::Element(tag) if tag.has_elements)
            && is_blank(text)
    }

    /// Whether a text is layout: blanks beside markup, in an element without other text.
    fn is_layout(&self, node: &Node<'_>, text: &str) -> bool {
        let Content::Element(tag) = &self.nodes[node.parent].content else {
            return false;
        };
        tag.has_markup && !tag.has_words && is_blank(text)
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

    /// The elements inside it and itself, at any depth, in the order of the text.
    pub(crate) fn descendants(self) -> impl Iterator<Item = Element<'d>> {
        let document = self.document;
        (self.index..document.nodes[self.index].end).filter_map(|index| document.element(index))
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

    /// Whether it consists of more than `most` elements, itself included.
    pub(crate) fn has_more_elements_than(self, most: usize) -> bool {
        let nodes = &self.document.nodes[self.index..self.document.nodes[self.index].end];
        let is_element = |node: &&Node<'_>| matches!(node.content, Content::Element(_));
        nodes.len() > most && nodes.iter().filter(is_element).count() > most
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
                Content::Text(text) if self.document.is_layout(node, text) => {}
                Content::Text(text) => return Some(Child::Text(text)),
                Content::Comment(text) => return Some(Child::Comment(text)),
                Content::Instruction(text) => return Some(Child::Instruction(text)),
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

impl Source<'_> {
    /// Returns the error that `rule` is broken at `offset`.
    pub(crate) fn error(&self, offset: usize, rule: impl Into<Rule>) -> XmlError {
        let position = Position::of(self.text, offset);
        let Excerpt { text, before } = excerpt(self.text, offset);
        XmlError {
            document: self.kind,
            position,
            excerpt: text,
            before,
            rule: rule.into(),
        }
    }

    fn malformed(&self, offset: usize, rule: impl Into<String>) -> XmlError {
        self.error(offset, Rule::WellFormed(rule.into()))
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

/// The prefix that an attribute of this name declares, empty for none.
pub(crate) fn declared(key: &str) -> Option<&str> {
    match key.strip_prefix("xmlns")? {
        "" => Some(""),
        rest => rest.strip_prefix(':'),
    }
}

pub(crate) fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}
