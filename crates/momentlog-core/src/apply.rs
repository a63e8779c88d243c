//! Event and state give state.

mod moments;

use std::sync::Arc;

use crate::{
    Attachment, Change, DiskSeen, Domain, DomainUuid, Event, Hold, HoldTag, Holds, Job, JobId,
    MomentChange, MomentId, MomentList, MomentName, OpenJob, OpenJobs, Power, RunState, State,
};

/// Why an event does not fit the state. A log that holds one is damaged or forged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// There is no such domain.
    #[error("domain {0} is not there")]
    NoDomain(DomainUuid),
    /// The definition is another domain's.
    #[error("the definition of domain {0} has another uuid")]
    DefinitionUuid(DomainUuid),
    /// Another domain has the name.
    #[error("the name '{0}' is another domain's")]
    NameOfDomain(Arc<str>),
    /// The id is not the next one.
    #[error("moment {found} is not next: that is {next:?}")]
    NotNext {
        /// The event's id.
        found: MomentId,
        /// The state's counter.
        next: Option<MomentId>,
    },
    /// There is no such moment.
    #[error("moment {0} is not in the list")]
    NoMoment(MomentId),
    /// The name is in use.
    #[error("the name '{0}' is another moment's")]
    NameOfMoment(MomentName),
    /// The parent is not listed, or hangs below the moment.
    #[error("moment {moment} cannot hang below {parent:?}")]
    Parent {
        /// The moment.
        moment: MomentId,
        /// The parent.
        parent: Option<MomentId>,
    },
    /// What a delete says that it removed is not what hangs there.
    #[error("deleting moment {0} removes other moments than the event says")]
    Extent(MomentId),
    /// It takes more steps than the events so far leave; see [`Budget`](crate::Budget).
    #[error("changing moment {moment} takes more than the {left} steps that are left")]
    OverBudget {
        /// The moment.
        moment: MomentId,
        /// The steps that were left.
        left: u64,
    },
    /// The socket or driver of an attachment is empty, too long, or no absolute path.
    #[error("domain {0} cannot be attached to what the event names")]
    Attachment(DomainUuid),
    /// A domain that is not attached was detached.
    #[error("domain {0} is not attached to a hypervisor")]
    NotAttached(DomainUuid),
    /// Of what was seen of a checkpoint's bitmaps, no disk is named, or one that the checkpoint does not track, or not in its
    /// order.
    #[error("checkpoint {0} does not track the disks that were seen")]
    NotTracked(MomentId),
    /// The event is about the store, and names a domain.
    #[error("the event is about the store, and names domain {0}")]
    OfStore(DomainUuid),
    /// The state is of some domains, and the event is about this other one.
    #[error("the event is about domain {0}, and the state is of others alone")]
    OtherDomain(DomainUuid),
    /// The event is about a domain, and names none.
    #[error("the event is about a domain, and names none")]
    OfDomain,
    /// The number of the job is not the next one.
    #[error("job {found} is not next: that is {next:?}")]
    JobNotNext {
        /// The event's number.
        found: JobId,
        /// The state's counter.
        next: Option<JobId>,
    },
    /// The domain has an open job of that length.
    #[error("job {0} of the same length is open")]
    JobInTheWay(JobId),
    /// The domain has no open job of that number.
    #[error("job {0} is not open")]
    JobNotOpen(JobId),
    /// A domain with an open job does not go: the job is settled before, by an event of the same record at the latest.
    #[error("domain {domain} is removed while job {job} is open")]
    JobOpen {
        /// The domain.
        domain: DomainUuid,
        /// Its open job.
        job: JobId,
    },
    /// Who set the hold is not named, or by a name that is too long.
    #[error("a hold on moment {0} does not name who set it in 1 to 256 bytes")]
    HoldBy(MomentId),
    /// The moment is held under that tag already.
    #[error("moment {id} is held under the tag '{tag}' already")]
    Held {
        /// The moment.
        id: MomentId,
        /// The tag.
        tag: HoldTag,
    },
    /// The moment is not held under that tag.
    #[error("moment {id} is not held under the tag '{tag}'")]
    NotHeld {
        /// The moment.
        id: MomentId,
        /// The tag.
        tag: HoldTag,
    },
    /// The snapshot holds no domain definition.
    #[error("snapshot {0} holds no domain to revert to")]
    NoRollback(MomentId),
}

impl State {
    /// Returns the state after `event`: a function of the two alone, without clock, default or policy.
    ///
    /// # Errors
    ///
    /// [`Misfit`] if the event does not fit; events are input.
    pub fn apply(&self, event: &Event) -> Result<State, Misfit> {
        let mut next = self.clone();
        next.advance(event)?;
        Ok(next)
    }

    /// The in-place form of [`apply`](Self::apply), for replay: only what another version holds is copied.
    ///
    /// # Errors
    ///
    /// [`Misfit`] as there; the state is then as it was.
    pub fn advance(&mut self, event: &Event) -> Result<(), Misfit> {
        self.is_of(event)?;
        self.change(event)?;
        self.budget = self.budget.earn(1);
        Ok(())
    }

    fn change(&mut self, event: &Event) -> Result<(), Misfit> {
        match (event.domain, &event.change) {
            (Some(uuid), change) => self.change_domain(uuid, change),
            (None, Change::SettingsSet(settings)) => {
                self.settings = *settings;
                Ok(())
            }
            (None, _) => Err(Misfit::OfDomain),
        }
    }

    fn change_domain(&mut self, uuid: DomainUuid, change: &Change) -> Result<(), Misfit> {
        match change {
            Change::SettingsSet(_) => return Err(Misfit::OfStore(uuid)),
            Change::DomainDefined { def, policy, live } => {
                if def.uuid != uuid {
                    return Err(Misfit::DefinitionUuid(uuid));
                }
                if let Some(domain) = self.domains.get_mut(&uuid) {
                    let domain = Arc::make_mut(domain);
                    domain.policy = *policy;
                    domain.define(def, *live);
                    return Ok(());
                }
                if self.names.contains_key(&def.name) {
                    return Err(Misfit::NameOfDomain(def.name.clone()));
                }
                self.names.insert(def.name.clone(), uuid);
                let domain = Domain {
                    uuid,
                    name: def.name.clone(),
                    def: def.clone(),
                    next_def: None,
                    persistent: !live,
                    autostart: false,
                    power: Power::OFF,
                    policy: *policy,
                    snapshots: MomentList::new(),
                    checkpoints: MomentList::new(),
                    holds: Holds::default(),
                    jobs: OpenJobs::default(),
                    attachment: None,
                };
                self.domains.insert(uuid, Arc::new(domain));
            }
            Change::StateChanged(power) => {
                self.domain_mut(uuid)?.set_power(*power);
                self.see_domain_id(*power);
            }
            Change::MadeTransient => {
                let domain = self.domain_mut(uuid)?;
                domain.persistent = false;
                domain.next_def = None;
            }
            Change::DomainRemoved => self.remove_domain(uuid)?,
            Change::DomainRenamed(def) => self.rename_domain(uuid, def)?,
            Change::AutostartSet(autostart) => self.domain_mut(uuid)?.autostart = *autostart,
            Change::PolicySet(policy) => {
                self.domain_mut(uuid)?.policy = *policy;
                self.policies.insert(uuid, *policy);
            }
            Change::Snapshot(change) => {
                let domain = domain_in(&mut self.domains, uuid)?;
                let counters = (&self.part, &mut self.next_moment, &mut self.budget);
                moments::change(&mut domain.snapshots, change, counters)?;
                domain.forget_holds(change);
            }
            Change::Checkpoint(change) => {
                let domain = domain_in(&mut self.domains, uuid)?;
                let counters = (&self.part, &mut self.next_moment, &mut self.budget);
                moments::change(&mut domain.checkpoints, change, counters)?;
                domain.forget_holds(change);
            }
            Change::Reverted { id, power } => {
                let domain = self.domain_mut(uuid)?;
                let snapshot = domain.snapshots.get(*id).ok_or(Misfit::NoMoment(*id))?;
                let def = snapshot.def.domain.clone().ok_or(Misfit::NoRollback(*id))?;
                domain.snapshots.set_current(Some(*id));
                domain.def = def;
                domain.next_def = None;
                domain.power = *power;
                self.see_domain_id(*power);
            }
            Change::JobBegun { id, job } => self.begin_job(uuid, *id, job)?,
            Change::JobEnded(outcome) | Change::JobFailed(outcome) => {
                if !self.domain_mut(uuid)?.jobs.settle(outcome.job) {
                    return Err(Misfit::JobNotOpen(outcome.job));
                }
            }
            Change::HypervisorAttached(attachment) => self.attach(uuid, attachment)?,
            Change::HypervisorDetached => {
                let detached = self.domain_mut(uuid)?.attachment.take();
                detached.ok_or(Misfit::NotAttached(uuid))?;
            }
            Change::CheckpointSeen { id, disks } => self.see(uuid, *id, disks)?,
            Change::HoldAdded { id, tag, hold } => self.hold(uuid, *id, tag, hold)?,
            Change::HoldRemoved { id, tag } => {
                if !self.domain_mut(uuid)?.holds.remove(*id, tag) {
                    let (id, tag) = (*id, tag.clone());
                    return Err(Misfit::NotHeld { id, tag });
                }
            }
        }
        Ok(())
    }

    /// Checks what was seen of a checkpoint, which changes nothing.
    fn see(&self, uuid: DomainUuid, id: MomentId, disks: &[DiskSeen]) -> Result<(), Misfit> {
        let domain = self.domain(uuid).ok_or(Misfit::NoDomain(uuid))?;
        let seen = domain.checkpoints.get(id).ok_or(Misfit::NoMoment(id))?;
        let mut tracked = seen.def.tracked();
        let mut fit = disks.iter();
        let fit = fit.all(|seen| tracked.any(|disk| disk.name == seen.disk));
        if disks.is_empty() || !fit {
            return Err(Misfit::NotTracked(id));
        }
        Ok(())
    }

    fn attach(&mut self, uuid: DomainUuid, attachment: &Arc<Attachment>) -> Result<(), Misfit> {
        if !attachment.is_recordable() {
            return Err(Misfit::Attachment(uuid));
        }
        self.domain_mut(uuid)?.attachment = Some(attachment.clone());
        Ok(())
    }

    fn hold(
        &mut self,
        uuid: DomainUuid,
        id: MomentId,
        tag: &HoldTag,
        hold: &Hold,
    ) -> Result<(), Misfit> {
        if !hold.is_recordable() {
            return Err(Misfit::HoldBy(id));
        }
        let domain = self.domain_mut(uuid)?;
        if !domain.has_moment(id) {
            return Err(Misfit::NoMoment(id));
        }
        if !domain.holds.add(id, tag.clone(), hold.clone()) {
            let tag = tag.clone();
            return Err(Misfit::Held { id, tag });
        }
        Ok(())
    }

    fn rename_domain(
        &mut self,
        uuid: DomainUuid,
        def: &Arc<crate::DomainDef>,
    ) -> Result<(), Misfit> {
        let domain = self.domain(uuid).ok_or(Misfit::NoDomain(uuid))?;
        if def.uuid != uuid {
            return Err(Misfit::DefinitionUuid(uuid));
        }
        if self.names.contains_key(&def.name) {
            return Err(Misfit::NameOfDomain(def.name.clone()));
        }
        let former = domain.name.clone();
        self.names.remove(&former);
        self.names.insert(def.name.clone(), uuid);
        let domain = self.domain_mut(uuid)?;
        domain.name = def.name.clone();
        match &mut domain.next_def {
            Some(next) => *next = def.clone(),
            None => domain.def = def.clone(),
        }
        Ok(())
    }

    fn remove_domain(&mut self, uuid: DomainUuid) -> Result<(), Misfit> {
        let domain = self.domain(uuid).ok_or(Misfit::NoDomain(uuid))?;
        if let Some(open) = domain.jobs.iter().next() {
            return Err(Misfit::JobOpen {
                domain: uuid,
                job: open.id,
            });
        }
        let name = domain.name.clone();
        self.names.remove(&name);
        self.domains.remove(&uuid);
        Ok(())
    }

    /// Opens a job: its number is the next one, its place is free, and what it will delete and hang moments below is there.
    fn begin_job(&mut self, uuid: DomainUuid, id: JobId, job: &Arc<Job>) -> Result<(), Misfit> {
        let next = self.next_job;
        if !self.part.may_follow(next, id) {
            return Err(Misfit::JobNotNext { found: id, next });
        }
        let domain = self.domain_mut(uuid)?;
        let mut deleted = job.deletions.iter().map(|deletion| deletion.id);
        if let Some(missing) = deleted.find(|id| !domain.has_moment(*id)) {
            return Err(Misfit::NoMoment(missing));
        }
        let mut snapshots = job.snapshots.iter().filter_map(|moment| moment.parent);
        if let Some(missing) = snapshots.find(|id| domain.snapshots.get(*id).is_none()) {
            return Err(Misfit::NoMoment(missing));
        }
        let mut checkpoints = job.checkpoints.iter().filter_map(|moment| moment.parent);
        if let Some(missing) = checkpoints.find(|id| domain.checkpoints.get(*id).is_none()) {
            return Err(Misfit::NoMoment(missing));
        }
        let open = OpenJob {
            id,
            job: job.clone(),
        };
        domain.jobs.add(open).map_err(Misfit::JobInTheWay)?;
        self.next_job = id.next();
        Ok(())
    }

    fn domain_mut(&mut self, uuid: DomainUuid) -> Result<&mut Domain, Misfit> {
        domain_in(&mut self.domains, uuid)
    }

    /// Keeps the counter of running domains above every number that was given out.
    fn see_domain_id(&mut self, power: Power) {
        if let Some(id) = power.id {
            self.next_domain = self.next_domain.max(id.saturating_add(1));
        }
    }
}

/// Returns a domain to change. Beside [`State::domain_mut`], the state's counters can be changed with it.
fn domain_in(
    domains: &mut im::OrdMap<DomainUuid, Arc<Domain>>,
    uuid: DomainUuid,
) -> Result<&mut Domain, Misfit> {
    domains
        .get_mut(&uuid)
        .map(Arc::make_mut)
        .ok_or(Misfit::NoDomain(uuid))
}

impl Domain {
    /// Forgets the holds of moments that a change took away.
    fn forget_holds<D>(&mut self, change: &MomentChange<D>) {
        if let MomentChange::Deleted { removed, .. } = change {
            self.holds.forget(removed);
        }
    }

    fn define(&mut self, def: &Arc<crate::DomainDef>, live: bool) {
        if live {
            self.next_def = self.persistent.then(|| self.inactive_def().clone());
            self.def = def.clone();
        } else if self.power.is_active() {
            self.persistent = true;
            self.next_def = Some(def.clone());
        } else {
            self.persistent = true;
            self.def = def.clone();
        }
    }

    fn set_power(&mut self, power: Power) {
        self.power = power;
        if power.state == RunState::Shutoff
            && let Some(next) = self.next_def.take()
        {
            self.def = next;
        }
    }
}

#[cfg(test)]
mod tests;
