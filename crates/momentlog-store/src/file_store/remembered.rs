//! What a handle remembers is compared with what stands there now, before it is used.
//!
//! Somebody may put a copy of the store back, or overwrite its files, while a handle is open. Its offsets then mean
//! nothing, and what it appends would be in no store. Such a handle refuses everything from then on.

use std::io;

use super::{FileStore, HEAD, Writer, unknown};
use crate::disk::DiskFile;
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

    /// Checks the same after an append behind `before`, before it is acknowledged: what was written stands there, behind
    /// what stood there before.
    pub(super) fn check_written(
        &mut self,
        writer: &mut Writer,
        before: Cursor,
    ) -> Result<(), StoreError> {
        let is_kept = match self.is_kept(writer, before) {
            Ok(true) => self.is_kept(writer, writer.end),
            other => other,
        };
        let error = match is_kept {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let stands = self.stands(before).unwrap_or(false);
                writer.take_back(self.log.zip(before.head).filter(|_| stands));
                self.refuse_from_now_on(before.head)
            }
            Err(error) => unknown(error),
        };
        // The handle goes no further, whatever the reason: nobody knows which store holds what it has written.
        self.poisoned = true;
        writer.end = before;
        Err(error)
    }

    /// Checks that the lock is that of the store at the path, after a file was opened there by its name.
    pub(super) fn check_lock(&mut self, writer: &Writer) -> Result<(), StoreError> {
        if self.is_named(LOCK, writer.lock.as_ref())? {
            Ok(())
        } else {
            Err(self.refuse_from_now_on(writer.end.head))
        }
    }

    /// Whether the files that a writer has open are those at the path, and hold what it has written up to `end`.
    pub(super) fn is_kept(&self, writer: &Writer, end: Cursor) -> Result<bool, StoreError> {
        let mut files = vec![
            (LOCK.to_owned(), &writer.lock),
            (HEAD.to_owned(), &writer.head),
        ];
        if let Some(open) = &writer.segment {
            files.push((segment_name(open.first), &open.file));
        }
        for (name, file) in files {
            if !self.is_named(&name, file.as_ref())? {
                return Ok(false);
            }
        }
        let told = writer.told.as_ref();
        let mut bytes = [0; HEAD_LEN];
        writer
            .head
            .read_at(0, &mut bytes)
            .map_err(StoreError::io("read", self.path(HEAD)))?;
        if told.is_some_and(|told| *told != bytes) {
            return Ok(false);
        }
        match (&writer.segment, end.place(self.log), end.head) {
            // The file was compared with the one at the path right now.
            (Some(open), Some(place), Some(head)) if open.first == place.segment => {
                let found = self.frame_in(open.file.as_ref(), place)?;
                Ok(found.is_some_and(|(found, _)| found == head))
            }
            _ => self.stands(end),
        }
    }

    fn is_named(&self, name: &str, file: &dyn DiskFile) -> Result<bool, StoreError> {
        match self.disk.id_of(name) {
            Ok(id) => Ok(id == file.id().map_err(StoreError::io("read", self.path(name)))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("open", self.path(name))(error)),
        }
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
