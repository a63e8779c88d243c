//! The seam above the log: what every kind of store can do, and one that lives in memory.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::outline::{last_by_scanning, scan_by_reading};
use crate::{Disk, Draft, Head, LogId, Outline, Record, Seq, StoreError};

/// An append-only sequence of records: conditional append and ordered read, nothing else.
///
/// A directory of files, a table with a unique key, or a replicated stream can all do this natively. Images and archives are
/// [`Retention`], which most stores do without. `store_suite` of `momentlog-proptests` checks an implementation.
pub trait Store: std::fmt::Debug + Send {
    /// The log's id, which never changes; `None` as long as there is no record, or none was read.
    fn log_id(&self) -> Option<LogId>;

    /// The last record that is known here to be durable: for the writer the end of the log, otherwise what was read last.
    fn head(&self) -> Option<Head>;

    /// Appends records after `expected`, which must be the end of the log, and returns them. Durable when it returns `Ok`.
    ///
    /// The first append of an empty log gives the log its id; afterwards `log` is the id that it has. No drafts append nothing,
    /// after the end was compared. The records are made with [`Record::new`], each after the one before; with what is durable
    /// before the append, or with `None` where the store does not say. The caller has called [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`], [`StoreError::TooLarge`] and [`StoreError::Poisoned`]: nothing was written.
    /// [`StoreError::Unknown`]: it may or may not be there.
    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError>;

    /// Calls `each` with the records after `after`, in order, up to the durable end.
    ///
    /// The record that `after` names is compared with the one that stands there, where the store can do so; the engine
    /// above checks of every store that the first record given out continues `after`, that each continues the one before,
    /// and, unless the store [`verifies`](Self::verifies), that its digest is that of what it holds. A log without records
    /// gives out none; one that does not exist yet may be [`StoreError::Missing`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Forked`] if another record stands where `after` does; [`StoreError::Truncated`] if the log ends
    /// before; [`StoreError::Archived`] if records behind `after` were moved to an archive; what the store cannot read,
    /// after it has given what comes before; or whatever `each` returns.
    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Calls `each` with the outlines of the records after `after`, in order, up to the durable end or until it breaks: the
    /// same records as [`read`](Self::read) gives out. A store that reads facts sooner than whole records does so here; the
    /// digests of the records are not recomputed then, nor is the chain between them.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read). Where it was broken off, what comes later is not looked at.
    fn scan(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(&Outline<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        scan_by_reading(self, after, each)
    }

    /// Returns the last record for which `holds` is true, if it is true for all before that and for none behind it; `None` if
    /// it is true for none that is not archived. A store that can do so asks it of a few records only.
    ///
    /// # Errors
    ///
    /// What the store cannot read of those that it looks at.
    fn last_where(
        &mut self,
        holds: &mut dyn FnMut(&Outline<'_>) -> bool,
    ) -> Result<Option<Record>, StoreError> {
        last_by_scanning(self, holds)
    }

    /// Returns the record `seq`; `None` if the log ends before it, or it was moved to an archive.
    ///
    /// # Errors
    ///
    /// What the store cannot read of those that it looks at.
    fn record(&mut self, seq: Seq) -> Result<Option<Record>, StoreError> {
        let found = self.last_where(&mut |outline| outline.seq <= seq)?;
        Ok(found.filter(|found| found.seq == seq))
    }

    /// Whether the store itself recomputes the digest of every record that it gives out. If not, the reader does.
    fn verifies(&self) -> bool {
        false
    }

    /// Makes this handle the writer, so that no other handle appends until [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if another writer is still there after `wait`.
    fn acquire(&mut self, wait: std::time::Duration) -> Result<(), StoreError>;

    /// Waits until what this handle has read is as durable as an append: the engine does so before it repeats the answer to a
    /// request whose record another handle may have appended. A store where all that can be read is durable does nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] if what was read may be lost.
    fn confirm(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Lets others write again. On a handle that is no writer, it changes nothing.
    fn release(&mut self);

    /// Whether this handle is the writer, so that no other handle can have appended.
    fn is_exclusive(&self) -> bool;

    /// Whether a handle that is the writer stays it after an append. Where it does not, each append ends its turn, so that
    /// writers on many machines take turns. The threads of one process share a turn, and its append.
    fn stays_writer(&self) -> bool {
        true
    }

    /// Returns another handle of the same store, for reading beside this one; `None` if it has no other. The engine reads
    /// the history with it, so that no writer waits for a reader.
    fn reader(&self) -> Option<Box<dyn Store>> {
        None
    }

    /// Calls `news` from now on whenever the store learns by itself that another handle may have appended, until what it
    /// returns is dropped; a call too many does no harm. Returns what says whether it learns of that at present: then a reader
    /// that waits need not look at the store again and again. `None` from a store that never does.
    fn watch(&mut self, news: Box<dyn Fn() + Send + Sync>) -> Option<Arc<AtomicBool>> {
        let _ = news;
        None
    }

    /// What an interrupted write has left, as the last read or [`acquire`](Self::acquire) found it. A store whose appends are
    /// whole or not at all has no such thing.
    fn torn(&self) -> Torn {
        Torn::default()
    }

    /// What the store keeps beside its records, if it keeps such things: images, and an archive.
    fn retention(&mut self) -> Option<&mut dyn Retention> {
        None
    }
}

/// What an interrupted write has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Torn {
    /// Bytes after the last record.
    pub tail: Option<TornTail>,
    /// Whether what says how far the log is durable says nothing: its writing was interrupted, or it is damaged.
    pub head: bool,
}

/// Bytes after the last record that an interrupted write left. No caller has an answer that they are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub path: std::path::PathBuf,
    /// Where the whole records end.
    pub offset: u64,
    /// The record that was being written.
    pub seq: Seq,
}

/// What a store may keep beside its records: images, from which a log is opened sooner, and an archive, behind which it
/// begins later. A store without it is read from its first record, and holds them all.
pub trait Retention {
    /// The record after which the log begins here, if those up to it were archived; `None` for a whole log.
    ///
    /// # Errors
    ///
    /// What the store cannot read.
    fn start(&mut self) -> Result<Option<Head>, StoreError>;

    /// Returns the newest image at or before `most` that agrees with the log. One that does not is passed over.
    ///
    /// # Errors
    ///
    /// What the store cannot read; that an image is damaged is no error.
    fn latest_image(&mut self, most: Option<Seq>) -> Result<Option<(Head, Vec<u8>)>, StoreError>;

    /// The records of which images are kept, ascending; also of those that [`latest_image`](Self::latest_image) passes over.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`], or what the store says.
    fn images(&mut self) -> Result<Vec<Seq>, StoreError>;

    /// Returns what keeps an image of the log as it is now. The caller is the writer, and stays it until the image is
    /// written; it may append meanwhile.
    ///
    /// # Errors
    ///
    /// What the store cannot read.
    fn image_writer(&mut self) -> Result<ImageWriter, StoreError>;

    /// Appends `bridge` after `expected`, and moves all records before it to `to`. The caller is the writer, and has put
    /// an image at `expected`, with which the log begins from then on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsupported`] by stores that have images and no archive. Otherwise the bridge may be recorded, but no
    /// record is lost: those that are not in the archive are still in the log.
    fn archive(
        &mut self,
        expected: Head,
        bridge: Draft,
        to: &dyn Disk,
    ) -> Result<Record, StoreError>;
}

/// Writes the body of an image, and returns the record that it is of. On an error, the log is as it was.
pub type ImageWriter = Box<dyn FnOnce(&[u8]) -> Result<Head, StoreError> + Send>;

/// A store that is gone with its handle.
#[derive(Debug, Default)]
pub struct MemoryStore {
    log: Option<LogId>,
    /// The record behind which it begins; none for a whole log.
    begin: Option<Head>,
    records: Vec<Record>,
}

impl MemoryStore {
    /// Returns an empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Returns a store that goes on behind a record of a log, and holds neither that record nor those before it.
    pub fn going_on(log: LogId, begin: Head) -> MemoryStore {
        MemoryStore {
            log: Some(log),
            begin: Some(begin),
            records: Vec::new(),
        }
    }
}

impl Store for MemoryStore {
    fn log_id(&self) -> Option<LogId> {
        self.log
    }

    fn head(&self) -> Option<Head> {
        self.records.last().map(Record::head).or(self.begin)
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        let found = self.head();
        if found != expected {
            return Err(StoreError::Conflict { expected, found });
        }
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let log = *self.log.get_or_insert(log);
        let first = self.records.len();
        let durable = found.map(|head| head.seq);
        for draft in drafts {
            self.records
                .push(Record::new(log, self.head(), durable, draft));
        }
        Ok(self.records[first..].to_vec())
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.behind(after)?.iter().cloned().try_for_each(each)
    }

    fn scan(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(&Outline<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let records = self.behind(after)?;
        let _ = records
            .iter()
            .try_for_each(|record| each(&outline(record, &|| Ok(record.clone()))));
        Ok(())
    }

    fn last_where(
        &mut self,
        holds: &mut dyn FnMut(&Outline<'_>) -> bool,
    ) -> Result<Option<Record>, StoreError> {
        let records = &self.records;
        let held =
            records.partition_point(|record| holds(&outline(record, &|| Ok(record.clone()))));
        Ok(held.checked_sub(1).map(|last| records[last].clone()))
    }

    fn verifies(&self) -> bool {
        // No other handle has them.
        true
    }

    fn acquire(&mut self, _wait: std::time::Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn release(&mut self) {}

    fn is_exclusive(&self) -> bool {
        true
    }
}

impl MemoryStore {
    /// Returns the records after `after`.
    fn behind(&self, after: Option<Head>) -> Result<&[Record], StoreError> {
        let Some(had) = after else {
            return match self.begin {
                None => Ok(&self.records),
                Some(_) => Err(BEFORE),
            };
        };
        let begin = self.begin.map_or(0, |begin| begin.seq.get());
        let from = had.seq.get().checked_sub(begin).ok_or(BEFORE)?;
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let found = match from.checked_sub(1) {
            None => self.begin,
            Some(last) => self.records.get(last).map(Record::head),
        };
        match found {
            Some(found) if found == had => Ok(&self.records[from..]),
            Some(_) => Err(StoreError::Forked { at: had.seq }),
            None => {
                let end = self.head();
                Err(StoreError::Truncated { had, end })
            }
        }
    }
}

/// What lies before a store that goes on behind a record is not in it.
const BEFORE: StoreError = StoreError::Unsupported {
    doing: "read what was before its first record",
};

fn outline<'a>(
    record: &'a Record,
    read: &'a dyn Fn() -> Result<Record, StoreError>,
) -> Outline<'a> {
    Outline::new(record.seq, &record.facts, read)
}

/// Returns the seq that follows a head, or the first one.
pub(crate) fn next_seq(head: Option<Head>) -> Seq {
    Seq::after(head.map(|head| head.seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft {
            facts: b"facts".to_vec(),
            texts: vec![],
        }
    }

    #[test]
    fn a_store_that_goes_on_holds_what_comes_behind_and_nothing_before() {
        let log = LogId([7; 16]);
        let mut whole = MemoryStore::new();
        let begin = whole.append(log, None, vec![draft(), draft()]).unwrap()[1].head();
        let mut store = MemoryStore::going_on(log, begin);
        assert_eq!((store.log_id(), store.head()), (Some(log), Some(begin)));
        let next = store.append(log, Some(begin), vec![draft()]).unwrap()[0].head();
        let same = whole.append(log, Some(begin), vec![draft()]).unwrap()[0].head();
        assert_eq!(next, same);
        let mut read = |after| {
            let mut seqs = Vec::new();
            let done = store.read(after, &mut |record| {
                seqs.push(record.seq.get());
                Ok(())
            });
            done.map(|()| seqs)
        };
        assert_eq!(read(Some(begin)).unwrap(), [3]);
        assert!(read(Some(next)).unwrap().is_empty());
        let other = Head {
            seq: begin.seq,
            digest: next.digest,
        };
        assert!(matches!(read(Some(other)), Err(StoreError::Forked { .. })));
        let first = Head {
            seq: Seq::FIRST,
            ..begin
        };
        for before in [None, Some(first)] {
            assert!(matches!(read(before), Err(StoreError::Unsupported { .. })));
        }
    }
}
