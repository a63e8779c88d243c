//! Another store, or another state of this one, is put in place of a store that is open.

use momentlog_store::{Retention, StoreError, Verdict, Written, verify};

use momentlog_store::Seq;

use super::*;

/// How a store takes the place of another.
#[derive(Clone, Copy, Debug)]
enum Put {
    /// The directory is moved away, and the other one is moved to its path.
    Directory,
    /// Every file is removed, and those of the other are made in the same directory.
    Files,
    /// The files keep their identity and get the bytes of the others.
    Bytes,
}

impl Put {
    const ALL: [Put; 3] = [Put::Directory, Put::Files, Put::Bytes];

    fn put(self, dir: &Path, other: &Path) {
        let names = |dir: &Path| -> Vec<_> {
            let entries = std::fs::read_dir(dir).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        };
        match self {
            Put::Directory => {
                std::fs::rename(dir, dir.with_extension("away")).unwrap();
                std::fs::rename(other, dir).unwrap();
            }
            Put::Files => {
                for name in names(dir) {
                    std::fs::remove_file(dir.join(name)).unwrap();
                }
                for name in names(other) {
                    std::fs::copy(other.join(&name), dir.join(&name)).unwrap();
                }
            }
            Put::Bytes => {
                for name in names(other) {
                    let bytes = std::fs::read(other.join(&name)).unwrap();
                    // Opened and cut, not created.
                    std::fs::write(dir.join(&name), bytes).unwrap();
                }
            }
        }
    }
}

/// What stands there afterwards.
#[derive(Clone, Copy, Debug)]
enum Other {
    /// The same log with one record, where the handle had three.
    Shorter,
    /// The same first record, and others behind it.
    Fork,
    /// Another log.
    AnotherLog,
}

impl Other {
    const ALL: [Other; 3] = [Other::Shorter, Other::Fork, Other::AnotherLog];

    /// Makes it beside `dir`, which has one record.
    fn make(self, dir: &Path) -> std::path::PathBuf {
        let other = dir.with_extension("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        if !matches!(self, Other::AnotherLog) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let name = entry.unwrap().file_name();
                std::fs::copy(dir.join(&name), other.join(&name)).unwrap();
            }
        }
        let mut writer = FileStore::new(RealDisk::new(&other));
        match self {
            Other::Shorter => {}
            Other::Fork => {
                append(&mut writer, &["a", "b", "c", "d", "e"]);
            }
            Other::AnotherLog => {
                writer.acquire(Duration::ZERO).unwrap();
                let draft = Draft {
                    facts: b"foreign".to_vec(),
                    texts: vec![],
                };
                writer.append(LogId([9; 16]), None, vec![draft]).unwrap();
            }
        }
        other
    }
}

/// What the handle did before.
#[derive(Clone, Copy, Debug)]
enum Held {
    Read,
    Wrote,
    Writes,
}

fn check(put: Put, other: Other, held: Held) {
    let case = format!("{put:?} {other:?} {held:?}");
    let (_parent, dir) = store_of(1);
    let kept = other.make(&dir);
    let mut handle = FileStore::new(RealDisk::new(&dir));
    let had = match held {
        Held::Read => {
            let mut writer = FileStore::new(RealDisk::new(&dir));
            let end = append(&mut writer, &["tuesday", "wednesday"]);
            drop(writer);
            read(&mut handle);
            end
        }
        Held::Wrote | Held::Writes => append(&mut handle, &["tuesday", "wednesday"]),
    };
    if matches!(held, Held::Wrote) {
        handle.release();
    }
    let found = {
        let mut reader = FileStore::new(RealDisk::new(&kept));
        read(&mut reader);
        reader.head()
    };
    put.put(&dir, &kept);
    let before: Vec<Vec<u8>> = contents(&dir);

    let draft = Draft {
        facts: b"thursday".to_vec(),
        texts: vec![],
    };
    let mut errors = vec![handle.acquire(Duration::ZERO).err()];
    errors.extend((0..2).map(|_| handle.append(LOG, Some(had), vec![draft.clone()]).err()));
    if matches!(held, Held::Writes) {
        errors.remove(0);
    } else {
        // It never became the writer.
        errors.truncate(1);
    }
    errors.push(handle.read(Some(had), &mut |_| Ok(())).err());
    errors.push(handle.read(None, &mut |_| Ok(())).err());
    errors.push(handle.start().err());
    errors.push(handle.latest_image(None).err());
    for error in errors {
        let Some(error) = error else {
            panic!("{case}: it went on");
        };
        assert_eq!(error.written(), Written::Unknown, "{case}");
        let text = error.to_string();
        match error {
            StoreError::Replaced {
                had: was,
                found: is,
                ..
            } => assert_eq!((was, is), (Some(had), found), "{case}"),
            other => panic!("{case}: {other:?}"),
        }
        assert!(text.contains(&had.digest.to_string()), "{case}: {text}");
    }
    drop(handle);

    assert_eq!(
        contents(&dir),
        before,
        "{case}: what was put back was changed"
    );
    let mut again = FileStore::new(RealDisk::new(&dir));
    let report = verify(&mut again, None, &mut |_| {}).unwrap();
    assert_eq!(report.verdict, Verdict::Unanchored, "{case}");
    append(&mut again, &["friday"]);
}

/// All bytes but those of the lock, which says who holds it.
fn contents(dir: &Path) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "lock")
        .collect();
    names.sort();
    names
        .iter()
        .map(|name| std::fs::read(dir.join(name)).unwrap())
        .collect()
}

#[test]
fn a_handle_refuses_everything_once_another_store_stands_where_its_own_was() {
    for put in Put::ALL {
        for other in Other::ALL {
            for held in [Held::Read, Held::Wrote, Held::Writes] {
                check(put, other, held);
            }
        }
    }
}

/// Appends one batch of drafts of these lengths, and then finds, before the next one, a byte that was changed so far before
/// the end of the log.
fn finds_a_changed_byte(lengths: &[usize], from_end: usize) {
    let case = format!("{lengths:?} {from_end}");
    let (_parent, dir) = store_of(1);
    let mut handle = FileStore::new(RealDisk::new(&dir));
    handle.acquire(Duration::ZERO).unwrap();
    let draft = |length: usize| Draft {
        facts: vec![7; length],
        texts: vec![],
    };
    let drafts = lengths.iter().map(|length| draft(*length)).collect();
    let records = handle.append(LOG, handle.head(), drafts).unwrap();
    let had = records.last().map(Record::head);
    let segment = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .max()
        .unwrap();
    let whole = std::fs::read(&segment).unwrap();
    let begins = whole
        .windows(8)
        .rposition(|bytes| bytes == b"\x8amoment\n")
        .unwrap();
    // A header of 96 bytes, the facts, a checksum of 4 bytes.
    let length = (100 + lengths.last().unwrap()).next_multiple_of(8);
    let end = begins + length;
    let mut changed = whole.clone();
    changed[end - from_end] ^= 1;
    std::fs::write(&segment, &changed).unwrap();
    let outcome = handle.append(LOG, had, vec![draft(9)]);
    let replaced = matches!(outcome, Err(StoreError::Replaced { .. }));
    assert!(replaced, "{case}: {outcome:?}");
    assert_eq!(std::fs::read(&segment).unwrap(), changed, "{case}");
    drop(handle);
    std::fs::write(&segment, &whole).unwrap();
    let mut again = FileStore::new(RealDisk::new(&dir));
    again.acquire(Duration::ZERO).unwrap();
    assert_eq!(again.head(), had, "{case}");
}

#[test]
fn a_writer_finds_a_changed_byte_in_its_last_frame_before_it_writes() {
    for from_end in [1, 60, 150] {
        finds_a_changed_byte(&[100], from_end);
        finds_a_changed_byte(&[3, 20_000, 100], from_end);
        finds_a_changed_byte(&[50_000], from_end);
    }
    for from_end in [1, 60_000] {
        finds_a_changed_byte(&[10, 900_000], from_end);
    }
}

#[test]
fn a_copy_that_holds_all_that_was_read_may_be_put_back() {
    for put in Put::ALL {
        let (_parent, dir) = store_of(1);
        let mut handle = FileStore::new(RealDisk::new(&dir));
        assert_eq!(read(&mut handle).0.len(), 1);
        let kept = Other::Fork.make(&dir);
        put.put(&dir, &kept);
        let mut seen = 0;
        let after = handle.head();
        handle
            .read(after, &mut |_| {
                seen += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, 5, "{put:?}");
        append(&mut handle, &["thursday"]);
    }
}

#[test]
fn a_cursor_is_compared_with_the_record_that_stands_there() {
    let (_parent, dir) = store_of(3);
    let (records, _) = read(&mut FileStore::new(RealDisk::new(&dir)));
    let behind = |after: Head| {
        let mut seen = Vec::new();
        let outcome = FileStore::new(RealDisk::new(&dir)).read(Some(after), &mut |record| {
            seen.push(record.seq.get());
            Ok(())
        });
        (seen, outcome)
    };
    let second = records[1].head();
    assert!(matches!(behind(second), (seen, Ok(())) if seen == [3]));
    let wrong = Head {
        digest: momentlog_store::Digest([9; 32]),
        ..second
    };
    let (seen, outcome) = behind(wrong);
    assert!(seen.is_empty());
    assert!(matches!(outcome, Err(StoreError::Forked { at }) if at == second.seq));
    let beyond = Head {
        seq: Seq::new(9).unwrap(),
        ..second
    };
    let (seen, outcome) = behind(beyond);
    assert!(seen.is_empty());
    let end = records[2].head();
    assert!(matches!(
        outcome,
        Err(StoreError::Truncated { had, end: Some(found) }) if had == beyond && found == end
    ));
}
