//! Times and points of the log, as they are typed and shown.

use std::io::Read as _;
use std::path::Path;
use std::sync::OnceLock;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use momentlog::store::Receipt;
use momentlog::{Connection, Options, Point};
use momentlog_audit::{Edge, local_time, read_point};

use crate::failure::Failure;
use crate::grammar::{Invocation, OptionSpec};
use crate::layout::escaped;
use crate::session::Session;

/// Longest file of a receipt, in bytes: a line, and some blanks.
const RECEIPT_LEN_MAX: u64 = 4096;

/// The time zone of this process, looked up once.
fn zone() -> &'static TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(TimeZone::system)
}

/// The time now, in the time zone of this process.
fn now() -> ZonedDateTime {
    Timestamp::now().to_zoned_datetime(zone().clone())
}

/// A recorded time as people here read it.
pub fn recorded(micros: i64) -> String {
    local_time(micros, zone(), false)
}

/// A recorded time with all its digits.
pub fn recorded_exactly(micros: i64) -> String {
    local_time(micros, zone(), true)
}

/// A claimed time, in seconds since 1970.
pub fn claimed(seconds: i64) -> String {
    match seconds.checked_mul(1_000_000) {
        Some(micros) => local_time(micros, zone(), false),
        None => format!("{seconds} seconds since 1970"),
    }
}

/// Reads a point of the log: a receipt, the name of a file that holds one, or what [`read_point`] reads.
pub fn point(text: &str, edge: Edge) -> Result<Point, Failure> {
    match receipt_in(text) {
        Some(receipt) => Ok(Point::Receipt(receipt)),
        None => read_point(text, edge, &now())
            .map_err(|error| Failure::new(escaped(&error.to_string()))),
    }
}

/// Returns the receipt that a file of this name holds, if there is one.
pub fn receipt_in(path: &str) -> Option<Receipt> {
    let file = std::fs::File::open(Path::new(path)).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(RECEIPT_LEN_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Returns the connection to a directory of archived records, which is a log of its own.
pub fn archive(directory: &str) -> Result<Connection, Failure> {
    let path = super::verbs::absolute(directory)?;
    let options = Options {
        read_only: true,
        ..Options::default()
    };
    Connection::open_with(&format!("momentlog://{path}"), options).map_err(Failure::under(format!(
        "cannot read the archive '{}'",
        escaped(directory)
    )))
}

impl Session {
    /// Returns the connection that a command reads, if it is as of a point: the store's, or that of its archive where the
    /// point lies there.
    pub fn connection_at(&self, invocation: &Invocation) -> Result<Option<Connection>, Failure> {
        let given = if invocation.verb.at {
            invocation.get("at").or(self.at())
        } else {
            self.at()
        };
        let Some(text) = given else {
            let verb = invocation.verb;
            if verb.at && !verb.has_own("archive") && invocation.has("archive") {
                return Err(Failure::new(
                    "--archive is for points that lie there: it needs --at POINT",
                ));
            }
            return Ok(None);
        };
        if !invocation.verb.at {
            let verb = invocation.verb.name;
            return Err(Failure::new(format!(
                "--at is for commands that read, and '{verb}' is none"
            )));
        }
        let point = point(text, Edge::End)?;
        let at = |connection: &Connection| match only_domain(invocation) {
            Some(domain) => connection.at_for(&point, domain),
            None => connection.at(&point),
        };
        let found = match (at(&self.connection), invocation.get("archive")) {
            (Err(error), Some(directory)) if is_archived(&error) => at(&archive(directory)?),
            (found, _) => found,
        };
        let connection = found.map_err(|error| {
            let archived = is_archived(&error);
            let failure = Failure::from(error);
            if archived {
                failure.and("what was there then is in an archive: name it with --archive DIR")
            } else {
                failure
            }
        })?;
        if !matches!(point, Point::Seq(_)) && !self.quiet {
            say_point(&connection)?;
        }
        Ok(Some(connection))
    }
}

/// The domain that a command is about, if it looks at no other.
fn only_domain(invocation: &Invocation) -> Option<&str> {
    /// They take a domain by some of its names, and say which others there are.
    const OTHERS: [&str; 3] = ["domid", "domname", "domuuid"];
    let verb = invocation.verb;
    let needs = |option: &OptionSpec| option.name == "domain" && option.required;
    let is_of_one = verb.options.iter().any(needs) && !OTHERS.contains(&verb.name);
    is_of_one.then(|| invocation.need("domain"))
}

/// Says on standard error which point was taken.
fn say_point(connection: &Connection) -> Result<(), Failure> {
    let Some(head) = connection.view().head() else {
        return Ok(());
    };
    let time = connection.recorded_at(head.seq)?;
    let time = time.map_or_else(String::new, |time| format!(", {}", recorded(time)));
    crate::failure::note(&format!("as of record {}{time}", head.seq));
    Ok(())
}

/// Whether records that are asked for were moved to an archive.
pub fn is_archived(error: &momentlog::Error) -> bool {
    matches!(
        error.store(),
        Some(momentlog::store::StoreError::Archived { .. })
    )
}
