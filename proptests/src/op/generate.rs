//! Strategies that generate ops.

use proptest::prelude::*;

use super::{NAMES, Op};

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
        // Of few moments, so that some are held twice.
        4 => (snapshot(), 0..3_u8, prop::bool::weighted(0.2)).prop_map(|(snapshot, name, tag)| {
            Op::Hold { snapshot, name, tag: u8::from(tag) }
        }),
        2 => (snapshot(), 0..3_u8, 0..2_u8)
            .prop_map(|(snapshot, name, tag)| Op::Release { snapshot, name, tag }),
        3 => (snapshot(), number(), parent(), any::<bool>(), any::<bool>())
            .prop_map(|(snapshot, name, parent, adopts, current)| {
                Op::Undelete { snapshot, name, parent, adopts, current }
            }),
    ]
}
