//! The log in a directory of files.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Access, Disk, DiskFile};
use crate::error::Damage;
use crate::frame::{self, FRAME_LEN_MAX, frame_len};
use crate::head::{self, HEAD_LEN, Published};
use crate::lock;
use crate::segment::{Cursor, FrameReader, Next, check_directory, segment_name, segments};
use crate::store::next_seq;
use crate::{Draft, Head, LogId, Place, Record, Seq, Store, StoreError};

pub(crate) const HEAD: &str = "head";

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

/// Bytes after the last record that an interrupted write left. Nobody was told that they are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub path: std::path::PathBuf,
    /// Where the whole records end.
    pub offset: u64,
    /// The record that was being written.
    pub seq: Seq,
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
    torn: Option<TornTail>,
    poisoned: bool,
}

/// What only the writer has.
#[derive(Debug)]
struct Writer {
    lock: Box<dyn DiskFile>,
    head: Box<dyn DiskFile>,
    /// Behind the last record of the log.
    end: Cursor,
    segment: Option<OpenSegment>,
    /// How many segments there are, which gives the capacity of the next one.
    segments: u32,
}

/// The segment that is being written.
#[derive(Debug)]
struct OpenSegment {
    file: Box<dyn DiskFile>,
    capacity: u64,
    /// Up to where the file has been written, with zeros at least.
    filled: u64,
}

impl FileStore {
    /// Returns the log on `disk`, which need not be there yet. Nothing is read or made until it is asked for.
    pub fn new(disk: impl Disk + 'static) -> FileStore {
        FileStore::with_limits(Arc::new(disk), Limits::default())
    }

    /// As [`new`](Self::new), with segments of other lengths.
    pub fn with_limits(disk: Arc<dyn Disk>, limits: Limits) -> FileStore {
        FileStore {
            disk,
            limits,
            log: None,
            cursor: Cursor::START,
            writer: None,
            torn: None,
            poisoned: false,
        }
    }

    /// The disk below.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// What an interrupted write left, if the last read or [`begin`](Store::begin) found such a tail.
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.disk.path().join(name)
    }

    fn capacity(&self, segments: u32) -> u64 {
        self.limits
            .segment_len_first
            .checked_shl(segments)
            .unwrap_or(u64::MAX)
            .min(self.limits.segment_len_max)
    }

    /// Whether another handle, here or in another process, holds the writer's lock.
    fn is_written_elsewhere(&self) -> Result<bool, StoreError> {
        Ok(self.writer.is_none() && lock::is_held(self.disk.as_ref())?)
    }

    /// What `head` says; nothing if it is missing, or being written at this moment.
    fn published(&self) -> Result<Option<Head>, StoreError> {
        let path = || self.path(HEAD);
        let file = match self.disk.open(HEAD, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(StoreError::io("open", path()))?,
        };
        let mut bytes = [0; HEAD_LEN];
        // A torn read of a head that is being written does not pass its checksum; the next try does.
        for _ in 0..100 {
            let length = file
                .read_at(0, &mut bytes)
                .map_err(StoreError::io("read", path()))?;
            match head::decode(&bytes[..length]) {
                Published::Head(head) => return Ok(head),
                Published::NewerFormat(found) => {
                    return Err(StoreError::NewerFormat {
                        path: path(),
                        found,
                    });
                }
                Published::Torn => std::thread::yield_now(),
            }
        }
        Ok(None)
    }

    /// Syncs all that may have been written but not synced: the segments from `first` on.
    fn sync_from(&self, first: Seq) -> Result<(), StoreError> {
        for segment in segments(self.disk.as_ref())?
            .into_iter()
            .filter(|segment| *segment >= first)
        {
            let name = segment_name(segment);
            let file = self
                .disk
                .open(&name, Access::Read)
                .map_err(StoreError::io("open", self.path(&name)))?;
            file.sync()
                .map_err(StoreError::io("sync", self.path(&name)))?;
        }
        Ok(())
    }

    /// Scans from the cursor to the end of the log, cuts a torn tail, and syncs what it found.
    fn recover(&mut self) -> Result<(Cursor, u32), StoreError> {
        let published = self.published()?;
        let disk = self.disk.clone();
        let mut reader = FrameReader::new(disk.as_ref(), self.log, self.cursor)?;
        let bad = loop {
            match reader.next()? {
                Next::Record(_) => {}
                Next::End => break None,
                Next::Bad(damage) => break Some(damage),
            }
        };
        let end = reader.cursor;
        self.log = reader.log();
        if let Some(torn) = self.judge(&mut reader, end, bad, published)? {
            self.cut(end)?;
            let (path, offset, seq) = (torn.path.display(), torn.offset, torn.seq);
            tracing::warn!(%path, offset, %seq, "cut what an interrupted write had left");
            self.torn = Some(torn);
        }
        self.sync_from(end.segment)?;
        let count = u32::try_from(segments(disk.as_ref())?.len()).unwrap_or(u32::MAX);
        Ok((end, count))
    }

    /// Says what it means that no record stands at `end`: the end, a torn tail, or damage.
    fn judge(
        &self,
        reader: &mut FrameReader<'_>,
        end: Cursor,
        bad: Option<Damage>,
        published: Option<Head>,
    ) -> Result<Option<TornTail>, StoreError> {
        let seq = next_seq(end.head);
        let path = self.path(&segment_name(end.segment));
        let damaged = |why| StoreError::Damaged {
            path: path.clone(),
            offset: end.offset,
            seq,
            why,
        };
        if let Some(head) = published.filter(|head| head.seq >= seq) {
            return Err(damaged(bad.unwrap_or(Damage::Truncated { head: head.seq })));
        }
        if let (Some(head), Some(last)) = (published, end.head)
            && head.seq == last.seq
            && head.digest != last.digest
        {
            return Err(damaged(Damage::Chain));
        }
        match bad {
            None => Ok(None),
            Some(why) if reader.proves_durable(seq)? => Err(damaged(why)),
            Some(_) => Ok(Some(TornTail {
                path,
                offset: end.offset,
                seq,
            })),
        }
    }

    /// Overwrites what follows `end` with zeros, and removes later segments.
    fn cut(&self, end: Cursor) -> Result<(), StoreError> {
        let later: Vec<Seq> = segments(self.disk.as_ref())?
            .into_iter()
            .filter(|first| *first > end.segment)
            .collect();
        let name = segment_name(end.segment);
        let path = self.path(&name);
        match self.disk.open(&name, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("open", path)(error)),
            Ok(file) => {
                let length = file.length().map_err(StoreError::io("read", &path))?;
                let zeros =
                    vec![0; usize::try_from(length.saturating_sub(end.offset)).unwrap_or(0)];
                file.write_at(end.offset, &zeros)
                    .map_err(StoreError::io("write", &path))?;
                file.sync().map_err(StoreError::io("sync", &path))?;
            }
        }
        for segment in &later {
            let name = segment_name(*segment);
            self.disk
                .remove(&name)
                .map_err(StoreError::io("remove", self.path(&name)))?;
        }
        if later.is_empty() {
            return Ok(());
        }
        self.disk
            .sync_dir()
            .map_err(StoreError::io("sync", self.disk.path()))
    }

    /// Returns a cursor from which the record after `after` is found without reading the whole log.
    fn cursor_before(&self, after: Option<Head>) -> Result<Cursor, StoreError> {
        if after == self.cursor.head {
            return Ok(self.cursor);
        }
        let next = next_seq(after);
        let first = segments(self.disk.as_ref())?
            .into_iter()
            .rev()
            .find(|first| *first <= next);
        let (Some(first), Some(after)) = (first, after) else {
            return Ok(Cursor::START);
        };
        if first == Seq::FIRST {
            return Ok(Cursor::START);
        }
        let name = segment_name(first);
        let mut bytes = [0; frame::HEADER_LEN];
        let file = self
            .disk
            .open(&name, Access::Read)
            .map_err(StoreError::io("open", self.path(&name)))?;
        file.read_at(0, &mut bytes)
            .map_err(StoreError::io("read", self.path(&name)))?;
        let head = match frame::decode_header(&bytes) {
            Ok(header) => Seq::new(first.get() - 1).map(|seq| Head {
                seq,
                digest: header.previous,
            }),
            Err(_) => Some(after).filter(|after| after.seq.get() + 1 == first.get()),
        };
        Ok(if head.is_some() {
            Cursor {
                segment: first,
                offset: 0,
                head,
            }
        } else {
            Cursor::START
        })
    }
}

impl Store for FileStore {
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
        let disk = self.disk.clone();
        check_directory(disk.as_ref())?;
        let published = self.published()?;
        let mut reader = FrameReader::new(disk.as_ref(), self.log, self.cursor_before(after)?)?;
        if reader.is_empty() && published.is_none() && self.writer.is_none() {
            return Err(StoreError::Missing {
                path: disk.path().into(),
            });
        }
        let is_new = |record: &Record| after.is_none_or(|after| record.seq > after.seq);
        // What a failed sync left behind is nobody's to serve, although this handle wrote it.
        let sees_all = self.writer.is_some() && !self.poisoned;
        let is_durable = |seq: Seq| sees_all || published.is_some_and(|head| seq <= head.seq);
        let mut elsewhere = self.poisoned.then_some(true);
        let mut pending = Vec::new();
        let mut served = reader.cursor;
        let bad = loop {
            let next = next_seq(reader.cursor.head);
            if !is_durable(next) {
                if elsewhere.is_none() {
                    elsewhere = Some(self.is_written_elsewhere()?);
                }
                if elsewhere == Some(true) {
                    break None;
                }
            }
            match reader.next()? {
                Next::End => break None,
                Next::Bad(damage) => break Some(damage),
                Next::Record(record) if is_durable(record.seq) => {
                    served = reader.cursor;
                    if is_new(&record) {
                        each(record)?;
                    }
                }
                Next::Record(record) => pending.push((record, reader.cursor)),
            }
        };
        self.log = reader.log();
        if let Some((_, first)) = pending.first() {
            // The last writer is gone and may have died between writing and syncing these.
            self.sync_from(first.segment)?;
        }
        for (record, cursor) in pending {
            served = cursor;
            if is_new(&record) {
                each(record)?;
            }
        }
        if served.head.map(|head| head.seq) >= self.cursor.head.map(|head| head.seq) {
            self.cursor = served;
        }
        // A frame that a writer has only begun is no damage, also if that writer came after the first look.
        let in_flight =
            elsewhere == Some(true) || (bad.is_some() && self.is_written_elsewhere()?);
        if !in_flight {
            let end = reader.cursor;
            let torn = self.judge(&mut reader, end, bad, published)?;
            if self.writer.is_none() {
                self.torn = torn;
            }
        }
        Ok(())
    }

    fn begin(&mut self, wait: Duration) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned {
                path: self.disk.path().into(),
            });
        }
        if self.writer.is_some() {
            return Ok(());
        }
        self.disk
            .create()
            .map_err(StoreError::io("create", self.disk.path()))?;
        check_directory(self.disk.as_ref())?;
        let lock = lock::take(self.disk.as_ref(), wait)?;
        let (end, segments) = self.recover()?;
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
        let writer = Writer {
            lock,
            head,
            end,
            segment: None,
            segments,
        };
        writer.publish(self.log);
        self.writer = Some(writer);
        Ok(())
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned {
                path: self.disk.path().into(),
            });
        }
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
            self.append_all(&mut writer, self.log.unwrap_or(log), drafts)
        };
        if let Ok(records) = &appended
            && !records.is_empty()
        {
            self.log = self.log.or(Some(log));
            self.cursor = writer.end;
            writer.publish(self.log);
        }
        self.writer = Some(writer);
        appended
    }

    fn end(&mut self) {
        let Some(writer) = self.writer.take() else {
            return;
        };
        if let Some(segment) = &writer.segment
            && !self.poisoned
        {
            // Only zeros are trimmed, so whether it succeeds, now or ever, changes nothing but space.
            let _ = segment.file.set_len(writer.end.offset);
        }
        let _ = writer.lock.unlock();
    }

    fn is_writer(&self) -> bool {
        self.writer.is_some()
    }
}

impl FileStore {
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
        for draft in drafts {
            let length = frame_len(draft.facts.len(), &draft.texts) as u64;
            let seq = next_seq(end.head);
            let open = match &writer.segment {
                Some(segment) => Some(segment.capacity),
                None if end.offset > 0 => Some(self.capacity(writer.segments - 1)),
                None => None,
            };
            if open.is_none_or(|capacity| end.offset > 0 && end.offset + length > capacity) {
                if !group.is_empty() {
                    self.write(writer, end.segment, group_at, &group)?;
                    group.clear();
                }
                let opened = self.roll(writer, end, seq, length);
                if let Err(error) = opened {
                    // Records of this batch may be in the segment before.
                    self.poisoned = !records.is_empty();
                    return Err(error);
                }
                end = Cursor {
                    segment: seq,
                    offset: 0,
                    head: end.head,
                };
                group_at = 0;
            }
            let record = Record::new(log, end.head, durable, draft);
            let place = Place {
                log,
                segment: end.segment,
                offset: end.offset,
            };
            frame::encode(&record, place, &mut group);
            end.offset += length;
            end.head = Some(record.head());
            records.push(record);
        }
        if !group.is_empty() {
            self.write(writer, end.segment, group_at, &group)?;
        }
        writer.end = end;
        Ok(records)
    }

    /// Trims the segment that is full, and creates the one that begins with `first`.
    fn roll(
        &self,
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
        let file = match self.disk.create_file(&name) {
            // Left empty by a writer that died, or whose disk was full, before it wrote the first frame.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.open(&name, Access::Write)
            }
            created => created,
        };
        let file = file.map_err(StoreError::io("create", &path))?;
        self.disk
            .sync_dir()
            .map_err(StoreError::io("sync", self.disk.path()))?;
        let filled = file.length().map_err(StoreError::io("read", &path))?;
        let capacity = self.capacity(writer.segments).max(frame);
        writer.segments += 1;
        writer.segment = Some(OpenSegment {
            file,
            capacity,
            filled,
        });
        Ok(())
    }

    /// Writes frames into the open segment, fills zeros ahead, and syncs.
    fn write(
        &mut self,
        writer: &mut Writer,
        segment: Seq,
        offset: u64,
        frames: &[u8],
    ) -> Result<(), StoreError> {
        let path = self.path(&segment_name(segment));
        let open = match &mut writer.segment {
            Some(open) => open,
            None => {
                let capacity = self.capacity(writer.segments - 1);
                let file = self.disk.open(&segment_name(segment), Access::Write);
                let file = file.map_err(StoreError::io("open", &path))?;
                let filled = file.length().map_err(StoreError::io("read", &path))?;
                writer.segment.insert(OpenSegment {
                    file,
                    capacity,
                    filled,
                })
            }
        };
        let end = offset + frames.len() as u64;
        let written = if end > open.filled {
            let ahead =
                (end.max(4096).min(self.limits.fill_len_max) + end).min(open.capacity.max(end));
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
        let unknown = |doing| {
            move |source| StoreError::Unknown {
                doing,
                path,
                source,
            }
        };
        let outcome = match written {
            Err(error) => Err(unknown("write")(error)),
            Ok(()) => open.file.sync().map_err(unknown("sync")),
        };
        self.poisoned |= outcome.is_err();
        outcome
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.end();
    }
}

impl Writer {
    /// Tells readers in other processes how far the log is durable.
    ///
    /// That it fails is not the caller's trouble: the record is durable, and readers see it after the next append, or
    /// once this writer is gone.
    fn publish(&self, log: Option<LogId>) {
        if let (Some(head), Some(log)) = (self.end.head, log) {
            let _ = self.head.write_at(0, &head::encode(log, head));
        }
    }
}

fn too_large(drafts: &[Draft]) -> Option<usize> {
    drafts
        .iter()
        .map(|draft| frame_len(draft.facts.len(), &draft.texts))
        .find(|length| *length > FRAME_LEN_MAX)
}
