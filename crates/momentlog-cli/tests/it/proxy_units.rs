//! `proxy-install` and `proxy-remove`, on the files of a system that does not run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
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
        for command in [
            "daemon-reload".to_owned(),
            format!(
                "start {daemon}.socket {daemon}-ro.socket {daemon}-admin.socket {daemon}.service"
            ),
            format!("stop {daemon}.service {daemon}.socket {daemon}-ro.socket"),
            "enable --now momentlog-proxy.socket momentlog-proxy-ro.socket".to_owned(),
        ] {
            let planned = format!("would run systemctl {command}\n");
            assert!(shown.out.contains(&planned), "{}", shown.out);
            let left = format!("To be run there: systemctl {command}\n");
            assert!(said.out.contains(&left), "{}", said.out);
        }

        let shown = run(&program, &["proxy-remove", "--check"]);
        assert_eq!((shown.err.as_str(), shown.status), ("", 0));
        assert_eq!(files(program.dir.path()), after);
        let said = run(&program, &["proxy-remove"]);
        assert_eq!((said.err.as_str(), said.status), ("", 0));
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
