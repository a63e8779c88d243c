//! What a command that changes something has done, for programs.

use momentlog::core::Event;
use momentlog::store::{Head, Seq};
use momentlog::{Connection, Outcome, Recording};
use momentlog_audit::Told;
use momentlog_audit::json::{OutcomeDoc, RecordDoc};

use crate::failure::{Answer, Failure};
use crate::session::Session;

/// Runs a command; if it answers with no document of its own, shows the records that it has made.
pub fn show(session: &mut Session, run: impl FnOnce(&mut Session) -> Answer) -> Answer {
    let recording = session.connection.recording();
    let real = std::mem::replace(&mut session.connection, recording.connection().clone());
    session.recording = Some(recording);
    let answer = run(session);
    session.connection = real;
    let outcomes = session.recording.take().map(|made| made.outcomes());
    let status = answer.inspect_err(|_| {
        let made = outcomes.iter().flatten().filter(|made| !made.repeated);
        session.made = made.map(|made| made.seq.get()).collect();
    })?;
    if !session.is_documented() {
        let outcome = document(&session.connection, &outcomes.unwrap_or_default());
        session.document(&outcome);
    }
    Ok(status)
}

/// Returns the document of what calls were answered. What was changed is no failure because it cannot be read back.
pub fn document(connection: &Connection, outcomes: &[Outcome]) -> OutcomeDoc {
    let record = |outcome: &Outcome| match crate::verbs::show::step(connection, outcome.seq) {
        Ok(Some(step)) => RecordDoc::of(&Told::of(&step), outcome.repeated),
        Ok(None) | Err(_) => RecordDoc::unread(outcome.seq, outcome.repeated),
    };
    OutcomeDoc::of(outcomes.iter().map(record).collect())
}

/// Returns the document of one record that a command has made.
pub fn of_record(connection: &Connection, seq: Seq) -> OutcomeDoc {
    let record = match crate::verbs::show::step(connection, seq) {
        Ok(Some(step)) => RecordDoc::of(&Told::of(&step), false),
        Ok(None) | Err(_) => RecordDoc::unread(seq, false),
    };
    OutcomeDoc::of(vec![record])
}

/// Returns the record with an event that the present command has made or found, and whether it has found it.
pub fn with_event(
    session: &Session,
    is: impl Fn(&Event) -> bool,
) -> Result<Option<(Head, bool)>, Failure> {
    let outcomes = session.recording.as_ref().map(Recording::outcomes);
    let mut outcomes = outcomes.unwrap_or_default().into_iter();
    let Some(outcome) = outcomes.find(|outcome| outcome.events.iter().any(&is)) else {
        return Ok(None);
    };
    let entry = session.connection.entry(outcome.seq)?;
    Ok(entry.map(|entry| (entry.head, outcome.repeated)))
}
