//! A state as plain parts, and back.
//!
//! This is for `momentlog-engine`, which keeps a state in an image, and for the suites that check it. Parts are input:
//! what does not fit together is refused when a state is made of it. A list's part is in the list's own module.

use std::sync::Arc;

pub use crate::moment_list::{ListRow, Skeleton};
use crate::{
    Attachment, BrokenState, Budget, CheckpointList, Domain, DomainDef, DomainUuid, Holds, JobId,
    MomentId, OpenJobs, Policy, Power, Profile, Settings, SnapshotList, State,
};

/// What a state is made of besides its domains, to keep it in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The profile.
    pub profile: Profile,
    /// The settings in force.
    pub settings: Settings,
    /// The id of the next moment; `None` when all are used up.
    pub next_moment: Option<MomentId>,
    /// The number of the next domain that starts.
    pub next_domain: u32,
    /// The number of the next job; `None` when all are used up.
    pub next_job: Option<JobId>,
    /// The steps left.
    pub budget: Budget,
}

/// What a domain is made of, to keep it in an image.
#[derive(Clone, Debug)]
pub struct DomainParts {
    /// The uuid.
    pub uuid: DomainUuid,
    /// The name under which it is found.
    pub name: Arc<str>,
    /// The definition in force.
    pub def: Arc<DomainDef>,
    /// The definition of the next start, if that is another.
    pub next_def: Option<Arc<DomainDef>>,
    /// Whether it outlives its guest.
    pub persistent: bool,
    /// Whether it starts with its host.
    pub autostart: bool,
    /// The last report of the run state.
    pub power: Power,
    /// The rules in force.
    pub policy: Policy,
    /// The snapshots.
    pub snapshots: SnapshotList,
    /// The checkpoints.
    pub checkpoints: CheckpointList,
    /// The holds of its moments.
    pub holds: Holds,
    /// The open jobs.
    pub jobs: OpenJobs,
    /// Where its hypervisor is asked.
    pub attachment: Option<Arc<Attachment>>,
}

impl State {
    /// Returns the state with these counters, policies that were set, and domains.
    ///
    /// # Errors
    ///
    /// The [`BrokenState`] rule: an id or a job is not below the counter or comes twice, two domains share uuid or name, two
    /// policies are one domain's, or a hold's moment is not there.
    pub fn restore(
        counters: Counters,
        policies: impl IntoIterator<Item = (DomainUuid, Policy)>,
        domains: impl IntoIterator<Item = Domain>,
    ) -> Result<State, BrokenState> {
        let mut state = State {
            settings: counters.settings,
            next_moment: counters.next_moment,
            next_domain: counters.next_domain,
            next_job: counters.next_job,
            budget: counters.budget,
            ..State::new(counters.profile)
        };
        for (uuid, policy) in policies {
            if state.policies.insert(uuid, policy).is_some() {
                return Err(BrokenState::PolicyTwice(uuid));
            }
        }
        for domain in domains {
            let (uuid, name) = (domain.uuid, domain.name.clone());
            let twice = state.names.insert(name, uuid).is_some();
            if state.domains.insert(uuid, Arc::new(domain)).is_some() || twice {
                return Err(BrokenState::Domain(uuid));
            }
        }
        state.check_across()?;
        Ok(state)
    }

    /// The counters, for an image.
    pub fn counters(&self) -> Counters {
        Counters {
            profile: self.profile,
            settings: self.settings,
            next_moment: self.next_moment,
            next_domain: self.next_domain,
            next_job: self.next_job,
            budget: self.budget,
        }
    }
}

impl From<DomainParts> for Domain {
    fn from(parts: DomainParts) -> Domain {
        let DomainParts {
            uuid,
            name,
            def,
            next_def,
            persistent,
            autostart,
            power,
            policy,
            snapshots,
            checkpoints,
            holds,
            jobs,
            attachment,
        } = parts;
        Domain {
            uuid,
            name,
            def,
            next_def,
            persistent,
            autostart,
            power,
            policy,
            snapshots,
            checkpoints,
            holds,
            jobs,
            attachment,
        }
    }
}
