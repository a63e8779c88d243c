//! All verbs.

mod checkpoint;
mod domain;
mod moment;
mod own;
mod snapshot;
mod store;

use momentlog::Domain;

use crate::grammar::{Answer, Invocation, Verb, flag, named, needed, word, words};
use crate::session::{Failure, Session};

/// The table of verbs, in the order in which `help` lists them.
pub static VERBS: &[Verb] = &[
    verb(
        "checkpoint-create",
        "make a checkpoint, or put one back, from an XML file",
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
        "make a checkpoint from options",
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
        "delete a checkpoint, what is below it, or both",
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
        "show a checkpoint's XML",
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
        "change a checkpoint's XML in an editor",
        checkpoint::edit,
        true,
        &[needed("domain"), word("checkpointname")],
    ),
    verb(
        "checkpoint-info",
        "show a checkpoint's place in the tree",
        checkpoint::info,
        false,
        &[needed("domain"), word("checkpointname")],
    ),
    verb(
        "checkpoint-list",
        "list a domain's checkpoints, as a table, names or a tree",
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
        "show which checkpoint one hangs below",
        checkpoint::parent,
        false,
        &[needed("domain"), word("checkpointname")],
    ),
    verb(
        "snapshot-create",
        "make a snapshot, or put one back, from an XML file",
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
        "make a snapshot from options",
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
        "show which snapshot is current, or choose another",
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
        "delete a snapshot, what is below it, or both",
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
        "show a snapshot's XML",
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
        "change or clone a snapshot's XML in an editor",
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
        "show a snapshot's state and place in the tree",
        snapshot::info,
        false,
        &[needed("domain"), word("snapshotname"), flag("current")],
    ),
    verb(
        "snapshot-list",
        "list a domain's snapshots, as a table, names or a tree",
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
        "show which snapshot one hangs below",
        snapshot::parent,
        false,
        &[needed("domain"), word("snapshotname"), flag("current")],
    ),
    verb(
        "snapshot-revert",
        "go back to a snapshot",
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
        "start a domain from an XML file",
        domain::create,
        true,
        &[needed("file")],
    ),
    verb(
        "define",
        "define a domain from an XML file, without starting it",
        domain::define,
        true,
        &[needed("file"), flag("validate")],
    ),
    verb(
        "destroy",
        "switch a domain off",
        domain::destroy,
        true,
        &[needed("domain")],
    ),
    verb(
        "domblklist",
        "list a domain's disks",
        domain::block_list,
        false,
        &[needed("domain"), flag("inactive"), flag("details")],
    ),
    verb(
        "domid",
        "show the number of a running domain",
        domain::id,
        false,
        &[needed("domain")],
    ),
    verb(
        "dominfo",
        "show what is known of a domain",
        domain::info,
        false,
        &[needed("domain")],
    ),
    verb(
        "domname",
        "show a domain's name",
        domain::name,
        false,
        &[needed("domain")],
    ),
    verb(
        "domstate",
        "show a domain's run state",
        domain::state,
        false,
        &[needed("domain"), flag("reason")],
    ),
    verb(
        "domuuid",
        "show a domain's uuid",
        domain::uuid,
        false,
        &[needed("domain")],
    ),
    verb(
        "dumpxml",
        "show a domain's XML",
        domain::dumpxml,
        false,
        &[needed("domain"), flag("inactive"), flag("security-info")],
    ),
    verb(
        "list",
        "list domains: running ones, or all",
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
        "let a paused domain run on",
        domain::resume,
        true,
        &[needed("domain")],
    ),
    verb(
        "shutdown",
        "ask a domain to shut down",
        domain::shutdown,
        true,
        &[needed("domain")],
    ),
    verb(
        "start",
        "start a defined domain",
        domain::start,
        true,
        &[needed("domain")],
    ),
    verb(
        "suspend",
        "pause a domain",
        domain::suspend,
        true,
        &[needed("domain")],
    ),
    verb(
        "undefine",
        "forget a domain's definition",
        domain::undefine,
        true,
        &[
            needed("domain"),
            flag("managed-save"),
            word("storage"),
            flag("remove-all-storage"),
            flag("delete-storage-volume-snapshots"),
            flag("wipe-storage"),
            flag("snapshots-metadata"),
            flag("checkpoints-metadata"),
            flag("nvram"),
            flag("keep-nvram"),
            flag("tpm"),
            flag("keep-tpm"),
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
        "show the rules of a domain, or of new domains (--default), or set some (NAME=on or NAME=off)",
        own::policy,
        true,
        &[
            word("domain"),
            flag("default"),
            named("request-window"),
            words("rule"),
        ],
    ),
    verb(
        "receipt",
        "print a receipt of the log, for verify",
        store::receipt,
        false,
        &[],
    ),
    verb(
        "verify",
        "verify the whole log, also against a receipt, and with its archive",
        store::verify,
        false,
        &[word("against"), named("archive"), flag("strict")],
    ),
    verb(
        "image",
        "make an image of the log, from which it is opened sooner",
        store::image,
        false,
        &[],
    ),
    verb(
        "archive",
        "move all records up to now to a directory, and go on from an image and a bridge record",
        store::archive,
        true,
        &[needed("to")],
    ),
    verb(
        "echo",
        "print words, quoted on request",
        own::echo,
        false,
        &[flag("shell"), flag("xml"), flag("err"), words("string")],
    ),
    verb(
        "help",
        "list the commands, or explain one",
        own::help,
        false,
        &[word("command")],
    ),
    verb("quit", "end the session", own::quit, false, &[]),
    verb("exit", "end the session", own::quit, false, &[]),
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
    String::from_utf8(text).map_err(|error| cannot("read", &not_utf8(&error)))
}

/// Says where bytes are not UTF-8, in which all texts are.
fn not_utf8(error: &std::string::FromUtf8Error) -> String {
    let at = error.utf8_error().valid_up_to();
    let before = &error.as_bytes()[..at];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let in_line = before.iter().rev().take_while(|byte| **byte != b'\n');
    let (byte, column) = (error.as_bytes()[at], in_line.count() + 1);
    let mut why = format!("line {line}, byte {column} of it is 0x{byte:02x}, which is not UTF-8");
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = error.as_bytes() {
        why += "; the file is in UTF-16";
    }
    why
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
