//! One connection between a client and a server that speak libvirt's protocol: what one says, the other hears.
//!
//! Each direction has a thread, which reads a message and writes it in pieces of at most [`PIECE_LEN`] bytes. It reads no more
//! while the other end takes nothing, so that no more than a piece waits here. Of a message only its header is looked at,
//! because descriptors come with bytes behind it, one each, and must be sent with those same bytes.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::frame::{FrameError, HEADER_LEN, Kind, MESSAGE_LEN_MAX, decode, read_or_end, rest_len};

/// Longest piece of a message that is read before it is written, in bytes. The first has the length word besides.
const PIECE_LEN: usize = 64 << 10;

/// Length of the word that says how long a message is, in bytes.
const WORD_LEN: usize = 4;

/// Most file descriptors that may come with a message.
const DESCRIPTORS_MAX: u32 = 32;

/// Stack of the thread of a direction, in bytes: it holds no message there.
const STACK_LEN: usize = 256 << 10;

/// Passes what a client and a server say to each other, byte for byte and with the descriptors that come with it, until one
/// of them leaves or says what is no message. A client that says no more still hears what the server says.
///
/// # Errors
///
/// If the system has no thread for it. Both ends are hung up on then.
pub fn relay(client: &UnixStream, server: &UnixStream) -> io::Result<()> {
    thread::scope(|scope| {
        let named = thread::Builder::new().name("replies".to_owned());
        let replies = named.stack_size(STACK_LEN).spawn_scoped(scope, || {
            log_end("server", pass(server, client));
            // What was sent to the client can still be read. A server that leaves reads nothing more.
            hang_up(client, server);
        });
        if let Err(error) = replies {
            hang_up(client, server);
            return Err(error);
        }
        let passed = pass(client, server);
        let has_failed = passed.is_err();
        log_end("client", passed);
        if has_failed {
            hang_up(client, server);
        } else {
            let _ = server.shutdown(Shutdown::Write);
        }
        Ok(())
    })
}

fn hang_up(client: &UnixStream, server: &UnixStream) {
    for end in [client, server] {
        // It may be gone already.
        let _ = end.shutdown(Shutdown::Both);
    }
}

fn log_end(end: &str, passed: Result<(), FrameError>) {
    if let Err(error) = passed {
        tracing::debug!("what the {end} says is not passed on any more: {error}");
    }
}

/// Passes messages on until there is none any more.
fn pass(mut from: &UnixStream, mut to: &UnixStream) -> Result<(), FrameError> {
    loop {
        let mut word = [0; WORD_LEN];
        if !read_or_end(&mut from, &mut word)? {
            return Ok(());
        }
        let mut left = rest_len(word, MESSAGE_LEN_MAX)?;
        let mut piece = word.to_vec();
        left -= read_piece(from, left, &mut piece)?;
        let count = descriptor_count(&piece)?;
        to.write_all(&piece)?;
        while left > 0 {
            piece.clear();
            left -= read_piece(from, left, &mut piece)?;
            to.write_all(&piece)?;
        }
        for _ in 0..count {
            pass_descriptor(from, to)?;
        }
    }
}

/// Reads the next piece of a message of which `left` bytes are to come, and returns its length. What a length word claims is
/// not allocated before it has come.
fn read_piece(from: &UnixStream, left: usize, piece: &mut Vec<u8>) -> io::Result<usize> {
    let wanted = left.min(PIECE_LEN);
    let read = from.take(wanted as u64).read_to_end(piece)?;
    if read < wanted {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(wanted)
}

/// Returns how many bytes with descriptors follow a message that begins like this.
fn descriptor_count(front: &[u8]) -> io::Result<u32> {
    let (_, rest) = front.split_at(WORD_LEN);
    let Some((header, payload)) = rest.split_first_chunk::<HEADER_LEN>() else {
        return Ok(0);
    };
    let kind = decode(header).kind;
    let Some(count) = payload.first_chunk() else {
        return Ok(0);
    };
    let count = match kind {
        Kind::CALL_WITH_FDS | Kind::REPLY_WITH_FDS => u32::from_be_bytes(*count),
        _ => 0,
    };
    if count > DESCRIPTORS_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(count)
}

/// Passes one byte on, with the descriptor that comes with it.
fn pass_descriptor(from: &UnixStream, to: &UnixStream) -> io::Result<()> {
    let (byte, descriptor) = receive(from)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_ref().map(|descriptor| [descriptor.as_fd()]);
    if let Some(descriptors) = &descriptors {
        let fits = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(fits, "there is room for one");
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(
            to,
            &[IoSlice::new(&byte)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
    })?;
    if sent == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Receives one byte and the descriptor that comes with it, if one does.
fn receive(from: &UnixStream) -> io::Result<([u8; 1], Option<OwnedFd>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        let mut into = [IoSliceMut::new(&mut byte)];
        recvmsg(from, &mut into, &mut ancillary, flags)
    })?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // More than one: the kernel has closed those for which there is no room.
        return Err(io::ErrorKind::InvalidData.into());
    }
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((byte, descriptor))
}
