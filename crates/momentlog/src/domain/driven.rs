//! Calls of a domain that is attached to its hypervisor: every effect lies between two records.
//!
//! A call *enters* the guest, which it has alone from then on, reads the log to its end, and settles what a call before it has
//! left open. Then it records the job that it begins, has the driver do it, and records what came of it. Only after that is
//! the job's witness taken away. No lock of the log is held while the hypervisor is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use momentlog_core::{
    Action, BeginJob, Change, Domain as DomainState, EffectKind, Event, Job, JobId, JobKind,
    JobLength, JobOutcome, OpenJob, Refusal, Report, RunState, Seen, SettledBy,
};
use momentlog_engine::{Call, EngineError, Outcome, Provenance, Request, View};
use momentlog_store::Head;

use super::Domain;
use super::effects::Effects;
use super::entered::{Entered, LOOK, borrowed, open_jobs};
use crate::driver::{DONE, Driver, Guest, Sight, TopsOfLog, Tracked, Verdict, settle};
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::flags::{CheckpointCreateFlags, CheckpointDeleteFlags, SnapshotCreateFlags};
use crate::recordable;

impl Domain {
    /// Decides and records what a call about this domain asks for. If that changes the hypervisor of an attached domain,
    /// it is done between two records.
    pub(super) fn carry_out(
        &self,
        call: (Call, u32),
        request: Request<'_>,
        action: &mut dyn FnMut(&DomainState) -> Result<Action>,
    ) -> Result<Outcome> {
        self.try_to_carry_out(call, request, action)
            .map_err(|error| self.connection.told(error))
    }

    fn try_to_carry_out(
        &self,
        call: (Call, u32),
        request: Request<'_>,
        action: &mut dyn FnMut(&DomainState) -> Result<Action>,
    ) -> Result<Outcome> {
        self.unless_a_job_forbids(&mut |wait| {
            loop {
                if let Some(guest) = self.guest_if_there()? {
                    return self.carry_out_at(&guest, wait, call, request, action);
                }
                // Another process may have attached it, which is found here.
                let mut is_attached = false;
                let done = self.decide(request, &mut |domain| {
                    is_attached = needs_guest(call) && domain.attachment().is_some();
                    if is_attached {
                        return Err(Refusal::Inactive.into());
                    }
                    action(domain)
                });
                if !is_attached || done.is_ok() {
                    return done;
                }
                self.connection.log.refresh()?;
            }
        })
    }

    fn carry_out_at(
        &self,
        guest: &Guest,
        wait: Duration,
        call: (Call, u32),
        request: Request<'_>,
        action: &mut dyn FnMut(&DomainState) -> Result<Action>,
    ) -> Result<Outcome> {
        if let Some(answered) = self.answered(request)? {
            return Ok(answered);
        }
        // Only what touches the hypervisor, or waits for one of its jobs, needs to have the guest alone.
        if needs_guest(call) {
            let entered = self.enter(guest, wait)?;
            return self.carry_out_in(entered, call, request, action);
        }
        let done = self.decide(request, action);
        if done.as_ref().is_err_and(is_open) {
            // Whoever left it open may be gone, and its copies may have ended.
            drop(self.enter(guest, wait)?);
        }
        done
    }

    /// Tries what an open job may forbid, until it does not or the wait for the guest is over. The attempt is given how long
    /// it may wait itself.
    pub(super) fn unless_a_job_forbids<T>(
        &self,
        attempt: &mut dyn FnMut(Duration) -> Result<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        let wait = self.connection.lock_wait();
        loop {
            let done = attempt(wait.saturating_sub(begun.elapsed()));
            if !done.as_ref().is_err_and(is_open) || begun.elapsed() + LOOK > wait {
                return done;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn carry_out_in(
        &self,
        mut entered: Entered,
        call: (Call, u32),
        request: Request<'_>,
        action: &mut dyn FnMut(&DomainState) -> Result<Action>,
    ) -> Result<Outcome> {
        let sight = &entered.sight;
        let run = entered.run();
        let outcome = self.connection.decide(request, &mut |decision| {
            let action = action(self.of(decision.view())?)?;
            let command = self.command(action.clone());
            let Some(effects) = Effects::of(decision, &command, call, sight.as_ref())? else {
                return recordable::decide(decision, &command);
            };
            recordable::check(decision, &command)?;
            refuse_look_only(&entered.guest)?;
            let job = Job {
                effects: effects.on_disks,
                files: effects.files,
                run,
                ..new_job(effects.kind, JobLength::Short, call)
            };
            let action = Some(action);
            let begin = Report::Begin(Box::new(BeginJob { job, action }));
            decision.decide_report(self.uuid, &begin)?;
            Ok(())
        })?;
        if let Some((id, job)) = begun(&outcome.events)
            && !outcome.repeated
        {
            self.perform(&mut entered, id, &job)?;
        }
        Ok(outcome)
    }

    /// Has the driver do what a job was begun for, and records what came of it.
    pub(super) fn perform(&self, entered: &mut Entered, id: JobId, job: &Arc<Job>) -> Result<()> {
        let begun = self.connection.log.view().head();
        match entered.perform(id, job) {
            Ok(()) => {
                let seen = seen("hypervisor", DONE);
                let end = ended(id, job, seen, SettledBy::Beginner);
                match self.report(Call::SETTLE, &[end]) {
                    // Another process has done the same to the images of a guest that is off.
                    Err(error) if is_not_open(&error) && self.has_ended_well(id, begun)? => {}
                    reported => drop(reported?),
                }
                if let Some(session) = &mut entered.session {
                    // It has told what it had to. If it stays, whoever enters next sweeps it.
                    let _ = session.take_witness();
                }
                Ok(())
            }
            Err(fault) if fault.leaves_unknown => {
                // Whether it was done is seen by whoever has the guest next; it may be this call.
                let guest = entered.guest.clone();
                entered.session = None;
                let settled = self.enter(&guest, self.connection.lock_wait());
                match settled {
                    Ok(again) if self.has_ended_well(id, begun)? => {
                        *entered = again;
                        Ok(())
                    }
                    _ => Err(fault.into()),
                }
            }
            Err(fault) => {
                let outcome =
                    outcome_of(id, seen("hypervisor", &fault.detail), SettledBy::Beginner);
                self.report(Call::SETTLE, &[Report::Fail(outcome)])?;
                entered.sweep_after(self);
                Err(fault.into())
            }
        }
    }

    /// Whether a record behind `begun` says that a job has done what it was begun for.
    fn has_ended_well(&self, id: JobId, begun: Option<Head>) -> Result<bool> {
        let entries = self.connection.entries(begun)?;
        let mut events = entries.iter().flat_map(|entry| &entry.events);
        let is_its_end =
            |change: &Change| matches!(change, Change::JobEnded(outcome) if outcome.job == id);
        Ok(events.any(|event| is_its_end(&event.change)))
    }

    /// The hypervisor of this domain, if it is attached to one now.
    pub(super) fn guest(&self) -> Result<Option<Guest>> {
        if self.connection.point().is_some() {
            // What was is not asked of what is there now.
            return Ok(None);
        }
        let view = self.connection.log.refresh()?;
        self.guest_in(&view)
            .map_err(|error| self.connection.told(error))
    }

    /// As [`guest`](Self::guest), without looking at the store if this process knows of none: what another process has attached
    /// is found by the decision. A domain that is gone has none.
    pub(super) fn guest_if_there(&self) -> Result<Option<Guest>> {
        let view = self.connection.view();
        let domain = view.state().domain(self.uuid);
        if domain.is_none_or(|domain| domain.attachment().is_none()) {
            return Ok(None);
        }
        match self.guest() {
            Err(error) if error.code() == ErrorCode::NoDomain => Ok(None),
            found => found,
        }
    }

    fn guest_in(&self, view: &View) -> Result<Option<Guest>> {
        let domain = self.of(view)?;
        let attached = domain.attachment().cloned();
        let log = self.connection.log.log_id();
        Ok(attached.zip(log).map(|(attachment, log)| Guest {
            log,
            uuid: self.uuid,
            def: domain.def().clone(),
            attachment,
        }))
    }

    /// Returns the answer to a request that was asked before, unless its job is still open: then it is settled first.
    pub(super) fn answered(&self, request: Request<'_>) -> Result<Option<Outcome>> {
        let answer = self.connection.decide(request, &mut |_| Err(Asked::New));
        let outcome = match answer {
            Ok(outcome) => outcome,
            Err(Asked::New) => return Ok(None),
            Err(Asked::Failed(error)) => return Err(error),
        };
        let view = self.connection.log.view();
        let open = open_jobs(view.state().domain(self.uuid));
        let is_open =
            begun(&outcome.events).is_some_and(|(id, _)| open.iter().any(|open| open.id == id));
        Ok((!is_open).then_some(outcome))
    }

    /// As [`enter_swept`](Self::enter_swept), and looks at the guest as it is then.
    pub(super) fn enter(&self, guest: &Guest, wait: Duration) -> Result<Entered> {
        let mut entered = self.enter_swept(guest, wait)?;
        entered.look_again()?;
        Ok(entered)
    }

    /// Has the guest alone, settles what was left open, takes note of whether it runs, and sweeps.
    pub(super) fn enter_swept(&self, guest: &Guest, wait: Duration) -> Result<Entered> {
        let begun = Instant::now();
        let mut guest = guest.clone();
        let (mut entered, view) = loop {
            let driver = self.connection.driver_of(&guest.attachment)?;
            let left = wait.saturating_sub(begun.elapsed());
            // Whoever has the guest may need to write the log to leave it.
            let release = || self.connection.log.release();
            let entered = Entered::enter(&driver, &guest, left, &release)?;
            // Who has the guest has the newest log: the outcome of the call before is durable by then.
            let view = self.connection.log.refresh()?;
            // Another process may have attached it elsewhere meanwhile, or changed its disks.
            match self.guest_in(&view)? {
                Some(now) if now.attachment == guest.attachment && now.def == guest.def => {
                    break (entered, view);
                }
                Some(now) => guest = now,
                None => {
                    let name = self.name.clone();
                    return Err(Refusal::NotAttached { name }.into());
                }
            }
        };
        let open = open_jobs(view.state().domain(self.uuid));
        if let Some(session) = &mut entered.session {
            session.sweep(&borrowed(&open))?;
        }
        let mut is_swept = true;
        for open in &open {
            is_swept &= self.settle(&mut entered, open)?;
        }
        let (state, reason) = entered.power;
        self.observe(state, reason)?;
        if let Some(session) = &mut entered.session
            && !is_swept
        {
            let view = self.connection.log.view();
            let open = open_jobs(view.state().domain(self.uuid));
            session.sweep(&borrowed(&open))?;
        }
        Ok(entered)
    }

    /// Records the run state that was seen, if the log says another.
    fn observe(&self, state: RunState, reason: u8) -> Result<()> {
        let known = self.with(|domain| Ok(domain.power().state))?;
        if known != state {
            self.report(Call::OBSERVE, &[Report::Observe { state, reason }])?;
        }
        Ok(())
    }

    /// Settles an open job by what is seen, if it does not go on. Returns whether it has left nothing to be swept.
    fn settle(&self, entered: &mut Entered, open: &OpenJob) -> Result<bool> {
        if open.job.kind == JobKind::DeleteSnapshot {
            self.stop_merging(entered, open.id)?;
        }
        let Some(sight) = self.sight_of(entered)? else {
            // It stays open as long as nothing can be seen of it.
            return Ok(true);
        };
        let verdict = settle(open, entered.run(), &sight);
        let mut takes_witness = false;
        let report = match verdict {
            Verdict::Open => return Ok(true),
            Verdict::Ended(found) => complete(entered, open, found)?,
            Verdict::RollForward(left, found) => {
                let rest = Job {
                    effects: left,
                    ..(*open.job).clone()
                };
                match entered.perform(open.id, &rest) {
                    Ok(()) => ended(open.id, &open.job, found, SettledBy::Later),
                    Err(fault) if fault.leaves_unknown => return Err(fault.into()),
                    // What is left of it is named by whoever compares.
                    Err(fault) => Report::Fail(outcome_of(
                        open.id,
                        seen("hypervisor", &fault.detail),
                        SettledBy::Later,
                    )),
                }
            }
            Verdict::Finish(found) => match &mut entered.session {
                None => return Ok(true),
                Some(session) => match session.finish(&open.job) {
                    Ok(()) => {
                        takes_witness = true;
                        ended(open.id, &open.job, found, SettledBy::Later)
                    }
                    Err(fault) => {
                        session.abort(open.id, &open.job)?;
                        Report::Fail(outcome_of(
                            open.id,
                            seen("target", &fault.detail),
                            SettledBy::Later,
                        ))
                    }
                },
            },
            Verdict::Failed(seen) => {
                match &mut entered.session {
                    Some(session) => session.abort(open.id, &open.job)?,
                    None if open.job.kind != JobKind::Backup => {}
                    None => entered.driver.remove_files(&open.job),
                }
                Report::Fail(outcome_of(open.id, seen, SettledBy::Later))
            }
        };
        match self.report(Call::SETTLE, &[report]) {
            // Another process has settled it.
            Err(error) if is_not_open(&error) => {}
            reported => drop(reported?),
        }
        let session = entered.session.as_mut();
        let taken = session.map(|session| takes_witness && session.take_witness().is_ok());
        Ok(taken.unwrap_or(false))
    }

    /// What is seen of a guest, or of its images if it is off; none if they cannot be looked at now.
    pub(super) fn sight_of(&self, entered: &Entered) -> Result<Option<Sight>> {
        match &entered.sight {
            Some(sight) => Ok(Some(sight.clone())),
            None => self.sight_of_images(&*entered.driver, &entered.guest),
        }
    }

    /// What is seen of the images of a guest that is off; none if they cannot be looked at now.
    pub(super) fn sight_of_images(
        &self,
        driver: &dyn Driver,
        guest: &Guest,
    ) -> Result<Option<Sight>> {
        let mut tops = self.with(|domain| Ok(TopsOfLog::recorded(domain)))?;
        for step in self.connection.history_of(self.uuid)? {
            for event in step?.entry.events {
                if event.domain == Some(self.uuid) {
                    tops.note(&event.change);
                }
            }
        }
        Ok(driver.look_off(guest, &tops.tops()).ok())
    }

    /// Ends the merging of overlays that a process has left, so that what is seen of it does not change any more.
    fn stop_merging(&self, entered: &mut Entered, id: JobId) -> Result<()> {
        let view = self.connection.log.view();
        let mut open = open_jobs(view.state().domain(self.uuid));
        open.retain(|open| open.id != id);
        if let Some(session) = &mut entered.session {
            session.sweep(&borrowed(&open))?;
        }
        Ok(entered.look_again()?)
    }

    /// Records what a driver reports, under no condition of the caller's.
    pub(super) fn report(&self, call: Call, reports: &[Report]) -> Result<Outcome> {
        let provenance = Provenance {
            request_id: None,
            expected_revision: None,
            undoes: None,
            ..self.connection.provenance().clone()
        };
        let request = Request::of_call(&provenance, (call, 0), Some(self.uuid), &[]);
        self.record(request, reports)
    }

    /// Records what a driver reports.
    pub(super) fn record(&self, request: Request<'_>, reports: &[Report]) -> Result<Outcome> {
        let agent = &self.connection.provenance().agent;
        self.connection.decide(request, &mut |decision| {
            for report in reports {
                let mut report = report.clone();
                if let Report::End { outcome, .. } | Report::Fail(outcome) = &mut report {
                    outcome.agent = agent.clone();
                }
                decision.decide_report(self.uuid, &report)?;
            }
            Ok(())
        })
    }

    /// Returns how many bytes of each disk were written since a checkpoint was made, by target; a disk whose bitmap is lost has
    /// none.
    pub(crate) fn measure(&self, tracked: &[Tracked]) -> Result<Option<BTreeMap<Arc<str>, u64>>> {
        let Some(guest) = self.guest()? else {
            return Ok(None);
        };
        let wait = self.connection.lock_wait();
        let mut entered = if self.connection.is_read_only() {
            // What is left open is settled by whoever may write.
            let driver = self.connection.driver_of(&guest.attachment)?;
            Entered::enter(&driver, &guest, wait, &|| ())?
        } else {
            self.enter(&guest, wait)?
        };
        let Some(session) = &mut entered.session else {
            return Err(Refusal::Inactive.into());
        };
        let mut sizes = BTreeMap::new();
        let mut measured: BTreeMap<&str, BTreeMap<Arc<str>, u64>> = BTreeMap::new();
        for Tracked { disk, bitmap } in tracked {
            if !measured.contains_key(&**bitmap) {
                measured.insert(bitmap, session.measure(bitmap)?);
            }
            let size = measured.get(&**bitmap).and_then(|sizes| sizes.get(disk));
            sizes.extend(size.map(|size| (disk.clone(), *size)));
        }
        Ok(Some(sizes))
    }
}

/// Does what was left to do after the effect of a job that has ended, and returns the report of its end. If that
/// cannot be done, its copies are ended, and what it made besides stays.
fn complete(entered: &mut Entered, open: &OpenJob, found: Seen) -> Result<Report> {
    let Some(session) = &mut entered.session else {
        return Ok(ended(open.id, &open.job, found, SettledBy::Later));
    };
    let same_run = session.run().is_some() && session.run() == open.job.run;
    if open.job.kind == JobKind::DeleteSnapshot && !same_run {
        // In another run, the overlay may be what the guest was not started with.
        return Ok(ended(open.id, &open.job, found, SettledBy::Later));
    }
    match session.complete(&open.job) {
        Ok(()) => Ok(ended(open.id, &open.job, found, SettledBy::Later)),
        Err(fault) if fault.leaves_unknown => Err(fault.into()),
        Err(fault) => {
            session.abort(open.id, &open.job)?;
            Ok(Report::End {
                outcome: outcome_of(open.id, seen("copies", &fault.detail), SettledBy::Later),
                then: None,
            })
        }
    }
}

/// Refuses to change a guest that another program manages.
pub(super) fn refuse_look_only(guest: &Guest) -> Result<()> {
    if guest.attachment.look_only {
        let detail = "the guest is attached to look only";
        let code = ErrorCode::OperationUnsupported;
        return Err(Error::new(code, ErrorDomain::Test, detail));
    }
    Ok(())
}

/// What became of asking whether a request was asked before.
enum Asked {
    /// It was not.
    New,
    Failed(Error),
}

impl From<EngineError> for Asked {
    fn from(error: EngineError) -> Asked {
        Asked::Failed(error.into())
    }
}

fn is_open(error: &Error) -> bool {
    matches!(error.refusal(), Some(Refusal::JobOpen { .. }))
}

fn is_not_open(error: &Error) -> bool {
    matches!(error.refusal(), Some(Refusal::JobNotOpen(_)))
}

/// Whether a call touches the hypervisor of an attached domain, or may have to wait for one of its jobs.
fn needs_guest((call, flags): (Call, u32)) -> bool {
    match call {
        Call::CHECKPOINT_CREATE_XML => {
            let flags = CheckpointCreateFlags::from_bits_retain(flags);
            let redefines = flags.contains(CheckpointCreateFlags::REDEFINE);
            !redefines || flags.contains(CheckpointCreateFlags::REDEFINE_VALIDATE)
        }
        Call::CHECKPOINT_DELETE => {
            let flags = CheckpointDeleteFlags::from_bits_retain(flags);
            !flags.contains(CheckpointDeleteFlags::METADATA_ONLY)
        }
        Call::SNAPSHOT_CREATE_XML => {
            let flags = SnapshotCreateFlags::from_bits_retain(flags);
            !flags.contains(SnapshotCreateFlags::REDEFINE)
        }
        Call::SNAPSHOT_DELETE | Call::REVERT_TO_SNAPSHOT | Call::EXECUTE => true,
        _ => false,
    }
}

/// A job of this kind that does nothing yet.
pub(super) fn new_job(kind: JobKind, length: JobLength, (call, flags): (Call, u32)) -> Job {
    Job {
        kind,
        length,
        call: call.number(),
        flags,
        document: None,
        snapshots: Vec::new(),
        checkpoints: Vec::new(),
        deletions: Vec::new(),
        effects: Vec::new(),
        files: Vec::new(),
        run: None,
    }
}

/// The job that a record begins.
pub(super) fn begun(events: &[Event]) -> Option<(JobId, Arc<Job>)> {
    events.iter().find_map(|event| match &event.change {
        Change::JobBegun { id, job } => Some((*id, job.clone())),
        _ => None,
    })
}

/// The report that ends a job; one that started copies goes on in a long job.
fn ended(id: JobId, job: &Arc<Job>, seen: Seen, settled_by: SettledBy) -> Report {
    let copies = job
        .effects
        .iter()
        .any(|effect| effect.kind == EffectKind::Copied);
    let goes_on = job.length == JobLength::Short && copies;
    Report::End {
        outcome: outcome_of(id, seen, settled_by),
        then: goes_on.then(|| {
            let mut long = Job {
                length: JobLength::Long,
                snapshots: Vec::new(),
                checkpoints: Vec::new(),
                deletions: Vec::new(),
                ..(**job).clone()
            };
            long.effects
                .retain(|effect| effect.kind == EffectKind::Copied);
            Arc::new(long)
        }),
    }
}

/// An outcome without the agent, which is added where it is recorded.
fn outcome_of(job: JobId, seen: Seen, settled_by: SettledBy) -> JobOutcome {
    JobOutcome {
        job,
        seen,
        settled_by,
        agent: "".into(),
    }
}

fn seen(thing: &str, found: &str) -> Seen {
    // What a hypervisor says is cut to what a record takes.
    let found = &found[..found.floor_char_boundary(1024)];
    Seen::new(vec![(thing.into(), found.into())]).unwrap_or_default()
}
