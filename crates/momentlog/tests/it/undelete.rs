//! What was deleted and is put back by several at once.

use momentlog::SnapshotDeleteFlags;
use momentlog::core::Scope;
use momentlog::store::{MemoryStore, Seq};

use super::*;

/// Returns the domain `root → parent → child → leaf` without parent and child, and the records that deleted them.
fn without_parent_and_child() -> (Domain, Seq, Seq) {
    let store = Connection::over(Box::new(MemoryStore::new()), Options::default());
    let domain = store.define_domain_xml(DOMAIN).unwrap();
    domain.start().unwrap();
    for name in ["root", "parent", "child", "leaf"] {
        snapshot(&domain, name).unwrap();
    }
    let [child, parent] = ["child", "parent"].map(|name| {
        let one = domain.snapshot_lookup_by_name(name).unwrap();
        one.delete(SnapshotDeleteFlags::NONE).unwrap();
        store.view().head().unwrap().seq
    });
    (domain, parent, child)
}

/// The snapshots of a domain, each with its parent's name.
fn tree(domain: &Domain) -> Vec<(String, Option<String>)> {
    let view = domain.connection().view();
    let snapshots = view.state().domain(domain.uuid()).unwrap().snapshots();
    let moments = snapshots.walk(Scope::All).map(|moment| {
        let parent = snapshots.parent(moment.id);
        let parent = parent.map(|parent| parent.name.to_string());
        (moment.name.to_string(), parent)
    });
    moments.collect()
}

#[test]
fn two_that_come_back_at_once_come_back_one_after_the_other() {
    let serial = [true, false].map(|parent_first| {
        let (domain, parent, child) = without_parent_and_child();
        let records = if parent_first {
            [parent, child]
        } else {
            [child, parent]
        };
        for record in records {
            domain.undelete(record, None).unwrap();
        }
        tree(&domain)
    });
    assert_ne!(serial[0], serial[1]);
    for _ in 0..200 {
        let (domain, parent, child) = without_parent_and_child();
        std::thread::scope(|scope| {
            for record in [parent, child] {
                let domain = &domain;
                scope.spawn(move || domain.undelete(record, None).unwrap());
            }
        });
        let tree = tree(&domain);
        assert!(serial.contains(&tree), "{tree:?}");
    }
}
