//! The errors that a client gets.

use momentlog::Error;

use crate::frame::Header;
use crate::proto::{LIST_COUNT_MAX, RemoteError};
use crate::xdr::EncodeError;

/// `VIR_FROM_RPC`.
const FROM_RPC: i32 = 7;

/// `VIR_FROM_TEST`.
const FROM_TEST: i32 = 12;

/// `VIR_FROM_DOMAIN`, which libvirt's public layer reports for a function that a driver lacks, and for most refusals.
const FROM_DOMAIN: i32 = 20;

/// `VIR_ERR_ERROR`.
const LEVEL: i32 = 2;

/// Why a call fails: libvirt's numbers and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    code: i32,
    domain: i32,
    message: String,
}

impl Failure {
    fn new(code: i32, domain: i32, message: impl Into<String>) -> Failure {
        let message = message.into();
        Failure {
            code,
            domain,
            message,
        }
    }

    /// What is wrong with the protocol, as the client speaks it.
    pub(crate) fn rpc(message: impl Into<String>) -> Failure {
        Failure::new(39, FROM_RPC, message)
    }

    /// What the system, or another program of this host, refuses.
    pub(crate) fn system(message: impl Into<String>) -> Failure {
        Failure::new(38, FROM_RPC, message)
    }

    /// A call that nothing here can do now.
    pub(crate) fn internal(detail: &str) -> Failure {
        Failure::new(1, FROM_RPC, format!("internal error: {detail}"))
    }

    pub(crate) fn not_open() -> Failure {
        Failure::internal("hypervisor connection not open")
    }

    pub(crate) fn unknown_procedure(number: i32) -> Failure {
        Failure::rpc(format!("unknown procedure: {number}"))
    }

    pub(crate) fn unknown_program(header: Header) -> Failure {
        let Header {
            program, version, ..
        } = header;
        Failure::rpc(format!("Cannot find program {program} version {version}"))
    }

    pub(crate) fn status(status: u32) -> Failure {
        Failure::rpc(format!("Unexpected message status {status}"))
    }

    pub(crate) fn undecodable() -> Failure {
        Failure::rpc("Unable to decode message payload")
    }

    pub(crate) fn count(name: &str, count: i32) -> Failure {
        Failure::rpc(format!("{name} is {count}, of 0 to {LIST_COUNT_MAX}"))
    }

    /// Flags that a function of libvirt's test driver does not take.
    pub(crate) fn flags(flags: u32, function: &str) -> Failure {
        let message = format!("unsupported flags ({flags:#x}) in function {function}");
        Failure::new(8, FROM_TEST, message)
    }

    /// A change on a connection for reading only, or secrets there.
    pub(crate) fn read_only(function: &str) -> Failure {
        let message = format!("operation forbidden: read only access prevents {function}");
        Failure::new(29, FROM_DOMAIN, message)
    }

    /// XML that is no text.
    pub(crate) fn not_utf8() -> Failure {
        Failure::new(27, FROM_DOMAIN, "XML error: the document is not UTF-8")
    }

    /// Returns the payload of the reply.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // A text ends at a NUL for C.
        let shown = self.message.replace('\0', "");
        let text = |text: &str| Some(text.as_bytes().to_vec().into());
        let error = RemoteError {
            code: self.code,
            domain: self.domain,
            message: text(&shown),
            level: LEVEL,
            about: None,
            texts: [text(&shown), None, None],
            numbers: [-1, -1],
            network: None,
        };
        error.encode().unwrap_or_else(|_| {
            let short = Failure::rpc("the message of the error is too long");
            short.encode()
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let number = |number: u32| i32::try_from(number).expect("libvirt's numbers are small");
        let (code, domain) = (error.code().number(), error.domain().number());
        Failure::new(number(code), number(domain), error.message())
    }
}

impl From<EncodeError> for Failure {
    fn from(error: EncodeError) -> Failure {
        Failure::rpc(error.to_string())
    }
}
