//! Bytes that no client of good will sends.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use momentlog::Connection;
use momentlog_rpc::Served;
use momentlog_rpc::frame::{Frame, Header, KEEPALIVE, Kind, PING, PONG, Status, VERSION};
use momentlog_rpc::proto::Value;

use super::{Client, Serving, by_uuid, got, text};

const UNDECODABLE: &str = "Unable to decode message payload";

/// Sends a frame and returns code, domain and message of the error that it gets.
#[track_caller]
fn refused(client: &mut Client, frame: &Frame) -> (i32, i32, String) {
    client.send_frame(frame);
    let reply = client.next().unwrap();
    assert_eq!(reply.header, frame.header.reply(Status::ERROR));
    got(&reply).unwrap_err()
}

fn call(number: i32, payload: &[u8]) -> Frame {
    Frame {
        header: Header::call(number, 9),
        payload: payload.to_vec(),
    }
}

/// Checks that the server still answers.
#[track_caller]
fn is_served(client: &mut Client) {
    assert_eq!(client.domain("test").id, 1);
}

#[test]
fn a_bad_length_word_closes_the_connection_without_a_reply() {
    let server = Serving::test();
    for len in [0_u32, 4, 27, (32 << 20) + 5, u32::MAX] {
        let mut client = server.client();
        client.stream.write_all(&len.to_be_bytes()).unwrap();
        let mut rest = Vec::new();
        // It may be closed before the rest is sent, which may turn the end into a reset.
        let _ = client.stream.write_all(&[0; 64]);
        let _ = client.stream.read_to_end(&mut rest);
        assert_eq!(rest, [], "{len}");
    }
    is_served(&mut server.client());
    server.end();
}

#[test]
fn what_is_no_call_gets_no_reply_and_the_connection_stays() {
    let server = Serving::test();
    let mut client = server.client();
    for kind in [1, 2, 3, 5, 6, 7, u32::MAX] {
        let mut frame = call(3, &[]);
        frame.header.kind = Kind(kind);
        client.send_frame(&frame);
    }
    is_served(&mut client);
}

#[test]
fn calls_that_mean_nothing_are_refused_by_the_words_of_libvirtd() {
    let server = Serving::test();
    let mut client = server.client();

    let mut frame = call(3, &[]);
    frame.header.status = Status::ERROR;
    let why = "Unexpected message status 1".to_owned();
    assert_eq!(refused(&mut client, &frame), (39, 7, why));

    for number in [0, 4242, -1, i32::MIN] {
        let why = format!("unknown procedure: {number}");
        assert_eq!(refused(&mut client, &call(number, &[])), (39, 7, why));
    }

    for (program, version) in [(0x2000_8087, 1), (0x2000_8086, 2), (0, 0), (KEEPALIVE, 1)] {
        let mut frame = call(3, &[]);
        (frame.header.program, frame.header.version) = (program, version);
        let why = format!("Cannot find program {program} version {version}");
        assert_eq!(refused(&mut client, &frame), (39, 7, why));
    }
    is_served(&mut client);
}

#[test]
fn arguments_that_end_early_or_claim_too_much_are_refused() {
    let server = Serving::test();
    let mut client = server.client();
    for payload in [
        &b""[..],
        b"\0\0",
        b"\0\0\0\x08test",
        b"\0\x40\0\x01test",
        b"\xff\xff\xff\xfftest",
    ] {
        let (code, domain, message) = refused(&mut client, &call(23, payload));
        assert_eq!((code, domain, message.as_str()), (39, 7, UNDECODABLE));
    }
    // What comes behind the arguments, and in the padding, is not looked at.
    client.send_frame(&call(23, b"\0\0\0\x04test and more than that"));
    assert!(got(&client.next().unwrap()).is_ok());
    client.send_frame(&call(3, b"of no meaning"));
    assert!(got(&client.next().unwrap()).is_ok());
}

#[test]
fn names_that_nothing_has_are_not_found() {
    let server = Serving::test();
    let mut client = server.client();
    let long = vec![b'x'; 100_000];
    for name in [&b"\xff\xfe"[..], b"te\0st", b"", b"test\xff", &long] {
        let error = client.call(23, &[Value::Text(name.into())]).unwrap_err();
        assert_eq!((error.0, error.1), (42, 12), "{error:?}");
        let test = Value::Domain(client.domain("test"));
        for (number, code) in [(189, 72), (415, 103)] {
            let arguments = [test.clone(), Value::Text(name.into()), Value::UInt(0)];
            let error = client.call(number, &arguments).unwrap_err();
            assert_eq!(error.0, code, "{error:?}");
            assert!(!error.2.contains('\0'), "{error:?}");
        }
    }
    let error = client.call(14, &[Value::Domain(by_uuid([9; 16])), Value::UInt(0)]);
    let (code, _, message) = error.unwrap_err();
    assert_eq!(code, 42);
    assert!(
        message.contains("'09090909-0909-0909-0909-090909090909' (any)"),
        "{message}"
    );
}

#[test]
fn xml_that_is_no_text_is_refused() {
    let server = Serving::test();
    let mut client = server.client();
    let error = client.call(11, &[Value::Text(b"<domain>\xff</domain>".into())]);
    assert_eq!(error.unwrap_err().0, 27);
    for xml in ["", "<domain>\0</domain>", "no xml"] {
        let error = client.call(11, &[text(xml)]).unwrap_err();
        assert!([27, 35].contains(&error.0), "{error:?}");
    }
    is_served(&mut client);
}

#[test]
fn before_the_store_is_open_little_is_answered_and_little_is_taken() {
    let server = Serving::test();
    let mut client = server.connect();
    assert_eq!(client.call(66, &[]), Ok(vec![Value::Ints(vec![0])]));
    assert_eq!(client.call(60, &[Value::Int(10)]), Ok(vec![Value::Int(1)]));
    for number in [3, 7, 59] {
        let why = "internal error: hypervisor connection not open".to_owned();
        assert_eq!(client.call(number, &[]), Err((1, 7, why)));
    }
    assert!(client.call(60, &[Value::Int(14)]).is_err());
    let large = vec![b'x'; 65 << 10];
    let mut unopened = server.connect();
    // A ping has the number of the call that opens the store.
    let ping = Header {
        program: KEEPALIVE,
        kind: Kind::MESSAGE,
        ..call(1, &[]).header
    };
    let ping = Frame {
        header: ping,
        payload: Vec::new(),
    };
    unopened.stream.write_all(&ping.to_bytes()).unwrap();
    let mut answer = [0; 28];
    unopened.stream.read_exact(&mut answer).unwrap();
    let frame = call(23, &large).to_bytes();
    let _ = unopened.stream.write_all(&frame);
    let mut rest = Vec::new();
    let _ = unopened.stream.read_to_end(&mut rest);
    assert_eq!(rest, []);
    client.open(0);
    let error = client.call(23, &[Value::Text(large.into())]).unwrap_err();
    assert_eq!(error.0, 42);
}

#[test]
fn a_store_is_opened_once_and_a_second_time_changes_nothing() {
    let server = Serving::test();
    let mut client = server.client();
    let again = client.call(1, &[Value::OptText(None), Value::UInt(0)]);
    let why = "internal error: connection already open".to_owned();
    assert_eq!(again, Err((1, 7, why)));
    is_served(&mut client);
}

#[test]
fn a_ping_is_answered_before_anything_else_was_said() {
    let server = Serving::test();
    let mut client = server.connect();
    let keepalive = |procedure: i32| Frame {
        header: Header::keepalive(procedure),
        payload: vec![],
    };
    client.send_frame(&keepalive(PONG));
    client.send_frame(&keepalive(77));
    client.send_frame(&keepalive(PING));
    let pong = client.next().unwrap();
    assert_eq!(pong, keepalive(PONG));
    assert_eq!(
        (pong.header.program, pong.header.version),
        (KEEPALIVE, VERSION)
    );
}

#[test]
fn file_descriptors_are_not_taken_and_their_bytes_are_skipped() {
    let server = Serving::test();
    let mut client = server.client();
    for count in [0_u32, 1, 32] {
        let mut payload = count.to_be_bytes().to_vec();
        payload.extend(b"\0\0\0\x04test");
        let mut frame = call(23, &payload);
        frame.header.kind = Kind::CALL_WITH_FDS;
        client.send_frame(&frame);
        client.stream.write_all(&vec![0; count as usize]).unwrap();
        assert!(got(&client.next().unwrap()).is_ok(), "{count}");
    }
    let mut frame = call(23, &33_u32.to_be_bytes());
    frame.header.kind = Kind::CALL_WITH_FDS;
    client.send_frame(&frame);
    assert_eq!(client.next(), None);
}

#[test]
fn counts_out_of_bounds_are_refused() {
    let server = Serving::test();
    let mut client = server.client();
    let test = Value::Domain(client.domain("test"));
    for max in [-1, 16_385, i32::MIN] {
        let calls: [(i32, &[Value<'_>]); 3] = [
            (37, &[Value::Int(max)]),
            (21, &[Value::Int(max)]),
            (188, &[test.clone(), Value::Int(max), Value::UInt(0)]),
        ];
        for (number, arguments) in calls {
            let error = client.call(number, arguments).unwrap_err();
            assert_eq!((error.0, error.1), (39, 7), "{error:?}");
        }
    }
}

#[test]
fn a_client_that_writes_byte_by_byte_is_served() {
    let server = Serving::test();
    let mut client = server.client();
    let frame = call(23, b"\0\0\0\x04test").to_bytes();
    for byte in frame {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert!(got(&client.next().unwrap()).is_ok());
}

#[test]
fn a_client_that_does_not_open_the_store_in_time_is_dropped_and_one_that_did_is_not() {
    let open = || Connection::open("test:///default");
    let store = |_: &_| Served::while_used(open, "test:///default");
    let wait = Duration::from_millis(200);
    let server = Serving::by(store, |server| server.with_open_wait(wait));
    let mut opened = server.client();
    let mut silent = server.connect();
    let mut slow = server.connect();
    slow.call(66, &[]).unwrap();
    slow.stream.write_all(&[0]).unwrap();
    for client in [&mut silent, &mut slow] {
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest);
        assert_eq!(rest, []);
    }
    is_served(&mut opened);
}
