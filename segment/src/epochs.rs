//! How often each buffer of a region was revoked: one word a buffer, in the region's control pages.
//!
//! A descriptor carries the low bits of its buffer's epoch, from which the receiver makes the whole
//! one. It compares that with the word of now, after each copy out: when the originator took the buffer
//! back meanwhile, the copy is thrown away. The words are written at revocations only, so that the
//! comparison stays in the cache.

use crate::geometry::{EPOCHS, MAX_BUFFERS, OwnSegment, PeerSegment};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::view::View;

/// The originator's end.
pub struct Epochs {
    words: View<AtomicU64>,
}

impl std::fmt::Debug for Epochs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Epochs")
    }
}

impl Epochs {
    /// Takes the writing end, in this process's own segment.
    pub fn attach(own: &OwnSegment) -> Self {
        Self { words: own.cells(EPOCHS, MAX_BUFFERS) }
    }

    /// The epoch of a buffer, as it stands in descriptors.
    #[inline(always)]
    pub fn of(&self, index: usize) -> u16 {
        self.words[index].load(Ordering::Relaxed) as u16
    }

    /// Revokes a buffer: whoever reads it from now on learns it.
    pub fn advance(&self, index: usize) {
        // A buffer can be lent by the channels of several threads.
        self.words[index].fetch_add(1, Ordering::Relaxed);
        // PAIRS: epochs.revoke with `PeerEpochs::is`: before the next writes of the buffer.
        fence(Ordering::Release);
    }
}

/// A reader's end.
pub struct PeerEpochs {
    words: View<AtomicU64>,
}

impl PeerEpochs {
    /// Takes a reading end, in a peer's segment.
    pub fn attach(peer: &PeerSegment) -> Self {
        Self { words: peer.cells(EPOCHS, MAX_BUFFERS) }
    }

    /// The whole epoch that a descriptor means: the last one, up to that of now, which ends as it does.
    /// Whoever holds a buffer for long is thereby told of a revocation after any number of others.
    #[inline(always)]
    pub fn meant(&self, index: usize, epoch: u16) -> u32 {
        let now = self.words[index].load(Ordering::Relaxed) as u32;
        now.wrapping_sub(u32::from((now as u16).wrapping_sub(epoch)))
    }

    /// An epoch as it stands in descriptors; of one that is over, such that it is seen to be.
    #[inline(always)]
    pub fn passed_on(&self, index: usize, epoch: u32) -> u16 {
        let now = self.words[index].load(Ordering::Relaxed) as u32;
        if now == epoch { epoch as u16 } else { (now as u16).wrapping_sub(1) }
    }

    /// Whether a buffer is still in this epoch: what was read of it before is of that epoch then.
    #[inline(always)]
    pub fn is(&self, index: usize, epoch: u32) -> bool {
        // PAIRS: epochs.revoke with `Epochs::advance`: after the reads of the buffer.
        fence(Ordering::Acquire);
        self.words[index].load(Ordering::Relaxed) as u32 == epoch
    }
}
