//! Connections: the way in.

mod domains;
mod forwarded;
mod history;
mod log;
mod recording;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use momentlog_core::{Attachment, DomainUuid, JobId, Profile};
use momentlog_engine::{Call, LogHandle, Options, Plan, Provenance, Request, Step, View};
use momentlog_store::{MemoryStore, Store, StoreError};
use momentlog_xml::RecentDomain;

use crate::domain::Domain;
use crate::driver::Driver;
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::facts::Facts;
use crate::uri::{TEST_URI, parse_store_uri};

pub use history::{DomainHistory, Entries, History, Subscription};
pub use log::Submitted;
pub use recording::Recording;

/// A connection to a store. A clone is the same connection; dropping the last one closes it.
///
/// Follows `virConnectPtr`.
#[derive(Clone)]
pub struct Connection {
    pub(crate) log: Arc<LogHandle>,
    /// The domain that was embedded last in a moment's XML.
    recent_domain: Arc<RecentDomain>,
    /// The backup that was asked about last, and when it began, which does not change and takes the history to find.
    pub(crate) recent_backup: Arc<Mutex<Option<(JobId, i64)>>>,
    provenance: Arc<Provenance>,
    read_only: bool,
    drivers: Arc<[Arc<dyn Driver>]>,
    /// The state that is read in place of the newest one: see [`for_retry`](Self::for_retry) and [`at`](Self::at).
    as_of: Option<Arc<View>>,
    /// Whether that is the point at which the connection answers, and beyond which it knows nothing.
    at_a_point: bool,
    /// Whether what is asked for is only planned: no hypervisor is asked then.
    planning: bool,
    /// Where the answers to calls are kept, for whoever wants to know them.
    outcomes: Option<recording::Outcomes>,
}

/// What calls would cause, see [`Connection::planning`].
#[derive(Debug)]
pub struct Planning {
    connection: Connection,
    plan: Plan,
}

impl Planning {
    /// The connection to ask.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns what would be recorded by now: each record with the states around it. Numbers, times and ids are those that
    /// the log would give if nothing else came first.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if a record cannot be read back, which none that was decided should.
    pub fn steps(&self) -> Result<Vec<Step>> {
        Ok(self.plan.steps()?)
    }
}

/// Returns the store that a URI names.
type Open = dyn Fn(&str) -> std::result::Result<Box<dyn Store>, StoreError>;

/// Opens the stores of one URI scheme, for [`Connection::open_among`].
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    /// What stands before the first `:` of the URI.
    pub scheme: &'a str,
    /// Opens the store of a whole URI.
    pub open: &'a Open,
}

impl fmt::Debug for Opener<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
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
    /// change creates, and `&driver=NAME` with [`open_driven`](Self::open_driven). Follows `virConnectOpen`.
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
        let named = parse_store_uri(uri)?;
        if let Some(driver) = named.driver {
            let detail = format!("{uri} (this program brings no driver '{driver}')");
            return Err(Error::new(ErrorCode::NoConnect, ErrorDomain::None, detail));
        }
        options.profile = named.profile.unwrap_or(options.profile);
        Connection::in_directory(named.path, options)
    }

    /// As [`open_with`](Self::open_with), with the drivers that the program brings: `?driver=NAME` names the one that asks the
    /// hypervisors of attached domains.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::NoConnect`] also for a driver that is none of them.
    pub fn open_driven(
        uri: &str,
        mut options: Options,
        drivers: &[Arc<dyn Driver>],
    ) -> Result<Connection> {
        if uri == TEST_URI {
            return Connection::open_with(uri, options);
        }
        let named = parse_store_uri(uri)?;
        let Some(name) = named.driver else {
            return Connection::open_with(uri, options);
        };
        let Some(driver) = drivers.iter().find(|driver| driver.name() == name) else {
            let detail = format!("{uri} (this program brings no driver '{name}')");
            return Err(Error::new(ErrorCode::NoConnect, ErrorDomain::None, detail));
        };
        options.profile = named.profile.unwrap_or(options.profile);
        let connection = Connection::in_directory(named.path, options)?;
        Ok(connection.with_drivers([driver.clone()]))
    }

    /// As [`open_with`](Self::open_with), with the kinds of stores that the program brings: each opener opens the URIs of its
    /// scheme, which is what stands before the first `:`. The built-in schemes are asked for last.
    ///
    /// # Errors
    ///
    /// As there, and what the opener says.
    pub fn open_among(uri: &str, options: Options, openers: &[Opener<'_>]) -> Result<Connection> {
        let scheme = uri.split_once(':').map(|(scheme, _)| scheme);
        match openers.iter().find(|opener| Some(opener.scheme) == scheme) {
            Some(opener) => Connection::over((opener.open)(uri)?, options).looked_at(),
            None => Connection::open_with(uri, options),
        }
    }

    fn in_directory(path: &str, options: Options) -> Result<Connection> {
        let (provenance, read_only) = (options.provenance.clone(), options.read_only);
        let log = LogHandle::open(Path::new(path), options);
        Connection::to(log, provenance, read_only).looked_at()
    }

    /// Looks at the store for the first time.
    fn looked_at(self) -> Result<Connection> {
        match self.refresh() {
            // There is a store. The calls and `verify` say what is wrong with it.
            Err(error)
                if matches!(
                    error.store(),
                    Some(StoreError::Damaged { .. } | StoreError::Archived { .. })
                ) => {}
            Err(error) if self.read_only => return Err(error),
            // The calls that need the store say that it is not there yet, or cannot be read.
            _ => {}
        }
        Ok(self)
    }

    /// Returns a connection over any store, for embedders who bring their own.
    pub fn over(store: Box<dyn Store>, options: Options) -> Connection {
        let (provenance, read_only) = (options.provenance.clone(), options.read_only);
        Connection::to(LogHandle::over(store, options), provenance, read_only)
    }

    fn to(log: Arc<LogHandle>, provenance: Provenance, read_only: bool) -> Connection {
        Connection {
            log,
            recent_domain: Arc::default(),
            recent_backup: Arc::default(),
            provenance: Arc::new(provenance),
            read_only,
            drivers: Arc::new([]),
            as_of: None,
            at_a_point: false,
            planning: false,
            outcomes: None,
        }
    }

    /// Returns what calls would cause: a connection that answers as this one does, where changes are decided, and recorded
    /// nowhere. No lock is taken, no store is made, and no hypervisor is asked.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read. That it is not there yet is no error.
    pub fn planning(&self) -> Result<Planning> {
        let plan = self.log.plan()?;
        let connection = Connection {
            log: plan.log().clone(),
            drivers: Arc::new([]),
            planning: true,
            ..self.clone()
        };
        Ok(Planning { connection, plan })
    }

    /// Returns the same connection, which asks the hypervisors of attached domains through these drivers.
    #[must_use]
    pub fn with_drivers(&self, drivers: impl IntoIterator<Item = Arc<dyn Driver>>) -> Connection {
        Connection {
            drivers: drivers.into_iter().collect(),
            ..self.clone()
        }
    }

    /// The drivers that ask hypervisors.
    pub(crate) fn drivers(&self) -> &[Arc<dyn Driver>] {
        &self.drivers
    }

    /// Returns the driver of an attachment.
    pub(crate) fn driver_of(&self, attachment: &Attachment) -> Result<Arc<dyn Driver>> {
        if self.planning {
            let detail = "what is only planned asks no hypervisor, and the domain is attached";
            let code = ErrorCode::OperationUnsupported;
            return Err(Error::new(code, ErrorDomain::Test, detail));
        }
        let name = &*attachment.driver;
        let found = self.drivers.iter().find(|driver| driver.name() == name);
        found.cloned().ok_or_else(|| {
            let detail = format!(
                "the hypervisor is asked by the driver '{name}': open the store with driver={name}"
            );
            Error::new(ErrorCode::OperationUnsupported, ErrorDomain::Test, detail)
        })
    }

    /// Returns an error as the drivers of this connection report it.
    pub(crate) fn told(&self, error: Error) -> Error {
        if self.drivers.is_empty() {
            error
        } else {
            error.by(ErrorDomain::Qemu)
        }
    }

    /// How long a change waits for another one.
    pub(crate) fn lock_wait(&self) -> Duration {
        self.log.lock_wait()
    }

    /// Returns the same connection for another caller, or for another reason: every handle that comes from it carries
    /// this provenance into the records that it makes.
    #[must_use]
    pub fn with_provenance(&self, provenance: Provenance) -> Connection {
        Connection {
            provenance: Arc::new(provenance),
            as_of: self.as_of.clone().filter(|_| self.at_a_point),
            ..self.clone()
        }
    }

    /// Returns the connection for asking once more: if the request id of its provenance was recorded, all that it and its
    /// handles look up and read is as it was right before that record, so that a caller who asks the same way makes the same
    /// call and gets the first answer. Otherwise, and when that record was archived, it is the same connection; what is looked
    /// up by a name is then taken to have been there.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read. That it is not there yet is no error.
    pub fn for_retry(&self) -> Result<Connection> {
        if self.at_a_point {
            return Ok(self.clone());
        }
        let as_of = match &self.provenance.request_id {
            Some(id) => self.log.before_request(id)?,
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

    /// Returns a connection for reading only that answers as of a state of this log, as [`at`](Self::at) does of a point.
    #[must_use]
    pub fn as_of(&self, view: Arc<View>) -> Connection {
        Connection {
            as_of: Some(view),
            at_a_point: true,
            read_only: true,
            ..self.clone()
        }
    }

    /// The state at which the connection answers; none if that is the newest one.
    pub(crate) fn point(&self) -> Option<&Arc<View>> {
        self.as_of.as_ref().filter(|_| self.at_a_point)
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

    /// The state that a call answers from: the newest one.
    pub(crate) fn read(&self) -> Result<Arc<View>> {
        match &self.as_of {
            Some(view) => Ok(view.clone()),
            None => Ok(self.log.refresh()?),
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

    /// Returns the request of a libvirt call under this connection's provenance.
    pub(crate) fn request(
        &self,
        call: (Call, u32),
        domain: Option<DomainUuid>,
        arguments: &[&[u8]],
    ) -> Request<'_> {
        Request::of_call(&self.provenance, call, domain, arguments)
    }

    /// The facts of the driver that the store answers as.
    pub(crate) fn facts(&self) -> &'static Facts {
        // The call itself says what cannot be read.
        let view = self.read().unwrap_or_else(|_| self.log.view());
        Facts::of(view.state().profile())
    }

    /// Microseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.log.clock().now()
    }

    /// Calls `read` with the domain that was embedded last and what gives out new uuids, and returns what it returns.
    pub(crate) fn read_xml<T>(
        &self,
        read: impl FnOnce(&RecentDomain, &mut dyn FnMut() -> DomainUuid) -> T,
    ) -> Result<T> {
        let mut bytes = [0; 16];
        let mut filled = Ok(());
        let read = read(&self.recent_domain, &mut || {
            filled = self.log.entropy().fill(&mut bytes);
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
