//! What the verbs of both kinds of moment share.

use std::collections::HashMap;
use std::io::Write as _;

use momentlog::core::{MomentList, MomentName, Scope};

use crate::grammar::{Answer, Invocation};
use crate::layout::{Table, time, tree};
use crate::session::{Failure, Session};

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

/// Shows moments as the list verbs do: as a tree, as names, or as a table. `header` names the columns of the kind, and
/// `state` gives a moment's state, where the kind has one.
pub fn show<D>(
    session: &mut Session,
    invocation: &Invocation,
    list: &MomentList<D>,
    mut names: Vec<MomentName>,
    header: &[&'static str],
    state: impl Fn(&D) -> Option<&'static str>,
) -> Answer {
    if !invocation.has("topological") {
        names.sort_by_key(|name| name.as_str().to_ascii_lowercase());
    }
    let moment = |name: &MomentName| list.find(Some(name.as_str()));
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
            cells.extend(state(moment.def).map(str::to_owned));
            if invocation.has("parent") {
                cells.push(parent(name).map_or(String::new(), ToString::to_string));
            }
            table.row(cells);
        }
    }
    let text = table.render(session.quiet);
    session.print(&text);
    Ok(0)
}

/// Counts children and everything below, as the info verbs show them.
pub fn counts<D>(list: &momentlog::core::MomentList<D>, name: &MomentName) -> (usize, usize) {
    match list.find(Some(name.as_str())) {
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

/// Prints XML, or writes it into the file that `--output` names: momentlog's own addition, for scripts without a shell.
pub fn put_xml(session: &mut Session, invocation: &Invocation, xml: &str) -> Answer {
    match invocation.get("output") {
        None => session.print(xml),
        Some(file) => {
            let written = std::fs::write(file, xml);
            written.map_err(|error| {
                Failure::new(format!(
                    "Failed to write file '{file}': {}",
                    crate::session::reason(&error)
                ))
            })?;
            session.say(&format!("XML written to '{file}'\n"));
        }
    }
    Ok(0)
}

/// Lets the user change a text in an editor: `VISUAL`, `EDITOR` or `vi`.
pub fn edit(text: &str) -> Result<String, Failure> {
    let cannot = |what: &str, error: &std::io::Error| {
        Failure::new(format!("{what}: {}", crate::session::reason(error)))
    };
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let path = std::env::temp_dir().join(format!("momentlog-{}.xml", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    let written = options
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| cannot("cannot write a temporary file", &error))?;
    let edited = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(&path)
        .status();
    let changed = std::fs::read_to_string(&path);
    let _ = std::fs::remove_file(&path);
    match edited {
        Ok(status) if status.success() => {
            changed.map_err(|error| cannot("cannot read the edited file", &error))
        }
        Ok(status) => Err(Failure::new(format!(
            "{editor}: the editor failed with {status}"
        ))),
        Err(error) => Err(cannot(&format!("cannot run '{editor}'"), &error)),
    }
}
