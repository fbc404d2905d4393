//! What was handed to the kernel to be sent and not yet answered.
//!
//! # Invariants
//!
//! 1. The slots stay where they are while the value lives, or for ever ([`Sends::leak`]). A slot's name is
//!    written only while the slot is free, and its buffer is held until the kernel has answered, and has
//!    said that it does not read it any more where it said that it might. So what a request points to
//!    lives, unchanged, until the request has ended.

use std::os::fd::RawFd;
use std::ptr::{from_ref, null};

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
    /// How many the kernel has not answered.
    unanswered: usize,
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
        Self { slots, free: (0..SENDS as u16).rev().collect(), unanswered: 0 }
    }

    /// How many may be handed over.
    pub fn room(&self) -> usize {
        self.free.len()
    }

    pub fn under_way(&self) -> usize {
        SENDS - self.free.len()
    }

    /// Whether the kernel has not answered some: what is sent now may overtake them.
    #[inline(always)]
    pub fn has_unanswered(&self) -> bool {
        self.unanswered > 0
    }

    /// Makes a request of a datagram. `None`, and it is dropped, without room.
    pub fn request(
        &mut self,
        socket: RawFd,
        (to, name, fbuf): (Destination, Option<Name>, Fbuf),
        zero_copy: bool,
    ) -> Option<(u16, squeue::Entry)> {
        let place = self.free.pop()?;
        self.unanswered += 1;
        let slot = &mut self.slots[usize::from(place)];
        let name_len = name.as_ref().map_or(0, Name::len);
        *slot = Slot {
            name: name.unwrap_or(Name::EMPTY),
            to,
            fbuf: None,
            answer: None,
            read: true,
            watched: true,
        };
        let (fd, bytes, len) = (types::Fd(socket), fbuf.as_ptr(), fbuf.len() as u32);
        slot.fbuf = Some(fbuf);
        // None where the socket is connected.
        let name = if name_len == 0 { null() } else { from_ref(&slot.name).cast() };
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
    pub fn completed(&mut self, mark: u64, result: i32, flags: u32) -> Result<Option<Outcome>, ()> {
        let place = u16::try_from(mark).map_err(drop)?;
        let slot = self.slots.get_mut(usize::from(place)).ok_or(())?;
        if slot.fbuf.is_none() || !slot.read {
            return Err(());
        }
        if cqueue::notif(flags) {
            if slot.answer.is_none() {
                return Err(());
            }
            slot.read = false;
        } else if slot.answer.is_some() {
            return Err(());
        } else {
            slot.answer = Some(result);
            self.unanswered -= 1;
            slot.read = cqueue::more(flags);
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

#[cfg(test)]
mod tests {
    use fbufs::{Pool, PoolOptions};

    use super::*;

    /// More completions of the request follow; and the last one, of a send without a copy.
    const MORE: u32 = 1 << 1;
    const NOTIFICATION: u32 = 1 << 3;

    fn one(pool: &mut Pool, sends: &mut Sends) -> u16 {
        let fbuf = pool.alloc(10).unwrap().freeze();
        sends.request(0, (Destination(7), None, fbuf), true).unwrap().0
    }

    #[test]
    fn what_the_kernel_was_not_given_is_not_believed() {
        let mut pool = Pool::new(PoolOptions::default()).unwrap();
        let mut sends = Sends::new();
        let place = one(&mut pool, &mut sends);
        let mark = u64::from(place);
        assert!(sends.completed(mark + 1, 10, 0).is_err(), "a free slot");
        assert!(sends.completed(SENDS as u64, 10, 0).is_err(), "behind the last");
        assert!(sends.completed(1 << 40, 10, 0).is_err());
        assert!(sends.completed(mark, 0, NOTIFICATION).is_err(), "before its answer");
        assert!(sends.completed(mark, 10, 0).is_ok());
        assert!(sends.completed(mark, 10, 0).is_err(), "answered twice");
        assert!(sends.completed(mark, 0, NOTIFICATION).is_err(), "none was announced");
        assert!(sends.outcome(place).is_some_and(|outcome| outcome.fbuf.is_some()));
        assert!(sends.completed(mark, 10, 0).is_err(), "the slot is free again");
        assert_eq!(sends.under_way(), 0);
    }

    #[test]
    fn a_buffer_is_kept_until_the_kernel_does_not_read_it_any_more() {
        let mut pool = Pool::new(PoolOptions::default()).unwrap();
        let mut sends = Sends::new();
        let all = pool.free();
        let place = one(&mut pool, &mut sends);
        assert!(matches!(sends.completed(place.into(), 10, MORE), Ok(None)));
        let outcome = sends.outcome(place).unwrap();
        assert_eq!((outcome.answer, outcome.bytes, outcome.to), (10, 10, Destination(7)));
        assert!(outcome.fbuf.is_none());
        assert_eq!((sends.under_way(), pool.free()), (1, all - 1));
        assert!(!sends.has_unanswered(), "it was answered, though it is still read");
        assert!(matches!(sends.completed(place.into(), 0, NOTIFICATION), Ok(None)));
        assert_eq!((sends.under_way(), pool.free()), (0, all));
    }

    #[test]
    fn a_late_answer_is_told_once() {
        let mut pool = Pool::new(PoolOptions::default()).unwrap();
        let mut sends = Sends::new();
        let place = one(&mut pool, &mut sends);
        assert!(sends.outcome(place).is_none());
        let late = sends.completed(place.into(), -5, 0).unwrap().unwrap();
        assert_eq!((late.answer, late.fbuf.is_some(), sends.under_way()), (-5, true, 0));
    }

    #[test]
    fn without_room_nothing_is_requested() {
        let mut pool = Pool::new(PoolOptions::default()).unwrap();
        let mut sends = Sends::new();
        let fbuf = pool.alloc(10).unwrap().freeze();
        for _ in 0..SENDS {
            let datagram = (Destination(0), None, fbuf.clone());
            assert!(sends.request(0, datagram, false).is_some());
        }
        assert_eq!(sends.room(), 0);
        assert!(sends.request(0, (Destination(0), None, fbuf), false).is_none());
    }
}
