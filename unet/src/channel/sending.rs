//! How a channel sends.

use std::time::Duration;

use super::{Channel, Offer, SendError, by_way};
use crate::{AllocError, Fbuf, FbufMut, Message, Pool};

impl Channel {
    /// The most bytes of one message, now: over a network what fits into a datagram, which may change with
    /// the way there; on this host, what the largest buffer holds.
    pub fn limit(&self) -> usize {
        by_way!(&self.way, local => local.largest(), remote => remote.limit())
    }

    /// Sends bytes if there is room: in the slot if they fit, else in a buffer.
    ///
    /// # Errors
    /// [`SendError`], for good.
    ///
    /// # Cost
    /// Up to [`crate::MAX_INLINE`] bytes: one cache line. More: one copy into a buffer. No system call
    /// unless the peer sleeps; no fence where membarrier(2) works.
    #[inline(always)]
    pub fn try_send(&mut self, bytes: &[u8]) -> Result<Offer, SendError> {
        self.try_send_tagged(0, bytes)
    }

    /// As [`Channel::try_send`], with a number for the receiver's layer.
    ///
    /// # Errors
    /// [`SendError`], for good.
    ///
    /// # Cost
    /// As [`Channel::try_send`].
    #[inline(always)]
    pub fn try_send_tagged(&mut self, tag: u16, bytes: &[u8]) -> Result<Offer, SendError> {
        by_way!(
            &mut self.way,
            local => local.try_send_tagged(tag, bytes),
            remote => remote.try_send(tag, bytes, &[], true)
        )
    }

    /// As [`Channel::try_send_tagged`], but over a network the message may wait for others, until the next
    /// one that does not, or [`Channel::flush`]: the device is told once for all of them.
    ///
    /// # Errors
    /// [`SendError`], for good.
    ///
    /// # Cost
    /// As [`Channel::try_send`], without the system call where the device needs one.
    #[inline(always)]
    pub fn try_post(&mut self, tag: u16, bytes: &[u8]) -> Result<Offer, SendError> {
        by_way!(
            &mut self.way,
            local => local.try_send_tagged(tag, bytes),
            remote => remote.try_send(tag, bytes, &[], false)
        )
    }

    /// Sends what [`Channel::try_post`] let wait.
    #[inline(always)]
    pub fn flush(&mut self) {
        by_way!(&mut self.way, _local => {}, remote => remote.flush())
    }

    /// Sends two pieces of bytes as one message, if there is room; for layers that put a header before
    /// what they are given. In a slot if both fit; else the head beside a buffer, which has the rest.
    ///
    /// # Errors
    /// [`SendError`], for good: `TooLarge` for a head beyond [`crate::MAX_INLINE_WITH_FBUF`] that does not
    /// fit into a slot with the rest.
    ///
    /// # Cost
    /// As [`Channel::try_send`].
    #[inline(always)]
    pub fn try_send_parts(
        &mut self,
        tag: u16,
        head: &[u8],
        rest: &[u8],
    ) -> Result<Offer, SendError> {
        by_way!(
            &mut self.way,
            local => local.try_send_parts(tag, head, rest),
            remote => remote.try_send_parts(tag, head, rest, true)
        )
    }

    /// As [`Channel::try_send_parts`], but over a network the message may wait for others, as with
    /// [`Channel::try_post`].
    ///
    /// # Errors
    /// As [`Channel::try_send_parts`].
    ///
    /// # Cost
    /// As [`Channel::try_post`].
    #[inline(always)]
    pub fn try_post_parts(
        &mut self,
        tag: u16,
        head: &[u8],
        rest: &[u8],
    ) -> Result<Offer, SendError> {
        by_way!(
            &mut self.way,
            local => local.try_send_parts(tag, head, rest),
            remote => remote.try_send_parts(tag, head, rest, false)
        )
    }

    /// Hands a buffer over, with up to [`crate::MAX_INLINE_WITH_FBUF`] bytes beside it in the slot. The
    /// buffer is the peer's until the peer gives it back.
    ///
    /// # Errors
    /// [`SendError`], for good; the buffer is freed.
    ///
    /// # Cost
    /// One cache line, whatever the size.
    #[inline(always)]
    pub fn try_send_fbuf(
        &mut self,
        tag: u16,
        fbuf: Fbuf,
        inline: &[u8],
    ) -> Result<Offer<Fbuf>, SendError> {
        by_way!(
            &mut self.way,
            local => local.try_send_fbuf(tag, fbuf, inline),
            remote => remote.try_send_fbuf(tag, fbuf, inline)
        )
    }

    /// As [`Channel::try_send_fbuf`], and takes this process's write access to the buffer away until
    /// the peer gives it back: a stray write faults. It guards an honest originator against its own
    /// bugs; who distrusts the originator copies ([`Message::secure`]), whatever it says that it did.
    ///
    /// # Errors
    /// [`SendError`], for good; the buffer is freed. [`SendError::NotGuarded`] where the buffer is shared
    /// or does not consist of whole pages.
    ///
    /// # Cost
    /// One system call now and one when the buffer comes back: less than a copy from 1 MiB on, in
    /// buffers of whole 2 MiB pages.
    pub fn try_send_guarded(
        &mut self,
        tag: u16,
        fbuf: Fbuf,
        inline: &[u8],
    ) -> Result<Offer<Fbuf>, SendError> {
        by_way!(
            &mut self.way,
            local => local.try_send_guarded(tag, fbuf, inline),
            _remote => Err(SendError::NotGuarded)
        )
    }

    /// Hands a message over, own parts and such as other domains lent to this one, with bytes beside
    /// it in the slot. They are the peer's until it gives them back. Who passes on what came by an
    /// endpoint holds this channel in the same one ([`crate::Endpoint::connect`]): asleep for the one it
    /// would not see what comes back here, and the originator would wait for it.
    ///
    /// # Errors
    /// [`SendError`], for good; the message is freed.
    ///
    /// # Cost
    /// One cache line for every three parts, whatever the size.
    #[inline]
    pub fn try_send_message(
        &mut self,
        tag: u16,
        message: Message,
        inline: &[u8],
    ) -> Result<Offer<Message>, SendError> {
        by_way!(
            &mut self.way,
            local => local.try_send_message(tag, message, inline),
            remote => remote.try_send_message(tag, message, inline, true)
        )
    }

    /// As [`Channel::try_send_message`], but it may wait for others before it goes out, until [`Channel::flush`].
    ///
    /// # Errors
    /// As [`Channel::try_send_message`].
    ///
    /// # Cost
    /// As [`Channel::try_send_message`]; over a network, no system call of its own.
    #[inline]
    pub fn try_post_message(
        &mut self,
        tag: u16,
        message: Message,
        inline: &[u8],
    ) -> Result<Offer<Message>, SendError> {
        by_way!(
            &mut self.way,
            local => local.try_send_message(tag, message, inline),
            remote => remote.try_send_message(tag, message, inline, false)
        )
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
        by_way!(
            &mut self.way,
            local => local.send(bytes),
            remote => remote.send_waiting(bytes, None)
        )
    }

    /// As [`Channel::send`]; [`SendError::TimedOut`] if there was no room in time.
    ///
    /// # Errors
    /// [`SendError`].
    ///
    /// # Cost
    /// As [`Channel::send`].
    pub fn send_timeout(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        by_way!(
            &mut self.way,
            local => local.send_timeout(bytes, timeout),
            remote => remote.send_waiting(bytes, Some(timeout))
        )
    }

    /// Hands a buffer over; waits for room.
    ///
    /// # Errors
    /// [`SendError`]; the buffer is freed.
    ///
    /// # Cost
    /// As [`Channel::try_send_fbuf`], and the wait.
    #[inline(always)]
    pub fn send_fbuf(&mut self, tag: u16, fbuf: Fbuf, inline: &[u8]) -> Result<(), SendError> {
        by_way!(
            &mut self.way,
            local => local.send_fbuf(tag, fbuf, inline),
            remote => remote.send_message(tag, fbuf.into(), inline)
        )
    }

    /// Hands a message over; waits for room.
    ///
    /// # Errors
    /// [`SendError`]; the message is freed.
    ///
    /// # Cost
    /// As [`Channel::try_send_message`], and the wait.
    #[inline]
    pub fn send_message(
        &mut self,
        tag: u16,
        message: Message,
        inline: &[u8],
    ) -> Result<(), SendError> {
        by_way!(
            &mut self.way,
            local => local.send_message(tag, message, inline),
            remote => remote.send_message(tag, message, inline)
        )
    }

    /// Takes a buffer of this side's pool, to be written and handed over.
    ///
    /// # Errors
    /// [`AllocError`]; `Exhausted` is back-pressure.
    ///
    /// # Cost
    /// A few loads. What the peer has given back is looked at when no buffer is free that fits best;
    /// for large ones always, for the ones that came back last are in the cache.
    #[inline(always)]
    pub fn alloc(&mut self, len: usize) -> Result<FbufMut, AllocError> {
        by_way!(&mut self.way, local => local.alloc(len), remote => remote.alloc(len))
    }

    /// Takes adjacent buffers of this side's pool as one, as [`Pool::alloc_adjacent`] does.
    ///
    /// # Cost
    /// As [`Channel::alloc`].
    #[inline(always)]
    pub fn alloc_adjacent(&mut self, len: usize) -> Option<FbufMut> {
        by_way!(&mut self.way, local => local.alloc_adjacent(len), remote => remote.alloc(len).ok())
    }

    /// A message of `len` bytes in buffers of this side's pool, as [`Pool::message`] makes it.
    ///
    /// # Errors
    /// [`AllocError`]; `Exhausted` is back-pressure.
    ///
    /// # Cost
    /// As [`Channel::alloc`] for each part.
    #[inline]
    pub fn message(
        &mut self,
        headroom: usize,
        len: usize,
        fill: impl FnMut(&mut [u8]),
    ) -> Result<Message, AllocError> {
        by_way!(
            &mut self.way,
            local => local.message(headroom, len, fill),
            remote => remote.message(headroom, len, fill)
        )
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
        by_way!(
            &mut self.way,
            local => local.alloc_timeout(len, timeout),
            remote => remote.alloc_timeout(len, timeout)
        )
    }

    /// Takes a buffer of a pool of this process's own; waits until the peer has given one back, also by
    /// way of later domains. `None` if it did not in time.
    ///
    /// # Errors
    /// As [`Channel::alloc_timeout`].
    ///
    /// # Cost
    /// As [`Channel::alloc`], and the wait.
    pub fn alloc_from_timeout(
        &mut self,
        pool: &mut Pool,
        len: usize,
        timeout: Duration,
    ) -> Result<Option<FbufMut>, AllocError> {
        by_way!(
            &mut self.way,
            local => local.alloc_from_timeout(pool, len, timeout),
            _remote => pool.alloc(len).map(Some)
        )
    }
}
