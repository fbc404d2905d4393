//! The socket between the two processes over which work is arranged: framed JSON, and descriptors.
//!
//! It is the server's standard input, so that the server sees a hang-up when its parent is gone.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fault::{During, Fault};

/// The most descriptors in one message.
const MAX_DESCRIPTORS: usize = 8;
/// The longest message: a result with its whole distribution stays far below.
const MAX_LENGTH: usize = 16 << 20;
/// The longest that a stranger's may be: a request.
const MAX_REQUEST: usize = 16 << 10;

/// One end of the control socket.
pub struct Control {
    socket: OwnedFd,
    longest: usize,
}

impl Control {
    /// A connected pair: the parent's end, and the end that becomes the child's standard input.
    pub fn pair() -> Result<(Self, OwnedFd), Fault> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .during("making the control socket")?;
        Ok((Self { socket: ours, longest: MAX_LENGTH }, theirs))
    }

    /// The child's end, from its standard input.
    pub fn from_stdin() -> Result<Self, Fault> {
        let socket = std::io::stdin().as_fd().try_clone_to_owned();
        let socket = socket.during("taking the control socket from standard input")?;
        Ok(Self { socket, longest: MAX_LENGTH })
    }

    /// A connection to a server on another host, or in another network namespace. No descriptors
    /// travel on it.
    pub fn over(socket: OwnedFd) -> Self {
        Self { socket, longest: MAX_LENGTH }
    }

    /// Takes no message that is longer than requests are: the other end is a stranger.
    pub fn wary(self) -> Self {
        Self { longest: MAX_REQUEST, ..self }
    }

    /// A second handle on the same socket, for a thread that watches for the hang-up.
    pub fn try_clone(&self) -> Result<Self, Fault> {
        let socket = self.socket.try_clone().during("duplicating the control socket")?;
        Ok(Self { socket, longest: self.longest })
    }

    /// Sends one message, with descriptors.
    pub fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<(), Fault> {
        assert!(fds.len() <= MAX_DESCRIPTORS, "more descriptors than a message may carry");
        let body = serde_json::to_vec(message)
            .map_err(|error| Fault::Other(format!("a control message cannot be coded: {error}")))?;
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        // Four bytes go out whole or not at all.
        sendmsg(&self.socket, &[IoSlice::new(&length)], &mut ancillary, SendFlags::NOSIGNAL)
            .during("sending on the control socket")?;
        let mut rest = &body[..];
        while !rest.is_empty() {
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).during("sending on the control socket"),
            }
        }
        Ok(())
    }

    /// Waits for one message.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), Fault> {
        let mut length = [0; 4];
        let mut fds = Vec::new();
        self.fill(&mut length, &mut fds)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > self.longest {
            return Err(Fault::Other(format!("a control message claims {length} bytes")));
        }
        let mut body = vec![0; length];
        self.fill(&mut body, &mut fds)?;
        let message = serde_json::from_slice(&body)
            .map_err(|error| Fault::Other(format!("a control message is garbled: {error}")))?;
        Ok((message, fds))
    }

    /// Whether a message begins to arrive within the time.
    pub fn readable_within(&self, time: Duration) -> Result<bool, Fault> {
        let timeout = Timespec::try_from(time).ok();
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error).during("waiting on the control socket"),
        }
    }

    /// Closes the connection for both ends, however many handles there are.
    pub fn shut_down(&self) {
        // Only a socket that is closed already refuses, and that is as good.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Returns when the other end is closed, for whatever reason.
    pub fn wait_for_hang_up(&self) {
        while !self.hung_up_within(None) {}
    }

    /// Whether the other end is closed, or will be within the time.
    pub fn hung_up_within(&self, time: Option<Duration>) -> bool {
        let timeout = time.and_then(|time| Timespec::try_from(time).ok());
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        !matches!(poll(&mut fds, timeout.as_ref()), Ok(0) | Err(Errno::INTR))
    }

    fn fill(&self, mut space: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<(), Fault> {
        while !space.is_empty() {
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut room);
            let mut slices = [IoSliceMut::new(space)];
            let message =
                match recvmsg(&self.socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                    Ok(message) => message,
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(error).during("reading the control socket"),
                };
            if message.bytes == 0 {
                return Err(Fault::PeerGone);
            }
            for part in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = part {
                    fds.extend(received);
                }
            }
            space = &mut space[message.bytes..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (ours, theirs) = Control::pair().unwrap();
        let theirs = Control::over(theirs);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        ours.send(&("hello", 7), &[writer.as_fd()]).unwrap();
        let ((word, number), fds): ((String, u32), _) = theirs.receive().unwrap();
        assert_eq!((word.as_str(), number, fds.len()), ("hello", 7, 1));
        rustix::io::write(&fds[0], b"x").unwrap();
        let mut byte = [0];
        assert_eq!(rustix::io::read(&reader, &mut byte), Ok(1));
    }

    #[test]
    fn a_stranger_may_not_claim_a_long_message() {
        let (ours, theirs) = Control::pair().unwrap();
        let theirs = Control::over(theirs).wary();
        ours.send(&"x".repeat(MAX_REQUEST + 1), &[]).unwrap();
        assert!(matches!(theirs.receive::<String>(), Err(Fault::Other(_))));
    }

    #[test]
    fn a_closed_end_is_a_hang_up() {
        let (ours, theirs) = Control::pair().unwrap();
        drop(theirs);
        ours.wait_for_hang_up();
        assert!(matches!(ours.receive::<u32>(), Err(Fault::PeerGone)));
    }
}
