//! Histories for tests, made by the real engine over a store in memory.

use std::sync::Arc;

use momentlog_core::{
    Action, Command, CreateCheckpoint, CreateSnapshot, DomainDef, DomainDisk, DomainUuid, Extent,
    Hold, HoldTag, MomentKind, MomentName, Policy, Scope, SourceKind,
};
use momentlog_engine::{Log, ManualClock, Options, Provenance};
use momentlog_store::{MemoryStore, Store};
use proptest::prelude::*;

pub(crate) const UUID: DomainUuid = DomainUuid::from_bytes([7; 16]);

/// A log with one domain, and what is asked of it.
pub(crate) struct History {
    pub(crate) log: Log,
    clock: Arc<ManualClock>,
    second: i64,
}

impl History {
    pub(crate) fn new(domain: &str) -> History {
        History::over(Box::new(MemoryStore::new()), domain)
    }

    pub(crate) fn over(store: Box<dyn Store>, domain: &str) -> History {
        let clock = Arc::new(ManualClock::default());
        let options = Options {
            clock: clock.clone(),
            ..Options::default()
        };
        let log = Log::over(store, options);
        let mut history = History {
            log,
            clock,
            second: 1_794_000_000,
        };
        let disk = DomainDisk {
            target: "vda".into(),
            kind: SourceKind::File,
            source: Some("/images/vm.qcow2".into()),
            empty: false,
            format: Some("qcow2".into()),
            readonly: false,
            snapshot: None,
        };
        let def = DomainDef {
            name: domain.into(),
            uuid: UUID,
            memory_kib: 8192,
            disks: vec![disk],
            xml: "<domain/>\n".into(),
        };
        assert!(history.ask("admin", None, Action::Define(Arc::new(def))));
        assert!(history.ask("admin", None, Action::SetPolicy(Policy::NONE)));
        history
    }

    pub(crate) fn ask(&mut self, actor: &str, reason: Option<&str>, action: Action) -> bool {
        self.second += 21_600;
        self.clock.set_second(self.second);
        let provenance = Provenance {
            actor: actor.into(),
            reason: reason.map(Arc::from),
            ..Provenance::default()
        };
        let command = Command {
            domain: UUID,
            action,
        };
        self.log.execute(&provenance, &command).is_ok()
    }

    pub(crate) fn create(&mut self, name: &str) -> bool {
        let create = CreateCheckpoint {
            name: MomentName::new(name),
            description: None,
            now: self.second,
            disks: vec![],
        };
        let create = Action::CreateCheckpoint(create);
        self.ask("backup@nightly", Some("nightly"), create)
    }

    /// Names of snapshots are free, other than those of checkpoints.
    pub(crate) fn create_snapshot(&mut self, actor: &str, name: &str) -> bool {
        let create = CreateSnapshot {
            name: MomentName::new(name),
            description: None,
            now: self.second,
            memory: None,
            disks: vec![],
            extra: None,
            disk_only: false,
            halt: false,
        };
        self.ask(actor, Some(name), Action::CreateSnapshot(create))
    }

    pub(crate) fn create_below(&mut self, parent: Option<&str>, name: &str) -> bool {
        self.set_current(parent) && self.create(name)
    }

    pub(crate) fn set_current(&mut self, name: Option<&str>) -> bool {
        let kind = MomentKind::Checkpoint;
        let name = name.and_then(MomentName::new);
        self.ask("admin", None, Action::SetCurrent { kind, name })
    }

    pub(crate) fn delete(&mut self, name: &str, extent: Extent) -> bool {
        let delete = Action::Delete {
            kind: MomentKind::Checkpoint,
            name: MomentName::new(name).unwrap(),
            extent,
        };
        self.ask("intern@ops2", None, delete)
    }

    pub(crate) fn hold(&mut self, name: &str, tag: &str) -> bool {
        let hold = Action::Hold {
            kind: MomentKind::Checkpoint,
            name: MomentName::new(name).unwrap(),
            tag: HoldTag::new(tag).unwrap(),
            hold: Hold {
                since: self.second,
                by: "anna@ops1".into(),
            },
        };
        self.ask("anna@ops1", None, hold)
    }

    pub(crate) fn release(&mut self, name: &str, tag: &str) -> bool {
        let release = Action::Release {
            kind: MomentKind::Checkpoint,
            name: MomentName::new(name).unwrap(),
            tag: HoldTag::new(tag).unwrap(),
        };
        self.ask("anna@ops1", None, release)
    }

    pub(crate) fn reparent(&mut self, name: &str, parent: Option<&str>) -> bool {
        let reparent = Action::Reparent {
            kind: MomentKind::Checkpoint,
            name: MomentName::new(name).unwrap(),
            parent: parent.and_then(MomentName::new),
        };
        self.ask("admin", Some("moved"), reparent)
    }

    fn current(&self) -> Option<String> {
        let view = self.log.view();
        let current = view.domain(UUID).unwrap().checkpoints().current();
        current.map(|current| current.name.to_string())
    }

    /// The names of the moments that are there, by id.
    pub(crate) fn names(&self) -> Vec<String> {
        let view = self.log.view();
        let checkpoints = view.domain(UUID).unwrap().checkpoints();
        let mut found: Vec<_> = checkpoints
            .walk(Scope::All)
            .map(|moment| (moment.id, moment.name.to_string()))
            .collect();
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    }
}
/// Names of snapshots that mean something to HTML, XML, JSON, a script or the eye.
pub(crate) const HOSTILE: [&str; 8] = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--",
    "]]>",
    "__proto__",
    "\u{202e}gpj.exe",
    "'\"&amp;",
    "constructor",
];

/// The week of the examples: nightly checkpoints, two of which a second actor deletes.
pub(crate) fn week() -> History {
    let mut history = History::new("web01");
    for night in 1..=3 {
        assert!(history.create(&format!("c{night}")));
    }
    assert!(history.delete("c2", Extent::One));
    assert!(history.create("c4"));
    assert!(history.delete("c3", Extent::One));
    for night in 5..=8 {
        assert!(history.create(&format!("c{night}")));
    }
    history
}

pub(crate) fn chain(length: usize) -> History {
    let mut history = History::new("vm");
    for at in 1..=length {
        assert!(history.create(&format!("n{at}")));
    }
    history
}

/// A tree of many moments, each below one chosen of those before, and one in six deleted.
pub(crate) fn tree(count: u64) -> History {
    let mut history = History::new("tree");
    let mut random: u64 = 1;
    let mut choose = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below.max(1)
    };
    let mut names: Vec<String> = Vec::new();
    for at in 0..count {
        let parent = names
            .get(usize::try_from(choose(names.len() as u64)).unwrap())
            .cloned();
        let name = format!("n{at}");
        assert!(history.create_below(parent.as_deref(), &name));
        names.push(name);
        if choose(6) == 0 && names.len() > 1 {
            let gone = names.remove(usize::try_from(choose(names.len() as u64)).unwrap());
            assert!(history.delete(&gone, Extent::One));
        }
    }
    history
}

/// What has happened in a generated history. Numbers stand for moments that are there, or for a few names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Create(u8),
    /// Create one below another, and go back.
    Fork(u8),
    SetCurrent(u8),
    Delete(u8, Extent),
    Reparent(u8, u8),
    Hold(u8),
    Release(u8),
    Rebuild,
}

pub(crate) fn ops(length: usize, with_moves: bool) -> impl Strategy<Value = Vec<Op>> {
    let extent = prop_oneof![
        8 => Just(Extent::One),
        1 => Just(Extent::Subtree),
        1 => Just(Extent::ChildrenOnly),
    ];
    let op = prop_oneof![
        8 => any::<u8>().prop_map(Op::Create),
        6 => any::<u8>().prop_map(Op::Fork),
        2 => any::<u8>().prop_map(Op::SetCurrent),
        4 => (any::<u8>(), extent).prop_map(|(which, extent)| Op::Delete(which, extent)),
        1 => any::<u8>().prop_map(Op::Hold),
        1 => any::<u8>().prop_map(Op::Release),
        2 * u32::from(with_moves) => any::<[u8; 2]>().prop_map(|[which, below]| Op::Reparent(which, below)),
        u32::from(with_moves) => Just(Op::Rebuild),
    ];
    prop::collection::vec(op, 1..length)
}

pub(crate) fn play(ops: &[Op]) -> History {
    let mut history = History::new("vm");
    let mut made = 0;
    for op in ops {
        let names = history.names();
        let name = |number: u8| {
            names
                .get(usize::from(number) % names.len().max(1))
                .map(String::as_str)
        };
        match *op {
            Op::Create(number) => {
                made += 1;
                // One name in eight is used again and again.
                let name = if number < 32 {
                    "again".to_owned()
                } else {
                    format!("n{made}")
                };
                history.create(&name);
            }
            Op::Fork(number) => {
                made += 1;
                let back = history.current();
                history.create_below(name(number), &format!("n{made}"));
                history.set_current(back.as_deref());
            }
            Op::SetCurrent(number) => _ = history.set_current(name(number)),
            Op::Delete(number, extent) => {
                name(number).map(|name| history.delete(name, extent));
            }
            Op::Reparent(number, below) => {
                let below = if below < 16 { None } else { name(below) };
                name(number).map(|name| history.reparent(name, below));
            }
            Op::Hold(number) => {
                let tag = if number % 2 == 0 { "legal" } else { "audit" };
                name(number).map(|name| history.hold(name, tag));
            }
            Op::Release(number) => {
                let tag = if number % 2 == 0 { "legal" } else { "audit" };
                name(number).map(|name| history.release(name, tag));
            }
            Op::Rebuild => {
                for name in &names {
                    history.delete(name, Extent::Subtree);
                }
                history.create("n1");
            }
        }
    }
    history
}
