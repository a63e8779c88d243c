//! A relay between a client and the server, which cuts a connection after any of its bytes.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use momentlog_postgres::{Address, PostgresStore};
use momentlog_proptests::PostgresServer;
use momentlog_store::StoreError;

use super::faults::{append, check};
use super::{VERIFY, effort, open, server};

/// Which of the two sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

/// Bytes of the newest connection, and where the next one is to be cut.
#[derive(Debug, Default)]
struct State {
    cut: Option<(From, usize)>,
    of_client: usize,
    of_server: usize,
}

/// The relay. Its thread ends with the test's process.
struct Relay {
    directory: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

impl Relay {
    fn start(server: &PostgresServer) -> Relay {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket(directory.path())).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let (to, shared) = (socket(server.host()), state.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(server) = UnixStream::connect(&to) else {
                    continue;
                };
                let client = client.unwrap();
                let mut state = shared.lock().unwrap();
                let cut = state.cut.take();
                (state.of_client, state.of_server) = (0, 0);
                for (from, source, sink) in [
                    (From::Client, &client, &server),
                    (From::Server, &server, &client),
                ] {
                    let most = cut.filter(|cut| cut.0 == from).map(|cut| cut.1);
                    let (source, sink) = (source.try_clone().unwrap(), sink.try_clone().unwrap());
                    let shared = shared.clone();
                    std::thread::spawn(move || pump(from, source, sink, most, &shared));
                }
            }
        });
        Relay { directory, state }
    }

    fn address(&self) -> Address {
        let host = self.directory.path().display();
        Address::parse(&format!("postgres://agent@/postgres?host={host}")).unwrap()
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join(".s.PGSQL.5432")
}

/// Passes on what comes, up to `most` bytes; then ends both ways.
fn pump(
    from: From,
    mut source: UnixStream,
    mut sink: UnixStream,
    most: Option<usize>,
    state: &Mutex<State>,
) {
    let mut left = most.unwrap_or(usize::MAX);
    let mut bytes = [0; 4096];
    while left > 0 {
        let room = bytes.len().min(left);
        let read = source.read(&mut bytes[..room]).unwrap_or(0);
        if read == 0 || sink.write_all(&bytes[..read]).is_err() {
            break;
        }
        left -= read;
        let mut state = state.lock().unwrap();
        match from {
            From::Client => state.of_client += read,
            From::Server => state.of_server += read,
        }
    }
    // The other may have done so.
    let _ = source.shutdown(Shutdown::Both);
    let _ = sink.shutdown(Shutdown::Both);
}

#[test]
fn wherever_a_connection_is_cut_an_append_is_there_once_or_is_said_not_to_be() {
    let Some(server) = server("connections to PostgreSQL that are cut after each byte") else {
        return;
    };
    let every = effort("MOMENTLOG_CUT_EVERY", 61);
    let relay = Relay::start(&server);
    let mut acknowledged = vec!["first".to_owned(), "whole".to_owned()];
    append(&mut open(&server, "agent", "main"), &acknowledged[0]).unwrap();
    let mut whole = PostgresStore::open(relay.address()).unwrap();
    append(&mut whole, &acknowledged[1]).unwrap();
    let (of_client, of_server) = {
        let state = relay.state.lock().unwrap();
        (state.of_client, state.of_server)
    };
    drop(whole);
    let mut refused = 0;
    for (from, length) in [(From::Client, of_client), (From::Server, of_server)] {
        for at in (0..=length).step_by(every) {
            relay.state.lock().unwrap().cut = Some((from, at));
            let mut store = PostgresStore::open(relay.address()).unwrap();
            let facts = format!("{from:?} {at}");
            match append(&mut store, &facts) {
                Ok(()) => acknowledged.push(facts),
                // The server has never answered this client.
                Err(StoreError::Backend { .. }) => {
                    refused += 1;
                    append(&mut store, &facts).unwrap();
                    acknowledged.push(facts);
                }
                Err(error) => panic!("{facts}: {error:?}"),
            }
        }
    }
    let cuts = acknowledged.len() - 2;
    println!(
        "{cuts} cuts within {of_client} bytes of the client and {of_server} of the server, {refused} before its first answer"
    );
    assert!(refused < cuts / 2, "{refused} of {cuts}");
    let mut reader = open(&server, "auditor", "main");
    check(&mut reader, &acknowledged);
    let records = acknowledged.len().to_string();
    let stand = "SELECT count(*) FROM momentlog.records";
    assert_eq!(server.psql("auditor", stand).unwrap(), records);
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
}
