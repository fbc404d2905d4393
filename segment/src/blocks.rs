//! Unique tokens for the buffers of a region.
//!
//! A [`Block`] is the right to read and write one buffer. Tokens are made once, one a buffer, and
//! move; who holds the token owns the bytes. A token that is dropped leaves its index with the
//! [`Dropped`] of its set, which mints it again.
//!
//! # Invariants
//!
//! 1. At any moment a buffer has one token, or one bit in [`Dropped`], and never both.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::OwnBytes;

/// The tokens of a region that were dropped, from any thread.
#[derive(Debug)]
pub struct Dropped {
    bits: Box<[AtomicU64]>,
    memory: OwnBytes,
    buffer_bytes: usize,
}

/// Exclusive access to one buffer.
#[derive(Debug)]
pub struct Block {
    region: Arc<Dropped>,
    index: u32,
}

/// Divides a region into buffers of equal size: the register of dropped tokens, and the tokens.
/// Bytes that do not fill a buffer stay unused.
pub fn divide(memory: OwnBytes, buffer_bytes: usize) -> (Arc<Dropped>, Vec<Block>) {
    let count = memory.len().checked_div(buffer_bytes).unwrap_or(0);
    let bits = (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
    let region = Arc::new(Dropped { bits, memory, buffer_bytes });
    // Highest first, so that a pool that takes from the end begins with the first.
    let token = |index| Block { region: region.clone(), index: index as u32 };
    let tokens = (0..count).rev().map(token).collect();
    (region, tokens)
}

impl Dropped {
    /// Mints the tokens that were dropped and passes each to `keep`.
    ///
    /// # Cost
    /// A load a 64 buffers; a locked instruction only where something was dropped.
    pub fn recover(self: &Arc<Self>, mut keep: impl FnMut(Block)) {
        for (word, bits) in self.bits.iter().enumerate() {
            if bits.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // PAIRS: blocks.drop with `Block::drop`. The swap takes each bit once (invariant 1).
            let mut dropped = bits.swap(0, Ordering::Acquire);
            while dropped != 0 {
                let index = word * 64 + dropped.trailing_zeros() as usize;
                dropped &= dropped - 1;
                keep(Block { region: self.clone(), index: index as u32 });
            }
        }
    }
}

impl Block {
    /// Its number within the region.
    #[inline(always)]
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// Whether it is one of a region's.
    #[inline(always)]
    pub fn is_of(&self, region: &Arc<Dropped>) -> bool {
        Arc::ptr_eq(&self.region, region)
    }

    fn base(&self) -> *mut u8 {
        let size = self.region.buffer_bytes;
        self.region.memory.at(self.index() * size, size).as_ptr()
    }
}

impl Deref for Block {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer lies in the region, which lives as long as this; the token is the only
        // way to its bytes (invariant 1), and the peer's mapping of them is read-only.
        unsafe { std::slice::from_raw_parts(self.base(), self.region.buffer_bytes) }
    }
}

impl DerefMut for Block {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is the only borrow of the token.
        unsafe { std::slice::from_raw_parts_mut(self.base(), self.region.buffer_bytes) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // PAIRS: blocks.drop with `Dropped::recover`.
        let bit = 1 << (self.index() % 64);
        self.region.bits[self.index() / 64].fetch_or(bit, Ordering::Release);
    }
}
