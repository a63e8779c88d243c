//! What a handle remembers is compared with what stands there now, before it is used.
//!
//! A user may put a copy of the store back, or overwrite its files, while a handle is open. Its offsets then mean
//! nothing, and what it appends would be in no store. Such a handle refuses everything from then on.

use std::io;

use super::opened::{OpenSegment, Opened};
use super::{FileStore, HEAD, Writer, unknown};
use crate::disk::{Disk, DiskFile, FileId};
use crate::head::{HEAD_LEN, HEAD_MAGIC, Mark};
use crate::lock::LOCK;
use crate::segment::{Cursor, segment_name};
use crate::{Head, LogId, StoreError};

impl FileStore {
    /// Checks that the store at the path is the one that this handle has read or writes; returns what `start` says.
    pub(super) fn check_place(&mut self) -> Result<Option<(LogId, Head)>, StoreError> {
        if let Some((had, found)) = self.replaced {
            return Err(self.replaced(had, found));
        }
        if let Some(writer) = self.writer.take() {
            let kept = self.check_kept(&writer, writer.end);
            self.writer = Some(writer);
            kept?;
            return self.read_start();
        }
        let mut start = self.read_start()?;
        loop {
            if self.is_where_it_was(start)? {
                return Ok(start);
            }
            // What is gone may have been moved to an archive since `start` was read.
            let before = std::mem::replace(&mut start, self.read_start()?);
            if before == start {
                return Err(self.refuse_from_now_on(self.cursor.head));
            }
        }
    }

    /// Checks, as the writer, that what it writes is in the store that others open.
    pub(super) fn check_kept(&mut self, writer: &Writer, end: Cursor) -> Result<(), StoreError> {
        if self.is_kept(writer, end)? {
            Ok(())
        } else {
            Err(self.refuse_from_now_on(end.head))
        }
    }

    /// Checks, before an append, that the files which the writer has open hold what it has written. Files that are no longer
    /// those at the path are harmless to write, so of the names that of the lock is enough here; the others are compared
    /// before the answer.
    pub(super) fn check_before_write(&mut self, writer: &Writer) -> Result<(), StoreError> {
        let remembers = |open: &OpenSegment| open.remembers_up_to(writer.end.offset);
        let is_kept = match &writer.segment {
            Some(open) if open.first == writer.end.segment && remembers(open) => {
                self.is_named(LOCK, &writer.lock)? && self.holds(writer, writer.end)?
            }
            _ => self.is_kept(writer, writer.end)?,
        };
        if is_kept {
            Ok(())
        } else {
            Err(self.refuse_from_now_on(writer.end.head))
        }
    }

    /// Publishes an append behind `before`, and checks that it may be acknowledged: what was written stands, behind what
    /// stood there before, in the store that others open.
    pub(super) fn check_written(
        &mut self,
        writer: &mut Writer,
        before: Cursor,
    ) -> Result<(), StoreError> {
        let error = match self.publish_and_look(writer, before) {
            Ok(true) => {
                if let (Some(open), Some((_, offset))) = (&mut writer.segment, writer.end.last) {
                    open.forget_before(offset);
                }
                return Ok(());
            }
            Ok(false) => {
                let stands = self.stands(before).unwrap_or(false);
                writer.take_back(self.log.zip(before.head).filter(|_| stands));
                self.refuse_from_now_on(before.head)
            }
            Err(error) => unknown(error),
        };
        // The handle goes no further, whatever the reason: it is unknown which store holds what it has written.
        self.poisoned = true;
        writer.end = before;
        Err(error)
    }

    fn publish_and_look(&self, writer: &mut Writer, before: Cursor) -> Result<bool, StoreError> {
        // What is in `head` is looked at before it is written, and everything else after that, so that no call to the disk
        // comes between the last look and the answer.
        let is_as_left = match writer.told {
            Some(_) => self.is_told(writer)?,
            // The last writing of `head` failed, so what it says tells nothing; the other files do.
            None => self.is_kept(writer, writer.end)?,
        };
        if !is_as_left {
            return Ok(false);
        }
        writer.publish(self.log);
        let has_before = match &writer.segment {
            Some(open) if open.first == before.segment => open.remembers_before(before.offset),
            _ => false,
        };
        Ok((has_before || self.frame_stands(writer, before)?)
            && self.are_named(writer)?
            && self.frame_stands(writer, writer.end)?)
    }

    /// Checks that the lock is that of the store at the path, after a file was opened there by its name, and before one is
    /// changed by its name.
    pub(super) fn check_lock(
        &mut self,
        lock: &Opened,
        had: Option<Head>,
    ) -> Result<(), StoreError> {
        if self.is_named(LOCK, lock)? {
            Ok(())
        } else {
            Err(self.refuse_from_now_on(had))
        }
    }

    /// As [`check_lock`](Self::check_lock), of the lock that this handle holds as the writer.
    pub(super) fn check_own_lock(&mut self) -> Result<(), StoreError> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let checked = self.check_lock(&writer.lock, writer.end.head);
        self.writer = Some(writer);
        checked
    }

    /// Checks that this handle may do anything at all.
    pub(super) fn check_usable(&self) -> Result<(), StoreError> {
        match self.replaced {
            Some((had, found)) => Err(self.replaced(had, found)),
            None if self.poisoned => Err(StoreError::Poisoned {
                path: self.disk.path().into(),
            }),
            None => Ok(()),
        }
    }

    /// Returns the file that was opened by this name together with which one it is.
    pub(super) fn opened(&self, name: &str, file: Box<dyn DiskFile>) -> Result<Opened, StoreError> {
        Opened::new(file).map_err(StoreError::io("read", self.path(name)))
    }

    /// Whether the files that a writer has open are those at the path, and hold what it has written up to `end`.
    pub(super) fn is_kept(&self, writer: &Writer, end: Cursor) -> Result<bool, StoreError> {
        Ok(self.are_named(writer)? && self.holds(writer, end)?)
    }

    /// Whether the files that a writer has open are those at the path.
    fn are_named(&self, writer: &Writer) -> Result<bool, StoreError> {
        let segment = match &writer.segment {
            Some(open) => self.is_named(&segment_name(open.first), &open.file)?,
            None => true,
        };
        Ok(segment && self.is_named(HEAD, &writer.head)? && self.is_named(LOCK, &writer.lock)?)
    }

    /// Whether the files hold what a writer has written, up to `end`.
    fn holds(&self, writer: &Writer, end: Cursor) -> Result<bool, StoreError> {
        Ok(self.is_told(writer)? && self.frame_stands(writer, end)?)
    }

    /// Whether `head` says what a writer has published last.
    fn is_told(&self, writer: &Writer) -> Result<bool, StoreError> {
        let Some(told) = &writer.told else {
            return Ok(true);
        };
        let mut bytes = [0; HEAD_LEN];
        writer
            .head
            .read_at(0, &mut bytes)
            .map_err(StoreError::io("read", self.path(HEAD)))?;
        Ok(bytes == *told)
    }

    /// Whether the record before `end` stands: byte for byte, where the writer remembers them, and else by its digest.
    fn frame_stands(&self, writer: &Writer, end: Cursor) -> Result<bool, StoreError> {
        match (&writer.segment, end.place(self.log), end.head) {
            (Some(open), ..) if open.first == end.segment && open.remembers_up_to(end.offset) => {
                let path = self.path(&segment_name(open.first));
                open.stands().map_err(StoreError::io("read", path))
            }
            (Some(open), Some(place), Some(head)) if open.first == place.segment => {
                let found = self.frame_in(&*open.file, place)?;
                Ok(found.is_some_and(|(found, _)| found == head))
            }
            _ => self.stands(end),
        }
    }

    fn is_named(&self, name: &str, file: &Opened) -> Result<bool, StoreError> {
        is_named(self.disk.as_ref(), name, file.id)
    }

    /// Whether the record before the cursor is where this handle has read it, or was moved to an archive: then nothing is
    /// remembered any more.
    fn is_where_it_was(&mut self, start: Option<(LogId, Head)>) -> Result<bool, StoreError> {
        let Some(had) = self.cursor.head else {
            return Ok(true);
        };
        if let Some((log, start)) = start {
            if Some(log) != self.log {
                return Ok(false);
            }
            if had.seq < start.seq {
                self.cursor = Cursor::START;
                self.of_image = None;
                return Ok(true);
            }
            if had.seq == start.seq {
                self.cursor = Cursor::behind(had);
                return Ok(had == start);
            }
        }
        Ok(self.cursor.last.is_some() && self.stands(self.cursor)?)
    }

    /// Whether the frame before the cursor stands where the cursor says. Where that is not known, there is none.
    pub(super) fn stands(&self, cursor: Cursor) -> Result<bool, StoreError> {
        let (Some(head), Some(place)) = (cursor.head, cursor.place(self.log)) else {
            return Ok(true);
        };
        let found = self.frame_at(place)?;
        Ok(found.is_some_and(|(found, _)| found == head))
    }

    fn refuse_from_now_on(&mut self, had: Option<Head>) -> StoreError {
        let found = match self.mark(HEAD, HEAD_MAGIC) {
            Ok(Mark::At(_, standing)) => Some(standing),
            _ => None,
        };
        self.replaced = Some((had, found));
        self.replaced(had, found)
    }

    fn replaced(&self, had: Option<Head>, found: Option<Head>) -> StoreError {
        StoreError::Replaced {
            path: self.disk.path().into(),
            had,
            found,
        }
    }
}

/// Whether the file of this name is the one with this id.
pub(super) fn is_named(disk: &dyn Disk, name: &str, id: FileId) -> Result<bool, StoreError> {
    match disk.id_of(name) {
        Ok(found) => Ok(found == id),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("open", disk.path_of(name))(error)),
    }
}
