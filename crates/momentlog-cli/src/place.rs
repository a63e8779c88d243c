//! Where a log is: in a directory, or in a database. Only this file knows that there are databases.

use std::sync::Arc;

use momentlog::store::{FileStore, RealDisk, Store, StoreError, Where};
use momentlog::{Connection, Opener, Options};
use momentlog_postgres::{Address, PostgresError, PostgresStore};
use momentlog_qemu::Qemu;

/// What URIs of databases begin with.
const SCHEMES: [&str; 2] = ["postgres", "postgresql"];

/// Opens the log that a URI names.
pub fn open(uri: &str, options: Options) -> momentlog::Result<Connection> {
    if is_database(uri) {
        let openers = SCHEMES.map(|scheme| Opener {
            scheme,
            open: &database,
        });
        return Connection::open_among(uri, options, &openers);
    }
    Connection::open_driven(uri, options, &[Arc::new(Qemu::default())])
}

/// Whether a URI names a log in a database.
pub fn is_database(uri: &str) -> bool {
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| SCHEMES.contains(&scheme))
}

/// Opens the store in a database.
pub fn database(uri: &str) -> Result<Box<dyn Store>, StoreError> {
    let store = Address::parse(uri).and_then(PostgresStore::open);
    Ok(Box::new(store.map_err(failed("open"))?))
}

/// Opens the store that a URI names, wherever it is.
pub fn store(uri: &str) -> momentlog::Result<Box<dyn Store>> {
    if is_database(uri) {
        return Ok(database(uri)?);
    }
    let directory = momentlog::store_directory(uri)?
        .ok_or_else(|| momentlog::Error::from(StoreError::Unsupported { doing: "be copied" }))?;
    Ok(Box::new(FileStore::new(RealDisk::new(directory))))
}

/// Makes what a database needs for the log that a URI names.
pub fn init(uri: &str) -> Result<(), StoreError> {
    Address::parse(uri)
        .and_then(PostgresStore::init)
        .map_err(failed("set up"))
}

/// The URI as it may be shown: without a password.
pub fn shown(uri: &str) -> String {
    if !is_database(uri) {
        return uri.to_owned();
    }
    let address = Address::parse(uri);
    address.map_or_else(|_| "postgres:…".to_owned(), |address| address.to_string())
}

fn failed(doing: &'static str) -> impl FnOnce(PostgresError) -> StoreError {
    move |error| StoreError::Backend {
        doing,
        place: Where::other("the database"),
        source: Box::new(error),
    }
}
