//! How often each buffer of a region was revoked: one word a buffer, in the region's control pages.
//!
//! A descriptor carries the epoch of its buffer. Whoever has mapped the region compares it with the
//! word of now, after each copy out: when the originator took the buffer back meanwhile, the copy is
//! thrown away. The words are written at revocations only, so that the comparison stays in the cache.

use crate::geometry::{EPOCHS, MAX_BUFFERS, OwnSegment, PeerSegment};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::view::View;

/// How many epochs a buffer has. One that has used them up is not handed out again.
pub const LAST: u16 = u16::MAX;

/// The originator's end.
pub struct Epochs {
    words: View<AtomicU64>,
}

impl Epochs {
    /// Takes the writing end, in this process's own segment.
    pub fn attach(own: &OwnSegment) -> Self {
        Self { words: own.cells(EPOCHS, MAX_BUFFERS) }
    }

    /// The epoch of a buffer.
    #[inline(always)]
    pub fn of(&self, index: usize) -> u16 {
        self.words[index].load(Ordering::Relaxed) as u16
    }

    /// Revokes a buffer: whoever reads it from now on learns it. `false` if that was its last epoch.
    pub fn advance(&self, index: usize) -> bool {
        let next = self.of(index).saturating_add(1);
        self.words[index].store(u64::from(next), Ordering::Relaxed);
        // PAIRS: epochs.revoke with `PeerEpochs::is`: before the next writes of the buffer.
        fence(Ordering::Release);
        next < LAST
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

    /// Whether a buffer is still in this epoch: what was read of it before is of that epoch then.
    #[inline(always)]
    pub fn is(&self, index: usize, epoch: u16) -> bool {
        // PAIRS: epochs.revoke with `Epochs::advance`: after the reads of the buffer.
        fence(Ordering::Acquire);
        self.words[index].load(Ordering::Relaxed) as u16 == epoch
    }
}
