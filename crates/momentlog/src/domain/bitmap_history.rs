//! The bitmaps of a domain that the log tells of: which it has made and not removed, and how each was last seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use momentlog_core::{
    Change, CheckpointDef, DiskSeen, DiskState, EffectKind, Job, JobId, MomentChange, MomentId,
    Report, SettledBy,
};

use super::Domain;
use crate::driver::{Reconciled, Tracked, left_nothing};
use crate::error::Result;

/// What the records that are not archived say of bitmaps.
#[derive(Debug, Default)]
pub(super) struct BitmapHistory {
    /// Those that the log has made, or has had checkpoints of, and has not removed. One that is there though the log has
    /// removed it was made by another program since.
    pub(super) had: BTreeSet<Tracked>,
    /// What was last known of each checkpoint's bitmaps, by disk.
    known: BTreeMap<MomentId, Checkpoint>,
}

/// What was last known of a checkpoint's bitmaps.
#[derive(Debug)]
struct Checkpoint {
    /// When it was recorded, in microseconds since 1970.
    recorded: i64,
    disks: BTreeMap<Arc<str>, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    state: DiskState,
    /// When it was recorded as good, in microseconds since 1970.
    last_ok: Option<i64>,
}

impl Domain {
    /// Reads what the log says of bitmaps. O(log).
    pub(super) fn bitmap_history(&self) -> Result<BitmapHistory> {
        let mut history = BitmapHistory::default();
        let mut open: BTreeMap<JobId, Arc<Job>> = BTreeMap::new();
        for step in self.connection.history_of(self.uuid)? {
            let entry = step?.entry;
            // Bitmaps that a job has made are good when it ends.
            let mut made = Vec::new();
            let events = entry.events.into_iter();
            for event in events.filter(|event| event.domain == Some(self.uuid)) {
                match event.change {
                    Change::Checkpoint(MomentChange::Created { id, name, def, .. }) => {
                        history.had.extend(Tracked::of(&name, &def));
                        history.begin(id, entry.recorded);
                        made.push((id, def));
                    }
                    // Other bitmaps may belong to it now.
                    Change::Checkpoint(MomentChange::Redefined { id, .. }) => {
                        history.begin(id, entry.recorded);
                    }
                    Change::CheckpointSeen { id, disks } => {
                        for seen in disks {
                            history.see(id, seen.disk, seen.state, entry.recorded);
                        }
                    }
                    Change::JobBegun { id, job } => drop(open.insert(id, job)),
                    Change::JobEnded(outcome) => {
                        for (id, def) in made.drain(..) {
                            history.made(id, &def, entry.recorded);
                        }
                        let Some(job) = open.remove(&outcome.job) else {
                            continue;
                        };
                        history.had.extend(touched(&job, EffectKind::BitmapAdded));
                        if !job.deletions.is_empty() && left_nothing(&outcome.seen) {
                            for gone in touched(&job, EffectKind::BitmapRemoved) {
                                history.had.remove(&gone);
                            }
                        }
                    }
                    Change::JobFailed(outcome) => {
                        let job = open.remove(&outcome.job);
                        // What was refused was not done; what was seen later may have been.
                        if let Some(job) = job.filter(|_| outcome.settled_by == SettledBy::Later) {
                            history.had.extend(touched(&job, EffectKind::BitmapAdded));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(history)
    }

    /// Adds when each bitmap that is bad now was last known to be good.
    pub(super) fn add_last_ok(
        &self,
        history: &BitmapHistory,
        found: &mut Reconciled,
    ) -> Result<()> {
        let mut backups = None;
        for finding in &mut found.checkpoints {
            let known = history.known.get(&finding.id);
            for disk in &mut finding.disks {
                let seen = known.and_then(|known| known.disks.get(&disk.disk));
                disk.last_ok = seen.and_then(|seen| seen.last_ok);
                if disk.state == DiskState::Ok {
                    continue;
                }
                let backups = match &mut backups {
                    Some(backups) => backups,
                    None => backups.insert(self.backups()?),
                };
                // A backup is since a checkpoint by name: one before this one's record was since another of that name.
                let since_it = backups.iter().filter(|backup| {
                    known.is_some_and(|known| known.recorded <= backup.begun)
                        && backup.end.as_ref().is_some_and(|end| end.well)
                        && backup.disks.iter().any(|copied| {
                            copied.disk == *disk.disk
                                && copied.since.as_deref() == Some(finding.checkpoint.as_str())
                        })
                });
                disk.last_ok = disk.last_ok.max(since_it.map(|backup| backup.begun).max());
            }
        }
        Ok(())
    }
}

impl BitmapHistory {
    fn begin(&mut self, id: MomentId, recorded: i64) {
        let disks = BTreeMap::new();
        self.known.insert(id, Checkpoint { recorded, disks });
    }

    fn made(&mut self, id: MomentId, def: &CheckpointDef, recorded: i64) {
        for disk in def.tracked() {
            self.see(id, disk.name.clone(), DiskState::Ok, recorded);
        }
    }

    fn see(&mut self, id: MomentId, disk: Arc<str>, state: DiskState, recorded: i64) {
        // The record that made the checkpoint may be archived.
        let checkpoint = self.known.entry(id).or_insert_with(|| Checkpoint {
            recorded,
            disks: BTreeMap::new(),
        });
        let before = checkpoint.disks.get(&disk);
        let last_ok = match state {
            DiskState::Ok => Some(recorded),
            _ => before.and_then(|before| before.last_ok),
        };
        checkpoint.disks.insert(disk, Known { state, last_ok });
    }

    /// What of the findings the log does not know yet. What cannot be seen is no news.
    pub(super) fn news(&self, found: &Reconciled) -> Vec<Report> {
        let mut news = Vec::new();
        for finding in &found.checkpoints {
            let known = self.known.get(&finding.id);
            let last = |disk: &str| known.and_then(|known| known.disks.get(disk));
            let is_news = |seen: &DiskSeen| {
                seen.state != DiskState::Unknown
                    && last(&seen.disk).map(|known| known.state) != Some(seen.state)
            };
            let disks = finding.disks.iter().map(|disk| DiskSeen {
                disk: disk.disk.clone(),
                state: disk.state,
            });
            let disks: Vec<DiskSeen> = disks.filter(is_news).collect();
            if !disks.is_empty() {
                let checkpoint = finding.id;
                news.push(Report::See { checkpoint, disks });
            }
        }
        news
    }
}

/// The bitmaps that a job adds or removes; those that were there before are not added by it.
fn touched(job: &Job, kind: EffectKind) -> impl Iterator<Item = Tracked> {
    let effects = job.effects.iter();
    let ours = effects.filter(move |effect| {
        effect.kind == kind && (kind == EffectKind::BitmapRemoved || !effect.bitmap_was_there)
    });
    ours.filter_map(|effect| {
        let disk = effect.disk.clone();
        let bitmap = effect.bitmap.clone()?;
        Some(Tracked { disk, bitmap })
    })
}
