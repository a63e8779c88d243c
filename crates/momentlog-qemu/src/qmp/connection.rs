//! A connection to a unix socket that waits no longer than it may, for anything.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

use super::{PAUSE, shown};
use crate::EnterError;
use crate::deadline::Deadline;

/// Most bytes that are received at once.
const BUFFER_LEN: usize = 64 << 10;

/// How much of what is not QMP is quoted.
const QUOTE_LEN: usize = 40;

/// Why no line came, or what was to be sent was not sent.
#[derive(Debug)]
pub(super) enum Fault {
    Closed,
    Late,
    TooLong,
    /// The line does not begin as an object does.
    NoObject(String),
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Fault::Closed,
            _ => Fault::Io(error),
        }
    }
}

/// A connection that sends bytes and receives lines. It is not inherited by programs that are started meanwhile, which
/// would keep it open.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<UnixStream>,
    line_len_max: usize,
}

impl Connection {
    /// Connects as soon as the server takes another client.
    pub(super) fn open(
        socket: &Path,
        deadline: Deadline,
        line_len_max: usize,
    ) -> Result<Connection, EnterError> {
        let io_error = |source| EnterError::Io {
            socket: shown(socket),
            source,
        };
        let address = address(socket).map_err(io_error)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|errno| io_error(errno.into()))?;
        loop {
            match connect(&fd, &address) {
                Ok(()) => {
                    return Ok(Connection {
                        stream: BufReader::with_capacity(BUFFER_LEN, UnixStream::from(fd)),
                        line_len_max,
                    });
                }
                Err(Errno::INTR) => {}
                // As many clients wait as may, and nothing tells when one goes.
                Err(Errno::AGAIN) => {
                    let left = deadline.left().ok_or_else(|| EnterError::Held {
                        socket: shown(socket),
                        wait: deadline.wait,
                    })?;
                    thread::sleep(left.min(PAUSE));
                }
                Err(Errno::NOENT) => {
                    return Err(EnterError::Missing {
                        socket: shown(socket),
                    });
                }
                // The system says the same of a file that is no socket.
                Err(Errno::CONNREFUSED) if is_other_file(socket) => {
                    return Err(io_error(io::Error::other("it is no socket")));
                }
                Err(Errno::CONNREFUSED) => {
                    return Err(EnterError::Dead {
                        socket: shown(socket),
                    });
                }
                Err(errno) => return Err(io_error(errno.into())),
            }
        }
    }

    pub(super) fn stream(&self) -> &UnixStream {
        self.stream.get_ref()
    }

    pub(super) fn send(&mut self, mut bytes: &[u8], deadline: Deadline) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match send(self.stream(), bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for(PollFlags::OUT, deadline)?,
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
        Ok(())
    }

    /// Returns the next line, which begins as an object does, without its end.
    pub(super) fn line(&mut self, deadline: Deadline) -> Result<Vec<u8>, Fault> {
        let mut line = Vec::new();
        loop {
            // Asked each time: who always has more to say must not be listened to for ever.
            deadline.left().ok_or(Fault::Late)?;
            let come = match self.stream.fill_buf() {
                Ok([]) => return Err(Fault::Closed),
                Ok(come) => come,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_for(PollFlags::IN, deadline)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // What is not QMP need not have lines.
            if line.is_empty() && come[0] != b'{' {
                let begin = String::from_utf8_lossy(&come[..come.len().min(QUOTE_LEN)]);
                return Err(Fault::NoObject(format!("it begins with {begin:?}")));
            }
            let end = come.iter().position(|&byte| byte == b'\n');
            let part = &come[..end.unwrap_or(come.len())];
            if line.len() + part.len() > self.line_len_max {
                return Err(Fault::TooLong);
            }
            line.extend_from_slice(part);
            let used = part.len() + usize::from(end.is_some());
            self.stream.consume(used);
            if end.is_some() {
                return Ok(line);
            }
        }
    }

    /// Waits until the stream is ready, or has failed.
    fn wait_for(&self, ready: PollFlags, deadline: Deadline) -> Result<(), Fault> {
        loop {
            let left = deadline.timespec().ok_or(Fault::Late)?;
            match poll(&mut [PollFd::new(self.stream(), ready)], Some(&left)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(Fault::Io(errno.into())),
            }
        }
    }
}

/// The system takes shorter paths for sockets than for other files.
fn address(socket: &Path) -> io::Result<SocketAddrUnix> {
    if socket.as_os_str().is_empty() {
        return Err(io::Error::other("its path is empty"));
    }
    SocketAddrUnix::new(socket).map_err(|errno| match errno {
        Errno::NAMETOOLONG => {
            let len = socket.as_os_str().len();
            io::Error::other(format!(
                "its path has {len} bytes, and that of a socket at most 108"
            ))
        }
        errno => errno.into(),
    })
}

fn is_other_file(socket: &Path) -> bool {
    fs::metadata(socket).is_ok_and(|found| !found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_are_not_read_for_ever_even_if_more_are_always_there() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{1}\n{2}\n{3}\n").unwrap();
        let mut connection = Connection {
            stream: BufReader::new(ours),
            line_len_max: 100,
        };
        let deadline = Deadline::after(Duration::MAX);
        assert_eq!(connection.line(deadline).unwrap(), b"{1}");
        let over = Deadline::after(Duration::ZERO);
        assert!(matches!(connection.line(over), Err(Fault::Late)));
        assert_eq!(connection.line(deadline).unwrap(), b"{2}");
    }
}
