//! The verb `serve`: the store over libvirt's own protocol.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use listenfd::ListenFd;
use momentlog::{Connection, Options};
use momentlog_rpc::{Served, Server, Socket, Stop};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::Verb;
use crate::failure::{Answer, Failure, reason};
use crate::grammar::{Invocation, Spec, word};
use crate::place;
use crate::session::Session;

/// The verb.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "serve",
        "serve the store to libvirt's clients, until SIGTERM or SIGINT",
        &[
            word("socket", "the socket to make; without it those of systemd"),
            word("read-only-socket", "a socket that refuses changes"),
        ],
    )
    .of_now()
    .in_text(),
    run: serve,
}];

/// The store whose state ends with its last client.
const TEST_URI: &str = "test:///default";

/// The name by which systemd hands over a socket that refuses changes.
const READ_ONLY_NAME: &str = "read-only";

pub fn serve(session: &mut Session, invocation: &Invocation) -> Answer {
    let sockets = sockets(invocation)?;
    let server = Server::new(served(session)?).map_err(system("cannot serve"))?;
    end_at_signal(server.stopper())?;
    session.say(&format!(
        "Serving {} to libvirt's clients\n",
        place::shown(&session.uri)
    ));
    session.flush();
    server.run(sockets).map_err(system("cannot serve"))?;
    Ok(0)
}

/// Ends a server or a proxy at the first SIGTERM or SIGINT, and the process at the second.
pub(super) fn end_at_signal(stop: Stop) -> Result<(), Failure> {
    let cannot = || system("cannot wait for signals");
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(cannot())?;
    let ending = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, 1, ending.clone())
            .and_then(|_| flag::register(signal, ending.clone()))
            .map_err(cannot())?;
    }
    let waiting = thread::Builder::new().name("signals".to_owned());
    waiting
        .spawn(move || {
            signals.forever().next();
            stop.stop();
        })
        .map_err(cannot())?;
    Ok(())
}

/// What turns the system's reason into a failure to do this.
pub(super) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::new(format!("{what}: {}", reason(&error)))
}

/// What is served: the state of the test driver is shared by the clients, and ends with the last of them.
fn served(session: &Session) -> Result<Served, Failure> {
    let uri = session.uri.clone();
    let options = Options {
        provenance: session.connection.provenance().clone(),
        read_only: session.connection.is_read_only(),
        lock_wait: session.lock_wait,
        ..Options::default()
    };
    if uri == TEST_URI {
        let open = move || Connection::open_with(TEST_URI, options.clone());
        return Ok(Served::while_used(open, &uri));
    }
    // Each call waits for another writer by itself, as each is of another client.
    let connection = place::open(&uri, options)?;
    Ok(Served::lasting(&connection, &place::shown(&uri)))
}

/// The sockets that are named, or those that systemd hands over: the one called `read-only` refuses changes.
pub(super) fn sockets(invocation: &Invocation) -> Result<Vec<Socket>, Failure> {
    let mut sockets = Vec::new();
    for (option, read_only) in [("socket", false), ("read-only-socket", true)] {
        if let Some(path) = invocation.get(option) {
            let path = PathBuf::from(path);
            let bound = Socket::bind(&path, read_only);
            sockets.push(bound.map_err(|error| refused(&path, &error))?);
        }
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed = ListenFd::from_env();
    for index in 0..handed.len() {
        let read_only = names.next() == Some(READ_ONLY_NAME);
        let listener = handed.take_unix_listener(index);
        let listener: Option<UnixListener> = listener.map_err(|error| {
            Failure::new(format!(
                "cannot take a socket of systemd: {}",
                reason(&error)
            ))
        })?;
        sockets.extend(listener.map(|listener| Socket::of(listener, read_only)));
    }
    if sockets.is_empty() {
        let why = "name a socket: --socket PATH, --read-only-socket PATH, or both";
        return Err(Failure::new(why));
    }
    Ok(sockets)
}

fn refused(path: &Path, error: &momentlog_rpc::SocketError) -> Failure {
    let failure = Failure::new(format!("failed to listen on '{}'", path.display()));
    match error {
        momentlog_rpc::SocketError::Io { source, .. } => failure.and(reason(source)),
        other => failure.and(other.to_string()),
    }
}
