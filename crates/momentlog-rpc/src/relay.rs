//! One connection between a client and a server that speak libvirt's protocol: what one says, the other hears.
//!
//! Each direction has a thread, which reads a message and writes it in pieces of at most [`PIECE_LEN`] bytes. It reads no more
//! while the other end takes nothing, so that no more than a piece waits here. Of a message only its header is looked at,
//! because descriptors come with bytes behind it, one each, and must be sent with those same bytes.
//!
//! A [`Recorder`] may hold calls: see `held.rs`. With one, a client's messages are read whole before they are written, so that
//! a call that may go on does not wait for a client that stops within another message.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use crate::descriptor::{receive, send};
use crate::failure::Failure;
use crate::frame::{
    Frame, FrameError, HEADER_LEN, Header, Kind, MESSAGE_LEN_MAX, Status, decode, read_or_end,
    rest_len,
};
use crate::held::{Awaited, Held, HeldCalls, Recorder, key_of};

/// Longest piece of a message that is read before it is written, in bytes. The first has the length word besides.
const PIECE_LEN: usize = 64 << 10;

/// Length of the word that says how long a message is, in bytes.
const WORD_LEN: usize = 4;

/// Most file descriptors that may come with a message.
const DESCRIPTORS_MAX: u32 = 32;

/// Stack of the thread of a direction, in bytes: it holds no message there.
const STACK_LEN: usize = 256 << 10;

/// Passes what a client and a server say to each other, byte for byte and with the descriptors that come with it, until one
/// of them leaves or says what is no message. A client that says no more still hears what the server says.
///
/// # Errors
///
/// If the system has no thread for it. Both ends are hung up on then.
pub fn relay(client: &UnixStream, server: &UnixStream) -> io::Result<()> {
    Relay::new(client, server, false).run(None)
}

/// As [`relay`], with a recorder that holds calls. Other messages are not held up: they pass by a call that is held, and so do
/// replies.
///
/// It returns when each call that was held is recorded, also if the client is gone by then.
///
/// # Errors
///
/// As there.
pub fn relay_recorded(
    client: &UnixStream,
    server: &UnixStream,
    recorder: &mut dyn Recorder,
) -> io::Result<()> {
    Relay::new(client, server, true).run(Some(recorder))
}

/// The two ends, and the calls that are held between them.
struct Relay<'a> {
    client: End<'a>,
    server: End<'a>,
    held: HeldCalls,
}

/// One end, to be written to.
struct End<'a> {
    stream: &'a UnixStream,
    /// Whoever has it writes a message whole.
    turn: Mutex<()>,
    /// Whether what cannot be written is dropped, so that the other end is heard out.
    drops: bool,
    is_gone: AtomicBool,
}

impl<'a> Relay<'a> {
    fn new(client: &'a UnixStream, server: &'a UnixStream, records: bool) -> Relay<'a> {
        Relay {
            client: End::new(client, records),
            server: End::new(server, false),
            held: HeldCalls::default(),
        }
    }

    /// Passes replies on in a thread of their own, and calls in this one.
    fn run(&self, recorder: Option<&mut dyn Recorder>) -> io::Result<()> {
        thread::scope(|scope| {
            let named = thread::Builder::new().name("replies".to_owned());
            let replies = named.stack_size(STACK_LEN).spawn_scoped(scope, || {
                log_end("server", self.pass_replies());
                // What was sent to the client can still be read. A server that leaves reads nothing more.
                self.hang_up();
                self.held.end();
            });
            if let Err(error) = replies {
                self.hang_up();
                return Err(error);
            }
            let passed = match recorder {
                None => self.pass_calls(),
                Some(recorder) => self.hear_calls(scope, recorder),
            };
            self.held.wait_for_all();
            let has_failed = passed.is_err() || self.client.is_gone.load(Ordering::Acquire);
            log_end("client", passed);
            if has_failed {
                self.hang_up();
            } else {
                let _ = self.server.stream.shutdown(Shutdown::Write);
            }
            Ok(())
        })
    }

    fn hang_up(&self) {
        for end in [&self.client, &self.server] {
            // It may be gone already.
            let _ = end.stream.shutdown(Shutdown::Both);
        }
    }

    /// Passes calls on until there is none any more.
    fn pass_calls(&self) -> Result<(), FrameError> {
        while let Some(front) = Front::read(self.client.stream)? {
            self.server.pass(front)?;
        }
        Ok(())
    }

    /// As [`pass_calls`](Self::pass_calls), and shows the recorder those that it wants to know of.
    fn hear_calls<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        recorder: &mut dyn Recorder,
    ) -> Result<(), FrameError> {
        while let Some(front) = Front::read(self.client.stream)? {
            // Read to its end first: a held call that is to be sent does not wait for the client.
            let header = front.header;
            let message = front.whole()?;
            let is_call = matches!(header.kind, Kind::CALL | Kind::CALL_WITH_FDS);
            if !is_call || !recorder.wants(&header) {
                self.server.write(&message)?;
                continue;
            }
            if header.kind == Kind::CALL_WITH_FDS {
                // None of them takes any, and whoever adds some is not to pass by unheard.
                let why = "the proxy takes no descriptors with a call that it records";
                self.refuse(header, why);
                continue;
            }
            let Some(held) = recorder.hear(&message.frame()) else {
                self.server.write(&message)?;
                continue;
            };
            let awaited = self.held.add(key_of(&header), message.bytes.len())?;
            let thread = thread::Builder::new().name("held".to_owned());
            let started = thread.spawn_scoped(scope, move || {
                self.carry(held, &message, &awaited);
            });
            if let Err(error) = started {
                let why = format!("the proxy has no thread to record the call: {error}");
                self.refuse(header, &why);
            }
        }
        Ok(())
    }

    /// Passes a held call on once it may go, and its reply once that is recorded.
    fn carry(&self, mut held: Box<dyn Held>, message: &Message, awaited: &Awaited<'_>) {
        let _guard = HangUpAtPanic(self);
        if let Err(why) = held.begin() {
            self.refuse(header_of(&message.bytes).0, &why);
            return;
        }
        // If it cannot be sent, there will be no reply.
        let sent = self.server.write(message);
        log_end("held call", sent.map_err(FrameError::from));
        let reply = awaited.reply();
        held.end(reply.as_ref());
        if let Some(reply) = reply {
            self.answer(&reply);
        }
    }

    fn refuse(&self, call: Header, why: &str) {
        self.answer(&Frame {
            header: call.reply(Status::ERROR),
            payload: Failure::system(why).encode(),
        });
    }

    fn answer(&self, reply: &Frame) {
        let bytes = reply.to_bytes();
        // A client that is gone needs no reply.
        let _ = self.client.write(&Message {
            bytes,
            descriptors: Vec::new(),
        });
    }

    /// Passes replies on, but for those that a held call waits for, until there is none any more.
    fn pass_replies(&self) -> Result<(), FrameError> {
        while let Some(front) = Front::read(self.server.stream)? {
            let key = key_of(&front.header);
            match front.header.kind {
                Kind::REPLY if self.held.awaits(key) => {
                    let message = front.whole()?;
                    self.held.deliver(key, message.frame());
                }
                Kind::REPLY_WITH_FDS => {
                    self.client.pass(front)?;
                    self.held.give_up(key);
                }
                _ => self.client.pass(front)?,
            }
        }
        Ok(())
    }
}

/// Ends the connection if the thread of a held call panics: its client would wait for ever.
struct HangUpAtPanic<'a>(&'a Relay<'a>);

impl Drop for HangUpAtPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.hang_up();
        }
    }
}

impl<'a> End<'a> {
    fn new(stream: &'a UnixStream, drops: bool) -> End<'a> {
        End {
            stream,
            turn: Mutex::new(()),
            drops,
            is_gone: AtomicBool::new(false),
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a message.
    fn write(&self, message: &Message) -> io::Result<()> {
        let _turn = self.turn();
        self.put(&message.bytes)?;
        for (byte, descriptor) in &message.descriptors {
            self.put_descriptor(*byte, descriptor.as_ref())?;
        }
        Ok(())
    }

    /// Passes a message on while it is read.
    fn pass(&self, mut front: Front<'_>) -> io::Result<()> {
        let _turn = self.turn();
        let count = front.descriptor_count()?;
        self.put(&front.piece)?;
        while front.left > 0 {
            front.piece.clear();
            front.read_piece()?;
            self.put(&front.piece)?;
        }
        for _ in 0..count {
            let (byte, descriptor) = receive(front.from)?;
            self.put_descriptor(byte, descriptor.as_ref())?;
        }
        Ok(())
    }

    fn put(&self, bytes: &[u8]) -> io::Result<()> {
        self.unless_gone(|mut stream| stream.write_all(bytes))
    }

    fn put_descriptor(&self, byte: u8, descriptor: Option<&OwnedFd>) -> io::Result<()> {
        self.unless_gone(|stream| send(stream, byte, descriptor))
    }

    fn unless_gone(&self, put: impl FnOnce(&UnixStream) -> io::Result<()>) -> io::Result<()> {
        if self.is_gone.load(Ordering::Acquire) {
            return Ok(());
        }
        match put(self.stream) {
            Err(_) if self.drops => {
                self.is_gone.store(true, Ordering::Release);
                // Whoever reads it learns it.
                let _ = self.stream.shutdown(Shutdown::Both);
                Ok(())
            }
            put => put,
        }
    }
}

/// A message of which the front was read.
struct Front<'a> {
    from: &'a UnixStream,
    header: Header,
    /// What was read last: at first the length word, the header and what follows it.
    piece: Vec<u8>,
    /// How many bytes are to come.
    left: usize,
}

/// A message that was read whole.
struct Message {
    /// All of it, the length word included.
    bytes: Vec<u8>,
    /// The bytes behind it, with the descriptors that came with them.
    descriptors: Vec<(u8, Option<OwnedFd>)>,
}

impl<'a> Front<'a> {
    /// Reads the front of the next message; `None` if there is none.
    fn read(mut from: &'a UnixStream) -> Result<Option<Front<'a>>, FrameError> {
        let mut word = [0; WORD_LEN];
        if !read_or_end(&mut from, &mut word)? {
            return Ok(None);
        }
        let mut front = Front {
            from,
            header: Header::call(0, 0),
            piece: word.to_vec(),
            left: rest_len(word, MESSAGE_LEN_MAX)?,
        };
        front.read_piece()?;
        front.header = header_of(&front.piece).0;
        Ok(Some(front))
    }

    /// Reads the next piece behind the one that is there. What a length word claims is not allocated before it has come.
    fn read_piece(&mut self) -> io::Result<()> {
        let wanted = self.left.min(PIECE_LEN);
        let read = self.from.take(wanted as u64).read_to_end(&mut self.piece)?;
        if read < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= wanted;
        Ok(())
    }

    /// Returns how many bytes with descriptors follow.
    fn descriptor_count(&self) -> io::Result<u32> {
        let (header, payload) = header_of(&self.piece);
        let Some(count) = payload.first_chunk() else {
            return Ok(0);
        };
        let count = match header.kind {
            Kind::CALL_WITH_FDS | Kind::REPLY_WITH_FDS => u32::from_be_bytes(*count),
            _ => 0,
        };
        if count > DESCRIPTORS_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(count)
    }

    /// Reads the rest.
    fn whole(mut self) -> io::Result<Message> {
        let count = self.descriptor_count()?;
        while self.left > 0 {
            self.read_piece()?;
        }
        let descriptors = (0..count).map(|_| receive(self.from));
        Ok(Message {
            descriptors: descriptors.collect::<io::Result<_>>()?,
            bytes: self.piece,
        })
    }
}

impl Message {
    fn frame(&self) -> Frame {
        let (header, payload) = header_of(&self.bytes);
        Frame {
            header,
            payload: payload.to_vec(),
        }
    }
}

/// The header behind the length word of a message, and what was read behind that.
fn header_of(front: &[u8]) -> (Header, &[u8]) {
    let (_, rest) = front.split_at(WORD_LEN);
    let (header, payload) = rest
        .split_first_chunk::<HEADER_LEN>()
        .expect("no message is shorter, and none is longer than a piece by so much");
    (decode(header), payload)
}

fn log_end(end: &str, passed: Result<(), FrameError>) {
    if let Err(error) = passed {
        tracing::debug!("what the {end} says is not passed on any more: {error}");
    }
}
