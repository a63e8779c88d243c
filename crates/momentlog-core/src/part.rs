//! The state of some domains, folded from their own events.

use std::sync::Arc;

use crate::{DomainUuid, Event, Misfit, Profile, Refusal, State};

/// Of what a state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The whole store.
    Store,
    /// These domains, ascending, and the settings.
    Domains(Arc<[DomainUuid]>),
}

impl Part {
    /// Whether an id or number may be the next one: events of other domains may have used up those between.
    pub(crate) fn may_follow<I: Ord + Copy>(&self, next: Option<I>, id: I) -> bool {
        match self {
            Part::Store => next == Some(id),
            Part::Domains(_) => next.is_some_and(|next| next <= id),
        }
    }
}

impl State {
    /// Returns the state of some domains in an empty store.
    ///
    /// It takes the events of these domains and of the store's settings alone, for reading the history of a few domains of
    /// a thousand. A domain in it is the one that the state of the whole store has after the same records, and
    /// [`check`](Self::check) holds. But ids and numbers of jobs need only ascend, the steps that other domains spend are not
    /// counted, and nothing is decided on it: [`decide`](Self::decide) refuses everything.
    pub fn of_domains(profile: Profile, domains: &[DomainUuid]) -> State {
        State::new(profile).only(domains)
    }

    /// Returns what this state has of some domains, as [`of_domains`](Self::of_domains).
    #[must_use]
    pub fn only(&self, domains: &[DomainUuid]) -> State {
        let mut own = domains.to_vec();
        own.sort_unstable();
        let own = own.into();
        let mut state = State {
            part: Part::Domains(own),
            policies: im::OrdMap::new(),
            domains: im::OrdMap::new(),
            names: im::OrdMap::new(),
            ..self.clone()
        };
        for domain in domains {
            if let Some(policy) = self.policies.get(domain) {
                state.policies.insert(*domain, *policy);
            }
            if let Some(kept) = self.keep_domain(*domain) {
                state.names.insert(kept.name.clone(), *domain);
                state.domains.insert(*domain, kept);
            }
        }
        state
    }

    /// The domains that the state is of alone, ascending; `None` if it is that of a whole store.
    pub fn only_domains(&self) -> Option<&[DomainUuid]> {
        match &self.part {
            Part::Store => None,
            Part::Domains(domains) => Some(domains),
        }
    }

    /// Takes note of as many events of other domains as that: each adds to the [`Budget`](crate::Budget).
    pub fn pass(&mut self, events: u32) {
        self.budget = self.budget.earn(events);
    }

    /// Refuses a command on the state of some domains.
    pub(crate) fn is_whole(&self) -> Result<(), Refusal> {
        match self.part {
            Part::Store => Ok(()),
            Part::Domains(_) => Err(Refusal::Partial),
        }
    }

    /// Refuses an event of another domain than those of the state.
    pub(crate) fn is_of(&self, event: &Event) -> Result<(), Misfit> {
        match (&self.part, event.domain) {
            (Part::Domains(own), Some(other)) if own.binary_search(&other).is_err() => {
                Err(Misfit::OtherDomain(other))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Action, Change, CheckpointDef, Command, DomainDef, MomentChange, MomentId, MomentName,
        Policy, SettingsChange,
    };

    const OWN: DomainUuid = DomainUuid::from_bytes([7; 16]);
    const OTHER: DomainUuid = DomainUuid::from_bytes([8; 16]);

    fn event(uuid: DomainUuid, change: Change) -> Event {
        let domain = Some(uuid);
        Event { domain, change }
    }

    fn defined(uuid: DomainUuid) -> Event {
        let def = DomainDef {
            name: "vm".into(),
            uuid,
            memory_kib: 1,
            disks: Vec::new(),
            xml: "<domain/>".into(),
        };
        event(
            uuid,
            Change::DomainDefined {
                def: def.into(),
                policy: Policy::NONE,
                live: false,
            },
        )
    }

    fn created(number: u64) -> Event {
        let def = CheckpointDef {
            description: None,
            disks: Vec::new(),
            domain: None,
        };
        let created = MomentChange::Created {
            id: MomentId::new(number).unwrap(),
            parent: None,
            name: MomentName::new(&format!("c{number}")).unwrap(),
            created: 5,
            def: Arc::new(def),
            current: true,
        };
        event(OWN, Change::Checkpoint(created))
    }

    #[test]
    fn ids_need_only_ascend() {
        let mut state = State::of_domains(Profile::Own, &[OWN]);
        for event in [defined(OWN), created(3), created(9)] {
            state.advance(&event).unwrap();
            assert_eq!(state.check(), Ok(()));
        }
        for used in [1, 3, 9] {
            let refused = state.advance(&created(used));
            assert!(
                matches!(refused, Err(Misfit::NotNext { .. })),
                "{refused:?}"
            );
        }
        let mut whole = State::new(Profile::Own);
        whole.advance(&defined(OWN)).unwrap();
        let refused = whole.advance(&created(3));
        assert!(
            matches!(refused, Err(Misfit::NotNext { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn it_takes_the_events_of_its_domains_and_of_the_settings() {
        let mut state = State::of_domains(Profile::Own, &[OWN]);
        assert_eq!(
            state.advance(&defined(OTHER)),
            Err(Misfit::OtherDomain(OTHER))
        );
        let policy = Policy::NONE;
        let changed = SettingsChange {
            policy: Some(policy),
            ..SettingsChange::default()
        };
        for event in State::new(Profile::Own).decide_settings(changed) {
            state.advance(&event).unwrap();
        }
        assert_eq!(state.policy_of_new(OWN), policy);
        // The name that another domain has is none here.
        state.advance(&defined(OWN)).unwrap();
        assert!(state.domain_by_name("vm").is_some());
    }

    #[test]
    fn nothing_is_decided_on_it() {
        let mut whole = State::new(Profile::Own);
        whole.advance(&defined(OWN)).unwrap();
        let part = whole.only(&[OWN]);
        assert_eq!(
            (part.only_domains(), whole.only_domains()),
            (Some(&[OWN][..]), None)
        );
        assert_eq!(part.domain(OWN), whole.domain(OWN));
        assert_eq!(whole.only(&[OTHER]).domains().count(), 0);
        assert_ne!(part, whole);
        for domain in [OWN, OTHER] {
            let action = Action::Undefine {
                with_snapshots: false,
            };
            let refused = part.decide(&Command { domain, action });
            assert_eq!(refused, Err(Refusal::Partial));
        }
    }

    #[test]
    fn events_of_others_add_to_the_budget() {
        let mut state = State::of_domains(Profile::Own, &[OWN]);
        let before = state.budget().steps();
        state.pass(3);
        state.pass(u32::MAX);
        let events = 3 + u64::from(u32::MAX);
        assert_eq!(state.budget().steps(), before + 256 * events);
    }
}
