//! One client's connection: a thread that reads and answers pings, one that makes the calls, and one that writes.
//!
//! The reader never waits for a call. The other two begin with the first message, so that a client that says nothing costs
//! one thread.

use std::io::{self, BufReader, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::frame::{
    Frame, FrameError, HEADER_LEN, KEEPALIVE, Kind, MESSAGE_LEN_MAX, PING, REMOTE, Status, VERSION,
};
use crate::outbox::Outbox;
use crate::peer::peer_of;
use crate::queue::{Queue, Rejected};
use crate::served::Served;
use crate::session::Session;

/// Longest message before the first `CONNECT_OPEN`, without the length word, in bytes.
const UNOPENED_LEN_MAX: usize = 64 << 10;

/// The procedure behind which longer messages are taken.
const CONNECT_OPEN: i32 = 1;

/// Most calls that wait for those before them.
const CALLS_MAX: usize = 1024;

/// Most bytes of calls that wait for those before them, unless one alone is longer.
const CALLS_LEN_MAX: usize = 8 << 20;

/// Most file descriptors that may come with a message.
const DESCRIPTORS_MAX: u32 = 32;

/// How long a client may take nothing of what is sent to it.
const WRITE_WAIT: Duration = Duration::from_mins(1);

/// The threads of a client, as far as they share something.
#[derive(Debug)]
struct Client {
    stream: Arc<UnixStream>,
    calls: Queue<Frame>,
    outbox: Arc<Outbox>,
}

/// Serves a client until it leaves or is dropped, or its stream is shut down for reading: then what it has asked is
/// answered before this returns. A client that has not sent its first `CONNECT_OPEN` after `open_wait` is dropped.
pub(crate) fn serve(
    stream: &Arc<UnixStream>,
    served: &Arc<Served>,
    read_only: bool,
    open_wait: Duration,
) {
    if let Err(error) = stream.set_write_timeout(Some(WRITE_WAIT)) {
        tracing::warn!("a client cannot be served: {error}");
        return;
    }
    let shut = stream.clone();
    let client = Client {
        stream: stream.clone(),
        calls: Queue::new(CALLS_MAX, CALLS_LEN_MAX),
        outbox: Arc::new(Outbox::new(move || {
            let _ = shut.shutdown(Shutdown::Both);
        })),
    };
    let peer = match peer_of(stream) {
        Ok(peer) => peer,
        Err(error) => {
            // What it asks for could only be recorded as ours.
            tracing::warn!("a client without credentials: {error}");
            return;
        }
    };
    let mut reader = Incoming {
        stream: BufReader::new(Unopened {
            stream,
            // A wait that no clock can hold has no end.
            end: Instant::now().checked_add(open_wait),
        }),
        len_max: UNOPENED_LEN_MAX,
    };
    // Nothing is made for a client that says nothing.
    let Some(first) = reader.next() else { return };
    let session = Session::new(served, peer, read_only, client.outbox.clone());
    thread::scope(|scope| {
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let calling = named("calls").spawn_scoped(scope, || client.make_calls(session));
        let writing = named("writer").spawn_scoped(scope, || client.write());
        match (calling, writing) {
            (Ok(_), Ok(_)) => client.read(first, reader),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!("no thread for a client: {error}");
                client.outbox.hang_up();
            }
        }
        client.calls.end();
    });
    let _ = stream.shutdown(Shutdown::Both);
}

impl Client {
    /// Reads what the client sends, and puts its calls in line.
    fn read(&self, first: Frame, mut incoming: Incoming<'_>) {
        let mut next = Some(first);
        while let Some(frame) = next {
            let header = frame.header;
            let is_ping = (header.program, header.version, header.procedure)
                == (KEEPALIVE, VERSION, PING)
                && header.kind == Kind::MESSAGE;
            if is_ping {
                self.outbox.pong();
            } else if matches!(header.kind, Kind::CALL | Kind::CALL_WITH_FDS | Kind::STREAM) {
                let len = HEADER_LEN + frame.payload.len();
                match self.calls.try_push(frame, len) {
                    Ok(()) => {}
                    Err(Rejected::Ended) => return,
                    Err(Rejected::Full) => {
                        let why = format!("more than {CALLS_MAX} calls wait for those before them");
                        self.outbox.send(&Frame {
                            header: header.reply(Status::ERROR),
                            payload: Failure::rpc(why).encode(),
                        });
                    }
                }
            }
            next = incoming.next();
        }
    }

    /// Makes the calls in the order in which they came.
    fn make_calls(&self, mut session: Session) {
        let _ending = Ending(self);
        while let Some(call) = self.calls.pop() {
            let replies = session.answer(&call);
            let sent = replies.iter().all(|reply| self.outbox.reply(reply));
            if !sent || session.is_closed() {
                break;
            }
        }
    }

    /// Writes what is to be sent.
    fn write(&self) {
        while let Some(bytes) = self.outbox.next() {
            if let Err(error) = (&*self.stream).write_all(&bytes) {
                tracing::debug!("a client takes no more: {error}");
                self.outbox.hang_up();
            }
        }
        // The reader may still wait for what does not come.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The end of a client's calls, also if one panics: what was answered is sent, and the connection ends.
struct Ending<'a>(&'a Client);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.calls.abandon();
        self.0.outbox.end();
    }
}

/// The messages of a client.
struct Incoming<'a> {
    stream: BufReader<Unopened<'a>>,
    len_max: usize,
}

/// A stream whose reads fail once a time is over, until the client asks to open the store.
struct Unopened<'a> {
    stream: &'a UnixStream,
    /// `None` once it has asked.
    end: Option<Instant>,
}

impl Read for Unopened<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if let Some(end) = self.end {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
        }
        self.stream.read(bytes)
    }
}

impl Unopened<'_> {
    fn open(&mut self) -> io::Result<()> {
        self.end = None;
        self.stream.set_read_timeout(None)
    }
}

impl Incoming<'_> {
    /// Reads the next message; `None` if there is none, or the stream has no meaning any more.
    fn next(&mut self) -> Option<Frame> {
        let read = Frame::read(&mut self.stream, self.len_max).and_then(|frame| {
            frame
                .map(|frame| self.without_descriptors(frame))
                .transpose()
        });
        let frame = read
            .inspect_err(|error| tracing::debug!("a client is dropped: {error}"))
            .ok()??;
        // The same number is a ping's in another program.
        let (program, kind) = (frame.header.program, frame.header.kind);
        if (program, kind) == (REMOTE, Kind::CALL) && frame.header.procedure == CONNECT_OPEN {
            self.len_max = MESSAGE_LEN_MAX;
            self.stream.get_mut().open().ok()?;
        }
        Some(frame)
    }

    /// Skips the bytes that come with file descriptors, one each. The descriptors themselves are not taken: the kernel
    /// closes them.
    fn without_descriptors(&mut self, frame: Frame) -> Result<Frame, FrameError> {
        if frame.header.kind == Kind::CALL_WITH_FDS
            && let Some(count) = frame.payload.first_chunk::<4>()
        {
            let count = u32::from_be_bytes(*count);
            if count > DESCRIPTORS_MAX {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            }
            let mut skipped = [0; DESCRIPTORS_MAX as usize];
            self.stream.read_exact(&mut skipped[..count as usize])?;
        }
        Ok(frame)
    }
}
