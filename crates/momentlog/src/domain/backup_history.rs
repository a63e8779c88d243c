//! The backups of a domain that the log tells of.

use std::sync::{Arc, PoisonError};

use momentlog_core::{
    BackupMode, Change, EffectKind, Job, JobId, JobKind, JobLength, JobOutcome, MomentChange,
    MomentId, MomentName,
};
use momentlog_engine::Entry;
use momentlog_xml::read_backup;

use super::Domain;
use crate::driver::{BYTES, COPIED, read_bytes};
use crate::error::Result;

/// A backup, from the record in which its copies began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its job.
    pub job: JobId,
    /// The checkpoint that was made at the same instant; `None` if none was.
    pub checkpoint: Option<MomentName>,
    /// The id of that checkpoint, which no other checkpoint of this name has.
    pub checkpoint_id: Option<MomentId>,
    /// The request id under which it was begun, if it was under one.
    pub request_id: Option<Arc<str>>,
    /// Whether clients read the data, rather than the hypervisor writing it.
    pub pull: bool,
    /// Its XML, as it was begun.
    pub document: String,
    /// The disks that are copied, with the file of each, and the checkpoint since which it is copied, if it is.
    pub disks: Vec<BackedUp>,
    /// When its copies began, in microseconds since 1970.
    pub begun: i64,
    /// How it has ended; `None` while it goes on.
    pub end: Option<BackupEnd>,
}

/// One disk of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// The disk.
    pub disk: String,
    /// The file that it is copied to; of a pull backup, the scratch space.
    pub file: String,
    /// The checkpoint since which it is copied; `None` if all of it is.
    pub since: Option<String>,
}

/// How a backup has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupEnd {
    /// Whether it has done what it was begun for: a push backup has copied all, and its targets are closed and synced.
    pub well: bool,
    /// What was seen of it, for people, each thing once. Of one that failed, why it did.
    pub seen: String,
    /// Bytes that were copied, and bytes in all, over all disks; `None` if that was not seen.
    pub bytes: Option<(u64, u64)>,
    /// When that was recorded, in microseconds since 1970.
    pub recorded: i64,
}

impl Backup {
    /// Whether everything it was to copy is copied and safe. A pull backup never says so: the client knows.
    pub fn is_done(&self) -> bool {
        !self.pull && self.end.as_ref().is_some_and(|end| end.well)
    }
}

impl Domain {
    /// The backups of the domain whose records are not archived, the oldest first. O(log).
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`](crate::ErrorCode::SystemError) if the log cannot be read.
    pub fn backups(&self) -> Result<Vec<Backup>> {
        let mut backups: Vec<Backup> = Vec::new();
        // Of the call that began a backup: its copies go on in a job that another record begins.
        let mut request_id = None;
        for step in self.connection().history_of(self.uuid())? {
            let entry = step?.entry;
            for event in &entry.events {
                match &event.change {
                    Change::JobBegun { job, .. } if job.length == JobLength::Short => {
                        request_id.clone_from(&entry.request_id);
                    }
                    Change::JobBegun { id, job } => {
                        let backup = begun(*id, job, &entry);
                        let request_id = request_id.clone();
                        backups.extend(backup.map(|backup| Backup {
                            request_id,
                            ..backup
                        }));
                    }
                    Change::JobEnded(outcome) => end(&mut backups, outcome, true, &entry),
                    Change::JobFailed(outcome) => end(&mut backups, outcome, false, &entry),
                    _ => {}
                }
            }
        }
        Ok(backups)
    }

    /// When a backup began, in microseconds since 1970; `None` if its record is archived. It is asked for again and again while
    /// the backup goes on, so the history is read once.
    pub(super) fn begin_of(&self, job: JobId) -> Result<Option<i64>> {
        let recent = &self.connection().recent_backup;
        let known = *recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, begun)) = known
            && known == job
        {
            return Ok(Some(begun));
        }
        let backups = self.backups()?;
        let found = backups.iter().find(|backup| backup.job == job);
        let found = found.map(|backup| (job, backup.begun));
        *recent.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(found.map(|(_, begun)| begun))
    }
}

/// Whether a job is a pull backup.
pub(super) fn is_pull(job: &Job) -> bool {
    let def = job.document.as_deref().map(read_backup);
    matches!(def, Some(Ok(def)) if def.mode == BackupMode::Pull)
}

fn begun(id: JobId, job: &Job, entry: &Entry) -> Option<Backup> {
    if (job.kind, job.length) != (JobKind::Backup, JobLength::Long) {
        return None;
    }
    let document = job.document.as_deref().unwrap_or_default();
    let def = read_backup(document).ok();
    let copied = job
        .effects
        .iter()
        .filter(|effect| effect.kind == EffectKind::Copied);
    let disks = copied.map(|effect| {
        let disks = def.iter().flat_map(|def| &def.disks);
        let since = disks.into_iter().find(|disk| disk.name == effect.disk);
        let since = since.and_then(|disk| disk.incremental.as_deref());
        BackedUp {
            disk: effect.disk.to_string(),
            file: effect.file.as_deref().unwrap_or_default().to_owned(),
            since: since.map(str::to_owned),
        }
    });
    let made = entry.events.iter().find_map(|event| match &event.change {
        Change::Checkpoint(MomentChange::Created { id, name, .. }) => Some((*id, name.clone())),
        _ => None,
    });
    let (checkpoint_id, checkpoint) = made.unzip();
    Some(Backup {
        job: id,
        checkpoint,
        checkpoint_id,
        request_id: None,
        pull: is_pull(job),
        document: document.to_owned(),
        disks: disks.collect(),
        begun: entry.recorded,
        end: None,
    })
}

fn end(backups: &mut [Backup], outcome: &JobOutcome, well: bool, entry: &Entry) {
    if let Some(backup) = backups.iter_mut().find(|backup| backup.job == outcome.job) {
        let pairs = outcome.seen.pairs().iter();
        let bytes = pairs.clone().find(|(thing, _)| &**thing == BYTES);
        let mut seen: Vec<&str> = Vec::new();
        for (_, found) in pairs.filter(|(thing, _)| &**thing != BYTES) {
            if (well || &**found != COPIED) && !seen.contains(&&**found) {
                seen.push(found);
            }
        }
        backup.end = Some(BackupEnd {
            well,
            seen: seen.join(", "),
            bytes: bytes.and_then(|(_, found)| read_bytes(found)),
            recorded: entry.recorded,
        });
    }
}
