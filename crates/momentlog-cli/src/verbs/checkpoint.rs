//! Verbs of checkpoints.

use momentlog::core::{MomentId, MomentKind, MomentName};
use momentlog::{
    Checkpoint, CheckpointCreateFlags, CheckpointDeleteFlags, CheckpointListFlags,
    CheckpointXmlFlags, Domain,
};

use momentlog_audit::json::DomainDoc;
use serde::Serialize;

use super::{Verb, backup, exclusive, moment};
use super::{read_moment_file, the_domain};
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec, flag, needed, only_named, word, words};
use crate::layout::info as line;
use crate::session::Session;

const PLAN_HELP: &str = "show what it would do to an attached guest's images, and do nothing";

/// The verbs of checkpoints.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "checkpoint-create",
            "make a checkpoint, or put one back, from an XML file",
            &[
                needed("domain", "domain name, id or uuid"),
                word("xmlfile", "domain checkpoint XML"),
                flag("redefine", "redefine metadata for existing checkpoint"),
                flag("redefine-validate", "validate the redefined checkpoint"),
                flag("quiesce", "quiesce guest's file systems"),
                flag("plan", PLAN_HELP),
            ],
        )
        .changing(),
        run: create,
    },
    Verb {
        spec: Spec::new(
            "checkpoint-create-as",
            "make a checkpoint from options",
            &[
                needed("domain", "domain name, id or uuid"),
                word("name", "name of checkpoint"),
                word("description", "description of checkpoint"),
                flag("print-xml", "print XML document rather than create"),
                flag("quiesce", "quiesce guest's file systems"),
                words(
                    "diskspec",
                    "disk attributes: disk[,checkpoint=type][,bitmap=name]",
                ),
                flag("plan", PLAN_HELP),
            ],
        )
        .changing(),
        run: create_as,
    },
    Verb {
        spec: Spec::new(
            "checkpoint-delete",
            "delete a checkpoint, what is below it, or both",
            &[
                needed("domain", "domain name, id or uuid"),
                word("checkpointname", "checkpoint name"),
                flag("children", "delete checkpoint and all children"),
                flag("children-only", "delete children but not checkpoint"),
                flag(
                    "metadata",
                    "delete only libvirt metadata, leaving checkpoint contents behind",
                ),
            ],
        )
        .changing(),
        run: delete,
    },
    Verb {
        spec: Spec::new(
            "checkpoint-dumpxml",
            "show a checkpoint's XML",
            &[
                needed("domain", "domain name, id or uuid"),
                word("checkpointname", "checkpoint name"),
                flag(
                    "security-info",
                    "include security sensitive information in XML dump",
                ),
                flag("no-domain", "exclude <domain> from XML"),
                flag("size", "include backup size estimate in XML dump"),
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
            "checkpoint-info",
            "show a checkpoint's place in the tree",
            &[
                needed("domain", "domain name, id or uuid"),
                word("checkpointname", "checkpoint name"),
            ],
        ),
        run: info,
    },
    Verb {
        spec: Spec::new(
            "checkpoint-list",
            "list a domain's checkpoints, as a table, names or a tree",
            &[
                needed("domain", "domain name, id or uuid"),
                flag("parent", "add a column showing parent checkpoint"),
                flag("roots", "list only checkpoints without parents"),
                flag("leaves", "list only checkpoints without children"),
                flag(
                    "no-leaves",
                    "list only checkpoints that are not leaves (with children)",
                ),
                flag("tree", "list checkpoints in a tree"),
                word("from", "limit list to children of given checkpoint"),
                flag("descendants", "with --from, list all descendants"),
                flag("name", "list checkpoint names only"),
                flag("topological", "sort list topologically rather than by name"),
                flag(
                    "backups",
                    "add a column showing what became of the backup made with each checkpoint",
                ),
            ],
        ),
        run: list,
    },
    Verb {
        spec: Spec::new(
            "checkpoint-parent",
            "show which checkpoint one hangs below",
            &[
                needed("domain", "domain name, id or uuid"),
                word("checkpointname", "find parent of checkpoint name"),
            ],
        ),
        run: parent,
    },
];

pub fn create(session: &mut Session, invocation: &Invocation) -> Answer {
    use CheckpointCreateFlags as Flags;
    if invocation.has("redefine-validate") && !invocation.has("redefine") {
        return Err(Failure::new(
            "Option --redefine is required by option --redefine-validate",
        ));
    }
    let domain = the_domain(session, invocation)?;
    let file = invocation.get("xmlfile");
    let xml = file.map_or_else(|| Ok("<domaincheckpoint/>".to_owned()), read_moment_file)?;
    let flags = Flags::NONE
        .with(Flags::REDEFINE, invocation.has("redefine"))
        .with(
            Flags::REDEFINE_VALIDATE,
            invocation.has("redefine-validate"),
        )
        .with(Flags::QUIESCE, invocation.has("quiesce"));
    if invocation.has("plan") {
        return plan(session, &domain, &xml);
    }
    let checkpoint = domain.checkpoint_create_xml(&xml, flags)?;
    moment::say_created(session, "checkpoint", checkpoint.name(), file)
}

/// What making a checkpoint would do to images.
#[derive(Debug, Serialize)]
struct EffectsDoc<'a> {
    schema: &'static str,
    domain: DomainDoc,
    effects: Vec<EffectDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct EffectDoc<'a> {
    disk: &'a str,
    image: &'a str,
    bitmap: Option<&'a str>,
}

/// Says what making a checkpoint would do to the images of an attached guest.
fn plan(session: &mut Session, domain: &Domain, xml: &str) -> Answer {
    let effects = domain.checkpoint_plan(xml)?;
    session.document(&EffectsDoc {
        schema: "momentlog.effects/1",
        domain: super::domain_doc(domain),
        effects: effects
            .iter()
            .map(|effect| EffectDoc {
                disk: &effect.disk,
                image: &effect.image,
                bitmap: effect.bitmap.as_deref(),
            })
            .collect(),
    });
    for effect in &effects {
        let bitmap = effect.bitmap.as_deref().unwrap_or_default();
        session.print(&format!(
            "{}: bitmap {bitmap} on {}\n",
            effect.disk, effect.image
        ));
    }
    if effects.is_empty() {
        session.print("no image is changed\n");
    }
    Ok(0)
}

pub fn create_as(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let mut xml = "<domaincheckpoint>\n".to_owned();
    for (element, option) in [("name", "name"), ("description", "description")] {
        if let Some(text) = invocation.get(option) {
            xml += &format!("  <{element}>{}</{element}>\n", moment::escape(text));
        }
    }
    if !invocation.all("diskspec").is_empty() {
        xml += "  <disks>\n";
        for spec in invocation.all("diskspec") {
            let parts = moment::split_spec(spec);
            let keys = moment::parse_spec(&parts[1..], &["checkpoint", "bitmap"]);
            let keys =
                keys.ok_or_else(|| Failure::new(format!("unable to parse diskspec: {spec}")))?;
            xml += &format!("    <disk name='{}'", moment::escape(&parts[0]));
            for key in ["checkpoint", "bitmap"] {
                if let Some(value) = keys.get(key) {
                    xml += &format!(" {key}='{}'", moment::escape(value));
                }
            }
            xml += "/>\n";
        }
        xml += "  </disks>\n";
    }
    xml += "</domaincheckpoint>\n";
    if invocation.has("print-xml") {
        session.print(&format!("{xml}\n"));
        let document = moment::xml_doc(session, &domain, MomentKind::Checkpoint, None, &xml);
        session.document(&document);
        return Ok(0);
    }
    if invocation.has("plan") {
        return plan(session, &domain, &xml);
    }
    let flags =
        CheckpointCreateFlags::NONE.with(CheckpointCreateFlags::QUIESCE, invocation.has("quiesce"));
    let checkpoint = domain.checkpoint_create_xml(&xml, flags)?;
    moment::say_created(session, "checkpoint", checkpoint.name(), None)
}

/// Returns the checkpoint that a command names.
pub fn named(domain: &Domain, invocation: &Invocation) -> Result<Checkpoint, Failure> {
    let name = invocation
        .get("checkpointname")
        .ok_or_else(|| Failure::new("--checkpointname is required"))?;
    Ok(domain.checkpoint_lookup_by_name(name)?)
}

pub fn delete(session: &mut Session, invocation: &Invocation) -> Answer {
    use CheckpointDeleteFlags as Flags;
    let domain = the_domain(session, invocation)?;
    let checkpoint = named(&domain, invocation)?;
    let children_only = invocation.has("children-only");
    let flags = Flags::NONE
        .with(Flags::CHILDREN, invocation.has("children"))
        .with(Flags::CHILDREN_ONLY, children_only)
        .with(Flags::METADATA_ONLY, invocation.has("metadata"));
    let name = checkpoint.name();
    checkpoint.delete(flags).map_err(Failure::under(format!(
        "Failed to delete checkpoint {name}"
    )))?;
    let children = if children_only { "children " } else { "" };
    session.say(&format!("Domain checkpoint {name} {children}deleted\n"));
    Ok(0)
}

pub fn dumpxml(session: &mut Session, invocation: &Invocation) -> Answer {
    use CheckpointXmlFlags as Flags;
    let domain = the_domain(session, invocation)?;
    let checkpoint = named(&domain, invocation)?;
    let flags = Flags::NONE
        .with(Flags::SECURE, invocation.has("security-info"))
        .with(Flags::NO_DOMAIN, invocation.has("no-domain"))
        .with(Flags::SIZE, invocation.has("size"));
    let xml = checkpoint.xml_desc(flags)?;
    let name = Some(checkpoint.name().as_str());
    let document = moment::xml_doc(session, &domain, MomentKind::Checkpoint, name, &xml);
    moment::put_xml(session, invocation, &xml, document)
}

pub fn info(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let checkpoint = named(&domain, invocation)?;
    let parent = checkpoint
        .parent()?
        .map_or("-".to_owned(), |parent| parent.name().to_string());
    let view = session.connection.view();
    let list = view
        .state()
        .domain(domain.uuid())
        .map(momentlog::core::Domain::checkpoints);
    let (children, descendants) =
        list.map_or((0, 0), |list| moment::counts(list, checkpoint.name()));
    let text = [
        line("Name", checkpoint.name()),
        line("Domain", domain.name()),
        line("Parent", parent),
        line("Children", children),
        line("Descendants", descendants),
    ];
    session.print(&text.concat());
    document(session, &domain, [checkpoint.name()]);
    Ok(0)
}

/// Adds the document of some checkpoints.
fn document<'a>(
    session: &mut Session,
    domain: &Domain,
    names: impl IntoIterator<Item = &'a MomentName>,
) {
    let backups = std::collections::HashMap::new();
    moment::document(session, domain, MomentKind::Checkpoint, names, &backups);
}

pub fn parent(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let checkpoint = named(&domain, invocation)?;
    let missing = || Failure::new(format!("checkpoint '{}' has no parent", checkpoint.name()));
    let parent = checkpoint.parent()?.ok_or_else(missing)?;
    session.print(&parent.name().to_string());
    document(session, &domain, [parent.name()]);
    Ok(0)
}

pub fn list(session: &mut Session, invocation: &Invocation) -> Answer {
    use CheckpointListFlags as Flags;
    moment::check_listing(invocation, &["leaves", "no-leaves"])?;
    exclusive(invocation, "backups", "tree")?;
    exclusive(invocation, "backups", "name")?;
    let has = |name: &str| invocation.has(name);
    if has("descendants") && !has("from") {
        return Err(Failure::new("--descendants requires --from"));
    }
    let domain = the_domain(session, invocation)?;
    let flags = Flags::NONE
        .with(Flags::ROOTS, has("roots"))
        .with(Flags::DESCENDANTS, has("descendants"))
        .with(Flags::LEAVES, has("leaves"))
        .with(Flags::NO_LEAVES, has("no-leaves"))
        .with(Flags::TOPOLOGICAL, has("topological"));
    let mut found: Vec<MomentName> = Vec::new();
    let checkpoints = match invocation.get("from") {
        None => domain.list_all_checkpoints(flags)?,
        Some(from) => {
            let from = domain.checkpoint_lookup_by_name(from)?;
            found.extend(has("tree").then(|| from.name().clone()));
            from.list_all_children(flags)?
        }
    };
    found.extend(
        checkpoints
            .iter()
            .map(|checkpoint| checkpoint.name().clone()),
    );
    let view = session.connection.view();
    let Some(list) = view
        .state()
        .domain(domain.uuid())
        .map(momentlog::core::Domain::checkpoints)
    else {
        return Ok(0);
    };
    let backups = if invocation.has("backups") {
        Some(backup::words(&domain)?)
    } else {
        None
    };
    let word = |id: MomentId| {
        let words = backups.as_ref()?;
        Some(words.get(&id).copied().unwrap_or("-"))
    };
    moment::put_in_order(invocation, &mut found);
    let words = backups.clone().unwrap_or_default();
    moment::document(session, &domain, MomentKind::Checkpoint, &found, &words);
    let header = ["Name", "Creation Time", "Backup"];
    let header = &header[..2 + usize::from(backups.is_some())];
    moment::show(session, invocation, list, found, header, |checkpoint| {
        word(checkpoint.id)
    })
}
