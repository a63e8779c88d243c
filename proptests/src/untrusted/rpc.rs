//! What must hold for any bytes of a client of libvirt's protocol.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use momentlog::Connection;
use momentlog_rpc::frame::{Frame, Header, Kind, MESSAGE_LEN_MAX, PING};
use momentlog_rpc::proto::{Event, Procedure, RemoteError, Shape, decode, encode};
use momentlog_rpc::xdr::Reader;
use momentlog_rpc::{Held, Recorder, Served, Server, relay, relay_recorded};

const URI: &str = "test:///default";

/// Reads any bytes as a message of each procedure. What is read can be written and read again; what is read exactly is
/// written as it was.
///
/// # Panics
///
/// If one of these does not hold.
pub fn rpc_frame(bytes: &[u8]) {
    let Ok(Some(frame)) = Frame::read(&mut &bytes[..], MESSAGE_LEN_MAX) else {
        return;
    };
    assert!(bytes.starts_with(&frame.to_bytes()));
    let number = frame.header.procedure;
    let shapes: Vec<&[Shape]> = match Procedure::by_number(number) {
        Some(procedure) => vec![procedure.arguments, procedure.answer],
        None => {
            let events = Event::ALL.iter().filter(|event| event.number == number);
            events.map(|event| event.fields).collect()
        }
    };
    for shapes in shapes {
        let mut reader = Reader::new(&frame.payload);
        let Ok(values) = decode(shapes, &mut reader) else {
            continue;
        };
        let written = encode(shapes, &values).expect("what was read is within the bounds");
        if reader.is_exact() {
            assert_eq!(written, frame.payload);
        }
        // Not the values: a number that is none equals nothing.
        let again = decode(shapes, &mut Reader::new(&written)).expect("it was written");
        assert_eq!(encode(shapes, &again).expect("it was read"), written);
    }
    let mut reader = Reader::new(&frame.payload);
    if let Ok(error) = RemoteError::decode(&mut reader) {
        let written = error.encode().expect("what was read is within the bounds");
        assert!(!reader.is_exact() || written == frame.payload);
    }
}

/// Serves a client that sends any bytes and then no more: it gets whole messages, and the server serves the next one.
///
/// # Panics
///
/// If it does not.
pub fn rpc_session(bytes: &[u8]) {
    let store = Served::while_used(|| Connection::open(URI), URI);
    let server = Server::new(store).expect("there are descriptors");
    let told = converse(&server, bytes);
    let mut rest = &told[..];
    while Frame::read(&mut rest, MESSAGE_LEN_MAX)
        .expect("whole messages")
        .is_some()
    {}
    let ping = Frame {
        header: Header::keepalive(PING),
        payload: Vec::new(),
    };
    assert!(!converse(&server, &ping.to_bytes()).is_empty());
}

/// Returns what a client gets that sends these bytes.
fn converse(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let (mut client, theirs) = UnixStream::pair().expect("there are descriptors");
    let mut told = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| server.serve(theirs, false));
        let mut sending = client.try_clone().expect("there are descriptors");
        scope.spawn(move || {
            // The server may have closed it by then.
            let _ = sending.write_all(bytes);
            let _ = sending.shutdown(Shutdown::Write);
        });
        let _ = client.read_to_end(&mut told);
    });
    told
}

/// Relays between a client that sends one part of any bytes and then no more, and a server that answers with the other part and
/// leaves; the first two bytes say how long the client's part is. Each hears what the other has sent, byte for byte, up to
/// what is no whole message. With a recorder that holds calls, each hears whole messages that the other has sent, each once,
/// and the client refusals besides.
///
/// # Panics
///
/// If one does not.
pub fn rpc_relay(bytes: &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
    let (call, reply) = rest.split_at(len);
    recorded(call, reply);
    let (mut client, near) = UnixStream::pair().expect("there are descriptors");
    let (far, mut server) = UnixStream::pair().expect("there are descriptors");
    let (mut called, mut replied) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            relay(&near, &far).expect("there are threads");
        });
        scope.spawn(|| {
            let _ = server.read_to_end(&mut called);
            // It may be hung up on by then.
            let _ = server.write_all(reply);
            let _ = server.shutdown(Shutdown::Both);
        });
        let _ = client.write_all(call);
        let _ = client.shutdown(Shutdown::Write);
        let _ = client.read_to_end(&mut replied);
    });
    let whole = whole_len(call);
    assert!(call.starts_with(&called) && called.len() >= whole);
    if whole == call.len() {
        assert!(reply.starts_with(&replied) && replied.len() >= whole_len(reply));
    } else {
        // What is no message has ended both directions.
        assert!(reply.starts_with(&replied));
    }
}

/// Holds some calls, and refuses some of them.
struct Holding;

impl Recorder for Holding {
    fn wants(&self, call: &Header) -> bool {
        call.procedure % 2 == 1
    }

    fn hear(&mut self, call: &Frame) -> Option<Box<dyn Held>> {
        match call.header.serial % 3 {
            0 => None,
            rest => Some(Box::new(OneCall { refuses: rest == 1 })),
        }
    }
}

struct OneCall {
    refuses: bool,
}

impl Held for OneCall {
    fn begin(&mut self) -> Result<(), String> {
        if self.refuses {
            return Err("no".to_owned());
        }
        Ok(())
    }

    fn end(self: Box<Self>, _: Option<&Frame>) {}
}

/// Relays with a recorder between a client and a server that leaves as soon as it has answered.
fn recorded(call: &[u8], reply: &[u8]) {
    let (client, near) = UnixStream::pair().expect("there are descriptors");
    let (far, mut server) = UnixStream::pair().expect("there are descriptors");
    let (mut called, mut replied) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            relay_recorded(&near, &far, &mut Holding).expect("there are threads");
        });
        scope.spawn(|| {
            let _ = server.write_all(reply);
            let _ = server.shutdown(Shutdown::Write);
            let _ = server.read_to_end(&mut called);
        });
        scope.spawn(|| {
            let _ = (&client).write_all(call);
            let _ = client.shutdown(Shutdown::Write);
        });
        let _ = (&client).read_to_end(&mut replied);
        // Whatever it has not taken is not waited for.
        let _ = client.shutdown(Shutdown::Both);
    });
    assert_eq!(others(&called, call), Vec::<&[u8]>::new());
    for refusal in others(&replied, reply) {
        let frame = Frame::read(&mut &refusal[..], MESSAGE_LEN_MAX);
        let Ok(Some(frame)) = frame else {
            // The end of one that was cut off.
            continue;
        };
        let error = RemoteError::decode(&mut Reader::new(&frame.payload));
        assert_eq!(error.expect("it is whole").code, 38);
    }
}

/// The messages that were heard and not sent. The last one may be the front of one that was.
fn others<'a>(heard: &'a [u8], sent: &[u8]) -> Vec<&'a [u8]> {
    let mut left = messages(sent);
    let mut heard = messages(heard);
    heard.retain(|message| match left.iter().position(|one| one == message) {
        Some(known) => {
            left.swap_remove(known);
            false
        }
        None => true,
    });
    if let Some(last) = heard.last()
        && left.iter().any(|one| one.starts_with(last))
    {
        heard.pop();
    }
    heard
}

/// Each whole message, and what is left.
fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some(len) = first_len(bytes) {
        let (message, rest) = bytes.split_at(len);
        messages.push(message);
        bytes = rest;
    }
    if !bytes.is_empty() {
        messages.push(bytes);
    }
    messages
}

/// Length of the whole messages that the bytes begin with, and of the bytes of descriptors behind them.
fn whole_len(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(len) = first_len(&bytes[whole..]) {
        whole += len;
    }
    whole
}

/// Length of the message that the bytes begin with, and of the bytes of descriptors behind it; `None` if it is not whole.
fn first_len(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let frame = Frame::read(&mut rest, MESSAGE_LEN_MAX).ok()??;
    let count = match frame.header.kind {
        Kind::CALL_WITH_FDS | Kind::REPLY_WITH_FDS => frame.payload.first_chunk(),
        _ => None,
    };
    let count = count.map_or(0, |count| u32::from_be_bytes(*count) as usize);
    (count <= 32 && count <= rest.len()).then(|| bytes.len() - rest.len() + count)
}
