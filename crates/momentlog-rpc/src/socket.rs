//! The sockets that a server listens on.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket that clients connect to.
#[derive(Debug)]
pub struct Socket {
    pub(crate) listener: UnixListener,
    pub(crate) read_only: bool,
    file: Option<File>,
}

/// The file of a socket that was made here, and what it is.
#[derive(Debug)]
struct File {
    path: PathBuf,
    inode: u64,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// A server listens there.
    #[error("a server listens on {}", path.display())]
    Live {
        /// The path.
        path: PathBuf,
    },
    /// Something else stands there.
    #[error("{} is there, and is no socket", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot listen on {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

impl Socket {
    /// Listens on a path, with a file that only its owner may use. A file that a dead server has left is removed.
    ///
    /// # Errors
    ///
    /// [`SocketError::Live`] if a server listens there; [`SocketError::NoSocket`] if something else is there.
    pub fn bind(path: &Path, read_only: bool) -> Result<Socket, SocketError> {
        let io = |source| SocketError::Io {
            path: path.to_owned(),
            source,
        };
        // Two servers that begin at once look and bind one after the other.
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = fs::File::open(directory).map_err(io)?;
        directory.lock().map_err(io)?;
        remove_dead(path)?;
        let listener = listen(path).map_err(|error| io(error.into()))?;
        let inode = fs::symlink_metadata(path).map_err(io)?.ino();
        Ok(Socket {
            listener,
            read_only,
            file: Some(File {
                path: path.to_owned(),
                inode,
            }),
        })
    }

    /// Listens on a socket that another process has made, such as systemd.
    pub fn of(listener: UnixListener, read_only: bool) -> Socket {
        Socket {
            listener,
            read_only,
            file: None,
        }
    }
}

/// Its file goes with it, unless another one stands there by now.
impl Drop for Socket {
    fn drop(&mut self) {
        let Some(File { path, inode }) = &self.file else {
            return;
        };
        if fs::symlink_metadata(path).is_ok_and(|found| found.ino() == *inode) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Listens on a new socket, whose file has its mode from the start: no other user connects in between. The mode is that of
/// the socket, from which Linux takes it, and not a umask, which all threads share.
fn listen(path: &Path) -> rustix::io::Result<UnixListener> {
    let socket = net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

fn remove_dead(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    let path = path.to_owned();
    if !found.file_type().is_socket() {
        return Err(SocketError::NoSocket { path });
    }
    match UnixStream::connect(&path) {
        Ok(_) => Err(SocketError::Live { path }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(&path).map_err(io)
        }
        Err(error) => Err(io(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_socket_is_its_owners_and_goes_with_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let socket = Socket::bind(&path, false).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refused = Socket::bind(&path, false).unwrap_err();
        assert!(matches!(refused, SocketError::Live { .. }));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_server_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = Socket::bind(&path, true).unwrap();
        // Another one stands there by now.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "kept").unwrap();
        drop(socket);
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        let refused = Socket::bind(&path, true).unwrap_err();
        assert!(matches!(refused, SocketError::NoSocket { .. }));
    }
}
