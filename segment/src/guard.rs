//! Buffers whose writer has given up its write access, by the kernel's word.
//!
//! A [`Block`] is the right to write a buffer. [`Secured::new`] takes it, and makes the buffer's pages
//! read-only in this process; [`Secured::restore`] gives both back. Between the two nobody writes the
//! buffer by mistake: safe code has no `&mut [u8]` of it, for the token is inside; a stray pointer of
//! this process faults; and a system call that would write there fails with `EFAULT`.
//!
//! # What it promises, and against whom
//!
//! It is a guard of an honest writer against its own bugs. It binds nobody who wants to write: a
//! process can undo mprotect(2), can have mapped the memfd twice before it was sealed, or duplicate
//! the mapping at any time (mremap(2) with an old size of zero), can have forked a child that has the
//! mapping, or have registered the buffer with io_uring beforehand, and a receiver sees none of it.
//! A receiver that distrusts the writer copies, whatever the writer says that it did.
//!
//! # Invariants
//!
//! 1. While a `Secured` lives its block is inside, and is borrowed for reading only: so no reference
//!    through which safe code may write leads to pages that are read-only.
//! 2. A block leaves a `Secured`, or is dropped and minted again, only when its pages are writable.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::mm::{MprotectFlags, mprotect};
use rustix::param::page_size;

use crate::blocks::{Block, Blocks};

/// Why the write access to a buffer was not taken away, or not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The buffer shares a page with others, which would be protected with it. On huge pages a page
    /// is 2 MiB.
    #[error(
        "the buffer does not consist of whole pages: make its size a multiple of the page's, or copy"
    )]
    NotWholePages,
    /// The process has as many mappings as it may; a protected buffer can cost two.
    #[error("the process has too many mappings: raise vm.max_map_count, or copy")]
    TooManyMappings,
    /// The kernel refused for another reason.
    #[error("the kernel refused to change the buffer's protection: {0}")]
    Kernel(Errno),
}

/// A buffer that can be read, and whose pages this process cannot write until it is restored.
///
/// It owns the buffer's token. If it is dropped the buffer becomes writable and free; should the
/// kernel refuse that, the buffer is never used again.
///
/// Writing after the hand-over does not compile, neither through the token, which is gone,
///
/// ```compile_fail,E0382
/// fn hand_over(mut block: segment::blocks::Block) {
///     let secured = segment::guard::Secured::new(block);
///     block[0] = 1;
/// }
/// ```
///
/// nor through what took its place:
///
/// ```compile_fail,E0594
/// fn write(mut secured: segment::guard::Secured) {
///     secured[0] = 1;
/// }
/// ```
#[derive(Debug)]
pub struct Secured {
    block: ManuallyDrop<Block>,
}

impl Secured {
    /// Takes the write access to a buffer away from this process. All of its pages stay readable.
    ///
    /// # Errors
    /// [`GuardError`], with the block, which is writable as before.
    ///
    /// # Cost
    /// One system call, linear in the number of pages, and an interrupt of every other processor
    /// that runs a thread of this process. So it pays for large buffers, most of all on huge pages,
    /// where the number is small.
    pub fn new(block: Block) -> Result<Self, (GuardError, Block)> {
        match set(&block, MprotectFlags::READ) {
            Ok(()) => Ok(Self { block: ManuallyDrop::new(block) }),
            Err(error) => Err((error, block)),
        }
    }

    /// Gives the write access back.
    ///
    /// # Errors
    /// [`GuardError`], with the buffer, which is protected as before: try again later.
    ///
    /// # Cost
    /// As [`Secured::new`].
    pub fn restore(self) -> Result<Block, (GuardError, Self)> {
        match set(&self.block, MprotectFlags::READ | MprotectFlags::WRITE) {
            Ok(()) => {
                let mut this = ManuallyDrop::new(self);
                // SAFETY: `this` is never used again nor dropped, so that the block moves out once;
                // its pages are writable (invariant 2).
                Ok(unsafe { ManuallyDrop::take(&mut this.block) })
            }
            Err(error) => Err((error, self)),
        }
    }

    /// Revokes it: whoever reads it from now on in another domain learns it.
    pub fn revoke(&self) {
        self.block.revoke();
    }

    /// The region it is of.
    pub fn region(&self) -> &Arc<Blocks> {
        self.block.region()
    }

    /// The buffer's number within its region.
    #[inline(always)]
    pub fn index(&self) -> usize {
        self.block.index()
    }
}

impl Deref for Secured {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.block
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        // A refusal leaks the token: its buffer can then never be handed out to be written
        // (invariant 2).
        if set(&self.block, MprotectFlags::READ | MprotectFlags::WRITE).is_ok() {
            // SAFETY: this is the drop of the value that holds it, so it happens once.
            unsafe { ManuallyDrop::drop(&mut self.block) };
        }
    }
}

/// Sets the protection of a block's pages.
fn set(block: &Block, flags: MprotectFlags) -> Result<(), GuardError> {
    let bytes: &[u8] = block;
    let whole = |number: usize| number.is_multiple_of(page_size());
    // The kernel would round the length up, into the next buffer.
    if bytes.is_empty() || !whole(bytes.as_ptr() as usize) || !whole(bytes.len()) {
        return Err(GuardError::NotWholePages);
    }
    let base = bytes.as_ptr().cast_mut().cast();
    // SAFETY: the pages are the block's alone, of a mapping that lives as long as it, and stay
    // readable. Who calls owns the block and gives out no reference to write through (invariant 1).
    unsafe { mprotect(base, bytes.len(), flags) }.map_err(|errno| match errno {
        // The range was whole pages of the usual size, so its memory has larger ones.
        Errno::INVAL => GuardError::NotWholePages,
        Errno::NOMEM => GuardError::TooManyMappings,
        other => GuardError::Kernel(other),
    })
}
