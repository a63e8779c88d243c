use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

use momentlog_store::{Retention, StoreError, Unsafe};

fn unsafety(error: &StoreError) -> Unsafe {
    let StoreError::Io { source, .. } = error else {
        panic!("{error:?}")
    };
    *source.get_ref().unwrap().downcast_ref::<Unsafe>().unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn reading_never_creates() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    assert!(matches!(
        read(&mut open(&dir)).1,
        Some(StoreError::Missing { .. })
    ));
    assert!(!dir.exists());
    assert!(matches!(
        read(&mut open(parent.path())).1,
        Some(StoreError::Missing { .. })
    ));
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn a_store_is_for_its_owner_alone() {
    let (_parent, dir) = store_of(1);
    assert_eq!(mode(&dir), 0o700);
    for entry in std::fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn a_directory_or_file_that_others_may_write_is_refused() {
    let (_parent, dir) = store_of(1);
    for path in [dir.clone(), segments(&dir)[0].clone(), dir.join("head")] {
        let was = std::fs::metadata(&path).unwrap().permissions();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o770)).unwrap();
        let (_, error) = read(&mut open(&dir));
        assert_eq!(
            unsafety(&error.unwrap()),
            Unsafe::Writable { mode: 0o770 },
            "{}",
            path.display()
        );
        std::fs::set_permissions(&path, was).unwrap();
    }
}

#[test]
fn links_are_not_followed() {
    let (parent, dir) = store_of(1);
    let link = parent.path().join("link");
    symlink(&dir, &link).unwrap();
    assert_eq!(unsafety(&read(&mut open(&link)).1.unwrap()), Unsafe::Link);
    assert_eq!(
        unsafety(&open(&link).acquire(Duration::ZERO).unwrap_err()),
        Unsafe::Link
    );
    for name in ["head", "lock"] {
        let away = parent.path().join(name);
        std::fs::rename(dir.join(name), &away).unwrap();
        symlink(&away, dir.join(name)).unwrap();
        assert_eq!(
            unsafety(&open(&dir).acquire(Duration::ZERO).unwrap_err()),
            Unsafe::Link,
            "{name}"
        );
        std::fs::remove_file(dir.join(name)).unwrap();
        std::fs::rename(&away, dir.join(name)).unwrap();
    }
    let segment = segments(&dir)[0].clone();
    let away = parent.path().join("segment");
    std::fs::rename(&segment, &away).unwrap();
    symlink(&away, &segment).unwrap();
    assert_eq!(unsafety(&read(&mut open(&dir)).1.unwrap()), Unsafe::Link);
}

#[test]
fn a_directory_of_something_else_is_not_made_a_store() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::write(parent.path().join("letter.txt"), "dear").unwrap();
    std::fs::set_permissions(parent.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(
        open(parent.path()).acquire(Duration::ZERO),
        Err(StoreError::NotAStore { .. })
    ));
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn a_pipe_in_place_of_a_file_does_not_hang() {
    let (_parent, dir) = store_of(1);
    std::fs::remove_file(dir.join("head")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("head"), rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(unsafety(&read(&mut open(&dir)).1.unwrap()), Unsafe::Kind);
}

#[test]
fn what_the_modes_allow_root_to_read_is_read_and_not_written() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a store away; the decision itself is tested as data.
        return;
    }
    let (_parent, dir) = store_of(2);
    let owner = rustix::process::Uid::from_raw(12_345);
    let entries = std::fs::read_dir(&dir).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.push(dir.clone());
    for path in &paths {
        rustix::fs::chown(path, Some(owner), None).unwrap();
    }
    let (records, error) = read(&mut open(&dir));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(records.len(), 2);
    let report = momentlog_store::verify(&mut open(&dir), None, &mut |_| {}).unwrap();
    assert_eq!(report.verdict, momentlog_store::Verdict::Unanchored);
    let before = std::fs::read_dir(&dir).unwrap().count();
    let error = open(&dir).acquire(Duration::ZERO).unwrap_err();
    assert!(
        matches!(&error, StoreError::Io { path, .. } if *path == dir),
        "{error:?}"
    );
    let user = rustix::process::geteuid().as_raw();
    assert_eq!(
        unsafety(&error),
        Unsafe::Owner {
            owner: 12_345,
            user
        }
    );
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), before);
}

#[test]
fn what_cannot_be_removed_is_in_nobodys_way() {
    let (_parent, dir) = store_of(2);
    for name in ["x.tmp", "00000000000000000003.img.tmp", "start.tmp"] {
        std::fs::create_dir(dir.join(name)).unwrap();
        std::fs::write(dir.join(name).join("file"), "kept").unwrap();
    }
    let mut writer = open(&dir);
    let end = append(&mut writer, &["third"]);
    assert_eq!(writer.image_writer().unwrap()(b"an image").unwrap(), end);
    let to = RealDisk::new(dir.with_extension("archive"));
    writer.archive(end, draft("bridge"), &to).unwrap();
    drop(writer);
    assert!(dir.join("start").exists());
    assert!(dir.join("x.tmp/file").exists());
    let names = std::fs::read_dir(&dir).unwrap();
    let files = names.filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_file());
    let left = files
        .filter(|entry| entry.as_ref().unwrap().path().extension() == Some("tmp".as_ref()))
        .count();
    assert_eq!(left, 0);
}
