//! Events that no command causes yet, given to `apply` between commands: jobs and holds. They are facts that may be
//! forged, so that most of them do not fit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arbitrary::Arbitrary;
use momentlog::core::{
    Change, CheckpointDef, Command, Deletion, Domain, Event, Extent, Hold, HoldTag, HypervisorRun,
    IdRuns, Job, JobId, JobKind, JobLength, JobOutcome, MomentId, MomentName, MomentToMake,
    Profile, Seen, Settings, SettingsChange, SettledBy, State,
};
use proptest::prelude::*;

use crate::op::{Op, commands};
use crate::suite::UUID;

/// A command, or an event in its place. Numbers stand for jobs, moments and tags.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary)]
pub enum Forged {
    /// A command, decided and applied.
    Op(Op),
    /// A job begins.
    Begin {
        /// A long one.
        long: bool,
        /// Its number; none is the next one.
        number: Option<u8>,
        /// The parent of the checkpoint that it is to make.
        parent: Option<u8>,
        /// The moment that it is to delete.
        deletes: Option<u8>,
    },
    /// A job is settled.
    Settle {
        /// Its number.
        number: u8,
        /// It failed.
        failed: bool,
    },
    /// A moment is held.
    Hold {
        /// The moment.
        id: u8,
        /// The tag.
        tag: u8,
    },
    /// A moment is released.
    Release {
        /// The moment.
        id: u8,
        /// The tag.
        tag: u8,
    },
    /// The store is set, by a command.
    Set {
        /// New domains follow the chain rule.
        chain: bool,
        /// The window of request ids.
        window_s: u8,
    },
    /// The domain is gone.
    Remove,
    /// An event of the store names a domain, or the other way round.
    Misplaced {
        /// It is of the store.
        of_store: bool,
    },
}

/// What is known of jobs, holds and settings, by rules of its own.
#[derive(Debug)]
struct Known {
    next_job: u64,
    /// Which open jobs are long, by number.
    open: BTreeMap<u64, bool>,
    holds: BTreeSet<(u64, u8)>,
    settings: Settings,
}

/// Returns a strategy for sequences of up to `length` commands and events.
pub fn forged(length: usize) -> impl Strategy<Value = Vec<Forged>> {
    let small = || 0..6_u8;
    let some = move || prop::option::weighted(0.3, small());
    let event = prop_oneof![
        4 => (any::<bool>(), prop::option::weighted(0.1, small()), some(), some()).prop_map(
            |(long, number, parent, deletes)| Forged::Begin { long, number, parent, deletes }
        ),
        4 => (small(), any::<bool>()).prop_map(|(number, failed)| Forged::Settle { number, failed }),
        6 => (small(), 0..3_u8).prop_map(|(id, tag)| Forged::Hold { id, tag }),
        2 => (small(), 0..3_u8).prop_map(|(id, tag)| Forged::Release { id, tag }),
        1 => (any::<bool>(), 0..3_u8).prop_map(|(chain, window_s)| Forged::Set { chain, window_s }),
        1 => Just(Forged::Remove),
        1 => any::<bool>().prop_map(|of_store| Forged::Misplaced { of_store }),
    ];
    let events = prop::collection::vec(event, 0..=length);
    (commands(length), events).prop_flat_map(|(ops, events)| {
        let all = ops.into_iter().map(Forged::Op).chain(events);
        // The domain is defined and started by the first two of them.
        let all: Vec<Forged> = all.collect();
        let begin = all.len().min(2);
        let (first, rest) = all.split_at(begin);
        let first = first.to_vec();
        Just(rest.to_vec())
            .prop_shuffle()
            .prop_map(move |rest| [first.clone(), rest].concat())
    })
}

/// Applies commands and events, and checks after each that it fits exactly if it should, that what does not fit changes
/// nothing, that every rule of a state holds, and that jobs, holds and settings are those of a model.
///
/// # Panics
///
/// If one of these does not hold; the message has the steps so far.
pub fn apply_forged(steps: &[Forged]) {
    let mut state = State::new(Profile::Own);
    let mut known = Known {
        next_job: 1,
        open: BTreeMap::new(),
        holds: BTreeSet::new(),
        settings: Profile::Own.settings(),
    };
    for (at, step) in steps.iter().enumerate() {
        let so_far = &steps[..=at];
        let events = match step {
            Forged::Op(op) => known.decided(&state, op, so_far),
            Forged::Set { chain, window_s } => {
                let mut policy = state.settings().policy;
                policy.chain = *chain;
                known.settings.policy = policy;
                known.settings.request_window_s = (*window_s).into();
                state.decide_settings(SettingsChange {
                    policy: Some(policy),
                    request_window_s: Some((*window_s).into()),
                })
            }
            event => vec![known.event(event)],
        };
        let is_forged = !matches!(step, Forged::Op(_) | Forged::Set { .. });
        for event in events {
            let fits = !is_forged || known.fits(&state, step);
            let before = state.clone();
            let applied = state.advance(&event);
            assert_eq!(applied.is_ok(), fits, "{applied:?} {so_far:?}");
            if applied.is_err() {
                assert_eq!(state, before, "{so_far:?}");
            } else if is_forged {
                known.take(step);
            }
            assert_eq!(state.check(), Ok(()), "{so_far:?}");
        }
        known.forget(&state);
        known.compare(&state, so_far);
    }
    let domains = state.domains().cloned();
    let again = State::restore(state.counters(), state.policies(), domains);
    assert_eq!(again.as_ref(), Ok(&state), "{steps:?}");
}

fn listed(domain: &Domain, id: u8) -> bool {
    checkpoint_listed(domain, id)
        || moment(id).is_some_and(|id| domain.snapshots().get(id).is_some())
}

fn checkpoint_listed(domain: &Domain, id: u8) -> bool {
    moment(id).is_some_and(|id| domain.checkpoints().get(id).is_some())
}

fn moment(id: u8) -> Option<MomentId> {
    MomentId::new(id.into())
}

/// The moment of that number, or one that is never there.
fn moment_or_none(id: u8) -> MomentId {
    moment(id).unwrap_or(MomentId::new(u64::MAX).expect("is not 0"))
}

fn job_or_none(number: u64) -> JobId {
    JobId::new(number).unwrap_or(JobId::new(u64::MAX).expect("is not 0"))
}

fn tag(number: u8) -> HoldTag {
    HoldTag::new(&format!("t{number}")).expect("the text is a tag")
}

impl Known {
    /// Returns the events of a command; a domain with an open job is not removed by one. What a driver reports causes none
    /// here, and neither do holds and releases: jobs and holds are forged.
    fn decided(&self, state: &State, op: &Op, so_far: &[Forged]) -> Vec<Event> {
        if let Op::Hold { .. } | Op::Release { .. } = op {
            return Vec::new();
        }
        let Some(action) = op.action(100, state.domain(UUID)) else {
            return Vec::new();
        };
        let command = Command {
            domain: UUID,
            action,
        };
        let events = state.decide(&command).unwrap_or_default();
        let removed = events
            .iter()
            .any(|event| event.change == Change::DomainRemoved);
        assert!(!removed || self.open.is_empty(), "{so_far:?}");
        events
    }

    fn event(&self, step: &Forged) -> Event {
        let change = match step {
            Forged::Begin {
                long,
                number,
                parent,
                deletes,
            } => Change::JobBegun {
                id: job_or_none(number.map_or(self.next_job, u64::from)),
                job: Arc::new(job(*long, *parent, *deletes)),
            },
            Forged::Settle { number, failed } => {
                let outcome = JobOutcome {
                    job: job_or_none((*number).into()),
                    seen: Seen::default(),
                    settled_by: SettledBy::Later,
                    agent: "suite".into(),
                };
                if *failed {
                    Change::JobFailed(outcome)
                } else {
                    Change::JobEnded(outcome)
                }
            }
            Forged::Hold { id, tag: number } => Change::HoldAdded {
                id: moment_or_none(*id),
                tag: tag(*number),
                hold: Hold {
                    since: 5,
                    by: "suite".into(),
                },
            },
            Forged::Release { id, tag: number } => Change::HoldRemoved {
                id: moment_or_none(*id),
                tag: tag(*number),
            },
            Forged::Misplaced { of_store: true } => Change::SettingsSet(self.settings),
            Forged::Misplaced { of_store: false } => Change::MadeTransient,
            Forged::Remove | Forged::Op(_) | Forged::Set { .. } => Change::DomainRemoved,
        };
        let domain = (*step != Forged::Misplaced { of_store: false }).then_some(UUID);
        Event { domain, change }
    }

    /// Whether the event of a step should fit.
    fn fits(&self, state: &State, step: &Forged) -> bool {
        let Some(domain) = state.domain(UUID) else {
            return false;
        };
        match step {
            Forged::Begin {
                long,
                number,
                parent,
                deletes,
            } => {
                number.is_none_or(|number| u64::from(number) == self.next_job)
                    && !self.open.values().any(|other| other == long)
                    && parent.is_none_or(|id| checkpoint_listed(domain, id))
                    && deletes.is_none_or(|id| listed(domain, id))
            }
            Forged::Settle { number, .. } => self.open.contains_key(&(*number).into()),
            Forged::Hold { id, tag } => {
                listed(domain, *id) && !self.holds.contains(&((*id).into(), *tag))
            }
            Forged::Release { id, tag } => self.holds.contains(&((*id).into(), *tag)),
            Forged::Remove => self.open.is_empty(),
            Forged::Op(_) | Forged::Set { .. } => true,
            Forged::Misplaced { .. } => false,
        }
    }

    fn take(&mut self, step: &Forged) {
        match step {
            Forged::Begin { long, .. } => {
                self.open.insert(self.next_job, *long);
                self.next_job += 1;
            }
            Forged::Settle { number, .. } => {
                self.open.remove(&(*number).into());
            }
            Forged::Hold { id, tag } => {
                self.holds.insert(((*id).into(), *tag));
            }
            Forged::Release { id, tag } => {
                self.holds.remove(&((*id).into(), *tag));
            }
            Forged::Op(_) | Forged::Set { .. } | Forged::Remove | Forged::Misplaced { .. } => {}
        }
    }

    /// Forgets the holds of moments that are gone; no id comes twice.
    fn forget(&mut self, state: &State) {
        let domain = state.domain(UUID);
        self.holds.retain(|(id, _)| {
            let id = MomentId::new(*id).expect("a held moment has an id");
            domain.is_some_and(|domain| {
                domain.snapshots().get(id).is_some() || domain.checkpoints().get(id).is_some()
            })
        });
    }

    fn compare(&self, state: &State, so_far: &[Forged]) {
        assert_eq!(state.next_job().map(JobId::get), Some(self.next_job));
        assert_eq!(state.settings(), self.settings, "{so_far:?}");
        let open: BTreeMap<u64, bool> = state
            .open_jobs()
            .map(|(_, open)| (open.id.get(), open.job.length == JobLength::Long))
            .collect();
        assert_eq!(open, self.open, "{so_far:?}");
        let holds = state.domain(UUID).map(|domain| {
            let holds = domain.holds().iter();
            holds
                .map(|(id, tag, _)| (id.get(), tag.to_string()))
                .collect::<Vec<_>>()
        });
        let wanted = self.holds.iter();
        let wanted: Vec<_> = wanted
            .map(|(id, number)| (*id, tag(*number).to_string()))
            .collect();
        assert_eq!(holds.unwrap_or_default(), wanted, "{so_far:?}");
    }
}

fn job(long: bool, parent: Option<u8>, deletes: Option<u8>) -> Job {
    let checkpoint = |parent: u8| MomentToMake {
        name: MomentName::new("made").expect("the text is a name"),
        parent: Some(moment_or_none(parent)),
        created: 5,
        def: Arc::new(CheckpointDef {
            description: None,
            disks: Vec::new(),
            domain: None,
        }),
        current: true,
    };
    let deletion = |id: u8| Deletion {
        id: moment_or_none(id),
        extent: Extent::One,
        removed: IdRuns::from_ids(vec![moment_or_none(id)]),
    };
    Job {
        kind: JobKind::CreateCheckpoint,
        length: if long {
            JobLength::Long
        } else {
            JobLength::Short
        },
        call: 1,
        flags: 0,
        document: None,
        snapshots: Vec::new(),
        checkpoints: parent.map(checkpoint).into_iter().collect(),
        deletions: deletes.map(deletion).into_iter().collect(),
        effects: Vec::new(),
        files: Vec::new(),
        run: Some(HypervisorRun {
            pid: 1,
            start: 2,
            boot: [3; 16],
        }),
    }
}
