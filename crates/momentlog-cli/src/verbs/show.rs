//! The verb `show`: one record in full.

use momentlog::core::MomentKind;
use momentlog::store::Seq;
use momentlog::{
    CheckpointXmlFlags, Connection, DomainXmlFlags, Mention, SnapshotXmlFlags, Step, View,
};
use momentlog_audit::json::EntryDoc;
use momentlog_audit::{Consequence, Named, Told, What};
use similar::TextDiff;
use std::sync::Arc;

use super::Verb;
use super::store::VERIFIED;
use super::told::{below, current, current_of, push_fields, with_id};
use crate::colour;
use crate::failure::{Answer, Failure};
use crate::grammar::{ARCHIVE, Invocation, Spec, flag, needed};
use crate::layout::escaped;
use crate::lines;
use crate::session::{Format, Session};
use crate::time::{archive, claimed, recorded_exactly};

/// The verb.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "show",
        "show one record in full: who, when, why, what it caused, and its digest",
        &[
            needed("record", "number of the record"),
            flag(
                "xml",
                "show also the XML of what it defined, and how it differs",
            ),
            ARCHIVE,
            VERIFIED,
        ],
    ),
    run: show,
}];

pub fn show(session: &mut Session, invocation: &Invocation) -> Answer {
    let text = invocation.need("record");
    let seq = text.parse().ok().and_then(Seq::new);
    let seq =
        seq.ok_or_else(|| Failure::new(format!("'{}' is no number of a record", escaped(text))))?;
    let mut connection = session.connection.clone();
    let mut found = step(&connection, seq)?;
    if let (None, Some(directory)) = (&found, invocation.get("archive")) {
        connection = archive(directory)?;
        found = step(&connection, seq)?;
    }
    let step = found.ok_or_else(|| {
        let why = format!("record {seq} was archived: name its directory with --archive DIR");
        Failure::new(why)
    })?;
    let told = Told::of(&step);
    if session.format == Format::Json {
        session.document(&EntryDoc::of(&told));
        return Ok(0);
    }
    let text = record(&connection, &step, &told)?;
    session.print(&colour::headed(&text));
    if invocation.has("xml") {
        let text = documents(&connection, &step, &told.consequences);
        session.print(&text);
    }
    Ok(0)
}

/// Returns a record with the states around it; none if it was archived.
pub fn step(connection: &Connection, seq: Seq) -> Result<Option<Step>, Failure> {
    let last = connection
        .refresh()?
        .head()
        .map_or(0, |head| head.seq.get());
    if seq.get() > last {
        return Err(match last {
            0 => Failure::new("the log has no record yet"),
            last => Failure::new(format!("there is no record {seq}: the last one is {last}")),
        });
    }
    Ok(connection.steps(seq, seq)?.next().transpose()?)
}

/// Lays out a record.
fn record(connection: &Connection, step: &Step, told: &Told) -> Result<String, Failure> {
    let width = lines::width();
    let entry = &told.entry;
    let log = connection
        .log_id()
        .map_or_else(String::new, |log| format!(" of log {log}"));
    let mut text = format!("Record {}{log}\n\n", entry.head.seq);
    let mut line = |label: &str, value: &str| {
        for (index, part) in lines::wrapped(value, width - 11).iter().enumerate() {
            let label = if index == 0 {
                format!("{label}:")
            } else {
                String::new()
            };
            text += &format!("{label:<11}{part}\n");
        }
    };
    line("Recorded", &recorded_exactly(entry.recorded));
    line("Actor", &actor(told));
    if entry.agent.is_some() {
        let flags = match entry.flags {
            0 => "0".to_owned(),
            flags => format!("{flags:#x}"),
        };
        line("Call", &format!("{}, flags {flags}", entry.call));
        let reason = super::told::reason(entry);
        line(
            "Reason",
            if reason.is_empty() {
                "none given"
            } else {
                &reason
            },
        );
    }
    if let Some(uuid) = entry.domain {
        let name = told
            .domain
            .as_deref()
            .map_or_else(String::new, |name| escaped(name) + " ");
        let before = match entry.previous {
            Some(previous) => format!(", record before: {previous}"),
            None => ", its first record".to_owned(),
        };
        line("Domain", &format!("{name}{uuid}{before}"));
    }
    if let Some(id) = &entry.request_id {
        line("Request", &escaped(id));
    }
    if let Some(seq) = entry.undoes {
        line("Takes back", &format!("record {seq}"));
    }
    line("Digest", &entry.head.digest.to_string());
    for consequence in &told.consequences {
        text.push('\n');
        let words = match &consequence.what {
            What::Deleted {
                kind,
                moment,
                removed,
                extent: momentlog::core::Extent::One,
                ..
            } if removed.len() == 1 => {
                format!("{kind} {} deleted, alone", with_id(moment))
            }
            what => what.words(),
        };
        lines::push_hanging(&mut text, 0, &words, width);
        details(&mut text, connection, step, consequence, width)?;
    }
    Ok(text)
}

/// Who is said to have asked, and which process it was.
fn actor(told: &Told) -> String {
    let actor = escaped(&told.entry.actor);
    match told.entry.agent.as_deref() {
        None => format!("{actor} (the program that began the log)"),
        Some("") => format!("{actor} (claimed); the process was erased"),
        Some(agent) => {
            // As agents are written here: user and host, then the program with its version behind a slash.
            let (user, program) = agent.split_once(' ').unwrap_or((agent, ""));
            let (program, version) = program.rsplit_once('/').unwrap_or((program, ""));
            let parts = [user, program].map(escaped);
            let process = parts.join(", ") + " " + &escaped(version);
            let process = process.trim_end().trim_end_matches(',');
            format!("{actor} (claimed); the process was {process}")
        }
    }
}

/// What follows from a consequence, a line each.
fn details(
    text: &mut String,
    connection: &Connection,
    step: &Step,
    consequence: &Consequence,
    width: usize,
) -> Result<(), Failure> {
    let seq = step.entry.head.seq;
    let mut line = |label: &str, value: &str| {
        lines::push_hanging(text, 2, &format!("{label:<7}  {value}"), width);
    };
    match &consequence.what {
        What::Deleted {
            moment,
            below: parent,
            removed,
            ..
        } => {
            let mut was = below(parent.as_ref());
            if removed.iter().any(|gone| gone.id == moment.id)
                && let Some(made) = made_in(connection, step, moment)?
            {
                was += &format!(", made in {made}; `show {seq} --xml` prints it");
            }
            line("was", &was);
        }
        What::Held { hold, .. } => {
            line(
                "by",
                &format!("{}, since {}", escaped(&hold.by), claimed(hold.since)),
            );
        }
        What::PolicySet { from, to } => {
            let (from, to) = (
                momentlog_audit::rules_text(*from),
                momentlog_audit::rules_text(*to),
            );
            line("rules", &format!("{from} -> {to}"));
        }
        _ => {}
    }
    for moved in &consequence.moved {
        let (from, to) = (below(moved.from.as_ref()), below(moved.to.as_ref()));
        line(
            "moved",
            &format!("{}: {from} -> {to}", with_id(&moved.moment)),
        );
    }
    if let Some(change) = &consequence.current {
        line("current", &current(change));
    } else if let What::Deleted { kind, .. } = &consequence.what {
        let state = step.after.state();
        let domain = step.entry.domain.and_then(|uuid| state.domain(uuid));
        let name = domain.and_then(|domain| current_of(domain, *kind));
        line(
            "current",
            &format!("{}, as before", name.unwrap_or_else(|| "none".to_owned())),
        );
    }
    let fields = match &consequence.what {
        What::Redefined { fields, .. } => fields,
        What::DomainDefined {
            fields: Some(fields),
            ..
        } => fields,
        _ => return Ok(()),
    };
    push_fields(text, 2, fields, width);
    Ok(())
}

/// The last record before this one that defined a moment.
fn made_in(connection: &Connection, step: &Step, moment: &Named) -> Result<Option<Seq>, Failure> {
    let Some(uuid) = step.entry.domain else {
        return Ok(None);
    };
    let defined = connection.records_where(uuid, &|mention| match mention {
        Mention::Created { id, .. } | Mention::Redefined(id) => id == moment.id,
        Mention::TakesBack(_) => false,
    })?;
    let mut before = defined.into_iter().rev();
    Ok(before.find(|seq| *seq < step.entry.head.seq))
}

/// The XML of what a record defined or deleted, and how it differs from the XML before.
pub fn documents(connection: &Connection, step: &Step, consequences: &[Consequence]) -> String {
    let mut text = String::new();
    let at = |view: &View| connection.as_of(Arc::new(view.clone()));
    let (before, after) = (at(&step.before), at(&step.after));
    let Some(uuid) = step.entry.domain else {
        return text;
    };
    let domain_xml = |connection: &Connection| {
        let domain = connection.lookup_domain_by_uuid(uuid).ok()?;
        domain.xml_desc(DomainXmlFlags::NONE).ok()
    };
    let moment_xml = |connection: &Connection, kind: MomentKind, moment: &Named| {
        let domain = connection.lookup_domain_by_uuid(uuid).ok()?;
        let name = moment.name.as_str();
        match kind {
            MomentKind::Snapshot => domain
                .snapshot_lookup_by_name(name)
                .ok()?
                .xml_desc(SnapshotXmlFlags::NONE)
                .ok(),
            MomentKind::Checkpoint => domain
                .checkpoint_lookup_by_name(name)
                .ok()?
                .xml_desc(CheckpointXmlFlags::NONE)
                .ok(),
        }
    };
    for consequence in consequences {
        let found = match &consequence.what {
            What::DomainDefined { .. } => {
                vec![("domain".to_owned(), domain_xml(&before), domain_xml(&after))]
            }
            What::Created { kind, moment, .. } | What::Redefined { kind, moment, .. } => vec![(
                format!("{kind} {moment}"),
                moment_xml(&before, *kind, moment),
                moment_xml(&after, *kind, moment),
            )],
            What::Deleted { kind, removed, .. } => removed
                .iter()
                .map(|moment| {
                    (
                        format!("{kind} {moment}"),
                        moment_xml(&before, *kind, moment),
                        None,
                    )
                })
                .collect(),
            _ => Vec::new(),
        };
        for (name, before, after) in found {
            text += &difference(&name, before.as_deref(), after.as_deref());
        }
    }
    text
}

/// One document, or how two of them differ.
fn difference(name: &str, before: Option<&str>, after: Option<&str>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => {
            let diff = TextDiff::from_lines(before, after);
            let unified = diff
                .unified_diff()
                .header(&format!("{name}, before"), &format!("{name}, after"))
                .to_string();
            format!("\n{}", colour::signed(&seen(&unified), 0))
        }
        (Some(text), None) | (None, Some(text)) => format!("\n{}", seen(text)),
        (None, None) => String::new(),
    }
}

/// A text of many lines, with what cannot be seen as escapes.
fn seen(text: &str) -> String {
    let lines = text.lines().map(|line| escaped(line) + "\n");
    lines.collect()
}
