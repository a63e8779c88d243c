//! The verbs that put back what a deletion took.

use momentlog::core::{
    Change, CheckpointDef, DiskLocation, DiskTracking, DomainDef, Event, Memory, MomentChange,
    MomentKind, MomentName, SnapshotDef,
};
use momentlog::store::Seq;
use momentlog::{Connection, Domain, Undeletion};
use momentlog_audit::{Fate, MomentRef, lives};

use super::why::{first_step, steps_of};
use super::{Verb, the_domain};
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, OptionSpec, Spec, needed, only_named};
use crate::layout::escaped;
use crate::lines;
use crate::outcome;
use crate::session::Session;
use crate::time::{archive, is_archived};

const DOMAIN: OptionSpec = needed("domain", "domain name, id or uuid");
const RECORD: OptionSpec = only_named(
    "record",
    "number of the record that deleted it; by default the newest one that did",
);
const ARCHIVE: OptionSpec = only_named(
    "archive",
    "directory of archived records, for a deletion that lies there",
);
const AS: OptionSpec = only_named(
    "as",
    "another name for what comes back, if that is one moment",
);

/// What is said where records were archived.
const ASK_ARCHIVE: &str = "name the directory of the archive with --archive DIR";

/// The verbs.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "checkpoint-undelete",
            "put back a deleted checkpoint, with what was deleted together with it",
            &[
                DOMAIN,
                needed("checkpointname", "checkpoint name"),
                RECORD,
                AS,
                ARCHIVE,
            ],
        )
        .changing(),
        run: undelete,
    },
    Verb {
        spec: Spec::new(
            "snapshot-undelete",
            "put back a deleted snapshot, with what was deleted together with it",
            &[
                DOMAIN,
                needed("snapshotname", "snapshot name"),
                RECORD,
                AS,
                ARCHIVE,
            ],
        )
        .changing(),
        run: undelete,
    },
];

pub fn undelete(session: &mut Session, invocation: &Invocation) -> Answer {
    let (kind, option) = if invocation.verb.takes("checkpointname") {
        (MomentKind::Checkpoint, "checkpointname")
    } else {
        (MomentKind::Snapshot, "snapshotname")
    };
    let domain = the_domain(session, invocation)?;
    let name = invocation.need(option);
    let archive = invocation.get("archive").map(archive).transpose()?;
    let record =
        match invocation.get("record") {
            None => deleted_by(&domain, archive.as_ref(), kind, name)?,
            Some(text) => text.parse().ok().and_then(Seq::new).ok_or_else(|| {
                Failure::new(format!("'{}' is no number of a record", escaped(text)))
            })?,
        };
    let rename =
        match invocation.get("as") {
            None => None,
            Some(text) => Some(MomentName::new(text).ok_or_else(|| {
                Failure::new(format!("'{}' is no name of a {kind}", escaped(text)))
            })?),
        };
    let undeletion = match &archive {
        None => domain.undelete(record, rename.as_ref()),
        Some(archive) => domain.undelete_archived(archive, record, rename.as_ref()),
    };
    let undeletion = undeletion.map_err(|error| {
        let archived = is_archived(&error);
        let failure = Failure::from(error);
        if archived {
            failure.and(ASK_ARCHIVE)
        } else {
            failure
        }
    })?;
    session.say(&laid_out(record, &undeletion));
    let outcomes = std::slice::from_ref(&undeletion.outcome);
    let outcome = outcome::document(&session.connection, outcomes);
    session.document(&outcome.with_stayed(&undeletion.stayed));
    Ok(0)
}

/// The newest record that deleted a moment of this name.
fn deleted_by(
    domain: &Domain,
    archive: Option<&Connection>,
    kind: MomentKind,
    name: &str,
) -> Result<Seq, Failure> {
    let mut connections: Vec<Connection> = archive.cloned().into_iter().collect();
    connections.push(domain.connection().clone());
    let begin = first_step(&connections[0])?;
    let steps = steps_of(&connections, domain.uuid())?;
    let wanted = MomentRef::Name(name.into());
    let found = lives(begin.as_ref(), steps, domain.uuid(), Some(kind), &wanted)?;
    let deleted = found.iter().filter_map(|life| match life.fate {
        Fate::Gone { by, .. } => Some(by),
        Fate::Alive { .. } => None,
    });
    deleted.max().ok_or_else(|| {
        let (name, domain) = (escaped(name), escaped(domain.name()));
        let is_archived = begin.is_some_and(|begin| begin.entry.bridge.is_some());
        if is_archived {
            let why =
                format!("no record that is here deleted a {kind} '{name}' of domain '{domain}'");
            Failure::new(why).and(ASK_ARCHIVE)
        } else {
            Failure::new(format!(
                "no record deleted a {kind} '{name}' of domain '{domain}'"
            ))
        }
    })
}

/// Says what came back, what did not, and what must be there for it to be of use.
fn laid_out(record: Seq, undeletion: &Undeletion) -> String {
    let width = lines::width();
    let mut text = String::new();
    let seq = undeletion.outcome.seq;
    let head = format!("Deletion in record {record} taken back by record {seq}");
    lines::push_hanging(&mut text, 0, &head, width);
    for (name, below) in &undeletion.elsewhere {
        let name = escaped(name.as_str());
        let place = match below {
            Some(below) => format!("below {}", escaped(below.as_str())),
            None => "as a root".to_owned(),
        };
        let line = format!("{name} hangs {place}: its parent of then is gone");
        lines::push_hanging(&mut text, 2, &line, width);
    }
    for id in &undeletion.stayed {
        let line = format!("#{id} stays where it is: it was moved since");
        lines::push_hanging(&mut text, 2, &line, width);
    }
    text + &needs_of(&undeletion.outcome.events, width)
}

/// Says what must be there for moments to be of use: bitmaps, overlays and files of memory.
pub fn needs_of<'a>(events: impl IntoIterator<Item = &'a Event>, width: usize) -> String {
    let needs = needs(events);
    if needs.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    let head = "It brings back a record, not data. To be of use, these must still exist:";
    lines::push_hanging(&mut text, 0, head, width);
    for need in needs {
        lines::push_hanging(&mut text, 2, &need, width);
    }
    text
}

fn needs<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    let mut needs = Vec::new();
    for event in events {
        match &event.change {
            Change::Checkpoint(MomentChange::Created { name, def, .. }) => {
                of_checkpoint(&mut needs, name, def);
            }
            Change::Snapshot(MomentChange::Created { def, .. }) => of_snapshot(&mut needs, def),
            _ => {}
        }
    }
    needs
}

fn of_checkpoint(needs: &mut Vec<String>, name: &MomentName, def: &CheckpointDef) {
    for disk in &def.disks {
        let bitmap = match &disk.tracking {
            DiskTracking::No => continue,
            DiskTracking::Bitmap(None) => name.as_str(),
            DiskTracking::Bitmap(Some(bitmap)) => bitmap,
        };
        let source = source(def.domain.as_deref(), &disk.name);
        let (bitmap, disk) = (escaped(bitmap), escaped(&disk.name));
        needs.push(format!("bitmap {bitmap} on {disk}{source}"));
    }
}

fn of_snapshot(needs: &mut Vec<String>, def: &SnapshotDef) {
    if let Memory::External(file) = &def.memory {
        needs.push(format!("memory  {}", escaped(file)));
    }
    for disk in &def.disks {
        let name = escaped(&disk.name);
        match (disk.location, &disk.source) {
            (Some(DiskLocation::Internal), _) => {
                let source = source(def.domain.as_deref(), &disk.name);
                needs.push(format!("snapshot inside {name}{source}"));
            }
            (Some(DiskLocation::External), Some(source)) => {
                needs.push(format!("overlay of {name}  {}", escaped(source)));
            }
            _ => {}
        }
    }
}

/// What a disk of a domain is kept in.
fn source(domain: Option<&DomainDef>, disk: &str) -> String {
    let disks = domain.map_or(&[][..], |domain| &domain.disks);
    let found = disks.iter().find(|found| &*found.target == disk);
    let source = found.and_then(|found| found.source.as_deref());
    source.map_or_else(String::new, |source| format!("  {}", escaped(source)))
}
