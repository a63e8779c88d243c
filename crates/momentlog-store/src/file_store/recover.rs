//! Finding the end of the log: what is durable, what an interrupted write left, and what is damage.

use std::io;

use super::opened::Opened;
use super::{FileStore, HEAD, START};
use crate::disk::Access;
use crate::error::Damage;
use crate::frame;
use crate::head::{self, HEAD_LEN, HEAD_MAGIC, Mark, START_MAGIC};
use crate::lock;
use crate::segment::{Cursor, FrameReader, Next, segment_name, segments};
use crate::store::next_seq;
use crate::{Head, LogId, Seq, StoreError, TornTail};

impl FileStore {
    /// What the lock says of other handles, here or in another process.
    pub(super) fn lock_status(&self) -> Result<lock::Status, StoreError> {
        match self.writer {
            Some(_) => Ok(lock::Status::default()),
            None => lock::status(self.disk.as_ref()),
        }
    }

    /// What `head` says; nothing if it is missing, or being written at this moment.
    pub(super) fn published(&mut self) -> Result<Option<(LogId, Head)>, StoreError> {
        self.torn.head = false;
        // A torn read of a head that is being written does not pass its checksum; the next try does.
        for _ in 0..8 {
            match self.mark(HEAD, HEAD_MAGIC)? {
                Mark::At(log, head) => return Ok(Some((log, head))),
                Mark::None => return Ok(None),
                Mark::NewerFormat(found) => {
                    let path = self.path(HEAD).into();
                    return Err(StoreError::NewerFormat { path, found });
                }
                Mark::Torn => std::thread::yield_now(),
            }
        }
        self.torn.head = true;
        Ok(None)
    }

    /// The record after which the log begins here, if those up to it were moved to an archive.
    pub(super) fn read_start(&self) -> Result<Option<(LogId, Head)>, StoreError> {
        let path = self.path(START).into();
        match self.mark(START, START_MAGIC)? {
            Mark::At(log, head) => Ok(Some((log, head))),
            Mark::None => Ok(None),
            Mark::NewerFormat(found) => Err(StoreError::NewerFormat { path, found }),
            // Unlike `head`, it is never written in place.
            Mark::Torn => Err(StoreError::Damaged {
                path,
                offset: 0,
                seq: Seq::FIRST,
                why: Damage::Start,
            }),
        }
    }

    pub(super) fn mark(&self, name: &str, magic: [u8; 8]) -> Result<Mark, StoreError> {
        let path = || self.path(name);
        let file = match self.disk.open(name, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Mark::None),
            opened => opened.map_err(StoreError::io("open", path()))?,
        };
        // One byte more, so that a file that is too long does not pass.
        let mut bytes = [0; HEAD_LEN + 1];
        let length = file
            .read_at(0, &mut bytes)
            .map_err(StoreError::io("read", path()))?;
        Ok(head::decode(magic, &bytes[..length]))
    }

    /// Syncs all that may have been written but not synced: the segments from `first` on.
    pub(super) fn sync_from(&self, first: Seq) -> Result<(), StoreError> {
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

    /// Scans from the cursor to the end of the log, cuts a torn tail, and makes durable what it found.
    ///
    /// What it changes it opens by name, which may be another store's by then: so it looks at the lock, which it holds,
    /// after it has opened a file and before it writes there, and before it removes one.
    pub(super) fn recover(&mut self, lock: &Opened) -> Result<(Cursor, u32), StoreError> {
        let published = self.published()?;
        let disk = self.disk.clone();
        let start = self.read_start()?;
        if let Some((log, head)) = start {
            self.log = self.log.or(Some(log));
            if self.cursor.head.is_none() {
                self.cursor = Cursor::behind(head);
            }
        }
        self.remove_leftovers(lock, start.map(|(_, head)| head))?;
        let mut reader = FrameReader::new(
            disk.as_ref(),
            self.log,
            self.cursor,
            self.segment_len_most(),
        )?;
        // Where the records stand of which nothing says that they were synced.
        let mut unsettled = Vec::new();
        let mut durable = published.map(|(_, head)| head.seq);
        let bad = loop {
            match reader.next()? {
                Next::Record(record) => {
                    unsettled.extend(reader.cursor.last.map(|place| (record.seq, place)));
                    durable = durable.max(record.durable);
                    unsettled.retain(|(seq, _)| Some(*seq) > durable);
                }
                Next::End => break None,
                Next::Bad(damage) => break Some(damage),
            }
        };
        let end = reader.cursor;
        self.log = reader.log();
        if let Some(torn) = self.judge(&mut reader, end, bad, published)? {
            self.cut(lock, end)?;
            let (path, offset, seq) = (torn.path.display(), torn.offset, torn.seq);
            tracing::warn!(%path, offset, %seq, "cut what an interrupted write had left");
            self.torn.tail = Some(torn);
        }
        match unsettled.first() {
            Some((_, (segment, offset))) => self.write_again(lock, *segment, *offset)?,
            None => self.sync_from(end.segment)?,
        }
        // The last segment may have been created and not reached the directory.
        self.disk
            .sync_dir()
            .map_err(StoreError::io("sync", self.disk.path()))?;
        let count = u32::try_from(segments(disk.as_ref())?.len()).unwrap_or(u32::MAX);
        Ok((end, count))
    }

    /// Writes what stands from this offset of this segment on once more, and syncs it.
    ///
    /// After a sync that failed, the kernel takes its copy of the bytes for written although the disk never got them,
    /// and another sync says that all is well. Bytes that are written again are not taken for written.
    fn write_again(&mut self, lock: &Opened, first: Seq, offset: u64) -> Result<(), StoreError> {
        for segment in segments(self.disk.as_ref())? {
            if segment < first {
                continue;
            }
            let from = if segment == first { offset } else { 0 };
            let name = segment_name(segment);
            let path = self.path(&name);
            let file = self
                .disk
                .open(&name, Access::Write)
                .map_err(StoreError::io("open", &path))?;
            self.check_lock(lock, self.cursor.head)?;
            let length = file.length().map_err(StoreError::io("read", &path))?;
            let mut bytes = vec![0; usize::try_from(length.saturating_sub(from)).unwrap_or(0)];
            let read = file
                .read_at(from, &mut bytes)
                .map_err(StoreError::io("read", &path))?;
            file.write_at(from, &bytes[..read])
                .map_err(StoreError::io("write", &path))?;
            file.sync().map_err(StoreError::io("sync", &path))?;
        }
        Ok(())
    }

    /// Says what it means that no record stands at `end`: the end, a torn tail, or damage.
    pub(super) fn judge(
        &self,
        reader: &mut FrameReader<'_>,
        end: Cursor,
        bad: Option<Damage>,
        published: Option<(LogId, Head)>,
    ) -> Result<Option<TornTail>, StoreError> {
        let seq = next_seq(end.head);
        let path = self.path(&segment_name(end.segment));
        let damaged = |why| StoreError::Damaged {
            path: path.clone().into(),
            offset: end.offset,
            seq,
            why,
        };
        if let Some((log, head)) = published {
            if head.seq >= seq {
                return Err(damaged(bad.unwrap_or(Damage::Truncated { head: head.seq })));
            }
            if self.log.is_some_and(|own| own != log) {
                let path = self.path(HEAD).into();
                let why = Damage::OtherLog { found: log };
                return Err(StoreError::Damaged {
                    path,
                    offset: 0,
                    seq: head.seq,
                    why,
                });
            }
            if let Some(last) = end.head
                && head.seq == last.seq
                && head.digest != last.digest
            {
                return Err(damaged(Damage::Chain));
            }
        }
        match bad {
            None => Ok(None),
            // Found by its length, and never read.
            Some(why @ Damage::Oversized { .. }) => Err(damaged(why)),
            Some(why) if reader.proves_durable(seq)? => Err(damaged(why)),
            Some(_) => Ok(Some(TornTail {
                path,
                offset: end.offset,
                seq,
            })),
        }
    }

    /// Overwrites what follows `end` with zeros, and removes later segments.
    fn cut(&mut self, lock: &Opened, end: Cursor) -> Result<(), StoreError> {
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
                self.check_lock(lock, end.head)?;
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
            self.check_lock(lock, end.head)?;
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

    /// Returns a cursor from which the record after `after` is found without reading the whole log. Unless it is right
    /// behind `after`, that record is read as well, so that it can be compared.
    pub(super) fn cursor_before(
        &self,
        after: Option<Head>,
        start: Option<Head>,
    ) -> Result<Cursor, StoreError> {
        if after == self.cursor.head {
            return Ok(self.cursor);
        }
        let Some(after) = after else {
            return Ok(Cursor::START);
        };
        if start == Some(after) {
            return Ok(Cursor::behind(after));
        }
        let of_image = self.of_image.filter(|cursor| cursor.head == Some(after));
        if let Some(cursor) = of_image
            && cursor.last.is_some()
            && self.stands(cursor)?
        {
            return Ok(cursor);
        }
        let first = segments(self.disk.as_ref())?
            .into_iter()
            .rev()
            .find(|first| *first <= after.seq);
        let begin = start.map_or(Cursor::START, Cursor::behind);
        match first {
            None => Ok(begin),
            Some(first) if first == begin.segment => Ok(begin),
            Some(first) => {
                let name = segment_name(first);
                let mut bytes = [0; frame::HEADER_LEN];
                let file = self
                    .disk
                    .open(&name, Access::Read)
                    .map_err(StoreError::io("open", self.path(&name)))?;
                file.read_at(0, &mut bytes)
                    .map_err(StoreError::io("read", self.path(&name)))?;
                let before = frame::decode_header(&bytes).ok().and_then(|header| {
                    let seq = Seq::new(first.get() - 1)?;
                    let digest = header.previous;
                    Some(Head { seq, digest })
                });
                Ok(before.map_or(begin, Cursor::behind))
            }
        }
    }
}
