//! What has become of an open job: a pure function of the job and of what is seen.

use std::sync::Arc;

use momentlog_core::{
    DiskEffect, EffectKind, HypervisorRun, Job, JobKind, JobLength, OpenJob, Seen,
};

use super::{Copy, Sight};

/// What was seen of a copy that has ended without error.
pub(crate) const COPIED: &str = "copied";

/// What was seen of a job by the process that began it.
pub(crate) const DONE: &str = "done";

/// The name under which a record says how far all copies of a job are together.
pub(crate) const BYTES: &str = "bytes";

/// Says how many bytes were copied, and how many there are in all; `None` if no copy was seen.
pub(crate) fn seen_bytes<'a>(
    copies: impl Iterator<Item = &'a Copy>,
) -> Option<(Arc<str>, Arc<str>)> {
    let progress = copies.map(|copy| copy.progress);
    let (done, total) = progress.reduce(add_progress)?;
    Some((BYTES.into(), format!("{done} of {total}").into()))
}

/// Whether what was seen of a job that has removed bitmaps says that none of them is left.
pub(crate) fn left_nothing(seen: &Seen) -> bool {
    let mut words = seen.pairs().iter().map(|(_, found)| &**found);
    words.all(|found| [DONE, "there", "gone"].contains(&found))
}

/// What is said of a bitmap of a disk that cannot be seen.
const UNSEEN: &str = "disk not there";

/// Adds what two copies say of themselves, which is not trusted to be small.
pub(crate) fn add_progress(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0.saturating_add(other.0), one.1.saturating_add(other.1))
}

/// Reads what [`seen_bytes`] says.
pub(crate) fn read_bytes(found: &str) -> Option<(u64, u64)> {
    let (done, total) = found.split_once(" of ")?;
    Some((done.parse().ok()?, total.parse().ok()?))
}

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
/// In the run that was asked, the job's witness tells; if it is unknown which run this is, the witness tells that as well. In
/// another one, what it was to make has come through the hypervisor's orderly end, or is lost.
pub(crate) fn settle(open: &OpenJob, run: Option<HypervisorRun>, sight: &Sight) -> Verdict {
    let job = &*open.job;
    let same_run = run.is_some() && run == job.run;
    let may_be_same = run.zip(job.run).is_none_or(|(seen, asked)| seen == asked);
    if job.length == JobLength::Long {
        return copies(
            open,
            same_run || may_be_same && has_copies(job, sight),
            sight,
        );
    }
    let has_witness = sight.witnesses.contains(&open.id) || has_copies(job, sight);
    if may_be_same && has_witness && job.kind != JobKind::DeleteSnapshot {
        return Verdict::Ended(seen([("witness", "there")]));
    }
    if same_run {
        let seen = seen([("witness", "not there")]);
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
                .filter(|effect| !["gone", UNSEEN].contains(&word(effect, sight)))
                .map(|effect| (*effect).clone())
                .collect();
            // Of a disk that is not there, it is not said that its bitmap is gone.
            let none_is_gone = removed.iter().all(|effect| word(effect, sight) != "gone");
            let seen = bitmaps(removed.into_iter(), sight);
            // Removing bitmaps from images is the same whoever does it, also if the process that began it goes on.
            let is_of_images = job.kind == JobKind::Repair && job.run.is_none();
            if none_is_gone && (left.is_empty() || !is_of_images) {
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
        // Whoever forwards calls settles them: it knows what the program lists that was called.
        JobKind::Forward => Verdict::Open,
    }
}

/// What has become of overlays that were to be added, or merged: all are, or the job has failed. Each that is merged is
/// passed over when it is tried once more.
///
/// Overlays are added together. If the guest is off, one that holds something says that they were.
fn overlays(effects: &[DiskEffect], kind: EffectKind, sight: &Sight) -> Verdict {
    let overlays: Vec<&DiskEffect> = of(effects, kind).collect();
    let layer = |effect: &DiskEffect| {
        let file = match kind {
            EffectKind::OverlayAdded => effect.file.as_deref()?,
            _ => &*effect.image,
        };
        let mut layers = sight.disk(&effect.disk)?.layers.iter();
        layers.find(|layer| layer.is(file))
    };
    let is_seen = |effect: &DiskEffect| {
        let disk = sight.disk(&effect.disk);
        disk.is_some_and(|disk| !disk.layers.is_empty())
    };
    let is_done = |effect: &&DiskEffect| {
        is_seen(effect) && layer(effect).is_some() == (kind == EffectKind::OverlayAdded)
    };
    let pairs = overlays.iter().map(|effect| {
        let found: Arc<str> = match layer(effect) {
            Some(layer) if layer.empty => format!("has the empty overlay {}", layer.image).into(),
            Some(_) => "has the overlay".into(),
            None => "has no overlay".into(),
        };
        (effect.disk.clone(), found)
    });
    let seen = Seen::new(pairs.take(Seen::COUNT_MAX).collect()).unwrap_or_default();
    let all_empty = overlays
        .iter()
        .all(|effect| layer(effect).is_some_and(|layer| layer.empty));
    if !overlays.is_empty() && overlays.iter().all(is_done) && !all_empty {
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
                None => COPIED.into(),
                Some(error) => error.clone(),
            },
        };
        failed |= &*found != COPIED;
        pairs.push((name.clone(), found));
    }
    let copies = copy_names(&open.job.effects).filter_map(|name| sight.copies.get(name));
    pairs.extend(seen_bytes(copies));
    let seen = Seen::new(pairs).unwrap_or_default();
    match (failed, running) {
        (true, _) => Verdict::Failed(seen),
        (false, true) => Verdict::Open,
        (false, false) => Verdict::Finish(seen),
    }
}

/// Whether one of a job's copies is there, which ends with the run of the hypervisor that it was begun in.
fn has_copies(job: &Job, sight: &Sight) -> bool {
    copy_names(&job.effects).any(|name| sight.copies.contains_key(name))
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
    if layers.is_empty() {
        return UNSEEN;
    }
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
