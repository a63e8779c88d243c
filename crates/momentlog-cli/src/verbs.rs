//! All verbs.

mod checkpoint;
mod domain;
mod moment;
mod own;
mod snapshot;

use momentlog::Domain;

use crate::grammar::{Answer, Invocation, Verb, flag, named, needed, word, words};
use crate::session::{Failure, Session};

/// The table of verbs, in the order in which `help` lists them.
pub static VERBS: &[Verb] = &[
    verb(
        "checkpoint-create",
        "Create a checkpoint from XML",
        checkpoint::create,
        true,
        &[
            needed("domain"),
            word("xmlfile"),
            flag("redefine"),
            flag("redefine-validate"),
            flag("quiesce"),
        ],
    ),
    verb(
        "checkpoint-create-as",
        "Create a checkpoint from a set of args",
        checkpoint::create_as,
        true,
        &[
            needed("domain"),
            word("name"),
            word("description"),
            flag("print-xml"),
            flag("quiesce"),
            words("diskspec"),
        ],
    ),
    verb(
        "checkpoint-delete",
        "Delete a domain checkpoint",
        checkpoint::delete,
        true,
        &[
            needed("domain"),
            word("checkpointname"),
            flag("children"),
            flag("children-only"),
            flag("metadata"),
        ],
    ),
    verb(
        "checkpoint-dumpxml",
        "Dump XML for a domain checkpoint",
        checkpoint::dumpxml,
        false,
        &[
            needed("domain"),
            word("checkpointname"),
            flag("security-info"),
            flag("no-domain"),
            flag("size"),
            named("output"),
        ],
    ),
    verb(
        "checkpoint-edit",
        "edit XML for a checkpoint",
        checkpoint::edit,
        true,
        &[needed("domain"), word("checkpointname")],
    ),
    verb(
        "checkpoint-info",
        "checkpoint information",
        checkpoint::info,
        false,
        &[needed("domain"), word("checkpointname")],
    ),
    verb(
        "checkpoint-list",
        "List checkpoints for a domain",
        checkpoint::list,
        false,
        &[
            needed("domain"),
            flag("parent"),
            flag("roots"),
            flag("leaves"),
            flag("no-leaves"),
            flag("tree"),
            word("from"),
            flag("descendants"),
            flag("name"),
            flag("topological"),
        ],
    ),
    verb(
        "checkpoint-parent",
        "Get the name of the parent of a checkpoint",
        checkpoint::parent,
        false,
        &[needed("domain"), word("checkpointname")],
    ),
    verb(
        "snapshot-create",
        "Create a snapshot from XML",
        snapshot::create,
        true,
        &[
            needed("domain"),
            word("xmlfile"),
            flag("redefine"),
            flag("current"),
            flag("no-metadata"),
            flag("halt"),
            flag("disk-only"),
            flag("reuse-external"),
            flag("quiesce"),
            flag("atomic"),
            flag("live"),
            flag("validate"),
        ],
    ),
    verb(
        "snapshot-create-as",
        "Create a snapshot from a set of args",
        snapshot::create_as,
        true,
        &[
            needed("domain"),
            word("name"),
            word("description"),
            flag("print-xml"),
            flag("no-metadata"),
            flag("halt"),
            flag("disk-only"),
            flag("reuse-external"),
            flag("quiesce"),
            flag("atomic"),
            flag("live"),
            flag("validate"),
            named("memspec"),
            words("diskspec"),
        ],
    ),
    verb(
        "snapshot-current",
        "Get or set the current snapshot",
        snapshot::current,
        true,
        &[
            needed("domain"),
            flag("name"),
            flag("security-info"),
            word("snapshotname"),
        ],
    ),
    verb(
        "snapshot-delete",
        "Delete a domain snapshot",
        snapshot::delete,
        true,
        &[
            needed("domain"),
            word("snapshotname"),
            flag("current"),
            flag("children"),
            flag("children-only"),
            flag("metadata"),
        ],
    ),
    verb(
        "snapshot-dumpxml",
        "Dump XML for a domain snapshot",
        snapshot::dumpxml,
        false,
        &[
            needed("domain"),
            needed("snapshotname"),
            flag("security-info"),
            named("output"),
        ],
    ),
    verb(
        "snapshot-edit",
        "edit XML for a snapshot",
        snapshot::edit,
        true,
        &[
            needed("domain"),
            word("snapshotname"),
            flag("current"),
            flag("rename"),
            flag("clone"),
        ],
    ),
    verb(
        "snapshot-info",
        "snapshot information",
        snapshot::info,
        false,
        &[needed("domain"), word("snapshotname"), flag("current")],
    ),
    verb(
        "snapshot-list",
        "List snapshots for a domain",
        snapshot::list,
        false,
        &[
            needed("domain"),
            flag("parent"),
            flag("roots"),
            flag("leaves"),
            flag("no-leaves"),
            flag("metadata"),
            flag("no-metadata"),
            flag("inactive"),
            flag("active"),
            flag("disk-only"),
            flag("internal"),
            flag("external"),
            flag("tree"),
            word("from"),
            flag("current"),
            flag("descendants"),
            flag("name"),
            flag("topological"),
        ],
    ),
    verb(
        "snapshot-parent",
        "Get the name of the parent of a snapshot",
        snapshot::parent,
        false,
        &[needed("domain"), word("snapshotname"), flag("current")],
    ),
    verb(
        "snapshot-revert",
        "Revert a domain to a snapshot",
        snapshot::revert,
        true,
        &[
            needed("domain"),
            word("snapshotname"),
            flag("current"),
            flag("running"),
            flag("paused"),
            flag("force"),
            flag("reset-nvram"),
        ],
    ),
    verb(
        "create",
        "create a domain from an XML file",
        domain::create,
        true,
        &[needed("file")],
    ),
    verb(
        "define",
        "define (but don't start) a domain from an XML file",
        domain::define,
        true,
        &[needed("file"), flag("validate")],
    ),
    verb(
        "destroy",
        "destroy (stop) a domain",
        domain::destroy,
        true,
        &[needed("domain")],
    ),
    verb(
        "domblklist",
        "list all domain blocks",
        domain::block_list,
        false,
        &[needed("domain"), flag("inactive"), flag("details")],
    ),
    verb(
        "domid",
        "convert a domain name or UUID to domain id",
        domain::id,
        false,
        &[needed("domain")],
    ),
    verb(
        "dominfo",
        "domain information",
        domain::info,
        false,
        &[needed("domain")],
    ),
    verb(
        "domname",
        "convert a domain id or UUID to domain name",
        domain::name,
        false,
        &[needed("domain")],
    ),
    verb(
        "domstate",
        "domain state",
        domain::state,
        false,
        &[needed("domain"), flag("reason")],
    ),
    verb(
        "domuuid",
        "convert a domain name or id to domain UUID",
        domain::uuid,
        false,
        &[needed("domain")],
    ),
    verb(
        "dumpxml",
        "domain information in XML",
        domain::dumpxml,
        false,
        &[needed("domain"), flag("inactive"), flag("security-info")],
    ),
    verb(
        "list",
        "list domains",
        domain::list,
        false,
        &[
            flag("inactive"),
            flag("all"),
            flag("with-snapshot"),
            flag("without-snapshot"),
            flag("with-checkpoint"),
            flag("without-checkpoint"),
            flag("name"),
            flag("uuid"),
            flag("id"),
        ],
    ),
    verb(
        "resume",
        "resume a domain",
        domain::resume,
        true,
        &[needed("domain")],
    ),
    verb(
        "shutdown",
        "gracefully shutdown a domain",
        domain::shutdown,
        true,
        &[needed("domain")],
    ),
    verb(
        "start",
        "start a (previously defined) inactive domain",
        domain::start,
        true,
        &[needed("domain")],
    ),
    verb(
        "suspend",
        "suspend a domain",
        domain::suspend,
        true,
        &[needed("domain")],
    ),
    verb(
        "undefine",
        "undefine a domain",
        domain::undefine,
        true,
        &[
            needed("domain"),
            flag("snapshots-metadata"),
            flag("checkpoints-metadata"),
        ],
    ),
    verb(
        "log",
        "show who did what, when and why",
        own::log,
        false,
        &[word("domain"), word("from"), word("limit")],
    ),
    verb(
        "policy",
        "show the rules of a domain, or set some (NAME=on or NAME=off)",
        own::policy,
        true,
        &[needed("domain"), words("rule")],
    ),
    verb(
        "receipt",
        "print a receipt of the log, for verify",
        own::receipt,
        false,
        &[],
    ),
    verb(
        "verify",
        "verify the whole log, and against a receipt",
        own::verify,
        false,
        &[word("against")],
    ),
    verb(
        "echo",
        "echo arguments",
        own::echo,
        false,
        &[flag("shell"), flag("xml"), flag("err"), words("string")],
    ),
    verb("help", "print help", own::help, false, &[word("command")]),
    verb(
        "quit",
        "quit this interactive terminal",
        own::quit,
        false,
        &[],
    ),
    verb(
        "exit",
        "quit this interactive terminal",
        own::quit,
        false,
        &[],
    ),
];

const fn verb(
    name: &'static str,
    help: &'static str,
    run: fn(&mut Session, &Invocation) -> Answer,
    changes: bool,
    options: &'static [crate::grammar::OptionSpec],
) -> Verb {
    Verb {
        name,
        help,
        options,
        changes,
        run,
    }
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
    let text = invocation.need("domain");
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

/// Reads a file that a command names, up to virsh's 10 MiB.
fn read_file(path: &str) -> Result<String, Failure> {
    /// Longest file that virsh reads, in bytes.
    const FILE_LEN_MAX: u64 = 10 << 20;
    let cannot =
        |doing: &str, why: &str| Failure::new(format!("Failed to {doing} file '{path}': {why}"));
    let file = std::fs::File::open(path).map_err(|error| cannot("open", &reason(&error)))?;
    let mut text = Vec::new();
    let read =
        std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_LEN_MAX + 1), &mut text);
    read.map_err(|error| cannot("read", &reason(&error)))?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(cannot("read", "Value too large for defined data type"));
    }
    String::from_utf8(text).map_err(|_| cannot("read", "it is not UTF-8"))
}

/// What the operating system calls an error, without Rust's number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
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
