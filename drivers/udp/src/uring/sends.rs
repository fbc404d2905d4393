//! What was handed to the kernel to be sent and not yet answered.
//!
//! # Invariants
//!
//! 1. The slots stay where they are while the value lives, or for ever ([`Sends::leak`]). A slot's name is
//!    written only while the slot is free, and its buffer is held until the kernel has answered, and has
//!    said that it does not read it any more where it said that it might. So what a request points to
//!    lives, unchanged, until the request has ended.

use std::os::fd::RawFd;

use fbufs::Fbuf;
use io_uring::{cqueue, opcode, squeue, types};
use unet::device::Destination;

use crate::name::Name;

/// The most sends under way.
pub(crate) const SENDS: usize = 128;

struct Slot {
    name: Name,
    to: Destination,
    fbuf: Option<Fbuf>,
    /// The kernel's answer.
    answer: Option<i32>,
    /// The kernel may still read the buffer.
    read: bool,
    /// The one who handed it over is still there to see the answer.
    watched: bool,
}

/// What came of a send.
pub(crate) struct Outcome {
    pub to: Destination,
    pub bytes: usize,
    pub answer: i32,
    /// The buffer, if the kernel is through with it.
    pub fbuf: Option<Fbuf>,
}

/// The table of them.
pub(crate) struct Sends {
    slots: Box<[Slot]>,
    free: Vec<u16>,
}

impl Sends {
    pub fn new() -> Self {
        let slot = |_| Slot {
            name: Name::EMPTY,
            to: Destination(u32::MAX),
            fbuf: None,
            answer: None,
            read: false,
            watched: false,
        };
        let slots = (0..SENDS).map(slot).collect();
        Self { slots, free: (0..SENDS as u16).rev().collect() }
    }

    /// How many may be handed over.
    pub fn room(&self) -> usize {
        self.free.len()
    }

    pub fn under_way(&self) -> usize {
        SENDS - self.free.len()
    }

    /// Makes a request of a datagram. `None`, and it is dropped, without room.
    pub fn request(
        &mut self,
        socket: RawFd,
        (to, name, fbuf): (Destination, Name, Fbuf),
        zero_copy: bool,
    ) -> Option<(u16, squeue::Entry)> {
        let place = self.free.pop()?;
        let slot = &mut self.slots[usize::from(place)];
        *slot = Slot { name, to, fbuf: None, answer: None, read: true, watched: true };
        let (fd, bytes, len) = (types::Fd(socket), fbuf.as_ptr(), fbuf.len() as u32);
        slot.fbuf = Some(fbuf);
        let (name, name_len) = (std::ptr::from_ref(&slot.name).cast(), slot.name.len());
        // Never later: the order would be lost.
        let flags = libc::MSG_DONTWAIT;
        let entry = if zero_copy {
            let send = opcode::SendZc::new(fd, bytes, len).flags(flags);
            send.dest_addr(name).dest_addr_len(name_len).build()
        } else {
            let send = opcode::Send::new(fd, bytes, len).flags(flags);
            send.dest_addr(name).dest_addr_len(name_len).build()
        };
        Some((place, entry.user_data(u64::from(place))))
    }

    /// Takes note of what the kernel says. `Err` if it says what cannot be; the outcome where nobody is
    /// there any more to see it.
    pub fn completed(&mut self, entry: &cqueue::Entry) -> Result<Option<Outcome>, ()> {
        let place = u16::try_from(entry.user_data()).map_err(drop)?;
        let slot = self.slots.get_mut(usize::from(place)).ok_or(())?;
        if slot.fbuf.is_none() || !slot.read {
            return Err(());
        }
        if cqueue::notif(entry.flags()) {
            if slot.answer.is_none() {
                return Err(());
            }
            slot.read = false;
        } else if slot.answer.is_some() {
            return Err(());
        } else {
            slot.answer = Some(entry.result());
            slot.read = cqueue::more(entry.flags());
            if !slot.watched {
                return Ok(self.outcome(place));
            }
        }
        if !slot.watched && !slot.read {
            // It was told when the answer came.
            slot.fbuf = None;
            self.free.push(place);
        }
        Ok(None)
    }

    /// What came of a request, once. `None` while the kernel has not answered: it is told later, by
    /// [`Sends::completed`].
    pub fn outcome(&mut self, place: u16) -> Option<Outcome> {
        let slot = &mut self.slots[usize::from(place)];
        slot.watched = false;
        let (answer, fbuf) = (slot.answer?, slot.fbuf.as_ref()?);
        let (to, bytes) = (slot.to, fbuf.len());
        if slot.read {
            return Some(Outcome { to, bytes, answer, fbuf: None });
        }
        self.free.push(place);
        Some(Outcome { to, bytes, answer, fbuf: slot.fbuf.take() })
    }

    /// Leaves all of it to a kernel that did not say that it is through with it.
    pub fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.slots));
    }
}
