//! Atomics in a mapping: the only things that are ever referenced in memory a peer can write.
//!
//! The invariants are those of [`crate::memory`].

use std::ptr::NonNull;
use std::sync::Arc;

use crate::memory::Mapping;
use crate::sync::AtomicU64;

/// Types that may be referenced in memory that another process writes.
///
/// # Safety
/// The type is `repr(C)` or `repr(transparent)`, consists of `AtomicU64` only, and so every bit
/// pattern is a value and every access is atomic.
pub(crate) unsafe trait Cells {}

// SAFETY: it is one.
unsafe impl Cells for AtomicU64 {}

/// An array of atomics in a mapping, kept mapped while this lives.
pub(crate) struct View<T> {
    cells: NonNull<[T]>,
    _keep: Keep<T>,
}

enum Keep<T> {
    Mapped {
        _map: Arc<Mapping>,
        _of: std::marker::PhantomData<T>,
    },
    #[cfg(any(test, loom))]
    Heap {
        _cells: Arc<Vec<T>>,
    },
}

// SAFETY: a view gives out shared references to atomics only.
unsafe impl<T: Cells> Send for View<T> {}
// SAFETY: as above.
unsafe impl<T: Cells> Sync for View<T> {}

impl<T: Cells> View<T> {
    pub(crate) fn mapped(map: &Arc<Mapping>, offset: usize, count: usize) -> Option<Self> {
        let bytes = count.checked_mul(size_of::<T>())?;
        let base = map.range(offset, bytes, align_of::<T>())?;
        let cells = NonNull::slice_from_raw_parts(base.cast::<T>(), count);
        Some(Self {
            cells,
            _keep: Keep::Mapped { _map: map.clone(), _of: std::marker::PhantomData },
        })
    }

    /// Cells on the heap, shared by every view made of the same `Arc`: for models and tests.
    #[cfg(any(test, loom))]
    pub(crate) fn heap(cells: &Arc<Vec<T>>) -> Self {
        let slice = NonNull::from(cells.as_slice());
        Self { cells: slice, _keep: Keep::Heap { _cells: cells.clone() } }
    }
}

impl<T: Cells> std::ops::Deref for View<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the range was checked when the view was made (invariant 5), stays mapped while it
        // lives (invariants 1 and 2), and holds atomics, whose references peers may race (3).
        unsafe { self.cells.as_ref() }
    }
}
