//! Domain handles, and the calls of a domain.

mod attach;
mod backup;
mod backup_history;
mod bitmap_history;
mod driven;
mod effects;
mod entered;
mod info;
mod job;
mod metadata;
mod moments;
mod restore;
mod undelete;

use std::fmt;
use std::sync::Arc;

use momentlog_core::{
    Action, Command, Domain as DomainState, DomainUuid, MomentKind, Policy, Power, Refusal,
    RunState, StateChange,
};
use momentlog_xml::{disk_details, domain_title, write_domain};

use crate::connection::Connection;
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::flags::{DestroyFlags, DomainXmlFlags, ShutdownFlags, StartFlags, UndefineFlags};
use crate::recordable;
use crate::redefinition::RedefinePlan;
use momentlog_engine::{Call, Outcome, Provenance, Request, View};

pub use backup_history::{BackedUp, Backup, BackupEnd};
pub use info::DomainInfo;
pub use job::{BlockJobInfo, JobInfo, JobState};
pub use metadata::MetadataKind;
pub use restore::{Fate, OnMissingParent, Restoration, RestoredMoment, Saved};
pub use undelete::Undeletion;

/// A domain, by its uuid. A clone is the same handle; the domain may be gone, and calls say so.
///
/// Follows `virDomainPtr`.
#[derive(Clone)]
pub struct Domain {
    connection: Connection,
    uuid: DomainUuid,
    name: Arc<str>,
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain")
            .field("name", &self.name)
            .field("uuid", &self.uuid)
            .finish_non_exhaustive()
    }
}

impl Domain {
    pub(crate) fn new(connection: &Connection, uuid: DomainUuid, name: &Arc<str>) -> Domain {
        Domain {
            connection: connection.clone(),
            uuid,
            name: name.clone(),
        }
    }

    /// The handle as those of its moments hold it.
    fn shared(&self) -> Arc<Domain> {
        Arc::new(self.clone())
    }

    /// The name that the domain had when it was looked up. Follows `virDomainGetName`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The uuid. Follows `virDomainGetUUID`.
    pub fn uuid(&self) -> DomainUuid {
        self.uuid
    }

    /// The connection. Follows `virDomainGetConnect`.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The number of a running domain. Follows `virDomainGetID`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn id(&self) -> Result<Option<u32>> {
        self.with(|domain| Ok(domain.power().id))
    }

    /// Run state and reason, as libvirt numbers it. Follows `virDomainGetState`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn state(&self) -> Result<(RunState, u8)> {
        self.with(|domain| Ok((domain.power().state, domain.power().reason)))
    }

    /// Whether the guest is active. Follows `virDomainIsActive`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn is_active(&self) -> Result<bool> {
        self.with(|domain| Ok(domain.power().is_active()))
    }

    /// Whether the domain outlives its guest. Follows `virDomainIsPersistent`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn is_persistent(&self) -> Result<bool> {
        self.with(|domain| Ok(domain.is_persistent()))
    }

    /// The domain's XML. Follows `virDomainGetXMLDesc`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] for secrets on a read-only connection; [`ErrorCode::NoDomain`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing here.
    pub fn xml_desc(&self, flags: DomainXmlFlags) -> Result<String> {
        const FUNCTION: &str = "virDomainGetXMLDesc";
        let secure = flags.contains(DomainXmlFlags::SECURE);
        let sees_secrets = flags.intersects(DomainXmlFlags::SECURE | DomainXmlFlags::MIGRATABLE);
        self.deny_secrets(sees_secrets, FUNCTION, ErrorDomain::Domain)?;
        let facts = self.connection.facts();
        flags.refuse_all_but(facts.domain_xml, &facts.called(FUNCTION))?;
        self.with(|domain| {
            Ok(if flags.contains(DomainXmlFlags::INACTIVE) {
                write_domain(domain.inactive_def(), None, secure)
            } else {
                write_domain(domain.def(), domain.power().id, secure)
            })
        })
    }

    /// Returns what gives another libvirt, which has none of them, the moments of one kind: with their parents as they are here,
    /// the order of siblings and the current one. `flags` may be [`DomainXmlFlags::SECURE`], for passwords in the domains of
    /// the moments.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] for secrets on a read-only connection; [`ErrorCode::NoDomain`];
    /// [`ErrorCode::InvalidArg`] for other flags.
    pub fn redefine_plan(&self, kind: MomentKind, flags: DomainXmlFlags) -> Result<RedefinePlan> {
        const FUNCTION: &str = "redefine_plan";
        let secure = flags.contains(DomainXmlFlags::SECURE);
        self.deny_secrets(secure, FUNCTION, ErrorDomain::Domain)?;
        flags.refuse_all_but(DomainXmlFlags::SECURE, FUNCTION)?;
        let view = self.connection.read()?;
        let domain = self
            .of(&view)
            .map_err(|error| self.connection.told(error))?;
        Ok(RedefinePlan::of(&view, domain, kind, secure))
    }

    /// Type, device, target and source (`-` if none) of each disk, as `virsh domblklist --details` shows them.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn disks(&self, inactive: bool) -> Result<Vec<[String; 4]>> {
        self.with(|domain| {
            Ok(disk_details(if inactive {
                domain.inactive_def()
            } else {
                domain.def()
            }))
        })
    }

    /// The title in the domain's definition, as `virsh list --title` shows it; `None` without one.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn title(&self) -> Result<Option<String>> {
        self.with(|domain| Ok(domain_title(domain.def())))
    }

    /// The rules that the domain follows.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn policy(&self) -> Result<Policy> {
        self.with(|domain| Ok(domain.policy()))
    }

    /// Starts the guest. Follows `virDomainCreate`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InternalError`] if it runs, as libvirt's test driver has it.
    pub fn start(&self) -> Result<()> {
        self.change_state((Call::CREATE, 0), &[StateChange::Start])
    }

    /// Starts the guest; paused, if the flags say so. Follows `virDomainCreateWithFlags`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); [`ErrorCode::InvalidArg`] for flags that the store's driver does not take.
    pub fn start_with_flags(&self, flags: StartFlags) -> Result<()> {
        let call = self.changing(Call::CREATE_WITH_FLAGS)?;
        let facts = self.connection.facts();
        facts.vet_start(flags, facts.start, call)?;
        let changes = if flags.contains(StartFlags::PAUSED) {
            &[StateChange::Start, StateChange::Suspend][..]
        } else {
            &[StateChange::Start]
        };
        self.change_state((Call::CREATE_WITH_FLAGS, flags.bits()), changes)
    }

    /// Asks the guest to shut down, which it does at once. Follows `virDomainShutdown`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InternalError`] if it is off.
    pub fn shutdown(&self) -> Result<()> {
        self.change_state((Call::SHUTDOWN, 0), &[StateChange::Shutdown])
    }

    /// Asks the guest to shut down in one of these ways. Follows `virDomainShutdownFlags`.
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown); [`ErrorCode::InvalidArg`] for flags that the store's driver does not take.
    pub fn shutdown_flags(&self, flags: ShutdownFlags) -> Result<()> {
        let call = self.changing(Call::SHUTDOWN_FLAGS)?;
        let facts = self.connection.facts();
        flags.refuse_all_but(facts.shutdown, &facts.called(call))?;
        let call = (Call::SHUTDOWN_FLAGS, flags.bits());
        self.change_state(call, &[StateChange::Shutdown])
    }

    /// Stops the guest; a transient domain is gone then. Follows `virDomainDestroy`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationInvalid`] if it is off.
    pub fn destroy(&self) -> Result<()> {
        self.change_state((Call::DESTROY, 0), &[StateChange::Destroy])
    }

    /// Stops the guest as [`destroy`](Self::destroy) does. Follows `virDomainDestroyFlags`.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for flags that the store's driver does not take.
    pub fn destroy_flags(&self, flags: DestroyFlags) -> Result<()> {
        let call = self.changing(Call::DESTROY_FLAGS)?;
        let facts = self.connection.facts();
        flags.refuse_all_but(facts.destroy, &facts.called(call))?;
        let call = (Call::DESTROY_FLAGS, flags.bits());
        self.change_state(call, &[StateChange::Destroy])
    }

    /// Pauses the guest. Follows `virDomainSuspend`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InternalError`] if it does not run.
    pub fn suspend(&self) -> Result<()> {
        self.change_state((Call::SUSPEND, 0), &[StateChange::Suspend])
    }

    /// Lets a paused guest run on. Follows `virDomainResume`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InternalError`] if it is not paused.
    pub fn resume(&self) -> Result<()> {
        self.change_state((Call::RESUME, 0), &[StateChange::Resume])
    }

    /// Forgets the persistent definition; an active domain goes when it stops. Follows `virDomainUndefineFlags`, and without
    /// flags `virDomainUndefine`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationInvalid`] if it is inactive and has snapshots that may not go with it;
    /// [`ErrorCode::InvalidArg`] for flags that the store's driver does not take.
    pub fn undefine(&self, flags: UndefineFlags) -> Result<()> {
        let call = if flags == UndefineFlags::NONE {
            Call::UNDEFINE
        } else {
            Call::UNDEFINE_FLAGS
        };
        self.changing(call)?;
        self.connection.facts().vet_undefine(flags)?;
        let with_snapshots = flags.contains(UndefineFlags::SNAPSHOTS_METADATA);
        self.act((call, flags.bits()), &Action::Undefine { with_snapshots })
    }

    /// Refuses a change on a read-only connection. Returns what libvirt calls the call.
    fn changing(&self, call: Call) -> Result<&'static str> {
        let function = call.name().unwrap_or_default();
        self.connection
            .deny_read_only(function, ErrorDomain::Domain)?;
        Ok(function)
    }

    /// Changes the run state in steps that are one record.
    fn change_state(&self, call: (Call, u32), changes: &[StateChange]) -> Result<()> {
        self.changing(call.0)?;
        let request = self.request(call, &[]);
        let decided = self.unless_a_job_forbids(&mut |_| {
            self.connection.decide(request, &mut |decision| {
                self.of(decision.view())?;
                for change in changes {
                    let command = self.command(Action::ChangeState(*change));
                    recordable::decide(decision, &command)?;
                }
                Ok(())
            })
        });
        decided
            .map(|_| ())
            .map_err(|error: Error| self.connection.told(error))
    }

    /// Returns the same domain for another caller or reason: see [`Connection::with_provenance`].
    #[must_use]
    pub fn with_provenance(&self, provenance: Provenance) -> Domain {
        let connection = self.connection.with_provenance(provenance);
        connection.domain_handle(self.uuid, &self.name)
    }

    /// Calls `read` with the domain as it is now.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&DomainState) -> Result<T>) -> Result<T> {
        let view = self.connection.read()?;
        self.of(&view)
            .and_then(read)
            .map_err(|error| self.connection.told(error))
    }

    /// As [`with`](Self::with), for a lookup: what a call has removed is found when it is asked again.
    pub(crate) fn find<T>(&self, find: impl Fn(&DomainState) -> Option<T>) -> Result<Option<T>> {
        let found = self
            .connection
            .find(|view| find(view.state().domain(self.uuid)?))?;
        match found {
            Some(found) => Ok(Some(found)),
            None if self.connection.archived_request()? == Some(self.uuid) => Ok(None),
            None => self.with(|_| Ok(None)),
        }
    }

    fn of<'a>(&self, view: &'a View) -> Result<&'a DomainState> {
        view.domain(self.uuid)
            .map_err(|refusal| self.named(refusal))
    }

    /// Adds the name that the handle remembers to what is said of a domain that is gone, as libvirt does.
    fn named(&self, refusal: Refusal) -> Error {
        let gone = matches!(refusal, Refusal::NoDomain { .. });
        let mut error = Error::from(refusal);
        if gone {
            let message = format!("{} ({})", error.message(), self.name);
            error.set_message(&message);
        }
        error
    }

    /// Decides and records a command about this domain, whose content may depend on the domain as it is.
    pub(crate) fn decide(
        &self,
        request: Request<'_>,
        action: &mut dyn FnMut(&DomainState) -> Result<Action>,
    ) -> Result<Outcome> {
        let decided = self.connection.decide(request, &mut |decision| {
            let action = action(self.of(decision.view())?)?;
            recordable::decide(decision, &self.command(action))
        });
        decided.map_err(|error: Error| self.connection.told(error))
    }

    /// Decides and records a command whose content is known.
    pub(crate) fn act(&self, call: (Call, u32), action: &Action) -> Result<()> {
        // All else that is asked for is in the call and its flags.
        let name = match action {
            Action::Delete { name, .. } | Action::Revert { name, .. } => Some(name.as_str()),
            _ => None,
        };
        let request = self.request(call, name.as_slice());
        self.carry_out(call, request, &mut |_| Ok(action.clone()))
            .map(|_| ())
    }

    fn command(&self, action: Action) -> Command {
        Command {
            domain: self.uuid,
            action,
        }
    }

    /// Returns the request of a call about this domain.
    fn request(&self, call: (Call, u32), arguments: &[&str]) -> Request<'_> {
        let arguments: Vec<&[u8]> = arguments.iter().map(|text| text.as_bytes()).collect();
        self.connection.request(call, Some(self.uuid), &arguments)
    }

    pub(crate) fn deny_secrets(
        &self,
        secure: bool,
        function: &str,
        domain: ErrorDomain,
    ) -> Result<()> {
        if secure && self.connection.is_read_only() {
            let detail = format!("{function} with secure flag");
            return Err(Error::new(ErrorCode::OperationDenied, domain, detail));
        }
        Ok(())
    }

    /// The domain's run state, with the number of a running domain.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn power(&self) -> Result<Power> {
        self.with(|domain| Ok(domain.power()))
    }
}
