//! A connection of the proxy's own to libvirtd, for looking.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use momentlog::core::DomainUuid;

use crate::frame::{
    Frame, FrameError, Header, KEEPALIVE, Kind, MESSAGE_LEN_MAX, PING, PONG, REMOTE, Status,
};
use crate::proto::{Procedure, RemoteError, Shape, Value, decode, encode};
use crate::xdr::{DecodeError, EncodeError, Reader};

/// How long libvirtd may take for an answer.
const ANSWER_WAIT: Duration = Duration::from_mins(1);

/// `VIR_DOMAIN_EVENT_ID_LIFECYCLE`.
const LIFECYCLE: i32 = 0;

/// The message of such an event.
const LIFECYCLE_EVENT: i32 = 318;

/// The flag of a connection for reading only.
const READ_ONLY: u32 = 1;

/// A connection to libvirtd that changes nothing.
#[derive(Debug)]
pub(super) struct Upstream {
    stream: UnixStream,
    serial: u32,
    /// The domains that it has told of, if it was listened to.
    changed: BTreeSet<DomainUuid>,
}

impl AsFd for Upstream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Why libvirtd was not looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    /// The connection failed.
    #[error("the connection to libvirtd fails: {0}")]
    Connection(#[from] io::Error),
    /// What came is no message.
    #[error("libvirtd's answer cannot be read: {0}")]
    Frame(#[from] FrameError),
    /// An answer is not what the procedure's is.
    #[error("libvirtd's answer cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// A question cannot be asked.
    #[error("libvirtd cannot be asked: {0}")]
    Encode(#[from] EncodeError),
    /// libvirtd refused it.
    #[error("libvirtd says: {message}")]
    Refused {
        /// libvirt's code.
        code: i32,
        /// Its message.
        message: String,
    },
    /// An answer says what cannot be.
    #[error("libvirtd's answer is not understood: {0}")]
    Unknown(String),
}

impl LookError {
    /// Whether another connection may answer.
    pub(super) fn is_of_connection(&self) -> bool {
        !matches!(self, LookError::Refused { .. } | LookError::Unknown(_))
    }

    /// libvirt's code, if libvirtd refused it.
    pub(super) fn code(&self) -> Option<i32> {
        match self {
            LookError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// The answer to a call.
#[derive(Debug)]
pub(super) struct Answer {
    procedure: &'static Procedure,
    payload: Vec<u8>,
}

impl Answer {
    /// Returns what it carries.
    pub(super) fn values(&self) -> Result<Vec<Value<'_>>, DecodeError> {
        decode(self.procedure.answer, &mut Reader::new(&self.payload))
    }
}

impl Upstream {
    /// Connects to libvirtd's socket, and opens a driver for reading only.
    pub(super) fn open(socket: &Path, uri: &str) -> Result<Upstream, LookError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        stream.set_write_timeout(Some(ANSWER_WAIT))?;
        let mut upstream = Upstream {
            stream,
            serial: 0,
            changed: BTreeSet::new(),
        };
        upstream.ask(66, &[])?;
        let uri = Value::OptText(Some(uri.as_bytes().into()));
        upstream.ask(1, &[uri, Value::UInt(READ_ONLY)])?;
        Ok(upstream)
    }

    /// Has libvirtd tell which domains are defined, started, stopped and undefined.
    pub(super) fn listen(&mut self) -> Result<(), LookError> {
        self.ask(316, &[Value::Int(LIFECYCLE), Value::OptDomain(None)])?;
        Ok(())
    }

    /// Hears one message that libvirtd sends without having been asked, and waits for it.
    pub(super) fn hear(&mut self) -> Result<(), LookError> {
        self.read()?;
        Ok(())
    }

    /// Takes the domains that were told of.
    pub(super) fn changed(&mut self) -> BTreeSet<DomainUuid> {
        std::mem::take(&mut self.changed)
    }

    /// Reads a message. Events are kept, and pings are answered.
    fn read(&mut self) -> Result<Frame, LookError> {
        let frame = Frame::read(&mut self.stream, MESSAGE_LEN_MAX)?;
        let frame = frame.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        match (frame.header.program, frame.header.procedure) {
            (KEEPALIVE, PING) => {
                let pong = Frame {
                    header: Header::keepalive(PONG),
                    payload: Vec::new(),
                };
                self.stream.write_all(&pong.to_bytes())?;
            }
            (REMOTE, LIFECYCLE_EVENT) if frame.header.kind == Kind::MESSAGE => {
                let shapes = [Shape::Int, Shape::Domain];
                let told = decode(&shapes, &mut Reader::new(&frame.payload))?;
                if let [_, Value::Domain(domain)] = &told[..] {
                    self.changed.insert(DomainUuid::from_bytes(domain.uuid));
                }
            }
            _ => {}
        }
        Ok(frame)
    }

    /// Makes a call, and returns its answer.
    pub(super) fn ask(
        &mut self,
        procedure: i32,
        arguments: &[Value<'_>],
    ) -> Result<Answer, LookError> {
        let procedure = Procedure::by_number(procedure).ok_or_else(|| {
            LookError::Unknown(format!("procedure {procedure} is not in the table"))
        })?;
        self.serial = self.serial.wrapping_add(1);
        let call = Frame {
            header: Header::call(procedure.number, self.serial),
            payload: encode(procedure.arguments, arguments)?,
        };
        self.stream.write_all(&call.to_bytes())?;
        loop {
            let Frame { header, payload } = self.read()?;
            let is_reply = header.kind == Kind::REPLY
                && (header.program, header.serial) == (REMOTE, self.serial);
            if !is_reply {
                continue;
            }
            if header.status == Status::OK {
                return Ok(Answer { procedure, payload });
            }
            let error = RemoteError::decode(&mut Reader::new(&payload))?;
            return Err(LookError::Refused {
                code: error.code,
                message: text(error.message.as_deref().unwrap_or_default()),
            });
        }
    }
}

/// A text of libvirt's, whose bytes may be anything.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
