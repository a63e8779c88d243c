//! `proxy`, between libvirt's own clients and a private libvirtd.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::libvirt::{Managed, start_daemon, wait_for};
use super::serve::{PYTHON, assert_scripts_are_as_recorded, clients_are_there, play, traces};
use super::*;

/// Where libvirtd listens, in its directory.
pub(super) const UPSTREAM: &str = "run/libvirt/libvirt-sock";

/// Starts a proxy of the libvirtd that has its directories in `dir`, with its sockets there.
pub(super) fn proxy_before(dir: &Path, options: &[&str]) -> Killed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    let upstream = UPSTREAM;
    command
        .args(["proxy", "--upstream", upstream, "--socket", "proxy"])
        .args(["--read-only-socket", "proxy-ro"])
        .args(options)
        .current_dir(dir);
    started(
        &mut command,
        &format!("Passing libvirt's clients on to {upstream}, unrecorded: no store is named"),
    )
}

/// A libvirtd without guests, which ends with the test.
pub(super) struct Daemon {
    daemon: Killed,
    pub(super) program: Program,
}

impl Daemon {
    pub(super) fn new() -> Option<Daemon> {
        Daemon::configured("")
    }

    /// One with this in its file of configuration.
    pub(super) fn configured(config: &str) -> Option<Daemon> {
        if !clients_are_there() || !super::hypervisor::is_there(&["libvirtd"]) {
            return None;
        }
        let program = Program::new();
        let dir = program.dir.path();
        fs::create_dir_all(dir.join("config/libvirt")).unwrap();
        program.write("config/libvirt/libvirtd.conf", config);
        let daemon = daemon_in(dir);
        Some(Daemon { daemon, program })
    }

    pub(super) fn kill(&mut self) {
        self.daemon.0.kill().unwrap();
        self.daemon.0.wait().unwrap();
    }

    /// Starts another one after this one was killed.
    pub(super) fn start(&mut self) {
        self.daemon = daemon_in(self.dir());
    }

    pub(super) fn dir(&self) -> &Path {
        self.program.dir.path()
    }
}

fn daemon_in(dir: &Path) -> Killed {
    let daemon = Killed(start_daemon(dir, &["config", "config/libvirt"]));
    let socket = dir.join(UPSTREAM);
    wait_for(dir, "its socket", || UnixStream::connect(&socket).is_ok());
    daemon
}

/// The URI of a driver of the libvirtd behind a socket of the proxy.
pub(super) fn uri(driver: &str, dir: &Path, socket: &str) -> String {
    format!("{driver}?socket={}", dir.join(socket).display())
}

pub(super) fn virsh(uri: &str, words: &[&str]) -> Ran {
    let mut command = Command::new("virsh");
    command.args(["-q", "-c", uri]).args(words);
    ran(command.stdin(Stdio::null()).output().unwrap())
}

/// Whether a trace asks for fewer names of snapshots than there are: libvirtd 9.0.0 dies of that, also without a proxy.
pub(super) fn asks_for_fewer_names(trace: &Path) -> bool {
    let text = fs::read_to_string(trace).unwrap();
    text.lines().any(|line| {
        let call: Value = serde_json::from_str(line).unwrap();
        let result = &call["result"];
        matches!((result["filled"].as_u64(), result["count"].as_u64()), (Some(filled), Some(count)) if filled < count)
    })
}

#[test]
fn every_recorded_script_and_trace_is_the_same_through_the_proxy_to_libvirtd() {
    let Some(daemon) = Daemon::new() else {
        return;
    };
    let _proxy = proxy_before(daemon.dir(), &[]);
    let uri = uri("test+unix:///default", daemon.dir(), "proxy");
    assert_scripts_are_as_recorded(&daemon.program, &uri);
    let mut traces = traces();
    traces.retain(|trace| !asks_for_fewer_names(trace));
    let played = play(&uri, &traces);
    assert_eq!(
        played.out, "traces: 117 of 117 as recorded\n",
        "{}",
        played.err
    );
}

#[test]
fn guests_of_a_real_qemu_are_changed_and_looked_at_through_the_proxy_as_directly() {
    let Some(managed) = Managed::new() else {
        return;
    };
    let dir = managed.program.dir.path();
    let _proxy = proxy_before(dir, &[]);
    let through = uri("qemu+unix:///session", dir, "proxy");
    let does = |words: &[&str]| {
        let ran = virsh(&through, words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
        ran.out
    };
    does(&["checkpoint-create-as", "vm", "c1"]);
    does(&["checkpoint-create-as", "vm", "c2"]);
    does(&["snapshot-create-as", "vm", "s1"]);
    for words in [
        &["checkpoint-list", "vm", "--tree"][..],
        &["checkpoint-dumpxml", "vm", "c2"],
        &["snapshot-list", "vm", "--tree"],
        &["dumpxml", "vm"],
        &["capabilities"],
    ] {
        assert_eq!(does(words), managed.virsh_does(words), "{words:?}");
    }
    let refused = virsh(&through, &["-r", "checkpoint-delete", "vm", "c1"]);
    assert!(refused.err.contains("read only"), "{refused:?}");
    // A libvirtd of one user has no socket for reading only.
    let read_only = virsh(&uri("qemu+unix:///session", dir, "proxy-ro"), &["list"]);
    assert!(
        read_only
            .err
            .contains("proxy cannot reach libvirtd at 'run/libvirt/libvirt-sock-ro'"),
        "{read_only:?}"
    );
    // Descriptors go with a call.
    let script = "import libvirt, os, sys; domain = libvirt.open(sys.argv[1]).lookupByName('vm'); \
                  print(domain.FDAssociate('disk', [os.open('vm.xml', os.O_RDONLY)]))";
    let mut python = Command::new(PYTHON);
    python.args(["-c", script, &through]).current_dir(dir);
    let associated = ran(python.output().unwrap());
    assert_eq!((associated.out.as_str(), &*associated.err), ("0\n", ""));
    does(&["checkpoint-delete", "vm", "c1", "--children"]);
    does(&["snapshot-revert", "vm", "s1"]);
    does(&["snapshot-delete", "vm", "s1"]);
    for list in ["checkpoint-list", "snapshot-list"] {
        assert_eq!(managed.virsh_does(&[list, "vm", "--name"]).trim(), "");
    }
}
