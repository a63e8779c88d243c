//! Messages as they were seen between libvirt 9.0.0's client and daemon, in both directions.

use momentlog_rpc::frame::{Frame, Header, Kind, MESSAGE_LEN_MAX, PING, PONG, Status};
use momentlog_rpc::proto::{
    DomainRef, Event, MomentRef, Procedure, RemoteError, Value, decode, encode,
};
use momentlog_rpc::xdr::Reader;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn frame(hex: &str) -> Frame {
    let bytes = bytes(hex);
    let frame = Frame::read(&mut &bytes[..], MESSAGE_LEN_MAX)
        .unwrap()
        .unwrap();
    assert_eq!(frame.to_bytes(), bytes);
    frame
}

fn test_domain() -> DomainRef<'static> {
    DomainRef {
        name: b"test".into(),
        uuid: *b"\x66\x95\xeb\x01\xf6\xa4\x83\x04\x79\xaa\x97\xf2\x50\x2e\x19\x3f",
        id: 1,
    }
}

/// Checks that a message is a call with these arguments, and that they encode to it.
#[track_caller]
fn call(hex: &str, number: i32, serial: u32, arguments: &[Value<'_>]) {
    let procedure = Procedure::by_number(number).unwrap();
    let frame = frame(hex);
    assert_eq!(frame.header, Header::call(number, serial));
    let mut reader = Reader::new(&frame.payload);
    assert_eq!(decode(procedure.arguments, &mut reader).unwrap(), arguments);
    assert!(reader.is_exact());
    assert_eq!(
        encode(procedure.arguments, arguments).unwrap(),
        frame.payload
    );
}

/// Checks that a message is the reply with this answer, and that it encodes to it.
#[track_caller]
fn reply(hex: &str, number: i32, serial: u32, answer: &[Value<'_>]) {
    let procedure = Procedure::by_number(number).unwrap();
    let frame = frame(hex);
    let header = Header::call(number, serial).reply(Status::OK);
    assert_eq!(frame.header, header);
    let mut reader = Reader::new(&frame.payload);
    assert_eq!(decode(procedure.answer, &mut reader).unwrap(), answer);
    assert!(reader.is_exact());
    assert_eq!(encode(procedure.answer, answer).unwrap(), frame.payload);
}

#[test]
fn setting_up_a_connection() {
    call(
        "0000001c 20008086 00000001 00000042 00000000 00000000 00000000",
        66,
        0,
        &[],
    );
    reply(
        "00000024 20008086 00000001 00000042 00000001 00000000 00000000 00000001 00000000",
        66,
        0,
        &[Value::Ints(vec![0])],
    );
    call(
        "00000020 20008086 00000001 0000003c 00000000 00000001 00000000 0000000a",
        60,
        1,
        &[Value::Int(10)],
    );
    let open = [
        Value::OptText(Some(b"test:///default".into())),
        Value::UInt(0),
    ];
    call(
        "00000038 20008086 00000001 00000001 00000000 00000002 00000000 00000001 0000000f \
         746573743a2f2f2f64656661756c7400 00000000",
        1,
        2,
        &open,
    );
}

#[test]
fn the_flag_of_a_name_as_go_libvirt_writes_it_is_taken() {
    let payload = bytes("01000000 0000000e 6d6f6d656e746c6f673a2f2f2f780000 00000000");
    let open = Procedure::by_number(1).unwrap();
    let mut reader = Reader::new(&payload);
    let arguments = decode(open.arguments, &mut reader).unwrap();
    let wanted = [
        Value::OptText(Some(b"momentlog:///x".into())),
        Value::UInt(0),
    ];
    assert_eq!(arguments, wanted);
    assert!(!reader.is_exact());
}

#[test]
fn listing_domains() {
    call(
        "00000024 20008086 00000001 00000111 00000000 00000006 00000000 00000001 00000003",
        273,
        6,
        &[Value::Int(1), Value::UInt(3)],
    );
    reply(
        "00000040 20008086 00000001 00000111 00000001 00000006 00000000 00000001 00000004 74657374 \
         6695eb01f6a4830479aa97f2502e193f 00000001 00000001",
        273,
        6,
        &[Value::Domains(vec![test_domain()]), Value::UInt(1)],
    );
}

#[test]
fn looking_up_a_checkpoint() {
    call(
        "00000044 20008086 00000001 0000019f 00000000 00000007 00000000 00000004 74657374 \
         6695eb01f6a4830479aa97f2502e193f 00000001 00000002 63310000 00000000",
        415,
        7,
        &[
            Value::Domain(test_domain()),
            Value::Text(b"c1".into()),
            Value::UInt(0),
        ],
    );
    let found = MomentRef {
        name: b"c1".into(),
        domain: test_domain(),
    };
    reply(
        "00000040 20008086 00000001 0000019f 00000001 00000007 00000000 00000002 63310000 00000004 \
         74657374 6695eb01f6a4830479aa97f2502e193f 00000001",
        415,
        7,
        &[Value::Moment(found)],
    );
}

#[test]
fn an_error() {
    let frame = frame(
        "00000070 20008086 00000001 00000017 00000001 00000006 00000001 0000002a 0000000c 00000001 \
         00000010 446f6d61696e206e6f7420666f756e64 00000002 00000000 00000001 00000010 \
         446f6d61696e206e6f7420666f756e64 00000000 00000000 ffffffff ffffffff 00000000",
    );
    assert_eq!(frame.header, Header::call(23, 6).reply(Status::ERROR));
    let error = RemoteError {
        code: 42,
        domain: 12,
        message: Some(b"Domain not found".into()),
        level: 2,
        about: None,
        texts: [Some(b"Domain not found".into()), None, None],
        numbers: [-1, -1],
        network: None,
    };
    let mut reader = Reader::new(&frame.payload);
    assert_eq!(RemoteError::decode(&mut reader).unwrap(), error);
    assert!(reader.is_exact());
    assert_eq!(error.encode().unwrap(), frame.payload);
}

#[test]
fn an_event() {
    let frame = frame(
        "00000044 20008086 00000001 0000013e 00000002 00000001 00000000 00000000 00000004 74657374 \
         6695eb01f6a4830479aa97f2502e193f 00000001 00000003 00000000",
    );
    assert_eq!(frame.header, Header::event(318));
    assert_eq!(frame.header.kind, Kind::MESSAGE);
    let suspended = [
        Value::Int(0),
        Value::Domain(test_domain()),
        Value::Int(3),
        Value::Int(0),
    ];
    let fields = Event::LIFECYCLE.fields;
    assert_eq!(Event::LIFECYCLE.number, 318);
    let mut reader = Reader::new(&frame.payload);
    assert_eq!(decode(fields, &mut reader).unwrap(), suspended);
    assert_eq!(encode(fields, &suspended).unwrap(), frame.payload);
}

#[test]
fn ping_and_pong() {
    let asked = "0000001c 6b656570 00000001 00000001 00000002 00000000 00000000";
    assert_eq!(frame(asked).header, Header::keepalive(PING));
    let answered = "0000001c 6b656570 00000001 00000002 00000002 00000000 00000000";
    assert_eq!(frame(answered).header, Header::keepalive(PONG));
}

#[test]
fn some_layouts_have_the_lengths_that_were_seen() {
    let payload = |number: i32, values: &[Value<'_>]| {
        let procedure = Procedure::by_number(number).unwrap();
        encode(procedure.answer, values).unwrap().len()
    };
    let info = [
        Value::UInt(1),
        Value::ULong(1),
        Value::ULong(1),
        Value::UInt(1),
        Value::ULong(1),
    ];
    assert_eq!(payload(16, &info), 32);
    let node = [
        Value::Model([b'x'; 32]),
        Value::ULong(1),
        Value::Int(1),
        Value::Int(1),
        Value::Int(1),
        Value::Int(1),
        Value::Int(1),
        Value::Int(1),
    ];
    assert_eq!(payload(6, &node), 160);
}
