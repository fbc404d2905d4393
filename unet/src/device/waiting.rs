//! Waiting for a socket: for what arrives, or for room to send too, by one descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::{DeviceError, OpenError};

/// A driver's descriptor that is readable when its socket is ready, or one of its sockets. A socket is in it
/// only while somebody waits: where a poll of any kind knows a socket, the kernel wakes it with every packet,
/// on the core that delivers it. Over a pair of virtual interfaces that is the sender's, and 80 ns for each
/// were measured.
#[derive(Debug)]
pub struct Waiting {
    epoll: OwnedFd,
    armed: Option<EventFlags>,
}

impl Waiting {
    /// Makes the descriptor: nobody waits.
    ///
    /// # Errors
    /// [`OpenError::Kernel`].
    pub fn new() -> Result<Self, OpenError> {
        let refused = |errno| OpenError::Kernel { step: "make an epoll", errno };
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC).map_err(refused)?, armed: None })
    }

    /// For a second socket, by the same descriptor.
    ///
    /// # Errors
    /// [`OpenError::Kernel`].
    pub fn another(&self) -> Result<Self, OpenError> {
        let refused = |errno| OpenError::Kernel { step: "wait for a second socket", errno };
        let epoll = rustix::io::fcntl_dupfd_cloexec(&self.epoll, 0).map_err(refused)?;
        Ok(Self { epoll, armed: None })
    }

    /// Waits for what arrives, and for room if `room`.
    ///
    /// # Errors
    /// [`DeviceError::Kernel`].
    ///
    /// # Cost
    /// A system call, if it does not wait for that already.
    pub fn arm(&mut self, socket: &impl AsFd, room: bool) -> Result<(), DeviceError> {
        let wanted = if room { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        match self.armed {
            Some(armed) if armed == wanted => return Ok(()),
            Some(_) => epoll::modify(&self.epoll, socket, EventData::new_u64(0), wanted),
            None => epoll::add(&self.epoll, socket, EventData::new_u64(0), wanted),
        }
        .map_err(DeviceError::Kernel)?;
        self.armed = Some(wanted);
        Ok(())
    }

    /// Whether somebody waits.
    #[inline(always)]
    pub fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Waits no more.
    #[inline(always)]
    pub fn disarm(&mut self, socket: &impl AsFd) {
        if self.is_armed() {
            self.forget(socket);
        }
    }

    #[cold]
    fn forget(&mut self, socket: &impl AsFd) {
        self.armed = None;
        // It can only be in there.
        _ = epoll::delete(&self.epoll, socket);
    }
}

impl AsFd for Waiting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
