//! `momentlog.entry/1`: a record with what it has caused.

use momentlog_core::{DiskSeen, Extent, JobOutcome, MomentKind, Power, Settings, SettledBy};
use serde::Serialize;
use serde_json::Value as Json;

use super::{DomainDoc, FieldDoc, MomentDoc, claimed, erasable, recorded, rules};
use crate::consequence::{Consequence, Move, What};
use crate::told::Told;

/// A record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EntryDoc {
    schema: &'static str,
    seq: u64,
    time: Option<String>,
    /// `genesis`, `command` or `bridge`.
    kind: &'static str,
    actor: String,
    agent: Json,
    call: Option<String>,
    flags: Option<u32>,
    reason: Json,
    request_id: Option<String>,
    undoes: Option<u64>,
    domain: Option<DomainDoc>,
    previous: Option<u64>,
    events: Vec<EventDoc>,
    summary: String,
    digest: String,
}

impl EntryDoc {
    /// Returns the document of a record.
    pub fn of(told: &Told) -> EntryDoc {
        let entry = &told.entry;
        let kind = match (&entry.agent, &entry.bridge) {
            (None, _) => "genesis",
            (_, Some(_)) => "bridge",
            _ => "command",
        };
        let asked = kind != "genesis";
        EntryDoc {
            schema: "momentlog.entry/1",
            seq: entry.head.seq.get(),
            time: recorded(entry.recorded),
            kind,
            actor: entry.actor.to_string(),
            agent: erasable(entry.agent.as_deref()),
            call: asked.then(|| entry.call.to_string()),
            flags: asked.then_some(entry.flags),
            reason: erasable(entry.reason.as_deref()),
            request_id: entry.request_id.as_deref().map(str::to_owned),
            undoes: entry.undoes.map(momentlog_store::Seq::get),
            domain: entry
                .domain
                .map(|uuid| DomainDoc::of(uuid, told.domain.as_deref())),
            previous: entry.previous.map(momentlog_store::Seq::get),
            events: told.consequences.iter().map(EventDoc::of).collect(),
            summary: told.summary(),
            digest: entry.head.digest.to_string(),
        }
    }
}

/// An event: its type, and what it has caused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct EventDoc {
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    body: Body,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Body {
    None {},
    Archived {
        first: u64,
        last: u64,
        to: Json,
    },
    Settings {
        from: SettingsDoc,
        to: SettingsDoc,
    },
    Defined {
        live: bool,
        new: bool,
        fields: Vec<FieldDoc>,
    },
    State {
        from: &'static str,
        to: &'static str,
    },
    Removed {
        snapshots: Vec<MomentDoc>,
        checkpoints: Vec<MomentDoc>,
    },
    Renamed {
        from: String,
        to: String,
    },
    Autostart {
        from: bool,
        to: bool,
    },
    Policy {
        from: Vec<&'static str>,
        to: Vec<&'static str>,
    },
    Created {
        moment: MomentDoc,
        below: Option<MomentDoc>,
        current: bool,
    },
    Redefined {
        moment: MomentDoc,
        below: Option<MomentDoc>,
        fields: Vec<FieldDoc>,
        moved: Vec<MoveDoc>,
        current: bool,
    },
    Deleted {
        moment: MomentDoc,
        extent: &'static str,
        removed: Vec<MomentDoc>,
        moved: Vec<MoveDoc>,
        current: CurrentDoc,
    },
    Moved {
        moment: MomentDoc,
        from: Option<MomentDoc>,
        to: Option<MomentDoc>,
    },
    Current {
        from: Option<MomentDoc>,
        to: Option<MomentDoc>,
    },
    Reverted {
        moment: MomentDoc,
        state: &'static str,
    },
    Begun {
        job: u64,
        kind: &'static str,
        length: &'static str,
        deletes: Vec<MomentDoc>,
        disks: Vec<String>,
    },
    Outcome {
        job: u64,
        settled_later: bool,
        agent: Json,
        seen: Vec<SeenDoc>,
    },
    Attached {
        driver: String,
        socket: String,
        look_only: bool,
    },
    Held {
        moment: MomentDoc,
        tag: String,
        by: String,
        since: Option<String>,
    },
    Released {
        moment: MomentDoc,
        tag: String,
    },
    Seen {
        moment: MomentDoc,
        disks: Vec<DiskSeenDoc>,
    },
}

/// What was seen of a checkpoint's bitmap on a disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct DiskSeenDoc {
    disk: String,
    state: &'static str,
}

impl DiskSeenDoc {
    pub(super) fn all(disks: &[DiskSeen]) -> Vec<DiskSeenDoc> {
        let doc = |seen: &DiskSeen| DiskSeenDoc {
            disk: seen.disk.to_string(),
            state: seen.state.as_str(),
        };
        disks.iter().map(doc).collect()
    }
}

/// A moment that hangs elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct MoveDoc {
    moment: MomentDoc,
    from: Option<MomentDoc>,
    to: Option<MomentDoc>,
}

/// The current moment before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct CurrentDoc {
    changed: bool,
    from: Option<MomentDoc>,
    to: Option<MomentDoc>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct SeenDoc {
    thing: String,
    found: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct SettingsDoc {
    policy: Vec<&'static str>,
    request_window_s: u32,
}

impl SettingsDoc {
    fn of(settings: Settings) -> SettingsDoc {
        SettingsDoc {
            policy: rules(settings.policy),
            request_window_s: settings.request_window_s,
        }
    }
}

impl MoveDoc {
    fn all(moved: &[Move]) -> Vec<MoveDoc> {
        let doc = |moved: &Move| MoveDoc {
            moment: MomentDoc::of(&moved.moment),
            from: MomentDoc::some(moved.from.as_ref()),
            to: MomentDoc::some(moved.to.as_ref()),
        };
        moved.iter().map(doc).collect()
    }
}

impl CurrentDoc {
    fn of(consequence: &Consequence) -> CurrentDoc {
        let change = consequence.current.as_ref();
        CurrentDoc {
            changed: change.is_some(),
            from: change.and_then(|change| MomentDoc::some(change.from.as_ref())),
            to: change.and_then(|change| MomentDoc::some(change.to.as_ref())),
        }
    }
}

fn state(power: Power) -> &'static str {
    momentlog_core::SnapshotState::Run(power.state).as_str()
}

fn extent(extent: Extent) -> &'static str {
    match extent {
        Extent::One => "one",
        Extent::Subtree => "subtree",
        Extent::ChildrenOnly => "children_only",
    }
}

impl EventDoc {
    pub(super) fn of(consequence: &Consequence) -> EventDoc {
        let (kind, body) = event(consequence);
        EventDoc { kind, body }
    }
}

/// The type and the body of an event.
#[expect(clippy::too_many_lines, reason = "an arm for each kind of event")]
fn event(consequence: &Consequence) -> (String, Body) {
    let of = |kind: MomentKind, what: &str| format!("{kind}_{what}");
    match &consequence.what {
        What::Begun => ("log_begun".to_owned(), Body::None {}),
        What::Archived(bridge) => (
            "records_archived".to_owned(),
            Body::Archived {
                first: bridge.first.get(),
                last: bridge.last.seq.get(),
                to: erasable(bridge.archive.as_deref()),
            },
        ),
        What::SettingsSet { from, to } => (
            "settings_set".to_owned(),
            Body::Settings {
                from: SettingsDoc::of(*from),
                to: SettingsDoc::of(*to),
            },
        ),
        What::DomainDefined { live, fields, .. } => (
            "domain_defined".to_owned(),
            Body::Defined {
                live: *live,
                new: fields.is_none(),
                fields: FieldDoc::all(fields.as_deref().unwrap_or_default()),
            },
        ),
        What::StateChanged { from, to } => (
            "state_changed".to_owned(),
            Body::State {
                from: state(*from),
                to: state(*to),
            },
        ),
        What::MadeTransient => ("made_transient".to_owned(), Body::None {}),
        What::DomainRemoved {
            snapshots,
            checkpoints,
        } => (
            "domain_removed".to_owned(),
            Body::Removed {
                snapshots: MomentDoc::all(snapshots),
                checkpoints: MomentDoc::all(checkpoints),
            },
        ),
        What::DomainRenamed { from, to } => (
            "domain_renamed".to_owned(),
            Body::Renamed {
                from: from.to_string(),
                to: to.to_string(),
            },
        ),
        What::AutostartSet { from, to } => (
            "autostart_set".to_owned(),
            Body::Autostart {
                from: *from,
                to: *to,
            },
        ),
        What::PolicySet { from, to } => (
            "policy_set".to_owned(),
            Body::Policy {
                from: rules(*from),
                to: rules(*to),
            },
        ),
        What::Created {
            kind,
            moment,
            below,
        } => (
            of(*kind, "created"),
            Body::Created {
                moment: MomentDoc::of(moment),
                below: MomentDoc::some(below.as_ref()),
                current: consequence.current.is_some(),
            },
        ),
        What::Redefined {
            kind,
            moment,
            below,
            fields,
        } => (
            of(*kind, "redefined"),
            Body::Redefined {
                moment: MomentDoc::of(moment),
                below: MomentDoc::some(below.as_ref()),
                fields: FieldDoc::all(fields),
                moved: MoveDoc::all(&consequence.moved),
                current: consequence.current.is_some(),
            },
        ),
        What::Deleted {
            kind,
            moment,
            extent: taken,
            removed,
            ..
        } => (
            of(*kind, "deleted"),
            Body::Deleted {
                moment: MomentDoc::of(moment),
                extent: extent(*taken),
                removed: MomentDoc::all(removed),
                moved: MoveDoc::all(&consequence.moved),
                current: CurrentDoc::of(consequence),
            },
        ),
        What::Moved {
            kind,
            moment,
            below,
        } => {
            let moved = consequence.moved.first();
            let from = moved.map_or(below.as_ref(), |moved| moved.from.as_ref());
            (
                of(*kind, "moved"),
                Body::Moved {
                    moment: MomentDoc::of(moment),
                    from: MomentDoc::some(from),
                    to: MomentDoc::some(below.as_ref()),
                },
            )
        }
        What::CurrentSet { kind, moment } => {
            let change = consequence.current.as_ref();
            let from = change.map_or(moment.as_ref(), |change| change.from.as_ref());
            (
                of(*kind, "current_set"),
                Body::Current {
                    from: MomentDoc::some(from),
                    to: MomentDoc::some(moment.as_ref()),
                },
            )
        }
        What::Reverted { moment, power } => (
            "snapshot_reverted".to_owned(),
            Body::Reverted {
                moment: MomentDoc::of(moment),
                state: state(*power),
            },
        ),
        What::Held {
            kind,
            moment,
            tag,
            hold,
        } => (
            of(*kind, "held"),
            Body::Held {
                moment: MomentDoc::of(moment),
                tag: tag.to_string(),
                by: hold.by.to_string(),
                since: claimed(hold.since),
            },
        ),
        What::Released { kind, moment, tag } => (
            of(*kind, "released"),
            Body::Released {
                moment: MomentDoc::of(moment),
                tag: tag.to_string(),
            },
        ),
        What::JobBegun { id, job, deletes } => {
            let mut disks: Vec<String> = Vec::new();
            for effect in &job.effects {
                if !disks.iter().any(|disk| **disk == *effect.disk) {
                    disks.push(effect.disk.to_string());
                }
            }
            let length = match job.length {
                momentlog_core::JobLength::Short => "short",
                momentlog_core::JobLength::Long => "long",
            };
            (
                "job_begun".to_owned(),
                Body::Begun {
                    job: id.get(),
                    kind: job.kind.as_str(),
                    length,
                    deletes: MomentDoc::all(deletes),
                    disks,
                },
            )
        }
        What::JobEnded(outcome) => ("job_ended".to_owned(), outcome_body(outcome)),
        What::JobFailed(outcome) => ("job_failed".to_owned(), outcome_body(outcome)),
        What::Attached(attachment) => (
            "hypervisor_attached".to_owned(),
            Body::Attached {
                driver: attachment.driver.to_string(),
                socket: attachment.socket.to_string(),
                look_only: attachment.look_only,
            },
        ),
        What::Detached => ("hypervisor_detached".to_owned(), Body::None {}),
        What::Seen { moment, disks } => (
            "checkpoint_seen".to_owned(),
            Body::Seen {
                moment: MomentDoc::of(moment),
                disks: DiskSeenDoc::all(disks),
            },
        ),
    }
}

fn outcome_body(outcome: &JobOutcome) -> Body {
    let seen = outcome.seen.pairs().iter().map(|(thing, found)| SeenDoc {
        thing: thing.to_string(),
        found: found.to_string(),
    });
    Body::Outcome {
        job: outcome.job.get(),
        settled_later: outcome.settled_by == SettledBy::Later,
        agent: erasable(Some(&outcome.agent)),
        seen: seen.collect(),
    }
}
