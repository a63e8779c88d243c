//! Frames: one record as bytes, tied to its place. The numbers are those of `docs/format.md`.

use crate::record::digest;
use crate::{Digest, LogId, Record, Seq, Text};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The longest frame, in bytes.
pub const FRAME_LEN_MAX: usize = 64 << 20;

pub(crate) const MAGIC: [u8; 8] = *b"\x8amoment\n";
pub(crate) const HEADER_LEN: usize = 96;
const CHECKSUM_LEN: usize = 4;
const TEXT_HEADER_LEN: usize = 40;

/// Where a frame stands, which its checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The log.
    pub log: LogId,
    /// The first seq of the segment.
    pub segment: Seq,
    /// Offset in the segment, a multiple of 8.
    pub offset: u64,
}

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// There are fewer bytes than the frame needs.
    #[error("the frame is cut short: {needed} bytes needed, {found} found")]
    Short {
        /// Bytes that the frame needs.
        needed: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// The bytes do not begin with the magic.
    #[error("no frame begins here")]
    Magic,
    /// The header's checksum does not match.
    #[error("the header does not match its checksum")]
    Header,
    /// The frame is of a format that this version does not know.
    #[error("the frame has format {found}, and this version knows up to {FORMAT_VERSION}")]
    NewerFormat {
        /// The frame's format.
        found: u32,
    },
    /// The frame is of another log.
    #[error("the frame belongs to log {found}")]
    OtherLog {
        /// That log.
        found: LogId,
    },
    /// A length or reserved field makes no sense.
    #[error("the frame's {0} makes no sense")]
    Field(&'static str),
    /// The checksum does not match.
    #[error("the frame does not match its checksum")]
    Checksum,
}

/// Returns the length in bytes of the frame of a record with these parts.
pub(crate) fn frame_len(facts: usize, texts: &[Text]) -> usize {
    let texts: usize = texts
        .iter()
        .map(|text| TEXT_HEADER_LEN + text_len(text))
        .sum();
    (HEADER_LEN + facts + texts + CHECKSUM_LEN).next_multiple_of(8)
}

fn text_len(text: &Text) -> usize {
    match text {
        Text::Plain { bytes, .. } => bytes.len(),
        Text::Erased { length, .. } => *length as usize,
    }
}

/// Returns the frame of `record` at `place`, as a log holds it.
///
/// # Panics
///
/// If the frame would be longer than [`FRAME_LEN_MAX`].
pub fn encode_frame(record: &Record, place: Place) -> Vec<u8> {
    assert!(
        frame_len(record.facts.len(), &record.texts) <= FRAME_LEN_MAX,
        "a frame is at most 64 MiB"
    );
    let mut bytes = Vec::new();
    encode(record, place, &mut bytes);
    bytes
}

/// Appends the frame of `record` at `place` to `out`. The caller has checked its length.
pub(crate) fn encode(record: &Record, place: Place, out: &mut Vec<u8>) {
    let start = out.len();
    let length = frame_len(record.facts.len(), &record.texts);
    let texts: usize = record
        .texts
        .iter()
        .map(|text| TEXT_HEADER_LEN + text_len(text))
        .sum();
    let length_of = |bytes: usize| {
        u32::try_from(bytes)
            .expect("a frame is at most 64 MiB")
            .to_le_bytes()
    };
    out.reserve(length);
    out.extend(MAGIC);
    out.extend(FORMAT_VERSION.to_le_bytes());
    out.extend([0; 4]);
    out.extend(place.log.0);
    out.extend(record.seq.get().to_le_bytes());
    out.extend(record.previous.0);
    out.extend(record.durable.map_or(0, Seq::get).to_le_bytes());
    out.extend(length_of(record.facts.len()));
    out.extend(length_of(record.texts.len()));
    out.extend(length_of(texts));
    out.extend([0; 4]);
    let header = header_checksum(&out[start..]);
    out[start + 12..start + 16].copy_from_slice(&header.to_le_bytes());
    out.extend(&record.facts);
    for text in &record.texts {
        let (kind, salt, bytes): (u8, _, &[u8]) = match text {
            Text::Plain { salt, bytes } => (0, salt, bytes),
            Text::Erased { commitment, .. } => (1, &commitment.0, &[]),
        };
        out.extend([kind, 0, 0, 0]);
        out.extend(length_of(text_len(text)));
        out.extend(salt);
        out.extend(bytes);
        out.resize(out.len() + text_len(text) - bytes.len(), 0);
    }
    out.resize(start + length - CHECKSUM_LEN, 0);
    let checksum = checksum(place, &out[start..]);
    out.extend(checksum.to_le_bytes());
}

/// What a frame's header says: enough to know how many bytes to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) log: LogId,
    pub(crate) seq: Seq,
    pub(crate) previous: Digest,
    pub(crate) durable: Option<Seq>,
    facts: usize,
    texts: usize,
    texts_len: usize,
    /// Length of the whole frame.
    pub(crate) frame_len: usize,
}

/// Reads the header at the start of `bytes`.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<Header, FrameError> {
    let bytes = header_bytes(bytes)?;
    if u32_at(bytes, 12) != header_checksum(bytes) {
        return Err(FrameError::Header);
    }
    read_header(bytes)
}

/// As [`decode_header`], without its checksum: for a frame whose own is compared, which covers the header.
pub(crate) fn unchecked_header(bytes: &[u8]) -> Result<Header, FrameError> {
    read_header(header_bytes(bytes)?)
}

fn header_bytes(bytes: &[u8]) -> Result<&[u8], FrameError> {
    let bytes = bytes.get(..HEADER_LEN).ok_or(FrameError::Short {
        needed: HEADER_LEN,
        found: bytes.len(),
    })?;
    if bytes[..8] != MAGIC {
        return Err(FrameError::Magic);
    }
    Ok(bytes)
}

fn read_header(bytes: &[u8]) -> Result<Header, FrameError> {
    let version = u32_at(bytes, 8);
    if version != FORMAT_VERSION {
        return Err(FrameError::NewerFormat { found: version });
    }
    let (facts, texts, texts_len) = (
        u32_at(bytes, 80) as usize,
        u32_at(bytes, 84) as usize,
        u32_at(bytes, 88) as usize,
    );
    let frame_len = (HEADER_LEN + facts + texts_len + CHECKSUM_LEN).next_multiple_of(8);
    if frame_len > FRAME_LEN_MAX {
        return Err(FrameError::Field("length"));
    }
    if texts_len < texts * TEXT_HEADER_LEN {
        return Err(FrameError::Field("number of texts"));
    }
    if u32_at(bytes, 92) != 0 {
        return Err(FrameError::Field("reserved field"));
    }
    Ok(Header {
        log: LogId(array_at(bytes, 16)),
        seq: Seq::new(u64_at(bytes, 32)).ok_or(FrameError::Field("seq"))?,
        previous: Digest(array_at(bytes, 40)),
        durable: Seq::new(u64_at(bytes, 72)),
        facts,
        texts,
        texts_len,
        frame_len,
    })
}

/// Reads the frame that begins at `bytes`, which may go on after it, and stands at `place`. Also returns its length.
///
/// # Errors
///
/// [`FrameError`]: the first rule of the format that the bytes break.
pub fn decode(bytes: &[u8], place: Place) -> Result<(Record, usize), FrameError> {
    decode_after(decode_header(bytes)?, bytes, place)
}

/// Returns the facts of the frame that begins at `bytes` and stands at `place`, if it is whole there: its checksum matches.
pub(crate) fn facts_of<'a>(header: &Header, bytes: &'a [u8], place: Place) -> Option<&'a [u8]> {
    let (covered, sum) = bytes
        .get(..header.frame_len)?
        .split_at(header.frame_len - CHECKSUM_LEN);
    let is_whole = header.log == place.log && u32_at(sum, 0) == checksum(place, covered);
    is_whole.then(|| &covered[HEADER_LEN..HEADER_LEN + header.facts])
}

/// As [`decode`], where the header at the start of `bytes` was read already.
pub(crate) fn decode_after(
    header: Header,
    bytes: &[u8],
    place: Place,
) -> Result<(Record, usize), FrameError> {
    if header.log != place.log {
        return Err(FrameError::OtherLog { found: header.log });
    }
    let length = header.frame_len;
    let frame = bytes.get(..length).ok_or(FrameError::Short {
        needed: length,
        found: bytes.len(),
    })?;
    let (covered, sum) = frame.split_at(length - CHECKSUM_LEN);
    if u32_at(sum, 0) != checksum(place, covered) {
        return Err(FrameError::Checksum);
    }
    let facts_end = HEADER_LEN + header.facts;
    let texts_end = facts_end + header.texts_len;
    if covered[texts_end..].iter().any(|byte| *byte != 0) {
        return Err(FrameError::Field("padding"));
    }
    let facts = covered[HEADER_LEN..facts_end].to_vec();
    let texts = decode_texts(&covered[facts_end..texts_end], header.texts)?;
    let digest = digest(header.log, header.seq, header.previous, &facts, &texts);
    let Header {
        seq,
        previous,
        durable,
        ..
    } = header;
    Ok((
        Record {
            seq,
            previous,
            digest,
            durable,
            facts,
            texts,
        },
        length,
    ))
}

fn decode_texts(mut bytes: &[u8], count: usize) -> Result<Vec<Text>, FrameError> {
    let mut texts = Vec::new();
    for _ in 0..count {
        if bytes.len() < TEXT_HEADER_LEN || bytes[1..4] != [0; 3] {
            return Err(FrameError::Field("text"));
        }
        let length = u32_at(bytes, 4);
        let salt = array_at(bytes, 8);
        let end = TEXT_HEADER_LEN + length as usize;
        let content = bytes
            .get(TEXT_HEADER_LEN..end)
            .ok_or(FrameError::Field("length of a text"))?;
        texts.push(match bytes[0] {
            0 => Text::Plain {
                salt,
                bytes: content.to_vec(),
            },
            1 if content.iter().all(|byte| *byte == 0) => Text::Erased {
                commitment: Digest(salt),
                length,
            },
            _ => return Err(FrameError::Field("kind of a text")),
        });
        bytes = &bytes[end..];
    }
    if bytes.is_empty() {
        Ok(texts)
    } else {
        Err(FrameError::Field("length of texts"))
    }
}

/// CRC-32C of a header of at least 16 bytes, without its checksum field.
pub(crate) fn header_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

fn checksum(place: Place, covered: &[u8]) -> u32 {
    let mut stands = [0; 32];
    stands[..16].copy_from_slice(&place.log.0);
    stands[16..24].copy_from_slice(&place.segment.get().to_le_bytes());
    stands[24..].copy_from_slice(&place.offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&stands), covered)
}

pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("the slice has this length")
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
