//! What the model knows of hypervisors: where a domain is attached, and what the ends of its open jobs will do.

use momentlog::core::RunState;

use super::{Domain, List, Moment, Reason, name_text};
use crate::op::{Op, run_state, socket};

/// An open job, by what its end will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Job {
    /// A moment that it makes, in which list; it is current then.
    makes: Option<(bool, Moment)>,
    /// A moment that it deletes, in which list, and how much of the tree.
    deletes: Option<(bool, String, u8)>,
}

/// What is known of the hypervisor of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Driven {
    /// Where it is asked, and whether it is only looked at.
    attached: Option<(String, bool)>,
    /// The job that the domain's other changes wait for.
    short: Option<Job>,
    /// The job that goes on beside them.
    long: Option<Job>,
}

impl Driven {
    pub(super) fn is_attached(&self) -> bool {
        self.attached.is_some()
    }

    /// Whether a job is open.
    pub(super) fn has_job(&self) -> bool {
        self.short.is_some() || self.long.is_some()
    }

    fn job(&mut self, long: bool) -> &mut Option<Job> {
        if long {
            &mut self.long
        } else {
            &mut self.short
        }
    }

    /// Refuses what an open job forbids.
    pub(super) fn admits(&self, op: &Op) -> Result<(), Reason> {
        let snapshot = match op {
            Op::Create { snapshot, .. }
            | Op::Redefine { snapshot, .. }
            | Op::Delete { snapshot, .. }
            | Op::Reparent { snapshot, .. }
            | Op::SetCurrent { snapshot, .. }
            | Op::Undelete { snapshot, .. } => *snapshot,
            // It may be about to delete what is to be held.
            Op::Hold { .. } | Op::Release { .. } if self.short.is_some() => {
                return Err(Reason::JobOpen);
            }
            Op::Revert { .. } if self.has_job() => return Err(Reason::RevertDuringJob),
            _ => return Ok(()),
        };
        self.admits_change(snapshot)
    }

    /// Refuses the change of a list that an open job forbids.
    pub(super) fn admits_change(&self, snapshot: bool) -> Result<(), Reason> {
        if self.short.is_some() || self.long.is_some() && snapshot {
            return Err(Reason::JobOpen);
        }
        Ok(())
    }

    pub(super) fn describe(&self) -> String {
        let list = |snapshot: bool| if snapshot { "snapshot" } else { "checkpoint" };
        let job = |job: &Option<Job>| {
            job.as_ref().map(|job| {
                let makes = job.makes.iter().map(|(snapshot, moment)| {
                    let parent = moment.parent.as_deref().unwrap_or("-");
                    format!("makes {} {}<{parent}", list(*snapshot), moment.name)
                });
                let deletes = job.deletes.iter().map(|(snapshot, name, extent)| {
                    format!("deletes {} {name} {extent}", list(*snapshot))
                });
                makes.chain(deletes).collect::<Vec<_>>()
            })
        };
        format!(
            "attached {:?} jobs {:?} {:?}",
            self.attached,
            job(&self.short),
            job(&self.long)
        )
    }
}

impl Domain {
    /// Takes note of what a driver reports; returns whether the domain is gone, and counts the jobs that it begins.
    pub(super) fn report(&mut self, op: &Op, now: i64, begun: &mut u64) -> Result<bool, Reason> {
        match op {
            Op::Attach {
                socket: number,
                look_only,
            } => {
                if self.driven.has_job() && (!self.driven.is_attached() || *look_only) {
                    return Err(Reason::JobOpen);
                }
                let socket = socket(*number);
                if !socket.starts_with('/') {
                    return Err(Reason::Attachment);
                }
                self.driven.attached = Some((socket, *look_only));
            }
            Op::Detach => {
                if self.driven.has_job() {
                    return Err(Reason::JobOpen);
                }
                self.driven.attached.take().ok_or(Reason::NotAttached)?;
            }
            Op::Observe(number) => {
                let stopped = self.power != RunState::Shutoff;
                self.power = run_state(*number);
                let ends = stopped && self.power == RunState::Shutoff && !self.persistent;
                // What is held keeps the domain, whose guest is gone all the same.
                return Ok(ends && self.holds.is_empty());
            }
            Op::Begin { long, .. } => {
                if self.driven.job(*long).is_some() {
                    return Err(Reason::JobOpen);
                }
                let job = match op.work() {
                    Some(work) => self.begin(work, now)?,
                    None => Job::default(),
                };
                *self.driven.job(*long) = Some(job);
                *begun += 1;
            }
            Op::End { long, goes_on } => {
                let job = self.driven.job(*long).take().ok_or(Reason::JobNotOpen)?;
                self.end(job)?;
                if *goes_on {
                    if self.driven.long.is_some() {
                        return Err(Reason::JobOpen);
                    }
                    self.driven.long = Some(Job::default());
                    *begun += 1;
                }
            }
            Op::Fail { long } => {
                self.driven.job(*long).take().ok_or(Reason::JobNotOpen)?;
            }
            _ => {}
        }
        Ok(false)
    }

    /// What the end of a job for this will do; everything that may refuse it refuses it now.
    fn begin(&self, work: &Op, now: i64) -> Result<Job, Reason> {
        self.driven.admits(work)?;
        let mut after = self.clone();
        after.apply(work, now)?;
        let mut job = Job::default();
        match work {
            Op::Create { snapshot, .. } => {
                let newest = after.list(*snapshot).moments.remove(0);
                job.makes = Some((*snapshot, newest));
            }
            Op::Delete {
                snapshot,
                name: number,
                extent,
            } => job.deletes = Some((*snapshot, name_text(*number), extent % 3)),
            _ => {}
        }
        Ok(job)
    }

    fn end(&mut self, job: Job) -> Result<(), Reason> {
        if let Some((snapshot, name, extent)) = job.deletes {
            self.list(snapshot).delete(&name, extent)?;
        }
        if let Some((snapshot, moment)) = job.makes {
            let list: &mut List = self.list(snapshot);
            list.current = Some(moment.name.clone());
            list.link(moment);
        }
        Ok(())
    }
}
