//! Looking for records by the headers of their frames: their facts and checksums, without texts and digests.
//!
//! It serves what is durable without a doubt: what `head` says, and to the writer all that it has written. What comes behind
//! that is left to [`FileStore::read_on`], as is everything that is not as it should be, or is gone: it says what is wrong
//! there, or that it was moved to an archive.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use super::FileStore;
use crate::error::StoreError;
use crate::frame::{self, Header};
use crate::outline::{last_behind, last_by_scanning, scan_by_reading};
use crate::segment::{Cursor, FrameReader, check_directory, segment_name};
use crate::store::next_seq;
use crate::{Digest, Disk, Head, LogId, Outline, Place, Record, Seq};

/// Of how many records the place of one is remembered.
const REMEMBERED_EVERY: u64 = 256;

/// Where the frame of a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stand {
    seq: Seq,
    segment: Seq,
    offset: u64,
}

impl Stand {
    /// The first frame of a segment.
    fn first(segment: Seq) -> Stand {
        Stand {
            seq: segment,
            segment,
            offset: 0,
        }
    }

    fn at(seq: Seq, cursor: &Cursor) -> Stand {
        Stand {
            seq,
            segment: cursor.segment,
            offset: cursor.offset,
        }
    }
}

/// Where frames were seen, for the next look. What stands there is compared before it counts.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<Seq, Stand>);

impl Places {
    fn note(&mut self, stand: Stand) {
        if stand.seq.get().is_multiple_of(REMEMBERED_EVERY) {
            self.0.insert(stand.seq, stand);
        }
    }

    /// Returns the last known place of this segment at or before `seq`.
    fn before(&self, seq: Seq, segment: Seq) -> Option<Stand> {
        let known = self.0.range(segment..=seq).next_back();
        let known = known.map(|(_, stand)| *stand);
        known.filter(|stand| stand.segment == segment)
    }

    /// Returns the known places of this segment up to `last`, ascending.
    fn within(&self, segment: Seq, last: Seq) -> Vec<Stand> {
        let known = self.0.range(segment..=last).map(|(_, stand)| *stand);
        known.filter(|stand| stand.segment == segment).collect()
    }
}

/// Between which records the log is durable without a doubt.
#[derive(Clone, Copy)]
struct Bounds {
    log: LogId,
    /// The record behind which the log begins.
    start: Option<Head>,
    /// The last record.
    end: Head,
}

/// What came of a look.
enum Looked<T> {
    Done(T),
    /// A frame is not where it should be, or is not whole.
    Unsound,
}

impl FileStore {
    /// As [`Store::scan`](crate::Store::scan).
    pub(super) fn scan_on(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(&Outline<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let bounds = self.bounds()?;
        let inside = bounds.filter(|bounds| {
            let start = bounds.start.map(|start| start.seq);
            let after = after.map(|after| after.seq);
            start <= after && after < Some(bounds.end.seq)
        });
        let Some(bounds) = inside else {
            return scan_by_reading(self, after, each);
        };
        let mut given = after.map(|after| after.seq);
        let looked = self.scan_within(bounds, after, &mut given, each);
        match looked.unwrap_or(Looked::Unsound) {
            Looked::Done(ControlFlow::Break(())) => Ok(()),
            Looked::Done(ControlFlow::Continue(())) if self.sees_all() => Ok(()),
            Looked::Done(ControlFlow::Continue(())) => {
                scan_by_reading(self, Some(bounds.end), each)
            }
            Looked::Unsound => scan_by_reading(self, after, &mut |outline| {
                if Some(outline.seq) <= given {
                    return ControlFlow::Continue(());
                }
                each(outline)
            }),
        }
    }

    /// As [`Store::last_where`](crate::Store::last_where): bisects by the first records of the segments, then by those in the
    /// segment whose places are known, and scans from there.
    pub(super) fn bisect(
        &mut self,
        holds: &mut dyn FnMut(&Outline<'_>) -> bool,
    ) -> Result<Option<Record>, StoreError> {
        let Some(bounds) = self.bounds()? else {
            return last_by_scanning(self, holds);
        };
        match self.bisect_within(bounds, holds).unwrap_or(Looked::Unsound) {
            Looked::Unsound => last_by_scanning(self, holds),
            Looked::Done(Some(last)) if last.seq == bounds.end.seq && !self.sees_all() => {
                let behind = last_behind(self, Some(bounds.end), holds)?;
                Ok(Some(behind.unwrap_or(last)))
            }
            Looked::Done(last) => Ok(last),
        }
    }

    /// As [`Store::record`](crate::Store::record): the segment by its name, and the frame in it by the headers before.
    pub(super) fn record_at(&mut self, seq: Seq) -> Result<Option<Record>, StoreError> {
        let mut holds = |outline: &Outline<'_>| outline.seq <= seq;
        let last = match self.bounds()? {
            Some(bounds) if bounds.start.is_some_and(|start| seq <= start.seq) => None,
            Some(bounds) if seq > bounds.end.seq && self.sees_all() => None,
            Some(bounds) => match self.record_within(bounds, seq.min(bounds.end.seq)) {
                Ok(Looked::Done(last)) if last.seq == seq => Some(last),
                Ok(Looked::Done(last)) => last_behind(self, Some(last.head()), &mut holds)?,
                Ok(Looked::Unsound) | Err(_) => last_by_scanning(self, &mut holds)?,
            },
            None => last_by_scanning(self, &mut holds)?,
        };
        Ok(last.filter(|last| last.seq == seq))
    }

    fn record_within(&mut self, bounds: Bounds, seq: Seq) -> Result<Looked<Record>, StoreError> {
        let disk = self.disk.clone();
        let mut reader = self.reader_of(disk.as_ref(), bounds)?;
        let Looked::Done(header) = self.find(&mut reader, seq)? else {
            return Ok(Looked::Unsound);
        };
        let stand = Stand::at(seq, &reader.cursor);
        match frame_at(&mut reader, &header)? {
            Some(last) if last.head() == bounds.end => {
                self.go_on_behind(bounds, stand, &header);
                Ok(Looked::Done(last))
            }
            Some(record) if seq < bounds.end.seq => {
                self.log = Some(bounds.log);
                Ok(Looked::Done(record))
            }
            _ => Ok(Looked::Unsound),
        }
    }

    /// Whether this handle knows by itself what is durable.
    fn sees_all(&self) -> bool {
        self.writer.is_some() && !self.poisoned
    }

    fn bounds(&mut self) -> Result<Option<Bounds>, StoreError> {
        check_directory(self.disk.as_ref())?;
        let start = self.check_place()?;
        let end = match &self.writer {
            Some(writer) if !self.poisoned => self.log.zip(writer.end.head),
            _ => self.published()?,
        };
        let start = start.map(|(_, start)| start);
        let bounds = end.map(|(log, end)| Bounds { log, start, end });
        Ok(bounds.filter(|bounds| {
            self.log.is_none_or(|own| own == bounds.log)
                && start.is_none_or(|start| start.seq < bounds.end.seq)
        }))
    }

    fn reader_of<'a>(
        &self,
        disk: &'a dyn Disk,
        bounds: Bounds,
    ) -> Result<FrameReader<'a>, StoreError> {
        let begin = bounds.start.map_or(Cursor::START, Cursor::behind);
        FrameReader::new(disk, Some(bounds.log), begin, self.segment_len_most())
    }

    /// Gives out the outlines of the records after `after`, up to the last one that is durable without a doubt.
    fn scan_within(
        &mut self,
        bounds: Bounds,
        after: Option<Head>,
        given: &mut Option<Seq>,
        each: &mut dyn FnMut(&Outline<'_>) -> ControlFlow<()>,
    ) -> Result<Looked<ControlFlow<()>>, StoreError> {
        let disk = self.disk.clone();
        let mut reader = self.reader_of(disk.as_ref(), bounds)?;
        let mut seq = next_seq(after);
        let Looked::Done(mut header) = self.find(&mut reader, seq)? else {
            return Ok(Looked::Unsound);
        };
        if header.previous != after.map_or(Digest::ZERO, |after| after.digest) {
            return Ok(Looked::Unsound);
        }
        loop {
            let stand = Stand::at(seq, &reader.cursor);
            self.places.note(stand);
            let (bytes, place) = reader.bytes(&header)?;
            let Some(facts) = frame::facts_of(&header, bytes, place) else {
                return Ok(Looked::Unsound);
            };
            // It is the log's: its checksum covers the id.
            self.log = Some(bounds.log);
            let read = || {
                let path = disk.path_of(&segment_name(place.segment));
                whole(&path, header, bytes, place)
            };
            let is_last = seq == bounds.end.seq;
            if is_last && read().map(|last| last.head()).ok() != Some(bounds.end) {
                return Ok(Looked::Unsound);
            }
            let flow = each(&Outline::new(seq, facts, &read));
            *given = Some(seq);
            reader.pass(&header);
            if is_last {
                self.go_on_behind(bounds, stand, &header);
            }
            if is_last || flow.is_break() {
                return Ok(Looked::Done(flow));
            }
            seq = Seq::after(Some(seq));
            match reader.unchecked_header(seq)? {
                Some(next) => header = next,
                None => return Ok(Looked::Unsound),
            }
        }
    }

    /// Lets reading go on behind the last record that is durable without a doubt.
    fn go_on_behind(&mut self, bounds: Bounds, last: Stand, header: &Header) {
        self.log = Some(bounds.log);
        if self.cursor.head.map(|head| head.seq) < Some(bounds.end.seq) {
            self.cursor = Cursor {
                segment: last.segment,
                offset: last.offset + header.frame_len as u64,
                head: Some(bounds.end),
                last: Some((last.segment, last.offset)),
            };
        }
    }

    fn bisect_within(
        &mut self,
        bounds: Bounds,
        holds: &mut dyn FnMut(&Outline<'_>) -> bool,
    ) -> Result<Looked<Option<Record>>, StoreError> {
        let disk = self.disk.clone();
        let mut reader = self.reader_of(disk.as_ref(), bounds)?;
        let begin = reader.cursor.segment;
        let segments = reader.segments().iter();
        let segments = segments.filter(|first| (begin..=bounds.end.seq).contains(*first));
        let segments: Vec<Stand> = segments.map(|first| Stand::first(*first)).collect();
        if segments.first() != Some(&Stand::first(begin)) {
            return Ok(Looked::Unsound);
        }
        let mut last = match last_of(&mut reader, &segments, holds)? {
            Looked::Done(Some(last)) => last,
            Looked::Done(None) => return Ok(Looked::Done(None)),
            Looked::Unsound => return Ok(Looked::Unsound),
        };
        let known = self.places.within(last.segment, bounds.end.seq);
        if let Looked::Done(Some(known)) = last_of(&mut reader, &known, holds)? {
            last = known;
        }
        reader.go_to(last.segment, last.offset);
        let mut seq = last.seq;
        loop {
            let Some(header) = reader.header(seq)? else {
                return Ok(Looked::Unsound);
            };
            let stand = Stand::at(seq, &reader.cursor);
            self.places.note(stand);
            match look(&mut reader, &header, holds)? {
                Looked::Done(true) => last = stand,
                Looked::Done(false) => break,
                Looked::Unsound => return Ok(Looked::Unsound),
            }
            if seq == bounds.end.seq {
                break;
            }
            reader.pass(&header);
            seq = Seq::after(Some(seq));
        }
        reader.go_to(last.segment, last.offset);
        let Some(header) = reader.header(last.seq)? else {
            return Ok(Looked::Unsound);
        };
        let Some(record) = frame_at(&mut reader, &header)? else {
            return Ok(Looked::Unsound);
        };
        self.log = Some(bounds.log);
        if record.seq == bounds.end.seq {
            if record.head() != bounds.end {
                return Ok(Looked::Unsound);
            }
            self.go_on_behind(bounds, last, &header);
        }
        Ok(Looked::Done(Some(record)))
    }

    /// Moves to the frame of a record, by the name of its segment and the headers of the frames before it.
    fn find(
        &mut self,
        reader: &mut FrameReader<'_>,
        seq: Seq,
    ) -> Result<Looked<Header>, StoreError> {
        let begun = reader.segments().partition_point(|first| *first <= seq);
        let Some(last) = begun.checked_sub(1) else {
            return Ok(Looked::Unsound);
        };
        let first = Stand::first(reader.segments()[last]);
        let known = self.places.before(seq, first.segment);
        for stand in [known.unwrap_or(first), first] {
            reader.go_to(stand.segment, stand.offset);
            let mut at = stand.seq;
            while let Some(header) = reader.header(at)? {
                if at == seq {
                    return Ok(Looked::Done(header));
                }
                self.places.note(Stand::at(at, &reader.cursor));
                reader.pass(&header);
                at = Seq::after(Some(at));
            }
        }
        Ok(Looked::Unsound)
    }
}

/// Returns the last place whose record meets `holds`, which all before it do.
fn last_of(
    reader: &mut FrameReader<'_>,
    stands: &[Stand],
    holds: &mut dyn FnMut(&Outline<'_>) -> bool,
) -> Result<Looked<Option<Stand>>, StoreError> {
    let (mut low, mut high) = (0, stands.len());
    while low < high {
        let middle = low.midpoint(high);
        let stand = stands[middle];
        reader.go_to(stand.segment, stand.offset);
        let looked = match reader.header(stand.seq)? {
            Some(header) => look(reader, &header, holds)?,
            None => Looked::Unsound,
        };
        match looked {
            Looked::Done(true) => low = middle + 1,
            Looked::Done(false) => high = middle,
            Looked::Unsound => return Ok(Looked::Unsound),
        }
    }
    Ok(Looked::Done(low.checked_sub(1).map(|last| stands[last])))
}

/// Asks `holds` of the record whose frame stands at the cursor.
fn look(
    reader: &mut FrameReader<'_>,
    header: &Header,
    holds: &mut dyn FnMut(&Outline<'_>) -> bool,
) -> Result<Looked<bool>, StoreError> {
    let path = reader.path();
    let (bytes, place) = reader.bytes(header)?;
    let Some(facts) = frame::facts_of(header, bytes, place) else {
        return Ok(Looked::Unsound);
    };
    let read = || whole(&path, *header, bytes, place);
    Ok(Looked::Done(holds(&Outline::new(header.seq, facts, &read))))
}

/// Returns the record whose frame stands at the cursor, if it is whole.
fn frame_at(reader: &mut FrameReader<'_>, header: &Header) -> Result<Option<Record>, StoreError> {
    let (bytes, place) = reader.bytes(header)?;
    let decoded = frame::decode_after(*header, bytes, place).ok();
    Ok(decoded.map(|(record, _)| record))
}

/// Returns the record of a frame whose checksum was compared.
fn whole(path: &Path, header: Header, bytes: &[u8], place: Place) -> Result<Record, StoreError> {
    match frame::decode_after(header, bytes, place) {
        Ok((record, _)) => Ok(record),
        Err(why) => Err(StoreError::Damaged {
            path: path.into(),
            offset: place.offset,
            seq: header.seq,
            why: why.into(),
        }),
    }
}
