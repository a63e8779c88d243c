//! Digests of requests, by which a retry is known: over bytes that `docs/format.md` describes.

use std::sync::Arc;

use momentlog_core::{
    Above, Action, CheckpointDef, CheckpointDisk, Command, CreateCheckpoint, CreateSnapshot,
    DomainDef, DomainUuid, Hold, MomentKind, MomentName, Redefine, Resume, SettingsChange,
    SnapshotDef, SnapshotDisk, StateChange, Undeleted,
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
    let SettingsChange {
        policy,
        request_window_s,
    } = change;
    let policy = encode_body(&policy.map(StoredPolicy::from));
    let window = encode_body(&request_window_s);
    request_digest((Call::SET_SETTINGS, 0), None, &[&policy, &window])
}

/// Returns the bytes of a command. Everything is taken apart by name, so that no field that is added is forgotten; times
/// that a clock gave are left out.
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
            put_body(&(3_u16, number_of(*change)), put);
        }
        Action::Undefine { with_snapshots } => put_body(&(4_u16, with_snapshots), put),
        Action::SetPolicy(policy) => put_body(&(5_u16, StoredPolicy::from(*policy)), put),
        Action::CreateSnapshot(CreateSnapshot {
            name,
            description,
            now: _,
            memory,
            disks,
            extra,
            disk_only,
            halt,
        }) => {
            let memory = memory.as_ref().map(body::memory_of);
            let name = text(name.as_ref());
            put_body(&(6_u16, name, description.as_deref(), memory), put);
            put_body(&snapshot_disks(disks), put);
            put_body(&(extra.as_deref(), disk_only, halt), put);
        }
        Action::RedefineSnapshot(redefine) => {
            put_body(&7_u16, put);
            put_redefine(redefine, put);
            put_snapshot(&redefine.def, put);
        }
        Action::CreateCheckpoint(CreateCheckpoint {
            name,
            description,
            now: _,
            disks,
        }) => {
            let name = text(name.as_ref());
            put_body(&(8_u16, name, description.as_deref()), put);
            put_body(&checkpoint_disks(disks), put);
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
        Action::Hold {
            kind,
            name,
            tag,
            hold: Hold { since: _, by },
        } => {
            let (kind, tag) = (kind_of(*kind), tag.as_str());
            put_body(&(14_u16, kind, name.as_str(), tag, &**by), put);
        }
        Action::Rename(def) => {
            put_body(&17_u16, put);
            put_domain(def, put);
        }
        Action::DefineLive(def) => {
            put_body(&19_u16, put);
            put_domain(def, put);
        }
        Action::SetAutostart(autostart) => put_body(&(18_u16, autostart), put),
        Action::Undelete(undelete) => {
            put_body(&16_u16, put);
            put_undeleted(&undelete.snapshots, put_snapshot, put);
            put_undeleted(&undelete.checkpoints, put_checkpoint, put);
        }
        Action::Release { kind, name, tag } => {
            let (kind, tag) = (kind_of(*kind), tag.as_str());
            put_body(&(15_u16, kind, name.as_str(), tag), put);
        }
    }
    out
}

fn number_of(change: StateChange) -> u8 {
    match change {
        StateChange::Start => 1,
        StateChange::Shutdown => 2,
        StateChange::Destroy => 3,
        StateChange::Suspend => 4,
        StateChange::Resume => 5,
        StateChange::Reboot { ends: false } => 6,
        StateChange::Reboot { ends: true } => 7,
        StateChange::Reset => 8,
    }
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

/// Writes all of a redefinition but what it defines.
fn put_redefine<D>(redefine: &Redefine<D>, out: &mut Vec<u8>) {
    let Redefine {
        name,
        parent,
        created,
        def: _,
        current,
    } = redefine;
    let parent = text(parent.as_ref());
    put_body(&(name.as_str(), parent, created, current), out);
}

/// Writes the moments of one kind that are put back.
fn put_undeleted<D>(moments: &[Undeleted<D>], put_def: fn(&D, &mut Vec<u8>), out: &mut Vec<u8>) {
    put_body(&(moments.len() as u64), out);
    for Undeleted {
        name,
        parent,
        created,
        def,
        children,
        current,
    } in moments
    {
        let (above, number) = match parent {
            Above::Nothing => (0_u8, 0),
            Above::Moment(id) => (1, id.get()),
            Above::Undeleted(place) => (2, *place as u64),
        };
        let children: Vec<u64> = children.iter().map(|child| child.get()).collect();
        put_body(&(name.as_str(), above, number, created, current), out);
        put_def(def, out);
        put_body(&children, out);
    }
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
    let SnapshotDef {
        description,
        state,
        memory,
        disks,
        domain,
        inactive_domain,
        revert_disks,
        extra,
    } = def;
    put_body(&body::state_of(*state), out);
    put_body(&body::memory_of(memory), out);
    put_body(&description.as_deref(), out);
    put_body(&snapshot_disks(disks), out);
    put_optional_domain(domain.as_ref(), out);
    put_optional_domain(inactive_domain.as_ref(), out);
    put_body(&(revert_disks.as_deref(), extra.as_deref()), out);
}

fn put_checkpoint(def: &CheckpointDef, out: &mut Vec<u8>) {
    let CheckpointDef {
        description,
        disks,
        domain,
    } = def;
    put_body(&description.as_deref(), out);
    put_body(&checkpoint_disks(disks), out);
    put_optional_domain(domain.as_ref(), out);
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
    disks.iter().map(snapshot_disk).collect()
}

fn snapshot_disk(disk: &SnapshotDisk) -> SnapshotDiskBytes<'_> {
    let SnapshotDisk {
        name,
        location,
        kind,
        driver,
        source,
        xml,
    } = disk;
    (
        name,
        location.map(body::location_of),
        body::kind_of(*kind),
        driver.as_deref(),
        source.as_deref(),
        xml.as_deref(),
    )
}

fn checkpoint_disks(disks: &[CheckpointDisk]) -> Vec<body::StoredCheckpointDisk<'_>> {
    disks.iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use momentlog_core::{
        DiskLocation, DiskTracking, DomainDisk, Extent, Memory, Profile, SnapshotState, SourceKind,
    };

    use super::*;

    fn vector(name: &str) -> String {
        let page = include_str!("../../../../docs/format/requests.txt");
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    }

    fn uuid() -> DomainUuid {
        "3f2c7a90-5d1e-4b7c-9a52-0c6f1d8e4b21".parse().unwrap()
    }

    fn hex(digest: [u8; 32]) -> String {
        digest.map(|byte| format!("{byte:02x}")).concat()
    }

    #[test]
    fn digests_are_those_of_the_page() {
        let domain = uuid();
        let create = request_digest(
            (Call::CHECKPOINT_CREATE_XML, 2),
            Some(domain),
            &[b"<domaincheckpoint/>"],
        );
        assert_eq!(hex(create), vector("checkpoint-create-xml"));
        let define = request_digest((Call::DEFINE_XML, 0), None, &[b"<domain/>"]);
        assert_eq!(hex(define), vector("define-xml"));
        let policy = Command {
            domain,
            action: Action::SetPolicy(Profile::Own.policy()),
        };
        let call = (Call::SET_POLICY, 0);
        assert_eq!(hex(command_digest(call, &policy)), vector("set-policy"));
        let settings = settings_digest(SettingsChange {
            policy: None,
            request_window_s: Some(86_400),
        });
        assert_eq!(hex(settings), vector("set-settings"));
    }

    fn name(text: &str) -> MomentName {
        MomentName::new(text).unwrap()
    }

    fn def() -> Arc<DomainDef> {
        let disk = |target: &str, kind, source: Option<&str>, format: Option<&str>| DomainDisk {
            target: target.into(),
            kind,
            source: source.map(Into::into),
            empty: source.is_none(),
            format: format.map(Into::into),
            readonly: source.is_none(),
            snapshot: source.is_none().then_some(DiskLocation::No),
        };
        Arc::new(DomainDef {
            name: "vm".into(),
            uuid: uuid(),
            memory_kib: 8192,
            disks: vec![
                disk("vda", SourceKind::File, Some("/a.qcow2"), Some("qcow2")),
                disk("sda", SourceKind::Block, None, None),
            ],
            xml: "<domain/>".into(),
        })
    }

    fn of_domains() -> Vec<(&'static str, Action)> {
        let undefine = Action::Undefine {
            with_snapshots: true,
        };
        vec![
            ("define", Action::Define(def())),
            ("create", Action::CreateLive(def())),
            ("change-state", Action::ChangeState(StateChange::Suspend)),
            ("undefine", undefine),
            ("set-policy", Action::SetPolicy(Profile::Own.policy())),
        ]
    }

    fn of_snapshots() -> Vec<(&'static str, Action)> {
        let overlay = SnapshotDisk {
            name: "vda".into(),
            location: Some(DiskLocation::External),
            kind: SourceKind::File,
            driver: Some("qcow2".into()),
            source: Some("/o".into()),
            xml: Some("<disk>\n  <source file='/o' x='y'/>\n</disk>\n".into()),
        };
        let unsaid = SnapshotDisk {
            name: "sda".into(),
            location: None,
            kind: SourceKind::File,
            driver: None,
            source: None,
            xml: None,
        };
        let disks = vec![overlay, unsaid];
        let extra = Some("<cookie/>\n".into());
        let create = CreateSnapshot {
            name: Some(name("s")),
            description: Some("d".into()),
            now: 77,
            memory: Some(Memory::External("/m".into())),
            disks: disks.clone(),
            extra: extra.clone(),
            disk_only: true,
            halt: false,
        };
        let redefine = Redefine {
            name: name("s"),
            parent: Some(name("r")),
            created: -9,
            def: SnapshotDef {
                description: Some("d".into()),
                state: SnapshotState::DiskSnapshot,
                memory: Memory::No,
                disks,
                domain: Some(def()),
                inactive_domain: None,
                revert_disks: Some("<revertDisks/>\n".into()),
                extra,
            },
            current: true,
        };
        let revert = Action::Revert {
            name: name("s"),
            resume: Some(Resume::Paused),
        };
        vec![
            ("create-snapshot", Action::CreateSnapshot(create)),
            ("redefine-snapshot", Action::RedefineSnapshot(redefine)),
            ("revert", revert),
        ]
    }

    fn of_checkpoints() -> Vec<(&'static str, Action)> {
        let tracking = |disk: &str, tracking| CheckpointDisk {
            name: disk.into(),
            tracking,
        };
        let disks = vec![
            tracking("vda", DiskTracking::Bitmap(Some("bm".into()))),
            tracking("sda", DiskTracking::No),
        ];
        let create = CreateCheckpoint {
            name: None,
            description: Some("d".into()),
            now: 77,
            disks: disks.clone(),
        };
        let redefine = Redefine {
            name: name("c"),
            parent: None,
            created: 9,
            def: CheckpointDef {
                description: Some("d".into()),
                disks,
                domain: Some(def()),
            },
            current: false,
        };
        vec![
            ("create-checkpoint", Action::CreateCheckpoint(create)),
            ("redefine-checkpoint", Action::RedefineCheckpoint(redefine)),
        ]
    }

    fn of_moments() -> Vec<(&'static str, Action)> {
        let delete = Action::Delete {
            kind: MomentKind::Checkpoint,
            name: name("monday"),
            extent: Extent::Subtree,
        };
        let reparent = Action::Reparent {
            kind: MomentKind::Snapshot,
            name: name("s"),
            parent: Some(name("r")),
        };
        let set_current = Action::SetCurrent {
            kind: MomentKind::Snapshot,
            name: None,
        };
        vec![
            ("delete", delete),
            ("reparent", reparent),
            ("set-current", set_current),
        ]
    }

    #[test]
    fn the_digest_of_each_command_is_that_of_the_page() {
        // Each with every field that it can have.
        let all = [of_domains(), of_snapshots(), of_checkpoints(), of_moments()].concat();
        assert_eq!(all.len(), 13);
        for (name, action) in all {
            let command = Command {
                domain: uuid(),
                action,
            };
            let digest = command_digest((Call::EXECUTE, 0), &command);
            assert_eq!(hex(digest), vector(&format!("execute-{name} ")), "{name}");
        }
    }
}
