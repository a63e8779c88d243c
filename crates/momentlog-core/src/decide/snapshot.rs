//! What commands about snapshots cause.

use super::moments::{chosen_name, put_back, require, require_free};
use super::reason;
use crate::snapshot::{self, Alignment, Uniform};
use crate::{
    Change, CreateSnapshot, DiskLocation, DiskRefused, Domain, Memory, Moment, MomentChange,
    MomentId, MomentKind, MomentList, MomentName, Power, Redefine, Refusal, Resume, RunState,
    SnapshotDef, SnapshotState,
};

impl Domain {
    pub(super) fn create_snapshot(
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
        require_free(&self.snapshots, &name)?;
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

    pub(super) fn redefine_snapshot(
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
        let existing = self.snapshots.find(name.as_str());
        let mut redefine = redefine.clone();
        let def = &mut redefine.def;
        def.description = def.description.take().filter(|text| !text.is_empty());
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
        Ok(put_back(&self.snapshots, redefine, parent, next))
    }

    pub(super) fn revert(
        &self,
        name: &MomentName,
        resume: Option<Resume>,
        next_domain: u32,
    ) -> Result<Change, Refusal> {
        let snapshot = require(&self.snapshots, MomentKind::Snapshot, name)?;
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
