//! `momentlog.suspicion/1`: a claimed time that needs an explanation.

use serde::Serialize;

use super::{DomainDoc, MomentDoc, claimed, recorded};
use crate::suspicion::{Suspicion, SuspicionOf};
use crate::told::Told;

/// A claimed time that needs an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SuspicionDoc {
    schema: &'static str,
    seq: u64,
    time: Option<String>,
    actor: String,
    domain: Option<DomainDoc>,
    kind: &'static str,
    moment: MomentDoc,
    why: &'static str,
    claimed: Option<String>,
    claimed_s: i64,
    other: Option<MomentDoc>,
    other_claimed: Option<String>,
    other_claimed_s: Option<i64>,
}

impl SuspicionDoc {
    /// Returns the document of a suspicion about a record.
    pub fn of(told: &Told, suspicion: &Suspicion) -> SuspicionDoc {
        let (why, other, other_claimed_s) = match &suspicion.why {
            SuspicionOf::Future => ("future", None, None),
            SuspicionOf::BeforeParent { parent, claimed } => {
                ("before_parent", Some(parent), Some(*claimed))
            }
            SuspicionOf::Changed { from } => ("changed", None, Some(*from)),
            SuspicionOf::SameAsSibling { sibling } => {
                ("same_as_sibling", Some(sibling), Some(suspicion.claimed))
            }
        };
        let entry = &told.entry;
        let domain = entry.domain;
        SuspicionDoc {
            schema: "momentlog.suspicion/1",
            seq: entry.head.seq.get(),
            time: recorded(entry.recorded),
            actor: entry.actor.to_string(),
            domain: domain.map(|uuid| DomainDoc::of(uuid, told.domain.as_deref())),
            kind: suspicion.kind.as_str(),
            moment: MomentDoc::of(&suspicion.moment),
            why,
            claimed: claimed(suspicion.claimed),
            claimed_s: suspicion.claimed,
            other: MomentDoc::some(other),
            other_claimed: other_claimed_s.and_then(claimed),
            other_claimed_s,
        }
    }
}
