//! The ring on which a receiver gives buffers back to their owner.
//!
//! It stands in the receiver's control page and holds one word a buffer: the sequence (16 bits,
//! position + 1), the buffer's index (16) and its generation (32). It has as many words as a pool
//! can have buffers, and a buffer is given back once for each time it was handed over, so it cannot
//! overflow and needs no credit.
//!
//! Buffers may be dropped by any thread of the receiver: a word is claimed by an atomic increment
//! and then written; the owner takes words in order and waits at one that is not written yet.

use crate::Fault;
use crate::geometry::{FREE_QUEUE, OwnSegment, PeerSegment};
use crate::sync::{AtomicU64, Ordering};
use crate::view::View;

/// How many returns fit.
pub const CAPACITY: usize = 256;

fn sequence(position: u64) -> u16 {
    (position as u16).wrapping_add(1)
}

/// Makes the queue empty, before its descriptor leaves the process.
pub(crate) fn clear(words: &[AtomicU64]) {
    for (index, word) in words.iter().enumerate() {
        let before = sequence(index as u64).wrapping_sub(CAPACITY as u16);
        word.store(u64::from(before) << 48, Ordering::Relaxed);
    }
}

/// The receiver's end.
pub struct Returns {
    words: View<AtomicU64>,
    tail: AtomicU64,
}

impl Returns {
    /// Takes the returning end, in this process's own segment.
    pub fn attach(own: &OwnSegment) -> Self {
        Self::new(own.cells(FREE_QUEUE, CAPACITY))
    }

    pub(crate) fn new(words: View<AtomicU64>) -> Self {
        Self { words, tail: AtomicU64::new(0) }
    }

    /// Gives a buffer back. Each buffer at most once for each time it was received.
    ///
    /// # Cost
    /// One locked instruction and one store.
    #[inline]
    pub fn push(&self, index: u16, generation: u32) {
        let position = self.tail.fetch_add(1, Ordering::Relaxed);
        let word =
            u64::from(sequence(position)) << 48 | u64::from(index) << 32 | u64::from(generation);
        // PAIRS: free.publish with `Reclaims::try_pop`. Also orders the receiver's reads of the
        // buffer before its owner's next writes.
        self.words[position as usize % CAPACITY].store(word, Ordering::Release);
    }
}

/// The owner's end.
pub struct Reclaims {
    words: View<AtomicU64>,
    next: u64,
}

impl Reclaims {
    /// Takes the owner's end, in the peer's segment.
    pub fn attach(peer: &PeerSegment) -> Self {
        Self::new(peer.cells(FREE_QUEUE, CAPACITY))
    }

    pub(crate) fn new(words: View<AtomicU64>) -> Self {
        Self { words, next: 0 }
    }

    /// Takes the next returned buffer: its index and generation as the peer wrote them, unchecked.
    ///
    /// # Errors
    /// [`Fault::FreeSequence`]; the queue is of no more use then.
    #[inline]
    pub fn try_pop(&mut self) -> Result<Option<(u16, u32)>, Fault> {
        // PAIRS: free.publish with `Returns::push`. The only load of this word.
        let word = self.words[self.next as usize % CAPACITY].load(Ordering::Acquire);
        let found = (word >> 48) as u16;
        let expected = sequence(self.next);
        if found == expected {
            self.next += 1;
            return Ok(Some(((word >> 32) as u16, word as u32)));
        }
        if found == expected.wrapping_sub(CAPACITY as u16) {
            return Ok(None);
        }
        Err(Fault::FreeSequence)
    }

    /// Whether a returned buffer, or nonsense, is there to be taken.
    #[inline]
    pub fn is_ready(&self) -> bool {
        let word = self.words[self.next as usize % CAPACITY].load(Ordering::Relaxed);
        (word >> 48) as u16 != sequence(self.next).wrapping_sub(CAPACITY as u16)
    }
}

/// An empty queue on the heap, for models and tests.
#[cfg(any(test, loom))]
pub(crate) fn on_heap() -> std::sync::Arc<Vec<AtomicU64>> {
    let words: Vec<AtomicU64> = (0..CAPACITY).map(|_| AtomicU64::new(0)).collect();
    clear(&words);
    std::sync::Arc::new(words)
}
