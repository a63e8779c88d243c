//! All verbs.

mod backup;
mod checkpoint;
mod copy;
mod diff;
mod domain;
mod edit;
mod graph;
mod hold;
mod host;
mod hypervisor;
mod job;
mod list;
mod log;
mod metadata;
mod moment;
mod pages;
mod policy;
pub mod program;
mod proxy;
mod proxy_units;
mod redefine_plan;
mod restore;
mod serve;
pub mod show;
mod since;
mod snapshot;
mod stat;
mod store;
pub mod told;
pub mod undelete;
mod why;

pub use store::verified;

use std::path::Path;

use momentlog::Domain;
use momentlog::xml::DocumentKind;
use momentlog_audit::json::DomainDoc;

use crate::failure::{Answer, Failure, reason};
use crate::grammar::{Invocation, Spec};
use crate::layout::escaped;
use crate::session::Session;

/// A verb: what is typed, and what it does.
#[derive(Debug)]
pub struct Verb {
    /// Its name, help and options.
    pub spec: Spec,
    /// What it does.
    pub run: fn(&mut Session, &Invocation) -> Answer,
}

/// The verbs of each file, in the order of their groups in `help`.
static TABLES: [&[Verb]; 27] = [
    checkpoint::VERBS,
    snapshot::VERBS,
    edit::VERBS,
    hold::VERBS,
    undelete::VERBS,
    domain::VERBS,
    list::VERBS,
    metadata::VERBS,
    job::VERBS,
    backup::VERBS,
    hypervisor::VERBS,
    log::VERBS,
    show::VERBS,
    why::VERBS,
    stat::VERBS,
    diff::VERBS,
    graph::VERBS,
    redefine_plan::VERBS,
    restore::VERBS,
    policy::VERBS,
    store::VERBS,
    copy::VERBS,
    serve::VERBS,
    proxy::VERBS,
    proxy_units::VERBS,
    program::VERBS,
    pages::VERBS,
];

/// All verbs.
pub fn all() -> impl Iterator<Item = &'static Verb> {
    TABLES.into_iter().flatten()
}

/// Returns the verb of this name.
pub fn find(name: &str) -> Option<&'static Verb> {
    all().find(|verb| verb.spec.name == name)
}

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
    let missing = || {
        let failure = Failure::new(format!("failed to get domain '{text}'"));
        failure.hinted(crate::hint::no_domain(&connection, text))
    };
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

/// How a document names a domain.
fn domain_doc(domain: &Domain) -> DomainDoc {
    DomainDoc::of(domain.uuid(), Some(domain.name()))
}

/// Returns a path as it is from the root.
pub fn absolute(path: &str) -> Result<String, Failure> {
    let absolute = std::path::absolute(Path::new(path)).ok();
    let text = absolute.and_then(|path| path.into_os_string().into_string().ok());
    text.ok_or_else(|| {
        let path = escaped(path);
        Failure::new(format!("'{path}' cannot be made an absolute path in UTF-8"))
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
    let cannot = |doing: &str, why: &str| {
        Failure::new(format!("Failed to {doing} file '{path}': {why}")).in_file(path)
    };
    let file = std::fs::File::open(path).map_err(|error| cannot("open", &reason(&error)))?;
    let mut text = Vec::new();
    let read = std::io::Read::read_to_end(&mut std::io::Read::take(file, len_max + 1), &mut text);
    read.map_err(|error| cannot("read", &reason(&error)))?;
    if text.len() as u64 > len_max {
        return Err(cannot("read", "Value too large for defined data type"));
    }
    String::from_utf8(text).map_err(|error| cannot("read", &not_utf8(&error)))
}

/// Names the file of the XML that a failure of a command is about.
pub fn in_its_file(failure: Failure, invocation: &Invocation) -> Failure {
    let document = failure.error.as_ref().and_then(momentlog::Error::xml);
    let Some(document) = document.map(|error| error.document) else {
        return failure;
    };
    let options: &[&str] = match document {
        DocumentKind::Backup => &["backupxml"],
        _ => &["checkpointxml", "xmlfile", "file"],
    };
    let mut taken = options
        .iter()
        .filter(|option| invocation.verb.takes(option));
    match taken.find_map(|option| invocation.get(option)) {
        Some(file) if failure.path.is_none() => failure.in_file(file),
        _ => failure,
    }
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{all, find};
    use crate::grammar::Invocation;

    /// The names in `call("name")` in a source.
    fn asked<'a>(source: &'a str, call: &str) -> Vec<&'a str> {
        let opening = format!("{call}(\"");
        let found = source.split(opening.as_str()).skip(1);
        found.filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_option_that_a_verb_asks_for_is_in_the_table() {
        let sources = [
            include_str!("verbs/backup.rs"),
            include_str!("verbs/checkpoint.rs"),
            include_str!("verbs/copy.rs"),
            include_str!("verbs/diff.rs"),
            include_str!("verbs/domain.rs"),
            include_str!("verbs/edit.rs"),
            include_str!("verbs/graph.rs"),
            include_str!("verbs/hold.rs"),
            include_str!("verbs/host.rs"),
            include_str!("verbs/hypervisor.rs"),
            include_str!("verbs/job.rs"),
            include_str!("verbs/list.rs"),
            include_str!("verbs/log.rs"),
            include_str!("verbs/metadata.rs"),
            include_str!("verbs/moment.rs"),
            include_str!("verbs/pages.rs"),
            include_str!("verbs/policy.rs"),
            include_str!("verbs/program.rs"),
            include_str!("verbs/proxy.rs"),
            include_str!("verbs/redefine_plan.rs"),
            include_str!("run.rs"),
            include_str!("verbs/restore.rs"),
            include_str!("verbs/serve.rs"),
            include_str!("verbs/show.rs"),
            include_str!("verbs/since.rs"),
            include_str!("verbs/snapshot.rs"),
            include_str!("verbs/stat.rs"),
            include_str!("verbs/store.rs"),
            include_str!("verbs/undelete.rs"),
            include_str!("verbs/why.rs"),
            include_str!("time.rs"),
            include_str!("verbs.rs"),
            include_str!("session.rs"),
        ];
        let mut count = 0;
        for source in sources {
            for call in ["has", "invocation.get", "need", "invocation.all"] {
                for name in asked(source, call) {
                    let known = all().any(|verb| verb.spec.takes(name));
                    assert!(known, "{call}(\"{name}\")");
                    count += 1;
                }
            }
        }
        assert!(count > 100, "only {count} were found");
    }

    #[test]
    fn a_verb_that_asks_for_an_option_that_it_lacks_is_our_own_fault() {
        let verb = find("checkpoint-info").expect("the verb is there");
        let words = ["web01", "a"].map(String::from);
        let invocation = Invocation::parse(&verb.spec, &words).expect("it parses");
        assert!(invocation.has("checkpointname"));
        for misspelt in ["checkpointnam", "newest-frst"] {
            let asked = std::panic::catch_unwind(|| invocation.has(misspelt));
            assert!(asked.is_err(), "{misspelt}");
        }
    }

    #[test]
    fn every_verb_has_a_name_of_its_own_and_a_line_of_help() {
        let mut names = HashSet::new();
        for verb in all() {
            assert!(names.insert(verb.spec.name), "{}", verb.spec.name);
            assert!(is_line(verb.spec.help), "{}", verb.spec.name);
        }
    }

    #[test]
    fn every_option_has_a_line_of_help() {
        for verb in all() {
            let (name, usage) = (verb.spec.name, verb.spec.usage());
            for option in verb.spec.all_options() {
                let named = format!("{name} --{}", option.name);
                assert!(is_line(option.help), "{named}");
                let told = usage.lines().any(|line| {
                    line.contains(&format!("--{}", option.name)) && line.ends_with(option.help)
                });
                assert!(told, "{named}: {usage}");
            }
        }
    }

    fn is_line(help: &str) -> bool {
        !help.trim().is_empty() && !help.contains('\n') && !help.ends_with('.')
    }
}
