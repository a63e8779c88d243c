//! A log of what a proxy passes on: who called what, and what it did to domains and their moments.
//!
//! What a call did is what libvirtd lists afterwards and the log does not say. Therefore a domain has one recorded call at a
//! time, and is looked at before it as well: what differs then came by another way, and has the actor [`OUTSIDE`].

mod alters;
mod calls;
mod client;
#[cfg(test)]
mod fake;
mod gap;
mod look;
mod turns;
mod upstream;
mod watch;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use momentlog::core::{
    Change, Domain, DomainSeen, DomainUuid, JobId, JobKind, JobLength, JobOutcome, OpenJob,
    Refusal, Report, Seen, SettledBy,
};
use momentlog::{Call, Connection, Error, Outcome, Peer, Provenance};

use crate::held::Recorder;
use crate::peer::provenance_of;
use alters::Alters;
use client::ClientRecorder;
use gap::Gap;
use turns::{Key, Turn, Turns};
use upstream::{LookError, Upstream};
use watch::Watching;
use writer::Writer;

/// The actor of what no recorded call did.
pub const OUTSIDE: &str = "outside";

/// The uuid of a domain whose XML has none.
const NO_UUID: DomainUuid = DomainUuid::from_bytes([0; 16]);

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

/// Why the log may not have all that libvirtd lists.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LookFailed(#[from] Unseen);

/// Why a domain is not known as it is now.
#[derive(Debug, thiserror::Error)]
enum Unseen {
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Log(#[from] Error),
}

/// What a look at all domains leaves.
#[derive(Debug, Default)]
struct TakenOver {
    /// Those that were not looked at, because a call to each was on its way.
    busy: Vec<DomainUuid>,
    /// What kept it from one domain alone.
    failed: Option<Unseen>,
}

impl TakenOver {
    /// Whether each domain was looked at that has no call on its way.
    fn all(self) -> Result<(), Unseen> {
        self.failed.map_or(Ok(()), Err)
    }
}

impl Unseen {
    /// Whether another look may do better.
    fn may_pass(&self) -> bool {
        match self {
            Unseen::Look(error) => error.is_of_connection(),
            Unseen::Log(error) => error.refusal().is_none(),
        }
    }
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

    /// Looks at all domains: records what libvirtd lists and the log does not say, and settles the jobs of calls that were
    /// left open. No proxy may record in the same store meanwhile: what its calls do would be settled before they are done.
    ///
    /// # Errors
    ///
    /// What keeps it from that; of one domain alone once all others were looked at.
    pub fn look(&self) -> Result<(), LookFailed> {
        Ok(self.0.take_over()?.all()?)
    }

    /// Looks at all domains. What keeps it from that may be over at the next look.
    pub(crate) fn observe(&self) {
        if let Err(error) = self.look() {
            tracing::warn!("what libvirtd lists is not recorded yet: {error}");
        }
    }

    /// Looks at domains at once from now on, as libvirt's files and events say that they may have changed, until what is
    /// returned is dropped; `None` if the driver is not watched.
    ///
    /// # Errors
    ///
    /// If the system has no thread for it.
    pub(crate) fn watch(&self) -> io::Result<Option<Watching>> {
        watch::watch(self.0.clone())
    }

    /// The recorder of a client's calls.
    pub(crate) fn recorder(&self, client: &Peer) -> impl Recorder + use<> {
        let provenance = provenance_of(client, &self.0.own);
        ClientRecorder::new(self.0.clone(), provenance)
    }
}

impl Shared {
    fn connect(&self) -> Result<Upstream, LookError> {
        Upstream::open(&self.socket, &self.uri)
    }

    /// Looks at all domains, and records what differs.
    fn take_over(&self) -> Result<TakenOver, Unseen> {
        let mut upstream = self.connect()?;
        self.tell_gap()?;
        let listed = look::domains(&mut upstream)?;
        let view = self.view();
        // Those that are gone come first: their names may be others' by now.
        let known = view.state().domains().map(Domain::uuid);
        let gone = known.filter(|uuid| !listed.contains(uuid));
        let mut taken_over = TakenOver::default();
        for uuid in gone.chain(listed.iter().copied()) {
            let Some(_turns) = self.try_take(uuid) else {
                taken_over.busy.push(uuid);
                continue;
            };
            match self.align(&mut upstream, uuid, &Alters::All) {
                // Of one domain alone.
                Err(error) if !error.may_pass() => taken_over.failed = Some(error),
                aligned => aligned?,
            }
        }
        self.is_taken_over.store(true, Ordering::Release);
        Ok(taken_over)
    }

    /// Takes a domain, if no call to it is on its way, nor one that may define it.
    fn try_take(&self, uuid: DomainUuid) -> Option<Vec<Turn>> {
        let is_known = self.view().state().domain(uuid).is_some();
        let keys = [Key::Domain(uuid), Key::New];
        let keys = if is_known { &keys[..1] } else { &keys[..] };
        keys.iter().map(|key| self.turns.try_take(*key)).collect()
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
    fn align(
        &self,
        upstream: &mut Upstream,
        uuid: DomainUuid,
        alters: &Alters,
    ) -> Result<(), Unseen> {
        let view = self.view();
        let known = view.state().domain(uuid);
        // A call that was left open may have changed any moment.
        let is_open = known.and_then(open_call).is_some();
        let alters = if is_open { &Alters::All } else { alters };
        let seen = look::domain(upstream, uuid, known, alters)?;
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
        let theirs = look::domain(upstream, *other, None, &Alters::All)?;
        self.note(*other, theirs)?;
        Ok(record(seen)?)
    }

    /// Records what differs, if anything does: as the outcome of the call that was left open, or as what came by another way.
    fn note(&self, uuid: DomainUuid, seen: Option<Box<DomainSeen>>) -> momentlog::Result<()> {
        let view = self.view();
        if let Some(open) = view.state().domain(uuid).and_then(open_call) {
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

/// The job of a call that was passed on, and whose outcome the log does not say.
fn open_call(domain: &Domain) -> Option<&OpenJob> {
    let open = domain.jobs().get(JobLength::Short)?;
    (open.job.kind == JobKind::Forward).then_some(open)
}
