//! Putting back a folder of saved moments.

use std::io::Read as _;
use std::path::Path;

use momentlog::core::MomentName;
use momentlog::store::{Digest, Seq};
use momentlog::xml::XML_MOMENT_LEN_MAX;
use momentlog::{Domain, Fate, OnMissingParent, Restoration, RestoredMoment, Saved};
use momentlog_audit::json::DomainDoc;
use serde::Serialize;

use super::{Verb, domain_doc, exclusive, not_utf8, the_domain};
use crate::failure::{Answer, Failure, reason};
use crate::grammar::{Invocation, Spec, flag, needed};
use crate::layout::{Table, escaped};
use crate::session::{Format, Session};

/// The verbs of a folder of moments.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "moments-restore",
        "put back the snapshots and checkpoints whose XML files are in a \
                 folder, all of them or none",
        &[
            needed("domain", "domain name, id or uuid"),
            needed("dir", "folder of XML files, one for each moment"),
            flag("reroot", "a moment whose parent is missing becomes a root"),
            flag(
                "truncate",
                "leave out moments whose parent is missing, and what is below them",
            ),
        ],
    )
    .changing(),
    run: restore,
}];

/// Most files of one folder.
const FILES_MAX: usize = 1 << 16;

/// Most bytes of all files together: more does not go into one record.
const FOLDER_LEN_MAX: usize = 64 << 20;

pub fn restore(session: &mut Session, invocation: &Invocation) -> Answer {
    exclusive(invocation, "reroot", "truncate")?;
    let on_missing = match (invocation.has("reroot"), invocation.has("truncate")) {
        (true, _) => OnMissingParent::Reroot,
        (_, true) => OnMissingParent::Truncate,
        _ => OnMissingParent::Refuse,
    };
    let domain = the_domain(session, invocation)?;
    let dir = Path::new(invocation.need("dir"));
    let saved = read_folder(dir)?;
    let restored = domain
        .restore_moments(&saved, on_missing)
        .map_err(|error| {
            let file = file_of(&error, dir, &saved);
            let failure = Failure::under("Failed to restore moments")(error);
            match file {
                Some(file) => failure.in_file(file),
                None => failure,
            }
        })?;
    match session.format {
        Format::Json => {
            let digest = match restored.seq {
                Some(seq) => session
                    .connection
                    .entry(seq)?
                    .map(|entry| entry.head.digest),
                None => None,
            };
            session.document(&RestoreDoc::of(&domain, &restored, digest));
        }
        Format::Text => {
            let mut table = Table::new(&["File", "Kind", "Name", "What"]);
            for moment in &restored.moments {
                table.row(vec![
                    // It was escaped where it was read.
                    moment.label.to_string(),
                    moment.kind.to_string(),
                    escaped(moment.name.as_str()),
                    escaped(&told(moment, restored.seq.is_some())),
                ]);
            }
            session.print_table(&table);
            let left_out = count(&restored, |fate| matches!(fate, Fate::LeftOut { .. }));
            let rerooted = count(&restored, |fate| matches!(fate, Fate::Rerooted { .. }));
            let there = restored.moments.len() - left_out;
            let name = escaped(domain.name());
            session.say(&match restored.seq {
                Some(_) => format!(
                    "\n{there} moments of domain '{name}' restored, {rerooted} of them re-rooted; {left_out} left out\n"
                ),
                None => format!(
                    "\nNothing changed: {there} moments of domain '{name}' are there as saved; {left_out} left out\n"
                ),
            });
        }
    }
    Ok(0)
}

/// The file whose label an error begins with, if it is called as its label.
fn file_of(error: &momentlog::Error, dir: &Path, saved: &[Saved]) -> Option<String> {
    let is_named = |saved: &&Saved| {
        let rest = error.message().strip_prefix(&*saved.label);
        rest.is_some_and(|rest| rest.starts_with(": "))
    };
    let label = &saved.iter().find(is_named)?.label;
    let path = dir.join(&**label);
    path.exists().then(|| path.display().to_string())
}

fn count(restored: &Restoration, is: impl Fn(&Fate) -> bool) -> usize {
    let moments = restored.moments.iter();
    moments.filter(|moment| is(&moment.fate)).count()
}

/// Says in a few words what became of a moment.
fn told(moment: &RestoredMoment, is_change: bool) -> String {
    let done = if !is_change {
        "unchanged"
    } else if moment.redefined {
        "redefined"
    } else {
        "restored"
    };
    match (&moment.fate, &moment.parent) {
        (Fate::Restored, Some(parent)) => format!("{done} below {parent}"),
        (Fate::Restored, None) => format!("{done} as a root"),
        (Fate::Rerooted { missing }, _) => format!("{done} as a root, as {missing} is missing"),
        (Fate::LeftOut { missing }, _) => format!("left out, as {missing} is missing"),
    }
}

/// What became of saved moments, for programs.
#[derive(Debug, Serialize)]
struct RestoreDoc<'a> {
    schema: &'static str,
    domain: DomainDoc,
    /// The record; none if all was there.
    seq: Option<u64>,
    digest: Option<String>,
    repeated: bool,
    moments: Vec<RestoredDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct RestoredDoc<'a> {
    file: &'a str,
    kind: &'static str,
    name: &'a str,
    parent: Option<&'a str>,
    /// `restored`, `rerooted` or `left-out`.
    what: &'static str,
    redefined: bool,
    missing: Option<&'a str>,
}

impl<'a> RestoreDoc<'a> {
    fn of(domain: &Domain, restored: &'a Restoration, digest: Option<Digest>) -> RestoreDoc<'a> {
        let moments = restored.moments.iter().map(|moment| {
            let (what, missing) = match &moment.fate {
                Fate::Restored => ("restored", None),
                Fate::Rerooted { missing } => ("rerooted", Some(missing.as_str())),
                Fate::LeftOut { missing } => ("left-out", Some(missing.as_str())),
            };
            RestoredDoc {
                file: &moment.label,
                kind: moment.kind.as_str(),
                name: moment.name.as_str(),
                parent: moment.parent.as_ref().map(MomentName::as_str),
                what,
                redefined: moment.redefined,
                missing,
            }
        });
        RestoreDoc {
            schema: "momentlog.restore/1",
            domain: domain_doc(domain),
            seq: restored.seq.map(Seq::get),
            digest: digest.map(|digest| digest.to_string()),
            repeated: restored.repeated,
            moments: moments.collect(),
        }
    }
}

/// Reads all files of a folder, by name.
fn read_folder(dir: &Path) -> Result<Vec<Saved>, Failure> {
    let shown = escaped(&dir.display().to_string());
    let cannot = |error: std::io::Error| {
        let why = reason(&error);
        Failure::new(format!("Failed to read directory '{shown}': {why}"))
            .in_file(dir.display().to_string())
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(cannot)? {
        if paths.len() == FILES_MAX {
            let why = format!("it has more than {FILES_MAX} files");
            return Err(Failure::new(format!(
                "Failed to read directory '{shown}': {why}"
            )));
        }
        paths.push(entry.map_err(cannot)?.path());
    }
    if paths.is_empty() {
        return Err(Failure::new(format!("there is no file in '{shown}'")));
    }
    paths.sort();
    let mut saved = Vec::with_capacity(paths.len());
    let mut left = FOLDER_LEN_MAX;
    for path in paths {
        let file = read_saved(&path)?;
        let all = || {
            let most = FOLDER_LEN_MAX >> 20;
            let why = format!("with it, '{shown}' holds more than {most} MiB");
            Failure::new(format!("{}: {why}", file.label))
        };
        left = left.checked_sub(file.xml.len()).ok_or_else(all)?;
        saved.push(file);
    }
    Ok(saved)
}

fn read_saved(path: &Path) -> Result<Saved, Failure> {
    let name = path.file_name().unwrap_or_default();
    let label = escaped(&name.to_string_lossy());
    let fault =
        |why: &str| Failure::new(format!("{label}: {why}")).in_file(path.display().to_string());
    let failed = |error: std::io::Error| fault(&format!("it cannot be read: {}", reason(&error)));
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(fault("it is no regular file"));
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let most = XML_MOMENT_LEN_MAX as u64;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > XML_MOMENT_LEN_MAX {
        return Err(fault(&format!("it has more than {} MiB", most >> 20)));
    }
    let xml = String::from_utf8(bytes).map_err(|error| fault(&not_utf8(&error)))?;
    Ok(Saved {
        label: label.into(),
        xml,
    })
}
