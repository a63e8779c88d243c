//! `momentlog.outcome/1`: what a command that changes something has done.

use momentlog_core::MomentId;
use momentlog_store::Seq;
use serde::Serialize;

use super::DomainDoc;
use super::entry::EventDoc;
use crate::told::Told;

/// What a command has done: the records that it made, or found where its request id was asked again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutcomeDoc {
    schema: &'static str,
    domain: Option<DomainDoc>,
    records: Vec<RecordDoc>,
    stayed: Option<Vec<u64>>,
}

/// A record that a command has made or found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordDoc {
    seq: u64,
    digest: Option<String>,
    repeated: bool,
    undoes: Option<u64>,
    events: Vec<EventDoc>,
    summary: Option<String>,
    #[serde(skip)]
    domain: Option<DomainDoc>,
}

impl RecordDoc {
    /// Returns the document of a record; `repeated` is whether it was there before the command.
    pub fn of(told: &Told, repeated: bool) -> RecordDoc {
        let domain = told.entry.domain;
        RecordDoc {
            seq: told.seq().get(),
            digest: Some(told.entry.head.digest.to_string()),
            repeated,
            undoes: told.entry.undoes.map(Seq::get),
            events: told.consequences.iter().map(EventDoc::of).collect(),
            summary: Some(told.summary()),
            domain: domain.map(|uuid| DomainDoc::of(uuid, told.domain.as_deref())),
        }
    }

    /// Returns the document of a record that cannot be read back: it is archived, or the store fails by now.
    pub fn unread(seq: Seq, repeated: bool) -> RecordDoc {
        RecordDoc {
            seq: seq.get(),
            digest: None,
            repeated,
            undoes: None,
            events: Vec::new(),
            summary: None,
            domain: None,
        }
    }
}

impl OutcomeDoc {
    /// Returns the document of a command that has made or found these records; none if it had nothing to change.
    pub fn of(records: Vec<RecordDoc>) -> OutcomeDoc {
        OutcomeDoc {
            schema: "momentlog.outcome/1",
            domain: records.iter().find_map(|record| record.domain.clone()),
            records,
            stayed: None,
        }
    }

    /// Adds the former children that an undeletion has left where they are.
    #[must_use]
    pub fn with_stayed(self, stayed: &[MomentId]) -> OutcomeDoc {
        OutcomeDoc {
            stayed: Some(stayed.iter().map(|id| id.get()).collect()),
            ..self
        }
    }
}
