//! Verbs of snapshots.

use momentlog::core::{MomentKind, MomentName, SnapshotDef, SnapshotState};
use momentlog::{
    Domain, ErrorCode, RevertFlags, Snapshot, SnapshotCreateFlags, SnapshotDeleteFlags,
    SnapshotListFlags, SnapshotXmlFlags,
};

use super::{Verb, moment};
use super::{exclusive, read_moment_file, the_domain};
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec, flag, needed, only_named, word, words};
use crate::layout::info as line;
use crate::session::Session;

/// The verbs of snapshots.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "snapshot-create",
            "make a snapshot, or put one back, from an XML file",
            &[
                needed("domain", "domain name, id or uuid"),
                word("xmlfile", "domain snapshot XML"),
                flag("redefine", "redefine metadata for existing snapshot"),
                flag("current", "with redefine, set current snapshot"),
                flag("no-metadata", "take snapshot but create no metadata"),
                flag("halt", "halt domain after snapshot is created"),
                flag("disk-only", "capture disk state but not vm state"),
                flag("reuse-external", "reuse any existing external files"),
                flag("quiesce", "quiesce guest's file systems"),
                flag("atomic", "require atomic operation"),
                flag("live", "take a live snapshot"),
                flag("validate", "validate the XML against the schema"),
            ],
        )
        .changing(),
        run: create,
    },
    Verb {
        spec: Spec::new(
            "snapshot-create-as",
            "make a snapshot from options",
            &[
                needed("domain", "domain name, id or uuid"),
                word("name", "name of snapshot"),
                word("description", "description of snapshot"),
                flag("print-xml", "print XML document rather than create"),
                flag("no-metadata", "take snapshot but create no metadata"),
                flag("halt", "halt domain after snapshot is created"),
                flag("disk-only", "capture disk state but not vm state"),
                flag("reuse-external", "reuse any existing external files"),
                flag("quiesce", "quiesce guest's file systems"),
                flag("atomic", "require atomic operation"),
                flag("live", "take a live snapshot"),
                flag("validate", "validate the XML against the schema"),
                only_named("memspec", "memory attributes: [file=]name[,snapshot=type]"),
                words(
                    "diskspec",
                    "disk attributes: disk[,snapshot=type][,driver=type][,stype=type][,file=name]",
                ),
            ],
        )
        .changing(),
        run: create_as,
    },
    Verb {
        spec: Spec::new(
            "snapshot-current",
            "show which snapshot is current, or choose another",
            &[
                needed("domain", "domain name, id or uuid"),
                flag("name", "list the name, rather than the full xml"),
                flag(
                    "security-info",
                    "include security sensitive information in XML dump",
                ),
                word("snapshotname", "name of existing snapshot to make current"),
            ],
        )
        .changing()
        .or_reading(),
        run: current,
    },
    Verb {
        spec: Spec::new(
            "snapshot-delete",
            "delete a snapshot, what is below it, or both",
            &[
                needed("domain", "domain name, id or uuid"),
                word("snapshotname", "snapshot name"),
                flag("current", "delete current snapshot"),
                flag("children", "delete snapshot and all children"),
                flag("children-only", "delete children but not snapshot"),
                flag(
                    "metadata",
                    "delete only libvirt metadata, leaving snapshot contents behind",
                ),
            ],
        )
        .changing(),
        run: delete,
    },
    Verb {
        spec: Spec::new(
            "snapshot-dumpxml",
            "show a snapshot's XML",
            &[
                needed("domain", "domain name, id or uuid"),
                needed("snapshotname", "snapshot name"),
                flag(
                    "security-info",
                    "include security sensitive information in XML dump",
                ),
                only_named(
                    "output",
                    "write the XML to this file; with secrets, only its owner may read it",
                ),
            ],
        ),
        run: dumpxml,
    },
    Verb {
        spec: Spec::new(
            "snapshot-info",
            "show a snapshot's state and place in the tree",
            &[
                needed("domain", "domain name, id or uuid"),
                word("snapshotname", "snapshot name"),
                flag("current", "info on current snapshot"),
            ],
        ),
        run: info,
    },
    Verb {
        spec: Spec::new(
            "snapshot-list",
            "list a domain's snapshots, as a table, names or a tree",
            &[
                needed("domain", "domain name, id or uuid"),
                flag("parent", "add a column showing parent snapshot"),
                flag("roots", "list only snapshots without parents"),
                flag("leaves", "list only snapshots without children"),
                flag(
                    "no-leaves",
                    "list only snapshots that are not leaves (with children)",
                ),
                flag(
                    "metadata",
                    "list only snapshots that have metadata that would prevent undefine",
                ),
                flag(
                    "no-metadata",
                    "list only snapshots that have no metadata managed by libvirt",
                ),
                flag("inactive", "filter by snapshots taken while inactive"),
                flag(
                    "active",
                    "filter by snapshots taken while active (full system snapshots)",
                ),
                flag("disk-only", "filter by disk-only snapshots"),
                flag("internal", "filter by internal snapshots"),
                flag("external", "filter by external snapshots"),
                flag("tree", "list snapshots in a tree"),
                word("from", "limit list to children of given snapshot"),
                flag("current", "limit list to children of current snapshot"),
                flag("descendants", "with --from, list all descendants"),
                flag("name", "list snapshot names only"),
                flag("topological", "sort list topologically rather than by name"),
            ],
        ),
        run: list,
    },
    Verb {
        spec: Spec::new(
            "snapshot-parent",
            "show which snapshot one hangs below",
            &[
                needed("domain", "domain name, id or uuid"),
                word("snapshotname", "find parent of snapshot name"),
                flag("current", "find parent of current snapshot"),
            ],
        ),
        run: parent,
    },
    Verb {
        spec: Spec::new(
            "snapshot-revert",
            "go back to a snapshot",
            &[
                needed("domain", "domain name, id or uuid"),
                word("snapshotname", "snapshot name"),
                flag("current", "revert to current snapshot"),
                flag("running", "after reverting, change state to running"),
                flag("paused", "after reverting, change state to paused"),
                flag("force", "try harder on risky reverts"),
                flag(
                    "reset-nvram",
                    "re-initialize NVRAM from its pristine template",
                ),
            ],
        )
        .changing(),
        run: revert,
    },
];

/// The flags that create and create-as share.
fn create_flags(invocation: &Invocation) -> SnapshotCreateFlags {
    use SnapshotCreateFlags as Flags;
    Flags::NONE
        .with(Flags::NO_METADATA, invocation.has("no-metadata"))
        .with(Flags::HALT, invocation.has("halt"))
        .with(Flags::DISK_ONLY, invocation.has("disk-only"))
        .with(Flags::REUSE_EXT, invocation.has("reuse-external"))
        .with(Flags::QUIESCE, invocation.has("quiesce"))
        .with(Flags::ATOMIC, invocation.has("atomic"))
        .with(Flags::LIVE, invocation.has("live"))
        .with(Flags::VALIDATE, invocation.has("validate"))
}

pub fn create(session: &mut Session, invocation: &Invocation) -> Answer {
    use SnapshotCreateFlags as Flags;
    let domain = the_domain(session, invocation)?;
    let file = invocation.get("xmlfile");
    let xml = file.map_or_else(|| Ok("<domainsnapshot/>".to_owned()), read_moment_file)?;
    let flags = create_flags(invocation)
        .with(Flags::REDEFINE, invocation.has("redefine"))
        .with(Flags::CURRENT, invocation.has("current"));
    let snapshot = create_and_halt(&domain, &xml, flags)?;
    moment::say_created(session, "snapshot", snapshot.name(), file)
}

pub fn create_as(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let mut xml = "<domainsnapshot>\n".to_owned();
    for (element, option) in [("name", "name"), ("description", "description")] {
        if let Some(text) = invocation.get(option) {
            xml += &format!("  <{element}>{}</{element}>\n", moment::escape(text));
        }
    }
    if let Some(spec) = invocation.get("memspec") {
        xml += &memory(spec)
            .ok_or_else(|| Failure::new(format!("unable to parse memspec: {spec}")))?;
    }
    if !invocation.all("diskspec").is_empty() {
        xml += "  <disks>\n";
        for spec in invocation.all("diskspec") {
            xml += &disk(spec)?;
        }
        xml += "  </disks>\n";
    }
    xml += "</domainsnapshot>\n";
    if invocation.has("print-xml") {
        session.print(&format!("{xml}\n"));
        let document = moment::xml_doc(session, &domain, MomentKind::Snapshot, None, &xml);
        session.document(&document);
        return Ok(0);
    }
    let snapshot = create_and_halt(&domain, &xml, create_flags(invocation))?;
    moment::say_created(session, "snapshot", snapshot.name(), None)
}

/// Makes a snapshot; where the library takes no HALT, does by hand what it means, as virsh was seen to do.
fn create_and_halt(
    domain: &Domain,
    xml: &str,
    flags: SnapshotCreateFlags,
) -> Result<Snapshot, Failure> {
    use SnapshotCreateFlags as Flags;
    match domain.snapshot_create_xml(xml, flags) {
        Err(error) if error.code() == ErrorCode::InvalidArg && flags.contains(Flags::HALT) => {
            if !domain.is_persistent()? {
                return Err(Failure::new(
                    "cannot halt after snapshot of transient domain",
                ));
            }
            let active = domain.is_active()?;
            let snapshot = domain.snapshot_create_xml(xml, flags.without(Flags::HALT))?;
            if active {
                domain.destroy()?;
            }
            Ok(snapshot)
        }
        created => Ok(created?),
    }
}

/// Returns the element for `[file=]NAME[,snapshot=TYPE]`.
fn memory(spec: &str) -> Option<String> {
    let mut parts = moment::split_spec(spec);
    if parts[0].starts_with('/') {
        parts[0] = format!("file={}", parts[0]);
    }
    let keys = moment::parse_spec(&parts, &["file", "snapshot"])?;
    let mut xml = "  <memory".to_owned();
    for key in ["snapshot", "file"] {
        if let Some(value) = keys.get(key) {
            xml += &format!(" {key}='{}'", moment::escape(value));
        }
    }
    Some(xml + "/>\n")
}

/// Returns the element for `NAME[,snapshot=T][,driver=T][,stype=file|block][,file=PATH]`.
fn disk(spec: &str) -> Result<String, Failure> {
    let unparsed = || format!("unable to parse diskspec: {spec}");
    let parts = moment::split_spec(spec);
    let keys = moment::parse_spec(&parts[1..], &["snapshot", "driver", "stype", "file"]);
    let keys = keys.ok_or_else(|| Failure::new(unparsed()))?;
    let mut xml = format!("    <disk name='{}'", moment::escape(&parts[0]));
    if let Some(location) = keys.get("snapshot") {
        xml += &format!(" snapshot='{}'", moment::escape(location));
    }
    let source = match keys.get("stype") {
        None => "file",
        Some(&"file") => {
            xml += " type='file'";
            "file"
        }
        Some(&"block") => {
            xml += " type='block'";
            "dev"
        }
        Some(other) => {
            return Err(Failure::new(format!("Unknown storage type: '{other}'")).and(unparsed()));
        }
    };
    if !keys.contains_key("driver") && !keys.contains_key("file") {
        return Ok(xml + "/>\n");
    }
    xml += ">\n";
    if let Some(driver) = keys.get("driver") {
        xml += &format!("      <driver type='{}'/>\n", moment::escape(driver));
    }
    if let Some(file) = keys.get("file") {
        xml += &format!("      <source {source}='{}'/>\n", moment::escape(file));
    }
    Ok(xml + "    </disk>\n")
}

/// Returns the snapshot that a command names, by name or as the current one.
fn named(domain: &Domain, invocation: &Invocation, option: &str) -> Result<Snapshot, Failure> {
    match (invocation.get(option), invocation.has("current")) {
        (Some(_), true) => Err(Failure::new(format!(
            "--{option} and --current are mutually exclusive"
        ))),
        (None, false) => Err(Failure::new(format!("--{option} or --current is required"))),
        (Some(name), false) => Ok(domain.snapshot_lookup_by_name(name)?),
        (None, true) => Ok(domain.snapshot_current()?),
    }
}

pub fn current(session: &mut Session, invocation: &Invocation) -> Answer {
    exclusive(invocation, "name", "snapshotname")?;
    let domain = the_domain(session, invocation)?;
    if let Some(name) = invocation.get("snapshotname") {
        let snapshot = domain.snapshot_lookup_by_name(name)?;
        let xml = snapshot.xml_desc(SnapshotXmlFlags::SECURE)?;
        let disk_only = with_def(&domain, snapshot.name(), |def| {
            def.state == SnapshotState::DiskSnapshot
        });
        let flags = (SnapshotCreateFlags::REDEFINE | SnapshotCreateFlags::CURRENT)
            .with(SnapshotCreateFlags::DISK_ONLY, disk_only == Some(true));
        domain.snapshot_create_xml(&xml, flags)?;
        session.say(&format!("Snapshot {name} set as current"));
        return Ok(0);
    }
    if !domain.has_current_snapshot()? {
        return Err(Failure::new(format!(
            "domain '{}' has no current snapshot",
            domain.name()
        )));
    }
    let snapshot = domain.snapshot_current()?;
    if invocation.has("name") {
        session.print(&snapshot.name().to_string());
        document(session, &domain, [snapshot.name()]);
    } else {
        let flags =
            SnapshotXmlFlags::NONE.with(SnapshotXmlFlags::SECURE, invocation.has("security-info"));
        let xml = snapshot.xml_desc(flags)?;
        session.print(&xml);
        let name = Some(snapshot.name().as_str());
        let document = moment::xml_doc(session, &domain, MomentKind::Snapshot, name, &xml);
        session.document(&document);
    }
    Ok(0)
}

/// Reads something of a snapshot's definition.
fn with_def<T>(
    domain: &Domain,
    name: &MomentName,
    read: impl FnOnce(&SnapshotDef) -> T,
) -> Option<T> {
    let view = domain.connection().view();
    let moment = view
        .state()
        .domain(domain.uuid())?
        .snapshots()
        .find(name.as_str())?;
    Some(read(moment.def))
}

pub fn delete(session: &mut Session, invocation: &Invocation) -> Answer {
    use SnapshotDeleteFlags as Flags;
    let domain = the_domain(session, invocation)?;
    let snapshot = named(&domain, invocation, "snapshotname")?;
    let children_only = invocation.has("children-only");
    let flags = Flags::NONE
        .with(Flags::CHILDREN, invocation.has("children"))
        .with(Flags::CHILDREN_ONLY, children_only)
        .with(Flags::METADATA_ONLY, invocation.has("metadata"));
    let name = snapshot.name();
    snapshot
        .delete(flags)
        .map_err(Failure::under(format!("Failed to delete snapshot {name}")))?;
    let children = if children_only { "children " } else { "" };
    session.say(&format!("Domain snapshot {name} {children}deleted\n"));
    Ok(0)
}

pub fn dumpxml(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let snapshot = domain.snapshot_lookup_by_name(invocation.need("snapshotname"))?;
    let flags =
        SnapshotXmlFlags::NONE.with(SnapshotXmlFlags::SECURE, invocation.has("security-info"));
    let xml = snapshot.xml_desc(flags)?;
    let name = Some(snapshot.name().as_str());
    let document = moment::xml_doc(session, &domain, MomentKind::Snapshot, name, &xml);
    moment::put_xml(session, invocation, &xml, document)
}

pub fn info(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let snapshot = named(&domain, invocation, "snapshotname")?;
    let yes = |is: bool| if is { "yes" } else { "no" };
    let parent = snapshot
        .parent()?
        .map_or("-".to_owned(), |parent| parent.name().to_string());
    let state = with_def(&domain, snapshot.name(), |def| {
        (def.state.as_str(), def.is_external())
    });
    let (state, external) = state.unwrap_or_default();
    let view = session.connection.view();
    let list = view
        .state()
        .domain(domain.uuid())
        .map(momentlog::core::Domain::snapshots);
    let (children, descendants) = list.map_or((0, 0), |list| moment::counts(list, snapshot.name()));
    let text = [
        line("Name", snapshot.name()),
        line("Domain", domain.name()),
        line("Current", yes(snapshot.is_current()?)),
        line("State", state),
        line("Location", if external { "external" } else { "internal" }),
        line("Parent", parent),
        line("Children", children),
        line("Descendants", descendants),
        line("Metadata", yes(snapshot.has_metadata()?)),
    ];
    session.print(&text.concat());
    document(session, &domain, [snapshot.name()]);
    Ok(0)
}

/// Adds the document of some snapshots.
fn document<'a>(
    session: &mut Session,
    domain: &Domain,
    names: impl IntoIterator<Item = &'a MomentName>,
) {
    let backups = std::collections::HashMap::new();
    moment::document(session, domain, MomentKind::Snapshot, names, &backups);
}

pub fn parent(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let snapshot = named(&domain, invocation, "snapshotname")?;
    let missing = || Failure::new(format!("snapshot '{}' has no parent", snapshot.name()));
    let parent = snapshot.parent()?.ok_or_else(missing)?;
    session.print(&parent.name().to_string());
    document(session, &domain, [parent.name()]);
    Ok(0)
}

pub fn revert(session: &mut Session, invocation: &Invocation) -> Answer {
    use RevertFlags as Flags;
    let domain = the_domain(session, invocation)?;
    let snapshot = named(&domain, invocation, "snapshotname")?;
    let flags = Flags::NONE
        .with(Flags::RUNNING, invocation.has("running"))
        .with(Flags::PAUSED, invocation.has("paused"))
        .with(Flags::RESET_NVRAM, invocation.has("reset-nvram"));
    let name = snapshot.name();
    let reverted = match snapshot.revert(flags) {
        Err(error) if invocation.has("force") && error.code() == ErrorCode::SnapshotRevertRisky => {
            snapshot.revert(flags | Flags::FORCE)
        }
        reverted => reverted,
    };
    reverted.map_err(Failure::under(format!("Failed to revert snapshot {name}")))?;
    session.say(&format!("Domain snapshot {name} reverted\n"));
    Ok(0)
}

pub fn list(session: &mut Session, invocation: &Invocation) -> Answer {
    use SnapshotListFlags as Flags;
    let filters = [
        "leaves",
        "no-leaves",
        "inactive",
        "active",
        "disk-only",
        "internal",
        "external",
    ];
    moment::check_listing(invocation, &filters)?;
    let has = |name: &str| invocation.has(name);
    if has("descendants") && !has("from") && !has("current") {
        return Err(Failure::new(
            "--descendants requires either --from or --current",
        ));
    }
    let domain = the_domain(session, invocation)?;
    let flags = Flags::NONE
        .with(Flags::ROOTS, has("roots"))
        .with(Flags::DESCENDANTS, has("descendants"))
        .with(Flags::METADATA, has("metadata"))
        .with(Flags::NO_METADATA, has("no-metadata"))
        .with(Flags::LEAVES, has("leaves"))
        .with(Flags::NO_LEAVES, has("no-leaves"))
        .with(Flags::INACTIVE, has("inactive"))
        .with(Flags::ACTIVE, has("active"))
        .with(Flags::DISK_ONLY, has("disk-only"))
        .with(Flags::INTERNAL, has("internal"))
        .with(Flags::EXTERNAL, has("external"))
        .with(Flags::TOPOLOGICAL, has("topological"));
    let mut found: Vec<MomentName> = Vec::new();
    let snapshots = if has("from") || has("current") {
        let from = named(&domain, invocation, "from")?;
        found.extend(has("tree").then(|| from.name().clone()));
        from.list_all_children(flags)?
    } else {
        domain.list_all_snapshots(flags)?
    };
    found.extend(snapshots.iter().map(|snapshot| snapshot.name().clone()));
    let view = session.connection.view();
    let Some(list) = view
        .state()
        .domain(domain.uuid())
        .map(momentlog::core::Domain::snapshots)
    else {
        return Ok(0);
    };
    moment::put_in_order(invocation, &mut found);
    document(session, &domain, &found);
    moment::show(
        session,
        invocation,
        list,
        found,
        &["Name", "Creation Time", "State"],
        |snapshot| Some(snapshot.def.state.as_str()),
    )
}
