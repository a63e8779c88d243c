//! Everything that the events so far have made: domains by uuid and name, and the counters.

use std::fmt;
use std::sync::Arc;

use crate::part::Part;
use crate::{
    Broken, Budget, Domain, DomainUuid, JobId, MomentId, OpenJob, Policy, PolicyBreach, Profile,
    Settings,
};

/// The state of a whole store at one point of its history, or what it has of some domains: see
/// [`of_domains`](Self::of_domains).
///
/// Cloning is O(1). Two states are equal if the same domains, moments, links, holds, open jobs, settings and counters are
/// in them.
#[derive(Clone, PartialEq)]
pub struct State {
    pub(crate) part: Part,
    pub(crate) profile: Profile,
    pub(crate) settings: Settings,
    /// Policies that were set for a domain, which may be gone.
    pub(crate) policies: im::OrdMap<DomainUuid, Policy>,
    pub(crate) domains: im::OrdMap<DomainUuid, Arc<Domain>>,
    pub(crate) names: im::OrdMap<Arc<str>, DomainUuid>,
    pub(crate) next_moment: Option<MomentId>,
    pub(crate) next_domain: u32,
    pub(crate) next_job: Option<JobId>,
    pub(crate) budget: Budget,
}

/// Short: how much there is of everything, and the counters.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("part", &self.part)
            .field("profile", &self.profile)
            .field("domains", &self.domains.len())
            .field("next_moment", &self.next_moment)
            .field("next_domain", &self.next_domain)
            .field("next_job", &self.next_job)
            .finish_non_exhaustive()
    }
}

/// Which rule of a state is broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenState {
    /// A rule of a list of moments.
    #[error(transparent)]
    List(#[from] Broken),
    /// An id is not below the store's counter.
    #[error("moment {0} is not below the counter of ids")]
    Counter(MomentId),
    /// An id stands in two lists of one store.
    #[error("moment {0} is listed twice")]
    Twice(MomentId),
    /// Two policies that were set are one domain's.
    #[error("two policies were set for domain {0}")]
    PolicyTwice(DomainUuid),
    /// The number of an open job is not below the store's counter.
    #[error("job {0} is not below the counter of jobs")]
    JobCounter(JobId),
    /// Two open jobs have one number.
    #[error("job {0} is open twice")]
    JobTwice(JobId),
    /// A moment that is held is not there.
    #[error("moment {0} is held, and is not there")]
    Hold(MomentId),
    /// Two domains have one uuid or one name.
    #[error("domain {0} is there twice, or its name is")]
    Domain(DomainUuid),
}

impl State {
    /// Returns the state of an empty store.
    pub fn new(profile: Profile) -> State {
        State {
            part: Part::Store,
            profile,
            settings: profile.settings(),
            policies: im::OrdMap::new(),
            domains: im::OrdMap::new(),
            names: im::OrdMap::new(),
            next_moment: Some(MomentId::FIRST),
            next_domain: 1,
            next_job: Some(JobId::FIRST),
            budget: Budget::FIRST,
        }
    }

    /// Steps that are left for changes that cost more than O(log n).
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// The profile that gave the store its first settings.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Returns the policy that a domain of this uuid gets when it is defined and not there: the one that was last set for
    /// it, also before it was undefined, or else the store's default.
    pub fn policy_of_new(&self, uuid: DomainUuid) -> Policy {
        let set = self.policies.get(&uuid).copied();
        set.unwrap_or(self.settings.policy)
    }

    /// Returns the policies that were set for a domain, which may be gone, by uuid.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = (DomainUuid, Policy)> {
        self.policies.iter().map(|(uuid, policy)| (*uuid, *policy))
    }

    /// Returns the domain with this uuid.
    pub fn domain(&self, uuid: DomainUuid) -> Option<&Domain> {
        self.domains.get(&uuid).map(Arc::as_ref)
    }

    /// Returns the domain with this uuid, to be kept as it is now whatever happens to it later. O(1).
    pub fn keep_domain(&self, uuid: DomainUuid) -> Option<Arc<Domain>> {
        self.domains.get(&uuid).cloned()
    }

    /// Returns the domain of this name.
    pub fn domain_by_name(&self, name: &str) -> Option<&Domain> {
        self.domain(*self.names.get(name)?)
    }

    /// Returns all domains, by name.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.names.values().filter_map(|uuid| self.domain(*uuid))
    }

    /// The id of the next moment; `None` when all are used up.
    pub fn next_moment(&self) -> Option<MomentId> {
        self.next_moment
    }

    /// The number of the next job; `None` when all are used up.
    pub fn next_job(&self) -> Option<JobId> {
        self.next_job
    }

    /// Returns all open jobs with their domains, by uuid.
    pub fn open_jobs(&self) -> impl Iterator<Item = (DomainUuid, &OpenJob)> {
        let domains = self.domains.values();
        domains.flat_map(|domain| domain.jobs.iter().map(|open| (domain.uuid, open)))
    }

    /// Checks what `apply` guarantees for any events: every list is sound, ids and numbers of open jobs are unique and
    /// below their counters, and every hold's moment is there. That a domain has at most one open job of each length,
    /// and that it is there, is how jobs are kept.
    ///
    /// # Errors
    ///
    /// The first rule that is [`BrokenState`].
    pub fn check(&self) -> Result<(), BrokenState> {
        for domain in self.domains.values() {
            domain.snapshots.check()?;
            domain.checkpoints.check()?;
        }
        self.check_across()
    }

    /// Checks the rules between lists, jobs, holds and counters: all but those of each list.
    pub(crate) fn check_across(&self) -> Result<(), BrokenState> {
        self.check_ids()?;
        self.check_jobs()?;
        self.check_holds()
    }

    /// Checks that the ids of all moments differ and are below the counter. In each list they ascend.
    fn check_ids(&self) -> Result<(), BrokenState> {
        let domains = || self.domains.values();
        let lists = domains().flat_map(|domain| [domain.snapshots.len(), domain.checkpoints.len()]);
        if lists.filter(|len| *len > 0).count() > 1 {
            let mut ids: Vec<MomentId> = domains().flat_map(|domain| domain.ids()).collect();
            // Each list has them in order, so that this merges.
            ids.sort();
            if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(BrokenState::Twice(pair[0]));
            }
        }
        let last =
            domains().flat_map(|domain| [domain.snapshots.last_id(), domain.checkpoints.last_id()]);
        match (last.max().flatten(), self.next_moment) {
            (Some(last), Some(next)) if last >= next => Err(BrokenState::Counter(last)),
            _ => Ok(()),
        }
    }

    /// Checks that the numbers of open jobs differ and are below the counter.
    fn check_jobs(&self) -> Result<(), BrokenState> {
        let mut ids: Vec<JobId> = self.open_jobs().map(|(_, open)| open.id).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(BrokenState::JobTwice(pair[0]));
        }
        match (ids.last(), self.next_job) {
            (Some(last), Some(next)) if *last >= next => Err(BrokenState::JobCounter(*last)),
            _ => Ok(()),
        }
    }

    /// Checks that the moment of every hold is there.
    fn check_holds(&self) -> Result<(), BrokenState> {
        self.domains.values().try_for_each(|domain| {
            let mut held = domain.holds.iter().map(|(id, _, _)| id);
            let missing = held.find(|id| !domain.has_moment(*id));
            missing.map_or(Ok(()), |id| Err(BrokenState::Hold(id)))
        })
    }

    /// Checks what `decide` guarantees for decided histories: every domain meets its own policy.
    ///
    /// # Errors
    ///
    /// The first domain that does not, and how.
    pub fn check_policy(&self) -> Result<(), (DomainUuid, PolicyBreach)> {
        self.domains.values().try_for_each(|domain| {
            domain
                .check_policy()
                .map_err(|breach| (domain.uuid, breach))
        })
    }
}

impl Domain {
    /// The ids of all its moments, of each kind ascending.
    fn ids(&self) -> impl Iterator<Item = MomentId> {
        self.snapshots.ids().chain(self.checkpoints.ids())
    }
}
