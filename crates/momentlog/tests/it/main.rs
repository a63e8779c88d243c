//! The library through its public calls.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod archives;
mod backups;
mod calls;
mod drivers;
mod engine;
mod errors;
mod first_night;
mod info;
mod lifecycle;
mod metadata;
mod page;
mod pages;
mod printed;
mod procedures;
mod provenance;
mod readers;
mod replaced;
mod restore;
mod retention;
mod schemes;
mod settings;
mod shared;
mod typed;
mod undelete;

use std::path::PathBuf;
use std::time::Duration;

use momentlog::{CheckpointCreateFlags, Connection, Domain, Error, Options, SnapshotCreateFlags};

pub(crate) const DOMAIN: &str = "<domain type='kvm'><name>vm</name><uuid>3f2c7a90-5d1e-4b7c-9a52-0c6f1d8e4b21</uuid>\
    <memory unit='MiB'>512</memory><os><type>hvm</type></os><devices>\
    <disk type='file'><source file='/images/a.qcow2'/><target dev='vda'/></disk>\
    <disk type='file'><source file='/images/b.qcow2'/><target dev='vdb'/></disk></devices></domain>";

/// Options of a connection that shares nothing with others of this process, and keeps the lock until it is released.
pub(crate) fn apart() -> Options {
    Options {
        shared: false,
        hold_lock: Duration::MAX,
        ..Options::default()
    }
}

/// A durable store in a directory of its own.
pub(crate) struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn uri(&self) -> String {
        format!("momentlog://{}", self.path().display())
    }

    /// Each connection is as one of another process.
    pub(crate) fn open(&self) -> Connection {
        Connection::open_with(&self.uri(), apart()).unwrap()
    }

    /// A connection to a store that has the domain.
    pub(crate) fn with_domain(&self) -> (Connection, Domain) {
        let store = self.open();
        let domain = store.define_domain_xml(DOMAIN).unwrap();
        (store, domain)
    }
}

pub(crate) fn checkpoint(domain: &Domain, name: &str) -> Result<(), Error> {
    let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
    domain
        .checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE)
        .map(|_| ())
}

pub(crate) fn snapshot(domain: &Domain, name: &str) -> Result<(), Error> {
    let xml = format!("<domainsnapshot><name>{name}</name></domainsnapshot>");
    domain
        .snapshot_create_xml(&xml, SnapshotCreateFlags::NONE)
        .map(|_| ())
}

/// Code, domain and message of a refusal.
#[track_caller]
pub(crate) fn told<T: std::fmt::Debug>(result: Result<T, Error>) -> (u32, u32, String) {
    let error = result.unwrap_err();
    (
        error.code().number(),
        error.domain().number(),
        error.message().to_owned(),
    )
}
