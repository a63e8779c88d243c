//! `serve`, with libvirt's own clients at the other end of its socket.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt as _;

use super::*;

/// The python that Debian's binding of libvirt belongs to.
pub(super) const PYTHON: &str = "/usr/bin/python3";

/// `momentlog serve` in a directory of its own.
struct Serving {
    server: Killed,
    program: Program,
    uri: &'static str,
}

impl Serving {
    fn of(uri: &'static str) -> Serving {
        Serving::within(Program::new(), uri)
    }

    fn within(program: Program, uri: &'static str) -> Serving {
        Serving {
            server: serve(&program, uri),
            program,
            uri,
        }
    }

    fn again(&mut self) {
        self.server = serve(&self.program, self.uri);
    }

    fn socket(&self) -> PathBuf {
        self.program.dir.path().join("sock")
    }

    /// The URI by which libvirt's clients connect.
    fn client_uri(&self) -> String {
        format!("test+unix:///default?socket={}", self.socket().display())
    }

    fn virsh(&self, words: &[&str]) -> Ran {
        let mut command = Command::new("virsh");
        command.args(["-c", &self.client_uri()]).args(words);
        ran(command
            .stdin(Stdio::null())
            .env("TZ", "UTC")
            .output()
            .unwrap())
    }

    /// Sends a signal, and waits for the end.
    fn signal(&mut self, name: &str) -> std::process::ExitStatus {
        let id = self.server.0.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
        self.server.0.wait().unwrap()
    }
}

/// Starts a server of a store, with its sockets in the program's directory.
pub(super) fn serve(program: &Program, uri: &str) -> Killed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    command
        .args(["-c", uri, "serve"])
        .args(["--socket", "sock", "--read-only-socket", "ro"])
        .current_dir(program.dir.path());
    started(&mut command, &format!("Serving {uri} to libvirt's clients"))
}

/// Whether libvirt's clients can be run. A test that leaves them out fails where they must be there.
pub(super) fn clients_are_there() -> bool {
    let answers = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        let ran = command.args(words).stderr(Stdio::null()).output();
        ran.is_ok_and(|output| output.status.success())
    };
    let there = answers("virsh", &["--version"]) && answers(PYTHON, &["-c", "import libvirt"]);
    if !there {
        left_out(
            "MOMENTLOG_NEED_QEMU",
            "virsh and python3-libvirt are not installed",
        );
    }
    there
}

#[test]
fn every_recorded_script_of_virsh_gives_the_same_through_the_socket() {
    if !clients_are_there() {
        return;
    }
    let server = Serving::of("test:///default");
    assert_scripts_are_as_recorded(&server.program, &server.client_uri());
}

/// Runs every recorded script of virsh at a URI of libvirt's test driver.
#[track_caller]
pub(super) fn assert_scripts_are_as_recorded(program: &Program, uri: &str) {
    let wrapper = program.dir.path().join("virsh");
    // It is called as `virsh -c test:///default …`, which virsh would answer by itself.
    let text = format!("#!/bin/sh\nshift 2\nexec virsh -c '{uri}' \"$@\"\n");
    std::fs::write(&wrapper, text).unwrap();
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    let data = repository().join("proptests/conformance");
    let mut command = Command::new("python3");
    command.arg(data.join("check_virsh.py")).arg(&wrapper);
    let checked = ran(command.arg(data.join("virsh")).output().unwrap());
    assert_eq!(
        checked.out, "virsh scripts: 32 of 32 as recorded\n",
        "{}",
        checked.err
    );
}

#[test]
fn every_recorded_trace_is_played_by_pythons_binding_through_the_socket() {
    if !clients_are_there() {
        return;
    }
    let traces = traces();
    let server = Serving::of("test:///default");
    let checked = play(&server.client_uri(), &traces);
    assert_eq!(
        checked.out, "traces: 127 of 127 as recorded\n",
        "{}",
        checked.err
    );
}

#[test]
fn every_recorded_trace_gives_the_same_on_a_durable_store_of_that_driver() {
    const STORE: &str = "momentlog:store?profile=libvirt-test";
    if !clients_are_there() {
        return;
    }
    for trace in traces() {
        // The built-in domain is there from the first record of a store on.
        let program = Program::new();
        let xml = program.run_on_test(&["-q", "dumpxml", "test"]).out;
        program.write("test.xml", &xml);
        let mut define = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        define.args(["-c", STORE, "define", "test.xml"]);
        let defined = ran(define.current_dir(program.dir.path()).output().unwrap());
        assert_eq!((defined.err.as_str(), defined.status), ("", 0));
        let server = Serving::within(program, STORE);
        let checked = play(&server.client_uri(), std::slice::from_ref(&trace));
        assert_eq!(
            checked.out,
            "traces: 1 of 1 as recorded\n",
            "{}: {}",
            trace.display(),
            checked.err
        );
    }
}

/// Plays recorded traces through python's binding.
pub(super) fn play(uri: &str, traces: &[PathBuf]) -> Ran {
    let script = repository().join("proptests/conformance/check_traces.py");
    let mut command = Command::new(PYTHON);
    command.arg(script).arg(uri).args(traces);
    ran(command.output().unwrap())
}

/// The files of the recorded traces.
pub(super) fn traces() -> Vec<PathBuf> {
    let dir = repository().join("proptests/conformance/traces");
    let traces = std::fs::read_dir(dir).unwrap();
    let mut traces: Vec<PathBuf> = traces.map(|entry| entry.unwrap().path()).collect();
    traces.sort();
    assert_eq!(traces.len(), 127);
    traces
}

#[test]
fn each_answer_about_metadata_is_that_of_libvirts_test_driver() {
    if !clients_are_there() {
        return;
    }
    let server = Serving::of("test:///default");
    let script = repository().join("crates/momentlog-cli/tests/clients/metadata.py");
    let answers = |uri: &str| {
        let mut command = Command::new(PYTHON);
        let ran = ran(command.arg(&script).arg(uri).output().unwrap());
        assert_eq!((ran.err.as_str(), ran.status), ("", 0));
        ran.out
    };
    let its = answers("test:///default");
    assert!(its.lines().count() > 120, "{its}");
    assert_eq!(answers(&server.client_uri()), its);
}

#[test]
fn a_store_in_a_directory_is_one_for_virsh_and_for_the_program() {
    if !clients_are_there() {
        return;
    }
    let server = Serving::within(Program::with_domain(), "momentlog:store");
    let made = server.virsh(&["checkpoint-create-as", "web01", "nightly"]);
    assert_eq!(made.out, "Domain checkpoint nightly created\n", "{made:?}");
    let own = server
        .program
        .run(&["checkpoint-create-as", "web01", "weekly"]);
    assert_eq!(own.status, 0, "{own:?}");
    let listed = server.virsh(&["checkpoint-list", "web01", "--name"]);
    assert_eq!(listed.out, "nightly\nweekly\n\n");
    let read_only = format!(
        "test+unix:///default?socket={}",
        server.program.dir.path().join("ro").display()
    );
    let refused = ran(Command::new("virsh")
        .args(["-c", &read_only, "destroy", "web01"])
        .output()
        .unwrap());
    assert_eq!(refused.status, 1);
    assert!(
        refused
            .err
            .contains("read only access prevents virDomainDestroy"),
        "{refused:?}"
    );
}

#[test]
fn virt_install_makes_a_domain_and_virt_xml_changes_it() {
    if !clients_are_there() || !super::hypervisor::is_there(&["virt-install", "virt-xml"]) {
        return;
    }
    let server = Serving::of("momentlog:store");
    let does = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(["--connect", &server.client_uri()])
            .args(words);
        let ran = ran(command.stdin(Stdio::null()).output().unwrap());
        assert_eq!(ran.status, 0, "{program}: {}{}", ran.out, ran.err);
    };
    let guest = [
        "--name", "new", "--memory", "64", "--disk", "none", "--import",
    ];
    let start = [
        "--noreboot",
        "--noautoconsole",
        "--osinfo",
        "detect=off,require=off",
    ];
    does("virt-install", &[guest.as_slice(), &start].concat());
    does("virt-xml", &["new", "--edit", "--vcpus", "3"]);
    let defined = server.virsh(&["dumpxml", "--inactive", "new"]);
    assert!(defined.out.contains("<vcpu>3</vcpu>"), "{defined:?}");
}

#[test]
fn another_user_is_named_in_the_record_with_his_program() {
    if !clients_are_there() {
        return;
    }
    if !is_root() {
        return;
    }
    let server = Serving::within(Program::with_domain(), "momentlog:store");
    let dir = server.program.dir.path();
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(server.socket(), PermissionsExt::from_mode(0o666)).unwrap();
    let as_nobody = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "virsh",
        "-c",
    ];
    let made = ran(Command::new("setpriv")
        .args(as_nobody)
        .args([&server.client_uri(), "checkpoint-create-as", "web01", "his"])
        .env("XDG_CACHE_HOME", "/nonexistent")
        .output()
        .unwrap());
    assert_eq!(made.status, 0, "{made:?}");
    let log = server.program.run(&["log", "--format", "json"]).out;
    let last = log.lines().last().unwrap();
    assert!(
        last.contains("virsh (pid ") && last.contains("uid 65534, gid 65534)"),
        "{last}"
    );
    assert!(last.contains("\"actor\":\"nobody"), "{last}");
}

#[test]
fn the_socket_is_its_owners_and_is_not_taken_from_a_living_server() {
    let mut server = Serving::of("test:///default");
    let mode = |name: &str| {
        let path = server.program.dir.path().join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("sock"), mode("ro")), (0o600, 0o600));
    let second = server.program.run_on_test(&["serve", "--socket", "sock"]);
    assert_eq!(
        second.err,
        "error: failed to listen on 'sock'\nerror: a server listens on sock\n"
    );
    // What a killed server leaves is no obstacle, and a server that is ended leaves nothing.
    assert_eq!(server.signal("KILL").signal(), Some(9));
    assert!(server.socket().exists());
    server.again();
    assert_eq!(server.signal("TERM").code(), Some(0));
    assert!(!server.socket().exists());
    let without = server.program.run_on_test(&["serve"]);
    assert!(
        without.err.starts_with("error: name a socket: "),
        "{without:?}"
    );
}

#[test]
fn a_server_that_is_killed_loses_nothing_that_a_client_was_told() {
    if !clients_are_there() {
        return;
    }
    let mut server = Serving::within(Program::with_domain(), "momentlog:store");
    let creating = |server: &Serving, client: u32, round: u32| {
        let uri = server.client_uri();
        let command =
            |number: u32| format!("checkpoint-create-as web01 c{client}-{round}-{number}");
        let script = (0..50).map(command).collect::<Vec<_>>().join(";");
        // What it says is heard as soon as it says it.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "virsh", "-c", &uri, &script]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let mut told = Vec::new();
    for round in 0..100 {
        let mut clients: Vec<Child> = (0..3)
            .map(|client| creating(&server, client, round))
            .collect();
        // The first of them has its first answer.
        let mut first = String::new();
        let mut reader = BufReader::new(clients[0].stdout.take().unwrap());
        reader.read_line(&mut first).unwrap();
        for _ in 0..round % 7 {
            reader.read_line(&mut first).unwrap();
        }
        assert_eq!(server.signal("KILL").signal(), Some(9));
        reader
            .lines()
            .for_each(|line| first += &(line.unwrap() + "\n"));
        let mut heard = first;
        let first = clients.remove(0).wait_with_output().unwrap();
        assert!(first.stdout.is_empty());
        for client in clients {
            heard += &String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap();
        }
        let named = heard.lines().filter_map(|line| {
            let (name, _) = line
                .strip_prefix("Domain checkpoint ")?
                .split_once(" created")?;
            Some(name.to_owned())
        });
        told.extend(named);
        server.again();
    }
    assert!(told.len() >= 100, "{}", told.len());
    let listed = server.virsh(&["checkpoint-list", "web01", "--name"]);
    let there: std::collections::HashSet<&str> = listed.out.lines().collect();
    for name in &told {
        assert!(there.contains(name.as_str()), "{name} is lost");
    }
    assert_eq!(server.program.run(&["verify"]).status, 0);
}
