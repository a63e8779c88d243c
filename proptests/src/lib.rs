//! The op language, the reference model and the suites that hold momentlog to its invariants.
//!
//! An [`Op`] is one small command about one domain, or what a driver reports of it: that it is attached, that a job begins,
//! ends or fails. [`run`] plays a sequence of them against a store and against
//! [`Model`], which knows libvirt's rules on its own and shares no code with the moment list. After every step it checks:
//!
//! * the answer and the whole state are the model's;
//! * no moment is its own ancestor, every parent is listed, the index of children is exactly the inverse of the parents,
//!   and current is listed (`State::check`);
//! * checkpoints form one chain under `chain`, and the kinds exclude each other under `exclusive` (`State::check_policy`);
//! * replaying the log gives the live state;
//! * a refused command has changed nothing and appended nothing.
//!
//! [`run_fleet`] does the same with [`Turn`]s: commands about four domains whose names and uuids clash, under request ids and
//! expected revisions, with a second reader, images, archives and reopening between them.
//!
//! Property tests and fuzz targets share all of it. [`store_suite`] holds a store of your own to the contract of
//! [`Store`](momentlog::store::Store), [`disk_suite`] a disk; `run` is for more commands than the suite plays:
//!
//! ```
//! use momentlog::store::MemoryStore;
//! use momentlog_proptests::{NewStore, ops, run, store_suite};
//! use proptest::prelude::*;
//!
//! store_suite(&mut || NewStore::alone(MemoryStore::new()));
//!
//! proptest!(ProptestConfig::with_cases(8), |(ops in ops(20))| {
//!     run(&ops, Box::new(MemoryStore::new()));
//! });
//! ```

mod answers;
mod crash;
mod disk_suite;
mod driven;
mod fleet;
mod forged;
pub mod kill;
mod model;
mod op;
pub mod overtaken;
mod picture;
mod postgres_pool;
mod postgres_server;
pub mod qemu_kill;
pub mod real_qemu;
mod shared_store;
mod sim_disk;
pub mod sim_qemu;
mod store_suite;
mod suite;
mod tamper;
pub mod twin_qemu;
pub mod untrusted;

pub use answers::{Answered, compare_answers, write_answers};
pub use crash::{Effort, Step, Tally, crash_everywhere, crash_once, fail_everywhere, steps};
pub use disk_suite::disk_suite;
pub use driven::{Driven, DrivenStep, drive_everywhere, one_of_each_driven, some_driven};
pub use fleet::{Call, Expects, Fleet, Seen, Turn, Turns, Vm, fleet, run_fleet};
pub use forged::{Forged, apply_forged, forged};
pub use model::{Model, Reason};
pub use op::{Asked, Op, ops};
pub use picture::picture;
pub use postgres_pool::PostgresPool;
pub use postgres_server::PostgresServer;
pub use shared_store::{SharedStore, StoreFault};
pub use sim_disk::{EXHAUSTIVE_MAX, Fault, Random, SECTOR_LEN, SimDisk};
pub use store_suite::{Breach, NewStore, check_store, store_suite};
pub use suite::{connection, domain_def, domain_def_of, run};
pub use tamper::{Tampered, tamper_everywhere};
