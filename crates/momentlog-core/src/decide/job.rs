//! What a driver's reports cause, and what open jobs forbid.

use std::sync::Arc;

use crate::deletion::DeletionPlan;
use crate::{
    Action, BeginJob, Change, CheckpointDisk, Deletion, DiskSeen, Domain, DomainUuid, Event, Job,
    JobId, JobLength, JobOutcome, MomentChange, MomentId, MomentKind, MomentList, MomentToMake,
    OpenJob, Refusal, Report, State,
};

impl State {
    /// Returns the events that a driver's report about a domain causes, and changes nothing.
    ///
    /// Everything that may refuse a job's end is found when it is begun, but for ids and steps that others use up meanwhile.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] of the action that a job is begun for; [`Refusal::JobOpen`] if an open job forbids it, as it forbids to
    /// detach, or to attach to look only, and to go on in a second job of its length;
    /// [`Refusal::JobNotOpen`] if the job to be ended is not open.
    pub fn decide_report(&self, uuid: DomainUuid, report: &Report) -> Result<Vec<Event>, Refusal> {
        self.is_whole()?;
        if let Report::SeeDomain(seen) = report {
            return self.see_domain(uuid, seen.as_deref());
        }
        let domain = self.known(uuid)?;
        let changes = match report {
            Report::Attach(attachment) => {
                // A guest that was started again may have its monitor at another place: an open job is settled there.
                if domain.attachment.is_none() || attachment.look_only {
                    domain.admits_no_job()?;
                }
                if !attachment.is_recordable() {
                    let socket = attachment.socket.clone();
                    return Err(Refusal::Attachment { socket });
                }
                vec![Change::HypervisorAttached(Arc::new(attachment.clone()))]
            }
            Report::Detach => {
                domain.admits_no_job()?;
                if domain.attachment.is_none() {
                    let name = domain.name.clone();
                    return Err(Refusal::NotAttached { name });
                }
                vec![Change::HypervisorDetached]
            }
            Report::Observe { state, reason } => domain.observe(*state, *reason, self.next_domain),
            Report::See { checkpoint, disks } => domain.see(*checkpoint, disks),
            Report::SeeDomain(_) => Vec::new(),
            Report::Begin(begin) => vec![self.begin(domain, begin)?],
            Report::End { outcome, then } => self.end(domain, outcome, then.as_ref())?,
            Report::Fail(outcome) => {
                domain.open_job(outcome.job)?;
                vec![Change::JobFailed(outcome.clone())]
            }
        };
        self.events_of(uuid, changes)
    }

    fn begin(&self, domain: &Domain, begin: &BeginJob) -> Result<Change, Refusal> {
        let mut job = begin.job.clone();
        domain.admits_job(job.length)?;
        if let Some(action) = &begin.action {
            domain.admits_beside_jobs(action)?;
            for change in self.changes(domain.uuid, action)? {
                match change {
                    Change::Snapshot(change) => {
                        plan(change, &mut job.snapshots, &mut job.deletions);
                    }
                    Change::Checkpoint(change) => {
                        plan(change, &mut job.checkpoints, &mut job.deletions);
                    }
                    // What it does to the domain itself is seen afterwards, and reported then.
                    _ => {}
                }
            }
        }
        Ok(Change::JobBegun {
            id: self.next_job.ok_or(Refusal::IdsExhausted)?,
            job: Arc::new(job),
        })
    }

    fn end(
        &self,
        domain: &Domain,
        outcome: &JobOutcome,
        then: Option<&Arc<Job>>,
    ) -> Result<Vec<Change>, Refusal> {
        let job = &domain.open_job(outcome.job)?.job;
        if let Some(then) = then
            && let Some(other) = domain.jobs.get(then.length)
            && other.id != outcome.job
        {
            return Err(domain.waits_for(other));
        }
        let mut next = self.next_moment;
        let mut take = || {
            let id = next.ok_or(Refusal::IdsExhausted)?;
            next = id.next();
            Ok::<MomentId, Refusal>(id)
        };
        let mut changes = Vec::new();
        for deletion in &job.deletions {
            changes.push(domain.carry_out(deletion));
        }
        for moment in &job.snapshots {
            changes.push(Change::Snapshot(make(moment, take()?)));
        }
        for moment in &job.checkpoints {
            changes.push(Change::Checkpoint(make(moment, take()?)));
        }
        changes.push(Change::JobEnded(outcome.clone()));
        if let Some(job) = then {
            changes.push(Change::JobBegun {
                id: self.next_job.ok_or(Refusal::IdsExhausted)?,
                job: job.clone(),
            });
        }
        Ok(changes)
    }
}

/// Keeps, of what an action would do now, what a job's end will do.
fn plan<D>(
    change: MomentChange<D>,
    to_make: &mut Vec<MomentToMake<D>>,
    deletions: &mut Vec<Deletion>,
) {
    match change {
        MomentChange::Created {
            parent,
            name,
            created,
            def,
            current,
            ..
        } => to_make.push(MomentToMake {
            name,
            parent,
            created,
            def,
            current,
        }),
        MomentChange::Deleted {
            id,
            extent,
            removed,
            ..
        } => deletions.push(Deletion {
            id,
            extent,
            removed,
        }),
        // No job is begun for what changes records alone.
        MomentChange::Redefined { .. }
        | MomentChange::Reparented { .. }
        | MomentChange::CurrentSet(_) => {}
    }
}

fn make<D>(moment: &MomentToMake<D>, id: MomentId) -> MomentChange<D> {
    MomentChange::Created {
        id,
        parent: moment.parent,
        name: moment.name.clone(),
        created: moment.created,
        def: moment.def.clone(),
        current: moment.current,
    }
}

impl Domain {
    /// What is recorded of a checkpoint's bitmaps: what was seen of the disks that it tracks now.
    fn see(&self, checkpoint: MomentId, disks: &[DiskSeen]) -> Vec<Change> {
        let Some(found) = self.checkpoints.get(checkpoint) else {
            return Vec::new();
        };
        let seen = |tracked: &CheckpointDisk| {
            let mut disks = disks.iter();
            disks.find(|seen| seen.disk == tracked.name).cloned()
        };
        let disks: Vec<DiskSeen> = found.def.tracked().filter_map(seen).collect();
        if disks.is_empty() {
            return Vec::new();
        }
        let id = checkpoint;
        vec![Change::CheckpointSeen { id, disks }]
    }

    /// Returns the open job of this number.
    fn open_job(&self, id: JobId) -> Result<&OpenJob, Refusal> {
        let open = self.jobs.iter().find(|open| open.id == id);
        open.ok_or(Refusal::JobNotOpen(id))
    }

    /// The deletion that a job was begun for. While the job is open, no other command changes its list.
    fn carry_out(&self, deletion: &Deletion) -> Change {
        if self.snapshots.get(deletion.id).is_some() {
            Change::Snapshot(delete(&self.snapshots, deletion))
        } else {
            Change::Checkpoint(delete(&self.checkpoints, deletion))
        }
    }

    /// Refuses what an open job forbids: a short one every change of moments, a long one those of snapshots.
    pub(super) fn admits_beside_jobs(&self, action: &Action) -> Result<(), Refusal> {
        let short = self.jobs.get(JobLength::Short);
        if let (Action::Hold { .. } | Action::Release { .. }, Some(open)) = (action, short) {
            // It may be about to delete what is to be held.
            return Err(self.waits_for(open));
        }
        let Some(kind) = kind_changed(action) else {
            return Ok(());
        };
        let long = self.jobs.get(JobLength::Long);
        if short.or(long).is_some() && matches!(action, Action::Revert { .. }) {
            return Err(Refusal::RevertDuringJob);
        }
        let forbids = long.filter(|_| kind == MomentKind::Snapshot);
        match short.or(forbids) {
            Some(open) => Err(self.waits_for(open)),
            None => Ok(()),
        }
    }

    /// Refuses a job beside another one of its length.
    fn admits_job(&self, length: JobLength) -> Result<(), Refusal> {
        match self.jobs.get(length) {
            Some(open) => Err(self.waits_for(open)),
            None => Ok(()),
        }
    }

    fn admits_no_job(&self) -> Result<(), Refusal> {
        match self.jobs.iter().next() {
            Some(open) => Err(self.waits_for(open)),
            None => Ok(()),
        }
    }

    pub(super) fn waits_for(&self, open: &OpenJob) -> Refusal {
        Refusal::JobOpen {
            name: self.name.clone(),
            job: open.id,
            call: open.job.call,
            length: open.job.length,
        }
    }
}

/// The kind of moments that an action changes; none if it leaves them alone.
fn kind_changed(action: &Action) -> Option<MomentKind> {
    match action {
        Action::CreateSnapshot(_) | Action::RedefineSnapshot(_) | Action::Revert { .. } => {
            Some(MomentKind::Snapshot)
        }
        Action::CreateCheckpoint(_) | Action::RedefineCheckpoint(_) => Some(MomentKind::Checkpoint),
        Action::Delete { kind, .. }
        | Action::Reparent { kind, .. }
        | Action::SetCurrent { kind, .. } => Some(*kind),
        // A long job forbids to change snapshots alone.
        Action::Undelete(undelete) if undelete.snapshots.is_empty() => Some(MomentKind::Checkpoint),
        Action::Undelete(_) => Some(MomentKind::Snapshot),
        Action::Hold { .. } | Action::Release { .. } => None,
        // That a domain with an open job cannot go is found where it would.
        Action::Define(_)
        | Action::DefineLive(_)
        | Action::CreateLive(_)
        | Action::ChangeState(_)
        | Action::Undefine { .. }
        | Action::Rename(_)
        | Action::SetAutostart(_)
        | Action::SetPolicy(_) => None,
    }
}

fn delete<D>(list: &MomentList<D>, deletion: &Deletion) -> MomentChange<D> {
    let plan = DeletionPlan::of(list, deletion.id, deletion.extent);
    MomentChange::Deleted {
        id: deletion.id,
        extent: deletion.extent,
        current: plan.current_after(list),
        children_moved: plan.children_moved,
        removed: plan.removed,
    }
}

#[cfg(test)]
mod tests;
