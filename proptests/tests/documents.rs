//! What is given is what is recorded, as another parser reads it: documents of any pieces, dumped and compared.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use momentlog::core::{DomainUuid, MomentName};
use momentlog::xml::{Carry, RecentDomain, SnapshotView, read_snapshot_redefine, write_snapshot};
use proptest::prelude::*;

const FRESH: DomainUuid = DomainUuid::from_bytes([9; 16]);

/// A part of a document, as it is written.
#[derive(Clone, Debug)]
enum Piece {
    Element {
        prefix: usize,
        name: usize,
        declares: Vec<(usize, usize)>,
        attributes: Vec<(usize, usize, String)>,
        inside: Vec<Piece>,
    },
    Text(String),
    Blanks(String),
    Data(String),
    Comment(String),
    Reference(char),
    Instruction(String),
}

const PREFIXES: [&str; 3] = ["", "a", "b"];
const URIS: [&str; 3] = ["", "urn:one", "urn:two"];
const NAMES: [&str; 3] = ["p", "q", "r"];

fn piece() -> impl Strategy<Value = Piece> {
    let attribute = (0..3_usize, 0..3_usize, "[a-z '\"<&>\u{e9}]{0,6}");
    let leaf = prop_oneof![
        "[a-z <&>'\"\n\t\u{e9}\\]]{0,8}".prop_map(Piece::Text),
        "[ \n\t]{1,4}".prop_map(Piece::Blanks),
        "[a-z <&>'\"\n]{0,6}".prop_map(Piece::Data),
        "[a-z <&>'\"\n]{0,6}".prop_map(Piece::Comment),
        prop::sample::select(vec!['a', ' ', '\t', '\n', '\r', '<', '&', '\u{1f642}'])
            .prop_map(Piece::Reference),
        "[a-z <&>'\"=]{0,6}".prop_map(Piece::Instruction),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        (
            0..3_usize,
            0..3_usize,
            prop::collection::vec((0..3_usize, 0..3_usize), 0..3),
            prop::collection::vec(attribute.clone(), 0..3),
            prop::collection::vec(inner, 0..5),
        )
            .prop_map(
                |(prefix, name, declares, attributes, inside)| Piece::Element {
                    prefix,
                    name,
                    declares,
                    attributes,
                    inside,
                },
            )
    })
}

/// Writes pieces; `bound` says which prefixes are, and to which namespace.
fn write(out: &mut String, pieces: &[Piece], bound: [usize; 3]) {
    let escaped = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    for piece in pieces {
        match piece {
            Piece::Element {
                prefix,
                name,
                declares,
                attributes,
                inside,
            } => {
                let mut bound = bound;
                let mut seen = Vec::new();
                let mut tag = String::new();
                for (prefix, uri) in declares {
                    // Only the namespace without a prefix can be taken back.
                    if seen.contains(prefix) || (*prefix > 0 && *uri == 0) {
                        continue;
                    }
                    seen.push(*prefix);
                    bound[*prefix] = *uri;
                    let key = match PREFIXES[*prefix] {
                        "" => "xmlns".to_owned(),
                        prefix => format!("xmlns:{prefix}"),
                    };
                    tag += &format!(" {key}='{}'", URIS[*uri]);
                }
                let qualified = |prefix: usize, name: usize| match PREFIXES[prefix] {
                    "" => NAMES[name].to_owned(),
                    prefix => format!("{prefix}:{}", NAMES[name]),
                };
                let mut keys = Vec::new();
                for (prefix, name, value) in attributes {
                    let prefix = if bound[*prefix] == 0 { 0 } else { *prefix };
                    // Two prefixes of one namespace would name one attribute twice.
                    let key = (if prefix == 0 { 0 } else { bound[prefix] }, *name);
                    if !keys.contains(&key) {
                        keys.push(key);
                        let value = escaped(value).replace('"', "&quot;");
                        tag += &format!(" {}=\"{value}\"", qualified(prefix, *name));
                    }
                }
                let prefix = if bound[*prefix] == 0 { 0 } else { *prefix };
                let name = qualified(prefix, *name);
                *out += &format!("<{name}{tag}>");
                write(out, inside, bound);
                *out += &format!("</{name}>");
            }
            Piece::Text(text) => *out += &escaped(text),
            Piece::Blanks(text) => *out += text,
            Piece::Data(text) => *out += &format!("<![CDATA[{text}]]>"),
            Piece::Comment(text) => *out += &format!("<!--{text}-->"),
            Piece::Reference(char) => *out += &format!("&#{};", *char as u32),
            Piece::Instruction(text) => *out += &format!("<?x-i {text}?>"),
        }
    }
}

/// What an element contains, but for layout, as the other parser reads it.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Element {
        name: (String, String),
        attributes: Vec<(String, String, String)>,
        inside: Vec<Content>,
    },
    Text(String),
    Comment(String),
    Instruction(String, String),
}

fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

fn content(element: roxmltree::Node<'_, '_>) -> Content {
    let mut attributes: Vec<_> = element
        .attributes()
        .map(|attribute| {
            let space = attribute.namespace().unwrap_or_default().to_owned();
            (
                space,
                attribute.name().to_owned(),
                attribute.value().to_owned(),
            )
        })
        .collect();
    attributes.sort();
    let mut inside: Vec<Content> = Vec::new();
    for child in element.children() {
        if child.is_element() {
            inside.push(content(child));
        } else if child.is_comment() {
            inside.push(Content::Comment(
                child.text().unwrap_or_default().to_owned(),
            ));
        } else if let Some(pi) = child.pi() {
            let value = pi.value.unwrap_or_default().to_owned();
            inside.push(Content::Instruction(pi.target.to_owned(), value));
        } else if let Some(Content::Text(before)) = inside.last_mut() {
            *before += child.text().unwrap_or_default();
        } else {
            inside.push(Content::Text(child.text().unwrap_or_default().to_owned()));
        }
    }
    inside.retain(|child| !matches!(child, Content::Text(text) if text.is_empty()));
    // Blanks are layout where there is other content, but no text.
    let is_text = |child: &Content| matches!(child, Content::Text(text) if !is_blank(text));
    if inside.len() > 1 && !inside.iter().any(is_text) {
        inside.retain(|child| !matches!(child, Content::Text(_)));
    }
    let name = element.tag_name();
    Content::Element {
        name: (
            name.namespace().unwrap_or_default().to_owned(),
            name.name().to_owned(),
        ),
        attributes,
        inside,
    }
}

/// The parts of a document of this name, inside its root.
fn parts(text: &str, name: &str) -> Vec<Content> {
    let document =
        roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let root = document.root_element();
    let parts = root.children().filter(|child| child.has_tag_name(name));
    parts.map(content).collect()
}

/// Reads a snapshot's document and writes it again.
fn dump(text: &str) -> String {
    let recent = RecentDomain::default();
    let read = read_snapshot_redefine(text, false, Carry::Everything, &recent, || FRESH)
        .unwrap_or_else(|error| panic!("{error}: {text}"));
    let parent = read.parent.as_ref();
    let view = SnapshotView {
        name: &read.name,
        parent,
        created: read.created,
        def: &read.def,
        domain: FRESH,
    };
    assert_eq!(read.name, MomentName::new("s").unwrap());
    write_snapshot(view, true)
}

/// A snapshot's document with pieces in its domain, in the domain's metadata, and in its cookie.
fn document(
    declares: [usize; 2],
    metadata: &[Piece],
    domain: &[Piece],
    cookie: &[Piece],
) -> String {
    let bound = [0, declares[0], declares[1]];
    let mut root = String::new();
    for (prefix, uri) in PREFIXES.iter().zip(bound).skip(1) {
        if uri > 0 {
            root += &format!(" xmlns:{prefix}='{}'", URIS[uri]);
        }
    }
    let written = |pieces: &[Piece]| {
        let mut out = String::new();
        write(&mut out, pieces, bound);
        out
    };
    // Text would stand between elements there.
    let elements = |pieces: &[Piece]| {
        let kept = |piece: &&Piece| {
            matches!(
                piece,
                Piece::Element { .. } | Piece::Comment(_) | Piece::Blanks(_)
            )
        };
        pieces.iter().filter(kept).cloned().collect::<Vec<_>>()
    };
    format!(
        "<domainsnapshot{root}><name>s</name><state>running</state><creationTime>5</creationTime>\
         <domain type='kvm'><name>vm</name><uuid>09090909-0909-4909-8909-090909090909</uuid>\
         <metadata>{}</metadata><os><type>hvm</type></os>{}</domain><cookie>{}</cookie></domainsnapshot>",
        written(metadata),
        written(&elements(domain)),
        written(&elements(cookie)),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn a_dump_holds_what_was_given(
        declares in [0..3_usize, 0..3_usize],
        metadata in prop::collection::vec(piece(), 0..4),
        domain in prop::collection::vec(piece(), 0..3),
        cookie in prop::collection::vec(piece(), 0..3),
    ) {
        let given = document(declares, &metadata, &domain, &cookie);
        let dumped = dump(&given);
        for part in ["domain", "cookie"] {
            prop_assert_eq!(parts(&dumped, part), parts(&given, part), "{}\n{}", given, dumped);
        }
        prop_assert_eq!(dump(&dumped), dumped);
    }
}
