//! Waiting for a socket: for datagrams, or for room to send too, by one descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// A descriptor that is readable when its socket is ready. The socket is in it only while somebody
/// waits: it would cost something on every arrival.
#[derive(Debug)]
pub(crate) struct Waiting {
    epoll: OwnedFd,
    armed: Option<EventFlags>,
}

impl Waiting {
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, armed: None })
    }

    /// Waits for datagrams, and for room if `room`.
    pub fn arm(&mut self, socket: &impl AsFd, room: bool) -> Result<(), Errno> {
        let wanted = if room { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        match self.armed {
            Some(armed) if armed == wanted => return Ok(()),
            Some(_) => epoll::modify(&self.epoll, socket, EventData::new_u64(0), wanted)?,
            None => epoll::add(&self.epoll, socket, EventData::new_u64(0), wanted)?,
        }
        self.armed = Some(wanted);
        Ok(())
    }

    pub fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    #[cold]
    pub fn disarm(&mut self, socket: &impl AsFd) {
        if self.armed.take().is_some() {
            // It can only be in there.
            _ = epoll::delete(&self.epoll, socket);
        }
    }
}

impl AsFd for Waiting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
