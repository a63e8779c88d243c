//! The verb `stat`: how much a log holds, and who wrote it.

use std::collections::BTreeMap;

use momentlog::core::{Domain, MomentId, MomentList, Scope};
use momentlog::store::Seq;
use momentlog::{View, store_directory};
use momentlog_audit::json::StatDoc;
use momentlog_audit::{RecordKind, Teller, Told};

use super::Verb;
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec};
use crate::interrupt;
use crate::layout::{escaped, info as line};
use crate::place;
use crate::session::Session;
use crate::time::{is_archived, recorded};

/// The verb.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "stat",
        "show how much the log holds: records by actor and by kind, moments, files",
        &[],
    ),
    run: stat,
}];

pub fn stat(session: &mut Session, _: &Invocation) -> Answer {
    let connection = session.connection.clone();
    let mut found = StatDoc::new();
    let last = count_records(
        &mut found,
        connection.history(None)?.watched(Teller::default()),
    )?;
    let last = last.ok_or_else(|| Failure::new("the log has no record yet"))?;
    count_moments(&mut found, &connection.view_at(last)?);
    count_files(&mut found, session)?;
    found.server = place::server(&session.uri)?;
    session.print(&laid_out(&found));
    session.document(&found);
    Ok(0)
}

/// Counts the records, and returns the last one.
fn count_records(
    found: &mut StatDoc,
    records: impl Iterator<Item = momentlog::Result<Told>>,
) -> Result<Option<Seq>, Failure> {
    let mut last = None;
    for told in interrupt::watched(records) {
        let told = match told {
            Err(error) if is_archived(&error) => continue,
            told => told?,
        };
        found.records += 1;
        found.first.get_or_insert(told.entry.recorded);
        found.last = Some(told.entry.recorded);
        match found.actors.get_mut(&*told.entry.actor) {
            Some(count) => *count += 1,
            None => drop(found.actors.insert(told.entry.actor.to_string(), 1)),
        }
        for (kind, word) in RecordKind::ALL {
            if told
                .consequences
                .iter()
                .any(|consequence| kind.is(consequence))
            {
                *found.kinds.entry(word).or_default() += 1;
            }
        }
        last = Some(told.seq());
    }
    Ok(last)
}

fn count_moments(found: &mut StatDoc, view: &View) {
    let state = view.state();
    found.moments_ever = state.next_moment().map_or(u64::MAX, MomentId::get) - 1;
    for domain in state.domains() {
        found.domains += 1;
        found.snapshots += domain.snapshots().len() as u64;
        found.checkpoints += domain.checkpoints().len() as u64;
        found.holds += domain.holds().len() as u64;
        found.deepest = found.deepest.max(deepest_of(domain));
    }
}

/// Moments of the longest way from a root to a leaf.
fn deepest_of(domain: &Domain) -> u64 {
    fn deepest<D>(list: &MomentList<D>) -> u64 {
        // Parents come before their children.
        let mut depths: BTreeMap<MomentId, u64> = BTreeMap::new();
        for moment in list.walk(Scope::All) {
            let above = list
                .parent(moment.id)
                .and_then(|parent| depths.get(&parent.id));
            let depth = above.copied().unwrap_or(0) + 1;
            depths.insert(moment.id, depth);
        }
        depths.into_values().max().unwrap_or(0)
    }
    deepest(domain.snapshots()).max(deepest(domain.checkpoints()))
}

/// Counts the files of a store in a directory.
fn count_files(found: &mut StatDoc, session: &Session) -> Result<(), Failure> {
    if place::is_database(&session.uri) {
        return Ok(());
    }
    let Some(directory) = store_directory(&session.uri)? else {
        return Ok(());
    };
    let unreadable = |error: &std::io::Error| {
        let why = crate::failure::reason(error);
        Failure::new(format!("cannot read '{}': {why}", directory.display()))
    };
    for entry in std::fs::read_dir(&directory).map_err(|error| unreadable(&error))? {
        let entry = entry.map_err(|error| unreadable(&error))?;
        let length = entry.metadata().map_or(0, |metadata| metadata.len());
        let name = entry.file_name();
        let name = name.to_string_lossy();
        found.bytes += length;
        found.segments += u64::from(name.ends_with(".seg"));
        found.images += u64::from(name.ends_with(".img"));
        found.archived |= name == "start";
    }
    Ok(())
}

fn laid_out(found: &StatDoc) -> String {
    let mut text = line("Records", found.records);
    if found.archived {
        text += &line("Archived", "records before the first one here");
    }
    for (label, time) in [("First", found.first), ("Last", found.last)] {
        text += &line(label, time.map_or_else(|| "-".to_owned(), recorded));
    }
    if found.bytes > 0 {
        let (segments, images) = (found.segments, found.images);
        let files = format!(
            "{} bytes, {segments} segments, {images} images",
            found.bytes
        );
        text += &line("Files", files);
    }
    if let Some(server) = &found.server {
        text += &place::of_server(server);
    }
    let (snapshots, checkpoints) = (found.snapshots, found.checkpoints);
    text += &line("Domains", found.domains);
    let moments = format!(
        "{snapshots} snapshots, {checkpoints} checkpoints, {} ever",
        found.moments_ever
    );
    text += &line("Moments", moments);
    text += &line(
        "Deepest",
        format!("{} moments from a root to a leaf", found.deepest),
    );
    text += &line("Holds", found.holds);
    text += "\nRecords by actor\n";
    let mut actors: Vec<(&String, &u64)> = found.actors.iter().collect();
    actors.sort_by(|one, other| (other.1, one.0).cmp(&(one.1, other.0)));
    for (actor, count) in actors {
        text += &format!(" {count:>8}  {}\n", escaped(actor));
    }
    text += "\nRecords by kind\n";
    for (kind, count) in &found.kinds {
        text += &format!(" {count:>8}  {kind}\n");
    }
    text
}
