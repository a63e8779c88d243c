//! What every [`Disk`] does, real or simulated.

use std::io::ErrorKind;

use momentlog::store::{Access, Disk};

/// Checks that a disk behaves as the log needs. Its directory must not be there yet.
///
/// # Panics
///
/// If it does not.
pub fn disk_suite(disk: &dyn Disk) {
    let kind = |error: std::io::Error| error.kind();
    assert_eq!(disk.check().map_err(kind), Err(ErrorKind::NotFound));
    assert_eq!(disk.list().map_err(kind), Err(ErrorKind::NotFound));
    let missing = |name: &str| disk.open(name, Access::Read).map(|_| ()).map_err(kind);
    assert_eq!(missing("a"), Err(ErrorKind::NotFound));
    disk.create().expect("the directory is made");
    disk.create()
        .expect("a directory that is there is no error");
    disk.check().expect("it can be trusted");
    assert_eq!(disk.list().expect("it is there"), [""; 0]);

    let file = disk.create_file("a").expect("it is new");
    let again = disk.create_file("a").map(|_| ()).map_err(kind);
    assert_eq!(again, Err(ErrorKind::AlreadyExists));
    file.write_at(3, b"defg").expect("there is room");
    file.write_at(0, b"abc").expect("there is room");
    assert_eq!(file.length().expect("it is open"), 7);
    let mut buffer = [0; 16];
    assert_eq!(file.read_at(1, &mut buffer).expect("it is open"), 6);
    assert_eq!(&buffer[..6], b"bcdefg");
    assert_eq!(file.read_at(7, &mut buffer).expect("it is open"), 0);
    assert_eq!(file.read_at(70, &mut buffer).expect("it is open"), 0);
    file.write_at(10, b"k").expect("a hole is zeros");
    assert_eq!(file.read_at(6, &mut buffer).expect("it is open"), 5);
    assert_eq!(&buffer[..5], b"g\0\0\0k");
    file.set_len(2).expect("it is cut");
    file.set_len(4).expect("it is lengthened");
    assert_eq!(file.read_at(0, &mut buffer).expect("it is open"), 4);
    assert_eq!(&buffer[..4], b"ab\0\0");
    file.sync().expect("it is synced");
    disk.sync_dir().expect("it is synced");

    let other = disk.open("a", Access::Read).expect("it is there");
    assert!(file.try_lock(false).expect("it is open"));
    assert!(!other.try_lock(true).expect("it is open"), "exclusive");
    assert!(!other.try_lock(false).expect("it is open"), "exclusive");
    file.unlock().expect("it is open");
    assert!(other.try_lock(true).expect("it is open"));
    assert!(!file.try_lock(false).expect("it is open"), "shared");
    assert!(file.try_lock(true).expect("it is open"), "shared by both");
    drop(file);
    let third = disk.open("a", Access::Write).expect("it is there");
    assert!(!third.try_lock(false).expect("it is open"), "one is left");
    drop(other);
    assert!(
        third.try_lock(false).expect("it is open"),
        "dropping unlocks"
    );

    let newer = disk.create_file("b").expect("it is new");
    newer.write_at(0, b"newer").expect("there is room");
    disk.rename("b", "a").expect("it takes the other's place");
    assert_eq!(disk.list().expect("it is there"), ["a"]);
    let found = disk.open("a", Access::Read).expect("it is there");
    assert_eq!(found.read_at(0, &mut buffer).expect("it is open"), 5);
    assert_eq!(&buffer[..5], b"newer");
    assert_eq!(
        disk.rename("b", "c").map_err(kind),
        Err(ErrorKind::NotFound)
    );
    disk.remove("a").expect("it is there");
    assert_eq!(disk.remove("a").map_err(kind), Err(ErrorKind::NotFound));
    assert_eq!(missing("a"), Err(ErrorKind::NotFound));
    // What is removed is still there for those who have it open.
    assert_eq!(found.read_at(0, &mut buffer).expect("it is open"), 5);
    disk.sync_dir().expect("it is synced");
    assert_eq!(disk.list().expect("it is there"), [""; 0]);
}
