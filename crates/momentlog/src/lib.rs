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
//! # When to use it, and when not
//!
//! Use it where a program keeps snapshots or checkpoints of virtual machines and must say later what was there, who
//! changed it and why: backup programs, managers of virtual machines, audits. It keeps metadata, not the contents of
//! disks. It starts no hypervisor and takes no snapshot of a disk: the program that does records here what it did. It
//! serves no network, and a store in a directory is on one machine. For a log of another domain, take
//! [`momentlog-store`](store) alone.
//!
//! # A tour
//!
//! **libvirt's calls.** The example above: calls, XML, flags, errors and the order of checks are libvirt's. Handles are
//! cheap clones that hold names, not pointers; dropping one frees it. Flags are typed; a word of libvirt's bits from
//! elsewhere becomes them with `from_bits_retain`, and the call refuses the unknown ones among them. [`procedure`] finds
//! a call by the number or name of libvirt's procedure. [`Error::kind`] says what a program can do about an error.
//!
//! **Typed commands.** Moments without XML: a command is a value of [`core`], and is decided by the same rules. A domain
//! comes with its XML, which is what says that it is one.
//!
//! ```
//! use momentlog::core::{Action, Command, CreateCheckpoint};
//! use momentlog::{Connection, Options, Provenance};
//!
//! # let xml = "<domain type='kvm'><name>vm</name><os><type>hvm</type></os><devices>
//! #     <disk type='file'><source file='/images/vm.qcow2'/><target dev='vda'/></disk></devices></domain>";
//! let store = Connection::over(Box::new(momentlog::store::MemoryStore::new()), Options::default());
//! let domain = store.define_domain_xml(xml)?.uuid();
//! let nightly = store.with_provenance(Provenance {
//!     actor: "backup".into(),
//!     reason: Some("nightly".into()),
//!     request_id: Some("vm-2026-11-26".into()),
//!     ..Provenance::default()
//! });
//! let checkpoint = CreateCheckpoint { name: None, description: None, now: 1_700_000_000, disks: vec![] };
//! let command = Command { domain, action: Action::CreateCheckpoint(checkpoint) };
//!
//! let made = nightly.execute(&command)?;
//! // Asked again under the same request id, it gets its first answer, and nothing is recorded.
//! assert_eq!(nightly.execute(&command)?.seq, made.seq);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **History and time travel.** Each step of the history has the state before, the entry (who, when, why, what) and the
//! state after. [`Connection::view_at`] and [`Connection::view_as_of`] give the state as of a record or a time;
//! [`Connection::subscribe`] follows the log; [`Connection::receipt`] and [`verify`](verify()) prove it.
//!
//! ```
//! use momentlog::{CheckpointCreateFlags, CheckpointDeleteFlags, Connection};
//!
//! # let xml = "<domain type='kvm'><name>vm</name><os><type>hvm</type></os><devices>
//! #     <disk type='file'><source file='/images/vm.qcow2'/><target dev='vda'/></disk></devices></domain>";
//! let store = Connection::over(Box::new(momentlog::store::MemoryStore::new()), momentlog::Options::default());
//! let vm = store.define_domain_xml(xml)?;
//! let monday = vm.checkpoint_create_xml("<domaincheckpoint/>", CheckpointCreateFlags::NONE)?;
//! monday.delete(CheckpointDeleteFlags::NONE)?;
//!
//! let moments = |view: &momentlog::View| view.state().domain(vm.uuid()).map_or(0, |domain| domain.checkpoints().len());
//! let deletion = store.history(None)?.last().ok_or("an empty log")??;
//! assert_eq!((moments(&deletion.before), moments(&deletion.after)), (1, 0));
//!
//! let earlier = store.view_at(deletion.before.head().ok_or("no record")?.seq)?;
//! assert_eq!(moments(&earlier), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **A store of your own.** Whatever appends on condition and reads in order can be the store: a table with a unique key
//! is enough. Implement [`store::Store`] and hand it in; `store_suite` of `momentlog-proptests` checks it, and
//! `examples/embed-your-own-store.rs` is a whole one.
//!
//! ```
//! use momentlog::store::{MemoryStore, Store};
//! use momentlog::{Connection, DomainListFlags, Options};
//!
//! let yours: Box<dyn Store> = Box::new(MemoryStore::new());
//! let connection = Connection::over(yours, Options::default());
//! assert!(connection.view().head().is_none(), "the first change begins the log");
//! ```
//!
//! # What blocks, and async code
//!
//! Every call blocks until its answer is durable: a change for one sync of the disk, which threads that write together
//! share. Reading a [`View`] never blocks. From async code, call it on a thread for blocking work (such as
//! `spawn_blocking` of your runtime); handles are `Send`, `Sync` and cheap to clone. [`Connection::submit`] hands a change
//! in and waits later. One process writes a store in a directory at a time: a connection that has written keeps the
//! writer's lock until [`Connection::release`], `close` or its drop, or until it was asked for nothing for
//! [`Options::hold_lock`]. A directory that is opened more than once in one process has one engine there, so that its
//! connections never wait for each other's lock.
//!
//! # Where to read on
//!
//! The pages are in `docs/` of the repository: `libvirt.md` (what is as in libvirt, what is not, how to move),
//! `durability.md` (what is promised of the data), `format.md` (every byte), `performance.md`, `architecture.md` (the map
//! of the code), and `glossary.md` for the words. `SECURITY.md` says what is trusted and what receipts prove.

mod checkpoint;
mod connection;
mod domain;
pub mod driver;
mod error;
mod facts;
mod flags;
mod lifecycle;
mod listing;
mod node;
mod point;
pub mod procedure;
mod recordable;
mod redefinition;
mod snapshot;
mod uri;
mod verify;

pub use momentlog_core as core;
pub use momentlog_engine as engine;
pub use momentlog_store as store;
pub use momentlog_xml as xml;

pub use checkpoint::Checkpoint;
pub use connection::{
    Connection, DomainHistory, Entries, History, Opener, Planning, Recording, Submitted,
    Subscription,
};
pub use domain::{
    BackedUp, Backup, BackupEnd, BlockJobInfo, Domain, DomainInfo, Fate, JobInfo, JobState,
    MetadataKind, OnMissingParent, Restoration, RestoredMoment, Saved, Undeletion,
};
pub use error::{Error, ErrorCode, ErrorDomain, ErrorKind, Result};
pub use flags::{
    AffectFlags, BackupBeginFlags, BackupXmlFlags, BlockJobInfoFlags, CheckpointCreateFlags,
    CheckpointDeleteFlags, CheckpointListFlags, CheckpointXmlFlags, DefineFlags, DestroyFlags,
    DomainListFlags, DomainXmlFlags, FsFreezeFlags, FsThawFlags, JobStatsFlags, RenameFlags,
    RevertFlags, ShutdownFlags, SnapshotCreateFlags, SnapshotDeleteFlags, SnapshotListFlags,
    SnapshotXmlFlags, StartFlags, UndefineFlags,
};
pub use lifecycle::{Lifecycle, LifecycleEvents, LifecycleKind};
pub use momentlog_engine::{
    ACTOR_LEN_MAX, AGENT_LEN_MAX, Archived, BadProvenance, Bridge, Call, Clock, DecodeError,
    EngineError, Entropy, Entry, ImageFault, ManualClock, Mention, Options, Outcome, Peer, Point,
    Provenance, ReplayError, ReplayFault, Revision, Step, SystemClock, SystemEntropy, Verification,
    View, Watch, process_user,
};
pub use node::{LIBVIRT_VERSION, MAX_VCPUS, NodeInfo};
pub use redefinition::{RedefinePlan, RedefineStep, Redefinition};
pub use snapshot::Snapshot;
pub use uri::store_directory;
pub use verify::{verify, verify_disk, verify_store};
