//! What a command would record, or why it would be refused.

use momentlog::{Planning, Revision, Step};
use momentlog_audit::json::{self, PlanDoc};
use momentlog_audit::{Consequence, Told, escaped};

use crate::failure::{Answer, Failure};
use crate::grammar::Invocation;
use crate::lines;
use crate::script::quoted;
use crate::session::{Format, Session};

/// Asks a command of a plan, and shows what it would record.
pub fn show(
    session: &mut Session,
    invocation: &Invocation,
    run: impl FnOnce(&mut Session) -> Answer,
) -> Answer {
    if ["archive", "image"].contains(&invocation.verb.name) {
        let verb = invocation.verb.name;
        return Err(Failure::new(format!("'{verb}' has no dry run")));
    }
    let planning = session.connection.planning()?;
    let real = std::mem::replace(&mut session.connection, planning.connection().clone());
    let answer = session.without_output(run);
    session.connection = real;
    match answer {
        Ok(status) => {
            let text = accepted(session, invocation, &planning)?;
            session.answer(&text);
            Ok(status)
        }
        Err(failure) => Err(refused(session, &failure)),
    }
}

/// Lays out what would be recorded.
fn accepted(
    session: &Session,
    invocation: &Invocation,
    planning: &Planning,
) -> Result<String, Failure> {
    let width = lines::width();
    let steps = planning.steps()?;
    // The record with which a log begins comes with the first command.
    let mut steps = steps.iter().filter(|step| !step.entry.events.is_empty());
    let told: Vec<Told> = steps.clone().map(Told::of).collect();
    let about = steps.clone().find_map(|step| step.entry.domain);
    let revision = about.and_then(|uuid| {
        let view = steps.clone().next().map(|step| step.before.revision(uuid));
        match view {
            Some(Revision::At(seq)) => Some(seq.get()),
            _ => None,
        }
    });
    if session.format == Format::Json {
        let name = told.iter().find_map(|told| told.domain.as_deref());
        let domain = about.map(|uuid| json::DomainDoc::of(uuid, name));
        return Ok(json::line(&PlanDoc::accepted(domain, revision, &told)));
    }
    if told.is_empty() {
        return Ok("Nothing would be recorded\n".to_owned());
    }
    let mut text = String::new();
    let name = told.iter().find_map(|told| told.domain.as_deref());
    let head = match (name, revision) {
        (Some(name), Some(revision)) => {
            format!(
                "Would be recorded for {}, whose revision is {revision}:",
                escaped(name)
            )
        }
        (Some(name), None) => format!("Would be recorded for {}, which is new:", escaped(name)),
        (None, _) => "Would be recorded for the store:".to_owned(),
    };
    lines::push_hanging(&mut text, 0, &head, width);
    for consequence in told.iter().flat_map(|told| &told.consequences) {
        lines::push_hanging(&mut text, 2, &consequence.summary(), width);
        if let Some(change) = &consequence.current {
            let change = crate::verbs::told::current(change);
            lines::push_hanging(&mut text, 2, &format!("current  {change}"), width);
        }
    }
    if let Some(current) = current_as_before(&told, steps.next_back()) {
        lines::push_hanging(
            &mut text,
            2,
            &format!("current  {current}, as before"),
            width,
        );
    }
    if invocation.verb.name.ends_with("-undelete") {
        let events = told.iter().flat_map(|told| &told.entry.events);
        text += &crate::verbs::undelete::needs_of(events, width);
    }
    if about.is_some() {
        let mut words = vec![invocation.verb.name.to_owned()];
        words.extend(
            invocation
                .words
                .iter()
                .filter(|word| *word != "--dry-run")
                .map(|word| quoted(word)),
        );
        let revision = revision.map_or("none".to_owned(), |revision| revision.to_string());
        if !invocation.has("expect-revision") {
            words.push(format!("--expect-revision {revision}"));
        }
        text += &copied("Exactly this, or a refusal:", &words, width);
    }
    Ok(text)
}

/// A command behind a text, so that it can be copied: where a line of it is joined with the next, it ends with a backslash.
fn copied(text: &str, words: &[String], width: usize) -> String {
    use unicode_width::UnicodeWidthStr as _;
    const INDENT: &str = "  ";
    let command = words.join(" ");
    if text.width() + 1 + command.width() <= width {
        return format!("{text} {command}\n");
    }
    let mut lines = vec![INDENT.to_owned()];
    for word in words {
        let last = lines.last_mut().expect("there is a line");
        if last.width() + word.width() + " \\".len() <= width || *last == INDENT {
            last.push_str(word);
            last.push(' ');
        } else {
            last.push('\\');
            lines.push(format!("{INDENT}{INDENT}{word} "));
        }
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    format!("{text}\n{}\n", lines.join("\n"))
}

/// The current moment of the kind that changes, if it stays current.
fn current_as_before(told: &[Told], last: Option<&Step>) -> Option<String> {
    let mut consequences = told.iter().flat_map(|told| &told.consequences);
    let kind = consequences.clone().find_map(Consequence::kind)?;
    if consequences.any(|consequence| consequence.current.is_some()) {
        return None;
    }
    let step = last?;
    let domain = step.after.state().domain(step.entry.domain?)?;
    Some(crate::verbs::told::current_of(domain, kind).unwrap_or_else(|| "none".to_owned()))
}

/// Shows a refusal, which is what was asked for. What is left of the failure is its exit status.
fn refused(session: &mut Session, failure: &Failure) -> Failure {
    // Lines before the last one say what was tried.
    let why = failure.lines.last().map_or("", String::as_str);
    let text = match session.format {
        Format::Json => json::line(&PlanDoc::refused(why, failure.hint.as_deref())),
        Format::Text => {
            let width = lines::width();
            let mut text = String::new();
            lines::push_hanging(&mut text, 0, &format!("Refused: {why}"), width);
            if let Some(hint) = &failure.hint {
                text += &format!("hint: {hint}\n");
            }
            text
        }
    };
    session.answer(&text);
    Failure {
        lines: Vec::new(),
        hint: None,
        error: None,
        path: None,
        place: None,
    }
}
