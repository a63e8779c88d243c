//! Records, their digests, and where they stand in the chain.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Position of a record in the log. The first record is 1, so an empty log has no seq.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(NonZeroU64);

impl Seq {
    /// The seq of the first record.
    pub const FIRST: Seq = Seq(NonZeroU64::MIN);

    /// Returns the seq numbered `number`, or `None` for 0, which means "none" in the log.
    pub fn new(number: u64) -> Option<Seq> {
        NonZeroU64::new(number).map(Seq)
    }

    /// The number, at least 1.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The seq after `last`, or the first one. A log ends long before `u64::MAX`.
    #[must_use]
    pub fn after(last: Option<Seq>) -> Seq {
        Seq(last.map_or(NonZeroU64::MIN, |last| last.0.saturating_add(1)))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Random number that tells one log from all others.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

/// SHA-256 digest of a record, which covers all records before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// What stands for the digest before the first record.
    pub const ZERO: Digest = Digest([0; 32]);
}

/// Writes bytes as hex, for `Display` and `Debug` of ids and digests.
macro_rules! hex_text {
    ($type:ident, $length:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = MalformedReceipt;

            fn from_str(text: &str) -> Result<$type, MalformedReceipt> {
                let digits = text.as_bytes();
                if digits.len() != 2 * $length {
                    return Err(MalformedReceipt);
                }
                let mut bytes = [0; $length];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
                    let digit = |at: usize| {
                        let digit = (pair[at] as char).to_digit(16).ok_or(MalformedReceipt)?;
                        u8::try_from(digit).map_err(|_| MalformedReceipt)
                    };
                    *byte = digit(0)? << 4 | digit(1)?;
                }
                Ok($type(bytes))
            }
        }
    };
}

hex_text!(LogId, 16);
hex_text!(Digest, 32);

/// The last record: its seq and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// Its seq.
    pub seq: Seq,
    /// Its digest.
    pub digest: Digest,
}

/// Proof of what a log held: keep it elsewhere, and `verify` against it finds truncation, rollback and fork.
///
/// As text it is one line: `momentlog1 LOG-ID SEQ DIGEST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The log.
    pub log: LogId,
    /// The record and its digest.
    pub head: Head,
}

/// The text is not a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a receipt: expected `momentlog1 LOG-ID SEQ DIGEST`")]
pub struct MalformedReceipt;

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "momentlog1 {} {} {}",
            self.log, self.head.seq, self.head.digest
        )
    }
}

impl FromStr for Receipt {
    type Err = MalformedReceipt;

    fn from_str(text: &str) -> Result<Receipt, MalformedReceipt> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let ["momentlog1", log, seq, digest] = words[..] else {
            return Err(MalformedReceipt);
        };
        let seq = seq
            .parse()
            .ok()
            .and_then(Seq::new)
            .ok_or(MalformedReceipt)?;
        Ok(Receipt {
            log: log.parse()?,
            head: Head {
                seq,
                digest: digest.parse()?,
            },
        })
    }
}

/// A text beside the facts: it can be erased later without breaking the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// The text as it was given.
    Plain {
        /// Random bytes that keep the commitment from telling anything.
        salt: [u8; 32],
        /// The text.
        bytes: Vec<u8>,
    },
    /// A text that is gone.
    Erased {
        /// What the chain holds of it.
        commitment: Digest,
        /// How many bytes it had.
        length: u32,
    },
}

impl Text {
    /// What the record's digest covers of the text.
    pub fn commitment(&self) -> Digest {
        match self {
            Text::Erased { commitment, .. } => *commitment,
            Text::Plain { salt, bytes } => {
                let mut hash = Sha256::new();
                hash.update(b"momentlog text v1");
                hash.update(salt);
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
                Digest(hash.finalize().into())
            }
        }
    }
}

/// What a caller wants recorded; the log adds place and digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// Bytes that are hashed as they are.
    pub facts: Vec<u8>,
    /// Bytes that the digest covers by commitment.
    pub texts: Vec<Text>,
}

impl Draft {
    /// Bytes of the frame that it becomes; more than [`FRAME_LEN_MAX`](crate::FRAME_LEN_MAX) are refused.
    pub fn frame_len(&self) -> usize {
        crate::frame::frame_len(self.facts.len(), &self.texts)
    }
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub seq: Seq,
    /// The digest of the record before.
    pub previous: Digest,
    /// Its own digest.
    pub digest: Digest,
    /// The last seq that was known to be durable when it was written.
    pub durable: Option<Seq>,
    /// The facts.
    pub facts: Vec<u8>,
    /// The texts.
    pub texts: Vec<Text>,
}

impl Record {
    /// Returns the record that `draft` becomes after `head`.
    pub fn new(log: LogId, head: Option<Head>, durable: Option<Seq>, draft: Draft) -> Record {
        let seq = Seq::after(head.map(|head| head.seq));
        let previous = head.map_or(Digest::ZERO, |head| head.digest);
        let digest = digest(log, seq, previous, &draft.facts, &draft.texts);
        Record {
            seq,
            previous,
            digest,
            durable,
            facts: draft.facts,
            texts: draft.texts,
        }
    }

    /// Returns the digest that this record has in the log `log`, from what it holds.
    pub fn computed(&self, log: LogId) -> Digest {
        digest(log, self.seq, self.previous, &self.facts, &self.texts)
    }

    /// The seq and digest, as the end of a log that ends here.
    pub fn head(&self) -> Head {
        Head {
            seq: self.seq,
            digest: self.digest,
        }
    }
}

/// Returns the digest of a record, as `docs/format.md` defines it.
pub(crate) fn digest(
    log: LogId,
    seq: Seq,
    previous: Digest,
    facts: &[u8],
    texts: &[Text],
) -> Digest {
    // One piece, because each piece costs.
    let mut head = [0; 83];
    head[..19].copy_from_slice(b"momentlog record v1");
    head[19..35].copy_from_slice(&log.0);
    head[35..43].copy_from_slice(&seq.get().to_le_bytes());
    head[43..75].copy_from_slice(&previous.0);
    head[75..].copy_from_slice(&(facts.len() as u64).to_le_bytes());
    let mut hash = Sha256::new();
    hash.update(head);
    hash.update(facts);
    for text in texts {
        hash.update(text.commitment().0);
    }
    Digest(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_reads_as_it_prints() {
        let head = Head {
            seq: Seq::new(42).unwrap(),
            digest: Digest([0xab; 32]),
        };
        let receipt = Receipt {
            log: LogId([0x01; 16]),
            head,
        };
        assert_eq!(receipt.to_string().parse(), Ok(receipt));
        for bad in [
            "",
            "momentlog1",
            "momentlog2 00 1 00",
            &receipt.to_string().replace(" 42 ", " 0 "),
        ] {
            assert_eq!(bad.parse::<Receipt>(), Err(MalformedReceipt), "{bad}");
        }
    }

    #[test]
    fn erasing_a_text_keeps_the_digest() {
        let plain = Text::Plain {
            salt: [7; 32],
            bytes: b"secret".to_vec(),
        };
        let erased = Text::Erased {
            commitment: plain.commitment(),
            length: 6,
        };
        let of = |text: &Text| {
            digest(
                LogId([1; 16]),
                Seq::FIRST,
                Digest::ZERO,
                b"facts",
                std::slice::from_ref(text),
            )
        };
        assert_eq!(of(&plain), of(&erased));
        let other = Text::Plain {
            salt: [8; 32],
            bytes: b"secret".to_vec(),
        };
        assert_ne!(of(&plain), of(&other));
    }
}
