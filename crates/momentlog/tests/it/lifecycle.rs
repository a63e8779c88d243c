//! Lifecycle events, as libvirt 9.0.0's test driver was seen to send them.

use std::time::Duration;

use momentlog::{
    Connection, Domain, Lifecycle, LifecycleEvents, RenameFlags, Result, RevertFlags,
    ShutdownFlags, SnapshotCreateFlags, StartFlags, UndefineFlags,
};

use crate::Scratch;

const XML: &str =
    "<domain type='test'><name>v</name><memory>8192</memory><os><type>hvm</type></os></domain>";

/// Event and detail of the events since the last time, with the domain's name.
fn told(events: &mut LifecycleEvents) -> Vec<(String, u8, u8)> {
    let told = events.next(Duration::ZERO).unwrap().into_iter();
    told.map(|told| (told.name.to_string(), told.kind.event, told.kind.detail))
        .collect()
}

struct Watched {
    store: Connection,
    events: LifecycleEvents,
}

impl Watched {
    fn new() -> Watched {
        let store = Connection::open("test:///default").unwrap();
        let events = store.lifecycle().unwrap();
        Watched { store, events }
    }

    fn define(&mut self, xml: &str) -> Domain {
        let domain = self.store.define_domain_xml(xml).unwrap();
        told(&mut self.events);
        domain
    }

    /// Event and detail of what `change` causes, all of it of the domain `v`.
    fn of(&mut self, change: impl FnOnce() -> Result<()>) -> Vec<(u8, u8)> {
        change().unwrap();
        let told = told(&mut self.events).into_iter();
        told.map(|(name, event, detail)| {
            assert_eq!(name, "v");
            (event, detail)
        })
        .collect()
    }
}

#[test]
fn of_definitions_and_run_states_each_event_is_libvirts() {
    let mut watched = Watched::new();
    let store = watched.store.clone();
    let define = || store.define_domain_xml(XML);
    assert_eq!(watched.of(|| define().map(|_| ())), [(0, 0)]);
    let domain = store.lookup_domain_by_name("v").unwrap();
    let dump = domain.xml_desc(momentlog::DomainXmlFlags::NONE).unwrap();
    let redefine = || store.define_domain_xml(&dump).map(|_| ());
    assert_eq!(watched.of(redefine), [(0, 1)]);
    assert_eq!(watched.of(|| domain.set_autostart(true)), []);
    assert_eq!(watched.of(|| domain.start()), [(2, 0)]);
    assert_eq!(watched.of(redefine), [(0, 1)]);
    assert_eq!(watched.of(|| domain.suspend()), [(3, 0)]);
    assert_eq!(watched.of(|| domain.reboot(ShutdownFlags::NONE)), []);
    assert_eq!(watched.of(|| domain.reset()), []);
    assert_eq!(watched.of(|| domain.suspend()), [(3, 0)]);
    assert_eq!(watched.of(|| domain.resume()), [(4, 0)]);
    assert_eq!(watched.of(|| domain.shutdown()), [(5, 0)]);
    assert_eq!(watched.of(|| domain.start()), [(2, 0)]);
    assert_eq!(
        watched.of(|| domain.undefine(UndefineFlags::NONE)),
        [(1, 0)]
    );
    // It is transient now, and ends with its guest.
    assert_eq!(watched.of(redefine), [(0, 0)]);
    assert_eq!(
        watched.of(|| domain.undefine(UndefineFlags::NONE)),
        [(1, 0)]
    );
    assert_eq!(watched.of(|| domain.destroy()), [(5, 1)]);
    let create = || store.create_domain_xml(&dump).map(|_| ());
    assert_eq!(watched.of(create), [(2, 0)]);
    assert_eq!(watched.of(|| domain.shutdown()), [(5, 0)]);
    assert_eq!(watched.of(redefine), [(0, 0)]);
    assert_eq!(
        watched.of(|| domain.undefine(UndefineFlags::NONE)),
        [(1, 0)]
    );
}

#[test]
fn another_name_is_told_of_both_names() {
    let mut watched = Watched::new();
    let domain = watched.define(XML);
    domain.rename("w", RenameFlags::NONE).unwrap();
    let told = told(&mut watched.events);
    assert_eq!(told, [("v".to_owned(), 1, 1), ("w".to_owned(), 0, 2)]);
}

#[test]
fn of_snapshots_only_what_they_do_to_the_guest_is_told() {
    let mut watched = Watched::new();
    let domain = watched.define(XML);
    let snapshot = |name: &str, flags| {
        let xml = format!("<domainsnapshot><name>{name}</name></domainsnapshot>");
        domain.snapshot_create_xml(&xml, flags).map(|_| ())
    };
    let none = SnapshotCreateFlags::NONE;
    assert_eq!(watched.of(|| snapshot("off", none)), []);
    domain.start().unwrap();
    told(&mut watched.events);
    assert_eq!(watched.of(|| snapshot("run", none)), []);
    domain.suspend().unwrap();
    told(&mut watched.events);
    assert_eq!(watched.of(|| snapshot("paused", none)), []);
    let halt = SnapshotCreateFlags::HALT;
    assert_eq!(watched.of(|| snapshot("halt", halt)), [(5, 6)]);
    let revert = |name: &str, flags| {
        let snapshot = domain.snapshot_lookup_by_name(name)?;
        snapshot.revert(flags)
    };
    let (none, paused) = (RevertFlags::NONE, RevertFlags::PAUSED);
    // From off, to each state, and back.
    assert_eq!(watched.of(|| revert("off", none)), []);
    assert_eq!(watched.of(|| revert("run", none)), [(2, 3)]);
    assert_eq!(watched.of(|| revert("off", none)), [(5, 6)]);
    assert_eq!(watched.of(|| revert("paused", none)), [(2, 3), (3, 5)]);
    assert_eq!(watched.of(|| revert("off", none)), [(5, 6)]);
    assert_eq!(watched.of(|| revert("run", paused)), [(2, 3), (3, 5)]);
    // What runs is stopped first.
    let all = [(5, 6), (2, 3), (3, 5)];
    assert_eq!(watched.of(|| revert("run", none)), all[..2]);
    assert_eq!(watched.of(|| revert("run", none)), all[..2]);
    assert_eq!(watched.of(|| revert("paused", none)), all);
}

#[test]
fn what_another_connection_appends_is_told_in_its_order_with_the_number_of_the_guest() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    store.release();
    let reader = Connection::open_read_only(&scratch.uri()).unwrap();
    let mut events = reader.lifecycle().unwrap();
    assert!(events.next(Duration::ZERO).unwrap().is_empty());
    domain.start_with_flags(StartFlags::PAUSED).unwrap();
    domain.destroy().unwrap();
    let told = events.next(Duration::from_mins(1)).unwrap();
    let id = told[0].id;
    let kinds: Vec<_> = told
        .iter()
        .map(|told| (told.kind.event, told.kind.detail, told.id))
        .collect();
    assert!(id.is_some());
    assert_eq!(kinds, [(2, 0, id), (3, 0, id), (5, 1, None)]);
    assert!(told.iter().all(|told| told.domain == domain.uuid()));
    assert!(told.is_sorted_by_key(|told| told.seq));
}

#[test]
fn records_that_were_archived_meanwhile_are_missed_and_the_next_are_told() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let mut events = store.lifecycle().unwrap();
    domain.start().unwrap();
    let archive = tempfile::tempdir().unwrap();
    store.archive(&archive.path().join("old")).unwrap();
    domain.suspend().unwrap();
    let error = events.next(Duration::ZERO).unwrap_err();
    assert!(matches!(
        error.store(),
        Some(momentlog::store::StoreError::Archived { .. })
    ));
    let told = events.next(Duration::from_mins(1)).unwrap();
    assert_eq!(kinds(&told), [(3, 0)]);
}

#[test]
fn an_error_in_between_loses_no_event() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let mut events = store.lifecycle().unwrap();
    domain.start().unwrap();
    let archive = tempfile::tempdir().unwrap();
    store.archive(&archive.path().join("old")).unwrap();
    domain.suspend().unwrap();
    domain.resume().unwrap();
    events.next(Duration::ZERO).unwrap_err();
    // What the store was after the archived records cannot be read for a while.
    let image = std::fs::read_dir(scratch.path()).unwrap();
    let mut images = image.map(|entry| entry.unwrap().path());
    let image = images.find(|path| path.extension().is_some_and(|extension| extension == "img"));
    let image = image.unwrap();
    let hidden = archive.path().join("hidden");
    std::fs::rename(&image, &hidden).unwrap();
    events.next(Duration::ZERO).unwrap_err();
    std::fs::rename(&hidden, &image).unwrap();
    let told = events.next(Duration::from_mins(1)).unwrap();
    assert_eq!(kinds(&told), [(3, 0), (4, 0)]);
}

/// Event and detail of each.
fn kinds(told: &[Lifecycle]) -> Vec<(u8, u8)> {
    let kinds = told.iter().map(|told| told.kind);
    kinds.map(|kind| (kind.event, kind.detail)).collect()
}
