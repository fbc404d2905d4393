//! The owner's side: buffers are allocated, written, frozen, lent and taken back.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use segment::Fault;
use segment::blocks::{Block, Dropped, divide};
use segment::free_queue::Reclaims;
use segment::geometry::{MAX_CLASSES, OwnSegment, PeerSegment};

use crate::Descriptor;

/// Why no buffer was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// No class has buffers of that size.
    #[error("{asked} bytes are more than the largest buffer ({largest}): configure larger classes")]
    TooLarge {
        /// What was asked for.
        asked: usize,
        /// The largest there is.
        largest: usize,
    },
    /// All buffers large enough are in use: back-pressure, try again when the peer has given some
    /// back.
    #[error("all buffers of that size are in use")]
    Exhausted,
    /// The peer gave back what it did not have.
    #[error("the peer broke the free queue: {0}")]
    Fault(#[from] Fault),
}

/// Why a buffer was not lent. It is given back to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LendError {
    /// The buffer belongs to another channel's pool.
    #[error("the buffer was allocated from another channel's pool")]
    Foreign,
}

struct Class {
    buffer_bytes: usize,
    first: usize,
    region: Arc<Dropped>,
    free: Vec<Block>,
}

/// A channel's buffers.
///
/// Owned by the thread that owns the channel; buffers may be written and dropped anywhere.
pub struct Pool {
    classes: Vec<Class>,
    /// What the peer holds, by index: the private truth from which buffers are reclaimed.
    lent: Box<[Option<Block>]>,
    generations: Box<[u32]>,
    lent_count: usize,
    reclaims: Reclaims,
}

impl Pool {
    /// Makes the pool that the segment's geometry describes. Once a segment.
    ///
    /// # Cost
    /// Allocates the private tables; the buffers' pages are not touched.
    pub fn new(own: &mut OwnSegment, peer: &PeerSegment) -> Self {
        let mut classes = Vec::new();
        let mut first = 0;
        for number in 0..MAX_CLASSES {
            let class = own.geometry().classes[number];
            let Some(bytes) = own.take_class(number).filter(|_| class.buffers > 0) else {
                continue;
            };
            let buffer_bytes = class.buffer_bytes as usize;
            let (region, free) = divide(bytes, buffer_bytes);
            let count = free.len();
            classes.push(Class { buffer_bytes, first, region, free });
            first += count;
        }
        Self {
            classes,
            lent: (0..first).map(|_| None).collect(),
            generations: vec![0; first].into(),
            lent_count: 0,
            reclaims: Reclaims::attach(peer),
        }
    }

    /// The largest buffer there is; zero without buffers.
    pub fn largest(&self) -> usize {
        self.classes.last().map_or(0, |class| class.buffer_bytes)
    }

    /// Takes the smallest free buffer of at least `len` bytes, the last used first. Its bytes are
    /// what the last user left.
    ///
    /// # Errors
    /// [`AllocError`].
    ///
    /// # Cost
    /// A few loads; when the class that fits best is dry, the free queue is read. Only if nothing came
    /// back is a larger buffer taken than is needed.
    #[inline(always)]
    pub fn alloc(&mut self, len: usize) -> Result<FbufMut, AllocError> {
        if let Some(fbuf) = self.pop(len, 1) {
            return Ok(fbuf);
        }
        self.alloc_slowly(len)
    }

    /// Takes a buffer of one of the first `classes` that fit.
    #[inline(always)]
    fn pop(&mut self, len: usize, classes: usize) -> Option<FbufMut> {
        let fitting = self.classes.iter_mut().filter(|class| class.buffer_bytes >= len);
        for class in fitting.take(classes) {
            if let Some(block) = class.free.pop() {
                return Some(FbufMut(Held { block, start: 0, end: len as u32 }));
            }
        }
        None
    }

    #[cold]
    fn alloc_slowly(&mut self, len: usize) -> Result<FbufMut, AllocError> {
        if len > self.largest() || self.classes.is_empty() {
            return Err(AllocError::TooLarge { asked: len, largest: self.largest() });
        }
        self.collect()?;
        self.pop(len, MAX_CLASSES).ok_or(AllocError::Exhausted)
    }

    /// Takes back what the peer has returned and what was dropped here. The number of buffers that
    /// the peer returned.
    ///
    /// # Errors
    /// The [`Fault`] that the peer committed; the channel is to be poisoned.
    pub fn collect(&mut self) -> Result<usize, Fault> {
        for class in &mut self.classes {
            class.region.recover(|block| class.free.push(block));
        }
        let mut returned = 0;
        // At most as many as there are: an honest peer cannot return more, a lying one is caught.
        while returned < self.lent.len()
            && let Some((index, generation)) = self.reclaims.try_pop()?
        {
            self.take_back(index, generation)?;
            returned += 1;
        }
        Ok(returned)
    }

    fn take_back(&mut self, index: u16, generation: u32) -> Result<(), Fault> {
        let at = usize::from(index);
        let lent = self.lent.get_mut(at).ok_or(Fault::BufferIndex)?;
        if self.generations[at] != generation {
            return Err(Fault::FreeGeneration);
        }
        let block = lent.take().ok_or(Fault::FreeNotLent)?;
        self.generations[at] = generation.wrapping_add(1);
        self.lent_count -= 1;
        self.put_free(at, block);
        Ok(())
    }

    fn put_free(&mut self, index: usize, block: Block) {
        let class = self.classes.iter_mut().rev().find(|class| class.first <= index);
        class.expect("the first class begins at zero").free.push(block);
    }

    /// Notes that a buffer is the peer's from now on, and names it. To be undone by
    /// [`Pool::unlend`] if the descriptor could not be sent.
    ///
    /// # Errors
    /// [`LendError`], with the buffer.
    #[inline(always)]
    pub fn lend(&mut self, fbuf: Fbuf) -> Result<Descriptor, (LendError, Fbuf)> {
        let class = self.classes.iter().find(|class| fbuf.0.block.is_of(&class.region));
        let Some(class) = class else { return Err((LendError::Foreign, fbuf)) };
        let Held { block, start, end } = fbuf.0;
        let at = class.first + block.index();
        self.lent[at] = Some(block);
        self.lent_count += 1;
        let generation = self.generations[at];
        Ok(Descriptor { index: at as u16, generation, offset: start, len: end - start })
    }

    /// Takes back a buffer whose descriptor was never published.
    pub fn unlend(&mut self, descriptor: Descriptor) -> Option<Fbuf> {
        let block = self.lent.get_mut(usize::from(descriptor.index))?.take()?;
        self.lent_count -= 1;
        let Descriptor { offset: start, len, .. } = descriptor;
        Some(Fbuf(Held { block, start, end: start + len }))
    }

    /// Takes back everything the peer holds: it is gone. The number of buffers.
    ///
    /// # Cost
    /// A walk over the private table.
    pub fn reclaim(&mut self) -> usize {
        let mut reclaimed = 0;
        for index in 0..self.lent.len() {
            if let Some(block) = self.lent[index].take() {
                self.generations[index] = self.generations[index].wrapping_add(1);
                self.put_free(index, block);
                reclaimed += 1;
            }
        }
        self.lent_count = 0;
        reclaimed
    }

    /// How many buffers the peer holds.
    pub fn lent(&self) -> usize {
        self.lent_count
    }

    /// How many buffers are free, counting what was dropped but not collected yet only after
    /// [`Pool::collect`].
    pub fn free(&self) -> usize {
        self.classes.iter().map(|class| class.free.len()).sum()
    }

    /// How many buffers there are.
    pub fn total(&self) -> usize {
        self.lent.len()
    }
}

/// What both kinds of handle hold.
#[derive(Debug)]
struct Held {
    block: Block,
    /// The part of the buffer that counts: a buffer's size fits, by `MAX_BUFFER_BYTES`.
    start: u32,
    end: u32,
}

impl Held {
    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A buffer of this process: unique and writable. Dropping it frees it.
#[derive(Debug)]
pub struct FbufMut(Held);

/// A buffer of this process: no longer written, ready to be handed over. Dropping it frees it.
#[derive(Debug)]
pub struct Fbuf(Held);

impl FbufMut {
    /// Ends writing.
    pub fn freeze(self) -> Fbuf {
        Fbuf(self.0)
    }

    /// Shortens it to `len` bytes; no effect if it is not longer.
    pub fn truncate(&mut self, len: usize) {
        let len = len.min(self.len());
        self.0.end = self.0.start + len as u32;
    }
}

impl Fbuf {
    /// Narrows it to a part. `None`, and the buffer is freed, if the range is outside.
    pub fn slice(mut self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        self.0.end = self.0.start + range.end as u32;
        self.0.start += range.start as u32;
        Some(self)
    }
}

impl Deref for FbufMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.block[self.0.range()]
    }
}

impl DerefMut for FbufMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        let range = self.0.range();
        &mut self.0.block[range]
    }
}

impl Deref for Fbuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.block[self.0.range()]
    }
}
