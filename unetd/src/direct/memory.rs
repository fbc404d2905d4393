//! The check of a file that a client wants its socket to use.
//!
//! Nothing may be asked of it before it is known to be a memfd: the kernel passes most questions on to a
//! file's file system, which may be the client's own (FUSE). `F_GET_SEALS` is none of these.

use std::os::fd::BorrowedFd;

use driver_af_xdp::lent::message::{Refused, Request};
use driver_af_xdp::socket::Unbound;
use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs};
use unet::device::OpenError;

const HUGETLB: i64 = 0x9584_58f6;
const PAGE: u64 = 4096;
const BLOCK: u64 = 512;

/// How many bytes a request is about, if its numbers are within bounds.
pub(super) fn bytes(request: &Request) -> Result<u64, Refused> {
    let buffers = (16..=65_536).contains(&request.buffers);
    if !buffers || !matches!(request.buffer_bytes, 2048 | 4096) {
        return Err(Refused::Malformed);
    }
    Ok(u64::from(request.buffers) * u64::from(request.buffer_bytes))
}

/// Checks that a file is a memfd of exactly that size, which it keeps for ever, and whose pages are there,
/// on the client's account. Huge pages are refused: a mapping of theirs is not what its size says.
pub(super) fn check(file: BorrowedFd<'_>, bytes: u64) -> Result<(), Refused> {
    let seals = fcntl_get_seals(file).map_err(|_| Refused::Memory)?;
    let size_is_sealed = seals.contains(SealFlags::SHRINK | SealFlags::GROW);
    let others = SealFlags::SEAL | SealFlags::WRITE | SealFlags::FUTURE_WRITE;
    if !size_is_sealed || seals.intersects(others) {
        return Err(Refused::Memory);
    }
    let huge = fstatfs(file).is_ok_and(|of| of.f_type == HUGETLB);
    let stat = fstat(file).map_err(|_| Refused::Memory)?;
    let (size, blocks) = (stat.st_size.unsigned_abs(), stat.st_blocks.unsigned_abs());
    if huge || size != bytes.next_multiple_of(PAGE) || blocks.saturating_mul(BLOCK) < bytes {
        return Err(Refused::Memory);
    }
    Ok(())
}

/// Registers a checked file with a socket, and then forbids every further writable mapping of it.
pub(super) fn register(
    socket: &Unbound,
    file: BorrowedFd<'_>,
    request: &Request,
) -> Result<(), Refused> {
    let (bytes, buffers) = (request.buffer_bytes as usize, request.buffers as usize);
    socket.register_file(file, bytes, buffers).map_err(|error| match error {
        OpenError::NotPermitted(_) => Refused::Memory,
        other => other.into(),
    })?;
    fcntl_add_seals(file, SealFlags::FUTURE_WRITE | SealFlags::SEAL).map_err(|_| Refused::Memory)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use driver_af_xdp::Way;
    use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};

    use super::*;

    const LEN: u64 = 32 * 2048;
    const SIZE: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

    fn memfd(seals: SealFlags, allocated: bool) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("test", flags).expect("memory");
        ftruncate(&file, LEN).expect("memory");
        if allocated {
            fallocate(&file, FallocateFlags::empty(), 0, LEN).expect("memory");
        }
        fcntl_add_seals(&file, seals).expect("none is there");
        file
    }

    #[test]
    fn only_an_allocated_memfd_of_one_size_for_ever_is_taken() {
        assert_eq!(check(memfd(SIZE, true).as_fd(), LEN), Ok(()));
        for seals in [
            SealFlags::empty(),
            SealFlags::GROW,
            SealFlags::SHRINK,
            SIZE | SealFlags::SEAL,
            SIZE | SealFlags::WRITE,
            SIZE | SealFlags::FUTURE_WRITE,
        ] {
            assert_eq!(check(memfd(seals, true).as_fd(), LEN), Err(Refused::Memory), "{seals:?}");
        }
        assert_eq!(check(memfd(SIZE, false).as_fd(), LEN), Err(Refused::Memory), "no pages");
        for wrong in [0, LEN - 4096, LEN + 2048, LEN + 4096, u64::MAX - 4096] {
            assert_eq!(check(memfd(SIZE, true).as_fd(), wrong), Err(Refused::Memory), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_memfd_is_not_taken() {
        let (reader, writer) = std::io::pipe().expect("descriptors");
        let file = std::fs::File::open("/proc/self/exe").expect("it is this program");
        let zero = std::fs::File::open("/dev/zero").expect("it is there");
        for wrong in [reader.as_fd(), writer.as_fd(), file.as_fd(), zero.as_fd()] {
            assert_eq!(check(wrong, LEN), Err(Refused::Memory));
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_no_request() {
        let request = Request {
            interface: "eth0".into(),
            queue: None,
            port: 0,
            buffers: 32,
            buffer_bytes: 2048,
            way: Way::Auto,
            several: false,
        };
        assert_eq!(bytes(&request), Ok(LEN));
        for buffers in [0, 15, 65_537, u32::MAX] {
            let request = Request { buffers, ..request.clone() };
            assert_eq!(bytes(&request), Err(Refused::Malformed));
        }
        for buffer_bytes in [0, 64, 1024, 8192, u32::MAX] {
            let request = Request { buffer_bytes, ..request.clone() };
            assert_eq!(bytes(&request), Err(Refused::Malformed));
        }
    }
}
