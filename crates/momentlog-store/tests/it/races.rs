//! Readers that look while a writer comes and goes.

use std::io;
use std::sync::Mutex;

use momentlog_store::{Access, Disk, DiskFile, FileId};

use super::*;

/// The real disk, on which the first read of a segment is overtaken: while it goes on, a writer appends two records and
/// is gone, and of what it wrote first the reader sees nothing.
#[derive(Debug)]
struct Overtaken {
    disk: RealDisk,
    pending: Arc<Mutex<bool>>,
}

#[derive(Debug)]
struct OvertakenFile {
    file: Box<dyn DiskFile>,
    dir: std::path::PathBuf,
    pending: Arc<Mutex<bool>>,
}

impl Disk for Overtaken {
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
        let file = self.disk.open(name, access)?;
        if name.strip_suffix(".seg").is_none() {
            return Ok(file);
        }
        Ok(Box::new(OvertakenFile {
            file,
            dir: self.disk.path().into(),
            pending: self.pending.clone(),
        }))
    }

    fn id_of(&self, name: &str) -> io::Result<FileId> {
        self.disk.id_of(name)
    }

    fn create_file(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create_file(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn path(&self) -> &Path {
        self.disk.path()
    }
}

impl DiskFile for OvertakenFile {
    fn id(&self) -> io::Result<FileId> {
        self.file.id()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pending = self.pending.lock().unwrap();
        if !std::mem::take(&mut *pending) {
            return self.file.read_at(offset, buffer);
        }
        let before = self.file.read_at(offset, buffer)?;
        let mut writer = FileStore::new(RealDisk::new(&self.dir));
        let end = append(&mut writer, &["second"]);
        append(&mut writer, &["third"]);
        drop(writer);
        assert_eq!(end.seq.get(), 2);
        let record = before / 8 * 8;
        let length = self.file.read_at(offset, buffer)?;
        // The header of the second record, as it was before.
        buffer[record..record + 96].fill(0);
        Ok(length)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        // A read asks for as much as there will be.
        Ok(self.file.length()? + 4096)
    }

    fn try_lock(&self, share: bool) -> io::Result<bool> {
        self.file.try_lock(share)
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}

#[test]
fn a_reader_that_was_overtaken_by_a_writer_takes_nothing_for_damage() {
    let (_parent, dir) = store_of(1);
    let disk = Overtaken {
        disk: RealDisk::new(&dir),
        pending: Arc::new(Mutex::new(true)),
    };
    let mut reader = FileStore::new(disk);
    let (records, error) = read(&mut reader);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(
        facts(&records),
        ["facts of record 0", "facts of second", "facts of third"]
    );
    assert!(reader.torn().tail.is_none());
}
