//! What is told of a domain's guest, from its definition and its run state.

use momentlog_core::RunState;
use momentlog_xml::{GuestFacts, guest_facts};

use crate::domain::Domain;
#[cfg(doc)]
use crate::error::ErrorCode;
use crate::error::Result;

/// What is told of a domain's guest. Follows `virDomainInfo`.
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

    fn guest_facts(&self) -> Result<GuestFacts> {
        self.with(|domain| Ok(guest_facts(domain.def())))
    }
}
