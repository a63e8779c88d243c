//! libvirt's protocol, byte for byte and over sockets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod codec;
mod crowd;
mod events;
mod golden;
mod holding;
mod hostile;
mod proxying;
mod serving;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use momentlog::{Connection, Options};
use momentlog_rpc::frame::{Frame, Header, MESSAGE_LEN_MAX, Status};
use momentlog_rpc::proto::{DomainRef, Param, Procedure, Value, decode, encode};
use momentlog_rpc::xdr::Reader;
use momentlog_rpc::{Served, Server, Socket, Stop};

/// The uuid of the built-in domain of `test:///default`.
pub(crate) const TEST_UUID: [u8; 16] =
    *b"\x66\x95\xeb\x01\xf6\xa4\x83\x04\x79\xaa\x97\xf2\x50\x2e\x19\x3f";

/// Long enough for everything that happens at all.
const LONG: Duration = Duration::from_mins(1);

/// The ends that a relay lies between: a client's and a server's, each with the relay's end of it behind it or before it.
pub(crate) fn ends() -> ([UnixStream; 2], [UnixStream; 2]) {
    let (client, near) = UnixStream::pair().unwrap();
    let (far, server) = UnixStream::pair().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(LONG)).unwrap();
    }
    ([client, near], [far, server])
}

/// A server in this process, with a socket and one for reading only.
pub(crate) struct Serving {
    pub(crate) dir: Arc<tempfile::TempDir>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Serves `test:///default`.
    pub(crate) fn test() -> Serving {
        let open = || Connection::open("test:///default");
        Serving::of(|_| Served::while_used(open, "test:///default"))
    }

    /// Serves a store in a directory, whose changes wait long for other writers.
    pub(crate) fn directory() -> Serving {
        Serving::of(|dir| {
            let uri = store_uri(dir);
            let options = Options {
                lock_wait: LONG,
                ..Options::default()
            };
            let connection = Connection::open_with(&uri, options).unwrap();
            Served::lasting(&connection, &uri)
        })
    }

    fn of(store: impl FnOnce(&Path) -> Served) -> Serving {
        Serving::by(store, |server| server)
    }

    /// Serves a store by a server that is set up by `set`.
    pub(crate) fn by(
        store: impl FnOnce(&Path) -> Served,
        set: impl FnOnce(Server) -> Server,
    ) -> Serving {
        let dir = tempfile::tempdir().unwrap();
        let server = set(Server::new(store(dir.path())).unwrap());
        let sockets = vec![
            Socket::bind(&dir.path().join("sock"), false).unwrap(),
            Socket::bind(&dir.path().join("ro"), true).unwrap(),
        ];
        let stop = server.stopper();
        let thread = std::thread::spawn(move || server.run(sockets).unwrap());
        Serving {
            dir: Arc::new(dir),
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// The store of [`directory`](Self::directory), opened as by another process, which keeps the writer's lock once it has it.
    pub(crate) fn beside(&self) -> Connection {
        let options = Options {
            hold_lock: Duration::MAX,
            shared: false,
            ..Options::default()
        };
        Connection::open_with(&store_uri(self.dir.path()), options).unwrap()
    }

    /// A client that has said nothing.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.path())
    }

    /// A client that has opened the store.
    pub(crate) fn client(&self) -> Client {
        let mut client = self.connect();
        client.open(0);
        client
    }

    pub(crate) fn read_only_client(&self) -> Client {
        let mut client = Client::connect(&self.dir.path().join("ro"));
        client.open(0);
        client
    }

    /// Ends the server, and waits for it.
    pub(crate) fn end(mut self) {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

fn store_uri(dir: &Path) -> String {
    format!("momentlog://{}/store", dir.display())
}

/// A client that writes what a test wants.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    serial: u32,
}

/// What a call got: the values of its reply, or code, domain and message of the error.
pub(crate) type Got = Result<Vec<Value<'static>>, (i32, i32, String)>;

impl Client {
    fn connect(path: &Path) -> Client {
        let stream = UnixStream::connect(path).unwrap();
        // A reply that does not come is a failure of the test, not an endless wait.
        stream.set_read_timeout(Some(LONG)).unwrap();
        Client { stream, serial: 0 }
    }

    pub(crate) fn open(&mut self, flags: u32) {
        let arguments = [Value::OptText(None), Value::UInt(flags)];
        self.call(1, &arguments).unwrap();
    }

    /// Sends a call and returns its serial.
    pub(crate) fn send(&mut self, number: i32, arguments: &[Value<'_>]) -> u32 {
        let procedure = Procedure::by_number(number).unwrap();
        let payload = encode(procedure.arguments, arguments).unwrap();
        self.serial += 1;
        let header = Header::call(number, self.serial);
        self.send_frame(&Frame { header, payload });
        self.serial
    }

    pub(crate) fn send_frame(&mut self, frame: &Frame) {
        self.stream.write_all(&frame.to_bytes()).unwrap();
    }

    /// The next message; `None` if the server has closed the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        Frame::read(&mut self.stream, MESSAGE_LEN_MAX).unwrap()
    }

    /// Makes a call.
    pub(crate) fn call(&mut self, number: i32, arguments: &[Value<'_>]) -> Got {
        let serial = self.send(number, arguments);
        let reply = self.next().expect("a reply");
        assert_eq!(
            (reply.header.procedure, reply.header.serial),
            (number, serial)
        );
        got(&reply)
    }

    /// Looks up a domain.
    pub(crate) fn domain(&mut self, name: &str) -> DomainRef<'static> {
        let found = self.call(23, &[text(name)]).unwrap();
        let [Value::Domain(domain)] = &found[..] else {
            panic!("{found:?}")
        };
        domain.clone()
    }

    /// Makes a checkpoint of a name.
    pub(crate) fn checkpoint(&mut self, domain: &DomainRef<'static>, name: &str) -> Got {
        let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
        let arguments = [Value::Domain(domain.clone()), text(&xml), Value::UInt(0)];
        self.call(411, &arguments)
    }
}

pub(crate) fn text(text: &str) -> Value<'static> {
    Value::Text(text.as_bytes().to_vec().into())
}

/// A domain of this uuid, under a name that is not looked at.
pub(crate) fn by_uuid(uuid: [u8; 16]) -> DomainRef<'static> {
    DomainRef {
        name: b"any".into(),
        uuid,
        id: 7,
    }
}

/// What a reply says.
pub(crate) fn got(reply: &Frame) -> Got {
    let mut reader = Reader::new(&reply.payload);
    if reply.header.status == Status::ERROR {
        let error = momentlog_rpc::proto::RemoteError::decode(&mut reader).unwrap();
        assert_eq!(error.level, 2);
        let message = String::from_utf8(error.message.unwrap().into_owned()).unwrap();
        return Err((error.code, error.domain, message));
    }
    let procedure = Procedure::by_number(reply.header.procedure).unwrap();
    let answer = decode(procedure.answer, &mut reader).unwrap();
    assert!(reader.is_exact());
    Ok(answer.into_iter().map(owned).collect())
}

fn owned(value: Value<'_>) -> Value<'static> {
    let text = |text: momentlog_rpc::xdr::Text<'_>| text.into_owned().into();
    let domain = |one: DomainRef<'_>| DomainRef {
        name: text(one.name),
        uuid: one.uuid,
        id: one.id,
    };
    let moment = |one: momentlog_rpc::proto::MomentRef<'_>| momentlog_rpc::proto::MomentRef {
        name: text(one.name),
        domain: domain(one.domain),
    };
    let param = |(name, param): (_, Param<'_>)| match param {
        Param::UInt(word) => (text(name), Param::UInt(word)),
        other => panic!("no test looks at {other:?}"),
    };
    match value {
        Value::Int(word) => Value::Int(word),
        Value::UInt(word) => Value::UInt(word),
        Value::ULong(number) => Value::ULong(number),
        Value::Text(one) => Value::Text(text(one)),
        Value::Domain(one) => Value::Domain(domain(one)),
        Value::Moment(one) => Value::Moment(moment(one)),
        Value::OptText(one) => Value::OptText(one.map(text)),
        Value::Ints(words) => Value::Ints(words),
        Value::Chars(chars) => Value::Chars(chars),
        Value::Params(all) => Value::Params(all.into_iter().map(param).collect()),
        Value::Texts(all) => Value::Texts(all.into_iter().map(text).collect()),
        Value::Domains(all) => Value::Domains(all.into_iter().map(domain).collect()),
        Value::Moments(all) => Value::Moments(all.into_iter().map(moment).collect()),
        other => panic!("no test looks at {other:?}"),
    }
}
