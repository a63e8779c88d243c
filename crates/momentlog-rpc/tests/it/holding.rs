//! A relay with a recorder, which holds calls.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use momentlog_rpc::frame::{Frame, Header, Kind, MESSAGE_LEN_MAX, PING, Status};
use momentlog_rpc::proto::RemoteError;
use momentlog_rpc::xdr::Reader;
use momentlog_rpc::{Held, Recorder, relay_recorded};

use super::LONG;

/// The procedure of the calls that are held.
const HELD: i32 = 4711;

/// Holds calls until the test lets them go, and tells it what becomes of them.
struct Holding {
    told: Sender<Told>,
    goes: Arc<Mutex<Receiver<Result<(), String>>>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Heard(u32),
    Ended(u32, Option<Vec<u8>>),
}

impl Recorder for Holding {
    fn wants(&self, call: &Header) -> bool {
        call.procedure == HELD
    }

    fn hear(&mut self, call: &Frame) -> Option<Box<dyn Held>> {
        if call.payload == b"pass" {
            return None;
        }
        self.told.send(Told::Heard(call.header.serial)).unwrap();
        Some(Box::new(OneCall {
            serial: call.header.serial,
            told: self.told.clone(),
            goes: self.goes.clone(),
        }))
    }
}

struct OneCall {
    serial: u32,
    told: Sender<Told>,
    goes: Arc<Mutex<Receiver<Result<(), String>>>>,
}

impl Held for OneCall {
    fn begin(&mut self) -> Result<(), String> {
        self.goes.lock().unwrap().recv_timeout(LONG).unwrap()
    }

    fn end(self: Box<Self>, reply: Option<&Frame>) {
        let reply = reply.map(|reply| reply.payload.clone());
        self.told.send(Told::Ended(self.serial, reply)).unwrap();
    }
}

/// The two ends of a relay with such a recorder.
struct Between {
    client: UnixStream,
    server: UnixStream,
    told: Receiver<Told>,
    go: Sender<Result<(), String>>,
    relaying: thread::JoinHandle<()>,
}

impl Between {
    fn new() -> Between {
        let ([client, near], [far, server]) = super::ends();
        let ((tell, told), (go, goes)) = (channel(), channel());
        let mut holding = Holding {
            told: tell,
            goes: Arc::new(Mutex::new(goes)),
        };
        Between {
            client,
            server,
            told,
            go,
            relaying: thread::spawn(move || relay_recorded(&near, &far, &mut holding).unwrap()),
        }
    }

    fn told(&self) -> Told {
        self.told.recv_timeout(LONG).unwrap()
    }

    /// Both ends leave, and the relay ends.
    fn end(self) {
        drop((self.client, self.server));
        self.relaying.join().unwrap();
    }
}

fn call(procedure: i32, serial: u32, payload: &[u8]) -> Frame {
    Frame {
        header: Header::call(procedure, serial),
        payload: payload.to_vec(),
    }
}

fn reply(call: &Frame, payload: &[u8]) -> Frame {
    Frame {
        header: call.header.reply(Status::OK),
        payload: payload.to_vec(),
    }
}

fn send(mut to: &UnixStream, frame: &Frame) {
    to.write_all(&frame.to_bytes()).unwrap();
}

fn hear(mut from: &UnixStream) -> Option<Frame> {
    Frame::read(&mut from, MESSAGE_LEN_MAX).unwrap()
}

#[test]
fn others_pass_by_a_held_call_and_its_reply_is_recorded_before_the_client_has_it() {
    let between = Between::new();
    let (client, server) = (&between.client, &between.server);
    let held = call(HELD, 7, &vec![1; 100_000]);
    send(client, &held);
    assert_eq!(between.told(), Told::Heard(7));
    let ping = Frame {
        header: Header::keepalive(PING),
        payload: vec![],
    };
    let reading = call(23, 8, b"vm");
    for frame in [&ping, &reading] {
        send(client, frame);
        assert_eq!(hear(server).as_ref(), Some(frame));
    }
    send(server, &reply(&reading, b"found"));
    assert_eq!(hear(client), Some(reply(&reading, b"found")));

    between.go.send(Ok(())).unwrap();
    assert_eq!(hear(server), Some(held.clone()));
    let answer = reply(&held, &vec![2; 200_000]);
    send(server, &answer);
    assert_eq!(between.told(), Told::Ended(7, Some(answer.payload.clone())));
    assert_eq!(hear(client), Some(answer));
    between.end();
}

#[test]
fn a_call_that_may_not_go_on_is_answered_and_the_server_never_has_it() {
    let between = Between::new();
    let (client, server) = (&between.client, &between.server);
    let held = call(HELD, 7, b"delete");
    send(client, &held);
    between
        .go
        .send(Err("it cannot be recorded".into()))
        .unwrap();
    let refused = hear(client).unwrap();
    assert_eq!(refused.header, held.header.reply(Status::ERROR));
    let error = RemoteError::decode(&mut Reader::new(&refused.payload)).unwrap();
    assert_eq!((error.code, error.domain), (38, 7));
    assert_eq!(
        error.message.as_deref(),
        Some(&b"it cannot be recorded"[..])
    );
    let passed = call(HELD, 8, b"pass");
    send(client, &passed);
    assert_eq!(hear(server), Some(passed));
    between.end();
}

#[test]
fn a_client_that_leaves_is_heard_out_and_so_is_the_server() {
    let between = Between::new();
    let (client, server) = (&between.client, &between.server);
    let held = call(HELD, 7, b"delete");
    send(client, &held);
    assert_eq!(between.told(), Told::Heard(7));
    client.shutdown(Shutdown::Both).unwrap();
    between.go.send(Ok(())).unwrap();
    assert_eq!(hear(server), Some(held.clone()));
    // What the client will not have does not keep the reply from being recorded.
    send(server, &reply(&call(23, 8, b""), &vec![3; 1 << 20]));
    send(server, &reply(&held, b"done"));
    assert_eq!(between.told(), Told::Ended(7, Some(b"done".to_vec())));
    between.end();
}

#[test]
fn where_the_server_leaves_a_call_on_its_way_ends_without_a_reply() {
    let between = Between::new();
    let held = call(HELD, 7, b"delete");
    send(&between.client, &held);
    between.go.send(Ok(())).unwrap();
    assert_eq!(hear(&between.server), Some(held));
    assert_eq!(between.told(), Told::Heard(7));
    between.server.shutdown(Shutdown::Both).unwrap();
    assert_eq!(between.told(), Told::Ended(7, None));
    assert_eq!(hear(&between.client), None);
    between.end();
}

#[test]
fn whoever_adds_descriptors_to_a_recorded_call_does_not_pass_by() {
    let between = Between::new();
    let mut held = call(HELD, 7, &1_u32.to_be_bytes());
    held.header.kind = Kind::CALL_WITH_FDS;
    send(&between.client, &held);
    (&between.client).write_all(&[0]).unwrap();
    let refused = hear(&between.client).unwrap();
    assert_eq!(refused.header.status, Status::ERROR);
    let passed = call(23, 8, b"vm");
    send(&between.client, &passed);
    assert_eq!(hear(&between.server), Some(passed));
    between.end();
}

#[test]
fn two_held_calls_that_cannot_be_told_apart_end_the_connection() {
    let between = Between::new();
    let held = call(HELD, 7, b"delete");
    send(&between.client, &held);
    send(&between.client, &held);
    between.go.send(Ok(())).unwrap();
    assert_eq!(hear(&between.server), Some(held.clone()));
    send(&between.server, &reply(&held, b"done"));
    let mut rest = Vec::new();
    (&between.client).read_to_end(&mut rest).unwrap();
    assert_eq!(rest, reply(&held, b"done").to_bytes());
    between.end();
}

#[test]
fn a_recorder_that_panics_ends_the_connection() {
    let Between {
        mut client,
        server: _server,
        told,
        go,
        relaying,
    } = Between::new();
    client.write_all(&call(HELD, 1, b"").to_bytes()).unwrap();
    assert_eq!(told.recv_timeout(LONG).unwrap(), Told::Heard(1));
    drop(go);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(relaying.join().is_err());
}
