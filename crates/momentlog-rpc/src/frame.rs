//! Frames: the length word and the header that every message begins with.
//!
//! A message is its length, 4 bytes that count themselves, then six words of header, then the payload. All words are
//! big-endian.

use std::io::{self, Read};

/// The program of libvirt's remote protocol.
pub const REMOTE: u32 = 0x2000_8086;

/// The program of pings.
pub const KEEPALIVE: u32 = 0x6b65_6570;

/// The version of both programs.
pub const VERSION: u32 = 1;

/// The procedure of a ping, in [`KEEPALIVE`].
pub const PING: i32 = 1;

/// The procedure of the answer to a ping, in [`KEEPALIVE`].
pub const PONG: i32 = 2;

/// Length of the header without the length word, in bytes.
pub const HEADER_LEN: usize = 24;

/// Longest message without the length word, in bytes.
pub const MESSAGE_LEN_MAX: usize = 32 << 20;

/// Longest payload, in bytes.
pub const PAYLOAD_LEN_MAX: usize = MESSAGE_LEN_MAX - HEADER_LEN;

/// How much is read at once: what a length word claims is not allocated before it has come.
const CHUNK_LEN: u64 = 64 << 10;

/// What a message is, as libvirt numbers it. Numbers without a name are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(pub u32);

impl Kind {
    /// A call.
    pub const CALL: Kind = Kind(0);
    /// The answer to a call.
    pub const REPLY: Kind = Kind(1);
    /// An event, or a ping. It gets no reply.
    pub const MESSAGE: Kind = Kind(2);
    /// A part of a stream, or its end: a call before it opened the stream, and has the same procedure and serial.
    pub const STREAM: Kind = Kind(3);
    /// A call that brings file descriptors: their number comes before its arguments.
    pub const CALL_WITH_FDS: Kind = Kind(4);
    /// An answer that brings file descriptors, as a call does.
    pub const REPLY_WITH_FDS: Kind = Kind(5);
}

/// Whether a reply is an answer or an error, as libvirt numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// An answer; a call and an event have it as well.
    pub const OK: Status = Status(0);
    /// An error.
    pub const ERROR: Status = Status(1);
    /// A part of a stream that is not its end.
    pub const CONTINUE: Status = Status(2);
}

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// The protocol: [`REMOTE`], [`KEEPALIVE`] or another one.
    pub program: u32,
    /// Its version.
    pub version: u32,
    /// The procedure, by its number in the program.
    pub procedure: i32,
    /// What the message is.
    pub kind: Kind,
    /// The number that the caller gave the call; its reply has the same.
    pub serial: u32,
    /// Whether it is an answer or an error.
    pub status: Status,
}

impl Header {
    /// The header of a call of the remote program.
    pub fn call(procedure: i32, serial: u32) -> Header {
        Header {
            program: REMOTE,
            version: VERSION,
            procedure,
            kind: Kind::CALL,
            serial,
            status: Status::OK,
        }
    }

    /// The header of an event of the remote program.
    pub fn event(procedure: i32) -> Header {
        Header {
            kind: Kind::MESSAGE,
            // libvirtd sends 1 here, and clients do not look at it.
            ..Header::call(procedure, 1)
        }
    }

    /// The header of a message of the keepalive program: [`PING`] or [`PONG`].
    pub fn keepalive(procedure: i32) -> Header {
        Header {
            program: KEEPALIVE,
            kind: Kind::MESSAGE,
            ..Header::call(procedure, 0)
        }
    }

    /// The header of the reply to a call with this header.
    #[must_use]
    pub fn reply(self, status: Status) -> Header {
        Header {
            kind: Kind::REPLY,
            status,
            ..self
        }
    }

    /// The header of a part of the stream that a call with this header opened.
    #[must_use]
    pub fn stream(self, status: Status) -> Header {
        Header {
            kind: Kind::STREAM,
            status,
            ..self
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// What comes behind it: arguments, an answer, an error or an event.
    pub payload: Vec<u8>,
}

/// Why no message could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length word is below that of an empty message, or above the bound.
    #[error("a message of {len} bytes, of 28 to {len_max}")]
    Len {
        /// The length word.
        len: u32,
        /// The largest one that is taken.
        len_max: usize,
    },
    /// The stream ends within the message, or cannot be read.
    #[error("cannot read a message")]
    Read(#[from] io::Error),
}

impl Frame {
    /// Reads a message; `None` if the stream ends before it. `len_max` bounds it without the length word, in bytes.
    ///
    /// # Errors
    ///
    /// [`FrameError::Len`], behind which the stream has no meaning; [`FrameError::Read`].
    pub fn read(from: &mut impl Read, len_max: usize) -> Result<Option<Frame>, FrameError> {
        let mut word = [0; 4];
        if !read_or_end(from, &mut word)? {
            return Ok(None);
        }
        let rest = rest_len(word, len_max)?;
        let mut header = [0; HEADER_LEN];
        from.read_exact(&mut header)?;
        let payload = read_chunks(from, (rest - HEADER_LEN) as u64)?;
        Ok(Some(Frame {
            header: decode(&header),
            payload,
        }))
    }

    /// Returns the bytes of the message, length word included.
    ///
    /// # Panics
    ///
    /// If the payload is longer than [`PAYLOAD_LEN_MAX`], which the encoder of payloads never makes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let len = 4 + HEADER_LEN + self.payload.len();
        assert!(self.payload.len() <= PAYLOAD_LEN_MAX, "{len} bytes");
        let mut bytes = Vec::with_capacity(len);
        let header = self.header;
        for word in [
            u32::try_from(len).expect("the length is bounded"),
            header.program,
            header.version,
            header.procedure.cast_unsigned(),
            header.kind.0,
            header.serial,
            header.status.0,
        ] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(&self.payload);
        bytes
    }
}

/// Returns how many bytes follow a length word, of at least a header and at most `len_max`.
pub(crate) fn rest_len(word: [u8; 4], len_max: usize) -> Result<usize, FrameError> {
    let len = u32::from_be_bytes(word);
    let rest = (len as usize).checked_sub(4);
    rest.filter(|rest| (HEADER_LEN..=len_max).contains(rest))
        .ok_or(FrameError::Len {
            len,
            len_max: len_max + 4,
        })
}

pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Header {
    let (words, _) = bytes.as_chunks::<4>();
    let word = |index: usize| u32::from_be_bytes(words[index]);
    Header {
        program: word(0),
        version: word(1),
        procedure: word(2).cast_signed(),
        kind: Kind(word(3)),
        serial: word(4),
        status: Status(word(5)),
    }
}

/// Fills `bytes`; `false` if the stream ends before the first of them.
pub(crate) fn read_or_end(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    let first = loop {
        match from.read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    from.read_exact(&mut bytes[first..])
        .map(|()| true)
        .or_else(|error| if first == 0 { Ok(false) } else { Err(error) })
}

/// Reads `len` bytes.
fn read_chunks(from: &mut impl Read, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < len {
        let wanted = CHUNK_LEN.min(len - bytes.len() as u64);
        let read = from.by_ref().take(wanted).read_to_end(&mut bytes)?;
        if (read as u64) < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
        Frame::read(&mut &bytes[..], MESSAGE_LEN_MAX)
    }

    #[test]
    fn a_ping_is_the_one_of_libvirtd() {
        let ping = Frame {
            header: Header::keepalive(PING),
            payload: vec![],
        };
        let bytes = ping.to_bytes();
        assert_eq!(bytes.len(), 0x1c);
        assert_eq!(bytes[4..8], *b"keep");
        assert_eq!(read(&bytes).unwrap(), Some(ping));
    }

    #[test]
    fn a_length_out_of_bounds_is_refused_before_anything_is_read() {
        let max = u32::try_from(MESSAGE_LEN_MAX).unwrap() + 5;
        for len in [0, 4, 27, max, u32::MAX] {
            let error = read(&len.to_be_bytes()).unwrap_err();
            assert!(matches!(error, FrameError::Len { len: found, .. } if found == len));
        }
    }

    #[test]
    fn a_message_that_ends_early_is_an_error_and_an_empty_stream_is_not() {
        assert!(read(&[]).unwrap().is_none());
        let whole = Frame {
            header: Header::call(66, 0),
            payload: vec![1; 8],
        }
        .to_bytes();
        for len in 1..whole.len() {
            let error = read(&whole[..len]).unwrap_err();
            assert!(matches!(error, FrameError::Read(_)), "{len}");
        }
    }

    #[test]
    fn a_claimed_length_is_not_allocated() {
        let mut bytes = (32_u32 << 20).to_be_bytes().to_vec();
        bytes.extend([0; HEADER_LEN]);
        assert!(matches!(read(&bytes), Err(FrameError::Read(_))));
        let partial = read_chunks(&mut &bytes[..], 32 << 20);
        assert!(partial.is_err());
    }
}
