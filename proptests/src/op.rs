//! The op language.

use arbitrary::Arbitrary;
use std::sync::Arc;

use momentlog::core::{
    Action, CheckpointDef, CreateCheckpoint, CreateSnapshot, DomainDef, Extent, Memory, MomentKind,
    MomentName, Policy, Redefine, Resume, RunState, SnapshotDef, SnapshotState, StateChange,
};
use proptest::prelude::*;

use crate::suite::domain_def;

/// How many names there are: few, so that ops meet each other.
const NAMES: u8 = 8;

/// One small command about one domain. Numbers stand for names, modulo the few that there are.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary)]
pub enum Op {
    /// Define the domain.
    Define,
    /// Start, shut down, destroy, suspend or resume it.
    ChangeState(u8),
    /// Undefine it.
    Undefine {
        /// With its snapshots.
        with_snapshots: bool,
    },
    /// Set the rules.
    SetPolicy {
        /// Snapshots and checkpoints exclude each other.
        exclusive: bool,
        /// Checkpoints form a chain.
        chain: bool,
        /// Checkpoints need an active domain.
        active: bool,
    },
    /// Create a moment below the current one.
    Create {
        /// A snapshot rather than a checkpoint.
        snapshot: bool,
        /// Its name; none is named by the clock.
        name: Option<u8>,
        /// Halt the guest (snapshots).
        halt: bool,
    },
    /// Put a record back, or change it.
    Redefine {
        /// A snapshot rather than a checkpoint.
        snapshot: bool,
        /// Its name.
        name: u8,
        /// Its parent.
        parent: Option<u8>,
        /// Make it current (snapshots).
        current: bool,
        /// Which state (snapshots).
        state: u8,
        /// With the domain embedded.
        domain: bool,
    },
    /// Delete a moment or what is below it.
    Delete {
        /// A snapshot rather than a checkpoint.
        snapshot: bool,
        /// Its name.
        name: u8,
        /// The moment, its subtree, or its children only.
        extent: u8,
    },
    /// Hang a moment elsewhere.
    Reparent {
        /// A snapshot rather than a checkpoint.
        snapshot: bool,
        /// Its name.
        name: u8,
        /// Its new parent.
        parent: Option<u8>,
    },
    /// Make a moment current, or none.
    SetCurrent {
        /// A snapshot rather than a checkpoint.
        snapshot: bool,
        /// Its name.
        name: Option<u8>,
    },
    /// Go back to a snapshot.
    Revert {
        /// Its name.
        name: u8,
        /// The run state wanted: as it was, running, or paused.
        resume: u8,
    },
}

/// The name that a number stands for.
pub(crate) fn name(number: u8) -> MomentName {
    MomentName::new(&format!("m{}", number % NAMES)).expect("the text is a name")
}

/// The list that an op is about.
pub(crate) fn kind(snapshot: bool) -> MomentKind {
    if snapshot {
        MomentKind::Snapshot
    } else {
        MomentKind::Checkpoint
    }
}

/// The state that a number stands for.
pub(crate) fn state(number: u8) -> SnapshotState {
    match number % 4 {
        0 => SnapshotState::Run(RunState::Running),
        1 => SnapshotState::Run(RunState::Paused),
        2 => SnapshotState::Run(RunState::Shutoff),
        _ => SnapshotState::DiskSnapshot,
    }
}

impl Op {
    /// Returns the command's action at the second `now`. `policy` gives the rules that the op does not name.
    pub fn action(&self, now: i64, policy: Policy) -> Action {
        self.action_in(&domain_def(), now, policy)
    }

    /// As [`action`](Self::action), for the domain of another definition.
    #[expect(clippy::too_many_lines, reason = "one arm for each op, side by side")]
    pub(crate) fn action_in(&self, of: &Arc<DomainDef>, now: i64, policy: Policy) -> Action {
        match self {
            Op::Define => Action::Define(of.clone()),
            Op::ChangeState(change) => Action::ChangeState(match change % 5 {
                0 => StateChange::Start,
                1 => StateChange::Shutdown,
                2 => StateChange::Destroy,
                3 => StateChange::Suspend,
                _ => StateChange::Resume,
            }),
            Op::Undefine { with_snapshots } => Action::Undefine {
                with_snapshots: *with_snapshots,
            },
            Op::SetPolicy {
                exclusive,
                chain,
                active,
            } => Action::SetPolicy(Policy {
                exclusive: *exclusive,
                chain: *chain,
                active: *active,
                ..policy
            }),
            Op::Create {
                snapshot: true,
                name: number,
                halt,
            } => Action::CreateSnapshot(CreateSnapshot {
                name: number.map(name),
                description: None,
                now,
                memory: None,
                disks: Vec::new(),
                extra: None,
                disk_only: false,
                halt: *halt,
            }),
            Op::Create {
                snapshot: false,
                name: number,
                ..
            } => Action::CreateCheckpoint(CreateCheckpoint {
                name: number.map(name),
                description: Some("a text that is stored once".into()),
                now,
                disks: Vec::new(),
            }),
            Op::Redefine {
                snapshot: true,
                name: number,
                parent,
                current,
                state: code,
                domain,
            } => Action::RedefineSnapshot(Redefine {
                name: name(*number),
                parent: parent.map(name),
                created: now,
                def: SnapshotDef {
                    description: None,
                    state: state(*code),
                    memory: if state(*code).is_memoryless() {
                        Memory::No
                    } else {
                        Memory::Internal
                    },
                    disks: Vec::new(),
                    domain: domain.then(|| of.clone()),
                    inactive_domain: None,
                    revert_disks: None,
                    extra: None,
                },
                current: *current,
            }),
            Op::Redefine {
                snapshot: false,
                name: number,
                parent,
                domain,
                ..
            } => Action::RedefineCheckpoint(Redefine {
                name: name(*number),
                parent: parent.map(name),
                created: now,
                def: CheckpointDef {
                    description: None,
                    disks: Vec::new(),
                    domain: domain.then(|| of.clone()),
                },
                current: false,
            }),
            Op::Delete {
                snapshot,
                name: number,
                extent,
            } => Action::Delete {
                kind: kind(*snapshot),
                name: name(*number),
                extent: match extent % 3 {
                    0 => Extent::One,
                    1 => Extent::Subtree,
                    _ => Extent::ChildrenOnly,
                },
            },
            Op::Reparent {
                snapshot,
                name: number,
                parent,
            } => Action::Reparent {
                kind: kind(*snapshot),
                name: name(*number),
                parent: parent.map(name),
            },
            Op::SetCurrent {
                snapshot,
                name: number,
            } => Action::SetCurrent {
                kind: kind(*snapshot),
                name: number.map(name),
            },
            Op::Revert {
                name: number,
                resume,
            } => Action::Revert {
                name: name(*number),
                resume: match resume % 3 {
                    0 => None,
                    1 => Some(Resume::Running),
                    _ => Some(Resume::Paused),
                },
            },
        }
    }
}

/// Returns a strategy for sequences of up to `length` ops.
///
/// Nearly all define and start the domain first, and most are about one kind, so that trees grow.
pub fn ops(length: usize) -> impl Strategy<Value = Vec<Op>> {
    let started = prop::bool::weighted(0.95);
    (any::<bool>(), started).prop_flat_map(move |(snapshots, started)| {
        let begin = if started {
            vec![Op::Define, Op::ChangeState(0)]
        } else {
            Vec::new()
        };
        let rest = prop::collection::vec(op(snapshots), 0..=length);
        rest.prop_map(move |rest| begin.iter().cloned().chain(rest).collect())
    })
}

fn op(mostly_snapshots: bool) -> impl Strategy<Value = Op> {
    let snapshot = move || prop::bool::weighted(if mostly_snapshots { 0.95 } else { 0.05 });
    let number = || 0..NAMES;
    let parent = || prop::option::weighted(0.8, 0..NAMES);
    prop_oneof![
        1 => Just(Op::Define),
        3 => (0..5_u8).prop_map(Op::ChangeState),
        1 => any::<bool>().prop_map(|with_snapshots| Op::Undefine { with_snapshots }),
        2 => any::<[bool; 3]>()
            .prop_map(|[exclusive, chain, active]| Op::SetPolicy { exclusive, chain, active }),
        12 => (snapshot(), prop::option::weighted(0.9, number()), prop::bool::weighted(0.1))
            .prop_map(|(snapshot, name, halt)| Op::Create { snapshot, name, halt }),
        10 => (snapshot(), number(), parent(), any::<bool>(), 0..4_u8, prop::bool::weighted(0.8))
            .prop_map(|(snapshot, name, parent, current, state, domain)| {
                Op::Redefine { snapshot, name, parent, current, state, domain }
            }),
        6 => (snapshot(), number(), 0..3_u8)
            .prop_map(|(snapshot, name, extent)| Op::Delete { snapshot, name, extent }),
        3 => (snapshot(), number(), parent()).prop_map(|(snapshot, name, parent)| Op::Reparent { snapshot, name, parent }),
        2 => (snapshot(), prop::option::weighted(0.9, number()))
            .prop_map(|(snapshot, name)| Op::SetCurrent { snapshot, name }),
        3 => (number(), 0..3_u8).prop_map(|(name, resume)| Op::Revert { name, resume }),
    ]
}
