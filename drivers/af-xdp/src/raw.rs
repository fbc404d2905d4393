//! The baseline: AF_XDP in the plainest way, as it is written in C. Fixed frames, one thread, plain
//! pointers into the rings; no tokens, no checks, no statistics. Nothing but benchmarks uses it: it shows
//! what [`crate::AfXdp`] costs over nothing at all, with the same program and the same kernel.
//!
//! # Invariants
//!
//! 1. The memory and the rings are mapped as long as the socket, at their full size, and reached by
//!    volatile reads and writes behind masked indices. The kernel is believed.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rustix::net::sockopt::xdp_mmap_offsets;
use rustix::net::xdp::{
    XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING,
    XdpRingOffset,
};
use rustix::net::{SendFlags, send};
use unet::device::{Mode, OpenError};

use crate::interface::Interface;
use crate::open::{attach, bind};
use crate::options::Options;
use crate::program::Program;
use crate::socket::{RingSizes, Unbound};

const FRAME: usize = 2048;
/// Ethernet's, IPv4's and UDP's headers: a number stands behind them.
const HEADERS: usize = 14 + 20 + 8;
/// The first half is for receiving.
const FRAMES: u32 = 4096;
const HALF: u32 = FRAMES / 2;
const MASK: u32 = HALF - 1;

#[repr(C)]
#[derive(Clone, Copy)]
struct Descriptor {
    address: u64,
    len: u32,
    options: u32,
}

struct Ring {
    base: *mut u8,
    len: usize,
    at: XdpRingOffset,
    /// This side's index.
    index: u32,
}

/// A socket on a queue.
pub struct Socket {
    fd: OwnedFd,
    fill: Ring,
    receive: Ring,
    transmit: Ring,
    completion: Ring,
    memory: *mut u8,
    next: u32,
    mode: Mode,
    _program: Program,
}

// SAFETY: it owns its mappings (invariant 1).
unsafe impl Send for Socket {}

impl Ring {
    fn map(fd: &OwnedFd, at: XdpRingOffset, entry: usize, page: u64) -> Result<Self, OpenError> {
        let len = at.desc as usize + HALF as usize * entry;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { mmap(null_mut(), len, prot, flags, fd, page) }
            .map_err(|errno| OpenError::Kernel { step: "map a ring", errno })?;
        Ok(Self { base: base.cast(), len, at, index: 0 })
    }

    #[inline(always)]
    fn word(&self, at: u64) -> &AtomicU32 {
        // SAFETY: invariant 1.
        unsafe { &*self.base.add(at as usize).cast::<AtomicU32>() }
    }

    #[inline(always)]
    fn entry<T>(&self, index: u32) -> *mut T {
        // SAFETY: invariant 1.
        unsafe { self.base.add(self.at.desc as usize).cast::<T>().add((index & MASK) as usize) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and nobody has a reference (invariant 1).
        let _ = unsafe { munmap(self.base.cast(), self.len) };
    }
}

impl Socket {
    /// Opens a queue, and stocks it. Of the options the way, the port and busy polling count.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(name: &str, queue: u32, options: &Options) -> Result<Self, OpenError> {
        let interface = Interface::find(name)?;
        let program = attach(&interface, queue, options)?;
        let len = FRAMES as usize * FRAME;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let memory = unsafe { mmap_anonymous(null_mut(), len, prot, flags) }
            .map_err(|errno| OpenError::Kernel { step: "map the frames", errno })?;
        let socket = Unbound::open()?;
        socket.register_at(memory as usize, FRAME, FRAMES as usize)?;
        socket.make_rings(RingSizes { receive: HALF, transmit: HALF })?;
        if let Some(busy_poll) = options.busy_poll {
            socket.busy_poll(busy_poll)?;
        }
        let mode = bind(&socket, &program, queue, 1, options)?;
        let fd = socket.into_bound();
        let at = xdp_mmap_offsets(&fd)
            .map_err(|errno| OpenError::Kernel { step: "find the rings", errno })?;
        let mut socket = Self {
            fill: Ring::map(&fd, at.fr, 8, XDP_UMEM_PGOFF_FILL_RING)?,
            receive: Ring::map(&fd, at.rx, 16, XDP_PGOFF_RX_RING)?,
            transmit: Ring::map(&fd, at.tx, 16, XDP_PGOFF_TX_RING)?,
            completion: Ring::map(&fd, at.cr, 8, XDP_UMEM_PGOFF_COMPLETION_RING)?,
            memory: memory.cast(),
            next: 0,
            mode,
            fd,
            _program: program,
        };
        (0..HALF).for_each(|frame| socket.give(u64::from(frame) * FRAME as u64));
        socket.publish_fill();
        socket._program.steer(queue, options.port, socket.fd.as_fd())?;
        Ok(socket)
    }

    /// The mode that was chosen.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Writes a frame, at most 2048 bytes, into all frames that are sent.
    pub fn prepare(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(FRAME);
        for frame in HALF..FRAMES {
            // SAFETY: invariant 1: a frame of the second half, which only this side writes.
            unsafe {
                let to = self.memory.add(frame as usize * FRAME);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, len);
            }
        }
    }

    #[inline(always)]
    fn give(&mut self, address: u64) {
        // SAFETY: invariant 1.
        unsafe { self.fill.entry::<u64>(self.fill.index).write_volatile(address) };
        self.fill.index = self.fill.index.wrapping_add(1);
    }

    #[inline(always)]
    fn publish_fill(&mut self) {
        self.fill.word(self.fill.at.producer).store(self.fill.index, Ordering::Release);
    }

    /// Sends the prepared frame `count` times, with one kick, or as often as there is room: how often.
    #[inline]
    pub fn send(&mut self, count: u32, len: u32) -> u32 {
        self.send_each(count, len, |_, _| {})
    }

    /// As [`Socket::send`], with a number behind the headers of each frame: `first`, and on from there.
    #[inline]
    pub fn send_numbered(&mut self, first: u64, count: u32, len: u32) -> u32 {
        self.send_each(count, len, |frame, place| {
            let number = first.wrapping_add(u64::from(place)).to_le_bytes();
            // SAFETY: invariant 1: within a frame of the second half, which is not under way.
            unsafe { std::ptr::copy_nonoverlapping(number.as_ptr(), frame.add(HEADERS), 8) };
        })
    }

    #[inline(always)]
    fn send_each(&mut self, count: u32, len: u32, write: impl Fn(*mut u8, u32)) -> u32 {
        let done = self.completion.word(self.completion.at.producer).load(Ordering::Acquire);
        self.completion.index = done;
        self.completion.word(self.completion.at.consumer).store(done, Ordering::Release);
        let count = count.min(HALF - self.transmit.index.wrapping_sub(done));
        for place in 0..count {
            let at = (HALF + (self.next & MASK)) as usize * FRAME;
            self.next = self.next.wrapping_add(1);
            // SAFETY: invariant 1.
            write(unsafe { self.memory.add(at) }, place);
            let entry = Descriptor { address: at as u64, len, options: 0 };
            // SAFETY: invariant 1.
            unsafe { self.transmit.entry::<Descriptor>(self.transmit.index).write_volatile(entry) };
            self.transmit.index = self.transmit.index.wrapping_add(1);
        }
        self.transmit.word(self.transmit.at.producer).store(self.transmit.index, Ordering::Release);
        if self
            .transmit
            .at
            .flags
            .is_some_and(|at| self.transmit.word(at).load(Ordering::Relaxed) & 1 != 0)
        {
            // A full queue is not an error: what is left is sent with the next kick.
            let _ = send(&self.fd, &[], SendFlags::DONTWAIT);
        }
        count
    }

    /// Gives what arrived back to the kernel: how many frames.
    #[inline]
    pub fn receive(&mut self) -> u32 {
        self.receive_each(|_| {})
    }

    /// As [`Socket::receive`], with the number behind the headers of each frame.
    #[inline]
    pub fn receive_numbered(&mut self, mut each: impl FnMut(u64)) -> u32 {
        self.receive_each(|frame| {
            let mut number = [0; 8];
            // SAFETY: invariant 1: within a frame that the kernel has filled.
            unsafe { std::ptr::copy_nonoverlapping(frame.add(HEADERS), number.as_mut_ptr(), 8) };
            each(u64::from_le_bytes(number));
        })
    }

    #[inline(always)]
    fn receive_each(&mut self, mut each: impl FnMut(*const u8)) -> u32 {
        let produced = self.receive.word(self.receive.at.producer).load(Ordering::Acquire);
        let count = produced.wrapping_sub(self.receive.index);
        if count == 0 {
            return 0;
        }
        for _ in 0..count {
            // SAFETY: invariant 1.
            let entry =
                unsafe { self.receive.entry::<Descriptor>(self.receive.index).read_volatile() };
            self.receive.index = self.receive.index.wrapping_add(1);
            // SAFETY: invariant 1.
            each(unsafe { self.memory.add(entry.address as usize) });
            self.give(entry.address & !(FRAME as u64 - 1));
        }
        self.receive.word(self.receive.at.consumer).store(self.receive.index, Ordering::Release);
        self.publish_fill();
        count
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: mapped by `open`; the kernel has the pages pinned until the socket is closed, and
        // nobody has a reference.
        let _ = unsafe { munmap(self.memory.cast(), FRAMES as usize * FRAME) };
    }
}
