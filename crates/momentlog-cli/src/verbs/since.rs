//! What `backup-begin --since-last-done` copies of each disk.
//!
//! A checkpoint may be built upon if a push backup that was made with it is done, if it copied this disk, and if the disk's
//! bitmap has seen every write since. A checkpoint whose backup failed is there as well, and an incremental from it would
//! leave out what no backup has.

use std::sync::Arc;

use momentlog::core::{
    BackupDef, BackupDisk, BackupExtent, BackupMode, DomainDisk, MomentName, SourceKind,
};
use momentlog::driver::{DiskState, Reconciled};
use momentlog::xml::write_backup;
use momentlog::{Backup, Domain};

use super::moment::escape;
use crate::failure::Failure;
use crate::session::Session;

/// What was chosen for one disk.
#[derive(Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The disk.
    pub disk: Arc<str>,
    /// The checkpoint since which it is copied; `None` if all of it is.
    pub since: Option<MomentName>,
    /// Why.
    pub why: String,
    /// The file that it is copied to.
    file: String,
    /// Whether its image keeps bitmaps, as its definition has it.
    is_tracked: bool,
}

impl Chosen {
    /// What is said of it.
    pub fn in_words(&self) -> String {
        let Chosen { disk, why, .. } = self;
        match &self.since {
            Some(since) => format!("{disk}: since {since}, {why}"),
            None => format!("{disk}: all of it, {why}"),
        }
    }
}

/// Chooses for each disk of a domain that is not empty and may be written.
pub fn choose(session: &Session, domain: &Domain, to: &str) -> Result<Vec<Chosen>, Failure> {
    let found = domain.reconcile()?;
    let backups = current(session, domain, domain.backups()?);
    let view = session.connection.view();
    let def = view.state().domain(domain.uuid());
    let disks = def.iter().flat_map(|domain| &domain.def().disks);
    let mut chosen = Vec::new();
    for disk in disks.filter(|disk| !disk.empty && !disk.readonly) {
        let (since, why) = choose_of(&disk.target, &backups, &found);
        chosen.push(Chosen {
            disk: disk.target.clone(),
            since,
            why,
            file: file(to, disk)?,
            is_tracked: disk.format.as_deref() == Some("qcow2"),
        });
    }
    Ok(chosen)
}

/// The backups whose checkpoint is still the same one, the newest first.
fn current(session: &Session, domain: &Domain, backups: Vec<Backup>) -> Vec<Backup> {
    let view = session.connection.view();
    let list = view.state().domain(domain.uuid());
    let list = list.map(momentlog::core::Domain::checkpoints);
    let is_there = |backup: &Backup| {
        let id = backup.checkpoint_id;
        id.is_some_and(|id| list.is_some_and(|list| list.get(id).is_some()))
    };
    backups.into_iter().rev().filter(is_there).collect()
}

/// Chooses the checkpoint since which a disk is copied, and says why.
fn choose_of(disk: &str, backups: &[Backup], found: &Reconciled) -> (Option<MomentName>, String) {
    let copied = |backup: &&Backup| backup.disks.iter().any(|copied| copied.disk == disk);
    let mut passed_over = None;
    for backup in backups.iter().filter(copied) {
        let Some(checkpoint) = &backup.checkpoint else {
            continue;
        };
        let why = match state(found, checkpoint, disk) {
            _ if backup.pull => {
                format!("whether the pull backup of {checkpoint} was read is not known")
            }
            _ if backup.end.is_none() => format!("the backup of {checkpoint} has not ended"),
            _ if !backup.is_done() => format!("the backup of {checkpoint} failed"),
            None => format!("{checkpoint} has no bitmap of it"),
            Some(DiskState::Ok) => {
                let why = match passed_over {
                    None => "whose backup is done".to_owned(),
                    Some(newer) => format!("whose backup is done: {newer}"),
                };
                return (Some(checkpoint.clone()), why);
            }
            Some(state) => format!("the bitmap of {checkpoint} is {state}"),
        };
        passed_over.get_or_insert(why);
    }
    let why = passed_over
        .unwrap_or_else(|| "no checkpoint that is there belongs to a backup of it".to_owned());
    (None, why)
}

/// What was found of a checkpoint's bitmap on a disk; `None` if it tracks another, or none.
fn state(found: &Reconciled, checkpoint: &MomentName, disk: &str) -> Option<DiskState> {
    let finding = found
        .checkpoints
        .iter()
        .find(|finding| finding.checkpoint == *checkpoint)?;
    let disk = finding.disks.iter().find(|found| &*found.disk == disk)?;
    Some(disk.state)
}

/// The file in `to` that a disk is copied to.
fn file(to: &str, disk: &DomainDisk) -> Result<String, Failure> {
    let name = &disk.target;
    if name.contains('/') {
        let name = crate::layout::escaped(name);
        return Err(Failure::new(format!(
            "no file can be named for disk '{name}'"
        )));
    }
    super::absolute(&format!("{to}/{name}.qcow2"))
}

/// The XML of a push backup of what was chosen.
pub fn backup_xml(chosen: &[Chosen]) -> String {
    let disks = chosen.iter().map(|chosen| BackupDisk {
        kind: Some(SourceKind::File),
        extent: Some(match chosen.since {
            Some(_) => BackupExtent::Incremental,
            None => BackupExtent::Full,
        }),
        incremental: chosen.since.as_ref().map(|since| since.as_str().into()),
        format: Some("qcow2".into()),
        destination: Some(chosen.file.as_str().into()),
        ..BackupDisk::new(chosen.disk.clone(), true)
    });
    write_backup(&BackupDef {
        mode: BackupMode::Push,
        incremental: None,
        server: None,
        disks: disks.collect(),
    })
}

/// The XML of the checkpoint that is made with it: of the disks whose images keep bitmaps.
pub fn checkpoint_xml(name: &str, chosen: &[Chosen]) -> String {
    let disks = chosen.iter().map(|chosen| {
        let tracking = if chosen.is_tracked { "bitmap" } else { "no" };
        let disk = escape(&chosen.disk);
        format!("    <disk name='{disk}' checkpoint='{tracking}'/>\n")
    });
    let disks: String = disks.collect();
    let name = escape(name);
    format!(
        "<domaincheckpoint>\n  <name>{name}</name>\n  <disks>\n{disks}  </disks>\n</domaincheckpoint>\n"
    )
}
