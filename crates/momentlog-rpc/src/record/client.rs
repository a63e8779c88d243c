//! The calls of one client: which are held, and what is recorded of each.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use momentlog::core::{
    BeginJob, Change, Domain, DomainSeen, DomainUuid, Job, JobId, JobKind, JobLength, Report,
    SettledBy,
};
use momentlog::xml::read_domain;
use momentlog::{Clock as _, Outcome, Provenance, SystemClock};

use super::alters::Alters;
use super::calls::{RecordedCall, Subject, is_recorded};
use super::turns::{Key, Turn};
use super::upstream::{Upstream, text};
use super::{NO_UUID, OnFailure, Shared, TakenOver, Unseen, look};
use crate::frame::{Frame, Header, REMOTE, Status, VERSION};
use crate::held::{Held, Recorder};
use crate::proto::{RemoteError, Shape, Value, decode};
use crate::xdr::Reader;

/// `CONNECT_OPEN`.
const OPEN: i32 = 1;

/// `CONNECT_CLOSE`.
const CLOSE: i32 = 2;

/// Longest text of libvirt's that a record takes, in bytes.
const SAID_LEN_MAX: usize = 1024;

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
pub(super) struct ClientRecorder {
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
            is_beside: false,
            intent: Intent::Missing,
        }))
    }
}

impl ClientRecorder {
    pub(super) fn new(shared: Arc<Shared>, provenance: Provenance) -> ClientRecorder {
        ClientRecorder {
            client: Arc::new(Client {
                shared,
                provenance,
                looker: Mutex::default(),
            }),
            driver: Driver::NotOpened,
        }
    }

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
    /// Whether another call to the domain is on its way, whose looks find what this one does.
    is_beside: bool,
    intent: Intent,
}

/// What the log says of a call that is on its way.
#[derive(Clone, Copy, Debug)]
enum Intent {
    /// Nothing.
    Missing,
    /// A job of its domain.
    Job(JobId),
    /// A record without events.
    Record,
}

impl Held for HeldCall {
    fn begin(&mut self) -> Result<(), String> {
        let client = self.client.clone();
        let shared = &*client.shared;
        if !shared.is_taken_over.load(Ordering::Acquire)
            && let Err(error) = shared.take_over().and_then(TakenOver::all)
        {
            tracing::warn!("what libvirtd lists is not taken over yet: {error}");
        }
        self.domain = match &self.call.subject {
            Subject::Domain(uuid) => Some(*uuid),
            Subject::Xml(xml) => named_in(xml, &shared.view()),
            Subject::Unknown => None,
        };
        let key = self.domain.map_or(Key::New, Key::Domain);
        if self.call.ends_others {
            self.turn = shared.turns.try_take(key);
            self.is_beside = self.turn.is_none();
        } else {
            self.turn = Some(shared.turns.take(key));
        }
        if let Some(uuid) = self.domain
            && !self.is_beside
            && let Err(error) = self.look_before(uuid)
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

    /// Looks at the domain, and reads all of it that will be read after the call.
    fn look_before(&mut self, uuid: DomainUuid) -> Result<(), Unseen> {
        let client = self.client.clone();
        let shared = &*client.shared;
        let align = |alters: &Alters| client.look(|upstream| shared.align(upstream, uuid, alters));
        let reads_all = |alters: &Alters| {
            let view = shared.view();
            let known = view.state().domain(uuid);
            known.is_none_or(|domain| alters.of(domain).is_none())
        };
        let has_read_all = reads_all(&self.call.alters);
        align(&self.call.alters)?;
        if !has_read_all && reads_all(&self.call.alters) {
            self.call.alters = Alters::All;
            align(&self.call.alters)?;
        }
        Ok(())
    }

    /// Records that the call is about to be passed on.
    fn intend(&self) -> momentlog::Result<Intent> {
        let shared = &*self.client.shared;
        shared.tell_gap()?;
        let view = shared.writer.connection().view();
        let is_known = |uuid: &DomainUuid| view.state().domain(*uuid).is_some();
        let known = self.domain.filter(is_known);
        let Some(uuid) = known.filter(|_| !self.is_beside) else {
            let said = Some("about to be passed on to libvirt".to_owned());
            self.report(known, &[], said)?;
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
        let view = shared.view();
        let known = self.domain.and_then(|uuid| view.state().domain(uuid));
        let Some(uuid) = self.domain.filter(|_| !self.is_beside) else {
            if let Intent::Record = self.intent {
                self.report(known.map(Domain::uuid), &[], Some(result.said()))?;
            }
            return Ok(());
        };
        self.client.look(|upstream| {
            let seen = look::domain(upstream, uuid, known, &self.call.alters)?;
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
    use momentlog::Call;
    use momentlog::core::MomentChange;

    use super::*;
    use crate::record::fake::{Libvirtd, done, moment, vm};

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

    /// The records that have such an event of a snapshot, as its client or `outside` and the call.
    fn records(libvirtd: &Libvirtd, event: impl Fn(&Change) -> bool) -> Vec<(String, Call)> {
        let entries = libvirtd.entries().into_iter();
        entries
            .filter(|entry| entry.events.iter().any(|one| event(&one.change)))
            .map(|entry| (entry.actor.to_string(), entry.call))
            .collect()
    }

    fn is_redefined(change: &Change) -> bool {
        matches!(change, Change::Snapshot(MomentChange::Redefined { .. }))
    }

    #[test]
    fn what_the_first_look_finds_may_have_a_call_read_all_before_it_as_well() {
        let libvirtd = Libvirtd::new();
        for name in ["a", "s"] {
            libvirtd.list(name, "", "");
        }
        libvirtd.log.look().unwrap();
        // Another way makes a snapshot with files of its own, after which a deletion may change all.
        libvirtd.list("s", "another way", "");
        let disks = "<disks><disk name='vda' snapshot='external' type='file'><driver type='qcow2'/>\
            <source file='/e'/></disk></disks>";
        libvirtd.list("e", "", disks);
        let delete = [Value::Moment(moment("a")), Value::UInt(0)];
        let (call, mut held) = libvirtd.call(193, &delete);
        held.begin().unwrap();
        libvirtd.unlist("a");
        held.end(Some(&done(&call)));
        let found = records(&libvirtd, is_redefined);
        assert_eq!(found, [("outside".to_owned(), Call::OBSERVE)]);
    }

    #[test]
    fn a_creation_is_read_though_another_way_has_deleted_one_of_its_name_meanwhile() {
        let libvirtd = Libvirtd::new();
        libvirtd.list("s", "old", "");
        libvirtd.log.look().unwrap();
        let xml = b"<domainsnapshot><name>s</name></domainsnapshot>";
        let create = [Value::Domain(vm()), Value::Text(xml.into()), Value::UInt(0)];
        let (call, mut held) = libvirtd.call(185, &create);
        held.begin().unwrap();
        libvirtd.list("s", "new", "");
        held.end(Some(&done(&call)));
        let found = records(&libvirtd, is_redefined);
        assert_eq!(found, [("client".to_owned(), Call::SNAPSHOT_CREATE_XML)]);
    }

    #[test]
    fn what_ends_a_call_does_not_wait_for_it_and_is_recorded() {
        let libvirtd = Libvirtd::new();
        libvirtd.log.look().unwrap();
        let xml = b"<domainsnapshot><name>s</name></domainsnapshot>";
        let create = [Value::Domain(vm()), Value::Text(xml.into()), Value::UInt(0)];
        let (_call, mut never_ends) = libvirtd.call(185, &create);
        never_ends.begin().unwrap();
        for (procedure, values) in [
            (12, &[Value::Domain(vm())][..]),
            (164, &[Value::Domain(vm())]),
            (234, &[Value::Domain(vm()), Value::UInt(0)]),
        ] {
            let (call, mut held) = libvirtd.call(procedure, values);
            held.begin().unwrap();
            held.end(Some(&done(&call)));
            let entries = libvirtd.entries();
            let [.., before, after] = &entries[..] else {
                panic!("{entries:?}");
            };
            for (entry, said) in [
                (before, "about to be passed on to libvirt"),
                (after, "libvirt has done it"),
            ] {
                assert_eq!(entry.call.number(), u16::try_from(procedure).unwrap());
                assert_eq!((&*entry.actor, entry.events.len()), ("client", 0));
                assert_eq!(entry.reason.as_deref(), Some(said));
            }
        }
    }
}
