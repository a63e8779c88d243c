//! What has become of an open job: a pure function of the job and of what is seen.

use std::sync::Arc;

use momentlog_core::{DiskEffect, EffectKind, HypervisorRun, JobKind, JobLength, OpenJob, Seen};

use super::Sight;

/// What is to be done about an open job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It has done what it was begun for. What is left to be removed is removed first.
    Ended(Seen),
    /// It has removed a part: the rest is removed, and then it has ended.
    RollForward(Vec<DiskEffect>, Seen),
    /// It has not done what it was begun for.
    Failed(Seen),
    /// Its copies have ended and are to be finished, and then it has ended.
    Finish(Seen),
    /// It goes on.
    Open,
}

/// Returns what has become of an open job. `run` is the run of the hypervisor that was seen; none if the guest is off.
///
/// In the run that was asked, the job's witness tells. In another one, what it was to make has come through the hypervisor's
/// orderly end, or is lost.
pub(crate) fn settle(open: &OpenJob, run: Option<HypervisorRun>, sight: &Sight) -> Verdict {
    let job = &*open.job;
    let same_run = run.is_some() && run == job.run;
    if job.length == JobLength::Long {
        return copies(open, same_run, sight);
    }
    if same_run {
        let witnessed = sight.witnesses.contains(&open.id)
            || copy_names(&job.effects).any(|name| sight.copies.contains_key(name));
        let seen = seen([("witness", if witnessed { "there" } else { "not there" })]);
        if witnessed {
            return Verdict::Ended(seen);
        }
        // Deletions that take several steps may have come half way.
        if !matches!(
            job.kind,
            JobKind::DeleteCheckpoint | JobKind::DeleteSnapshot | JobKind::Repair
        ) {
            return Verdict::Failed(seen);
        }
    }
    match job.kind {
        JobKind::CreateCheckpoint => {
            let added: Vec<&DiskEffect> = of(&job.effects, EffectKind::BitmapAdded).collect();
            let sound =
                |effect: &&DiskEffect| !effect.bitmap_was_there && word(effect, sight) == "ok";
            let all = !added.is_empty() && added.iter().all(sound);
            let seen = bitmaps(added.into_iter(), sight);
            if all {
                Verdict::Ended(seen)
            } else {
                Verdict::Failed(seen)
            }
        }
        JobKind::DeleteCheckpoint | JobKind::Repair => {
            let removed: Vec<&DiskEffect> = of(&job.effects, EffectKind::BitmapRemoved).collect();
            let left: Vec<DiskEffect> = removed
                .iter()
                .filter(|effect| word(effect, sight) != "gone")
                .map(|effect| (*effect).clone())
                .collect();
            let count = removed.len();
            let seen = bitmaps(removed.into_iter(), sight);
            if left.len() == count {
                Verdict::Failed(seen)
            } else if left.is_empty() {
                Verdict::Ended(seen)
            } else {
                Verdict::RollForward(left, seen)
            }
        }
        JobKind::CreateSnapshot => overlays(&job.effects, EffectKind::OverlayAdded, sight),
        JobKind::DeleteSnapshot => overlays(&job.effects, EffectKind::OverlayMerged, sight),
        JobKind::Backup => {
            let added: Vec<&DiskEffect> = of(&job.effects, EffectKind::BitmapAdded).collect();
            // The copies died with the hypervisor; its checkpoint may have come through.
            let seen = bitmaps(added.into_iter(), sight);
            Verdict::Failed(seen)
        }
    }
}

/// What has become of overlays that were to be added, or merged: all are, or the job has failed. Each that is merged is
/// passed over when it is tried once more.
fn overlays(effects: &[DiskEffect], kind: EffectKind, sight: &Sight) -> Verdict {
    let overlays: Vec<&DiskEffect> = of(effects, kind).collect();
    let is_there = |effect: &DiskEffect| {
        let file = match kind {
            EffectKind::OverlayAdded => effect.file.as_deref(),
            _ => Some(&*effect.image),
        };
        let layers = sight.disk(&effect.disk);
        let layers = layers.map_or(&[][..], |disk| &disk.layers);
        file.is_some_and(|file| layers.iter().any(|layer| layer.is(file)))
    };
    let is_done = |effect: &&DiskEffect| is_there(effect) == (kind == EffectKind::OverlayAdded);
    let pairs = overlays.iter().map(|effect| {
        let found = if is_there(effect) {
            "has the overlay"
        } else {
            "has no overlay"
        };
        (&*effect.disk, found)
    });
    let seen = seen(pairs);
    if !overlays.is_empty() && overlays.iter().all(is_done) {
        Verdict::Ended(seen)
    } else {
        Verdict::Failed(seen)
    }
}

/// What has become of the copies of a long job.
fn copies(open: &OpenJob, same_run: bool, sight: &Sight) -> Verdict {
    if !same_run {
        return Verdict::Failed(seen([("copies", "gone with the hypervisor's run")]));
    }
    let mut pairs = Vec::new();
    let mut failed = false;
    let mut running = false;
    for name in copy_names(&open.job.effects) {
        let found: Arc<str> = match sight.copies.get(name) {
            None => "gone".into(),
            Some(copy) if !copy.ended => {
                running = true;
                continue;
            }
            Some(copy) => match &copy.error {
                None => "copied".into(),
                Some(error) => error.clone(),
            },
        };
        failed |= &*found != "copied";
        pairs.push((name.clone(), found));
    }
    let seen = Seen::new(pairs).unwrap_or_default();
    match (failed, running) {
        (true, _) => Verdict::Failed(seen),
        (false, true) => Verdict::Open,
        (false, false) => Verdict::Finish(seen),
    }
}

/// The names of a job's copies.
pub(crate) fn copy_names(effects: &[DiskEffect]) -> impl Iterator<Item = &Arc<str>> {
    of(effects, EffectKind::Copied).filter_map(|effect| effect.bitmap.as_ref())
}

fn of(effects: &[DiskEffect], kind: EffectKind) -> impl Iterator<Item = &DiskEffect> {
    effects.iter().filter(move |effect| effect.kind == kind)
}

/// What is there of an effect's bitmap, in a word.
fn word(effect: &DiskEffect, sight: &Sight) -> &'static str {
    let layers = sight
        .disk(&effect.disk)
        .map_or(&[][..], |disk| &disk.layers);
    let layer = layers.iter().find(|layer| layer.is(&effect.image));
    let name = effect.bitmap.as_deref().unwrap_or_default();
    match layer.and_then(|layer| layer.bitmap(name)) {
        None => "gone",
        Some(bitmap) if bitmap.inconsistent => "inconsistent",
        Some(bitmap) if !bitmap.recording => "stopped",
        Some(bitmap) if !bitmap.persistent => "temporary",
        Some(_) => "ok",
    }
}

fn bitmaps<'a>(effects: impl Iterator<Item = &'a DiskEffect>, sight: &Sight) -> Seen {
    let pairs = effects.map(|effect| {
        let name = effect.bitmap.as_deref().unwrap_or_default();
        let thing = format!("{} {name}", effect.disk);
        (thing.into(), word(effect, sight).into())
    });
    Seen::new(pairs.take(Seen::COUNT_MAX).collect()).unwrap_or_default()
}

fn seen<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Seen {
    let pairs = pairs
        .into_iter()
        .map(|(thing, found)| (thing.into(), found.into()));
    Seen::new(pairs.take(Seen::COUNT_MAX).collect()).unwrap_or_default()
}
