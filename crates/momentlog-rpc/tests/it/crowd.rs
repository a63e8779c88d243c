//! Many clients, and clients that take or say nothing.

use std::io::Write as _;

use momentlog_rpc::frame::{Frame, Header};
use momentlog_rpc::proto::{LIST_COUNT_MAX, Value};

use super::{Client, Serving, TEST_UUID, by_uuid, text};

#[test]
fn a_thousand_silent_clients_cost_a_client_nothing() {
    let server = Serving::test();
    let mut silent = Vec::new();
    silent.push(server.client());
    // This process holds both ends: it must be allowed as many descriptors as the server has raised its own to.
    silent.extend((0..1000).map(|_| server.connect()));
    let mut client = server.client();
    let test = client.domain("test");
    client.checkpoint(&test, "c").unwrap();
    drop(silent);
    server.end();
}

#[test]
fn a_client_that_never_reads_holds_up_no_other() {
    let server = Serving::test();
    let mut deaf = server.client();
    let test = Value::Domain(by_uuid(TEST_UUID));
    // Far more than a socket holds.
    for _ in 0..1000 {
        deaf.send(14, &[test.clone(), Value::UInt(0)]);
        deaf.send(7, &[]);
    }
    let mut client = server.client();
    let domain = client.domain("test");
    client.checkpoint(&domain, "c").unwrap();
    drop(client);
    drop(deaf);
    server.end();
}

#[test]
fn a_client_that_dies_within_a_message_is_forgotten() {
    let server = Serving::test();
    for len in [1, 20, 40] {
        let mut client = server.client();
        let header = Header::call(23, 5);
        let frame = Frame {
            header,
            payload: vec![0; 64],
        };
        client.stream.write_all(&frame.to_bytes()[..len]).unwrap();
    }
    assert_eq!(server.client().domain("test").id, 1);
    server.end();
}

/// Defines a domain without disks and gives it checkpoints, named by their numbers.
fn with_checkpoints(server: &Serving, count: usize) {
    use momentlog::core::{Action, Command, CreateCheckpoint, MomentName};
    let beside = server.beside();
    let xml = "<domain type='test'><name>vm</name><os><type>hvm</type></os><devices>\
               <disk type='file'><source file='/a'/><target dev='vda'/></disk></devices></domain>";
    let domain = beside.define_domain_xml(xml).unwrap().uuid();
    let made = |number: usize| Command {
        domain,
        action: Action::CreateCheckpoint(CreateCheckpoint {
            name: MomentName::new(&number.to_string()),
            description: None,
            now: 1_700_000_000,
            disks: vec![],
        }),
    };
    let all: Vec<_> = (0..count).map(made).collect();
    beside.execute_all(&all).unwrap();
    beside.release();
}

fn list(client: &mut Client) -> super::Got {
    let vm = client.domain("vm");
    client.call(413, &[Value::Domain(vm), Value::Int(1), Value::UInt(0)])
}

#[test]
fn a_list_is_as_long_as_clients_can_read_and_one_more_is_an_error_that_says_so() {
    let server = Serving::directory();
    with_checkpoints(&server, LIST_COUNT_MAX);
    let mut client = server.client();
    let listed = list(&mut client).unwrap();
    assert!(matches!(&listed[0], Value::Moments(all) if all.len() == LIST_COUNT_MAX));
    let vm = client.domain("vm");
    client.checkpoint(&vm, "one-more").unwrap();
    let (code, domain, message) = list(&mut client).unwrap_err();
    assert_eq!((code, domain), (39, 7));
    assert!(
        message.contains("16385") && message.contains("16384"),
        "{message}"
    );
    assert_eq!(client.domain("vm"), vm);
}

#[test]
fn a_text_of_four_megabytes_arrives_and_a_longer_one_is_refused() {
    let server = Serving::test();
    let mut client = server.client();
    let error = client.call(23, &[text(&"x".repeat(4 << 20))]).unwrap_err();
    assert_eq!(error.0, 42);
    let mut payload = ((4_u32 << 20) + 1).to_be_bytes().to_vec();
    payload.resize(payload.len() + (4 << 20) + 4, b'x');
    let header = Header::call(23, 77);
    client.send_frame(&Frame { header, payload });
    let refused = super::got(&client.next().unwrap()).unwrap_err();
    assert_eq!((refused.0, refused.1), (39, 7));
}
