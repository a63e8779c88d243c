//! What ops ask for is made of.

use std::sync::Arc;

use momentlog::Call;
use momentlog::core::{
    Above, CheckpointDef, DiskEffect, DomainDef, EffectKind, FileToMake, HypervisorRun, Job,
    JobKind, JobLength, Memory, MomentList, MomentName, Scope, SnapshotDef, SnapshotState,
    Undeleted,
};

pub(super) fn snapshot_def(state: SnapshotState, domain: Option<Arc<DomainDef>>) -> SnapshotDef {
    SnapshotDef {
        description: None,
        state,
        memory: if state.is_memoryless() {
            Memory::No
        } else {
            Memory::Internal
        },
        disks: Vec::new(),
        domain,
        inactive_domain: None,
        revert_disks: None,
        extra: None,
    }
}

pub(super) fn checkpoint_def(domain: Option<Arc<DomainDef>>) -> CheckpointDef {
    CheckpointDef {
        description: None,
        disks: Vec::new(),
        domain,
    }
}

/// A moment that is put back, by names.
pub(super) struct PutBack {
    pub(super) name: MomentName,
    pub(super) parent: Option<MomentName>,
    pub(super) adopts: bool,
    pub(super) current: bool,
    pub(super) now: i64,
}

impl PutBack {
    pub(super) fn of<D>(self, list: Option<&MomentList<D>>, def: D) -> Undeleted<D> {
        let parent = self.parent.as_ref();
        let parent = list
            .zip(parent)
            .and_then(|(list, name)| list.find(name.as_str()));
        let parent = parent.map(|moment| moment.id);
        let scope = parent.map_or(Scope::Roots, Scope::ChildrenOf);
        let children = list.filter(|_| self.adopts);
        let children = children.map(|list| list.walk(scope).map(|child| child.id).collect());
        Undeleted {
            name: self.name,
            parent: parent.map_or(Above::Nothing, Above::Moment),
            created: self.now,
            def: Arc::new(def),
            children: children.unwrap_or_default(),
            current: self.current,
        }
    }
}

/// A job on one disk, of which nothing depends on a hypervisor.
pub(super) fn job(kind: JobKind, length: JobLength) -> Job {
    let effect = match kind {
        JobKind::CreateCheckpoint | JobKind::Forward => EffectKind::BitmapAdded,
        JobKind::DeleteCheckpoint | JobKind::Repair => EffectKind::BitmapRemoved,
        JobKind::CreateSnapshot => EffectKind::OverlayAdded,
        JobKind::DeleteSnapshot => EffectKind::OverlayMerged,
        JobKind::Backup => EffectKind::Copied,
    };
    let file: Option<Arc<str>> = match effect {
        EffectKind::OverlayAdded | EffectKind::Copied => Some("/images/new".into()),
        _ => None,
    };
    Job {
        kind,
        length,
        call: Call::EXECUTE.number(),
        flags: 0,
        document: (kind == JobKind::Backup).then(|| "<domainbackup/>".into()),
        snapshots: Vec::new(),
        checkpoints: Vec::new(),
        deletions: Vec::new(),
        files: file
            .iter()
            .map(|path| FileToMake {
                disk: "vda".into(),
                path: path.clone(),
            })
            .collect(),
        effects: vec![DiskEffect {
            disk: "vda".into(),
            kind: effect,
            image: "/images/vda.qcow2".into(),
            node: "vda".into(),
            bitmap: file.is_none().then(|| "b".into()),
            bitmap_was_there: false,
            file,
        }],
        run: Some(HypervisorRun {
            pid: 7,
            start: 8,
            boot: [9; 16],
        }),
    }
}
