//! Command and state give events, or a refusal.
//!
//! Refusals come in the order in which libvirt's test driver finds them.

mod checkpoint;
mod domain;
mod moments;
mod snapshot;

use crate::{
    Action, Change, Command, Domain, DomainUuid, Event, MomentId, MomentKind, Refusal, State,
};
use moments::{delete, reparent, set_current};

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
        let uuid = command.domain;
        let changes: Vec<Change> = match &command.action {
            Action::Define(def) => self.define(uuid, def)?,
            Action::CreateLive(def) => self.create_live(uuid, def)?,
            action => self
                .known(uuid)?
                .decide(action, self.next_moment, self.next_domain)?,
        };
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
                return Err(Refusal::JobOpen {
                    name: domain.name.clone(),
                    job: open.id,
                });
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

    fn known(&self, uuid: DomainUuid) -> Result<&Domain, Refusal> {
        self.domain(uuid).ok_or(Refusal::NoDomain { uuid })
    }
}

impl Domain {
    fn decide(
        &self,
        action: &Action,
        next_moment: Option<MomentId>,
        next_domain: u32,
    ) -> Result<Vec<Change>, Refusal> {
        let next_id = || next_moment.ok_or(Refusal::IdsExhausted);
        Ok(match action {
            Action::Define(_) | Action::CreateLive(_) => unreachable!("decided by the state"),
            Action::ChangeState(change) => self.change_state(*change, next_domain)?,
            Action::Undefine { with_snapshots } => vec![self.undefine(*with_snapshots)?],
            Action::SetPolicy(policy) => {
                self.meets(*policy).map_err(Refusal::PolicyUnmet)?;
                vec![Change::PolicySet(*policy)]
            }
            Action::CreateSnapshot(create) => self.create_snapshot(create, next_id()?)?,
            Action::RedefineSnapshot(redefine) => {
                vec![Change::Snapshot(
                    self.redefine_snapshot(redefine, next_id()?)?,
                )]
            }
            Action::CreateCheckpoint(create) => vec![Change::Checkpoint(
                self.create_checkpoint(create, next_id()?)?,
            )],
            Action::RedefineCheckpoint(redefine) => {
                vec![Change::Checkpoint(
                    self.redefine_checkpoint(redefine, next_id()?)?,
                )]
            }
            Action::Delete { kind, name, extent } => vec![match kind {
                MomentKind::Snapshot => {
                    Change::Snapshot(delete(&self.snapshots, *kind, name, *extent)?)
                }
                MomentKind::Checkpoint => {
                    Change::Checkpoint(delete(&self.checkpoints, *kind, name, *extent)?)
                }
            }],
            Action::Reparent { kind, name, parent } => vec![match kind {
                MomentKind::Snapshot => {
                    Change::Snapshot(reparent(&self.snapshots, *kind, name, parent.as_ref())?)
                }
                MomentKind::Checkpoint => {
                    let change = reparent(&self.checkpoints, *kind, name, parent.as_ref())?;
                    self.keeps_chain(name, parent.as_ref())?;
                    Change::Checkpoint(change)
                }
            }],
            Action::SetCurrent { kind, name } => vec![match kind {
                MomentKind::Snapshot => {
                    Change::Snapshot(set_current(&self.snapshots, *kind, name.as_ref())?)
                }
                MomentKind::Checkpoint => {
                    let change = set_current(&self.checkpoints, *kind, name.as_ref())?;
                    match self.checkpoints.current() {
                        Some(leaf) if self.policy.chain && name.as_ref() != Some(leaf.name) => {
                            return Err(Refusal::LeafIsCurrent {
                                domain: self.name.clone(),
                                current: leaf.name.clone(),
                            });
                        }
                        _ => Change::Checkpoint(change),
                    }
                }
            }],
            Action::Revert { name, resume } => vec![self.revert(name, *resume, next_domain)?],
        })
    }
}

#[cfg(test)]
mod tests;
