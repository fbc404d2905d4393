//! How one channel waits: for a message, for room, or for a buffer.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use segment::control::timespec;
use segment::wait::{Step, Waiter};

use crate::channel::{Channel, CloseReason, Offer, SendError};
use crate::{AllocError, Fbuf, FbufMut, Message};

impl Channel {
    /// Takes the next message; waits for it by the channel's wait strategy.
    ///
    /// # Errors
    /// [`CloseReason`], once nothing is left to be taken.
    ///
    /// # Cost
    /// While messages come quickly, or the strategy is to spin: no system call but one every two
    /// milliseconds for the peer's health.
    #[inline(always)]
    pub fn recv(&mut self) -> Result<Message, CloseReason> {
        match self.try_recv()? {
            Some(message) => Ok(message),
            None => self.recv_waiting(None).map(|message| message.expect("there is no deadline")),
        }
    }

    /// As [`Channel::recv`]; `None` if nothing came in time.
    ///
    /// # Errors
    /// [`CloseReason`], once nothing is left to be taken.
    ///
    /// # Cost
    /// As [`Channel::recv`], and a look at the clock.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>, CloseReason> {
        match self.try_recv()? {
            Some(message) => Ok(Some(message)),
            None => self.recv_waiting(Some(Instant::now() + timeout)),
        }
    }

    #[inline(always)]
    fn recv_waiting(&mut self, deadline: Option<Instant>) -> Result<Option<Message>, CloseReason> {
        let mut waiter = Waiter::new(self.wait, self.cores.shared(), deadline);
        loop {
            match waiter.step() {
                Step::Again => {}
                Step::Park => self.park(&waiter, |channel| channel.is_ready()),
                Step::TimedOut => {
                    // Who polls seldom, with short timeouts, asks the kernel each time.
                    self.check_liveness();
                    return self.pop();
                }
            }
            if let Some(message) = self.try_recv()? {
                return Ok(Some(message));
            }
        }
    }

    /// Sends bytes; waits for room.
    ///
    /// # Errors
    /// [`SendError`].
    ///
    /// # Cost
    /// As [`Channel::try_send`], and the wait.
    #[inline(always)]
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        match self.try_send(bytes)? {
            Offer::Taken => Ok(()),
            Offer::Full(()) => self.send_waiting(bytes, None),
        }
    }

    /// As [`Channel::send`]; [`SendError::TimedOut`] if there was no room in time.
    ///
    /// # Errors
    /// [`SendError`].
    ///
    /// # Cost
    /// As [`Channel::send`].
    pub fn send_timeout(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        match self.try_send(bytes)? {
            Offer::Taken => Ok(()),
            Offer::Full(()) => self.send_waiting(bytes, Some(Instant::now() + timeout)),
        }
    }

    #[cold]
    fn send_waiting(&mut self, bytes: &[u8], deadline: Option<Instant>) -> Result<(), SendError> {
        let len = bytes.len();
        let ready = move |channel: &mut Self| {
            channel.has_room() && (len <= crate::MAX_INLINE || channel.has_buffer(len))
        };
        self.wait_until(deadline, ready, |channel| match channel.try_send(bytes)? {
            Offer::Taken => Ok::<_, SendError>(Some(())),
            Offer::Full(()) => Ok(None),
        })?
        .ok_or(SendError::TimedOut)
    }

    /// Hands a buffer over; waits for room.
    ///
    /// # Errors
    /// [`SendError`]; the buffer is freed.
    ///
    /// # Cost
    /// As [`Channel::try_send_fbuf`], and the wait.
    pub fn send_fbuf(&mut self, tag: u16, fbuf: Fbuf, inline: &[u8]) -> Result<(), SendError> {
        let mut fbuf = match self.try_send_fbuf(tag, fbuf, inline)? {
            Offer::Taken => return Ok(()),
            Offer::Full(fbuf) => Some(fbuf),
        };
        self.wait_until(None, Self::has_room, |channel| {
            let Some(waiting) = fbuf.take() else { return Ok(Some(())) };
            match channel.try_send_fbuf(tag, waiting, inline)? {
                Offer::Taken => Ok(Some(())),
                Offer::Full(back) => {
                    fbuf = Some(back);
                    Ok::<_, SendError>(None)
                }
            }
        })?
        .ok_or(SendError::TimedOut)
    }

    /// Takes a buffer; waits until the peer has given one back. `None` if it did not in time.
    ///
    /// # Errors
    /// [`AllocError`], but not `Exhausted`; and `Exhausted` once the channel is closed, for then no
    /// buffer will come back that has not.
    ///
    /// # Cost
    /// As [`Channel::alloc`], and the wait.
    pub fn alloc_timeout(
        &mut self,
        len: usize,
        timeout: Duration,
    ) -> Result<Option<FbufMut>, AllocError> {
        let deadline = Some(Instant::now() + timeout);
        self.wait_until(
            deadline,
            move |channel| channel.has_buffer(len),
            |channel| match channel.alloc(len) {
                Ok(fbuf) => Ok(Some(fbuf)),
                Err(AllocError::Exhausted) if channel.closed().is_none() => Ok(None),
                Err(error) => Err(error),
            },
        )
    }

    /// Repeats `attempt` until it yields something or the deadline passes.
    fn wait_until<T, E>(
        &mut self,
        deadline: Option<Instant>,
        ready: impl Fn(&mut Self) -> bool,
        mut attempt: impl FnMut(&mut Self) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let mut waiter = Waiter::new(self.wait, self.cores.shared(), deadline);
        loop {
            if let Some(done) = attempt(self)? {
                return Ok(Some(done));
            }
            if self.pulse.tick() {
                self.check_liveness();
            }
            match waiter.step() {
                Step::Again => {}
                Step::Park => self.park(&waiter, &ready),
                Step::TimedOut => return Ok(None),
            }
        }
    }

    /// Sleeps in the kernel until the peer rings or dies, or the deadline; not at all if `ready`
    /// once this side's sleep is announced.
    #[cold]
    fn park(&mut self, waiter: &Waiter, ready: impl Fn(&mut Self) -> bool) {
        self.publish_totals();
        self.sleeper.arm();
        self.sleeper.settle();
        if ready(self) {
            self.sleeper.disarm();
            return;
        }
        let timeout = waiter.remaining().map(timespec);
        let (doorbell, death) = {
            let socket = PollFd::from_borrowed_fd(self.socket(), PollFlags::IN);
            match self.pidfd().map(|pidfd| PollFd::from_borrowed_fd(pidfd, PollFlags::IN)) {
                Some(pidfd) => wait_for(&mut [socket, pidfd], timeout.as_ref()),
                None => wait_for(&mut [socket], timeout.as_ref()),
            }
        };
        self.sleeper.disarm();
        if doorbell {
            self.service_socket();
        }
        if death {
            self.check_liveness();
        }
    }
}

/// Sleeps until the first or the second descriptor is ready, and says which.
fn wait_for(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> (bool, bool) {
    // An interrupted sleep is a vain one: the caller looks again.
    let _ = poll(fds, timeout);
    let ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
    (ready(fds.first()), ready(fds.get(1)))
}
