//! Sending: frames into the transmit ring, the kernel told, buffers taken back. See `device` for whose
//! buffers are whose, and when.

use std::collections::VecDeque;

use fbufs::Fbuf;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use unet::device::{Count, DeviceError, Mode, Piece};

use crate::AfXdp;
use crate::open::ETHERNET;
use crate::rings::{CONTINUED, Descriptor, Overrun};
use unet::device::held::{Fault, First};

impl AfXdp {
    /// Takes back what was sent.
    #[inline(always)]
    pub(crate) fn reap(&mut self) {
        if self.sending.count() == 0 {
            return;
        }
        let done = match self.rings.completion.available() {
            Ok(0) => return,
            Ok(done) => done,
            Err(Overrun) => return self.counts.add(Count::Fault, 1),
        };
        for _ in 0..done {
            match self.sending.done(self.rings.completion.take()) {
                Ok(Some(fbuf)) => self.pool.recycle(fbuf),
                Ok(None) => {}
                Err(Fault) => self.counts.add(Count::Fault, 1),
            }
        }
        self.rings.completion.release();
    }

    /// Whether a frame of one piece is one that can be sent.
    #[inline(always)]
    pub(crate) fn can_send(&self, fbuf: &Fbuf) -> bool {
        (ETHERNET..=self.longest).contains(&fbuf.range().len()) && self.can_carry(fbuf)
    }

    /// Puts a frame of one piece that can be sent into the ring, which has room.
    #[inline(always)]
    pub(crate) fn put(&mut self, fbuf: Fbuf) {
        let len = fbuf.range().len();
        let address = self.sending.hold(fbuf);
        self.rings.transmit.put(Descriptor { address, len: len as u32, options: 0 });
        self.counts.add(Count::Sent, 1);
        self.counts.add(Count::SentBytes, len as u64);
    }

    /// As [`AfXdp::put`], or drops it.
    #[inline(always)]
    pub(crate) fn put_or_drop(&mut self, fbuf: Fbuf) {
        if self.can_send(&fbuf) {
            return self.put(fbuf);
        }
        let is_frame = fbuf.range().len() >= ETHERNET && self.can_carry(&fbuf);
        self.counts.add(if is_frame { Count::TooLong } else { Count::Malformed }, 1);
        self.pool.recycle(fbuf);
    }

    /// Whether a piece lies in one registered buffer, and has bytes at all.
    #[inline(always)]
    fn can_carry(&self, fbuf: &Fbuf) -> bool {
        let range = fbuf.range();
        range.start < range.end && range.end <= self.buffer_bytes && self.sending.has(fbuf)
    }

    /// Puts a frame into the ring, of which this is the first piece, or drops it: `false` if there is no
    /// room, and all of it is in `frames`.
    #[cold]
    pub(crate) fn put_pieces(
        &mut self,
        first: Piece<Fbuf>,
        frames: &mut VecDeque<Piece<Fbuf>>,
    ) -> bool {
        frames.push_front(first);
        let First { pieces, len, is_whole } = First::of(frames);
        let carried = frames.iter().take(pieces).all(|piece| self.can_carry(&piece.bytes));
        let wrong = if !is_whole || pieces > self.binding.pieces || !carried || len < ETHERNET {
            Some(Count::Malformed)
        } else if len > self.longest {
            Some(Count::TooLong)
        } else {
            None
        };
        if wrong.is_none() && (self.rings.transmit.room(pieces as u32) as usize) < pieces {
            return false;
        }
        for piece in frames.drain(..pieces) {
            if wrong.is_some() {
                self.pool.recycle(piece.bytes);
                continue;
            }
            let len = piece.bytes.len() as u32;
            let options = if piece.more { CONTINUED } else { 0 };
            let address = self.sending.hold(piece.bytes);
            self.rings.transmit.put(Descriptor { address, len, options });
        }
        match wrong {
            Some(count) => self.counts.add(count, 1),
            None => {
                self.counts.add(Count::Sent, 1);
                self.counts.add(Count::SentBytes, len as u64);
            }
        }
        true
    }

    /// Has the kernel send what is in the ring. What it cannot send now stays there.
    pub(crate) fn kick(&mut self) {
        self.unsent = false;
        self.rings.transmit.publish();
        if !self.rings.transmit.needs_wakeup() {
            return;
        }
        match self.wake() {
            Ok(()) => self.kicked_well(),
            Err(errno) => self.kick_again(errno),
        }
    }

    #[inline(always)]
    fn wake(&mut self) -> Result<(), Errno> {
        self.counts.add(Count::Kicks, 1);
        send(&self.socket, &[], SendFlags::DONTWAIT).map(|_| ())
    }

    #[inline(always)]
    fn kicked_well(&mut self) {
        self.kicked = Ok(());
        self.unsent = self.binding.mode != Mode::ZeroCopy && self.rings.transmit.waiting() > 0;
    }

    /// Goes on where a kick came back with an error.
    #[cold]
    fn kick_again(&mut self, errno: Errno) {
        let copies = self.binding.mode != Mode::ZeroCopy;
        let mut before = u32::MAX;
        let mut known = Some(Err(errno));
        // Each round takes something out of the ring, or is the last.
        for _ in 0..=self.binding.rings.transmit {
            let waits = match known.take().unwrap_or_else(|| self.wake()) {
                Ok(()) => return self.kicked_well(),
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => self.rings.transmit.waiting(),
                // Where the kernel copies: it took one frame out, and the interface dropped it.
                Err(Errno::BUSY) if copies => {
                    self.upkeep.failed += 1;
                    before = u32::MAX;
                    self.rings.transmit.waiting()
                }
                Err(Errno::BUSY) => self.rings.transmit.waiting(),
                Err(errno) => return self.kick_failed(errno),
            };
            if waits == 0 {
                return;
            }
            if waits >= before {
                break;
            }
            before = waits;
        }
        self.unsent = true;
    }

    #[cold]
    fn kick_failed(&mut self, errno: Errno) {
        self.unsent = true;
        self.kicked = Err(match errno {
            Errno::NETDOWN => DeviceError::Down,
            Errno::NXIO | Errno::NODEV | Errno::BADF => DeviceError::Gone,
            errno => DeviceError::Kernel(errno),
        });
    }
}
