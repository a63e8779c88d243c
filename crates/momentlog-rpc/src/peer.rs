//! Who is at the other end of a socket.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;

use momentlog::{Peer, Provenance};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::{Uid, User};

/// Longest name of a program that is read, in bytes: the kernel's are shorter.
const PROGRAM_LEN_MAX: u64 = 64;

/// Returns the user at the other end.
pub(crate) fn uid_of(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, PeerCredentials)?.uid())
}

/// Returns the process at the other end, as the kernel saw it when it connected.
pub(crate) fn peer_of(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = getsockopt(stream, PeerCredentials)?;
    let uid = credentials.uid();
    // 0 stands for a process that this one cannot see, as of another container.
    let pid = u32::try_from(credentials.pid()).ok();
    let pid = pid.filter(|pid| *pid != 0);
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    Ok(Peer {
        uid,
        gid: credentials.gid(),
        pid,
        user: user.map(|user| user.name),
        program: pid.and_then(program),
    })
}

/// Returns what records keep of a peer. It is the actor, unless `base` has another one than this process.
pub(crate) fn provenance_of(peer: &Peer, base: &Provenance) -> Provenance {
    let own = peer.provenance();
    let is_mapped = base.actor != Provenance::default().actor;
    Provenance {
        actor: if is_mapped {
            base.actor.clone()
        } else {
            own.actor
        },
        agent: own.agent,
        ..base.clone()
    }
}

/// The name of a program, which it may choose itself, in one word.
fn program(pid: u32) -> Option<String> {
    let file = fs::File::open(format!("/proc/{pid}/comm")).ok()?;
    let mut name = Vec::new();
    file.take(PROGRAM_LEN_MAX).read_to_end(&mut name).ok()?;
    let name = String::from_utf8_lossy(&name);
    let name = name.trim_end_matches('\n');
    let shown = |char: char| match char {
        char if char.is_control() || char.is_whitespace() => '_',
        char => char,
    };
    (!name.is_empty()).then(|| name.chars().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = peer_of(&one).unwrap();
        assert_eq!(peer.pid, Some(std::process::id()));
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert!(peer.program.is_some());
    }

    #[test]
    fn the_peer_is_the_actor_unless_the_server_was_given_one() {
        let peer = Peer {
            uid: 1000,
            gid: 100,
            pid: Some(7),
            user: Some("alice".to_owned()),
            program: Some("virsh".to_owned()),
        };
        let kept = provenance_of(&peer, &Provenance::default());
        assert!(kept.actor.starts_with("alice"), "{kept:?}");
        assert!(
            kept.agent.contains(" virsh (pid 7, uid 1000, gid 100)"),
            "{kept:?}"
        );

        let base = Provenance {
            actor: "backup".into(),
            reason: Some("nightly".into()),
            ..Provenance::default()
        };
        let mapped = provenance_of(&peer, &base);
        assert_eq!((&*mapped.actor, mapped.reason), ("backup", base.reason));
        assert_eq!(mapped.agent, kept.agent);
    }
}
