//! Questions to a log: what a record has caused, the life of a moment, what differs between two points, and a picture.
//!
//! Steps of the engine's history go in. [`consequences`] says what a record has caused, with the names of what it is about and
//! with what follows: which moments moved by a deletion, which is current now, from what to what a rule has changed.
//!
//! ```
//! use std::sync::Arc;
//! use momentlog_audit::{consequences, summary};
//! use momentlog_core::{Action, Command, CreateCheckpoint, DomainDef, DomainDisk, Extent, MomentKind, Policy, SourceKind};
//! use momentlog_engine::{Log, Options, Provenance};
//! use momentlog_store::MemoryStore;
//!
//! let log = Log::over(Box::new(MemoryStore::new()), Options::default());
//! let domain = "6695eb01-f6a4-8304-79aa-97f2502e193f".parse()?;
//! let ask = |action| log.execute(&Provenance::default(), &Command { domain, action });
//! # let disk = DomainDisk { target: "vda".into(), kind: SourceKind::File, source: Some("/images/vm.qcow2".into()),
//! #     empty: false, format: Some("qcow2".into()), readonly: false, snapshot: None };
//! let vm = DomainDef { name: "vm".into(), uuid: domain, memory_kib: 8192, disks: vec![disk], xml: "<domain/>\n".into() };
//! ask(Action::Define(Arc::new(vm)))?;
//! // Without rules, a guest that is off can have checkpoints.
//! ask(Action::SetPolicy(Policy::NONE))?;
//! for name in ["c1", "c2"] {
//!     let name = momentlog_core::MomentName::new(name);
//!     ask(Action::CreateCheckpoint(CreateCheckpoint { name, description: None, now: 1_700_000_000, disks: vec![] }))?;
//! }
//! let c1 = momentlog_core::MomentName::new("c1").ok_or("a name")?;
//! ask(Action::Delete { kind: MomentKind::Checkpoint, name: c1, extent: Extent::One })?;
//!
//! let deletion = log.history(None)?.last().ok_or("an empty log")??;
//! assert_eq!(summary(&consequences(&deletion)), "checkpoint c1 deleted; c2 moved to the roots");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The pages in `docs/` of the repository say more: `architecture.md`, `format.md`, and `glossary.md` for the words.

mod before;
mod consequence;
mod diff;
mod field;
pub mod graph;
#[cfg(feature = "json")]
pub mod json;
mod life;
mod point;
mod suspicion;
mod told;
mod words;

pub use consequence::{Consequence, CurrentChange, Move, Named, What, consequences};
pub use diff::{
    Added, Between, By, Changed, Differences, DomainDiff, Existence, ListDiff, Moved, Redefined,
    Removed,
};
pub use field::{FieldChange, Value};
pub use life::{Cause, Fate, Life, Turn, TurnOf, lives};
pub use point::{Edge, NoPoint, Zone, local_time, read_point};
pub use suspicion::{Suspicion, SuspicionOf, suspicions};
pub use told::{MomentRef, RecordKind, Teller, Told, Wanted};
pub use words::{escaped, rules_text, summary, window_text};
