//! The engine through its public calls, without libvirt and without XML.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod decisions;
mod following;
mod history;
mod images;
mod turns;

use std::sync::Arc;

use momentlog_core::{
    Action, Command, CreateCheckpoint, DomainDef, DomainDisk, DomainUuid, MomentName, SourceKind,
    StateChange,
};
use momentlog_engine::{Log, Options, Provenance};
use momentlog_store::{MemoryStore, Store};

pub(crate) const DOMAIN: DomainUuid = DomainUuid::from_bytes([7; 16]);

/// A log over a store, with one running domain: records 1 to 3.
pub(crate) fn log_over(store: Box<dyn Store>) -> Log {
    log_with(store, Options::default())
}

pub(crate) fn log_with(store: Box<dyn Store>, options: Options) -> Log {
    let log = Log::over(store, options);
    let disk = DomainDisk {
        target: "vda".into(),
        kind: SourceKind::File,
        source: Some("/images/a.qcow2".into()),
        empty: false,
        format: None,
        readonly: false,
        snapshot: None,
    };
    let def = DomainDef {
        name: "vm".into(),
        uuid: DOMAIN,
        memory_kib: 8192,
        disks: vec![disk],
        xml: "<domain/>\n".into(),
    };
    execute(&log, Action::Define(Arc::new(def)));
    execute(&log, Action::ChangeState(StateChange::Start));
    log
}

pub(crate) fn log() -> Log {
    log_over(Box::new(MemoryStore::new()))
}

pub(crate) fn command(action: Action) -> Command {
    Command {
        domain: DOMAIN,
        action,
    }
}

#[track_caller]
pub(crate) fn execute(log: &Log, action: Action) -> u64 {
    let outcome = log.execute(&Provenance::default(), &command(action));
    outcome.unwrap().seq.get()
}

pub(crate) fn checkpoint(name: &str) -> Action {
    Action::CreateCheckpoint(CreateCheckpoint {
        name: Some(MomentName::new(name).unwrap()),
        description: None,
        now: 1_700_000_000,
        disks: Vec::new(),
    })
}
