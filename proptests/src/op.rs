//! The op language.

mod code;
mod generate;
mod parts;

use std::sync::Arc;

use momentlog::core::{
    Action, Attachment, BeginJob, Command, CreateCheckpoint, CreateSnapshot, Domain, DomainDef,
    DomainUuid, Extent, Hold, HoldTag, JobId, JobKind, JobLength, JobOutcome, MomentKind,
    MomentName, Policy, Profile, Redefine, Report, Resume, RunState, Seen, SettledBy,
    SnapshotState, StateChange, Undelete,
};
use momentlog::{Connection, Outcome};

use crate::suite::domain_def;

pub(crate) use generate::commands;
pub use generate::ops;
use parts::{PutBack, checkpoint_def, job, snapshot_def};

/// How many names there are: few, so that ops meet each other.
const NAMES: u8 = 8;

/// One small command about one domain, or what a driver reports of it. Numbers stand for names, modulo the few that there
/// are.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Hold a moment.
    Hold {
        /// A snapshot rather than a checkpoint.
        snapshot: bool,
        /// Its name.
        name: u8,
        /// The tag, one of two.
        tag: u8,
    },
    /// Release a hold.
    Release {
        /// A snapshot rather than a checkpoint.
        snapshot: bool,
        /// Its name.
        name: u8,
        /// The tag, one of two.
        tag: u8,
    },
    /// Put a moment back, as if it had been deleted.
    Undelete {
        /// A snapshot rather than a checkpoint.
        snapshot: bool,
        /// Its name.
        name: u8,
        /// Its parent; none, or one that is not there, makes it a root.
        parent: Option<u8>,
        /// With all that hangs below that parent.
        adopts: bool,
        /// Make it current.
        current: bool,
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

/// The tag that a number stands for.
pub(crate) fn tag(number: u8) -> HoldTag {
    HoldTag::new(&format!("t{}", number % 2)).expect("the text is a tag")
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
        match self.action_in(of, now, domain) {
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
                let action = begin.work().and_then(|op| op.action_in(of, now, domain));
                let job = job(kind, length(long));
                Report::Begin(Box::new(BeginJob { job, action }))
            }
        }
    }

    /// Returns the command's action at the second `now`; none if the op is a report. The domain as it is gives the rules that
    /// the op does not name, and the ids of moments.
    pub fn action(&self, now: i64, domain: Option<&Domain>) -> Option<Action> {
        self.action_in(&domain_def(), now, domain)
    }

    /// As [`action`](Self::action), for the domain of another definition.
    #[expect(clippy::too_many_lines, reason = "one arm for each op, side by side")]
    pub(crate) fn action_in(
        &self,
        of: &Arc<DomainDef>,
        now: i64,
        domain: Option<&Domain>,
    ) -> Option<Action> {
        let policy = domain.map_or_else(|| Profile::Own.policy(), Domain::policy);
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
                def: snapshot_def(state(*code), domain.then(|| of.clone())),
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
                def: checkpoint_def(domain.then(|| of.clone())),
                current: false,
            }),
            Op::Hold {
                snapshot,
                name: number,
                tag: under,
            } => Action::Hold {
                kind: kind(*snapshot),
                name: name(*number),
                tag: tag(*under),
                hold: Hold {
                    since: now,
                    by: "suite".into(),
                },
            },
            Op::Release {
                snapshot,
                name: number,
                tag: under,
            } => Action::Release {
                kind: kind(*snapshot),
                name: name(*number),
                tag: tag(*under),
            },
            Op::Undelete {
                snapshot,
                name: number,
                parent,
                adopts,
                current,
            } => {
                let back = PutBack {
                    name: name(*number),
                    parent: parent.map(name),
                    adopts: *adopts,
                    current: *current,
                    now,
                };
                let mut undelete = Undelete::default();
                if *snapshot {
                    let def = snapshot_def(state(2), Some(of.clone()));
                    let list = domain.map(Domain::snapshots);
                    undelete.snapshots.push(back.of(list, def));
                } else {
                    let list = domain.map(Domain::checkpoints);
                    undelete
                        .checkpoints
                        .push(back.of(list, checkpoint_def(None)));
                }
                Action::Undelete(Box::new(undelete))
            }
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
