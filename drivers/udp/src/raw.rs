//! The baseline: a connected socket and io_uring in the plainest way. Received by one lasting request into
//! provided buffers, sent by a plain call, which is the faster of the two. Nothing but benchmarks uses it: it
//! shows what the device costs over nothing at all.
//!
//! # Invariants
//!
//! 1. The buffers and the ring of them live for ever: the kernel lets go of them some time after its ring was
//!    closed, and a benchmark opens few.
//! 2. The ring of buffers has one writer; an entry is written while it is this side's, which it is until the
//!    tail is published.
//! 3. A completion names a buffer that the kernel has filled and let go of, up to the length that it says.
//!    The kernel is believed, but not beyond the buffer's end.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode};

/// Buffers that may be filled before one is looked at.
const ENTRIES: u16 = 64;
const GROUP: u16 = 0;
const PAGE: usize = 4096;

/// A socket whose datagrams, or bytes, come in by io_uring.
pub struct Ring {
    ring: IoUring,
    socket: OwnedFd,
    entries: NonNull<BufRingEntry>,
    buffers: NonNull<u8>,
    /// Bytes of each.
    buffer_bytes: usize,
    tail: u16,
    /// What is left of a buffer that was larger than what it was read into.
    rest: Option<(u16, Range<usize>)>,
    /// Bounds are kept: the rest of a datagram is thrown away.
    datagrams: bool,
}

// SAFETY: it owns what its pointers point to (invariant 1).
unsafe impl Send for Ring {}

fn zeroed(bytes: usize) -> io::Result<NonNull<u8>> {
    let layout = Layout::from_size_align(bytes.max(1), PAGE).map_err(io::Error::other)?;
    // SAFETY: not of size zero. Never freed (invariant 1).
    let memory = unsafe { alloc_zeroed(layout) };
    Ok(NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout)))
}

impl Ring {
    /// Over a connected socket, of datagrams or of a stream, with buffers of so many bytes.
    ///
    /// # Errors
    /// The kernel's, as where io_uring is disabled.
    pub fn open(socket: OwnedFd, datagrams: bool, buffer_bytes: usize) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        let ring: IoUring = builder.setup_coop_taskrun().setup_taskrun_flag().build(64)?;
        let entries = zeroed(size_of::<BufRingEntry>() * usize::from(ENTRIES))?.cast();
        let buffers = zeroed(buffer_bytes * usize::from(ENTRIES))?;
        let (tail, rest) = (0, None);
        let mut this = Self { ring, socket, entries, buffers, buffer_bytes, tail, rest, datagrams };
        (0..ENTRIES).for_each(|place| this.give(place));
        let at = entries.as_ptr() as u64;
        // SAFETY: invariant 1.
        unsafe { this.ring.submitter().register_buf_ring_with_flags(at, ENTRIES, GROUP, 0)? };
        this.arm()?;
        Ok(this)
    }

    #[inline(always)]
    fn give(&mut self, place: u16) {
        // SAFETY: invariants 1 and 2; a place is below the number of entries.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(usize::from(self.tail % ENTRIES));
            let buffer = self.buffers.as_ptr().add(usize::from(place) * self.buffer_bytes);
            entry.set_addr(buffer as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(place);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    fn arm(&mut self) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fd(self.socket.as_raw_fd()), GROUP).build();
        // SAFETY: it has no pointers but those that are registered (invariant 1).
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        self.ring.submit().map(drop)
    }

    /// Sends a message: how much of it the kernel took.
    ///
    /// # Errors
    /// The kernel's; `WouldBlock` where there is no room and the socket does not block.
    ///
    /// # Cost
    /// A system call.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.socket, message)?)
    }

    /// Takes what has come: a datagram, or some bytes. None if nothing has.
    ///
    /// # Errors
    /// The kernel's.
    ///
    /// # Cost
    /// A look at memory, a copy; a system call where the kernel says that it has work to do.
    #[inline]
    pub fn try_receive(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        if let Some((place, part)) = self.rest.take() {
            return Ok(Some(self.read(place, part, into)));
        }
        let Some(entry) = self.ring.completion().next() else {
            if self.ring.submission().taskrun() {
                self.ring.submit()?;
            }
            return Ok(None);
        };
        let place = cqueue::buffer_select(entry.flags()).filter(|place| *place < ENTRIES);
        let outcome = match usize::try_from(entry.result()) {
            Ok(len) => match place {
                Some(place) => Some(self.read(place, 0..len.min(self.buffer_bytes), into)),
                None => Some(0),
            },
            Err(_) if -entry.result() == libc::ENOBUFS => None,
            Err(_) => return Err(io::Error::from_raw_os_error(-entry.result())),
        };
        if !cqueue::more(entry.flags()) {
            self.arm()?;
        }
        Ok(outcome)
    }

    /// Reads a part of a buffer, and gives the buffer back when all of it was read.
    #[inline(always)]
    fn read(&mut self, place: u16, part: Range<usize>, into: &mut [u8]) -> usize {
        let count = part.len().min(into.len());
        let at = usize::from(place) * self.buffer_bytes + part.start;
        // SAFETY: invariants 1 and 3: the part is within the buffer.
        unsafe {
            let from = self.buffers.as_ptr().add(at);
            std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), count);
        }
        if self.datagrams || count == part.len() {
            self.give(place);
        } else {
            self.rest = Some((place, part.start + count..part.end));
        }
        count
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    fn receive(ring: &mut Ring, into: &mut [u8]) -> usize {
        loop {
            if let Some(count) = ring.try_receive(into).expect("it receives") {
                return count;
            }
        }
    }

    #[test]
    fn datagrams_keep_their_bounds_and_buffers_come_round() {
        let (near, far) = UnixDatagram::pair().expect("a pair");
        let Ok(mut ring) = Ring::open(far.into(), true, 64) else {
            eprintln!("left out: no io_uring here");
            return;
        };
        let mut into = [0; 16];
        for number in 0..300_u16 {
            let len = usize::from(number % 60);
            near.send(&vec![number as u8; len.max(1)]).expect("there is room");
            let count = receive(&mut ring, &mut into);
            assert_eq!(count, len.clamp(1, 16), "datagram {number}");
            assert_eq!(into[0], number as u8);
        }
        assert_eq!(ring.try_receive(&mut into).expect("it receives"), None);
    }

    #[test]
    fn a_stream_is_read_on_where_it_was_left_and_outlives_full_buffers() {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        let Ok(mut ring) = Ring::open(far.into(), false, 64) else {
            eprintln!("left out: no io_uring here");
            return;
        };
        let sent: Vec<u8> = (0..64 * 64 * 3_u32).map(|at| at as u8).collect();
        io::Write::write_all(&mut near, &sent).expect("there is room");
        let (mut got, mut into) = (Vec::new(), [0; 48]);
        while got.len() < sent.len() {
            let count = receive(&mut ring, &mut into);
            got.extend_from_slice(&into[..count]);
        }
        assert!(got == sent);
    }
}
