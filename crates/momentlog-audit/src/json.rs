//! What programs read: one document for each answer, with its keys in the order of `docs/json.md`.
//!
//! Each document names its schema, `momentlog.NAME/MAJOR`. Within a major, keys and event types are only added, and none
//! changes its type, unit or meaning. Times are RFC 3339 in UTC: recorded ones with six digits of the second, claimed ones
//! with none.

mod diff;
mod domains;
mod entry;
mod error;
mod life;
mod moments;
mod outcome;
mod plan;
mod redefinitions;
mod stat;
mod store;
mod suspicion;
mod text;

use jiff::Timestamp;
use momentlog_core::{DomainUuid, MomentId, Policy, Rule};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::consequence::Named;
use crate::field::{FieldChange, Value};

pub use diff::DiffDoc;
pub use domains::{DisksDoc, DomainsDoc};
pub use entry::EntryDoc;
pub use error::ErrorDoc;
pub use life::LifeDoc;
pub use moments::MomentsDoc;
pub use outcome::{OutcomeDoc, RecordDoc};
pub use plan::PlanDoc;
pub use redefinitions::{RedefinitionDoc, RedefinitionsDoc};
pub use stat::StatDoc;
pub use store::{CopyDoc, ImageDoc, PolicyDoc, ReceiptDoc, ServerDoc, StandbyDoc, VerifyDoc};
pub use suspicion::SuspicionDoc;
pub use text::TextDoc;

/// Returns a document as one line, with its end.
pub fn line(document: &impl Serialize) -> String {
    let mut line = serde_json::to_string(document).expect("a document has texts for keys");
    line.push('\n');
    line
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DomainDoc {
    /// Its name.
    pub name: Option<String>,
    /// Its uuid.
    pub uuid: String,
}

impl DomainDoc {
    /// Returns the document of a domain.
    pub fn of(uuid: DomainUuid, name: Option<&str>) -> DomainDoc {
        DomainDoc {
            name: name.map(str::to_owned),
            uuid: uuid.to_string(),
        }
    }
}

/// A moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MomentDoc {
    /// Its id; none for one that is not made yet.
    pub id: Option<u64>,
    /// Its name.
    pub name: String,
}

impl MomentDoc {
    /// Returns the document of a moment.
    pub fn of(moment: &Named) -> MomentDoc {
        MomentDoc {
            id: Some(moment.id.get()),
            name: moment.name.to_string(),
        }
    }

    fn some(moment: Option<&Named>) -> Option<MomentDoc> {
        moment.map(MomentDoc::of)
    }

    fn all(moments: &[Named]) -> Vec<MomentDoc> {
        moments.iter().map(MomentDoc::of).collect()
    }

    /// Returns the document of a moment by its parts.
    pub fn new(id: MomentId, name: &str) -> MomentDoc {
        MomentDoc {
            id: Some(id.get()),
            name: name.to_owned(),
        }
    }
}

/// `momentlog.holds/1`: what is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HoldsDoc {
    schema: &'static str,
    holds: Vec<HoldDoc>,
}

impl HoldsDoc {
    /// Returns the document of these holds.
    pub fn of(holds: Vec<HoldDoc>) -> HoldsDoc {
        HoldsDoc {
            schema: "momentlog.holds/1",
            holds,
        }
    }
}

/// A hold of a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HoldDoc {
    /// The domain.
    pub domain: DomainDoc,
    /// `snapshot` or `checkpoint`.
    pub kind: &'static str,
    /// The moment.
    pub moment: MomentDoc,
    /// The tag.
    pub tag: String,
    /// Who holds it.
    pub by: String,
    /// Since when.
    pub since: Option<String>,
}

/// One field of a definition that has changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldDoc {
    field: String,
    from: Json,
    to: Json,
}

impl FieldDoc {
    fn all(changes: &[FieldChange]) -> Vec<FieldDoc> {
        let doc = |change: &FieldChange| FieldDoc {
            field: change.field.to_string(),
            from: value(change.from.as_ref()),
            to: value(change.to.as_ref()),
        };
        changes.iter().map(doc).collect()
    }
}

fn value(value: Option<&Value>) -> Json {
    match value {
        None => Json::Null,
        Some(Value::Time(seconds)) => claimed(*seconds).map_or(json!(seconds), Json::from),
        Some(Value::Text(text) | Value::Document(text)) => json!(&**text),
        Some(Value::Kib(kib)) => json!(kib),
        Some(Value::Erased) => json!({ "erased": true }),
    }
}

/// A recorded time; `null` for one that no calendar has.
pub fn recorded(micros: i64) -> Option<String> {
    let time = Timestamp::from_microsecond(micros).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

/// A claimed time; `null` for one that no calendar has.
pub fn claimed(seconds: i64) -> Option<String> {
    let time = Timestamp::from_second(seconds).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A text of a record, or `{"erased":true}`: no text of a record is empty.
pub fn erasable(text: Option<&str>) -> Json {
    match text {
        None => Json::Null,
        Some("") => json!({ "erased": true }),
        Some(text) => json!(text),
    }
}

/// The rules of a policy, by name.
pub fn rules(policy: Policy) -> Vec<&'static str> {
    policy.rules().map(Rule::name).collect()
}
