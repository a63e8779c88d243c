//! The append-only, hash-chained log of momentlog.
//!
//! Payloads are opaque bytes here: this crate knows frames, order, durability and digests, and nothing of what a record
//! means. Every byte is described in `docs/format.md`.
//!
//! ```
//! use std::time::Duration;
//! use momentlog_store::{Draft, FileStore, LogId, RealDisk, Store};
//!
//! let dir = tempfile::tempdir()?;
//! let mut store = FileStore::new(RealDisk::new(dir.path().join("log")));
//! store.acquire(Duration::from_secs(10))?;
//! let draft = Draft { facts: b"it happened".to_vec(), texts: vec![] };
//! let records = store.append(LogId([7; 16]), None, vec![draft])?;
//!
//! let mut reader = FileStore::new(RealDisk::new(dir.path().join("log")));
//! let mut seen = vec![];
//! reader.read(None, &mut |record| {
//!     seen.push(record);
//!     Ok(())
//! })?;
//! assert_eq!(seen, records);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The pages in `docs/` of the repository say more: `architecture.md`, `format.md`, `durability.md`, and `glossary.md` for
//! the words.

mod disk;
mod error;
mod file_store;
mod frame;
mod head;
mod lock;
mod record;
mod segment;
mod store;
mod verify;

pub use disk::{Access, Disk, DiskFile, FileId, RealDisk, Unsafe};
pub use error::{Damage, StoreError, Where, Written};
pub use file_store::{FileStore, Limits, Rejoined, TornTail};
pub use frame::{
    FORMAT_VERSION, FRAME_LEN_MAX, FrameError, Place, decode as decode_frame, encode_frame,
};
pub use record::{Digest, Draft, Head, LogId, MalformedReceipt, Receipt, Record, Seq, Text};
pub use store::{ImageWriter, MemoryStore, Retention, Store};
pub use verify::{Verdict, VerifyReport, verify};
