//! `momentlog.plan/1`: what a command would record, or why it would be refused.

use serde::Serialize;

use super::DomainDoc;
use super::entry::EventDoc;
use crate::told::Told;

/// What a command would record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanDoc {
    schema: &'static str,
    domain: Option<DomainDoc>,
    revision: Option<u64>,
    accepted: bool,
    refusal: Option<String>,
    hint: Option<String>,
    events: Vec<EventDoc>,
}

impl PlanDoc {
    /// Returns the document of a command that would be accepted. `revision` is the domain's before it; none for a new one.
    pub fn accepted(domain: Option<DomainDoc>, revision: Option<u64>, told: &[Told]) -> PlanDoc {
        let consequences = told.iter().flat_map(|told| &told.consequences);
        PlanDoc {
            schema: "momentlog.plan/1",
            domain,
            revision,
            accepted: true,
            refusal: None,
            hint: None,
            events: consequences.map(EventDoc::of).collect(),
        }
    }

    /// Returns the document of a command that would be refused, and why.
    pub fn refused(why: &str, hint: Option<&str>) -> PlanDoc {
        PlanDoc {
            schema: "momentlog.plan/1",
            domain: None,
            revision: None,
            accepted: false,
            refusal: Some(why.to_owned()),
            hint: hint.map(str::to_owned),
            events: Vec::new(),
        }
    }
}
