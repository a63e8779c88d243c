//! The monitors of QEMU through the public calls: scripted ones for every fault, and a real one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod asking;
mod attaching;
mod daemon;
mod dying;
mod entering;
mod faults;
mod libvirt;
mod scripted;

use std::env;
use std::process::{Command, Stdio};
use std::time::Duration;

use momentlog_qemu::{AskError, Monitor, QmpSockets, Request};

/// Long enough for everything that happens at all.
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// For what does not happen.
pub(crate) const SHORT: Duration = Duration::from_millis(100);

/// Waits long for answers.
pub(crate) fn patient() -> QmpSockets {
    QmpSockets {
        answer_wait: LONG,
        ..QmpSockets::default()
    }
}

/// Waits for answers that do not come.
pub(crate) fn impatient() -> QmpSockets {
    QmpSockets {
        answer_wait: SHORT,
        ..QmpSockets::default()
    }
}

/// Whether tests that need a real QEMU can be run.
pub(crate) fn qemu_is_there() -> bool {
    is_there("qemu-storage-daemon")
}

/// Whether tests that need this program can be run.
#[expect(clippy::print_stderr, reason = "it says which tests were left out")]
pub(crate) fn is_there(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        assert!(
            env::var_os("MOMENTLOG_NEED_QEMU").is_none(),
            "{program} is not installed, and MOMENTLOG_NEED_QEMU is set"
        );
        eprintln!("left out: {program} is not installed");
    }
    found
}

/// Nothing is sent to a monitor that has failed, neither one request nor many.
#[track_caller]
pub(crate) fn is_given_up(monitor: &mut dyn Monitor) {
    let request = Request::bare("query-status");
    for error in [
        monitor.ask(&request).unwrap_err(),
        monitor
            .ask_all(&[request.clone(), request.clone()])
            .unwrap_err(),
    ] {
        assert!(error.leaves_unknown());
        let AskError::GivenUp { execute, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(execute, "query-status");
    }
}
