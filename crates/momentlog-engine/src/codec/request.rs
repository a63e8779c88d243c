//! Digests of requests, by which a retry is known: over bytes that `docs/format.md` describes.

use std::sync::Arc;

use momentlog_core::{
    Action, CheckpointDef, CheckpointDisk, Command, DomainDef, DomainUuid, MomentKind, MomentName,
    Redefine, Resume, SettingsChange, SnapshotDef, SnapshotDisk, StateChange,
};
use sha2::{Digest as _, Sha256};

use super::body::{self, StoredPolicy, encode_body, put_body};
use crate::call::Call;

/// Returns the digest of a call: about a domain, or about none or one that the arguments name.
pub(crate) fn request_digest(
    (call, flags): (Call, u32),
    domain: Option<DomainUuid>,
    arguments: &[&[u8]],
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"momentlog request v1");
    hash.update(call.number().to_le_bytes());
    hash.update(flags.to_le_bytes());
    hash.update(domain.map_or([0; 16], |domain| *domain.as_bytes()));
    for argument in arguments {
        hash.update((argument.len() as u64).to_le_bytes());
        hash.update(argument);
    }
    hash.finalize().into()
}

/// Returns the digest of a typed command. The time is no part of it: a retry reads the clock again.
pub(crate) fn command_digest(call: (Call, u32), command: &Command) -> [u8; 32] {
    request_digest(
        call,
        Some(command.domain),
        &[&action_bytes(&command.action)],
    )
}

/// Returns the digest of a change of the store's settings.
pub(crate) fn settings_digest(change: SettingsChange) -> [u8; 32] {
    let policy = change.policy.map(StoredPolicy::from);
    let bytes = encode_body(&(policy, change.request_window_s));
    request_digest((Call::SET_SETTINGS, 0), None, &[&bytes])
}

fn action_bytes(action: &Action) -> Vec<u8> {
    let mut out = Vec::new();
    let put = &mut out;
    match action {
        Action::Define(def) => {
            put_body(&1_u16, put);
            put_domain(def, put);
        }
        Action::CreateLive(def) => {
            put_body(&2_u16, put);
            put_domain(def, put);
        }
        Action::ChangeState(change) => {
            let change: u8 = match change {
                StateChange::Start => 1,
                StateChange::Shutdown => 2,
                StateChange::Destroy => 3,
                StateChange::Suspend => 4,
                StateChange::Resume => 5,
            };
            put_body(&(3_u16, change), put);
        }
        Action::Undefine { with_snapshots } => put_body(&(4_u16, with_snapshots), put),
        Action::SetPolicy(policy) => put_body(&(5_u16, StoredPolicy::from(*policy)), put),
        Action::CreateSnapshot(create) => {
            let description = create.description.as_deref();
            let memory = create.memory.as_ref().map(body::memory_of);
            put_body(
                &(6_u16, text(create.name.as_ref()), description, memory),
                put,
            );
            put_body(&snapshot_disks(&create.disks), put);
            put_body(
                &(create.extra.as_deref(), create.disk_only, create.halt),
                put,
            );
        }
        Action::RedefineSnapshot(redefine) => {
            put_body(&7_u16, put);
            put_redefine(redefine, put);
            put_snapshot(&redefine.def, put);
        }
        Action::CreateCheckpoint(create) => {
            let description = create.description.as_deref();
            put_body(&(8_u16, text(create.name.as_ref()), description), put);
            put_body(&checkpoint_disks(&create.disks), put);
        }
        Action::RedefineCheckpoint(redefine) => {
            put_body(&9_u16, put);
            put_redefine(redefine, put);
            put_checkpoint(&redefine.def, put);
        }
        Action::Delete { kind, name, extent } => {
            let extent = body::extent_of(*extent);
            put_body(&(10_u16, kind_of(*kind), name.as_str(), extent), put);
        }
        Action::Reparent { kind, name, parent } => {
            let parent = text(parent.as_ref());
            put_body(&(11_u16, kind_of(*kind), name.as_str(), parent), put);
        }
        Action::SetCurrent { kind, name } => {
            put_body(&(12_u16, kind_of(*kind), text(name.as_ref())), put);
        }
        Action::Revert { name, resume } => {
            let resume: Option<u8> = resume.map(|resume| match resume {
                Resume::Running => 1,
                Resume::Paused => 2,
            });
            put_body(&(13_u16, name.as_str(), resume), put);
        }
    }
    out
}

fn text(name: Option<&MomentName>) -> Option<&str> {
    name.map(MomentName::as_str)
}

fn kind_of(kind: MomentKind) -> u8 {
    match kind {
        MomentKind::Snapshot => 1,
        MomentKind::Checkpoint => 2,
    }
}

fn put_redefine<D>(redefine: &Redefine<D>, out: &mut Vec<u8>) {
    let parent = text(redefine.parent.as_ref());
    let Redefine {
        name,
        created,
        current,
        ..
    } = redefine;
    put_body(&(name.as_str(), parent, created, current), out);
}

fn put_domain(def: &DomainDef, out: &mut Vec<u8>) {
    put_body(&(&*def.xml, body::DomainFacts::of(def)), out);
}

fn put_optional_domain(def: Option<&Arc<DomainDef>>, out: &mut Vec<u8>) {
    put_body(&def.is_some(), out);
    if let Some(def) = def {
        put_domain(def, out);
    }
}

fn put_snapshot(def: &SnapshotDef, out: &mut Vec<u8>) {
    put_body(&body::state_of(def.state), out);
    put_body(&body::memory_of(&def.memory), out);
    put_body(&def.description.as_deref(), out);
    put_body(&snapshot_disks(&def.disks), out);
    put_optional_domain(def.domain.as_ref(), out);
    put_optional_domain(def.inactive_domain.as_ref(), out);
    put_body(&(def.revert_disks.as_deref(), def.extra.as_deref()), out);
}

fn put_checkpoint(def: &CheckpointDef, out: &mut Vec<u8>) {
    put_body(&def.description.as_deref(), out);
    put_body(&checkpoint_disks(&def.disks), out);
    put_optional_domain(def.domain.as_ref(), out);
}

/// Name, location, kind, driver, source and XML of a disk.
type SnapshotDiskBytes<'a> = (
    &'a str,
    Option<u8>,
    u8,
    Option<&'a str>,
    Option<&'a str>,
    Option<&'a str>,
);

fn snapshot_disks(disks: &[SnapshotDisk]) -> Vec<SnapshotDiskBytes<'_>> {
    disks
        .iter()
        .map(|disk| {
            (
                &*disk.name,
                disk.location.map(body::location_of),
                body::kind_of(disk.kind),
                disk.driver.as_deref(),
                disk.source.as_deref(),
                disk.xml.as_deref(),
            )
        })
        .collect()
}

fn checkpoint_disks(disks: &[CheckpointDisk]) -> Vec<body::StoredCheckpointDisk<'_>> {
    disks.iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use momentlog_core::{Extent, Profile};

    use super::*;

    fn vector(name: &str) -> String {
        let page = include_str!("../../../../docs/format/requests.txt");
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    }

    fn hex(digest: [u8; 32]) -> String {
        digest.map(|byte| format!("{byte:02x}")).concat()
    }

    #[test]
    fn digests_are_those_of_the_page() {
        let domain: DomainUuid = "3f2c7a90-5d1e-4b7c-9a52-0c6f1d8e4b21".parse().unwrap();
        let create = request_digest(
            (Call::CHECKPOINT_CREATE_XML, 2),
            Some(domain),
            &[b"<domaincheckpoint/>"],
        );
        assert_eq!(hex(create), vector("checkpoint-create-xml"));
        let define = request_digest((Call::DEFINE_XML, 0), None, &[b"<domain/>"]);
        assert_eq!(hex(define), vector("define-xml"));
        let command = |action| Command { domain, action };
        let delete = command(Action::Delete {
            kind: MomentKind::Checkpoint,
            name: MomentName::new("monday").unwrap(),
            extent: Extent::Subtree,
        });
        let call = (Call::EXECUTE, 0);
        assert_eq!(hex(command_digest(call, &delete)), vector("execute-delete"));
        let policy = command(Action::SetPolicy(Profile::Own.policy()));
        let call = (Call::SET_POLICY, 0);
        assert_eq!(hex(command_digest(call, &policy)), vector("set-policy"));
        let settings = settings_digest(SettingsChange {
            policy: None,
            request_window_s: Some(86_400),
        });
        assert_eq!(hex(settings), vector("set-settings"));
    }
}
