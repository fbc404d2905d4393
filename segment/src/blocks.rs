//! Tokens for the buffers of a region: unique ones that write, shared ones that read.
//!
//! A [`Block`] is the right to read and write one buffer, or a run of adjacent ones, which is joined
//! from and split into smaller ones. Tokens are made once, one a buffer, and move; who holds the token
//! owns the bytes. [`Block::share`] turns it into a [`Shared`], which can be cloned and only reads,
//! until it is the last one. The token, or the last share, that is dropped leaves its buffers with the
//! [`Blocks`] of its region, which mint them again, one by one.
//!
//! # Invariants
//!
//! 1. At any moment a buffer is of one `Block`, or of some `Shared`s of the same run, or has one bit in
//!    `Blocks::dropped`, and never two of the three. A run lies within the region.
//! 2. `Blocks::shares` of a run's first buffer, but for the bit `WATCHED`, is the number of its `Shared`s
//!    less one, and 0 without any, as it is of the others. It only grows through a `Shared` that exists,
//!    so who holds the only one and reads 0 is alone with it.

use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::epochs::Epochs;
use crate::memory::OwnBytes;
use crate::pair::Pair;

/// The buffers of a region: their bytes, how often each is shared, and which were dropped.
#[derive(Debug)]
pub struct Blocks {
    dropped: Box<[AtomicU64]>,
    /// Not zero where a bit was set since they were last looked at.
    any_dropped: AtomicU32,
    shares: Box<[AtomicU32]>,
    memory: OwnBytes,
    buffer_bytes: usize,
    /// Those of the region, and the number there of the first buffer.
    epochs: Option<(Epochs, usize)>,
}

/// In the number of shares: a domain that has mapped the buffer may still be reading it and was not
/// asked; its epoch advances before it is written again.
const WATCHED: u32 = 1 << 31;

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;
/// How many of them are fetched at once: as many as a short message has with its headers.
const PREFETCHED: usize = 4;

#[inline(always)]
fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it reads nothing that the program sees, and faults nowhere, whatever the address is.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Exclusive access to one buffer, or to a run of adjacent ones.
#[derive(Debug)]
pub struct Block {
    region: Arc<Blocks>,
    /// The number of its first buffer, and how many there are.
    run: Pair,
}

/// Shared access to the same, which nobody writes while there are several.
#[derive(Debug)]
pub struct Shared {
    region: Arc<Blocks>,
    /// The number of its first buffer, and how many there are.
    run: Pair,
}

/// Divides a region into buffers of equal size, and mints their tokens. Bytes that do not fill a
/// buffer stay unused. `epochs` are those of the region that the buffers are in, with the number of
/// the first of them there.
pub fn divide(
    memory: OwnBytes,
    buffer_bytes: usize,
    epochs: Option<(Epochs, usize)>,
) -> (Arc<Blocks>, Vec<Block>) {
    let count = memory.len().checked_div(buffer_bytes).unwrap_or(0);
    let dropped = (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
    let shares = (0..count).map(|_| AtomicU32::new(0)).collect();
    let any_dropped = AtomicU32::new(0);
    let region = Arc::new(Blocks { dropped, any_dropped, shares, memory, buffer_bytes, epochs });
    // Highest first, so that a pool that takes from the end begins with the first.
    let token = |index| Block { region: region.clone(), run: Pair::new(index as u32, 1) };
    let tokens = (0..count).rev().map(token).collect();
    (region, tokens)
}

/// Joins what is adjacent, and sorts it.
///
/// # Cost
/// A sort.
pub fn join(blocks: &mut Vec<Block>) {
    blocks.sort_unstable_by_key(Block::index);
    blocks.dedup_by(|next, run| run.absorb(next));
}

impl Blocks {
    /// Mints the tokens that were dropped and passes each to `keep`.
    ///
    /// # Cost
    /// A load; a locked instruction for each 64 buffers only where something was dropped.
    #[inline]
    pub fn recover(self: &Arc<Self>, keep: impl FnMut(Block)) {
        // Of memory that is this process's own, and is written only where something is dropped.
        if self.any_dropped.load(Ordering::Relaxed) != 0 {
            self.mint(keep);
        }
    }

    #[cold]
    fn mint(self: &Arc<Self>, mut keep: impl FnMut(Block)) {
        // PAIRS: blocks.any_dropped with `Blocks::let_go`: what it announced is seen below, and what is
        // dropped after this announces itself again.
        self.any_dropped.swap(0, Ordering::AcqRel);
        for (word, bits) in self.dropped.iter().enumerate() {
            // PAIRS: blocks.drop with `Blocks::let_go`. The swap takes each bit once (invariant 1).
            let mut dropped = bits.swap(0, Ordering::Acquire);
            while dropped != 0 {
                let index = word * 64 + dropped.trailing_zeros() as usize;
                dropped &= dropped - 1;
                keep(Block { region: self.clone(), run: Pair::new(index as u32, 1) });
            }
        }
    }

    /// The epoch of a buffer, as it stands in descriptors.
    #[inline(always)]
    pub fn epoch(&self, index: usize) -> u16 {
        self.epochs.as_ref().map_or(0, |(epochs, first)| epochs.of(first + index))
    }

    /// Revokes the buffers of a run: whoever reads one from now on in another domain learns it, by the
    /// name of whichever it holds them.
    #[cold]
    fn revoke(&self, run: Pair) {
        let (index, buffers) = (run.first(), run.second());
        if let Some((epochs, first)) = &self.epochs {
            (index..index + buffers).for_each(|index| epochs.advance(first + index as usize));
        }
    }

    /// How many buffers there are.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.shares.len()
    }

    /// How many bytes each buffer has.
    #[inline(always)]
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Where the first buffer begins: to be registered with a device, which then reads and writes the
    /// buffers whose tokens its driver holds, and no others.
    pub fn address(&self) -> NonNull<u8> {
        self.memory.base()
    }

    #[inline(always)]
    fn base(&self, run: Pair) -> (*mut u8, usize) {
        let (offset, len) = (run.first() as usize, run.second() as usize);
        debug_assert!(offset + len <= self.count(), "a run of the region");
        // SAFETY: called for a token's run, which lies within the region (invariant 1).
        let base = unsafe { self.memory.base().add(offset * self.buffer_bytes) };
        (base.as_ptr(), len * self.buffer_bytes)
    }

    fn let_go(&self, run: Pair) {
        for index in run.first()..run.first() + run.second() {
            // PAIRS: blocks.drop with `Blocks::mint`.
            self.dropped[index as usize / 64].fetch_or(1 << (index % 64), Ordering::Release);
        }
        // PAIRS: blocks.any_dropped with `Blocks::mint`. After the bits.
        self.any_dropped.store(1, Ordering::Release);
    }
}

impl Block {
    /// Its number within the region, or that of the first one of a run.
    #[inline(always)]
    pub fn index(&self) -> usize {
        self.run.first() as usize
    }

    /// How many buffers it is.
    #[inline(always)]
    pub fn buffers(&self) -> usize {
        self.run.second() as usize
    }

    /// Takes over the buffers of `next` if they are those that follow in the same region: whether they
    /// are. `next` is to be dropped then: it has none, and shares of it would be counted with those of
    /// the buffer that was its first (invariant 2).
    fn absorb(&mut self, next: &mut Block) -> bool {
        let follows = Arc::ptr_eq(&self.region, &next.region)
            && next.index() == self.index() + self.buffers();
        if follows {
            self.run = Pair::new(self.run.first(), self.run.second() + next.run.second());
            next.run = Pair::new(next.run.first(), 0);
        }
        follows
    }

    /// Splits the first `buffers` off. `None`, and nothing happens, if none of one side were left.
    #[inline]
    #[must_use]
    pub fn split_to(&mut self, buffers: usize) -> Option<Block> {
        if buffers == 0 || buffers >= self.buffers() {
            return None;
        }
        let (index, all, taken) = (self.run.first(), self.run.second(), buffers as u32);
        let front = Block { region: self.region.clone(), run: Pair::new(index, taken) };
        self.run = Pair::new(index + taken, all - taken);
        Some(front)
    }

    /// Has the CPU fetch a part of it, its first cache lines, which somebody else has written: it goes on
    /// meanwhile. A hint, wherever the part is.
    #[inline(always)]
    pub fn prefetch(&self, part: Range<usize>) {
        let (base, _) = self.region.base(self.run);
        let lines = part.step_by(CACHE_LINE).take(PREFETCHED);
        lines.for_each(|offset| prefetch(base.wrapping_add(offset)));
    }

    /// The region it is of.
    #[inline(always)]
    pub fn region(&self) -> &Arc<Blocks> {
        &self.region
    }

    /// Revokes it: whoever reads it from now on in another domain learns it.
    pub fn revoke(&self) {
        self.region.revoke(self.run);
    }

    /// Ends writing: it can be shared from now on.
    #[inline(always)]
    pub fn share(self) -> Shared {
        let (region, run) = self.into_parts();
        Shared { region, run }
    }

    #[inline(always)]
    fn into_parts(self) -> (Arc<Blocks>, Pair) {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is never used again nor dropped, so that the reference moves out once.
        (unsafe { std::ptr::read(&raw const this.region) }, this.run)
    }
}

impl Deref for Block {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        let (base, len) = self.region.base(self.run);
        // SAFETY: the buffers lie in the region, which lives as long as this; the token is the only
        // way to their bytes (invariant 1), and the peer's mapping of them is read-only.
        unsafe { std::slice::from_raw_parts(base, len) }
    }
}

impl DerefMut for Block {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        let (base, len) = self.region.base(self.run);
        // SAFETY: as above, and `&mut self` is the only borrow of the token.
        unsafe { std::slice::from_raw_parts_mut(base, len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.region.let_go(self.run);
    }
}

impl Shared {
    /// Its number within the region, or that of the first one of a run.
    #[inline(always)]
    pub fn index(&self) -> usize {
        self.run.first() as usize
    }

    /// The region it is of.
    #[inline(always)]
    pub fn region(&self) -> &Arc<Blocks> {
        &self.region
    }

    #[inline(always)]
    fn shares(&self) -> &AtomicU32 {
        // SAFETY: a word for each buffer, and the run's first one is one of them (invariant 1).
        unsafe { self.region.shares.get_unchecked(self.index()) }
    }

    /// Whether no other share of the buffer is there.
    #[inline(always)]
    pub fn is_unique(&self) -> bool {
        // PAIRS: blocks.shares with `Shared::drop`: what others read of it, they have read.
        self.shares().load(Ordering::Acquire) & !WATCHED == 0
    }

    /// Says that another domain may be reading the buffer unasked: it is revoked before it is written
    /// again, which is when the last share is gone, or is alone and written through.
    pub fn revoke_before_reuse(&self) {
        self.shares().fetch_or(WATCHED, Ordering::Relaxed);
    }

    /// Whether this share is alone and the buffer may be written, revoked if it must be.
    #[inline(always)]
    fn is_writable(&mut self) -> bool {
        // PAIRS: blocks.shares with `Shared::drop`, as above.
        self.shares().load(Ordering::Acquire) == 0 || self.becomes_writable()
    }

    #[cold]
    fn becomes_writable(&mut self) -> bool {
        let alone = self.is_unique();
        if alone {
            self.region.revoke(self.run);
            self.shares().store(0, Ordering::Relaxed);
        }
        alone
    }

    /// The bytes to be written, if no other share is there.
    ///
    /// # Cost
    /// One load.
    #[inline(always)]
    pub fn get_mut(&mut self) -> Option<&mut [u8]> {
        if !self.is_writable() {
            return None;
        }
        let (base, len) = self.region.base(self.run);
        // SAFETY: this is the only share (invariant 2) and there is no token (1); `&mut self` is the
        // only borrow of it.
        Some(unsafe { std::slice::from_raw_parts_mut(base, len) })
    }

    /// The unique token again.
    ///
    /// # Errors
    /// Itself, if other shares are there.
    #[inline(always)]
    pub fn try_unshare(mut self) -> Result<Block, Self> {
        if !self.is_writable() {
            return Err(self);
        }
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is never used again nor dropped, so that the reference moves out once.
        let region = unsafe { std::ptr::read(&raw const this.region) };
        Ok(Block { region, run: this.run })
    }
}

impl Clone for Shared {
    /// # Cost
    /// Two locked instructions.
    #[inline]
    fn clone(&self) -> Self {
        // As `Arc` does: a count that could wrap ends the process. Only a leak in a loop gets there.
        if self.shares().fetch_add(1, Ordering::Relaxed) & !WATCHED > u32::MAX / 4 {
            std::process::abort();
        }
        Self { region: self.region.clone(), run: self.run }
    }
}

impl Deref for Shared {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        let (base, len) = self.region.base(self.run);
        // SAFETY: the buffers lie in the region, which lives as long as this; while a share is there
        // nobody writes but through `get_mut`, whose borrow excludes this one (invariants 1 and 2).
        unsafe { std::slice::from_raw_parts(base, len) }
    }
}

impl Drop for Shared {
    #[inline]
    fn drop(&mut self) {
        // PAIRS: blocks.shares with `Shared::is_unique`.
        let mut shares = self.shares().load(Ordering::Acquire);
        if shares & !WATCHED != 0 {
            shares = self.shares().fetch_sub(1, Ordering::Release);
            if shares & !WATCHED != 0 {
                return;
            }
            fence(Ordering::Acquire);
        }
        // Alone: no other can come, and where the others went just now the count has wrapped.
        if shares != 0 {
            self.region.revoke(self.run);
        }
        self.shares().store(0, Ordering::Relaxed);
        self.region.let_go(self.run);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::memory::{Backing, OwnMemory};

    fn region(buffers: usize) -> (Arc<Blocks>, Vec<Block>) {
        let mut memory =
            OwnMemory::create("unet-blocks", 4096, Backing::default()).expect("memory");
        divide(memory.carve(0, buffers * 64).expect("within"), 64, None)
    }

    fn recovered(region: &Arc<Blocks>) -> Vec<Block> {
        let mut blocks = Vec::new();
        region.recover(|block| blocks.push(block));
        blocks
    }

    #[test]
    fn a_buffer_is_free_when_its_last_share_is_dropped() {
        let (region, mut blocks) = region(2);
        let shared = blocks.pop().expect("there are two").share();
        let other = shared.clone();
        drop(shared);
        assert!(recovered(&region).is_empty());
        drop(other);
        assert_eq!(recovered(&region).len(), 1);
    }

    #[test]
    fn only_the_last_share_can_write_or_become_unique() {
        let (_region, mut blocks) = region(1);
        let mut shared = blocks.pop().expect("there is one").share();
        shared.get_mut().expect("alone")[0] = 7;
        let other = shared.clone();
        assert!(shared.get_mut().is_none());
        let shared = shared.try_unshare().expect_err("not alone");
        assert_eq!(other[0], 7);
        drop(other);
        assert_eq!(shared.try_unshare().expect("alone")[0], 7);
    }

    #[test]
    fn shares_dropped_by_many_threads_free_the_buffer_once() {
        let (region, mut blocks) = region(1);
        let mut block = blocks.pop().expect("there is one");
        for round in 0..200 {
            let shared = block.share();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    let mine = shared.clone();
                    scope.spawn(move || drop((mine.clone(), mine)));
                }
                drop(shared);
            });
            let mut freed = recovered(&region);
            assert_eq!(freed.len(), 1, "round {round}");
            block = freed.pop().expect("one");
            assert!(region.shares[0].load(Ordering::Relaxed) == 0);
        }
    }

    #[test]
    fn adjacent_buffers_are_joined_and_split_and_freed_one_by_one() {
        let (region, mut blocks) = region(4);
        let between = blocks.remove(2);
        join(&mut blocks);
        assert_eq!(blocks.iter().map(Block::buffers).collect::<Vec<_>>(), [1, 2]);
        blocks.push(between);
        join(&mut blocks);
        assert_eq!(blocks.len(), 1, "what was absorbed is no token any more");
        let mut run = blocks.pop().expect("all four");
        assert!(recovered(&region).is_empty());
        assert_eq!((run.index(), run.buffers(), run.len()), (0, 4, 256));
        run.fill(7);
        run[255] = 9;
        let shared = run.share();
        assert_eq!(shared.clone()[255], 9);
        let mut run = shared.try_unshare().expect("alone");
        assert!(run.split_to(0).is_none());
        assert!(run.split_to(4).is_none());
        let front = run.split_to(3).expect("one is left");
        assert_eq!((front.index(), front.len(), run.index(), run[63]), (0, 192, 3, 9));
        drop(front);
        let front = recovered(&region);
        assert_eq!(front.iter().map(Block::index).collect::<Vec<_>>(), [0, 1, 2]);
        drop(run.share());
        let freed = recovered(&region);
        assert_eq!((freed.len(), freed[0].index(), freed[0].buffers()), (1, 3, 1));
    }
}
