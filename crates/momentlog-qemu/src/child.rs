//! A program that is run for its output: bounded in time and in bytes, whatever it does.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::deadline::Deadline;

/// Most bytes that are read at once.
const CHUNK_LEN: usize = 16 << 10;

/// How often it is asked whether a program that has closed its output has ended.
const PAUSE: Duration = Duration::from_millis(2);

/// What a program has printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
}

/// Why a program's output could not be had.
#[derive(Debug)]
pub(crate) enum ChildError {
    /// It cannot be run, or its output cannot be read.
    Io(io::Error),
    /// It had not ended in time, and was killed.
    Slow,
    /// It printed more than it may, and was killed.
    Long,
    /// A signal has ended it.
    Signalled(i32),
}

impl From<io::Error> for ChildError {
    fn from(error: io::Error) -> ChildError {
        ChildError::Io(error)
    }
}

/// Runs a program without input, until it has ended. It has a process group of its own, so that what it has started itself
/// is killed with it.
pub(crate) fn run(
    command: &mut Command,
    wait: Duration,
    len_max: usize,
) -> Result<Printed, ChildError> {
    let deadline = Deadline::after(wait);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut running = Running {
        child,
        has_ended: false,
    };
    let mut out = Pipe::new(running.child.stdout.take());
    let mut err = Pipe::new(running.child.stderr.take());
    while out.is_open() || err.is_open() {
        read_some(&mut [&mut out, &mut err], deadline)?;
        if out.bytes.len() + err.bytes.len() > len_max {
            return Err(ChildError::Long);
        }
    }
    loop {
        if let Some(status) = running.try_wait()? {
            return match status.signal() {
                Some(signal) => Err(ChildError::Signalled(signal)),
                None => Ok(Printed {
                    status,
                    out: out.bytes,
                    err: err.bytes,
                }),
            };
        }
        thread::sleep(deadline.left().ok_or(ChildError::Slow)?.min(PAUSE));
    }
}

/// Waits until one of the pipes has something to read or is closed, and reads that.
fn read_some(pipes: &mut [&mut Pipe], deadline: Deadline) -> Result<(), ChildError> {
    let left = deadline.timespec().ok_or(ChildError::Slow)?;
    let is_ready: Vec<bool> = {
        let streams = pipes.iter().filter_map(|pipe| pipe.stream.as_ref());
        let mut fds: Vec<PollFd<'_>> = streams
            .map(|stream| PollFd::new(stream, PollFlags::IN))
            .collect();
        match poll(&mut fds, Some(&left)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(errno) => return Err(ChildError::Io(errno.into())),
        }
        fds.iter().map(|fd| !fd.revents().is_empty()).collect()
    };
    let open = pipes.iter_mut().filter(|pipe| pipe.is_open());
    for (pipe, _) in open.zip(is_ready).filter(|(_, ready)| *ready) {
        pipe.read()?;
    }
    Ok(())
}

/// One output of the program, with what it has printed there.
struct Pipe {
    /// None once it is closed.
    stream: Option<Box<dyn ReadFd>>,
    bytes: Vec<u8>,
}

trait ReadFd: Read + std::os::fd::AsFd {}

impl<T: Read + std::os::fd::AsFd> ReadFd for T {}

impl Pipe {
    fn new(stream: Option<impl ReadFd + 'static>) -> Pipe {
        Pipe {
            stream: stream.map(|stream| Box::new(stream) as Box<dyn ReadFd>),
            bytes: Vec::new(),
        }
    }

    fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let mut chunk = [0; CHUNK_LEN];
        match stream.read(&mut chunk) {
            Ok(0) => self.stream = None,
            Ok(len) => self.bytes.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// A program that is killed with its group, unless it was seen to have ended.
struct Running {
    child: Child,
    has_ended: bool,
}

impl Running {
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.has_ended = status.is_some();
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // It may have ended by itself meanwhile, and what it has started not. As it was not waited for, the group is its own.
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, wait: Duration, len_max: usize) -> Result<Printed, ChildError> {
        run(Command::new("sh").args(["-c", script]), wait, len_max)
    }

    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(100);

    #[test]
    fn both_outputs_are_read_to_their_ends_and_the_status_is_told() {
        let printed = shell("echo out; echo err >&2; exit 3", LONG, 100).unwrap();
        assert_eq!(printed.status.code(), Some(3));
        assert_eq!(
            (&*printed.out, &*printed.err),
            (&b"out\n"[..], &b"err\n"[..])
        );
        // More than a pipe holds, on both.
        let script = "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero";
        let printed = shell(script, LONG, 600_000).unwrap();
        assert_eq!((printed.out.len(), printed.err.len()), (300_000, 300_000));
    }

    #[test]
    fn what_does_not_end_in_time_is_killed() {
        // The second has closed its outputs, and stays.
        for script in ["sleep 1000", "exec >&- 2>&-; sleep 1000"] {
            assert!(matches!(shell(script, SHORT, 100), Err(ChildError::Slow)));
        }
    }

    #[test]
    fn what_prints_without_end_is_killed_with_what_it_has_started() {
        for script in ["yes", "yes >&2"] {
            let dir = tempfile::tempdir().unwrap();
            let pid = dir.path().join("pid");
            let begin = format!("sleep 1000 & echo $! > {}; {script}", pid.display());
            let endless = shell(&begin, LONG, 1 << 20);
            assert!(matches!(endless, Err(ChildError::Long)));
            let started = std::fs::read_to_string(pid).unwrap();
            let process = format!("/proc/{}/stat", started.trim());
            // It is gone, or waits for its parent to take note of its end.
            let has_ended = |stat: String| stat.contains(") Z ");
            let mut looks = (0..5000).map(|_| {
                thread::sleep(PAUSE);
                std::fs::read_to_string(&process).map_or(true, has_ended)
            });
            assert!(looks.any(|ended| ended), "{script}");
        }
    }

    #[test]
    fn what_cannot_be_run_or_is_killed_is_told_apart() {
        let missing = run(&mut Command::new("/nowhere/at-all"), LONG, 1);
        let Err(ChildError::Io(error)) = missing else {
            panic!("{missing:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let killed = shell("kill -9 $$", LONG, 1);
        assert!(matches!(killed, Err(ChildError::Signalled(9))));
    }
}
