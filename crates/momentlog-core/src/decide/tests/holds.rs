//! What a hold forbids, and what it does not.

use super::*;
use crate::{Hold, HoldTag, Report};

fn hold(kind: MomentKind, text: &str, tag: &str) -> Action {
    Action::Hold {
        kind,
        name: name(text),
        tag: HoldTag::new(tag).unwrap(),
        hold: Hold {
            since: 1_795_564_800,
            by: "anna@ops1".into(),
        },
    }
}

fn release(text: &str, tag: &str) -> Action {
    Action::Release {
        kind: MomentKind::Checkpoint,
        name: name(text),
        tag: HoldTag::new(tag).unwrap(),
    }
}

/// A chain c1, c2, c3 whose middle is held, without the rule that it stays one.
fn held() -> Store {
    let chain = ["c1", "c2", "c3"].map(checkpoint);
    let mut store = given(Profile::Own, chain);
    store.accept(Action::SetPolicy(Policy::NONE));
    store.accept(hold(MomentKind::Checkpoint, "c2", "legal"));
    store
}

#[track_caller]
fn refuses(store: &Store, action: Action) -> String {
    let command = Command {
        domain: UUID,
        action,
    };
    store.0.decide(&command).unwrap_err().to_string()
}

#[test]
fn a_held_moment_is_neither_deleted_nor_redefined_nor_hung_elsewhere() {
    let store = held();
    let why = "checkpoint c2 is held (tag `legal`, by anna@ops1, since 2026-11-25)";
    for action in [
        delete_checkpoint("c2", Extent::One),
        delete_checkpoint("c2", Extent::Subtree),
        delete_checkpoint("c1", Extent::Subtree),
        delete_checkpoint("c1", Extent::ChildrenOnly),
        redefined("c2", Some("c1")),
        Action::Reparent {
            kind: MomentKind::Checkpoint,
            name: name("c2"),
            parent: None,
        },
    ] {
        assert_eq!(refuses(&store, action.clone()), why, "{action:?}");
    }
}

#[test]
fn a_held_moment_moves_up_and_its_children_go() {
    let mut store = held();
    store.accept(delete_checkpoint("c2", Extent::ChildrenOnly));
    store.accept(delete_checkpoint("c1", Extent::One));
    let list = store.0.domain(UUID).unwrap().checkpoints();
    let c2 = list.find("c2").unwrap();
    assert!(list.parent(c2.id).is_none() && list.len() == 1);
    store.accept(checkpoint("c4"));
}

#[test]
fn each_tag_holds_until_it_is_released() {
    let mut store = held();
    store.accept(hold(MomentKind::Checkpoint, "c2", "audit"));
    assert_eq!(
        refuses(&store, hold(MomentKind::Checkpoint, "c2", "audit")),
        "checkpoint c2 is held under the tag `audit` already"
    );
    store.accept(release("c2", "legal"));
    assert!(refuses(&store, delete_checkpoint("c2", Extent::One)).contains("tag `audit`"));
    assert_eq!(
        refuses(&store, release("c2", "legal")),
        "checkpoint c2 is not held under the tag `legal`"
    );
    store.accept(release("c2", "audit"));
    store.accept(delete_checkpoint("c2", Extent::One));
    assert!(store.0.domain(UUID).unwrap().holds().is_empty());
}

#[test]
fn only_a_moment_that_is_there_is_held_and_somebody_holds_it() {
    let store = held();
    assert_eq!(
        refuses(&store, hold(MomentKind::Checkpoint, "c9", "legal")),
        "no domain checkpoint with matching name 'c9'"
    );
    assert_eq!(
        refuses(&store, hold(MomentKind::Snapshot, "c2", "legal")),
        "no domain snapshot with matching name 'c2'"
    );
    let unnamed = Action::Hold {
        kind: MomentKind::Checkpoint,
        name: name("c2"),
        tag: HoldTag::new("audit").unwrap(),
        hold: Hold {
            since: 0,
            by: "".into(),
        },
    };
    assert_eq!(
        refuses(&store, unnamed),
        "who holds c2 must be named in 1 to 256 bytes"
    );
}

#[test]
fn a_domain_with_a_held_moment_stays() {
    let mut store = held();
    let undefine = Action::Undefine {
        with_snapshots: true,
    };
    // A running domain becomes transient, and goes with its guest: that cannot be asked for either.
    store.accept(undefine.clone());
    assert!(refuses(&store, Action::ChangeState(StateChange::Destroy)).contains("is held"));
    assert!(refuses(&store, Action::ChangeState(StateChange::Shutdown)).contains("is held"));
    // That it is gone is no wish: the record of it stays.
    let off = Report::Observe {
        state: RunState::Shutoff,
        reason: 1,
    };
    for event in store.0.decide_report(UUID, &off).unwrap() {
        store.0.advance(&event).unwrap();
    }
    let domain = store.0.domain(UUID).unwrap();
    assert_eq!(domain.power().state, RunState::Shutoff);
    assert!(refuses(&store, undefine.clone()).contains("is held"));
    store.accept(release("c2", "legal"));
    store.accept(undefine);
    assert!(store.0.domain(UUID).is_none());
}
