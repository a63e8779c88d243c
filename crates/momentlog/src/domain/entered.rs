//! A guest that a call has entered, and has alone until it leaves.

use std::sync::Arc;
use std::time::Duration;

use momentlog_core::{
    Domain as DomainState, HypervisorRun, Job, JobId, JobKind, OpenJob, RunState,
};

use super::Domain;
use crate::driver::{Absent, Driver, Fault, Guest, Session, Sight};
use crate::error::{Error, ErrorCode, ErrorDomain, Result};

/// Reasons of a guest that is off, as libvirt numbers them.
const SHUTOFF_SHUTDOWN: u8 = 1;
const SHUTOFF_CRASHED: u8 = 3;

/// How often it is tried again what an open job forbids; a guest that is had for longer is waited for.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// A guest that a call has entered.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) guest: Guest,
    /// What was seen of its run state, with libvirt's number of the reason.
    pub(super) power: (RunState, u8),
    /// What asks the hypervisor; none if the guest is off.
    pub(super) session: Option<Box<dyn Session>>,
    /// What was seen; none if the guest is off.
    pub(super) sight: Option<Sight>,
}

impl Entered {
    /// Has the guest alone, or finds that it is off. `before_waiting` is called before it is waited for long.
    pub(super) fn enter(
        driver: &Arc<dyn Driver>,
        guest: &Guest,
        wait: Duration,
        before_waiting: &dyn Fn(),
    ) -> Result<Entered> {
        let off = |reason| Ok((None, (RunState::Shutoff, reason)));
        let mut found = driver.enter(guest, wait.min(LOOK));
        if let Err(Absent::Held(_)) = found
            && wait > LOOK
        {
            before_waiting();
            found = driver.enter(guest, wait.saturating_sub(LOOK));
        }
        let entered = match found {
            Ok(session) => Ok((Some(session), (RunState::Running, 0))),
            Err(Absent::Ended(_)) => off(SHUTOFF_SHUTDOWN),
            Err(Absent::Killed(_)) => off(SHUTOFF_CRASHED),
            Err(Absent::Held(why)) => {
                let detail = format!("cannot acquire state change lock ({why})");
                let code = ErrorCode::OperationTimeout;
                Err(Error::new(code, ErrorDomain::None, detail))
            }
            Err(Absent::Fault(fault)) => Err(fault.into()),
        };
        let (session, power) = entered?;
        let mut entered = Entered {
            driver: driver.clone(),
            guest: guest.clone(),
            power,
            session,
            sight: None,
        };
        entered.look_again()?;
        if let Some(sight) = &entered.sight {
            entered.power = sight.power;
        }
        Ok(entered)
    }

    /// Takes away what belongs to no open job any more, now that the outcome is durable. If that fails, whoever enters next
    /// does it.
    pub(super) fn sweep_after(&mut self, domain: &Domain) {
        let view = domain.connection.log.view();
        let open = open_jobs(view.state().domain(domain.uuid));
        if let Some(session) = &mut self.session {
            let _ = session.sweep(&borrowed(&open));
        }
    }

    pub(super) fn run(&self) -> Option<HypervisorRun> {
        self.session.as_ref().and_then(|session| session.run())
    }

    /// Does what a job was begun for, which is to remove bitmaps if the guest is off.
    pub(super) fn perform(&mut self, id: JobId, job: &Job) -> std::result::Result<(), Fault> {
        match &mut self.session {
            Some(session) => session.perform(id, job),
            None if matches!(job.kind, JobKind::Repair | JobKind::DeleteCheckpoint) => {
                self.driver.remove_bitmaps_off(&self.guest, &job.effects)
            }
            None => {
                let code = ErrorCode::OperationInvalid;
                Err(Fault::refused(code, "domain is not running"))
            }
        }
    }

    /// Looks once more.
    pub(super) fn look_again(&mut self) -> std::result::Result<(), Fault> {
        if let Some(session) = &mut self.session {
            self.sight = Some(session.see()?);
        }
        Ok(())
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        let domain = match fault.code {
            ErrorCode::OperationTimeout => ErrorDomain::None,
            _ => ErrorDomain::Test,
        };
        Error::new(fault.code, domain, fault.detail)
    }
}

pub(super) fn open_jobs(domain: Option<&DomainState>) -> Vec<OpenJob> {
    let jobs = domain.map(|domain| domain.jobs().iter().cloned());
    jobs.into_iter().flatten().collect()
}

pub(super) fn borrowed(open: &[OpenJob]) -> Vec<(JobId, &Job)> {
    open.iter().map(|open| (open.id, &*open.job)).collect()
}
