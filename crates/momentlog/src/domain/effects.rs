//! What a command does to the hypervisor of an attached domain, decided by what is seen.

use momentlog_core::{
    Action, Change, Command, DiskEffect, DiskTracking, Domain as DomainState, Event, FileToMake,
    JobKind, MomentChange, MomentKind, Redefine, Refusal, Scope, align_disks,
};
use momentlog_core::{CheckpointDef, CreateSnapshot, State};
use momentlog_engine::{Call, Decision};

use crate::driver::{Sight, Tracked, plan};
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::flags::{
    CheckpointCreateFlags, CheckpointDeleteFlags, SnapshotCreateFlags, SnapshotDeleteFlags,
};

/// What a command does to the hypervisor.
pub(super) struct Effects {
    pub(super) kind: JobKind,
    pub(super) on_disks: Vec<DiskEffect>,
    pub(super) files: Vec<FileToMake>,
}

impl Effects {
    /// Returns the effects of a command; none if it is about records alone. `sight` is none if the guest is off.
    pub(super) fn of(
        decision: &mut Decision<'_>,
        command: &Command,
        (_, flags): (Call, u32),
        sight: Option<&Sight>,
    ) -> Result<Option<Effects>> {
        let state = decision.state();
        let uuid = command.domain;
        let domain = state.domain(uuid).ok_or(Refusal::NoDomain { uuid })?;
        match &command.action {
            Action::CreateCheckpoint(_) => create_checkpoint(state, domain, command, sight),
            Action::RedefineCheckpoint(redefine) => {
                let flags = CheckpointCreateFlags::from_bits_retain(flags);
                if flags.contains(CheckpointCreateFlags::REDEFINE_VALIDATE) {
                    state.decide(command)?;
                    validate(redefine, sight)?;
                }
                Ok(None)
            }
            Action::Delete {
                kind: MomentKind::Checkpoint,
                ..
            } => {
                let flags = CheckpointDeleteFlags::from_bits_retain(flags);
                if flags.contains(CheckpointDeleteFlags::METADATA_ONLY) {
                    return Ok(None);
                }
                delete_checkpoints(domain, &state.decide(command)?, sight)
            }
            Action::CreateSnapshot(create) => {
                let sight = sight.ok_or_else(|| no_offline_snapshot(domain))?;
                let flags = SnapshotCreateFlags::from_bits_retain(flags);
                create_snapshot(state, command, create, flags, sight)
            }
            Action::Delete {
                kind: MomentKind::Snapshot,
                ..
            } => {
                let flags = SnapshotDeleteFlags::from_bits_retain(flags);
                if flags.contains(SnapshotDeleteFlags::METADATA_ONLY) {
                    return Ok(None);
                }
                delete_snapshot(domain, &state.decide(command)?, sight)
            }
            Action::Revert { .. } => Err(unsupported("an attached guest is not reverted")),
            _ => Ok(None),
        }
    }

    fn on_disks(kind: JobKind, on_disks: Vec<DiskEffect>) -> Option<Effects> {
        // What touches no disk is about records alone.
        (!on_disks.is_empty()).then_some(Effects {
            kind,
            on_disks,
            files: Vec::new(),
        })
    }
}

fn create_checkpoint(
    state: &State,
    domain: &DomainState,
    command: &Command,
    sight: Option<&Sight>,
) -> Result<Option<Effects>> {
    let sight = sight.ok_or(Refusal::CheckpointInactive)?;
    // The images are looked at before the name, as libvirt does.
    plan::vet_tops(sight, &wanted(domain, command))?;
    let tracked = created_checkpoint(&state.decide(command)?);
    let on_disks = plan::additions(sight, &tracked)?;
    Ok(Effects::on_disks(JobKind::CreateCheckpoint, on_disks))
}

fn validate(redefine: &Redefine<CheckpointDef>, sight: Option<&Sight>) -> Result<()> {
    let sight = sight.ok_or(Refusal::Inactive)?;
    let mut tracked = Tracked::of(&redefine.name, &redefine.def);
    // A disk that the domain no longer has is tolerated.
    tracked.retain(|tracked| sight.disk(&tracked.disk).is_some());
    Ok(plan::validate(sight, &tracked)?)
}

fn delete_checkpoints(
    domain: &DomainState,
    events: &[Event],
    sight: Option<&Sight>,
) -> Result<Option<Effects>> {
    let sight = sight.ok_or_else(|| unsupported("cannot delete checkpoint for inactive domain"))?;
    let mut on_disks = Vec::new();
    let mut refused = None;
    // Of several that cannot be deleted, libvirt names the last.
    for tracked in deleted_checkpoints(domain, events) {
        match plan::removals(sight, &tracked) {
            Ok(removals) => on_disks.extend(removals),
            Err(fault) => refused = Some(fault),
        }
    }
    match refused {
        Some(fault) => Err(fault.into()),
        None => Ok(Effects::on_disks(JobKind::DeleteCheckpoint, on_disks)),
    }
}

fn no_offline_snapshot(domain: &DomainState) -> Error {
    if domain.checkpoints().is_empty() {
        unsupported("a snapshot of an attached guest that is off is not made")
    } else {
        unsupported("cannot perform block operations while checkpoint exists")
    }
}

fn create_snapshot(
    state: &State,
    command: &Command,
    create: &CreateSnapshot,
    flags: SnapshotCreateFlags,
    sight: &Sight,
) -> Result<Option<Effects>> {
    if !create.disk_only {
        let why = "of an attached guest, only snapshots of its disks are made (DISK_ONLY)";
        return Err(unsupported(why));
    }
    let reuse = flags.contains(SnapshotCreateFlags::REUSE_EXT);
    let mut effects = None;
    for event in state.decide(command)? {
        if let Change::Snapshot(MomentChange::Created { def, .. }) = &event.change {
            let (on_disks, files) = plan::overlays(sight, def, reuse)?;
            effects = Some(Effects {
                kind: JobKind::CreateSnapshot,
                on_disks,
                files,
            });
        }
    }
    Ok(effects)
}

fn delete_snapshot(
    domain: &DomainState,
    events: &[Event],
    sight: Option<&Sight>,
) -> Result<Option<Effects>> {
    let list = domain.snapshots();
    let mut on_disks = Vec::new();
    for event in events {
        let Change::Snapshot(MomentChange::Deleted {
            removed,
            children_moved,
            ..
        }) = &event.change
        else {
            continue;
        };
        let gone = list.walk(Scope::All);
        let gone: Vec<_> = gone
            .filter(|moment| removed.contains(moment.id) && moment.def.is_external())
            .collect();
        if gone.is_empty() {
            continue;
        }
        let sight = sight.ok_or_else(|| {
            unsupported("the overlays of an attached guest that is off are not merged")
        })?;
        if gone.len() > 1 || *children_moved > 0 {
            let why = "of an attached guest, one snapshot without children is deleted at a time, or records alone (METADATA_ONLY)";
            return Err(unsupported(why));
        }
        for moment in gone {
            on_disks.extend(plan::merges(sight, moment.def)?);
        }
    }
    Ok(Effects::on_disks(JobKind::DeleteSnapshot, on_disks))
}

fn unsupported(why: &str) -> Error {
    Error::new(ErrorCode::OperationUnsupported, ErrorDomain::Test, why)
}

/// What a new checkpoint is to track, if its disks are those of the domain.
pub(super) fn wanted(domain: &DomainState, command: &Command) -> Vec<Tracked> {
    let Action::CreateCheckpoint(create) = &command.action else {
        return Vec::new();
    };
    let aligned = align_disks(&create.disks, domain.def()).unwrap_or_default();
    let tracked = aligned
        .into_iter()
        .filter(|disk| disk.tracking != DiskTracking::No);
    let tracked = tracked.map(|disk| Tracked {
        disk: disk.name,
        bitmap: "".into(),
    });
    tracked.collect()
}

/// What a new checkpoint tracks.
pub(super) fn created_checkpoint(events: &[Event]) -> Vec<Tracked> {
    let tracked = events.iter().filter_map(|event| match &event.change {
        Change::Checkpoint(MomentChange::Created { name, def, .. }) => Some(Tracked::of(name, def)),
        _ => None,
    });
    tracked.flatten().collect()
}

/// What each checkpoint tracks that a deletion removes.
fn deleted_checkpoints(domain: &DomainState, events: &[Event]) -> Vec<Vec<Tracked>> {
    let list = domain.checkpoints();
    let mut tracked = Vec::new();
    for event in events {
        if let Change::Checkpoint(MomentChange::Deleted { removed, .. }) = &event.change {
            let gone = list.walk(Scope::All);
            let gone = gone.filter(|moment| removed.contains(moment.id));
            tracked.extend(gone.map(|moment| Tracked::of(moment.name, moment.def)));
        }
    }
    tracked
}
