//! XDR, as far as libvirt's protocol uses it: words of 4 bytes, big-endian, and texts with their length before them.
//!
//! Reading is as lenient as libvirtd: any word but zero is true, and padding may be anything. [`Reader::is_exact`] says
//! whether what was read is what a [`Writer`] would write.

use std::borrow::Cow;

/// Longest text, in bytes.
pub const TEXT_LEN_MAX: usize = 4 << 20;

/// A text, which may be any bytes: libvirt does not ask for UTF-8.
pub type Text<'a> = Cow<'a, [u8]>;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("the bytes end within a value")]
    Short,
    /// A text or list is longer than its bound.
    #[error("{len} bytes or items, of at most {len_max}")]
    TooLong {
        /// The length that is claimed.
        len: u32,
        /// The bound.
        len_max: usize,
    },
    /// A union has no arm of this number.
    #[error("a value of the unknown type {0}")]
    Arm(i32),
}

/// Why a value cannot be sent: a client could not read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A list is too long.
    #[error("{count} entries are too many for one reply: the limit is {count_max}")]
    TooMany {
        /// How many entries there are.
        count: usize,
        /// The bound.
        count_max: usize,
    },
    /// A text is too long.
    #[error("a text of {len} bytes is too long for the protocol: the limit is {len_max}")]
    TextTooLong {
        /// Its length in bytes.
        len: usize,
        /// The bound.
        len_max: usize,
    },
    /// All of it is too long.
    #[error("a message of {len} bytes is too long for the protocol: the limit is {len_max}")]
    MessageTooLong {
        /// Its length in bytes, as far as it was written.
        len: usize,
        /// The bound.
        len_max: usize,
    },
    /// The values are not those of the procedure.
    #[error("the values are not those of the procedure")]
    Shape,
}

/// Reads values off the front of bytes, which it borrows.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    exact: bool,
}

impl<'a> Reader<'a> {
    /// A reader of these bytes.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader {
            rest: bytes,
            exact: true,
        }
    }

    /// Whether a [`Writer`] would have written what was read, and nothing is left.
    pub fn is_exact(&self) -> bool {
        self.exact && self.rest.is_empty()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads an unsigned word.
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads a signed word.
    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// Reads two words as one number.
    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads whether an optional value follows.
    pub(crate) fn is_present(&mut self) -> Result<bool, DecodeError> {
        let word = self.u32()?;
        self.exact &= word <= 1;
        Ok(word != 0)
    }

    /// Reads 16 bytes.
    pub(crate) fn uuid(&mut self) -> Result<[u8; 16], DecodeError> {
        self.array()
    }

    /// Reads a character, which takes a word.
    pub(crate) fn char(&mut self) -> Result<u8, DecodeError> {
        let [high @ .., char] = self.array::<4>()?;
        self.exact &= high == [0; 3];
        Ok(char)
    }

    /// Reads a text.
    pub(crate) fn text(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.len(TEXT_LEN_MAX)?;
        let text = self.take(len)?;
        let padding = self.take(padding(len))?;
        self.exact &= padding.iter().all(|byte| *byte == 0);
        Ok(text)
    }

    /// Reads a list whose items are at least a word long each: nothing is allocated for items that cannot follow.
    pub(crate) fn list<T>(
        &mut self,
        count_max: usize,
        item: impl Fn(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.len(count_max)?;
        if count > self.rest.len() / 4 {
            return Err(DecodeError::Short);
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn len(&mut self, len_max: usize) -> Result<usize, DecodeError> {
        let len = self.u32()?;
        let fits = usize::try_from(len).ok().filter(|len| *len <= len_max);
        fits.ok_or(DecodeError::TooLong { len, len_max })
    }
}

/// Writes values one behind the other, within the bounds of the protocol.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Returns what was written.
    ///
    /// # Errors
    ///
    /// [`EncodeError::MessageTooLong`] if it is longer than `len_max` bytes.
    pub(crate) fn finish(self, len_max: usize) -> Result<Vec<u8>, EncodeError> {
        let len = self.bytes.len();
        if len > len_max {
            return Err(EncodeError::MessageTooLong { len, len_max });
        }
        Ok(self.bytes)
    }

    pub(crate) fn u32(&mut self, word: u32) {
        self.bytes.extend(word.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, word: i32) {
        self.bytes.extend(word.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, number: u64) {
        self.bytes.extend(number.to_be_bytes());
    }

    pub(crate) fn is_present(&mut self, is: bool) {
        self.u32(is.into());
    }

    pub(crate) fn char(&mut self, char: u8) {
        self.u32(char.into());
    }

    pub(crate) fn uuid(&mut self, uuid: [u8; 16]) {
        self.bytes.extend(uuid);
    }

    pub(crate) fn text(&mut self, text: &[u8]) -> Result<(), EncodeError> {
        let len = text.len();
        if len > TEXT_LEN_MAX {
            let len_max = TEXT_LEN_MAX;
            return Err(EncodeError::TextTooLong { len, len_max });
        }
        self.len(len);
        self.bytes.extend(text);
        self.bytes.resize(self.bytes.len() + padding(len), 0);
        Ok(())
    }

    pub(crate) fn list<T>(
        &mut self,
        items: &[T],
        count_max: usize,
        mut item: impl FnMut(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let count = items.len();
        if count > count_max {
            return Err(EncodeError::TooMany { count, count_max });
        }
        self.len(count);
        items.iter().try_for_each(|one| item(self, one))
    }

    fn len(&mut self, len: usize) {
        self.u32(u32::try_from(len).expect("the bound of each length is below 2^32"));
    }
}

/// How many bytes follow a text so that what comes next begins at a word.
fn padding(len: usize) -> usize {
    len.wrapping_neg() % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_word_but_zero_is_true_and_only_one_is_exact() {
        for (word, exact) in [(1_u32, true), (2, false), (0x0100_0000, false)] {
            let bytes = word.to_be_bytes();
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.is_present(), Ok(true));
            assert_eq!(reader.is_exact(), exact, "{word}");
        }
    }

    #[test]
    fn padding_may_be_anything_and_must_be_there() {
        let mut reader = Reader::new(b"\0\0\0\x02c1\xff\xff");
        assert_eq!(reader.text(), Ok(&b"c1"[..]));
        assert!(!reader.is_exact());
        assert_eq!(
            Reader::new(b"\0\0\0\x02c1\0").text(),
            Err(DecodeError::Short)
        );
    }

    #[test]
    fn a_list_that_cannot_follow_allocates_nothing() {
        let mut reader = Reader::new(b"\0\0\x40\0\0\0\0\0");
        assert_eq!(reader.list(16_384, Reader::u32), Err(DecodeError::Short));
        let mut reader = Reader::new(b"\0\0\x40\x01\0\0\0\0");
        let error = reader.list(16_384, Reader::u32).unwrap_err();
        let wanted = DecodeError::TooLong {
            len: 16_385,
            len_max: 16_384,
        };
        assert_eq!(error, wanted);
    }

    #[test]
    fn a_text_is_bounded_in_both_directions() {
        let text = vec![b'a'; TEXT_LEN_MAX + 1];
        let mut writer = Writer::default();
        assert!(writer.text(&text[1..]).is_ok());
        let error = writer.text(&text).unwrap_err();
        assert!(matches!(error, EncodeError::TextTooLong { len, .. } if len == text.len()));
        assert!(Reader::new(&writer.bytes).text().is_ok());
        let claimed = u32::try_from(text.len()).unwrap().to_be_bytes();
        let error = Reader::new(&claimed).text().unwrap_err();
        assert!(matches!(error, DecodeError::TooLong { .. }));
    }
}
