//! The table of verbs.

use super::{checkpoint, domain, edit, log, own, restore, snapshot, store};
use crate::grammar::{
    Answer, Invocation, OptionSpec, Verb, flag, named, needed, other_name, unlisted, word, words,
};
use crate::session::Session;

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
        edit::checkpoint,
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
        edit::snapshot,
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
        &[needed("file"), flag("console"), flag("paused"), flag("autodestroy"), word("pass-fds"), flag("validate"), flag("reset-nvram")],
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
        &[needed("domain"), flag("graceful"), flag("remove-logs")],
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
        &[needed("domain"), flag("inactive"), flag("security-info"), flag("update-cpu"), flag("migratable")],
    ),
    verb(
        "list",
        "list domains: running ones, or all",
        domain::list,
        false,
        &[flag("inactive"), flag("all"), flag("transient"), flag("persistent"), flag("with-snapshot"), flag("without-snapshot"), flag("with-checkpoint"), flag("without-checkpoint"), flag("state-running"), flag("state-paused"), flag("state-shutoff"), flag("state-other"), flag("autostart"), flag("no-autostart"), flag("with-managed-save"), flag("without-managed-save"), flag("uuid"), flag("name"), flag("id"), flag("table"), flag("managed-save")],
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
        &[needed("domain"), word("mode")],
    ),
    verb(
        "start",
        "start a defined domain",
        domain::start,
        true,
        &[needed("domain"), flag("console"), flag("paused"), flag("autodestroy"), flag("bypass-cache"), flag("force-boot"), word("pass-fds"), flag("reset-nvram")],
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
        log::log,
        false,
        &[word("domain"), word("from"), word("limit")],
    )
    .with_json(),
    verb(
        "moments-restore",
        "put back the snapshots and checkpoints whose XML files are in a folder, all of them or none",
        restore::restore,
        true,
        &[
            needed("domain"),
            needed("dir"),
            flag("reroot"),
            flag("truncate"),
        ],
    )
    .with_json(),
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
    )
    .with_json(),
    verb(
        "receipt",
        "print a receipt of the log, for verify",
        store::receipt,
        false,
        &[],
    )
    .with_json(),
    verb(
        "verify",
        "verify the whole log, also against a receipt, and with its archive",
        store::verify,
        false,
        &[word("against"), named("archive"), flag("strict")],
    )
    .with_json(),
    verb(
        "image",
        "make an image of the log, from which it is opened sooner",
        store::image,
        false,
        &[],
    )
    .with_json(),
    verb(
        "archive",
        "move all records up to now to a directory, and go on from an image and a bridge record",
        store::archive,
        true,
        &[needed("to")],
    )
    .with_json(),
    verb(
        "echo",
        "print words, quoted on request",
        own::echo,
        false,
        &[
            flag("shell"),
            flag("xml"),
            flag("split"),
            flag("err"),
            words("string"),
            other_name("str", "string"),
            unlisted("hi"),
        ],
    ),
    verb(
        "help",
        "list the commands, or explain one",
        own::help,
        false,
        &[word("command")],
    ),
    verb("quit", "end the session", own::quit, false, &[]).with_json(),
    verb("exit", "end the session", own::quit, false, &[]).with_json(),
];

const fn verb(
    name: &'static str,
    help: &'static str,
    run: fn(&mut Session, &Invocation) -> Answer,
    changes: bool,
    options: &'static [OptionSpec],
) -> Verb {
    Verb {
        name,
        help,
        options,
        changes,
        json: false,
        run,
    }
}

#[cfg(test)]
mod tests {
    use super::VERBS;

    /// The names in `call("name")` in a source.
    fn asked<'a>(source: &'a str, call: &str) -> Vec<&'a str> {
        let opening = format!("{call}(\"");
        let found = source.split(opening.as_str()).skip(1);
        found.filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_option_that_a_verb_asks_for_is_in_the_table() {
        let sources = [
            include_str!("checkpoint.rs"),
            include_str!("domain.rs"),
            include_str!("edit.rs"),
            include_str!("host.rs"),
            include_str!("log.rs"),
            include_str!("moment.rs"),
            include_str!("own.rs"),
            include_str!("restore.rs"),
            include_str!("snapshot.rs"),
            include_str!("store.rs"),
            include_str!("../verbs.rs"),
            include_str!("../session.rs"),
        ];
        let mut count = 0;
        for source in sources {
            for call in ["has", "invocation.get", "need", "invocation.all"] {
                for name in asked(source, call) {
                    let known = VERBS.iter().any(|verb| verb.takes(name));
                    assert!(known, "{call}(\"{name}\")");
                    count += 1;
                }
            }
        }
        assert!(count > 100, "only {count} were found");
    }

    #[test]
    fn a_verb_that_asks_for_an_option_that_it_lacks_is_our_own_fault() {
        let words = ["checkpoint-info", "web01", "a"].map(String::from);
        let invocation = crate::grammar::Invocation::parse(VERBS, &words).expect("it parses");
        assert!(invocation.has("checkpointname"));
        for misspelt in ["checkpointnam", "newest-frst"] {
            let asked = std::panic::catch_unwind(|| invocation.has(misspelt));
            assert!(asked.is_err(), "{misspelt}");
        }
    }
}
