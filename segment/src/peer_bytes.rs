//! Bytes of a peer's segment: copied out, never referenced.
//!
//! The invariants are those of [`crate::memory`].

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::Mapping;

/// Bytes that the peer may change at any time. They can be copied out, never referenced.
#[derive(Clone, Debug)]
pub struct PeerBytes {
    base: NonNull<u8>,
    len: usize,
    _map: Arc<Mapping>,
}

// SAFETY: it can only be copied from, which is sound while others write (invariant 3).
unsafe impl Send for PeerBytes {}
// SAFETY: as above.
unsafe impl Sync for PeerBytes {}

impl PeerBytes {
    /// Of a range that was checked against the mapping.
    pub(crate) fn new(base: NonNull<u8>, len: usize, map: Arc<Mapping>) -> Self {
        Self { base, len, _map: map }
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `to` with the bytes from `offset` on. `false`, and nothing copied, if that is outside.
    ///
    /// The bytes are those of some moment each, not all of the same moment: check the copy, and
    /// use only the copy.
    ///
    /// # Cost
    /// One copy.
    #[inline]
    #[must_use]
    pub fn copy_to(&self, offset: usize, to: &mut [u8]) -> bool {
        let Some(end) = offset.checked_add(to.len()) else { return false };
        if end > self.len {
            return false;
        }
        // SAFETY: the source range lies in the mapping (just checked; invariants 1, 2, 5), the
        // target is an exclusive slice of this process, and the copy tolerates a racing writer (3).
        unsafe { copy_out(self.base.as_ptr().add(offset), to.as_mut_ptr(), to.len()) };
        true
    }

    /// Passes `len` bytes from `offset` on to `each`, as words in the byte order of the machine, the
    /// last one filled up with zeros. `false`, and nothing read, if that is outside.
    ///
    /// For sums and comparisons over memory that is too large to be copied for that.
    ///
    /// # Cost
    /// One load for each word; for the bytes of one that is not aligned, one each.
    #[must_use]
    pub fn for_each_word(&self, offset: usize, len: usize, mut each: impl FnMut(u64)) -> bool {
        let Some(end) = offset.checked_add(len) else { return false };
        if end > self.len {
            return false;
        }
        // SAFETY: within the range, which was just checked.
        let base = unsafe { self.base.as_ptr().add(offset) };
        let words = if (base as usize).is_multiple_of(8) { len / 8 } else { 0 };
        let blocks = words / BLOCK;
        for block in 0..blocks {
            // SAFETY: a block of aligned words within the range (just checked; invariants 1, 2, 5).
            let words = unsafe { read_block(base.cast::<AtomicU64>().add(block * BLOCK)) };
            words.into_iter().for_each(&mut each);
        }
        for word in blocks * BLOCK..words {
            // SAFETY: an aligned word within the range (just checked; invariants 1, 2, 5), read as an
            // atomic, which tolerates a racing writer (3).
            each(unsafe { (*base.cast::<AtomicU64>().add(word)).load(Ordering::Relaxed) });
        }
        let mut at = words * 8;
        while at < len {
            let mut word = [0u8; 8];
            let piece = (len - at).min(8);
            // SAFETY: `piece` bytes from `at` on lie within the range; the target is a local.
            unsafe { copy_out(base.add(at), word.as_mut_ptr(), piece) };
            each(u64::from_ne_bytes(word));
            at += piece;
        }
        true
    }
}

/// Words that are read at once.
const BLOCK: usize = 8;

/// Reads a cache line's worth of words that another process may be writing.
///
/// In assembly, so that the reads are no accesses the compiler knows of, and by vector registers:
/// by words, as atomics must be read, one core does not keep up with its caches.
///
/// # Safety
/// `from` is readable for [`BLOCK`] words.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn read_block(from: *const AtomicU64) -> [u64; BLOCK] {
    use core::arch::x86_64::__m128i;
    let (a, b, c, d): (__m128i, __m128i, __m128i, __m128i);
    // SAFETY: the caller's range; the loads need no alignment.
    unsafe {
        core::arch::asm!(
            "movdqu {a}, [{from}]",
            "movdqu {b}, [{from} + 16]",
            "movdqu {c}, [{from} + 32]",
            "movdqu {d}, [{from} + 48]",
            from = in(reg) from,
            a = out(xmm_reg) a, b = out(xmm_reg) b, c = out(xmm_reg) c, d = out(xmm_reg) d,
            options(nostack, preserves_flags, readonly)
        );
    }
    // SAFETY: both are 64 bytes of which every value is valid.
    unsafe { core::mem::transmute::<[__m128i; 4], [u64; BLOCK]>([a, b, c, d]) }
}

/// Reads a cache line's worth of words that another process may be writing.
///
/// # Safety
/// `from` is readable for [`BLOCK`] words, and aligned to one.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn read_block(from: *const AtomicU64) -> [u64; BLOCK] {
    // SAFETY: aligned words of the caller's range, read as atomics.
    core::array::from_fn(|word| unsafe { (*from.add(word)).load(Ordering::Relaxed) })
}

/// Copies bytes that another process may be writing.
///
/// In assembly, so that the read is no access the compiler knows of: it can neither assume that two
/// reads agree nor read twice.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's ranges; the direction flag is clear by the calling convention.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Copies bytes that another process may be writing, one atomic load at a time.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
    let word = size_of::<usize>();
    let mut at = 0;
    while at < len {
        // SAFETY: at < len, so both addresses are within the caller's ranges; the word access is
        // used only where the source is aligned and a whole word is left.
        unsafe {
            let source = from.add(at);
            if (source as usize).is_multiple_of(word) && len - at >= word {
                let value = (*source.cast::<AtomicUsize>()).load(Ordering::Relaxed);
                to.add(at).cast::<usize>().write_unaligned(value);
                at += word;
            } else {
                to.add(at).write((*source.cast::<AtomicU8>()).load(Ordering::Relaxed));
                at += 1;
            }
        }
    }
}
