//! The engine of momentlog: commands in, records and states out.
//!
//! A [`Log`] stands over any [`Store`](momentlog_store::Store). It decides commands by the rules of
//! [`momentlog_core`], records the events that they cause, and gives the state as of any record. It knows no libvirt
//! and no XML; `momentlog` adds both.
//!
//! ```
//! use std::sync::Arc;
//! use momentlog_core::{Action, Command, CreateCheckpoint, DomainDef, DomainUuid};
//! use momentlog_engine::{EngineError, Log, Options, Provenance};
//! use momentlog_store::MemoryStore;
//!
//! let log = Log::over(Box::new(MemoryStore::new()), Options::default());
//! let domain: DomainUuid = "6695eb01-f6a4-8304-79aa-97f2502e193f".parse()?;
//! let def = DomainDef { name: "vm".into(), uuid: domain, memory_kib: 8192, disks: vec![], xml: "<domain/>\n".into() };
//! let who = Provenance::default();
//!
//! let defined = log.execute(&who, &Command { domain, action: Action::Define(Arc::new(def)) })?;
//! assert_eq!(log.view().head().map(|head| head.seq), Some(defined.seq));
//!
//! // What the rules refuse is not recorded.
//! let nightly = CreateCheckpoint { name: None, description: None, now: 1_700_000_000, disks: vec![] };
//! let refused = log.execute(&who, &Command { domain, action: Action::CreateCheckpoint(nightly) });
//! assert!(matches!(refused, Err(EngineError::Refused(_))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The pages in `docs/` of the repository say more: `architecture.md`, `format.md`, `durability.md`, and `glossary.md` for
//! the words.

mod call;
mod codec;
mod commit_queue;
mod decision;
mod entry;
mod environment;
mod error;
mod handle;
mod history;
mod image;
mod ledger;
mod log;
mod lookup;
mod one_domain;
mod plan;
mod point;
mod request;
mod requests;
mod subscription;
mod sync;
mod verify;
mod view;
mod watch;

pub use call::Call;
pub use codec::DecodeError;
pub use commit_queue::{CommitQueue, Outdated, Ticket};
pub use decision::Decision;
pub use entry::{Bridge, Entry};
pub use environment::{
    ACTOR_LEN_MAX, AGENT_LEN_MAX, Clock, Entropy, ManualClock, Options, Peer, Provenance, Revision,
    SystemClock, SystemEntropy, process_host, process_user,
};
pub use error::{BadProvenance, EngineError};
pub use handle::LogHandle;
pub use history::{Entries, History, Step};
pub use image::ImageError;
pub use ledger::{ReplayError, ReplayFault};
pub use log::{Archived, Log, Outcome, Pending};
pub use one_domain::{DomainHistory, Mention};
pub use plan::Plan;
pub use point::Point;
pub use request::Request;
pub use subscription::Subscription;
pub use verify::{ImageFault, Verification, verify, verify_disk, verify_store};
pub use view::View;
pub use watch::Watch;
