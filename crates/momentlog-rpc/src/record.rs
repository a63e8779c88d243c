//! A log of what a proxy passes on: who called what, and what it did to domains and their moments.
//!
//! What a call did is what libvirtd lists afterwards and the log does not say. Therefore a domain has one recorded call at a
//! time, and is looked at before it as well: what differs then came by another way, and has the actor [`OUTSIDE`].

mod calls;
mod client;
mod gap;
mod look;
mod turns;
mod upstream;
mod writer;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use momentlog::core::{
    Change, DomainSeen, DomainUuid, JobId, JobKind, JobLength, JobOutcome, OpenJob, Refusal,
    Report, Seen, SettledBy,
};
use momentlog::{Call, Connection, Error, Outcome, Provenance};

use crate::failure::Failure;
use crate::held::Recorder;
use crate::peer::{peer_of, provenance_of};
use client::ClientRecorder;
use gap::Gap;
use turns::{Key, Turns};
use upstream::{LookError, Upstream};
use writer::Writer;

/// The actor of what no recorded call did.
pub const OUTSIDE: &str = "outside";

/// A log of the calls that a proxy passes on.
#[derive(Clone, Debug)]
pub struct CallLog(Arc<Shared>);

/// What is passed on, and where it is recorded.
#[derive(Debug)]
struct Shared {
    writer: Writer,
    /// What is asked by no client is asked by this process.
    own: Provenance,
    /// libvirtd's socket.
    socket: PathBuf,
    /// The driver that is looked at.
    uri: String,
    on_failure: OnFailure,
    turns: Arc<Turns>,
    gap: Gap,
    /// Whether what libvirtd lists was taken over once.
    is_taken_over: AtomicBool,
}

/// What becomes of a call that cannot be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It fails (libvirt's code 38), and is not passed on.
    Refuse,
    /// It is passed on, and the log says so as soon as it can.
    PassOn,
}

/// Why a domain is not known as it is now.
#[derive(Debug, thiserror::Error)]
enum Unseen {
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Log(#[from] Error),
}

impl CallLog {
    /// A log of the calls that change domains of the driver of `uri`, of the libvirtd that listens on `socket`. `open` opens
    /// the store: it is called again where a connection can be written no more, and must not return the same
    /// ([`Options::shared`](momentlog::Options::shared)).
    ///
    /// # Errors
    ///
    /// What `open` says.
    pub fn new(
        open: impl Fn() -> momentlog::Result<Connection> + Send + Sync + 'static,
        socket: &Path,
        uri: &str,
        on_failure: OnFailure,
    ) -> momentlog::Result<CallLog> {
        let writer = Writer::new(Box::new(open))?;
        let own = writer.connection().provenance().clone();
        Ok(CallLog(Arc::new(Shared {
            writer,
            own,
            socket: socket.to_owned(),
            uri: uri.to_owned(),
            on_failure,
            turns: Arc::default(),
            gap: Gap::default(),
            is_taken_over: AtomicBool::new(false),
        })))
    }

    /// The driver of QEMU's domains that a libvirtd of this user has: the system's if that is root.
    pub fn usual_uri() -> &'static str {
        if rustix::process::geteuid().is_root() {
            "qemu:///system"
        } else {
            "qemu:///session"
        }
    }

    /// Records what libvirtd lists and the log does not say, and settles jobs that were left open. What keeps it from that may
    /// be over at the next look.
    pub(crate) fn look(&self) {
        if let Err(error) = self.0.take_over() {
            tracing::warn!("what libvirtd lists is not recorded yet: {error}");
        }
    }

    /// The recorder of a client's calls.
    ///
    /// # Errors
    ///
    /// If the system does not tell who the client is.
    pub(crate) fn recorder(&self, client: &UnixStream) -> Result<impl Recorder + use<>, Failure> {
        let peer = peer_of(client)
            .map_err(|error| Failure::system(format!("the proxy cannot tell who asks: {error}")))?;
        let provenance = provenance_of(&peer, &self.0.own);
        Ok(ClientRecorder::new(self.0.clone(), provenance))
    }
}

impl Shared {
    fn connect(&self) -> Result<Upstream, LookError> {
        Upstream::open(&self.socket, &self.uri)
    }

    /// Looks at all domains, and records what differs.
    fn take_over(&self) -> Result<(), Unseen> {
        let mut upstream = self.connect()?;
        self.tell_gap()?;
        let listed = look::domains(&mut upstream)?;
        let view = self.view();
        // Those that are gone come first: their names may be others' by now.
        let known = view.state().domains().map(momentlog::core::Domain::uuid);
        let gone = known.filter(|uuid| !listed.contains(uuid));
        let mut failed = None;
        for uuid in gone.chain(listed.iter().copied()) {
            // A call that is on its way looks at its domain by itself, also at one that it defines.
            let is_known = view.state().domain(uuid).is_some();
            let keys = [Key::Domain(uuid), Key::New];
            let keys = if is_known { &keys[..1] } else { &keys[..] };
            let turns: Option<Vec<_>> = keys.iter().map(|key| self.turns.try_take(*key)).collect();
            let Some(_turns) = turns else {
                continue;
            };
            match self.align(&mut upstream, uuid) {
                // Of one domain alone.
                Err(Unseen::Look(error)) if !error.is_of_connection() => failed = Some(error),
                aligned => aligned?,
            }
        }
        self.is_taken_over.store(true, Ordering::Release);
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The newest state. A store that cannot be read is found when it is written.
    fn view(&self) -> Arc<momentlog::View> {
        let connection = self.writer.connection();
        let newest = connection.refresh();
        newest.unwrap_or_else(|_| connection.view())
    }

    /// Makes one record of a call.
    fn report(
        &self,
        provenance: &Provenance,
        call: (Call, u32),
        domain: Option<DomainUuid>,
        reports: &[Report],
    ) -> momentlog::Result<Outcome> {
        self.writer.write(|connection| {
            let connection = connection.with_provenance(provenance.clone());
            connection.report_call(call, domain, reports)
        })
    }

    /// Looks at a domain, settles the job that a call to it has left open, and records what differs.
    fn align(&self, upstream: &mut Upstream, uuid: DomainUuid) -> Result<(), Unseen> {
        let seen = look::domain(upstream, uuid)?;
        self.record_seen(upstream, |seen| self.note(uuid, seen), seen)
    }

    /// Has a look at a domain recorded. If another domain has its name in the log, that one is looked at first.
    fn record_seen(
        &self,
        upstream: &mut Upstream,
        record: impl Fn(Option<Box<DomainSeen>>) -> momentlog::Result<()>,
        seen: Option<Box<DomainSeen>>,
    ) -> Result<(), Unseen> {
        let Err(error) = record(seen.clone()) else {
            return Ok(());
        };
        let Some(Refusal::DomainNameTaken { uuid: other, .. }) = error.refusal() else {
            return Err(error.into());
        };
        let Some(_turn) = self.turns.try_take(Key::Domain(*other)) else {
            // The call that is on its way there records what became of its name.
            return Err(error.into());
        };
        let theirs = look::domain(upstream, *other)?;
        self.note(*other, theirs)?;
        Ok(record(seen)?)
    }

    /// Records what differs, if anything does: as the outcome of the call that was left open, or as what came by another way.
    fn note(&self, uuid: DomainUuid, seen: Option<Box<DomainSeen>>) -> momentlog::Result<()> {
        let view = self.view();
        let domain = view.state().domain(uuid);
        let open = domain.and_then(|domain| domain.jobs().get(JobLength::Short));
        if let Some(open) = open.filter(|open| open.job.kind == JobKind::Forward) {
            return self.settle(&view, uuid, open, seen);
        }
        let see = Report::SeeDomain(seen);
        if view.state().decide_report(uuid, &see) == Ok(Vec::new()) {
            return Ok(());
        }
        let outside = Provenance {
            actor: OUTSIDE.into(),
            ..self.own.clone()
        };
        self.report(&outside, (Call::OBSERVE, 0), Some(uuid), &[see])?;
        Ok(())
    }

    /// Settles a job that was left open: its call did what differs, and failed if nothing does.
    fn settle(
        &self,
        view: &momentlog::View,
        uuid: DomainUuid,
        open: &OpenJob,
        seen: Option<Box<DomainSeen>>,
    ) -> momentlog::Result<()> {
        let see = Report::SeeDomain(seen);
        let is_same = view.state().decide_report(uuid, &see) == Ok(Vec::new());
        let found = if is_same { "as before" } else { "changed" };
        let outcome = self.outcome(open.id, &[("libvirt", found)], SettledBy::Later);
        let settled = if is_same {
            Report::Fail(outcome)
        } else {
            Report::End {
                outcome,
                then: None,
            }
        };
        let beginner = self.beginner(uuid, open.id)?;
        self.report(&beginner, (Call::SETTLE, 0), Some(uuid), &[settled, see])?;
        Ok(())
    }

    /// Who made the call of a job.
    fn beginner(&self, uuid: DomainUuid, job: JobId) -> momentlog::Result<Provenance> {
        let mut found = self.own.clone();
        for step in self.writer.connection().history_of(uuid)? {
            let entry = step?.entry;
            let begins =
                |change: &Change| matches!(change, Change::JobBegun { id, .. } if *id == job);
            if entry.events.iter().any(|event| begins(&event.change)) {
                found.actor = entry.actor;
                let agent = entry.agent.filter(|agent| !agent.is_empty());
                found.agent = agent.unwrap_or_else(|| self.own.agent.clone());
            }
        }
        Ok(found)
    }

    fn outcome(&self, job: JobId, seen: &[(&str, &str)], settled_by: SettledBy) -> JobOutcome {
        let pairs = seen
            .iter()
            .map(|(thing, found)| ((*thing).into(), (*found).into()))
            .collect();
        JobOutcome {
            job,
            seen: Seen::new(pairs).unwrap_or_default(),
            settled_by,
            agent: self.own.agent.clone(),
        }
    }

    /// Records which calls were passed on and not recorded, if any were.
    fn tell_gap(&self) -> momentlog::Result<()> {
        self.gap.tell(|said| {
            let told = Provenance {
                reason: Some(said.into()),
                ..self.own.clone()
            };
            self.report(&told, (Call::OBSERVE, 0), None, &[])?;
            Ok(())
        })
    }
}
