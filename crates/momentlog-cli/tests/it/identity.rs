//! Whom libvirtd sees behind a proxy of root's.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;

use serde_json::Value;

use super::libvirt::{SOMEBODY, wait_for};
use super::proxy::{Daemon, UPSTREAM, proxy_before, uri, virsh};
use super::recording::{TEST, record};
use super::serve::PYTHON;
use super::*;

/// Users that a system has, with their groups: root and two others.
const USERS: [(u32, u32); 3] = [(0, 0), (1, 1), (5, 60)];

/// A command as another user.
fn as_user((uid, gid): (u32, u32), program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={uid}"))
        .arg(format!("--regid={gid}"))
        .args(["--clear-groups", program])
        .env("XDG_CACHE_HOME", "/nonexistent");
    command
}

/// virsh as another user.
fn virsh_as(user: (u32, u32), uri: &str, words: &[&str]) -> Ran {
    let mut command = as_user(user, "virsh");
    command.args(["-q", "-c", uri]).args(words);
    ran(command.stdin(Stdio::null()).output().unwrap())
}

fn open_to(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A libvirtd whose socket is open to all, in a directory that only its user enters. `None` where it cannot be, or the test
/// is not root's.
fn open_daemon(config: &str) -> Option<Daemon> {
    if !is_root() {
        return None;
    }
    let daemon = Daemon::configured(config)?;
    open_to(daemon.dir(), 0o755);
    open_to(&daemon.dir().join(UPSTREAM), 0o666);
    assert_eq!(
        fs::metadata(daemon.dir().join("run/libvirt"))
            .unwrap()
            .mode()
            & 0o777,
        0o700
    );
    Some(daemon)
}

/// The processes that a process has started and not waited for.
fn children_of(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // A thread may have ended.
        let of_task = fs::read_to_string(task.unwrap().path().join("children"));
        let of_task = of_task.unwrap_or_default();
        children.extend(
            of_task
                .split_whitespace()
                .map(|pid| pid.parse::<u32>().unwrap()),
        );
    }
    children
}

/// The ids of a process of this kind, as the system has them.
fn ids(pid: u32, kind: &str) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(kind));
    let ids = line.unwrap().split_whitespace();
    ids.map(|id| id.parse().unwrap()).collect()
}

/// A virsh that reads commands, as a user.
struct Shell {
    _virsh: Killed,
    commands: ChildStdin,
}

impl Shell {
    fn new(user: (u32, u32), uri: &str) -> Shell {
        let mut command = as_user(user, "virsh");
        command.args(["-q", "-c", uri]);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut virsh = Killed(pipes.stderr(Stdio::null()).spawn().unwrap());
        Shell {
            commands: virsh.0.stdin.take().unwrap(),
            _virsh: virsh,
        }
    }

    /// Gives a command, and waits until libvirtd lists this snapshot.
    fn makes(&mut self, daemon: &Daemon, snapshot: &str) {
        writeln!(self.commands, "snapshot-create-as test {snapshot}").unwrap();
        let direct = uri("test+unix:///default", daemon.dir(), UPSTREAM);
        wait_for(daemon.dir(), snapshot, || {
            let listed = virsh(&direct, &["snapshot-list", "test", "--name"]);
            listed.out.lines().any(|name| name == snapshot)
        });
    }
}

/// libvirtd's clients, as it tells its administrator: of each its process, user and group.
fn clients_of(daemon: &Daemon) -> Vec<[u32; 3]> {
    let socket = daemon.dir().join("run/libvirt/libvirt-admin-sock");
    let uri = format!("libvirtd+unix:///session?socket={}", socket.display());
    let ask = |words: &[&str]| {
        let mut command = as_user((SOMEBODY, SOMEBODY), "virt-admin");
        command.args(["-q", "-c", &uri]).args(words);
        let ran = ran(command.stdin(Stdio::null()).output().unwrap());
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
        ran.out
    };
    let listed = ask(&["srv-clients-list", "libvirtd"]);
    let numbers = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let told = numbers
        .filter(|number| number.parse::<u32>().is_ok())
        .map(|number| {
            let info = ask(&["client-info", "libvirtd", number]);
            ["process", "user", "group"].map(|what| {
                let key = format!("unix_{what}_id");
                let line = info.lines().find(|line| line.starts_with(&key));
                let (_, id) = line.unwrap().split_once(':').unwrap();
                id.trim().parse().unwrap()
            })
        });
    told.collect()
}

#[test]
fn libvirtd_and_the_log_name_the_same_user_of_each_client_and_whoever_loses_its_process_is_hung_up_on()
 {
    let Some(daemon) = open_daemon("") else {
        return;
    };
    let proxy = record(daemon.dir(), TEST, &[]);
    let socket = daemon.dir().join("proxy");
    open_to(&socket, 0o666);
    let uri = uri("test+unix:///default", daemon.dir(), "proxy");
    let mut shells = USERS.map(|user| Shell::new(user, &uri));
    for ((uid, _), shell) in USERS.iter().zip(&mut shells) {
        shell.makes(&daemon, &format!("of-{uid}"));
    }
    let clients = clients_of(&daemon);
    for (uid, gid) in USERS {
        let mut pairs = clients.iter().map(|[_, uid, gid]| (*uid, *gid));
        assert!(pairs.any(|pair| pair == (uid, gid)), "{clients:?}");
    }

    // What the log says of who did it.
    let mut log = daemon.program.command();
    let log = log.args(["log", "--format", "json"]).output().unwrap();
    let log = String::from_utf8(log.stdout).unwrap();
    for (uid, gid) in USERS {
        let made = log
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut made = made.filter(|entry| entry.to_string().contains(&format!("\"of-{uid}\"")));
        let agent = made.next().unwrap()["agent"].as_str().unwrap().to_owned();
        assert!(agent.contains(&format!("uid {uid}, gid {gid}")), "{agent}");
    }

    // A process for each of the others, which has nothing of root's and nothing of the proxy's but its end of one socket.
    let children: BTreeSet<u32> = children_of(proxy.0.id()).into_iter().collect();
    assert_eq!(children.len(), 2);
    for [pid, uid, gid] in clients.iter().copied().filter(|[_, uid, _]| *uid != 0) {
        assert!(children.contains(&pid), "{clients:?}");
        assert_eq!(ids(pid, "Uid:"), [uid; 4]);
        assert_eq!(ids(pid, "Gid:"), [gid; 4]);
        assert!(!ids(pid, "Groups:").contains(&0));
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let held: BTreeSet<PathBuf> = descriptors
            .map(|one| fs::read_link(one.unwrap().path()).unwrap())
            .collect();
        let held: Vec<String> = held.iter().map(|one| one.display().to_string()).collect();
        assert_eq!(held.len(), 2, "{held:?}");
        assert_eq!(held[0], "/dev/null");
        assert!(held[1].starts_with("socket:"), "{held:?}");
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert_eq!(environment, b"");
    }

    // One of them is killed: libvirtd loses that client, and no other.
    let [killed, uid, _] = *clients.iter().find(|[_, uid, _]| *uid == 5).unwrap();
    let done = Command::new("kill")
        .args(["-9", &killed.to_string()])
        .status();
    assert!(done.unwrap().success());
    wait_for(daemon.dir(), "the end of a client", || {
        !clients_of(&daemon)
            .iter()
            .any(|[_, other, _]| *other == uid)
    });
    for (shell, (uid, _)) in shells.iter_mut().zip(&USERS[..2]) {
        shell.makes(&daemon, &format!("later-{uid}"));
    }
    // All are waited for: none stays behind.
    drop(shells);
    wait_for(daemon.dir(), "the end of all processes", || {
        children_of(proxy.0.id()).is_empty()
    });
}

#[test]
fn whom_libvirtds_socket_lets_in_is_decided_by_its_mode_and_the_clients_own_groups() {
    let Some(daemon) = open_daemon("") else {
        return;
    };
    let upstream = daemon.dir().join(UPSTREAM);
    chown(&upstream, None, Some(60)).unwrap();
    open_to(&upstream, 0o660);
    let _proxy = proxy_before(daemon.dir(), &[]);
    open_to(&daemon.dir().join("proxy"), 0o666);
    let uri = uri("test+unix:///default", daemon.dir(), "proxy");
    for user in [(0, 0), (5, 60), (1, 60)] {
        let listed = virsh_as(user, &uri, &["list", "--name"]);
        assert_eq!(
            (listed.out.trim(), listed.status),
            ("test", 0),
            "{listed:?}"
        );
    }
    let refused = virsh_as((1, 1), &uri, &["list", "--name"]);
    let why = format!("libvirtd's socket '{UPSTREAM}' does not let this user in");
    assert_eq!((refused.out.trim(), refused.status), ("", 1));
    assert!(refused.err.contains(&why), "{refused:?}");
    assert!(
        refused.err.contains("as user daemon (uid 1)"),
        "{refused:?}"
    );
    // A client without a name in the system's database.
    let refused = virsh_as((4711, 4711), &uri, &["list", "--name"]);
    assert!(
        refused.err.contains("as user without a name (uid 4711)"),
        "{refused:?}"
    );
}

#[test]
fn whom_libvirt_refuses_it_refuses_through_the_proxy_with_the_same_words() {
    // polkit does not let a libvirtd ask for others that is not root's, or is not there.
    let Some(daemon) = open_daemon("auth_unix_rw = \"polkit\"\n") else {
        return;
    };
    let direct = uri("test+unix:///default", daemon.dir(), UPSTREAM);
    open_to(&daemon.dir().join("run"), 0o755);
    open_to(&daemon.dir().join("run/libvirt"), 0o755);
    let _proxy = record(daemon.dir(), TEST, &[]);
    open_to(&daemon.dir().join("proxy"), 0o666);
    let uri = uri("test+unix:///default", daemon.dir(), "proxy");
    let answers = USERS.map(|user| virsh_as(user, &uri, &["list", "--name"]));
    assert_eq!(
        answers,
        USERS.map(|user| virsh_as(user, &direct, &["list", "--name"]))
    );
    let status = answers.each_ref().map(|answer| answer.status);
    assert_eq!(status, [0, 1, 1], "{answers:?}");
    for answer in &answers {
        assert!(!answer.err.contains("proxy"), "{answer:?}");
    }
}

#[test]
fn a_client_of_another_user_is_itself_or_the_proxys_user_or_refused() {
    let Some(daemon) = open_daemon("") else {
        return;
    };
    let uri = uri("test+unix:///default", daemon.dir(), "proxy");
    // No one but the proxy's user may open it.
    open_to(&daemon.dir().join(UPSTREAM), 0o600);
    let listed = |options: &[&str]| {
        let _proxy = proxy_before(daemon.dir(), options);
        open_to(&daemon.dir().join("proxy"), 0o666);
        virsh_as((1, 1), &uri, &["list", "--name"])
    };
    let refused = listed(&[]);
    assert!(
        refused.err.contains("does not let this user in"),
        "{refused:?}"
    );
    let taken = listed(&["--no-identity"]);
    assert_eq!((taken.out.trim(), taken.status), ("test", 0), "{taken:?}");

    // A proxy of another user can become no one.
    open_to(&daemon.dir().join(UPSTREAM), 0o666);
    open_to(&daemon.dir().join("run/libvirt"), 0o755);
    let program = daemon.dir().join("momentlog");
    fs::copy(env!("CARGO_BIN_EXE_momentlog"), &program).unwrap();
    let mut command = as_user((SOMEBODY, SOMEBODY), program.to_str().unwrap());
    command
        .args(["proxy", "--upstream", UPSTREAM, "--socket", "proxy"])
        .current_dir(daemon.dir());
    let says = format!("Passing libvirt's clients on to {UPSTREAM}, unrecorded: no store is named");
    let _proxy = started(&mut command, &says);
    open_to(&daemon.dir().join("proxy"), 0o666);
    let refused = virsh_as((1, 1), &uri, &["list", "--name"]);
    let why = "the proxy is another user's, whom libvirtd would take you for";
    assert!(refused.err.contains(why), "{refused:?}");
}

/// The program that is one of two ends.
fn as_direct() -> PathBuf {
    repository().join("crates/momentlog-cli/tests/clients/as_direct.py")
}

#[test]
fn a_stream_events_and_keepalive_come_as_directly() {
    let Some(daemon) = open_daemon("") else {
        return;
    };
    let _proxy = proxy_before(daemon.dir(), &[]);
    open_to(&daemon.dir().join("proxy"), 0o666);
    let script = fs::read_to_string(as_direct()).unwrap();
    let come = |user, socket| {
        let mut python = as_user(user, PYTHON);
        let uri = uri("test+unix:///default", daemon.dir(), socket);
        python.args(["-c", &script, "libvirt", &uri]);
        ran(python.stdin(Stdio::null()).output().unwrap())
    };
    let direct = come((0, 0), UPSTREAM);
    assert_eq!(direct.status, 0, "{direct:?}");
    assert!(direct.out.ends_with("alive: 1\n"), "{direct:?}");
    assert_eq!(come((1, 1), "proxy"), direct);
}

#[test]
fn descriptors_and_a_long_reply_come_as_directly() {
    let program = Program::new();
    if !is_root() || !super::serve::clients_are_there() {
        return;
    }
    let dir = program.dir.path();
    open_to(dir, 0o755);
    let script = fs::read_to_string(as_direct()).unwrap();
    let mut server = Command::new(PYTHON);
    server
        .args(["-c", &script, "serve"])
        .arg(dir.join("upstream"));
    let _server = started(&mut server, "serving");
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    command
        .args(["proxy", "--upstream", "upstream", "--socket", "proxy"])
        .current_dir(dir);
    let says = "Passing libvirt's clients on to upstream, unrecorded: no store is named";
    let _proxy = started(&mut command, says);
    open_to(&dir.join("proxy"), 0o666);
    let mut client = as_user((1, 60), PYTHON);
    client.args(["-c", &script, "ask"]).arg(dir.join("proxy"));
    let came = ran(client.stdin(Stdio::null()).output().unwrap());
    assert_eq!(
        (came.out.as_str(), came.err.as_str()),
        (
            "descriptors: 32 True\nreply: 20971520 True\nseen as: 1 60\n",
            ""
        )
    );
}

#[test]
fn the_process_that_connects_is_the_proxys_alone() {
    let program = Program::new();
    for words in [
        &["proxy-connect"][..],
        &["proxy-connect", "1", "1"],
        &["proxy-connect", "1", "1", "/nowhere"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        let answered = ran(command.args(words).stdin(Stdio::null()).output().unwrap());
        assert_eq!(answered.status, 1, "{answered:?}");
        assert!(
            answered
                .err
                .starts_with("error: only a proxy starts proxy-connect: "),
            "{answered:?}"
        );
    }
    for words in [
        &["help"][..],
        &["man"],
        &["complete", "fish", "momentlog proxy"],
    ] {
        let listed = program.run_on_test(words);
        assert!(listed.out.contains("proxy"), "{words:?}: {listed:?}");
        assert!(!listed.out.contains("proxy-connect"), "{words:?}");
    }
}
