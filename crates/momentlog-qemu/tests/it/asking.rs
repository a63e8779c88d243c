//! Asking a monitor that has greeted, every fault that it can have, and what is no fault.

use std::sync::mpsc;
use std::time::Duration;

use momentlog_qemu::{AskError, Hypervisor, Monitor, QmpSockets, Request};
use serde_json::{Value, json};

use crate::scripted::{Client, GREETING, Server};
use crate::{SHORT, impatient, is_given_up, patient};

fn status() -> Request {
    Request::bare("query-status")
}

#[test]
fn arguments_go_in_and_what_is_returned_comes_out() {
    let server = Server::greeting(|mut client| {
        let request = client.request();
        assert_eq!(
            request,
            json!({"execute": "blockdev-del", "arguments": {"node-name": "a"}, "id": request["id"]})
        );
        client.answer(&request, json!({}));
        let next = client.request();
        assert_eq!(next, json!({"execute": "query-status", "id": next["id"]}));
        assert!(next["id"].as_u64() > request["id"].as_u64());
        client.answer(&next, json!({"running": true}));
    });
    let mut monitor = server.enter(patient());
    let request = Request::new("blockdev-del", json!({"node-name": "a"}));
    assert_eq!(monitor.ask(&request).unwrap(), json!({}));
    assert_eq!(monitor.ask(&status()).unwrap(), json!({"running": true}));
    server.end();
}

#[test]
fn a_refusal_names_its_class_and_the_monitor_goes_on() {
    let server = Server::greeting(|mut client| {
        for (class, desc) in [
            ("GenericError", "Bitmap already exists: c1"),
            ("CommandNotFound", "The command x has not been found"),
        ] {
            let id = &client.request()["id"];
            let error = json!({"class": class, "desc": desc});
            client.say(&json!({"id": id, "error": error}).to_string());
        }
        let request = client.request();
        client.answer(&request, 1);
    });
    let mut monitor = server.enter(patient());
    for (class, desc) in [
        ("GenericError", "Bitmap already exists: c1"),
        ("CommandNotFound", "The command x has not been found"),
    ] {
        let error = monitor.ask(&status()).unwrap_err();
        assert!(!error.leaves_unknown());
        assert_eq!(error.to_string(), desc);
        assert!(matches!(error, AskError::Refused { class: told, .. } if told == class));
    }
    assert_eq!(monitor.ask(&status()).unwrap(), json!(1));
    server.end();
}

#[test]
fn events_late_answers_and_unknown_messages_are_passed_over() {
    let server = Server::greeting(|mut client| {
        let first = client.request();
        client.answer(&first, 1);
        client.say(r#"{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}"#);
        let second = client.request();
        client.say(
            r#"{"timestamp": {}, "event": "BLOCK_JOB_COMPLETED", "data": {"id": 7}, "id": []}"#,
        );
        client.answer(&first, "late");
        client.say(r#"{"new in QEMU 99": [[[]]]}"#);
        client.answer(&second, 2);
    });
    let mut monitor = server.enter(patient());
    assert_eq!(monitor.ask(&status()).unwrap(), json!(1));
    assert_eq!(monitor.ask(&status()).unwrap(), json!(2));
    server.end();
}

#[test]
fn many_requests_are_sent_before_the_first_answer() {
    const MANY: usize = 50;
    let server = Server::greeting(|mut client| {
        let requests: Vec<Value> = (0..MANY).map(|_| client.request()).collect();
        for (index, request) in requests.iter().enumerate() {
            client.say(r#"{"event": "JOB_STATUS_CHANGE"}"#);
            client.answer(request, index);
        }
    });
    let mut monitor = server.enter(patient());
    let seen = monitor.ask_all(&vec![status(); MANY]).unwrap();
    let seen: Vec<Value> = seen.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        seen,
        (0..MANY).map(|index| json!(index)).collect::<Vec<_>>()
    );
    assert!(monitor.ask_all(&[]).unwrap().is_empty());
    drop(monitor);
    server.end();
}

#[test]
fn of_a_look_one_may_be_refused_and_the_others_are_answered() {
    let server = Server::greeting(|mut client| {
        let requests = [client.request(), client.request(), client.request()];
        client.answer(&requests[0], 0);
        let error = json!({"class": "CommandNotFound", "desc": "no"});
        client.say(&json!({"error": error, "id": requests[1]["id"]}).to_string());
        client.answer(&requests[2], 2);
        let request = client.request();
        client.answer(&request, 3);
    });
    let mut monitor = server.enter(patient());
    let seen = monitor.ask_all(&[status(), status(), status()]).unwrap();
    assert!(
        matches!(&seen[..], [Ok(first), Err(AskError::Refused { .. }), Ok(last)] if first == 0 && last == 2),
        "{seen:?}"
    );
    assert_eq!(monitor.ask(&status()).unwrap(), json!(3));
    server.end();
}

#[test]
fn an_answer_may_be_as_long_as_a_message() {
    const LEN: usize = 100_000;
    // The line of this answer with a text of one byte less than none.
    let frame_len = json!({"return": "", "id": 2}).to_string().len() + "\r".len();
    for (text_len, fits) in [(LEN - frame_len, true), (LEN - frame_len + 1, false)] {
        let server = Server::greeting(move |mut client| {
            let request = client.request();
            assert_eq!(request["id"], 2);
            client.answer(&request, "x".repeat(text_len));
            client.until_gone();
        });
        let mut monitor = server.enter(QmpSockets {
            message_len_max: LEN,
            ..patient()
        });
        match monitor.ask(&status()) {
            Ok(text) => assert!(fits && text.as_str().map(str::len) == Some(text_len)),
            Err(error) => {
                assert!(!fits, "{error:?}");
                assert!(
                    matches!(error, AskError::TooLong { most: LEN, .. }),
                    "{error:?}"
                );
                is_given_up(&mut monitor);
            }
        }
        drop(monitor);
        server.end();
    }
}

/// Asks a server that does this at the first request, and returns the error. It is the end of the monitor.
#[track_caller]
fn fault(sockets: QmpSockets, script: impl FnOnce(Client, Value) + Send + 'static) -> AskError {
    let server = Server::greeting(|mut client| {
        let request = client.request();
        script(client, request);
    });
    let mut monitor = server.enter(sockets);
    let error = monitor.ask(&status()).unwrap_err();
    assert!(error.leaves_unknown(), "{error:?}");
    assert!(error.to_string().contains("`query-status`"), "{error}");
    is_given_up(&mut monitor);
    drop(monitor);
    server.end();
    error
}

#[test]
fn a_monitor_that_closes_instead_of_answering_is_closed() {
    let error = fault(patient(), |client, _| drop(client));
    assert!(matches!(error, AskError::Closed { .. }), "{error:?}");
}

#[test]
fn a_monitor_that_closes_in_mid_answer_is_closed() {
    for says in [
        r#"{"return": {"running": tr"#,
        // Whole, but for the end of the line: it may have gone on.
        r#"{"return": {}, "id": 2}"#,
    ] {
        let error = fault(patient(), |mut client, _| {
            client.say_bytes(says.as_bytes()).unwrap();
        });
        assert!(matches!(error, AskError::Closed { .. }), "{error:?}");
    }
}

#[test]
fn a_monitor_that_has_closed_between_requests_is_closed() {
    let server = Server::greeting(drop);
    let mut monitor = server.enter(patient());
    server.end();
    let error = monitor.ask(&status()).unwrap_err();
    assert!(matches!(error, AskError::Closed { .. }), "{error:?}");
    is_given_up(&mut monitor);
}

#[test]
fn a_monitor_that_does_not_answer_is_silent() {
    let error = fault(impatient(), |client, _| client.until_gone());
    assert!(
        matches!(error, AskError::Silent { wait, .. } if wait == SHORT),
        "{error:?}"
    );
}

#[test]
fn events_do_not_prolong_the_wait() {
    let error = fault(impatient(), |mut client, _| {
        // As fast as they can be read.
        client.repeat(&b"{\"event\": \"STOP\"}\r\n".repeat(4096));
    });
    assert!(matches!(error, AskError::Silent { .. }), "{error:?}");
}

#[test]
fn an_answer_that_trickles_in_does_not_prolong_the_wait() {
    let error = fault(impatient(), |mut client, _| {
        client.say_bytes(b"{\"return\": \"").unwrap();
        client.repeat(b"x");
    });
    assert!(matches!(error, AskError::Silent { .. }), "{error:?}");
}

#[test]
fn a_monitor_that_does_not_read_is_silent() {
    let (end, ended) = mpsc::channel::<()>();
    let server = Server::greeting(move |client| {
        let _ = ended.recv();
        drop(client);
    });
    let mut monitor = server.enter(impatient());
    let long = Request::new("transaction", json!("x".repeat(16 << 20)));
    let error = monitor.ask(&long).unwrap_err();
    assert!(matches!(error, AskError::Silent { .. }), "{error:?}");
    is_given_up(&mut monitor);
    drop(end);
    server.end();
}

#[test]
fn an_endless_answer_is_too_long() {
    let sockets = QmpSockets {
        message_len_max: 100_000,
        ..patient()
    };
    let error = fault(sockets, |mut client, _| {
        client.say_bytes(b"{\"return\": \"").unwrap();
        client.repeat(&[b'x'; 4096]);
    });
    assert!(
        matches!(error, AskError::TooLong { most: 100_000, .. }),
        "{error:?}"
    );
}

#[test]
fn what_is_no_answer_is_garbage() {
    for (says, why) in [
        ("(qemu) ", "it begins with \"(qemu) \\r\\n\"".to_owned()),
        (
            r#"{"return": {}, "id": 2"#,
            "EOF while parsing an object at line 1 column 23".into(),
        ),
        (
            "{\"return\": \"\u{1}\", \"id\": 2}",
            "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 13"
                .into(),
        ),
        (r#"{"return": {}}"#, "it has no id".into()),
        (
            r#"{"return": {}, "id": "2"}"#,
            "its id is no number of a request".into(),
        ),
        // Ids that were never sent.
        (
            r#"{"return": {}, "id": 0}"#,
            "its id is 0, but 2 is due".into(),
        ),
        (
            r#"{"return": {}, "id": 3}"#,
            "its id is 3, but 2 is due".into(),
        ),
        (
            r#"{"error": {"class": "GenericError", "desc": "JSON parse error, Invalid JSON syntax"}}"#,
            "it is an error without an id: JSON parse error, Invalid JSON syntax".into(),
        ),
        (
            r#"{"error": "no", "id": 2}"#,
            "invalid type: string \"no\", expected struct ErrorAnswer at line 1 column 14".into(),
        ),
        (GREETING, "it is a second greeting".into()),
        (
            &format!(r#"{{"return": {}"#, "[".repeat(1 << 20)),
            "recursion limit exceeded at line 1 column 138".into(),
        ),
    ] {
        let says = says.to_owned();
        let error = fault(patient(), move |mut client, _| {
            client.say(&says);
            client.until_gone();
        });
        let AskError::Garbage { why: told, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(told, why);
    }
}

#[test]
fn what_is_not_utf_8_is_garbage() {
    let error = fault(patient(), |mut client, _| {
        client
            .say_bytes(b"{\"return\": \"\xff\", \"id\": 2}\r\n")
            .unwrap();
        client.until_gone();
    });
    assert!(matches!(error, AskError::Garbage { .. }), "{error:?}");
}

#[test]
fn a_fault_within_a_look_names_the_request() {
    let server = Server::greeting(|mut client| {
        let first = client.request();
        client.answer(&first, 0);
    });
    let mut monitor = server.enter(patient());
    let error = monitor
        .ask_all(&[status(), Request::bare("query-jobs")])
        .unwrap_err();
    assert!(
        matches!(&error, AskError::Closed { execute } if execute == "query-jobs"),
        "{error:?}"
    );
    is_given_up(&mut monitor);
    server.end();
}

#[test]
fn a_wait_may_be_for_ever() {
    let server = Server::greeting(|mut client| {
        let request = client.request();
        client.answer(&request, 1);
    });
    let sockets = QmpSockets {
        answer_wait: Duration::MAX,
        ..QmpSockets::default()
    };
    let mut monitor = sockets.enter(&server.socket, Duration::MAX).unwrap();
    assert_eq!(monitor.ask(&status()).unwrap(), json!(1));
    server.end();
}
