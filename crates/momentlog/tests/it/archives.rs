//! Archives: what marks them, where they may be, and what is said when one is gone.

use std::path::Path;

use momentlog::store::{StoreError, Verdict};
use momentlog::{CheckpointDeleteFlags, Connection, RenameFlags, verify};

use super::*;

/// A store of five records, four of which are in the archive beside it.
fn archived() -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    let archive = scratch.path().with_extension("archive");
    let (store, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    checkpoint(&domain, "b").unwrap();
    store.archive(&archive).unwrap();
    (scratch, archive)
}

fn uri(path: &Path) -> String {
    format!("momentlog://{}", path.display())
}

fn verdict(scratch: &Scratch, archive: Option<&Path>) -> Verdict {
    verify(&scratch.path(), archive, None, &mut |_| {})
        .unwrap()
        .verdict()
}

#[test]
fn an_archive_is_read_and_never_written() {
    let (scratch, archive) = archived();
    let reader = Connection::open(&uri(&archive)).unwrap();
    let domain = reader.lookup_domain_by_name("vm").unwrap();
    assert_eq!(reader.entries(None).unwrap().len(), 4);
    let error = checkpoint(&domain, "c").unwrap_err();
    assert!(
        matches!(error.store(), Some(StoreError::IsArchive { path }) if *path == archive),
        "{error:?}"
    );
    assert_eq!(
        verify(&archive, None, None, &mut |_| {}).unwrap().verdict(),
        Verdict::Unanchored
    );
    assert_eq!(verdict(&scratch, Some(&archive)), Verdict::Unanchored);
}

#[test]
fn an_archive_of_before_the_mark_is_valid_and_is_marked_by_the_next_archiving() {
    let (scratch, archive) = archived();
    std::fs::remove_file(archive.join("archive")).unwrap();
    assert_eq!(verdict(&scratch, Some(&archive)), Verdict::Unanchored);
    let store = scratch.open();
    store.archive(&archive).unwrap();
    drop(store);
    assert!(archive.join("archive").exists());
    assert_eq!(verdict(&scratch, Some(&archive)), Verdict::Unanchored);
}

#[test]
fn an_archive_in_the_store_or_around_it_is_refused() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    let path = scratch.path();
    let parent = path.parent().unwrap();
    let link = parent.join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for (to, why) in [
        (path.clone(), "it is the store itself"),
        (path.join("archive"), "it is in the directory of the store"),
        (path.join("a/b"), "it is in the directory of the store"),
        (link.join("archive"), "it is in the directory of the store"),
        (
            parent.join("none/../store/archive"),
            "it is in the directory of the store",
        ),
        (link, "it is the store itself"),
        (parent.to_path_buf(), "the store is in it"),
        (parent.parent().unwrap().to_path_buf(), "the store is in it"),
    ] {
        let (_, _, message) = told(store.archive(&to));
        assert!(message.ends_with(why), "{}: {message}", to.display());
        checkpoint(&domain, "b").unwrap_or_else(|error| panic!("{error}"));
        domain
            .checkpoint_lookup_by_name("b")
            .unwrap()
            .delete(CheckpointDeleteFlags::NONE)
            .unwrap();
    }
    // A name that only begins like the store's.
    store.archive(&parent.join("store2")).unwrap();
}

#[test]
fn a_missing_archive_is_named_and_not_the_store() {
    let (scratch, archive) = archived();
    let nowhere = archive.with_extension("nowhere");
    let error = verify(&scratch.path(), Some(&nowhere), None, &mut |_| {}).unwrap_err();
    assert!(matches!(error.store(), Some(StoreError::NoArchive { path }) if *path == nowhere));
}

#[test]
fn a_fault_in_the_archive_names_the_archive() {
    let (scratch, archive) = archived();
    let segment = archive.join("00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let found = verify(&scratch.path(), Some(&archive), None, &mut |_| {}).unwrap();
    assert_eq!(found.verdict(), Verdict::Damaged);
    match found.log.error {
        Some(StoreError::Damaged { path, .. }) => assert_eq!(path, segment),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_whose_beginning_is_damaged_opens_for_reading_and_verifies_as_damaged() {
    for damage in ["start", "00000000000000000004.img"] {
        let (scratch, _) = archived();
        let path = scratch.path().join(damage);
        if damage == "start" {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[50] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        let reader = Connection::open_read_only(&scratch.uri()).unwrap();
        assert!(reader.refresh().is_err(), "{damage}");
        assert_eq!(verdict(&scratch, None), Verdict::Damaged, "{damage}");
    }
}

#[test]
fn a_former_name_is_found_whose_definition_was_archived_and_came_back() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let rename = |from: &str, to: &str| {
        let domain = store.lookup_domain_by_name(from).unwrap();
        domain.rename(to, RenameFlags::NONE).unwrap();
    };
    rename("vm", "web01");
    store
        .archive(&scratch.path().with_extension("archive"))
        .unwrap();
    // The record refers to the definition that was archived, and does not say its name once more.
    rename("web01", "vm");
    for name in ["vm", "web01"] {
        assert_eq!(store.domains_called(name).unwrap(), [domain.uuid()]);
    }
    rename("vm", "web02");
    assert_eq!(store.domains_called("vm").unwrap(), [domain.uuid()]);
    assert!(store.domains_called("web03").unwrap().is_empty());
}
