//! What a worker leaves with its keeper: descriptors that must not be closed when it dies, and a few bytes
//! about each.
//!
//! A worker says what it has **before** it has an effect: what the next worker is given may be more than
//! what there is, and never less. Messages wait in the socket, so nothing has to be answered.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};
use segment::control::{Frame, Kind, MAX_DESCRIPTORS, Received, Sent, Socket, timespec};

/// How long a keeper may take to read, which does nothing else.
const PATIENCE: Duration = Duration::from_secs(2);

/// There is no keeper any more, or it does not do its part: the worker is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the keeper is gone, or does not answer")]
pub struct KeeperGone;

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Listener,
    Program,
    Grant,
}

/// Something that is kept.
#[derive(Debug)]
pub(super) struct Record {
    pub key: u64,
    /// What it is of, as a number: a keeper need not know.
    pub of: u32,
    pub about: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

impl Of {
    fn number(self) -> u32 {
        match self {
            Self::Listener => 1,
            Self::Program => 2,
            Self::Grant => 3,
        }
    }

    pub fn numbered(number: u32) -> Option<Self> {
        [Self::Listener, Self::Program, Self::Grant].into_iter().find(|it| it.number() == number)
    }
}

/// What one end of the socket says.
#[derive(Debug)]
pub(super) enum Said {
    /// Keep this; to a worker: this was kept.
    Put(Record),
    /// Close it.
    Forget(u64),
    /// That was all.
    Done,
    /// Nothing that has a meaning, or a descriptor was lost.
    Nonsense,
    Nothing,
    HungUp,
}

pub(super) fn hear(socket: &Socket) -> Said {
    match socket.receive() {
        Received::Frame(frame, descriptors) => match frame.kind {
            Kind::Hello => Said::Put(Record {
                key: frame.value,
                of: frame.flags,
                about: frame.private().to_vec(),
                descriptors,
            }),
            Kind::Refusal => Said::Forget(frame.value),
            Kind::Welcome => Said::Done,
            Kind::Doorbell => Said::Nonsense,
        },
        Received::Malformed(_) | Received::OutOfDescriptors => Said::Nonsense,
        Received::Nothing => Said::Nothing,
        Received::HungUp => Said::HungUp,
    }
}

pub(super) fn put_frame(key: u64, of: u32, about: &[u8]) -> Option<Frame> {
    Frame::new(Kind::Hello, key, of, about)
}

pub(super) fn done_frame() -> Frame {
    Frame::bare(Kind::Welcome, 0)
}

/// Sends, and waits for room at most for a while.
pub(super) fn send(
    socket: &Socket,
    frame: &Frame,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), KeeperGone> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match socket.send(frame, descriptors) {
            Sent::Yes => return Ok(()),
            Sent::Gone => return Err(KeeperGone),
            Sent::Full | Sent::NoMemory if Instant::now() >= deadline => return Err(KeeperGone),
            Sent::Full => {
                let mut fds = [PollFd::new(socket, PollFlags::OUT)];
                let _ = poll(&mut fds, Some(&timespec(Duration::from_millis(100))));
            }
            Sent::NoMemory => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A worker's end.
#[derive(Debug)]
pub struct Store {
    socket: Socket,
    /// What the last worker left.
    pub(super) left: Vec<Record>,
}

impl Store {
    /// The store of the process's keeper ([`keeper`](super::keeper)), which is its standard input, with what
    /// the last worker left. From now on this process is killed when the thread that started it ends.
    ///
    /// # Errors
    /// [`KeeperGone`], also where the process has no keeper.
    pub fn inherit() -> Result<Self, KeeperGone> {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|_| KeeperGone)?;
        let fd = std::io::stdin().as_fd().try_clone_to_owned().map_err(|_| KeeperGone)?;
        Self::over(Socket::from(fd))
    }

    pub(super) fn over(socket: Socket) -> Result<Self, KeeperGone> {
        let deadline = Instant::now() + PATIENCE;
        let mut left = Vec::new();
        loop {
            match hear(&socket) {
                Said::Put(record) => left.push(record),
                Said::Done => return Ok(Self { socket, left }),
                Said::Nothing if Instant::now() < deadline => {
                    socket.wait_readable(deadline.saturating_duration_since(Instant::now()));
                }
                _ => return Err(KeeperGone),
            }
        }
    }

    /// Whether the keeper is still there.
    pub(super) fn check(&self) -> Result<(), KeeperGone> {
        match hear(&self.socket) {
            Said::Nothing => Ok(()),
            _ => Err(KeeperGone),
        }
    }

    pub(super) fn put(
        &self,
        key: u64,
        of: Of,
        about: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), KeeperGone> {
        debug_assert!(descriptors.len() <= MAX_DESCRIPTORS);
        let frame = put_frame(key, of.number(), about).ok_or(KeeperGone)?;
        send(&self.socket, &frame, descriptors)
    }

    pub(super) fn forget(&self, key: u64) -> Result<(), KeeperGone> {
        send(&self.socket, &Frame::bare(Kind::Refusal, key), &[])
    }
}

impl AsFd for Store {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Errno> for KeeperGone {
    fn from(_: Errno) -> Self {
        Self
    }
}
