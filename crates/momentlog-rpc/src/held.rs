//! Calls that a relay holds: until they may go on, and until their replies may.
//!
//! A held call waits in a thread of its own, so that its client's other messages pass by it, pings among them. A client with
//! [`CALLS_MAX`] held calls, or with [`LEN_MAX`] bytes of them, is not read any further until one is done.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::frame::{Frame, Header};

/// Most held calls of a connection.
const CALLS_MAX: usize = 16;

/// Most bytes of held calls of a connection, unless one alone is longer.
const LEN_MAX: usize = 8 << 20;

/// Hears the calls of one connection, and holds some of them.
pub trait Recorder {
    /// Whether calls of this procedure are to be heard: they are read whole then. One with descriptors is refused.
    fn wants(&self, call: &Header) -> bool;

    /// Hears a call, in the order in which the client makes them. Returns what holds it; `None` lets it pass.
    fn hear(&mut self, call: &Frame) -> Option<Box<dyn Held>>;
}

/// A call that is held.
pub trait Held: Send {
    /// Returns when the call may go on to the server.
    ///
    /// # Errors
    ///
    /// Why it is not passed on, as the client is to read it.
    fn begin(&mut self) -> Result<(), String>;

    /// Returns when the reply may go on to the client. It is `None` if the connection has ended before it came: what became
    /// of the call is not known then.
    fn end(self: Box<Self>, reply: Option<&Frame>);
}

/// What a call and its reply have in common.
pub(crate) type Key = (u32, u32, i32, u32);

/// Returns what this call and its reply have in common, and no other call of the connection.
pub(crate) fn key_of(header: &Header) -> Key {
    (
        header.program,
        header.version,
        header.procedure,
        header.serial,
    )
}

/// The held calls of a connection.
#[derive(Debug, Default)]
pub(crate) struct HeldCalls {
    calls: Mutex<Calls>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Calls {
    /// Where the reply to each goes.
    replies: HashMap<Key, Sender<Frame>>,
    count: usize,
    len: usize,
    /// Whether there will be no replies any more.
    has_ended: bool,
}

impl HeldCalls {
    /// Adds a call of this length once there is room for it.
    ///
    /// # Errors
    ///
    /// If it cannot be told from another one that is held, or there will be no replies any more.
    pub(crate) fn add(&self, key: Key, len: usize) -> io::Result<Awaited<'_>> {
        let calls = self.lock();
        let waited = self.changed.wait_while(calls, |calls| {
            let is_full = calls.count >= CALLS_MAX || calls.len + len > LEN_MAX;
            is_full && calls.count > 0 && !calls.has_ended
        });
        let mut calls = waited.unwrap_or_else(PoisonError::into_inner);
        if calls.has_ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if calls.replies.contains_key(&key) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (sender, reply) = channel();
        calls.replies.insert(key, sender);
        calls.count += 1;
        calls.len += len;
        Ok(Awaited {
            held: self,
            key,
            len,
            reply,
        })
    }

    /// Whether a held call waits for this reply.
    pub(crate) fn awaits(&self, key: Key) -> bool {
        self.lock().replies.contains_key(&key)
    }

    /// Gives a reply to the call that waits for it.
    pub(crate) fn deliver(&self, key: Key, reply: Frame) {
        if let Some(waiting) = self.lock().replies.get(&key) {
            // The second reply to a call goes nowhere.
            let _ = waiting.send(reply);
        }
    }

    /// A reply has passed that no held call can take: whichever waits for it gets none.
    pub(crate) fn give_up(&self, key: Key) {
        self.lock().replies.remove(&key);
    }

    /// There will be no replies any more.
    pub(crate) fn end(&self) {
        let mut calls = self.lock();
        calls.has_ended = true;
        calls.replies.clear();
        drop(calls);
        self.changed.notify_all();
    }

    /// Waits until no call is held.
    pub(crate) fn wait_for_all(&self) {
        let waited = self
            .changed
            .wait_while(self.lock(), |calls| calls.count > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A held call that waits for its reply. It is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Awaited<'a> {
    held: &'a HeldCalls,
    key: Key,
    len: usize,
    reply: Receiver<Frame>,
}

impl Awaited<'_> {
    /// Waits for the reply; `None` if there will be none.
    pub(crate) fn reply(&self) -> Option<Frame> {
        self.reply.recv().ok()
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let mut calls = self.held.lock();
        calls.replies.remove(&self.key);
        calls.count -= 1;
        calls.len -= self.len;
        drop(calls);
        self.held.changed.notify_all();
    }
}
