//! `momentlog.life/1`: the life of a moment.

use momentlog_core::Extent;
use serde::Serialize;

use super::entry::DiskSeenDoc;
use super::{DomainDoc, FieldDoc, MomentDoc, claimed, recorded};
use crate::life::{Cause, Fate, Life, Turn, TurnOf};

/// The life of a moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LifeDoc {
    schema: &'static str,
    domain: DomainDoc,
    kind: &'static str,
    moment: MomentDoc,
    /// `alive` or `gone`.
    state: &'static str,
    below: Option<MomentDoc>,
    current: bool,
    gone_by: Option<u64>,
    restored_as: Option<MomentDoc>,
    claimed: Option<String>,
    claimed_s: Option<i64>,
    turns: Vec<TurnDoc>,
}

/// What one record did to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct TurnDoc {
    seq: u64,
    time: Option<String>,
    actor: String,
    reason: serde_json::Value,
    what: &'static str,
    #[serde(flatten)]
    more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum More {
    Nothing {},
    Found {
        below: Option<MomentDoc>,
    },
    Created {
        below: Option<MomentDoc>,
        current: bool,
    },
    Redefined {
        below: Option<MomentDoc>,
        fields: Vec<FieldDoc>,
    },
    Moved {
        from: Option<MomentDoc>,
        to: Option<MomentDoc>,
        because: CauseDoc,
    },
    Because {
        because: CauseDoc,
    },
    Hold {
        tag: String,
    },
    Seen {
        disks: Vec<DiskSeenDoc>,
    },
    Deleted {
        because: CauseDoc,
        moved_children: Vec<MomentDoc>,
    },
}

/// What caused it: a word, and the moment whose change did.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct CauseDoc {
    cause: &'static str,
    moment: Option<MomentDoc>,
}

impl CauseDoc {
    fn of(cause: &Cause) -> CauseDoc {
        let (cause, moment) = match cause {
            Cause::Asked => ("asked", None),
            Cause::Created(moment) => ("created", Some(moment)),
            Cause::Redefined(moment) => ("redefined", Some(moment)),
            Cause::Deleted(moment, Extent::One) => ("deleted", Some(moment)),
            Cause::Deleted(moment, Extent::Subtree) => ("deleted_with_children", Some(moment)),
            Cause::Deleted(moment, Extent::ChildrenOnly) => ("children_deleted", Some(moment)),
            Cause::Reverted(moment) => ("reverted", Some(moment)),
            Cause::DomainRemoved => ("domain_removed", None),
        };
        CauseDoc {
            cause,
            moment: MomentDoc::some(moment),
        }
    }
}

impl LifeDoc {
    /// Returns the document of a life.
    pub fn of(life: &Life) -> LifeDoc {
        let (state, below, current, gone_by, restored) = match &life.fate {
            Fate::Alive { below, current, .. } => ("alive", below.as_ref(), *current, None, None),
            Fate::Gone { by, restored } => ("gone", None, false, Some(by.get()), restored.as_ref()),
        };
        LifeDoc {
            schema: "momentlog.life/1",
            domain: DomainDoc::of(life.uuid, Some(&life.domain)),
            kind: life.kind.as_str(),
            moment: MomentDoc::of(&life.moment),
            state,
            below: MomentDoc::some(below),
            current,
            gone_by,
            restored_as: MomentDoc::some(restored),
            claimed: life.created.and_then(claimed),
            claimed_s: life.created,
            turns: life.turns.iter().map(TurnDoc::of).collect(),
        }
    }
}

impl TurnDoc {
    fn of(turn: &Turn) -> TurnDoc {
        let because = |cause: &Cause| More::Because {
            because: CauseDoc::of(cause),
        };
        let (what, more) = match &turn.what {
            TurnOf::Found { below } => {
                let below = MomentDoc::some(below.as_ref());
                ("found", More::Found { below })
            }
            TurnOf::Created { below, current } => {
                let (below, current) = (MomentDoc::some(below.as_ref()), *current);
                ("created", More::Created { below, current })
            }
            TurnOf::Redefined { below, fields } => {
                let below = MomentDoc::some(below.as_ref());
                let fields = FieldDoc::all(fields);
                ("redefined", More::Redefined { below, fields })
            }
            TurnOf::Moved { from, to, because } => {
                let more = More::Moved {
                    from: MomentDoc::some(from.as_ref()),
                    to: MomentDoc::some(to.as_ref()),
                    because: CauseDoc::of(because),
                };
                ("moved", more)
            }
            TurnOf::Current(cause) => ("current", because(cause)),
            TurnOf::NotCurrent(cause) => ("not_current", because(cause)),
            TurnOf::Reverted => ("reverted", More::Nothing {}),
            TurnOf::Held(tag, _) => ("held", hold(tag)),
            TurnOf::Released(tag) => ("released", hold(tag)),
            TurnOf::Seen(disks) => {
                let disks = DiskSeenDoc::all(disks);
                ("seen", More::Seen { disks })
            }
            TurnOf::Deleted { because, moved } => {
                let more = More::Deleted {
                    because: CauseDoc::of(because),
                    moved_children: MomentDoc::all(moved),
                };
                ("deleted", more)
            }
        };
        TurnDoc {
            seq: turn.entry.head.seq.get(),
            time: recorded(turn.entry.recorded),
            actor: turn.entry.actor.to_string(),
            reason: super::erasable(turn.entry.reason.as_deref()),
            what,
            more,
        }
    }
}

fn hold(tag: &momentlog_core::HoldTag) -> More {
    More::Hold {
        tag: tag.to_string(),
    }
}
