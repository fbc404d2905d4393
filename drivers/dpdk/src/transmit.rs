//! The way of a frame out: from the caller's buffers into mbufs, and to the port.

use std::collections::VecDeque;
use std::ptr;

use dpdk_sys as sys;
use fbufs::Fbuf;
use unet::device::held::First;
use unet::device::{Count, Piece};

use crate::device::{BURST, DpdkPort, ETHERNET, MAX_PIECES, segment};
use crate::mbufs::Mbuf;

impl DpdkPort {
    /// Hands over what waits. Whether the port took all of it.
    #[inline]
    pub(crate) fn flush(&mut self) -> bool {
        let mut gone = 0;
        while gone < self.queue.len() {
            let packets = &mut self.queue[gone..];
            let count = packets.len().min(BURST) as u16;
            let taken = self.port.burst_soon(|id| {
                // SAFETY: device, invariant 1: each packet's mbufs were out, and are the port's now, as many as it takes.
                unsafe { sys::unet_transmit(id, 0, packets.as_mut_ptr(), count) }
            });
            let taken = taken.unwrap_or(0).min(count);
            gone += usize::from(taken);
            if taken < count {
                self.queue.drain(..gone);
                return false;
            }
        }
        self.queue.clear();
        true
    }

    /// Lets go of what the port did not take before its link went down: it would be stale when that is back.
    #[cold]
    pub(crate) fn drop_queue(&mut self) {
        for mbuf in self.queue.drain(..) {
            let mut len = 0;
            let mut next = mbuf;
            for _ in 0..MAX_PIECES {
                let of = segment(next);
                len += u64::from(of.len);
                next = of.next;
                if next.is_null() {
                    break;
                }
            }
            self.counts.add(Count::Failed, 1);
            self.counts.add(Count::Sent, 0u64.wrapping_sub(1));
            self.counts.add(Count::SentBytes, 0u64.wrapping_sub(len));
            // SAFETY: it is out, and not any more.
            unsafe { sys::unet_free(mbuf) };
        }
    }

    /// Whether a piece lies in one buffer of this device, and has bytes at all.
    #[inline(always)]
    fn can_carry(&self, fbuf: &Fbuf) -> bool {
        let range = fbuf.range();
        let room = self.registered.memory().buffer_bytes;
        range.start < range.end
            && range.end <= room
            && self.places.has(fbuf.number(), range.start, fbuf)
    }

    /// Puts a frame into the queue, of which this is the first piece, or drops it: `false` if there is no room, and
    /// all of it is in `frames`.
    #[inline(always)]
    pub(crate) fn put(&mut self, first: Piece<Fbuf>, frames: &mut VecDeque<Piece<Fbuf>>) -> bool {
        let len = first.bytes.range().len();
        if !first.more
            && (ETHERNET..=self.longest).contains(&len)
            && self.can_carry(&first.bytes)
            && let Some(number) = self.idle.pop()
        {
            let mbuf = self.fill(number, first.bytes);
            self.queue.push(mbuf);
            self.counts.add(Count::Sent, 1);
            self.counts.add(Count::SentBytes, len as u64);
            return true;
        }
        self.put_pieces(first, frames)
    }

    /// An mbuf of this number becomes a segment, of a piece that this device can carry.
    #[inline(always)]
    fn fill(&mut self, number: u32, bytes: Fbuf) -> Mbuf {
        let number = number as usize;
        let mbuf = self.tables().transmit.fill(number, bytes.number(), bytes.range());
        self.sent[number] = Some(bytes);
        mbuf
    }

    /// As [`DpdkPort::put`], of a frame in several pieces, or one that may be wrong, or to be copied.
    #[inline(never)]
    fn put_pieces(&mut self, first: Piece<Fbuf>, frames: &mut VecDeque<Piece<Fbuf>>) -> bool {
        frames.push_front(first);
        let First { pieces, len, is_whole } = First::of(frames);
        let carried = frames.iter().take(pieces).all(|piece| self.can_carry(&piece.bytes));
        let wrong = if !is_whole || pieces > self.pieces() || !carried || len < ETHERNET {
            Some(Count::Malformed)
        } else if len > self.longest {
            Some(Count::TooLong)
        } else {
            None
        };
        if let Some(count) = wrong {
            self.counts.add(count, 1);
            frames.drain(..pieces).for_each(|piece| self.pool.recycle(piece.bytes));
            return true;
        }
        if self.idle.len() < pieces {
            return self.put_copy(frames, pieces, len);
        }
        let (mut head, mut last): (Mbuf, Mbuf) = (ptr::null_mut(), ptr::null_mut());
        for piece in frames.drain(..pieces) {
            let Some(number) = self.idle.pop() else { break };
            let mbuf = self.fill(number, piece.bytes);
            if head.is_null() {
                head = mbuf;
            } else {
                // SAFETY: the mbufs are out (device, invariant 1).
                unsafe { sys::unet_chain(head, last, mbuf) };
            }
            last = mbuf;
        }
        self.queue.push(head);
        self.counts.add(Count::Sent, 1);
        self.counts.add(Count::SentBytes, len as u64);
        true
    }
}
