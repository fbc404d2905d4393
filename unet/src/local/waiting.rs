//! How one channel waits: for a message, for room, or for a buffer.

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use segment::control::timespec;
use segment::wait::{LOOKS, Step, Waiter};

use super::sending::slots_of;
use super::{CloseReason, LocalChannel, Offer, SendError};
use crate::{AllocError, Delivery, Fbuf, FbufMut, Message, Pool};

impl LocalChannel {
    #[inline(always)]
    pub fn recv(&mut self) -> Result<Delivery, CloseReason> {
        let mut message = Delivery::default();
        self.recv_into(&mut message)?;
        Ok(message)
    }

    #[inline(always)]
    pub fn recv_into(&mut self, message: &mut Delivery) -> Result<(), CloseReason> {
        if !self.try_recv_into(message)? {
            self.recv_waiting(message, None)?;
        }
        Ok(())
    }

    pub fn recv_timeout_into(
        &mut self,
        message: &mut Delivery,
        timeout: Duration,
    ) -> Result<bool, CloseReason> {
        Ok(self.try_recv_into(message)? || self.recv_waiting(message, Some(timeout))?)
    }

    #[inline(always)]
    fn recv_waiting(
        &mut self,
        message: &mut Delivery,
        timeout: Option<Duration>,
    ) -> Result<bool, CloseReason> {
        let mut waiter = Waiter::new(self.wait, self.cores.shared(), timeout);
        loop {
            match waiter.step(LOOKS, || self.is_ready()) {
                Step::Again => {}
                Step::Park => self.park(&waiter, |channel| channel.is_ready()),
                Step::TimedOut => {
                    // Who polls seldom, with short timeouts, asks the kernel each time.
                    self.check_liveness();
                    return self.pop(message);
                }
            }
            if self.try_recv_into(message)? {
                return Ok(true);
            }
        }
    }

    #[inline(always)]
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        match self.try_send(bytes)? {
            Offer::Taken => Ok(()),
            Offer::Full(()) => self.send_waiting(bytes, None),
        }
    }

    pub fn send_timeout(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        match self.try_send(bytes)? {
            Offer::Taken => Ok(()),
            Offer::Full(()) => self.send_waiting(bytes, Some(timeout)),
        }
    }

    #[cold]
    fn send_waiting(&mut self, bytes: &[u8], timeout: Option<Duration>) -> Result<(), SendError> {
        let len = bytes.len();
        let ready = move |channel: &mut Self| {
            channel.has_room(1)
                && (len <= crate::MAX_INLINE
                    || channel.has_leases(1, len as u64) && channel.has_buffer(len))
        };
        self.wait_until(timeout, ready, |channel| match channel.try_send(bytes)? {
            Offer::Taken => Ok::<_, SendError>(Some(())),
            Offer::Full(()) => Ok(None),
        })?
        .ok_or(SendError::TimedOut)
    }

    #[inline(always)]
    pub fn send_fbuf(&mut self, tag: u16, fbuf: Fbuf, inline: &[u8]) -> Result<(), SendError> {
        match self.try_send_fbuf(tag, fbuf, inline)? {
            Offer::Taken => Ok(()),
            Offer::Full(fbuf) => self.send_message_waiting(tag, fbuf.into(), inline),
        }
    }

    #[inline]
    pub fn send_message(
        &mut self,
        tag: u16,
        message: Message,
        inline: &[u8],
    ) -> Result<(), SendError> {
        match self.try_send_message(tag, message, inline)? {
            Offer::Taken => Ok(()),
            Offer::Full(message) => self.send_message_waiting(tag, message, inline),
        }
    }

    #[cold]
    fn send_message_waiting(
        &mut self,
        tag: u16,
        message: Message,
        inline: &[u8],
    ) -> Result<(), SendError> {
        let (slots, parts) = (slots_of(&message), message.parts().len());
        let bytes = message.len() as u64;
        let mut message = Some(message);
        let ready =
            move |channel: &mut Self| channel.has_room(slots) && channel.has_leases(parts, bytes);
        self.wait_until(None, ready, |channel| {
            let Some(waiting) = message.take() else { return Ok(Some(())) };
            match channel.try_send_message(tag, waiting, inline)? {
                Offer::Taken => Ok(Some(())),
                Offer::Full(back) => {
                    message = Some(back);
                    Ok::<_, SendError>(None)
                }
            }
        })?
        .ok_or(SendError::TimedOut)
    }

    pub fn alloc_timeout(
        &mut self,
        len: usize,
        timeout: Duration,
    ) -> Result<Option<FbufMut>, AllocError> {
        self.wait_until(
            Some(timeout),
            move |channel| channel.has_buffer(len),
            |channel| match channel.alloc(len) {
                Ok(fbuf) => Ok(Some(fbuf)),
                Err(AllocError::Exhausted) if channel.closed().is_none() => Ok(None),
                Err(error) => Err(error),
            },
        )
    }

    pub fn alloc_from_timeout(
        &mut self,
        pool: &mut Pool,
        len: usize,
        timeout: Duration,
    ) -> Result<Option<FbufMut>, AllocError> {
        // How much had come back at the last attempt. Passing back what is owed to earlier domains
        // collects too, between the attempt and the sleep, and would leave nothing to be seen.
        let seen = Cell::new(self.collected);
        self.wait_until(
            Some(timeout),
            |channel| {
                channel.collect();
                channel.collected != seen.get() || channel.closed().is_some()
            },
            |channel| {
                channel.collect();
                seen.set(channel.collected);
                match pool.alloc(len) {
                    Ok(fbuf) => Ok(Some(fbuf)),
                    Err(AllocError::Exhausted) if channel.closed().is_none() => Ok(None),
                    Err(error) => Err(error),
                }
            },
        )
    }

    /// Repeats `attempt` until it yields something or the deadline passes.
    fn wait_until<T, E>(
        &mut self,
        timeout: Option<Duration>,
        ready: impl Fn(&mut Self) -> bool,
        mut attempt: impl FnMut(&mut Self) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let mut waiter = Waiter::new(self.wait, self.cores.shared(), timeout);
        loop {
            if let Some(done) = attempt(self)? {
                return Ok(Some(done));
            }
            if self.pulse.tick() {
                self.check_liveness();
            }
            match waiter.step(1, || false) {
                Step::Again => {}
                Step::Park => self.park(&waiter, &ready),
                Step::TimedOut => return Ok(None),
            }
        }
    }

    #[inline(always)]
    pub fn shares_core(&mut self) -> bool {
        self.cores.shared()
    }

    /// Takes the bells of earlier sleeps before the new one is announced, and none after: the peer
    /// rings once for a sleep, perhaps for a buffer given back, which makes nothing ready here. Taken
    /// here, that bell would be lost, and nothing later would ring for this sleep.
    pub fn arm(&mut self) -> bool {
        self.publish_totals();
        self.service_socket();
        self.sleeper.arm();
        self.sleeper.settle();
        self.pass_back();
        self.watched = !self.is_ready();
        if !self.watched {
            self.sleeper.disarm();
        }
        self.watched
    }

    pub fn wake(&mut self) {
        self.watched = false;
        self.sleeper.disarm();
        self.check_liveness();
    }

    pub fn park_beside(&mut self, waiter: &Waiter, other: Option<BorrowedFd<'_>>) {
        self.park_on(waiter.remaining(), other, |channel| channel.is_ready());
    }

    fn park(&mut self, waiter: &Waiter, ready: impl Fn(&mut Self) -> bool) {
        self.park_on(waiter.remaining(), None, ready);
    }

    /// Sleeps in the kernel until the peer rings or dies, or `other` is readable, or the time is up;
    /// not at all if `ready` once this side's sleep is announced.
    #[cold]
    fn park_on(
        &mut self,
        timeout: Option<Duration>,
        other: Option<BorrowedFd<'_>>,
        ready: impl Fn(&mut Self) -> bool,
    ) {
        self.publish_totals();
        self.watched = false;
        self.sleeper.arm();
        self.sleeper.settle();
        // What came back before the sleep was announced rings for nobody.
        self.pass_back();
        if ready(self) {
            self.sleeper.disarm();
            return;
        }
        let timeout = timeout.map(timespec);
        let (doorbell, death) = {
            let socket = self.socket();
            let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
            // Where there is no third or second descriptor, the socket stands in for it.
            let (pidfd, other) = (self.pidfd().unwrap_or(socket), other.unwrap_or(socket));
            let mut fds = [watch(socket), watch(pidfd), watch(other)];
            // An interrupted sleep is a vain one: the caller looks again.
            let _ = poll(&mut fds, timeout.as_ref());
            (!fds[0].revents().is_empty(), !fds[1].revents().is_empty())
        };
        self.sleeper.disarm();
        if doorbell {
            self.service_socket();
        }
        if death && self.closed().is_none() {
            self.check_liveness();
        }
    }
}
