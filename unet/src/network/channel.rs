//! A channel over a network, as its owner holds it.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use fbufs::{AllocError, Fbuf, FbufMut, Message, Part, Path, Pool};
use segment::Incarnation;
use segment::counters::Counters;
use segment::wait::{Pulse, Step, Wait, Waiter};

use super::sharing::{Shared, Spin, lock};
use crate::channel::{CloseReason, Offer, SendError};
use crate::{Delivery, MAX_INLINE, MAX_INLINE_WITH_FBUF};

/// One side of a channel over a network.
///
/// Its methods are not inlined: next to a network a call is nothing, and the code of channels on this host,
/// which stands beside it in every caller, stays small.
pub(crate) struct RemoteChannel {
    pub link: Shared,
    pub number: u32,
    pub address: SocketAddr,
    pub counters: Arc<Counters>,
    pub incarnations: (Incarnation, Incarnation),
    pub private: Vec<u8>,
    pub path: Path,
    wait: Wait,
    pulse: Pulse,
}

impl RemoteChannel {
    /// The handle of a channel that its link has just opened.
    pub fn new(link: Shared, number: u32, wait: Wait) -> Option<Self> {
        let (address, counters, incarnations, private) = {
            let mut link = lock(&link);
            let state = link.state(number)?;
            let incarnations = (state.own, state.peer.1);
            (state.address, state.counters.clone(), incarnations, state.private.clone())
        };
        let (path, pulse) = (Path::default(), Pulse::default());
        Some(Self { link, number, address, counters, incarnations, private, path, wait, pulse })
    }

    #[inline(never)]
    pub fn closed(&self) -> Option<CloseReason> {
        let mut link = lock(&self.link);
        match link.state(self.number) {
            Some(state) => state.closed,
            None => Some(CloseReason::PeerClosed),
        }
    }

    #[inline(never)]
    pub fn try_send(
        &mut self,
        tag: u16,
        head: &[u8],
        rest: &[u8],
        now: bool,
    ) -> Result<Offer, SendError> {
        let mut link = lock(&self.link);
        // What fits into a slot arrives as what came in a slot, as between processes of one host.
        if rest.is_empty() && head.len() > MAX_INLINE {
            link.send(self.number, tag, rest, head, now)
        } else {
            link.send(self.number, tag, head, rest, now)
        }
    }

    #[inline(never)]
    pub fn try_send_message(
        &mut self,
        tag: u16,
        message: Message,
        inline: &[u8],
        now: bool,
    ) -> Result<Offer<Message>, SendError> {
        lock(&self.link).send_message(self.number, tag, message, inline, now)
    }

    /// Two pieces of bytes as one message.
    #[inline(never)]
    pub fn try_send_parts(
        &mut self,
        tag: u16,
        head: &[u8],
        rest: &[u8],
        now: bool,
    ) -> Result<Offer, SendError> {
        if head.len() > MAX_INLINE_WITH_FBUF && head.len() + rest.len() > MAX_INLINE {
            return Err(SendError::TooLarge { len: head.len(), limit: MAX_INLINE_WITH_FBUF });
        }
        lock(&self.link).send(self.number, tag, head, rest, now)
    }

    #[inline(never)]
    pub fn try_send_fbuf(
        &mut self,
        tag: u16,
        fbuf: Fbuf,
        inline: &[u8],
    ) -> Result<Offer<Fbuf>, SendError> {
        Ok(match self.try_send_message(tag, fbuf.into(), inline, true)? {
            Offer::Taken => Offer::Taken,
            Offer::Full(message) => match message.into_part() {
                Ok(Part::Own(fbuf)) => Offer::Full(fbuf),
                // It was one such part.
                _ => Offer::Taken,
            },
        })
    }

    #[inline(never)]
    pub fn send_waiting(
        &mut self,
        bytes: &[u8],
        timeout: Option<Duration>,
    ) -> Result<(), SendError> {
        let attempt = |channel: &mut Self| match channel.try_send(0, bytes, &[], true)? {
            Offer::Taken => Ok::<_, SendError>(Some(())),
            Offer::Full(()) => Ok(None),
        };
        self.wait_until(timeout, attempt)?.ok_or(SendError::TimedOut)
    }

    #[inline(never)]
    pub fn send_message(
        &mut self,
        tag: u16,
        message: Message,
        inline: &[u8],
    ) -> Result<(), SendError> {
        let mut message = Some(message);
        let attempt = |channel: &mut Self| {
            let Some(waiting) = message.take() else { return Ok(Some(())) };
            match channel.try_send_message(tag, waiting, inline, true)? {
                Offer::Taken => Ok::<_, SendError>(Some(())),
                Offer::Full(back) => {
                    message = Some(back);
                    Ok(None)
                }
            }
        };
        self.wait_until(None, attempt)?.ok_or(SendError::TimedOut)
    }

    #[inline(never)]
    pub fn message(
        &mut self,
        headroom: usize,
        len: usize,
        mut fill: impl FnMut(&mut [u8]),
    ) -> Result<Message, AllocError> {
        let mut fbuf = self.alloc(headroom.saturating_add(len))?;
        let range = fbuf.headroom() + headroom..fbuf.headroom() + headroom + len;
        // As much was allocated.
        let _ = fbuf.set_range(range);
        fill(&mut fbuf);
        Ok(fbuf.into())
    }

    #[inline(never)]
    pub fn alloc_timeout(
        &mut self,
        len: usize,
        timeout: Duration,
    ) -> Result<Option<FbufMut>, AllocError> {
        self.wait_until(Some(timeout), |channel| match channel.alloc(len) {
            Ok(fbuf) => Ok(Some(fbuf)),
            Err(AllocError::Exhausted) if channel.closed().is_none() => Ok(None),
            Err(error) => Err(error),
        })
    }

    #[inline(never)]
    pub fn with_pool<R>(&mut self, use_it: impl FnOnce(&mut Pool) -> R) -> R {
        use_it(lock(&self.link).pool())
    }

    #[inline(never)]
    pub fn attend(&mut self) {
        let mut link = lock(&self.link);
        // Its failure ends the channel.
        let _ = link.poll();
        link.attend();
    }

    /// Closes the channel because a layer above caught the peer breaking a rule.
    #[inline(never)]
    pub fn poison(&mut self) -> CloseReason {
        lock(&self.link).poison(self.number)
    }

    #[inline(never)]
    pub fn flush(&mut self) {
        lock(&self.link).flush();
    }

    #[inline(never)]
    pub fn alloc(&mut self, len: usize) -> Result<FbufMut, AllocError> {
        lock(&self.link).alloc(self.number, len)
    }

    /// The most bytes of one message, now.
    #[inline(never)]
    pub fn limit(&self) -> usize {
        let mut link = lock(&self.link);
        let to = link.state(self.number).map(|state| state.to);
        to.map_or(0, |to| link.limit(to))
    }

    #[inline(never)]
    pub fn copied(&self) -> u64 {
        lock(&self.link).pool().copied()
    }

    #[inline(never)]
    pub fn buffers(&mut self) -> (usize, usize, usize) {
        let mut link = lock(&self.link);
        let pool = link.pool();
        (pool.free(), 0, pool.total())
    }

    /// Takes the next message, if there is one: of a channel that stands alone, or is waited on alone.
    #[inline(never)]
    pub fn try_recv_into(&mut self, message: &mut Delivery) -> Result<bool, CloseReason> {
        Self::look(&self.link, self.number, &mut self.pulse, message, || false)
    }

    #[inline(always)]
    fn look(
        link: &Shared,
        number: u32,
        pulse: &mut Pulse,
        message: &mut Delivery,
        again: impl FnMut() -> bool,
    ) -> Result<bool, CloseReason> {
        let mut link = lock(link);
        link.give_back(message);
        if pulse.tick() {
            link.attend();
        }
        if link.next(Some(number), message, again).is_some() {
            return Ok(true);
        }
        match link.state(number) {
            Some(state) => state.closed.map_or(Ok(false), Err),
            None => Err(CloseReason::PeerClosed),
        }
    }

    #[inline(never)]
    pub fn give_back_all(&mut self, message: &mut Delivery) {
        lock(&self.link).give_back(message);
    }

    #[inline(never)]
    pub fn recv_into(&mut self, message: &mut Delivery) -> Result<(), CloseReason> {
        if !self.try_recv_into(message)? {
            self.recv_waiting(message, None)?;
        }
        Ok(())
    }

    #[inline(never)]
    pub fn recv_timeout_into(
        &mut self,
        message: &mut Delivery,
        timeout: Duration,
    ) -> Result<bool, CloseReason> {
        Ok(self.try_recv_into(message)? || self.recv_waiting(message, Some(timeout))?)
    }

    #[inline(never)]
    fn recv_waiting(
        &mut self,
        message: &mut Delivery,
        timeout: Option<Duration>,
    ) -> Result<bool, CloseReason> {
        let mut waiter = Waiter::new(self.wait, false, timeout);
        loop {
            let mut spin = Spin::new(&mut waiter);
            let again = || spin.again(&self.link);
            if Self::look(&self.link, self.number, &mut self.pulse, message, again)? {
                return Ok(true);
            }
            match spin.end(Some(&self.link)) {
                Step::Again => {}
                Step::Park => self.park(waiter.remaining(), None),
                Step::TimedOut => {
                    lock(&self.link).attend();
                    return self.try_recv_into(message);
                }
            }
        }
    }

    /// Repeats `attempt` until it yields something or the deadline passes.
    #[inline(never)]
    pub fn wait_until<T, E>(
        &mut self,
        timeout: Option<Duration>,
        mut attempt: impl FnMut(&mut Self) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        // Room comes back when the device has sent: soon, and nothing tells.
        let mut waiter = Waiter::new(Wait::Spin, false, timeout);
        loop {
            if let Some(done) = attempt(self)? {
                return Ok(Some(done));
            }
            {
                let mut link = lock(&self.link);
                link.attend();
                link.flush();
            }
            if waiter.step(1, || false) == Step::TimedOut {
                return Ok(None);
            }
            std::thread::yield_now();
        }
    }

    /// Sleeps until something can be received, or `other` is readable, or the time is up.
    #[cold]
    pub fn park(&mut self, timeout: Option<Duration>, other: Option<BorrowedFd<'_>>) {
        let mut link = lock(&self.link);
        link.attend();
        if !link.has_ready(self.number) {
            link.sleep(timeout, other);
        }
    }

    #[inline(never)]
    pub fn is_ready(&self) -> bool {
        let mut link = lock(&self.link);
        let _ = link.poll();
        link.has_ready(self.number)
    }

    #[inline(never)]
    pub fn page(&self) -> BorrowedFd<'_> {
        self.counters.page().expect("a channel over a network counts in a page of its own")
    }
}

impl Drop for RemoteChannel {
    fn drop(&mut self) {
        lock(&self.link).close(self.number);
    }
}

impl super::Link {
    /// Whether a message was received for a channel, or it has ended.
    pub(super) fn has_ready(&mut self, channel: u32) -> bool {
        let ended =
            self.state(channel).is_none_or(|state| state.closed.is_some() || state.queued > 0);
        ended || self.failed.is_some()
    }
}
