//! Command and state give events, or a refusal.
//!
//! Refusals come in the order in which libvirt's test driver finds them.

use std::sync::Arc;

use crate::apply::{descendants, extent_of};
use crate::checkpoint;
use crate::snapshot::{self, Alignment, Uniform};
use crate::{
    Action, Change, CheckpointDef, Command, CreateCheckpoint, CreateSnapshot, DiskLocation,
    DiskRefused, DiskTracking, Domain, DomainDef, DomainUuid, Event, Extent, Memory, Moment,
    MomentChange, MomentId, MomentKind, MomentList, MomentName, Policy, Power, Redefine, Refusal,
    Resume, RunState, SnapshotDef, SnapshotState, State, StateChange,
};

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
            if let Some(moment) = domain.exceeds(&changes, self.work) {
                return Err(Refusal::Work {
                    moment,
                    left: self.work,
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

    fn define(&self, uuid: DomainUuid, def: &Arc<DomainDef>) -> Result<Vec<Change>, Refusal> {
        let policy = self.may_define(uuid, def)?;
        Ok(vec![Change::DomainDefined {
            def: def.clone(),
            policy,
            live: false,
        }])
    }

    fn create_live(&self, uuid: DomainUuid, def: &Arc<DomainDef>) -> Result<Vec<Change>, Refusal> {
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

    fn change_state(&self, change: StateChange, next_domain: u32) -> Result<Vec<Change>, Refusal> {
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
            StateChange::Resume => vec![to(
                RunState::Running,
                reason::RUNNING_UNPAUSED,
                self.power.id,
            )],
        })
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

    fn undefine(&self, with_snapshots: bool) -> Result<Change, Refusal> {
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

    fn create_snapshot(
        &self,
        create: &CreateSnapshot,
        id: MomentId,
    ) -> Result<Vec<Change>, Refusal> {
        self.admits(MomentKind::Snapshot)?;
        if create.halt {
            self.admits_halt()?;
        }
        if create
            .disks
            .iter()
            .any(|disk| disk.location == Some(DiskLocation::Manual))
        {
            return Err(DiskRefused::Manual.into());
        }
        let name = chosen_name(
            &self.snapshots,
            create.name.as_ref(),
            create.now,
            self.policy,
        );
        let state = match self.power.state {
            state if create.disk_only && state != RunState::Shutoff => SnapshotState::DiskSnapshot,
            state => SnapshotState::Run(state),
        };
        let memory = match &create.memory {
            _ if create.disk_only => Memory::No,
            Some(Memory::External(file)) => Memory::External(file.clone()),
            _ if state == SnapshotState::Run(RunState::Shutoff) => Memory::No,
            _ => Memory::Internal,
        };
        let alignment = Alignment {
            external: create.disk_only || matches!(memory, Memory::External(_)),
            overlays: self.policy.overlays,
            uniform: Uniform::Listed,
            name: &name,
        };
        let mut disks = alignment.align(&create.disks, &self.def)?;
        if create.disk_only {
            snapshot::keep_disks_alone(&mut disks, self.power.is_active())?;
        }
        free(&self.snapshots, &name)?;
        let def = SnapshotDef {
            // An empty one means one that was erased.
            description: create.description.clone().filter(|text| !text.is_empty()),
            state,
            memory,
            disks,
            domain: Some(self.def.clone()),
            inactive_domain: None,
            revert_disks: None,
            extra: create.extra.clone(),
        };
        let created = Change::Snapshot(MomentChange::Created {
            id,
            parent: self.snapshots.current_id(),
            name,
            created: create.now,
            def: MomentList::share(def, self.snapshots.current()),
            current: true,
        });
        let halted = Power {
            state: RunState::Shutoff,
            reason: reason::SHUTOFF_FROM_SNAPSHOT,
            id: None,
        };
        if create.halt && self.power.is_active() {
            Ok(vec![created, Change::StateChanged(halted)])
        } else {
            Ok(vec![created])
        }
    }

    fn redefine_snapshot(
        &self,
        redefine: &Redefine<SnapshotDef>,
        next: MomentId,
    ) -> Result<MomentChange<SnapshotDef>, Refusal> {
        let kind = MomentKind::Snapshot;
        let name = &redefine.name;
        self.admits(kind)?;
        let parent = self
            .snapshots
            .check_parent(name, redefine.parent.as_ref())?;
        self.own_uuid(kind, name, redefine.def.domain.as_deref())?;
        let existing = self.snapshots.find(Some(name.as_str()));
        let mut def = redefine.def.clone();
        def.description = def.description.filter(|text| !text.is_empty());
        if let Some(Moment { def: old, .. }) = existing {
            if old.state.is_online() != def.state.is_online() {
                return Err(Refusal::OnlineChange { name: name.clone() });
            }
            let disk_only = SnapshotState::DiskSnapshot;
            if (old.state == disk_only) != (def.state == disk_only) {
                return Err(Refusal::DiskOnlyChange { name: name.clone() });
            }
            match (&def.domain, &old.domain) {
                (Some(new), Some(old)) if new.memory_kib != old.memory_kib => {
                    return Err(Refusal::MemoryChange {
                        target: new.memory_kib,
                        source_kib: old.memory_kib,
                    });
                }
                (None, _) => def.domain.clone_from(&old.domain),
                _ => {}
            }
        }
        let domain = def
            .domain
            .as_deref()
            .ok_or(DiskRefused::NoDomain { kind })?;
        let alignment = Alignment {
            external: def.state == SnapshotState::DiskSnapshot || def.is_external(),
            overlays: self.policy.overlays,
            uniform: match &def.memory {
                _ if !self.policy.overlays => Uniform::Listed,
                Memory::No => Uniform::Not,
                _ => Uniform::Deviant,
            },
            name,
        };
        def.disks = alignment.align(&def.disks, domain)?;
        let current = redefine.current;
        let created = redefine.created;
        let like = existing.or_else(|| self.snapshots.get(parent?));
        let def = MomentList::share(def, like);
        Ok(match existing {
            Some(moment) => MomentChange::Redefined {
                id: moment.id,
                parent,
                created,
                def,
                current,
            },
            None => MomentChange::Created {
                id: next,
                parent,
                name: name.clone(),
                created,
                def,
                current,
            },
        })
    }

    fn create_checkpoint(
        &self,
        create: &CreateCheckpoint,
        id: MomentId,
    ) -> Result<MomentChange<CheckpointDef>, Refusal> {
        self.admits(MomentKind::Checkpoint)?;
        let name = chosen_name(
            &self.checkpoints,
            create.name.as_ref(),
            create.now,
            self.policy,
        );
        checkpoint_name(&name)?;
        let disks = checkpoint::align_disks(&create.disks, &self.def)?;
        free(&self.checkpoints, &name)?;
        let def = CheckpointDef {
            // An empty one means one that was erased.
            description: create.description.clone().filter(|text| !text.is_empty()),
            disks,
            domain: Some(self.def.clone()),
        };
        let current = self.checkpoints.current();
        Ok(MomentChange::Created {
            id,
            parent: current.map(|current| current.id),
            name,
            created: create.now,
            def: MomentList::share(def, current),
            current: true,
        })
    }

    fn redefine_checkpoint(
        &self,
        redefine: &Redefine<CheckpointDef>,
        next: MomentId,
    ) -> Result<MomentChange<CheckpointDef>, Refusal> {
        let kind = MomentKind::Checkpoint;
        let name = &redefine.name;
        self.admits(kind)?;
        checkpoint_name(name)?;
        let parent = self
            .checkpoints
            .check_parent(name, redefine.parent.as_ref())?;
        self.own_uuid(kind, name, redefine.def.domain.as_deref())?;
        self.keeps_chain(name, redefine.parent.as_ref())?;
        let mut def = redefine.def.clone();
        def.description = def.description.filter(|text| !text.is_empty());
        def.disks = match &def.domain {
            Some(domain) => checkpoint::align_disks(&def.disks, domain)?,
            None => def
                .disks
                .iter()
                .map(|disk| unresolved(disk, name))
                .collect(),
        };
        let current = match self.checkpoints.current_id() {
            None => true,
            leaf => parent == leaf,
        };
        let created = redefine.created;
        let existing = self.checkpoints.find(Some(name.as_str()));
        let like = existing.or_else(|| self.checkpoints.get(parent?));
        let def = MomentList::share(def, like);
        Ok(match existing {
            Some(moment) => MomentChange::Redefined {
                id: moment.id,
                parent,
                created,
                def,
                current,
            },
            None => MomentChange::Created {
                id: next,
                parent,
                name: name.clone(),
                created,
                def,
                current,
            },
        })
    }

    fn own_uuid(
        &self,
        kind: MomentKind,
        name: &MomentName,
        domain: Option<&DomainDef>,
    ) -> Result<(), Refusal> {
        match domain {
            Some(domain) if domain.uuid != self.uuid => Err(Refusal::WrongUuid {
                kind,
                name: name.clone(),
                uuid: self.uuid,
            }),
            _ => Ok(()),
        }
    }

    /// Refuses to hang a checkpoint anywhere but where it hangs or below the leaf, if the policy wants a chain.
    fn keeps_chain(&self, name: &MomentName, parent: Option<&MomentName>) -> Result<(), Refusal> {
        let Some(leaf) = self.checkpoints.current().filter(|_| self.policy.chain) else {
            return Ok(());
        };
        let stays = match self.checkpoints.find(Some(name.as_str())) {
            Some(moment) => self.checkpoints.parent(moment.id).map(|parent| parent.name) == parent,
            None => parent == Some(leaf.name),
        };
        if stays {
            Ok(())
        } else {
            Err(Refusal::Fork {
                domain: self.name.clone(),
                name: name.clone(),
                current: leaf.name.clone(),
            })
        }
    }

    fn revert(
        &self,
        name: &MomentName,
        resume: Option<Resume>,
        next_domain: u32,
    ) -> Result<Change, Refusal> {
        let snapshot = found(&self.snapshots, MomentKind::Snapshot, name)?;
        let state = snapshot.def.state;
        if !self.persistent && !state.is_online() && resume.is_none() {
            return Err(Refusal::RevertTransient);
        }
        if snapshot.def.domain.is_none() {
            return Err(Refusal::NoRollback {
                name: name.clone(),
                domain: self.name.clone(),
            });
        }
        let id = Some(next_domain);
        let running = Power {
            state: RunState::Running,
            reason: reason::RUNNING_FROM_SNAPSHOT,
            id,
        };
        let paused = Power {
            state: RunState::Paused,
            reason: reason::PAUSED_FROM_SNAPSHOT,
            id,
        };
        let power = if state.is_online() {
            match resume {
                Some(Resume::Running) => running,
                Some(Resume::Paused) => paused,
                None if state == SnapshotState::Run(RunState::Paused) => paused,
                None => running,
            }
        } else if self.power.is_active() {
            Power {
                state: RunState::Shutoff,
                reason: reason::SHUTOFF_FROM_SNAPSHOT,
                id: None,
            }
        } else {
            self.power
        };
        Ok(Change::Reverted {
            id: snapshot.id,
            power,
        })
    }
}

fn found<'a, D>(
    list: &'a MomentList<D>,
    kind: MomentKind,
    name: &MomentName,
) -> Result<Moment<'a, D>, Refusal> {
    list.find(Some(name.as_str()))
        .ok_or_else(|| Refusal::NoMoment {
            kind,
            name: name.clone(),
        })
}

fn free<D>(list: &MomentList<D>, name: &MomentName) -> Result<(), Refusal> {
    match list.find(Some(name.as_str())) {
        Some(_) => Err(Refusal::NameTaken { name: name.clone() }),
        None => Ok(()),
    }
}

/// Returns the name asked for, or the second; under `suffix` the first of `NOW`, `NOW-2`, `NOW-3`, … that is free.
fn chosen_name<D>(
    list: &MomentList<D>,
    name: Option<&MomentName>,
    now: i64,
    policy: Policy,
) -> MomentName {
    if let Some(name) = name {
        return name.clone();
    }
    let second = MomentName::new(&now.to_string()).expect("a number is a name");
    if !policy.suffix || list.find(Some(second.as_str())).is_none() {
        return second;
    }
    (2..=u64::MAX)
        .filter_map(|number| MomentName::new(&format!("{now}-{number}")))
        .find(|name| list.find(Some(name.as_str())).is_none())
        .expect("a list does not hold every name")
}

fn checkpoint_name(name: &MomentName) -> Result<(), Refusal> {
    if MomentName::is_checkpoint_name(name.as_str()) {
        Ok(())
    } else {
        Err(Refusal::CheckpointName { name: name.clone() })
    }
}

/// A disk that no domain resolves: its name stays as given, and its bitmap must be named once and for all.
fn unresolved(disk: &checkpoint::CheckpointDisk, name: &MomentName) -> checkpoint::CheckpointDisk {
    let mut disk = disk.clone();
    if disk.tracking == DiskTracking::Bitmap(Some(name.as_str().into())) {
        disk.tracking = DiskTracking::Bitmap(None);
    }
    disk
}

/// The deletion that both kinds share: current moves to the parent if it goes, or to the moment if only that stays.
fn delete<D>(
    list: &MomentList<D>,
    kind: MomentKind,
    name: &MomentName,
    extent: Extent,
) -> Result<MomentChange<D>, Refusal> {
    let id = found(list, kind, name)?.id;
    let below = descendants(list, id, extent);
    let removed = extent_of(id, extent, &below);
    let children_moved = if extent == Extent::One {
        list.child_count(Some(id)) as u64
    } else {
        0
    };
    let current = match list.current_id() {
        Some(current) if removed.contains(current) => match extent {
            Extent::ChildrenOnly => Some(id),
            Extent::One | Extent::Subtree => list.parent(id).map(|parent| parent.id),
        },
        current => current,
    };
    Ok(MomentChange::Deleted {
        id,
        extent,
        removed,
        children_moved,
        current,
    })
}

fn reparent<D>(
    list: &MomentList<D>,
    kind: MomentKind,
    name: &MomentName,
    parent: Option<&MomentName>,
) -> Result<MomentChange<D>, Refusal> {
    let id = found(list, kind, name)?.id;
    let parent = list.check_parent(name, parent)?;
    Ok(MomentChange::Reparented { id, parent })
}

fn set_current<D>(
    list: &MomentList<D>,
    kind: MomentKind,
    name: Option<&MomentName>,
) -> Result<MomentChange<D>, Refusal> {
    let current = name
        .map(|name| found(list, kind, name).map(|moment| moment.id))
        .transpose()?;
    Ok(MomentChange::CurrentSet(current))
}

#[cfg(test)]
mod tests;
