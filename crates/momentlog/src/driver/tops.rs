//! Which images the disks of a guest write to, as the log knows it: a fold over what has happened.
//!
//! A domain's definition names the images that its guest was started with first. After an external snapshot these lie below.

use std::collections::BTreeMap;
use std::sync::Arc;

use momentlog_core::{Change, DiskLocation, Domain, DomainDef, EffectKind, Job, JobId, Scope};

/// The qcow2 images that the log knows disks to have written to, by the disk's target.
///
/// Where a disk has more than one, the newest that is there, and has the image of the definition in its chain, is on top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tops {
    /// The images, the newest last.
    pub known: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// The overlay of a snapshot whose job is open. What it holds says whether the guest has written to it.
    pub doubtful: BTreeMap<Arc<str>, Arc<str>>,
}

/// What is known of the disks at one place of the history.
#[derive(Debug, Default)]
pub(crate) struct TopsOfLog {
    tops: Tops,
    sources: BTreeMap<Arc<str>, Option<Arc<str>>>,
    open: BTreeMap<JobId, Arc<Job>>,
}

impl TopsOfLog {
    /// What is known without the history, of which a part may be archived.
    pub(crate) fn recorded(domain: &Domain) -> TopsOfLog {
        let mut tops = TopsOfLog::default();
        let list = domain.snapshots();
        let mut snapshots: Vec<_> = list.walk(Scope::All).collect();
        snapshots.sort_unstable_by_key(|moment| moment.id);
        for disk in snapshots.iter().flat_map(|moment| &moment.def.disks) {
            if let (Some(DiskLocation::External), Some(file)) = (disk.location, &disk.source) {
                tops.put(&disk.name, file);
            }
        }
        for open in domain.jobs().iter() {
            tops.begin(open.id, &open.job);
        }
        tops
    }

    /// Adds what happened next to the domain.
    pub(crate) fn note(&mut self, change: &Change) {
        match change {
            Change::DomainDefined { def, .. } => self.define(def),
            Change::DomainRemoved => *self = TopsOfLog::default(),
            Change::JobBegun { id, job } => self.begin(*id, job),
            Change::JobEnded(outcome) => {
                let job = self.close(outcome.job);
                for effect in job.iter().flat_map(|job| &job.effects) {
                    match (effect.kind, &effect.file) {
                        (EffectKind::OverlayAdded, Some(file)) => self.put(&effect.disk, file),
                        (EffectKind::OverlayMerged, _) => self.take(&effect.disk, &effect.image),
                        _ => {}
                    }
                }
            }
            Change::JobFailed(outcome) => drop(self.close(outcome.job)),
            _ => {}
        }
    }

    fn begin(&mut self, id: JobId, job: &Arc<Job>) {
        for effect in &job.effects {
            match (effect.kind, &effect.file) {
                // It was planned for the image that was seen on top.
                (EffectKind::BitmapAdded, _) => self.put(&effect.disk, &effect.image),
                (EffectKind::OverlayAdded, Some(file)) => {
                    let doubtful = &mut self.tops.doubtful;
                    doubtful.insert(effect.disk.clone(), file.clone());
                }
                _ => {}
            }
        }
        self.open.insert(id, job.clone());
    }

    /// What is known in the end.
    pub(crate) fn tops(self) -> Tops {
        self.tops
    }

    /// Takes note of a definition. One with another image for a disk says what that writes to from now on.
    fn define(&mut self, def: &DomainDef) {
        for disk in &def.disks {
            let before = self
                .sources
                .insert(disk.target.clone(), disk.source.clone());
            if before.is_some_and(|before| before != disk.source) {
                self.tops.known.remove(&disk.target);
            }
        }
    }

    fn close(&mut self, id: JobId) -> Option<Arc<Job>> {
        let job = self.open.remove(&id)?;
        for effect in &job.effects {
            if effect.kind == EffectKind::OverlayAdded {
                self.tops.doubtful.remove(&effect.disk);
            }
        }
        Some(job)
    }

    fn put(&mut self, disk: &Arc<str>, image: &Arc<str>) {
        self.take(disk, image);
        let known = self.tops.known.entry(disk.clone()).or_default();
        known.push(image.clone());
    }

    fn take(&mut self, disk: &Arc<str>, image: &Arc<str>) {
        if let Some(known) = self.tops.known.get_mut(disk) {
            known.retain(|known| known != image);
        }
    }
}
