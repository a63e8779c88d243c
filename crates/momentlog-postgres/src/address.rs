//! Which log of which database, and how it is reached.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use momentlog_store::Where;
use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::{PostgresError, password_file};

/// Where Debian's server, and most others, have their socket.
pub(crate) const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

const DEFAULT_LOG: &str = "main";
const LOG_NAME_LEN_MAX: usize = 200;

/// A log in a database: `postgres://USER@HOST:PORT/DATABASE?log=NAME`.
///
/// Beside libpq's parameters that `tokio-postgres` knows, the URI takes `log` (`main` without it), `sslrootcert` (a file of
/// certificates; those of the system without it), and `unsafe=allow`, with which a server that may lose what it has
/// acknowledged is written as well. What the URI leaves out comes from `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`,
/// `PGDATABASE`, `PGSSLMODE` and `PGSSLROOTCERT`, and a password that is not there from the file that `PGPASSFILE` names, or
/// `~/.pgpass`.
#[derive(Clone)]
pub struct Address {
    pub(crate) config: Config,
    pub(crate) log: String,
    pub(crate) certificates: Option<PathBuf>,
    pub(crate) allows_unsafe: bool,
}

/// Without the password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Hosts, database and log; never the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        for (number, host) in self.config.get_hosts().iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            match host {
                Host::Tcp(host) => f.write_str(host)?,
                Host::Unix(path) => path.display().fmt(f)?,
            }
        }
        let database = self.config.get_dbname().unwrap_or("");
        write!(f, "/{database}?log={}", self.log)
    }
}

impl Address {
    /// Reads a URI, and the environment for what it leaves out.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Address`], which shows nothing of the URI: it may hold a password.
    pub fn parse(uri: &str) -> Result<Address, PostgresError> {
        let wrong = |why: &str| PostgresError::Address(why.into());
        let (base, query) = uri.split_once('?').unwrap_or((uri, ""));
        let mut rest = Vec::new();
        let mut hosts = Vec::new();
        let mut log = DEFAULT_LOG.to_owned();
        let mut certificates = env::var_os("PGSSLROOTCERT").map(PathBuf::from);
        let mut allows_unsafe = false;
        let mut mode = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| wrong("a parameter is not UTF-8"))?;
            match key {
                // The parser takes it for one host, whatever commas are in it; libpq does not.
                "host" => hosts.extend(value.split(',').map(str::to_owned)),
                "log" => log = value.into_owned(),
                "sslrootcert" => certificates = Some(value.into_owned().into()),
                "sslmode" => mode = Some(value.into_owned()),
                "unsafe" if value == "allow" => allows_unsafe = true,
                "unsafe" => return Err(wrong("`unsafe` can only be `allow`")),
                _ => rest.push(pair),
            }
        }
        if log.is_empty() || log.chars().count() > LOG_NAME_LEN_MAX || log.contains('\0') {
            return Err(wrong("the name of a log has 1 to 200 characters"));
        }
        let mut config: Config = format!("{base}?{}", rest.join("&"))
            .parse()
            .map_err(|error| PostgresError::Address(reason(&error).into()))?;
        for host in hosts {
            config.host(host);
        }
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host(set("PGHOST").as_deref().unwrap_or(SOCKET_DIRECTORY));
        }
        if config.get_ports().is_empty()
            && let Some(port) = set("PGPORT")
        {
            config.port(
                port.parse()
                    .map_err(|_| wrong("PGPORT is not the number of a port"))?,
            );
        }
        if config.get_user().is_none()
            && let Some(user) = set("PGUSER")
        {
            config.user(user);
        }
        if config.get_password().is_none()
            && let Some(password) = set("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_dbname().is_none()
            && let Some(database) = set("PGDATABASE")
        {
            config.dbname(database);
        }
        if config.get_password().is_none()
            && let Some(password) = password_file::password(&config)
        {
            config.password(password);
        }
        match mode.or_else(|| set("PGSSLMODE")).as_deref() {
            None | Some("prefer") => config.ssl_mode(SslMode::Prefer),
            Some("disable") => config.ssl_mode(SslMode::Disable),
            // A certificate is always checked against the host's name.
            Some("require" | "verify-ca" | "verify-full") => config.ssl_mode(SslMode::Require),
            Some(_) => {
                return Err(wrong(
                    "sslmode is disable, prefer, require, verify-ca or verify-full",
                ));
            }
        };
        if config.get_application_name().is_none() {
            config.application_name("momentlog");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        config.keepalives(true);
        config.keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3);
        Ok(Address {
            config,
            log,
            certificates,
            allows_unsafe,
        })
    }

    /// The name of the log.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Returns the same database with another log.
    #[must_use]
    pub fn with_log(mut self, log: impl Into<String>) -> Address {
        self.log = log.into();
        self
    }

    pub(crate) fn place(&self) -> Where {
        Where::other(self.to_string())
    }
}

/// What a parser says is wrong: its source names the parameter, and never shows a value.
fn reason(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_host_database_and_log() {
        let address = Address::parse(
            "postgres://agent:secret@db.example:5433/fleet?log=site%20a&sslmode=require",
        )
        .unwrap();
        assert_eq!(
            address.to_string(),
            "postgres://db.example/fleet?log=site a"
        );
        assert_eq!(address.log(), "site a");
        assert_eq!(address.config.get_ports(), [5433]);
        assert_eq!(address.config.get_ssl_mode(), SslMode::Require);
        for two in [
            "agent@a:5433,b:5434/fleet?",
            "agent@/fleet?host=a,b&port=5433,5434&",
        ] {
            let uri = format!("postgres://{two}target_session_attrs=read-write");
            let two = Address::parse(&uri).unwrap();
            assert_eq!(two.to_string(), "postgres://a,b/fleet?log=main");
            assert_eq!(two.config.get_ports(), [5433, 5434]);
        }
        let plain = Address::parse("postgresql:///fleet?host=/run/here").unwrap();
        assert_eq!(plain.to_string(), "postgres:///run/here/fleet?log=main");
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let address = Address::parse("postgres://agent:secret@db.example/fleet").unwrap();
        assert!(!format!("{address} {address:?} {:?}", address.place()).contains("secret"));
        for bad in [
            "postgres://agent:secret@db.example:port/fleet",
            "postgres://agent:secret@db.example/fleet?nonsense=secret",
            "postgres://agent:secret@db.example/fleet?sslmode=secret",
            "postgres://agent:secret@db.example/fleet?unsafe=secret",
            "postgres://agent:secret@db.example/fleet?log=",
            "postgres://agent:secret@db.example/fleet?connect_timeout=secret",
        ] {
            let error = Address::parse(bad).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("secret"), "{bad}: {shown}");
        }
    }
}
