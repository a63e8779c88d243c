//! What makes the log's domain the one that another program lists.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::deletion::DeletionPlan;
use crate::{
    Change, CurrentSeen, Domain, DomainDef, DomainSeen, DomainUuid, Event, Extent, Misfit,
    MomentChange, MomentId, MomentList, MomentName, MomentSeen, MomentsSeen, Policy, Power,
    Refusal, Scope, State,
};

impl State {
    /// Returns the events after which the domain is as it was seen.
    ///
    /// # Errors
    ///
    /// [`Refusal::DomainNameTaken`] if the log has another domain of its name; [`Refusal::JobOpen`] if it is gone and has an
    /// open job; [`Refusal::OverBudget`] and [`Refusal::IdsExhausted`].
    pub(super) fn see_domain(
        &self,
        uuid: DomainUuid,
        seen: Option<&DomainSeen>,
    ) -> Result<Vec<Event>, Refusal> {
        let mut seeing = Seeing {
            state: self.clone(),
            uuid,
            events: Vec::new(),
        };
        match (seeing.domain(), seen) {
            (None, None) => {}
            (Some(_), None) => seeing.push(Change::DomainRemoved)?,
            (_, Some(seen)) => {
                seeing.see_definition(seen)?;
                seeing.see_moments(Domain::snapshots, Change::Snapshot, &seen.snapshots)?;
                seeing.see_moments(Domain::checkpoints, Change::Checkpoint, &seen.checkpoints)?;
            }
        }
        Ok(seeing.events)
    }
}

/// The state after the events so far.
struct Seeing {
    state: State,
    uuid: DomainUuid,
    events: Vec<Event>,
}

impl Seeing {
    fn domain(&self) -> Option<&Domain> {
        self.state.domain(self.uuid)
    }

    /// The domain, once its definition was seen.
    fn known(&self) -> Result<&Domain, Refusal> {
        self.state.known(self.uuid)
    }

    /// Adds an event, if it fits.
    fn push(&mut self, change: Change) -> Result<(), Refusal> {
        let event = Event {
            domain: Some(self.uuid),
            change,
        };
        self.state
            .advance(&event)
            .map_err(|misfit| self.refusal(misfit))?;
        self.events.push(event);
        Ok(())
    }

    fn refusal(&self, misfit: Misfit) -> Refusal {
        match misfit {
            Misfit::NameOfDomain(name) => {
                let other = self.state.domain_by_name(&name);
                let uuid = other.map_or(self.uuid, |other| other.uuid);
                Refusal::DomainNameTaken { name, uuid }
            }
            Misfit::DefinitionUuid(expected) => Refusal::DefinitionUuid {
                expected,
                found: self.uuid,
            },
            Misfit::JobOpen { .. } => match self.domain().and_then(|domain| {
                let open = domain.jobs.iter().next()?;
                Some(domain.waits_for(open))
            }) {
                Some(refusal) => refusal,
                None => Refusal::NoDomain { uuid: self.uuid },
            },
            Misfit::OverBudget { moment, left } => {
                let name = self.domain().and_then(|domain| {
                    let snapshot = domain.snapshots.get(moment).map(|found| found.name);
                    snapshot.or_else(|| domain.checkpoints.get(moment).map(|found| found.name))
                });
                match name.cloned() {
                    Some(moment) => Refusal::OverBudget { moment, left },
                    None => Refusal::IdsExhausted,
                }
            }
            // Each change is made of the state that it changes.
            _ => Refusal::IdsExhausted,
        }
    }

    fn see_definition(&mut self, seen: &DomainSeen) -> Result<(), Refusal> {
        let inactive = match &seen.next_def {
            Some(next) => Some(next),
            None => (!seen.power.is_active()).then_some(&seen.def),
        };
        let policy = match self.domain() {
            Some(domain) => domain.policy,
            // The other program lets both kinds be, and checkpoints fork.
            None => Policy {
                exclusive: false,
                chain: false,
                ..self.state.policy_of_new(self.uuid)
            },
        };
        let define = |def: &Arc<DomainDef>, live| Change::DomainDefined {
            def: def.clone(),
            policy,
            live,
        };
        match self.domain() {
            None => {
                let def = inactive.unwrap_or(&seen.def);
                self.push(define(def, inactive.is_none()))?;
            }
            Some(domain) if domain.name != seen.def.name => {
                self.push(Change::DomainRenamed(inactive.unwrap_or(&seen.def).clone()))?;
            }
            Some(_) => {}
        }
        let known = self.known()?.power;
        if (known.state, known.reason) != (seen.power.state, seen.power.reason) {
            let power = self.power(known, seen.power);
            self.push(Change::StateChanged(power))?;
        }
        if let Some(def) = inactive {
            let domain = self.known()?;
            if domain.inactive_def() != def || !domain.persistent {
                self.push(define(def, false))?;
            }
        }
        let domain = self.known()?;
        if domain.power.is_active() && domain.def != seen.def {
            self.push(define(&seen.def, true))?;
        }
        let domain = self.known()?;
        if domain.persistent && !seen.persistent {
            self.push(Change::MadeTransient)?;
        }
        if self.known()?.autostart != seen.autostart {
            self.push(Change::AutostartSet(seen.autostart))?;
        }
        Ok(())
    }

    /// The run state that is recorded: the log gives running domains numbers of its own, which it keeps until they stop.
    fn power(&self, known: Power, seen: Power) -> Power {
        let id = known.id.or(Some(self.state.next_domain));
        Power {
            id: id.filter(|_| seen.is_active()),
            ..seen
        }
    }

    fn see_moments<D: Eq>(
        &mut self,
        list: fn(&Domain) -> &MomentList<D>,
        change: fn(MomentChange<D>) -> Change,
        seen: &MomentsSeen<D>,
    ) -> Result<(), Refusal> {
        let seen_by_name: BTreeMap<&str, &MomentSeen<D>> = seen
            .moments
            .iter()
            .map(|moment| (moment.name.as_str(), moment))
            .collect();
        let current = match &seen.current {
            CurrentSeen::Unseen => None,
            CurrentSeen::Is(name) => Some(name.as_ref()),
        };
        while let Some(deletion) = deletion(list(self.known()?), &seen_by_name) {
            self.push(change(deletion))?;
        }
        for (moment, parent) in parents_first(&seen_by_name) {
            let now = list(self.known()?);
            let parent = parent.and_then(|parent| now.find(parent.as_str()));
            let parent = parent.map(|parent| parent.id);
            let is_current = match current {
                Some(current) => current == Some(&moment.name),
                None => parent == now.current_id(),
            };
            let found = now.find(moment.name.as_str());
            let changed = match found {
                None => Some(MomentChange::Created {
                    id: self.state.next_moment.ok_or(Refusal::IdsExhausted)?,
                    parent,
                    name: moment.name.clone(),
                    created: moment.created,
                    def: moment.def.clone(),
                    current: is_current,
                }),
                Some(found) => {
                    let hangs_there = now.parent(found.id).map(|parent| parent.id) == parent;
                    // `Arc` compares addresses first where `D: Eq`, so a definition that was taken over from the log costs
                    // nothing here.
                    let is_same = found.created == moment.created && *found.def == moment.def;
                    match (is_same, hangs_there) {
                        (true, true) => None,
                        (true, false) => Some(MomentChange::Reparented {
                            id: found.id,
                            parent,
                        }),
                        (false, _) => Some(MomentChange::Redefined {
                            id: found.id,
                            parent,
                            created: moment.created,
                            def: moment.def.clone(),
                            current: current == Some(Some(&moment.name)),
                        }),
                    }
                }
            };
            if let Some(changed) = changed {
                self.push(change(changed))?;
            }
        }
        if let Some(current) = current {
            let now = list(self.known()?);
            let current = current.and_then(|name| now.find(name.as_str()));
            let current = current.map(|moment| moment.id);
            if now.current_id() != current {
                self.push(change(MomentChange::CurrentSet(current)))?;
            }
        }
        Ok(())
    }
}

/// Returns the next deletion of moments that are not seen any more: of a whole subtree where all of it is gone.
fn deletion<D>(
    list: &MomentList<D>,
    seen: &BTreeMap<&str, &MomentSeen<D>>,
) -> Option<MomentChange<D>> {
    // Parents are walked before their children, so that children are met first from behind.
    let walked: Vec<_> = list.walk(Scope::All).collect();
    let mut kept_below: BTreeSet<MomentId> = BTreeSet::new();
    for moment in walked.iter().rev() {
        let is_seen = seen.contains_key(moment.name.as_str());
        if (is_seen || kept_below.contains(&moment.id))
            && let Some(parent) = list.parent(moment.id)
        {
            kept_below.insert(parent.id);
        }
    }
    let mut gone = walked
        .iter()
        .filter(|moment| !seen.contains_key(moment.name.as_str()));
    let top = gone.next()?.id;
    let extent = if kept_below.contains(&top) || list.child_count(Some(top)) == 0 {
        Extent::One
    } else {
        Extent::Subtree
    };
    let plan = DeletionPlan::of(list, top, extent);
    Some(MomentChange::Deleted {
        id: top,
        extent,
        current: plan.current_after(list),
        children_moved: plan.children_moved,
        removed: plan.removed,
    })
}

/// Returns the moments with the parents that they hang below, each after its parent. Of a cycle, the first by name hangs below
/// nothing.
fn parents_first<'a, D>(
    seen: &BTreeMap<&'a str, &'a MomentSeen<D>>,
) -> Vec<(&'a MomentSeen<D>, Option<&'a MomentName>)> {
    let parent = |moment: &'a MomentSeen<D>| {
        let parent = moment.parent.as_ref();
        parent.filter(|parent| seen.contains_key(parent.as_str()))
    };
    let mut children: BTreeMap<&str, Vec<&MomentSeen<D>>> = BTreeMap::new();
    let mut roots = Vec::new();
    for moment in seen.values().copied() {
        match parent(moment) {
            Some(parent) => children.entry(parent.as_str()).or_default().push(moment),
            None => roots.push(moment),
        }
    }
    let mut sorted = Vec::with_capacity(seen.len());
    let mut is_sorted = BTreeSet::new();
    for first in roots.into_iter().chain(seen.values().copied()) {
        let mut next = VecDeque::from([(first, None)]);
        while let Some((moment, parent)) = next.pop_front() {
            if is_sorted.insert(moment.name.as_str()) {
                sorted.push((moment, parent));
                let below = children.get(moment.name.as_str()).into_iter().flatten();
                next.extend(below.map(|child| (*child, Some(&moment.name))));
            }
        }
    }
    sorted
}

#[cfg(test)]
mod tests;
