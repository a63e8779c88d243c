//! Three small files of one layout: `head` says how far the log is durable, `start` after which record it begins here,
//! and `archive`, in an archive, up to which record it was written last.
//! `docs/format.md` has their bytes.

use crate::frame::{array_at, header_checksum, u32_at, u64_at};
use crate::{Digest, FORMAT_VERSION, Head, LogId, Seq};

pub(crate) const HEAD_LEN: usize = 72;
pub(crate) const HEAD_MAGIC: [u8; 8] = *b"\x8amthead\n";
pub(crate) const ARCHIVE_MAGIC: [u8; 8] = *b"\x8amtarch\n";
pub(crate) const START_MAGIC: [u8; 8] = *b"\x8amtstrt\n";

/// What the bytes of such a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// This record of this log.
    At(LogId, Head),
    /// No record yet.
    None,
    /// The file is from a newer version.
    NewerFormat(u32),
    /// The file is being written at this moment, was being written when the power failed, or is damaged.
    Torn,
}

pub(crate) fn encode(magic: [u8; 8], log: LogId, head: Head) -> [u8; HEAD_LEN] {
    let mut bytes = [0; HEAD_LEN];
    bytes[..8].copy_from_slice(&magic);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(&log.0);
    bytes[32..40].copy_from_slice(&head.seq.get().to_le_bytes());
    bytes[40..72].copy_from_slice(&head.digest.0);
    let checksum = header_checksum(&bytes);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

pub(crate) fn decode(magic: [u8; 8], bytes: &[u8]) -> Mark {
    if bytes.iter().all(|byte| *byte == 0) {
        return Mark::None;
    }
    if bytes.len() != HEAD_LEN || bytes[..8] != magic || u32_at(bytes, 12) != header_checksum(bytes)
    {
        return Mark::Torn;
    }
    match u32_at(bytes, 8) {
        FORMAT_VERSION => {
            let log = LogId(array_at(bytes, 16));
            let digest = Digest(array_at(bytes, 40));
            Seq::new(u64_at(bytes, 32))
                .map_or(Mark::None, |seq| Mark::At(log, Head { seq, digest }))
        }
        found => Mark::NewerFormat(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_reads_as_torn() {
        let log = LogId([1; 16]);
        let head = Head {
            seq: Seq::FIRST,
            digest: Digest([7; 32]),
        };
        for magic in [HEAD_MAGIC, START_MAGIC] {
            let whole = encode(magic, log, head);
            assert_eq!(decode(magic, &whole), Mark::At(log, head));
            for bit in 0..8 * HEAD_LEN {
                let mut bytes = whole;
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(magic, &bytes), Mark::Torn, "bit {bit}");
            }
            assert_eq!(decode(magic, &whole[..40]), Mark::Torn);
            assert_eq!(decode(magic, &[0; HEAD_LEN]), Mark::None);
        }
        let head = encode(HEAD_MAGIC, log, head);
        assert_eq!(decode(START_MAGIC, &head), Mark::Torn);
    }
}
