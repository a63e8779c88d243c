//! An append-only, hash-chained log in a directory of files, for any event-sourced state machine.
//!
//! Payloads are opaque bytes here: this crate knows frames, order, durability and digests, and nothing of what a record
//! means. momentlog keeps snapshots and checkpoints in it. This is a bank:
//!
//! ```
//! use std::time::Duration;
//! use momentlog_store::{Draft, FileStore, LogId, RealDisk, Store, StoreError};
//!
//! /// The state: what is in each of two accounts. An event is an account and an amount.
//! #[derive(Debug, Default, PartialEq)]
//! struct Bank([i64; 2]);
//!
//! impl Bank {
//!     /// Decides: the facts of the event, or a refusal.
//!     fn decide(&self, account: u8, amount: i64) -> Result<Draft, &'static str> {
//!         let balance = self.0.get(usize::from(account)).ok_or("no such account")?;
//!         balance.checked_add(amount).filter(|new| *new >= 0).ok_or("not enough money")?;
//!         let facts = [&[account][..], &amount.to_le_bytes()].concat();
//!         Ok(Draft { facts, texts: vec![] })
//!     }
//!
//!     /// Applies: reads no rule, and refuses facts that do not fit.
//!     fn apply(&mut self, facts: &[u8]) -> Option<()> {
//!         let (account, amount) = facts.split_first()?;
//!         *self.0.get_mut(usize::from(*account))? += i64::from_le_bytes(amount.try_into().ok()?);
//!         Some(())
//!     }
//! }
//!
//! let dir = tempfile::tempdir()?;
//! let mut store = FileStore::new(RealDisk::new(dir.path().join("bank")));
//! store.acquire(Duration::from_secs(10))?;
//! let mut bank = Bank::default();
//! for (account, amount) in [(0, 100), (1, 50), (0, -30)] {
//!     let draft = bank.decide(account, amount)?;
//!     // Durable when it returns; refused if another writer was first, since `head` is what was decided on.
//!     for record in store.append(LogId([7; 16]), store.head(), vec![draft])? {
//!         bank.apply(&record.facts).ok_or("an event that does not fit")?;
//!     }
//! }
//! assert_eq!(bank.decide(1, -51), Err("not enough money"));
//!
//! // Another process folds the same records into the same state, and checks the chain on the way.
//! let mut reader = FileStore::new(RealDisk::new(dir.path().join("bank")));
//! let mut replayed = Bank::default();
//! reader.read(None, &mut |record| replayed.apply(&record.facts).ok_or(StoreError::Stopped))?;
//! assert_eq!(replayed, Bank([70, 50]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When to use it, and when not
//!
//! Use it where records must be there as a whole or not at all, survive kills and power failures once acknowledged, and
//! prove against a [`Receipt`] kept elsewhere that none was changed or removed. A record's texts can be erased without
//! breaking the chain. It has no index and no query: a log is read in order, from an image of the state or from its
//! beginning. [`Store::scan`] looks through the facts of its records alone, and [`Store::last_where`] bisects. It replicates nothing and serves no network.
//!
//! Every call blocks. A [`FileStore`] has one writer at a time, in all processes together, and any number of readers,
//! which wait for none. Another kind of store implements [`Store`], and [`Retention`] if it keeps images; another file
//! system, or a simulated one for tests, implements [`Disk`].
//!
//! The pages in `docs/` of the repository say more: `architecture.md`, `format.md` (every byte), `durability.md` (what is
//! promised), and `glossary.md` for the words.

mod chain;
mod copy;
mod disk;
mod error;
mod file_store;
mod frame;
mod head;
mod lock;
mod outline;
mod record;
mod segment;
mod store;
mod verify;

pub use chain::{check_log, read_checked};
pub use copy::{Copied, CopyError, copy};
pub use disk::{Access, Disk, DiskFile, FileId, RealDisk, Unsafe};
pub use error::{Damage, StoreError, Where, Written};
pub use file_store::{ArchiveWriter, FileStore, Limits, Rejoined};
pub use frame::{
    FORMAT_VERSION, FRAME_LEN_MAX, FrameError, Place, decode as decode_frame, encode_frame,
};
pub use outline::Outline;
pub use record::{Digest, Draft, Head, LogId, MalformedReceipt, Receipt, Record, Seq, Text};
pub use store::{ImageWriter, MemoryStore, Retention, Store, Torn, TornTail};
pub use verify::{Verdict, VerifyReport, verify};
