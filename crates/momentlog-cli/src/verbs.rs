//! All verbs.

mod checkpoint;
mod domain;
mod edit;
mod host;
mod log;
mod moment;
mod own;
mod restore;
mod snapshot;
mod store;
mod table;

use momentlog::Domain;

use crate::grammar::Invocation;
use crate::session::{Failure, Session, reason};

pub use table::VERBS;

/// By what a command may name its domain.
#[derive(Clone, Copy, Debug)]
struct Ways {
    id: bool,
    uuid: bool,
    name: bool,
}

impl Ways {
    const ALL: Ways = Ways {
        id: true,
        uuid: true,
        name: true,
    };
}

/// Returns the domain that a command is about: an id, a uuid or a name.
fn the_domain(session: &Session, invocation: &Invocation) -> Result<Domain, Failure> {
    the_domain_by(session, invocation, Ways::ALL)
}

/// As [`the_domain`], for the verbs that turn one way of naming into another.
fn the_domain_by(
    session: &Session,
    invocation: &Invocation,
    ways: Ways,
) -> Result<Domain, Failure> {
    let connection = session.connection_for(invocation)?;
    let text = invocation.get("domain").ok_or_else(|| {
        let verb = invocation.verb.name;
        Failure::new(format!("command '{verb}' requires <domain> option"))
    })?;
    let missing = || Failure::new(format!("failed to get domain '{text}'"));
    if ways.id
        && let Ok(id) = text.parse::<u32>()
        && let Ok(domain) = connection.lookup_domain_by_id(id)
    {
        return Ok(domain);
    }
    if ways.uuid
        && text.len() == 36
        && let Ok(uuid) = text.parse()
        && let Ok(domain) = connection.lookup_domain_by_uuid(uuid)
    {
        return Ok(domain);
    }
    if !ways.name {
        return Err(missing());
    }
    connection
        .lookup_domain_by_name(text)
        .map_err(|error| match error.code() {
            momentlog::ErrorCode::NoDomain => missing(),
            _ => Failure::from(error),
        })
}

/// Longest file that virsh reads, in bytes.
const FILE_LEN_MAX: u64 = 10 << 20;

/// Reads the file of a moment: it holds up to two domains, and what goes around them.
fn read_moment_file(path: &str) -> Result<String, Failure> {
    read_file_of(path, momentlog::xml::XML_MOMENT_LEN_MAX as u64)
}

/// Reads a file that a command names, up to virsh's 10 MiB.
fn read_file(path: &str) -> Result<String, Failure> {
    read_file_of(path, FILE_LEN_MAX)
}

/// Reads a file of at most `len_max` bytes.
fn read_file_of(path: &str, len_max: u64) -> Result<String, Failure> {
    let cannot =
        |doing: &str, why: &str| Failure::new(format!("Failed to {doing} file '{path}': {why}"));
    let file = std::fs::File::open(path).map_err(|error| cannot("open", &reason(&error)))?;
    let mut text = Vec::new();
    let read = std::io::Read::read_to_end(&mut std::io::Read::take(file, len_max + 1), &mut text);
    read.map_err(|error| cannot("read", &reason(&error)))?;
    if text.len() as u64 > len_max {
        return Err(cannot("read", "Value too large for defined data type"));
    }
    String::from_utf8(text).map_err(|error| cannot("read", &not_utf8(&error)))
}

/// Says where bytes are not UTF-8, in which all texts are.
fn not_utf8(error: &std::string::FromUtf8Error) -> String {
    let at = error.utf8_error().valid_up_to();
    let before = &error.as_bytes()[..at];
    let line = before.split(|byte| *byte == b'\n').count();
    let in_line = before.iter().rev().take_while(|byte| **byte != b'\n');
    let (byte, column) = (error.as_bytes()[at], in_line.count() + 1);
    let mut why = format!("line {line}, byte {column} of it is 0x{byte:02x}, which is not UTF-8");
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = error.as_bytes() {
        why += "; the file is in UTF-16";
    }
    why
}

/// Refuses options that exclude each other.
fn exclusive(invocation: &Invocation, one: &str, other: &str) -> Result<(), Failure> {
    if invocation.has(one) && invocation.has(other) {
        return Err(Failure::new(format!(
            "Options --{one} and --{other} are mutually exclusive"
        )));
    }
    Ok(())
}
