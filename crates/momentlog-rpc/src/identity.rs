//! Connections to libvirtd as the client's own user.
//!
//! libvirtd asks the kernel who has connected. So a process is started for each client of another user: it becomes that user,
//! connects, and hands the connection over. It stays until the connection ends, because libvirtd and polkit look up when the
//! process at the other end was started, and its number must be no other's until then.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use momentlog::Peer;
use nix::unistd::{
    Gid, Uid, User, close, getgrouplist, getgroups, getresgid, getresuid, seteuid, setgroups,
    setresgid, setresuid,
};
use rustix::fs::{Mode, OFlags};

use crate::descriptor::{receive, send};

/// The first word of the process that [`proxy_connect`] is for.
pub const PROXY_CONNECT: &str = "proxy-connect";

/// How the program that runs finds itself, also after its file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// How long that process may take until it has connected.
const CONNECT_WAIT: Duration = Duration::from_secs(30);

/// The byte with which a connection comes.
const CONNECTED: u8 = 0;

/// The byte in front of the text that says why there is none.
const REFUSED: u8 = 1;

/// Longest such text, in bytes.
const WHY_LEN_MAX: u64 = 1024;

/// Stack of the thread that waits for the end of that process, in bytes.
const STACK_LEN: usize = 64 << 10;

/// A connection to libvirtd.
#[derive(Debug)]
pub(crate) struct ServerConnection {
    pub(crate) stream: Arc<UnixStream>,
    /// The process that has made it; none if this one has.
    _connector: Option<Connector>,
}

impl ServerConnection {
    /// Connects as this process.
    pub(crate) fn by_this_process(socket: &Path) -> Result<ServerConnection, String> {
        let stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
        Ok(ServerConnection {
            stream: Arc::new(stream),
            _connector: None,
        })
    }

    /// Connects as a client's user, with that user's groups, by a process of this program's.
    pub(crate) fn by_user_of(client: &Peer, socket: &Path) -> Result<ServerConnection, String> {
        let refused = |why: String| {
            let name = client.user.as_deref().unwrap_or("without a name");
            let uid = client.uid;
            format!("the proxy cannot connect to libvirtd as user {name} (uid {uid}): {why}")
        };
        let mut connector = Connector::start(client, socket)
            .map_err(|error| refused(format!("no process for it: {error}")))?;
        let stream = connector.connection().map_err(refused)?;
        let stream = Arc::new(stream);
        connector
            .hang_up_at_its_end(stream.clone())
            .map_err(|error| refused(format!("no thread for it: {error}")))?;
        Ok(ServerConnection {
            stream,
            _connector: Some(connector),
        })
    }
}

/// A process that connects as another user. It ends when this is dropped, and by itself when the proxy has ended.
#[derive(Debug)]
struct Connector {
    process: Child,
    /// Its standard input.
    input: Arc<UnixStream>,
    waiting: Option<JoinHandle<()>>,
}

impl Connector {
    fn start(client: &Peer, socket: &Path) -> io::Result<Connector> {
        let (input, theirs) = UnixStream::pair()?;
        let process = Command::new(THIS_PROGRAM)
            .arg0("momentlog")
            .arg(PROXY_CONNECT)
            .args([client.uid, client.gid].map(|id| id.to_string()))
            .arg(socket)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal for the proxy, from its terminal, is none for its clients.
            .process_group(0)
            .spawn()?;
        Ok(Connector {
            process,
            input: Arc::new(input),
            waiting: None,
        })
    }

    /// Waits for the connection.
    fn connection(&self) -> Result<UnixStream, String> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock => "it takes too long".to_owned(),
            io::ErrorKind::UnexpectedEof => "the process for it has ended".to_owned(),
            _ => error.to_string(),
        };
        self.input
            .set_read_timeout(Some(CONNECT_WAIT))
            .map_err(failed)?;
        if let (CONNECTED, Some(descriptor)) = receive(&self.input).map_err(failed)? {
            self.input.set_read_timeout(None).map_err(failed)?;
            return Ok(UnixStream::from(descriptor));
        }
        let mut why = Vec::new();
        let mut text = (&*self.input).take(WHY_LEN_MAX);
        text.read_to_end(&mut why).map_err(failed)?;
        Err(String::from_utf8_lossy(&why).into_owned())
    }

    /// Hangs up on libvirtd when the process has ended: what libvirtd asks of its peer has no answer then.
    fn hang_up_at_its_end(&mut self, connection: Arc<UnixStream>) -> io::Result<()> {
        let input = self.input.clone();
        let named = thread::Builder::new().name("connector".to_owned());
        self.waiting = Some(named.stack_size(STACK_LEN).spawn(move || {
            // It says nothing more.
            let _ = io::copy(&mut &*input, &mut io::sink());
            let _ = connection.shutdown(Shutdown::Both);
        })?);
        Ok(())
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        let _ = self.input.shutdown(Shutdown::Both);
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.join();
        }
        // The user can have stopped it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> String {
    let socket = socket.display();
    format!("the proxy cannot reach libvirtd at '{socket}': {error}")
}

/// What a program does whose first word is [`PROXY_CONNECT`], with the words behind it: a proxy that connects as its clients'
/// users ([`OtherUsers::Themselves`](crate::OtherUsers::Themselves)) has started it, with a socket as its standard input.
///
/// It closes all descriptors but the standard ones, so the program has opened none before. Then it becomes the user, connects
/// to libvirtd, hands the connection over, and returns when its standard input ends.
///
/// # Errors
///
/// If no proxy has started it: the words or the standard input are others. A connection that libvirtd
/// refuses is none.
pub fn proxy_connect(words: impl IntoIterator<Item = OsString>) -> io::Result<()> {
    let words: Vec<OsString> = words.into_iter().collect();
    let (uid, gid, socket) = asked(&words).ok_or(io::ErrorKind::InvalidInput)?;
    close_inherited()?;
    let proxy = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    match connect(uid, gid, &socket) {
        Ok(connection) => send(&proxy, CONNECTED, Some(&connection.into()))?,
        Err(why) => {
            send(&proxy, REFUSED, None)?;
            return (&proxy).write_all(why.as_bytes());
        }
    }
    io::copy(&mut &proxy, &mut io::sink())?;
    Ok(())
}

/// The user, the group and the socket that the words name.
fn asked(words: &[OsString]) -> Option<(Uid, Gid, PathBuf)> {
    let [uid, gid, socket] = words else {
        return None;
    };
    let id = |word: &OsString| word.to_str()?.parse().ok();
    Some((
        Uid::from_raw(id(uid)?),
        Gid::from_raw(id(gid)?),
        socket.into(),
    ))
}

/// Closes all descriptors above standard error: the proxy may have inherited some that stay open across exec.
fn close_inherited() -> io::Result<()> {
    let mut inherited: Vec<RawFd> = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        inherited.extend(number.filter(|number: &RawFd| *number > io::stderr().as_raw_fd()));
    }
    for number in inherited {
        // The one that was read from is closed already.
        let _ = close(number);
    }
    Ok(())
}

/// Becomes the user for good, then connects.
fn connect(uid: Uid, gid: Gid, socket: &Path) -> Result<UnixStream, String> {
    let groups = groups_of(uid, gid)
        .map_err(|error| format!("the groups of the user are not known: {error}"))?;
    // Found with the rights of root, because only root may enter its directory where the proxy stands in its place. Its own
    // mode is what counts for the user.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::open(socket, flags, Mode::empty())
        .map_err(|error| unreachable(socket, &error.into()))?;
    become_user(uid, gid, &groups)
        .map_err(|error| format!("the proxy cannot become that user: {error}"))?;
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let socket = socket.display();
            format!("libvirtd's socket '{socket}' does not let this user in")
        }
        _ => unreachable(socket, &error),
    })
}

/// The groups of a user: those of the system's database, as polkit knows them, and the one that the client has. A user
/// without a name has no others.
fn groups_of(uid: Uid, gid: Gid) -> io::Result<Vec<Gid>> {
    match User::from_uid(uid)? {
        Some(user) => Ok(getgrouplist(&CString::new(user.name)?, gid)?),
        None => Ok(vec![gid]),
    }
}

/// Becomes a user who is not root, with all ids, and makes sure that there is no way back.
fn become_user(uid: Uid, gid: Gid, groups: &[Gid]) -> io::Result<()> {
    setgroups(groups)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    let (uids, gids) = (getresuid()?, getresgid()?);
    let sorted = |mut groups: Vec<Gid>| {
        groups.sort_by_key(|group| group.as_raw());
        groups
    };
    let is_that_user = [uids.real, uids.effective, uids.saved] == [uid; 3]
        && [gids.real, gids.effective, gids.saved] == [gid; 3]
        && sorted(getgroups()?) == sorted(groups.to_vec());
    if !is_that_user || seteuid(Uid::from_raw(0)).is_ok() {
        return Err(io::Error::other("the system did not change all ids"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_proxy_asks_is_refused_before_anything_is_done() {
        let words = |words: &[&str]| words.iter().map(Into::into).collect::<Vec<OsString>>();
        for wrong in [
            &[][..],
            &["1", "1"],
            &["1", "x", "/sock"],
            &["-1", "1", "/sock"],
            &["4294967296", "1", "/sock"],
            &["1", "1", "/sock", "more"],
        ] {
            let refused = proxy_connect(words(wrong)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{wrong:?}");
        }
    }

    #[test]
    fn a_user_has_the_groups_of_the_database_and_the_clients_and_one_without_a_name_only_that() {
        let nameless = Uid::from_raw(u32::MAX - 1);
        let group = Gid::from_raw(4711);
        assert_eq!(groups_of(nameless, group).unwrap(), [group]);
        let own = groups_of(Uid::current(), group).unwrap();
        assert!(own.contains(&group), "{own:?}");
    }
}
