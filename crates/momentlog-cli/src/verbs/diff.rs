//! The verb `diff`: what differs between two points of the log.

use momentlog::core::MomentKind;
use momentlog::store::{Head, Seq};
use momentlog::{Connection, Point};
use momentlog_audit::json::DiffDoc;
use momentlog_audit::{By, Changed, Differences, DomainDiff, Edge, Existence, ListDiff, Named};

use super::Verb;
use super::store::VERIFIED;
use super::told::{below, push_fields};
use crate::colour;
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec, needed, only_named, word};
use crate::interrupt;
use crate::layout::escaped;
use crate::lines;
use crate::session::Session;
use crate::time::{point, recorded};

/// The verb.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "diff",
        "show what differs between two points of the log, and which records made it so",
        &[
            needed(
                "from",
                "the point before: a record's number, a time, a receipt or its file",
            ),
            word("to", "the point after; now by default"),
            only_named("domain", "only this domain: its name or uuid"),
            VERIFIED,
        ],
    ),
    run: diff,
}];

pub fn diff(session: &mut Session, invocation: &Invocation) -> Answer {
    let from = point(invocation.need("from"), Edge::End)?;
    let to = match invocation.get("to") {
        Some(text) => point(text, Edge::End)?,
        None => Point::Now,
    };
    let connection = session.connection.clone();
    let (from, to) = (connection.locate(&from)?, connection.locate(&to)?);
    if from.seq > to.seq {
        let (from, to) = (from.seq, to.seq);
        return Err(Failure::new(format!(
            "record {from} comes after record {to}: name the earlier point first"
        )));
    }
    let found = match invocation.get("domain") {
        Some(name) => of_domain(&connection, name, from, to)?,
        None => {
            let mut found = Differences::default();
            let history = connection.history(Some(from))?.up_to(to.seq);
            read(history.watched(&mut found))?;
            found.by_name()
        }
    };
    let times = (time(&connection, from.seq)?, time(&connection, to.seq)?);
    let (one, other) = (recorded(times.0), recorded(times.1));
    let head = format!(
        "From record {}, {one}, to record {}, {other}",
        from.seq, to.seq
    );
    let text = laid_out(&head, &found);
    session.print(&colour::headed(&colour::signed(&text, 1)));
    session.document(&DiffDoc::of((from.seq, times.0), (to.seq, times.1), &found));
    Ok(0)
}

/// What differs of the domains that have or had a name, from their own records.
fn of_domain(
    connection: &Connection,
    name: &str,
    from: Head,
    to: Head,
) -> Result<Vec<DomainDiff>, Failure> {
    let mut found = Vec::new();
    for uuid in super::why::domains_called(std::slice::from_ref(connection), name)? {
        let steps = connection.steps_of(uuid, Seq::after(Some(from.seq)), to.seq)?;
        let mut differences = Differences::default();
        read(steps.watched(&mut differences))?;
        found.extend(differences.by_name());
    }
    Ok(found)
}

/// Reads on to the end.
fn read(records: impl Iterator<Item = momentlog::Result<()>>) -> momentlog::Result<()> {
    interrupt::watched(records).collect()
}

fn time(connection: &Connection, seq: Seq) -> Result<i64, Failure> {
    Ok(connection.recorded_at(seq)?.unwrap_or_default())
}

/// Lays out what differs.
fn laid_out(head: &str, found: &[DomainDiff]) -> String {
    let width = lines::width();
    let mut text = String::new();
    lines::push_hanging(&mut text, 0, head, width);
    if found.is_empty() {
        text += "\nnothing differs, and nothing came and went\n";
    }
    for diff in found {
        domain(&mut text, diff, width);
        for (kind, list) in [
            (MomentKind::Snapshot, &diff.snapshots),
            (MomentKind::Checkpoint, &diff.checkpoints),
        ] {
            if !list.is_empty() {
                text.push('\n');
                let name = escaped(&diff.domain);
                lines::push_hanging(&mut text, 0, &format!("{name}, {kind}s"), width);
                moments(&mut text, list, width);
            }
        }
    }
    text
}

fn domain(text: &mut String, diff: &DomainDiff, width: usize) {
    let mut rows = Vec::new();
    match diff.existence {
        Existence::Both => {}
        Existence::Gone(by) => rows.push(format!("- removed in {by}")),
        Existence::New(by) => rows.push(format!("+ defined in {by}")),
        Existence::Between => rows.push("  came and went".to_owned()),
    }
    if let Some((from, to)) = diff.power {
        let name = |power: momentlog::core::Power| {
            momentlog::core::SnapshotState::Run(power.state).as_str()
        };
        rows.push(format!("~ run state  {} -> {}", name(from), name(to)));
    }
    if let Some((from, to)) = diff.autostart {
        rows.push(format!("~ starts with its host  {from} -> {to}"));
    }
    if let Some((from, to)) = diff.policy {
        let (from, to) = (
            momentlog_audit::rules_text(from),
            momentlog_audit::rules_text(to),
        );
        rows.push(format!("~ policy  {from} -> {to}"));
    }
    let back = diff.policies.iter().filter(|_| diff.policy.is_none());
    let back: Vec<String> = back.map(|(by, from, to)| rules(by, *from, *to)).collect();
    if !back.is_empty() {
        rows.push(format!("  came and went: policy {}", back.join(", ")));
    }
    if rows.is_empty() && diff.definition.is_empty() {
        return;
    }
    text.push('\n');
    lines::push_hanging(text, 0, &escaped(&diff.domain), width);
    for row in rows {
        lines::push_hanging(text, 1, &row, width);
    }
    if !diff.definition.is_empty() {
        lines::push_hanging(text, 1, "~ definition", width);
        push_fields(text, 5, &diff.definition, width);
    }
}

/// Which rules a record set.
fn rules(by: &By, from: momentlog::core::Policy, to: momentlog::core::Policy) -> String {
    let changed = momentlog::core::Rule::ALL
        .into_iter()
        .filter(|rule| from.has(*rule) != to.has(*rule));
    let words = changed.map(|rule| {
        let on = if to.has(rule) { "on" } else { "off" };
        format!("{} {on}", rule.name())
    });
    let words: Vec<String> = words.collect();
    format!("{} in {}", words.join(" and "), by.seq)
}

fn moments(text: &mut String, list: &ListDiff, width: usize) {
    for removed in &list.removed {
        let (moment, by) = (&removed.moment, by_text(&removed.by));
        lines::push_hanging(text, 1, &format!("- {moment}  deleted {by}"), width);
    }
    for changed in &list.changed {
        change(text, changed, width);
    }
    for added in &list.added {
        let (moment, place) = (&added.moment, below(added.below.as_ref()));
        let by = by_text(&added.by);
        lines::push_hanging(
            text,
            1,
            &format!("+ {moment}  {place}, created {by}"),
            width,
        );
    }
    if let Some((from, to)) = &list.current {
        let name =
            |moment: &Option<Named>| moment.as_ref().map_or("none".to_owned(), Named::to_string);
        lines::push_hanging(
            text,
            3,
            &format!("current  {} -> {}", name(from), name(to)),
            width,
        );
    }
    if !list.between.is_empty() {
        let between = list.between.iter().map(|between| {
            let (moment, id) = (&between.moment, between.moment.id);
            format!(
                "{moment} (#{id}) in {} and {}",
                between.created, between.removed
            )
        });
        let between: Vec<String> = between.collect();
        lines::push_hanging(
            text,
            3,
            &format!("came and went: {}", between.join("; ")),
            width,
        );
    }
}

fn change(text: &mut String, changed: &Changed, width: usize) {
    let moment = &changed.moment;
    let mut lead = format!("~ {moment}  ");
    let indent = 1 + unicode_width::UnicodeWidthStr::width(lead.as_str());
    let mut row = |text: &mut String, words: &str| {
        if lead.is_empty() {
            lines::push_hanging(text, indent, words, width);
        } else {
            lines::push_hanging(text, 1, &format!("{lead}{words}"), width);
            lead.clear();
        }
    };
    if let Some(moved) = &changed.moved {
        let (from, to) = (below(moved.from.as_ref()), below(moved.to.as_ref()));
        let by = by_text(&moved.by);
        let because = moved.because.as_ref();
        let because = because.map_or_else(String::new, |gone| format!(", who deleted {gone}"));
        row(text, &format!("moved: {from} -> {to}, {by}{because}"));
    }
    if let Some(redefined) = &changed.redefined {
        let by: Vec<String> = redefined.by.iter().map(by_text).collect();
        row(text, &format!("redefined {}", by.join(" and ")));
        push_fields(text, indent + 2, &redefined.fields, width);
    }
}

/// Which record, by whom, and why.
fn by_text(by: &By) -> String {
    let reason = match by.reason.as_deref() {
        None => String::new(),
        Some("") => " (reason erased)".to_owned(),
        Some(reason) => format!(" \"{}\"", escaped(reason)),
    };
    format!("in {} by {}{reason}", by.seq, escaped(&by.actor))
}
