//! Errors as libvirt tells them: code, domain and message.

mod causes;

use std::fmt;
use std::sync::Arc;

use momentlog_core::{MomentKind, Refusal};
use momentlog_engine::{BadProvenance, EngineError, Revision};
use momentlog_store::{Seq, StoreError, Written};
use momentlog_xml::XmlError;

/// What went wrong, numbered as `virErrorNumber`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each is libvirt's VIR_ERR_ constant of the same name and number"
)]
pub enum ErrorCode {
    InternalError = 1,
    NoSupport = 3,
    NoConnect = 5,
    InvalidArg = 8,
    OperationFailed = 9,
    NoName = 21,
    XmlError = 27,
    OperationDenied = 29,
    XmlDetail = 35,
    SystemError = 38,
    NoDomain = 42,
    OperationInvalid = 55,
    ConfigUnsupported = 67,
    OperationTimeout = 68,
    NoDomainSnapshot = 72,
    ArgumentUnsupported = 74,
    SnapshotRevertRisky = 77,
    OperationAborted = 78,
    NoDomainMetadata = 80,
    OperationUnsupported = 84,
    XmlInvalidSchema = 92,
    NoDomainCheckpoint = 103,
    NoDomainBackup = 104,
    CheckpointInconsistent = 109,
}

impl ErrorCode {
    /// The `virErrorNumber`.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// libvirt's name for it.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::InternalError => "VIR_ERR_INTERNAL_ERROR",
            ErrorCode::NoSupport => "VIR_ERR_NO_SUPPORT",
            ErrorCode::NoConnect => "VIR_ERR_NO_CONNECT",
            ErrorCode::InvalidArg => "VIR_ERR_INVALID_ARG",
            ErrorCode::OperationFailed => "VIR_ERR_OPERATION_FAILED",
            ErrorCode::NoName => "VIR_ERR_NO_NAME",
            ErrorCode::XmlError => "VIR_ERR_XML_ERROR",
            ErrorCode::OperationDenied => "VIR_ERR_OPERATION_DENIED",
            ErrorCode::XmlDetail => "VIR_ERR_XML_DETAIL",
            ErrorCode::SystemError => "VIR_ERR_SYSTEM_ERROR",
            ErrorCode::NoDomain => "VIR_ERR_NO_DOMAIN",
            ErrorCode::OperationInvalid => "VIR_ERR_OPERATION_INVALID",
            ErrorCode::ConfigUnsupported => "VIR_ERR_CONFIG_UNSUPPORTED",
            ErrorCode::OperationTimeout => "VIR_ERR_OPERATION_TIMEOUT",
            ErrorCode::NoDomainSnapshot => "VIR_ERR_NO_DOMAIN_SNAPSHOT",
            ErrorCode::ArgumentUnsupported => "VIR_ERR_ARGUMENT_UNSUPPORTED",
            ErrorCode::SnapshotRevertRisky => "VIR_ERR_SNAPSHOT_REVERT_RISKY",
            ErrorCode::OperationAborted => "VIR_ERR_OPERATION_ABORTED",
            ErrorCode::NoDomainMetadata => "VIR_ERR_NO_DOMAIN_METADATA",
            ErrorCode::OperationUnsupported => "VIR_ERR_OPERATION_UNSUPPORTED",
            ErrorCode::XmlInvalidSchema => "VIR_ERR_XML_INVALID_SCHEMA",
            ErrorCode::NoDomainCheckpoint => "VIR_ERR_NO_DOMAIN_CHECKPOINT",
            ErrorCode::NoDomainBackup => "VIR_ERR_NO_DOMAIN_BACKUP",
            ErrorCode::CheckpointInconsistent => "VIR_ERR_CHECKPOINT_INCONSISTENT",
        }
    }

    /// What libvirt puts before the detail.
    fn prefix(self) -> &'static str {
        match self {
            ErrorCode::InternalError => "internal error: ",
            ErrorCode::NoSupport => "this function is not supported by the connection driver",
            ErrorCode::NoConnect => "no connection driver available for ",
            ErrorCode::InvalidArg => "invalid argument: ",
            ErrorCode::OperationFailed => "operation failed: ",
            ErrorCode::XmlError => "XML error: ",
            ErrorCode::OperationDenied => "operation forbidden: ",
            ErrorCode::NoDomain => "Domain not found: ",
            ErrorCode::OperationInvalid => "Requested operation is not valid: ",
            ErrorCode::ConfigUnsupported => "unsupported configuration: ",
            ErrorCode::OperationTimeout => "Timed out during operation: ",
            ErrorCode::NoDomainSnapshot => "Domain snapshot not found: ",
            ErrorCode::ArgumentUnsupported => "argument unsupported: ",
            ErrorCode::SnapshotRevertRisky => "revert requires force: ",
            ErrorCode::OperationAborted => "operation aborted: ",
            ErrorCode::NoDomainMetadata => "metadata not found: ",
            ErrorCode::OperationUnsupported => "Operation not supported: ",
            ErrorCode::XmlInvalidSchema => "XML document failed to validate against schema: ",
            ErrorCode::NoDomainCheckpoint => "Domain checkpoint not found: ",
            ErrorCode::NoDomainBackup => "Domain backup job id not found: ",
            ErrorCode::CheckpointInconsistent => "checkpoint inconsistent: ",
            ErrorCode::NoName | ErrorCode::XmlDetail | ErrorCode::SystemError => "",
        }
    }
}

/// Which layer reports, numbered as `virErrorDomain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each is libvirt's VIR_FROM_ constant of the same name and number"
)]
pub enum ErrorDomain {
    None = 0,
    Xml = 5,
    Qemu = 10,
    Test = 12,
    Storage = 18,
    Domain = 20,
    DomainSnapshot = 35,
    DomainCheckpoint = 69,
}

impl ErrorDomain {
    /// The `virErrorDomain`.
    pub fn number(self) -> u32 {
        self as u32
    }

    pub(crate) fn of(kind: MomentKind) -> ErrorDomain {
        match kind {
            MomentKind::Snapshot => ErrorDomain::DomainSnapshot,
            MomentKind::Checkpoint => ErrorDomain::DomainCheckpoint,
        }
    }
}

/// Why a call failed; nothing changed, unless it [may be recorded](Error::may_be_recorded).
#[derive(Clone, Debug)]
pub struct Error {
    code: ErrorCode,
    domain: ErrorDomain,
    message: String,
    cause: Option<Arc<Cause>>,
}

/// What libvirt's numbers say about it is in the error; this is what the layers below have said.
#[derive(Clone, Debug)]
pub(crate) enum Cause {
    Refusal(Refusal),
    Xml(XmlError),
    Engine(EngineError),
}

/// What went wrong, for programs: in one place, and finer than libvirt's numbers.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind<'a> {
    /// A rule of the domain, its moments or the store refuses the command.
    Refused(&'a Refusal),
    /// The XML is not what it should be.
    Xml(&'a XmlError),
    /// The domain has another revision than the caller expects: read it again and decide again.
    Stale {
        /// The revision that the caller expects.
        expected: Revision,
        /// The revision that the domain has.
        found: Revision,
    },
    /// The request id stands for another command.
    RequestReused {
        /// The record that it stands for.
        seq: Seq,
    },
    /// Provenance that cannot be recorded, or that does not fit the command.
    Provenance(&'a BadProvenance),
    /// Another writer holds the store: try later.
    Busy,
    /// Another writer of a shared store came first, again and again: try later.
    Conflict,
    /// It is not known whether it was recorded: open the store again, and ask with the same request id.
    Unknown,
    /// The log is damaged, or not the one that was read; nothing is written past that.
    Damaged(&'a StoreError),
    /// Anything else that the store says: it is not there, may not be read, is full.
    Store(&'a StoreError),
    /// Anything else that the engine says.
    Engine(&'a EngineError),
    /// The call itself: flags, arguments, what is not there.
    Call,
}

/// What calls return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What went wrong.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Which layer reports.
    pub fn domain(&self) -> ErrorDomain {
        self.domain
    }

    /// The whole message, as libvirt's users see it. Names in it are as they are, control characters included.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What went wrong, for programs.
    pub fn kind(&self) -> ErrorKind<'_> {
        match self.cause.as_deref() {
            None => ErrorKind::Call,
            Some(Cause::Refusal(refusal)) => ErrorKind::Refused(refusal),
            Some(Cause::Xml(error)) => ErrorKind::Xml(error),
            Some(Cause::Engine(error)) => match error {
                EngineError::Refused(refusal) => ErrorKind::Refused(refusal),
                EngineError::Provenance(bad) => ErrorKind::Provenance(bad),
                EngineError::RequestReused { seq, .. } => ErrorKind::RequestReused { seq: *seq },
                EngineError::Stale { expected, found } => ErrorKind::Stale {
                    expected: *expected,
                    found: *found,
                },
                EngineError::Store(error) => match &**error {
                    StoreError::Locked { .. } => ErrorKind::Busy,
                    StoreError::Conflict { .. } => ErrorKind::Conflict,
                    StoreError::Unknown { .. } => ErrorKind::Unknown,
                    StoreError::Damaged { .. }
                    | StoreError::Forked { .. }
                    | StoreError::Truncated { .. }
                    | StoreError::Untrue { .. }
                    | StoreError::Replaced { .. } => ErrorKind::Damaged(error),
                    _ => ErrorKind::Store(error),
                },
                _ => ErrorKind::Engine(error),
            },
        }
    }

    /// Whether the same call may succeed later, as it is.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Busy | ErrorKind::Conflict)
    }

    /// Whether what was asked may have been recorded although the call failed. With the same request id, asking once more is
    /// safe.
    pub fn may_be_recorded(&self) -> bool {
        self.store()
            .is_some_and(|error| error.written() == Written::Unknown)
    }

    /// What the store said, if that is the reason.
    pub fn store(&self) -> Option<&StoreError> {
        match self.cause.as_deref() {
            Some(Cause::Engine(error)) => error.store(),
            _ => None,
        }
    }

    /// The rule that refused, if that is the reason.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self.kind() {
            ErrorKind::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// What is wrong with the XML, if that is the reason.
    pub fn xml(&self) -> Option<&XmlError> {
        match self.cause.as_deref() {
            Some(Cause::Xml(error)) => Some(error),
            _ => None,
        }
    }

    /// Returns the error of what its caller gave up, [`ErrorCode::OperationAborted`]: for a source of steps that ends before
    /// the log does.
    pub fn aborted(why: impl fmt::Display) -> Error {
        Error::new(ErrorCode::OperationAborted, ErrorDomain::None, why)
    }

    /// Returns the error whose message is libvirt's prefix of the code, and `detail`.
    pub(crate) fn new(code: ErrorCode, domain: ErrorDomain, detail: impl fmt::Display) -> Error {
        Error {
            code,
            domain,
            message: format!("{}{detail}", code.prefix()),
            cause: None,
        }
    }

    /// Returns the error of an argument that a check of the public layer found; libvirt gives those no prefix.
    pub(crate) fn argument(domain: ErrorDomain, message: String) -> Error {
        Error {
            code: ErrorCode::InvalidArg,
            domain,
            message,
            cause: None,
        }
    }

    /// Returns the error as the driver of this domain reports it.
    pub(crate) fn by(self, driver: ErrorDomain) -> Error {
        let domain = match self.domain {
            ErrorDomain::Test => driver,
            other => other,
        };
        Error { domain, ..self }
    }

    pub(crate) fn set_message(&mut self, message: &str) {
        message.clone_into(&mut self.message);
    }

    pub(crate) fn caused(mut self, cause: Cause) -> Error {
        self.cause = Some(Arc::new(cause));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Without a source: the message has the text of its cause, and would say it twice. [`Error::refusal`], [`Error::xml`] and
/// [`Error::store`] give the cause itself, [`Error::kind`] any of them.
impl std::error::Error for Error {}

/// Refuses bits that the driver does not know, if there are any.
pub(crate) fn refuse_bits(unknown: u32, function: &str) -> Result<()> {
    if unknown == 0 {
        return Ok(());
    }
    let message = format!("unsupported flags (0x{unknown:x}) in function {function}");
    Err(Error::argument(ErrorDomain::Test, message))
}

/// Refuses two flags together. libvirt names both in full, with the `prefix` of their set.
pub(crate) fn exclusive(domain: ErrorDomain, prefix: &str, one: &str, other: &str) -> Error {
    let message = format!("Flags '{prefix}{one}' and '{prefix}{other}' are mutually exclusive");
    Error::argument(domain, message)
}

/// Refuses the flag `by` without the flag that it needs.
pub(crate) fn required(domain: ErrorDomain, prefix: &str, needed: &str, by: &str) -> Error {
    let message = format!("Flag '{prefix}{needed}' is required by flag '{prefix}{by}'");
    Error::argument(domain, message)
}

pub(crate) fn no_moment(kind: MomentKind, name: &str) -> Error {
    let code = match kind {
        MomentKind::Snapshot => ErrorCode::NoDomainSnapshot,
        MomentKind::Checkpoint => ErrorCode::NoDomainCheckpoint,
    };
    Error::new(
        code,
        ErrorDomain::Test,
        format!("no domain {kind} with matching name '{name}'"),
    )
}
