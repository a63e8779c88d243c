//! Entering a monitor, and every fault before it has greeted.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{self, Command};
use std::sync::mpsc;
use std::thread;

use momentlog_qemu::{EnterError, Hypervisor, Monitor, QmpSockets, Request};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use serde_json::json;

use crate::scripted::{Client, GREETING, Server};
use crate::{LONG, SHORT, patient};

#[test]
fn a_monitor_greets_and_tells_its_version() {
    let server = Server::greeting(Client::until_gone);
    let monitor = server.enter(QmpSockets::default());
    assert_eq!(monitor.version().to_string(), "7.2.22");
    drop(monitor);
    server.end();
}

#[test]
fn the_run_is_that_of_the_process_that_listens() {
    let server = Server::greeting(Client::until_gone);
    let monitor = server.enter(patient());
    let run = monitor.run().unwrap();
    assert_eq!(run.pid, process::id());
    drop(monitor);
    server.end();
}

#[test]
fn no_socket_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["qmp.sock", "no/qmp.sock"] {
        let socket = dir.path().join(name);
        let error = patient().enter(&socket, LONG).unwrap_err();
        assert!(matches!(error, EnterError::Missing { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_socket_left_by_a_dead_process_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("qmp.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let error = patient().enter(&socket, LONG).unwrap_err();
    assert!(matches!(error, EnterError::Dead { .. }), "{error:?}");
}

#[test]
fn a_path_that_is_no_socket_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let long = dir.path().join("s".repeat(108));
    for (path, why) in [
        (file.as_path(), "it is no socket"),
        (dir.path(), "it is no socket"),
        (long.as_path(), "and that of a socket at most 108"),
        (Path::new(""), "its path is empty"),
    ] {
        let error = patient().enter(path, LONG).unwrap_err();
        assert!(matches!(error, EnterError::Io { .. }), "{error:?}");
        assert!(error.to_string().ends_with(why), "{error}");
    }
}

#[test]
fn a_monitor_that_never_greets_is_held() {
    let server = Server::silent(Client::until_gone);
    let error = patient().enter(&server.socket, SHORT).unwrap_err();
    assert!(
        matches!(error, EnterError::Held { wait, .. } if wait == SHORT),
        "{error:?}"
    );
    server.end();
}

#[test]
fn a_greeting_that_trickles_in_for_ever_is_held() {
    let server = Server::silent(|mut client| {
        client.say_bytes(b"{\"QMP\": \"").unwrap();
        client.repeat(b"x");
    });
    let error = patient().enter(&server.socket, SHORT).unwrap_err();
    assert!(matches!(error, EnterError::Held { .. }), "{error:?}");
    server.end();
}

#[test]
fn a_monitor_that_does_not_negotiate_is_held() {
    let server = Server::silent(|mut client| {
        client.say(GREETING);
        client.until_gone();
    });
    let error = patient().enter(&server.socket, SHORT).unwrap_err();
    assert!(
        matches!(error, EnterError::Held { wait, .. } if wait == SHORT),
        "{error:?}"
    );
    server.end();
}

#[test]
fn a_monitor_for_which_too_many_wait_is_held_until_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp.sock");
    let fd = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&fd, 0).unwrap();
    let waits = UnixStream::connect(&path).unwrap();
    let error = patient().enter(&path, SHORT).unwrap_err();
    assert!(
        matches!(error, EnterError::Held { wait, .. } if wait == SHORT),
        "{error:?}"
    );

    let server = thread::spawn(move || {
        let listener = UnixListener::from(fd);
        Client::accept(&listener).until_gone();
        let mut client = Client::accept(&listener);
        client.greet();
        client.until_gone();
    });
    drop(waits);
    drop(patient().enter(&path, LONG).unwrap());
    server.join().unwrap();
}

#[test]
fn what_does_not_speak_qmp_is_said_to_be_none() {
    for (says, why) in [
        (
            "QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ",
            r#"it begins with "QEMU 7.2.22 monitor - type 'help' for mo""#,
        ),
        // Without the end of a line.
        (
            "NBDMAGICIHAVEOPT\0\u{3}",
            r#"it begins with "NBDMAGICIHAVEOPT\0\u{3}""#,
        ),
        ("\r\n", r#"it begins with "\r\n""#),
        ("[]\n", r#"it begins with "[]\n""#),
        (
            "{\"QMP\": 1}\n",
            "its first message is no greeting: invalid type: integer `1`, expected struct GreetingLine \
             at line 1 column 9",
        ),
        ("{}\n", "its first message is no greeting"),
    ] {
        let server = Server::silent(move |mut client| {
            client.say_bytes(says.as_bytes()).unwrap();
            client.until_gone();
        });
        let error = patient().enter(&server.socket, LONG).unwrap_err();
        let EnterError::NotQmp { why: told, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(told, why);
        server.end();
    }
}

#[test]
fn an_event_may_come_before_the_greeting() {
    let server = Server::silent(|mut client| {
        client.say(
            r#"{"event": "JOB_STATUS_CHANGE", "data": {"status": "concluded", "id": "copy"}}"#,
        );
        client.greet();
        client.until_gone();
    });
    drop(server.enter(patient()));
    server.end();
}

#[test]
fn a_monitor_that_tells_events_for_ever_is_held() {
    let server = Server::silent(|mut client| client.repeat(b"{\"event\": \"STOP\"}\r\n"));
    let error = patient().enter(&server.socket, SHORT).unwrap_err();
    assert!(matches!(error, EnterError::Held { .. }), "{error:?}");
    server.end();
}

#[test]
fn a_greeting_may_not_be_longer_than_a_message() {
    let server = Server::silent(|mut client| {
        client.say_bytes(b"{\"QMP\": \"").unwrap();
        client.repeat(&[b'x'; 4096]);
    });
    let sockets = QmpSockets {
        message_len_max: 100_000,
        ..patient()
    };
    let error = sockets.enter(&server.socket, LONG).unwrap_err();
    assert!(
        matches!(&error, EnterError::NotQmp { why, .. } if why == "its greeting is longer than 100000 bytes"),
        "{error:?}"
    );
    server.end();
}

#[test]
fn a_monitor_that_refuses_to_negotiate_is_no_qmp() {
    let server = Server::silent(|mut client| {
        client.say(GREETING);
        let id = &client.request()["id"];
        let error = json!({"class": "GenericError", "desc": "never"});
        client.say(&json!({"error": error, "id": id}).to_string());
        client.until_gone();
    });
    let error = patient().enter(&server.socket, LONG).unwrap_err();
    assert!(
        matches!(&error, EnterError::NotQmp { why, .. } if why == "it refuses to negotiate: never"),
        "{error:?}"
    );
    server.end();
}

#[test]
fn what_was_meant_for_a_client_that_has_gone_is_passed_over() {
    let server = Server::silent(|mut client| {
        client.say(r#"{"event": "JOB_STATUS_CHANGE", "data": {"status": "null", "id": "j"}}"#);
        client.say(r#"{"return": {"of": "another"}, "id": 28}"#);
        client.say(GREETING);
        let negotiates = client.request();
        client.say(r#"{"return": {"of": "another"}, "id": 29}"#);
        client.say(r#"{"return": {"of": "another"}, "id": "libvirt-7"}"#);
        client.say(r#"{"error": {"class": "GenericError", "desc": "no"}}"#);
        client.answer(&negotiates, json!({}));
        let request = client.request();
        client.answer(&request, json!("its own"));
        client.until_gone();
    });
    let mut monitor = server.enter(patient());
    let answer = monitor.ask(&Request::bare("query-name")).unwrap();
    assert_eq!(answer, "its own");
    drop(monitor);
    server.end();
}

#[test]
fn a_server_that_always_closes_before_it_greets_is_no_qmp() {
    let (end, ended) = mpsc::channel::<()>();
    let server = Server::new(move |listener| {
        listener.set_nonblocking(true).unwrap();
        while ended.try_recv() == Err(mpsc::TryRecvError::Empty) {
            drop(listener.accept());
            thread::yield_now();
        }
    });
    let error = patient().enter(&server.socket, LONG).unwrap_err();
    assert!(
        matches!(&error, EnterError::NotQmp { why, .. } if why == "it closes the connection before it greets"),
        "{error:?}"
    );
    drop(end);
    server.end();
}

#[test]
fn a_guest_that_ends_before_it_greets_is_missing_or_dead() {
    for (begins, in_order) in [("", true), ("", false), ("{\"QMP", true), (GREETING, false)] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let file = socket.clone();
        let server = thread::spawn(move || {
            let mut client = Client::accept(&listener);
            client.say_bytes(begins.as_bytes()).unwrap();
            if in_order {
                fs::remove_file(file).unwrap();
            }
            // The connection first, as it may be when a process is killed.
            drop(client);
            drop(listener);
        });
        let error = patient().enter(&socket, LONG).unwrap_err();
        let told = match &error {
            EnterError::Missing { .. } => Some(true),
            EnterError::Dead { .. } => Some(false),
            _ => None,
        };
        assert_eq!(told, Some(in_order), "{error:?}");
        server.join().unwrap();
    }
}

#[test]
fn programs_that_are_started_do_not_inherit_a_monitor() {
    let server = Server::greeting(Client::until_gone);
    let monitor = server.enter(patient());
    let mut program = Command::new("sleep").arg("60").spawn().unwrap();
    drop(monitor);
    server.end();
    assert!(program.try_wait().unwrap().is_none());
    program.kill().unwrap();
    program.wait().unwrap();
}
