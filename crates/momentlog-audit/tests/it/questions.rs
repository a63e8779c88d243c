//! What is said of records, of moments and of differences.

use std::sync::Arc;

use momentlog_audit::{
    Differences, DomainDiff, Existence, Fate, Life, MomentRef, TurnOf, What, consequences, lives,
};
use momentlog_core::{Above, Command};
use momentlog_core::{
    Action, CreateCheckpoint, CreateSnapshot, DiskSeen, DiskState, DomainDef, DomainDisk,
    DomainUuid, Extent, MomentKind, MomentName, Policy, Report, SettingsChange, SourceKind,
    StateChange, Undelete, Undeleted,
};
use momentlog_engine::{Call, EngineError, Log, Options, Provenance, Request, Step};
use momentlog_store::{MemoryStore, Seq};

const DOMAIN: DomainUuid = DomainUuid::from_bytes([7; 16]);

/// A log of one domain, whose rules allow everything.
struct Asked(Log);

impl Asked {
    fn new() -> Asked {
        let asked = Asked(Log::over(Box::new(MemoryStore::new()), Options::default()));
        asked.ask(Action::Define(Arc::new(def())));
        asked.ask(Action::SetPolicy(Policy::NONE));
        asked
    }

    fn ask(&self, action: Action) -> Seq {
        self.ask_as(&Provenance::default(), action)
    }

    fn ask_as(&self, provenance: &Provenance, action: Action) -> Seq {
        let domain = DOMAIN;
        self.0
            .execute(provenance, &Command { domain, action })
            .unwrap()
            .seq
    }

    fn checkpoint(&self, called: &str) -> Seq {
        self.ask(Action::CreateCheckpoint(CreateCheckpoint {
            name: MomentName::new(called),
            description: None,
            now: 0,
            disks: vec![],
        }))
    }

    fn snapshot(&self, called: &str) -> Seq {
        self.ask(Action::CreateSnapshot(CreateSnapshot {
            name: MomentName::new(called),
            description: None,
            now: 0,
            memory: None,
            disks: vec![],
            extra: None,
            disk_only: false,
            halt: false,
        }))
    }

    fn delete(&self, called: &str) -> Seq {
        self.ask(Action::Delete {
            kind: MomentKind::Checkpoint,
            name: name(called),
            extent: Extent::One,
        })
    }

    fn steps(&self) -> Vec<Step> {
        let steps = self.0.history(None).unwrap();
        steps.collect::<Result<_, _>>().unwrap()
    }

    /// What the last record has caused.
    fn last(&self) -> What {
        let steps = self.steps();
        let mut found = consequences(steps.last().unwrap());
        found.pop().unwrap().what
    }

    fn lives(&self, moment: &str) -> Vec<Life> {
        let steps = self.steps();
        let begin = steps.first().cloned();
        let wanted = MomentRef::parse(moment);
        let all = steps.into_iter().map(Ok::<_, ()>);
        lives(begin.as_ref(), all, DOMAIN, None, &wanted).unwrap()
    }

    fn restored(&self, id: &str) -> Option<String> {
        let lives = self.lives(id);
        let [life] = &lives[..] else {
            panic!("{id}: {lives:?}");
        };
        match &life.fate {
            Fate::Gone { restored, .. } => restored.as_ref().map(ToString::to_string),
            Fate::Alive { .. } => panic!("{id} is alive"),
        }
    }

    /// What differs since a record.
    fn since(&self, seq: Seq) -> Vec<DomainDiff> {
        let mut found = Differences::default();
        let head = self.steps()[usize::try_from(seq.get()).unwrap() - 1]
            .entry
            .head;
        let history = self.0.history(Some(head)).unwrap();
        history
            .watched(&mut found)
            .try_for_each(|record| record)
            .unwrap();
        found.by_name()
    }
}

fn name(text: &str) -> MomentName {
    MomentName::new(text).unwrap()
}

fn def() -> DomainDef {
    let disk = DomainDisk {
        target: "vda".into(),
        kind: SourceKind::File,
        source: Some("/images/vm.qcow2".into()),
        empty: false,
        format: Some("qcow2".into()),
        readonly: false,
        snapshot: None,
    };
    DomainDef {
        name: "vm".into(),
        uuid: DOMAIN,
        memory_kib: 8192,
        disks: vec![disk],
        xml: "<domain/>\n".into(),
    }
}

#[test]
fn a_domain_that_was_renamed_and_removed_is_told_by_its_last_name() {
    let asked = Asked::new();
    let before = asked.checkpoint("c1");
    asked.ask(Action::Rename(Arc::new(DomainDef {
        name: "renamed".into(),
        ..def()
    })));
    let removed = asked.ask(Action::Undefine {
        with_snapshots: true,
    });
    let [differs] = &asked.since(before)[..] else {
        panic!("one domain differs");
    };
    assert_eq!(&*differs.domain, "renamed");
    assert_eq!(differs.existence, Existence::Gone(removed));
}

#[test]
fn the_rules_before_are_those_of_the_domain_whatever_new_domains_have() {
    let log = Log::over(Box::new(MemoryStore::new()), Options::default());
    let asked = Asked(log);
    asked.ask(Action::Define(Arc::new(def())));
    let had = asked.0.view().state().domain(DOMAIN).unwrap().policy();
    let change = SettingsChange {
        policy: Some(Policy {
            active: true,
            ..Policy::NONE
        }),
        request_window_s: None,
    };
    let provenance = Provenance::default();
    let request = Request::of_settings(&provenance, change);
    asked
        .0
        .decide(request, &mut |decision| {
            decision.decide_settings(change);
            Ok::<_, EngineError>(())
        })
        .unwrap();
    asked.ask(Action::SetPolicy(Policy::NONE));
    let What::PolicySet { from, to } = asked.last() else {
        panic!("{:?}", asked.last());
    };
    assert_eq!((from, to), (had, Policy::NONE));
}

#[test]
fn a_moment_that_is_hung_where_it_hangs_keeps_its_parent() {
    let asked = Asked::new();
    asked.checkpoint("c1");
    asked.checkpoint("c2");
    asked.ask(Action::Reparent {
        kind: MomentKind::Checkpoint,
        name: name("c2"),
        parent: Some(name("c1")),
    });
    let What::Moved { below, .. } = asked.last() else {
        panic!("{:?}", asked.last());
    };
    assert_eq!(below.map(|below| below.name), Some(name("c1")));
}

#[test]
fn a_domain_that_was_off_in_between_runs_as_before() {
    let asked = Asked::new();
    let begun = asked.ask(Action::ChangeState(StateChange::Start));
    asked.ask(Action::ChangeState(StateChange::Destroy));
    asked.ask(Action::ChangeState(StateChange::Start));
    assert_eq!(asked.since(begun), []);
}

#[test]
fn a_moment_that_came_back_under_another_name_or_beside_its_namesake_is_found() {
    let asked = Asked::new();
    asked.checkpoint("m");
    let deleted = asked.delete("m");
    let put_back = |deleted, undelete| {
        let provenance = Provenance {
            undoes: Some(deleted),
            ..Provenance::default()
        };
        asked.ask_as(&provenance, Action::Undelete(Box::new(undelete)));
    };
    let checkpoint = |called| {
        let steps = asked.steps();
        let before = &steps[usize::try_from(deleted.get()).unwrap() - 2];
        let domain = before.after.state().domain(DOMAIN).unwrap();
        Undeleted {
            name: name(called),
            parent: Above::Nothing,
            created: 0,
            def: domain.checkpoints().find("m").unwrap().def.clone(),
            children: vec![],
            current: false,
        }
    };
    put_back(
        deleted,
        Undelete {
            snapshots: vec![],
            checkpoints: vec![checkpoint("other")],
        },
    );
    assert_eq!(asked.restored("#1").as_deref(), Some("other"));

    // A snapshot and a checkpoint of one name go, and come back.
    asked.snapshot("n");
    asked.checkpoint("n");
    let view = asked.0.view();
    let domain = view.state().domain(DOMAIN).unwrap();
    let (snapshot, checkpoint) = (domain.snapshots().find("n"), domain.checkpoints().find("n"));
    let (snapshot, checkpoint) = (snapshot.unwrap(), checkpoint.unwrap());
    let ids = [snapshot.id, checkpoint.id];
    let undelete = Undelete {
        snapshots: vec![Undeleted {
            name: name("n"),
            parent: Above::Nothing,
            created: 0,
            def: snapshot.def.clone(),
            children: vec![],
            current: false,
        }],
        checkpoints: vec![Undeleted {
            name: name("n"),
            parent: Above::Nothing,
            created: 0,
            def: checkpoint.def.clone(),
            children: vec![],
            current: false,
        }],
    };
    let removed = asked.ask(Action::Undefine {
        with_snapshots: true,
    });
    asked.ask(Action::Define(Arc::new(def())));
    put_back(removed, undelete);
    for id in ids {
        let [life] = &asked.lives(&format!("#{id}"))[..] else {
            panic!("{id}");
        };
        let Fate::Gone {
            restored: Some(back),
            ..
        } = &life.fate
        else {
            panic!("{:?}", life.fate);
        };
        let [back] = &asked.lives(&format!("#{}", back.id))[..] else {
            panic!("{back:?}");
        };
        assert_eq!(back.kind, life.kind);
    }
}

#[test]
fn the_life_of_a_checkpoint_says_when_it_was_seen() {
    let asked = Asked::new();
    asked.checkpoint("c1");
    let view = asked.0.view();
    let domain = view.state().domain(DOMAIN).unwrap();
    let checkpoint = domain.checkpoints().find("c1").unwrap().id;
    let seen = vec![DiskSeen {
        disk: "vda".into(),
        state: DiskState::Lost,
    }];
    let report = Report::See {
        checkpoint,
        disks: seen.clone(),
    };
    let provenance = Provenance::default();
    let request = Request::of_call(&provenance, (Call::OBSERVE, 0), Some(DOMAIN), &[]);
    asked
        .0
        .decide(request, &mut |decision| {
            decision
                .decide_report(DOMAIN, &report)
                .map(drop)
                .map_err(EngineError::from)
        })
        .unwrap();
    let [life] = &asked.lives("c1")[..] else {
        panic!();
    };
    let last = life.turns.last().map(|turn| &turn.what);
    assert_eq!(last, Some(&TurnOf::Seen(seen)));
}
