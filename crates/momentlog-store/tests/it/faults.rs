//! A disk that fails: what was acknowledged stays, and nothing is served that may vanish.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use momentlog_store::{Access, Disk, DiskFile};

use super::*;

/// The real disk, with a switch that makes every sync, or every write, of a segment fail.
#[derive(Debug)]
struct FaultyDisk {
    disk: RealDisk,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    sync: AtomicBool,
    write: AtomicBool,
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn DiskFile>,
    faults: Option<Arc<Faults>>,
}

impl FaultyDisk {
    fn wrap(&self, name: &str, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let faults = name.strip_suffix(".seg").map(|_| self.faults.clone());
        Box::new(FaultyFile { file, faults })
    }
}

impl FaultyFile {
    fn fail(&self, switch: fn(&Faults) -> &AtomicBool) -> io::Result<()> {
        match &self.faults {
            Some(faults) if switch(faults).load(Ordering::Relaxed) => {
                Err(io::Error::other("the disk failed"))
            }
            _ => Ok(()),
        }
    }
}

impl Disk for FaultyDisk {
    fn create(&self) -> io::Result<()> {
        self.disk.create()
    }

    fn check(&self) -> io::Result<()> {
        self.disk.check()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(name, self.disk.open(name, access)?))
    }

    fn create_file(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(name, self.disk.create_file(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn path(&self) -> &Path {
        self.disk.path()
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.fail(|faults| &faults.write)?;
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.fail(|faults| &faults.sync)?;
        self.file.sync()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn try_lock(&self, share: bool) -> io::Result<bool> {
        self.file.try_lock(share)
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}

/// A writer that has one record, on a disk that is about to fail.
fn writer(dir: &Path) -> (FileStore, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let disk = FaultyDisk {
        disk: RealDisk::new(dir),
        faults: faults.clone(),
    };
    let mut store = FileStore::with_limits(Arc::new(disk), SMALL);
    append(&mut store, &["acknowledged"]);
    (store, faults)
}

#[test]
fn after_a_failed_sync_the_handle_refuses_and_serves_only_what_was_acknowledged() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let (mut store, faults) = writer(&dir);
    let head = store.head();
    faults.sync.store(true, Ordering::Relaxed);
    let failed = store.append(LOG, head, vec![draft("unknown")]);
    assert!(
        matches!(failed, Err(StoreError::Unknown { doing: "sync", .. })),
        "{failed:?}"
    );
    faults.sync.store(false, Ordering::Relaxed);
    assert!(matches!(
        store.append(LOG, head, vec![draft("more")]),
        Err(StoreError::Poisoned { .. })
    ));
    assert_eq!(facts(&read(&mut store).0), ["facts of acknowledged"]);
    drop(store);
    // Reopening settles it: here the bytes had reached the disk.
    let mut again = open(&dir);
    assert_eq!(
        facts(&read(&mut again).0),
        ["facts of acknowledged", "facts of unknown"]
    );
    append(&mut again, &["goes on"]);
}

#[test]
fn after_a_failed_write_the_record_is_gone_and_the_next_writer_goes_on() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let (mut store, faults) = writer(&dir);
    let head = store.head();
    faults.write.store(true, Ordering::Relaxed);
    let failed = store.append(LOG, head, vec![draft("unknown")]);
    assert!(
        matches!(failed, Err(StoreError::Unknown { doing: "write", .. })),
        "{failed:?}"
    );
    drop(store);
    let mut again = open(&dir);
    append(&mut again, &["goes on"]);
    assert_eq!(
        facts(&read(&mut again).0),
        ["facts of acknowledged", "facts of goes on"]
    );
}
