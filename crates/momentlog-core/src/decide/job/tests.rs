use std::sync::Arc;

use super::*;
use crate::{
    Attachment, Command, CreateCheckpoint, DiskState, DomainDef, DomainDisk, Extent, JobKind,
    MomentName, Policy, Profile, Rule, RunState, Seen, SettledBy, SourceKind, StateChange,
};

const UUID: DomainUuid = DomainUuid::from_bytes([7; 16]);
const OTHER: DomainUuid = DomainUuid::from_bytes([8; 16]);

struct Store(State);

impl Store {
    fn new() -> Store {
        let mut store = Store(State::new(Profile::Own));
        for (uuid, name) in [(UUID, "vm"), (OTHER, "other")] {
            store.does(uuid, Action::Define(domain_def(uuid, name)));
        }
        store
    }

    fn takes(&mut self, events: Vec<Event>) {
        for event in events {
            self.0.advance(&event).unwrap();
        }
        assert_eq!(self.0.check(), Ok(()));
    }

    fn does(&mut self, domain: DomainUuid, action: Action) {
        let events = self.0.decide(&Command { domain, action });
        self.takes(events.unwrap());
    }

    fn refuses(&self, action: Action) -> Refusal {
        let domain = UUID;
        self.0.decide(&Command { domain, action }).unwrap_err()
    }

    fn reports(&mut self, report: &Report) {
        let events = self.0.decide_report(UUID, report).unwrap();
        self.takes(events);
    }

    fn domain(&self) -> &Domain {
        self.0.domain(UUID).unwrap()
    }

    fn checkpoints(&self) -> Vec<&str> {
        let list = self.domain().checkpoints();
        list.walk(crate::Scope::All)
            .map(|moment| moment.name.as_str())
            .collect()
    }
}

fn domain_def(uuid: DomainUuid, name: &str) -> Arc<DomainDef> {
    let disk = DomainDisk {
        target: "vda".into(),
        kind: SourceKind::File,
        source: Some("/a.qcow2".into()),
        empty: false,
        format: Some("qcow2".into()),
        readonly: false,
        snapshot: None,
    };
    Arc::new(DomainDef {
        name: name.into(),
        uuid,
        memory_kib: 8192,
        disks: vec![disk],
        xml: "".into(),
    })
}

fn name(text: &str) -> MomentName {
    MomentName::new(text).unwrap()
}

fn checkpoint(text: &str) -> Action {
    Action::CreateCheckpoint(CreateCheckpoint {
        name: Some(name(text)),
        description: None,
        now: 100,
        disks: vec![],
    })
}

fn delete(text: &str, extent: Extent) -> Action {
    Action::Delete {
        kind: MomentKind::Checkpoint,
        name: name(text),
        extent,
    }
}

fn job(kind: JobKind, length: JobLength) -> Job {
    Job {
        kind,
        length,
        call: 411,
        flags: 0,
        document: None,
        snapshots: vec![],
        checkpoints: vec![],
        deletions: vec![],
        effects: vec![],
        files: vec![],
        run: None,
    }
}

fn begin(kind: JobKind, length: JobLength, action: Option<Action>) -> Report {
    Report::Begin(Box::new(BeginJob {
        job: job(kind, length),
        action,
    }))
}

fn outcome(number: u64) -> JobOutcome {
    JobOutcome {
        job: JobId::new(number).unwrap(),
        seen: Seen::default(),
        settled_by: SettledBy::Beginner,
        agent: "a test".into(),
    }
}

fn end(number: u64) -> Report {
    Report::End {
        outcome: outcome(number),
        then: None,
    }
}

#[test]
fn a_moment_is_there_when_its_job_has_ended_and_not_before() {
    let mut store = Store::new();
    store.reports(&begin(
        JobKind::CreateCheckpoint,
        JobLength::Short,
        Some(checkpoint("c1")),
    ));
    assert_eq!(store.checkpoints(), [""; 0]);
    let open = store.domain().jobs().get(JobLength::Short).unwrap();
    assert_eq!(open.job.checkpoints[0].name.as_str(), "c1");
    // Another domain takes the id that would have been its own.
    store.does(OTHER, checkpoint("x"));
    store.reports(&end(1));
    assert_eq!(store.checkpoints(), ["c1"]);
    assert_eq!(store.domain().checkpoints().current().unwrap().id.get(), 2);
    assert!(store.domain().jobs().is_empty());
    let again = store.0.decide_report(UUID, &end(1));
    assert_eq!(again, Err(Refusal::JobNotOpen(JobId::FIRST)));
}

#[test]
fn a_job_that_failed_has_made_nothing_and_its_name_is_free() {
    let mut store = Store::new();
    for number in 1..3 {
        store.reports(&begin(
            JobKind::CreateCheckpoint,
            JobLength::Short,
            Some(checkpoint("c1")),
        ));
        store.reports(&Report::Fail(outcome(number)));
        assert_eq!(store.checkpoints(), [""; 0]);
    }
}

#[test]
fn a_deletion_takes_what_it_was_begun_for() {
    let mut store = Store::new();
    for text in ["c1", "c2", "c3"] {
        store.does(UUID, checkpoint(text));
    }
    store.reports(&begin(
        JobKind::DeleteCheckpoint,
        JobLength::Short,
        Some(delete("c2", Extent::One)),
    ));
    store.reports(&end(1));
    assert_eq!(store.checkpoints(), ["c1", "c3"]);
    store.reports(&begin(
        JobKind::DeleteCheckpoint,
        JobLength::Short,
        Some(delete("c1", Extent::Subtree)),
    ));
    store.reports(&end(2));
    assert_eq!(store.checkpoints(), [""; 0]);
}

#[test]
fn what_cannot_be_done_is_refused_before_the_hypervisor_is_asked() {
    let mut store = Store::new();
    store.does(UUID, checkpoint("c1"));
    let twice = begin(
        JobKind::CreateCheckpoint,
        JobLength::Short,
        Some(checkpoint("c1")),
    );
    let taken = Refusal::NameTaken { name: name("c1") };
    assert_eq!(store.0.decide_report(UUID, &twice), Err(taken));
}

#[test]
fn a_short_job_forbids_every_change_of_moments_and_a_long_one_those_of_snapshots() {
    let is_open = |refusal: Refusal| matches!(refusal, Refusal::JobOpen { .. });
    let set_current = |kind| Action::SetCurrent { kind, name: None };
    let revert = || Action::Revert {
        name: name("s1"),
        resume: None,
    };
    let mut store = Store::new();
    store.does(UUID, Action::SetPolicy(Policy::NONE));
    store.reports(&begin(JobKind::Backup, JobLength::Long, None));
    assert!(is_open(store.refuses(set_current(MomentKind::Snapshot))));
    assert_eq!(store.refuses(revert()), Refusal::RevertDuringJob);
    store.does(UUID, checkpoint("c1"));
    let other = begin(JobKind::Backup, JobLength::Long, None);
    assert!(is_open(store.0.decide_report(UUID, &other).unwrap_err()));
    store.reports(&begin(
        JobKind::CreateCheckpoint,
        JobLength::Short,
        Some(checkpoint("c2")),
    ));
    assert!(is_open(store.refuses(set_current(MomentKind::Checkpoint))));
    assert!(is_open(store.refuses(checkpoint("c3"))));
    assert!(is_open(
        store.0.decide_report(UUID, &Report::Detach).unwrap_err()
    ));
    // The guest itself goes on, and so do the rules.
    store.does(UUID, Action::ChangeState(StateChange::Start));
    store.does(
        UUID,
        Action::SetPolicy(Policy::NONE.with(Rule::Chain, true)),
    );
    store.reports(&end(2));
    assert_eq!(store.checkpoints(), ["c1", "c2"]);
}

#[test]
fn the_record_that_ends_a_job_may_begin_a_long_one() {
    let mut store = Store::new();
    store.reports(&begin(
        JobKind::Backup,
        JobLength::Short,
        Some(checkpoint("c1")),
    ));
    store.reports(&Report::End {
        outcome: outcome(1),
        then: Some(Arc::new(job(JobKind::Backup, JobLength::Long))),
    });
    assert_eq!(store.checkpoints(), ["c1"]);
    let open = store.domain().jobs().get(JobLength::Long).unwrap();
    assert_eq!(open.id.get(), 2);
}

#[test]
fn a_job_does_not_go_on_in_a_second_long_one() {
    let mut store = Store::new();
    store.reports(&begin(JobKind::Backup, JobLength::Long, None));
    store.reports(&begin(JobKind::Backup, JobLength::Short, None));
    let goes_on = |number| Report::End {
        outcome: outcome(number),
        then: Some(Arc::new(job(JobKind::Backup, JobLength::Long))),
    };
    let refused = store.0.decide_report(UUID, &goes_on(2)).unwrap_err();
    assert!(
        matches!(refused, Refusal::JobOpen { job, .. } if job == JobId::FIRST),
        "{refused:?}"
    );
    // The one that ends makes room.
    store.reports(&goes_on(1));
    store.reports(&end(2));
}

#[test]
fn what_was_seen_of_the_guest_is_recorded_once() {
    let mut store = Store::new();
    let observe = |state, reason| Report::Observe { state, reason };
    store.reports(&observe(RunState::Running, 1));
    assert_eq!(store.domain().power().id, Some(1));
    let again = store.0.decide_report(UUID, &observe(RunState::Running, 5));
    assert_eq!(again, Ok(vec![]));
    store.reports(&observe(RunState::Paused, 1));
    assert_eq!(store.domain().power().id, Some(1));
    store.reports(&observe(RunState::Shutoff, 3));
    assert_eq!(store.domain().power().id, None);
}

#[test]
fn a_domain_is_attached_until_it_is_detached() {
    let mut store = Store::new();
    let attached = Attachment {
        driver: "qemu".into(),
        socket: "/run/vm.qmp".into(),
        look_only: false,
    };
    let not_attached = Refusal::NotAttached { name: "vm".into() };
    let detach = store.0.decide_report(UUID, &Report::Detach);
    assert_eq!(detach, Err(not_attached));
    let relative = Report::Attach(Attachment {
        socket: "vm.qmp".into(),
        ..attached.clone()
    });
    let socket = "vm.qmp".into();
    let refused = store.0.decide_report(UUID, &relative);
    assert_eq!(refused, Err(Refusal::Attachment { socket }));
    store.reports(&Report::Attach(attached.clone()));
    assert_eq!(
        store.domain().attachment().map(|found| &**found),
        Some(&attached)
    );
    store.reports(&Report::Detach);
    assert_eq!(store.domain().attachment(), None);
}

#[test]
fn what_was_seen_of_a_checkpoint_that_is_gone_or_tracks_other_disks_is_no_event() {
    let mut store = Store::new();
    let seen = |disk: &str| DiskSeen {
        disk: disk.into(),
        state: DiskState::Lost,
    };
    store.does(UUID, checkpoint("c1"));
    let checkpoint = store.domain().checkpoints().find("c1").unwrap().id;
    let see = |checkpoint, disks: &[&str]| Report::See {
        checkpoint,
        disks: disks.iter().map(|disk| seen(disk)).collect(),
    };
    let recorded = store
        .0
        .decide_report(UUID, &see(checkpoint, &["vdz", "vda"]));
    let recorded: Vec<Change> = recorded
        .unwrap()
        .into_iter()
        .map(|event| event.change)
        .collect();
    let disks = vec![seen("vda")];
    let id = checkpoint;
    assert_eq!(recorded, [Change::CheckpointSeen { id, disks }]);
    store.reports(&see(checkpoint, &["vda"]));
    let nothing = store.0.decide_report(UUID, &see(checkpoint, &["vdz"]));
    assert_eq!(nothing, Ok(vec![]));
    let gone = MomentId::new(99).unwrap();
    let nothing = store.0.decide_report(UUID, &see(gone, &["vda"]));
    assert_eq!(nothing, Ok(vec![]));
}
