//! Keeps the snapshots and checkpoints of virtual machines as an event-sourced, hash-chained, append-only log, behind
//! libvirt's API.
//!
//! ```
//! use momentlog::{CheckpointCreateFlags, CheckpointListFlags, Connection};
//!
//! let dir = tempfile::tempdir()?;
//! let store = Connection::open(&format!("momentlog://{}/store", dir.path().display()))?;
//! let vm = store.define_domain_xml(
//!     "<domain type='kvm'><name>vm</name><os><type>hvm</type></os><devices>
//!        <disk type='file'><source file='/images/vm.qcow2'/><target dev='vda'/></disk>
//!      </devices></domain>",
//! )?;
//! vm.checkpoint_create_xml("<domaincheckpoint><name>monday</name></domaincheckpoint>", CheckpointCreateFlags::NONE)?;
//!
//! // What was answered is durable: another connection, or another process, reads it.
//! let reader = Connection::open_read_only(&format!("momentlog://{}/store", dir.path().display()))?;
//! let checkpoints = reader.lookup_domain_by_name("vm")?.list_all_checkpoints(CheckpointListFlags::NONE)?;
//! assert_eq!(checkpoints[0].name().as_str(), "monday");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Handles are cheap clones that hold names, not pointers; dropping one frees it. Every call exists with typed flags,
//! and those that take flags also with libvirt's bits, under the name with `_raw`.

mod call;
mod checkpoint;
mod connection;
mod domain;
mod driver;
mod engine;
mod environment;
mod error;
mod flags;
mod ledger;
mod listing;
mod recordable;
mod requests;
mod snapshot;
mod stored;
mod test_driver;
mod verify;

pub use momentlog_core as core;
pub use momentlog_store as store;
pub use momentlog_xml as xml;

pub use call::Call;
pub use checkpoint::Checkpoint;
pub use connection::{Connection, Submitted, Subscription, store_directory};
pub use domain::{Domain, Fate, OnMissingParent, Restoration, RestoredMoment, Saved};
pub use engine::{Archived, Outcome};
pub use environment::{
    ACTOR_LEN_MAX, AGENT_LEN_MAX, Clock, Entropy, ManualClock, Options, Provenance, Revision,
    SystemClock, SystemEntropy, process_user,
};
pub use error::{Error, ErrorCode, ErrorDomain, Result};
pub use flags::{
    CheckpointCreateFlags, CheckpointDeleteFlags, CheckpointListFlags, CheckpointXmlFlags,
    DomainListFlags, DomainXmlFlags, RevertFlags, SnapshotCreateFlags, SnapshotDeleteFlags,
    SnapshotListFlags, SnapshotXmlFlags, UndefineFlags,
};
pub use ledger::{Bridge, Entry, ReplayError, ReplayFault, View};
pub use snapshot::Snapshot;
pub use stored::DecodeError;
pub use verify::{ImageFault, Verification, verify, verify_disk};
