//! Retention that keeps the proof: old segments are moved elsewhere, byte for byte, and the log begins behind them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::image::{image_name, images, write_whole};
use super::opened::Opened;
use super::{ARCHIVE, FileStore, HEAD, START, TEMPORARY, unknown};
use crate::disk::{Access, Disk, DiskFile, FileId};
use crate::error::Damage;
use crate::frame::FRAME_LEN_MAX;
use crate::head::{self, ARCHIVE_MAGIC, HEAD_LEN, Mark, START_MAGIC};
use crate::lock::LOCK;
use crate::segment::{Cursor, check_directory, segment_name, segments};
use crate::{Draft, Head, ImageWriter, LogId, Record, Retention, Seq, Store, StoreError};

impl Retention for FileStore {
    fn start(&mut self) -> Result<Option<Head>, StoreError> {
        check_directory(self.disk.as_ref())?;
        Ok(self.check_place()?.map(|(_, head)| head))
    }

    fn latest_image(&mut self, most: Option<Seq>) -> Result<Option<(Head, Vec<u8>)>, StoreError> {
        check_directory(self.disk.as_ref())?;
        self.check_place()?;
        self.load_image(most)
    }

    fn images(&mut self) -> Result<Vec<Seq>, StoreError> {
        images(self.disk.as_ref())
    }

    fn image_writer(&mut self) -> Result<ImageWriter, StoreError> {
        self.writer_of_image()
    }

    fn archive(
        &mut self,
        expected: Head,
        bridge: Draft,
        to: &dyn Disk,
    ) -> Result<Record, StoreError> {
        self.move_to(expected, bridge, to)
    }
}

impl FileStore {
    /// Copies all segments to `to`, appends `bridge` as the first record of a new one, and then lets the log begin with it.
    /// Only after all of that is durable, the segments are removed.
    pub(super) fn move_to(
        &mut self,
        expected: Head,
        bridge: Draft,
        to: &dyn Disk,
    ) -> Result<Record, StoreError> {
        self.check_writable()?;
        apart(self.disk.as_ref(), to)?;
        prepare(to)?;
        let (Some(writer), Some(log)) = (&self.writer, self.log) else {
            return Err(StoreError::Unsupported {
                doing: "archive without being the writer",
            });
        };
        let found = writer.end.head;
        if found != Some(expected) {
            let expected = Some(expected);
            return Err(StoreError::Conflict { expected, found });
        }
        let end = writer.end;
        self.trim(end)?;
        let first = self.read_start()?.map(|(_, start)| start.seq);
        check_mark(to, log)?;
        if segments(to)?.is_empty() {
            // Before the first segment, so that no program takes it for a store.
            mark(to, log, expected)?;
        }
        for segment in segments(self.disk.as_ref())? {
            if Some(segment) > first && segment <= expected.seq {
                self.check_length(segment)?;
                copy(self.disk.as_ref(), to, &segment_name(segment))?;
            }
        }
        mark(to, log, expected)?;
        if let Some(writer) = &mut self.writer {
            writer.sealed = true;
        }
        let record = self
            .append(log, Some(expected), vec![bridge])?
            .pop()
            .expect("one draft gives one record");
        // From here on the bridge is recorded, and what fails leaves open what it bridges.
        let start = head::encode(START_MAGIC, log, expected);
        let moved = self
            .write_own(START, &start)
            .and_then(|()| self.remove_moved(expected));
        if let Err(error) = moved {
            self.poisoned = true;
            return Err(unknown(error));
        }
        if let Some(writer) = &mut self.writer {
            writer.segments = 1;
        }
        Ok(record)
    }

    /// Takes the zeros behind the last record away, so that the segment is what an archive keeps.
    fn trim(&mut self, end: Cursor) -> Result<(), StoreError> {
        let name = segment_name(end.segment);
        let path = self.path(&name);
        let open = self
            .writer
            .as_mut()
            .and_then(|writer| writer.segment.as_mut());
        match open {
            Some(open) => {
                open.filled = end.offset;
                open.file.set_len(end.offset)
            }
            None => {
                let file = self.disk.open(&name, Access::Write);
                let file = file.map_err(StoreError::io("open", &path))?;
                // It was opened by its name, which may be another store's by now.
                self.check_own_lock()?;
                file.set_len(end.offset)
            }
        }
        .map_err(StoreError::io("write", path))
    }

    /// Refuses a segment that is longer than any can be, before it is read as a whole.
    fn check_length(&self, segment: Seq) -> Result<(), StoreError> {
        let name = segment_name(segment);
        let path = self.path(&name);
        let file = self
            .disk
            .open(&name, Access::Read)
            .map_err(StoreError::io("open", &path))?;
        let length = file.length().map_err(StoreError::io("read", &path))?;
        let most = self.segment_len_most().max(FRAME_LEN_MAX as u64);
        if length <= most {
            return Ok(());
        }
        Err(StoreError::Damaged {
            path: path.into(),
            offset: most,
            seq: segment,
            why: Damage::Oversized { length, most },
        })
    }

    /// Removes, as the writer, what was moved to an archive.
    fn remove_moved(&mut self, start: Head) -> Result<(), StoreError> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let removed = self.remove_leftovers(&writer.lock, Some(start));
        self.writer = Some(writer);
        removed
    }

    /// Removes what an interrupted archiving or image left: files that the log does not need. What cannot be removed
    /// does no harm.
    pub(super) fn remove_leftovers(
        &mut self,
        lock: &Opened,
        start: Option<Head>,
    ) -> Result<(), StoreError> {
        let disk = self.disk.clone();
        let disk = disk.as_ref();
        let names = disk.list().map_err(StoreError::io("open", disk.path()))?;
        let mut needless: Vec<String> = names
            .into_iter()
            .filter(|name| name.ends_with(TEMPORARY))
            .collect();
        if let Some(start) = start {
            let before =
                |seqs: Vec<Seq>, last: u64| seqs.into_iter().filter(move |seq| seq.get() <= last);
            needless.extend(before(segments(disk)?, start.seq.get()).map(segment_name));
            needless.extend(before(images(disk)?, start.seq.get() - 1).map(image_name));
        }
        for name in &needless {
            let path = disk.path().join(name);
            self.check_lock(lock, self.cursor.head)?;
            match disk.remove(name) {
                Err(error) if name.ends_with(TEMPORARY) => {
                    tracing::warn!(path = %path.display(), %error, "left a file that is not needed");
                }
                removed => removed.map_err(StoreError::io("remove", path))?,
            }
        }
        if needless.is_empty() {
            return Ok(());
        }
        disk.sync_dir().map_err(StoreError::io("sync", disk.path()))
    }
}

/// Refuses an archive in the store's own directory, or around it.
fn apart(store: &dyn Disk, to: &dyn Disk) -> Result<(), StoreError> {
    let (store, archive) = (store.resolved(), to.resolved());
    let why = if store == archive {
        "it is the store itself"
    } else if archive.starts_with(&store) {
        "it is in the directory of the store"
    } else if store.starts_with(&archive) {
        "the store is in it"
    } else {
        return Ok(());
    };
    Err(StoreError::io("archive to", to.path())(io::Error::other(
        why,
    )))
}

/// Makes the archive's directory, and refuses one that holds a store: it may be the very one that is archived.
pub(super) fn prepare(to: &dyn Disk) -> Result<(), StoreError> {
    let path = || to.path().to_path_buf();
    to.create().map_err(StoreError::io("create", path()))?;
    let names = to.list().map_err(StoreError::io("open", path()))?;
    let is_store = |name: &String| [HEAD, LOCK, START].contains(&name.as_str());
    if names.iter().any(is_store) {
        let source = io::Error::other("it holds a store, and an archive goes elsewhere");
        return Err(StoreError::io("archive to", path())(source));
    }
    Ok(())
}

/// Says in the archive that it is one.
pub(super) fn mark(to: &dyn Disk, log: LogId, last: Head) -> Result<(), StoreError> {
    write_whole(to, ARCHIVE, &head::encode(ARCHIVE_MAGIC, log, last))
}

/// Refuses the archive of another log.
pub(super) fn check_mark(to: &dyn Disk, log: LogId) -> Result<(), StoreError> {
    let path = || to.path().join(ARCHIVE);
    let mut bytes = [0; HEAD_LEN];
    match to.open(ARCHIVE, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io("open", path())(error)),
        Ok(file) => {
            file.read_at(0, &mut bytes)
                .map_err(StoreError::io("read", path()))?;
        }
    }
    match head::decode(ARCHIVE_MAGIC, &bytes) {
        Mark::At(found, _) if found != log => {
            let source = io::Error::other("it is the archive of another log");
            Err(StoreError::io("archive to", to.path())(source))
        }
        _ => Ok(()),
    }
}

/// Copies one segment, unless the archive has it already, or a shorter one, from an attempt that was interrupted.
fn copy(from: &dyn Disk, to: &dyn Disk, name: &str) -> Result<(), StoreError> {
    put(to, name, &read_whole(from, name)?)
}

/// Writes one segment to an archive, as [`copy`] does.
pub(super) fn put(to: &dyn Disk, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    match to.open(name, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => write_whole(to, name, bytes),
        Err(error) => Err(StoreError::io("open", to.path().join(name))(error)),
        Ok(_) => {
            let there = read_whole(to, name)?;
            if !bytes.starts_with(&there) {
                let source = io::Error::other("another file of that name is there");
                return Err(StoreError::io("archive to", to.path().join(name))(source));
            }
            // Written once more even if it is whole: it may not have been synced.
            write_whole(to, name, bytes)
        }
    }
}

fn read_whole(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, StoreError> {
    let path = || disk.path().join(name);
    let file = disk
        .open(name, Access::Read)
        .map_err(StoreError::io("open", path()))?;
    let length = file.length().map_err(StoreError::io("read", path()))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let read = file
        .read_at(0, &mut bytes)
        .map_err(StoreError::io("read", path()))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// A store together with its archive, for reading: the log is whole again.
#[derive(Debug)]
pub struct Rejoined {
    live: Arc<dyn Disk>,
    archive: Arc<dyn Disk>,
}

impl Rejoined {
    /// Returns the store on `live` with the segments that were moved to `archive`.
    pub fn new(live: Arc<dyn Disk>, archive: Arc<dyn Disk>) -> Rejoined {
        Rejoined { live, archive }
    }
}

impl Disk for Rejoined {
    fn create(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn check(&self) -> io::Result<()> {
        self.live.check()?;
        self.archive.check()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.live.list()?;
        names.extend(self.archive.list()?);
        names.sort_unstable();
        names.dedup();
        names.retain(|name| name != START && name != ARCHIVE);
        Ok(names)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn DiskFile>> {
        if access == Access::Write {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if name == START || name == ARCHIVE {
            return Err(io::ErrorKind::NotFound.into());
        }
        match self.live.open(name, access) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.archive.open(name, access)
            }
            opened => opened,
        }
    }

    fn id_of(&self, name: &str) -> io::Result<FileId> {
        match self.live.id_of(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.archive.id_of(name),
            found => found,
        }
    }

    fn create_file(&self, _: &str) -> io::Result<Box<dyn DiskFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self) -> &Path {
        self.live.path()
    }

    fn path_of(&self, name: &str) -> PathBuf {
        let is_archived = self.live.id_of(name).is_err() && self.archive.id_of(name).is_ok();
        let disk = if is_archived {
            &self.archive
        } else {
            &self.live
        };
        disk.path_of(name)
    }
}
