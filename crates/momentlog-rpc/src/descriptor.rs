//! File descriptors on a socket, each with one byte.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Sends one byte, with the descriptor that comes with it.
pub(crate) fn send(to: &UnixStream, byte: u8, descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor.as_fd()]);
    if let Some(descriptors) = &descriptors {
        let fits = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(fits, "there is room for one");
    }
    let byte = [byte];
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
pub(crate) fn receive(from: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
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
    Ok((byte[0], descriptor))
}
