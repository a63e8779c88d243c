//! What the verbs of both kinds of moment share.

use std::collections::HashMap;
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use momentlog::Domain;
use momentlog::core::{Moment, MomentId, MomentKind, MomentList, MomentName, Scope};
use momentlog_audit::json::{MomentDoc, MomentsDoc, TextDoc};

use crate::failure::{Answer, Failure, reason};
use crate::grammar::Invocation;
use crate::layout::{Table, time, tree};
use crate::session::Session;

use super::exclusive;

/// Refuses what excludes each other in a listing, in virsh's order and with its two wordings.
pub fn check_listing(invocation: &Invocation, filters: &[&str]) -> Result<(), Failure> {
    for (one, other) in [
        ("tree", "name"),
        ("parent", "roots"),
        ("parent", "tree"),
        ("roots", "tree"),
        ("roots", "from"),
    ] {
        exclusive(invocation, one, other)?;
    }
    if invocation.verb.takes("current") {
        exclusive(invocation, "roots", "current")?;
    }
    for filter in filters {
        if invocation.has(filter) && invocation.has("tree") {
            return Err(Failure::new(format!(
                "--{filter} and --tree are mutually exclusive"
            )));
        }
    }
    Ok(())
}

/// Puts names in the order in which a listing has them.
pub fn put_in_order(invocation: &Invocation, names: &mut [MomentName]) {
    if !invocation.has("topological") {
        names.sort_by_key(|name| name.as_str().to_ascii_lowercase());
    }
}

/// Shows moments as the list verbs do: as a tree, as names, or as a table. `header` names the columns of the kind, and
/// `state` gives a moment's state, where the kind has one.
pub fn show<D>(
    session: &mut Session,
    invocation: &Invocation,
    list: &MomentList<D>,
    mut names: Vec<MomentName>,
    header: &[&'static str],
    state: impl Fn(&Moment<'_, D>) -> Option<&'static str>,
) -> Answer {
    put_in_order(invocation, &mut names);
    let moment = |name: &MomentName| list.find(name.as_str());
    let parent = |name: &MomentName| list.parent(moment(name)?.id).map(|parent| parent.name);
    if invocation.has("tree") {
        // A moment whose parent is not listed is a root of what is shown.
        let places: HashMap<&MomentName, usize> = names.iter().zip(0..).collect();
        let parents: Vec<Option<usize>> = names
            .iter()
            .map(|name| places.get(parent(name)?).copied())
            .collect();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        session.print(&tree(&names, &parents));
        return Ok(0);
    }
    if invocation.has("name") {
        for name in &names {
            session.print(&format!("{name}\n"));
        }
        return Ok(0);
    }
    let mut header = header.to_vec();
    header.extend(invocation.has("parent").then_some("Parent"));
    let mut table = Table::new(&header);
    for name in &names {
        let Some(moment) = moment(name) else {
            continue;
        };
        // virsh leaves out what its XML gives no time for.
        if moment.created != 0 {
            let mut cells = vec![name.to_string(), time(moment.created)];
            cells.extend(state(&moment).map(str::to_owned));
            if invocation.has("parent") {
                cells.push(parent(name).map_or(String::new(), ToString::to_string));
            }
            table.row(cells);
        }
    }
    session.print_table(&table);
    Ok(0)
}

/// Adds the document of some moments of a domain. `backups` has a word for what became of the newest backup of each.
pub fn document<'a>(
    session: &mut Session,
    domain: &Domain,
    kind: MomentKind,
    names: impl IntoIterator<Item = &'a MomentName>,
    backups: &HashMap<MomentId, &'static str>,
) {
    let view = session.connection.view();
    if let Some(domain) = view.state().domain(domain.uuid()) {
        session.document(&MomentsDoc::of(domain, kind, names, backups));
    }
}

/// How a document names a moment.
pub fn doc(session: &Session, domain: &Domain, kind: MomentKind, name: &str) -> Option<MomentDoc> {
    let view = session.connection.view();
    let domain = view.state().domain(domain.uuid())?;
    let id = match kind {
        MomentKind::Snapshot => domain.snapshots().find(name)?.id,
        MomentKind::Checkpoint => domain.checkpoints().find(name)?.id,
    };
    Some(MomentDoc::new(id, name))
}

/// The document of a moment's XML, or of what would make one that has no name yet.
pub fn xml_doc(
    session: &Session,
    domain: &Domain,
    kind: MomentKind,
    name: Option<&str>,
    xml: &str,
) -> TextDoc {
    let moment = name.and_then(|name| doc(session, domain, kind, name));
    let about = super::domain_doc(domain);
    TextDoc::of("xml", xml)
        .of_domain(about)
        .of_kind(kind.as_str(), moment)
}

/// Counts children and everything below, as the info verbs show them.
pub fn counts<D>(list: &momentlog::core::MomentList<D>, name: &MomentName) -> (usize, usize) {
    match list.find(name.as_str()) {
        Some(moment) => (
            list.child_count(Some(moment.id)),
            list.walk(Scope::DescendantsOf(moment.id)).count(),
        ),
        None => (0, 0),
    }
}

/// Answers a verb that created a moment.
pub fn say_created(
    session: &mut Session,
    kind: &str,
    name: &MomentName,
    file: Option<&str>,
) -> Answer {
    let from = file.map_or(String::new(), |file| format!(" from '{file}'"));
    session.say(&format!("Domain {kind} {name} created{from}"));
    Ok(0)
}

/// Splits a specification at commas; two commas are one that counts as text.
pub fn split_spec(spec: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = spec.chars().peekable();
    while let Some(char) = chars.next() {
        if char == ',' && chars.peek() != Some(&',') {
            parts.push(String::new());
            continue;
        }
        if char == ',' {
            chars.next();
        }
        parts.last_mut().expect("there is a part").push(char);
    }
    parts
}

/// Reads `NAME[,KEY=VALUE]…`, each key at most once; `None` if there is anything else.
pub fn parse_spec<'a>(
    parts: &'a [String],
    keys: &[&'static str],
) -> Option<HashMap<&'static str, &'a str>> {
    let mut values = HashMap::new();
    for part in parts {
        let (key, value) = part.split_once('=')?;
        let key = *keys.iter().find(|known| **known == key)?;
        if values.insert(key, value).is_some() {
            return None;
        }
    }
    Some(values)
}

/// Escapes a text for XML that a verb puts together.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            char => out.push(char),
        }
    }
    out
}

/// Writes a file; one that holds secrets is the owner's alone, also if it was there before.
pub fn write_file(path: &Path, text: &str, secret: bool) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(!secret);
    if !secret {
        return options.open(path)?.write_all(text.as_bytes());
    }
    let mut file = options.mode(0o600).open(path)?;
    // A terminal or a pipe keeps its mode.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())
}

/// Prints XML, or writes it into the file that `--output` names: momentlog's own addition, for scripts without a shell.
pub fn put_xml(
    session: &mut Session,
    invocation: &Invocation,
    xml: &str,
    document: TextDoc,
) -> Answer {
    match invocation.get("output") {
        None => {
            session.print(xml);
            session.document(&document);
        }
        Some(file) => {
            let written = write_file(Path::new(file), xml, invocation.has("security-info"));
            written.map_err(|error| {
                let why = reason(&error);
                Failure::new(format!("Failed to write file '{file}': {why}")).in_file(file)
            })?;
            session.say(&format!("XML written to '{file}'\n"));
            session.document(&document.in_file(file));
        }
    }
    Ok(0)
}
