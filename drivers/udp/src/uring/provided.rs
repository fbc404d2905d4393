//! The buffers that the kernel may receive into: a ring of them in memory that it reads.
//!
//! # Invariants
//!
//! 1. `ring` is a mapping of `entries` entries, which is this value's and lives as long, or for ever
//!    ([`Provided::leak`]). The kernel only reads it.
//! 2. A buffer stands in the ring only while its token is in `held`, at the place that the entry tells;
//!    it is there until the kernel has said that it is through with it, or the ring of requests has none
//!    left ([`super::Uring`]'s drop). So nobody else reads or writes what the kernel may write.
//! 3. At most `entries` tokens are held, each at a place of its own: no entry that the kernel has not
//!    read yet is written over.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use fbufs::FbufMut;
use io_uring::types::BufRingEntry;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// The ring, and the tokens of what stands in it.
pub(crate) struct Provided {
    ring: NonNull<BufRingEntry>,
    /// A power of two.
    entries: u16,
    /// How many entries were written, modulo 2¹⁶.
    tail: u16,
    /// By place; `None` where the kernel has no buffer.
    held: Box<[Option<FbufMut>]>,
    places: Vec<u16>,
}

// SAFETY: `ring` is owned memory (invariant 1); nothing in it belongs to a thread.
unsafe impl Send for Provided {}

impl Provided {
    /// A ring for so many buffers, at least one, at most 2¹⁵.
    pub fn new(stock: usize) -> Result<Self, Errno> {
        let entries = stock.clamp(1, 1 << 15).next_power_of_two() as u16;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        let (any, len) = (std::ptr::null_mut(), Self::bytes(entries));
        // SAFETY: new memory, where the kernel finds room.
        let ring = unsafe { rustix::mm::mmap_anonymous(any, len, protection, flags) }?;
        Ok(Self {
            ring: NonNull::new(ring.cast()).ok_or(Errno::NOMEM)?,
            entries,
            tail: 0,
            held: (0..entries).map(|_| None).collect(),
            places: (0..entries).rev().collect(),
        })
    }

    fn bytes(entries: u16) -> usize {
        usize::from(entries) * size_of::<BufRingEntry>()
    }

    /// Where the kernel finds it, and how many entries there are.
    pub fn ring(&self) -> (u64, u16) {
        (self.ring.as_ptr() as u64, self.entries)
    }

    /// How many buffers the kernel has.
    #[inline(always)]
    pub fn held(&self) -> usize {
        self.held.len() - self.places.len()
    }

    /// Puts a buffer behind the others, all of it. The kernel sees it after [`Provided::publish`].
    #[inline(always)]
    pub fn give(&mut self, mut buffer: FbufMut) {
        let Some(place) = self.places.pop() else { return };
        let (address, len) = (buffer.as_mut_ptr() as u64, buffer.len() as u32);
        self.held[usize::from(place)] = Some(buffer);
        let at = usize::from(self.tail & (self.entries - 1));
        // SAFETY: within the ring, at an entry that the kernel has read (invariants 1 and 3). The setters
        // leave the tail alone, which lies in the first one's reserved field.
        let entry = unsafe { self.ring.add(at).as_mut() };
        entry.set_addr(address);
        entry.set_len(len);
        entry.set_bid(place);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was given.
    #[inline(always)]
    pub fn publish(&mut self) {
        // SAFETY: the first entry (invariant 1), aligned as it; the kernel reads the tail atomically.
        let tail = unsafe {
            let tail = BufRingEntry::tail(self.ring.as_ptr());
            AtomicU16::from_ptr(tail.cast_mut())
        };
        // PAIRS: the kernel's load-acquire of the tail, before it reads entries.
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes back a buffer that the kernel says it is through with. `None` if it had none there.
    #[inline(always)]
    pub fn take(&mut self, place: u16) -> Option<FbufMut> {
        let buffer = self.held.get_mut(usize::from(place))?.take()?;
        self.places.push(place);
        Some(buffer)
    }

    /// Leaves the memory and the buffers to a kernel that did not say that it is through with them.
    pub fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.held));
        self.entries = 0;
    }
}

impl Drop for Provided {
    fn drop(&mut self) {
        if self.entries > 0 {
            // SAFETY: the mapping that was made for it (invariant 1), which nothing uses any more: the
            // ring of requests was closed before.
            _ = unsafe { rustix::mm::munmap(self.ring.as_ptr().cast(), Self::bytes(self.entries)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use fbufs::{Class, MAX_CLASSES, Pool, PoolOptions};

    use super::*;

    #[test]
    fn what_the_kernel_does_not_have_is_not_taken_from_it() {
        let mut classes = [Class { buffer_bytes: 0, buffers: 0 }; MAX_CLASSES];
        classes[0] = Class { buffer_bytes: 256, buffers: 4 };
        let mut pool = Pool::new(PoolOptions { classes, ..PoolOptions::default() }).unwrap();
        let mut provided = Provided::new(2).unwrap();
        assert!(provided.take(0).is_none());
        provided.give(pool.alloc(256).unwrap());
        provided.publish();
        assert_eq!(provided.held(), 1);
        assert!(provided.take(u16::MAX).is_none());
        assert!(provided.take(1).is_none());
        assert!(provided.take(0).is_some());
        assert!(provided.take(0).is_none(), "not twice");
        assert_eq!((provided.held(), pool.free()), (0, 4));
    }

    #[test]
    fn no_more_are_given_than_have_a_place() {
        let mut pool = Pool::new(PoolOptions::default()).unwrap();
        let mut provided = Provided::new(2).unwrap();
        let before = pool.free();
        (0..5).for_each(|_| provided.give(pool.alloc(1).unwrap()));
        assert_eq!((provided.held(), pool.free()), (2, before - 2));
    }
}
