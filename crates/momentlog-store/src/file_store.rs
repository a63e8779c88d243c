//! The log in a directory of files.

mod archive;
mod archive_writer;
mod image;
mod opened;
mod outlines;
mod recover;
mod remembered;
mod scan;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Access, Disk};
use crate::frame::{self, FRAME_LEN_MAX};
use crate::head::{self, HEAD_LEN, HEAD_MAGIC};
use crate::lock::{self, LOCK};
use crate::segment::{Cursor, check_directory_writable, segment_name};
use crate::store::next_seq;
use crate::{Draft, Head, LogId, Outline, Place, Record, Retention, Seq, Store, StoreError, Torn};
use opened::{OpenSegment, Opened};
use outlines::Places;

pub use archive::Rejoined;
pub use archive_writer::ArchiveWriter;

pub(crate) const HEAD: &str = "head";
pub(crate) const START: &str = "start";

/// The file that tells an archive from a store.
pub(crate) const ARCHIVE: &str = "archive";

/// Ends the name of a file that is not complete yet.
const TEMPORARY: &str = ".tmp";

/// How long the first and the longest segment are, and how far a segment is filled with zeros ahead, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Capacity of the first segment; each next one has twice as much.
    pub segment_len_first: u64,
    /// Capacity that is not doubled any more.
    pub segment_len_max: u64,
    /// Most zeros ahead of the data.
    pub fill_len_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            segment_len_first: 64 << 10,
            segment_len_max: 16 << 20,
            fill_len_max: 1 << 20,
        }
    }
}

/// A log in a directory of files. One handle at a time writes, any number read.
#[derive(Debug)]
pub struct FileStore {
    disk: Arc<dyn Disk>,
    limits: Limits,
    log: Option<LogId>,
    /// Behind the last record that this handle gave out or wrote.
    cursor: Cursor,
    writer: Option<Writer>,
    /// Where frames were seen while records were looked for.
    places: Places,
    /// Behind the record of the image that was loaded last.
    of_image: Option<Cursor>,
    torn: Torn,
    poisoned: bool,
    /// What it had and what it found, once another store stood where this one was.
    replaced: Option<(Option<Head>, Option<Head>)>,
}

/// What only the writer has.
#[derive(Debug)]
struct Writer {
    lock: Opened,
    head: Opened,
    /// Behind the last record of the log.
    end: Cursor,
    /// What it has written to `head` last; nothing if that failed.
    told: Option<[u8; HEAD_LEN]>,
    segment: Option<OpenSegment>,
    /// How many segments there are, which gives the capacity of the next one.
    segments: u32,
    /// Whether the next record begins a new segment.
    sealed: bool,
    /// How many bytes of frames it has written.
    written: u64,
}

impl FileStore {
    /// Returns the log on `disk`, which need not be there yet. Nothing is read or made until it is asked for.
    pub fn new(disk: impl Disk + 'static) -> FileStore {
        FileStore::over(Arc::new(disk))
    }

    /// As [`new`](Self::new), over a disk that others use as well.
    pub fn over(disk: Arc<dyn Disk>) -> FileStore {
        FileStore::with_limits(disk, Limits::default())
    }

    /// As [`new`](Self::new), with segments of other lengths.
    pub fn with_limits(disk: Arc<dyn Disk>, limits: Limits) -> FileStore {
        FileStore {
            disk,
            limits,
            log: None,
            cursor: Cursor::START,
            writer: None,
            places: Places::default(),
            of_image: None,
            torn: Torn::default(),
            poisoned: false,
            replaced: None,
        }
    }

    /// The disk below.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    fn check_writable(&mut self) -> Result<(), StoreError> {
        self.check_usable()?;
        self.check_place().map(|_| ())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.disk.path_of(name)
    }

    /// The longest segment that any version with these limits has written, unless its first frame is longer.
    fn segment_len_most(&self) -> u64 {
        self.limits
            .segment_len_max
            .max(Limits::default().segment_len_max)
    }

    fn capacity(&self, segments: u32) -> u64 {
        self.limits
            .segment_len_first
            .checked_shl(segments)
            .unwrap_or(u64::MAX)
            .min(self.limits.segment_len_max)
    }
}

impl Store for FileStore {
    fn torn(&self) -> Torn {
        self.torn.clone()
    }

    fn log_id(&self) -> Option<LogId> {
        self.log
    }

    fn head(&self) -> Option<Head> {
        // What others have appended before this handle became the writer counts, although it was not read yet.
        self.writer
            .as_ref()
            .map_or(self.cursor.head, |writer| writer.end.head)
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.read_on(after, each)
    }

    fn scan(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(&Outline<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.scan_on(after, each)
    }

    fn last_where(
        &mut self,
        holds: &mut dyn FnMut(&Outline<'_>) -> bool,
    ) -> Result<Option<Record>, StoreError> {
        self.bisect(holds)
    }

    fn record(&mut self, seq: Seq) -> Result<Option<Record>, StoreError> {
        self.record_at(seq)
    }

    fn verifies(&self) -> bool {
        true
    }

    fn acquire(&mut self, wait: Duration) -> Result<(), StoreError> {
        self.check_writable()?;
        if self.writer.is_some() {
            return Ok(());
        }
        match self.disk.id_of(ARCHIVE) {
            Ok(_) => {
                let path = self.disk.path().into();
                return Err(StoreError::IsArchive { path });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("open", self.disk.path())(error)),
        }
        if self.cursor.head.is_none() {
            self.disk
                .create()
                .map_err(StoreError::io("create", self.disk.path()))?;
        }
        check_directory_writable(self.disk.as_ref())?;
        self.check_place()?;
        let lock = lock::take(self.disk.as_ref(), wait)?;
        let lock = self.opened(LOCK, lock)?;
        // Now no other writer changes what stands there.
        self.check_place()?;
        let (end, segments) = self.recover(&lock)?;
        let path = self.path(HEAD);
        let head = match self.disk.open(HEAD, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self
                    .disk
                    .create_file(HEAD)
                    .map_err(StoreError::io("create", &path))?;
                // Written in full once, so that a later write needs no space.
                file.write_at(0, &[0; HEAD_LEN])
                    .map_err(StoreError::io("write", &path))?;
                file.sync().map_err(StoreError::io("sync", &path))?;
                self.disk
                    .sync_dir()
                    .map_err(StoreError::io("sync", self.disk.path()))?;
                file
            }
            opened => opened.map_err(StoreError::io("open", &path))?,
        };
        let head = self.opened(HEAD, head)?;
        let mut writer = Writer {
            lock,
            head,
            end,
            told: None,
            segment: None,
            segments,
            sealed: false,
            written: 0,
        };
        // `head` was opened by its name, which may be another store's by now.
        self.check_lock(&writer.lock, writer.end.head)?;
        writer.publish(self.log);
        // What the last writer left is settled now. If the lock file cannot say so, readers stay careful.
        let _ = lock::tell(&*writer.lock, false);
        self.writer = Some(writer);
        Ok(())
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        self.check_usable()?;
        let Some(mut writer) = self.writer.take() else {
            let source = io::Error::other("this handle is not the writer");
            return Err(StoreError::Io {
                doing: "write",
                path: self.disk.path().into(),
                source,
            });
        };
        let found = writer.end.head;
        let appended = if found != expected {
            Err(StoreError::Conflict { expected, found })
        } else if let Some(length) = too_large(&drafts) {
            Err(StoreError::TooLarge { length })
        } else {
            self.append_checked(&mut writer, log, drafts)
        };
        if self.poisoned && self.replaced.is_none() {
            // Also after this process: until a writer has settled it, no reader serves what stands behind `head`.
            let _ = lock::tell(&*writer.lock, true);
        }
        self.writer = Some(writer);
        appended
    }

    fn release(&mut self) {
        let Some(writer) = self.writer.take() else {
            return;
        };
        if let Some(segment) = &writer.segment
            && !self.poisoned
            && self.replaced.is_none()
            && self.is_kept(&writer, writer.end).unwrap_or(false)
        {
            // Only zeros are trimmed, so whether it succeeds, now or ever, changes nothing but space.
            let _ = segment.file.set_len(writer.end.offset);
        }
        let _ = writer.lock.unlock();
    }

    fn is_exclusive(&self) -> bool {
        self.writer.is_some()
    }

    fn reader(&self) -> Option<Box<dyn Store>> {
        Some(Box::new(FileStore::with_limits(
            self.disk.clone(),
            self.limits,
        )))
    }

    fn retention(&mut self) -> Option<&mut dyn Retention> {
        Some(self)
    }
}

impl FileStore {
    /// Appends between two looks at what stands there: before anything is written, and before it is acknowledged.
    fn append_checked(
        &mut self,
        writer: &mut Writer,
        log: LogId,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        self.check_before_write(writer)?;
        let before = writer.end;
        let records = self.append_all(writer, self.log.unwrap_or(log), drafts)?;
        if records.is_empty() {
            return Ok(records);
        }
        self.log = self.log.or(Some(log));
        self.check_written(writer, before)?;
        self.cursor = writer.end;
        Ok(records)
    }

    /// Writes and syncs the records; on an error that leaves open what was written, poisons the handle.
    fn append_all(
        &mut self,
        writer: &mut Writer,
        log: LogId,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        let durable = writer.end.head.map(|head| head.seq);
        let mut records = Vec::with_capacity(drafts.len());
        let mut end = writer.end;
        let mut group = Vec::new();
        let mut group_at = end.offset;
        // Whether some of the records are written.
        let mut begun = false;
        for draft in drafts {
            let length = draft.frame_len() as u64;
            let seq = next_seq(end.head);
            let open = match &writer.segment {
                Some(segment) => Some(segment.capacity),
                None if end.offset > 0 => Some(self.capacity(writer.segments - 1)),
                None => None,
            };
            let is_full = |capacity| end.offset > 0 && end.offset + length > capacity;
            if writer.sealed || open.is_none_or(is_full) {
                if !group.is_empty() {
                    self.write(writer, end.segment, group_at, &group, begun)?;
                    group.clear();
                    begun = true;
                }
                if let Err(error) = self.roll(writer, end, seq, length) {
                    // A segment that may or may not be there would be in the way of the next record.
                    self.poisoned = true;
                    return Err(if records.is_empty() {
                        error
                    } else {
                        // Records of this batch are in the segment before.
                        unknown(error)
                    });
                }
                end = Cursor {
                    segment: seq,
                    offset: 0,
                    ..end
                };
                group_at = 0;
                if !begun {
                    // Also if nothing is written now, the next record stands there.
                    writer.end = end;
                }
            }
            let record = Record::new(log, end.head, durable, draft);
            let place = Place {
                log,
                segment: end.segment,
                offset: end.offset,
            };
            frame::encode(&record, place, &mut group);
            end.last = Some((end.segment, end.offset));
            end.offset += length;
            end.head = Some(record.head());
            records.push(record);
        }
        if !group.is_empty() {
            self.write(writer, end.segment, group_at, &group, begun)?;
        }
        writer.end = end;
        Ok(records)
    }

    /// Trims the segment that is full, and creates the one that begins with `first`.
    fn roll(
        &mut self,
        writer: &mut Writer,
        end: Cursor,
        first: Seq,
        frame: u64,
    ) -> Result<(), StoreError> {
        if let Some(full) = writer.segment.take() {
            let _ = full.file.set_len(end.offset);
        }
        let name = segment_name(first);
        let path = self.path(&name);
        // Before a file is made by its name, and once more after.
        self.check_lock(&writer.lock, end.head)?;
        let file = match self.disk.create_file(&name) {
            // Left empty by a writer that died, or whose disk was full, before it wrote the first frame.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.open(&name, Access::Write)
            }
            created => created,
        };
        let file = file.map_err(StoreError::io("create", &path))?;
        self.check_lock(&writer.lock, end.head)?;
        self.disk
            .sync_dir()
            .map_err(StoreError::io("sync", self.disk.path()))?;
        let filled = file.length().map_err(StoreError::io("read", &path))?;
        let capacity = self.capacity(writer.segments).max(frame);
        let file = self.opened(&name, file)?;
        writer.segments += 1;
        writer.sealed = false;
        writer.segment = Some(OpenSegment::new(first, file, capacity, filled));
        Ok(())
    }

    /// Writes frames into the open segment, fills zeros ahead, and syncs.
    ///
    /// The zeros are as many as this writer has written in all: one that comes for a single record writes few, and one that
    /// stays fills a segment in a few large pieces. If the disk is full, what was written is taken back, unless this is not
    /// the first part of a batch: then nothing was recorded, and the handle goes on.
    fn write(
        &mut self,
        writer: &mut Writer,
        segment: Seq,
        offset: u64,
        frames: &[u8],
        begun: bool,
    ) -> Result<(), StoreError> {
        let path = self.path(&segment_name(segment));
        let open = match &mut writer.segment {
            Some(open) => open,
            None => {
                let capacity = self.capacity(writer.segments - 1);
                let name = segment_name(segment);
                let file = self.disk.open(&name, Access::Write);
                let file = file.map_err(StoreError::io("open", &path))?;
                let filled = file.length().map_err(StoreError::io("read", &path))?;
                let file = self.opened(&name, file)?;
                // It was opened by its name, which may be another store's by now.
                self.check_lock(&writer.lock, writer.end.head)?;
                let open = OpenSegment::new(segment, file, capacity, filled);
                writer.segment.insert(open)
            }
        };
        let end = offset + frames.len() as u64;
        writer.written += frames.len() as u64;
        let written = if end > open.filled {
            let zeros = writer.written.max(4096).min(self.limits.fill_len_max);
            let ahead = (end + zeros).min(open.capacity.max(end));
            let mut bytes = frames.to_vec();
            bytes.resize(
                usize::try_from(ahead - offset).expect("a batch fits in memory"),
                0,
            );
            match open.file.write_at(offset, &bytes) {
                // A disk too full for zeros may have room for the frames.
                Err(_) => open.file.write_at(offset, frames),
                Ok(()) => {
                    open.filled = ahead;
                    Ok(())
                }
            }
        } else {
            open.file.write_at(offset, frames)
        };
        let written = match written {
            Err(error) if !begun && is_full(&error) && open.take_back(offset).is_ok() => {
                return Err(StoreError::io("write", path)(error));
            }
            written => written,
        };
        let unknown = |doing| move |source| unknown(StoreError::io(doing, path)(source));
        let outcome = match written {
            Err(error) => Err(unknown("write")(error)),
            Ok(()) => open.file.sync().map_err(unknown("sync")),
        };
        if outcome.is_ok() {
            open.remember(offset, frames);
        }
        self.poisoned |= outcome.is_err();
        outcome
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.release();
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl Writer {
    /// Tells readers in other processes how far the log is durable.
    ///
    /// That it fails is not the caller's trouble: the record is durable, and readers see it after the next append, or
    /// once this writer is gone.
    fn publish(&mut self, log: Option<LogId>) {
        if let (Some(head), Some(log)) = (self.end.head, log) {
            let bytes = head::encode(HEAD_MAGIC, log, head);
            self.told = self.head.write_at(0, &bytes).ok().map(|()| bytes);
        }
    }

    /// Takes back what was published, because the record is not in the log: a user has overwritten the files with a copy
    /// after it was written and before it was published. `standing` is a record that is there; without one, `head` becomes
    /// zeros, which say nothing, and the next writer writes it.
    fn take_back(&self, standing: Option<(LogId, Head)>) {
        let mut bytes = [0; HEAD_LEN];
        if self.head.read_at(0, &mut bytes).is_ok() && self.told == Some(bytes) {
            let earlier = standing.map(|(log, head)| head::encode(HEAD_MAGIC, log, head));
            let _ = self.head.write_at(0, &earlier.unwrap_or([0; HEAD_LEN]));
        }
    }
}

/// The same failure, of an append of which a part is written.
fn unknown(error: StoreError) -> StoreError {
    match error {
        StoreError::Io {
            doing,
            path,
            source,
        } => StoreError::Unknown {
            doing,
            path,
            source: source.into(),
        },
        other => other,
    }
}

fn too_large(drafts: &[Draft]) -> Option<usize> {
    drafts
        .iter()
        .map(Draft::frame_len)
        .find(|length| *length > FRAME_LEN_MAX)
}
