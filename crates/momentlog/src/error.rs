//! Errors as libvirt tells them: code, domain and message.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;

use momentlog_core::{DiskRefused, MomentKind, Refusal};
use momentlog_engine::EngineError;
use momentlog_store::StoreError;
use momentlog_xml::{DocumentKind, DomainRule, MomentRule, Rule, SourceRule, XmlError};

/// What went wrong, numbered as `virErrorNumber`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each is libvirt's VIR_ERR_ constant of the same name and number"
)]
pub enum ErrorCode {
    InternalError = 1,
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
    SnapshotRevertRisky = 77,
    OperationAborted = 78,
    OperationUnsupported = 84,
    XmlInvalidSchema = 92,
    NoDomainCheckpoint = 103,
}

impl ErrorCode {
    /// The `virErrorNumber`.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// What libvirt puts before the detail.
    fn prefix(self) -> &'static str {
        match self {
            ErrorCode::InternalError => "internal error: ",
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
            ErrorCode::SnapshotRevertRisky => "revert requires force: ",
            ErrorCode::OperationAborted => "operation aborted: ",
            ErrorCode::OperationUnsupported => "Operation not supported: ",
            ErrorCode::XmlInvalidSchema => "XML document failed to validate against schema: ",
            ErrorCode::NoDomainCheckpoint => "Domain checkpoint not found: ",
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

/// Why a call failed; nothing changed, unless the code is [`ErrorCode::OperationTimeout`].
#[derive(Debug)]
pub struct Error {
    code: ErrorCode,
    domain: ErrorDomain,
    message: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
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

    /// What the store said, if that is the reason.
    pub fn store(&self) -> Option<&StoreError> {
        self.cause::<Arc<StoreError>>().map(Arc::as_ref)
    }

    /// The rule that refused, if that is the reason.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.cause()
    }

    /// What is wrong with the XML, if that is the reason.
    pub fn xml(&self) -> Option<&XmlError> {
        self.cause()
    }

    fn cause<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.cause.as_deref()?.downcast_ref()
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

    pub(crate) fn set_message(&mut self, message: &str) {
        message.clone_into(&mut self.message);
    }

    pub(crate) fn caused(
        mut self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        self.cause = Some(Box::new(source));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Without a source: the message has the text of its cause, and would say it twice. [`Error::refusal`], [`Error::xml`] and
/// [`Error::store`] give the cause itself.
impl std::error::Error for Error {}

/// Refuses bits that the driver does not know, if there are any.
pub(crate) fn refuse_bits(unknown: u32, function: &str) -> Result<()> {
    if unknown == 0 {
        return Ok(());
    }
    let message = format!("unsupported flags (0x{unknown:x}) in function {function}");
    Err(Error::argument(ErrorDomain::Test, message))
}

pub(crate) fn exclusive(domain: ErrorDomain, one: &str, other: &str) -> Error {
    Error::argument(
        domain,
        format!("Flags '{one}' and '{other}' are mutually exclusive"),
    )
}

pub(crate) fn required(domain: ErrorDomain, needed: &str, by: &str) -> Error {
    Error::argument(
        domain,
        format!("Flag '{needed}' is required by flag '{by}'"),
    )
}

/// Returns the error of a moment that is not there. An absent name finds nothing either.
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

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let (code, domain) = match &refusal {
            Refusal::NoDomain { .. } => (ErrorCode::NoDomain, ErrorDomain::Test),
            Refusal::NoMoment {
                kind: MomentKind::Snapshot,
                ..
            } => (ErrorCode::NoDomainSnapshot, ErrorDomain::Test),
            Refusal::NoMoment { .. } => (ErrorCode::NoDomainCheckpoint, ErrorDomain::Test),
            Refusal::DomainNameTaken { .. }
            | Refusal::DomainRenamed { .. }
            | Refusal::NameTaken { .. } => (ErrorCode::OperationFailed, ErrorDomain::Domain),
            Refusal::AlreadyActive { .. } | Refusal::BeingStarted { .. } | Refusal::Inactive => {
                (ErrorCode::OperationInvalid, ErrorDomain::Domain)
            }
            Refusal::AlreadyRunning { .. }
            | Refusal::NotRunning { .. }
            | Refusal::NotPaused { .. } => (ErrorCode::InternalError, ErrorDomain::Test),
            Refusal::HasSnapshots { .. }
            | Refusal::HaltTransient
            | Refusal::RevertTransient
            | Refusal::JobOpen { .. } => (ErrorCode::OperationInvalid, ErrorDomain::Test),
            Refusal::Excluded { .. }
            | Refusal::CheckpointInactive
            | Refusal::Fork { .. }
            | Refusal::LeafIsCurrent { .. }
            | Refusal::PolicyUnmet(_)
            | Refusal::Work { .. }
            | Refusal::IdsExhausted => (ErrorCode::OperationUnsupported, ErrorDomain::Test),
            Refusal::Parent(_) | Refusal::DefinitionUuid { .. } => {
                (ErrorCode::InvalidArg, ErrorDomain::Domain)
            }
            Refusal::CheckpointName { .. } => {
                (ErrorCode::InvalidArg, ErrorDomain::DomainCheckpoint)
            }
            Refusal::WrongUuid { kind, .. } => (ErrorCode::InvalidArg, ErrorDomain::of(*kind)),
            Refusal::OnlineChange { .. } | Refusal::DiskOnlyChange { .. } => {
                (ErrorCode::InvalidArg, ErrorDomain::DomainSnapshot)
            }
            Refusal::MemoryChange { .. } => (ErrorCode::ConfigUnsupported, ErrorDomain::Domain),
            Refusal::Disks(refused) => disks(refused),
            Refusal::NoRollback { .. } => (ErrorCode::SnapshotRevertRisky, ErrorDomain::Test),
        };
        Error::new(code, domain, &refusal).caused(refusal)
    }
}

fn disks(refused: &DiskRefused) -> (ErrorCode, ErrorDomain) {
    match refused {
        DiskRefused::NoDomain { kind } => (ErrorCode::InternalError, ErrorDomain::of(*kind)),
        DiskRefused::TooMany { kind }
        | DiskRefused::Unknown { kind, .. }
        | DiskRefused::Twice { kind, .. } => (ErrorCode::ConfigUnsupported, ErrorDomain::of(*kind)),
        DiskRefused::NoDisks | DiskRefused::EmptyOrReadonly { .. } => {
            (ErrorCode::ConfigUnsupported, ErrorDomain::DomainCheckpoint)
        }
        DiskRefused::ActiveInternal { .. }
        | DiskRefused::OverlayFormat { .. }
        | DiskRefused::NoneSelected
        | DiskRefused::Mixed => (ErrorCode::ConfigUnsupported, ErrorDomain::Test),
        DiskRefused::Manual => (ErrorCode::OperationUnsupported, ErrorDomain::Test),
        DiskRefused::NotInternal { .. }
        | DiskRefused::FileNotExternal { .. }
        | DiskRefused::OverlayOnDevice { .. }
        | DiskRefused::OverlayWithoutSource { .. }
        | DiskRefused::OverlayNotRegular { .. }
        | DiskRefused::OverlayTwice { .. } => {
            (ErrorCode::ConfigUnsupported, ErrorDomain::DomainSnapshot)
        }
    }
}

impl From<XmlError> for Error {
    fn from(error: XmlError) -> Error {
        let own = match error.document {
            DocumentKind::Snapshot => ErrorDomain::DomainSnapshot,
            DocumentKind::Checkpoint => ErrorDomain::DomainCheckpoint,
            DocumentKind::Domain => ErrorDomain::Domain,
        };
        let (code, domain) = match &error.rule {
            Rule::WellFormed(_) => (ErrorCode::XmlDetail, own),
            Rule::Root { .. } | Rule::Word { .. } | Rule::Required { .. } => {
                (ErrorCode::XmlError, ErrorDomain::Xml)
            }
            Rule::Schema(_) => (ErrorCode::XmlInvalidSchema, ErrorDomain::Xml),
            Rule::Moment(rule) => (moment_rule(rule), own),
            Rule::Domain(rule) => (domain_rule(rule), ErrorDomain::Domain),
            Rule::Source(rule) => source_rule(rule),
        };
        Error::new(code, domain, &error).caused(error)
    }
}

fn moment_rule(rule: &MomentRule) -> ErrorCode {
    match rule {
        MomentRule::TimeMissing(_) | MomentRule::DiskName => ErrorCode::InternalError,
        MomentRule::State(_) | MomentRule::DiskDriver(_) => ErrorCode::ConfigUnsupported,
        _ => ErrorCode::XmlError,
    }
}

fn source_rule(rule: &SourceRule) -> (ErrorCode, ErrorDomain) {
    match rule {
        SourceRule::NameMissing
        | SourceRule::VolumePath(_)
        | SourceRule::SocketMissing
        | SourceRule::SocketOf(_)
        | SourceRule::HostMissing => (ErrorCode::XmlError, ErrorDomain::Domain),
        SourceRule::Transport(_) => (ErrorCode::ConfigUnsupported, ErrorDomain::Domain),
        SourceRule::Port(_) | SourceRule::PortRange(_) => {
            (ErrorCode::InvalidArg, ErrorDomain::None)
        }
        SourceRule::EncryptionMissing | SourceRule::SecretMissing | SourceRule::AuthUser => {
            (ErrorCode::XmlError, ErrorDomain::Storage)
        }
        SourceRule::Encryption(_) | SourceRule::Secret(_) => {
            (ErrorCode::ConfigUnsupported, ErrorDomain::Storage)
        }
    }
}

fn domain_rule(rule: &DomainRule) -> ErrorCode {
    match rule {
        DomainRule::NameMissing => ErrorCode::NoName,
        DomainRule::Uuid => ErrorCode::InternalError,
        DomainRule::Type(_) => ErrorCode::ConfigUnsupported,
        _ => ErrorCode::XmlError,
    }
}

/// The engine's refusals in libvirt's numbers; its own text says the rest.
impl From<EngineError> for Error {
    fn from(error: EngineError) -> Error {
        let code = match error {
            EngineError::Refused(refusal) => return refusal.into(),
            EngineError::Store(error) => return error.into(),
            EngineError::Provenance(bad) => {
                return Error::argument(ErrorDomain::Domain, bad.to_string()).caused(bad);
            }
            EngineError::RequestReused { .. } => ErrorCode::InvalidArg,
            EngineError::Stale { .. } => ErrorCode::OperationAborted,
            EngineError::Nothing(_) => ErrorCode::OperationInvalid,
            EngineError::Misfit(_) | EngineError::Differs | EngineError::Image(_) => {
                ErrorCode::InternalError
            }
            _ => ErrorCode::SystemError,
        };
        Error::new(code, ErrorDomain::Test, &error).caused(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        Error::from(Arc::new(error))
    }
}

/// Threads that shared a write share its failure.
impl From<Arc<StoreError>> for Error {
    fn from(error: Arc<StoreError>) -> Error {
        let full = match &*error {
            StoreError::Io { source, .. } | StoreError::Unknown { source, .. } => {
                use std::io::ErrorKind::{QuotaExceeded, StorageFull};
                matches!(source.kind(), StorageFull | QuotaExceeded)
            }
            _ => false,
        };
        let mut detail = error.to_string();
        let mut cause = error.source().filter(|_| !full);
        while let Some(source) = cause {
            detail = format!("{detail}: {source}");
            cause = source.source();
        }
        let code = match &*error {
            StoreError::Conflict { .. } => ErrorCode::OperationAborted,
            StoreError::Unknown { .. } => {
                detail.push_str("; it may have been recorded; reopen to settle");
                ErrorCode::OperationTimeout
            }
            StoreError::TooLarge { .. } => ErrorCode::InvalidArg,
            _ => ErrorCode::SystemError,
        };
        let mut told = Error::new(code, ErrorDomain::Test, &detail);
        if full {
            // Not as something that takes time: what is missing comes first.
            told.set_message(&format!("no space left on device: {detail}"));
        }
        told.caused(error)
    }
}
