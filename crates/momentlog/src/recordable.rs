//! What may be recorded: what can be printed, and read again as it was.

use std::sync::Arc;

use momentlog_core::{
    Action, Change, CheckpointDef, CheckpointDisk, Command, DiskTracking, Domain, DomainDef,
    DomainUuid, Event, MomentChange, MomentName, SnapshotDef, SourceKind,
};
use momentlog_engine::Decision;
use momentlog_xml::{
    Carry, CheckpointView, RecentDomain, SnapshotView, XmlError, checkpoint_fits, names_fit,
    read_checkpoint_redefine, read_domain, read_snapshot_redefine, snapshot_fits, write_checkpoint,
    write_snapshot,
};

use crate::error::{Cause, Error, ErrorCode, ErrorDomain, Result};

/// Decides a command, and refuses what would be too large to be read again.
pub(crate) fn decide(decision: &mut Decision<'_>, command: &Command) -> Result<()> {
    decide_one(decision, command).map(|_| ())
}

/// Refuses what a job of a hypervisor is to record in its end as [`decide_typed`] does, and decides nothing.
pub(crate) fn check(decision: &Decision<'_>, command: &Command) -> Result<()> {
    decide_what_reads_back(&mut Decision::on(decision.view()), command)
}

/// As [`decide`]; returns what the command causes.
fn decide_one<'d>(decision: &'d mut Decision<'_>, command: &Command) -> Result<&'d [Event]> {
    let named = match &command.action {
        Action::CreateSnapshot(create) => create.name.as_ref(),
        Action::CreateCheckpoint(create) => create.name.as_ref(),
        _ => None,
    };
    if let Some(name) = named
        && let Some(domain) = decision.state().domain(command.domain)
    {
        names_fit(name, domain.def()).map_err(too_large)?;
    }
    let events = decision.decide(command)?;
    for moment in moments(events, command) {
        let fits = match moment {
            Moment::Snapshot(name, _, def) => snapshot_fits(name, def),
            Moment::Checkpoint(name, _, def) => checkpoint_fits(name, def),
        };
        fits.map_err(too_large)?;
    }
    Ok(events)
}

/// As [`decide`], for a command that was not made of XML: what it makes must be what XML can say.
pub(crate) fn decide_typed(decision: &mut Decision<'_>, command: &Command) -> Result<()> {
    let domain = decision.view().state().domain(command.domain);
    if let Some(domain) = domain.filter(|domain| domain.attachment().is_some()) {
        refuse_effects(domain, &command.action)?;
    }
    decide_what_reads_back(decision, command)
}

/// As [`decide`]; what the command makes must be the same after it was printed and read.
fn decide_what_reads_back(decision: &mut Decision<'_>, command: &Command) -> Result<()> {
    let domain = decision.view().state().domain(command.domain);
    let events = decide_one(decision, command)?;
    match &command.action {
        Action::Define(def)
        | Action::DefineLive(def)
        | Action::CreateLive(def)
        | Action::Rename(def) => {
            is_its_xml(def, domain)?;
        }
        Action::RedefineSnapshot(redefine) => {
            let defs = [&redefine.def.domain, &redefine.def.inactive_domain];
            let mut defs = defs.into_iter().flatten();
            defs.try_for_each(|def| is_its_xml(def, domain))?;
        }
        Action::RedefineCheckpoint(redefine) => {
            let mut defs = redefine.def.domain.iter();
            defs.try_for_each(|def| is_its_xml(def, domain))?;
        }
        Action::CreateSnapshot(_) | Action::CreateCheckpoint(_) => {}
        _ => return Ok(()),
    }
    for moment in moments(events, command) {
        match moment {
            Moment::Snapshot(name, created, def) => snapshot_reads_back(name, created, def)?,
            Moment::Checkpoint(name, created, def) => checkpoint_reads_back(name, created, def)?,
        }
    }
    Ok(())
}

/// Refuses what would record a change of a hypervisor without making it: the calls of an attached domain do both.
fn refuse_effects(domain: &Domain, action: &Action) -> Result<()> {
    let has_effect = matches!(
        action,
        Action::CreateCheckpoint(_)
            | Action::CreateSnapshot(_)
            | Action::Delete { .. }
            | Action::Revert { .. }
    );
    if has_effect {
        let detail = format!(
            "domain '{}' is attached to its hypervisor: its own calls make and delete its moments",
            domain.name()
        );
        let code = ErrorCode::OperationUnsupported;
        return Err(Error::new(code, ErrorDomain::Test, detail));
    }
    Ok(())
}

/// A moment that was made or changed: its name, its time and its definition.
enum Moment<'a> {
    Snapshot(&'a MomentName, i64, &'a SnapshotDef),
    Checkpoint(&'a MomentName, i64, &'a CheckpointDef),
}

/// Returns what the events of a command have made or changed.
fn moments<'a>(events: &'a [Event], command: &'a Command) -> impl Iterator<Item = Moment<'a>> {
    // A change leaves the name as it is.
    let redefined = match &command.action {
        Action::RedefineSnapshot(redefine) => Some(&redefine.name),
        Action::RedefineCheckpoint(redefine) => Some(&redefine.name),
        _ => None,
    };
    events.iter().filter_map(move |event| match &event.change {
        Change::Snapshot(change) => {
            let (name, created, def) = made(change)?;
            Some(Moment::Snapshot(name.or(redefined)?, created, def))
        }
        Change::Checkpoint(change) => {
            let (name, created, def) = made(change)?;
            Some(Moment::Checkpoint(name.or(redefined)?, created, def))
        }
        _ => None,
    })
}

/// Returns what a change of a moment made, and its name if it was not there before.
fn made<D>(change: &MomentChange<D>) -> Option<(Option<&MomentName>, i64, &D)> {
    match change {
        MomentChange::Created {
            name, created, def, ..
        } => Some((Some(name), *created, def)),
        MomentChange::Redefined { created, def, .. } => Some((None, *created, def)),
        _ => None,
    }
}

/// Checks that a definition is what its XML says. One that the domain has was checked before.
fn is_its_xml(def: &Arc<DomainDef>, domain: Option<&Domain>) -> Result<()> {
    let known = domain.into_iter().flat_map(|domain| {
        let next = domain.next_def();
        std::iter::once(domain.def()).chain(next)
    });
    if known.into_iter().any(|known| Arc::ptr_eq(known, def)) {
        return Ok(());
    }
    let read = read_domain(&def.xml, || NO_UUID)
        .map_err(|error| unsaid("the definition has no valid XML", Some(error)))?;
    if read != **def {
        let message = "the definition is not what its XML, in canonical form, says";
        return Err(unsaid(message, None));
    }
    Ok(())
}

const NO_UUID: DomainUuid = DomainUuid::from_bytes([0; 16]);

/// A time of 0 is not printed, as in libvirt; any other stands for it.
fn printed(created: i64) -> i64 {
    if created == 0 { 1 } else { created }
}

/// Checks that a snapshot is the same after it was printed and read. Its domains are checked by themselves.
fn snapshot_reads_back(name: &MomentName, created: i64, def: &SnapshotDef) -> Result<()> {
    let mut def = SnapshotDef {
        domain: None,
        inactive_domain: None,
        ..def.clone()
    };
    let created = printed(created);
    let view = SnapshotView {
        name,
        parent: None,
        created,
        def: &def,
        domain: NO_UUID,
    };
    let dump = write_snapshot(view, true);
    let recent = RecentDomain::default();
    let read = read_snapshot_redefine(&dump, false, Carry::Everything, &recent, || NO_UUID)
        .map_err(unreadable)?;
    def.description = def.description.filter(|text| !text.is_empty());
    for disk in &mut def.disks {
        // The kind of an overlay is printed with it.
        if disk.source.is_none() && disk.driver.is_none() {
            disk.kind = SourceKind::File;
        }
    }
    same((name, created, &def), (&read.name, read.created, &read.def))
}

/// As [`snapshot_reads_back`], for a checkpoint.
fn checkpoint_reads_back(name: &MomentName, created: i64, def: &CheckpointDef) -> Result<()> {
    if is_usual(name, created, def) {
        return Ok(());
    }
    let mut def = CheckpointDef {
        domain: None,
        ..def.clone()
    };
    let created = printed(created);
    let view = CheckpointView {
        name,
        parent: None,
        created,
        def: &def,
        sizes: None,
    };
    let dump = write_checkpoint(view, false, true);
    let recent = RecentDomain::default();
    let read = read_checkpoint_redefine(&dump, &recent, || NO_UUID).map_err(unreadable)?;
    def.description = def.description.filter(|text| !text.is_empty());
    for disk in &mut def.disks {
        // A bitmap without a name is printed with that of the checkpoint.
        if let DiskTracking::Bitmap(bitmap @ None) = &mut disk.tracking {
            *bitmap = Some(name.as_str().into());
        }
    }
    same((name, created, &def), (&read.name, read.created, &read.def))
}

fn same<D: PartialEq>(given: (&MomentName, i64, &D), read: (&MomentName, i64, &D)) -> Result<()> {
    if given != read {
        let message = "the moment holds text that XML does not keep as it is";
        return Err(unsaid(message, None));
    }
    Ok(())
}

/// Whether a checkpoint is of a name, a time and disks alone, which need no reading to be known as sayable.
fn is_usual(name: &MomentName, created: i64, def: &CheckpointDef) -> bool {
    let is_usual_target = |target: &str| {
        let prefixes = ["vd", "sd", "hd"];
        let index = prefixes
            .iter()
            .find_map(|prefix| target.strip_prefix(prefix));
        index.is_some_and(|index| {
            !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_lowercase())
        })
    };
    let is_usual_disk = |disk: &CheckpointDisk| {
        let named = matches!(disk.tracking, DiskTracking::Bitmap(Some(_)));
        !named && is_usual_target(&disk.name)
    };
    created >= 0
        && def.description.is_none()
        && MomentName::is_checkpoint_name(name.as_str())
        && def.disks.iter().all(is_usual_disk)
}

fn unreadable(error: XmlError) -> Error {
    unsaid("the moment is not what XML can say", Some(error))
}

fn unsaid(message: &str, error: Option<XmlError>) -> Error {
    match error {
        None => Error::argument(ErrorDomain::Domain, message.to_owned()),
        Some(error) => {
            let message = format!("{message}: {}", error.rule);
            Error::argument(ErrorDomain::Domain, message).caused(Cause::Xml(error))
        }
    }
}

fn too_large(rule: momentlog_xml::MomentRule) -> Error {
    Error::new(ErrorCode::XmlError, ErrorDomain::Xml, rule)
}
