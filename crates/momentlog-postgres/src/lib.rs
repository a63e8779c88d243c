//! The log of momentlog in PostgreSQL, for more than one machine: the same records, digests and receipts as in a directory.
//!
//! ```no_run
//! use momentlog_postgres::{Address, PostgresStore};
//!
//! let address = Address::parse("postgres://admin@db.example/fleet?log=site-a")?;
//! PostgresStore::init(address.clone())?;
//! let store = PostgresStore::open(address)?;
//! # let _ = store;
//! # Ok::<(), momentlog_postgres::PostgresError>(())
//! ```
//!
//! One client at a time has the turn to append: [`acquire`](momentlog_store::Store::acquire) waits for it, first come, first
//! served, and the append ends it. The database checks what it is sent: an append follows the end of the log, every digest
//! is that of what its record holds, and no record is changed or removed. `docs/fleet.md` of the repository says how a
//! database is set up, and what each failure looks like.

mod address;
mod error;
mod image;
mod link;
mod news;
mod password_file;
mod record;
mod schema;
mod server;
mod store;

pub use address::Address;
pub use error::PostgresError;
pub use server::{Server, Standby};
pub use store::PostgresStore;
