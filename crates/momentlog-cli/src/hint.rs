//! What can be done about a failure, where the next step is known.

use momentlog::core::{Domain, MomentKind, Refusal};
use momentlog::store::Seq;
use momentlog::{Connection, ErrorCode, ErrorKind};
use momentlog_audit::{Told, What, escaped};

use crate::complete;
use crate::failure::Failure;
use crate::grammar::Invocation;
use crate::script::quoted;
use crate::session::Session;
use crate::verbs;

/// In how many letters a name may differ that is near enough to be meant.
const NEAR: usize = 2;

/// How many names are shown, and how many of the newest records are looked through for what was deleted.
const NAMES_MAX: usize = 8;
const RECORDS_MAX: u64 = 100_000;

/// Returns what can be done about the failure of a command.
pub fn of(session: &Session, invocation: &Invocation, failure: &Failure) -> Option<String> {
    let error = failure.error.as_ref()?;
    let domain = || {
        let takes = invocation.verb.takes("domain");
        let given = takes.then(|| invocation.get("domain")).flatten();
        given.map_or_else(|| "DOMAIN".to_owned(), word)
    };
    if let Some(Refusal::Held {
        kind, name, tag, ..
    }) = error.refusal()
    {
        let (name, tag) = (word(name.as_str()), word(tag.as_str()));
        return Some(format!("{kind}-release {} {name} --tag {tag}", domain()));
    }
    match error.kind() {
        ErrorKind::Busy => {
            return Some("another command writes: --lock-wait SECONDS waits longer".to_owned());
        }
        ErrorKind::Stale { .. } => return Some(format!("log {} -n 1", domain())),
        ErrorKind::Store(momentlog::store::StoreError::Missing { .. })
            if crate::place::is_database(&session.uri) =>
        {
            return Some("init makes the log, as an owner of the database".to_owned());
        }
        ErrorKind::Store(momentlog::store::StoreError::Missing { .. }) => {
            return Some("define FILE makes the store, with the domain of that file".to_owned());
        }
        _ => {}
    }
    let kind = match error.code() {
        ErrorCode::NoDomainCheckpoint => MomentKind::Checkpoint,
        ErrorCode::NoDomainSnapshot => MomentKind::Snapshot,
        _ => return None,
    };
    let options = ["checkpointname", "snapshotname", "from"];
    let taken = options
        .iter()
        .filter(|option| invocation.verb.takes(option));
    let named = taken.copied().find_map(|option| invocation.get(option))?;
    let kind = Some(kind);
    no_moment(&session.connection, invocation.get("domain")?, kind, named)
}

/// A name as a word of a command.
fn word(name: &str) -> String {
    escaped(&quoted(name))
}

/// Returns which domains there are, for one that is not there.
pub fn no_domain(connection: &Connection, wanted: &str) -> Option<String> {
    let view = connection.refresh().ok()?;
    let domains = view.state().domains();
    let nearest = domains
        .map(|domain| domain.name().clone())
        .min_by_key(|name| distance(wanted, name));
    Some(match nearest {
        None => "the store has no domain yet: define FILE adds one".to_owned(),
        Some(name) if distance(wanted, &name) <= NEAR => {
            format!("{} is there; list --all shows all", escaped(&name))
        }
        Some(_) => "list --all shows the domains".to_owned(),
    })
}

/// Returns which moments a domain has, for one that is not there, and where it was deleted, or one of nearly that name.
pub fn no_moment(
    connection: &Connection,
    domain: &str,
    kind: Option<MomentKind>,
    wanted: &str,
) -> Option<String> {
    let view = connection.refresh().ok()?;
    let is_named =
        |found: &&Domain| **found.name() == *domain || found.uuid().to_string() == domain;
    let found = view.state().domains().find(is_named)?;
    let names = complete::names(found, kind);
    let mut text = format!("{} has ", escaped(found.name()));
    text += &match (names.len(), kind) {
        (0, Some(kind)) => format!("no {kind}s"),
        (0, None) => "no moments".to_owned(),
        (1..=NAMES_MAX, _) => listed(&names),
        (all, _) => {
            let mut nearest = names.clone();
            nearest.sort_by_key(|name| distance(wanted, name));
            nearest.truncate(NAMES_MAX);
            format!("{} and {} more", listed(&nearest), all - NAMES_MAX)
        }
    };
    let gone = deleted(connection, found, kind).into_iter();
    // Of several of one name the last one.
    let gone = gone.rev().min_by_key(|(name, _)| distance(wanted, name));
    if let Some((name, seq)) = gone.filter(|(name, _)| distance(wanted, name) <= NEAR) {
        text += &format!("; {} was deleted in record {seq}", escaped(&name));
    }
    Some(text)
}

fn listed(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| escaped(name)).collect();
    names.join(", ")
}

/// Returns the names of moments that were deleted of late and have not come back, with the records, oldest first.
pub fn deleted(
    connection: &Connection,
    domain: &Domain,
    kind: Option<MomentKind>,
) -> Vec<(String, u64)> {
    let Some(end) = connection.view().head() else {
        return Vec::new();
    };
    let from = Seq::new(end.seq.get().saturating_sub(RECORDS_MAX)).unwrap_or(Seq::FIRST);
    let Ok(steps) = connection.steps_of(domain.uuid(), from, end.seq) else {
        return Vec::new();
    };
    let mut gone = Vec::new();
    for step in steps.map_while(Result::ok) {
        for consequence in Told::of(&step).consequences {
            if let What::Deleted {
                kind: of, removed, ..
            } = consequence.what
                && kind.is_none_or(|kind| kind == of)
            {
                let seq = step.entry.head.seq.get();
                gone.extend(removed.iter().map(|moment| (moment.name.to_string(), seq)));
            }
        }
    }
    let there = complete::names(domain, kind);
    gone.retain(|(name, _)| !there.contains(name));
    gone
}

/// Returns which command may be meant.
pub fn no_verb(wanted: &str) -> String {
    let names = verbs::all().map(|verb| verb.spec.name);
    match names.min_by_key(|name| distance(wanted, name)) {
        Some(name) if distance(wanted, name) <= NEAR => format!("{name} is one; help lists all"),
        _ => "help lists all commands".to_owned(),
    }
}

/// How many letters must be put in, left out or replaced to make one name of another. Only the first letters of long
/// names count.
pub fn distance(one: &str, other: &str) -> usize {
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
