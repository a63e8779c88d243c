//! Events: who gets which, and which client is not waited for.

use momentlog_rpc::frame::{Frame, Header};
use momentlog_rpc::proto::{DomainRef, Event, Value, decode};
use momentlog_rpc::xdr::Reader;

use super::{Client, Serving, by_uuid};

/// The number of the callback, the domain's name, its id, event and detail.
type Told = (i32, String, i32, i32, i32);

fn told(frame: &Frame) -> Told {
    assert_eq!(frame.header, Header::event(318));
    let fields = decode(Event::LIFECYCLE.fields, &mut Reader::new(&frame.payload)).unwrap();
    let [
        Value::Int(id),
        Value::Domain(domain),
        Value::Int(event),
        Value::Int(detail),
    ] = &fields[..]
    else {
        panic!("{fields:?}")
    };
    let name = String::from_utf8(domain.name.to_vec()).unwrap();
    (*id, name, domain.id, *event, *detail)
}

fn register(client: &mut Client, domain: Option<DomainRef<'static>>) -> i32 {
    let registered = client
        .call(316, &[Value::Int(0), Value::OptDomain(domain)])
        .unwrap();
    let [Value::Int(id)] = registered[..] else {
        panic!("{registered:?}")
    };
    id
}

#[test]
fn each_callback_is_told_what_happens_in_the_order_of_the_log() {
    let server = Serving::test();
    let mut listener = server.client();
    let mut actor = server.client();
    let test = actor.domain("test");
    actor.call(34, &[Value::Domain(test.clone())]).unwrap();

    let all = register(&mut listener, None);
    let other = register(&mut listener, Some(by_uuid([7; 16])));
    let one = register(&mut listener, Some(test.clone()));
    assert!(all != one && one != other);
    for number in [28, 12, 9] {
        actor.call(number, &[Value::Domain(test.clone())]).unwrap();
    }
    let wanted = [(1, 4, 0), (-1, 5, 1), (2, 2, 0)];
    for (id, event, detail) in wanted {
        for callback in [all, one] {
            let found = told(&listener.next().unwrap());
            assert_eq!(found.0, callback);
            assert_eq!(
                (found.1.as_str(), found.3, found.4),
                ("test", event, detail)
            );
            assert_eq!(found.2 > 0, id > 0, "{found:?}");
        }
    }

    listener.call(317, &[Value::Int(all)]).unwrap();
    let error = listener.call(317, &[Value::Int(all)]).unwrap_err();
    assert_eq!((error.0, error.1), (1, 7));
    // Moments are no events.
    actor.checkpoint(&test, "c").unwrap();
    actor.call(34, &[Value::Domain(test)]).unwrap();
    let found = told(&listener.next().unwrap());
    assert_eq!((found.0, found.3, found.4), (one, 3, 0));
}

#[test]
fn any_event_of_libvirt_may_be_registered_and_no_other() {
    let server = Serving::test();
    let mut client = server.client();
    for event in 0..=26 {
        assert!(
            client
                .call(316, &[Value::Int(event), Value::OptDomain(None)])
                .is_ok()
        );
    }
    for event in [-1, 27, i32::MAX] {
        let error = client
            .call(316, &[Value::Int(event), Value::OptDomain(None)])
            .unwrap_err();
        let why = format!("internal error: unsupported event ID {event}");
        assert_eq!(error, (1, 7, why));
    }
}

#[test]
fn the_older_registration_is_told_without_a_number() {
    let server = Serving::test();
    let mut client = server.client();
    assert_eq!(client.call(105, &[]), Ok(vec![Value::Int(1)]));
    let test = server.client().domain("test");
    server.client().call(34, &[Value::Domain(test)]).unwrap();
    let frame = client.next().unwrap();
    assert_eq!(frame.header, Header::event(107));
    let unnumbered = Event::LIFECYCLE_UNNUMBERED.fields;
    let fields = decode(unnumbered, &mut Reader::new(&frame.payload)).unwrap();
    assert_eq!(fields[1..], [Value::Int(3), Value::Int(0)]);
    assert_eq!(client.call(106, &[]), Ok(vec![Value::Int(0)]));
}

#[test]
fn changes_of_other_processes_are_told() {
    let server = Serving::directory();
    let mut client = server.client();
    register(&mut client, None);
    let beside = server.beside();
    let xml = "<domain type='test'><name>vm</name><os><type>hvm</type></os></domain>";
    beside.define_domain_xml(xml).unwrap();
    let found = told(&client.next().unwrap());
    assert_eq!(
        (found.1.as_str(), found.2, found.3, found.4),
        ("vm", -1, 0, 0)
    );
}

#[test]
fn a_listener_that_does_not_read_is_dropped_and_no_other_client_waits_for_it() {
    let server = Serving::test();
    let mut deaf = server.client();
    for _ in 0..4000 {
        register(&mut deaf, None);
    }
    let mut hearing = server.client();
    register(&mut hearing, None);
    let mut actor = server.client();
    let test = Value::Domain(actor.domain("test"));
    let mut events = 0;
    // Each change is 4,000 messages for the first one.
    for _ in 0..30 {
        for number in [34, 28] {
            actor.call(number, std::slice::from_ref(&test)).unwrap();
            told(&hearing.next().unwrap());
            events += 1;
        }
    }
    assert_eq!(events, 60);
    let mut read = 0;
    while let Ok(Some(_)) = Frame::read(&mut deaf.stream, 1 << 20) {
        read += 1;
    }
    assert!(read < events * 4000, "{read}");
}
