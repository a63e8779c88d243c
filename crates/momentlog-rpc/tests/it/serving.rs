//! What clients of good will get.

use std::path::Path;
use std::slice::from_ref;
use std::time::Duration;

use momentlog::{Connection, Options};
use momentlog_rpc::Served;
use momentlog_rpc::frame::{Frame, Header, Kind, PING, PONG, Status};
use momentlog_rpc::proto::{Access, Param, Procedure, Shape, Value};

use super::{Serving, TEST_UUID, by_uuid, got, text};

/// Any value of a shape.
fn any(shape: Shape) -> Value<'static> {
    match shape {
        Shape::Int => Value::Int(0),
        Shape::UInt => Value::UInt(0),
        Shape::ULong => Value::ULong(0),
        Shape::Text => text("x"),
        Shape::OptText => Value::OptText(None),
        Shape::Uuid => Value::Uuid(TEST_UUID),
        Shape::Domain => Value::Domain(by_uuid(TEST_UUID)),
        Shape::OptDomain => Value::OptDomain(None),
        Shape::Moment => Value::Moment(momentlog_rpc::proto::MomentRef {
            name: b"none".into(),
            domain: by_uuid(TEST_UUID),
        }),
        Shape::Domains => Value::Domains(vec![]),
        Shape::Params(_) => Value::Params(vec![]),
        Shape::Texts(_) => Value::Texts(vec![]),
        other => panic!("no call takes {other:?}"),
    }
}

#[test]
fn the_read_only_socket_refuses_each_call_that_the_table_says() {
    let server = Serving::test();
    let mut client = server.read_only_client();
    let mut count = 0;
    for procedure in Procedure::ALL {
        let mut arguments: Vec<_> = procedure.arguments.iter().map(|one| any(*one)).collect();
        let denied = match procedure.access {
            Access::Read => continue,
            Access::Write => true,
            Access::ReadUnless(secrets) => {
                *arguments.last_mut().unwrap() = Value::UInt(secrets);
                true
            }
        };
        assert!(denied);
        let (code, _, message) = client.call(procedure.number, &arguments).unwrap_err();
        assert_eq!(code, 29, "{procedure:?}");
        assert!(
            message.starts_with("operation forbidden: read only access prevents vir"),
            "{message}"
        );
        if let Err((code, ..)) = server.client().call(procedure.number, &arguments) {
            assert_ne!(code, 29, "{procedure:?}");
        }
        count += 1;
    }
    assert!(count > 25, "{count}");
}

#[test]
fn a_connection_that_was_opened_for_reading_only_refuses_changes() {
    let server = Serving::test();
    let mut client = server.connect();
    client.open(0xffff_ffff);
    let test = client.domain("test");
    assert_eq!(client.checkpoint(&test, "c").unwrap_err().0, 29);
    let mut other = server.connect();
    // What unprivileged clients add to an URI of their own.
    other.open(6);
    assert!(other.checkpoint(&test, "c").is_ok());
}

#[test]
fn the_state_of_the_test_driver_is_shared_and_ends_with_the_last_client() {
    let server = Serving::test();
    let mut one = server.client();
    let mut other = server.client();
    let test = one.domain("test");
    one.checkpoint(&test, "c").unwrap();
    let list = [Value::Domain(test), Value::Int(1), Value::UInt(0)];
    let count = |client: &mut super::Client| {
        let listed = client.call(413, &list).unwrap();
        let [Value::Moments(found), Value::Int(_)] = &listed[..] else {
            panic!("{listed:?}")
        };
        found.len()
    };
    assert_eq!(count(&mut other), 1);
    one.call(2, &[]).unwrap();
    assert_eq!(one.next(), None);
    assert_eq!(count(&mut other), 1);
    other.call(2, &[]).unwrap();
    assert_eq!(count(&mut server.client()), 0);
}

#[test]
fn a_store_in_a_directory_lasts_and_others_write_it_between_calls() {
    let server = Serving::directory();
    let mut client = server.client();
    let xml = "<domain type='test'><name>vm</name><os><type>hvm</type></os></domain>";
    client.call(11, &[text(xml)]).unwrap();
    let beside = server.beside();
    let found = beside.lookup_domain_by_name("vm").unwrap();
    let made = beside
        .define_domain_xml(&xml.replace("vm", "other"))
        .unwrap();
    beside.release();
    let domain = client.domain("other");
    assert_eq!(domain.uuid, *made.uuid().as_bytes());
    client
        .call(35, &[Value::Domain(by_uuid(*found.uuid().as_bytes()))])
        .unwrap();
    client.call(2, &[]).unwrap();
    assert!(beside.lookup_domain_by_name("vm").is_err());
    assert_eq!(server.client().domain("other"), domain);
}

#[test]
fn the_writers_lock_is_kept_between_calls_until_the_server_is_idle() {
    let xml = "<domain type='test'><name>vm</name><os><type>hvm</type></os></domain>";
    let uri = |dir: &Path| format!("momentlog://{}/store", dir.display());
    for (hold_lock, lock_wait, is_let_in) in [
        (Duration::MAX, Duration::ZERO, false),
        (Duration::from_millis(1), Duration::from_mins(1), true),
    ] {
        let options = |hold_lock, lock_wait| Options {
            hold_lock,
            lock_wait,
            shared: false,
            ..Options::default()
        };
        let store = |dir: &Path| {
            let options = options(hold_lock, Duration::from_mins(1));
            let connection = Connection::open_with(&uri(dir), options).unwrap();
            Served::lasting(&connection, &uri(dir))
        };
        let server = Serving::by(store, |server| server);
        server.client().call(11, &[text(xml)]).unwrap();
        let options = options(Duration::MAX, lock_wait);
        let beside = Connection::open_with(&uri(server.dir.path()), options).unwrap();
        let made = beside.define_domain_xml(&xml.replace("vm", "other"));
        assert_eq!(made.is_ok(), is_let_in, "{made:?}");
    }
}

#[test]
fn records_keep_who_is_at_the_other_end() {
    let server = Serving::directory();
    let xml = "<domain type='test'><name>vm</name><os><type>hvm</type></os></domain>";
    server.client().call(11, &[text(xml)]).unwrap();
    let entry = server.beside().entries(None).unwrap().pop().unwrap();
    let agent = entry.agent.as_deref().unwrap();
    assert!(
        agent.contains(&format!("(pid {}, uid ", std::process::id())),
        "{agent}"
    );
}

#[test]
fn a_list_is_empty_where_only_its_length_is_asked() {
    let server = Serving::test();
    let mut client = server.client();
    let test = client.domain("test");
    client.checkpoint(&test, "a").unwrap();
    client.checkpoint(&test, "b").unwrap();
    let list = [Value::Domain(test), Value::Int(0), Value::UInt(0)];
    let counted = client.call(413, &list);
    assert_eq!(counted, Ok(vec![Value::Moments(vec![]), Value::Int(2)]));
    let domains = client.call(273, &[Value::Int(0), Value::UInt(0)]);
    assert_eq!(domains, Ok(vec![Value::Domains(vec![]), Value::UInt(1)]));
}

#[test]
fn no_more_names_are_answered_than_the_client_has_room_for() {
    let server = Serving::test();
    let mut client = server.client();
    let test = client.domain("test");
    for _ in 0..3 {
        let xml = text("<domainsnapshot/>");
        let name = text("<domainsnapshot><name>s</name></domainsnapshot>");
        let arguments = [Value::Domain(test.clone()), xml, Value::UInt(0)];
        let _ = client.call(185, &arguments);
        let _ = client.call(185, &[Value::Domain(test.clone()), name, Value::UInt(0)]);
    }
    for max in [0, 1] {
        let arguments = [Value::Domain(test.clone()), Value::Int(max), Value::UInt(0)];
        let names = client.call(188, &arguments).unwrap();
        let [Value::Texts(names)] = &names[..] else {
            panic!("{names:?}")
        };
        assert_eq!(names.len(), usize::try_from(max).unwrap());
    }
}

#[test]
fn the_number_of_a_running_domain_is_told_where_it_changes() {
    let server = Serving::test();
    let mut client = server.client();
    let test = client.domain("test");
    client.call(12, &[Value::Domain(test.clone())]).unwrap();
    assert_eq!(client.domain("test").id, -1);
    let started = client
        .call(196, &[Value::Domain(test), Value::UInt(0)])
        .unwrap();
    let [Value::Domain(domain)] = &started[..] else {
        panic!("{started:?}")
    };
    assert!(domain.id > 0);
    assert_eq!(client.call(51, &[]), Ok(vec![Value::Int(1)]));
    assert_eq!(
        client.call(37, &[Value::Int(9)]),
        Ok(vec![Value::Ints(vec![domain.id])])
    );
    assert_eq!(client.call(25, &[]), Ok(vec![Value::Int(0)]));
}

#[test]
fn ten_calls_at_once_are_answered_in_their_order() {
    let server = Serving::test();
    let mut client = server.client();
    let test = Value::Domain(client.domain("test"));
    let xml = |name: &str| {
        text(&format!(
            "<domaincheckpoint><name>{name}</name></domaincheckpoint>"
        ))
    };
    let serials: Vec<u32> = (0..10)
        .map(|number| {
            let xml = xml(&format!("c{number}"));
            client.send(411, &[test.clone(), xml, Value::UInt(0)])
        })
        .collect();
    for serial in serials {
        let reply = client.next().unwrap();
        assert_eq!(reply.header.serial, serial);
        got(&reply).unwrap();
    }
}

#[test]
fn more_calls_at_once_than_are_kept_are_refused_and_the_rest_is_answered() {
    let server = Serving::directory();
    let beside = server.beside();
    let xml = "<domain type='test'><name>vm</name><os><type>hvm</type></os></domain>";
    beside.define_domain_xml(xml).unwrap();
    // It still holds the writer's lock.
    let mut client = server.client();
    client.send(11, &[text(&xml.replace("vm", "waits"))]);
    for _ in 0..1100 {
        client.send(3, &[]);
    }
    let refused = client.next().unwrap();
    let (code, domain, message) = got(&refused).unwrap_err();
    assert_eq!((code, domain), (39, 7));
    assert!(message.contains("1024 calls"), "{message}");
    beside.release();
    let mut answered = 0;
    let mut refused = 1;
    while answered + refused < 1101 {
        match got(&client.next().unwrap()) {
            Ok(_) => answered += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(answered >= 1024, "{answered}");
}

#[test]
fn a_ping_is_answered_while_a_call_waits_for_the_disk() {
    let server = Serving::directory();
    let beside = server.beside();
    let xml = "<domain type='test'><name>vm</name><os><type>hvm</type></os></domain>";
    beside.define_domain_xml(xml).unwrap();
    let mut client = server.client();
    let serial = client.send(11, &[text(&xml.replace("vm", "waits"))]);
    let ping = Header::keepalive(PING);
    for _ in 0..3 {
        client.send_frame(&Frame {
            header: ping,
            payload: vec![],
        });
        assert_eq!(client.next().unwrap().header, Header::keepalive(PONG));
    }
    beside.release();
    let reply = client.next().unwrap();
    assert_eq!(reply.header.serial, serial);
    got(&reply).unwrap();
}

#[test]
fn a_server_that_ends_answers_what_was_asked() {
    let server = Serving::directory();
    let beside = server.beside();
    let xml = |name: &str| {
        format!("<domain type='test'><name>{name}</name><os><type>hvm</type></os></domain>")
    };
    beside.define_domain_xml(&xml("vm")).unwrap();
    let mut client = server.client();
    let mut silent = server.connect();
    let serials = ["a", "b"].map(|name| client.send(11, &[text(&xml(name))]));
    // Both have come when a ping behind them is answered.
    client.send_frame(&Frame {
        header: Header::keepalive(PING),
        payload: vec![],
    });
    assert_eq!(client.next().unwrap().header, Header::keepalive(PONG));
    let (path, _dir) = (server.path(), server.dir.clone());
    let ending = std::thread::spawn(move || server.end());
    // It accepts no more clients.
    while path.exists() {
        std::thread::yield_now();
    }
    beside.release();
    for serial in serials {
        let reply = client.next().unwrap();
        assert_eq!(reply.header.serial, serial);
        got(&reply).unwrap();
    }
    assert_eq!((client.next(), silent.next()), (None, None));
    ending.join().unwrap();
    assert!(beside.lookup_domain_by_name("b").is_ok());
}

#[test]
fn what_is_asked_of_the_host_is_answered() {
    let server = Serving::test();
    let mut client = server.client();
    assert_eq!(client.call(3, &[]), Ok(vec![text("TEST")]));
    assert_eq!(client.call(110, &[]), Ok(vec![text("test:///default")]));
    assert_eq!(client.call(149, &[]), Ok(vec![Value::Int(1)]));
    assert_eq!(client.call(157, &[]), Ok(vec![Value::ULong(9_000_000)]));
    let asked = client.call(
        342,
        &[
            Value::OptText(None),
            Value::OptText(None),
            Value::OptText(None),
            Value::OptText(None),
            Value::UInt(0),
        ],
    );
    let [Value::Text(xml)] = &asked.unwrap()[..] else {
        panic!("a text")
    };
    assert!(xml.starts_with(b"<domainCapabilities>"));
    let other = Connection::open("test:///default").unwrap();
    let built_in = other.lookup_domain_by_name("test").unwrap();
    let xml = client.call(14, &[Value::Domain(by_uuid(TEST_UUID)), Value::UInt(0)]);
    let own = built_in.xml_desc(momentlog::DomainXmlFlags::NONE).unwrap();
    assert_eq!(xml, Ok(vec![text(&own)]));
}

#[test]
fn what_the_test_driver_says_by_constants_is_said_in_front_of_it_alone() {
    let server = Serving::test();
    let mut client = server.client();
    let test = Value::Domain(by_uuid(TEST_UUID));
    let of_test = from_ref(&test);
    let fair = vec![text("fair"), Value::Int(1)];
    assert_eq!(client.call(56, of_test), Ok(fair));
    let weight = Value::Params(vec![(b"weight".into(), Param::UInt(50))]);
    let params = client.call(57, &[test.clone(), Value::Int(1)]);
    assert_eq!(params, Ok(vec![weight.clone()]));
    assert_eq!(client.call(58, &[test.clone(), weight.clone()]), Ok(vec![]));
    let label =
        |label: &[u8], enforcing| Ok(vec![Value::Chars(label.to_vec()), Value::Int(enforcing)]);
    let said = client.call(121, of_test);
    assert_eq!(said, label(b"libvirt-test\0", 1));
    client.call(12, of_test).unwrap();
    assert_eq!(client.call(121, of_test), label(b"\0", 0));
    assert_eq!(client.call(203, &[Value::UInt(1)]).unwrap_err().0, 8);

    let lasting = Serving::directory();
    let mut client = lasting.client();
    let xml = "<domain type='test'><name>vm</name><os><type>hvm</type></os></domain>";
    client.call(11, &[text(xml)]).unwrap();
    let vm = Value::Domain(client.domain("vm"));
    assert_eq!(client.call(121, from_ref(&vm)), label(b"\0", 0));
    assert!(client.call(203, &[Value::UInt(0)]).is_ok());
    for (number, arguments) in [
        (56, vec![vm.clone()]),
        (57, vec![vm.clone(), Value::Int(1)]),
        (58, vec![vm.clone(), weight]),
        (211, vec![vm.clone(), Value::UInt(0), Value::UInt(0)]),
    ] {
        let (code, domain, message) = client.call(number, &arguments).unwrap_err();
        let unknown = format!("unknown procedure: {number}");
        assert_eq!((code, domain, message), (39, 7, unknown));
    }
}

#[test]
fn a_screenshot_is_a_stream_that_the_client_ends() {
    let server = Serving::test();
    let mut client = server.client();
    let arguments = [
        Value::Domain(by_uuid(TEST_UUID)),
        Value::UInt(0),
        Value::UInt(0),
    ];
    for end in [Status::OK, Status::ERROR] {
        let answer = client.call(211, &arguments).unwrap();
        assert_eq!(answer, [Value::OptText(Some(b"image/png".into()))]);
        let [picture, last] = [0, 1].map(|_| client.next().unwrap());
        assert!(picture.payload.starts_with(b"\x89PNG\r\n"));
        assert_eq!(last.payload, b"");
        for part in [&picture, &last] {
            let header = part.header;
            assert_eq!(
                (header.kind, header.status),
                (Kind::STREAM, Status::CONTINUE)
            );
        }
        // What is no end is not answered, and no end of a stream that is not open.
        let frame = |header| Frame {
            header,
            payload: Vec::new(),
        };
        let header = last.header;
        client.send_frame(&frame(header));
        client.send_frame(&frame(header.stream(end)));
        client.send_frame(&frame(header.stream(end)));
        assert_eq!(client.next().unwrap().header, header.stream(Status::OK));
    }
    let (code, _, message) = (0..300)
        .find_map(|_| {
            let got = client.call(211, &arguments);
            if got.is_ok() {
                client.next().unwrap();
                client.next().unwrap();
            }
            got.err()
        })
        .unwrap();
    assert_eq!(code, 1);
    assert!(message.contains("at most 256 open streams"), "{message}");
}
