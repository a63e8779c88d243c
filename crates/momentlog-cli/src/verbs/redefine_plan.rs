//! The verb `redefine-plan`: files and a script that give another libvirt a domain's moments.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use momentlog::core::{DomainUuid, MomentKind, MomentName};
use momentlog::{Domain, DomainXmlFlags, RedefinePlan, RedefineStep, Redefinition};
use momentlog_audit::json::{DomainDoc, RedefinitionDoc, RedefinitionsDoc};

use super::why::kind_of;
use super::{Verb, the_domain};
use crate::failure::{Answer, Failure, note, reason};
use crate::grammar::{Invocation, Spec, flag, needed, only_named};
use crate::layout::escaped;
use crate::session::Session;

/// The file of commands in the directory.
const SCRIPT: &str = "redefine.virsh";

/// The verb.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "redefine-plan",
        "write what gives another libvirt a domain's snapshots or checkpoints: their XML and a script of virsh",
        &[
            needed("domain", "domain name, id or uuid"),
            needed(
                "out",
                "directory to write to, which has no files in it; made if it is not there",
            ),
            only_named(
                "kind",
                "snapshot or checkpoint; by default the one that the domain has",
            ),
            flag(
                "security-info",
                "include passwords; the files are their owner's",
            ),
        ],
    ),
    run: redefine_plan,
}];

pub fn redefine_plan(session: &mut Session, invocation: &Invocation) -> Answer {
    let kind = kind_of(invocation)?;
    let domain = the_domain(session, invocation)?;
    let secure = invocation.has("security-info");
    let flags = if secure {
        DomainXmlFlags::SECURE
    } else {
        DomainXmlFlags::NONE
    };
    let plan = match kind {
        Some(kind) => domain.redefine_plan(kind, flags)?,
        None => the_plan(&domain, flags)?,
    };
    let out = invocation.need("out");
    let written = write(&domain, &plan, out, secure)?;
    for name in plan.erased() {
        let name = escaped(name.as_str());
        note(&format!(
            "the domain of snapshot {name} was erased, and libvirt takes no snapshot without it"
        ));
    }
    let (count, shown) = (written.numbers.len(), escaped(out));
    session.say(&format!(
        "{count} files of XML and {SCRIPT} written to {shown}\n"
    ));
    let mut document = written.document;
    let head = session.connection.view().head();
    document.as_of = head.map(|head| head.seq.get());
    session.document(&document);
    Ok(0)
}

/// The plan for the kind of moments that the domain has.
fn the_plan(domain: &Domain, flags: DomainXmlFlags) -> Result<RedefinePlan, Failure> {
    let checkpoints = domain.redefine_plan(MomentKind::Checkpoint, flags)?;
    let snapshots = domain.redefine_plan(MomentKind::Snapshot, flags)?;
    match (checkpoints.steps().is_empty(), snapshots.steps().is_empty()) {
        (false, true) => Ok(checkpoints),
        (true, false) => Ok(snapshots),
        (true, true) => Err(Failure::new(format!(
            "domain '{}' has no snapshot and no checkpoint",
            escaped(domain.name())
        ))),
        (false, false) => Err(Failure::new(
            "the domain has checkpoints and snapshots: choose with --kind",
        )),
    }
}

/// The words of the command that redefines a moment, whose XML is in a file.
pub fn words(domain: DomainUuid, redefinition: &Redefinition, file: &str) -> Vec<String> {
    let mut words = vec![
        format!("{}-create", redefinition.kind.as_str()),
        format!("--domain={domain}"),
        format!("--xmlfile={file}"),
        "--redefine".to_owned(),
    ];
    if redefinition.current {
        words.push("--current".to_owned());
    }
    words
}

/// What was written to the directory.
struct Written {
    /// The number of the file of each moment.
    numbers: HashMap<MomentName, usize>,
    script: String,
    document: RedefinitionsDoc,
}

/// Writes the files of a plan to a directory without files, one after another.
fn write(
    domain: &Domain,
    plan: &RedefinePlan,
    out: &str,
    secret: bool,
) -> Result<Written, Failure> {
    let failed = |error: std::io::Error| {
        let (out, why) = (escaped(out), reason(&error));
        Failure::new(format!("cannot write to directory '{out}': {why}"))
    };
    std::fs::create_dir_all(out).map_err(failed)?;
    if std::fs::read_dir(out).map_err(failed)?.next().is_some() {
        let out = escaped(out);
        return Err(Failure::new(format!(
            "directory '{out}' has files in it, and the plan needs one of its own"
        )));
    }
    let put = |name: &str, text: &str| {
        super::moment::write_file(&Path::new(out).join(name), text, secret).map_err(failed)
    };
    let mut written = Written::of_no_step(domain, plan, out);
    for step in plan.steps() {
        let redefinition = plan.redefinition(*step);
        if let Some(file) = written.step(domain.uuid(), plan, *step, &redefinition) {
            put(&file, &redefinition.xml)?;
        }
    }
    let (kind, uuid) = (plan.kind(), domain.uuid());
    let _ = writeln!(written.script, "{kind}-list --domain={uuid} --tree");
    put(SCRIPT, &written.script)?;
    Ok(written)
}

impl Written {
    fn of_no_step(domain: &Domain, plan: &RedefinePlan, out: &str) -> Written {
        let kind = plan.kind().as_str();
        let name = Some(domain.name());
        let mut document = RedefinitionsDoc::new(DomainDoc::of(domain.uuid(), name), kind, SCRIPT);
        out.clone_into(&mut document.directory);
        document.current = plan.current().map(MomentName::to_string);
        document.erased = plan.erased().iter().map(MomentName::to_string).collect();
        Written {
            numbers: HashMap::new(),
            script: format!(
                "# The {kind}s of domain {}, for a libvirt that has the domain and none of them:\n\
                 #   virsh -c URI < {SCRIPT}\n",
                escaped(domain.name())
            ),
            document,
        }
    }

    /// Adds a step. Returns the name of the file of its XML, if that is not written yet.
    fn step(
        &mut self,
        domain: DomainUuid,
        plan: &RedefinePlan,
        step: RedefineStep,
        redefinition: &Redefinition,
    ) -> Option<String> {
        let kind = plan.kind().as_str();
        let name = &redefinition.moment;
        let digits = plan.steps().len().to_string().len();
        let next = self.numbers.len() + 1;
        let number = *self.numbers.entry(name.clone()).or_insert(next);
        let file = format!("{number:0digits$}.xml");
        let (what, comment, words) = match step {
            RedefineStep::Redefine(_) => (
                "redefine",
                place(redefinition),
                words(domain, redefinition, &file),
            ),
            RedefineStep::Placeholder => (
                "placeholder",
                "none of the log's: it is current until it is deleted at the end".to_owned(),
                words(domain, redefinition, &file),
            ),
            RedefineStep::DeletePlaceholder => (
                "delete_placeholder",
                "its parent is current now".to_owned(),
                vec![
                    format!("{kind}-delete"),
                    format!("--domain={domain}"),
                    format!("--{kind}name={name}"),
                    "--metadata".to_owned(),
                ],
            ),
        };
        let _ = writeln!(self.script, "# {comment}\n{}", words.join(" "));
        let deletes = step == RedefineStep::DeletePlaceholder;
        let parent = redefinition.parent.as_ref().filter(|_| !deletes);
        self.document.steps.push(RedefinitionDoc {
            what,
            name: name.to_string(),
            parent: parent.map(MomentName::to_string),
            current: redefinition.current,
            file: (!deletes).then(|| file.clone()),
        });
        (number == next).then_some(file)
    }
}

/// Where a moment is put, as a comment.
fn place(redefinition: &Redefinition) -> String {
    let name = escaped(redefinition.moment.as_str());
    match &redefinition.parent {
        Some(parent) => format!("{name} below {}", escaped(parent.as_str())),
        None => format!("{name}, a root"),
    }
}
