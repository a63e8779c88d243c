//! What comes before the rules of a domain: request ids, expected revisions, batches.

use momentlog_core::{BrokenState, Change, DomainUuid, Event, State};
use momentlog_store::Seq;

use crate::codec::{Asked, REQUEST_ID_LEN_MAX, RequestKey};
use crate::decision::Decision;
use crate::environment::{ACTOR_LEN_MAX, AGENT_LEN_MAX, Provenance};
use crate::error::{BadProvenance, EngineError};
use crate::ledger::Ledger;
use crate::request::Request;
use crate::requests::Remembered;

/// One accepted request on its way into the log.
pub(super) struct Accepted {
    /// None if it is about the store.
    pub(super) domain: Option<DomainUuid>,
    pub(super) asked: Asked,
    pub(super) events: Vec<Event>,
}

pub(super) enum Decided {
    Accepted(Vec<Accepted>),
    /// The only request was recorded before, as this record.
    Repeated(Seq),
}

/// Decides requests on the state that they make as they go; the ledger is as before after that.
pub(super) fn decide_all<E: From<EngineError>>(
    ledger: &mut Ledger,
    requests: &[Request<'_>],
    decide: &mut dyn FnMut(&mut Decision<'_>, usize) -> Result<(), E>,
) -> Result<Decided, E> {
    if let [request] = requests
        && let Some(seq) = recorded(ledger, request)?
    {
        return Ok(Decided::Repeated(seq));
    }
    // The last of them leaves the ledger as it is.
    let before = (requests.len() > 1).then(|| ledger.view.clone());
    let mut all = Vec::with_capacity(requests.len());
    let decided = (0..).zip(requests).try_for_each(|(index, request)| {
        let accepted = decide_one(ledger, request, &mut |decision| decide(decision, index))?;
        if index + 1 < requests.len() {
            apply(&mut ledger.view.state, &accepted.events)?;
        }
        all.push(accepted);
        Ok(())
    });
    if let Some(before) = before {
        ledger.view = before;
    }
    decided.map(|()| Decided::Accepted(all))
}

/// Returns the record that a request stands for, if it is asked once more.
fn recorded(ledger: &Ledger, request: &Request<'_>) -> Result<Option<Seq>, EngineError> {
    let Some(key) = key_of(request) else {
        return Ok(None);
    };
    match ledger.requests.get(&key.id) {
        Some(Remembered { seq, digest, .. }) if digest == key.digest => Ok(Some(seq)),
        Some(Remembered { seq, .. }) => Err(EngineError::RequestReused { id: key.id, seq }),
        None => Ok(None),
    }
}

fn key_of(request: &Request<'_>) -> Option<RequestKey> {
    let (id, digest) = request.provenance.request_id.clone().zip(request.digest)?;
    Some(RequestKey { id, digest })
}

/// Checks what the request expects of the log, then decides it.
fn decide_one<E: From<EngineError>>(
    ledger: &Ledger,
    request: &Request<'_>,
    decide: &mut dyn FnMut(&mut Decision<'_>) -> Result<(), E>,
) -> Result<Accepted, E> {
    let provenance = request.provenance;
    if let Some(expected) = provenance.expected_revision {
        let Some(domain) = request.domain else {
            return Err(EngineError::from(BadProvenance::NoRevision).into());
        };
        let found = ledger.view.revision(domain);
        if found != expected {
            return Err(EngineError::Stale { expected, found }.into());
        }
    }
    if let Some(undone) = provenance.undoes
        && Some(undone) > ledger.seq
    {
        return Err(EngineError::from(BadProvenance::Undoes(undone)).into());
    }
    let mut decision = Decision::on(&ledger.view);
    decide(&mut decision)?;
    Ok(Accepted {
        domain: request.domain,
        asked: Asked {
            actor: provenance.actor.clone(),
            agent: provenance.agent.clone(),
            call: request.call,
            flags: request.flags,
            reason: provenance.reason.clone().filter(|text| !text.is_empty()),
            request: key_of(request),
            undoes: provenance.undoes,
        },
        events: decision.into_events(),
    })
}

/// Checks that provenance can be recorded.
pub(super) fn validate(provenance: &Provenance) -> Result<(), BadProvenance> {
    let request_id = provenance.request_id.as_ref();
    let texts = [
        ("actor", Some(&provenance.actor), ACTOR_LEN_MAX),
        ("agent", Some(&provenance.agent), AGENT_LEN_MAX),
        ("request id", request_id, REQUEST_ID_LEN_MAX),
    ];
    for (what, text, max) in texts {
        match text {
            Some(text) if text.is_empty() => return Err(BadProvenance::Empty(what)),
            Some(text) if text.len() > max => return Err(BadProvenance::TooLong { what, max }),
            _ => {}
        }
    }
    Ok(())
}

/// Applies decided events: that they do not fit would be our own bug, and nothing was written.
pub(super) fn apply(state: &mut State, events: &[Event]) -> Result<(), EngineError> {
    events.iter().try_for_each(|event| state.advance(event))?;
    debug_assert_eq!(
        events
            .iter()
            .find_map(|event| check_around(state, event).err()),
        None
    );
    Ok(())
}

/// Checks the rules around what an event changed.
fn check_around(state: &State, event: &Event) -> Result<(), BrokenState> {
    use momentlog_core::MomentChange::{Created, CurrentSet, Deleted, Redefined, Reparented};
    let Some(domain) = event.domain.and_then(|uuid| state.domain(uuid)) else {
        return Ok(());
    };
    match &event.change {
        Change::Snapshot(
            Created { id, .. } | Redefined { id, .. } | Deleted { id, .. } | Reparented { id, .. },
        )
        | Change::Reverted { id, .. } => Ok(domain.snapshots().check_around(*id)?),
        Change::Checkpoint(
            Created { id, .. } | Redefined { id, .. } | Deleted { id, .. } | Reparented { id, .. },
        ) => Ok(domain.checkpoints().check_around(*id)?),
        Change::HoldAdded { id, .. } => {
            let (snapshots, checkpoints) = (domain.snapshots(), domain.checkpoints());
            let is_there = snapshots.get(*id).is_some() || checkpoints.get(*id).is_some();
            if is_there {
                Ok(())
            } else {
                Err(BrokenState::Hold(*id))
            }
        }
        Change::JobBegun { id, .. } => match state.next_job() {
            Some(next) if *id >= next => Err(BrokenState::JobCounter(*id)),
            _ => Ok(()),
        },
        Change::Snapshot(CurrentSet(Some(id))) => Ok(domain.snapshots().check_around(*id)?),
        Change::Checkpoint(CurrentSet(Some(id))) => Ok(domain.checkpoints().check_around(*id)?),
        // No list and no counter changed.
        Change::DomainDefined { .. }
        | Change::StateChanged(_)
        | Change::MadeTransient
        | Change::DomainRemoved
        | Change::DomainRenamed(_)
        | Change::AutostartSet(_)
        | Change::PolicySet(_)
        | Change::Snapshot(CurrentSet(None))
        | Change::Checkpoint(CurrentSet(None))
        | Change::JobEnded(_)
        | Change::JobFailed(_)
        | Change::HypervisorAttached(_)
        | Change::HypervisorDetached
        | Change::CheckpointSeen { .. }
        | Change::HoldRemoved { .. }
        | Change::SettingsSet(_) => Ok(()),
    }
}
