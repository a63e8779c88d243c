//! The verbs `proxy-install` and `proxy-remove`: systemd's units that put the proxy in the place of libvirtd's sockets.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Verb;
use super::serve::system;
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, OptionSpec, Spec, flag, word};
use crate::layout::escaped;
use crate::session::Session;

/// What both verbs take besides.
const CHECK: OptionSpec = flag("check", "show what would be done, and do nothing");
const ROOT: OptionSpec = word(
    "root",
    "the directory of another system, whose files are changed and whose systemd is not called",
);

/// The verbs.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "proxy-install",
            "put a proxy in the place of libvirtd's sockets, by units of systemd",
            &[
                word(
                    "daemon",
                    "libvirtd or virtqemud; needed where both are enabled, or both are not",
                ),
                CHECK,
                ROOT,
            ],
        )
        .of_now()
        .in_text(),
        run: install,
    },
    Verb {
        spec: Spec::new(
            "proxy-remove",
            "take such a proxy away, and leave its store",
            &[CHECK, ROOT],
        )
        .of_now()
        .in_text(),
        run: remove,
    },
];

/// Where the units of the system's administrator are.
const UNITS: &str = "etc/systemd/system";

/// Where systemd finds units, the first first.
const UNIT_PATHS: [&str; 5] = [
    UNITS,
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// The name of the drop-ins of libvirt's sockets.
const DROP_IN: &str = "momentlog-proxy.conf";

/// The proxy's own units, and what they say of a daemon.
const OWN_UNITS: [(&str, &str); 3] = [
    (
        "momentlog-proxy.socket",
        include_str!("../../units/momentlog-proxy.socket"),
    ),
    (
        "momentlog-proxy-ro.socket",
        include_str!("../../units/momentlog-proxy-ro.socket"),
    ),
    (
        "momentlog-proxy.service",
        include_str!("../../units/momentlog-proxy.service"),
    ),
];

/// What a drop-in says: libvirt's socket is in a directory of root's.
const MOVED: &str = include_str!("../../units/moved.conf");

/// A daemon that the proxy can stand in front of.
struct Daemon {
    name: &'static str,
    /// The name of its socket; that of the one for reading only ends with `-ro` besides.
    socket: &'static str,
}

const DAEMONS: [Daemon; 2] = [
    Daemon {
        name: "libvirtd",
        socket: "libvirt-sock",
    },
    Daemon {
        name: "virtqemud",
        socket: "virtqemud-sock",
    },
];

impl Daemon {
    /// Its units whose sockets move.
    fn sockets(&self) -> [String; 2] {
        ["", "-ro"].map(|suffix| format!("{}{suffix}.socket", self.name))
    }

    fn drop_ins(&self) -> [PathBuf; 2] {
        self.sockets()
            .map(|unit| Path::new(UNITS).join(format!("{unit}.d")).join(DROP_IN))
    }

    fn is_in(&self, root: &Path) -> bool {
        let unit = &self.sockets()[0];
        let mut found = UNIT_PATHS.iter().map(|path| root.join(path).join(unit));
        // A unit that is masked is a link to a device, or empty.
        found
            .find_map(|path| fs::metadata(path).ok())
            .is_some_and(|file| file.is_file() && file.len() > 0)
    }

    fn is_enabled(&self, root: &Path) -> bool {
        let wanted = root.join(UNITS).join("sockets.target.wants");
        fs::symlink_metadata(wanted.join(&self.sockets()[0])).is_ok()
    }

    /// The daemon's own part of a file.
    fn fill(&self, text: &str, program: &str) -> String {
        text.replace("@DAEMON@", self.name)
            .replace("@SOCKET@", self.socket)
            .replace("@PROGRAM@", program)
    }

    /// Stops it with its sockets: systemd moves no socket of a service that runs.
    fn stop(&self) -> Step {
        let [socket, read_only] = self.sockets();
        let service = format!("{}.service", self.name);
        Step::run(&["stop", &service, &socket, &read_only])
    }

    /// Starts its main socket, and what is active now of all that [`stop`](Daemon::stop) will stop. Which that is in another
    /// system is not known: those that libvirt enables by default.
    fn start(&self, runs: bool) -> Step {
        let unit = |suffix: &str| format!("{}{suffix}", self.name);
        let mut words = vec!["start".to_owned(), unit(".socket")];
        if runs {
            let others = ["-ro.socket", "-admin.socket", "-tcp.socket", "-tls.socket"].map(unit);
            let others = others.into_iter().chain([unit(".service")]);
            words.extend(others.filter(|unit| is_active(unit)));
        } else {
            words.extend(["-ro.socket", "-admin.socket", ".service"].map(unit));
        }
        Step::Run(words)
    }
}

/// What is done, in order.
enum Step {
    Write(PathBuf, String),
    Remove(PathBuf),
    /// `systemctl` with these words.
    Run(Vec<String>),
}

impl Step {
    fn run(words: &[&str]) -> Step {
        Step::Run(words.iter().map(|word| (*word).to_owned()).collect())
    }
}

pub fn install(session: &mut Session, invocation: &Invocation) -> Answer {
    let root = root(invocation);
    let runs = runs_here(invocation);
    let file = std::env::current_exe().map_err(system("cannot tell where this program is"))?;
    let program = plain(&file)?;
    if runs {
        check_owner(&file)?;
    }
    let installed = Installed::find(&root);
    if !(installed.own.is_empty() && installed.behind.is_empty()) {
        let why = "a proxy is installed already: run proxy-remove first";
        return Err(Failure::new(why));
    }
    let daemon = daemon(invocation, &root)?;
    let mut files = Vec::new();
    for (path, suffix) in daemon.drop_ins().into_iter().zip(["", "-ro"]) {
        let text = MOVED.replace("@SOCKET@", &format!("@SOCKET@{suffix}"));
        files.push(Step::Write(path, daemon.fill(&text, program)));
    }
    for (name, text) in OWN_UNITS {
        let path = Path::new(UNITS).join(name);
        files.push(Step::Write(path, daemon.fill(text, program)));
    }
    let start = daemon.start(runs);
    let names = OWN_UNITS.map(|(name, _)| name);
    let enable = Step::run(&[&["enable", "--now"][..], &names].concat());
    let commands = [daemon.stop(), Step::run(&["daemon-reload"]), start, enable];
    let [_, _, start, _] = &commands;
    let mut take = |step: &Step| take(session, invocation, step);
    let written = files.iter().try_for_each(&mut take);
    let done = written.and_then(|()| {
        let run = commands.iter().try_for_each(&mut take);
        run.inspect_err(|_| {
            // libvirtd is needed more than the proxy; the first failure says more than this one's.
            let _ = take(start);
        })
    });
    done.map_err(|failure| failure.and("'momentlog proxy-remove' takes back what was done"))?;
    Ok(0)
}

pub fn remove(session: &mut Session, invocation: &Invocation) -> Answer {
    let root = root(invocation);
    let Installed { own, behind } = Installed::find(&root);
    if own.is_empty() && behind.is_empty() {
        let why = "no proxy was installed: there is none of its units";
        return Err(Failure::new(why));
    }
    let mut steps = Vec::new();
    if !own.is_empty() {
        steps.push(Step::run(&[&["disable", "--now"][..], &own].concat()));
    }
    steps.extend(behind.iter().map(|daemon| daemon.stop()));
    let moved = behind.iter().flat_map(|daemon| daemon.drop_ins());
    let moved = moved.filter(|path| is_there(&root, path));
    let own = own.into_iter().map(|name| Path::new(UNITS).join(name));
    steps.extend(moved.chain(own).map(Step::Remove));
    steps.push(Step::run(&["daemon-reload"]));
    let runs = runs_here(invocation);
    steps.extend(behind.iter().map(|daemon| daemon.start(runs)));
    // Each is taken, also behind one that has failed: the last starts libvirtd.
    let taken = steps.iter().map(|step| take(session, invocation, step));
    let failures: Vec<Failure> = taken.filter_map(Result::err).collect();
    failures.into_iter().next().map_or(Ok(0), Err)
}

/// What a proxy that was installed has left, all of it or a part.
struct Installed {
    /// The names of its own units.
    own: Vec<&'static str>,
    /// The daemons whose sockets have moved.
    behind: Vec<&'static Daemon>,
}

impl Installed {
    fn find(root: &Path) -> Installed {
        let own = OWN_UNITS.iter().map(|(name, _)| *name);
        let moved = |daemon: &&Daemon| daemon.drop_ins().iter().any(|path| is_there(root, path));
        Installed {
            own: own
                .filter(|name| is_there(root, &Path::new(UNITS).join(name)))
                .collect(),
            behind: DAEMONS.iter().filter(moved).collect(),
        }
    }
}

fn is_there(root: &Path, path: &Path) -> bool {
    fs::symlink_metadata(root.join(path)).is_ok()
}

/// The directory that the system is in.
fn root(invocation: &Invocation) -> PathBuf {
    invocation.get("root").unwrap_or("/").into()
}

/// Whether the system is the one that runs.
fn runs_here(invocation: &Invocation) -> bool {
    invocation.get("root").is_none()
}

/// The daemon that is named, or the one that the system has.
fn daemon(invocation: &Invocation, root: &Path) -> Result<&'static Daemon, Failure> {
    let named = invocation.get("daemon");
    if let Some(name) = named.filter(|name| DAEMONS.iter().all(|daemon| daemon.name != *name)) {
        let why = format!("'{}' is neither libvirtd nor virtqemud", escaped(name));
        return Err(Failure::new(why));
    }
    let there = DAEMONS.iter().filter(|daemon| daemon.is_in(root));
    let there: Vec<&Daemon> = there
        .filter(|daemon| named.is_none_or(|name| daemon.name == name))
        .collect();
    let enabled = there
        .iter()
        .copied()
        .filter(|daemon| daemon.is_enabled(root));
    let enabled: Vec<&Daemon> = enabled.collect();
    match (&there[..], &enabled[..]) {
        ([], _) => {
            let wanted = named.unwrap_or("libvirtd or virtqemud");
            let why = format!(
                "systemd has no socket of {wanted} here: there is nothing to stand in front of"
            );
            Err(Failure::new(why))
        }
        ([one], _) | (_, [one]) => Ok(one),
        _ => {
            let why = "libvirtd and virtqemud are both here: choose one with --daemon";
            Err(Failure::new(why))
        }
    }
}

/// The path of a program, as a unit can have it.
fn plain(program: &Path) -> Result<&str, Failure> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-+".contains(char);
    let path = program.to_str().filter(|path| path.chars().all(is_plain));
    path.ok_or_else(|| {
        let path = escaped(&program.to_string_lossy());
        let why =
            format!("'{path}' cannot be named in a unit: install the program in /usr/local/bin");
        Failure::new(why)
    })
}

/// Makes sure that a program that root's service runs is changed by root alone.
fn check_owner(program: &Path) -> Result<(), Failure> {
    for path in program.ancestors() {
        let found = fs::metadata(path).map_err(system("cannot tell whose this program is"))?;
        if found.uid() != 0 || found.mode() & 0o022 != 0 {
            let path = escaped(&path.to_string_lossy());
            let why = format!(
                "'{path}' can be changed by others than root: install the program in /usr/local/bin"
            );
            return Err(Failure::new(why));
        }
    }
    Ok(())
}

/// Takes a step, or shows it.
fn take(session: &mut Session, invocation: &Invocation, step: &Step) -> Result<(), Failure> {
    let root = root(invocation);
    let runs = runs_here(invocation);
    if invocation.has("check") {
        session.print(&shown(step, &root));
        return Ok(());
    }
    match step {
        Step::Write(path, text) => {
            write(&root.join(path), text).map_err(system("cannot write a unit"))?;
        }
        Step::Remove(path) => {
            remove_file(&root.join(path)).map_err(system("cannot remove a unit"))?;
        }
        Step::Run(words) if runs => systemctl(words)?,
        Step::Run(_) => {}
    }
    session.say(&done(step, &root, runs));
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    fs::write(path, text)
}

/// Removes a file, and the directory of drop-ins that it was alone in.
fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    if path.ends_with(DROP_IN) {
        // Others' drop-ins stay.
        let _ = path.parent().map(fs::remove_dir);
    }
    Ok(())
}

/// Whether systemd says that a unit is active.
fn is_active(unit: &str) -> bool {
    let asked = Command::new("systemctl")
        .args(["is-active", "--quiet", unit])
        .status();
    asked.is_ok_and(|status| status.success())
}

fn systemctl(words: &[String]) -> Result<(), Failure> {
    let status = Command::new("systemctl").args(words).status();
    let status = status.map_err(system("cannot start systemctl"))?;
    if status.success() {
        return Ok(());
    }
    let words = words.join(" ");
    let why = format!("'systemctl {words}' has failed: {status}");
    Err(Failure::new(why))
}

/// What would be done.
fn shown(step: &Step, root: &Path) -> String {
    match step {
        Step::Write(path, text) => {
            let lines = text
                .lines()
                .map(|line| format!("    {line}").trim_end().to_owned() + "\n");
            let lines: String = lines.collect();
            format!("would write {}\n\n{lines}\n", root.join(path).display())
        }
        Step::Remove(path) => format!("would remove {}\n", root.join(path).display()),
        Step::Run(words) => format!("would run systemctl {}\n", words.join(" ")),
    }
}

/// What was done, unless another system's systemd is to do it.
fn done(step: &Step, root: &Path, runs: bool) -> String {
    match step {
        Step::Write(path, _) => format!("Wrote {}\n", root.join(path).display()),
        Step::Remove(path) => format!("Removed {}\n", root.join(path).display()),
        Step::Run(words) if runs => format!("Ran systemctl {}\n", words.join(" ")),
        Step::Run(words) => format!("To be run there: systemctl {}\n", words.join(" ")),
    }
}
