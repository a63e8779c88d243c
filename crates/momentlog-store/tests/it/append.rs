use super::*;
use momentlog_store::Seq;

#[test]
fn what_was_appended_is_read_in_order_by_another_handle() {
    let (_parent, dir) = store_of(20);
    let (records, error) = read(&mut open(&dir));
    assert!(error.is_none());
    assert_eq!(records.len(), 20);
    assert_eq!(facts(&records)[19], "facts of record 19");
    assert!(
        records
            .windows(2)
            .all(|pair| pair[1].previous == pair[0].digest)
    );
    assert!(segments(&dir).len() >= 3, "{:?}", segments(&dir));
}

#[test]
fn a_batch_goes_over_several_segments_under_one_call() {
    let parent = tempfile::tempdir().unwrap();
    let mut store = open(&parent.path().join("store"));
    store.acquire(Duration::ZERO).unwrap();
    let drafts = (0..30).map(|index| draft(&format!("{index}"))).collect();
    let records = store.append(LOG, None, drafts).unwrap();
    assert_eq!(records.len(), 30);
    assert!(records.iter().all(|record| record.durable.is_none()));
    let mut other = open(&parent.path().join("store"));
    assert_eq!(read(&mut other).0, records);
}

#[test]
fn a_second_writer_continues_the_log() {
    let (_parent, dir) = store_of(3);
    let mut store = open(&dir);
    let (before, _) = read(&mut store);
    append(&mut store, &["more"]);
    drop(store);
    let (after, _) = read(&mut open(&dir));
    assert_eq!(after[..3], before);
    assert_eq!(facts(&after)[3], "facts of more");
}

#[test]
fn a_stale_head_conflicts_and_writes_nothing() {
    let (_parent, dir) = store_of(3);
    let mut store = open(&dir);
    let (records, _) = read(&mut store);
    store.acquire(Duration::ZERO).unwrap();
    let stale = Some(records[1].head());
    assert!(matches!(
        store.append(LOG, stale, vec![draft("x")]),
        Err(StoreError::Conflict { .. })
    ));
    drop(store);
    assert_eq!(read(&mut open(&dir)).0.len(), 3);
}

#[test]
fn a_second_writer_is_told_who_holds_the_lock() {
    let (_parent, dir) = store_of(1);
    let mut first = open(&dir);
    first.acquire(Duration::ZERO).unwrap();
    let error = open(&dir).acquire(Duration::from_millis(20)).unwrap_err();
    let StoreError::Locked { pid, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*pid, std::process::id().to_string());
    drop(first);
    open(&dir).acquire(Duration::ZERO).unwrap();
}

#[test]
fn a_reader_follows_a_writer_and_sees_nothing_twice() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let mut writer = open(&dir);
    append(&mut writer, &["a", "b"]);
    let mut reader = open(&dir);
    assert_eq!(facts(&read(&mut reader).0), ["facts of a", "facts of b"]);
    append(&mut writer, &["c"]);
    let mut news = Vec::new();
    let at = reader.head();
    reader
        .read(at, &mut |record| {
            news.push(record);
            Ok(())
        })
        .unwrap();
    assert_eq!(facts(&news), ["facts of c"]);
}

#[test]
fn a_reader_serves_nothing_beyond_head_while_somebody_writes() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let mut writer = open(&dir);
    append(&mut writer, &["a"]);
    let head = std::fs::read(dir.join("head")).unwrap();
    append(&mut writer, &["b"]);
    // As if the sync of the second record had not returned yet.
    std::fs::write(dir.join("head"), head).unwrap();
    assert_eq!(facts(&read(&mut open(&dir)).0), ["facts of a"]);
    drop(writer);
    assert_eq!(
        facts(&read(&mut open(&dir)).0),
        ["facts of a", "facts of b"]
    );
}

#[test]
fn what_was_seen_of_a_dead_writer_is_not_truncated_while_the_next_one_recovers() {
    let (_parent, dir) = store_of(2);
    let before = std::fs::read(dir.join("head")).unwrap();
    let seen = append(&mut open(&dir), &["last"]);
    // As if the writer had died before it published, and the next one holds the lock and has not published yet.
    std::fs::write(dir.join("head"), before).unwrap();
    let lock = std::fs::File::open(dir.join("lock")).unwrap();
    lock.lock().unwrap();
    let mut reader = open(&dir);
    reader
        .read(Some(seen), &mut |record| {
            panic!("{:?} was seen", record.seq)
        })
        .unwrap();
    assert_eq!(reader.head(), Some(seen));
    // A new reader still gets nothing that is not known to be durable.
    assert_eq!(read(&mut open(&dir)).0.len(), 2);
}

#[test]
fn reading_from_the_middle_starts_at_the_right_segment() {
    let (_parent, dir) = store_of(20);
    let (all, _) = read(&mut open(&dir));
    for after in [0, 5, 12, 18, 19] {
        let mut tail = Vec::new();
        let mut store = open(&dir);
        store
            .read(Some(all[after].head()), &mut |record| {
                tail.push(record);
                Ok(())
            })
            .unwrap();
        assert_eq!(tail, all[after + 1..], "after {after}");
    }
}

#[test]
fn a_closed_store_keeps_no_zeros() {
    let (_parent, dir) = store_of(1);
    let length = std::fs::metadata(&segments(&dir)[0]).unwrap().len();
    assert!(length < 256, "{length}");
    assert_eq!(read(&mut open(&dir)).0.len(), 1);
}

#[test]
fn a_writer_writes_as_many_zeros_ahead_as_it_has_written() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let limits = Limits {
        segment_len_first: 1 << 20,
        segment_len_max: 1 << 20,
        fill_len_max: 64 << 10,
    };
    let open = || FileStore::with_limits(Arc::new(RealDisk::new(&dir)), limits);
    let last_len = || {
        std::fs::metadata(segments(&dir).pop().unwrap())
            .unwrap()
            .len()
    };
    let about = |expected: usize| {
        let expected = u64::try_from(expected).unwrap();
        let found = last_len();
        assert!((expected..expected + 5000).contains(&found), "{found}");
    };
    let kibi = 1 << 10;
    // A draft of a text holds it twice.
    let half = "x".repeat(250 * kibi);
    let mut stays = open();
    append(&mut stays, &["a"]);
    about(4 * kibi);
    append(&mut stays, &[&half]);
    about((500 + 64) * kibi);
    append(&mut stays, &[&half]);
    assert_eq!(last_len(), limits.segment_len_max);
    append(&mut stays, &[&"x".repeat(50 * kibi)]);
    about((100 + 64) * kibi);
    assert_eq!(segments(&dir).len(), 2);
    drop(stays);
    about(100 * kibi);
    let mut comes = open();
    append(&mut comes, &["b"]);
    about((100 + 4) * kibi);
}

#[test]
fn a_record_that_is_too_large_is_refused_before_anything_is_written() {
    let (_parent, dir) = store_of(1);
    let mut store = open(&dir);
    read(&mut store);
    store.acquire(Duration::ZERO).unwrap();
    let head = store.head();
    let huge = Draft {
        facts: vec![0; momentlog_store::FRAME_LEN_MAX],
        texts: vec![],
    };
    assert!(matches!(
        store.append(LOG, head, vec![huge]),
        Err(StoreError::TooLarge { .. })
    ));
    append(&mut store, &["goes on"]);
    assert_eq!(store.head().unwrap().seq, Seq::new(2).unwrap());
}

#[test]
fn a_record_longer_than_a_segment_gets_a_segment_of_its_own() {
    let (_parent, dir) = store_of(2);
    let mut store = open(&dir);
    read(&mut store);
    append(&mut store, &["x".repeat(5000).as_str(), "after"]);
    drop(store);
    assert_eq!(read(&mut open(&dir)).0.len(), 4);
}
