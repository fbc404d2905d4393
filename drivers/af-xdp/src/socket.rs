//! AF_XDP sockets: opened, given memory, bound to a queue. After that the descriptor alone is enough to
//! use it, in any process and without privilege.
//!
//! # Invariants
//!
//! 1. The kernel reads and writes a socket's memory only where a descriptor or an address in its rings
//!    says, which `device` writes for buffers whose tokens it holds. It pins the pages: they stay what
//!    they are when a mapping of them goes.
//! 2. A mapping that is made here is unmapped here, and no reference to its bytes is ever made.
//! 3. An option's value is of the type that the kernel reads for it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use fbufs::Pool;
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::sockopt::{
    set_xdp_rx_ring_size, set_xdp_tx_ring_size, set_xdp_umem_completion_ring_size,
    set_xdp_umem_fill_ring_size, set_xdp_umem_reg,
};
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags, XdpUmemReg, XdpUmemRegFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use unet::device::{Mode, OpenError};

use crate::options::BusyPoll;
use crate::program::NO_CAPABILITY;

/// How long binding waits for the queue's last socket, which the kernel releases late.
pub const RELEASE: Duration = Duration::from_millis(1500);
const RETRY: Duration = Duration::from_millis(20);

/// The most pieces of a frame: of what the kernel allows, as much as a frame of 9,000 bytes needs, and
/// some more.
pub const MAX_PIECES: usize = 16;
/// What the kernel leaves free before what it receives.
pub const RECEIVE_HEADROOM: usize = 256;

const SOL_XDP: i32 = 283;
const XDP_MAX_TX_BUDGET: i32 = 9;
const PREFER_BUSY_POLL: i32 = 69;
const BUSY_POLL_BUDGET: i32 = 70;
/// The kernel's own number for "not supported", which leaks from some drivers.
const NOT_SUPPORTED: i32 = 524;

/// How many entries each ring has: powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Of the fill and the receive ring.
    pub receive: u32,
    /// Of the transmit and the completion ring.
    pub transmit: u32,
}

impl RingSizes {
    /// Half of the buffers to receive into, half to send from.
    pub fn of(buffers: usize) -> Self {
        let size = |buffers: usize| (buffers.clamp(2, 1 << 15) as u32).next_power_of_two();
        Self {
            receive: size(stock(buffers)),
            transmit: size(buffers - stock(buffers).min(buffers)),
        }
    }

    /// Whether the kernel could have made such rings.
    pub fn is_valid(&self) -> bool {
        [self.receive, self.transmit]
            .iter()
            .all(|size| size.is_power_of_two() && (2..=1 << 15).contains(size))
    }
}

/// How many of so many buffers are for receiving.
pub(crate) fn stock(buffers: usize) -> usize {
    (buffers / 2).max(1)
}

/// What a bound socket is bound to, and how: what a process that receives one must be told. The agent
/// passes it along; all of it is checked by [`crate::AfXdp::from_bound`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The interface's number.
    pub interface: u32,
    /// The queue.
    pub queue: u32,
    /// The interface's Ethernet address.
    pub mac: [u8; 6],
    /// The most bytes behind the Ethernet header.
    pub mtu: usize,
    /// How packets get to the memory.
    pub mode: Mode,
    /// The most pieces of a frame: one, or [`MAX_PIECES`].
    pub pieces: usize,
    /// The sizes of the rings.
    pub rings: RingSizes,
    /// The UDP port whose packets are steered to it.
    pub port: u16,
}

/// A socket that is not bound yet. Not to be passed on: who has it can bind it to any queue.
#[derive(Debug)]
pub struct Unbound {
    fd: OwnedFd,
}

impl Unbound {
    /// Opens one.
    ///
    /// # Errors
    /// [`OpenError::NotPermitted`], [`OpenError::Unsupported`] by a kernel without AF_XDP.
    pub fn open() -> Result<Self, OpenError> {
        let family = AddressFamily::from_raw(libc::AF_XDP as u16);
        let flags = SocketFlags::CLOEXEC;
        let fd =
            socket_with(family, SocketType::RAW, flags, None).map_err(|errno| match errno {
                Errno::PERM | Errno::ACCESS => NO_CAPABILITY,
                Errno::AFNOSUPPORT => OpenError::Unsupported("this kernel has no AF_XDP: use udp:"),
                errno => OpenError::Kernel { step: "open an AF_XDP socket", errno },
            })?;
        Ok(Self { fd })
    }

    /// Registers a pool of this process.
    ///
    /// # Errors
    /// [`OpenError::MemoryLock`]; [`OpenError::Unsupported`] for buffers of another size than 2048 or
    /// 4096.
    ///
    /// # Cost
    /// Pins, and so allocates, all pages.
    pub fn register(&self, pool: &Pool) -> Result<(), OpenError> {
        let memory = pool.memory().ok_or(SIZE)?;
        self.register_at(memory.address, memory.buffer_bytes, memory.buffers)
    }

    /// Registers the pool of another process, by its file ([`Pool::file`]), which must be sealed against
    /// shrinking and not yet against a writable mapping; one is made and removed here. Nothing in the
    /// file is read or believed.
    ///
    /// # Errors
    /// As [`Unbound::register`]; [`OpenError::NotPermitted`] for a file that is not such.
    ///
    /// # Cost
    /// As [`Unbound::register`].
    pub fn register_file(
        &self,
        file: BorrowedFd<'_>,
        buffer_bytes: usize,
        buffers: usize,
    ) -> Result<(), OpenError> {
        let len = buffer_bytes.checked_mul(buffers).filter(|len| *len > 0).ok_or(SIZE)?;
        let seals = fcntl_get_seals(file).unwrap_or(SealFlags::empty());
        let size = fstat(file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
        if !seals.contains(SealFlags::SHRINK) || size < len as u64 {
            return Err(FILE);
        }
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // Huge pages are mapped as wholes: the file has no other size.
        let mapped = usize::try_from(size).map_err(|_| FILE)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { mmap(std::ptr::null_mut(), mapped, prot, MapFlags::SHARED, file, 0) };
        let base = base.map_err(|errno| match errno {
            Errno::NOMEM => OpenError::MemoryLock,
            _ => FILE,
        })?;
        let registered = self.register_at(base as usize, buffer_bytes, buffers);
        // SAFETY: invariant 2; the kernel holds the pages, not the mapping (invariant 1). It cannot fail
        // for a mapping that was just made.
        let _ = unsafe { munmap(base, mapped) };
        registered
    }

    /// Tells the kernel which memory is the socket's. What it will do there is invariant 1.
    pub(crate) fn register_at(
        &self,
        address: usize,
        buffer_bytes: usize,
        buffers: usize,
    ) -> Result<(), OpenError> {
        if !matches!(buffer_bytes, 2048 | 4096) || buffers == 0 {
            return Err(SIZE);
        }
        let memory = XdpUmemReg {
            addr: address as u64,
            len: (buffer_bytes * buffers) as u64,
            chunk_size: buffer_bytes as u32,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        set_xdp_umem_reg(&self.fd, memory).map_err(|errno| match errno {
            Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN => OpenError::MemoryLock,
            errno => OpenError::Kernel { step: "register the buffers", errno },
        })
    }

    /// Makes the rings.
    ///
    /// # Errors
    /// [`OpenError::Kernel`].
    pub fn make_rings(&self, sizes: RingSizes) -> Result<(), OpenError> {
        set_xdp_umem_fill_ring_size(&self.fd, sizes.receive)
            .and_then(|()| set_xdp_rx_ring_size(&self.fd, sizes.receive))
            .and_then(|()| set_xdp_umem_completion_ring_size(&self.fd, sizes.transmit))
            .and_then(|()| set_xdp_tx_ring_size(&self.fd, sizes.transmit))
            .map_err(|errno| OpenError::Kernel { step: "make the rings", errno })?;
        // How much one kick sends, where the kernel lets it be chosen (6.18); 32 packets elsewhere.
        let _ = set_option(self.fd.as_fd(), SOL_XDP, XDP_MAX_TX_BUDGET, sizes.transmit as i32);
        Ok(())
    }

    /// Asks the kernel to poll the interface's driver in this socket's system calls.
    ///
    /// # Errors
    /// [`OpenError::NotPermitted`], [`OpenError::Kernel`].
    pub fn busy_poll(&self, busy_poll: BusyPoll) -> Result<(), OpenError> {
        let options = [
            (PREFER_BUSY_POLL, 1),
            (libc::SO_BUSY_POLL, i32::from(busy_poll.micros)),
            (BUSY_POLL_BUDGET, i32::from(busy_poll.budget)),
        ];
        let set = |(name, value)| set_option(self.fd.as_fd(), libc::SOL_SOCKET, name, value);
        options.into_iter().try_for_each(set).map_err(|errno| match errno {
            Errno::PERM => {
                OpenError::NotPermitted("busy polling needs CAP_NET_ADMIN: open without busy-poll")
            }
            errno => OpenError::Kernel { step: "set busy polling", errno },
        })
    }

    /// Binds it to a queue; where one of a kind is not possible, it can be tried with another. Waits at
    /// most `patience` for the queue's last socket, which the kernel releases late.
    ///
    /// # Errors
    /// [`OpenError::Busy`], [`OpenError::Unsupported`], [`OpenError::BadValue`] for a queue that is not
    /// there.
    pub fn bind(
        &self,
        interface: u32,
        queue: u32,
        zero_copy: bool,
        pieces: usize,
        patience: Duration,
    ) -> Result<(), OpenError> {
        let mut flags = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        flags |=
            if zero_copy { SocketAddrXdpFlags::XDP_ZEROCOPY } else { SocketAddrXdpFlags::XDP_COPY };
        if pieces > 1 {
            flags |= SocketAddrXdpFlags::XDP_USE_SG;
        }
        let address = SocketAddrXdp::new(flags, interface, queue);
        let deadline = Instant::now() + patience;
        loop {
            match bind(&self.fd, &address) {
                Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(RETRY),
                other => return other.map_err(|errno| bind_refusal(errno, zero_copy)),
            }
        }
    }

    /// The descriptor, bound: it can be passed on.
    pub fn into_bound(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Unbound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const SIZE: OpenError =
    OpenError::Unsupported("use a pool of one class, of buffers of 2048 or 4096 bytes");
const FILE: OpenError = OpenError::NotPermitted(
    "the buffers' file must be a memfd that is large enough, sealed against shrinking, and not sealed \
     against writing yet",
);

fn bind_refusal(errno: Errno, zero_copy: bool) -> OpenError {
    match errno {
        Errno::BUSY => OpenError::Busy(
            "that queue has an AF_XDP socket already: use another queue, or end its process",
        ),
        Errno::NODEV => OpenError::NoDevice,
        Errno::NOBUFS => OpenError::MemoryLock,
        Errno::INVAL if !zero_copy => {
            OpenError::BadValue("a queue that the interface has: `ethtool -l IFACE` counts them")
        }
        Errno::PERM => NO_CAPABILITY,
        errno if is_unsupported(errno) && zero_copy => OpenError::Unsupported(
            "its driver has no zero-copy sockets, or not for frames of several pieces: use mode=native",
        ),
        errno => OpenError::Kernel { step: "bind the socket to the queue", errno },
    }
}

fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS)
        || errno.raw_os_error() == NOT_SUPPORTED
}

pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: i32,
) -> Result<(), Errno> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: a number, as these options want it (invariant 3).
    let set =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if set == 0 { Ok(()) } else { Err(crate::bpf::last_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_hold_all_buffers_of_their_half() {
        for buffers in [2, 3, 64, 100, 2048, 4097, 60_000] {
            let rings = RingSizes::of(buffers);
            assert!(rings.is_valid(), "{buffers}");
            assert!(rings.receive as usize >= stock(buffers), "{buffers}");
        }
        assert!(!RingSizes { receive: 0, transmit: 2 }.is_valid());
        assert!(!RingSizes { receive: 3, transmit: 2 }.is_valid());
    }
}
