//! Reading frames out of segments, and telling a torn tail from damage.

use crate::disk::{Access, Disk, DiskFile};
use crate::error::Damage;
use crate::frame::{self, FrameError, HEADER_LEN, Header, MAGIC};
use crate::store::next_seq;
use crate::{FRAME_LEN_MAX, Head, LogId, Place, Record, Seq, StoreError};

/// Bytes read at once.
const WINDOW_LEN: usize = 256 << 10;

/// Bytes of candidates that the search for later frames checks before it gives up and calls a bad frame damage.
const SEARCH_LEN_MAX: u64 = 256 << 20;

/// Returns the file name of the segment whose first record is `first`.
pub(crate) fn segment_name(first: Seq) -> String {
    format!("{:020}.seg", first.get())
}

/// Returns the first seq of every segment on `disk`, ascending.
pub(crate) fn segments(disk: &dyn Disk) -> Result<Vec<Seq>, StoreError> {
    numbered(disk, ".seg")
}

/// Returns the seqs that files on `disk` are named by, as 20 digits before `ending`, ascending.
pub(crate) fn numbered(disk: &dyn Disk, ending: &str) -> Result<Vec<Seq>, StoreError> {
    let names = disk.list().map_err(|error| missing_or_io(disk, error))?;
    let mut found: Vec<Seq> = names
        .iter()
        .filter_map(|name| seq_of(name.strip_suffix(ending)?))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Checks the directory before any file in it is opened, so that an error names the directory.
pub(crate) fn check_directory(disk: &dyn Disk) -> Result<(), StoreError> {
    disk.check().map_err(|error| missing_or_io(disk, error))
}

/// As [`check_directory`], for a writer.
pub(crate) fn check_directory_writable(disk: &dyn Disk) -> Result<(), StoreError> {
    disk.check_writable()
        .map_err(|error| missing_or_io(disk, error))
}

fn missing_or_io(disk: &dyn Disk, source: std::io::Error) -> StoreError {
    let path = disk.path().into();
    match source.kind() {
        std::io::ErrorKind::NotFound => StoreError::Missing { path },
        _ => StoreError::Io {
            doing: "open",
            path,
            source,
        },
    }
}

fn seq_of(digits: &str) -> Option<Seq> {
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Seq::new(digits.parse().ok()?)).flatten()
}

/// Where reading stands: after `head`, at this offset of this segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    pub(crate) segment: Seq,
    pub(crate) offset: u64,
    pub(crate) head: Option<Head>,
    /// Segment and offset of the frame of `head`, where they are known.
    pub(crate) last: Option<(Seq, u64)>,
}

impl Cursor {
    /// The start of a log.
    pub(crate) const START: Cursor = Cursor {
        segment: Seq::FIRST,
        offset: 0,
        head: None,
        last: None,
    };

    /// Behind the last record of a segment: the next one begins another.
    pub(crate) fn behind(head: Head) -> Cursor {
        Cursor {
            segment: next_seq(Some(head)),
            offset: 0,
            head: Some(head),
            last: None,
        }
    }

    /// Where the last record stands in the log of this id, if both are known.
    pub(crate) fn place(&self, log: Option<LogId>) -> Option<Place> {
        let (log, (segment, offset)) = log.zip(self.last)?;
        Some(Place {
            log,
            segment,
            offset,
        })
    }
}

/// What stands where the next frame should be.
#[derive(Debug)]
pub(crate) enum Next {
    /// A record.
    Record(Record),
    /// Nothing: the log ends.
    End,
    /// Bytes that are no frame. Whether they are a torn tail or damage needs a look at what follows.
    Bad(Damage),
}

/// Reads frame after frame.
#[derive(Debug)]
pub(crate) struct FrameReader<'a> {
    disk: &'a dyn Disk,
    segments: Vec<Seq>,
    log: Option<LogId>,
    pub(crate) cursor: Cursor,
    /// The longest segment, unless its first frame is longer.
    most: u64,
    file: Option<Box<dyn DiskFile>>,
    /// Where the open segment ends at the latest; what lies beyond is never read.
    bound: u64,
    /// How long the open segment is, if that is more than it can be.
    oversized: Option<u64>,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(
        disk: &'a dyn Disk,
        log: Option<LogId>,
        cursor: Cursor,
        most: u64,
    ) -> Result<FrameReader<'a>, StoreError> {
        let segments = segments(disk)?;
        Ok(FrameReader {
            disk,
            segments,
            log,
            cursor,
            most,
            file: None,
            bound: most,
            oversized: None,
            window: Vec::new(),
            window_at: 0,
        })
    }

    /// Whether there is no segment at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The log's id, once a frame was read.
    pub(crate) fn log(&self) -> Option<LogId> {
        self.log
    }

    /// Path of the segment at the cursor.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.disk.path_of(&segment_name(self.cursor.segment))
    }

    /// Returns what stands at the cursor, and moves past it if it is a record.
    pub(crate) fn next(&mut self) -> Result<Next, StoreError> {
        let next = self.next_in_order()?;
        let is_record = matches!(next, Next::Record(_));
        Ok(match self.oversized {
            Some(length) if !is_record => Next::Bad(self.beyond(length)),
            _ => next,
        })
    }

    fn beyond(&self, length: u64) -> Damage {
        let most = self.bound;
        Damage::Oversized { length, most }
    }

    fn next_in_order(&mut self) -> Result<Next, StoreError> {
        let expected = next_seq(self.cursor.head);
        match self.seek(expected)? {
            Some(no_frame) => Ok(no_frame),
            None => self.frame(expected),
        }
    }

    /// Moves to where the frame of the record `expected` begins: the cursor, or the next segment. Returns what is there if
    /// no frame is.
    fn seek(&mut self, expected: Seq) -> Result<Option<Next>, StoreError> {
        loop {
            if !self.open()? {
                let next = self
                    .segments
                    .iter()
                    .find(|first| **first > self.cursor.segment);
                return Ok(Some(match next {
                    Some(next) => Next::Bad(Damage::Gap { next: *next }),
                    None => Next::End,
                }));
            }
            if self.ensure(HEADER_LEN)?.iter().all(|byte| *byte == 0) {
                let zeros = self.rest_is_zero()?;
                // The next segment begins with the record that would be next, and the file at the cursor is not it.
                let follows = expected != self.cursor.segment
                    && self.segments.binary_search(&expected).is_ok();
                if follows && zeros && self.oversized.is_none() {
                    self.enter(expected);
                    continue;
                }
                let later = self
                    .segments
                    .iter()
                    .find(|first| **first > self.cursor.segment);
                return Ok(Some(match later {
                    _ if !zeros => Next::Bad(Damage::Trailing),
                    Some(next) => Next::Bad(Damage::Gap { next: *next }),
                    None => Next::End,
                }));
            }
            return Ok(None);
        }
    }

    /// Returns the header of the frame of the record `expected`, if it stands at the cursor or begins the next segment.
    pub(crate) fn header(&mut self, expected: Seq) -> Result<Option<Header>, StoreError> {
        if self.seek(expected)?.is_some() {
            return Ok(None);
        }
        let header = frame::decode_header(self.ensure(HEADER_LEN)?).ok();
        Ok(header.filter(|header| header.seq == expected))
    }

    /// As [`header`](Self::header), without the header's checksum: for a frame whose own is compared.
    pub(crate) fn unchecked_header(&mut self, expected: Seq) -> Result<Option<Header>, StoreError> {
        if self.seek(expected)?.is_some() {
            return Ok(None);
        }
        let header = frame::unchecked_header(self.ensure(HEADER_LEN)?).ok();
        Ok(header.filter(|header| header.seq == expected))
    }

    /// Returns the bytes of the frame at the cursor, and where it stands; fewer at the end of the file.
    pub(crate) fn bytes(&mut self, header: &Header) -> Result<(&[u8], Place), StoreError> {
        let place = Place {
            log: self.log.unwrap_or(header.log),
            segment: self.cursor.segment,
            offset: self.cursor.offset,
        };
        Ok((self.ensure(header.frame_len)?, place))
    }

    /// The segments, by the seqs of their first records, ascending.
    pub(crate) fn segments(&self) -> &[Seq] {
        &self.segments
    }

    /// Goes to an offset of a segment.
    pub(crate) fn go_to(&mut self, segment: Seq, offset: u64) {
        self.enter(segment);
        self.cursor.offset = offset;
    }

    /// Moves past the frame of this header, which stands at the cursor.
    pub(crate) fn pass(&mut self, header: &Header) {
        self.cursor.offset += header.frame_len as u64;
    }

    fn frame(&mut self, expected: Seq) -> Result<Next, StoreError> {
        let header = match frame::decode_header(self.ensure(HEADER_LEN)?) {
            Ok(header) => header,
            Err(FrameError::NewerFormat { found }) => {
                return Err(StoreError::NewerFormat {
                    path: self.path().into(),
                    found,
                });
            }
            Err(error) => return Ok(Next::Bad(error.into())),
        };
        let log = self.log.unwrap_or(header.log);
        let place = Place {
            log,
            segment: self.cursor.segment,
            offset: self.cursor.offset,
        };
        let bytes = self.ensure(header.frame_len)?;
        let (record, length) = match frame::decode_after(header, bytes, place) {
            Ok(decoded) => decoded,
            Err(FrameError::OtherLog { found }) => {
                return Ok(Next::Bad(Damage::OtherLog { found }));
            }
            Err(error) => return Ok(Next::Bad(error.into())),
        };
        if record.seq != expected {
            return Ok(Next::Bad(Damage::Order { found: record.seq }));
        }
        if record.previous
            != self
                .cursor
                .head
                .map_or(crate::Digest::ZERO, |head| head.digest)
        {
            return Ok(Next::Bad(Damage::Chain));
        }
        self.log = Some(log);
        self.cursor.last = Some((self.cursor.segment, self.cursor.offset));
        self.cursor.offset += length as u64;
        self.cursor.head = Some(record.head());
        Ok(Next::Record(record))
    }

    /// Returns whether a valid frame that comes after the cursor says that record `seq` was durable.
    ///
    /// Also true if the search had to give up: then the bad frame counts as damage, which loses nothing.
    pub(crate) fn proves_durable(&mut self, seq: Seq) -> Result<bool, StoreError> {
        let mut left = SEARCH_LEN_MAX;
        let later: Vec<Seq> = self
            .segments
            .iter()
            .copied()
            .filter(|first| *first > self.cursor.segment)
            .collect();
        let start = Cursor {
            offset: self.cursor.offset + 8,
            ..self.cursor
        };
        let starts = std::iter::once(start).chain(later.into_iter().map(|segment| Cursor {
            segment,
            ..Cursor::START
        }));
        for start in starts {
            self.enter(start.segment);
            self.cursor.offset = start.offset;
            if !self.open()? {
                continue;
            }
            while let Some(offset) = self.find_magic()? {
                self.cursor.offset = offset;
                let header = frame::decode_header(self.ensure(HEADER_LEN)?);
                if let Ok(header) = header
                    && header.durable >= Some(seq)
                {
                    let Some(remaining) = left.checked_sub(header.frame_len as u64) else {
                        return Ok(true);
                    };
                    left = remaining;
                    let log = self.log.unwrap_or(header.log);
                    let place = Place {
                        log,
                        segment: self.cursor.segment,
                        offset,
                    };
                    if frame::decode(self.ensure(header.frame_len)?, place).is_ok() {
                        return Ok(true);
                    }
                }
                self.cursor.offset += 8;
            }
        }
        Ok(false)
    }

    /// Returns the next multiple of 8 from the cursor on at which the magic stands.
    fn find_magic(&mut self) -> Result<Option<u64>, StoreError> {
        loop {
            let bytes = self.ensure(WINDOW_LEN)?;
            let whole = bytes.len() - bytes.len() % 8;
            if whole == 0 {
                return Ok(None);
            }
            match bytes[..whole]
                .chunks_exact(8)
                .position(|word| word == MAGIC)
            {
                Some(index) => return Ok(Some(self.cursor.offset + 8 * index as u64)),
                None => self.cursor.offset += whole as u64,
            }
        }
    }

    fn enter(&mut self, segment: Seq) {
        if segment != self.cursor.segment {
            self.file = None;
            self.oversized = None;
            self.window.clear();
        }
        self.cursor.segment = segment;
        self.cursor.offset = 0;
    }

    /// Opens the segment at the cursor; `false` if it is not there.
    fn open(&mut self) -> Result<bool, StoreError> {
        if self.file.is_some() {
            return Ok(true);
        }
        if self.segments.binary_search(&self.cursor.segment).is_err() {
            return Ok(false);
        }
        let name = segment_name(self.cursor.segment);
        let file = self
            .disk
            .open(&name, Access::Read)
            .map_err(StoreError::io("open", self.path()))?;
        let length = file.length().map_err(StoreError::io("read", self.path()))?;
        self.bound = self.most;
        if length > self.most {
            let mut header = [0; HEADER_LEN];
            file.read_at(0, &mut header)
                .map_err(StoreError::io("read", self.path()))?;
            let first = frame::decode_header(&header).map_or(0, |first| first.frame_len as u64);
            self.bound = self.most.max(first);
        }
        self.oversized = (length > self.bound).then_some(length);
        self.file = Some(file);
        Ok(true)
    }

    /// Returns up to `length` bytes from the cursor on, fewer only at the end of the file.
    fn ensure(&mut self, length: usize) -> Result<&[u8], StoreError> {
        let skip = self.window_skip();
        let enough = skip.is_some_and(|skip| self.window.len() - skip >= length);
        if !enough {
            let file = self
                .file
                .as_ref()
                .expect("the segment at the cursor is open");
            let found = file
                .length()
                .map_err(StoreError::io("read", self.path()))?
                .min(self.bound)
                .saturating_sub(self.cursor.offset);
            let wanted = length.clamp(WINDOW_LEN, FRAME_LEN_MAX);
            let wanted = usize::try_from(found).map_or(wanted, |found| wanted.min(found));
            self.window.clear();
            self.window.resize(wanted, 0);
            self.window_at = self.cursor.offset;
            let read = file.read_at(self.cursor.offset, &mut self.window);
            let read = read.map_err(StoreError::io("read", self.path()))?;
            self.window.truncate(read);
        }
        let skip = self
            .window_skip()
            .expect("the window was just filled from the cursor on");
        let end = self.window.len().min(skip + length);
        Ok(&self.window[skip..end])
    }

    /// How far into the window the cursor is; `None` if it is outside.
    fn window_skip(&self) -> Option<usize> {
        let skip = self.cursor.offset.checked_sub(self.window_at)?;
        usize::try_from(skip)
            .ok()
            .filter(|skip| *skip <= self.window.len())
    }

    /// Returns whether only zeros follow in the segment. The cursor stays.
    fn rest_is_zero(&mut self) -> Result<bool, StoreError> {
        let cursor = self.cursor;
        let zeros = loop {
            let bytes = self.ensure(WINDOW_LEN)?;
            if bytes.is_empty() {
                break true;
            }
            if bytes.iter().any(|byte| *byte != 0) {
                break false;
            }
            self.cursor.offset += bytes.len() as u64;
        };
        self.cursor = cursor;
        Ok(zeros)
    }
}
