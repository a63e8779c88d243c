//! The verb `graph`: a picture of a domain's moments.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use momentlog::Connection;
use momentlog::core::{DomainUuid, MomentKind};
use momentlog_audit::graph::{Graph, Subject};
use momentlog_audit::json::{DomainDoc, TextDoc};

use super::why::{domains_called, kind_of, steps_of};
use super::{Verb, exclusive, the_domain};
use crate::failure::{Answer, Failure, reason};
use crate::grammar::{ARCHIVE, Invocation, Spec, needed, only_named};
use crate::layout::escaped;
use crate::session::Session;
use crate::time::archive;

/// The verb.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "graph",
        "draw a domain's snapshots or checkpoints: a page with a slider over its records, or one state",
        &[
            needed("domain", "domain name, id or uuid; it may be gone"),
            only_named(
                "kind",
                "snapshot or checkpoint; by default the one that the domain has or had",
            ),
            only_named(
                "html",
                "file to write the page to, replaced if it is there; - is standard output",
            ),
            only_named(
                "svg",
                "file to write the last state to, replaced if it is there; - is standard output",
            ),
            ARCHIVE,
        ],
    ),
    run: graph,
}];

pub fn graph(session: &mut Session, invocation: &Invocation) -> Answer {
    exclusive(invocation, "html", "svg")?;
    let kind = kind_of(invocation)?;
    let (language, path) = match (invocation.get("html"), invocation.get("svg")) {
        (Some(path), _) => ("html", path),
        (_, Some(path)) => ("svg", path),
        (None, None) => {
            return Err(Failure::new(
                "command 'graph' requires --html FILE or --svg FILE",
            ));
        }
    };
    let graph = drawn(session, invocation, kind)?;
    let text = match language {
        "html" => graph.html(),
        _ => graph.svg(),
    };
    let subject = graph.subject();
    let view = session.connection.view();
    let name = view
        .state()
        .domain(subject.domain)
        .map(|domain| &**domain.name());
    let document = TextDoc::of(language, &text)
        .of_domain(DomainDoc::of(subject.domain, name))
        .of_kind(subject.kind.as_str(), None);
    if path == "-" {
        session.print(&text);
        session.document(&document);
        return Ok(0);
    }
    write(Path::new(path), &text).map_err(|error| {
        let (path, why) = (escaped(path), reason(&error));
        Failure::new(format!("Failed to write file '{path}': {why}")).in_file(path)
    })?;
    session.say(&format!("Picture written to {}\n", escaped(path)));
    session.document(&document.in_file(path));
    Ok(0)
}

/// Reads the domain's history.
fn drawn(
    session: &Session,
    invocation: &Invocation,
    kind: Option<MomentKind>,
) -> Result<Graph, Failure> {
    let mut connections = vec![session.connection.clone()];
    if let Some(directory) = invocation.get("archive") {
        connections.insert(0, archive(directory)?);
    }
    let domain = match the_domain(session, invocation) {
        Ok(domain) => domain.uuid(),
        // One that is gone is found in the history; of several the newest.
        Err(_) => *domains_called(&connections, invocation.need("domain"))?
            .last()
            .expect("at least one domain has that name"),
    };
    if let Some(kind) = kind {
        return graph_of(&connections, domain, kind);
    }
    let checkpoints = graph_of(&connections, domain, MomentKind::Checkpoint)?;
    let snapshots = graph_of(&connections, domain, MomentKind::Snapshot)?;
    match (checkpoints.moments(), snapshots.moments()) {
        (_, 0) => Ok(checkpoints),
        (0, _) => Ok(snapshots),
        _ => Err(Failure::new(
            "the domain has or had checkpoints and snapshots: choose with --kind",
        )),
    }
}

fn graph_of(
    connections: &[Connection],
    domain: DomainUuid,
    kind: MomentKind,
) -> Result<Graph, Failure> {
    let newest = connections.last().expect("the store's own is there");
    let log = newest.log_id();
    let log = log.ok_or_else(|| Failure::new("the log has no record"))?;
    let subject = Subject { log, domain, kind };
    let steps = steps_of(connections, domain)?;
    Ok(Graph::of(subject, steps, &newest.view())?)
}

/// Writes a file as a whole or not at all. What is no regular file, such as a pipe, is written to.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return File::options()
                .write(true)
                .open(path)?
                .write_all(text.as_bytes());
        }
        _ => {}
    }
    // The file that a link leads to is replaced, and not the link.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let beside = beside(&path);
    let written = File::create_new(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// A name of this process's own in the same directory.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}
