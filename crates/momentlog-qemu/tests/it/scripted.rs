//! A monitor that plays a script.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use momentlog_qemu::{QmpMonitor, QmpSockets};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::LONG;

pub(crate) const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}"#;

/// A listening socket whose clients a thread serves.
pub(crate) struct Server {
    _dir: TempDir,
    pub(crate) socket: PathBuf,
    thread: JoinHandle<()>,
}

impl Server {
    pub(crate) fn new(script: impl FnOnce(&UnixListener) + Send + 'static) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = thread::spawn(move || script(&listener));
        Server {
            _dir: dir,
            socket,
            thread,
        }
    }

    /// Serves one client, before it has been greeted.
    pub(crate) fn silent(script: impl FnOnce(Client) + Send + 'static) -> Server {
        Server::new(|listener| script(Client::accept(listener)))
    }

    /// Serves one client, after it has been greeted.
    pub(crate) fn greeting(script: impl FnOnce(Client) + Send + 'static) -> Server {
        Server::silent(|mut client| {
            client.greet();
            script(client);
        })
    }

    #[track_caller]
    pub(crate) fn enter(&self, sockets: QmpSockets) -> QmpMonitor {
        sockets.connect(&self.socket, LONG).unwrap()
    }

    /// Ends the test: the script has come to its end too.
    #[track_caller]
    pub(crate) fn end(self) {
        self.thread.join().unwrap();
    }
}

/// One client of the server.
pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    pub(crate) fn accept(listener: &UnixListener) -> Client {
        let (stream, _) = listener.accept().unwrap();
        Client(BufReader::new(stream))
    }

    /// Greets and agrees with what the client negotiates.
    pub(crate) fn greet(&mut self) {
        self.say(GREETING);
        let request = self.request();
        assert_eq!(request["execute"], "qmp_capabilities");
        self.answer(&request, json!({}));
    }

    pub(crate) fn request(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn answer(&mut self, request: &Value, returned: impl Into<Value>) {
        let returned: Value = returned.into();
        self.say(&json!({"return": returned, "id": request["id"]}).to_string());
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.say_bytes(format!("{line}\r\n").as_bytes()).unwrap();
    }

    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Says the same until the client has gone, or has listened for much longer than it should.
    pub(crate) fn repeat(&mut self, bytes: &[u8]) {
        for _ in 0..1_000_000 {
            if self.say_bytes(bytes).is_err() {
                return;
            }
        }
    }

    /// Waits until the client has gone.
    pub(crate) fn until_gone(mut self) {
        // A client that goes without having read all resets the connection.
        let _ = self.0.read_to_end(&mut Vec::new());
    }
}
