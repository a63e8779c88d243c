//! The verb `why`: the life of a moment.

use std::collections::BTreeSet;

use momentlog::core::{Domain, DomainUuid, MomentKind};
use momentlog::store::Seq;
use momentlog::{Connection, Step};
use momentlog_audit::json::LifeDoc;
use momentlog_audit::{Fate, Life, MomentRef, TurnOf, lives};

use super::Verb;
use super::store::VERIFIED;
use super::told::{Rows, below, cause, push_fields, reason, with_id};
use crate::colour;
use crate::failure::{Answer, Failure};
use crate::grammar::{ARCHIVE, Invocation, Spec, needed, only_named};
use crate::interrupt;
use crate::layout::escaped;
use crate::lines;
use crate::session::Session;
use crate::time::{archive, claimed, is_archived};

/// The verb.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "why",
        "show the life of a moment: where it was made, what moved it, when it was current, its end",
        &[
            needed("domain", "domain name or uuid; it may be gone"),
            needed(
                "moment",
                "name of the snapshot or checkpoint, or #ID; it may be gone",
            ),
            only_named("kind", "snapshot or checkpoint; both by default"),
            ARCHIVE,
            VERIFIED,
        ],
    ),
    run: why,
}];

pub fn why(session: &mut Session, invocation: &Invocation) -> Answer {
    let kind = kind_of(invocation)?;
    let (domain, moment) = (invocation.need("domain"), invocation.need("moment"));
    let mut connections = vec![session.connection.clone()];
    if let Some(directory) = invocation.get("archive") {
        connections.insert(0, archive(directory)?);
    }
    let wanted = MomentRef::parse(moment);
    let mut found = Vec::new();
    let begin = first_step(&connections[0])?;
    for uuid in domains_called(&connections, domain)? {
        let lived = match &connections[..] {
            [connection] => {
                let steps = interrupt::watched(steps_about(connection, uuid, &wanted)?);
                lives(begin.as_ref(), steps, uuid, kind, &wanted)?
            }
            all => lives(begin.as_ref(), steps_of(all, uuid)?, uuid, kind, &wanted)?,
        };
        found.extend(
            lived
                .into_iter()
                .map(|life| life.of_domain(&session.connection.view())),
        );
    }
    if found.is_empty() {
        let hint = crate::hint::no_moment(&session.connection, domain, kind, moment);
        let kind = kind.map_or("moment".to_owned(), |kind| kind.to_string());
        let failure = Failure::new(format!(
            "domain '{}' has and had no {kind} '{}'",
            escaped(domain),
            escaped(moment)
        ));
        return Err(failure.hinted(hint));
    }
    for (index, life) in found.iter().enumerate() {
        let gap = if index > 0 { "\n" } else { "" };
        session.print(&format!("{gap}{}", colour::headed(&laid_out(life))));
        session.document(&LifeDoc::of(life));
    }
    Ok(0)
}

/// The kind of moments that is asked for; none for both.
pub fn kind_of(invocation: &Invocation) -> Result<Option<MomentKind>, Failure> {
    match invocation.get("kind") {
        None => Ok(None),
        Some("snapshot" | "snapshots") => Ok(Some(MomentKind::Snapshot)),
        Some("checkpoint" | "checkpoints") => Ok(Some(MomentKind::Checkpoint)),
        Some(other) => Err(Failure::new(format!(
            "'{}' is no kind of moments: snapshot or checkpoint",
            escaped(other)
        ))),
    }
}

/// Returns the domains that have or had a name, or the one of a uuid.
pub fn domains_called(connections: &[Connection], text: &str) -> Result<Vec<DomainUuid>, Failure> {
    if text.len() == 36
        && let Ok(uuid) = text.parse()
    {
        return Ok(vec![uuid]);
    }
    let mut found = Vec::new();
    for connection in connections {
        for uuid in connection.domains_called(text)? {
            if !found.contains(&uuid) {
                found.push(uuid);
            }
        }
    }
    if found.is_empty() {
        return Err(super::log::no_domain(text, &all_names(connections)?));
    }
    Ok(found)
}

/// The names of all domains that a log has or had.
fn all_names(connections: &[Connection]) -> Result<BTreeSet<String>, Failure> {
    let mut names = BTreeSet::new();
    for connection in connections {
        let mut entries = connection.history(None)?.entries();
        let there = entries.view().state().domains();
        names.extend(there.map(|domain| domain.name().to_string()));
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Err(error) if is_archived(&error) => continue,
                entry => entry?,
            };
            let state = entries.view().state();
            let domain = entry.domain.and_then(|uuid| state.domain(uuid));
            names.extend(domain.map(|domain| domain.name().to_string()));
        }
    }
    Ok(names)
}

/// Returns the first step of a log: its begin, or the bridge that stands for what was archived.
pub fn first_step(connection: &Connection) -> Result<Option<Step>, Failure> {
    for step in connection.history(None)? {
        match step {
            Err(error) if is_archived(&error) => {}
            step => return Ok(Some(step?)),
        }
    }
    Ok(None)
}

/// Returns the history of a domain, that in an archive first.
pub fn steps_of(
    connections: &[Connection],
    uuid: DomainUuid,
) -> Result<impl Iterator<Item = momentlog::Result<Step>> + '_, Failure> {
    let mut all = Vec::new();
    for connection in connections {
        all.push(connection.history_of(uuid)?);
    }
    let mut last: Option<Seq> = None;
    let all = interrupt::watched(all.into_iter().flatten());
    Ok(all.filter(move |step| match step {
        Ok(step) => {
            let is_new = Some(step.entry.head.seq) > last;
            last = last.max(Some(step.entry.head.seq));
            is_new
        }
        // It goes on with what is not archived.
        Err(error) => !is_archived(error),
    }))
}

/// Returns the steps of a domain while a moment that is meant was there, and all others in between.
pub fn steps_about<'c>(
    connection: &'c Connection,
    uuid: DomainUuid,
    moment: &MomentRef,
) -> momentlog::Result<impl Iterator<Item = momentlog::Result<Step>> + use<'c>> {
    let wanted = moment.clone();
    let is_there = move |domain: &Domain| wanted.is_in(domain);
    connection.steps_about(uuid, &|mention| moment.may_begin(mention), is_there)
}

/// Lays out the life of a moment.
fn laid_out(life: &Life) -> String {
    let mut text = String::new();
    let last = life
        .turns
        .iter()
        .map(|turn| turn.entry.head.seq.get())
        .max();
    let rows = Rows {
        one_line: false,
        ..Rows::new(false, last.unwrap_or(1))
    };
    let (kind, moment, domain) = (life.kind, with_id(&life.moment), escaped(&life.domain));
    let fate = match &life.fate {
        Fate::Alive {
            below: parent,
            since,
            current,
        } => {
            let since = since.map_or_else(String::new, |since| format!(" since {since}"));
            let current = if *current { ", current" } else { "" };
            format!("{}{since}{current}", below(parent.as_ref()))
        }
        Fate::Gone { by, restored: None } => format!("deleted in {by}"),
        Fate::Gone {
            by,
            restored: Some(again),
        } => {
            format!("deleted in {by}, restored as #{}", again.id)
        }
    };
    lines::push_hanging(
        &mut text,
        0,
        &format!("{kind} {moment} of {domain}: {fate}"),
        rows.width,
    );
    text.push('\n');
    let mut before = None;
    for turn in &life.turns {
        if before != Some(turn.entry.head.seq) {
            let mut head = rows.head(&turn.entry, None);
            let reason = reason(&turn.entry);
            if !reason.is_empty() {
                head += &format!("  {reason}");
            }
            text += &rows.numbered(&rows.broken(&head));
        }
        before = Some(turn.entry.head.seq);
        lines::push_hanging(&mut text, rows.indent(), &words(&turn.what), rows.width);
        if let TurnOf::Redefined { fields, .. } = &turn.what {
            push_fields(&mut text, rows.indent() + 2, fields, rows.width);
        }
    }
    text
}

/// What happened to the moment.
fn words(what: &TurnOf) -> String {
    match what {
        TurnOf::Found { below: parent } => {
            format!(
                "was there already where the log begins here, {}",
                below(parent.as_ref())
            )
        }
        TurnOf::Created {
            below: parent,
            current,
        } => {
            let parent = parent.as_ref();
            let place = parent.map_or("as a root".to_owned(), |parent| format!("below {parent}"));
            let current = if *current { ", current" } else { "" };
            format!("created {place}{current}")
        }
        TurnOf::Redefined { below: parent, .. } => match parent {
            Some(parent) => format!("redefined below {parent}"),
            None => "redefined as a root".to_owned(),
        },
        TurnOf::Moved { from, to, because } => {
            let (from, to) = (below(from.as_ref()), below(to.as_ref()));
            match because {
                momentlog_audit::Cause::Deleted(parent, _) => {
                    format!("moved: {from} -> {to}, because {parent} was deleted")
                }
                _ => format!("moved: {from} -> {to}"),
            }
        }
        TurnOf::Current(momentlog_audit::Cause::Asked) => "current".to_owned(),
        TurnOf::Current(because) => format!("current again: {}", cause(because)),
        TurnOf::NotCurrent(because) => format!("no longer current: {}", cause(because)),
        TurnOf::Reverted => "the domain went back to it".to_owned(),
        TurnOf::Held(tag, hold) => format!(
            "held: tag {}, by {}, since {}",
            escaped(tag.as_str()),
            escaped(&hold.by),
            claimed(hold.since)
        ),
        TurnOf::Released(tag) => format!("released: tag {}", escaped(tag.as_str())),
        TurnOf::Seen(disks) => {
            let disks = disks.iter();
            let disks = disks.map(|seen| format!("{} {}", escaped(&seen.disk), seen.state));
            format!("seen: {}", disks.collect::<Vec<_>>().join(", "))
        }
        TurnOf::Deleted { because, moved } => {
            let mut words = match because {
                momentlog_audit::Cause::Asked => "deleted".to_owned(),
                because => format!("deleted: {}", cause(because)),
            };
            if !moved.is_empty() {
                let names: Vec<String> = moved.iter().map(with_id).collect();
                words += &format!("; {} moved to its parent", names.join(", "));
            }
            words
        }
        _ => "changed".to_owned(),
    }
}
