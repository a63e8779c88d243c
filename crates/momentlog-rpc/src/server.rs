//! The server of a store.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::acceptor::{Acceptor, Stop};
use crate::client;
use crate::served::Served;
use crate::socket::Socket;

/// How long a client may be connected before it opens the store.
const OPEN_WAIT: Duration = Duration::from_mins(1);

/// A server of one store.
#[derive(Debug)]
pub struct Server {
    served: Arc<Served>,
    acceptor: Acceptor,
    open_wait: Duration,
}

impl Server {
    /// Returns a server of a store.
    ///
    /// # Errors
    ///
    /// If the system has no descriptors for it.
    pub fn new(served: Served) -> io::Result<Server> {
        Ok(Server {
            served: Arc::new(served),
            acceptor: Acceptor::new()?,
            open_wait: OPEN_WAIT,
        })
    }

    /// The same server, which drops a client that has not opened the store within this time; otherwise a minute.
    #[must_use]
    pub fn with_open_wait(self, open_wait: Duration) -> Server {
        Server { open_wait, ..self }
    }

    /// Returns what ends the server.
    pub fn stopper(&self) -> Stop {
        self.acceptor.stopper()
    }

    /// Serves clients on these sockets until it is stopped, and returns when the last client is served.
    ///
    /// # Errors
    ///
    /// If a socket cannot be listened on.
    pub fn run(&self, sockets: Vec<Socket>) -> io::Result<()> {
        let (served, open_wait) = (self.served.clone(), self.open_wait);
        self.acceptor.run(sockets, move |stream, read_only| {
            client::serve(stream, &served, read_only, open_wait);
        })
    }

    /// Serves one client on a stream that is connected already, until it leaves.
    pub fn serve(&self, stream: UnixStream, read_only: bool) {
        client::serve(&Arc::new(stream), &self.served, read_only, self.open_wait);
    }
}
