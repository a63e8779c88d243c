//! What commands about a domain itself cause.

use std::sync::Arc;

use super::reason;
use crate::{
    Change, Domain, DomainDef, DomainUuid, Policy, Power, Refusal, RunState, State, StateChange,
};

impl State {
    pub(super) fn define(&self, uuid: DomainUuid, def: &Arc<DomainDef>) -> Result<Change, Refusal> {
        let policy = self.may_define(uuid, def)?;
        Ok(Change::DomainDefined {
            def: def.clone(),
            policy,
            live: false,
        })
    }

    pub(super) fn define_live(
        &self,
        uuid: DomainUuid,
        def: &Arc<DomainDef>,
    ) -> Result<Change, Refusal> {
        if !self.known(uuid)?.power.is_active() {
            return Err(Refusal::Inactive);
        }
        let policy = self.may_define(uuid, def)?;
        Ok(Change::DomainDefined {
            def: def.clone(),
            policy,
            live: true,
        })
    }

    pub(super) fn create_live(
        &self,
        uuid: DomainUuid,
        def: &Arc<DomainDef>,
    ) -> Result<Vec<Change>, Refusal> {
        let policy = self.may_define(uuid, def)?;
        if let Some(domain) = self.domain(uuid) {
            let name = domain.name.clone();
            if domain.power.is_active() {
                return Err(Refusal::AlreadyActive { name });
            }
            if !domain.persistent {
                return Err(Refusal::BeingStarted { name });
            }
        }
        let id = Some(self.next_domain);
        let power = Power {
            state: RunState::Running,
            reason: reason::RUNNING_BOOTED,
            id,
        };
        Ok(vec![
            Change::DomainDefined {
                def: def.clone(),
                policy,
                live: true,
            },
            Change::StateChanged(power),
        ])
    }

    /// Follows libvirt's test driver: the run state comes first, then the name that the domain has, then those of others.
    pub(super) fn rename(&self, uuid: DomainUuid, def: &Arc<DomainDef>) -> Result<Change, Refusal> {
        let domain = self.known(uuid)?;
        if def.uuid != uuid {
            return Err(Refusal::DefinitionUuid {
                expected: uuid,
                found: def.uuid,
            });
        }
        if domain.power.is_active() {
            return Err(Refusal::RenameActive);
        }
        if domain.name == def.name {
            return Err(Refusal::RenameToItself);
        }
        if self.domain_by_name(&def.name).is_some() {
            let name = def.name.clone();
            return Err(Refusal::RenameTaken { name });
        }
        Ok(Change::DomainRenamed(def.clone()))
    }

    /// Returns the policy of the domain that may have this definition.
    fn may_define(&self, uuid: DomainUuid, def: &DomainDef) -> Result<Policy, Refusal> {
        if def.uuid != uuid {
            return Err(Refusal::DefinitionUuid {
                expected: uuid,
                found: def.uuid,
            });
        }
        if let Some(domain) = self.domain(uuid) {
            if domain.name != def.name {
                return Err(Refusal::DomainRenamed {
                    name: domain.name.clone(),
                    uuid,
                });
            }
            return Ok(domain.policy);
        }
        match self.domain_by_name(&def.name) {
            Some(other) => Err(Refusal::DomainNameTaken {
                name: def.name.clone(),
                uuid: other.uuid,
            }),
            None => Ok(self.policy_of_new(uuid)),
        }
    }
}

impl Domain {
    pub(super) fn change_state(
        &self,
        change: StateChange,
        next_domain: u32,
    ) -> Result<Vec<Change>, Refusal> {
        let name = || self.name.clone();
        let is = |state| self.power.state == state;
        let to = |state, reason, id| Change::StateChanged(Power { state, reason, id });
        Ok(match change {
            StateChange::Start if self.power.is_active() => {
                return Err(Refusal::AlreadyRunning { name: name() });
            }
            StateChange::Start => vec![to(
                RunState::Running,
                reason::RUNNING_BOOTED,
                Some(next_domain),
            )],
            StateChange::Shutdown if !self.power.is_active() => {
                return Err(Refusal::NotRunning { name: name() });
            }
            StateChange::Shutdown => self.stop(reason::SHUTOFF_SHUTDOWN),
            StateChange::Destroy if !self.power.is_active() => return Err(Refusal::Inactive),
            StateChange::Destroy => self.stop(reason::SHUTOFF_DESTROYED),
            StateChange::Suspend if is(RunState::Shutoff) || is(RunState::Paused) => {
                return Err(Refusal::NotRunning { name: name() });
            }
            StateChange::Suspend => vec![to(RunState::Paused, reason::PAUSED_USER, self.power.id)],
            StateChange::Resume if !is(RunState::Paused) => {
                return Err(Refusal::NotPaused { name: name() });
            }
            StateChange::Reboot { .. } | StateChange::Reset if !self.power.is_active() => {
                return Err(Refusal::Inactive);
            }
            StateChange::Reboot { ends: true } => self.stop(reason::SHUTOFF_SHUTDOWN),
            // A guest that is paused runs then.
            StateChange::Reboot { ends: false } => {
                vec![to(RunState::Running, reason::RUNNING_BOOTED, self.power.id)]
            }
            // It is in the same state; the record says that it was reset.
            StateChange::Reset => vec![Change::StateChanged(self.power)],
            StateChange::Resume => vec![to(
                RunState::Running,
                reason::RUNNING_UNPAUSED,
                self.power.id,
            )],
        })
    }

    /// Returns what it causes that the guest was seen in this run state.
    pub(super) fn observe(&self, state: RunState, reason: u8, next_domain: u32) -> Vec<Change> {
        if self.power.state == state {
            return Vec::new();
        }
        if state == RunState::Shutoff && self.holds.is_empty() {
            return self.stop(reason);
        }
        if state == RunState::Shutoff {
            // That the guest is gone cannot be refused; its record stays as long as a moment of it is held.
            return vec![Change::StateChanged(Power {
                state,
                reason,
                id: None,
            })];
        }
        let id = self.power.id.or(Some(next_domain));
        vec![Change::StateChanged(Power { state, reason, id })]
    }

    /// Returns what stopping causes: a transient domain is gone after that.
    fn stop(&self, reason: u8) -> Vec<Change> {
        let stopped = Change::StateChanged(Power {
            state: RunState::Shutoff,
            reason,
            id: None,
        });
        if self.persistent {
            vec![stopped]
        } else {
            vec![stopped, Change::DomainRemoved]
        }
    }

    pub(super) fn set_policy(&self, policy: Policy) -> Result<Change, Refusal> {
        self.meets(policy).map_err(Refusal::PolicyUnmet)?;
        Ok(Change::PolicySet(policy))
    }

    pub(super) fn undefine(&self, with_snapshots: bool) -> Result<Change, Refusal> {
        if self.power.is_active() {
            return Ok(Change::MadeTransient);
        }
        if !self.snapshots.is_empty() && !with_snapshots {
            return Err(Refusal::HasSnapshots {
                count: self.snapshots.len(),
            });
        }
        Ok(Change::DomainRemoved)
    }
}
