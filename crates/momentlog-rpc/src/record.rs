//! A log of what a proxy passes on: who called what, and what it did to domains and their moments.
//!
//! What a call did is what libvirtd lists afterwards and the log does not say. Therefore a domain has one recorded call at a
//! time, and is looked at before it as well: what differs then was done by somebody else, whose name is [`OUTSIDE`].

mod calls;
mod gap;
mod look;
mod turns;
mod upstream;
mod writer;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use momentlog::core::{
    BeginJob, Change, DomainSeen, DomainUuid, Job, JobId, JobKind, JobLength, JobOutcome, OpenJob,
    Refusal, Report, Seen, SettledBy,
};
use momentlog::xml::read_domain;
use momentlog::{Call, Clock as _, Connection, Error, Outcome, Provenance, SystemClock};

use crate::failure::Failure;
use crate::frame::{Frame, Header, REMOTE, Status, VERSION};
use crate::held::{Held, Recorder};
use crate::peer::{peer_of, provenance_of};
use crate::proto::{RemoteError, Shape, Value, decode};
use crate::xdr::Reader;
use calls::{RecordedCall, Subject, is_recorded};
use gap::Gap;
use turns::{Key, Turn, Turns};
use upstream::{LookError, Upstream, text};
use writer::Writer;

/// The actor of what no recorded call did.
pub const OUTSIDE: &str = "outside";

/// `CONNECT_OPEN`.
const OPEN: i32 = 1;

/// `CONNECT_CLOSE`.
const CLOSE: i32 = 2;

/// Longest text of libvirt's that a record takes, in bytes.
const SAID_LEN_MAX: usize = 1024;

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
        Ok(ClientRecorder {
            client: Arc::new(Client {
                shared: self.0.clone(),
                provenance: provenance_of(&peer, &self.0.own),
                looker: Mutex::default(),
            }),
            driver: Driver::NotOpened,
        })
    }
}

impl Shared {
    fn connect(&self) -> Result<Upstream, LookError> {
        Upstream::open(&self.socket, &self.uri)
    }

    fn take_over(&self) -> Result<(), Unseen> {
        let mut upstream = self.connect()?;
        self.tell_gap()?;
        let listed = look::domains(&mut upstream)?;
        let view = self.view();
        // Those that are gone come first: their names may be others' by now.
        let known = view.state().domains().map(momentlog::core::Domain::uuid);
        let gone = known.filter(|uuid| !listed.contains(uuid));
        for uuid in gone.chain(listed.iter().copied()) {
            // A call that is on its way looks at its domain by itself.
            if let Some(_turn) = self.turns.try_take(Key::Domain(uuid)) {
                self.align(&mut upstream, uuid)?;
            }
        }
        self.is_taken_over.store(true, Ordering::Release);
        Ok(())
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
        let theirs = look::domain(upstream, *other)?;
        self.note(*other, theirs)?;
        Ok(record(seen)?)
    }

    /// Records what differs, if anything does: as the outcome of the call that was left open, or as somebody else's doing.
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

/// A client of the proxy.
#[derive(Debug)]
struct Client {
    shared: Arc<Shared>,
    provenance: Provenance,
    /// The connection by which its domains are looked at: it lasts no longer than the client's, as the state of libvirt's test
    /// driver ends with the last one.
    looker: Mutex<Option<Upstream>>,
}

impl Client {
    fn looker(&self) -> MutexGuard<'_, Option<Upstream>> {
        self.looker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks by the client's own looker, which is opened where it is not there or has ended.
    fn look<T>(&self, look: impl Fn(&mut Upstream) -> Result<T, Unseen>) -> Result<T, Unseen> {
        let mut looker = self.looker();
        let is_new = looker.is_none();
        let upstream = match looker.take() {
            Some(upstream) => upstream,
            None => self.shared.connect()?,
        };
        let upstream = looker.insert(upstream);
        let seen = look(upstream);
        let has_ended = matches!(&seen, Err(Unseen::Look(error)) if error.is_of_connection());
        if !has_ended {
            return seen;
        }
        *looker = None;
        if is_new {
            return seen;
        }
        look(looker.insert(self.shared.connect()?))
    }
}

/// Which driver a client has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    NotOpened,
    Other,
    Ours,
}

/// Hears the calls of a client.
struct ClientRecorder {
    client: Arc<Client>,
    driver: Driver,
}

impl Recorder for ClientRecorder {
    fn wants(&self, call: &Header) -> bool {
        let is_of_connection = (call.program, call.version) == (REMOTE, VERSION)
            && [OPEN, CLOSE].contains(&call.procedure);
        is_of_connection || is_recorded(call)
    }

    fn hear(&mut self, frame: &Frame) -> Option<Box<dyn Held>> {
        match (frame.header.program, frame.header.procedure) {
            (REMOTE, OPEN) => {
                self.hear_open(frame);
                return None;
            }
            (REMOTE, CLOSE) => {
                *self.client.looker() = None;
                return None;
            }
            _ => {}
        }
        // A driver that could not be opened yet may be by the time that the call is made.
        if self.driver == Driver::Other {
            return None;
        }
        Some(Box::new(HeldCall {
            client: self.client.clone(),
            call: RecordedCall::read(frame)?,
            procedure: frame.header.procedure,
            turn: None,
            domain: None,
            was_seen: true,
            intent: Intent::Missing,
        }))
    }
}

impl ClientRecorder {
    /// Takes note of the driver that is opened. One that was ours stays so, as libvirtd refuses to open a second one.
    fn hear_open(&mut self, frame: &Frame) {
        let values = decode(&[Shape::OptText], &mut Reader::new(&frame.payload));
        let name = match values.as_deref() {
            Ok([Value::OptText(Some(name))]) => text(name),
            // libvirtd chooses one.
            _ => String::new(),
        };
        let is_ours = name.is_empty() || is_same_driver(&name, &self.client.shared.uri);
        if is_ours {
            self.driver = Driver::Ours;
        } else if self.driver == Driver::NotOpened {
            self.driver = Driver::Other;
        }
    }
}

/// Whether two URIs are of one driver. libvirt's test driver has one state for each path.
fn is_same_driver(one: &str, other: &str) -> bool {
    let parts = |uri: &str| {
        let uri = uri.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = uri.split_once(':').unwrap_or((uri, ""));
        let driver = scheme
            .split('+')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let path = rest.trim_start_matches("//").split_once('/');
        let path = path.map(|(_, path)| path.to_owned());
        (driver, path)
    };
    let (one, other) = (parts(one), parts(other));
    one.0 == other.0 && (one.0 != "test" || one.1 == other.1)
}

/// A call that is held.
struct HeldCall {
    client: Arc<Client>,
    call: RecordedCall,
    procedure: i32,
    turn: Option<Turn>,
    /// The domain that it is about, if that is known.
    domain: Option<DomainUuid>,
    /// Whether that was looked at before, so that what differs afterwards is this call's doing alone.
    was_seen: bool,
    intent: Intent,
}

/// What the log says of a call that is on its way.
#[derive(Clone, Copy, Debug)]
enum Intent {
    /// Nothing.
    Missing,
    /// A job of its domain.
    Job(JobId),
    /// A record without a domain.
    Record,
}

impl Held for HeldCall {
    fn begin(&mut self) -> Result<(), String> {
        let client = self.client.clone();
        let shared = &*client.shared;
        self.domain = match &self.call.subject {
            Subject::Domain(uuid) => Some(*uuid),
            Subject::Xml(xml) => named_in(xml, &shared.view()),
            Subject::Unknown => None,
        };
        if !shared.is_taken_over.load(Ordering::Acquire)
            && let Err(error) = shared.take_over()
        {
            tracing::warn!("what libvirtd lists is not taken over yet: {error}");
        }
        self.turn = Some(shared.turns.take(self.domain.map_or(Key::New, Key::Domain)));
        if let Some(uuid) = self.domain
            && let Err(error) = client.look(|upstream| shared.align(upstream, uuid))
        {
            // What keeps the log from being written is found below.
            tracing::warn!("domain {uuid} is not looked at before a call: {error}");
            self.was_seen = false;
        }
        match self.intend() {
            Ok(intent) => {
                self.intent = intent;
                Ok(())
            }
            Err(error) if shared.on_failure == OnFailure::PassOn => {
                tracing::error!("a call is passed on and not recorded: {error}");
                let now = SystemClock.now();
                shared
                    .gap
                    .add(now, self.call.call, &client.provenance.agent);
                Ok(())
            }
            Err(error) => {
                tracing::error!("a call is refused: {error}");
                self.turn = None;
                Err(format!(
                    "the proxy cannot record the call, and does not pass it on: {error}"
                ))
            }
        }
    }

    fn end(mut self: Box<Self>, reply: Option<&Frame>) {
        let Some(reply) = reply else {
            // It may still be done: the next look settles it.
            return;
        };
        let result = Answered::of(reply);
        if self.domain.is_none() && result == Answered::Done {
            self.domain = defined(self.procedure, reply);
        }
        if let Err(error) = self.record(&result) {
            tracing::error!("what a call did is not recorded yet: {error}");
        }
    }
}

impl HeldCall {
    /// Makes one record of this call.
    fn report(
        &self,
        domain: Option<DomainUuid>,
        reports: &[Report],
        reason: Option<String>,
    ) -> momentlog::Result<Outcome> {
        let provenance = Provenance {
            reason: reason.map(Into::into),
            ..self.client.provenance.clone()
        };
        let call = (self.call.call, self.call.flags);
        self.client
            .shared
            .report(&provenance, call, domain, reports)
    }

    /// Records that the call is about to be passed on.
    fn intend(&self) -> momentlog::Result<Intent> {
        let shared = &*self.client.shared;
        shared.tell_gap()?;
        let view = shared.writer.connection().view();
        let is_known = |uuid: &DomainUuid| view.state().domain(*uuid).is_some();
        let Some(uuid) = self.domain.filter(is_known) else {
            let said = Some("about to be passed on to libvirt".to_owned());
            self.report(None, &[], said)?;
            return Ok(Intent::Record);
        };
        let begin = Report::Begin(Box::new(BeginJob {
            job: Job {
                kind: JobKind::Forward,
                length: JobLength::Short,
                call: self.call.call.number(),
                flags: self.call.flags,
                document: self.call.document.clone(),
                snapshots: Vec::new(),
                checkpoints: Vec::new(),
                deletions: Vec::new(),
                effects: Vec::new(),
                files: Vec::new(),
                run: None,
            },
            action: None,
        }));
        let outcome = self.report(Some(uuid), &[begin], None)?;
        let job = outcome.events.iter().find_map(|event| match &event.change {
            Change::JobBegun { id, .. } => Some(*id),
            _ => None,
        });
        Ok(job.map_or(Intent::Record, Intent::Job))
    }

    /// Records what libvirtd answered, and what it lists now.
    fn record(&self, result: &Answered) -> Result<(), Unseen> {
        let shared = &*self.client.shared;
        let Some(uuid) = self.domain else {
            if let Intent::Record = self.intent {
                self.report(None, &[], Some(result.said()))?;
            }
            return Ok(());
        };
        self.client.look(|upstream| {
            let seen = look::domain(upstream, uuid)?;
            let record = |seen| self.note(uuid, seen, result);
            shared.record_seen(upstream, record, seen)
        })
    }

    fn note(
        &self,
        uuid: DomainUuid,
        seen: Option<Box<DomainSeen>>,
        result: &Answered,
    ) -> momentlog::Result<()> {
        let shared = &*self.client.shared;
        match self.intent {
            Intent::Missing => {
                // Nothing says that it was asked.
                shared.tell_gap()?;
                return shared.note(uuid, seen);
            }
            Intent::Record => {
                let reason = (*result != Answered::Done).then(|| result.said());
                self.report(Some(uuid), &[Report::SeeDomain(seen)], reason)?;
            }
            Intent::Job(job) => {
                let mut said = Vec::new();
                if let Answered::Refused(why) = result {
                    said.push(("libvirt", &**why));
                }
                if !self.was_seen {
                    said.push(("before", "not looked at"));
                }
                let outcome = shared.outcome(job, &said, SettledBy::Beginner);
                let settled = match result {
                    Answered::Done => Report::End {
                        outcome,
                        then: None,
                    },
                    Answered::Refused(_) => Report::Fail(outcome),
                };
                self.report(Some(uuid), &[settled, Report::SeeDomain(seen)], None)?;
            }
        }
        Ok(())
    }
}

/// What libvirtd answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answered {
    Done,
    /// libvirt's code and message.
    Refused(String),
}

impl Answered {
    fn of(reply: &Frame) -> Answered {
        if reply.header.status == Status::OK {
            return Answered::Done;
        }
        let error = RemoteError::decode(&mut Reader::new(&reply.payload));
        let said = match error {
            Ok(error) => {
                let message = text(error.message.as_deref().unwrap_or_default());
                format!("code {}: {message}", error.code)
            }
            Err(error) => format!("an error that cannot be read: {error}"),
        };
        Answered::Refused(said[..said.floor_char_boundary(SAID_LEN_MAX)].to_owned())
    }

    fn said(&self) -> String {
        match self {
            Answered::Done => "libvirt has done it".to_owned(),
            Answered::Refused(said) => format!("libvirt refused it, {said}"),
        }
    }
}

/// Returns the domain that a reply says was defined.
fn defined(procedure: i32, reply: &Frame) -> Option<DomainUuid> {
    if ![10, 11, 350].contains(&procedure) {
        return None;
    }
    let values = decode(&[Shape::Domain], &mut Reader::new(&reply.payload)).ok()?;
    match &values[..] {
        [Value::Domain(domain)] => Some(DomainUuid::from_bytes(domain.uuid)),
        _ => None,
    }
}

/// Returns the domain that XML names: by its uuid, or by the name that a domain of the log has.
fn named_in(xml: &str, view: &momentlog::View) -> Option<DomainUuid> {
    let def = read_domain(xml, || NO_UUID).ok()?;
    if def.uuid != NO_UUID {
        return Some(def.uuid);
    }
    let found = view.state().domain_by_name(&def.name)?;
    Some(found.uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_known_by_its_scheme_and_that_of_the_tests_by_its_path_too() {
        for same in [
            "qemu:///system",
            "qemu+unix:///system?socket=/run/libvirt/libvirt-sock",
            "QEMU:///session",
        ] {
            assert!(is_same_driver(same, "qemu:///system"), "{same}");
        }
        assert!(!is_same_driver("lxc:///system", "qemu:///system"));
        assert!(is_same_driver(
            "test:///default",
            "test+unix:///default?socket=/s"
        ));
        assert!(!is_same_driver("test:///other.xml", "test:///default"));
    }
}
