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
//! Handles are cheap clones that hold names, not pointers; dropping one frees it. Flags are typed; a word of libvirt's bits
//! from elsewhere becomes them with `from_bits_retain`, and the call refuses the unknown ones among them. Who is asked by
//! the numbers or names of libvirt's functions finds the call in [`procedure`].
//!
//! Every call blocks until its answer is durable. From async code call it on a thread for blocking work (such as
//! `spawn_blocking` of your runtime); handles are `Send`, `Sync` and cheap to clone. One process writes a store at a time:
//! a connection that has written keeps the writer's lock until [`Connection::release`], `close` or its drop.
//!
//! The pages in `docs/` of the repository say more: `architecture.md`, `format.md`, `durability.md`, and `glossary.md` for
//! the words.

mod checkpoint;
mod connection;
mod domain;
mod driver;
mod error;
mod flags;
mod listing;
pub mod procedure;
mod recordable;
mod snapshot;
mod uri;
mod verify;

pub use momentlog_core as core;
pub use momentlog_engine as engine;
pub use momentlog_store as store;
pub use momentlog_xml as xml;

pub use checkpoint::Checkpoint;
pub use connection::{Connection, Entries, History, Opener, Submitted, Subscription};
pub use domain::{Domain, Fate, OnMissingParent, Restoration, RestoredMoment, Saved};
pub use error::{Error, ErrorCode, ErrorDomain, ErrorKind, Result};
pub use flags::{
    CheckpointCreateFlags, CheckpointDeleteFlags, CheckpointListFlags, CheckpointXmlFlags,
    DomainListFlags, DomainXmlFlags, RevertFlags, SnapshotCreateFlags, SnapshotDeleteFlags,
    SnapshotListFlags, SnapshotXmlFlags, UndefineFlags,
};
pub use momentlog_engine::{
    ACTOR_LEN_MAX, AGENT_LEN_MAX, Archived, BadProvenance, Bridge, Call, Clock, DecodeError,
    EngineError, Entropy, Entry, ImageFault, ManualClock, Options, Outcome, Provenance,
    ReplayError, ReplayFault, Revision, Step, SystemClock, SystemEntropy, Verification, View,
    process_user,
};
pub use snapshot::Snapshot;
pub use uri::store_directory;
pub use verify::{verify, verify_disk};
