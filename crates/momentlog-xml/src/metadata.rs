//! Title, description and metadata of a domain: what people and programs add to a definition, and no guest sees.
//!
//! Follows `virDomainGetMetadata` and `virDomainSetMetadata` of libvirt 9.0.0: a program's element is found by its
//! namespace, shown without it, and kept with a prefix.

use std::borrow::Cow;
use std::collections::HashMap;

use momentlog_core::DomainDef;

use crate::document::{Child, Children, Document, Element, Source, declared};
use crate::domain::read_domain;
use crate::error::{DocumentKind, Rule, XmlError};
use crate::namespaces::{in_scope_around, inherited};
use crate::write::{Changes, canonical, escape_canonical};

/// What is set in a domain's definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataChange<'a> {
    /// The title; an empty one removes it.
    Title(&'a str),
    /// The description; an empty one removes it.
    Description(&'a str),
    /// The element of a namespace.
    Element {
        /// The namespace.
        uri: &'a str,
        /// The prefix that it gets, and its XML; none removes it.
        new: Option<(&'a str, &'a str)>,
    },
}

/// The children of a domain that are written together, in libvirt's order.
const REPLACED: [&str; 3] = ["title", "description", "metadata"];

/// Returns the text of the first child of this name of a domain, if it has one.
fn child_text(def: &DomainDef, name: &str) -> Option<String> {
    let document = source(def).parse().ok()?;
    document.root().child_text(name).map(Cow::into_owned)
}

/// Returns the title of a domain, if it has one.
pub fn domain_title(def: &DomainDef) -> Option<String> {
    child_text(def, "title")
}

/// Returns the description of a domain, if it has one.
pub fn domain_description(def: &DomainDef) -> Option<String> {
    child_text(def, "description")
}

/// Returns the first element of a namespace in a domain's metadata, as its writer gave it: without the namespace.
pub fn domain_metadata(def: &DomainDef, uri: &str) -> Option<String> {
    let document = source(def).parse().ok()?;
    let found = document
        .root()
        .named("metadata")
        .flat_map(Element::all_elements)
        .find(|element| namespace(*element) == Some(uri))?;
    Some(shown(found, Names::Without(uri)))
}

/// Returns the definition with another title, description or element of its metadata. The three stand after the uuid then,
/// as libvirt writes them.
///
/// # Errors
///
/// [`XmlError`]: the element's XML, its prefix ([`Rule::Prefix`]), or the definition with it is not what it should be.
pub fn set_domain_metadata(
    def: &DomainDef,
    change: MetadataChange<'_>,
) -> Result<DomainDef, XmlError> {
    let document = source(def).parse()?;
    let root = document.root();
    let new = match change {
        MetadataChange::Element {
            uri,
            new: Some((prefix, xml)),
        } => Some(prefixed(prefix, uri, xml)?),
        _ => None,
    };
    let text = |name: &str, text: Option<&str>| match text {
        Some("") => String::new(),
        Some(text) => {
            let mut element = format!("<{name}>");
            escape_canonical(&mut element, text, true);
            element + &format!("</{name}>")
        }
        None => root.child(name).map_or(String::new(), whole),
    };
    let (title, description) = match change {
        MetadataChange::Title(title) => (Some(title), None),
        MetadataChange::Description(description) => (None, Some(description)),
        MetadataChange::Element { .. } => (None, None),
    };
    let mut written = text("title", title) + &text("description", description);
    match change {
        MetadataChange::Element { uri, .. } => written.push_str(&metadata(&document, uri, new)),
        _ => root
            .named("metadata")
            .for_each(|element| written.push_str(&whole(element))),
    }
    let is_replaced = |element: Element<'_>| {
        !element.is_namespaced()
            && REPLACED.contains(&element.name())
            && element.parent() == Some(root)
    };
    let changes = Changes {
        root: root.name(),
        after: Some(("uuid", written)),
        without_attribute: &|_, _| false,
        without: &is_replaced,
    };
    read_domain(&canonical(root, &changes), || def.uuid)
}

fn source(def: &DomainDef) -> Source<'_> {
    Source {
        kind: DocumentKind::Domain,
        text: &def.xml,
    }
}

/// The namespace that an element is in.
fn namespace(element: Element<'_>) -> Option<&str> {
    let prefix = element.name().split_once(':');
    let prefix = prefix.map_or("", |(prefix, _)| prefix);
    let mut around = std::iter::successors(Some(element), |inner| inner.parent());
    let (_, uri) = around.find_map(|one| declarations(one).find(|(own, _)| *own == prefix))?;
    Some(uri).filter(|uri| !uri.is_empty())
}

/// The element as it stands in the definition.
fn whole(element: Element<'_>) -> String {
    let changes = Changes {
        root: element.name(),
        after: None,
        without_attribute: &|_, _| false,
        without: &|_| false,
    };
    canonical(element, &changes)
}

/// The domain's metadata without the elements of a namespace, and with `new` as the last; nothing if nothing is left.
fn metadata(document: &Document<'_>, uri: &str, new: Option<String>) -> String {
    let root = document.root();
    let goes = |element: Element<'_>| {
        element
            .parent()
            .is_some_and(|outer| outer.name() == "metadata" && outer.parent() == Some(root))
            && namespace(element) == Some(uri)
    };
    let mut written = String::new();
    for element in root.named("metadata") {
        let changes = Changes {
            root: element.name(),
            after: None,
            without_attribute: &|_, _| false,
            without: &goes,
        };
        let stays = |child| !matches!(child, Child::Element(element) if goes(element));
        if element.children().any(stays) {
            written.push_str(&canonical(element, &changes));
        }
    }
    let Some(new) = new else {
        return written;
    };
    match written.strip_suffix("</metadata>\n") {
        Some(rest) => format!("{rest}{new}</metadata>"),
        None => format!("<metadata>{new}</metadata>"),
    }
}

/// Reads a program's element, and returns it with a prefix of its namespace wherever it is in none.
fn prefixed(prefix: &str, uri: &str, xml: &str) -> Result<String, XmlError> {
    let source = Source {
        kind: DocumentKind::Metadata,
        text: xml,
    };
    let document = source.parse()?;
    let root = document.root();
    if !is_prefix(prefix) {
        return Err(source.error(root.offset(), Rule::Prefix("validate prefix for")));
    }
    let mut all = root.descendants();
    let declares = |element: Element<'_>| {
        let mut keys = element.attributes().map(|(key, _)| key);
        keys.any(|key| declared(key) == Some(prefix))
    };
    if let Some(element) = all.find(|element| declares(*element)) {
        return Err(source.error(element.offset(), Rule::Prefix("create")));
    }
    Ok(shown(root, Names::With(prefix, uri)))
}

/// Whether it can be the prefix of a namespace: a name without a colon, and none that XML has for itself.
fn is_prefix(text: &str) -> bool {
    let is_start = |char: char| char.is_alphabetic() || char == '_';
    let is_more = |char: char| char.is_alphanumeric() || "_-.".contains(char);
    text.starts_with(is_start)
        && text.chars().all(is_more)
        && !text
            .get(..3)
            .is_some_and(|start| start.eq_ignore_ascii_case("xml"))
}

/// What the names in an element become.
#[derive(Clone, Copy)]
enum Names<'a> {
    /// Those of a namespace lose it.
    Without(&'a str),
    /// Elements of no namespace get this prefix, which means this one.
    With(&'a str, &'a str),
}

/// Returns an element as libxml2 writes it: declarations before other attributes, double quotes, and no indent where there
/// is text.
fn shown(root: Element<'_>, names: Names<'_>) -> String {
    let mut writing = Writing {
        out: String::new(),
        names,
        is_shed: HashMap::new(),
        open: Vec::new(),
    };
    if let Names::Without(uri) = names {
        for (key, bound) in in_scope_around(root) {
            let prefix = declared(key).unwrap_or_default();
            writing.is_shed.insert(prefix, vec![bound == uri]);
        }
    }
    writing.begin(root);
    while let Some(last) = writing.open.last_mut() {
        match last.children.next() {
            Some(Child::Text(text)) => escape_shown(&mut writing.out, text, false),
            Some(Child::Comment(comment)) => {
                writing.line();
                writing.out.push_str(&format!("<!--{comment}-->"));
            }
            Some(Child::Instruction(instruction)) => {
                writing.line();
                writing.out.push_str(&format!("<?{instruction}?>"));
            }
            Some(Child::Element(child)) => {
                writing.line();
                writing.begin(child);
            }
            None => writing.end(),
        }
    }
    writing.out
}

/// An element that is being written.
struct Writing<'d, 'a> {
    out: String,
    names: Names<'a>,
    /// For each prefix, empty for none: whether names lose it, by the declarations in scope, innermost last.
    is_shed: HashMap<&'d str, Vec<bool>>,
    open: Vec<Open<'d>>,
}

/// An element whose end is not written yet.
struct Open<'d> {
    element: Element<'d>,
    name: Cow<'d, str>,
    children: Children<'d>,
    on_one_line: bool,
}

impl<'d> Writing<'d, '_> {
    fn begin(&mut self, element: Element<'d>) {
        if let Names::Without(uri) = self.names {
            for (prefix, bound) in declarations(element) {
                self.is_shed.entry(prefix).or_default().push(bound == uri);
            }
        }
        let name = match self.names {
            Names::With(prefix, _) if !element.is_namespaced() => {
                format!("{prefix}:{}", element.name()).into()
            }
            _ => self.named(element.name()),
        };
        self.out.push('<');
        self.out.push_str(&name);
        for (key, uri) in element.attributes() {
            let sheds = matches!(self.names, Names::Without(without) if without == uri);
            if declared(key).is_some() && !sheds {
                self.attribute(key, uri);
            }
        }
        if self.open.is_empty() {
            self.declare_around(element);
        }
        for (key, value) in element.attributes() {
            if declared(key).is_none() {
                let key = self.named(key);
                self.attribute(&key, value);
            }
        }
        let children = element.children();
        let is_inside = self.open.last().is_some_and(|outer| outer.on_one_line);
        let has_text = |child| matches!(child, Child::Text(_));
        self.open.push(Open {
            element,
            name,
            on_one_line: is_inside || children.clone().any(has_text),
            children,
        });
        if element.children().next().is_some() {
            self.out.push('>');
        }
    }

    fn end(&mut self) {
        let Some(Open {
            element,
            name,
            on_one_line,
            ..
        }) = self.open.pop()
        else {
            return;
        };
        if element.children().next().is_none() {
            self.out.push_str("/>");
        } else {
            self.line_at(self.open.len(), on_one_line);
            self.out.push_str(&format!("</{name}>"));
        }
        for (prefix, _) in declarations(element) {
            if let Some(scope) = self.is_shed.get_mut(prefix) {
                scope.pop();
            }
        }
    }

    /// Declares in the outermost element what it needs from outside.
    fn declare_around(&mut self, root: Element<'d>) {
        match self.names {
            Names::With(prefix, uri) => self.attribute(&format!("xmlns:{prefix}"), uri),
            Names::Without(without) => {
                for declaration in inherited(root) {
                    if declaration.uri != without {
                        self.attribute(declaration.key, declaration.uri);
                    }
                }
            }
        }
    }

    /// The name of an attribute, or of an element that gets no prefix.
    fn named(&self, name: &'d str) -> Cow<'d, str> {
        let is_shed = |prefix: &str| self.is_shed.get(prefix).and_then(|scope| scope.last());
        match name.split_once(':') {
            Some((prefix, local)) if is_shed(prefix) == Some(&true) => local.into(),
            _ => name.into(),
        }
    }

    fn attribute(&mut self, key: &str, value: &str) {
        self.out.push_str(&format!(" {key}=\""));
        escape_shown(&mut self.out, value, true);
        self.out.push('"');
    }

    /// Begins a line for a child of the innermost element, unless that holds text.
    fn line(&mut self) {
        let on_one_line = self.open.last().is_some_and(|outer| outer.on_one_line);
        self.line_at(self.open.len(), on_one_line);
    }

    fn line_at(&mut self, depth: usize, on_one_line: bool) {
        if !on_one_line {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", depth));
        }
    }
}

/// The prefixes that an element declares, empty for none, with their namespaces.
fn declarations(element: Element<'_>) -> impl Iterator<Item = (&str, &str)> {
    let attributes = element.attributes();
    attributes.filter_map(|(key, uri)| Some((declared(key)?, uri)))
}

/// Appends text as libxml2 escapes it.
fn escape_shown(out: &mut String, text: &str, in_attribute: bool) {
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#13;"),
            '"' if in_attribute => out.push_str("&quot;"),
            '\n' if in_attribute => out.push_str("&#10;"),
            '\t' if in_attribute => out.push_str("&#9;"),
            _ => out.push(char),
        }
    }
}
