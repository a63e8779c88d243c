//! A real storage daemon, whose monitor is QEMU's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use momentlog_qemu::{AskError, EnterError, Hypervisor, Monitor, QmpMonitor, QmpSockets, Request};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{LONG, SHORT, is_given_up, qemu_is_there};

/// A daemon that is killed with the test.
struct Daemon {
    child: Child,
    dir: TempDir,
}

impl Daemon {
    /// Starts one and enters it as soon as it listens. `None` where it is not installed.
    fn start() -> Option<(Daemon, QmpMonitor)> {
        if !qemu_is_there() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp.sock");
        let child = Command::new("qemu-storage-daemon")
            .arg("--chardev")
            .arg(format!(
                "socket,path={},server=on,wait=off,id=c",
                socket.display()
            ))
            .args(["--monitor", "chardev=c"])
            .args(["--blockdev", "null-co,node-name=disk,size=65536"])
            .spawn()
            .unwrap();
        let mut daemon = Daemon { child, dir };
        loop {
            match QmpSockets::default().connect(&socket, LONG) {
                Ok(monitor) => return Some((daemon, monitor)),
                // Between its start and its listening.
                Err(EnterError::Missing { .. } | EnterError::Dead { .. }) => {
                    assert_eq!(daemon.child.try_wait().unwrap(), None);
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("qmp.sock")
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn cannot_enter(socket: &Path, wait: Duration) -> EnterError {
    QmpSockets::default().enter(socket, wait).unwrap_err()
}

#[test]
fn it_answers_and_refuses() {
    let Some((daemon, mut monitor)) = Daemon::start() else {
        return;
    };
    let version = monitor.ask(&Request::bare("query-version")).unwrap();
    assert_eq!(version["qemu"]["major"], monitor.version().major);
    assert_eq!(version["package"], monitor.version().package.as_str());

    let error = monitor.ask(&Request::bare("query-nothing")).unwrap_err();
    assert!(
        matches!(&error, AskError::Refused { class, .. } if class == "CommandNotFound"),
        "{error:?}"
    );

    let seen = monitor
        .ask_all(&vec![Request::bare("query-named-block-nodes"); 50])
        .unwrap();
    assert_eq!(seen.len(), 50);
    for nodes in seen {
        assert_eq!(nodes.unwrap()[0]["node-name"], "disk");
    }
    drop(daemon);
}

#[test]
fn it_is_the_run_that_was_started() {
    let Some((daemon, monitor)) = Daemon::start() else {
        return;
    };
    let run = monitor.run().unwrap();
    assert_eq!(run.pid, daemon.child.id());
    let fields = fs::read_to_string(format!("/proc/{}/stat", run.pid)).unwrap();
    // Its name has no blank.
    let start = fields.split(' ').nth(21).unwrap();
    assert_eq!(run.start.to_string(), start);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let hex = format!("{:032x}", u128::from_be_bytes(run.boot));
    assert_eq!(hex, boot.trim().replace('-', ""));
}

#[test]
fn one_client_has_it_alone() {
    let Some((daemon, first)) = Daemon::start() else {
        return;
    };
    let socket = daemon.socket();
    let error = cannot_enter(&socket, SHORT);
    assert!(matches!(error, EnterError::Held { .. }), "{error:?}");

    // Many more than the two that may wait, one after another.
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let socket = socket.clone();
            thread::spawn(move || {
                let mut monitor = QmpSockets::default().connect(&socket, LONG).unwrap();
                monitor.ask(&Request::bare("query-version")).unwrap();
            })
        })
        .collect();
    drop(first);
    for client in waiting {
        client.join().unwrap();
    }
}

#[test]
fn stopped_it_is_silent_and_held() {
    let Some((daemon, _)) = Daemon::start() else {
        return;
    };
    let sockets = QmpSockets {
        answer_wait: SHORT,
        ..QmpSockets::default()
    };
    let mut monitor = sockets.connect(&daemon.socket(), LONG).unwrap();
    daemon.send(Signal::STOP);
    let error = monitor.ask(&Request::bare("query-version")).unwrap_err();
    assert!(matches!(error, AskError::Silent { .. }), "{error:?}");
    is_given_up(&mut monitor);
    drop(monitor);
    let error = cannot_enter(&daemon.socket(), SHORT);
    assert!(matches!(error, EnterError::Held { .. }), "{error:?}");

    daemon.send(Signal::CONT);
    let mut monitor = QmpSockets::default()
        .connect(&daemon.socket(), LONG)
        .unwrap();
    monitor.ask(&Request::bare("query-version")).unwrap();
}

#[test]
fn killed_it_is_dead() {
    ends(Signal::KILL, |error| {
        assert!(matches!(error, EnterError::Dead { .. }), "{error:?}");
    });
}

#[test]
fn ended_in_order_it_is_missing() {
    ends(Signal::TERM, |error| {
        assert!(matches!(error, EnterError::Missing { .. }), "{error:?}");
    });
}

/// Ends a daemon while one client has it and another waits for its greeting. The first sees that it closes; the second and
/// one that comes later see how it ended.
fn ends(signal: Signal, check: fn(EnterError)) {
    let Some((mut daemon, mut monitor)) = Daemon::start() else {
        return;
    };
    let socket = daemon.socket();
    let waiting = thread::spawn(move || cannot_enter(&socket, LONG));
    let error = cannot_enter(&daemon.socket(), SHORT);
    assert!(matches!(error, EnterError::Held { .. }), "{error:?}");

    daemon.send(signal);
    let status = daemon.ended();
    assert_eq!(status.success(), signal == Signal::TERM, "{status}");
    let error = monitor.ask(&Request::bare("query-version")).unwrap_err();
    assert!(matches!(error, AskError::Closed { .. }), "{error:?}");
    is_given_up(&mut monitor);
    check(waiting.join().unwrap());
    check(cannot_enter(&daemon.socket(), LONG));
}
