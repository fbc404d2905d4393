//! Setting up the rings.
//!
//! # Invariants
//!
//! 1. The memory of the provided buffers' ring lives longer than the ring of requests that it is
//!    registered with: [`Rings`] and [`super::Uring`] close the latter first.

use io_uring::{IoUring, Probe, opcode};
use rustix::io::Errno;

use super::provided::Provided;
use super::sends::SENDS;

/// The group of provided buffers: there is but one.
pub(crate) const GROUP: u16 = 0;
/// The most buffers that the kernel is given: as few as serve two bursts, for they are used in turn, each of
/// them colder than the one that was used last.
pub(crate) const STOCK: usize = 64;

/// The rings of a device that is to be made.
pub(crate) struct Rings(pub IoUring, pub Provided);

/// Sets up the rings for a pool of so many buffers, if the kernel has and allows all that is needed.
pub(crate) fn rings(buffers: usize) -> Result<Rings, Errno> {
    let errno = |error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let provided = Provided::new(STOCK.min(buffers / 2))?;
    let (address, entries) = provided.ring();
    let mut builder = IoUring::builder();
    builder.setup_coop_taskrun().setup_taskrun_flag();
    // Room for every completion that there can be at once: none has to be kept by the kernel.
    builder.setup_cqsize((u32::from(entries) + 4 * SENDS as u32).next_power_of_two());
    let ring: IoUring = builder.build(2 * SENDS as u32).map_err(errno)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(errno)?;
    // Came with the kernel's 6.0, as did receiving for ever with names.
    if !probe.is_supported(opcode::SendZc::CODE) {
        return Err(Errno::OPNOTSUPP);
    }
    // SAFETY: a mapping of as many entries, which lives long enough (invariant 1).
    let registered =
        unsafe { ring.submitter().register_buf_ring_with_flags(address, entries, GROUP, 0) };
    registered.map_err(errno)?;
    Ok(Rings(ring, provided))
}

/// What the receive request points to: only lengths, for the kernel puts all else into the buffer.
pub(crate) struct Header(pub Box<libc::msghdr>);

// SAFETY: its pointers are null.
unsafe impl Send for Header {}

impl Header {
    pub fn new(name_len: usize) -> Self {
        // SAFETY: a C structure for which zero is a value.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_namelen = name_len as u32;
        Self(header)
    }
}
