//! Verbs of checkpoints.

use momentlog::core::MomentName;
use momentlog::{
    Checkpoint, CheckpointCreateFlags, CheckpointDeleteFlags, CheckpointListFlags,
    CheckpointXmlFlags, Domain,
};

use super::moment;
use super::{read_moment_file, the_domain};
use crate::grammar::{Answer, Invocation};
use crate::layout::info as line;
use crate::session::{Failure, Session};

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
    let checkpoint = domain.checkpoint_create_xml(&xml, flags)?;
    moment::say_created(session, "checkpoint", checkpoint.name(), file)
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
        return Ok(0);
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
    moment::put_xml(session, invocation, &xml)
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
    Ok(0)
}

pub fn parent(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let checkpoint = named(&domain, invocation)?;
    let missing = || Failure::new(format!("checkpoint '{}' has no parent", checkpoint.name()));
    let parent = checkpoint.parent()?.ok_or_else(missing)?;
    session.print(&parent.name().to_string());
    Ok(0)
}

pub fn list(session: &mut Session, invocation: &Invocation) -> Answer {
    use CheckpointListFlags as Flags;
    moment::check_listing(invocation, &["leaves", "no-leaves"])?;
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
    moment::show(
        session,
        invocation,
        list,
        found,
        &["Name", "Creation Time"],
        |_| None,
    )
}
