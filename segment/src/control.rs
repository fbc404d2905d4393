//! The control socket: rendezvous by name, passing of segments, doorbells, and the hang-up.
//!
//! One `SOCK_SEQPACKET` Unix socket a channel. Names live in the abstract namespace (unix(7)): they
//! vanish with the process that bound them, whatever killed it, and leave nothing in a file system.
//! That namespace has no permissions, so both sides ask the kernel who the other is
//! ([`crate::peer::Credentials`]) before they say anything.
//!
//! Every message is one [`Frame`]. It is received into a private buffer and decoded with all checks;
//! whatever is no frame is [`Received::Malformed`].

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, accept_with, bind, connect, listen, recvmsg, sendmsg, shutdown, socket_with,
    socketpair,
};
use zerocopy::IntoBytes;

use crate::failpoint;
use crate::frame::Wire;
pub use crate::frame::{DecodeError, Frame, Kind, MAX_PRIVATE, VERSION};
use crate::peer::Credentials;

/// The longest name. Names consist of letters, digits and `-_.`.
pub const MAX_NAME: usize = 64;

const BACKLOG: i32 = 128;
const PREFIX: &[u8] = b"unet/";

/// Why a name could not be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The name is empty, too long, or has a character that is not allowed.
    #[error("a name has 1 to 64 letters, digits or -_. characters")]
    InvalidName,
    /// A process of this user has it.
    #[error("the name is taken by a process of yours: choose another, or end that process")]
    NameTaken,
    /// A process of another user has it.
    #[error("the name is taken by a process of another user (uid {0}): choose another")]
    NameOfAnotherUser(u32),
    /// No descriptor is left.
    #[error("no file descriptor is left: raise the limit (ulimit -n)")]
    OutOfDescriptors,
    /// The kernel refused for another reason.
    #[error("the kernel refused to bind the name: {0}")]
    Kernel(Errno),
}

/// What became of a frame that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the peer's queue.
    Yes,
    /// The peer's queue is full.
    Full,
    /// The kernel has no memory for it now.
    NoMemory,
    /// The peer has hung up.
    Gone,
}

/// How many descriptors a frame carries at most: a segment's, and those of the regions of a path.
pub const MAX_DESCRIPTORS: usize = 8;

/// What was there to be received.
#[derive(Debug)]
pub enum Received {
    /// A frame, and the descriptors that came with it.
    Frame(Frame, Vec<OwnedFd>),
    /// A message that is no frame.
    Malformed(DecodeError),
    /// A frame came with descriptors, and this process has no room for them. All are lost.
    OutOfDescriptors,
    /// Nothing yet.
    Nothing,
    /// The peer has hung up.
    HungUp,
}

fn address(name: &str) -> Option<SocketAddrUnix> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
        return None;
    }
    SocketAddrUnix::new_abstract_name(&[PREFIX, name.as_bytes()].concat()).ok()
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Whether `name` could be bound or connected to at all.
pub fn is_valid_name(name: &str) -> bool {
    address(name).is_some()
}

/// A bound name, waiting for connections. Dropping it frees the name.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// Binds a name.
    ///
    /// # Errors
    /// [`BindError`] says whose fault it is.
    ///
    /// # Cost
    /// Three system calls.
    pub fn bind(name: &str) -> Result<Self, BindError> {
        let address = address(name).ok_or(BindError::InvalidName)?;
        let fd = new_socket().map_err(|errno| match errno {
            Errno::MFILE | Errno::NFILE => BindError::OutOfDescriptors,
            other => BindError::Kernel(other),
        })?;
        match bind(&fd, &address) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => return Err(Self::whose(name)),
            Err(other) => return Err(BindError::Kernel(other)),
        }
        listen(&fd, BACKLOG).map_err(BindError::Kernel)?;
        Ok(Self { fd })
    }

    fn whose(name: &str) -> BindError {
        let own = rustix::process::geteuid().as_raw();
        let owner = Socket::connect(name).ok().and_then(|socket| socket.credentials().ok());
        match owner {
            Some(owner) if owner.uid != own => BindError::NameOfAnotherUser(owner.uid),
            _ => BindError::NameTaken,
        }
    }

    /// Accepts the next connection, if one waits.
    ///
    /// # Errors
    /// The kernel's: `EMFILE` when no descriptor is left.
    pub fn accept(&self) -> Result<Option<Socket>, Errno> {
        match accept_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(fd) => {
                failpoint::hit("accept.1-connected");
                Ok(Some(Socket { fd }))
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Listener {
    /// A listener that another process bound, and passed on.
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

/// A connected control socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Connects to a name.
    ///
    /// # Errors
    /// The kernel's: `ECONNREFUSED` if nobody listens, `EAGAIN` if the listener's backlog is full,
    /// `EINVAL` if the name is not valid, `EMFILE` when no descriptor is left.
    ///
    /// # Cost
    /// Two system calls.
    pub fn connect(name: &str) -> Result<Self, Errno> {
        let address = address(name).ok_or(Errno::INVAL)?;
        let fd = new_socket()?;
        connect(&fd, &address)?;
        Ok(Self { fd })
    }

    /// Two that are connected with each other.
    ///
    /// # Errors
    /// The kernel's: `EMFILE` when no descriptor is left.
    pub fn pair() -> Result<(Self, Self), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self { fd: one }, Self { fd: other }))
    }

    /// Who is on the other side.
    ///
    /// # Errors
    /// The kernel's; not for a connected socket.
    pub fn credentials(&self) -> Result<Credentials, Errno> {
        Credentials::of(self.fd.as_fd())
    }

    /// Sends a frame, and up to [`MAX_DESCRIPTORS`] descriptors with it. Never blocks, raises no signal.
    ///
    /// # Cost
    /// One system call.
    pub fn send(&self, frame: &Frame, descriptors: &[BorrowedFd<'_>]) -> Sent {
        let (wire, len) = frame.encode();
        let bytes = [IoSlice::new(&wire.as_bytes()[..len])];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Sent::NoMemory;
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            return match sendmsg(&self.fd, &bytes, &mut ancillary, flags) {
                Ok(_) => Sent::Yes,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Sent::Full,
                Err(Errno::NOBUFS | Errno::NOMEM | Errno::TOOMANYREFS) => Sent::NoMemory,
                Err(_) => Sent::Gone,
            };
        }
    }

    /// Takes the next frame, if one is there. Never blocks.
    ///
    /// # Cost
    /// One system call.
    pub fn receive(&self) -> Received {
        // One byte more than the longest frame: what fills it is too long.
        let mut bytes = [0u8; size_of::<Wire>() + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let (got, truncated) = {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let mut take = || recvmsg(&self.fd, &mut slices, &mut ancillary, flags);
            // A peer that closed without reading everything leaves this error before its last words;
            // it is reported once.
            let taken = match take() {
                Err(Errno::CONNRESET) => take(),
                taken => taken,
            };
            match taken {
                Ok(got) => (got.bytes, got.flags.contains(ReturnFlags::CTRUNC)),
                Err(Errno::AGAIN | Errno::INTR) => return Received::Nothing,
                Err(_) => return Received::HungUp,
            }
        };
        // More descriptors than there was room for are closed by the kernel.
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        if got == 0 {
            return Received::HungUp;
        }
        match Frame::decode(&bytes[..got]) {
            // There was room for all that may be sent, so there was none in this process.
            Ok(_) if truncated && descriptors.len() < MAX_DESCRIPTORS => Received::OutOfDescriptors,
            // The kernel aligns the room, which can be enough for one more than that.
            Ok(_) if truncated || descriptors.len() > MAX_DESCRIPTORS => {
                Received::Malformed(DecodeError::Malformed)
            }
            Ok(frame) => Received::Frame(frame, descriptors),
            Err(error) => Received::Malformed(error),
        }
    }

    /// Hangs up, also where a buffer that is still held keeps the socket open.
    pub fn hang_up(&self) {
        // It fails only if the peer has hung up before.
        let _ = shutdown(&self.fd, Shutdown::Both);
    }

    /// Whether either side has hung up. What was said before can still be received.
    ///
    /// # Cost
    /// One system call.
    pub fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::empty())];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }

    /// Waits until a frame or a hang-up can be received, or `timeout` is over.
    ///
    /// # Cost
    /// One system call, which sleeps.
    pub fn wait_readable(&self, timeout: Duration) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timespec(timeout))), Ok(1..))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Socket {
    /// A connected socket that another process passed on.
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.fd
    }
}

/// A duration as the kernel takes it.
pub fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        assert!(is_valid_name("echo-1.A_b"));
        for bad in ["", "a/b", "a b", "ä", "\0", &"x".repeat(MAX_NAME + 1)] {
            assert!(!is_valid_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_free_again_when_its_listener_is_gone() {
        let name = format!("segment-test-{}", std::process::id());
        let listener = Listener::bind(&name).expect("the name is free");
        assert_eq!(Listener::bind(&name).err(), Some(BindError::NameTaken));
        drop(listener);
        Listener::bind(&name).expect("the name is free again");
    }
}
