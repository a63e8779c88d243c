//! Connections: the way in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use momentlog_core::{
    Action, Change, Command, Domain as DomainState, DomainUuid, Event, Policy, Profile, Refusal,
    Settings, SettingsChange, State,
};
use momentlog_store::{
    Disk, FileStore, Head, LogId, MemoryStore, RealDisk, Receipt, Seq, Store, StoreError,
};
use momentlog_xml::{RecentDomain, read_domain};

use crate::call::Call;
use crate::domain::Domain;
use crate::driver::Driver;
use crate::engine::{Archived, Ask, Engine, OVERTAKEN_MAX, Outcome, Promise, is_missing};
use crate::environment::{Options, Provenance};
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::flags::DomainListFlags;
use crate::ledger::{Entry, View};
use crate::recordable;
use crate::stored::{command_digest, request_digest, settings_digest};

/// The URI of libvirt's test driver: a store in memory, with the built-in domain.
const TEST_URI: &str = "test:///default";

/// A connection to a store. A clone is the same connection; dropping the last one closes it.
///
/// Follows `virConnectPtr`.
#[derive(Clone)]
pub struct Connection {
    pub(crate) engine: Arc<Engine>,
    provenance: Arc<Provenance>,
    read_only: bool,
    /// The state that is read in place of the newest one: see [`for_retry`](Self::for_retry).
    as_of: Option<Arc<View>>,
}

/// Short: up to where the log is known, and who asks.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("head", &self.view().head())
            .field("actor", &self.provenance.actor)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Opens `test:///default` (in memory, with libvirt's built-in domain), `momentlog:///absolute/dir` or
    /// `momentlog:relative/dir`; the last two take `?profile=libvirt-test` or `?profile=own` for a store that the first
    /// change creates. Follows `virConnectOpen`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoConnect`] for any other URI.
    pub fn open(uri: &str) -> Result<Connection> {
        Connection::open_with(uri, Options::default())
    }

    /// As [`open`](Self::open), for reading only. Follows `virConnectOpenReadOnly`.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::SystemError`] if there is no store.
    pub fn open_read_only(uri: &str) -> Result<Connection> {
        Connection::open_with(
            uri,
            Options {
                read_only: true,
                ..Options::default()
            },
        )
    }

    /// As [`open`](Self::open), with everything else that can be chosen.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::SystemError`] if it is for reading only and there is no store.
    pub fn open_with(uri: &str, mut options: Options) -> Result<Connection> {
        if uri == TEST_URI {
            options.profile = Profile::LibvirtTest;
            return Ok(Connection::over(Box::new(MemoryStore::new()), options));
        }
        let (path, profile) = parse_store_uri(uri)?;
        options.profile = profile.unwrap_or(options.profile);
        let read_only = options.read_only;
        let connection = Connection::over(Box::new(FileStore::new(RealDisk::new(path))), options);
        match connection.refresh() {
            // There is a store. What is wrong with it is told by the calls, and by `verify`.
            Err(error)
                if matches!(
                    error.store(),
                    Some(StoreError::Damaged { .. } | StoreError::Archived { .. })
                ) => {}
            Err(error) if read_only => return Err(error),
            // A store that is not there yet, or cannot be read, is told by the calls that need it.
            _ => {}
        }
        Ok(connection)
    }

    /// Returns a connection over any store, for embedders who bring their own.
    pub fn over(store: Box<dyn Store>, options: Options) -> Connection {
        let provenance = Arc::new(options.provenance.clone());
        let read_only = options.read_only;
        Connection {
            engine: Arc::new(Engine::new(store, options)),
            provenance,
            read_only,
            as_of: None,
        }
    }

    /// Returns the same connection for somebody else, or for another reason: every handle that comes from it carries
    /// this provenance into the records that it makes.
    #[must_use]
    pub fn with_provenance(&self, provenance: Provenance) -> Connection {
        Connection {
            provenance: Arc::new(provenance),
            as_of: None,
            ..self.clone()
        }
    }

    /// Returns the connection for asking once more: if the request id of its provenance was recorded, all that it and its
    /// handles look up and read is as it was right before that record, so that whoever asks the same way makes the same
    /// call and gets the first answer. Otherwise, and when that record was archived, it is the same connection; what is looked
    /// up by a name is then taken to have been there.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read. That it is not there yet is no error.
    pub fn for_retry(&self) -> Result<Connection> {
        let as_of = match &self.provenance.request_id {
            Some(id) => self.engine.before_request(id)?,
            None => None,
        };
        Ok(Connection {
            as_of: as_of.map(Arc::new),
            ..self.clone()
        })
    }

    /// Calls `find` with the newest state; if it finds nothing, and the request id of this connection's provenance was
    /// recorded, with the state right before that record. So what a call has removed is found when it is asked again.
    pub(crate) fn find<T>(&self, find: impl Fn(&View) -> Option<T>) -> Result<Option<T>> {
        if let Some(found) = find(&*self.read()?) {
            return Ok(Some(found));
        }
        let as_of = self.for_retry()?.as_of;
        Ok(as_of.and_then(|view| find(&view)))
    }

    /// Returns the same connection for reading only: it and every handle that comes from it refuse changes.
    #[must_use]
    pub fn read_only(&self) -> Connection {
        Connection {
            read_only: true,
            ..self.clone()
        }
    }

    /// Returns a handle for a domain that may not be there; calls say so. `name` is what their messages call it.
    ///
    /// For callers that keep uuids themselves, as a server does for its clients.
    pub fn domain_handle(&self, uuid: DomainUuid, name: &str) -> Domain {
        Domain::new(self, uuid, &name.into())
    }

    /// Who asks, and why.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Whether changes are refused.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Returns all domains that pass the filter: active ones by id, then inactive ones by name.
    /// Follows `virConnectListAllDomains`; both flags of a pair are as good as none.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read.
    pub fn list_all_domains(&self, flags: DomainListFlags) -> Result<Vec<Domain>> {
        self.list_all_domains_raw(flags.bits())
    }

    /// [`list_all_domains`](Self::list_all_domains) with libvirt's bits.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for bits that mean nothing here.
    pub fn list_all_domains_raw(&self, flags: u32) -> Result<Vec<Domain>> {
        let flags = DomainListFlags::checked(flags, "virConnectListAllDomains")?;
        let view = self.read()?;
        let pair = |yes: DomainListFlags, no: DomainListFlags, is: bool| {
            let (yes, no) = (flags.contains(yes), flags.contains(no));
            yes == no || is == yes
        };
        let mut found: Vec<_> = view
            .state()
            .domains()
            .filter(|domain| {
                pair(
                    DomainListFlags::ACTIVE,
                    DomainListFlags::INACTIVE,
                    domain.power().is_active(),
                ) && pair(
                    DomainListFlags::HAS_SNAPSHOT,
                    DomainListFlags::NO_SNAPSHOT,
                    !domain.snapshots().is_empty(),
                ) && pair(
                    DomainListFlags::HAS_CHECKPOINT,
                    DomainListFlags::NO_CHECKPOINT,
                    !domain.checkpoints().is_empty(),
                )
            })
            .collect();
        found.sort_by_key(|domain| domain.power().id.unwrap_or(u32::MAX));
        Ok(found
            .into_iter()
            .map(|domain| Domain::new(self, domain.uuid(), domain.name()))
            .collect())
    }

    /// Returns the domain of this name. Follows `virDomainLookupByName`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn lookup_domain_by_name(&self, name: &str) -> Result<Domain> {
        self.lookup(name, None, |state| state.domain_by_name(name))?
            .ok_or_else(no_domain)
    }

    /// Returns the domain of this uuid. Follows `virDomainLookupByUUID`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn lookup_domain_by_uuid(&self, uuid: DomainUuid) -> Result<Domain> {
        self.lookup(uuid, Some(uuid), |state| state.domain(uuid))?
            .ok_or_else(|| Error::from(Refusal::NoDomain { uuid }))
    }

    /// Returns the running domain of this number. Follows `virDomainLookupByID`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn lookup_domain_by_id(&self, id: u32) -> Result<Domain> {
        let is = |domain: &&DomainState| domain.power().id == Some(id);
        self.lookup(id, None, |state| state.domains().find(is))?
            .ok_or_else(no_domain)
    }

    /// Returns the domain that this connection's request was about, if its record was archived: what was there before it
    /// cannot be read any more, and what is looked up for it is taken to have been there. Whether the same is asked is
    /// for the engine to say.
    pub(crate) fn archived_request(&self) -> Result<Option<DomainUuid>> {
        match &self.provenance.request_id {
            Some(id) => self.engine.archived_request(id),
            None => Ok(None),
        }
    }

    /// Returns the domain that `find` finds, or else the one that the archived record of this connection's request is
    /// about: that one may have removed it. Its handle is then called `said`, as its name is not known any more. `uuid` is
    /// what the domain's uuid has to be, if the caller gave one.
    fn lookup(
        &self,
        said: impl fmt::Display,
        uuid: Option<DomainUuid>,
        find: impl for<'a> Fn(&'a State) -> Option<&'a DomainState>,
    ) -> Result<Option<Domain>> {
        let found = self.find(|view| {
            let domain = find(view.state())?;
            Some(Domain::new(self, domain.uuid(), domain.name()))
        })?;
        if found.is_some() {
            return Ok(found);
        }
        let archived = self.archived_request()?;
        Ok(archived
            .filter(|archived| uuid.is_none_or(|uuid| uuid == *archived))
            .map(|archived| self.domain_handle(archived, &said.to_string())))
    }

    /// Defines a domain persistently, or defines it anew. Follows `virDomainDefineXML`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; what is wrong with the XML;
    /// [`ErrorCode::OperationFailed`] if name or uuid are another domain's.
    pub fn define_domain_xml(&self, xml: &str) -> Result<Domain> {
        self.domain_xml(Call::DEFINE_XML, xml, |def| {
            // What is created without being defined has no file, and may have it.
            if def.name.contains('\n') {
                let detail = "invalid char in name: \n";
                return Err(Error::new(ErrorCode::XmlDetail, ErrorDomain::Xml, detail));
            }
            Ok(Action::Define(def))
        })
    }

    /// Starts a domain from its XML; it is transient, unless it is defined already. Follows `virDomainCreateXML`.
    ///
    /// # Errors
    ///
    /// As [`define_domain_xml`](Self::define_domain_xml); [`ErrorCode::OperationInvalid`] if it is active.
    pub fn create_domain_xml(&self, xml: &str) -> Result<Domain> {
        self.domain_xml(Call::CREATE_XML, xml, |def| Ok(Action::CreateLive(def)))
    }

    fn domain_xml(
        &self,
        call: Call,
        xml: &str,
        action: impl Fn(Arc<momentlog_core::DomainDef>) -> Result<Action>,
    ) -> Result<Domain> {
        let function = call.name().unwrap_or_default();
        self.deny_read_only(function, ErrorDomain::Domain)?;
        let def = Arc::new(self.read_xml(|_, fresh| read_domain(xml, fresh))??);
        let command = Command {
            domain: def.uuid,
            action: action(def.clone())?,
        };
        // Not the uuid: a domain without one gets another each time.
        let asked = self.asked(|| request_digest((call, 0), None, &[xml.as_bytes()]));
        let outcome = self.decide_as(def.uuid, (call, 0), asked, &mut |view| {
            recordable::decide(view, &command)
        })?;
        // An answer that was given before is about the uuid of that time.
        let defined = outcome.events.iter().find_map(|event| event.domain);
        Ok(Domain::new(self, defined.unwrap_or(def.uuid), &def.name))
    }

    /// Executes a typed command, for embedders without XML.
    ///
    /// # Errors
    ///
    /// The [`Refusal`], as libvirt tells it (and [`Error::refusal`] returns it); what the store says.
    pub fn execute(&self, command: &Command) -> Result<Outcome> {
        self.execute_as((Call::EXECUTE, 0), command)
    }

    /// As [`execute`](Self::execute), for a call that is made of a typed command.
    pub(crate) fn execute_as(&self, call: (Call, u32), command: &Command) -> Result<Outcome> {
        self.deny_read_only("execute", ErrorDomain::Domain)?;
        let asked = self.asked(|| command_digest(call, command));
        self.decide_as(command.domain, call, asked, &mut |view| {
            recordable::decide_typed(view, command)
        })
    }

    /// Hands in a typed command without waiting until it is durable; [`Submitted::wait`] does that and gives the answer.
    /// What is handed in together shares a sync.
    ///
    /// # Errors
    ///
    /// What the store says before anything is written. A refusal comes with the answer: it may rest on commands that are
    /// not durable yet.
    pub fn submit(&self, command: &Command) -> Result<Submitted> {
        self.deny_read_only("submit", ErrorDomain::Domain)?;
        let ask = Ask {
            domain: Some(command.domain),
            provenance: &self.provenance,
            call: Call::EXECUTE,
            flags: 0,
            digest: self.asked(|| command_digest((Call::EXECUTE, 0), command)),
        };
        let promise = self.engine.hand_in(&[ask], &mut |view, _| {
            recordable::decide_typed(view, command)
        })?;
        Ok(Submitted {
            connection: self.clone(),
            promise,
        })
    }

    /// Executes many typed commands under one sync: all of them are accepted, or none. Each sees what those before have
    /// done. If the machine stops before they are durable, the first few of them may be recorded.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), for the first one that is refused.
    pub fn execute_all(&self, commands: &[Command]) -> Result<Vec<Outcome>> {
        self.deny_read_only("execute_all", ErrorDomain::Domain)?;
        let asks: Vec<_> = commands
            .iter()
            .map(|command| {
                (
                    command.domain,
                    self.asked(|| command_digest((Call::EXECUTE, 0), command)),
                )
            })
            .collect();
        self.engine
            .execute_all(&self.provenance, &asks, &mut |view, index| {
                recordable::decide_typed(view, &commands[index])
            })
    }

    /// Sets the rules that a domain follows; recorded as one event, and refused if the domain does not meet them.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`]; [`ErrorCode::OperationUnsupported`] if the domain does not meet the policy.
    pub fn set_policy(&self, domain: DomainUuid, policy: Policy) -> Result<Outcome> {
        let action = Action::SetPolicy(policy);
        self.execute_as((Call::SET_POLICY, 0), &Command { domain, action })
    }

    /// The settings of the store, or those that its first change will give it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read.
    pub fn settings(&self) -> Result<Settings> {
        match self.read() {
            Ok(view) => Ok(view.state().settings()),
            Err(error) if is_missing(&error) => Ok(self.view().state().settings()),
            Err(error) => Err(error),
        }
    }

    /// Changes settings of the store; recorded as one event. Domains that are there keep their policies.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; [`ErrorCode::InvalidArg`] if the provenance expects a
    /// revision, which only domains have; what the store says.
    pub fn set_settings(&self, change: SettingsChange) -> Result<Outcome> {
        self.deny_read_only("set_settings", ErrorDomain::Domain)?;
        let ask = Ask {
            domain: None,
            provenance: &self.provenance,
            call: Call::SET_SETTINGS,
            flags: 0,
            digest: self.asked(|| settings_digest(change)),
        };
        self.engine
            .execute(ask, &mut |view| Ok(view.state().decide_settings(change)))
    }

    /// Returns the newest state that this process knows, without looking at the store: at first that of when it was opened.
    ///
    /// The writer's process always knows the newest; elsewhere, [`refresh`](Self::refresh) reads on.
    pub fn view(&self) -> Arc<View> {
        self.as_of.clone().unwrap_or_else(|| self.engine.view())
    }

    /// Reads what other processes have appended, and returns the state after that.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if there is no store, or it cannot be read.
    pub fn refresh(&self) -> Result<Arc<View>> {
        self.engine.refresh()
    }

    /// Returns the state as of a record: the end of the log if that is before it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if there is no store, or it cannot be read.
    pub fn view_at(&self, seq: Seq) -> Result<View> {
        self.engine.view_at(seq)
    }

    /// Returns the entries of the log behind the record `after`, from the first one that is not archived if that is
    /// `None`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if there is no store, or it cannot be read. [`Error::store`] tells more: `Forked` if
    /// another record stands where `after` does, `Truncated` if the log ends before it, `Archived` if records behind it
    /// were moved to an archive, `Replaced` if another store stands where this one was.
    pub fn entries(&self, after: Option<Head>) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.engine.all_entries(after, &mut entries)?;
        Ok(entries)
    }

    /// Checks that the log continues the one that a receipt is of, from its record to the end, and returns the receipt of
    /// that end: for an auditor who has verified all that comes before.
    ///
    /// # Errors
    ///
    /// As [`entries`](Self::entries); `Forked` also if the receipt is of another log.
    pub fn verify_since(&self, receipt: Receipt) -> Result<Receipt> {
        self.engine.verify_since(receipt)
    }

    /// Calls `each` with every entry of the log and the state right after it. `each` must not use the connection, which
    /// is busy reading.
    ///
    /// If another process archives what is being read, it goes on with the bridge that stands for what was moved: the
    /// entries before a bridge may be missing.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if there is no store, or it cannot be read; entries before that were given out.
    pub fn replay(&self, mut each: impl FnMut(Entry, &View)) -> Result<()> {
        let mut after = None;
        for _ in 0..OVERTAKEN_MAX {
            match self.engine.entries(after, &mut each) {
                Err(error) => match error.store() {
                    Some(StoreError::Archived { start, .. }) => after = Some(*start),
                    _ => return Err(error),
                },
                Ok(()) => return Ok(()),
            }
        }
        self.engine.entries(after, &mut each)
    }

    /// Returns a subscription to the entries behind the record `after`.
    pub fn subscribe(&self, after: Option<Head>) -> Subscription {
        Subscription {
            connection: self.clone(),
            seen: after,
            fault: None,
            failed: false,
        }
    }

    /// The log's id; `None` as long as there is no record.
    pub fn log_id(&self) -> Option<LogId> {
        self.engine.log_id()
    }

    /// Returns a receipt of the log as it is now, for `verify`; `None` as long as there is no record.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read.
    pub fn receipt(&self) -> Result<Option<Receipt>> {
        let head = self.refresh()?.head();
        Ok(self
            .log_id()
            .zip(head)
            .map(|(log, head)| Receipt { log, head }))
    }

    /// Says what is wrong with a log that is damaged: what comes before can be read, and nothing is written past it.
    /// As of the last call that looked at the store.
    pub fn damage(&self) -> Option<Arc<str>> {
        self.engine.damage()
    }

    /// Makes an image of the log as it is now, from which it is opened sooner, and returns the record that it is of.
    /// Images are also made on close and every 500,000 records; losing one costs nothing but time.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; [`ErrorCode::OperationInvalid`] if there is nothing to
    /// save; [`ErrorCode::SystemError`] if the store keeps no images, or the disk is full.
    pub fn make_image(&self) -> Result<Head> {
        self.deny_read_only("make_image", ErrorDomain::Domain)?;
        self.engine.make_image()
    }

    /// Moves all records up to now to the directory `to`, which is made, or holds earlier ones of this log. From then on
    /// the log begins with an image and a bridge record that names what was moved.
    ///
    /// Interrupted, it may be asked again: until all is copied and synced, the log is whole here.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; [`ErrorCode::OperationInvalid`] if there is nothing to
    /// move; [`ErrorCode::SystemError`] if the store has no archive, `to` holds something else, or the disk says so.
    pub fn archive(&self, to: &Path) -> Result<Archived> {
        self.archive_to(&RealDisk::new(to))
    }

    /// As [`archive`](Self::archive), to any disk.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn archive_to(&self, to: &dyn Disk) -> Result<Archived> {
        self.deny_read_only("archive", ErrorDomain::Domain)?;
        self.engine.archive(&self.provenance, to)
    }

    /// Lets other processes write until the next change here, which waits for them in turn.
    pub fn release(&self) {
        self.engine.release();
    }

    /// The state that a call answers from: the newest one.
    pub(crate) fn read(&self) -> Result<Arc<View>> {
        match &self.as_of {
            Some(view) => Ok(view.clone()),
            None => self.engine.refresh(),
        }
    }

    /// Refuses a change on a read-only connection.
    pub(crate) fn deny_read_only(&self, function: &str, domain: ErrorDomain) -> Result<()> {
        if self.is_read_only() {
            let detail = format!("read only access prevents {function}");
            return Err(Error::new(ErrorCode::OperationDenied, domain, detail));
        }
        Ok(())
    }

    /// Returns the digest of what is asked, if a request id needs one.
    pub(crate) fn asked(&self, digest: impl FnOnce() -> [u8; 32]) -> Option<[u8; 32]> {
        self.provenance.request_id.as_ref().map(|_| digest())
    }

    /// Decides and records a change under this connection's provenance.
    pub(crate) fn decide_as(
        &self,
        domain: DomainUuid,
        (call, flags): (Call, u32),
        digest: Option<[u8; 32]>,
        decide: &mut dyn FnMut(&View) -> Result<Vec<Event>>,
    ) -> Result<Outcome> {
        self.engine.execute(
            Ask {
                domain: Some(domain),
                provenance: &self.provenance,
                call,
                flags,
                digest,
            },
            decide,
        )
    }

    /// The facts of the driver that the store answers as.
    pub(crate) fn driver(&self) -> &'static Driver {
        // What cannot be read is told by the call itself.
        let view = self.read().unwrap_or_else(|_| self.engine.view());
        Driver::of(view.state().profile())
    }

    /// Microseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.engine.options.clock.now()
    }

    /// Calls `read` with the domain that was embedded last and what gives out new uuids, and returns what it returns.
    pub(crate) fn read_xml<T>(
        &self,
        read: impl FnOnce(&RecentDomain, &mut dyn FnMut() -> DomainUuid) -> T,
    ) -> Result<T> {
        let mut bytes = [0; 16];
        let mut filled = Ok(());
        let read = read(&self.engine.recent_domain, &mut || {
            filled = self.engine.options.entropy.fill(&mut bytes);
            DomainUuid::from_entropy(bytes)
        });
        match filled {
            Ok(()) => Ok(read),
            Err(error) => Err(Error::new(
                ErrorCode::SystemError,
                ErrorDomain::Test,
                format!("cannot get random bytes: {error}"),
            )),
        }
    }
}

/// A command that was handed in. Dropping it takes nothing back.
#[must_use = "the command is not durable before `wait` says so"]
pub struct Submitted {
    connection: Connection,
    promise: Promise,
}

impl fmt::Debug for Submitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitted")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Submitted {
    /// Waits until the command, and all that its answer rests on, is durable, and returns the answer.
    ///
    /// # Errors
    ///
    /// As [`Connection::execute`].
    pub fn wait(self) -> Result<Outcome> {
        Ok(self.connection.engine.answer(self.promise)?.remove(0))
    }
}

/// Waits for entries that this or another process appends.
#[derive(Debug)]
pub struct Subscription {
    connection: Connection,
    seen: Option<Head>,
    /// What ended the last read, if entries came before it.
    fault: Option<Error>,
    /// Whether the last call gave an error.
    failed: bool,
}

impl Subscription {
    /// Returns the entries since the last call, at once if there are any, or none after `wait`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read; [`Error::store`] tells more, as for
    /// [`Connection::entries`]. The sound entries before the damage come first, and the next call returns the error. An
    /// error that lasts comes again after each `wait`. `Archived` comes once and says which records were missed: the next
    /// call goes on behind them. That the store is not there yet is no error.
    pub fn next(&mut self, wait: Duration) -> Result<Vec<Entry>> {
        let next = match self.fault.take() {
            Some(fault) => Err(fault),
            None => self.read(wait),
        };
        self.failed = next.is_err();
        if let Err(error) = &next
            && let Some(StoreError::Archived { start, .. }) = error.store()
        {
            self.seen = Some(*start);
        }
        next
    }

    fn read(&mut self, wait: Duration) -> Result<Vec<Entry>> {
        let engine = &self.connection.engine;
        let seen = self.seen.map(|seen| seen.seq);
        let newest = if self.failed {
            engine.wait_while_it_fails(seen, wait)
        } else {
            engine.wait(seen, wait)
        };
        if let Ok(view) = &newest
            && (view.head().is_none() || view.head() == self.seen)
            && engine.damage().is_none()
        {
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        let read = engine.all_entries(self.seen, &mut entries);
        match (read, entries.last()) {
            // A record that is damaged, or cannot be replayed, says nothing against those before it.
            (Err(fault), Some(last))
                if matches!(fault.store(), None | Some(StoreError::Damaged { .. })) =>
            {
                self.seen = Some(last.head);
                self.fault = Some(fault);
            }
            (Ok(()), Some(last)) => self.seen = Some(last.head),
            (read, _) => {
                read?;
                newest?;
            }
        }
        Ok(entries)
    }
}

/// Returns the directory of the store that a URI names; `None` for one in memory.
///
/// # Errors
///
/// [`ErrorCode::NoConnect`] if the URI names no store.
pub fn store_directory(uri: &str) -> Result<Option<PathBuf>> {
    if uri == TEST_URI {
        return Ok(None);
    }
    parse_store_uri(uri).map(|(path, _)| Some(path.into()))
}

/// Reads `momentlog:…` into a directory and the profile that it asks for.
fn parse_store_uri(uri: &str) -> Result<(&str, Option<Profile>)> {
    let unknown = |why: &str| {
        let detail = format!("{uri}{why}");
        Err(Error::new(ErrorCode::NoConnect, ErrorDomain::None, detail))
    };
    let Some(rest) = uri.strip_prefix("momentlog:") else {
        return unknown("");
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut profile = None;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        profile = match parameter {
            "profile=libvirt-test" => Some(Profile::LibvirtTest),
            "profile=own" => Some(Profile::Own),
            _ => return unknown(" (a store takes profile=libvirt-test or profile=own)"),
        };
    }
    let path = match path.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            return unknown(" (write momentlog:///absolute/dir or momentlog:relative/dir)");
        }
        None => path,
    };
    if path.is_empty() {
        return unknown(" (the directory is missing)");
    }
    // A shell replaces it only at the front of a word: a directory of that name is a mistake.
    if path
        .trim_start_matches('/')
        .split('/')
        .next()
        .is_some_and(|first| first.starts_with('~'))
    {
        return unknown(
            " (`~` is not replaced here: write the directory, or ./~ for one of that name)",
        );
    }
    Ok((path, profile))
}

fn no_domain() -> Error {
    // libvirt's test driver gives this one no detail, and then no colon.
    let mut error = Error::new(ErrorCode::NoDomain, ErrorDomain::Test, "");
    error.set_message("Domain not found");
    error
}

/// Returns the name of the moment that a command made, for an answer.
pub(crate) fn made_name(outcome: &Outcome) -> Option<momentlog_core::MomentName> {
    use momentlog_core::MomentChange::Created;
    outcome.events.iter().find_map(|event| match &event.change {
        Change::Snapshot(Created { name, .. }) | Change::Checkpoint(Created { name, .. }) => {
            Some(name.clone())
        }
        _ => None,
    })
}
