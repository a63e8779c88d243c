//! A copy of a log: what is the same in it, where it goes on, and what it is not put behind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use momentlog_store::{
    Copied, CopyError, Digest, Draft, FileStore, Head, MemoryStore, RealDisk, Retention as _, Seq,
    Store as _, StoreError, Text, Verdict, copy, verify,
};

use super::{LOG, append, draft, open, read, segments, store_of};

fn copied(from: &mut FileStore, to: &mut FileStore) -> Result<Copied, CopyError> {
    copy(from, to, Duration::ZERO, &mut |_| Ok(()))
}

fn end(dir: &Path) -> Option<Head> {
    let report = verify(&mut open(dir), None, &mut |_| {}).unwrap();
    assert_eq!(
        (report.verdict, report.error.is_none()),
        (Verdict::Unanchored, true)
    );
    report.head
}

/// The bytes of a segment's frames, without what a copy does not keep: `durable`, and the two checksums that cover it.
fn frames(path: &PathBuf) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    let mut at = 0;
    while at < bytes.len() && bytes[at] != 0 {
        let number = |from: usize| {
            let field: [u8; 4] = bytes[at + from..at + from + 4].try_into().unwrap();
            u32::from_le_bytes(field) as usize
        };
        // Facts and texts, after a header of 96 bytes and before a checksum of 4.
        let length = (96 + number(80) + number(88) + 4).next_multiple_of(8);
        for (from, to) in [(12, 16), (72, 80), (length - 4, length)] {
            bytes[at + from..at + to].fill(0);
        }
        at += length;
    }
    // Behind the last frame stands nothing but zeros.
    assert!(bytes[at..].iter().all(|byte| *byte == 0));
    bytes.truncate(at);
    bytes
}

#[test]
fn a_copy_has_the_same_files_but_for_durable_and_its_checksums() {
    let (parent, dir) = store_of(40);
    let other = parent.path().join("other");
    let erased = Text::Erased {
        commitment: Digest([7; 32]),
        length: 20,
    };
    let odd = Draft {
        facts: Vec::new(),
        texts: vec![erased],
    };
    let mut store = open(&dir);
    store.acquire(Duration::ZERO).unwrap();
    let head = store.head();
    store.append(LOG, head, vec![odd]).unwrap();
    drop(store);
    let done = copied(&mut open(&dir), &mut open(&other)).unwrap();
    assert_eq!((done.records, done.end.log), (41, LOG));
    assert_eq!(end(&dir), Some(done.end.head));
    assert_eq!(end(&other), Some(done.end.head));
    let names = |dir: &Path| {
        let names = segments(dir).into_iter();
        names
            .map(|path| path.file_name().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&dir), names(&other));
    assert!(segments(&dir).len() > 2);
    for (one, two) in segments(&dir).iter().zip(&segments(&other)) {
        assert_eq!(frames(one), frames(two), "{}", one.display());
    }
    assert_eq!(
        std::fs::read(dir.join("head")).unwrap(),
        std::fs::read(other.join("head")).unwrap()
    );
    // What differs is what `durable` says, and nothing else of a record.
    let (mut original, mut copy) = (read(&mut open(&dir)).0, read(&mut open(&other)).0);
    assert_ne!(original, copy);
    for record in original.iter_mut().chain(&mut copy) {
        record.durable = None;
    }
    assert_eq!(original, copy);
    // Nothing is left to do, and what comes later is all that the next copy appends.
    assert_eq!(
        copied(&mut open(&dir), &mut open(&other)).unwrap().records,
        0
    );
    let last = append(&mut open(&dir), &["later"]);
    let more = copied(&mut open(&dir), &mut open(&other)).unwrap();
    assert_eq!((more.records, more.end.head), (1, last));
}

#[test]
fn a_copy_that_was_ended_goes_on_behind_what_it_has_appended() {
    let (parent, dir) = store_of(2_500);
    let whole = end(&dir);
    for stop in [1, 999, 1_000, 1_001, 2_300] {
        let other = parent.path().join(format!("ended at {stop}"));
        let ended = copy(
            &mut open(&dir),
            &mut open(&other),
            Duration::ZERO,
            &mut |seq| {
                if seq.get() == stop {
                    Err(StoreError::Stopped)
                } else {
                    Ok(())
                }
            },
        );
        assert!(
            matches!(ended, Err(CopyError::Store(StoreError::Stopped))),
            "{ended:?}"
        );
        let before = (stop - 1) / 1_000 * 1_000;
        let rest = copied(&mut open(&dir), &mut open(&other)).unwrap();
        assert_eq!((rest.records, Some(rest.end.head)), (2_500 - before, whole));
        assert_eq!(end(&other), whole);
    }
    // Another writer has what it needs in between.
    let other = parent.path().join("held");
    copied(&mut open(&dir), &mut open(&other)).unwrap();
    open(&other).acquire(Duration::ZERO).unwrap();
}

#[test]
fn a_copy_is_put_behind_nothing_but_the_beginning_of_the_same_log() {
    let (parent, dir) = store_of(5);
    let place = |name: &str| parent.path().join(name);
    let early = place("early");
    copied(&mut open(&dir), &mut open(&early)).unwrap();
    append(&mut open(&dir), &["six"]);
    let fork = append(&mut open(&early), &["another six"]);
    let bytes = || {
        segments(&early)
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect::<Vec<_>>()
    };
    let before = bytes();
    let forked = copied(&mut open(&dir), &mut open(&early)).unwrap_err();
    assert_eq!(bytes(), before);
    let CopyError::Forked {
        source_end,
        destination,
    } = &forked
    else {
        panic!("{forked:?}");
    };
    assert_eq!(
        (source_end.head, destination.head),
        (end(&dir).unwrap(), fork)
    );
    let said = forked.to_string();
    assert!(
        said.contains(&source_end.to_string()) && said.contains(&destination.to_string()),
        "{said}"
    );
    // Also if one of them is longer.
    append(&mut open(&early), &["seven"]);
    assert!(matches!(
        copied(&mut open(&dir), &mut open(&early)),
        Err(CopyError::Forked { .. })
    ));
    assert!(matches!(
        copied(&mut open(&early), &mut open(&dir)),
        Err(CopyError::Forked { .. })
    ));
    let ahead = place("ahead");
    copied(&mut open(&early), &mut open(&ahead)).unwrap();
    append(&mut open(&ahead), &["eight"]);
    let said = copied(&mut open(&early), &mut open(&ahead)).unwrap_err();
    assert!(
        matches!(&said, CopyError::Ahead { source_end, destination }
        if source_end.head.seq.get() == 7 && destination.head.seq.get() == 8),
        "{said:?}"
    );
    let mut other = MemoryStore::new();
    let id = momentlog_store::LogId([3; 16]);
    other.append(id, None, vec![draft("other")]).unwrap();
    let said = copy(&mut open(&dir), &mut other, Duration::ZERO, &mut |_| Ok(())).unwrap_err();
    assert!(
        matches!(&said, CopyError::OtherLog { source_end, destination }
        if source_end.log == LOG && destination.log == id),
        "{said:?}"
    );
    assert_eq!(other.head().map(|head| head.seq), Some(Seq::FIRST));
    let nothing = copy(
        &mut MemoryStore::new(),
        &mut other,
        Duration::ZERO,
        &mut |_| Ok(()),
    );
    assert!(matches!(nothing, Err(CopyError::Empty)), "{nothing:?}");
    let missing = copied(&mut open(&place("nowhere")), &mut open(&place("new")));
    assert!(
        matches!(missing, Err(CopyError::Store(StoreError::Missing { .. }))),
        "{missing:?}"
    );
    assert!(!place("new").exists());
}

#[test]
fn a_log_whose_first_records_were_archived_is_copied_behind_its_archive() {
    let (parent, dir) = store_of(30);
    let archive = parent.path().join("archive");
    let mut store = open(&dir);
    store.acquire(Duration::ZERO).unwrap();
    let last = store.head().unwrap();
    store.image_writer().unwrap()(b"an image").unwrap();
    let bridge = draft("the bridge");
    store
        .archive(last, bridge, &RealDisk::new(&archive))
        .unwrap();
    drop(store);
    let other = parent.path().join("other");
    let alone = copied(&mut open(&dir), &mut open(&other)).unwrap_err();
    assert!(
        matches!(alone, CopyError::Store(StoreError::Archived { start, .. }) if start == last),
        "{alone:?}"
    );
    assert_eq!(
        copied(&mut open(&archive), &mut open(&other))
            .unwrap()
            .end
            .head,
        last
    );
    let whole = copied(&mut open(&dir), &mut open(&other)).unwrap();
    assert_eq!((whole.records, Some(whole.end.head)), (1, end(&dir)));
    assert_eq!(read(&mut open(&other)).0.len(), 31);
}
