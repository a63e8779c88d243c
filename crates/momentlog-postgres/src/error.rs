//! What the database said, by what can be done about it.

use std::error::Error as _;

use momentlog_store::{StoreError, Where};
use tokio_postgres::error::SqlState;

use crate::schema;

/// The oldest server that this crate is tested with.
pub(crate) const SERVER_VERSION_MIN: i32 = 150_000;

/// The log does not end where an append expects it.
pub(crate) const CONFLICT: &str = "ML001";
/// There is no log of this name.
pub(crate) const NO_LOG: &str = "ML003";

/// Why the database refused or failed; the source of [`StoreError::Backend`] and [`StoreError::Unknown`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The URI, or the environment, does not name a log.
    #[error("the address of the database makes no sense: {0}")]
    Address(Box<str>),
    /// No certificate can be read from the file, or the system has none.
    #[error("cannot read the certificates of TLS")]
    Certificates(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server cannot be reached, or ended the connection before an answer came.
    #[error("the server cannot be reached, or the connection to it was lost")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server gave no answer in time.
    #[error("the server gave no answer within {0} s")]
    Silent(u64),
    /// The server does not let this user in.
    #[error("the server does not let this user in")]
    NotLetIn(#[source] tokio_postgres::Error),
    /// There is no such database.
    #[error("there is no such database")]
    NoDatabase(#[source] tokio_postgres::Error),
    /// The user may not do this: grant it `momentlog_writer`, `momentlog_reader` or `momentlog_keeper`.
    #[error(
        "this user has no right to do that: grant it momentlog_writer, momentlog_reader for reading, or momentlog_keeper for \
         archiving"
    )]
    NoRights(#[source] tokio_postgres::Error),
    /// The database has no schema `momentlog`.
    #[error("the database has no schema `momentlog`: run `momentlog init`")]
    NoSchema,
    /// The schema is older than this version needs.
    #[error("the schema has migration {found}, and this version needs {wanted}: run `momentlog init`", wanted = schema::NEWEST)]
    OlderSchema {
        /// Its last migration.
        found: i32,
    },
    /// The schema is newer than this version knows.
    #[error("the schema has migration {found}, and this version knows up to {known}", known = schema::NEWEST)]
    NewerSchema {
        /// Its last migration.
        found: i32,
    },
    /// The server is older than what this crate is tested with.
    #[error("the server has version {}, and at least {} is needed", .found / 10_000, SERVER_VERSION_MIN / 10_000)]
    OldServer {
        /// Its `server_version_num`.
        found: i32,
    },
    /// The server may lose what it has acknowledged.
    #[error(
        "the server has {setting}, with which it may lose what it has acknowledged; `unsafe=allow` in the URI writes all the same"
    )]
    Unsafe {
        /// The setting, and what it is set to.
        setting: String,
    },
    /// The server is a standby, or is set to be read only.
    #[error("the server can only be read: it is a standby, or was made read only")]
    ReadOnly(#[source] tokio_postgres::Error),
    /// The server has no space left.
    #[error("the server has no space left")]
    Full(#[source] tokio_postgres::Error),
    /// The server refused what was sent.
    #[error("the server refused what was sent")]
    Refused(#[source] tokio_postgres::Error),
    /// The server's answer cannot be read.
    #[error("the server's answer cannot be read")]
    Unreadable(#[source] tokio_postgres::Error),
    /// What the server gave out makes no sense.
    #[error("the server gave out {0}")]
    Untrue(&'static str),
}

impl PostgresError {
    /// Whether the connection is of no use any more, so that another one may succeed.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, PostgresError::Lost(_) | PostgresError::Silent(_))
    }

    /// The error code of the database, if it gave one.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match self {
            PostgresError::Refused(error) => error.code(),
            _ => None,
        }
    }

    pub(crate) fn is(&self, code: &str) -> bool {
        self.code().is_some_and(|found| found.code() == code)
    }

    /// As an error of the store at `place`, where `doing` failed and nothing was written.
    pub(crate) fn while_doing(self, doing: &'static str, place: Where) -> StoreError {
        if self.is(NO_LOG) {
            return StoreError::Missing { path: place };
        }
        StoreError::Backend {
            doing,
            place,
            source: Box::new(self),
        }
    }
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> PostgresError {
        let Some(code) = error.code() else {
            // Beside an end of the connection, what has no code is an answer that cannot be read.
            return match error.source() {
                Some(source) if !source.is::<std::io::Error>() => PostgresError::Unreadable(error),
                _ => PostgresError::Lost(Box::new(error)),
            };
        };
        let code = code.clone();
        if code.code().starts_with("08") {
            return PostgresError::Lost(Box::new(error));
        }
        match code {
            SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::TOO_MANY_CONNECTIONS
            | SqlState::IDLE_SESSION_TIMEOUT
            | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => PostgresError::Lost(Box::new(error)),
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                PostgresError::NotLetIn(error)
            }
            SqlState::INVALID_CATALOG_NAME => PostgresError::NoDatabase(error),
            SqlState::INSUFFICIENT_PRIVILEGE => PostgresError::NoRights(error),
            SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME => PostgresError::NoSchema,
            SqlState::READ_ONLY_SQL_TRANSACTION => PostgresError::ReadOnly(error),
            SqlState::DISK_FULL => PostgresError::Full(error),
            _ => PostgresError::Refused(error),
        }
    }
}
