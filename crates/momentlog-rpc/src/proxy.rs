//! A proxy in front of libvirtd's socket.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use momentlog::Peer;
use rustix::process::geteuid;

use crate::acceptor::{Acceptor, Stop};
use crate::failure::Failure;
use crate::frame::{Frame, Kind, Status};
use crate::identity::ServerConnection;
use crate::peer::peer_of;
use crate::record::CallLog;
use crate::relay::{relay, relay_recorded};
use crate::socket::Socket;

/// What libvirtd calls the socket that refuses changes: the other one's name, and this.
const READ_ONLY_SUFFIX: &str = "-ro";

/// Most calls of a client that are answered before it is hung up on.
const REFUSALS_MAX: u32 = 8;

/// Longest call of such a client, without the length word, in bytes.
const REFUSED_LEN_MAX: usize = 64 << 10;

/// How long is waited for such a client, each time.
const REFUSAL_WAIT: Duration = Duration::from_secs(5);

/// A proxy in front of a libvirtd. It passes on what clients and libvirtd say, and changes none of it; it may record it.
#[derive(Debug)]
pub struct Proxy {
    route: Route,
    acceptor: Acceptor,
    /// Where calls are recorded; none if they are not.
    log: Option<CallLog>,
    /// How often is looked for what came by no client; none if it is not.
    observe: Option<Duration>,
}

/// Where libvirtd listens, and whose clients are passed on.
#[derive(Clone, Debug)]
struct Route {
    path: PathBuf,
    read_only_path: PathBuf,
    other_users: OtherUsers,
}

/// What becomes of clients of other users than the proxy's. libvirtd asks the kernel who is at the other end of its socket,
/// and sees the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherUsers {
    /// Their calls fail (libvirt's code 38), and they are hung up on: none of them gets the rights of the proxy's user. Root
    /// is not one of them.
    Refused,
    /// libvirtd takes them for the proxy's user, with all rights of that user.
    TakenForOurs,
    /// libvirtd sees each as the user that it is: a process is started for it, of the program that runs, which becomes that
    /// user and connects. The program must call [`proxy_connect`](crate::proxy_connect) if its first word is
    /// [`PROXY_CONNECT`](crate::PROXY_CONNECT), and the proxy's user must be root.
    Themselves,
}

impl OtherUsers {
    /// What guards the rights of the proxy's user best: [`Themselves`](OtherUsers::Themselves) if that is root, and else
    /// [`Refused`](OtherUsers::Refused), as no other user can become another one.
    pub fn usual() -> OtherUsers {
        if geteuid().is_root() {
            OtherUsers::Themselves
        } else {
            OtherUsers::Refused
        }
    }
}

impl Proxy {
    /// A proxy of the libvirtd that listens on `upstream`. Clients of a socket for reading only are passed on to the one of
    /// libvirtd beside it, whose name ends with `-ro`.
    ///
    /// # Errors
    ///
    /// If the system has no descriptors for it.
    pub fn new(upstream: &Path, other_users: OtherUsers) -> io::Result<Proxy> {
        let mut read_only_path = OsString::from(upstream);
        read_only_path.push(READ_ONLY_SUFFIX);
        Ok(Proxy {
            route: Route {
                path: upstream.to_owned(),
                read_only_path: read_only_path.into(),
                other_users,
            },
            acceptor: Acceptor::new()?,
            log: None,
            observe: None,
        })
    }

    /// The proxy, which records in this log what it passes on. With `observe`, libvirtd is looked at that often for what came
    /// by no client of the proxy's.
    #[must_use]
    pub fn recording(self, log: CallLog, observe: Option<Duration>) -> Proxy {
        Proxy {
            log: Some(log),
            observe,
            ..self
        }
    }

    /// Returns what ends the proxy. It hangs up on its clients then; what they have asked may still be done by libvirtd.
    pub fn stopper(&self) -> Stop {
        self.acceptor.stopper()
    }

    /// Passes on what the clients of these sockets say until it is stopped, and returns when the last of them has left.
    ///
    /// # Errors
    ///
    /// If a socket cannot be listened on.
    pub fn run(&self, sockets: Vec<Socket>) -> io::Result<()> {
        let (route, log) = (self.route.clone(), self.log.clone());
        let _watching = log.as_ref().map(CallLog::watch).transpose()?;
        if let Some(log) = &log {
            log.observe();
        }
        let _observing = match self.observe.zip(log.clone()) {
            Some((every, log)) => Some(observe(log, every)?),
            None => None,
        };
        self.acceptor.run(sockets, move |client, read_only| {
            // Once, and first: connecting takes time, and the number of a process that has ended may be another's then.
            let peer = peer_of(client).map_err(|error| {
                Failure::system(format!("the proxy cannot tell who asks: {error}"))
            });
            let connected = peer.and_then(|peer| {
                let server = route.connect(&peer, read_only)?;
                Ok((server, log.as_ref().map(|log| log.recorder(&peer))))
            });
            let passed = match connected {
                Ok((server, None)) => relay(client, &server.stream),
                Ok((server, Some(mut recorder))) => {
                    relay_recorded(client, &server.stream, &mut recorder)
                }
                Err(refused) => {
                    tracing::warn!("a client is refused: {refused:?}");
                    refuse(client, &refused)
                }
            };
            if let Err(error) = passed {
                tracing::debug!("a client is hung up on: {error}");
            }
        })
    }
}

impl Route {
    /// Connects to libvirtd for a client.
    fn connect(&self, client: &Peer, read_only: bool) -> Result<ServerConnection, Failure> {
        let path = if read_only {
            &self.read_only_path
        } else {
            &self.path
        };
        let is_ours = client.uid == 0 || client.uid == geteuid().as_raw();
        let connected = match self.other_users {
            OtherUsers::Refused if !is_ours => {
                Err("the proxy is another user's, whom libvirtd would take you for".to_owned())
            }
            OtherUsers::Themselves if !is_ours => ServerConnection::by_user_of(client, path),
            _ => ServerConnection::by_this_process(path),
        };
        connected.map_err(Failure::system)
    }
}

/// Looks at libvirtd every so often, in a thread of its own, until what is returned is dropped.
fn observe(log: CallLog, every: Duration) -> io::Result<Sender<()>> {
    let (stop, stopped) = channel();
    let thread = thread::Builder::new().name("observer".to_owned());
    thread.spawn(move || {
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            log.observe();
        }
    })?;
    Ok(stop)
}

/// Answers a client's first calls with a failure, and hangs up on it. A client that is hung up on before its first call was
/// answered does not learn why, and virsh 9.0.0 was seen to be killed by a signal then.
fn refuse(mut client: &UnixStream, failure: &Failure) -> io::Result<()> {
    client.set_read_timeout(Some(REFUSAL_WAIT))?;
    client.set_write_timeout(Some(REFUSAL_WAIT))?;
    for _ in 0..REFUSALS_MAX {
        let Ok(Some(frame)) = Frame::read(&mut client, REFUSED_LEN_MAX) else {
            break;
        };
        if frame.header.kind == Kind::CALL {
            let reply = Frame {
                header: frame.header.reply(Status::ERROR),
                payload: failure.encode(),
            };
            client.write_all(&reply.to_bytes())?;
        }
    }
    client.shutdown(Shutdown::Both)
}
