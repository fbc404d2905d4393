//! The copying way: a mempool whose packets have bytes of their own, in DPDK's memory, for ports that cannot use the
//! memory of the device's pool. What arrives there is copied once into a buffer of the pool, what is to be sent once
//! into a packet, and both are counted.
//!
//! # Invariants
//!
//! 1. A packet that was made here is in nobody's hands but the maker's, until it is handed to the port or freed.
//! 2. The mempool is freed when every packet is back in it; or when the port is closed and its driver forgets what it
//!    had ([`Manner::forgets`]). Else it stays.

use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk_sys as sys;
use fbufs::Fbuf;
use unet::device::{Count, Piece};

use crate::device::{BURST, DpdkPort, RECEIVE_HEADROOM};
use crate::eal;
use crate::error::Error;
use crate::manner::Manner;
use crate::mbufs::Mbuf;

/// How many mempools there were: each has a name of its own.
static NAMES: AtomicU64 = AtomicU64::new(0);

/// A mempool of packets with bytes.
pub(crate) struct Packets {
    mempool: *mut sys::rte_mempool,
    count: u32,
    forgets: bool,
}

impl Packets {
    /// For a port with rings of so many entries, and packets of as many bytes as a buffer has.
    pub fn new(manner: Manner, ring: u16, buffer_bytes: usize, socket: i32) -> Result<Self, Error> {
        let count = Self::count(manner, ring);
        let room = u16::try_from(buffer_bytes + RECEIVE_HEADROOM)
            .map_err(|_| Error::Unsupported("its buffers are larger than 65,407 bytes"))?;
        let name = format!("unet-own-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: the name lives for the call, which copies it.
        let mempool = unsafe { sys::unet_packets(name.as_ptr(), count, room, socket) };
        if mempool.is_null() {
            return Err(Error::Memory(eal::said()));
        }
        let packets = Self { mempool, count, forgets: manner.forgets };
        // SAFETY: it was made just now, and nobody changes its description.
        if manner.packets > 0 && unsafe { (*mempool).nb_mem_chunks } != 1 {
            packets.free();
            return Err(Error::Memory(eal::said()));
        }
        Ok(packets)
    }

    /// How many a port needs.
    pub fn count(manner: Manner, ring: u16) -> u32 {
        (manner.packets + 2 * (usize::from(ring) + BURST)) as u32
    }

    /// The mempool, for a port to take from.
    pub fn mempool(&self) -> *mut sys::rte_mempool {
        self.mempool
    }

    /// A packet of these pieces, if one is free and has room.
    fn copy<'a>(&self, len: usize, pieces: impl Iterator<Item = &'a [u8]>) -> Option<Mbuf> {
        let mut mbuf = std::ptr::null_mut();
        let len = u16::try_from(len).ok()?;
        // SAFETY: the mempool is there as long as this is.
        let bytes = unsafe { sys::unet_make(self.mempool, len, &mut mbuf) };
        if bytes.is_null() {
            return None;
        }
        // SAFETY: it has room for so many bytes, which are nobody else's (invariant 1).
        let mut rest = unsafe { std::slice::from_raw_parts_mut(bytes.cast::<u8>(), len.into()) };
        for piece in pieces {
            let (here, behind) = rest.split_at_mut_checked(piece.len())?;
            here.copy_from_slice(piece);
            rest = behind;
        }
        Some(mbuf)
    }

    /// Frees the mempool, once the port is closed. Whether it did not have to stay.
    pub fn free(self) -> bool {
        // SAFETY: the mempool is there.
        let is_whole = unsafe { sys::rte_mempool_avail_count(self.mempool) } == self.count;
        if is_whole || self.forgets {
            // SAFETY: invariant 2.
            unsafe { sys::rte_mempool_free(self.mempool) };
        }
        is_whole || self.forgets
    }
}

impl DpdkPort {
    /// Copies the first frame, of so many pieces and bytes, into a packet, which goes into the queue. `false` if there
    /// is none: then it is in `frames` as before.
    pub(crate) fn put_copy(
        &mut self,
        frames: &mut VecDeque<Piece<Fbuf>>,
        pieces: usize,
        len: usize,
    ) -> bool {
        let Some(packets) = &self.packets else { return false };
        let bytes = frames.iter().take(pieces).map(|piece| &piece.bytes[..]);
        let Some(mbuf) = packets.copy(len, bytes) else { return false };
        self.queue.push(mbuf);
        frames.drain(..pieces).for_each(|piece| self.pool.recycle(piece.bytes));
        self.counts.add(Count::Sent, 1);
        self.counts.add(Count::SentBytes, len as u64);
        self.counts.add(Count::Copied, 1);
        true
    }
}
