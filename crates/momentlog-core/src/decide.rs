//! Command and state give events, or a refusal.
//!
//! Refusals come in the order in which libvirt's test driver finds them.

mod checkpoint;
mod domain;
mod hold;
mod job;
mod moments;
mod seen;
mod snapshot;
mod undelete;

use crate::{Action, Change, Command, Domain, DomainUuid, Event, Refusal, State};

/// Reasons of run states, as libvirt numbers them.
mod reason {
    pub(super) const RUNNING_BOOTED: u8 = 1;
    pub(super) const RUNNING_FROM_SNAPSHOT: u8 = 4;
    pub(super) const RUNNING_UNPAUSED: u8 = 5;
    pub(super) const PAUSED_USER: u8 = 1;
    pub(super) const PAUSED_FROM_SNAPSHOT: u8 = 7;
    pub(super) const SHUTOFF_SHUTDOWN: u8 = 1;
    pub(super) const SHUTOFF_DESTROYED: u8 = 2;
    pub(super) const SHUTOFF_FROM_SNAPSHOT: u8 = 7;
}

impl State {
    /// Returns the events that `command` causes, and changes nothing.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the first reason why not, in libvirt's order.
    pub fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        self.is_whole()?;
        let uuid = command.domain;
        if let Some(domain) = self.domain(uuid) {
            domain.admits_beside_jobs(&command.action)?;
        }
        let changes = self.changes(uuid, &command.action)?;
        self.events_of(uuid, changes)
    }

    /// Returns what an action changes, unless a moment is held that would go, change or move.
    fn changes(&self, uuid: DomainUuid, action: &Action) -> Result<Vec<Change>, Refusal> {
        let changes = self.changes_but_for_holds(uuid, action)?;
        if let Some(domain) = self.domain(uuid) {
            domain.respects_holds(&changes)?;
        }
        Ok(changes)
    }

    /// Returns the events of changes that were decided, unless what they have in common forbids them.
    fn events_of(&self, uuid: DomainUuid, changes: Vec<Change>) -> Result<Vec<Event>, Refusal> {
        if let Some(domain) = self.domain(uuid) {
            if let Some(moment) = domain.exceeds(&changes, self.budget) {
                return Err(Refusal::OverBudget {
                    moment,
                    left: self.budget.steps(),
                });
            }
            if changes.contains(&Change::DomainRemoved)
                && let Some(open) = domain.jobs.iter().next()
            {
                return Err(domain.waits_for(open));
            }
        }
        Ok(changes
            .into_iter()
            .map(|change| Event {
                domain: Some(uuid),
                change,
            })
            .collect())
    }

    fn changes_but_for_holds(
        &self,
        uuid: DomainUuid,
        action: &Action,
    ) -> Result<Vec<Change>, Refusal> {
        let domain = || self.known(uuid);
        let next_id = || self.next_moment.ok_or(Refusal::IdsExhausted);
        let change = match action {
            Action::Define(def) => self.define(uuid, def)?,
            Action::DefineLive(def) => self.define_live(uuid, def)?,
            Action::CreateLive(def) => return self.create_live(uuid, def),
            Action::ChangeState(change) => {
                return domain()?.change_state(*change, self.next_domain);
            }
            Action::Undefine { with_snapshots } => domain()?.undefine(*with_snapshots)?,
            Action::Rename(def) => self.rename(uuid, def)?,
            Action::SetAutostart(autostart) => {
                domain()?;
                Change::AutostartSet(*autostart)
            }
            Action::SetPolicy(policy) => domain()?.set_policy(*policy)?,
            Action::CreateSnapshot(create) => return domain()?.create_snapshot(create, next_id()?),
            Action::RedefineSnapshot(redefine) => {
                Change::Snapshot(domain()?.redefine_snapshot(redefine, next_id()?)?)
            }
            Action::CreateCheckpoint(create) => {
                Change::Checkpoint(domain()?.create_checkpoint(create, next_id()?)?)
            }
            Action::RedefineCheckpoint(redefine) => {
                Change::Checkpoint(domain()?.redefine_checkpoint(redefine, next_id()?)?)
            }
            Action::Delete { kind, name, extent } => domain()?.delete(*kind, name, *extent)?,
            Action::Reparent { kind, name, parent } => {
                domain()?.reparent(*kind, name, parent.as_ref())?
            }
            Action::SetCurrent { kind, name } => domain()?.set_current(*kind, name.as_ref())?,
            Action::Undelete(undelete) => return self.undelete(uuid, undelete),
            Action::Hold {
                kind,
                name,
                tag,
                hold,
            } => domain()?.add_hold(*kind, name, tag, hold)?,
            Action::Release { kind, name, tag } => domain()?.release(*kind, name, tag)?,
            Action::Revert { name, resume } => domain()?.revert(name, *resume, self.next_domain)?,
        };
        Ok(vec![change])
    }

    fn known(&self, uuid: DomainUuid) -> Result<&Domain, Refusal> {
        self.domain(uuid).ok_or(Refusal::NoDomain { uuid })
    }
}

#[cfg(test)]
mod tests;
