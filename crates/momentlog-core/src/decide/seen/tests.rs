use super::*;
use crate::{CheckpointDef, JobKind, Memory, Profile, RunState, SnapshotDef, SnapshotState};

const UUID: DomainUuid = DomainUuid::from_bytes([7; 16]);
const OTHER: DomainUuid = DomainUuid::from_bytes([8; 16]);

fn name(text: &str) -> MomentName {
    MomentName::new(text).unwrap()
}

fn domain_def(uuid: DomainUuid, name: &str, memory_kib: u64) -> Arc<DomainDef> {
    Arc::new(DomainDef {
        name: name.into(),
        uuid,
        memory_kib,
        disks: vec![],
        xml: format!("<domain><name>{name}</name>{memory_kib}</domain>").into(),
    })
}

/// A domain that is off and has no moments.
fn off(uuid: DomainUuid, name: &str) -> DomainSeen {
    DomainSeen {
        def: domain_def(uuid, name, 1),
        next_def: None,
        persistent: true,
        autostart: false,
        power: Power::OFF,
        snapshots: MomentsSeen::default(),
        checkpoints: MomentsSeen::default(),
    }
}

fn running() -> Power {
    Power {
        state: RunState::Running,
        reason: 1,
        id: None,
    }
}

fn snapshot(name: &str, parent: Option<&str>, created: i64) -> MomentSeen<SnapshotDef> {
    MomentSeen {
        name: self::name(name),
        parent: parent.map(self::name),
        created,
        def: Arc::new(SnapshotDef {
            description: None,
            state: SnapshotState::Run(RunState::Shutoff),
            memory: Memory::No,
            disks: vec![],
            domain: None,
            inactive_domain: None,
            revert_disks: None,
            extra: None,
        }),
    }
}

fn checkpoint(name: &str, parent: Option<&str>) -> MomentSeen<CheckpointDef> {
    MomentSeen {
        name: self::name(name),
        parent: parent.map(self::name),
        created: 1,
        def: Arc::new(CheckpointDef {
            description: None,
            disks: vec![],
            domain: None,
        }),
    }
}

fn snapshots(moments: Vec<MomentSeen<SnapshotDef>>, current: Option<&str>) -> DomainSeen {
    DomainSeen {
        snapshots: MomentsSeen {
            moments,
            current: CurrentSeen::Is(current.map(name)),
        },
        ..off(UUID, "vm")
    }
}

fn checkpoints(moments: Vec<MomentSeen<CheckpointDef>>) -> DomainSeen {
    DomainSeen {
        checkpoints: MomentsSeen {
            moments,
            current: CurrentSeen::Unseen,
        },
        ..off(UUID, "vm")
    }
}

/// Takes what was seen into the state, checks that it is there then, and returns the changes.
fn see(state: &mut State, uuid: DomainUuid, seen: Option<&DomainSeen>) -> Vec<Change> {
    let events = state.see_domain(uuid, seen).unwrap();
    for event in &events {
        state.advance(event).unwrap();
    }
    assert_eq!(state.check(), Ok(()));
    assert_eq!(state.see_domain(uuid, seen), Ok(vec![]), "{events:?}");
    if let Some(seen) = seen {
        is_as_seen(state.domain(uuid).unwrap(), seen);
    } else {
        assert!(state.domain(uuid).is_none());
    }
    events.into_iter().map(|event| event.change).collect()
}

#[track_caller]
fn is_as_seen(domain: &Domain, seen: &DomainSeen) {
    assert_eq!(domain.name, seen.def.name);
    assert_eq!(domain.def, seen.def);
    assert_eq!(domain.next_def, seen.next_def);
    assert_eq!(
        (domain.persistent, domain.autostart),
        (seen.persistent, seen.autostart)
    );
    assert_eq!(domain.power.state, seen.power.state);
    assert_eq!(domain.power.id.is_some(), seen.power.is_active());
    list_is_as_seen(&domain.snapshots, &seen.snapshots);
    list_is_as_seen(&domain.checkpoints, &seen.checkpoints);
}

#[track_caller]
fn list_is_as_seen<D: PartialEq + std::fmt::Debug>(list: &MomentList<D>, seen: &MomentsSeen<D>) {
    let names: BTreeSet<&str> = seen.moments.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(list.len(), names.len());
    for moment in &seen.moments {
        let found = list.find(moment.name.as_str()).unwrap();
        assert_eq!((found.created, found.def), (moment.created, &moment.def));
        let parent = list.parent(found.id).map(|parent| parent.name);
        let wanted = moment.parent.as_ref();
        assert_eq!(parent, wanted.filter(|name| names.contains(name.as_str())));
    }
    if let CurrentSeen::Is(current) = &seen.current {
        let found = list.current().map(|found| found.name);
        assert_eq!(found, current.as_ref());
    }
}

#[test]
fn a_domain_is_defined_started_redefined_renamed_stopped_and_gone_as_it_is_seen() {
    let mut state = State::new(Profile::Own);
    let mut seen = off(UUID, "vm");
    let changes = see(&mut state, UUID, Some(&seen));
    assert!(matches!(
        changes[..],
        [Change::DomainDefined { live: false, .. }]
    ));
    seen.next_def = Some(seen.def.clone());
    seen.def = domain_def(UUID, "vm", 2);
    seen.power = running();
    let changes = see(&mut state, UUID, Some(&seen));
    assert!(
        matches!(
            changes[..],
            [
                Change::StateChanged(_),
                Change::DomainDefined { live: true, .. }
            ]
        ),
        "{changes:?}"
    );
    seen.next_def = Some(domain_def(UUID, "vm", 3));
    seen.autostart = true;
    let changes = see(&mut state, UUID, Some(&seen));
    assert!(
        matches!(
            changes[..],
            [
                Change::DomainDefined { live: false, .. },
                Change::AutostartSet(true)
            ]
        ),
        "{changes:?}"
    );
    seen = off(UUID, "vm");
    see(&mut state, UUID, Some(&seen));
    seen.def = domain_def(UUID, "renamed", 1);
    let changes = see(&mut state, UUID, Some(&seen));
    assert!(matches!(changes[..], [Change::DomainRenamed(_)]));
    assert_eq!(see(&mut state, UUID, None), [Change::DomainRemoved]);
}

#[test]
fn a_transient_guest_is_there_as_long_as_it_is_seen() {
    let mut state = State::new(Profile::Own);
    let seen = DomainSeen {
        persistent: false,
        power: running(),
        ..off(UUID, "vm")
    };
    let changes = see(&mut state, UUID, Some(&seen));
    assert!(matches!(
        changes[..],
        [
            Change::DomainDefined { live: true, .. },
            Change::StateChanged(_)
        ]
    ));
    let persistent = DomainSeen {
        next_def: Some(seen.def.clone()),
        persistent: true,
        ..seen.clone()
    };
    see(&mut state, UUID, Some(&persistent));
    let changes = see(&mut state, UUID, Some(&seen));
    assert_eq!(changes, [Change::MadeTransient]);
}

#[test]
fn a_name_of_another_domain_is_refused_with_that_domain() {
    let mut state = State::new(Profile::Own);
    see(&mut state, OTHER, Some(&off(OTHER, "vm")));
    let refused = state.see_domain(UUID, Some(&off(UUID, "vm")));
    assert_eq!(
        refused,
        Err(Refusal::DomainNameTaken {
            name: "vm".into(),
            uuid: OTHER
        })
    );
}

#[test]
fn a_subtree_that_is_gone_is_one_deletion_and_a_moment_between_others_is_one_too() {
    let mut state = State::new(Profile::Own);
    let all = || {
        vec![
            snapshot("a", None, 1),
            snapshot("b", Some("a"), 2),
            snapshot("c", Some("b"), 3),
            snapshot("d", Some("b"), 4),
            snapshot("e", Some("a"), 5),
        ]
    };
    see(&mut state, UUID, Some(&snapshots(all(), Some("d"))));
    let mut left = all();
    left.retain(|one| ["a", "e"].contains(&one.name.as_str()));
    let changes = see(&mut state, UUID, Some(&snapshots(left, Some("a"))));
    let [
        Change::Snapshot(MomentChange::Deleted {
            extent, removed, ..
        }),
    ] = &changes[..]
    else {
        panic!("{changes:?}");
    };
    assert_eq!((*extent, removed.len()), (Extent::Subtree, 3));

    see(&mut state, UUID, Some(&snapshots(all(), Some("d"))));
    let mut left = all();
    left.remove(1);
    for moment in &mut left[1..3] {
        moment.parent = Some(name("a"));
    }
    let changes = see(&mut state, UUID, Some(&snapshots(left, Some("d"))));
    let [Change::Snapshot(MomentChange::Deleted { extent, .. })] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(*extent, Extent::One);
}

#[test]
fn a_policy_refuses_nothing_of_what_is_seen() {
    // Two kinds at once, a fork of the chain, and checkpoints of a domain that is off.
    let mut state = State::new(Profile::Own);
    let mut seen = checkpoints(vec![
        checkpoint("a", None),
        checkpoint("b", Some("a")),
        checkpoint("c", Some("a")),
        checkpoint("not a name:", None),
    ]);
    seen.snapshots = snapshots(vec![snapshot("s", None, 1)], None).snapshots;
    see(&mut state, UUID, Some(&seen));
    assert_eq!(state.check_policy(), Ok(()));
}

#[test]
fn where_the_current_checkpoint_is_not_seen_it_is_the_newest_of_its_line() {
    let mut state = State::new(Profile::Own);
    let current = |state: &State| {
        let list = &state.domain(UUID).unwrap().checkpoints;
        list.current().map(|current| current.name.to_string())
    };
    let chain = [
        checkpoint("a", None),
        checkpoint("b", Some("a")),
        checkpoint("c", Some("b")),
    ];
    see(&mut state, UUID, Some(&checkpoints(chain.to_vec())));
    assert_eq!(current(&state).as_deref(), Some("c"));
    see(&mut state, UUID, Some(&checkpoints(chain[..2].to_vec())));
    assert_eq!(current(&state).as_deref(), Some("b"));
    see(&mut state, UUID, Some(&checkpoints(chain.to_vec())));
    assert_eq!(current(&state).as_deref(), Some("c"));
}

#[test]
fn a_cycle_of_parents_is_cut_and_an_unknown_parent_is_none() {
    let mut state = State::new(Profile::Own);
    let seen = snapshots(
        vec![
            snapshot("a", Some("b"), 1),
            snapshot("b", Some("a"), 1),
            snapshot("c", Some("gone"), 1),
        ],
        Some("c"),
    );
    for event in state.see_domain(UUID, Some(&seen)).unwrap() {
        state.advance(&event).unwrap();
    }
    let list = &state.domain(UUID).unwrap().snapshots;
    let parent = |name: &str| {
        let found = list.find(name).unwrap();
        list.parent(found.id).map(|parent| parent.name.to_string())
    };
    assert_eq!(
        [parent("a"), parent("b"), parent("c")],
        [None, Some("a".to_owned()), None]
    );
}

#[test]
fn a_domain_that_is_gone_stays_as_long_as_its_job_is_open() {
    let mut state = State::new(Profile::Own);
    see(&mut state, UUID, Some(&off(UUID, "vm")));
    let job = crate::Job {
        kind: JobKind::Forward,
        length: crate::JobLength::Short,
        call: 231,
        flags: 0,
        document: None,
        snapshots: vec![],
        checkpoints: vec![],
        deletions: vec![],
        effects: vec![],
        files: vec![],
        run: None,
    };
    let begin = crate::Report::Begin(Box::new(crate::BeginJob { job, action: None }));
    for event in state.decide_report(UUID, &begin).unwrap() {
        state.advance(&event).unwrap();
    }
    assert!(matches!(
        state.see_domain(UUID, None),
        Err(Refusal::JobOpen { .. })
    ));
}

/// Numbers that look random, and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    /// A tree of up to seven snapshots, of a few names and times.
    fn tree(&mut self) -> Vec<MomentSeen<SnapshotDef>> {
        let mut seen: Vec<MomentSeen<SnapshotDef>> = Vec::new();
        for _ in 0..self.below(8) {
            let name = format!("s{}", self.below(12));
            if seen.iter().any(|one| one.name.as_str() == name) {
                continue;
            }
            let parent = self.below(seen.len() + 1).checked_sub(1);
            let parent = parent.map(|index| seen[index].name.to_string());
            let created = if self.below(4) == 0 { 2 } else { 1 };
            seen.push(snapshot(&name, parent.as_deref(), created));
        }
        seen.reverse();
        seen
    }
}

#[test]
fn whatever_is_seen_after_whatever_is_what_the_log_has_then() {
    let mut state = State::new(Profile::Own);
    let mut numbers = Numbers(1);
    for _ in 0..5_000 {
        let moments = numbers.tree();
        let current = numbers.below(moments.len() + 1).checked_sub(1);
        let current = current.map(|index| moments[index].name.to_string());
        let mut seen = snapshots(moments, current.as_deref());
        seen.checkpoints.moments = numbers
            .tree()
            .iter()
            .map(|one| {
                checkpoint(
                    one.name.as_str(),
                    one.parent.as_ref().map(MomentName::as_str),
                )
            })
            .collect();
        see(&mut state, UUID, Some(&seen));
    }
}
