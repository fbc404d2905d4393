//! Sealed memfds: made and written by one process, verified and read by another.
//!
//! The kernel keeps the promise that every page has one writer. The originator maps its memfd
//! writable, then seals it against shrinking, growing, any further writable mapping, and further
//! seals ([`SEALS`]); only then does the descriptor leave the process. The receiver checks all of
//! that before it maps, and can map for reading only. See memfd_create(2), fcntl(2).
//!
//! # Invariants
//!
//! 1. A mapping lives as long as any view of it: views hold the `Mapping` by `Arc`.
//! 2. A mapping's pages exist for its whole length for its whole life: its file is sealed against
//!    shrinking, and for huge pages the kernel reserved them when it was mapped.
//! 3. Nothing but atomics (`Cells`) is ever referenced in memory that a peer can write; its bytes
//!    are only copied out, by instructions the compiler may not reason about (`copy_out`).
//! 4. Own memory handed out as `&mut [u8]` has exactly one [`OwnBytes`] for its range, carved once.
//! 5. Every offset and length is checked against the mapping when a view is made, never later.

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{FileType, memfd_create};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mlock, mmap, munmap};

pub use crate::peer_bytes::PeerBytes;
use crate::view::{Cells, View};

/// The seals of every segment: one size for ever, and no writer but the one that is there.
pub const SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// The seals of a segment that is still to be written by one more mapping, which who made it hands it to:
/// one size for ever. [`OwnMemory::seal`] adds the rest.
pub const OPEN_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// No segment may be larger than this, whoever made it.
pub const MAX_SEGMENT_BYTES: usize = 1 << 30;

/// What backs a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backing {
    /// Use 2 MiB pages, which an administrator must have set aside (`vm.nr_hugepages`).
    pub huge_pages: bool,
    /// Lock the pages into memory; counts against `RLIMIT_MEMLOCK`.
    pub locked: bool,
}

impl Backing {
    /// The size of a page of this backing.
    pub const fn page_bytes(self) -> usize {
        if self.huge_pages { 2 << 20 } else { 4096 }
    }
}

/// Why a segment could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The process or the system has no descriptor left.
    #[error("no file descriptor is left: raise the limit (ulimit -n) or close channels")]
    OutOfDescriptors,
    /// The kernel has no memory, or no address space, for the segment.
    #[error(
        "no memory is left for a segment: make the pools smaller or raise the limit (ulimit -v)"
    )]
    OutOfMemory,
    /// Huge pages were asked for and none are free.
    #[error("no huge page is free: set vm.nr_hugepages, or do without huge pages")]
    NoHugePages,
    /// Locking the segment would exceed `RLIMIT_MEMLOCK`.
    #[error(
        "the segment cannot be locked into memory: raise the limit (ulimit -l), or do not lock"
    )]
    MemoryLockLimit,
    /// The segment would be empty or larger than [`MAX_SEGMENT_BYTES`].
    #[error("a segment has between one byte and 1 GiB: make the pools smaller")]
    Size,
    /// The kernel refused for another reason.
    #[error("the kernel refused to make a segment: {0}")]
    Kernel(Errno),
}

/// Why a peer's segment was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The descriptor is not a memfd.
    #[error("the peer's segment is not a memfd")]
    NotAMemfd,
    /// A seal is missing: the peer could still shrink it, or somebody else write to it.
    #[error("the peer's segment lacks a seal")]
    Unsealed,
    /// The file's size is not what its header says.
    #[error("the peer's segment has not the size that its header says")]
    WrongSize,
    /// The header does not begin with the magic number: not a segment, truncated or punched.
    #[error("the peer's segment has no header")]
    WrongMagic,
    /// The header is of another version.
    #[error("the peer's segment is of version {0}, this program speaks version {ours}", ours = crate::geometry::VERSION)]
    WrongVersion(u32),
    /// The header describes a layout that is out of bounds.
    #[error("the peer's segment has a layout out of bounds")]
    WrongLayout,
    /// The header's incarnation is not the one the peer named.
    #[error("the peer's segment belongs to another incarnation")]
    WrongIncarnation,
    /// No memory or address space is left to map it.
    #[error("no memory is left to map the peer's segment")]
    OutOfMemory,
    /// The kernel refused for another reason.
    #[error("the kernel refused to map the peer's segment: {0}")]
    Kernel(Errno),
}

/// A mapped memfd; unmapped when the last view is gone.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address range of the process, not of a thread; what may be done through
// it is decided by the views (invariants 3 and 4).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, len: usize, prot: ProtFlags) -> Result<Arc<Self>, Errno> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, fd, 0)? };
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Arc::new(Self { base, len }))
    }

    /// The address of a range, if it lies within the mapping and is aligned.
    pub(crate) fn range(&self, offset: usize, len: usize, align: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;
        if end > self.len || !(self.base.as_ptr() as usize + offset).is_multiple_of(align) {
            return None;
        }
        // SAFETY: offset <= len of the mapping, checked above (invariant 5).
        Some(unsafe { self.base.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and no view is left (invariant 1). The error is
        // impossible for such a range, and there would be nobody to tell.
        let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
    }
}

/// A segment that this process made: mapped writable here and, by seal, nowhere else.
#[derive(Debug)]
pub struct OwnMemory {
    fd: OwnedFd,
    map: Arc<Mapping>,
    carved: usize,
}

impl OwnMemory {
    /// Makes, maps and seals a segment of zeros. `name` is what `/proc/PID/fd` shows.
    ///
    /// # Errors
    /// [`CreateError`] says which resource is missing.
    ///
    /// # Cost
    /// Six system calls, seven if locked. Pages are allocated when first touched, unless locked.
    pub fn create(name: &str, len: usize, backing: Backing) -> Result<Self, CreateError> {
        let memory = Self::create_open(name, len, backing)?;
        memory.seal()?;
        Ok(memory)
    }

    /// As [`OwnMemory::create`], but sealed against a change of its size alone: who sets up a device for
    /// this process registers the pages with it, for which the kernel wants a writable mapping. No peer
    /// accepts the segment before [`OwnMemory::seal`].
    ///
    /// # Errors
    /// As [`OwnMemory::create`].
    ///
    /// # Cost
    /// As [`OwnMemory::create`].
    pub fn create_open(name: &str, len: usize, backing: Backing) -> Result<Self, CreateError> {
        if len == 0 || len > MAX_SEGMENT_BYTES {
            return Err(CreateError::Size);
        }
        let len = len.next_multiple_of(backing.page_bytes());
        let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        if backing.huge_pages {
            flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        }
        let out_of = |errno| match errno {
            Errno::MFILE | Errno::NFILE => CreateError::OutOfDescriptors,
            Errno::NOMEM | Errno::NODEV if backing.huge_pages => CreateError::NoHugePages,
            Errno::NOMEM | Errno::NOSPC => CreateError::OutOfMemory,
            other => CreateError::Kernel(other),
        };
        let fd = memfd_create(name, flags).map_err(out_of)?;
        ftruncate(&fd, len as u64).map_err(out_of)?;
        let map =
            Mapping::new(fd.as_fd(), len, ProtFlags::READ | ProtFlags::WRITE).map_err(out_of)?;
        if backing.locked {
            // SAFETY: locking pages changes no memory; the range is the mapping's.
            unsafe { mlock(map.base.as_ptr().cast(), len) }
                .map_err(|_| CreateError::MemoryLockLimit)?;
        }
        fcntl_add_seals(&fd, OPEN_SEALS).map_err(CreateError::Kernel)?;
        Ok(Self { fd, map, carved: 0 })
    }

    /// Forbids every further writable mapping and every further seal. No effect the second time.
    ///
    /// # Errors
    /// [`CreateError::Kernel`].
    ///
    /// # Cost
    /// Two system calls.
    pub fn seal(&self) -> Result<(), CreateError> {
        let seals = fcntl_get_seals(&self.fd).map_err(CreateError::Kernel)?;
        if seals.contains(SEALS) {
            return Ok(());
        }
        fcntl_add_seals(&self.fd, SEALS).map_err(CreateError::Kernel)
    }

    /// Its size in bytes, a multiple of the page size.
    pub fn len(&self) -> usize {
        self.map.len
    }

    /// Never: a segment has at least a page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Atomic words of it. They may overlap other words, not bytes.
    pub(crate) fn cells<T: Cells>(&self, offset: usize, count: usize) -> Option<View<T>> {
        View::mapped(&self.map, offset, count)
    }

    /// Takes the first bytes, once, where nothing was taken before: for memory that is no segment, but
    /// a device's buffers. `None` if there are not as many.
    pub fn take_first(&mut self, len: usize) -> Option<OwnBytes> {
        if self.carved == 0 { self.carve(0, len) } else { None }
    }

    /// Takes a range of bytes out of the segment, once: ranges are carved in ascending order.
    /// `None` if the range is outside, or begins before the end of an earlier one.
    pub(crate) fn carve(&mut self, offset: usize, len: usize) -> Option<OwnBytes> {
        if offset < self.carved {
            return None;
        }
        let base = self.map.range(offset, len, 1)?;
        self.carved = offset + len;
        Some(OwnBytes { base, len, _map: self.map.clone() })
    }
}

impl AsFd for OwnMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Bytes that only this value can write, in a segment that only this process can write.
#[derive(Debug)]
pub struct OwnBytes {
    base: NonNull<u8>,
    len: usize,
    _map: Arc<Mapping>,
}

// SAFETY: it owns its range (invariant 4), like a `Box<[u8]>`.
unsafe impl Send for OwnBytes {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for OwnBytes {}

impl OwnBytes {
    /// Its address, for [`crate::blocks`], which divides the range among its tokens.
    #[inline(always)]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl std::ops::Deref for OwnBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: mapped (1, 2), checked (5), written through this value only (4): the peer's
        // mapping is read-only by seal.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for OwnBytes {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

/// A peer's segment, mapped read-only after verification.
#[derive(Debug)]
pub struct PeerMemory {
    map: Arc<Mapping>,
}

/// The size of a memfd, if it is one and bears every seal.
///
/// # Errors
/// [`AttachError::NotAMemfd`] or [`AttachError::Unsealed`].
///
/// # Cost
/// Two system calls.
pub fn sealed_len(fd: BorrowedFd<'_>) -> Result<usize, AttachError> {
    let seals = fcntl_get_seals(fd).map_err(|_| AttachError::NotAMemfd)?;
    if !seals.contains(SEALS) {
        return Err(AttachError::Unsealed);
    }
    let stat = fstat(fd).map_err(AttachError::Kernel)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(AttachError::NotAMemfd);
    }
    usize::try_from(stat.st_size).map_err(|_| AttachError::WrongSize)
}

impl PeerMemory {
    /// Maps a segment of exactly `len` bytes for reading, after checking its seals and its size.
    ///
    /// # Errors
    /// [`AttachError`] names the check that failed.
    ///
    /// # Cost
    /// Three system calls.
    pub fn map(fd: BorrowedFd<'_>, len: usize) -> Result<Self, AttachError> {
        if sealed_len(fd)? != len || len == 0 || len > MAX_SEGMENT_BYTES {
            return Err(AttachError::WrongSize);
        }
        match Mapping::new(fd, len, ProtFlags::READ) {
            Ok(map) => Ok(Self { map }),
            Err(Errno::NOMEM) => Err(AttachError::OutOfMemory),
            Err(other) => Err(AttachError::Kernel(other)),
        }
    }

    /// Atomic words of it.
    pub(crate) fn cells<T: Cells>(&self, offset: usize, count: usize) -> Option<View<T>> {
        View::mapped(&self.map, offset, count)
    }

    /// A range of its bytes. `None` if outside.
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> Option<PeerBytes> {
        let base = self.map.range(offset, len, 1)?;
        Some(PeerBytes::new(base, len, self.map.clone()))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_open_memory_can_be_mapped_writable_until_it_is_sealed_and_never_resized() {
        let memory = OwnMemory::create_open("unet-open", 4096, Backing::default()).expect("memory");
        assert_eq!(ftruncate(&memory, 0), Err(Errno::PERM));
        assert_eq!(PeerMemory::map(memory.as_fd(), 4096).err(), Some(AttachError::Unsealed));
        let writable = ProtFlags::READ | ProtFlags::WRITE;
        drop(Mapping::new(memory.as_fd(), 4096, writable).expect("for who registers it"));
        memory.seal().expect("it can be sealed");
        assert_eq!(Mapping::new(memory.as_fd(), 4096, writable).err(), Some(Errno::PERM));
        PeerMemory::map(memory.as_fd(), 4096).expect("a peer accepts it now");
    }
}
