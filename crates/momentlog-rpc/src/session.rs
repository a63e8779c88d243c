//! One client's calls, in the order in which they came. Nothing here knows of sockets.

mod calls;
mod own;
mod test_driver;

use std::sync::Arc;

use momentlog::{Connection, Peer, procedure};

use crate::events::Listener;
use crate::failure::Failure;
use crate::features;
use crate::frame::{Frame, Header, Kind, REMOTE, Status, VERSION};
use crate::outbox::Outbox;
use crate::peer::provenance_of;
use crate::proto::{Access, Procedure, Value, decode, encode};
use crate::served::{Entered, Served};
use crate::xdr::Reader;
use test_driver::SCREEN;

/// The bit of `CONNECT_OPEN` that means something to a server: for reading only.
const READ_ONLY: u32 = 1;

/// The call that opens a stream.
const SCREENSHOT: i32 = 211;

/// Most streams of a client that it has not ended.
const STREAMS_MAX: usize = 256;

/// The calls of one client.
#[derive(Debug)]
pub(crate) struct Session {
    served: Arc<Served>,
    peer: Peer,
    /// Whether the socket is for reading only.
    read_only: bool,
    listener: Arc<Listener>,
    opened: Option<Opened>,
    /// The serials of the calls whose streams the client has not ended.
    streams: Vec<u32>,
    closed: bool,
}

/// A session between `CONNECT_OPEN` and `CONNECT_CLOSE`.
#[derive(Debug)]
struct Opened {
    /// The store, under the client's provenance.
    connection: Connection,
    entered: Entered,
}

/// What a reply carries.
type Answer = Result<Vec<Value<'static>>, Failure>;

impl Session {
    /// The session of a client that has said nothing yet. Calls are recorded as the peer's.
    pub(crate) fn new(
        served: &Arc<Served>,
        peer: Peer,
        read_only: bool,
        outbox: Arc<Outbox>,
    ) -> Session {
        Session {
            served: served.clone(),
            peer,
            read_only,
            listener: Arc::new(Listener::new(outbox)),
            opened: None,
            streams: Vec::new(),
            closed: false,
        }
    }

    /// Whether the client has said that it leaves.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Makes a call and returns its reply, with the stream that it opens; nothing for a message that is no call and ends no
    /// stream.
    pub(crate) fn answer(&mut self, call: &Frame) -> Vec<Frame> {
        let Frame { header, payload } = call;
        match header.kind {
            Kind::CALL | Kind::CALL_WITH_FDS => {}
            Kind::STREAM => return Vec::from_iter(self.end_stream(*header)),
            _ => return Vec::new(),
        }
        let (status, payload) = match self.perform(*header, payload) {
            Ok(payload) => (Status::OK, payload),
            Err(failure) => {
                tracing::debug!("procedure {} is refused: {failure:?}", header.procedure);
                (Status::ERROR, failure.encode())
            }
        };
        let mut frames = vec![Frame {
            header: header.reply(status),
            payload,
        }];
        if status == Status::OK && header.procedure == SCREENSHOT {
            self.streams.push(header.serial);
            // What has no bytes is the end.
            frames.extend([SCREEN, b""].map(|bytes| Frame {
                header: header.stream(Status::CONTINUE),
                payload: bytes.to_vec(),
            }));
        }
        frames
    }

    /// Confirms that the client has read a stream to its end, or wants no more of it.
    fn end_stream(&mut self, header: Header) -> Option<Frame> {
        let ends = [Status::OK, Status::ERROR].contains(&header.status);
        let serial = |serial: &u32| *serial == header.serial;
        let open = self.streams.iter().position(serial).filter(|_| ends)?;
        self.streams.swap_remove(open);
        Some(Frame {
            header: header.stream(Status::OK),
            payload: Vec::new(),
        })
    }

    /// Makes a call and returns what its reply carries.
    fn perform(&mut self, header: Header, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        if (header.program, header.version) != (REMOTE, VERSION) {
            return Err(Failure::unknown_program(header));
        }
        if header.status != Status::OK {
            return Err(Failure::status(header.status.0));
        }
        let unknown = || Failure::unknown_procedure(header.procedure);
        let procedure = Procedure::by_number(header.procedure).ok_or_else(unknown)?;
        let mut reader = Reader::new(payload);
        if header.procedure == SCREENSHOT && self.streams.len() >= STREAMS_MAX {
            let why = format!("a connection has at most {STREAMS_MAX} open streams");
            return Err(Failure::internal(&why));
        }
        if header.kind == Kind::CALL_WITH_FDS {
            // How many descriptors came; none of these calls takes any.
            decode(&[crate::proto::Shape::UInt], &mut reader)
                .map_err(|_| Failure::undecodable())?;
        }
        let arguments =
            decode(procedure.arguments, &mut reader).map_err(|_| Failure::undecodable())?;
        let answer = match self.about_connection(procedure.number, &arguments) {
            Some(answer) => answer?,
            None => self.about_store(procedure, &arguments)?,
        };
        Ok(encode(procedure.answer, &answer)?)
    }

    /// Answers what a client asks to set up and leave; `None` if it is another call.
    fn about_connection(&mut self, number: i32, arguments: &[Value<'_>]) -> Option<Answer> {
        Some(match (number, arguments) {
            (1, [Value::OptText(_), Value::UInt(flags)]) => self.open(*flags),
            (2, _) => {
                self.opened = None;
                self.closed = true;
                Ok(vec![])
            }
            // Whoever may connect needs no more.
            (66, _) => Ok(vec![Value::Ints(vec![0])]),
            (60, [Value::Int(feature)])
                if *feature == features::KEEPALIVE || self.opened.is_some() =>
            {
                Ok(vec![Value::Int(features::has(*feature).into())])
            }
            _ => return None,
        })
    }

    /// Opens the store. Which one a client names is not looked at: there is only this one.
    fn open(&mut self, flags: u32) -> Answer {
        if self.opened.is_some() {
            return Err(Failure::internal("connection already open"));
        }
        let entered = self.served.enter()?;
        let connection = &entered.store.connection;
        let provenance = provenance_of(&self.peer, connection.provenance());
        let mut connection = connection.with_provenance(provenance);
        if self.read_only || flags & READ_ONLY != 0 {
            connection = connection.read_only();
        }
        self.opened = Some(Opened {
            connection,
            entered,
        });
        Ok(vec![])
    }

    fn about_store(&self, procedure: &Procedure, arguments: &[Value<'_>]) -> Answer {
        let opened = self.opened.as_ref().ok_or_else(Failure::not_open)?;
        let number = u16::try_from(procedure.number).ok();
        let call = number.and_then(procedure::Procedure::by_number);
        if opened.connection.is_read_only() && is_denied(procedure.access, arguments) {
            let name = call.map_or_else(|| function(procedure.name), |call| call.name().to_owned());
            return Err(Failure::read_only(&name));
        }
        match call {
            Some(call) => opened.call(call.takes(), procedure, arguments),
            None => self.own(opened, procedure.number, arguments),
        }
    }
}

/// Whether a connection for reading only may not make the call.
fn is_denied(access: Access, arguments: &[Value<'_>]) -> bool {
    match (access, arguments.last()) {
        (Access::Read, _) => false,
        (Access::ReadUnless(secrets), Some(Value::UInt(flags))) => flags & secrets != 0,
        (Access::ReadUnless(_) | Access::Write, _) => true,
    }
}

/// libvirt's function of a procedure of this name: `virDomainReset` of `DOMAIN_RESET`.
fn function(name: &str) -> String {
    let words = name.split('_').map(|word| {
        let (first, rest) = word.split_at(1.min(word.len()));
        format!("{first}{}", rest.to_lowercase())
    });
    std::iter::once("vir".to_owned()).chain(words).collect()
}
