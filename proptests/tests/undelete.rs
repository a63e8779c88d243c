//! Deletions that are taken back at any later time, against a small model of the rules of `docs/audit.md`.
//!
//! The model knows no ids: it gives each moment a number of its own, which the moment keeps when it comes back, and it reads
//! nothing of the log but the trees that the calls leave.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use momentlog::core::{
    Change, Domain, DomainUuid, MomentChange, MomentId, MomentList, Profile, Refusal, Scope,
};
use momentlog::store::{MemoryStore, Seq};
use momentlog::{Connection, ManualClock, Options};
use momentlog_proptests::{Op, ops};
use proptest::prelude::*;

/// The one domain of the suites.
const UUID: DomainUuid = DomainUuid::from_bytes([0x5a; 16]);

/// Deletions that were taken back, those of them right after, and children that had come back themselves before.
static UNDONE: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

/// A moment of the model, which stays the same when it comes back.
type Number = usize;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    name: String,
    parent: Option<Number>,
    /// Its time and definition.
    what: String,
}

/// The moments of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tree {
    nodes: BTreeMap<Number, Node>,
    current: Option<Number>,
}

/// The snapshots and the checkpoints.
type Trees = [Tree; 2];

/// What a record deleted.
struct Deletion {
    seq: Seq,
    before: Trees,
    after: Trees,
}

/// Why nothing comes back.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    Nothing,
    NameTaken,
    Cycle,
    Policy,
}

#[derive(Default)]
struct Model {
    numbers: BTreeMap<MomentId, Number>,
    /// How many numbers were given.
    given: Number,
    returned: BTreeSet<Number>,
    deletions: Vec<Deletion>,
}

impl Model {
    /// The trees of the domain. A moment that is new has the number that `known` says for its name, or a new one.
    fn trees(&mut self, domain: Option<&Domain>, known: [&BTreeMap<String, Number>; 2]) -> Trees {
        let Some(domain) = domain else {
            return Trees::default();
        };
        [
            self.tree(domain.snapshots(), known[0]),
            self.tree(domain.checkpoints(), known[1]),
        ]
    }

    fn tree<D: std::fmt::Debug>(
        &mut self,
        list: &MomentList<D>,
        known: &BTreeMap<String, Number>,
    ) -> Tree {
        for moment in list.walk(Scope::All) {
            let next = self.given;
            let number = self.numbers.entry(moment.id).or_insert_with(|| {
                let known = known.get(moment.name.as_str()).copied();
                known.unwrap_or(next)
            });
            self.given += usize::from(*number == next);
        }
        let number = |id: MomentId| self.numbers[&id];
        let nodes = list.walk(Scope::All).map(|moment| {
            let node = Node {
                name: moment.name.to_string(),
                parent: list.parent(moment.id).map(|parent| number(parent.id)),
                what: format!("{} {:?}", moment.created, moment.def),
            };
            (number(moment.id), node)
        });
        Tree {
            nodes: nodes.collect(),
            current: list.current_id().map(number),
        }
    }

    /// What taking back a deletion makes of a tree.
    fn back(&self, before: &Tree, after: &Tree, now: &Tree) -> Result<(Tree, usize), Refused> {
        let gone: Vec<Number> = before.nodes.keys().copied().collect();
        let gone: Vec<Number> = gone
            .into_iter()
            .filter(|number| !after.nodes.contains_key(number))
            .collect();
        let mut made = now.clone();
        let mut returned = 0;
        for number in &gone {
            let node = &before.nodes[number];
            if now.nodes.values().any(|other| other.name == node.name) {
                return Err(Refused::NameTaken);
            }
            let parent = first_above(before, *number, |above| {
                gone.contains(&above) || now.nodes.contains_key(&above)
            });
            made.nodes.insert(
                *number,
                Node {
                    parent,
                    ..node.clone()
                },
            );
        }
        for (child, node) in &before.nodes {
            let Some(parent) = node.parent.filter(|parent| gone.contains(parent)) else {
                continue;
            };
            let Some(hangs) = now.nodes.get(child) else {
                continue;
            };
            let left = first_above(before, parent, |above| now.nodes.contains_key(&above));
            if !gone.contains(child) && hangs.parent == left {
                made.nodes.get_mut(child).unwrap().parent = Some(parent);
                returned += usize::from(self.returned.contains(child));
            }
        }
        if before
            .current
            .is_some_and(|current| gone.contains(&current))
            && now.current == after.current
        {
            made.current = before.current;
        }
        if made
            .nodes
            .keys()
            .any(|number| is_below_itself(&made, *number))
        {
            return Err(Refused::Cycle);
        }
        Ok((made, returned))
    }

    /// What taking back a deletion makes of the domain, and how many children come back below it that came back before.
    fn undelete(
        &self,
        deletion: &Deletion,
        now: &Trees,
        domain: &Domain,
    ) -> Result<(Trees, usize), Refused> {
        let Deletion { before, after, .. } = deletion;
        if before
            .iter()
            .zip(after)
            .all(|(before, after)| before.nodes.len() == after.nodes.len())
        {
            return Err(Refused::Nothing);
        }
        let (snapshots, some) = self.back(&before[0], &after[0], &now[0])?;
        let (checkpoints, more) = self.back(&before[1], &after[1], &now[1])?;
        let has = |rule: &str| domain.policy().rules().any(|found| found.name() == rule);
        let is_chain = is_chain(&checkpoints);
        let are_both = !snapshots.nodes.is_empty() && !checkpoints.nodes.is_empty();
        if has("chain") && !is_chain || has("exclusive") && are_both {
            return Err(Refused::Policy);
        }
        Ok(([snapshots, checkpoints], some + more))
    }
}

/// The nearest ancestor that is meant.
fn first_above(tree: &Tree, number: Number, is_meant: impl Fn(Number) -> bool) -> Option<Number> {
    let parent = tree.nodes[&number].parent?;
    if is_meant(parent) {
        return Some(parent);
    }
    first_above(tree, parent, is_meant)
}

fn is_below_itself(tree: &Tree, number: Number) -> bool {
    let mut at = number;
    for _ in 0..=tree.nodes.len() {
        match tree.nodes[&at].parent {
            None => return false,
            Some(parent) => at = parent,
        }
    }
    true
}

/// Whether checkpoints are one chain with the leaf current.
fn is_chain(tree: &Tree) -> bool {
    let parents: BTreeSet<Option<Number>> = tree.nodes.values().map(|node| node.parent).collect();
    let leaf = tree
        .nodes
        .keys()
        .find(|number| !parents.contains(&Some(**number)));
    parents.len() == tree.nodes.len() && tree.current == leaf.copied()
}

fn deletes(events: &[momentlog::core::Event]) -> bool {
    fn is_other<D>(change: &MomentChange<D>) -> bool {
        !matches!(change, MomentChange::Deleted { .. })
    }
    let mut deletes = false;
    for event in events {
        match &event.change {
            Change::Snapshot(change) if is_other(change) => return false,
            Change::Checkpoint(change) if is_other(change) => return false,
            Change::Reverted { .. } => return false,
            Change::Snapshot(_) | Change::Checkpoint(_) | Change::DomainRemoved => deletes = true,
            _ => {}
        }
    }
    deletes
}

/// Names of the moments that a deletion took, with their numbers.
fn names(before: &Tree, after: &Tree) -> BTreeMap<String, Number> {
    let gone = before
        .nodes
        .iter()
        .filter(|(number, _)| !after.nodes.contains_key(number));
    gone.map(|(number, node)| (node.name.clone(), *number))
        .collect()
}

fn play(ops: &[Op], undone: &[u8]) {
    let clock = Arc::new(ManualClock::default());
    let options = Options {
        clock: clock.clone(),
        profile: Profile::Own,
        ..Options::default()
    };
    let connection = Connection::over(Box::new(MemoryStore::new()), options);
    let mut model = Model::default();
    let none = BTreeMap::new();
    let mut now = Trees::default();
    // What is taken back is chosen here, so that the model knows which moments return.
    let ops = ops.iter().filter(|op| !matches!(op, Op::Undelete { .. }));
    for (step, op) in ops.enumerate() {
        let second = 100 + i64::try_from(step / 3).unwrap();
        clock.set_second(second);
        let view = connection.view();
        let asked = op.asked(second, view.state().domain(UUID));
        if let Ok(done) = asked.of(&connection, UUID) {
            let before = now;
            let view = connection.view();
            now = model.trees(view.state().domain(UUID), [&none, &none]);
            if deletes(&done.events) && !done.repeated {
                let after = now.clone();
                let seq = done.seq;
                model.deletions.push(Deletion { seq, before, after });
            }
        }
        // One deletion in three steps is taken back, an old one or the last.
        let pick = usize::from(undone[step % undone.len()]);
        if !pick.is_multiple_of(3) || model.deletions.is_empty() {
            continue;
        }
        let last = model.deletions.len() - 1;
        let place = if pick.is_multiple_of(2) {
            last
        } else {
            pick / 3 % (last + 1)
        };
        let view = connection.view();
        let Some(domain) = view.state().domain(UUID) else {
            continue;
        };
        let deletion = &model.deletions[place];
        let expected = model.undelete(deletion, &now, domain);
        let handle = connection.lookup_domain_by_uuid(UUID).unwrap();
        let known = [0, 1].map(|kind| names(&deletion.before[kind], &deletion.after[kind]));
        match (handle.undelete(deletion.seq, None), expected) {
            (Ok(_), Ok((trees, returned))) => {
                UNDONE[0].fetch_add(1, Ordering::Relaxed);
                UNDONE[1].fetch_add(usize::from(deletion.after == now), Ordering::Relaxed);
                UNDONE[2].fetch_add(returned, Ordering::Relaxed);
                model
                    .returned
                    .extend(known.iter().flat_map(BTreeMap::values));
                let view = connection.view();
                now = model.trees(view.state().domain(UUID), [&known[0], &known[1]]);
                assert_eq!(now, trees);
            }
            (Err(error), expected) => match (error.refusal(), expected) {
                (None, Err(Refused::Nothing))
                | (Some(Refusal::NameTaken { .. }), Err(Refused::NameTaken))
                | (Some(Refusal::CannotHang), Err(Refused::Cycle))
                | (Some(Refusal::PolicyUnmet(_)), Err(Refused::Policy)) => {}
                (Some(Refusal::JobOpen { .. }), _) => {
                    assert!(view.state().open_jobs().next().is_some(), "{error}");
                }
                // What is held stays where it is.
                (Some(Refusal::Held { .. }), _) => {
                    assert!(!domain.holds().is_empty(), "{error}");
                }
                (_, expected) => panic!("{error}: {expected:?}"),
            },
            (Ok(undeletion), Err(refused)) => panic!("{undeletion:?}: {refused:?}"),
        }
    }
}

fn cases() -> u32 {
    if cfg!(debug_assertions) { 4096 } else { 8192 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    fn undelete_at_any_time(ops in ops(60), undone in prop::collection::vec(any::<u8>(), 60)) {
        play(&ops, &undone);
    }
}

#[test]
fn what_is_taken_back_at_any_time_is_what_the_rules_say() {
    undelete_at_any_time();
    let [undone, right_after, returned] =
        UNDONE.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert!(undone > 500, "only {undone} deletions were taken back");
    assert!(right_after > 100, "only {right_after} right after");
    assert!(
        undone - right_after > 100,
        "only {} later",
        undone - right_after
    );
    assert!(
        returned > 5,
        "only {returned} children had come back themselves"
    );
}
