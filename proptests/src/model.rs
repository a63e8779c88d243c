//! The reference model: libvirt's rules, told as plainly as possible and without the moment list.
//!
//! Moments stand in one vector, newest link first, each with its parent's name. Everything else is looked up in it, slowly.

mod job;
mod list;
mod reason;

use std::collections::BTreeSet;

use momentlog::core::{Policy, Profile, RunState, SnapshotState};

use crate::op::{Op, name, state, tag};
use job::Driven;
use list::{List, Moment};

pub use reason::Reason;

/// One domain of the model; none before it is defined and after it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Domain {
    persistent: bool,
    autostart: bool,
    power: RunState,
    policy: Policy,
    snapshots: List,
    checkpoints: List,
    /// What is held, each by its list, name and tag.
    holds: BTreeSet<(bool, String, String)>,
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
                    holds: BTreeSet::new(),
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
                holds: BTreeSet::new(),
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
        if gone && !domain.holds.is_empty() {
            return Err(Reason::Held);
        }
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
            "persistent {} autostart {} {:?} {:?} snapshots {} checkpoints {} holds {:?} {}",
            domain.persistent,
            domain.autostart,
            domain.power,
            domain.policy,
            list(&domain.snapshots),
            list(&domain.checkpoints),
            domain.holds,
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
                self.meets(*exclusive, *chain)?;
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
                    self.snapshots.current = Some(name.clone());
                }
                self.lets_go(true, &name)?;
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
                    self.checkpoints.current = Some(name.clone());
                }
                self.lets_go(false, &name)?;
            }
            Op::Delete {
                snapshot,
                name: number,
                extent,
            } => {
                let name = name_text(*number);
                let taken = self.list(*snapshot).taken(&name, *extent);
                self.list(*snapshot).delete(&name, *extent)?;
                for name in taken {
                    self.lets_go(*snapshot, &name)?;
                }
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
                self.lets_go(*snapshot, &name)?;
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
            Op::Hold {
                snapshot,
                name: number,
                tag: under,
            } => {
                let name = name_text(*number);
                self.list(*snapshot).find(&name).ok_or(Reason::NoMoment)?;
                if !self
                    .holds
                    .insert((*snapshot, name, tag(*under).to_string()))
                {
                    return Err(Reason::HeldAlready);
                }
            }
            Op::Release {
                snapshot,
                name: number,
                tag: under,
            } => {
                let name = name_text(*number);
                self.list(*snapshot).find(&name).ok_or(Reason::NoMoment)?;
                if !self
                    .holds
                    .remove(&(*snapshot, name, tag(*under).to_string()))
                {
                    return Err(Reason::NotHeld);
                }
            }
            Op::Undelete {
                snapshot,
                name: number,
                parent,
                adopts,
                current,
            } => {
                let (name, list) = (name_text(*number), self.list(*snapshot));
                if list.find(&name).is_some() {
                    return Err(Reason::NameTaken);
                }
                let parent = parent.map(name_text);
                let parent = parent.filter(|parent| list.find(parent).is_some());
                let children = list.children(parent.as_deref()).into_iter().cloned();
                let children: Vec<Moment> = children.filter(|_| *adopts).collect();
                list.link(Moment {
                    name: name.clone(),
                    parent,
                    state: state(2),
                });
                for child in &children {
                    list.link(Moment {
                        parent: Some(name.clone()),
                        ..child.clone()
                    });
                }
                if *current {
                    list.current = Some(name);
                }
                self.meets(self.policy.exclusive, self.policy.chain)?;
                for child in children {
                    self.lets_go(*snapshot, &child.name)?;
                }
            }
            // What a driver reports is no command.
            _ => {}
        }
        Ok(false)
    }

    /// Refuses these rules if the moments break them.
    fn meets(&self, exclusive: bool, chain: bool) -> Result<(), Reason> {
        let both = !self.snapshots.moments.is_empty() && !self.checkpoints.moments.is_empty();
        let checkpoints = &self.checkpoints;
        let chained =
            checkpoints.is_chain() && checkpoints.leaf() == checkpoints.current.as_deref();
        if exclusive && both || chain && !chained {
            return Err(Reason::PolicyUnmet);
        }
        Ok(())
    }

    /// Refuses what a moment that is held does not let happen.
    fn lets_go(&self, snapshot: bool, name: &str) -> Result<(), Reason> {
        let mut holds = self.holds.iter();
        if holds.any(|(of, held, _)| *of == snapshot && held == name) {
            Err(Reason::Held)
        } else {
            Ok(())
        }
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
