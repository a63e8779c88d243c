//! Why something is refused.

use momentlog::ErrorCode;
use momentlog::core::{ParentRefused, Refusal};

/// Why the model refuses, as far as it tells refusals apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the refusal of the same name")]
pub enum Reason {
    NoDomain,
    NoMoment,
    RunState,
    HasSnapshots,
    PolicyUnmet,
    Excluded,
    Inactive,
    HaltTransient,
    NameTaken,
    OwnParent,
    ParentMissing,
    Cycle,
    Fork,
    LeafIsCurrent,
    OnlineChange,
    DiskOnlyChange,
    Disks,
    RevertTransient,
    DomainNameTaken,
    DomainRenamed,
    DefinitionUuid,
    AlreadyActive,
    BeingStarted,
    CheckpointName,
    WrongUuid,
    JobOpen,
    JobNotOpen,
    RevertDuringJob,
    Attachment,
    NotAttached,
    Held,
    HeldAlready,
    NotHeld,
    /// The domain is attached, and what a command would record of its hypervisor is not done there.
    NotDone,
    Other,
}

impl Reason {
    /// Returns the reason of what a connection refuses; none if the store has failed.
    pub(crate) fn of_error(error: &momentlog::Error) -> Option<Reason> {
        match (error.refusal(), error.code()) {
            (Some(refusal), _) => Some(Reason::of(refusal)),
            (None, ErrorCode::OperationUnsupported) => Some(Reason::NotDone),
            _ => None,
        }
    }

    /// Returns the reason of a refusal.
    pub fn of(refusal: &Refusal) -> Reason {
        match refusal {
            Refusal::NoDomain { .. } => Reason::NoDomain,
            Refusal::NoMoment { .. } => Reason::NoMoment,
            Refusal::AlreadyRunning { .. }
            | Refusal::NotRunning { .. }
            | Refusal::NotPaused { .. }
            | Refusal::Inactive => Reason::RunState,
            Refusal::HasSnapshots { .. } => Reason::HasSnapshots,
            Refusal::PolicyUnmet(_) => Reason::PolicyUnmet,
            Refusal::Excluded { .. } => Reason::Excluded,
            Refusal::CheckpointInactive => Reason::Inactive,
            Refusal::HaltTransient => Reason::HaltTransient,
            Refusal::NameTaken { .. } => Reason::NameTaken,
            Refusal::Parent(ParentRefused::OwnParent { .. }) => Reason::OwnParent,
            Refusal::Parent(ParentRefused::NotFound { .. }) => Reason::ParentMissing,
            Refusal::Parent(ParentRefused::Cycle { .. }) => Reason::Cycle,
            Refusal::Fork { .. } => Reason::Fork,
            Refusal::LeafIsCurrent { .. } => Reason::LeafIsCurrent,
            Refusal::OnlineChange { .. } => Reason::OnlineChange,
            Refusal::DiskOnlyChange { .. } => Reason::DiskOnlyChange,
            Refusal::Disks(_) => Reason::Disks,
            Refusal::RevertTransient => Reason::RevertTransient,
            Refusal::DomainNameTaken { .. } => Reason::DomainNameTaken,
            Refusal::DomainRenamed { .. } => Reason::DomainRenamed,
            Refusal::DefinitionUuid { .. } => Reason::DefinitionUuid,
            Refusal::AlreadyActive { .. } => Reason::AlreadyActive,
            Refusal::BeingStarted { .. } => Reason::BeingStarted,
            Refusal::CheckpointName { .. } => Reason::CheckpointName,
            Refusal::WrongUuid { .. } => Reason::WrongUuid,
            Refusal::JobOpen { .. } => Reason::JobOpen,
            Refusal::JobNotOpen(_) => Reason::JobNotOpen,
            Refusal::RevertDuringJob => Reason::RevertDuringJob,
            Refusal::Attachment { .. } => Reason::Attachment,
            Refusal::NotAttached { .. } => Reason::NotAttached,
            Refusal::Held { .. } => Reason::Held,
            Refusal::HeldAlready { .. } => Reason::HeldAlready,
            Refusal::NotHeld { .. } => Reason::NotHeld,
            _ => Reason::Other,
        }
    }
}
