//! What comes before the rules of a domain: request ids, expected revisions, batches.

use momentlog_core::{Broken, Change, DomainUuid, Event, State};
use momentlog_store::Seq;

use crate::call::Call;
use crate::environment::{ACTOR_LEN_MAX, AGENT_LEN_MAX, Provenance, Revision};
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::ledger::{Ledger, View};
use crate::requests::Request;
use crate::stored::{Asked, REQUEST_ID_LEN_MAX, RequestKey};

/// One accepted command on its way into the log.
pub(super) struct Pending {
    /// None if it is about the store.
    pub(super) domain: Option<DomainUuid>,
    pub(super) asked: Asked,
    pub(super) events: Vec<Event>,
}

/// A command about one domain, or about the store, as the layer above wants it decided.
pub(crate) struct Ask<'a> {
    /// None if it is about the store.
    pub(crate) domain: Option<DomainUuid>,
    pub(crate) provenance: &'a Provenance,
    pub(crate) call: Call,
    /// The flag word of the call.
    pub(crate) flags: u32,
    /// Digest of what was asked, where there is a request id.
    pub(crate) digest: Option<[u8; 32]>,
}

pub(super) enum Decided {
    Accepted(Vec<Pending>),
    Repeated(Seq),
}

/// Decides commands on the state that they make as they go; the ledger is as before after that.
pub(super) fn decide_all(
    ledger: &mut Ledger,
    asks: &[Ask<'_>],
    decide: &mut dyn FnMut(&View, usize) -> Result<Vec<Event>>,
) -> Result<Decided> {
    // The last of them leaves the ledger as it is.
    let before = (asks.len() > 1).then(|| ledger.view.clone());
    let mut pending = Vec::with_capacity(asks.len());
    let mut decided = Ok(());
    for (index, ask) in asks.iter().enumerate() {
        decided = match decide_one(ledger, ask, &mut |view| decide(view, index)) {
            Ok(One::Repeated(seq)) if asks.len() == 1 => return Ok(Decided::Repeated(seq)),
            Ok(One::Repeated(_)) => unreachable!("a batch has no request id"),
            // Nobody decides on what the last one makes.
            Ok(One::Accepted(accepted)) if index + 1 == asks.len() => {
                pending.push(accepted);
                Ok(())
            }
            Ok(One::Accepted(accepted)) => {
                let applied = apply(&mut ledger.view.state, &accepted.events);
                pending.push(accepted);
                applied
            }
            Err(error) => Err(error),
        };
        if decided.is_err() {
            break;
        }
    }
    if let Some(before) = before {
        ledger.view = before;
    }
    decided.map(|()| Decided::Accepted(pending))
}

enum One {
    Accepted(Pending),
    Repeated(Seq),
}

/// Checks request id and expected revision, then decides.
fn decide_one(
    ledger: &Ledger,
    ask: &Ask<'_>,
    decide: &mut dyn FnMut(&View) -> Result<Vec<Event>>,
) -> Result<One> {
    let provenance = ask.provenance;
    let request = provenance
        .request_id
        .clone()
        .zip(ask.digest)
        .map(|(id, digest)| RequestKey { id, digest });
    if let Some(key) = &request
        && let Some(Request { seq, digest, .. }) = ledger.requests.get(&key.id)
    {
        if digest != key.digest {
            let detail = format!(
                "request id '{}' was used for another command, in record {seq}",
                key.id
            );
            return Err(Error::new(ErrorCode::InvalidArg, ErrorDomain::Test, detail));
        }
        return Ok(One::Repeated(seq));
    }
    if let Some(expected) = provenance.expected_revision {
        let Some(domain) = ask.domain else {
            let message = "the store's settings have no revision".to_owned();
            return Err(Error::argument(ErrorDomain::Domain, message));
        };
        let found = ledger.view.revision(domain);
        if found != expected {
            let text = |revision| match revision {
                Revision::None => "none".to_owned(),
                Revision::At(seq) => seq.to_string(),
            };
            let detail = format!(
                "the domain has revision {}, not {}",
                text(found),
                text(expected)
            );
            return Err(Error::new(
                ErrorCode::OperationAborted,
                ErrorDomain::Test,
                detail,
            ));
        }
    }
    if let Some(undone) = provenance.undoes
        && Some(undone) > ledger.seq
    {
        let message = format!("record {undone}, which is to be undone, is not in the log");
        return Err(Error::argument(ErrorDomain::Domain, message));
    }
    let events = decide(&ledger.view)?;
    Ok(One::Accepted(Pending {
        domain: ask.domain,
        asked: Asked {
            actor: provenance.actor.clone(),
            agent: provenance.agent.clone(),
            call: ask.call,
            flags: ask.flags,
            reason: provenance.reason.clone().filter(|text| !text.is_empty()),
            request,
            undoes: provenance.undoes,
        },
        events,
    }))
}

pub(super) fn vet(provenance: &Provenance) -> Result<()> {
    let refuse = |message: String| Err(Error::argument(ErrorDomain::Domain, message));
    for (what, text, max) in [
        ("actor", &provenance.actor, ACTOR_LEN_MAX),
        ("agent", &provenance.agent, AGENT_LEN_MAX),
    ] {
        if text.is_empty() {
            return refuse(format!("the {what} is empty"));
        }
        if text.len() > max {
            return refuse(format!("the {what} has more than {max} bytes"));
        }
    }
    match provenance.request_id.as_deref() {
        Some("") => refuse("the request id is empty".to_owned()),
        Some(id) if id.len() > REQUEST_ID_LEN_MAX => refuse(format!(
            "the request id has more than {REQUEST_ID_LEN_MAX} bytes"
        )),
        _ => Ok(()),
    }
}

/// Applies decided events: that they do not fit would be our own bug, and nothing was written.
pub(super) fn apply(state: &mut State, events: &[Event]) -> Result<()> {
    for event in events {
        state.advance(event).map_err(|misfit| {
            Error::new(
                ErrorCode::InternalError,
                ErrorDomain::Test,
                format!("a decided event does not fit: {misfit}"),
            )
        })?;
    }
    debug_assert_eq!(
        events
            .iter()
            .find_map(|event| check_around(state, event).err()),
        None
    );
    Ok(())
}

/// Checks the rules around what an event changed.
fn check_around(state: &State, event: &Event) -> std::result::Result<(), Broken> {
    use momentlog_core::MomentChange::{Created, CurrentSet, Deleted, Redefined, Reparented};
    let Some(domain) = event.domain.and_then(|uuid| state.domain(uuid)) else {
        return Ok(());
    };
    match &event.change {
        Change::Snapshot(
            Created { id, .. } | Redefined { id, .. } | Deleted { id, .. } | Reparented { id, .. },
        )
        | Change::Reverted { id, .. } => domain.snapshots().check_around(*id),
        Change::Checkpoint(
            Created { id, .. } | Redefined { id, .. } | Deleted { id, .. } | Reparented { id, .. },
        ) => domain.checkpoints().check_around(*id),
        Change::HoldAdded { id, .. } => {
            let (snapshots, checkpoints) = (domain.snapshots(), domain.checkpoints());
            let is_there = snapshots.get(*id).is_some() || checkpoints.get(*id).is_some();
            if is_there {
                Ok(())
            } else {
                Err(Broken::Hold(*id))
            }
        }
        Change::JobBegun { id, .. } => match state.next_job() {
            Some(next) if *id >= next => Err(Broken::JobCounter(*id)),
            _ => Ok(()),
        },
        Change::Snapshot(CurrentSet(Some(id))) => domain.snapshots().check_around(*id),
        Change::Checkpoint(CurrentSet(Some(id))) => domain.checkpoints().check_around(*id),
        // No list and no counter changed.
        Change::DomainDefined { .. }
        | Change::StateChanged(_)
        | Change::MadeTransient
        | Change::DomainRemoved
        | Change::PolicySet(_)
        | Change::Snapshot(CurrentSet(None))
        | Change::Checkpoint(CurrentSet(None))
        | Change::JobEnded(_)
        | Change::JobFailed(_)
        | Change::HoldRemoved { .. }
        | Change::SettingsSet(_) => Ok(()),
    }
}
