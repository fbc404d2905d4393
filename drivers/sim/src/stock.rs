//! A device's buffers: its pool, and the ones that stand ready for what arrives.

use std::collections::VecDeque;

use fbufs::{Class, Fbuf, FbufMut, Pool};
use unet::device::{Capabilities, Count, Mode, OpenError, Piece, Statistics};

/// What a simulated device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceOptions {
    /// The most bytes: of a frame behind its Ethernet header, or of a datagram's payload. The network's
    /// may be less.
    pub mtu: usize,
    /// How many buffers its pool has.
    pub buffers: u32,
    /// The bytes of each: a multiple of 64.
    pub buffer_bytes: u32,
    /// How many of them stand ready for what arrives.
    pub stock: usize,
    /// The most packets that one call receives.
    pub burst: usize,
    /// The most packets that wait in the device to be received; and the most of its own that are under way
    /// when it takes another.
    pub queue: usize,
    /// The most pieces of a packet.
    pub pieces: usize,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self {
            mtu: 1500,
            buffers: 256,
            buffer_bytes: 2048,
            stock: 128,
            burst: 32,
            queue: 512,
            pieces: 1,
        }
    }
}

impl DeviceOptions {
    pub(crate) fn capabilities(&self, mtu: usize) -> Capabilities {
        Capabilities {
            mode: Mode::Simulated,
            mtu: mtu.min(self.mtu),
            headroom: 0,
            piece_bytes: self.buffer_bytes as usize,
            pieces: self.pieces,
            burst: self.burst,
            stock: self.stock.min(self.buffers as usize),
        }
    }

    /// Checks that it is a device, whose packets have so many bytes at most.
    pub(crate) fn check(&self, longest: usize) -> Result<(), OpenError> {
        let bad = OpenError::BadValue;
        if self.burst == 0 || self.stock == 0 || self.pieces == 0 || self.queue == 0 {
            return Err(bad("a device with a burst, a stock, a queue and pieces of one at least"));
        }
        if (self.buffer_bytes as usize).saturating_mul(self.pieces) < longest {
            return Err(bad("an MTU whose packets fit into the buffers, or into several"));
        }
        Ok(())
    }
}

/// See the module.
pub(crate) struct Stock {
    pub pool: Pool,
    ready: Vec<FbufMut>,
    most: usize,
    piece_bytes: usize,
}

impl Stock {
    pub fn new(options: &DeviceOptions) -> Result<Self, OpenError> {
        let class = Class { buffer_bytes: options.buffer_bytes, buffers: options.buffers };
        let wrong = OpenError::BadValue("buffers of a multiple of 64 bytes, up to 1 GiB in all");
        let pool = Pool::for_device(class, false).map_err(|_| wrong)?;
        pool.seal().map_err(|_| wrong)?;
        let most = options.stock.min(options.buffers as usize);
        let piece_bytes = options.buffer_bytes as usize;
        let mut stock = Self { pool, ready: Vec::with_capacity(most), most, piece_bytes };
        stock.refill();
        Ok(stock)
    }

    /// Fills up from the pool; how many stand ready.
    pub fn refill(&mut self) -> usize {
        while self.ready.len() < self.most {
            let Ok(buffer) = self.pool.alloc(self.piece_bytes) else { break };
            self.ready.push(buffer);
        }
        self.ready.len()
    }

    /// How many buffers a packet takes.
    pub fn pieces_of(len: usize, piece_bytes: usize) -> usize {
        len.div_ceil(piece_bytes.max(1)).max(1)
    }

    /// Writes a packet into buffers, and hands these over. `false`, and nothing is, if not as many stand
    /// ready.
    pub fn land(&mut self, bytes: &[u8], mut hand: impl FnMut(Piece<FbufMut>)) -> bool {
        let pieces = Self::pieces_of(bytes.len(), self.piece_bytes);
        let Some(left) = self.ready.len().checked_sub(pieces) else { return false };
        let mut rest = bytes;
        for mut buffer in self.ready.drain(left..) {
            let (part, after) = rest.split_at(rest.len().min(self.piece_bytes));
            if buffer.set_range(0..part.len()) {
                buffer.copy_from_slice(part);
            }
            rest = after;
            hand(Piece { bytes: buffer, more: !rest.is_empty() });
        }
        true
    }

    /// Why the packet that stands first cannot be sent, if so: of some pieces, at most so long, and not
    /// shorter than a header.
    pub fn refusal<'a>(
        &self,
        pieces: impl Iterator<Item = &'a Fbuf>,
        most: usize,
        lengths: std::ops::RangeInclusive<usize>,
    ) -> Option<Count> {
        let (mut count, mut len, mut own) = (0, 0, true);
        for piece in pieces {
            count += 1;
            len += piece.len();
            own &= self.pool.owns(piece);
        }
        match () {
            () if !own || count > most || len < *lengths.start() => Some(Count::Malformed),
            () if len > *lengths.end() => Some(Count::TooLong),
            () => None,
        }
    }

    /// Takes a packet's bytes out of its buffers, which are free thereby.
    pub fn take(&mut self, pieces: impl Iterator<Item = Fbuf>, into: &mut Vec<u8>) {
        for piece in pieces {
            into.extend_from_slice(&piece);
            self.pool.recycle(piece);
        }
    }
}

/// How many pieces the first packet of a queue has, if it is there whole.
pub(crate) fn first_packet<P>(queue: &VecDeque<P>, more: impl Fn(&P) -> bool) -> Option<usize> {
    queue.iter().position(|piece| !more(piece)).map(|last| last + 1)
}

/// Counts a packet and its bytes.
pub(crate) fn count(said: &mut Statistics, packets: Count, bytes: Count, len: usize) {
    said.add(packets, 1);
    said.add(bytes, len as u64);
}
