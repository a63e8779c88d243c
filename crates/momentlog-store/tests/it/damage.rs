use super::*;
use momentlog_store::{Damage, Receipt, Seq, Verdict, verify};

/// Damages the bytes of one segment.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn verdict(dir: &Path) -> Verdict {
    verify(&mut open(dir), None, &mut |_| {}).unwrap().verdict
}

/// As if power had failed before `head` reached the disk.
fn lose_head(dir: &Path) {
    std::fs::remove_file(dir.join("head")).unwrap();
}

#[test]
fn a_log_cut_anywhere_in_its_last_record_loses_only_that() {
    let (_parent, dir) = store_of(2);
    lose_head(&dir);
    let path = segments(&dir)[0].clone();
    let whole = std::fs::read(&path).unwrap();
    let second = whole.len() / 2;
    for cut in second..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let (records, error) = read(&mut open(&dir));
        assert!(error.is_none(), "{cut}: {error:?}");
        assert_eq!(records.len(), 1, "{cut}");
        let expected = if cut == second {
            Verdict::Unanchored
        } else {
            Verdict::TornTail
        };
        assert_eq!(verdict(&dir), expected, "{cut}");
    }
    let mut store = open(&dir);
    append(&mut store, &["instead"]);
    assert!(store.torn().tail.is_some());
    drop(store);
    assert_eq!(
        facts(&read(&mut open(&dir)).0),
        ["facts of record 0", "facts of instead"]
    );
    assert_eq!(verdict(&dir), Verdict::Unanchored);
}

#[test]
fn the_same_cut_is_truncation_if_head_says_that_the_record_was_durable() {
    let (_parent, dir) = store_of(2);
    edit(&segments(&dir)[0], |bytes| bytes.truncate(bytes.len() / 2));
    let (records, error) = read(&mut open(&dir));
    assert_eq!(records.len(), 1);
    assert!(
        matches!(
            error,
            Some(StoreError::Damaged {
                why: Damage::Truncated { .. },
                ..
            })
        ),
        "{error:?}"
    );
    assert_eq!(verdict(&dir), Verdict::Truncated);
    assert!(open(&dir).acquire(Duration::ZERO).is_err());
}

#[test]
fn every_bit_flipped_is_found() {
    let (_parent, dir) = store_of(3);
    let path = segments(&dir)[0].clone();
    let whole = std::fs::read(&path).unwrap();
    let mut found = 0;
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bytes).unwrap();
        let report = verify(&mut open(&dir), None, &mut |_| {}).unwrap();
        assert!(
            report.verdict > Verdict::Unanchored,
            "bit {bit}: {report:?}"
        );
        found += 1;
    }
    assert_eq!(found, whole.len() * 8);
}

#[test]
fn damage_in_the_middle_is_named_and_never_written_past() {
    let (_parent, dir) = store_of(12);
    lose_head(&dir);
    edit(&segments(&dir)[1], |bytes| bytes[100] ^= 1);
    let mut store = open(&dir);
    let (records, error) = read(&mut store);
    assert!(records.len() > 1 && records.len() < 11);
    let Some(StoreError::Damaged {
        path,
        seq,
        offset: 0,
        ..
    }) = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(*path, segments(&dir)[1]);
    assert_eq!(seq.get(), records.len() as u64 + 1);
    let before = std::fs::read(&segments(&dir)[1]).unwrap();
    assert!(matches!(
        store.acquire(Duration::ZERO),
        Err(StoreError::Damaged { .. })
    ));
    assert_eq!(std::fs::read(&segments(&dir)[1]).unwrap(), before);
    assert_eq!(verdict(&dir), Verdict::Damaged);
}

#[test]
fn a_missing_segment_is_a_gap() {
    let (_parent, dir) = store_of(12);
    lose_head(&dir);
    std::fs::remove_file(&segments(&dir)[1]).unwrap();
    assert_eq!(verdict(&dir), Verdict::Gap);
    assert!(matches!(
        open(&dir).acquire(Duration::ZERO),
        Err(StoreError::Damaged {
            why: Damage::Gap { .. },
            ..
        })
    ));
}

#[test]
fn records_swapped_or_repeated_do_not_pass() {
    let (_parent, dir) = store_of(3);
    let path = segments(&dir)[0].clone();
    let whole = std::fs::read(&path).unwrap();
    let length = whole.len() / 3;
    let part = |index: usize| &whole[index * length..(index + 1) * length];
    for order in [[1, 0, 2], [0, 2, 1], [0, 0, 2], [0, 1, 1]] {
        std::fs::write(&path, order.map(part).concat()).unwrap();
        assert_eq!(verdict(&dir), Verdict::Damaged, "{order:?}");
    }
}

#[test]
fn a_frame_of_another_log_does_not_pass() {
    let (_one, dir) = store_of(2);
    let parent = tempfile::tempdir().unwrap();
    let other = parent.path().join("store");
    let mut store = open(&other);
    store.acquire(Duration::ZERO).unwrap();
    let first = store
        .append(LogId([3; 16]), None, vec![draft("record 0")])
        .unwrap();
    store
        .append(
            LogId([3; 16]),
            Some(first[0].head()),
            vec![draft("record 1")],
        )
        .unwrap();
    drop(store);
    let theirs = std::fs::read(&segments(&other)[0]).unwrap();
    edit(&segments(&dir)[0], |bytes| {
        let half = bytes.len() / 2;
        bytes[half..].copy_from_slice(&theirs[half..]);
    });
    assert_eq!(verdict(&dir), Verdict::Damaged);
}

#[test]
fn bytes_after_the_last_record_are_a_torn_tail_and_are_cut() {
    let (_parent, dir) = store_of(1);
    edit(&segments(&dir)[0], |bytes| {
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 7]);
    });
    assert_eq!(verdict(&dir), Verdict::TornTail);
    append(&mut open(&dir), &["more"]);
    assert_eq!(verdict(&dir), Verdict::Unanchored);
}

#[test]
fn a_receipt_finds_truncation_and_fork() {
    let (_parent, dir) = store_of(3);
    let (records, _) = read(&mut open(&dir));
    let receipt = |index: usize| Receipt {
        log: LOG,
        head: records[index].head(),
    };
    let against = |receipt: Receipt| {
        verify(&mut open(&dir), Some(receipt), &mut |_| {})
            .unwrap()
            .verdict
    };
    assert_eq!(against(receipt(2)), Verdict::Anchored);
    assert_eq!(against(receipt(0)), Verdict::Anchored);
    assert_eq!(
        against(Receipt {
            log: LogId([3; 16]),
            ..receipt(2)
        }),
        Verdict::Forked
    );
    let mut other = receipt(1);
    other.head.digest.0[0] ^= 1;
    assert_eq!(against(other), Verdict::Forked);
    let mut ahead = receipt(2);
    ahead.head.seq = Seq::new(4).unwrap();
    assert_eq!(against(ahead), Verdict::Truncated);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (_parent, dir) = store_of(1);
    edit(&segments(&dir)[0], |bytes| {
        bytes[8] = 2;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..96]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    });
    let (_, error) = read(&mut open(&dir));
    assert!(
        matches!(error, Some(StoreError::NewerFormat { found: 2, .. })),
        "{error:?}"
    );
}

#[test]
fn what_lies_beyond_a_segment_is_damage_that_is_not_read() {
    let (_parent, dir) = store_of(9);
    let all = segments(&dir);
    for segment in [all.last().unwrap(), &all[0]] {
        let file = std::fs::OpenOptions::new().write(true).open(segment);
        let file = file.unwrap();
        let length = file.metadata().unwrap().len();
        // A tebibyte of zeros that take no space: reading them would take hours.
        file.set_len(1 << 40).unwrap();
        let is_oversized = |error: &StoreError| match error {
            StoreError::Damaged {
                path,
                offset,
                why: Damage::Oversized { length, most },
                ..
            } => {
                assert_eq!((*length, *most), (1 << 40, 16 << 20));
                path == segment && *offset > 0
            }
            _ => false,
        };
        let (records, error) = read(&mut open(&dir));
        assert!(error.as_ref().is_some_and(is_oversized), "{error:?}");
        assert!(!records.is_empty());
        if segment == all.last().unwrap() {
            assert_eq!(records.len(), 9);
        }
        let error = open(&dir).acquire(Duration::ZERO).unwrap_err();
        assert!(is_oversized(&error), "{error:?}");
        let report = verify(&mut open(&dir), None, &mut |_| {}).unwrap();
        assert_eq!(report.verdict, Verdict::Damaged);
        assert_eq!(file.metadata().unwrap().len(), 1 << 40);
        file.set_len(length).unwrap();
        assert!(read(&mut open(&dir)).1.is_none());
    }
}
