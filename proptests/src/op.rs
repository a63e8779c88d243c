//! The op language.

use arbitrary::Arbitrary;
use std::sync::Arc;

use momentlog::core::{
    Action, Attachment, BeginJob, CheckpointDef, Command, CreateCheckpoint, CreateSnapshot,
    DiskEffect, Domain, DomainDef, DomainUuid, EffectKind, Extent, FileToMake, HypervisorRun, Job,
    JobId, JobKind, JobLength, JobOutcome, Memory, MomentKind, MomentName, Policy, Profile,
    Redefine, Report, Resume, RunState, Seen, SettledBy, SnapshotDef, SnapshotState, StateChange,
};
use momentlog::{Call, Connection, Outcome};
use proptest::prelude::*;

use crate::suite::domain_def;

/// How many names there are: few, so that ops meet each other.
const NAMES: u8 = 8;

/// One small command about one domain, or what a driver reports of it. Numbers stand for names, modulo the few that there
/// are.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary)]
pub enum Op {
    /// Define the domain.
    Define,
    /// Start, shut down, destroy, suspend, resume, reboot (it ends, or does not) or reset it.
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
    /// Attach the domain to a hypervisor.
    Attach {
        /// The socket; one number in eight stands for a path that cannot be recorded.
        socket: u8,
        /// To look only.
        look_only: bool,
    },
    /// Detach the domain.
    Detach,
    /// The run state was seen.
    Observe(u8),
    /// Begin a job.
    Begin {
        /// A long one. It makes and deletes no moments, as that of a backup.
        long: bool,
        /// What a short one is for, if that makes or deletes moments; otherwise it only touches disks.
        action: Option<Box<Op>>,
    },
    /// The open job has done what it was begun for.
    End {
        /// The long one.
        long: bool,
        /// It goes on in a long one.
        goes_on: bool,
    },
    /// The open job has not done what it was begun for.
    Fail {
        /// The long one.
        long: bool,
    },
    /// Set whether the domain starts with its host.
    SetAutostart(bool),
}

/// What an op asks of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A command.
    Action(Action),
    /// To record what a driver reports.
    Report(Report),
}

impl Asked {
    /// Asks it of a domain.
    ///
    /// # Errors
    ///
    /// What the connection says.
    pub fn of(&self, connection: &Connection, domain: DomainUuid) -> momentlog::Result<Outcome> {
        match self {
            Asked::Action(action) => connection.execute(&Command {
                domain,
                action: action.clone(),
            }),
            Asked::Report(report) => connection.report(domain, report),
        }
    }
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

/// The run state that a number stands for.
pub(crate) fn run_state(number: u8) -> RunState {
    match number % 4 {
        0 => RunState::Running,
        1 => RunState::Paused,
        2 => RunState::Shutoff,
        _ => RunState::Crashed,
    }
}

/// The socket that a number stands for.
pub(crate) fn socket(number: u8) -> String {
    match number % 8 {
        0 => "not/absolute".to_owned(),
        number => format!("/run/{number}.qmp"),
    }
}

fn length(long: bool) -> JobLength {
    if long {
        JobLength::Long
    } else {
        JobLength::Short
    }
}

impl Op {
    /// Returns what the op asks at the second `now` of a domain as it is: that gives the rules that the op does not name, and
    /// the numbers of the open jobs.
    pub fn asked(&self, now: i64, domain: Option<&Domain>) -> Asked {
        self.asked_in(&domain_def(), now, domain)
    }

    /// As [`asked`](Self::asked), for the domain of another definition.
    pub(crate) fn asked_in(&self, of: &Arc<DomainDef>, now: i64, domain: Option<&Domain>) -> Asked {
        let policy = domain.map_or_else(|| Profile::Own.policy(), Domain::policy);
        match self.action_in(of, now, policy) {
            Some(action) => Asked::Action(action),
            None => Asked::Report(self.report(of, now, domain)),
        }
    }

    /// Whether a job may be begun for it.
    fn is_work(&self) -> bool {
        matches!(self, Op::Create { .. } | Op::Delete { .. })
    }

    /// Whether it is what a driver reports, and no command.
    pub(crate) fn is_report(&self) -> bool {
        matches!(
            self,
            Op::Attach { .. }
                | Op::Detach
                | Op::Observe(_)
                | Op::Begin { .. }
                | Op::End { .. }
                | Op::Fail { .. }
        )
    }

    /// Returns what a job is begun for.
    pub(crate) fn work(&self) -> Option<&Op> {
        match self {
            Op::Begin {
                long: false,
                action,
            } => action.as_deref().filter(|op| op.is_work()),
            _ => None,
        }
    }

    /// Returns the report of an op that is no command.
    fn report(&self, of: &Arc<DomainDef>, now: i64, domain: Option<&Domain>) -> Report {
        let outcome = |long| {
            let open = domain.and_then(|domain| domain.jobs().get(length(long)));
            let never = JobId::new(u64::MAX).expect("it is not 0");
            JobOutcome {
                job: open.map_or(never, |open| open.id),
                seen: Seen::new(vec![("vda".into(), "as it should be".into())])
                    .expect("it is short"),
                settled_by: SettledBy::Later,
                agent: "a suite".into(),
            }
        };
        match self {
            Op::Attach {
                socket: number,
                look_only,
            } => Report::Attach(Attachment {
                driver: "suite".into(),
                socket: socket(*number).into(),
                look_only: *look_only,
            }),
            Op::Detach => Report::Detach,
            Op::Observe(number) => Report::Observe {
                state: run_state(*number),
                reason: 1,
            },
            Op::End { long, goes_on } => Report::End {
                outcome: outcome(*long),
                then: goes_on.then(|| Arc::new(job(JobKind::Backup, JobLength::Long))),
            },
            Op::Fail { long } => Report::Fail(outcome(*long)),
            // No other op is a report.
            begin => {
                let long = matches!(begin, Op::Begin { long: true, .. });
                let kind = match begin.work() {
                    Some(Op::Create { snapshot: true, .. }) => JobKind::CreateSnapshot,
                    Some(Op::Create { .. }) => JobKind::CreateCheckpoint,
                    Some(Op::Delete { snapshot: true, .. }) => JobKind::DeleteSnapshot,
                    Some(Op::Delete { .. }) => JobKind::DeleteCheckpoint,
                    _ if long => JobKind::Backup,
                    _ => JobKind::Repair,
                };
                let policy = domain.map_or_else(|| Profile::Own.policy(), Domain::policy);
                let action = begin.work().and_then(|op| op.action_in(of, now, policy));
                let job = job(kind, length(long));
                Report::Begin(Box::new(BeginJob { job, action }))
            }
        }
    }

    /// Returns the command's action at the second `now`; none if the op is a report. `policy` gives the rules that the op does
    /// not name.
    pub fn action(&self, now: i64, policy: Policy) -> Option<Action> {
        self.action_in(&domain_def(), now, policy)
    }

    /// As [`action`](Self::action), for the domain of another definition.
    #[expect(clippy::too_many_lines, reason = "one arm for each op, side by side")]
    pub(crate) fn action_in(
        &self,
        of: &Arc<DomainDef>,
        now: i64,
        policy: Policy,
    ) -> Option<Action> {
        Some(match self {
            Op::Attach { .. }
            | Op::Detach
            | Op::Observe(_)
            | Op::Begin { .. }
            | Op::End { .. }
            | Op::Fail { .. } => return None,
            Op::Define => Action::Define(of.clone()),
            Op::ChangeState(change) => Action::ChangeState(match change % 8 {
                0 => StateChange::Start,
                1 => StateChange::Shutdown,
                2 => StateChange::Destroy,
                3 => StateChange::Suspend,
                4 => StateChange::Resume,
                5 => StateChange::Reboot { ends: false },
                6 => StateChange::Reboot { ends: true },
                _ => StateChange::Reset,
            }),
            Op::Undefine { with_snapshots } => Action::Undefine {
                with_snapshots: *with_snapshots,
            },
            Op::SetAutostart(autostart) => Action::SetAutostart(*autostart),
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
        })
    }
}

/// A job on one disk, of which nothing depends on a hypervisor.
fn job(kind: JobKind, length: JobLength) -> Job {
    let effect = match kind {
        JobKind::CreateCheckpoint => EffectKind::BitmapAdded,
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

/// Returns a strategy for sequences of up to `length` ops.
///
/// Nearly all define and start the domain first, and most are about one kind, so that trees grow. One in four has jobs.
pub fn ops(length: usize) -> impl Strategy<Value = Vec<Op>> {
    let with_jobs = prop::bool::weighted(0.25);
    with_jobs.prop_flat_map(move |with_jobs| sequence(length, with_jobs))
}

/// As [`ops`], of commands alone.
pub(crate) fn commands(length: usize) -> impl Strategy<Value = Vec<Op>> {
    sequence(length, false)
}

fn sequence(length: usize, with_jobs: bool) -> impl Strategy<Value = Vec<Op>> {
    let started = prop::bool::weighted(0.95);
    (any::<bool>(), started).prop_flat_map(move |(snapshots, started)| {
        let begin = if started {
            vec![Op::Define, Op::ChangeState(0)]
        } else {
            Vec::new()
        };
        let one = if with_jobs {
            prop_oneof![2 => command(snapshots), 1 => report(snapshots)].boxed()
        } else {
            command(snapshots).boxed()
        };
        let rest = prop::collection::vec(one, 0..=length);
        rest.prop_map(move |rest| begin.iter().cloned().chain(rest).collect())
    })
}

/// What a driver reports: most jobs are begun for a moment, and end.
fn report(mostly_snapshots: bool) -> impl Strategy<Value = Op> {
    let rare = || prop::bool::weighted(0.2);
    let action = prop_oneof![
        2 => create(mostly_snapshots),
        1 => delete(mostly_snapshots),
    ];
    prop_oneof![
        1 => (any::<u8>(), rare()).prop_map(|(socket, look_only)| Op::Attach { socket, look_only }),
        2 => Just(Op::Detach),
        2 => (0..4_u8).prop_map(Op::Observe),
        9 => (rare(), prop::option::weighted(0.9, action)).prop_map(|(long, action)| {
            Op::Begin { long, action: action.map(Box::new) }
        }),
        9 => (rare(), rare()).prop_map(|(long, goes_on)| Op::End { long, goes_on }),
        3 => rare().prop_map(|long| Op::Fail { long }),
    ]
}

/// Which list, mostly the same one.
fn list(mostly_snapshots: bool) -> impl Strategy<Value = bool> {
    prop::bool::weighted(if mostly_snapshots { 0.95 } else { 0.05 })
}

fn create(mostly_snapshots: bool) -> impl Strategy<Value = Op> {
    let name = prop::option::weighted(0.9, 0..NAMES);
    (list(mostly_snapshots), name, prop::bool::weighted(0.1)).prop_map(|(snapshot, name, halt)| {
        Op::Create {
            snapshot,
            name,
            halt,
        }
    })
}

fn delete(mostly_snapshots: bool) -> impl Strategy<Value = Op> {
    (list(mostly_snapshots), 0..NAMES, 0..3_u8).prop_map(|(snapshot, name, extent)| Op::Delete {
        snapshot,
        name,
        extent,
    })
}

fn command(mostly_snapshots: bool) -> impl Strategy<Value = Op> {
    let snapshot = move || list(mostly_snapshots);
    let number = || 0..NAMES;
    let parent = || prop::option::weighted(0.8, 0..NAMES);
    prop_oneof![
        1 => Just(Op::Define),
        3 => (0..8_u8).prop_map(Op::ChangeState),
        1 => any::<bool>().prop_map(|with_snapshots| Op::Undefine { with_snapshots }),
        2 => any::<[bool; 3]>()
            .prop_map(|[exclusive, chain, active]| Op::SetPolicy { exclusive, chain, active }),
        1 => any::<bool>().prop_map(Op::SetAutostart),
        12 => create(mostly_snapshots),
        10 => (snapshot(), number(), parent(), any::<bool>(), 0..4_u8, prop::bool::weighted(0.8))
            .prop_map(|(snapshot, name, parent, current, state, domain)| {
                Op::Redefine { snapshot, name, parent, current, state, domain }
            }),
        6 => delete(mostly_snapshots),
        3 => (snapshot(), number(), parent()).prop_map(|(snapshot, name, parent)| Op::Reparent { snapshot, name, parent }),
        2 => (snapshot(), prop::option::weighted(0.9, number()))
            .prop_map(|(snapshot, name)| Op::SetCurrent { snapshot, name }),
        3 => (number(), 0..3_u8).prop_map(|(name, resume)| Op::Revert { name, resume }),
    ]
}
