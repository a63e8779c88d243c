//! The facts of a domain's guest that `dominfo` shows, from its definition and its run state.

use momentlog_core::{Action, RunState, StateChange};
use momentlog_engine::Call;
use momentlog_xml::{GuestFacts, guest_facts, rename_domain};

use crate::domain::Domain;
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::flags::{RenameFlags, ShutdownFlags};

/// The state, memory and processors of a domain's guest. Follows `virDomainInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainInfo {
    /// The run state.
    pub state: RunState,
    /// The most memory that it may have, in KiB.
    pub max_memory_kib: u64,
    /// The memory that it has, in KiB, as its definition says.
    pub memory_kib: u64,
    /// Its vCPUs.
    pub vcpus: u32,
}

impl Domain {
    /// Returns run state, memory and vCPUs; of a guest that runs, those that it began with. No processor time is known.
    /// Follows `virDomainGetInfo`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn info(&self) -> Result<DomainInfo> {
        self.with(|domain| {
            let facts = guest_facts(domain.def());
            Ok(DomainInfo {
                state: domain.power().state,
                max_memory_kib: domain.def().memory_kib,
                memory_kib: facts.memory_kib,
                vcpus: facts.vcpus.0,
            })
        })
    }

    /// The most memory that the guest may have, in KiB. Follows `virDomainGetMaxMemory`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn max_memory(&self) -> Result<u64> {
        self.with(|domain| Ok(domain.def().memory_kib))
    }

    /// The type of the guest's operating system, such as `hvm`. libvirt's test driver says `linux` of any. Follows
    /// `virDomainGetOSType`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn os_type(&self) -> Result<String> {
        if let Some(always) = self.connection.facts().os_type {
            return Ok(always.to_owned());
        }
        Ok(self.guest_facts()?.os_type)
    }

    /// Whether the guest's state was saved when it was stopped: never here. Follows `virDomainHasManagedSaveImage`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn has_managed_save_image(&self) -> Result<bool> {
        self.with(|_| Ok(false))
    }

    /// Whether the definition was changed since it was read: never here. Follows `virDomainIsUpdated`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read.
    pub fn is_updated(&self) -> Result<bool> {
        // libvirt's test driver says so of a domain that is gone, too.
        self.connection.read().map(|_| false)
    }

    /// Whether the domain starts with its host. Follows `virDomainGetAutostart`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn autostart(&self) -> Result<bool> {
        self.with(|domain| Ok(domain.autostart()))
    }

    /// Records whether the domain starts with its host; nothing is started here. Follows `virDomainSetAutostart`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn set_autostart(&self, autostart: bool) -> Result<()> {
        self.changing(Call::SET_AUTOSTART)?;
        let request = self.request(
            (Call::SET_AUTOSTART, 0),
            &[if autostart { "1" } else { "0" }],
        );
        self.decide(request, &mut |_| Ok(Action::SetAutostart(autostart)))
            .map(|_| ())
    }

    /// Gives the domain another name. It keeps its moments, whose own definitions keep the name that they have. Follows
    /// `virDomainRename`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArg`] for an empty name and flags, of which none are known; [`ErrorCode::NoDomain`];
    /// [`ErrorCode::OperationInvalid`] if it is active, or the name is its own or another one's; [`ErrorCode::XmlError`] if
    /// XML cannot say the name, or it has a `/`.
    pub fn rename(&self, name: &str, flags: RenameFlags) -> Result<()> {
        let function = self.changing(Call::RENAME)?;
        if name.is_empty() {
            let why = "string new_name in virDomainRename must not be empty";
            let mut error = Error::new(ErrorCode::InvalidArg, ErrorDomain::Domain, "");
            error.set_message(why);
            return Err(error);
        }
        flags.refuse_all_but(RenameFlags::ALL, &self.connection.facts().called(function))?;
        let request = self.request((Call::RENAME, 0), &[name]);
        let renamed = self.decide(request, &mut |domain| {
            let refused =
                |detail: String| Error::new(ErrorCode::XmlError, ErrorDomain::Test, detail);
            if name.contains('/') {
                return Err(refused(format!("name {name} cannot contain '/'")));
            }
            let def = rename_domain(domain.inactive_def(), name);
            let def = def.ok_or_else(|| refused("the name is none that XML can say".to_owned()))?;
            Ok(Action::Rename(def.into()))
        });
        renamed.map(|_| ())
    }

    /// Reboots the guest: it runs then, unless its definition says that it ends. Follows `virDomainReboot`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArg`] for flags that are not known; [`ErrorCode::OperationInvalid`] if it is off.
    pub fn reboot(&self, flags: ShutdownFlags) -> Result<()> {
        let function = self.changing(Call::REBOOT)?;
        flags.refuse_all_but(
            ShutdownFlags::ALL,
            &self.connection.facts().called(function),
        )?;
        let call = (Call::REBOOT, flags.bits());
        self.decide(self.request(call, &[]), &mut |domain| {
            let ends = guest_facts(domain.def()).ends_on_reboot;
            Ok(Action::ChangeState(StateChange::Reboot { ends }))
        })
        .map(|_| ())
    }

    /// Resets the guest, as its button does: it is in the same state then. Follows `virDomainReset`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationInvalid`] if it is off.
    pub fn reset(&self) -> Result<()> {
        self.change_state((Call::RESET, 0), &[StateChange::Reset])
    }

    fn guest_facts(&self) -> Result<GuestFacts> {
        self.with(|domain| Ok(guest_facts(domain.def())))
    }
}
