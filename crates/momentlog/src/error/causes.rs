//! As which error libvirt tells what went wrong beneath.

use std::error::Error as _;
use std::sync::Arc;

use momentlog_core::{BackupRefused, DiskRefused, MomentKind, Refusal};
use momentlog_engine::{Call, EngineError};
use momentlog_store::StoreError;
use momentlog_xml::{BackupRule, DocumentKind, DomainRule, MomentRule, Rule, SourceRule, XmlError};

use super::{Cause, Error, ErrorCode, ErrorDomain};

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
            Refusal::RenameToItself | Refusal::RenameTaken { .. } => {
                (ErrorCode::OperationInvalid, ErrorDomain::Domain)
            }
            Refusal::RenameActive
            | Refusal::HasSnapshots { .. }
            | Refusal::HaltTransient
            | Refusal::RevertTransient
            | Refusal::RevertDuringJob
            | Refusal::JobNotOpen(_)
            | Refusal::CannotHang
            | Refusal::Held { .. }
            | Refusal::HeldAlready { .. }
            | Refusal::NotHeld { .. }
            | Refusal::NotAttached { .. } => (ErrorCode::OperationInvalid, ErrorDomain::Test),
            Refusal::Excluded { .. }
            | Refusal::CheckpointInactive
            | Refusal::Fork { .. }
            | Refusal::LeafIsCurrent { .. }
            | Refusal::PolicyUnmet(_)
            | Refusal::OverBudget { .. }
            | Refusal::Partial
            | Refusal::IdsExhausted => (ErrorCode::OperationUnsupported, ErrorDomain::Test),
            Refusal::Parent(_) | Refusal::DefinitionUuid { .. } => {
                (ErrorCode::InvalidArg, ErrorDomain::Domain)
            }
            Refusal::CheckpointName { .. } => {
                (ErrorCode::InvalidArg, ErrorDomain::DomainCheckpoint)
            }
            Refusal::JobOpen { .. } => (ErrorCode::OperationTimeout, ErrorDomain::None),
            Refusal::Attachment { .. } | Refusal::HoldBy { .. } => {
                (ErrorCode::InvalidArg, ErrorDomain::Test)
            }
            Refusal::WrongUuid { kind, .. } => (ErrorCode::InvalidArg, ErrorDomain::of(*kind)),
            Refusal::OnlineChange { .. } | Refusal::DiskOnlyChange { .. } => {
                (ErrorCode::InvalidArg, ErrorDomain::DomainSnapshot)
            }
            Refusal::MemoryChange { .. } => (ErrorCode::ConfigUnsupported, ErrorDomain::Domain),
            Refusal::Disks(refused) => disks(refused),
            Refusal::Backup(refused) => backup(refused),
            Refusal::NoRollback { .. } => (ErrorCode::SnapshotRevertRisky, ErrorDomain::Test),
        };
        let error = match &refusal {
            Refusal::JobOpen { call, .. } => Error::new(code, domain, held_by(Call(*call))),
            refusal => Error::new(code, domain, refusal),
        };
        error.caused(Cause::Refusal(refusal))
    }
}

/// What libvirt says of a domain that another call has.
fn held_by(call: Call) -> String {
    let name = call.name().and_then(|name| name.strip_prefix("vir"));
    let holder = name.unwrap_or("DomainGetJobInfo");
    format!("cannot acquire state change lock (held by monitor=remoteDispatch{holder})")
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

/// What the qemu driver finds itself is of its domain.
fn backup(refused: &BackupRefused) -> (ErrorCode, ErrorDomain) {
    match refused {
        BackupRefused::PortMissing => (ErrorCode::OperationUnsupported, ErrorDomain::Qemu),
        BackupRefused::NoneSelected => (ErrorCode::ConfigUnsupported, ErrorDomain::Qemu),
        BackupRefused::NoDisks
        | BackupRefused::Unknown { .. }
        | BackupRefused::Twice { .. }
        | BackupRefused::SinceWhat { .. }
        | BackupRefused::NoMedia { .. }
        | BackupRefused::Destination { .. } => (ErrorCode::ConfigUnsupported, ErrorDomain::Domain),
    }
}

impl From<XmlError> for Error {
    fn from(error: XmlError) -> Error {
        let own = match error.document {
            DocumentKind::Snapshot => ErrorDomain::DomainSnapshot,
            DocumentKind::Checkpoint => ErrorDomain::DomainCheckpoint,
            DocumentKind::Domain | DocumentKind::Backup | DocumentKind::Metadata => {
                ErrorDomain::Domain
            }
        };
        let (code, domain) = match &error.rule {
            Rule::WellFormed(_) => (ErrorCode::XmlDetail, own),
            Rule::Root { .. } | Rule::Word { .. } | Rule::Required { .. } => {
                (ErrorCode::XmlError, ErrorDomain::Xml)
            }
            Rule::Prefix(_) => (ErrorCode::InternalError, ErrorDomain::Xml),
            Rule::Schema(_) => (ErrorCode::XmlInvalidSchema, ErrorDomain::Xml),
            Rule::Moment(rule) => (moment_rule(rule), own),
            Rule::Domain(rule) => (domain_rule(rule), ErrorDomain::Domain),
            Rule::Source(rule) => source_rule(rule),
            Rule::Backup(rule) => (backup_rule(rule), own),
        };
        Error::new(code, domain, &error).caused(Cause::Xml(error))
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

fn backup_rule(rule: &BackupRule) -> ErrorCode {
    match rule {
        BackupRule::Mode(_) | BackupRule::Encryption(_) => ErrorCode::ConfigUnsupported,
        BackupRule::LabelTwice(_) => ErrorCode::XmlDetail,
        BackupRule::SocketPath(_)
        | BackupRule::DestinationKind(_)
        | BackupRule::DestinationFormat(_)
        | BackupRule::TooLarge => ErrorCode::XmlError,
    }
}

/// The engine's refusals in libvirt's numbers; its own text says the rest.
impl From<EngineError> for Error {
    fn from(error: EngineError) -> Error {
        let code = match error {
            EngineError::Refused(refusal) => return refusal.into(),
            EngineError::Store(error) => return error.into(),
            EngineError::Provenance(bad) => {
                let message = bad.to_string();
                let cause = Cause::Engine(bad.into());
                return Error::argument(ErrorDomain::Domain, message).caused(cause);
            }
            EngineError::RequestReused { .. } => ErrorCode::InvalidArg,
            EngineError::Stale { .. } => ErrorCode::OperationAborted,
            EngineError::Nothing(_) => ErrorCode::OperationInvalid,
            EngineError::Misfit(_) | EngineError::Differs | EngineError::Image(_) => {
                ErrorCode::InternalError
            }
            _ => ErrorCode::SystemError,
        };
        Error::new(code, ErrorDomain::Test, &error).caused(Cause::Engine(error))
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
        let source: Option<&std::io::Error> = match &*error {
            StoreError::Io { source, .. } => Some(source),
            StoreError::Unknown { source, .. } => source.downcast_ref(),
            _ => None,
        };
        let full = source.is_some_and(|source| {
            use std::io::ErrorKind::{QuotaExceeded, StorageFull};
            matches!(source.kind(), StorageFull | QuotaExceeded)
        });
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
        told.caused(Cause::Engine(error.into()))
    }
}
