//! The pure state machine of momentlog.
//!
//! A [`Command`] says what a caller wants. [`State::decide`] answers with the [`Event`]s that it causes, or with a
//! [`Refusal`]; [`State::apply`] gives the state after an event. Nothing here knows a file, a clock, randomness, XML or
//! threads: all of that arrives as arguments, so the same events always build the same state.
//!
//! ```
//! use std::sync::Arc;
//! use momentlog_core::{Action, Command, CreateCheckpoint, DomainDef, DomainDisk, DomainUuid, Profile, SourceKind, State};
//!
//! let uuid: DomainUuid = "6695eb01-f6a4-8304-79aa-97f2502e193f".parse()?;
//! let disk = DomainDisk {
//!     target: "vda".into(),
//!     kind: SourceKind::File,
//!     source: Some("/guest/diskimage1".into()),
//!     empty: false,
//!     format: None,
//!     readonly: false,
//!     snapshot: None,
//! };
//! let def = DomainDef { name: "vm".into(), uuid, memory_kib: 8192, disks: vec![disk], xml: "<domain/>\n".into() };
//! let nightly = CreateCheckpoint { name: None, description: None, now: 1_700_000_000, disks: vec![] };
//!
//! let mut state = State::new(Profile::Own);
//! for action in [Action::Define(Arc::new(def)), Action::CreateCheckpoint(nightly)] {
//!     for event in state.decide(&Command { domain: uuid, action })? {
//!         state = state.apply(&event)?;
//!     }
//! }
//! let checkpoints = state.domain(uuid).unwrap().checkpoints();
//! assert_eq!(checkpoints.current().unwrap().name.as_str(), "1700000000");
//! assert_eq!(state.check(), Ok(()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The pages in `docs/` of the repository say more: `architecture.md`, `format.md`, `durability.md`, and `glossary.md` for
//! the words.

mod apply;
mod backup;
mod budget;
mod built_in;
mod checkpoint;
mod command;
mod decide;
mod deletion;
mod domain;
mod event;
mod hold;
mod hypervisor;
mod ids;
pub mod image;
mod job;
mod moment_kind;
mod moment_list;
mod part;
mod policy;
mod refusal;
mod seen;
mod settings;
mod snapshot;
mod state;

pub use apply::Misfit;
pub use backup::{
    BackupDef, BackupDisk, BackupExtent, BackupMode, BackupRefused, BackupServer, Relabel,
    SecurityLabel,
};
pub use budget::Budget;
pub use checkpoint::{CheckpointDef, CheckpointDisk, CheckpointList, DiskTracking, align_disks};
pub use command::{
    Above, Action, Command, CreateCheckpoint, CreateSnapshot, Extent, Redefine, Resume,
    StateChange, Undelete, Undeleted,
};
pub use domain::{DiskLocation, Domain, DomainDef, DomainDisk, Power, RunState, SourceKind};
pub use event::{Change, Event, IdRuns, MomentChange};
pub use hold::{Hold, HoldTag, Holds};
pub use hypervisor::{Attachment, BeginJob, DiskSeen, DiskState, Report};
pub use ids::{DomainUuid, MalformedUuid, MomentId, MomentName};
pub use job::{
    Deletion, DiskEffect, EffectKind, FileToMake, HypervisorRun, Job, JobId, JobKind, JobLength,
    JobOutcome, MomentToMake, OpenJob, OpenJobs, Seen, SettledBy,
};
pub use moment_kind::MomentKind;
pub use moment_list::{Broken, LeafFilter, Moment, MomentList, ParentRefused, Scope, Walk};
pub use policy::{Policy, PolicyBreach, Profile, Rule};
pub use refusal::{DiskRefused, Refusal};
pub use seen::{CurrentSeen, DomainSeen, MomentSeen, MomentsSeen};
pub use settings::{Settings, SettingsChange};
pub use snapshot::{Memory, SnapshotDef, SnapshotDisk, SnapshotList, SnapshotState};
pub use state::{BrokenState, State};
