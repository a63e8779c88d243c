//! The verb `log`: who did what, when and why.

use std::collections::{BTreeMap, HashMap};

use momentlog::core::{Change, DomainUuid, Event, MomentChange, MomentId, MomentName, Scope};
use momentlog::store::{Seq, StoreError};
use momentlog::{Entry, View};
use serde_json::json;

use super::Verb;
use super::told::{told, told_removal};
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec, word};
use crate::layout::{GrowingTable, escaped};
use crate::session::{Format, Session};

/// The verbs of the history.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "log",
        "show who did what, when and why",
        &[
            word(
                "domain",
                "only records about this domain: its name, id or uuid",
            ),
            word("from", "only records from this number on"),
            word("limit", "only the newest records, this many of them"),
        ],
    )
    .with_json(),
    run: log,
}];

pub fn log(session: &mut Session, invocation: &Invocation) -> Answer {
    let number = |option: &str| {
        let text = invocation.get(option);
        let invalid =
            |text: &str| Failure::new(format!("'{}' in --{option} is not a number", escaped(text)));
        text.map(|text| text.parse::<u64>().map_err(|_| invalid(text)))
            .transpose()
    };
    let wanted = Wanted {
        domain: invocation.get("domain"),
        after: number("from")?.and_then(|from| Seq::new(from.saturating_sub(1))),
    };
    // The newest entries are known once the log ends: reading it twice takes no memory.
    let (skipped, shown) = match number("limit")? {
        None => (0, u64::MAX),
        Some(limit) => {
            let mut count: u64 = 0;
            let connection = session.connection.clone();
            // Damage is an error of the second reading, behind what comes before it.
            let _ = walk(&connection, &wanted, &mut |_| count += 1);
            (count.saturating_sub(limit), limit)
        }
    };
    let mut printed = Printed::new(session);
    let mut place: u64 = 0;
    let connection = printed.session.connection.clone();
    let known = walk(&connection, &wanted, &mut |row| {
        place += 1;
        if place > skipped && place - skipped <= shown {
            printed.row(row);
        }
    });
    if let (Some(domain), Ok(Some(known))) = (wanted.domain, &known) {
        return Err(no_domain(domain, known));
    }
    printed.finish();
    known?;
    Ok(0)
}

/// Which entries are asked for.
struct Wanted<'a> {
    /// The name or uuid of a domain.
    domain: Option<&'a str>,
    after: Option<Seq>,
}

/// One entry, with what it is called.
struct Row<'a> {
    entry: &'a Entry,
    domain: Option<&'a str>,
    names: &'a HashMap<MomentId, MomentName>,
}

/// Reads the log and gives out the entries that are asked for. Returns the names of all domains, if the domain that is
/// asked for is none of them.
fn walk(
    connection: &momentlog::Connection,
    wanted: &Wanted,
    each: &mut dyn FnMut(&Row),
) -> Result<Option<Vec<String>>, Failure> {
    let mut domains: HashMap<DomainUuid, String> = HashMap::new();
    let mut names: HashMap<MomentId, MomentName> = HashMap::new();
    let mut found = wanted.domain.is_none();
    let mut entries = connection.history(None)?.entries();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            // It goes on with the bridge, which says what was moved.
            Err(error) if matches!(error.store(), Some(StoreError::Archived { .. })) => continue,
            entry => entry?,
        };
        learn(&mut domains, &mut names, &entry, entries.view());
        let domain = entry.domain.and_then(|uuid| domains.get(&uuid));
        let about = wanted.domain.is_none_or(|wanted| {
            domain.is_some_and(|domain| domain == wanted)
                || entry.domain.is_some_and(|uuid| uuid.to_string() == wanted)
        });
        found |= about;
        if about && Some(entry.head.seq) > wanted.after {
            each(&Row {
                entry: &entry,
                domain: domain.map(String::as_str),
                names: &names,
            });
        }
        forget(&mut names, &entry);
    }
    Ok((!found).then(|| domains.into_values().collect()))
}

/// Learns what an entry names.
fn learn(
    domains: &mut HashMap<DomainUuid, String>,
    names: &mut HashMap<MomentId, MomentName>,
    entry: &Entry,
    view: &View,
) {
    if entry.bridge.is_some() {
        // What was made before is named by what is left of it.
        for domain in view.state().domains() {
            domains.insert(domain.uuid(), domain.name().to_string());
            let snapshots = domain.snapshots().walk(Scope::All);
            names.extend(snapshots.map(|moment| (moment.id, moment.name.clone())));
            let checkpoints = domain.checkpoints().walk(Scope::All);
            names.extend(checkpoints.map(|moment| (moment.id, moment.name.clone())));
        }
    }
    for event in &entry.events {
        if let Change::DomainDefined { def, .. } = &event.change {
            domains.insert(def.uuid, def.name.to_string());
        }
        if let Change::Snapshot(MomentChange::Created { id, name, .. })
        | Change::Checkpoint(MomentChange::Created { id, name, .. }) = &event.change
        {
            names.insert(*id, name.clone());
        }
    }
}

/// Forgets the names of what an entry removed: no later entry is about it.
fn forget(names: &mut HashMap<MomentId, MomentName>, entry: &Entry) {
    for (_, id) in gone(entry) {
        names.remove(&id);
    }
}

/// A kind of moments, as the log names it.
pub const SNAPSHOT: &str = "snapshot";
/// The other kind.
pub const CHECKPOINT: &str = "checkpoint";

/// The moments that an entry removed, with their kinds: those that were deleted, and those that went with their domain.
fn gone(entry: &Entry) -> impl Iterator<Item = (&'static str, MomentId)> {
    let deleted = |event: &Event| match &event.change {
        Change::Snapshot(MomentChange::Deleted { removed, .. }) => {
            Some((SNAPSHOT, removed.clone()))
        }
        Change::Checkpoint(MomentChange::Deleted { removed, .. }) => {
            Some((CHECKPOINT, removed.clone()))
        }
        _ => None,
    };
    let deleted = entry.events.iter().filter_map(deleted);
    let deleted = deleted
        .flat_map(|(kind, removed)| removed.ids().map(move |id| (kind, id)).collect::<Vec<_>>());
    let with_domain = entry.removed.iter().flat_map(|domain| {
        let snapshots = domain.snapshots().walk(Scope::All);
        let checkpoints = domain.checkpoints().walk(Scope::All);
        snapshots
            .map(|moment| (SNAPSHOT, moment.id))
            .chain(checkpoints.map(|moment| (CHECKPOINT, moment.id)))
    });
    deleted.chain(with_domain)
}

/// What is said about a domain that the log does not know: those that it knows, nearest first.
fn no_domain(wanted: &str, known: &[String]) -> Failure {
    /// How many names are shown.
    const NEAREST: usize = 5;
    let mut nearest: Vec<(usize, &String)> = known
        .iter()
        .map(|name| (distance(wanted, name), name))
        .collect();
    nearest.sort();
    nearest.dedup();
    let names: Vec<String> = nearest
        .iter()
        .take(NEAREST)
        .map(|(_, name)| format!("'{}'", escaped(name)))
        .collect();
    let known = match (names.len(), nearest.len()) {
        (0, _) => "it knows no domain yet".to_owned(),
        (shown, all) if shown < all => {
            format!("it knows {} and {} more", names.join(", "), all - shown)
        }
        _ => format!("it knows {}", names.join(", ")),
    };
    // `-n 3`, as `tail` has it, is meant as an option.
    let option = if wanted.starts_with('-') {
        "options begin with two dashes, and --limit N shows the newest N entries; "
    } else {
        ""
    };
    Failure::new(format!(
        "the log knows no domain '{}'; {option}{known}",
        escaped(wanted)
    ))
}

/// How many letters must be put in, left out or replaced to make one name of another. Only the first letters of long
/// names count.
fn distance(one: &str, other: &str) -> usize {
    const LETTERS: usize = 64;
    let other: Vec<char> = other.chars().take(LETTERS).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().take(LETTERS).enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, compared) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *compared);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Prints rows as they come.
struct Printed<'a> {
    session: &'a mut Session,
    table: GrowingTable,
}

impl Printed<'_> {
    fn new(session: &mut Session) -> Printed<'_> {
        let header = ["Seq", "Time", "Actor", "Domain", "What", "Reason"];
        let table = GrowingTable::new(&header, session.quiet);
        Printed { session, table }
    }

    fn row(&mut self, row: &Row) {
        if self.session.format == Format::Json {
            self.session.print(&format!("{}\n", as_json(row)));
            return;
        }
        let entry = row.entry;
        let grown = self.table.row(vec![
            entry.head.seq.to_string(),
            micros(entry.recorded),
            escaped(&who(entry)),
            row.domain.map_or("-".to_owned(), escaped),
            escaped(&what(row).join("; ")),
            entry.reason.as_deref().map_or(String::new(), reason_text),
        ]);
        self.session.print(&grown);
    }

    fn finish(&mut self) {
        if self.session.format == Format::Text {
            let rest = self.table.finish();
            self.session.print(&rest);
        }
    }
}

/// Says who is said to have asked, and the user who really did where that is another, or that it was erased.
fn who(entry: &Entry) -> String {
    let user = entry
        .agent
        .as_deref()
        .and_then(|agent| agent.split(' ').next());
    match user {
        Some("") => format!("{} (erased)", entry.actor),
        Some(user) if user != &*entry.actor => format!("{} ({user})", entry.actor),
        _ => entry.actor.to_string(),
    }
}

/// Says what happened, an event each.
fn what(row: &Row) -> Vec<String> {
    let entry = row.entry;
    let mut removed = entry.removed.iter();
    let mut what: Vec<String> = entry
        .events
        .iter()
        .map(|event| match &event.change {
            Change::DomainRemoved => told_removal(removed.next().map(|domain| &**domain)),
            change => told(change, row.names),
        })
        .collect();
    if let Some(bridge) = &entry.bridge {
        let to = match bridge.archive.as_deref() {
            None => String::new(),
            Some("") => " (where was erased)".to_owned(),
            Some(archive) => format!(" to {}", escaped(archive)),
        };
        what.push(format!(
            "records {} to {} archived{to}",
            bridge.first, bridge.last.seq
        ));
    } else if what.is_empty() {
        what.push("log begun".to_owned());
    }
    if let Some(seq) = entry.undoes {
        what.push(format!("takes back record {seq}"));
    }
    what
}

/// One entry as a JSON document.
fn as_json(row: &Row) -> serde_json::Value {
    let entry = row.entry;
    let mut gone_names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (kind, id) in gone(entry) {
        if let Some(name) = row.names.get(&id) {
            gone_names.entry(kind).or_default().push(name.as_str());
        }
    }
    json!({
        "seq": entry.head.seq.get(),
        "digest": entry.head.digest.to_string(),
        "recorded_us": entry.recorded,
        "actor": &*entry.actor,
        "agent": entry.agent.as_deref().map(erasable),
        "call": entry.call.name().map_or_else(|| entry.call.to_string(), str::to_owned),
        "flags": entry.flags,
        "reason": entry.reason.as_deref().map(erasable),
        "request_id": entry.request_id.as_deref(),
        "undoes": entry.undoes.map(Seq::get),
        "domain": row.domain,
        "uuid": entry.domain.map(|uuid| uuid.to_string()),
        "previous": entry.previous.map(Seq::get),
        "archived": entry.bridge.as_ref().map(|bridge| json!({
            "first": bridge.first.get(),
            "last": bridge.last.seq.get(),
            "to": bridge.archive.as_deref().map(erasable),
        })),
        "what": what(row),
        "gone": {
            "snapshots": gone_names.remove(SNAPSHOT).unwrap_or_default(),
            "checkpoints": gone_names.remove(CHECKPOINT).unwrap_or_default(),
        },
    })
}

fn micros(recorded: i64) -> String {
    match jiff::Timestamp::from_microsecond(recorded) {
        Ok(time) => time
            .to_zoned_datetime(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S%.3f %z")
            .to_string(),
        Err(_) => recorded.to_string(),
    }
}

/// A text for people, or that it was erased.
fn reason_text(text: &str) -> String {
    if text.is_empty() {
        "(erased)".to_owned()
    } else {
        escaped(text)
    }
}

/// A text in JSON, or that it was erased: an object, which no text is.
fn erasable(text: &str) -> serde_json::Value {
    if text.is_empty() {
        json!({ "erased": true })
    } else {
        json!(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_needs_the_fewest_changes() {
        assert_eq!(distance("web01", "web01"), 0);
        assert_eq!(distance("wbe01", "web01"), 2);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("db", "database"), 6);
    }
}
