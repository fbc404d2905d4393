//! What an endpoint waits on in the kernel: one epoll instance, and what each event means.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use segment::control::timespec;

/// Who waits so long only looks.
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// To a time from this on, a millisecond does not matter.
const LONG: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// What became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A listener has connections.
    Listener(u32),
    /// A connecting client said something.
    Handshake(u32),
    /// A channel's peer rang or hung up.
    Socket(u32),
    /// A channel's peer has ended.
    Death(u32),
    /// A link's device has received something.
    Device(u32),
    /// A listener that was asked has answered.
    Attempt(u32),
    /// A link must be looked after.
    Timer,
}

impl Source {
    fn token(self) -> u64 {
        let (kind, index) = match self {
            Self::Listener(index) => (0, index),
            Self::Handshake(index) => (1, index),
            Self::Socket(index) => (2, index),
            Self::Death(index) => (3, index),
            Self::Device(index) => (4, index),
            Self::Attempt(index) => (5, index),
            Self::Timer => (6, 0),
        };
        kind << 32 | u64::from(index)
    }

    fn from_token(token: u64) -> Self {
        let index = token as u32;
        match token >> 32 {
            0 => Self::Listener(index),
            1 => Self::Handshake(index),
            2 => Self::Socket(index),
            3 => Self::Death(index),
            4 => Self::Device(index),
            5 => Self::Attempt(index),
            _ => Self::Timer,
        }
    }
}

/// How many events are taken from the kernel at once.
pub(crate) const BATCH: usize = 64;

pub(crate) struct Readiness {
    epoll: OwnedFd,
}

impl Readiness {
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    pub fn watch(&self, fd: BorrowedFd<'_>, source: Source) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(source.token()), EventFlags::IN)
    }

    /// Tells only of changes from now on, and once of what there is, or of both again.
    pub fn watch_changes(
        &self,
        fd: BorrowedFd<'_>,
        source: Source,
        only: bool,
    ) -> Result<(), Errno> {
        let flags = if only { EventFlags::IN | EventFlags::ET } else { EventFlags::IN };
        epoll::modify(&self.epoll, fd, EventData::new_u64(source.token()), flags)
    }

    pub fn forget(&self, fd: BorrowedFd<'_>) {
        // It fails only if it was not watched.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for events, at most `timeout` (for ever if `None`), and appends them to `into`.
    pub fn wait(&self, timeout: Option<Duration>, into: &mut Vec<Source>) {
        let mut space = [const { MaybeUninit::uninit() }; BATCH];
        let mut timeout = timeout.map(timespec);
        // Before Linux 5.11, epoll counts in milliseconds: where that is much, poll waits for it.
        if timeout.is_some_and(|timeout| timeout != NO_TIME && timeout < LONG) {
            let mut fds = [PollFd::new(&self.epoll, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(1..) => timeout = Some(NO_TIME),
                Ok(0) | Err(Errno::INTR) => return,
                // It may be forbidden where the other is not.
                Err(_) => {}
            }
        }
        // An interrupted wait is a vain one: the caller looks again.
        if let Ok((events, _)) = epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            into.extend(events.iter().map(|event| Source::from_token(event.data.u64())));
        }
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
