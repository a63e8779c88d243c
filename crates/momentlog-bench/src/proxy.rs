//! Row 31: `momentlog proxy` in front of libvirtd's test driver, against libvirtd itself; and what connections cost it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Failed;
use crate::libvirtd::{Killed, Libvirtd, is_root};
use crate::measure::{Effort, Table, Target, median};
use crate::serve::{CROWDS, LOOK_UP, MAKE, Side};

/// Most that a call which reads may take longer through the proxy, in seconds.
const READ_MORE: f64 = 40e-6;

/// How many syncs a call which changes may cost.
const SYNCS: f64 = 2.0;

/// How many bytes are written before a sync: as many as a record of a call has.
const RECORD_LEN: usize = 600;

/// How many clients are idle.
const IDLE: usize = 1000;

/// Most memory of the proxy with that number of clients, in bytes.
const IDLE_LEN_MAX: f64 = 64.0 * 1024.0 * 1024.0;

/// How many idle clients are another user's.
const OTHERS: usize = 100;

/// That user.
const OTHER: u32 = 1;

pub(crate) fn rows(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let program = std::env::current_exe()?.with_file_name("momentlog");
    if !program.exists() {
        table.missing("31", &format!("{} is not built", program.display()));
        return Ok(());
    }
    raise_descriptors()?;
    idle_rows(&program, dir, table)?;
    let libvirtd = match Libvirtd::start(dir, &[]) {
        Ok(libvirtd) => libvirtd,
        Err(why) => {
            table.missing("31", &format!("libvirtd is not there: {why}"));
            return Ok(());
        }
    };
    let socket = dir.join("proxy");
    let mut proxy = Process::new(&program);
    proxy
        .arg("-c")
        .arg(format!("momentlog:{}", dir.join("recorded").display()))
        .args(["proxy", "--uri", "test:///default", "--upstream"])
        .arg(libvirtd.socket())
        .arg("--socket")
        .arg(&socket)
        .stdout(Stdio::null());
    let _proxy = Killed::start(&mut proxy, &socket)?;
    // Each side has domains of its own, in the one driver.
    let mut direct = Side::new(&libvirtd.socket(), 0, 0)?;
    let mut through = Side::new(&socket, 16, 0)?;
    let turn = effort.round / 4;
    for (work, peer) in [
        (&LOOK_UP, "direct and 40 µs"),
        (&MAKE, "direct and two syncs"),
    ] {
        for crowd in CROWDS {
            let (mut ours, mut theirs, mut took) = (Vec::new(), Vec::new(), Vec::new());
            for round in 0..=effort.rounds {
                let [slow, fast] = [
                    through.turn(work, crowd, turn)?,
                    direct.turn(work, crowd, turn)?,
                ];
                let more = if work.name == LOOK_UP.name {
                    READ_MORE
                } else {
                    SYNCS * sync(dir)?
                };
                // The first turn warms up.
                if round > 0 {
                    ours.push(1.0 / slow);
                    theirs.push(1.0 / (fast + more));
                    took.push(fast);
                }
            }
            let (slow, fast) = (1e6 / median(&ours), 1e6 * median(&took));
            let clients = if crowd == 1 { "client" } else { "clients" };
            let name = format!(
                "31 {} through the proxy, {crowd} {clients} ({slow:.0} µs, direct {fast:.0} µs)",
                work.name
            );
            table.rounds(&name, &ours, &theirs, Target { peer, ratio: 1.0 });
        }
    }
    Ok(())
}

/// How long a write of one record and a sync take, in seconds.
fn sync(dir: &Path) -> Result<f64, Failed> {
    let mut file = fs::File::create(dir.join("synced"))?;
    let mut took = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        file.write_all(&[7; RECORD_LEN])?;
        file.sync_data()?;
        took.push(begun.elapsed().as_secs_f64());
    }
    Ok(median(&took))
}

/// What idle clients cost. The server hangs up on whoever says something, as the proxy when it looks.
fn idle_rows(program: &Path, dir: &Path, table: &mut Table) -> Result<(), Failed> {
    let (upstream, socket) = (dir.join("silent"), dir.join("idle"));
    let silent = UnixListener::bind(&upstream)?;
    thread::spawn(move || {
        while let Ok((mut client, _)) = silent.accept() {
            thread::spawn(move || client.read(&mut [0]));
        }
    });
    let mut proxy = Process::new(program);
    proxy
        .arg("-c")
        .arg(format!("momentlog:{}", dir.join("idled").display()))
        .args(["proxy", "--upstream"])
        .arg(&upstream)
        .arg("--socket")
        .arg(&socket);
    proxy.stdout(Stdio::null()).stderr(Stdio::null());
    let proxy = Killed::start(&mut proxy, &socket)?;
    let clients: Vec<UnixStream> = (0..IDLE)
        .map(|_| UnixStream::connect(&socket))
        .collect::<Result<_, _>>()?;
    let held = settled(|| memory_of(proxy.id(), "status", "VmRSS:"))?;
    let name = format!(
        "31 memory of the proxy with {IDLE} idle clients ({:.1} MiB)",
        held / 1024.0 / 1024.0
    );
    let peer = "64 MiB";
    table.relate(
        &name,
        1.0 / held,
        1.0 / IDLE_LEN_MAX,
        Target { peer, ratio: 1.0 },
    );
    drop(clients);
    if !is_root()? {
        table.missing("31", "only root can be another user's clients");
        return Ok(());
    }
    for path in [dir, &upstream, &socket] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    let mut others = Process::new(std::env::current_exe()?);
    others.arg("--idle").arg(&socket).arg(OTHERS.to_string());
    others.uid(OTHER).gid(OTHER);
    let mut others = others
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let said = others.stdout.take().ok_or("it has an output")?;
    BufReader::new(said).read_line(&mut line)?;
    let count = || Ok(f64::from(u32::try_from(children_of(proxy.id())?.len())?));
    let children = settled(count)?;
    let mut held = 0.0;
    for child in children_of(proxy.id())? {
        held += memory_of(child, "smaps_rollup", "Pss:")?;
    }
    let each = held / children;
    let name = format!(
        "31 memory of a process that connects as another user ({:.0} KiB, of {children:.0})",
        each / 1024.0
    );
    let peer = "1 MiB";
    table.relate(
        &name,
        1.0 / each,
        1.0 / 1024.0 / 1024.0,
        Target { peer, ratio: 1.0 },
    );
    drop(others.stdin.take());
    others.wait()?;
    Ok(())
}

/// Holds this number of connections until the standard input ends.
pub(crate) fn idle(socket: &Path, count: usize) -> Result<(), Failed> {
    let clients = (0..count).map(|_| UnixStream::connect(socket));
    let clients: Vec<UnixStream> = clients.collect::<Result<_, _>>()?;
    println!("{}", clients.len());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A number, once it has not grown for a while.
fn settled(look: impl Fn() -> Result<f64, Failed>) -> Result<f64, Failed> {
    let (mut last, mut same) = (look()?, 0);
    while same < 10 {
        thread::sleep(Duration::from_millis(100));
        let now = look()?;
        same = if now > last { 0 } else { same + 1 };
        last = last.max(now);
    }
    Ok(last)
}

/// The memory that a file of the system's says a process has, in bytes.
fn memory_of(process: u32, file: &str, key: &str) -> Result<f64, Failed> {
    let text = fs::read_to_string(format!("/proc/{process}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kibibytes: f64 = number.ok_or("the system says it")?.parse()?;
    Ok(kibibytes * 1024.0)
}

fn children_of(process: u32) -> Result<Vec<u32>, Failed> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may have ended.
        let of_task = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        for child in of_task.split_whitespace() {
            children.push(child.parse()?);
        }
    }
    Ok(children)
}

/// Lets this process, and those that it starts, have as many descriptors as the system allows.
fn raise_descriptors() -> Result<(), Failed> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}
