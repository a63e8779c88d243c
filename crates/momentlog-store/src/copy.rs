//! Copying a log from one store to another: the same records, with the same digests.

use std::time::Duration;

use crate::error::Damage;
use crate::{Draft, Head, Receipt, Retention, Seq, Store, StoreError, read_checked};

/// Most records of one append, and how many bytes of frames come before the last of them at most.
const LOT: usize = 1_000;
const LOT_BYTES: usize = 4 << 20;

/// What a copy has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The end of the destination.
    pub end: Receipt,
    /// How many records were appended to it.
    pub records: u64,
}

/// Why a log was not copied, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source has no record.
    #[error("the source has no record yet")]
    Empty,
    /// The destination holds another log. Nothing was written.
    #[error(
        "the destination holds another log: it ends with {destination}, and the source with {source_end}"
    )]
    OtherLog {
        /// The end of the source.
        source_end: Receipt,
        /// The end of the destination.
        destination: Receipt,
    },
    /// The destination holds records that the source does not have. Nothing was written.
    #[error(
        "the destination is ahead: it ends with {destination}, and the source with {source_end}"
    )]
    Ahead {
        /// The end of the source.
        source_end: Receipt,
        /// The end of the destination.
        destination: Receipt,
    },
    /// Source and destination were once the same, and went on in different ways. Nothing was written.
    #[error(
        "the destination is a fork of the source: it ends with {destination}, and the source with {source_end}"
    )]
    Forked {
        /// The end of the source.
        source_end: Receipt,
        /// The end of the destination.
        destination: Receipt,
    },
    /// A store refused or failed. What was appended before stays, and the next copy goes on behind it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Appends to `to` the records of `from` that it lacks, in their order. Each append is durable before more is read, so that a
/// copy that was ended, also by a crash, leaves the beginning of the log, and the next one goes on behind it.
///
/// Digests are those of the source, which are checked, so that receipts stay valid. A directory says in each frame what was
/// durable before it: a copy has that of its own appends. Images are not copied. `wait` is how long each append waits for
/// another writer; `each` is called with the number of every record that is read, and its error ends the copy.
///
/// # Errors
///
/// [`CopyError`]. A source of which records were archived is copied behind its archive, which is a log of its own;
/// otherwise it is [`StoreError::Archived`].
pub fn copy(
    from: &mut dyn Store,
    to: &mut dyn Store,
    wait: Duration,
    each: &mut dyn FnMut(Seq) -> Result<(), StoreError>,
) -> Result<Copied, CopyError> {
    let source = end_of(from)?.ok_or(CopyError::Empty)?;
    let begin = match end_of(to) {
        // Of a directory; the first append makes it.
        Err(StoreError::Missing { .. }) => None,
        found => found?,
    };
    if let Some(destination) = begin {
        check_begin(from, to, source, destination)?;
    }
    let mut lot = Lot {
        to,
        wait,
        end: begin.unwrap_or(source),
        begin: begin.map(|begin| begin.head),
        drafts: Vec::new(),
        bytes: 0,
        records: 0,
    };
    read_checked(from, Some(source.log), lot.begin, &mut |record| {
        each(record.seq)?;
        lot.end.head = record.head();
        lot.drafts.push(Draft {
            facts: record.facts,
            texts: record.texts,
        });
        lot.append_if_full()
    })?;
    lot.append()?;
    Ok(Copied {
        end: lot.end,
        records: lot.records,
    })
}

/// Records on their way to the destination.
struct Lot<'a> {
    to: &'a mut dyn Store,
    wait: Duration,
    /// The end of the destination with these records.
    end: Receipt,
    /// The end without them.
    begin: Option<Head>,
    drafts: Vec<Draft>,
    bytes: usize,
    /// How many were appended before these.
    records: u64,
}

impl Lot<'_> {
    fn append_if_full(&mut self) -> Result<(), StoreError> {
        self.bytes += self.drafts.last().map_or(0, Draft::frame_len);
        if self.drafts.len() < LOT && self.bytes < LOT_BYTES {
            return Ok(());
        }
        self.append()
    }

    fn append(&mut self) -> Result<(), StoreError> {
        if self.drafts.is_empty() {
            return Ok(());
        }
        let end = self.end.head;
        self.to.acquire(self.wait)?;
        let drafts = std::mem::take(&mut self.drafts);
        self.records += drafts.len() as u64;
        let appended = self.to.append(self.end.log, self.begin, drafts)?;
        if appended.last().map(crate::Record::head) != Some(end) {
            let why = Damage::Digest;
            return Err(StoreError::Untrue { seq: end.seq, why });
        }
        (self.begin, self.bytes) = (Some(end), 0);
        Ok(())
    }
}

/// Others may write again, whatever the copy came to.
impl Drop for Lot<'_> {
    fn drop(&mut self) {
        self.to.release();
    }
}

/// Checks that the source goes on behind the end of the destination.
fn check_begin<'a>(
    from: &'a mut dyn Store,
    to: &'a mut dyn Store,
    source_end: Receipt,
    destination: Receipt,
) -> Result<(), CopyError> {
    if source_end.log != destination.log {
        return Err(CopyError::OtherLog {
            source_end,
            destination,
        });
    }
    let is_ahead = destination.head.seq > source_end.head.seq;
    let (longer, shorter) = if is_ahead {
        (to, source_end.head)
    } else {
        (from, destination.head)
    };
    match head_at(longer, shorter.seq)? {
        Some(found) if found != shorter => Err(CopyError::Forked {
            source_end,
            destination,
        }),
        _ if is_ahead => Err(CopyError::Ahead {
            source_end,
            destination,
        }),
        // One that was archived is refused where it is read.
        _ => Ok(()),
    }
}

/// Returns the last record of a store; `None` if it has none.
fn end_of(store: &mut dyn Store) -> Result<Option<Receipt>, StoreError> {
    let last = store.last_where(&mut |_| true)?;
    let both = store.log_id().zip(last);
    Ok(both.map(|(log, last)| Receipt {
        log,
        head: last.head(),
    }))
}

/// Returns the record `seq` of a store, also if it is the last one that was archived; `None` if it is not known here.
fn head_at(store: &mut dyn Store, seq: Seq) -> Result<Option<Head>, StoreError> {
    let start = store.retention().map_or(Ok(None), Retention::start)?;
    if let Some(start) = start.filter(|start| start.seq == seq) {
        return Ok(Some(start));
    }
    Ok(store.record(seq)?.map(|record| record.head()))
}
