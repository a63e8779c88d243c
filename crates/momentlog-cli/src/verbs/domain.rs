//! Verbs of domains.

mod shown;

use momentlog::{
    DefineFlags, DestroyFlags, Domain, Error, ErrorCode, RenameFlags, ShutdownFlags,
    SnapshotListFlags, StartFlags, UndefineFlags,
};

use super::{Verb, Ways, exclusive, host, read_file, the_domain, the_domain_by};
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec, flag, needed, word};
use crate::session::Session;
use shown::{block_list, dumpxml, id, info, name, state, uuid};

pub use shown::{document, state_word};

/// The verbs of domains.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "autostart",
            "record that a domain starts with its host",
            &[
                needed("domain", "domain name, id or uuid"),
                flag("disable", "disable autostarting"),
            ],
        )
        .changing(),
        run: autostart,
    },
    Verb {
        spec: Spec::new(
            "create",
            "start a domain from an XML file",
            &[
                needed("file", "file containing an XML domain description"),
                flag("console", "taken without effect: there is no console here"),
                flag("paused", "leave the guest paused after creation"),
                flag(
                    "autodestroy",
                    "refused: a record outlives the connection that made it",
                ),
                word("pass-fds", "pass file descriptors N,M,... to the guest"),
                flag("validate", "validate the XML against the schema"),
                flag(
                    "reset-nvram",
                    "re-initialize NVRAM from its pristine template",
                ),
            ],
        )
        .changing(),
        run: create,
    },
    Verb {
        spec: Spec::new(
            "define",
            "define a domain from an XML file, without starting it",
            &[
                needed("file", "file containing an XML domain description"),
                flag("validate", "validate the XML against the schema"),
            ],
        )
        .changing(),
        run: define,
    },
    Verb {
        spec: Spec::new(
            "destroy",
            "switch a domain off",
            &[
                needed("domain", "domain name, id or uuid"),
                flag("graceful", "terminate gracefully"),
                flag("remove-logs", "remove domain logs"),
            ],
        )
        .changing(),
        run: destroy,
    },
    Verb {
        spec: Spec::new(
            "domblklist",
            "list a domain's disks",
            &[
                needed("domain", "domain name, id or uuid"),
                flag("inactive", "get inactive rather than running configuration"),
                flag("details", "additionally display the type and device value"),
            ],
        ),
        run: block_list,
    },
    Verb {
        spec: Spec::new(
            "domid",
            "show the number of a running domain",
            &[needed("domain", "domain name or uuid")],
        ),
        run: id,
    },
    Verb {
        spec: Spec::new(
            "dominfo",
            "show what is known of a domain",
            &[needed("domain", "domain name, id or uuid")],
        ),
        run: info,
    },
    Verb {
        spec: Spec::new(
            "domname",
            "show a domain's name",
            &[needed("domain", "domain id or uuid")],
        ),
        run: name,
    },
    Verb {
        spec: Spec::new(
            "domrename",
            "give an inactive domain another name",
            &[
                needed("domain", "domain name or uuid"),
                needed("new-name", "new domain name"),
            ],
        )
        .changing(),
        run: rename,
    },
    Verb {
        spec: Spec::new(
            "domstate",
            "show a domain's run state",
            &[
                needed("domain", "domain name, id or uuid"),
                flag("reason", "also print reason for the state"),
            ],
        ),
        run: state,
    },
    Verb {
        spec: Spec::new(
            "domuuid",
            "show a domain's uuid",
            &[needed("domain", "domain id or name")],
        ),
        run: uuid,
    },
    Verb {
        spec: Spec::new(
            "dumpxml",
            "show a domain's XML",
            &[
                needed("domain", "domain name, id or uuid"),
                flag("inactive", "show inactive defined XML"),
                flag(
                    "security-info",
                    "include security sensitive information in XML dump",
                ),
                flag("update-cpu", "update guest CPU according to host CPU"),
                flag("migratable", "provide XML suitable for migrations"),
            ],
        ),
        run: dumpxml,
    },
    Verb {
        spec: Spec::new(
            "reboot",
            "reboot a domain",
            &[
                needed("domain", "domain name, id or uuid"),
                word("mode", "shutdown mode: acpi|agent|initctl|signal|paravirt"),
            ],
        )
        .changing(),
        run: reboot,
    },
    Verb {
        spec: Spec::new(
            "reset",
            "reset a domain",
            &[needed("domain", "domain name, id or uuid")],
        )
        .changing(),
        run: reset,
    },
    Verb {
        spec: Spec::new(
            "resume",
            "let a paused domain run on",
            &[needed("domain", "domain name, id or uuid")],
        )
        .changing(),
        run: resume,
    },
    Verb {
        spec: Spec::new(
            "shutdown",
            "ask a domain to shut down",
            &[
                needed("domain", "domain name, id or uuid"),
                word("mode", "shutdown mode: acpi|agent|initctl|signal|paravirt"),
            ],
        )
        .changing(),
        run: shutdown,
    },
    Verb {
        spec: Spec::new(
            "start",
            "start a defined domain",
            &[
                needed("domain", "name of the inactive domain"),
                flag("console", "taken without effect: there is no console here"),
                flag("paused", "leave the guest paused after creation"),
                flag(
                    "autodestroy",
                    "refused: a record outlives the connection that made it",
                ),
                flag("bypass-cache", "avoid file system cache when loading"),
                flag(
                    "force-boot",
                    "force fresh boot by discarding any managed save",
                ),
                word("pass-fds", "pass file descriptors N,M,... to the guest"),
                flag(
                    "reset-nvram",
                    "re-initialize NVRAM from its pristine template",
                ),
            ],
        )
        .changing(),
        run: start,
    },
    Verb {
        spec: Spec::new(
            "suspend",
            "pause a domain",
            &[needed("domain", "domain name, id or uuid")],
        )
        .changing(),
        run: suspend,
    },
    Verb {
        spec: Spec::new(
            "undefine",
            "forget a domain's definition",
            &[
                needed("domain", "domain name, id or uuid"),
                flag("managed-save", "remove domain managed state file"),
                word(
                    "storage",
                    "remove associated storage volumes (comma separated list of targets or \
                 source paths) (see domblklist)",
                ),
                flag(
                    "remove-all-storage",
                    "remove all associated storage volumes (use with caution)",
                ),
                flag(
                    "delete-storage-volume-snapshots",
                    "delete snapshots associated with volume(s), requires \
                 --remove-all-storage (must be supported by storage driver)",
                ),
                flag("wipe-storage", "wipe data on the removed volumes"),
                flag(
                    "snapshots-metadata",
                    "remove all domain snapshot metadata (vm must be inactive)",
                ),
                flag(
                    "checkpoints-metadata",
                    "remove all domain checkpoint metadata (vm must be inactive)",
                ),
                flag("nvram", "remove nvram file"),
                flag("keep-nvram", "keep nvram file"),
                flag("tpm", "remove TPM state"),
                flag("keep-tpm", "keep TPM state"),
            ],
        )
        .changing(),
        run: undefine,
    },
];

pub fn define(session: &mut Session, invocation: &Invocation) -> Answer {
    let file = invocation.need("file");
    let connection = session.connection_for(invocation)?;
    let failed = Failure::under(format!("Failed to define domain from {file}"));
    let xml = read_file(file)?;
    let defined = if invocation.has("validate") {
        connection.define_domain_xml_flags(&xml, DefineFlags::VALIDATE)
    } else {
        connection.define_domain_xml(&xml)
    };
    let domain = defined.map_err(failed)?;
    session.say(&format!("Domain '{}' defined from {file}\n", domain.name()));
    Ok(0)
}

pub fn create(session: &mut Session, invocation: &Invocation) -> Answer {
    let file = invocation.need("file");
    let connection = session.connection_for(invocation)?;
    let failed = Failure::under(format!("Failed to create domain from {file}"));
    let xml = read_file(file)?;
    host::vet_fds(invocation)?;
    let created = connection.create_domain_xml_flags(&xml, host::start_flags(invocation));
    let domain = created.map_err(failed)?;
    session.say(&format!("Domain '{}' created from {file}\n", domain.name()));
    Ok(0)
}

/// Forgets a domain's definition. Messages call it as it was given, as virsh does.
pub fn undefine(session: &mut Session, invocation: &Invocation) -> Answer {
    use UndefineFlags as Flags;
    for (one, other) in [
        ("nvram", "keep-nvram"),
        ("tpm", "keep-tpm"),
        ("storage", "remove-all-storage"),
    ] {
        exclusive(invocation, one, other)?;
    }
    let has = |name: &str| invocation.has(name);
    let storage = has("storage") || has("remove-all-storage");
    for option in ["wipe-storage", "delete-storage-volume-snapshots"] {
        if has(option) && !storage {
            return Err(Failure::new(format!(
                "'--{option}' requires '--storage <string>' or '--remove-all-storage'"
            )));
        }
    }
    let domain = the_domain(session, invocation)?;
    let name = invocation.need("domain");
    let storage = storage && host::vet_storage(&domain, invocation)?;
    let flags = Flags::NONE
        .with(Flags::MANAGED_SAVE, has("managed-save"))
        .with(Flags::SNAPSHOTS_METADATA, has("snapshots-metadata"))
        .with(Flags::CHECKPOINTS_METADATA, has("checkpoints-metadata"))
        .with(Flags::NVRAM, has("nvram"))
        .with(Flags::KEEP_NVRAM, has("keep-nvram"))
        .with(Flags::TPM, has("tpm"))
        .with(Flags::KEEP_TPM, has("keep-tpm"))
        .with(Flags::STORAGE, storage);
    let left_out = Flags::CHECKPOINTS_METADATA | Flags::KEEP_NVRAM | Flags::TPM | Flags::KEEP_TPM;
    let by_hand = flags != flags.without(left_out) && !flags.contains(Flags::NVRAM);
    match domain.undefine(flags) {
        Err(error) if by_hand && error.code() == ErrorCode::InvalidArg => {
            undefine_by_hand(&domain, flags, name)?;
        }
        undefined => undefined.map_err(Failure::under(format!(
            "Failed to undefine domain '{name}'"
        )))?,
    }
    session.say(&format!("Domain '{name}' has been undefined\n"));
    Ok(0)
}

/// Where the driver does not know what virsh can do without, does what virsh does by hand. An active domain keeps its
/// moments.
fn undefine_by_hand(domain: &Domain, flags: UndefineFlags, name: &str) -> Result<(), Failure> {
    use UndefineFlags as Flags;
    let count = if domain.is_active()? {
        0
    } else {
        domain.snapshot_num(SnapshotListFlags::NONE)?
    };
    if count > 0 && !flags.contains(Flags::SNAPSHOTS_METADATA) {
        return Err(Failure::new(format!(
            "Refusing to undefine while {count} snapshots exist"
        )));
    }
    if count > 0 {
        return Err(Failure::new(format!(
            "Unable to remove metadata of {count} snapshots"
        )));
    }
    let left = if flags.contains(Flags::MANAGED_SAVE) {
        Flags::MANAGED_SAVE
    } else {
        Flags::NONE
    };
    domain.undefine(left).map_err(Failure::under(format!(
        "Failed to undefine domain '{name}'"
    )))
}

/// Starts a domain. virsh does not look for an id here, as none that has one could be started.
pub fn start(session: &mut Session, invocation: &Invocation) -> Answer {
    let ways = Ways {
        id: false,
        ..Ways::ALL
    };
    let domain = the_domain_by(session, invocation, ways)?;
    if domain.is_active()? {
        return Err(Failure::new("Domain is already active"));
    }
    let name = domain.name();
    host::vet_fds(invocation)?;
    let flags = host::start_flags(invocation);
    change(session, &domain, name, "start", "started", |domain| {
        if flags == StartFlags::NONE {
            domain.start()
        } else {
            domain.start_with_flags(flags)
        }
    })
}

pub fn destroy(session: &mut Session, invocation: &Invocation) -> Answer {
    let flags = DestroyFlags::NONE
        .with(DestroyFlags::GRACEFUL, invocation.has("graceful"))
        .with(DestroyFlags::REMOVE_LOGS, invocation.has("remove-logs"));
    change_given(session, invocation, "destroy", "destroyed", |domain| {
        if flags == DestroyFlags::NONE {
            domain.destroy()
        } else {
            domain.destroy_flags(flags)
        }
    })
}

pub fn reboot(session: &mut Session, invocation: &Invocation) -> Answer {
    let flags = host::shutdown_flags(invocation)?;
    let done = "is being rebooted";
    change_given(session, invocation, "reboot", done, |domain| {
        domain.reboot(flags)
    })
}

pub fn reset(session: &mut Session, invocation: &Invocation) -> Answer {
    change_given(session, invocation, "reset", "was reset", Domain::reset)
}

/// Records whether a domain starts with its host. Messages call it as it was given, as virsh does.
pub fn autostart(session: &mut Session, invocation: &Invocation) -> Answer {
    let name = invocation.need("domain");
    let domain = the_domain(session, invocation)?;
    let on = !invocation.has("disable");
    let (failed, done) = if on {
        ("mark domain", "marked")
    } else {
        ("unmark domain", "unmarked")
    };
    let failed = Failure::under(format!("Failed to {failed} '{name}' as autostarted"));
    domain.set_autostart(on).map_err(failed)?;
    session.say(&format!("Domain '{name}' {done} as autostarted\n"));
    Ok(0)
}

pub fn rename(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    domain.rename(invocation.need("new-name"), RenameFlags::NONE)?;
    session.say("Domain successfully renamed\n");
    Ok(0)
}

pub fn suspend(session: &mut Session, invocation: &Invocation) -> Answer {
    change_given(session, invocation, "suspend", "suspended", Domain::suspend)
}

pub fn resume(session: &mut Session, invocation: &Invocation) -> Answer {
    change_given(session, invocation, "resume", "resumed", Domain::resume)
}

pub fn shutdown(session: &mut Session, invocation: &Invocation) -> Answer {
    let flags = host::shutdown_flags(invocation)?;
    let done = "is being shutdown";
    change_given(session, invocation, "shutdown", done, |domain| {
        if flags == ShutdownFlags::NONE {
            domain.shutdown()
        } else {
            domain.shutdown_flags(flags)
        }
    })
}

/// Changes the run state of a domain that messages call as it was given, by its id or uuid, too.
fn change_given(
    session: &mut Session,
    invocation: &Invocation,
    verb: &str,
    done: &str,
    act: impl Fn(&Domain) -> Result<(), Error>,
) -> Answer {
    let domain = the_domain(session, invocation)?;
    let name = invocation.need("domain");
    change(session, &domain, name, verb, done, act)
}

fn change(
    session: &mut Session,
    domain: &Domain,
    name: &str,
    verb: &str,
    done: &str,
    act: impl Fn(&Domain) -> Result<(), Error>,
) -> Answer {
    act(domain).map_err(Failure::under(format!("Failed to {verb} domain '{name}'")))?;
    session.say(&format!("Domain '{name}' {done}\n"));
    Ok(0)
}
