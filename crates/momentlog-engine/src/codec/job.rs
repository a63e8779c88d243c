//! Bodies of jobs, attachments, holds and settings, in version 1.

use momentlog_core::{
    Attachment, Change, CheckpointDef, Deletion, DiskEffect, DiskSeen, DiskState, EffectKind,
    FileToMake, Hold, HoldTag, HypervisorRun, IdRuns, Job, JobId, JobKind, JobLength, JobOutcome,
    MomentId, MomentName, MomentToMake, Seen, Settings, SettledBy, SnapshotDef,
};
use momentlog_store::Seq;
use serde::{Deserialize, Serialize};

use super::body::{self, StoredPolicy, TextRef, decode_body};
use super::encode::Encoder;
use super::{DecodeError, Dictionary};

/// The body of a begun job, also in an image.
#[derive(Serialize, Deserialize)]
pub(crate) struct JobBegun<'a> {
    job: u64,
    kind: u16,
    length: u8,
    call: u16,
    flags: u32,
    document: Option<TextRef>,
    run: Option<StoredRun>,
    #[serde(borrow)]
    effects: Vec<StoredEffect<'a>>,
    #[serde(borrow)]
    files: Vec<(&'a str, &'a str)>,
    deletions: Vec<StoredDeletion>,
    #[serde(borrow)]
    snapshots: Vec<StoredMoment<'a, body::Snapshot<'a>>>,
    #[serde(borrow)]
    checkpoints: Vec<StoredMoment<'a, body::Checkpoint<'a>>>,
}

#[derive(Serialize, Deserialize)]
struct StoredRun {
    pid: u32,
    start: u64,
    boot: [u8; 16],
}

#[derive(Serialize, Deserialize)]
struct StoredEffect<'a> {
    disk: &'a str,
    kind: u8,
    image: &'a str,
    node: &'a str,
    bitmap: Option<&'a str>,
    bitmap_was_there: bool,
    file: Option<&'a str>,
}

/// Moments to be deleted: the moment, the extent, and all ids as runs.
type StoredDeletion = (u64, u8, Vec<(u64, u64)>);

/// A moment to be made: parent and name, and then as in a record that makes one.
#[derive(Serialize, Deserialize)]
struct StoredMoment<'a, D> {
    parent: u64,
    current: bool,
    name: &'a str,
    created: i64,
    def: D,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StoredOutcome<'a> {
    job: u64,
    settled_by: u8,
    agent: TextRef,
    #[serde(borrow)]
    seen: Vec<(&'a str, &'a str)>,
}

/// The body of an attachment, also in an image.
#[derive(Serialize, Deserialize)]
pub(crate) struct Attached<'a> {
    driver: &'a str,
    socket: &'a str,
    look_only: bool,
}

impl<'a> Attached<'a> {
    pub(crate) fn of(attachment: &'a Attachment) -> Attached<'a> {
        Attached {
            driver: &attachment.driver,
            socket: &attachment.socket,
            look_only: attachment.look_only,
        }
    }

    pub(crate) fn into_attachment(self) -> Result<Attachment, DecodeError> {
        let attachment = Attachment {
            driver: self.driver.into(),
            socket: self.socket.into(),
            look_only: self.look_only,
        };
        if attachment.is_recordable() {
            Ok(attachment)
        } else {
            Err(DecodeError::Body("attachment"))
        }
    }
}

pub(crate) fn decode_attached(body: &[u8]) -> Result<Attachment, DecodeError> {
    decode_body::<Attached<'_>>(body, "attachment")?.into_attachment()
}

/// The body of a hold, also in an image.
#[derive(Serialize, Deserialize)]
pub(crate) struct HoldAdded<'a> {
    tag: &'a str,
    since: i64,
    by: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StoredSettings {
    policy: StoredPolicy,
    request_window_s: u32,
}

impl<'a> JobBegun<'a> {
    /// The domains in the definitions of its moments, in the order in which they are read.
    pub(crate) fn domains(self) -> impl Iterator<Item = body::Domain<'a>> {
        let snapshots = self.snapshots.into_iter();
        let snapshots = snapshots.flat_map(|made| [made.def.domain, made.def.inactive_domain]);
        let checkpoints = self.checkpoints.into_iter().map(|made| made.def.domain);
        snapshots.chain(checkpoints).flatten()
    }
}

impl Encoder<'_> {
    pub(crate) fn job<'d>(&mut self, id: JobId, job: &'d Job) -> JobBegun<'d> {
        let effect = |effect: &'d DiskEffect| StoredEffect {
            disk: &effect.disk,
            kind: effect.kind.number(),
            image: &effect.image,
            node: &effect.node,
            bitmap: effect.bitmap.as_deref(),
            bitmap_was_there: effect.bitmap_was_there,
            file: effect.file.as_deref(),
        };
        let deletion = |deletion: &Deletion| {
            let removed = body::runs_of(&deletion.removed);
            (deletion.id.get(), body::extent_of(deletion.extent), removed)
        };
        JobBegun {
            job: id.get(),
            kind: job.kind.number(),
            length: job.length.number(),
            call: job.call,
            flags: job.flags,
            document: job.document.as_ref().map(|text| self.text(text)),
            run: job
                .run
                .map(|HypervisorRun { pid, start, boot }| StoredRun { pid, start, boot }),
            effects: job.effects.iter().map(effect).collect(),
            files: job
                .files
                .iter()
                .map(|file| (&*file.disk, &*file.path))
                .collect(),
            deletions: job.deletions.iter().map(deletion).collect(),
            snapshots: job
                .snapshots
                .iter()
                .map(|moment| stored_moment(moment, self.snapshot(&moment.def)))
                .collect(),
            checkpoints: job
                .checkpoints
                .iter()
                .map(|moment| stored_moment(moment, self.checkpoint(&moment.def)))
                .collect(),
        }
    }

    pub(crate) fn outcome<'d>(&mut self, outcome: &'d JobOutcome) -> StoredOutcome<'d> {
        StoredOutcome {
            job: outcome.job.get(),
            settled_by: outcome.settled_by.number(),
            agent: self.text(&outcome.agent),
            seen: outcome
                .seen
                .pairs()
                .iter()
                .map(|(thing, found)| (&**thing, &**found))
                .collect(),
        }
    }
}

fn stored_moment<D, S>(moment: &MomentToMake<D>, def: S) -> StoredMoment<'_, S> {
    StoredMoment {
        parent: moment.parent.map_or(0, MomentId::get),
        current: moment.current,
        name: moment.name.as_str(),
        created: moment.created,
        def,
    }
}

impl Dictionary {
    pub(crate) fn job(
        &mut self,
        seq: Seq,
        stored: JobBegun<'_>,
    ) -> Result<(JobId, Job), DecodeError> {
        let snapshots = stored.snapshots.into_iter();
        let snapshots =
            snapshots.map(|moment| moment_to_make(moment, |def| self.snapshot(seq, def)));
        let snapshots: Vec<MomentToMake<SnapshotDef>> = snapshots.collect::<Result<_, _>>()?;
        let checkpoints = stored.checkpoints.into_iter();
        let checkpoints =
            checkpoints.map(|moment| moment_to_make(moment, |def| self.checkpoint(seq, def)));
        let checkpoints: Vec<MomentToMake<CheckpointDef>> =
            checkpoints.collect::<Result<_, _>>()?;
        let document = stored.document.map(|place| self.text(seq, place));
        let effects = stored.effects.iter().map(effect);
        let file = |(disk, path): (&str, &str)| FileToMake {
            disk: disk.into(),
            path: path.into(),
        };
        let deletions = stored.deletions.into_iter().map(deletion);
        let job = Job {
            kind: JobKind::from_number(stored.kind).ok_or(DecodeError::Word {
                what: "kind of job",
                value: stored.kind.into(),
            })?,
            length: JobLength::from_number(stored.length).ok_or(DecodeError::Word {
                what: "length of a job",
                value: stored.length.into(),
            })?,
            call: stored.call,
            flags: stored.flags,
            document: document.transpose()?,
            snapshots,
            checkpoints,
            deletions: deletions.collect::<Result<_, _>>()?,
            effects: effects.collect::<Result<_, _>>()?,
            files: stored.files.into_iter().map(file).collect(),
            run: stored
                .run
                .map(|StoredRun { pid, start, boot }| HypervisorRun { pid, start, boot }),
        };
        Ok((job_id(stored.job)?, job))
    }

    pub(crate) fn decode_outcome(
        &mut self,
        seq: Seq,
        body: &[u8],
    ) -> Result<JobOutcome, DecodeError> {
        let stored: StoredOutcome<'_> = decode_body(body, "outcome of a job")?;
        let pair = |(thing, found): (&str, &str)| (thing.into(), found.into());
        Ok(JobOutcome {
            job: job_id(stored.job)?,
            seen: Seen::new(stored.seen.into_iter().map(pair).collect())
                .ok_or(DecodeError::Body("outcome of a job"))?,
            settled_by: SettledBy::from_number(stored.settled_by).ok_or(DecodeError::Word {
                what: "settler of a job",
                value: stored.settled_by.into(),
            })?,
            agent: self.text(seq, stored.agent)?,
        })
    }
}

fn moment_to_make<D, S>(
    stored: StoredMoment<'_, S>,
    def: impl FnOnce(S) -> Result<D, DecodeError>,
) -> Result<MomentToMake<D>, DecodeError> {
    Ok(MomentToMake {
        name: MomentName::new(stored.name).ok_or(DecodeError::Body("name of a moment"))?,
        parent: MomentId::new(stored.parent),
        created: stored.created,
        def: def(stored.def)?.into(),
        current: stored.current,
    })
}

fn effect(stored: &StoredEffect<'_>) -> Result<DiskEffect, DecodeError> {
    Ok(DiskEffect {
        disk: stored.disk.into(),
        kind: EffectKind::from_number(stored.kind).ok_or(DecodeError::Word {
            what: "effect on a disk",
            value: stored.kind.into(),
        })?,
        image: stored.image.into(),
        node: stored.node.into(),
        bitmap: stored.bitmap.map(Into::into),
        bitmap_was_there: stored.bitmap_was_there,
        file: stored.file.map(Into::into),
    })
}

fn deletion((id, extent, removed): StoredDeletion) -> Result<Deletion, DecodeError> {
    let removed: Option<IdRuns> = body::runs_from(removed);
    Ok(Deletion {
        id: MomentId::new(id).ok_or(DecodeError::Word {
            what: "moment id",
            value: id,
        })?,
        extent: body::extent_from(extent)?,
        removed: removed.ok_or(DecodeError::Body("deletion"))?,
    })
}

fn job_id(number: u64) -> Result<JobId, DecodeError> {
    JobId::new(number).ok_or(DecodeError::Word {
        what: "job",
        value: number,
    })
}

/// The body of what was seen of a checkpoint's bitmaps: each disk with the number of its state.
pub(crate) fn stored_seen(disks: &[DiskSeen]) -> Vec<(&str, u8)> {
    let stored = disks.iter();
    stored
        .map(|seen| (&*seen.disk, seen.state.number()))
        .collect()
}

pub(crate) fn decode_seen(id: MomentId, body: &[u8]) -> Result<Change, DecodeError> {
    let stored: Vec<(&str, u8)> = decode_body(body, "bitmaps that were seen")?;
    let seen = |(disk, state): (&str, u8)| {
        let found = DiskState::from_number(state).ok_or(DecodeError::Word {
            what: "state of a bitmap",
            value: state.into(),
        });
        let disk = disk.into();
        found.map(|state| DiskSeen { disk, state })
    };
    let disks = stored.into_iter().map(seen).collect::<Result<_, _>>()?;
    Ok(Change::CheckpointSeen { id, disks })
}

pub(crate) fn stored_hold<'a>(tag: &'a HoldTag, hold: &'a Hold) -> HoldAdded<'a> {
    HoldAdded {
        tag: tag.as_str(),
        since: hold.since,
        by: &hold.by,
    }
}

pub(crate) fn hold_from(stored: &HoldAdded<'_>) -> Result<(HoldTag, Hold), DecodeError> {
    let hold = Hold {
        since: stored.since,
        by: stored.by.into(),
    };
    if !hold.is_recordable() {
        return Err(DecodeError::Body("hold"));
    }
    Ok((tag_from(stored.tag)?, hold))
}

fn tag_from(text: &str) -> Result<HoldTag, DecodeError> {
    HoldTag::new(text).ok_or(DecodeError::Body("tag of a hold"))
}

pub(crate) fn decode_hold_added(id: MomentId, body: &[u8]) -> Result<Change, DecodeError> {
    let (tag, hold) = hold_from(&decode_body(body, "hold")?)?;
    Ok(Change::HoldAdded { id, tag, hold })
}

pub(crate) fn decode_hold_removed(id: MomentId, body: &[u8]) -> Result<Change, DecodeError> {
    let tag = tag_from(decode_body(body, "tag of a hold")?)?;
    Ok(Change::HoldRemoved { id, tag })
}

impl From<Settings> for StoredSettings {
    fn from(settings: Settings) -> StoredSettings {
        StoredSettings {
            policy: settings.policy.into(),
            request_window_s: settings.request_window_s,
        }
    }
}

impl TryFrom<StoredSettings> for Settings {
    type Error = DecodeError;

    fn try_from(stored: StoredSettings) -> Result<Settings, DecodeError> {
        Ok(Settings {
            policy: stored.policy.try_into()?,
            request_window_s: stored.request_window_s,
        })
    }
}

pub(crate) fn decode_settings(body: &[u8]) -> Result<Settings, DecodeError> {
    decode_body::<StoredSettings>(body, "settings")?.try_into()
}

#[cfg(test)]
mod tests;
