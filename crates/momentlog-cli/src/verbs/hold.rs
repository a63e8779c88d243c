//! The verbs that hold moments, release them, and list what is held.

use momentlog::Domain;
use momentlog::core::{Hold, HoldTag, MomentId, MomentKind, MomentName};
use momentlog_audit::json::{self, HoldDoc, HoldsDoc, MomentDoc};

use super::{Verb, the_domain};
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, OptionSpec, Spec, needed, word};
use crate::layout::escaped;
use crate::lines;
use crate::session::{Format, Session};
use crate::time::claimed;

const DOMAIN: OptionSpec = needed("domain", "domain name, id or uuid");
const TAG: OptionSpec = needed(
    "tag",
    "what the hold is called: 1 to 64 bytes, one of its own at the moment",
);
const CHECKPOINT: OptionSpec = needed("checkpointname", "checkpoint name");
const SNAPSHOT: OptionSpec = needed("snapshotname", "snapshot name");

/// The verbs of holds.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "checkpoint-hold",
            "hold a checkpoint: it is not deleted, redefined or hung elsewhere until it is released",
            &[DOMAIN, CHECKPOINT, TAG],
        )
        .changing(),
        run: hold,
    },
    Verb {
        spec: Spec::new(
            "checkpoint-release",
            "release a hold of a checkpoint",
            &[DOMAIN, CHECKPOINT, TAG],
        )
        .changing(),
        run: release,
    },
    Verb {
        spec: Spec::new(
            "snapshot-hold",
            "hold a snapshot: it is not deleted, redefined or hung elsewhere until it is released",
            &[DOMAIN, SNAPSHOT, TAG],
        )
        .changing(),
        run: hold,
    },
    Verb {
        spec: Spec::new(
            "snapshot-release",
            "release a hold of a snapshot",
            &[DOMAIN, SNAPSHOT, TAG],
        )
        .changing(),
        run: release,
    },
    Verb {
        spec: Spec::new(
            "hold-list",
            "list what is held, by whom and since when",
            &[word("domain", "only moments of this domain: its name, id or uuid")],
        ),
        run: list,
    },
];

/// What a verb is about: the kind is in its name.
struct Held {
    domain: Domain,
    kind: MomentKind,
    name: MomentName,
    tag: HoldTag,
}

impl Held {
    fn read(session: &Session, invocation: &Invocation) -> Result<Held, Failure> {
        let (kind, option) = if invocation.verb.takes("checkpointname") {
            (MomentKind::Checkpoint, "checkpointname")
        } else {
            (MomentKind::Snapshot, "snapshotname")
        };
        let domain = the_domain(session, invocation)?;
        let text = invocation.need(option);
        // As virsh does, for a name that no moment can have.
        let name = MomentName::new(text)
            .ok_or_else(|| Failure::new(format!("there is no {kind} '{}'", escaped(text))))?;
        let text = invocation.need("tag");
        let tag = HoldTag::new(text).ok_or_else(|| {
            let text = escaped(text);
            Failure::new(format!(
                "'{text}' is no tag: 1 to 64 bytes without control characters"
            ))
        })?;
        Ok(Held {
            domain,
            kind,
            name,
            tag,
        })
    }
}

pub fn hold(session: &mut Session, invocation: &Invocation) -> Answer {
    let held = Held::read(session, invocation)?;
    let connection = held.domain.connection();
    connection.hold(held.domain.uuid(), held.kind, &held.name, &held.tag)?;
    say(session, &held, "held");
    Ok(0)
}

pub fn release(session: &mut Session, invocation: &Invocation) -> Answer {
    let held = Held::read(session, invocation)?;
    let connection = held.domain.connection();
    connection.release_hold(held.domain.uuid(), held.kind, &held.name, &held.tag)?;
    say(session, &held, "released");
    Ok(0)
}

fn say(session: &mut Session, held: &Held, done: &str) {
    let kind = match held.kind {
        MomentKind::Snapshot => "snapshot",
        MomentKind::Checkpoint => "checkpoint",
    };
    let (name, tag) = (escaped(held.name.as_str()), escaped(held.tag.as_str()));
    session.say(&format!("Domain {kind} {name} {done}, tag {tag}\n"));
}

pub fn list(session: &mut Session, invocation: &Invocation) -> Answer {
    let view = session.connection.refresh()?;
    let only = match invocation.get("domain") {
        None => None,
        Some(_) => Some(the_domain(session, invocation)?.uuid()),
    };
    let domains = view.state().domains();
    let domains = domains.filter(|domain| only.is_none_or(|only| only == domain.uuid()));
    let width = lines::width();
    let mut text = String::new();
    let mut documents = Vec::new();
    for domain in domains {
        for (id, tag, hold) in domain.holds().iter() {
            let Some((kind, name)) = named(domain, id) else {
                continue;
            };
            if session.format == Format::Json {
                documents.push(document(domain, kind, id, name, tag, hold));
                continue;
            }
            let (name, of) = (escaped(name.as_str()), escaped(domain.name()));
            let head = format!(
                "{kind} {name} (#{id}) of {of}, tag {}",
                escaped(tag.as_str())
            );
            lines::push_hanging(&mut text, 1, &head, width);
            let by = format!("by {}, since {}", escaped(&hold.by), claimed(hold.since));
            lines::push_hanging(&mut text, 4, &by, width);
        }
    }
    match session.format {
        Format::Json => session.document(&HoldsDoc::of(documents)),
        Format::Text => session.print(&text),
    }
    Ok(0)
}

/// The kind and the name of a moment.
fn named(domain: &momentlog::core::Domain, id: MomentId) -> Option<(MomentKind, &MomentName)> {
    if let Some(snapshot) = domain.snapshots().get(id) {
        return Some((MomentKind::Snapshot, snapshot.name));
    }
    let checkpoint = domain.checkpoints().get(id)?;
    Some((MomentKind::Checkpoint, checkpoint.name))
}

fn document(
    domain: &momentlog::core::Domain,
    kind: MomentKind,
    id: MomentId,
    name: &MomentName,
    tag: &HoldTag,
    hold: &Hold,
) -> HoldDoc {
    HoldDoc {
        domain: json::DomainDoc::of(domain.uuid(), Some(domain.name())),
        kind: kind.as_str(),
        moment: MomentDoc::new(id, name.as_str()),
        tag: tag.to_string(),
        by: hold.by.to_string(),
        since: json::claimed(hold.since),
    }
}
