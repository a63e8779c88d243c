//! The archive of a store that is no directory: the same files as those of one that is.

use super::archive::{check_mark, mark, prepare, put};
use crate::disk::Disk;
use crate::frame::{Place, encode, frame_len};
use crate::segment::{segment_name, segments};
use crate::store::next_seq;
use crate::{Head, LogId, Record, Seq, StoreError};

/// Most bytes of a segment of more than one record, as in a directory.
const SEGMENT_LEN_MAX: usize = 16 << 20;

/// Writes records into segments that a store in a directory reads as its archive, where
/// [`Retention::archive`](crate::Retention::archive) of a store of one's own moves them; the segments end elsewhere than those
/// of a directory. The same records make the same files, so that it may be done again after it was interrupted.
#[must_use = "nothing is durable before `finish`"]
#[derive(Debug)]
pub struct ArchiveWriter<'a> {
    to: &'a dyn Disk,
    log: LogId,
    last: Head,
    head: Option<Head>,
    segment: Seq,
    bytes: Vec<u8>,
}

impl<'a> ArchiveWriter<'a> {
    /// Begins with the records behind `start`, of which `last` is to be the last one. What was archived before may be there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if `to` is a store, or the archive of another log, or cannot be written.
    pub fn new(
        to: &'a dyn Disk,
        log: LogId,
        start: Option<Head>,
        last: Head,
    ) -> Result<ArchiveWriter<'a>, StoreError> {
        prepare(to)?;
        check_mark(to, log)?;
        if segments(to)?.is_empty() {
            // Before the first segment, so that no program takes it for a store.
            mark(to, log, last)?;
        }
        Ok(ArchiveWriter {
            to,
            log,
            last,
            head: start,
            segment: next_seq(start),
            bytes: Vec::new(),
        })
    }

    /// Adds the next record, whose digest the caller has checked ([`read_checked`](crate::read_checked)).
    ///
    /// # Errors
    ///
    /// [`StoreError::Forked`] if it does not follow the one before; [`StoreError::Io`] if a segment cannot be written.
    pub fn push(&mut self, record: &Record) -> Result<(), StoreError> {
        let previous = self.head.map(|head| head.digest);
        if record.seq != next_seq(self.head) || previous.is_some_and(|it| it != record.previous) {
            return Err(StoreError::Forked { at: record.seq });
        }
        let length = frame_len(record.facts.len(), &record.texts);
        if !self.bytes.is_empty() && self.bytes.len() + length > SEGMENT_LEN_MAX {
            self.write()?;
            self.segment = record.seq;
        }
        let place = Place {
            log: self.log,
            segment: self.segment,
            offset: self.bytes.len() as u64,
        };
        encode(record, place, &mut self.bytes);
        self.head = Some(record.head());
        Ok(())
    }

    /// Writes what is left. The archive is durable when it returns `Ok`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Truncated`] if the last record has not come; [`StoreError::Io`] if it cannot be written.
    pub fn finish(mut self) -> Result<(), StoreError> {
        if self.head != Some(self.last) {
            let (had, end) = (self.last, self.head);
            return Err(StoreError::Truncated { had, end });
        }
        self.write()?;
        mark(self.to, self.log, self.last)
    }

    fn write(&mut self) -> Result<(), StoreError> {
        put(self.to, &segment_name(self.segment), &self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}
