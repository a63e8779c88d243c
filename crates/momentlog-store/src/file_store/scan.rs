//! Reading the log while others write it, archive it, or put another in its place.

use std::collections::VecDeque;

use super::FileStore;
use crate::error::StoreError;
use crate::lock;
use crate::segment::{Cursor, FrameReader, Next, check_directory};
use crate::store::next_seq;
use crate::{Head, LogId, Record, Seq, TornTail};

/// How often reading begins again because a writer has archived what was being read.
const OVERTAKEN_MAX: usize = 16;

/// What one look at the log found.
struct Scan {
    /// What `head` said before it.
    published: Option<(LogId, Head)>,
    /// A torn tail, or damage.
    judged: Result<Option<TornTail>, StoreError>,
}

impl FileStore {
    /// Gives out what there is behind `after`, up to the durable end.
    pub(super) fn read_on(
        &mut self,
        mut after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut published = None;
        let mut overtaken = 0;
        loop {
            check_directory(self.disk.as_ref())?;
            let start = self.check_place()?;
            let mut given = after;
            let mut refused = false;
            let scanned = self.scan(after, start, &mut |record| {
                let head = record.head();
                each(record).inspect_err(|_| refused = true)?;
                given = Some(head);
                Ok(())
            });
            after = given;
            let scan = match scanned {
                Ok(None) => return Ok(()),
                Ok(Some(scan)) => Ok(scan),
                Err(error) if refused => return Err(error),
                Err(error) => Err(error),
            };
            let is_sound = matches!(&scan, Ok(scan) if matches!(scan.judged, Ok(None)));
            // What is missing may have been moved to an archive since.
            if !is_sound && overtaken < OVERTAKEN_MAX && self.read_start()? != start {
                overtaken += 1;
                published = None;
                continue;
            }
            let scan = scan?;
            // What looks torn or damaged may only be old: a writer may have come and gone while it was read. It counts if
            // a second look finds the same, and no writer has published anything in between.
            if is_sound || published == Some(scan.published) {
                let torn = scan.judged?;
                if self.writer.is_none() {
                    self.torn.tail = torn;
                }
                return Ok(());
            }
            published = Some(scan.published);
        }
    }

    /// Gives out what there is behind `after`, once, and says how the log ends; nothing if a writer is
    /// writing there.
    fn scan(
        &mut self,
        after: Option<Head>,
        start: Option<(LogId, Head)>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<Option<Scan>, StoreError> {
        let disk = self.disk.clone();
        let published = self.published()?;
        if let Some((log, start)) = start {
            self.log = self.log.or(Some(log));
            if after.is_none_or(|after| after.seq < start.seq) {
                let path = disk.path().into();
                return Err(StoreError::Archived { path, start });
            }
        }
        let cursor = self.cursor_before(after, start.map(|(_, start)| start))?;
        let mut reader =
            FrameReader::new(disk.as_ref(), self.log, cursor, self.segment_len_most())?;
        if reader.is_empty() && published.is_none() && self.writer.is_none() {
            return Err(StoreError::Missing {
                path: disk.path().into(),
            });
        }
        let mut give = |record: Record| match after {
            Some(after) if record.seq < after.seq => Ok(()),
            Some(after) if record.seq == after.seq && record.digest == after.digest => Ok(()),
            Some(after) if record.seq == after.seq => Err(StoreError::Forked { at: record.seq }),
            _ => each(record),
        };
        // What a failed sync left behind is not served, although this handle wrote it.
        let sees_all = self.writer.is_some() && !self.poisoned;
        let is_durable = |seq: Seq| sees_all || published.is_some_and(|(_, head)| seq <= head.seq);
        // What the caller has seen was durable then, and the writer that recovers now may not have published it yet.
        let was_seen = |seq: Seq| after.is_some_and(|after| seq <= after.seq);
        let mut lock = None;
        let mut pending = VecDeque::new();
        let mut served = reader.cursor;
        let bad = loop {
            let next = next_seq(reader.cursor.head);
            if !is_durable(next) {
                let lock = match lock {
                    Some(lock) => lock,
                    None => *lock.insert(self.lock_status()?),
                };
                if self.poisoned || (lock.held || lock.unsettled) && !was_seen(next) {
                    break None;
                }
            }
            match reader.next()? {
                Next::End => break None,
                Next::Bad(damage) => break Some(damage),
                Next::Record(record) if is_durable(record.seq) || was_seen(record.seq) => {
                    served = reader.cursor;
                    let given = give(record);
                    if matches!(given, Err(StoreError::Stopped)) {
                        // It is read on from here.
                        self.log = reader.log();
                        self.cursor = served;
                    }
                    given?;
                }
                Next::Record(record) => {
                    let durable = record.durable;
                    pending.push_back((record, reader.cursor));
                    // A frame tells which ones before it were synced.
                    let synced = |(record, _): &(Record, Cursor)| Some(record.seq) <= durable;
                    while pending.front().is_some_and(synced)
                        && let Some((record, cursor)) = pending.pop_front()
                    {
                        served = cursor;
                        give(record)?;
                    }
                }
            }
        };
        self.log = reader.log();
        if let Some((_, first)) = pending.front() {
            // The last writer is gone and may have died between writing and syncing these.
            self.sync_from(first.segment)?;
        }
        for (record, cursor) in pending {
            served = cursor;
            give(record)?;
        }
        let is_known = served.last.is_some() || served.head == start.map(|(_, start)| start);
        if is_known && served.head.map(|head| head.seq) >= self.cursor.head.map(|head| head.seq) {
            self.cursor = served;
        }
        let short = after.filter(|after| {
            let is_short = served.head.is_none_or(|served| served.seq < after.seq);
            // Where it is unknown what is durable, it is unknown too what is missing.
            is_short && !self.torn.head && !self.poisoned
        });
        let truncated = short.map(|had| StoreError::Truncated {
            had,
            end: served.head,
        });
        // A frame that a writer has only begun is no damage, also if that writer came after the first look.
        if self.poisoned || lock.is_some_and(|lock: lock::Status| lock.held) {
            return Ok(truncated.map(|error| Scan {
                published,
                judged: Err(error),
            }));
        }
        let end = reader.cursor;
        let judged = match self.judge(&mut reader, end, bad, published) {
            Err(damaged @ StoreError::Damaged { .. }) => Err(damaged),
            judged => truncated.map_or(Ok(judged?), Err),
        };
        let is_sound = matches!(judged, Ok(None));
        Ok((is_sound || !self.lock_status()?.held).then_some(Scan { published, judged }))
    }
}
