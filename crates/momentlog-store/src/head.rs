//! The `head` file: how far the log is durable, for readers in other processes. `docs/format.md` has its bytes.

use crate::frame::{array_at, header_checksum, u32_at, u64_at};
use crate::{Digest, FORMAT_VERSION, Head, LogId, Seq};

pub(crate) const HEAD_LEN: usize = 72;
const MAGIC: [u8; 8] = *b"\x8amthead\n";

/// What the bytes of a `head` file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// The last durable record; none before the first one.
    Head(Option<Head>),
    /// The file is from a newer version.
    NewerFormat(u32),
    /// The file is being written at this moment, or damaged.
    Torn,
}

pub(crate) fn encode(log: LogId, head: Head) -> [u8; HEAD_LEN] {
    let mut bytes = [0; HEAD_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(&log.0);
    bytes[32..40].copy_from_slice(&head.seq.get().to_le_bytes());
    bytes[40..72].copy_from_slice(&head.digest.0);
    let checksum = header_checksum(&bytes);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Published {
    if bytes.is_empty() || bytes.iter().all(|byte| *byte == 0) {
        return Published::Head(None);
    }
    if bytes.len() != HEAD_LEN || bytes[..8] != MAGIC || u32_at(bytes, 12) != header_checksum(bytes)
    {
        return Published::Torn;
    }
    match u32_at(bytes, 8) {
        FORMAT_VERSION => {
            let digest = Digest(array_at(bytes, 40));
            Published::Head(Seq::new(u64_at(bytes, 32)).map(|seq| Head { seq, digest }))
        }
        found => Published::NewerFormat(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_reads_as_torn() {
        let head = Head {
            seq: Seq::FIRST,
            digest: Digest([7; 32]),
        };
        let whole = encode(LogId([1; 16]), head);
        assert_eq!(decode(&whole), Published::Head(Some(head)));
        for bit in 0..8 * HEAD_LEN {
            let mut bytes = whole;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes), Published::Torn, "bit {bit}");
        }
        assert_eq!(decode(&whole[..40]), Published::Torn);
        assert_eq!(decode(&[0; HEAD_LEN]), Published::Head(None));
    }
}
