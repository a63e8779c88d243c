//! A proxy between a client and a server: what one says, the other hears.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use momentlog_rpc::frame::{Frame, Header, KEEPALIVE, Kind, PING, PONG};
use momentlog_rpc::{OtherUsers, Proxy, Socket, Stop, relay};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::{Client, Serving};

/// The two ends that a relay lies between.
struct Between {
    client: UnixStream,
    server: UnixStream,
    relaying: thread::JoinHandle<()>,
}

impl Between {
    fn new() -> Between {
        let ([client, near], [far, server]) = super::ends();
        Between {
            client,
            server,
            relaying: thread::spawn(move || relay(&near, &far).unwrap()),
        }
    }

    /// Both ends leave, and the relay ends.
    fn end(self) {
        drop((self.client, self.server));
        self.relaying.join().unwrap();
    }
}

/// A message of this kind with a payload of this length, whose bytes tell where they are.
fn message(kind: Kind, len: usize) -> Vec<u8> {
    let header = Header {
        kind,
        ..Header::call(4711, 3)
    };
    let payload = (0..251_u8).cycle().take(len).collect();
    Frame { header, payload }.to_bytes()
}

fn read(mut end: &UnixStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    end.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn messages_of_every_length_and_kind_pass_both_ways_byte_for_byte() {
    let between = Between::new();
    for len in [0, 1, 4, 65_511, 65_512, 65_513, 200_000, (32 << 20) - 24] {
        for kind in [0, 1, 2, 3, 6, 7, u32::MAX] {
            if len > 1 << 20 && kind > 0 {
                continue;
            }
            let sent = message(Kind(kind), len);
            for (from, to) in [
                (&between.client, &between.server),
                (&between.server, &between.client),
            ] {
                thread::scope(|scope| {
                    scope.spawn(|| (&*from).write_all(&sent).unwrap());
                    assert!(read(to, sent.len()) == sent, "{len} bytes of kind {kind}");
                });
            }
        }
    }
    between.end();
}

#[test]
fn a_length_that_no_message_has_ends_the_connection_and_is_not_passed_on() {
    for len in [0_u32, 4, 27, (32 << 20) + 5, u32::MAX] {
        for from_server in [false, true] {
            let between = Between::new();
            let (mut from, to) = if from_server {
                (&between.server, &between.client)
            } else {
                (&between.client, &between.server)
            };
            let whole = message(Kind::CALL, 8);
            from.write_all(&[&whole[..], &len.to_be_bytes()].concat())
                .unwrap();
            let mut heard = Vec::new();
            (&*to).read_to_end(&mut heard).unwrap();
            assert_eq!(heard, whole, "{len}");
            between.relaying.join().unwrap();
        }
    }
}

#[test]
fn descriptors_pass_both_ways_with_the_bytes_that_they_come_with() {
    let between = Between::new();
    for (kind, count) in [
        (Kind::CALL_WITH_FDS, 0),
        (Kind::CALL_WITH_FDS, 1),
        (Kind::REPLY_WITH_FDS, 2),
        (Kind::CALL_WITH_FDS, 32),
    ] {
        let mut sent = message(kind, 8);
        sent[28..32].copy_from_slice(&u32::to_be_bytes(count));
        for (mut from, to) in [
            (&between.client, &between.server),
            (&between.server, &between.client),
        ] {
            from.write_all(&sent).unwrap();
            for number in 0..count {
                let mut file = tempfile::tempfile().unwrap();
                write!(file, "file {number}").unwrap();
                send_descriptor(from, &file);
            }
            // What comes right behind them is a message again.
            from.write_all(&message(Kind::CALL, 4)).unwrap();
            assert_eq!(read(to, sent.len()), sent);
            for number in 0..count {
                let mut file = File::from(receive_descriptor(to).expect("a descriptor"));
                let mut text = String::new();
                file.rewind().unwrap();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(text, format!("file {number}"));
            }
            assert_eq!(read(to, 32), message(Kind::CALL, 4));
        }
    }
    between.end();
}

#[test]
fn more_descriptors_than_libvirt_takes_end_the_connection() {
    let between = Between::new();
    let mut sent = message(Kind::CALL_WITH_FDS, 4);
    sent[28..32].copy_from_slice(&33_u32.to_be_bytes());
    (&between.client).write_all(&sent).unwrap();
    let mut heard = Vec::new();
    (&between.server).read_to_end(&mut heard).unwrap();
    assert_eq!(heard, []);
    between.relaying.join().unwrap();
}

#[test]
fn who_takes_nothing_stops_the_other_one_and_not_what_he_says_himself() {
    let between = Between::new();
    between.client.set_nonblocking(true).unwrap();
    let piece = message(Kind::CALL, 60_000);
    let mut sent = 0;
    // The kernel's buffers and one piece: far less than this.
    let most = 64 << 20;
    let mut rest: &[u8] = &[];
    let mut refusals = 0;
    while refusals < 100 {
        if rest.is_empty() {
            rest = &piece;
        }
        match (&between.client).write(rest) {
            Ok(written) => {
                sent += written;
                rest = &rest[written..];
                refusals = 0;
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                refusals += 1;
                thread::yield_now();
            }
        }
        assert!(sent < most, "nothing holds the client up");
    }
    let reply = message(Kind::REPLY, 100);
    (&between.server).write_all(&reply).unwrap();
    between.client.set_nonblocking(false).unwrap();
    assert_eq!(read(&between.client, reply.len()), reply);
    between.end();
}

#[test]
fn a_client_that_says_no_more_still_hears_and_a_server_that_leaves_ends_it() {
    let between = Between::new();
    let call = message(Kind::CALL, 4);
    (&between.client).write_all(&call).unwrap();
    between.client.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    (&between.server).read_to_end(&mut heard).unwrap();
    assert_eq!(heard, call);
    let reply = message(Kind::REPLY, 4);
    (&between.server).write_all(&reply).unwrap();
    drop(between.server);
    let mut heard = Vec::new();
    (&between.client).read_to_end(&mut heard).unwrap();
    assert_eq!(heard, reply);
    between.relaying.join().unwrap();
}

/// A proxy in this process, in front of a server.
struct Proxying {
    upstream: Serving,
    stop: Stop,
    thread: thread::JoinHandle<()>,
}

impl Proxying {
    fn of(upstream: Serving) -> Proxying {
        let dir = upstream.dir.path();
        // It is found by its name, as that of libvirtd is.
        std::fs::rename(dir.join("ro"), dir.join("sock-ro")).unwrap();
        let proxy = Proxy::new(&upstream.path(), OtherUsers::Refused).unwrap();
        let bind = |name: &str, read_only| Socket::bind(&dir.join(name), read_only).unwrap();
        let sockets = vec![bind("proxy", false), bind("proxy-ro", true)];
        let stop = proxy.stopper();
        Proxying {
            stop,
            thread: thread::spawn(move || proxy.run(sockets).unwrap()),
            upstream,
        }
    }

    fn client(&self, socket: &str) -> Client {
        let mut client = Client::connect(&self.path(socket));
        client.open(0);
        client
    }

    fn path(&self, socket: &str) -> std::path::PathBuf {
        Path::join(self.upstream.dir.path(), socket)
    }
}

#[test]
fn calls_through_the_proxy_are_those_of_the_server_and_its_read_only_socket_is_the_servers() {
    let proxying = Proxying::of(Serving::test());
    let mut client = proxying.client("proxy");
    let domain = client.domain("test");
    client.checkpoint(&domain, "c1").unwrap();
    let mut direct = Client::connect(&proxying.upstream.path());
    direct.open(0);
    let (code, _, _) = direct.checkpoint(&domain, "c1").unwrap_err();
    assert_eq!(code, 9, "it is there");
    let mut reader = proxying.client("proxy-ro");
    let (code, _, message) = reader.checkpoint(&domain, "c2").unwrap_err();
    assert_eq!(code, 29, "{message}");
    let ping = Frame {
        header: Header::keepalive(PING),
        payload: Vec::new(),
    };
    client.send_frame(&ping);
    let answer = client.next().unwrap();
    assert_eq!(
        (answer.header.program, answer.header.procedure),
        (KEEPALIVE, PONG)
    );
}

#[test]
fn a_proxy_that_is_told_to_end_hangs_up_and_one_whose_server_is_gone_says_so() {
    let proxying = Proxying::of(Serving::test());
    let mut client = proxying.client("proxy");
    proxying.stop.stop();
    assert_eq!(client.next(), None);
    proxying.thread.join().unwrap();
    assert!(!Path::join(proxying.upstream.dir.path(), "proxy").exists());

    let proxying = Proxying::of(Serving::test());
    let dir = proxying.upstream.dir.clone();
    let mut client = proxying.client("proxy");
    proxying.upstream.end();
    assert_eq!(client.next(), None);
    let mut late = Client::connect(&dir.path().join("proxy"));
    for _ in 0..8 {
        let (code, domain, message) = late.call(66, &[]).unwrap_err();
        assert_eq!((code, domain), (38, 7));
        assert!(message.contains("cannot reach libvirtd"), "{message}");
    }
    assert_eq!(late.next(), None);
    proxying.stop.stop();
    proxying.thread.join().unwrap();
}

fn send_descriptor(to: &UnixStream, file: &File) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [file.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(
        to,
        &[IoSlice::new(&[0])],
        &mut ancillary,
        SendFlags::empty(),
    );
    assert_eq!(sent, Ok(1));
}

fn receive_descriptor(from: &UnixStream) -> Option<OwnedFd> {
    let mut byte = [7];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut byte)];
    let received = recvmsg(from, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    assert_eq!(received.bytes, 1);
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}
