//! The four rings of a bound socket, mapped: this process's side of each.
//!
//! # Invariants
//!
//! 1. A ring's mapping lives as long as the ring. The kernel never unmaps or shrinks it.
//! 2. The four places within it (producer, consumer, flags, entries) were checked against its length
//!    and their alignment when it was made; `mask` is one less than the number of entries.
//! 3. All of it is reached as atomics, since the kernel writes it at any time. An index is masked before
//!    each use, so that no value there leads outside.

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::sockopt::xdp_mmap_offsets;
use rustix::net::xdp::{
    XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING,
    XdpRingOffset,
};

use crate::socket::RingSizes;

const NEED_WAKEUP: u32 = 1;
/// The frame goes on in the next descriptor.
pub(crate) const CONTINUED: u32 = 1;

/// What stands in a receive or transmit ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub address: u64,
    pub len: u32,
    pub options: u32,
}

/// What an entry of a ring is made of: words.
pub(crate) trait Entry: Copy {
    const WORDS: usize;
    fn load(words: &[AtomicU64]) -> Self;
    fn store(self, words: &[AtomicU64]);
}

/// An address in a fill or completion ring.
impl Entry for u64 {
    const WORDS: usize = 1;

    #[inline(always)]
    fn load(words: &[AtomicU64]) -> Self {
        words[0].load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn store(self, words: &[AtomicU64]) {
        words[0].store(self, Ordering::Relaxed);
    }
}

impl Entry for Descriptor {
    const WORDS: usize = 2;

    #[inline(always)]
    fn load(words: &[AtomicU64]) -> Self {
        let bytes = words[1].load(Ordering::Relaxed).to_ne_bytes();
        let half = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self { address: words[0].load(Ordering::Relaxed), len: half(0), options: half(4) }
    }

    #[inline(always)]
    fn store(self, words: &[AtomicU64]) {
        let (len, options) = (self.len.to_ne_bytes(), self.options.to_ne_bytes());
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&len);
        bytes[4..].copy_from_slice(&options);
        words[0].store(self.address, Ordering::Relaxed);
        words[1].store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
    }
}

/// A mapped range, unmapped when dropped.
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped when this was made, and the ring that points into it goes with it
        // (invariant 1).
        let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
    }
}

/// What both sides of a ring have.
struct Shared {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    flags: Option<usize>,
    entries: usize,
    mask: u32,
}

// SAFETY: an address range of the process, reached by atomics alone (invariant 3).
unsafe impl Send for Shared {}

impl Shared {
    fn new(
        mapping: Mapping,
        at: XdpRingOffset,
        size: u32,
        entry_bytes: usize,
    ) -> Result<Self, Errno> {
        let place = |offset: u64, len: usize, align: usize| {
            let offset = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
            let end = offset.checked_add(len).ok_or(Errno::INVAL)?;
            let aligned = (mapping.base.as_ptr() as usize + offset).is_multiple_of(align);
            if end <= mapping.len && aligned { Ok(offset) } else { Err(Errno::INVAL) }
        };
        if !size.is_power_of_two() {
            return Err(Errno::INVAL);
        }
        Ok(Self {
            producer: place(at.producer, 4, 4)?,
            consumer: place(at.consumer, 4, 4)?,
            flags: at.flags.map(|flags| place(flags, 4, 4)).transpose()?,
            entries: place(at.desc, size as usize * entry_bytes, 8)?,
            mask: size - 1,
            mapping,
        })
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: within the mapping and aligned (invariants 1 and 2), only ever atomic (3).
        unsafe { self.mapping.base.add(offset).cast::<AtomicU32>().as_ref() }
    }

    #[inline(always)]
    fn entry<E: Entry>(&self, index: u32) -> &[AtomicU64] {
        let offset = self.entries + (index & self.mask) as usize * E::WORDS * 8;
        // SAFETY: masked, so one of the entries, which lie within the mapping (invariants 1 to 3).
        unsafe {
            let first = self.mapping.base.add(offset).cast::<AtomicU64>();
            std::slice::from_raw_parts(first.as_ptr(), E::WORDS)
        }
    }

    #[inline(always)]
    fn size(&self) -> u32 {
        self.mask + 1
    }

    #[inline(always)]
    fn needs_wakeup(&self) -> bool {
        self.flags.is_some_and(|at| self.word(at).load(Ordering::Relaxed) & NEED_WAKEUP != 0)
    }
}

/// A ring that this process fills.
pub(crate) struct Producer<E> {
    shared: Shared,
    /// Where the next entry goes; published up to `published`.
    next: u32,
    published: u32,
    /// The consumer's index as it was last seen.
    consumed: u32,
    entry: std::marker::PhantomData<E>,
}

impl<E: Entry> Producer<E> {
    fn new(shared: Shared) -> Self {
        let next = shared.word(shared.producer).load(Ordering::Relaxed);
        let consumed = shared.word(shared.consumer).load(Ordering::Acquire);
        Self { shared, next, published: next, consumed, entry: std::marker::PhantomData }
    }

    /// How many entries can be put; looks at the other side only if fewer than `wanted` are known. An
    /// index of the other side that makes no sense is as a ring without room.
    #[inline(always)]
    pub fn room(&mut self, wanted: u32) -> u32 {
        let known = self.shared.size().saturating_sub(self.next.wrapping_sub(self.consumed));
        if known >= wanted { known } else { self.look() }
    }

    fn look(&mut self) -> u32 {
        // PAIRS: the kernel's release of the consumer index: it has read the entries.
        self.consumed = self.shared.word(self.shared.consumer).load(Ordering::Acquire);
        self.shared.size().saturating_sub(self.next.wrapping_sub(self.consumed))
    }

    /// Puts an entry, where [`Producer::room`] said that there is room. Not seen before
    /// [`Producer::publish`].
    #[inline(always)]
    pub fn put(&mut self, entry: E) {
        entry.store(self.shared.entry::<E>(self.next));
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the other side what was put.
    #[inline(always)]
    pub fn publish(&mut self) {
        if self.published != self.next {
            self.published = self.next;
            // PAIRS: the kernel's acquire of the producer index.
            self.shared.word(self.shared.producer).store(self.next, Ordering::Release);
        }
    }

    /// How many published entries the other side has not taken.
    #[inline(always)]
    pub fn waiting(&mut self) -> u32 {
        self.look();
        self.published.wrapping_sub(self.consumed).min(self.shared.size())
    }

    /// Whether the kernel wants a system call to go on.
    #[inline(always)]
    pub fn needs_wakeup(&self) -> bool {
        self.shared.needs_wakeup()
    }
}

/// A ring that this process empties.
pub(crate) struct Consumer<E> {
    shared: Shared,
    next: u32,
    produced: u32,
    entry: std::marker::PhantomData<E>,
}

/// The other side's index is further ahead than there are entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overrun;

impl<E: Entry> Consumer<E> {
    fn new(shared: Shared) -> Self {
        let next = shared.word(shared.consumer).load(Ordering::Relaxed);
        Self { shared, next, produced: next, entry: std::marker::PhantomData }
    }

    /// How many entries there are to take; looks at the other side only if none are known.
    #[inline(always)]
    pub fn available(&mut self) -> Result<u32, Overrun> {
        let known = self.produced.wrapping_sub(self.next);
        if known != 0 { Ok(known) } else { self.look() }
    }

    #[inline(always)]
    fn look(&mut self) -> Result<u32, Overrun> {
        // PAIRS: the kernel's release of the producer index: the entries, and the packets' bytes.
        let produced = self.shared.word(self.shared.producer).load(Ordering::Acquire);
        let ahead = produced.wrapping_sub(self.next);
        if ahead == 0 {
            return Ok(0);
        }
        if ahead > self.shared.size() {
            return Err(Overrun);
        }
        self.produced = produced;
        Ok(ahead)
    }

    /// The next entry, where [`Consumer::available`] said that there is one.
    #[inline(always)]
    pub fn peek(&self) -> E {
        E::load(self.shared.entry::<E>(self.next))
    }

    /// Takes the next entry, where [`Consumer::available`] said that there is one.
    #[inline(always)]
    pub fn take(&mut self) -> E {
        let entry = self.peek();
        self.next = self.next.wrapping_add(1);
        entry
    }

    /// Tells the other side what was taken.
    #[inline(always)]
    pub fn release(&mut self) {
        // PAIRS: the kernel's acquire of the consumer index.
        self.shared.word(self.shared.consumer).store(self.next, Ordering::Release);
    }
}

/// All four.
pub(crate) struct Rings {
    /// Buffers for the kernel to receive into.
    pub fill: Producer<u64>,
    /// What was received.
    pub receive: Consumer<Descriptor>,
    /// What is to be sent.
    pub transmit: Producer<Descriptor>,
    /// What was sent.
    pub completion: Consumer<u64>,
}

impl Rings {
    /// Maps those of a bound socket.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` also if the rings are not of these sizes.
    pub fn map(socket: impl AsFd, sizes: RingSizes) -> Result<Self, Errno> {
        let socket = socket.as_fd();
        let at = xdp_mmap_offsets(socket)?;
        let map = |at: XdpRingOffset, size: u32, entry_bytes: usize, page: u64| {
            let len = usize::try_from(at.desc).map_err(|_| Errno::INVAL)?;
            let len = len.checked_add(size as usize * entry_bytes).ok_or(Errno::INVAL)?;
            Shared::new(map_ring(socket, len, page)?, at, size, entry_bytes)
        };
        let (receive, transmit) = (sizes.receive, sizes.transmit);
        Ok(Self {
            fill: Producer::new(map(at.fr, receive, 8, XDP_UMEM_PGOFF_FILL_RING)?),
            receive: Consumer::new(map(at.rx, receive, 16, XDP_PGOFF_RX_RING)?),
            transmit: Producer::new(map(at.tx, transmit, 16, XDP_PGOFF_TX_RING)?),
            completion: Consumer::new(map(at.cr, transmit, 8, XDP_UMEM_PGOFF_COMPLETION_RING)?),
        })
    }
}

fn map_ring(socket: BorrowedFd<'_>, len: usize, page: u64) -> Result<Mapping, Errno> {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::SHARED | MapFlags::POPULATE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let base = unsafe { mmap(std::ptr::null_mut(), len, prot, flags, socket, page)? };
    let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
    Ok(Mapping { base, len })
}

#[cfg(test)]
#[path = "rings_tests.rs"]
pub(crate) mod tests;
