//! What things are called: ids, names and uuids.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use smol_str::SmolStr;

/// Number of one moment within a store. Never reused, and allocated in order from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MomentId(NonZeroU64);

impl MomentId {
    /// The first id that a store allocates.
    pub const FIRST: MomentId = MomentId(NonZeroU64::MIN);

    /// Returns the id numbered `number`, or `None` for 0, which means "no moment" in the log.
    pub fn new(number: u64) -> Option<MomentId> {
        NonZeroU64::new(number).map(MomentId)
    }

    /// The number, at least 1.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The id after this one, or `None` after `u64::MAX`.
    pub fn next(self) -> Option<MomentId> {
        self.0.checked_add(1).map(MomentId)
    }
}

impl fmt::Display for MomentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a moment: any text that is not empty, of characters that XML can say.
///
/// libvirt sets no other limit to a snapshot's name; a checkpoint's name follows
/// [`MomentName::is_checkpoint_name`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MomentName(SmolStr);

impl MomentName {
    /// Returns the name, or `None` if `text` is empty or holds a character that XML cannot say: a control character but tab
    /// and line breaks, U+FFFE or U+FFFF.
    pub fn new(text: &str) -> Option<MomentName> {
        let unsayable = |char: char| matches!(char, '\0'..'\t' | '\u{b}' | '\u{c}' | '\u{e}'..' ' | '\u{fffe}' | '\u{ffff}');
        if text.is_empty() || text.contains(unsayable) {
            return None;
        }
        Some(MomentName(SmolStr::new(text)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether libvirt's schema takes `text` as the name of a checkpoint:
    /// `[a-zA-Z0-9_-][a-zA-Z0-9_.-]*`.
    pub fn is_checkpoint_name(text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let mut bytes = text.bytes();
        bytes.next().is_some_and(plain) && bytes.all(|byte| plain(byte) || byte == b'.')
    }
}

impl fmt::Display for MomentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::borrow::Borrow<str> for MomentName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The uuid by which a domain is known for its whole life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainUuid([u8; 16]);

impl DomainUuid {
    /// Returns the uuid made of these bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> DomainUuid {
        DomainUuid(bytes)
    }

    /// Returns a random (version 4) uuid from 16 bytes of the caller's entropy.
    pub fn from_entropy(mut bytes: [u8; 16]) -> DomainUuid {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        DomainUuid(bytes)
    }

    /// The 16 bytes, most significant first.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for DomainUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for DomainUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a uuid: neither 32 hex digits nor groups of 8-4-4-4-12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed uuid")]
pub struct MalformedUuid;

impl FromStr for DomainUuid {
    type Err = MalformedUuid;

    fn from_str(text: &str) -> Result<DomainUuid, MalformedUuid> {
        let bytes = text.as_bytes();
        let dashed = bytes.len() == 36;
        if !dashed && bytes.len() != 32 {
            return Err(MalformedUuid);
        }
        let mut uuid = [0; 16];
        let mut digits = 0;
        for (index, byte) in bytes.iter().enumerate() {
            if dashed && matches!(index, 8 | 13 | 18 | 23) {
                if *byte != b'-' {
                    return Err(MalformedUuid);
                }
                continue;
            }
            let digit = (*byte as char)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok());
            uuid[digits / 2] = uuid[digits / 2] << 4 | digit.ok_or(MalformedUuid)?;
            digits += 1;
        }
        Ok(DomainUuid(uuid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_with_and_without_dashes_and_prints_with_them() {
        let dashed = "6695eb01-f6a4-8304-79aa-97f2502e193f";
        let plain = "6695EB01F6A4830479AA97F2502E193F";
        assert_eq!(dashed.parse::<DomainUuid>(), plain.parse());
        assert_eq!(plain.parse::<DomainUuid>().unwrap().to_string(), dashed);
    }

    #[test]
    fn what_is_not_a_uuid_is_refused() {
        for text in [
            "",
            "6695eb01",
            "6695eb01-f6a4-8304-79aa-97f2502e193",
            "6695eb01xf6a4-8304-79aa-97f2502e193f",
            "6695eb01-f6a4-8304-79aa-97f2502e193é",
        ] {
            assert_eq!(text.parse::<DomainUuid>(), Err(MalformedUuid), "{text}");
        }
    }

    #[test]
    fn a_name_is_what_xml_can_say() {
        for good in [
            "a",
            " ",
            "a/b",
            "a\tb\nc\r",
            "\u{7f}\u{85}",
            "\u{fffd}\u{1f642}",
        ] {
            assert!(MomentName::new(good).is_some(), "{good:?}");
        }
        for bad in [
            "",
            "\0",
            "a\u{8}",
            "\u{b}",
            "\u{1b}[m",
            "\u{1f}",
            "a\u{fffe}",
            "\u{ffff}",
        ] {
            assert_eq!(MomentName::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn checkpoint_names_follow_the_schema() {
        for good in ["-a", "_x", "A-1.", "9"] {
            assert!(MomentName::is_checkpoint_name(good), "{good}");
        }
        for bad in [".x", "a b", "a:b", "é", " a", "a\n", ""] {
            assert!(!MomentName::is_checkpoint_name(bad), "{bad}");
        }
    }
}
