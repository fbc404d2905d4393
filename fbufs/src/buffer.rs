//! The owner's handles: one that writes, and clones of one that reads.

use std::ops::{Deref, DerefMut, Range};

use segment::blocks::{Block, Shared};

/// A buffer of this process: unique and writable. Dropping it frees it.
#[derive(Debug)]
pub struct FbufMut {
    block: Block,
    /// The part that counts: a buffer's size fits, by `MAX_BUFFER_BYTES`.
    start: u32,
    end: u32,
}

/// A buffer of this process, or a part of one: no longer written, ready to be handed over.
///
/// Cloning and slicing share the buffer; it is free when the last handle is dropped and the last
/// receiver has given it back.
#[derive(Clone, Debug)]
pub struct Fbuf {
    block: Shared,
    start: u32,
    end: u32,
}

impl FbufMut {
    #[inline(always)]
    pub(crate) fn new(block: Block, start: usize, len: usize) -> Self {
        Self { block, start: start as u32, end: (start + len) as u32 }
    }

    /// Ends writing.
    #[inline(always)]
    pub fn freeze(self) -> Fbuf {
        Fbuf { block: self.block.share(), start: self.start, end: self.end }
    }

    /// Shortens it to `len` bytes; no effect if it is not longer.
    pub fn truncate(&mut self, len: usize) {
        let len = len.min(self.len());
        self.end = self.start + len as u32;
    }

    /// How many bytes could be put before it.
    pub fn headroom(&self) -> usize {
        self.start as usize
    }

    /// Its number among the buffers of its class, in the order of their addresses.
    #[inline(always)]
    pub fn number(&self) -> usize {
        self.block.index()
    }

    /// How many bytes the buffer has, whichever part of them counts.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        self.block.len()
    }

    /// Has the CPU fetch its first bytes, up to 256, where somebody else has written them.
    #[inline(always)]
    pub fn prefetch(&self) {
        self.block.prefetch(self.start as usize..self.end as usize);
    }

    /// Chooses the part of the buffer that counts, as when a device has written there. `false`, and
    /// nothing changes, if it is outside.
    #[inline(always)]
    #[must_use]
    pub fn set_range(&mut self, range: Range<usize>) -> bool {
        let fits = range.start <= range.end && range.end <= self.capacity();
        if fits {
            (self.start, self.end) = (range.start as u32, range.end as u32);
        }
        fits
    }
}

impl Fbuf {
    pub(crate) fn of(block: Shared, start: u32, len: u32) -> Self {
        Self { block, start, end: start + len }
    }

    /// A part of it, which shares the buffer. `None` if the range is outside.
    ///
    /// # Cost
    /// Two locked instructions.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let mut part = self.clone();
        part.end = self.start + range.end as u32;
        part.start = self.start + range.start as u32;
        Some(part)
    }

    /// Splits the first `at` bytes off; both parts share the buffer. `None`, and nothing happens, if
    /// there are not as many.
    ///
    /// # Cost
    /// As [`Fbuf::slice`].
    #[must_use]
    pub fn split_to(&mut self, at: usize) -> Option<Self> {
        let front = self.slice(0..at)?;
        self.start += at as u32;
        Some(front)
    }

    /// Whether no other handle shares the buffer and no receiver holds it.
    pub fn is_unique(&self) -> bool {
        self.block.is_unique()
    }

    /// The buffer to be written again, if no other handle shares it.
    ///
    /// # Errors
    /// Itself, if it is shared.
    pub fn try_into_mut(self) -> Result<FbufMut, Self> {
        let Self { block, start, end } = self;
        match block.try_unshare() {
            Ok(block) => Ok(FbufMut { block, start, end }),
            Err(block) => Err(Self { block, start, end }),
        }
    }

    /// The number of its buffer among those of its class, in the order of their addresses.
    #[inline(always)]
    pub fn number(&self) -> usize {
        self.block.index()
    }

    /// Which part of its buffer it is.
    #[inline(always)]
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Where it begins in its buffer, and how many bytes it has.
    #[inline(always)]
    pub(crate) fn place(&self) -> (u32, u32) {
        (self.start, self.end - self.start)
    }

    #[inline(always)]
    pub(crate) fn block(&self) -> &Shared {
        &self.block
    }

    #[inline(always)]
    pub(crate) fn into_block(self) -> Shared {
        self.block
    }

    #[inline(always)]
    pub(crate) fn len_fast(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Drops bytes in front, which must be there.
    #[inline(always)]
    pub(crate) fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.len_fast(), "the caller has checked");
        self.start = self.start.saturating_add(count as u32).min(self.end);
    }

    /// Keeps the first bytes only.
    #[inline(always)]
    pub(crate) fn keep(&mut self, len: usize) {
        self.end = self.end.min(self.start + len as u32);
    }

    /// Bytes that a header could be written to: none where others share the buffer.
    #[inline(always)]
    pub fn headroom(&self) -> usize {
        if self.block.is_unique() { self.start as usize } else { 0 }
    }

    /// Copies a header out of its first bytes, and drops them. `false`, and nothing dropped, if there
    /// are not as many.
    #[inline(always)]
    pub(crate) fn pop(&mut self, header: &mut [u8]) -> bool {
        let (start, end) = (self.start as usize, self.start as usize + header.len());
        if end > self.end as usize {
            return false;
        }
        let Some(bytes) = self.block.get(start..end) else { return false };
        header.copy_from_slice(bytes);
        self.start = end as u32;
        true
    }

    /// Writes a header before it, in place. `false`, and nothing written, without headroom.
    #[inline(always)]
    #[must_use]
    pub fn push(&mut self, header: &[u8]) -> bool {
        let Some(start) = (self.start as usize).checked_sub(header.len()) else { return false };
        let Some(bytes) = self.block.get_mut() else { return false };
        let Some(room) = bytes.get_mut(start..start + header.len()) else { return false };
        room.copy_from_slice(header);
        self.start = start as u32;
        true
    }
}

impl Deref for FbufMut {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.block[self.start as usize..self.end as usize]
    }
}

impl DerefMut for FbufMut {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let range = self.start as usize..self.end as usize;
        &mut self.block[range]
    }
}

impl Deref for Fbuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.block[self.start as usize..self.end as usize]
    }
}
