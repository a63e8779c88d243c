//! `momentlog.diff/1`: what differs between two points.

use momentlog_store::Seq;
use serde::Serialize;

use super::{DomainDoc, FieldDoc, MomentDoc, recorded, rules};
use crate::diff::{By, DomainDiff, Existence, ListDiff};

/// What differs between two points.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiffDoc {
    schema: &'static str,
    from: PointDoc,
    to: PointDoc,
    domains: Vec<DomainDiffDoc>,
}

/// A point: a record, and its time.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct PointDoc {
    seq: u64,
    time: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct DomainDiffDoc {
    domain: DomainDoc,
    /// `both`, `gone`, `new` or `between`.
    existence: &'static str,
    by: Option<u64>,
    policy: Option<Change<Vec<&'static str>>>,
    power: Option<Change<&'static str>>,
    autostart: Option<Change<bool>>,
    definition: Vec<FieldDoc>,
    policies: Vec<PolicyDoc>,
    snapshots: Option<ListDoc>,
    checkpoints: Option<ListDoc>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Change<T> {
    from: T,
    to: T,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct PolicyDoc {
    by: u64,
    from: Vec<&'static str>,
    to: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ListDoc {
    current: Option<Change<Option<MomentDoc>>>,
    removed: Vec<RemovedDoc>,
    added: Vec<AddedDoc>,
    changed: Vec<ChangedDoc>,
    transient: Vec<BetweenDoc>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct RemovedDoc {
    moment: MomentDoc,
    by: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct AddedDoc {
    moment: MomentDoc,
    below: Option<MomentDoc>,
    by: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ChangedDoc {
    moment: MomentDoc,
    moved: Option<MovedDoc>,
    redefined: Option<RedefinedDoc>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct MovedDoc {
    from: Option<MomentDoc>,
    to: Option<MomentDoc>,
    by: u64,
    because: Option<MomentDoc>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct RedefinedDoc {
    by: Vec<u64>,
    fields: Vec<FieldDoc>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct BetweenDoc {
    moment: MomentDoc,
    created: u64,
    deleted: u64,
}

impl DiffDoc {
    /// Returns the document of what differs between two records, each with its recorded time.
    pub fn of(from: (Seq, i64), to: (Seq, i64), domains: &[DomainDiff]) -> DiffDoc {
        let point = |(seq, time): (Seq, i64)| PointDoc {
            seq: seq.get(),
            time: recorded(time),
        };
        DiffDoc {
            schema: "momentlog.diff/1",
            from: point(from),
            to: point(to),
            domains: domains.iter().map(DomainDiffDoc::of).collect(),
        }
    }
}

fn seq(by: &By) -> u64 {
    by.seq.get()
}

impl DomainDiffDoc {
    fn of(diff: &DomainDiff) -> DomainDiffDoc {
        let (existence, by) = match diff.existence {
            Existence::Both => ("both", None),
            Existence::Gone(by) => ("gone", Some(by.get())),
            Existence::New(by) => ("new", Some(by.get())),
            Existence::Between => ("between", None),
        };
        let state =
            |power: momentlog_core::Power| momentlog_core::SnapshotState::Run(power.state).as_str();
        DomainDiffDoc {
            domain: DomainDoc::of(diff.uuid, Some(&diff.domain)),
            existence,
            by,
            policy: diff.policy.map(|(from, to)| Change {
                from: rules(from),
                to: rules(to),
            }),
            power: diff.power.map(|(from, to)| Change {
                from: state(from),
                to: state(to),
            }),
            autostart: diff.autostart.map(|(from, to)| Change { from, to }),
            definition: FieldDoc::all(&diff.definition),
            policies: diff
                .policies
                .iter()
                .map(|(by, from, to)| PolicyDoc {
                    by: seq(by),
                    from: rules(*from),
                    to: rules(*to),
                })
                .collect(),
            snapshots: ListDoc::of(&diff.snapshots),
            checkpoints: ListDoc::of(&diff.checkpoints),
        }
    }
}

impl ListDoc {
    fn of(diff: &ListDiff) -> Option<ListDoc> {
        if diff.is_empty() {
            return None;
        }
        let current = diff.current.as_ref().map(|(from, to)| Change {
            from: MomentDoc::some(from.as_ref()),
            to: MomentDoc::some(to.as_ref()),
        });
        let removed = diff.removed.iter().map(|removed| RemovedDoc {
            moment: MomentDoc::of(&removed.moment),
            by: seq(&removed.by),
        });
        let added = diff.added.iter().map(|added| AddedDoc {
            moment: MomentDoc::of(&added.moment),
            below: MomentDoc::some(added.below.as_ref()),
            by: seq(&added.by),
        });
        let changed = diff.changed.iter().map(|changed| ChangedDoc {
            moment: MomentDoc::of(&changed.moment),
            moved: changed.moved.as_ref().map(|moved| MovedDoc {
                from: MomentDoc::some(moved.from.as_ref()),
                to: MomentDoc::some(moved.to.as_ref()),
                by: seq(&moved.by),
                because: MomentDoc::some(moved.because.as_ref()),
            }),
            redefined: changed.redefined.as_ref().map(|redefined| RedefinedDoc {
                by: redefined.by.iter().map(seq).collect(),
                fields: FieldDoc::all(&redefined.fields),
            }),
        });
        let between = diff.between.iter().map(|between| BetweenDoc {
            moment: MomentDoc::of(&between.moment),
            created: between.created.get(),
            deleted: between.removed.get(),
        });
        Some(ListDoc {
            current,
            removed: removed.collect(),
            added: added.collect(),
            changed: changed.collect(),
            transient: between.collect(),
        })
    }
}
