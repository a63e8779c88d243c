mod holds;

use std::sync::Arc;

use super::*;
use crate::{
    CheckpointDef, CheckpointDisk, CreateCheckpoint, CreateSnapshot, DiskTracking, DomainDef,
    DomainDisk, Extent, IdRuns, MomentChange, MomentId, MomentKind, MomentName, ParentRefused,
    Policy, Profile, Redefine, Resume, RunState, SourceKind, StateChange,
};

const UUID: DomainUuid = DomainUuid::from_bytes([7; 16]);

/// A store with one domain of two disks, tested in the form `given([...]).when(action).then(...)`.
struct Store(State);

fn name(text: &str) -> MomentName {
    MomentName::new(text).unwrap()
}

fn domain_def(disks: &[&str]) -> Arc<DomainDef> {
    let disks = disks.iter().map(|target| DomainDisk {
        target: (*target).into(),
        kind: SourceKind::File,
        source: Some(format!("/images/{target}.qcow2").into()),
        empty: false,
        format: Some("qcow2".into()),
        readonly: false,
        snapshot: None,
    });
    Arc::new(DomainDef {
        name: "vm".into(),
        uuid: UUID,
        memory_kib: 8192,
        disks: disks.collect(),
        xml: "".into(),
    })
}

fn checkpoint(text: &str) -> Action {
    Action::CreateCheckpoint(CreateCheckpoint {
        name: Some(name(text)),
        description: None,
        now: 100,
        disks: vec![],
    })
}

fn snapshot(text: &str) -> Action {
    Action::CreateSnapshot(CreateSnapshot {
        name: Some(name(text)),
        description: None,
        now: 100,
        memory: None,
        disks: vec![],
        extra: None,
        disk_only: false,
        halt: false,
    })
}

fn redefined(text: &str, parent: Option<&str>) -> Action {
    let def = CheckpointDef {
        description: None,
        disks: vec![],
        domain: None,
    };
    Action::RedefineCheckpoint(Redefine {
        name: name(text),
        parent: parent.map(name),
        created: 5,
        def,
        current: false,
    })
}

fn delete_checkpoint(text: &str, extent: Extent) -> Action {
    Action::Delete {
        kind: MomentKind::Checkpoint,
        name: name(text),
        extent,
    }
}

fn given(profile: Profile, actions: impl IntoIterator<Item = Action>) -> Store {
    let mut store = Store(State::new(profile));
    store.accept(Action::Define(domain_def(&["vda", "vdb"])));
    store.accept(Action::ChangeState(StateChange::Start));
    for action in actions {
        store.accept(action);
    }
    store
}

impl Store {
    #[track_caller]
    fn accept(&mut self, action: Action) {
        let events = self
            .0
            .decide(&Command {
                domain: UUID,
                action,
            })
            .unwrap();
        for event in events {
            self.0.advance(&event).unwrap();
        }
        assert_eq!(self.0.check(), Ok(()));
        assert_eq!(self.0.check_policy(), Ok(()));
    }

    #[track_caller]
    fn refuse(&self, action: Action) -> Refusal {
        self.0
            .decide(&Command {
                domain: UUID,
                action,
            })
            .unwrap_err()
    }

    fn domain(&self) -> &Domain {
        self.0.domain(UUID).unwrap()
    }

    /// `name<parent` of every checkpoint, current marked with `*`.
    fn checkpoints(&self) -> String {
        let list = self.domain().checkpoints();
        let words = list.walk(crate::Scope::All).map(|moment| {
            let parent = list
                .parent(moment.id)
                .map_or(String::new(), |parent| format!("<{}", parent.name));
            let current = if list.current_id() == Some(moment.id) {
                "*"
            } else {
                ""
            };
            format!("{}{current}{parent}", moment.name)
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

fn chain(profile: Profile) -> Store {
    given(profile, ["a", "b", "c"].map(checkpoint))
}

#[test]
fn a_new_checkpoint_hangs_below_the_current_one() {
    assert_eq!(chain(Profile::Own).checkpoints(), "a b<a c*<b");
}

#[test]
fn deleting_a_middle_checkpoint_reparents_its_child() {
    let mut store = chain(Profile::Own);
    store.accept(delete_checkpoint("b", Extent::One));
    assert_eq!(store.checkpoints(), "a c*<a");
}

#[test]
fn deleting_the_current_checkpoint_makes_its_parent_current() {
    let mut store = chain(Profile::Own);
    store.accept(delete_checkpoint("c", Extent::One));
    assert_eq!(store.checkpoints(), "a b*<a");
    store.accept(delete_checkpoint("a", Extent::Subtree));
    assert_eq!(store.checkpoints(), "");
}

#[test]
fn deleting_only_the_children_makes_the_moment_current() {
    let mut store = chain(Profile::Own);
    store.accept(delete_checkpoint("a", Extent::ChildrenOnly));
    assert_eq!(store.checkpoints(), "a*");
    store.accept(delete_checkpoint("a", Extent::ChildrenOnly));
    assert_eq!(store.checkpoints(), "a*");
}

#[test]
fn a_redefine_that_forks_is_refused_under_chain_and_taken_without() {
    let fork = || redefined("x", Some("a"));
    assert_eq!(
        chain(Profile::Own).refuse(fork()),
        Refusal::Fork {
            domain: "vm".into(),
            name: name("x"),
            current: name("c")
        }
    );
    assert!(matches!(
        chain(Profile::Own).refuse(redefined("x", None)),
        Refusal::Fork { .. }
    ));
    let mut store = chain(Profile::LibvirtTest);
    store.accept(fork());
    assert_eq!(store.checkpoints(), "a x<a b<a c*<b");
}

#[test]
fn a_lost_leaf_can_be_put_back_under_chain() {
    let mut store = chain(Profile::Own);
    store.accept(delete_checkpoint("c", Extent::One));
    store.accept(redefined("c", Some("b")));
    assert_eq!(store.checkpoints(), "a b<a c*<b");
}

#[test]
fn a_redefine_cannot_close_a_cycle() {
    let refusal = chain(Profile::LibvirtTest).refuse(redefined("a", Some("c")));
    assert_eq!(
        refusal,
        ParentRefused::Cycle {
            ancestor: name("b"),
            name: name("a")
        }
        .into()
    );
    let refusal = chain(Profile::LibvirtTest).refuse(redefined("a", Some("a")));
    assert_eq!(refusal, ParentRefused::OwnParent { name: name("a") }.into());
}

#[test]
fn redefining_makes_a_checkpoint_current_only_below_the_current_one() {
    let mut store = given(
        Profile::LibvirtTest,
        [redefined("r1", None), redefined("r2", None)],
    );
    assert_eq!(store.checkpoints(), "r2 r1*");
    store.accept(redefined("r3", Some("r1")));
    store.accept(checkpoint("n"));
    assert_eq!(store.checkpoints(), "r2 r1 r3<r1 n*<r3");
}

#[test]
fn snapshots_and_checkpoints_exclude_each_other_until_the_policy_says_otherwise() {
    let mut store = given(Profile::Own, [snapshot("s")]);
    let kind = MomentKind::Checkpoint;
    assert_eq!(store.refuse(checkpoint("c")), Refusal::Excluded { kind });
    let policy = Policy {
        exclusive: false,
        ..store.domain().policy()
    };
    store.accept(Action::SetPolicy(policy));
    store.accept(checkpoint("c"));
    let back = Action::SetPolicy(Policy {
        exclusive: true,
        ..policy
    });
    assert_eq!(
        store.refuse(back),
        Refusal::PolicyUnmet(crate::PolicyBreach::NotExclusive)
    );
}

#[test]
fn an_inactive_domain_refuses_checkpoints_only_under_the_test_profile() {
    let off = Action::ChangeState(StateChange::Destroy);
    let store = given(Profile::LibvirtTest, [off.clone()]);
    assert_eq!(
        store.refuse(redefined("c", None)),
        Refusal::CheckpointInactive
    );
    given(Profile::Own, [off]).accept(checkpoint("c"));
}

#[test]
fn nameless_moments_of_one_second_collide_or_get_a_suffix() {
    let nameless = || {
        Action::CreateCheckpoint(CreateCheckpoint {
            name: None,
            description: None,
            now: 9,
            disks: vec![],
        })
    };
    let store = given(Profile::LibvirtTest, [nameless()]);
    assert_eq!(
        store.refuse(nameless()),
        Refusal::NameTaken { name: name("9") }
    );
    assert_eq!(
        given(Profile::Own, [nameless(), nameless(), nameless()]).checkpoints(),
        "9 9-2<9 9-3*<9-2"
    );
}

#[test]
fn disks_left_out_are_tracked_only_if_none_is_listed() {
    let create = |disks: &[&str]| {
        let disks = disks.iter().map(|disk| CheckpointDisk {
            name: (*disk).into(),
            tracking: DiskTracking::Bitmap(None),
        });
        CreateCheckpoint {
            name: Some(name("c")),
            description: None,
            now: 1,
            disks: disks.collect(),
        }
    };
    let tracked = |disks: &[&str]| {
        let store = given(Profile::Own, [Action::CreateCheckpoint(create(disks))]);
        let def = &store.domain().checkpoints().current().unwrap().def;
        def.disks
            .iter()
            .map(|disk| disk.tracking != DiskTracking::No)
            .collect::<Vec<_>>()
    };
    assert_eq!(tracked(&[]), [true, true]);
    assert_eq!(tracked(&["vdb"]), [false, true]);
    assert_eq!(tracked(&["/images/vda.qcow2"]), [true, false]);
    let refuse = |disks: &[&str]| {
        given(Profile::Own, [])
            .refuse(Action::CreateCheckpoint(create(disks)))
            .to_string()
    };
    assert_eq!(refuse(&["vdx"]), "no disk named 'vdx'");
    assert_eq!(
        refuse(&["vda", "/images/vda.qcow2"]),
        "disk '/images/vda.qcow2' specified twice"
    );
    assert_eq!(
        refuse(&["vda", "vdb", "vda"]),
        "too many disk checkpoint requests for domain"
    );
}

#[test]
fn a_reparent_keeps_the_chain_and_takes_any_tree_without_the_policy() {
    let reparent = |parent: Option<&str>| Action::Reparent {
        kind: MomentKind::Checkpoint,
        name: name("c"),
        parent: parent.map(name),
    };
    assert!(matches!(
        chain(Profile::Own).refuse(reparent(Some("a"))),
        Refusal::Fork { .. }
    ));
    let mut store = chain(Profile::LibvirtTest);
    store.accept(reparent(Some("a")));
    assert_eq!(store.checkpoints(), "a c*<a b<a");
    store.accept(reparent(None));
    assert_eq!(store.checkpoints(), "c* a b<a");
}

#[test]
fn a_revert_takes_definition_and_run_state_from_the_snapshot() {
    let mut store = given(
        Profile::Own,
        [
            snapshot("s1"),
            snapshot("s2"),
            Action::ChangeState(StateChange::Destroy),
        ],
    );
    store.accept(Action::Define(domain_def(&["vda"])));
    store.accept(Action::Revert {
        name: name("s1"),
        resume: Some(Resume::Paused),
    });
    let domain = store.domain();
    assert_eq!(
        (domain.power().state, domain.power().reason),
        (RunState::Paused, 7)
    );
    assert_eq!(domain.def().disks.len(), 2);
    assert_eq!(domain.snapshots().current().unwrap().name.as_str(), "s1");
}

#[test]
fn a_transient_domain_goes_with_its_guest() {
    let mut store = given(
        Profile::Own,
        [
            checkpoint("c"),
            Action::Undefine {
                with_snapshots: false,
            },
        ],
    );
    assert!(!store.domain().is_persistent());
    store.accept(Action::ChangeState(StateChange::Destroy));
    assert!(store.0.domain(UUID).is_none());
}

#[test]
fn an_event_that_does_not_fit_is_an_error_and_changes_nothing() {
    use crate::Misfit;
    let store = chain(Profile::Own);
    let id = |number| MomentId::new(number).unwrap();
    let apply = |change| {
        store.0.apply(&Event {
            domain: Some(UUID),
            change: Change::Checkpoint(change),
        })
    };
    let def = CheckpointDef {
        description: None,
        disks: vec![],
        domain: None,
    };
    let created = |number, parent, text| MomentChange::Created {
        id: id(number),
        parent,
        name: name(text),
        created: 5,
        def: Arc::new(def.clone()),
        current: false,
    };
    assert_eq!(
        apply(created(9, None, "x")),
        Err(Misfit::NotNext {
            found: id(9),
            next: Some(id(4))
        })
    );
    assert_eq!(
        apply(created(4, None, "a")),
        Err(Misfit::NameOfMoment(name("a")))
    );
    assert_eq!(
        apply(created(4, Some(id(8)), "x")),
        Err(Misfit::Parent {
            moment: id(4),
            parent: Some(id(8))
        })
    );
    let reparented = MomentChange::Reparented {
        id: id(1),
        parent: Some(id(3)),
    };
    assert_eq!(
        apply(reparented),
        Err(Misfit::Parent {
            moment: id(1),
            parent: Some(id(3))
        })
    );
    assert_eq!(
        apply(MomentChange::CurrentSet(Some(id(7)))),
        Err(Misfit::NoMoment(id(7)))
    );
    let deleted = |removed: &[u64], current| MomentChange::Deleted {
        id: id(1),
        extent: Extent::Subtree,
        removed: IdRuns::from_ids(removed.iter().map(|number| id(*number)).collect()),
        children_moved: 0,
        current,
    };
    assert_eq!(apply(deleted(&[1, 2], None)), Err(Misfit::Extent(id(1))));
    assert_eq!(
        apply(deleted(&[1, 2, 3], Some(id(2)))),
        Err(Misfit::NoMoment(id(2)))
    );
    let other = DomainUuid::from_entropy([1; 16]);
    let event = Event {
        domain: Some(other),
        change: Change::MadeTransient,
    };
    assert_eq!(store.0.apply(&event), Err(Misfit::NoDomain(other)));
}
