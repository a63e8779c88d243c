//! What waits to be sent to one client.

use std::fmt;

use crate::frame::{Frame, Header, PONG};
use crate::queue::{Queue, Rejected};

/// Most bytes that wait for one client, unless one message alone is longer.
const LEN_MAX: usize = 4 << 20;

/// Most messages that wait for one client.
const COUNT_MAX: usize = 16_384;

/// The messages for one client, in the order in which they are sent.
pub(crate) struct Outbox {
    queue: Queue<Vec<u8>>,
    hang_up: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl Outbox {
    /// An empty outbox. `hang_up` ends the connection.
    pub(crate) fn new(hang_up: impl Fn() + Send + Sync + 'static) -> Outbox {
        Outbox {
            queue: Queue::new(COUNT_MAX, LEN_MAX),
            hang_up: Box::new(hang_up),
        }
    }

    /// Sends a reply, and waits until there is room for it. `false` if the connection has ended.
    pub(crate) fn reply(&self, frame: &Frame) -> bool {
        let bytes = frame.to_bytes();
        let len = bytes.len();
        self.queue.push(bytes, len)
    }

    /// Sends what cannot wait. A client that does not read is dropped.
    pub(crate) fn send(&self, frame: &Frame) {
        let bytes = frame.to_bytes();
        let len = bytes.len();
        if self.queue.try_push(bytes, len) == Err(Rejected::Full) {
            tracing::warn!("a client that does not read is dropped");
            self.hang_up();
        }
    }

    /// Answers a ping, unless so much waits that the client has signs of life enough.
    pub(crate) fn pong(&self) {
        let pong = Frame {
            header: Header::keepalive(PONG),
            payload: Vec::new(),
        };
        let bytes = pong.to_bytes();
        let len = bytes.len();
        let _ = self.queue.try_push(bytes, len);
    }

    /// Ends the connection, and throws away what waits.
    pub(crate) fn hang_up(&self) {
        self.queue.abandon();
        (self.hang_up)();
    }

    /// Nothing more is sent than what waits.
    pub(crate) fn end(&self) {
        self.queue.end();
    }

    /// The next message to write; `None` when there is none any more.
    pub(crate) fn next(&self) -> Option<Vec<u8>> {
        self.queue.pop()
    }
}
