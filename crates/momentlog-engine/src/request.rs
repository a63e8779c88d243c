//! What is handed in, before it is decided.

use momentlog_core::{Command, DomainUuid, SettingsChange};

use crate::call::Call;
use crate::codec::{command_digest, request_digest, settings_digest};
use crate::environment::Provenance;

/// What is asked, by whom, and how it is known if it is asked once more. What it does is decided with a
/// [`Decision`](crate::Decision).
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The domain that it is about; none for the store.
    pub(crate) domain: Option<DomainUuid>,
    pub(crate) provenance: &'a Provenance,
    pub(crate) call: Call,
    pub(crate) flags: u32,
    /// Digest of what is asked, where there is a request id.
    pub(crate) digest: Option<[u8; 32]>,
}

impl<'a> Request<'a> {
    /// Returns the request of a call with these flags and arguments, about a domain or about the store.
    pub fn of_call(
        provenance: &'a Provenance,
        (call, flags): (Call, u32),
        domain: Option<DomainUuid>,
        arguments: &[&[u8]],
    ) -> Request<'a> {
        let digest = || request_digest((call, flags), domain, arguments);
        Request {
            domain,
            provenance,
            call,
            flags,
            digest: provenance.request_id.as_ref().map(|_| digest()),
        }
    }

    /// Returns the request of a typed command. Its time is no part of what is compared: a retry reads the clock again.
    pub fn of_command(
        provenance: &'a Provenance,
        (call, flags): (Call, u32),
        command: &Command,
    ) -> Request<'a> {
        let digest = || command_digest((call, flags), command);
        Request {
            domain: Some(command.domain),
            provenance,
            call,
            flags,
            digest: provenance.request_id.as_ref().map(|_| digest()),
        }
    }

    /// Returns the request to change the store's settings.
    pub fn of_settings(provenance: &'a Provenance, change: SettingsChange) -> Request<'a> {
        Request {
            domain: None,
            provenance,
            call: Call::SET_SETTINGS,
            flags: 0,
            digest: provenance
                .request_id
                .as_ref()
                .map(|_| settings_digest(change)),
        }
    }

    /// Returns the same request, recorded as being about `domain`: for one whose arguments name the domain.
    #[must_use]
    pub fn about(self, domain: DomainUuid) -> Request<'a> {
        Request {
            domain: Some(domain),
            ..self
        }
    }
}
