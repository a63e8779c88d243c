//! Every forest of a few checkpoints, with each of them current, or none.

use momentlog_core::{Action, Command, DomainDef, DomainUuid, Policy, Profile, Redefine, State};
use momentlog_xml::{read_checkpoint_redefine, read_snapshot_redefine};

use super::*;

const UUID: DomainUuid = DomainUuid::from_bytes([7; 16]);

fn ask(state: &mut State, action: Action) {
    let domain = UUID;
    for event in state.decide(&Command { domain, action }).unwrap() {
        state.advance(&event).unwrap();
    }
}

/// A store with a domain without moments and rules.
fn empty() -> State {
    let mut state = State::new(Profile::Own);
    let xml = format!(
        "<domain type='test'><name>vm</name><uuid>{UUID}</uuid><memory>8192</memory>\
         <os><type>hvm</type></os></domain>"
    );
    let def: DomainDef = momentlog_xml::read_domain(&xml, || UUID).unwrap();
    ask(&mut state, Action::Define(def.into()));
    ask(&mut state, Action::SetPolicy(Policy::NONE));
    state
}

fn name(number: usize) -> MomentName {
    MomentName::new(&format!("m{number}")).unwrap()
}

/// A store with moments, each with the number of its parent, of which one may be current.
fn forest(kind: MomentKind, parents: &[Option<usize>], current: Option<usize>) -> State {
    let mut state = empty();
    let domain = state.domain(UUID).unwrap().def().clone();
    for (number, parent) in parents.iter().enumerate() {
        let (name, parent) = (name(number), parent.map(name));
        let (created, current) = (100, false);
        let action = match kind {
            MomentKind::Checkpoint => Action::RedefineCheckpoint(Redefine {
                name,
                parent,
                created,
                def: CheckpointDef {
                    description: None,
                    disks: Vec::new(),
                    domain: None,
                },
                current,
            }),
            MomentKind::Snapshot => Action::RedefineSnapshot(Redefine {
                name,
                parent,
                created,
                def: momentlog_core::SnapshotDef {
                    description: None,
                    state: momentlog_core::SnapshotState::Run(momentlog_core::RunState::Shutoff),
                    memory: momentlog_core::Memory::No,
                    disks: Vec::new(),
                    domain: Some(domain.clone()),
                    inactive_domain: None,
                    revert_disks: None,
                    extra: None,
                },
                current,
            }),
        };
        ask(&mut state, action);
    }
    let name = current.map(name);
    ask(&mut state, Action::SetCurrent { kind, name });
    state
}

/// Takes the steps for the moments of a domain, as libvirt does.
fn carry_out(domain: &Domain, kind: MomentKind) -> State {
    let order = Order::of(domain, kind);
    let mut state = empty();
    let recent = momentlog_xml::RecentDomain::default();
    for step in &order.steps {
        let one = order.redefinition(domain, *step, false).unwrap();
        let action = match (step, one.kind) {
            (RedefineStep::DeletePlaceholder, _) => Action::Delete {
                kind,
                name: one.moment,
                extent: momentlog_core::Extent::One,
            },
            (_, MomentKind::Checkpoint) => Action::RedefineCheckpoint(
                read_checkpoint_redefine(&one.xml, &recent, || UUID).unwrap(),
            ),
            (_, MomentKind::Snapshot) => {
                let carry = momentlog_xml::Carry::Everything;
                let redefine =
                    read_snapshot_redefine(&one.xml, false, carry, &recent, || UUID).unwrap();
                let current = one.current;
                Action::RedefineSnapshot(Redefine {
                    current,
                    ..redefine
                })
            }
        };
        ask(&mut state, action);
    }
    state
}

/// The moments in the order of the list, each with its parent, and the current one.
fn told<D>(list: &MomentList<D>) -> (Vec<(String, Option<String>)>, Option<String>) {
    let name = |moment: Moment<'_, D>| moment.name.to_string();
    let all = list.walk(Scope::All);
    let all = all.map(|moment| (name(moment), list.parent(moment.id).map(name)));
    (all.collect(), list.current().map(name))
}

fn check(kind: MomentKind, parents: &[Option<usize>], current: Option<usize>) {
    let state = forest(kind, parents, current);
    let domain = state.domain(UUID).unwrap();
    let rebuilt = carry_out(domain, kind);
    let rebuilt = rebuilt.domain(UUID).unwrap();
    let (found, expected) = match kind {
        MomentKind::Checkpoint => (told(rebuilt.checkpoints()), told(domain.checkpoints())),
        MomentKind::Snapshot => (told(rebuilt.snapshots()), told(domain.snapshots())),
    };
    assert_eq!(found, expected, "{kind} {parents:?}, current {current:?}");
}

/// Calls `each` with every forest of `count` moments, whose parents come before them.
fn forests(count: usize, before: &mut Vec<Option<usize>>, each: &mut dyn FnMut(&[Option<usize>])) {
    if before.len() == count {
        return each(before);
    }
    for parent in std::iter::once(None).chain((0..before.len()).map(Some)) {
        before.push(parent);
        forests(count, before, each);
        before.pop();
    }
}

#[test]
fn every_forest_comes_out_with_its_order_and_its_current_moment() {
    let mut checked = 0;
    for count in 0..=5 {
        forests(count, &mut Vec::new(), &mut |parents| {
            for current in std::iter::once(None).chain((0..count).map(Some)) {
                for kind in [MomentKind::Checkpoint, MomentKind::Snapshot] {
                    check(kind, parents, current);
                    checked += 1;
                }
            }
        });
    }
    assert_eq!(checked, 2 * (1 + 2 + 2 * 3 + 6 * 4 + 24 * 5 + 120 * 6));
}

#[test]
fn a_chain_takes_a_step_for_each_checkpoint_and_no_placeholder() {
    let parents = [None, Some(0), Some(1)];
    let state = forest(MomentKind::Checkpoint, &parents, Some(2));
    let order = Order::of(state.domain(UUID).unwrap(), MomentKind::Checkpoint);
    let is_redefined = |step: &RedefineStep| matches!(step, RedefineStep::Redefine(_));
    assert_eq!(order.steps.len(), 3);
    assert!(order.steps.iter().all(is_redefined));
}
