//! `proxy-install` and `proxy-remove`, on the files of a system that does not run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::*;

/// Where the units of a package are.
const PACKAGED: &str = "root/usr/lib/systemd/system";

/// Where those of the administrator are.
const OWN: &str = "root/etc/systemd/system";

/// A system that has the units of some daemons.
fn system(daemons: &[&str]) -> Program {
    let program = Program::new();
    for directory in [PACKAGED, OWN] {
        fs::create_dir_all(program.dir.path().join(directory)).unwrap();
    }
    for daemon in daemons {
        for (suffix, name) in [("", "sock"), ("-ro", "sock-ro")] {
            let stem = daemon.trim_end_matches('d');
            let unit = format!(
                "[Socket]\nListenStream=/run/libvirt/{stem}-{name}\nService={daemon}.service\n"
            );
            program.write(&format!("{PACKAGED}/{daemon}{suffix}.socket"), &unit);
        }
        let unit = "[Service]\nExecStart=/bin/true\n";
        program.write(&format!("{PACKAGED}/{daemon}.service"), unit);
    }
    program
}

/// All files of the system, with their content.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec![dir.join("root")];
    while let Some(directory) = directories.pop() {
        for one in fs::read_dir(directory).unwrap() {
            let path = one.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            if path.is_dir() {
                directories.push(path);
                found.insert(name, String::new());
            } else {
                found.insert(name, fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
    found
}

fn run(program: &Program, words: &[&str]) -> Ran {
    program.run_on_test(&[words, &["--root", "root"]].concat())
}

/// The steps that are shown.
fn steps(shown: &Ran) -> Vec<&str> {
    let lines = shown.out.lines();
    lines.filter(|line| line.starts_with("would ")).collect()
}

/// What is said of such steps when they were taken in another system.
fn as_done(steps: &[&str]) -> String {
    let steps = steps.join("\n");
    steps
        .replace("would run", "To be run there:")
        .replace("would write", "Wrote")
        .replace("would remove", "Removed")
}

/// Runs the program as a host's own, whose units are the system's, with a systemd that notes its calls and fails at one of
/// them. Returns what it answered, and the calls.
fn run_as_host(
    program: &Program,
    words: &[&str],
    fails_at: usize,
    active: &str,
) -> (Ran, Vec<String>) {
    let dir = program.dir.path();
    let calls = dir.join("calls");
    fs::write(&calls, "").unwrap();
    // What is mounted is seen by this process alone, and goes with it.
    let mounted = "set -e
        mount -t tmpfs -o mode=755 tmpfs /usr/local
        mkdir /usr/local/bin
        cp systemctl /usr/local/bin
        : >/usr/local/bin/momentlog
        mount --bind momentlog /usr/local/bin/momentlog
        mount --bind root/etc/systemd/system /etc/systemd/system
        PATH=/usr/local/bin:$PATH exec /usr/local/bin/momentlog -c test:///default \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", mounted, "sh"])
        .args(words)
        .current_dir(dir)
        .env("CALLS", &calls)
        .env("FAILS_AT", fails_at.to_string())
        .env("ACTIVE", active);
    let ran = ran(command.stdin(Stdio::null()).output().unwrap());
    let calls = fs::read_to_string(calls).unwrap();
    (ran, calls.lines().map(str::to_owned).collect())
}

/// A host with libvirtd for [`run_as_host`]; `None` where the test is not root's, or may mount nothing.
fn host() -> Option<Program> {
    if !is_root() {
        return None;
    }
    let may_mount = Command::new("unshare")
        .args(["--mount", "sh", "-c"])
        .arg("mount -t tmpfs tmpfs /usr/local && test -d /etc/systemd/system")
        .output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        left_out("MOMENTLOG_NEED_QEMU", "nothing can be mounted");
        return None;
    }
    let host = system(&["libvirtd"]);
    let own = host.dir.path().join(OWN);
    let packaged = host.dir.path().join(PACKAGED);
    for unit in ["libvirtd.socket", "libvirtd-ro.socket", "libvirtd.service"] {
        fs::copy(packaged.join(unit), own.join(unit)).unwrap();
    }
    host.write(
        "systemctl",
        r#"#!/bin/sh
if [ "$1" = is-active ]; then
    case " $ACTIVE " in *" $3 "*) exit 0 ;; *) exit 3 ;; esac
fi
echo "$*" >>"$CALLS"
[ "$(wc -l <"$CALLS")" -ne "$FAILS_AT" ]
"#,
    );
    let program = host.dir.path().join("momentlog");
    fs::copy(env!("CARGO_BIN_EXE_momentlog"), &program).unwrap();
    for file in [program, host.dir.path().join("systemctl")] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    Some(host)
}

#[test]
fn only_what_was_active_is_started_again() {
    let Some(host) = host() else {
        return;
    };
    for (active, started) in [
        ("", "start libvirtd.socket"),
        (
            "libvirtd.socket libvirtd-ro.socket libvirtd-tcp.socket",
            "start libvirtd.socket libvirtd-ro.socket libvirtd-tcp.socket",
        ),
        (
            "libvirtd-admin.socket libvirtd.service",
            "start libvirtd.socket libvirtd-admin.socket libvirtd.service",
        ),
    ] {
        let words = ["proxy-install", "--daemon", "libvirtd"];
        let (installed, calls) = run_as_host(&host, &words, 0, active);
        assert_eq!((installed.err.as_str(), installed.status), ("", 0));
        assert_eq!(calls[2], started);
        let (removed, calls) = run_as_host(&host, &["proxy-remove"], 0, active);
        assert_eq!((removed.err.as_str(), removed.status), ("", 0));
        assert_eq!(calls[3], started);
    }
}

#[test]
fn wherever_systemd_fails_libvirtd_is_started_and_all_can_be_removed() {
    let Some(host) = host() else {
        return;
    };
    let active = "libvirtd.service";
    let start = "start libvirtd.socket libvirtd.service";
    let before = files(host.dir.path());
    let install = |fails_at| {
        let words = ["proxy-install", "--daemon", "libvirtd"];
        run_as_host(&host, &words, fails_at, active)
    };
    let remove = |fails_at| run_as_host(&host, &["proxy-remove"], fails_at, active);
    let is_as_before = || {
        let mut now = files(host.dir.path());
        now.insert("calls".to_owned(), String::new());
        let mut before = before.clone();
        before.insert("calls".to_owned(), String::new());
        now == before
    };
    let failed = |call: &str| format!("error: 'systemctl {call}' has failed: exit status: 1\n");
    let (whole, calls_to_install) = install(0);
    assert_eq!((whole.err.as_str(), whole.status), ("", 0));
    let (whole, calls_to_remove) = remove(0);
    assert_eq!((whole.err.as_str(), whole.status), ("", 0));
    assert_eq!((calls_to_install.len(), calls_to_remove.len()), (4, 4));
    assert!(is_as_before());

    for (number, call) in calls_to_install.iter().enumerate() {
        let (partial, calls) = install(number + 1);
        let why = failed(call) + "error: 'momentlog proxy-remove' takes back what was done\n";
        assert_eq!((partial.err, partial.status), (why, 1));
        assert_eq!(calls.last().unwrap(), start, "{call}");
        let (removed, calls) = remove(0);
        assert_eq!((removed.err.as_str(), removed.status), ("", 0));
        assert_eq!(calls.last().unwrap(), start, "{call}");
        assert!(is_as_before(), "{call}");
    }
    for (number, call) in calls_to_remove.iter().enumerate() {
        assert_eq!(install(0).0.status, 0);
        let (removed, calls) = remove(number + 1);
        assert_eq!((removed.err, removed.status), (failed(call), 1));
        assert_eq!(calls, calls_to_remove);
        assert!(is_as_before(), "{call}");
    }
}

#[test]
fn an_installation_that_wrote_only_a_part_is_removed() {
    let program = system(&["libvirtd"]);
    let before = files(program.dir.path());
    // The second file cannot be written.
    let taken = program.dir.path().join(OWN).join("libvirtd-ro.socket.d");
    fs::write(&taken, "").unwrap();
    let failed = run(&program, &["proxy-install"]);
    assert!(
        failed.err.starts_with("error: cannot write a unit: "),
        "{failed:?}"
    );
    assert!(
        failed
            .err
            .ends_with("error: 'momentlog proxy-remove' takes back what was done\n"),
        "{failed:?}"
    );
    assert!(!failed.out.contains("stop"), "{failed:?}");
    fs::remove_file(&taken).unwrap();
    let shown = run(&program, &["proxy-remove", "--check"]);
    assert!(!shown.out.contains("disable"), "{shown:?}");
    assert_eq!(run(&program, &["proxy-remove"]).status, 0);
    assert_eq!(files(program.dir.path()), before);

    // One of the proxy's own units is all that is there.
    let unit = format!("{OWN}/momentlog-proxy.service");
    program.write(&unit, "");
    let shown = run(&program, &["proxy-remove", "--check"]);
    let expected = [
        "would run systemctl disable --now momentlog-proxy.service",
        &*format!("would remove {unit}"),
        "would run systemctl daemon-reload",
    ];
    assert_eq!(steps(&shown), expected);
}

#[test]
fn a_program_that_others_can_change_is_no_service_of_roots() {
    let program = Program::new();
    let dir = program.dir.path().canonicalize().unwrap();
    let path = dir.join("momentlog");
    fs::copy(env!("CARGO_BIN_EXE_momentlog"), &path).unwrap();
    let refused = |changed: &Path| {
        for words in [&["proxy-install", "--check"][..], &["proxy-install"]] {
            let mut command = Command::new(&path);
            command.args(["-c", "test:///default"]).args(words);
            let refused = ran(command.stdin(Stdio::null()).output().unwrap());
            let changed = changed.display();
            let why = format!(
                "error: '{changed}' can be changed by others than root: install the program in /usr/local/bin\n"
            );
            assert_eq!((refused.err, refused.status), (why, 1));
        }
    };
    let open_to = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open_to(&path, 0o775);
    refused(&path);
    if is_root() {
        open_to(&path, 0o755);
        open_to(&dir, 0o1777);
        refused(&dir);
    }
}

#[test]
fn what_is_installed_is_shown_first_and_removed_without_a_rest() {
    for (daemon, socket) in [
        ("libvirtd", "libvirt-sock"),
        ("virtqemud", "virtqemud-sock"),
    ] {
        let program = system(&[daemon]);
        let before = files(program.dir.path());
        let shown = run(&program, &["proxy-install", "--check"]);
        assert_eq!((shown.err.as_str(), shown.status), ("", 0));
        assert_eq!(files(program.dir.path()), before);

        let said = run(&program, &["proxy-install"]);
        assert_eq!((said.err.as_str(), said.status), ("", 0));
        let after = files(program.dir.path());
        let made: Vec<&String> = after
            .iter()
            .filter(|(name, text)| !before.contains_key(*name) && !text.is_empty())
            .map(|(name, _)| name)
            .collect();
        let mut expected = [
            format!("{OWN}/{daemon}-ro.socket.d/momentlog-proxy.conf"),
            format!("{OWN}/{daemon}.socket.d/momentlog-proxy.conf"),
            format!("{OWN}/momentlog-proxy-ro.socket"),
            format!("{OWN}/momentlog-proxy.service"),
            format!("{OWN}/momentlog-proxy.socket"),
        ];
        expected.sort();
        assert_eq!(made, expected.each_ref());
        for name in made {
            assert!(
                shown.out.contains(&format!("would write {name}\n")),
                "{name}"
            );
            assert!(said.out.contains(&format!("Wrote {name}\n")), "{name}");
            let text = &after[name];
            for line in text.lines() {
                assert!(shown.out.contains(line), "{line}");
            }
            assert!(!text.contains('@') || name.ends_with(".service"), "{text}");
            assert!(
                !text.contains("@DAEMON@") && !text.contains("@PROGRAM@"),
                "{text}"
            );
        }
        let moved = |suffix: &str| {
            let drop_in = format!("{OWN}/{daemon}{suffix}.socket.d/momentlog-proxy.conf");
            after[&drop_in].contains(&format!(
                "ListenStream=\nListenStream=/run/momentlog-proxy/{socket}{suffix}\n"
            ))
        };
        assert!(moved("") && moved("-ro"));
        let placed = |suffix: &str| {
            let unit = format!("{OWN}/momentlog-proxy{suffix}.socket");
            after[&unit].contains(&format!("ListenStream=/run/libvirt/{socket}{suffix}\n"))
        };
        assert!(placed("") && placed("-ro"));
        let start = format!(
            "would run systemctl start {daemon}.socket {daemon}-ro.socket {daemon}-admin.socket {daemon}.service"
        );
        let stop =
            format!("would run systemctl stop {daemon}.service {daemon}.socket {daemon}-ro.socket");
        let reload = "would run systemctl daemon-reload";
        let expected = [
            &*format!("would write {OWN}/{daemon}.socket.d/momentlog-proxy.conf"),
            &*format!("would write {OWN}/{daemon}-ro.socket.d/momentlog-proxy.conf"),
            &*format!("would write {OWN}/momentlog-proxy.socket"),
            &*format!("would write {OWN}/momentlog-proxy-ro.socket"),
            &*format!("would write {OWN}/momentlog-proxy.service"),
            &stop,
            reload,
            &start,
            "would run systemctl enable --now momentlog-proxy.socket momentlog-proxy-ro.socket momentlog-proxy.service",
        ];
        assert_eq!(steps(&shown), expected);
        assert_eq!(said.out.trim_end(), as_done(&expected));

        // Neither again, nor before another daemon.
        let again = run(&program, &["proxy-install", "--daemon", "libvirtd"]);
        let why = "error: a proxy is installed already: run proxy-remove first\n";
        assert_eq!((again.err.as_str(), again.status), (why, 1));

        let shown = run(&program, &["proxy-remove", "--check"]);
        assert_eq!((shown.err.as_str(), shown.status), ("", 0));
        assert_eq!(files(program.dir.path()), after);
        let said = run(&program, &["proxy-remove"]);
        assert_eq!((said.err.as_str(), said.status), ("", 0));
        let expected = [
            "would run systemctl disable --now momentlog-proxy.socket momentlog-proxy-ro.socket momentlog-proxy.service",
            &stop,
            &*format!("would remove {OWN}/{daemon}.socket.d/momentlog-proxy.conf"),
            &*format!("would remove {OWN}/{daemon}-ro.socket.d/momentlog-proxy.conf"),
            &*format!("would remove {OWN}/momentlog-proxy.socket"),
            &*format!("would remove {OWN}/momentlog-proxy-ro.socket"),
            &*format!("would remove {OWN}/momentlog-proxy.service"),
            reload,
            &start,
        ];
        assert_eq!(steps(&shown), expected);
        assert_eq!(said.out.trim_end(), as_done(&expected));
        assert_eq!(files(program.dir.path()), before);
        let gone = run(&program, &["proxy-remove"]);
        let why = "error: no proxy was installed: there is none of its units\n";
        assert_eq!((gone.err.as_str(), gone.status), (why, 1));
    }
}

#[test]
fn systemd_takes_the_units_as_they_are_installed() {
    let program = system(&["libvirtd"]);
    let mut version = Command::new("systemd-analyze");
    if version
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        left_out("MOMENTLOG_NEED_QEMU", "systemd-analyze is not installed");
        return;
    }
    assert_eq!(run(&program, &["proxy-install"]).status, 0);
    let own = program.dir.path().join(OWN);
    let verify = |path: &Path| {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no"]);
        command.arg(path.join("momentlog-proxy.service"));
        command.args(
            ["momentlog-proxy.socket", "momentlog-proxy-ro.socket"].map(|unit| path.join(unit)),
        );
        let packaged = program.dir.path().join(PACKAGED);
        let paths = format!("{}:{}:", own.display(), packaged.display());
        ran(command.env("SYSTEMD_UNIT_PATH", paths).output().unwrap())
    };
    let verified = verify(&own);
    assert_eq!(
        verified,
        Ran {
            out: String::new(),
            err: String::new(),
            status: 0
        }
    );
    // It would say so.
    let service = own.join("momentlog-proxy.service");
    let text = fs::read_to_string(&service).unwrap();
    fs::write(&service, text.replace("KillMode=mixed", "KillMode=mixture")).unwrap();
    assert!(verify(&own).err.contains("mixture"));
}

#[test]
fn without_a_daemon_or_with_two_it_is_said_so() {
    let install = |program: &Program, words: &[&str]| {
        let ran = run(program, &[&["proxy-install", "--check"], words].concat());
        (
            ran.err,
            ran.out.contains("/run/libvirt/virtqemud-sock"),
            ran.status,
        )
    };
    let error = |why: &str| (format!("error: {why}\n"), false, 1);
    let neither = system(&[]);
    let none = "systemd has no socket of libvirtd or virtqemud here: there is nothing to stand in front of";
    assert_eq!(install(&neither, &[]), error(none));
    // One that is masked.
    symlink(
        "/dev/null",
        neither.dir.path().join(OWN).join("libvirtd.socket"),
    )
    .unwrap();
    assert_eq!(install(&neither, &[]), error(none));

    let both = system(&["libvirtd", "virtqemud"]);
    let choose = "libvirtd and virtqemud are both here: choose one with --daemon";
    assert_eq!(install(&both, &[]), error(choose));
    assert_eq!(
        install(&both, &["--daemon", "virtqemud"]),
        (String::new(), true, 0)
    );
    assert_eq!(
        install(&both, &["--daemon", "libvirtd"]),
        (String::new(), false, 0)
    );
    let other = "'libxl' is neither libvirtd nor virtqemud";
    assert_eq!(install(&both, &["--daemon", "libxl"]), error(other));
    let wanted = both.dir.path().join(OWN).join("sockets.target.wants");
    fs::create_dir(&wanted).unwrap();
    symlink("/nowhere", wanted.join("virtqemud.socket")).unwrap();
    assert_eq!(install(&both, &[]), (String::new(), true, 0));
}
