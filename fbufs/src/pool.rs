//! The owner's buffers: allocated, written, frozen, and free again when the last handle is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use segment::Incarnation;
use segment::blocks::{Block, Blocks, Shared, divide, join};
use segment::epochs::Epochs;
use segment::geometry::{Class, DEFAULT_CLASSES, Geometry, MAX_CLASSES, OwnSegment};
use segment::memory::{CreateError, OwnBytes, OwnMemory};

use crate::{Fbuf, FbufMut, Message, Part};

/// Why no buffer was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// No class has buffers of that size; or a message takes more of them than there are.
    #[error(
        "{asked} bytes are more than there are buffers for, of at most {largest}: configure larger \
         classes, or more buffers"
    )]
    TooLarge {
        /// What was asked for.
        asked: usize,
        /// The largest there is.
        largest: usize,
    },
    /// All buffers large enough are in use: back-pressure, try again when some were given back.
    #[error("all buffers of that size are in use")]
    Exhausted,
}

/// How a pool is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// The size classes in ascending order; unused ones are all zero and stand last.
    pub classes: [Class; MAX_CLASSES],
    /// Use 2 MiB pages, which an administrator must have set aside (`vm.nr_hugepages`).
    pub huge_pages: bool,
    /// Lock the pages into memory; counts against `RLIMIT_MEMLOCK`.
    pub locked: bool,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { classes: DEFAULT_CLASSES, huge_pages: false, locked: false }
    }
}

/// What the buffers of a pool have in common, and what outlives the pool while one of them is there.
pub(crate) struct Region {
    /// The memory, where it is a region of its own: its descriptor goes along the path.
    pub segment: Option<OwnSegment>,
    /// The memory, where it is a device's ([`Pool::for_device`]).
    pub memory: Option<OwnMemory>,
    /// By class: its blocks, and the number of the first among all buffers of the region.
    pub classes: Vec<(Arc<Blocks>, usize)>,
    /// Buffers in all.
    pub buffers: usize,
    /// Payload bytes that this library copied into its buffers.
    pub copied: AtomicU64,
}

struct Free {
    buffer_bytes: usize,
    blocks: Arc<Blocks>,
    /// In the order in which they were freed; of the largest class, runs among them.
    free: Vec<Block>,
    /// Those that a device wrote last, single ones: taken for a device first, and for others last.
    received: Vec<Block>,
}

impl Free {
    #[inline(always)]
    fn take(&mut self) -> Option<Block> {
        self.blocks.recover(|block| self.free.push(block));
        let Some(last) = self.free.last_mut() else { return self.received.pop() };
        if last.buffers() > 1 { last.split_to(1) } else { self.free.pop() }
    }

    /// How many buffers are free.
    fn buffers(&self) -> usize {
        self.free.iter().map(Block::buffers).sum::<usize>() + self.received.len()
    }

    /// Takes adjacent buffers for so many bytes: as a rule, the run of as many that was freed last.
    #[inline(always)]
    fn take_run(&mut self, bytes: usize) -> Option<Block> {
        let fits = |run: &Block| {
            let len = run.buffers() * self.buffer_bytes;
            len >= bytes && len - bytes < self.buffer_bytes
        };
        if self.free.last().is_some_and(fits) { self.free.pop() } else { self.find_run(bytes) }
    }

    #[cold]
    fn find_run(&mut self, bytes: usize) -> Option<Block> {
        let buffers = bytes.div_ceil(self.buffer_bytes);
        self.join();
        let runs = self.free.iter().map(Block::buffers).enumerate();
        let (at, found) = runs.filter(|(_, run)| *run >= buffers).min_by_key(|(_, run)| *run)?;
        if found > buffers { self.free[at].split_to(buffers) } else { Some(self.free.remove(at)) }
    }

    /// Joins what is adjacent.
    #[cold]
    fn join(&mut self) {
        self.blocks.recover(|block| self.free.push(block));
        self.free.append(&mut self.received);
        join(&mut self.free);
    }
}

/// Buffers of this process, divided into size classes. The buffer that was freed last is taken first,
/// while it is still in the cache.
///
/// Owned by one thread; buffers may be written and dropped anywhere.
pub struct Pool {
    region: Arc<Region>,
    classes: Vec<Free>,
}

impl Pool {
    /// Makes a pool in a sealed region of its own, which can be part of a path.
    ///
    /// # Errors
    /// [`CreateError::Size`] if the classes are out of their bounds; else what the kernel lacks.
    ///
    /// # Cost
    /// Four system calls, five if locked; pages are allocated when first touched, unless locked.
    pub fn new(options: PoolOptions) -> Result<Self, CreateError> {
        let geometry = Geometry::region(options.classes, options.huge_pages);
        if !geometry.is_valid_region() {
            return Err(CreateError::Size);
        }
        let incarnation = Incarnation::draw().ok_or(CreateError::OutOfMemory)?;
        let mut own = geometry.create(incarnation, options.locked)?;
        Ok(Self::divide(&mut own).finish(Some(own)))
    }

    /// Makes the pool of a channel's segment. Once a segment.
    ///
    /// # Cost
    /// Allocates the private tables; the buffers' pages are not touched.
    pub fn in_segment(own: &mut OwnSegment) -> Self {
        Self::divide(own).finish(None)
    }

    fn divide(own: &mut OwnSegment) -> Parts {
        let mut parts = Parts { classes: Vec::new(), buffers: 0 };
        for number in 0..MAX_CLASSES {
            let class = own.geometry().classes[number];
            let Some(bytes) = own.take_class(number).filter(|_| class.buffers > 0) else {
                continue;
            };
            let buffer_bytes = class.buffer_bytes as usize;
            let first = parts.buffers;
            let epochs = Some((Epochs::attach(own), first));
            let (blocks, free) = divide(bytes, buffer_bytes, epochs);
            parts.buffers += free.len();
            parts.classes.push((Free { buffer_bytes, blocks, free, received: Vec::new() }, first));
        }
        parts
    }

    /// The largest buffer there is; zero without buffers.
    pub fn largest(&self) -> usize {
        self.classes.last().map_or(0, |class| class.buffer_bytes)
    }

    /// The smallest buffer there is; zero without buffers.
    pub fn smallest(&self) -> usize {
        self.classes.first().map_or(0, |class| class.buffer_bytes)
    }

    /// Takes the smallest free buffer of at least `len` bytes. Its bytes are what the last user left.
    ///
    /// # Errors
    /// [`AllocError`].
    ///
    /// # Cost
    /// A few loads. Only if no buffer that fits best is free is a larger one taken.
    #[inline(always)]
    pub fn alloc(&mut self, len: usize) -> Result<FbufMut, AllocError> {
        self.alloc_with_headroom(0, len)
    }

    /// As [`Pool::alloc`], with room for headers before the `len` bytes.
    ///
    /// # Errors
    /// [`AllocError`].
    ///
    /// # Cost
    /// As [`Pool::alloc`].
    #[inline(always)]
    pub fn alloc_with_headroom(
        &mut self,
        headroom: usize,
        len: usize,
    ) -> Result<FbufMut, AllocError> {
        let asked = headroom.saturating_add(len);
        match self.take(asked, MAX_CLASSES) {
            Some(block) => Ok(FbufMut::new(block, headroom, len)),
            None => Err(self.refusal(asked)),
        }
    }

    /// Whether a buffer that fits `len` bytes best is free: [`Pool::alloc_best`] has one then.
    #[inline(always)]
    pub fn has_best(&mut self, len: usize) -> bool {
        let best = self.classes.iter_mut().find(|class| class.buffer_bytes >= len);
        best.is_some_and(|class| {
            class.blocks.recover(|block| class.free.push(block));
            !(class.free.is_empty() && class.received.is_empty())
        })
    }

    /// As [`Pool::alloc`], but `None` where no buffer that fits best is free: the caller may know where
    /// one comes from.
    #[inline(always)]
    pub fn alloc_best(&mut self, len: usize) -> Option<FbufMut> {
        self.alloc_best_with_headroom(0, len)
    }

    /// As [`Pool::alloc_best`], for a device to receive into: one that was received into before
    /// ([`Pool::recycle_received`]), if there is one.
    #[inline(always)]
    pub fn alloc_to_receive(&mut self, len: usize) -> Option<FbufMut> {
        let class = self.classes.iter_mut().find(|class| class.buffer_bytes >= len)?;
        match class.received.pop() {
            Some(block) => Some(FbufMut::new(block, 0, len)),
            None => self.alloc_best(len),
        }
    }

    /// As [`Pool::alloc_best`], with room before it.
    #[inline(always)]
    pub fn alloc_best_with_headroom(&mut self, headroom: usize, len: usize) -> Option<FbufMut> {
        self.take(headroom.saturating_add(len), 1).map(|block| FbufMut::new(block, headroom, len))
    }

    /// Whether less than half of the buffers that fit `len` bytes best are free, or not as many as that
    /// takes: time to see whether some have come back.
    #[inline(always)]
    pub fn is_low(&self, len: usize) -> bool {
        let class = self.classes.iter().find(|class| class.buffer_bytes >= len);
        match class.or(self.classes.last()) {
            // One by one, which is not far from right where runs are among them.
            Some(class) if class.buffer_bytes >= len => {
                (class.free.len() + class.received.len()) * 2 < class.blocks.count()
            }
            Some(class) => {
                let free = class.buffers();
                free * 2 < class.blocks.count() || free * class.buffer_bytes < len
            }
            None => false,
        }
    }

    #[inline(always)]
    fn take(&mut self, bytes: usize, classes: usize) -> Option<Block> {
        let fitting = self.classes.iter_mut().filter(|class| class.buffer_bytes >= bytes);
        fitting.take(classes).find_map(Free::take)
    }

    #[cold]
    fn refusal(&self, asked: usize) -> AllocError {
        let largest = self.largest();
        if asked > largest {
            AllocError::TooLarge { asked, largest }
        } else {
            AllocError::Exhausted
        }
    }

    /// A message of `len` bytes, with room for headers. Beyond the largest class it is one part where
    /// enough adjacent buffers of it are free, and else a rope of as many as it takes. The bytes are
    /// what `fill` writes: it is called for each part, in order.
    ///
    /// # Errors
    /// [`AllocError`]; nothing is taken then.
    ///
    /// # Cost
    /// As [`Pool::alloc`], for each part. Buffers that were one part are so again when they are free;
    /// where such are not at hand, the free ones of the largest class are sorted.
    #[inline]
    pub fn message(
        &mut self,
        headroom: usize,
        len: usize,
        mut fill: impl FnMut(&mut [u8]),
    ) -> Result<Message, AllocError> {
        let mut whole = if headroom.saturating_add(len) <= self.largest() {
            self.alloc_with_headroom(headroom, len)?
        } else if let Some(run) = self.alloc_run(headroom, len) {
            run
        } else {
            return self.rope(headroom, len, fill);
        };
        fill(&mut whole);
        Ok(whole.into())
    }

    /// A message of more than one part.
    #[cold]
    fn rope(
        &mut self,
        headroom: usize,
        len: usize,
        mut fill: impl FnMut(&mut [u8]),
    ) -> Result<Message, AllocError> {
        let largest = self.largest();
        if !self.can_hold(headroom, len) {
            return Err(AllocError::TooLarge { asked: headroom.saturating_add(len), largest });
        }
        if headroom >= largest {
            // A run only, and no rope.
            return Err(AllocError::Exhausted);
        }
        let mut message = Message::new();
        let mut headroom = headroom;
        while message.len() < len {
            let piece = (len - message.len()).min(largest - headroom);
            let mut fbuf = self.alloc_with_headroom(std::mem::take(&mut headroom), piece)?;
            fill(&mut fbuf);
            message.append_part(Part::Own(fbuf.freeze()));
        }
        Ok(message)
    }

    /// Whether a message longer than the largest buffer can be had when all buffers are free: as a run,
    /// or as a rope whose end lies in a smaller one.
    fn can_hold(&self, headroom: usize, len: usize) -> bool {
        let Some((last, smaller)) = self.classes.split_last() else { return false };
        let all = last.buffer_bytes * last.blocks.count();
        let end = if headroom < last.buffer_bytes {
            smaller.last().map_or(0, |class| class.buffer_bytes)
        } else {
            0
        };
        headroom.saturating_add(len) <= all + end
    }

    /// Takes adjacent buffers of the largest class as one, for what fits into no single one. `None` where
    /// no adjacent ones are free, or there are not as many: [`Pool::message`] makes a rope then.
    ///
    /// # Cost
    /// As [`Pool::alloc`] where a run of the same length was freed last; else the free buffers of that
    /// class are sorted.
    #[inline(always)]
    pub fn alloc_adjacent(&mut self, len: usize) -> Option<FbufMut> {
        self.alloc_run(0, len)
    }

    #[inline(always)]
    fn alloc_run(&mut self, headroom: usize, len: usize) -> Option<FbufMut> {
        let run = self.classes.last_mut()?.take_run(headroom.saturating_add(len))?;
        Some(FbufMut::new(run, headroom, len))
    }

    /// Takes back what was dropped since the last allocation.
    pub fn recover(&mut self) {
        for class in &mut self.classes {
            class.blocks.recover(|block| class.free.push(block));
        }
    }

    /// Frees a buffer of this pool, as dropping it does, but cheaper: for the pool's own thread.
    #[inline(always)]
    pub fn recycle(&mut self, fbuf: Fbuf) {
        self.put(fbuf.into_block());
    }

    /// As [`Pool::recycle`], for one that a device has written. It is taken to receive into again, and for
    /// anything else only when no other is free: where another core has written it, who writes it next
    /// waits for that core's cache.
    #[inline(always)]
    pub fn recycle_received(&mut self, fbuf: Fbuf) {
        if let Some((class, block)) = self.returned(fbuf.into_block()) {
            // Runs are for the largest class's other uses.
            let to = if block.buffers() == 1 { &mut class.received } else { &mut class.free };
            to.push(block);
        }
    }

    #[inline(always)]
    pub(crate) fn put(&mut self, block: Shared) {
        if let Some((class, block)) = self.returned(block) {
            class.free.push(block);
        }
    }

    /// Whose it is, if it is of this pool, and unique: else it is dropped.
    #[inline(always)]
    fn returned(&mut self, block: Shared) -> Option<(&mut Free, Block)> {
        let mut classes = self.classes.iter_mut();
        let class = classes.find(|class| Arc::ptr_eq(block.region(), &class.blocks))?;
        Some((class, block.try_unshare().ok()?))
    }

    /// Whether a buffer is one of this pool's.
    #[inline(always)]
    pub fn owns(&self, fbuf: &Fbuf) -> bool {
        self.classes.iter().any(|class| Arc::ptr_eq(fbuf.block().region(), &class.blocks))
    }

    /// How many buffers are free.
    pub fn free(&mut self) -> usize {
        self.recover();
        self.classes.iter().map(Free::buffers).sum()
    }

    /// How many buffers there are.
    pub fn total(&self) -> usize {
        self.region.buffers
    }

    /// How many bytes of payload this library has copied into buffers of this pool: by
    /// [`Message::secure`] and where a channel sends bytes that are in no buffer. Headers that were
    /// pushed and what the application wrote itself are not among them.
    pub fn copied(&self) -> u64 {
        self.region.copied.load(Ordering::Relaxed)
    }

    /// Counts a copy into a buffer of this pool.
    pub fn count_copy(&self, bytes: usize) {
        self.region.copied.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The buffers, if all are of one class.
    pub(crate) fn only_class(&self) -> Option<&Arc<Blocks>> {
        let [class] = &self.classes[..] else { return None };
        Some(&class.blocks)
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }
}

pub(crate) struct Parts {
    classes: Vec<(Free, usize)>,
    buffers: usize,
}

impl Parts {
    /// One class in memory that is nothing else.
    pub(crate) fn of_one(bytes: OwnBytes, buffer_bytes: usize) -> Self {
        let (blocks, free) = divide(bytes, buffer_bytes, None);
        let buffers = free.len();
        let received = Vec::with_capacity(buffers);
        Self { classes: vec![(Free { buffer_bytes, blocks, free, received }, 0)], buffers }
    }

    fn finish(self, segment: Option<OwnSegment>) -> Pool {
        self.finish_in(segment, None)
    }

    pub(crate) fn finish_in(self, segment: Option<OwnSegment>, memory: Option<OwnMemory>) -> Pool {
        let classes = self.classes.iter().map(|(free, first)| (free.blocks.clone(), *first));
        let region = Arc::new(Region {
            segment,
            memory,
            classes: classes.collect(),
            buffers: self.buffers,
            copied: AtomicU64::new(0),
        });
        Pool { region, classes: self.classes.into_iter().map(|(free, _)| free).collect() }
    }
}
