//! Pools whose buffers a device reads and writes.

use std::os::fd::{AsFd, BorrowedFd};

use segment::geometry::{Class, MAX_BUFFER_BYTES};
use segment::memory::{Backing, CreateError, OwnMemory};

use crate::Pool;
use crate::pool::Parts;

/// Where the buffers of a pool of one class lie, one beside the other: what a driver tells its device.
///
/// The device may read and write a buffer while the driver holds its handle, and no longer: a driver ends
/// the device's access before it lets go of handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisteredMemory {
    /// The first buffer's address, at the beginning of a page.
    pub address: usize,
    /// Bytes of each buffer.
    pub buffer_bytes: usize,
    /// How many there are.
    pub buffers: usize,
}

impl Pool {
    /// Makes the pool of a device: one class, as many buffers as fit into 1 GiB, in memory that is
    /// nothing else. It cannot be part of a path. It is sealed against a change of its size alone until
    /// [`Pool::seal`], so that who sets up the device for this process can map it writable once, to
    /// register it.
    ///
    /// # Errors
    /// [`CreateError::Size`] if there are no buffers, too many, or of a size that is not a multiple of
    /// 64; else what the kernel lacks.
    ///
    /// # Cost
    /// Four system calls; pages are allocated when first touched.
    pub fn for_device(class: Class, huge_pages: bool) -> Result<Self, CreateError> {
        let buffer_bytes = class.buffer_bytes as usize;
        let fits =
            (1..=MAX_BUFFER_BYTES).contains(&buffer_bytes) && buffer_bytes.is_multiple_of(64);
        if !fits || class.buffers == 0 {
            return Err(CreateError::Size);
        }
        let len = buffer_bytes.checked_mul(class.buffers as usize).ok_or(CreateError::Size)?;
        let backing = Backing { huge_pages, locked: false };
        let mut memory = OwnMemory::create_open("fbufs-device", len, backing)?;
        let bytes = memory.take_first(len).ok_or(CreateError::Size)?;
        Ok(Parts::of_one(bytes, buffer_bytes).finish_in(None, Some(memory)))
    }

    /// Where the buffers lie, if all are of one class: to be registered with a device.
    pub fn memory(&self) -> Option<RegisteredMemory> {
        let blocks = self.only_class()?;
        Some(RegisteredMemory {
            address: blocks.address().as_ptr() as usize,
            buffer_bytes: blocks.buffer_bytes(),
            buffers: blocks.count(),
        })
    }

    /// The file of a device's pool, whose first byte is the first buffer's: for who registers it.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.region().memory.as_ref().map(AsFd::as_fd)
    }

    /// Forbids every further writable mapping of a device's pool, once it is registered. No effect on
    /// other pools, which are sealed from the beginning.
    ///
    /// # Errors
    /// [`CreateError::Kernel`].
    pub fn seal(&self) -> Result<(), CreateError> {
        self.region().memory.as_ref().map_or(Ok(()), OwnMemory::seal)
    }
}

#[cfg(test)]
mod tests {
    use segment::memory::{AttachError, sealed_len};

    use super::*;

    #[test]
    fn a_devices_pool_has_as_many_buffers_as_a_ring_wants() {
        let class = Class { buffer_bytes: 2048, buffers: 2047 };
        let mut pool = Pool::for_device(class, false).expect("memory");
        assert_eq!((pool.total(), pool.free()), (2047, 2047));
        let memory = pool.memory().expect("one class");
        assert_eq!((memory.buffer_bytes, memory.buffers), (2048, 2047));
        assert!(memory.address.is_multiple_of(4096));
        let fbuf = pool.alloc(2048).expect("free");
        let first = fbuf.number();
        drop(fbuf);
        assert_eq!(pool.alloc(1).expect("free").number(), first);
    }

    #[test]
    fn a_devices_pool_is_refused_by_peers_until_it_is_sealed() {
        let class = Class { buffer_bytes: 4096, buffers: 2 };
        let pool = Pool::for_device(class, false).expect("memory");
        let file = pool.file().expect("a file of its own");
        assert_eq!(sealed_len(file), Err(AttachError::Unsealed));
        pool.seal().expect("it can be sealed");
        pool.seal().expect("again");
        assert_eq!(sealed_len(file), Ok(8192));
    }

    #[test]
    fn a_devices_pool_of_nonsense_is_refused() {
        for (buffer_bytes, buffers) in [(0, 1), (2048, 0), (100, 1), (1 << 20, 4096)] {
            let class = Class { buffer_bytes, buffers };
            assert_eq!(Pool::for_device(class, false).err(), Some(CreateError::Size));
        }
    }
}
