//! Images: what a layer above has made of the log up to one record, so that opening need not read it all.
//!
//! An image is derived. It counts only if the log holds its record, and losing it costs nothing but time; only the one
//! at the start of a log whose beginning was archived stands for records that are elsewhere.

use std::io;

use super::remembered::is_named;
use super::{FileStore, TEMPORARY};
use crate::disk::{Access, Disk, DiskFile};
use crate::frame::{self, FRAME_LEN_MAX, HEADER_LEN, array_at, header_checksum, u32_at, u64_at};
use crate::lock::LOCK;
use crate::segment::{Cursor, segment_name};
use crate::{Digest, FORMAT_VERSION, Head, ImageWriter, LogId, Place, Seq, StoreError};

const MAGIC: [u8; 8] = *b"\x8amtimag\n";
const CHECKSUM_LEN: usize = 4;

/// The longest image, in bytes.
const IMAGE_LEN_MAX: u64 = 16 << 30;

/// How many images are kept besides the one at the start.
const KEPT: usize = 2;

/// How many bytes of a whole file are synced at once: a sync of all of it would hold up those of the log, on the same disk.
const SYNCED: usize = 1 << 20;

/// Why an image does not count.
#[derive(Debug, thiserror::Error)]
enum Ignored {
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    #[error("it is not what was written")]
    Damaged,
    #[error("it has format {0}")]
    NewerFormat(u32),
    #[error("the log does not hold its record")]
    NotInLog,
}

impl FileStore {
    /// Returns the newest image at or before `most` that agrees with the log; reading goes on behind it.
    pub(super) fn load_image(
        &mut self,
        most: Option<Seq>,
    ) -> Result<Option<(Head, Vec<u8>)>, StoreError> {
        let start = self.read_start()?.map(|(_, head)| head);
        for seq in images(self.disk.as_ref())?.into_iter().rev() {
            if most.is_some_and(|most| seq > most) {
                continue;
            }
            match self.read_image(seq, start) {
                Ok((log, cursor, head, body)) => {
                    self.log = self.log.or(Some(log));
                    self.of_image = Some(cursor);
                    if self.cursor.head.is_none_or(|read| read.seq < head.seq) {
                        self.cursor = cursor;
                    }
                    return Ok(Some((head, body)));
                }
                Err(why) => {
                    let path = self.path(&image_name(seq));
                    tracing::warn!(path = %path.display(), %why, "ignored an image");
                }
            }
        }
        Ok(None)
    }

    fn read_image(
        &self,
        seq: Seq,
        start: Option<Head>,
    ) -> Result<(LogId, Cursor, Head, Vec<u8>), Ignored> {
        let file = self
            .disk
            .open(&image_name(seq), Access::Read)
            .map_err(Ignored::Read)?;
        let length = file.length().map_err(Ignored::Read)?;
        let mut header = [0; HEADER_LEN];
        let read = file.read_at(0, &mut header).map_err(Ignored::Read)?;
        if read < HEADER_LEN
            || header[..8] != MAGIC
            || u32_at(&header, 12) != header_checksum(&header)
        {
            return Err(Ignored::Damaged);
        }
        if u32_at(&header, 8) != FORMAT_VERSION {
            return Err(Ignored::NewerFormat(u32_at(&header, 8)));
        }
        let body_len = u64_at(&header, 88);
        if length > IMAGE_LEN_MAX
            || body_len.checked_add((HEADER_LEN + CHECKSUM_LEN) as u64) != Some(length)
            || u64_at(&header, 32) != seq.get()
        {
            return Err(Ignored::Damaged);
        }
        let log = LogId(array_at(&header, 16));
        let head = Head {
            seq,
            digest: Digest(array_at(&header, 40)),
        };
        let place = Seq::new(u64_at(&header, 72)).map(|segment| Place {
            log,
            segment,
            offset: u64_at(&header, 80),
        });
        let cursor = if start == Some(head) {
            Cursor::behind(head)
        } else {
            place
                .and_then(|place| self.cursor_at(place, head))
                .ok_or(Ignored::NotInLog)?
        };
        if self.log.is_some_and(|own| own != log) {
            return Err(Ignored::NotInLog);
        }
        let mut body =
            vec![0; usize::try_from(body_len).map_err(|_| Ignored::Damaged)? + CHECKSUM_LEN];
        let read = file
            .read_at(HEADER_LEN as u64, &mut body)
            .map_err(Ignored::Read)?;
        let body_len = body.len() - CHECKSUM_LEN;
        if read < body.len() || u32_at(&body, body_len) != crc32c::crc32c(&body[..body_len]) {
            return Err(Ignored::Damaged);
        }
        body.truncate(body_len);
        Ok((log, cursor, head, body))
    }

    /// Returns the cursor behind the record `head`, if its frame stands at `place`.
    fn cursor_at(&self, place: Place, head: Head) -> Option<Cursor> {
        let (found, length) = self.frame_at(place).ok()??;
        (found == head).then_some(Cursor {
            segment: place.segment,
            offset: place.offset + length,
            head: Some(head),
            last: Some((place.segment, place.offset)),
        })
    }

    /// Returns the head of the record whose frame stands at `place`, and the frame's length; `None` if no frame does.
    pub(super) fn frame_at(&self, place: Place) -> Result<Option<(Head, u64)>, StoreError> {
        let name = segment_name(place.segment);
        let path = || self.path(&name);
        let file = match self.disk.open(&name, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(StoreError::io("open", path()))?,
        };
        self.frame_in(file.as_ref(), place)
    }

    /// As [`frame_at`](Self::frame_at), in a segment that is open.
    pub(super) fn frame_in(
        &self,
        file: &dyn DiskFile,
        place: Place,
    ) -> Result<Option<(Head, u64)>, StoreError> {
        let path = || self.path(&segment_name(place.segment));
        let mut header = [0; HEADER_LEN];
        file.read_at(place.offset, &mut header)
            .map_err(StoreError::io("read", path()))?;
        let Ok(header) = frame::decode_header(&header) else {
            return Ok(None);
        };
        debug_assert!(header.frame_len <= FRAME_LEN_MAX);
        let mut bytes = vec![0; header.frame_len];
        let read = file
            .read_at(place.offset, &mut bytes)
            .map_err(StoreError::io("read", path()))?;
        let decoded = frame::decode(&bytes[..read], place).ok();
        Ok(decoded.map(|(record, length)| (record.head(), length as u64)))
    }

    /// Writes a file of this name as a whole, as the writer. The lock is compared before the file gets its name: a store
    /// that was put in place before is found then, and in one that is put in place later there is no file to be named.
    pub(super) fn write_own(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let disk = self.disk.clone();
        write_if(disk.as_ref(), name, bytes, || self.check_own_lock())
    }

    /// Returns what writes an image of the log as it is now, and removes those that are not needed any more.
    pub(super) fn writer_of_image(&mut self) -> Result<ImageWriter, StoreError> {
        self.check_writable()?;
        let writer = self.writer.as_ref();
        let own = writer.map(|writer| (writer.end, writer.lock.id));
        let (Some((end, lock)), Some(log)) = (own, self.log) else {
            return Err(StoreError::Unsupported {
                doing: "make an image without being the writer",
            });
        };
        let Some(head) = end.head else {
            return Err(StoreError::Unsupported {
                doing: "make an image of a log without records",
            });
        };
        let start = self.read_start()?.map(|(_, start)| start.seq);
        let disk = self.disk.clone();
        Ok(Box::new(move |body| {
            // Another store may have been put in place meanwhile.
            let is_own = || {
                if is_named(disk.as_ref(), LOCK, lock)? {
                    return Ok(());
                }
                Err(StoreError::Replaced {
                    path: disk.path().into(),
                    had: Some(head),
                    found: None,
                })
            };
            let bytes = encode(log, head, end.last, body);
            write_if(disk.as_ref(), &image_name(head.seq), &bytes, is_own)?;
            let mut old = images(disk.as_ref())?;
            old.retain(|seq| Some(*seq) != start && *seq <= head.seq);
            old.truncate(old.len().saturating_sub(KEPT));
            if !old.is_empty() {
                is_own()?;
            }
            for seq in old {
                // A leftover image costs only space.
                let _ = disk.remove(&image_name(seq));
            }
            Ok(head)
        }))
    }
}

/// Returns the file of an image of `head`, whose frame stands at `place`: the segment and the offset in it.
fn encode(log: LogId, head: Head, place: Option<(Seq, u64)>, body: &[u8]) -> Vec<u8> {
    let (segment, offset) = place.map_or((0, 0), |(segment, offset)| (segment.get(), offset));
    let mut bytes = Vec::with_capacity(HEADER_LEN + body.len() + CHECKSUM_LEN);
    bytes.extend(MAGIC);
    bytes.extend(FORMAT_VERSION.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(log.0);
    bytes.extend(head.seq.get().to_le_bytes());
    bytes.extend(head.digest.0);
    bytes.extend(segment.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend((body.len() as u64).to_le_bytes());
    let checksum = header_checksum(&bytes);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes.extend(body);
    bytes.extend(crc32c::crc32c(body).to_le_bytes());
    bytes
}

/// Writes a file that is there as a whole or not at all.
pub(super) fn write_whole(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    write_if(disk, name, bytes, || Ok(()))
}

/// As [`write_whole`], if `check` still allows it when all is there but the name.
fn write_if(
    disk: &dyn Disk,
    name: &str,
    bytes: &[u8],
    check: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let temporary = temporary(disk, name)?;
    let path = disk.path().join(&temporary);
    let written = (|| {
        let file = disk
            .create_file(&temporary)
            .map_err(StoreError::io("create", &path))?;
        let mut at = 0;
        for piece in bytes.chunks(SYNCED) {
            file.write_at(at, piece)
                .map_err(StoreError::io("write", &path))?;
            file.sync().map_err(StoreError::io("sync", &path))?;
            at += piece.len() as u64;
        }
        check()?;
        disk.rename(&temporary, name)
            .map_err(StoreError::io("rename", &path))
    })();
    if written.is_err() {
        // It takes space that may be what is missing; the next writer removes it otherwise.
        let _ = disk.remove(&temporary);
    }
    written?;
    disk.sync_dir().map_err(StoreError::io("sync", disk.path()))
}

/// Returns a name for a file that is not complete yet. A file in the way that cannot be removed stays.
fn temporary(disk: &dyn Disk, name: &str) -> Result<String, StoreError> {
    const TRIES: usize = 16;
    let mut failed = None;
    for attempt in 0..TRIES {
        let temporary = match attempt {
            0 => format!("{name}{TEMPORARY}"),
            attempt => format!("{name}.{attempt}{TEMPORARY}"),
        };
        match disk.remove(&temporary) {
            Ok(()) => return Ok(temporary),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(temporary),
            Err(error) => failed = Some((temporary, error)),
        }
        if !matches!(&failed, Some((name, _)) if disk.id_of(name).is_ok()) {
            break;
        }
    }
    let (temporary, error) = failed.expect("every other way out has returned");
    Err(StoreError::io("remove", disk.path().join(temporary))(error))
}

pub(super) fn image_name(seq: Seq) -> String {
    format!("{:020}.img", seq.get())
}

/// Returns the seqs of all images on `disk`, ascending.
pub(super) fn images(disk: &dyn Disk) -> Result<Vec<Seq>, StoreError> {
    crate::segment::numbered(disk, ".img")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{self, START_MAGIC};

    /// Reads the lines of one key of `docs/format/images.txt`.
    fn field(key: &str) -> Vec<u8> {
        let text = include_str!("../../../../docs/format/images.txt");
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let hex = lines.filter(|(name, _)| *name == key);
        hex.flat_map(|(_, hex)| {
            hex.split(' ')
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        })
        .collect()
    }

    #[test]
    fn an_image_and_start_are_written_as_the_page_says() {
        let log = LogId(*b"0123456789abcdef");
        let head = Head {
            seq: Seq::new(4).unwrap(),
            digest: Digest(std::array::from_fn(|index| {
                u8::try_from(96 + index).unwrap()
            })),
        };
        let file = [field("header"), field("body"), field("checksum")].concat();
        let place = Some((Seq::FIRST, 640));
        assert_eq!(encode(log, head, place, &field("body")), file);
        assert_eq!(head::encode(START_MAGIC, log, head)[..], field("start"));
    }
}
