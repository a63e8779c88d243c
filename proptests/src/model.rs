//! The reference model: libvirt's rules, told as plainly as possible and without the moment list.
//!
//! Moments stand in one vector, newest link first, each with its parent's name. Everything else is looked up in it, slowly.

mod job;

use std::collections::BTreeSet;

use momentlog::ErrorCode;
use momentlog::core::{ParentRefused, Policy, Profile, Refusal, RunState, SnapshotState};

use crate::op::{Op, name, state};
use job::Driven;

/// Why the model refuses, as far as it tells refusals apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the refusal of the same name")]
pub enum Reason {
    NoDomain,
    NoMoment,
    RunState,
    HasSnapshots,
    PolicyUnmet,
    Excluded,
    Inactive,
    HaltTransient,
    NameTaken,
    OwnParent,
    ParentMissing,
    Cycle,
    Fork,
    LeafIsCurrent,
    OnlineChange,
    DiskOnlyChange,
    Disks,
    RevertTransient,
    DomainNameTaken,
    DomainRenamed,
    DefinitionUuid,
    AlreadyActive,
    BeingStarted,
    CheckpointName,
    WrongUuid,
    JobOpen,
    JobNotOpen,
    RevertDuringJob,
    Attachment,
    NotAttached,
    /// The domain is attached, and what a command would record of its hypervisor is not done there.
    NotDone,
    Other,
}

impl Reason {
    /// Returns the reason of what a connection refuses; none if the store has failed.
    pub(crate) fn of_error(error: &momentlog::Error) -> Option<Reason> {
        match (error.refusal(), error.code()) {
            (Some(refusal), _) => Some(Reason::of(refusal)),
            (None, ErrorCode::OperationUnsupported) => Some(Reason::NotDone),
            _ => None,
        }
    }

    /// Returns the reason of a refusal.
    pub fn of(refusal: &Refusal) -> Reason {
        match refusal {
            Refusal::NoDomain { .. } => Reason::NoDomain,
            Refusal::NoMoment { .. } => Reason::NoMoment,
            Refusal::AlreadyRunning { .. }
            | Refusal::NotRunning { .. }
            | Refusal::NotPaused { .. }
            | Refusal::Inactive => Reason::RunState,
            Refusal::HasSnapshots { .. } => Reason::HasSnapshots,
            Refusal::PolicyUnmet(_) => Reason::PolicyUnmet,
            Refusal::Excluded { .. } => Reason::Excluded,
            Refusal::CheckpointInactive => Reason::Inactive,
            Refusal::HaltTransient => Reason::HaltTransient,
            Refusal::NameTaken { .. } => Reason::NameTaken,
            Refusal::Parent(ParentRefused::OwnParent { .. }) => Reason::OwnParent,
            Refusal::Parent(ParentRefused::NotFound { .. }) => Reason::ParentMissing,
            Refusal::Parent(ParentRefused::Cycle { .. }) => Reason::Cycle,
            Refusal::Fork { .. } => Reason::Fork,
            Refusal::LeafIsCurrent { .. } => Reason::LeafIsCurrent,
            Refusal::OnlineChange { .. } => Reason::OnlineChange,
            Refusal::DiskOnlyChange { .. } => Reason::DiskOnlyChange,
            Refusal::Disks(_) => Reason::Disks,
            Refusal::RevertTransient => Reason::RevertTransient,
            Refusal::DomainNameTaken { .. } => Reason::DomainNameTaken,
            Refusal::DomainRenamed { .. } => Reason::DomainRenamed,
            Refusal::DefinitionUuid { .. } => Reason::DefinitionUuid,
            Refusal::AlreadyActive { .. } => Reason::AlreadyActive,
            Refusal::BeingStarted { .. } => Reason::BeingStarted,
            Refusal::CheckpointName { .. } => Reason::CheckpointName,
            Refusal::WrongUuid { .. } => Reason::WrongUuid,
            Refusal::JobOpen { .. } => Reason::JobOpen,
            Refusal::JobNotOpen(_) => Reason::JobNotOpen,
            Refusal::RevertDuringJob => Reason::RevertDuringJob,
            Refusal::Attachment { .. } => Reason::Attachment,
            Refusal::NotAttached { .. } => Reason::NotAttached,
            _ => Reason::Other,
        }
    }
}

/// One moment of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moment {
    name: String,
    parent: Option<String>,
    state: SnapshotState,
}

/// One list of the model: moments, newest link first, and which is current.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct List {
    moments: Vec<Moment>,
    current: Option<String>,
}

impl List {
    fn find(&self, name: &str) -> Option<&Moment> {
        self.moments.iter().find(|moment| moment.name == name)
    }

    fn children(&self, parent: Option<&str>) -> Vec<&Moment> {
        self.moments
            .iter()
            .filter(|moment| moment.parent.as_deref() == parent)
            .collect()
    }

    /// Everything below `parent`, parents first.
    fn below(&self, parent: Option<&str>) -> Vec<&Moment> {
        let below = |child: &Moment| {
            self.below(Some(&child.name))
                .into_iter()
                .cloned()
                .collect::<Vec<_>>()
        };
        let names: Vec<String> = self
            .children(parent)
            .into_iter()
            .flat_map(|child| std::iter::once(child.clone()).chain(below(child)))
            .map(|moment| moment.name)
            .collect();
        names
            .iter()
            .map(|name| self.find(name).expect("it was just found"))
            .collect()
    }

    fn may_hang(&self, name: &str, parent: Option<&str>) -> Result<(), Reason> {
        let Some(parent) = parent else {
            return Ok(());
        };
        if parent == name {
            return Err(Reason::OwnParent);
        }
        if self.find(parent).is_none() {
            return Err(Reason::ParentMissing);
        }
        if self.find(name).is_some()
            && self
                .below(Some(name))
                .iter()
                .any(|moment| moment.name == parent)
        {
            return Err(Reason::Cycle);
        }
        Ok(())
    }

    /// Links a moment in front of all others.
    fn link(&mut self, moment: Moment) {
        self.moments.retain(|other| other.name != moment.name);
        self.moments.insert(0, moment);
    }

    fn delete(&mut self, name: &str, extent: u8) -> Result<(), Reason> {
        let parent = self.find(name).ok_or(Reason::NoMoment)?.parent.clone();
        let below: BTreeSet<String> = self
            .below(Some(name))
            .iter()
            .map(|moment| moment.name.clone())
            .collect();
        let gone = |current: &Option<String>, names: &BTreeSet<String>| {
            current
                .as_ref()
                .is_some_and(|current| names.contains(current))
        };
        match extent % 3 {
            0 => {
                let (mut moved, rest): (Vec<Moment>, Vec<Moment>) = self
                    .moments
                    .drain(..)
                    .partition(|moment| moment.parent.as_deref() == Some(name));
                for child in &mut moved {
                    child.parent.clone_from(&parent);
                }
                moved.extend(rest);
                self.moments = moved;
                self.moments.retain(|moment| moment.name != name);
                if self.current.as_deref() == Some(name) {
                    self.current = parent;
                }
            }
            1 => {
                self.moments
                    .retain(|moment| moment.name != name && !below.contains(&moment.name));
                if self.current.as_deref() == Some(name) || gone(&self.current, &below) {
                    self.current = parent;
                }
            }
            _ => {
                self.moments.retain(|moment| !below.contains(&moment.name));
                if gone(&self.current, &below) {
                    self.current = Some(name.to_owned());
                }
            }
        }
        Ok(())
    }

    fn is_chain(&self) -> bool {
        let single = |parent: Option<&str>| self.children(parent).len() <= 1;
        single(None) && self.moments.iter().all(|moment| single(Some(&moment.name)))
    }

    fn leaf(&self) -> Option<&str> {
        let leaf = self
            .moments
            .iter()
            .find(|moment| self.children(Some(&moment.name)).is_empty());
        leaf.map(|moment| moment.name.as_str())
    }
}

/// One domain of the model; none before it is defined and after it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Domain {
    persistent: bool,
    autostart: bool,
    power: RunState,
    policy: Policy,
    snapshots: List,
    checkpoints: List,
    driven: Driven,
}

/// The model of a store with at most one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    profile: Profile,
    domain: Option<Domain>,
    /// The policy that was set last, which outlives the domain.
    policy_set: Option<Policy>,
    /// How many jobs were begun, also of domains that are gone.
    begun: u64,
    /// Whether rules were set while a job was open, whose end does not ask for them.
    bent: bool,
}

impl Model {
    /// Returns the model of an empty store.
    pub fn new(profile: Profile) -> Model {
        Model {
            profile,
            domain: None,
            policy_set: None,
            begun: 0,
            bent: false,
        }
    }

    /// Whether the domain keeps its rules, as far as its jobs allow.
    pub(crate) fn keeps_rules(&self) -> bool {
        !self.bent
    }

    /// How many jobs were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// The rules in force, or those that a new domain would have.
    pub fn policy(&self) -> Policy {
        let of_new = self.policy_set.unwrap_or(self.profile.policy());
        self.domain.as_ref().map_or(of_new, |domain| domain.policy)
    }

    /// Whether there is a domain.
    pub(crate) fn is_there(&self) -> bool {
        self.domain.is_some()
    }

    /// Starts the domain with a definition of its own name, transiently unless it is persistent.
    pub(crate) fn launch(&mut self) -> Result<(), Reason> {
        let policy = self.policy();
        match &mut self.domain {
            Some(domain) if domain.power != RunState::Shutoff => Err(Reason::AlreadyActive),
            Some(domain) if !domain.persistent => Err(Reason::BeingStarted),
            Some(domain) => {
                domain.power = RunState::Running;
                Ok(())
            }
            None => {
                self.domain = Some(Domain {
                    persistent: false,
                    autostart: false,
                    power: RunState::Running,
                    policy,
                    snapshots: List::default(),
                    checkpoints: List::default(),
                    driven: Driven::default(),
                });
                Ok(())
            }
        }
    }

    /// Refuses what may not be made, or put back, in this domain at all, and then for the reason `then`.
    pub(crate) fn refuses(
        &self,
        snapshot: bool,
        is_made: bool,
        then: Reason,
    ) -> Result<(), Reason> {
        let domain = self.domain.as_ref().ok_or(Reason::NoDomain)?;
        if is_made && domain.driven.is_attached() {
            return Err(Reason::NotDone);
        }
        domain.driven.admits_change(snapshot)?;
        domain.admits(snapshot)?;
        Err(then)
    }

    /// Applies an op at the second `now`.
    ///
    /// # Errors
    ///
    /// Why libvirt, or the policy, refuses it; the model is as it was.
    pub fn apply(&mut self, op: &Op, now: i64) -> Result<(), Reason> {
        let mut next = self.clone();
        next.try_apply(op, now)?;
        *self = next;
        Ok(())
    }

    fn try_apply(&mut self, op: &Op, now: i64) -> Result<(), Reason> {
        if *op == Op::Define {
            let policy = self.policy();
            let empty = || Domain {
                persistent: true,
                autostart: false,
                power: RunState::Shutoff,
                policy,
                snapshots: List::default(),
                checkpoints: List::default(),
                driven: Driven::default(),
            };
            self.domain.get_or_insert_with(empty).persistent = true;
            return Ok(());
        }
        let domain = self.domain.as_mut().ok_or(Reason::NoDomain)?;
        let gone = if op.is_report() {
            domain.report(op, now, &mut self.begun)?
        } else {
            let is_done_there = matches!(
                op,
                Op::Create { .. } | Op::Delete { .. } | Op::Revert { .. }
            );
            if is_done_there && domain.driven.is_attached() {
                return Err(Reason::NotDone);
            }
            domain.driven.admits(op)?;
            domain.apply(op, now)?
        };
        if gone && domain.driven.has_job() {
            return Err(Reason::JobOpen);
        }
        if let Op::SetPolicy { .. } = op {
            self.policy_set = Some(domain.policy);
            self.bent |= domain.driven.has_job();
        }
        if gone {
            self.domain = None;
        }
        Ok(())
    }

    /// Describes the state in a form that [`crate::run`] also makes of the live one.
    pub fn describe(&self) -> String {
        let Some(domain) = &self.domain else {
            return "no domain".to_owned();
        };
        let list = |list: &List| {
            let words = list.below(None).into_iter().map(|moment| {
                format!(
                    "{}<{}",
                    moment.name,
                    moment.parent.as_deref().unwrap_or("-")
                )
            });
            format!(
                "[{}] current {:?}",
                words.collect::<Vec<_>>().join(" "),
                list.current
            )
        };
        format!(
            "persistent {} autostart {} {:?} {:?} snapshots {} checkpoints {} {}",
            domain.persistent,
            domain.autostart,
            domain.power,
            domain.policy,
            list(&domain.snapshots),
            list(&domain.checkpoints),
            domain.driven.describe(),
        )
    }
}

impl Domain {
    /// Applies a command; returns whether the domain is gone.
    #[expect(clippy::too_many_lines, reason = "one arm for each op, side by side")]
    fn apply(&mut self, op: &Op, now: i64) -> Result<bool, Reason> {
        let active = self.power != RunState::Shutoff;
        match op {
            Op::Define => {}
            Op::ChangeState(change) => {
                let allowed = match change % 8 {
                    0 => !active,
                    3 => active && self.power != RunState::Paused,
                    4 => self.power == RunState::Paused,
                    _ => active,
                };
                if !allowed {
                    return Err(Reason::RunState);
                }
                self.power = match change % 8 {
                    0 | 4 | 5 => RunState::Running,
                    3 => RunState::Paused,
                    7 => self.power,
                    _ => RunState::Shutoff,
                };
                return Ok(self.power == RunState::Shutoff && !self.persistent);
            }
            Op::Undefine { with_snapshots } => {
                if active {
                    self.persistent = false;
                } else if !self.snapshots.moments.is_empty() && !with_snapshots {
                    return Err(Reason::HasSnapshots);
                } else {
                    return Ok(true);
                }
            }
            Op::SetAutostart(autostart) => self.autostart = *autostart,
            Op::SetPolicy {
                exclusive,
                chain,
                active,
            } => {
                let both =
                    !self.snapshots.moments.is_empty() && !self.checkpoints.moments.is_empty();
                let checkpoints = &self.checkpoints;
                let chained =
                    checkpoints.is_chain() && checkpoints.leaf() == checkpoints.current.as_deref();
                if *exclusive && both || *chain && !chained {
                    return Err(Reason::PolicyUnmet);
                }
                self.policy = Policy {
                    exclusive: *exclusive,
                    chain: *chain,
                    active: *active,
                    ..self.policy
                };
            }
            Op::Create {
                snapshot,
                name: number,
                halt,
            } => {
                self.admits(*snapshot)?;
                if *snapshot && *halt && !self.persistent {
                    return Err(Reason::HaltTransient);
                }
                let policy = self.policy;
                let state = SnapshotState::Run(self.power);
                let list = self.list(*snapshot);
                let name = match number {
                    Some(number) => name(*number).to_string(),
                    None if !policy.suffix || list.find(&now.to_string()).is_none() => {
                        now.to_string()
                    }
                    None => (2..=u64::MAX)
                        .map(|next| format!("{now}-{next}"))
                        .find(|name| list.find(name).is_none())
                        .expect("one is free"),
                };
                if list.find(&name).is_some() {
                    return Err(Reason::NameTaken);
                }
                let parent = list.current.clone();
                list.link(Moment {
                    name: name.clone(),
                    parent,
                    state,
                });
                list.current = Some(name);
                if *snapshot && *halt {
                    self.power = RunState::Shutoff;
                }
            }
            Op::Redefine {
                snapshot: true,
                name: number,
                parent,
                current,
                state: code,
                domain,
            } => {
                self.admits(true)?;
                let (name, parent, state) = (
                    name(*number).to_string(),
                    parent.map(name_text),
                    state(*code),
                );
                self.snapshots.may_hang(&name, parent.as_deref())?;
                match self.snapshots.find(&name) {
                    None if !domain => return Err(Reason::Disks),
                    Some(old) if old.state.is_online() != state.is_online() => {
                        return Err(Reason::OnlineChange);
                    }
                    Some(old) => {
                        let disk_only = |state| state == SnapshotState::DiskSnapshot;
                        if disk_only(old.state) != disk_only(state) {
                            return Err(Reason::DiskOnlyChange);
                        }
                    }
                    None => {}
                }
                if state == SnapshotState::DiskSnapshot && !self.policy.overlays {
                    return Err(Reason::Disks);
                }
                self.snapshots.link(Moment {
                    name: name.clone(),
                    parent,
                    state,
                });
                if *current {
                    self.snapshots.current = Some(name);
                }
            }
            Op::Redefine {
                snapshot: false,
                name: number,
                parent,
                ..
            } => {
                self.admits(false)?;
                let (name, parent) = (name(*number).to_string(), parent.map(name_text));
                self.checkpoints.may_hang(&name, parent.as_deref())?;
                self.keeps_chain(&name, parent.as_deref())?;
                let becomes_current = match &self.checkpoints.current {
                    None => true,
                    Some(current) => parent.as_ref() == Some(current),
                };
                let state = SnapshotState::DiskSnapshot;
                self.checkpoints.link(Moment {
                    name: name.clone(),
                    parent,
                    state,
                });
                if becomes_current {
                    self.checkpoints.current = Some(name);
                }
            }
            Op::Delete {
                snapshot,
                name: number,
                extent,
            } => {
                self.list(*snapshot).delete(&name_text(*number), *extent)?;
            }
            Op::Reparent {
                snapshot,
                name: number,
                parent,
            } => {
                let (name, parent) = (name_text(*number), parent.map(name_text));
                let list = self.list(*snapshot);
                let mut moment = list.find(&name).ok_or(Reason::NoMoment)?.clone();
                list.may_hang(&name, parent.as_deref())?;
                if !snapshot {
                    self.keeps_chain(&name, parent.as_deref())?;
                }
                moment.parent = parent;
                self.list(*snapshot).link(moment);
            }
            Op::SetCurrent {
                snapshot,
                name: number,
            } => {
                let name = number.map(name_text);
                if let Some(name) = &name
                    && self.list(*snapshot).find(name).is_none()
                {
                    return Err(Reason::NoMoment);
                }
                let leaf_stays =
                    !snapshot && self.policy.chain && self.checkpoints.current.is_some();
                if leaf_stays && self.checkpoints.current != name {
                    return Err(Reason::LeafIsCurrent);
                }
                self.list(*snapshot).current = name;
            }
            Op::Revert {
                name: number,
                resume,
            } => {
                let name = name_text(*number);
                let state = self.snapshots.find(&name).ok_or(Reason::NoMoment)?.state;
                if !self.persistent && !state.is_online() && resume % 3 == 0 {
                    return Err(Reason::RevertTransient);
                }
                self.power = match (state.is_online(), resume % 3) {
                    (false, _) => RunState::Shutoff,
                    (true, 1) => RunState::Running,
                    (true, 2) => RunState::Paused,
                    (true, _) if state == SnapshotState::Run(RunState::Paused) => RunState::Paused,
                    (true, _) => RunState::Running,
                };
                self.snapshots.current = Some(name);
            }
            // What a driver reports is no command.
            _ => {}
        }
        Ok(false)
    }

    fn list(&mut self, snapshot: bool) -> &mut List {
        if snapshot {
            &mut self.snapshots
        } else {
            &mut self.checkpoints
        }
    }

    fn admits(&self, snapshot: bool) -> Result<(), Reason> {
        let other = if snapshot {
            &self.checkpoints
        } else {
            &self.snapshots
        };
        if self.policy.exclusive && !other.moments.is_empty() {
            return Err(Reason::Excluded);
        }
        if !snapshot && self.policy.active && self.power == RunState::Shutoff {
            return Err(Reason::Inactive);
        }
        Ok(())
    }

    fn keeps_chain(&self, name: &str, parent: Option<&str>) -> Result<(), Reason> {
        let list = &self.checkpoints;
        if !self.policy.chain || list.moments.is_empty() {
            return Ok(());
        }
        let allowed = match list.find(name) {
            Some(moment) => moment.parent.as_deref() == parent,
            None => parent == list.leaf(),
        };
        if allowed { Ok(()) } else { Err(Reason::Fork) }
    }
}

fn name_text(number: u8) -> String {
    name(number).to_string()
}
