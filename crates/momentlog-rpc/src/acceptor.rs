//! Accepting clients, each in a thread of its own, until that is to end.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::peer::uid_of;
use crate::socket::Socket;

/// Most clients at once, silent ones included. Each socket has an equal share of them, and a user takes at most half of what
/// the others leave of that share: no user can keep the others out. One more is closed at once.
const CLIENTS_MAX: usize = 4096;

/// How long is waited where the system has no more descriptors or threads.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(100);

/// How long a client may take nothing of what is sent to it when no more are accepted.
const ENDING_WRITE_WAIT: Duration = Duration::from_secs(5);

/// How long all clients together may take for that.
const ENDING_WAIT: Duration = Duration::from_mins(1);

/// Stack of the thread that reads, in bytes: it holds no message there.
const READER_STACK_LEN: usize = 256 << 10;

/// Accepts clients.
#[derive(Debug)]
pub(crate) struct Acceptor {
    clients: Arc<Clients>,
    /// What is written to one end is seen at the other.
    stop: (Arc<UnixStream>, UnixStream),
}

/// Ends a server or a proxy from another thread.
#[derive(Clone, Debug)]
pub struct Stop(Arc<UnixStream>);

impl Stop {
    /// Ends it: no more clients are accepted, and nothing more is read of what those that are there say. A server answers
    /// what they have asked before it returns.
    pub fn stop(&self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

/// The clients that are connected.
#[derive(Debug, Default)]
struct Clients {
    connected: Mutex<HashMap<u64, Connected>>,
    changed: Condvar,
}

/// A client that is connected.
#[derive(Debug)]
struct Connected {
    stream: Arc<UnixStream>,
    /// The socket that it came through: its place among those that are listened on.
    socket: usize,
    uid: u32,
}

impl Acceptor {
    /// An acceptor without clients.
    pub(crate) fn new() -> io::Result<Acceptor> {
        let (one, other) = UnixStream::pair()?;
        Ok(Acceptor {
            clients: Arc::default(),
            stop: (Arc::new(one), other),
        })
    }

    /// Returns what ends it.
    pub(crate) fn stopper(&self) -> Stop {
        Stop(self.stop.0.clone())
    }

    /// Accepts clients and has each served, with whether its socket is for reading only. Returns when it is to end and the
    /// last client is served.
    pub(crate) fn run<S>(&self, sockets: Vec<Socket>, serve: S) -> io::Result<()>
    where
        S: Fn(&Arc<UnixStream>, bool) + Clone + Send + 'static,
    {
        for socket in &sockets {
            // A client may be gone again when it is accepted.
            socket.listener.set_nonblocking(true)?;
        }
        raise_descriptors();
        let mut number = 0;
        loop {
            let mut polled: Vec<PollFd<'_>> = sockets
                .iter()
                .map(|socket| PollFd::new(&socket.listener, PollFlags::IN))
                .chain([PollFd::new(&self.stop.1, PollFlags::IN)])
                .collect();
            match poll(&mut polled, None) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => polled?,
            };
            let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
            if ready.last() == Some(&true) {
                break;
            }
            for index in (0..sockets.len()).filter(|index| ready[*index]) {
                number += 1;
                self.accept(&sockets, index, number, serve.clone());
            }
        }
        drop(sockets);
        self.clients.finish();
        Ok(())
    }

    /// Accepts a client of one of the sockets.
    fn accept<S>(&self, sockets: &[Socket], index: usize, number: u64, serve: S)
    where
        S: FnOnce(&Arc<UnixStream>, bool) + Send + 'static,
    {
        let socket = &sockets[index];
        let accepted = socket.listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(false)?;
            Ok(stream)
        });
        let stream = match accepted {
            Ok(stream) => Arc::new(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                tracing::warn!("a client cannot be accepted: {error}");
                thread::sleep(EXHAUSTED_WAIT);
                return;
            }
        };
        let uid = match uid_of(&stream) {
            Ok(uid) => uid,
            Err(error) => {
                // What it asks for could only be recorded as ours.
                tracing::warn!("a client without credentials: {error}");
                return;
            }
        };
        let client = Connected {
            stream: stream.clone(),
            socket: index,
            uid,
        };
        let share = CLIENTS_MAX / sockets.len();
        if !self.clients.add(number, client, share) {
            tracing::warn!("a client of uid {uid} is closed: there are too many");
            return;
        }
        let clients = self.clients.clone();
        let read_only = socket.read_only;
        let thread = thread::Builder::new()
            .name("reader".to_owned())
            .stack_size(READER_STACK_LEN);
        let started = thread.spawn(move || {
            let _leaving = Leaving(&clients, number);
            serve(&stream, read_only);
        });
        if let Err(error) = started {
            tracing::warn!("no thread for a client: {error}");
            self.clients.remove(number);
            thread::sleep(EXHAUSTED_WAIT);
        }
    }
}

impl Clients {
    /// Adds a client, if its user has fewer of the `share` of its socket than are free.
    fn add(&self, number: u64, client: Connected, share: usize) -> bool {
        let mut connected = self.lock();
        let there = connected.values().filter(|one| one.socket == client.socket);
        let (all, own) = there.fold((0, 0), |(all, own), one| {
            (all + 1, own + usize::from(one.uid == client.uid))
        });
        if all + own >= share {
            return false;
        }
        connected.insert(number, client);
        true
    }

    fn remove(&self, number: u64) {
        self.lock().remove(&number);
        self.changed.notify_all();
    }

    /// Reads no more of what clients say, and waits until each has its replies.
    fn finish(&self) {
        let connected = self.lock();
        for Connected { stream, .. } in connected.values() {
            let _ = stream.set_write_timeout(Some(ENDING_WRITE_WAIT));
            let _ = stream.shutdown(Shutdown::Read);
        }
        let left = self.wait(connected, ENDING_WAIT);
        for Connected { stream, .. } in left.values() {
            // Whoever takes his replies byte by byte gets no more of them.
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(self.wait(left, ENDING_WRITE_WAIT));
    }

    /// Waits until there is no client any more, or the time is over.
    fn wait<'a>(
        &self,
        connected: MutexGuard<'a, HashMap<u64, Connected>>,
        most: Duration,
    ) -> MutexGuard<'a, HashMap<u64, Connected>> {
        let waited = self
            .changed
            .wait_timeout_while(connected, most, |connected| !connected.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Connected>> {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets this process have as many descriptors as the system allows: each client is one.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("the number of descriptors stays as it is: {error}");
    }
}

/// A client that leaves when this is dropped, also if its thread panics.
struct Leaving<'a>(&'a Clients, u64);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.remove(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds clients of a user until one is refused, and returns how many were taken.
    fn fill(clients: &Clients, next: &mut u64, (socket, uid): (usize, u32), share: usize) -> usize {
        let stream = Arc::new(UnixStream::pair().unwrap().0);
        let mut taken = 0;
        loop {
            let client = Connected {
                stream: stream.clone(),
                socket,
                uid,
            };
            *next += 1;
            if !clients.add(*next, client, share) {
                return taken;
            }
            taken += 1;
        }
    }

    #[test]
    fn no_user_takes_more_clients_than_half_of_what_others_leave_of_a_socket() {
        let (clients, mut next) = (Clients::default(), 0);
        let mut fill = |of| fill(&clients, &mut next, of, 64);
        assert_eq!(fill((0, 1000)), 32);
        assert_eq!(fill((0, 1001)), 16);
        assert_eq!(fill((0, 0)), 8);
        assert_eq!(fill((0, 1000)), 0);
        // Another socket has its own.
        assert_eq!(fill((1, 1000)), 32);
    }
}
