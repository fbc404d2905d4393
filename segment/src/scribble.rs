//! Raw writes to one's own segment, to play the hostile peer. For tests: behind the feature `hostile`.
//!
//! Whatever is written here, the peer must survive. It is not for a process that uses the segment in
//! earnest: its own queues and pools would be overwritten under it.

use crate::geometry::OwnSegment;
use crate::sync::{AtomicU64, Ordering};
use crate::view::View;

/// Every word of a segment of this process, from the header to the last buffer.
pub struct Scribbler {
    words: View<AtomicU64>,
}

impl Scribbler {
    /// Takes the segment's words. Nothing else of the segment may be used besides, but its
    /// descriptor and the reading ends that stand in the peer's segment.
    pub fn over(own: &OwnSegment) -> Self {
        Self { words: own.cells(0, own.geometry().total_bytes() / 8) }
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Never: a segment has at least a page.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The word at a byte offset, which is rounded down to a word.
    pub fn load(&self, offset: usize) -> u64 {
        self.words[offset / 8].load(Ordering::Acquire)
    }

    /// Writes the word at a byte offset, which is rounded down to a word.
    pub fn store(&self, offset: usize, value: u64) {
        self.words[offset / 8].store(value, Ordering::Release);
    }
}
