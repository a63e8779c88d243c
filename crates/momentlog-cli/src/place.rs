//! Where a log is: in a directory, or in a database. Only this file knows that there are databases.

use std::sync::Arc;

use momentlog::store::{FileStore, RealDisk, Store, StoreError, Where};
use momentlog::{Connection, Opener, Options};
use momentlog_audit::json::{ServerDoc, StandbyDoc};
use momentlog_postgres::{Address, PostgresError, PostgresStore};
use momentlog_qemu::Qemu;

use crate::layout::info as line;
use crate::time::{recorded, recorded_exactly};

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

/// Asks the server of the log that a URI names about itself; `None` if the log is in no database.
pub fn server(uri: &str) -> momentlog::Result<Option<ServerDoc>> {
    if !is_database(uri) {
        return Ok(None);
    }
    let store = Address::parse(uri).and_then(PostgresStore::open);
    let server = store.map_err(failed("open"))?.server()?;
    Ok(Some(ServerDoc {
        version: server.version,
        clock: Some(server.clock),
        synchronous: server.synchronous,
        standby: server.standby.map(|standby| StandbyDoc {
            connected: standby.is_connected,
            not_shown: standby.not_shown,
            shown: standby.shown,
        }),
    }))
}

/// What a server has said of itself, for people.
pub fn of_server(server: &ServerDoc) -> String {
    let clock = server.clock.map_or_else(String::new, recorded_exactly);
    let version = format!("PostgreSQL {}, clock {clock}", server.version);
    line("Server", version) + &of_copies(server)
}

/// What a server has said of other copies of what it holds, for people.
pub fn of_copies(server: &ServerDoc) -> String {
    let Some(standby) = &server.standby else {
        let waits = match server.synchronous.as_str() {
            "" => "none is synchronous: what was acknowledged last may be on this server alone"
                .to_owned(),
            names => format!("a commit waits for {names}"),
        };
        return line("Standbys", waits);
    };
    let connected = if standby.connected {
        "connected to its primary"
    } else {
        "not connected to its primary, and does not know what it lacks"
    };
    let none = || "none since it was started".to_owned();
    let shown = standby.shown.map_or_else(none, recorded);
    let mut text = line("Standby", connected);
    text += &line(
        "Not shown yet",
        format!("{} bytes received", standby.not_shown),
    );
    text + &line("Shown", format!("transactions up to {shown}"))
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
