use super::*;
use crate::{
    Action, BrokenState, CheckpointDef, CheckpointDisk, Command, Deletion, DiskEffect, DiskSeen,
    DiskState, DiskTracking, DomainDef, EffectKind, Extent, FileToMake, Hold, HypervisorRun,
    IdRuns, JobKind, JobLength, JobOutcome, MomentToMake, Policy, Profile, Refusal, Seen,
    SettingsChange, SettledBy, StateChange,
};

const UUID: DomainUuid = DomainUuid::from_bytes([7; 16]);

fn window(seconds: u32) -> SettingsChange {
    SettingsChange {
        request_window_s: Some(seconds),
        ..SettingsChange::default()
    }
}

fn default_policy(policy: Policy) -> SettingsChange {
    SettingsChange {
        policy: Some(policy),
        ..SettingsChange::default()
    }
}

fn id(number: u64) -> MomentId {
    MomentId::new(number).unwrap()
}

fn job_id(number: u64) -> JobId {
    JobId::new(number).unwrap()
}

fn tag(text: &str) -> HoldTag {
    HoldTag::new(text).unwrap()
}

fn checkpoint_def() -> Arc<CheckpointDef> {
    Arc::new(CheckpointDef {
        description: None,
        disks: Vec::new(),
        domain: None,
    })
}

fn created(number: u64, parent: Option<u64>) -> Change {
    Change::Checkpoint(MomentChange::Created {
        id: id(number),
        parent: parent.map(id),
        name: MomentName::new(&format!("c{number}")).unwrap(),
        created: 5,
        def: checkpoint_def(),
        current: true,
    })
}

fn deleted(number: u64, extent: Extent, removed: &[u64], children_moved: u64) -> Change {
    Change::Checkpoint(MomentChange::Deleted {
        id: id(number),
        extent,
        removed: IdRuns::from_ids(removed.iter().copied().map(id).collect()),
        children_moved,
        current: None,
    })
}

fn job(length: JobLength) -> Job {
    Job {
        kind: JobKind::CreateCheckpoint,
        length,
        call: 12,
        flags: 0,
        document: None,
        snapshots: Vec::new(),
        checkpoints: vec![MomentToMake {
            name: MomentName::new("c9").unwrap(),
            parent: Some(id(1)),
            created: 9,
            def: checkpoint_def(),
            current: true,
        }],
        deletions: Vec::new(),
        effects: vec![DiskEffect {
            disk: "vda".into(),
            kind: EffectKind::BitmapAdded,
            image: "/images/vda.qcow2".into(),
            node: "vda-format".into(),
            bitmap: Some("c9".into()),
            bitmap_was_there: false,
            file: None,
        }],
        files: vec![FileToMake {
            disk: "vda".into(),
            path: "/backup/vda.qcow2".into(),
        }],
        run: Some(HypervisorRun {
            pid: 42,
            start: 1_000,
            boot: [3; 16],
        }),
    }
}

fn begun(number: u64, length: JobLength) -> Change {
    Change::JobBegun {
        id: job_id(number),
        job: Arc::new(job(length)),
    }
}

fn outcome(number: u64) -> JobOutcome {
    JobOutcome {
        job: job_id(number),
        seen: Seen::new(vec![("vda".into(), "bitmap c9 records".into())]).unwrap(),
        settled_by: SettledBy::Later,
        agent: "root@host momentlog".into(),
    }
}

fn held(number: u64, text: &str) -> Change {
    Change::HoldAdded {
        id: id(number),
        tag: tag(text),
        hold: Hold {
            since: 77,
            by: "anna".into(),
        },
    }
}

fn released(number: u64, text: &str) -> Change {
    Change::HoldRemoved {
        id: id(number),
        tag: tag(text),
    }
}

fn of_domain(change: Change) -> Event {
    Event {
        domain: Some(UUID),
        change,
    }
}

/// A store with one running domain and the chain of checkpoints c1, c2, c3, changed by events.
struct Store(State);

fn given(changes: impl IntoIterator<Item = Change>) -> Store {
    let mut state = State::new(Profile::Own);
    let def = Arc::new(DomainDef {
        name: "vm".into(),
        uuid: UUID,
        memory_kib: 1024,
        disks: Vec::new(),
        xml: "".into(),
    });
    for action in [Action::Define(def), Action::ChangeState(StateChange::Start)] {
        let command = Command {
            domain: UUID,
            action,
        };
        for event in state.decide(&command).unwrap() {
            state.advance(&event).unwrap();
        }
    }
    let chain = [created(1, None), created(2, Some(1)), created(3, Some(2))];
    let mut store = Store(state);
    for change in chain.into_iter().chain(changes) {
        store.takes(change);
    }
    store
}

impl Store {
    #[track_caller]
    fn takes(&mut self, change: Change) {
        self.0.advance(&of_domain(change)).unwrap();
        assert_eq!(self.0.check(), Ok(()));
    }

    /// The event does not fit, and changes nothing.
    #[track_caller]
    fn refuses(&self, change: Change) -> Misfit {
        let mut after = self.0.clone();
        let misfit = after.advance(&of_domain(change)).unwrap_err();
        assert_eq!(after, self.0);
        misfit
    }

    fn open(&self) -> Vec<u64> {
        self.0.open_jobs().map(|(_, open)| open.id.get()).collect()
    }

    fn holds(&self) -> Vec<(u64, String)> {
        let holds = self.0.domain(UUID).unwrap().holds().iter();
        holds
            .map(|(id, tag, _)| (id.get(), tag.to_string()))
            .collect()
    }
}

#[test]
fn a_domain_has_one_short_and_one_long_job() {
    let mut store = given([begun(1, JobLength::Short)]);
    assert_eq!(
        store.refuses(begun(2, JobLength::Short)),
        Misfit::JobInTheWay(job_id(1))
    );
    store.takes(begun(2, JobLength::Long));
    assert_eq!(
        store.refuses(begun(3, JobLength::Long)),
        Misfit::JobInTheWay(job_id(2))
    );
    assert_eq!(store.open(), [1, 2]);
    store.takes(Change::JobFailed(outcome(1)));
    assert_eq!(store.open(), [2]);
    store.takes(begun(3, JobLength::Short));
    store.takes(Change::JobEnded(outcome(2)));
    assert_eq!(store.open(), [3]);
    assert_eq!(store.0.next_job(), JobId::new(4));
}

#[test]
fn a_job_keeps_all_that_its_outcome_needs() {
    let store = given([begun(1, JobLength::Long)]);
    let jobs = store.0.domain(UUID).unwrap().jobs();
    assert_eq!(
        *jobs.get(JobLength::Long).unwrap().job,
        job(JobLength::Long)
    );
    assert_eq!(jobs.get(JobLength::Short), None);
}

#[test]
fn one_record_ends_a_job_makes_its_moment_and_begins_the_next_job() {
    let mut store = given([begun(1, JobLength::Short)]);
    for change in [
        Change::JobEnded(outcome(1)),
        created(4, Some(3)),
        begun(2, JobLength::Long),
    ] {
        store.takes(change);
    }
    assert_eq!(store.open(), [2]);
    assert!(
        store
            .0
            .domain(UUID)
            .unwrap()
            .checkpoints()
            .get(id(4))
            .is_some()
    );
}

#[test]
fn job_numbers_come_from_one_counter_and_are_settled_once() {
    let mut store = given([]);
    assert_eq!(
        store.refuses(begun(2, JobLength::Short)),
        Misfit::JobNotNext {
            found: job_id(2),
            next: JobId::new(1)
        }
    );
    assert_eq!(
        store.refuses(Change::JobEnded(outcome(1))),
        Misfit::JobNotOpen(job_id(1))
    );
    store.takes(begun(1, JobLength::Short));
    store.takes(Change::JobEnded(outcome(1)));
    assert_eq!(
        store.refuses(Change::JobFailed(outcome(1))),
        Misfit::JobNotOpen(job_id(1))
    );
    store.0.next_job = None;
    assert_eq!(
        store.refuses(begun(1, JobLength::Short)),
        Misfit::JobNotNext {
            found: job_id(1),
            next: None
        }
    );
}

#[test]
fn a_job_is_about_moments_that_are_there() {
    let store = given([]);
    let with = |change: fn(&mut Job)| {
        let mut job = job(JobLength::Short);
        change(&mut job);
        Change::JobBegun {
            id: job_id(1),
            job: Arc::new(job),
        }
    };
    let missing = Misfit::NoMoment(id(8));
    let bad_parent = with(|job| job.checkpoints[0].parent = Some(id(8)));
    assert_eq!(store.refuses(bad_parent), missing);
    let deletion = with(|job| {
        job.deletions = vec![Deletion {
            id: id(8),
            extent: Extent::One,
            removed: IdRuns::from_ids(vec![id(8)]),
        }];
    });
    assert_eq!(store.refuses(deletion), missing);
}

#[test]
fn a_domain_does_not_go_while_a_job_is_open() {
    let mut store = given([begun(1, JobLength::Long)]);
    let open = Misfit::JobOpen {
        domain: UUID,
        job: job_id(1),
    };
    assert_eq!(store.refuses(Change::DomainRemoved), open);
    store.takes(Change::MadeTransient);
    let destroy = Command {
        domain: UUID,
        action: Action::ChangeState(StateChange::Destroy),
    };
    assert_eq!(
        store.0.decide(&destroy),
        Err(Refusal::JobOpen {
            name: "vm".into(),
            job: job_id(1),
            call: job(JobLength::Long).call,
            length: JobLength::Long,
        })
    );
    store.takes(Change::JobFailed(outcome(1)));
    assert_eq!(store.0.decide(&destroy).map(|events| events.len()), Ok(2));
    store.takes(Change::DomainRemoved);
}

#[test]
fn what_was_seen_is_about_a_checkpoint_that_is_there_and_disks_that_it_tracks() {
    let disk = |name: &str, tracking| CheckpointDisk {
        name: name.into(),
        tracking,
    };
    let def = CheckpointDef {
        description: None,
        disks: vec![
            disk("vda", DiskTracking::Bitmap(None)),
            disk("vdb", DiskTracking::No),
            disk("vdc", DiskTracking::Bitmap(None)),
        ],
        domain: None,
    };
    let mut store = given([Change::Checkpoint(MomentChange::Redefined {
        id: id(2),
        parent: Some(id(1)),
        created: 5,
        def: Arc::new(def),
        current: false,
    })]);
    let seen = |number, disks: &[&str]| Change::CheckpointSeen {
        id: id(number),
        disks: disks
            .iter()
            .map(|disk| DiskSeen {
                disk: (*disk).into(),
                state: DiskState::Lost,
            })
            .collect(),
    };
    let before = store.0.domain(UUID).cloned();
    for disks in [&["vda"][..], &["vdc"], &["vda", "vdc"]] {
        store.takes(seen(2, disks));
        assert_eq!(store.0.domain(UUID).cloned(), before);
    }
    for disks in [
        &[][..],
        &["vdb"],
        &["vdz"],
        &["vdc", "vda"],
        &["vda", "vda"],
    ] {
        assert_eq!(store.refuses(seen(2, disks)), Misfit::NotTracked(id(2)));
    }
    // The other checkpoint tracks none.
    assert_eq!(store.refuses(seen(1, &["vda"])), Misfit::NotTracked(id(1)));
    assert_eq!(store.refuses(seen(8, &["vda"])), Misfit::NoMoment(id(8)));
}

#[test]
fn a_tag_holds_a_moment_once() {
    let mut store = given([held(2, "legal"), held(2, "audit"), held(1, "legal")]);
    let twice = Misfit::Held {
        id: id(2),
        tag: tag("legal"),
    };
    assert_eq!(store.refuses(held(2, "legal")), twice);
    assert_eq!(store.refuses(held(8, "legal")), Misfit::NoMoment(id(8)));
    let not_held = Misfit::NotHeld {
        id: id(1),
        tag: tag("audit"),
    };
    assert_eq!(store.refuses(released(1, "audit")), not_held);
    store.takes(released(2, "legal"));
    assert_eq!(store.holds(), [(1, "legal".into()), (2, "audit".into())]);
}

#[test]
fn holds_go_with_their_moments_and_no_others() {
    let every = || [1, 2, 3].map(|number| held(number, "legal"));
    let mut one = given(every());
    one.takes(deleted(2, Extent::One, &[2], 1));
    assert_eq!(one.holds(), [(1, "legal".into()), (3, "legal".into())]);
    let mut children = given(every());
    children.takes(deleted(1, Extent::ChildrenOnly, &[2, 3], 0));
    assert_eq!(children.holds(), [(1, "legal".into())]);
    let mut tree = given(every());
    tree.takes(deleted(1, Extent::Subtree, &[1, 2, 3], 0));
    assert_eq!(tree.holds(), []);
    let mut gone = given(every());
    gone.takes(Change::DomainRemoved);
    assert_eq!(gone.0.domain(UUID), None);
}

#[test]
fn states_with_other_holds_jobs_or_settings_are_not_equal() {
    let plain = given([]).0;
    for change in [held(1, "legal"), begun(1, JobLength::Short)] {
        let other = plain.apply(&of_domain(change)).unwrap();
        assert_ne!(other.domain(UUID), plain.domain(UUID));
    }
    let mut set = plain.clone();
    for event in plain.decide_settings(window(0)) {
        set.advance(&event).unwrap();
    }
    set.budget = plain.budget;
    assert_ne!(set, plain);
}

#[test]
fn settings_are_the_stores_and_all_else_is_a_domains() {
    let store = given([]);
    let settings = store.0.settings();
    assert_eq!(
        store.refuses(Change::SettingsSet(settings)),
        Misfit::OfStore(UUID)
    );
    let of_none = Event {
        domain: None,
        change: held(1, "legal"),
    };
    assert_eq!(store.0.apply(&of_none), Err(Misfit::OfDomain));
}

#[test]
fn a_setting_changes_alone() {
    let mut state = State::new(Profile::Own);
    let free = Policy {
        chain: false,
        ..state.settings().policy
    };
    for change in [default_policy(free), window(60)] {
        for event in state.decide_settings(change) {
            state.advance(&event).unwrap();
        }
    }
    assert_eq!(state.settings().policy, free);
    assert_eq!(state.settings().request_window_s, 60);
    assert_eq!(state.policy_of_new(UUID), free);
}

#[test]
fn a_state_is_made_of_its_parts_again_and_parts_that_do_not_fit_are_refused() {
    let store = given([
        begun(1, JobLength::Short),
        held(1, "legal"),
        Change::PolicySet(Profile::LibvirtTest.policy()),
    ]);
    let state = &store.0;
    let domain = || state.domain(UUID).unwrap().clone();
    let policies = || state.policies().collect::<Vec<_>>();
    let restored = State::restore(state.counters(), policies(), [domain()]);
    assert_eq!(restored.as_ref(), Ok(state));

    let mut low = state.counters();
    low.next_job = JobId::new(1);
    let refused = State::restore(low, policies(), [domain()]);
    assert_eq!(refused, Err(BrokenState::JobCounter(job_id(1))));

    let mut unheld = domain();
    let hold = Hold {
        since: 0,
        by: "".into(),
    };
    assert!(unheld.holds.add(id(50), tag("a"), hold));
    let refused = State::restore(state.counters(), policies(), [unheld]);
    assert_eq!(refused, Err(BrokenState::Hold(id(50))));

    let twice = [policies(), policies()].concat();
    let refused = State::restore(state.counters(), twice, [domain()]);
    assert_eq!(refused, Err(BrokenState::PolicyTwice(UUID)));

    let mut other = domain();
    other.uuid = DomainUuid::from_bytes([8; 16]);
    other.name = "other".into();
    other.snapshots = MomentList::new();
    other.checkpoints = MomentList::new();
    other.holds = Holds::default();
    let refused = State::restore(state.counters(), policies(), [domain(), other]);
    assert_eq!(refused, Err(BrokenState::JobTwice(job_id(1))));
}

#[test]
fn a_policy_that_was_set_outlives_its_domain() {
    let set = Profile::LibvirtTest.policy();
    let mut store = given([Change::PolicySet(set)]);
    store.takes(Change::DomainRemoved);
    assert_eq!(store.0.policy_of_new(UUID), set);
    let other = DomainUuid::from_bytes([9; 16]);
    assert_eq!(store.0.policy_of_new(other), Profile::Own.policy());
}
