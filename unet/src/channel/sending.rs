//! How a channel sends: in a slot, or by handing a buffer over.

use fbufs::{AllocError, Fbuf, FbufMut};
use segment::counters::Counter;
use segment::doorbell::Listening;
use segment::failpoint;
use segment::ring::{Cell, PushRefusal};

use super::{Channel, CloseReason, Offer, SendError};
use crate::message::{MAX_INLINE, MAX_INLINE_WITH_FBUF};

impl Channel {
    /// Sends bytes if there is room: in the slot if they fit, else in a buffer.
    ///
    /// # Errors
    /// [`SendError`], for good.
    ///
    /// # Cost
    /// Up to [`MAX_INLINE`] bytes: one cache line. More: one copy into a buffer. No system call
    /// unless the peer sleeps; no fence where membarrier(2) works.
    #[inline(always)]
    pub fn try_send(&mut self, bytes: &[u8]) -> Result<Offer, SendError> {
        self.try_send_tagged(0, bytes)
    }

    /// As [`Channel::try_send`], with a number for the receiver's layer.
    ///
    /// # Errors
    /// [`SendError`], for good.
    ///
    /// # Cost
    /// As [`Channel::try_send`].
    #[inline(always)]
    pub fn try_send_tagged(&mut self, tag: u16, bytes: &[u8]) -> Result<Offer, SendError> {
        let mut cell = Cell::new(tag);
        if cell.append(bytes) { self.offer(&cell) } else { self.try_send_copied(tag, bytes) }
    }

    /// Sends two pieces of bytes as one message in a slot, if there is room; for layers that put a
    /// header before what they are given.
    ///
    /// # Errors
    /// [`SendError`], for good: `TooLarge` beyond [`MAX_INLINE`] in all.
    ///
    /// # Cost
    /// One cache line, as [`Channel::try_send`].
    #[inline(always)]
    pub fn try_send_parts(
        &mut self,
        tag: u16,
        head: &[u8],
        rest: &[u8],
    ) -> Result<Offer, SendError> {
        let mut cell = Cell::new(tag);
        if cell.append(head) && cell.append(rest) {
            return self.offer(&cell);
        }
        self.counters.add(Counter::TooLarge, 1);
        Err(SendError::TooLarge { len: head.len() + rest.len(), limit: MAX_INLINE })
    }

    #[cold]
    pub(super) fn try_send_copied(&mut self, tag: u16, bytes: &[u8]) -> Result<Offer, SendError> {
        if let Some(reason) = self.closed {
            return self.refuse_closed(reason);
        }
        let mut fbuf = match self.alloc(bytes.len()) {
            Ok(fbuf) => fbuf,
            Err(AllocError::TooLarge { asked, largest }) => {
                return Err(SendError::TooLarge { len: asked, limit: largest.max(MAX_INLINE) });
            }
            Err(AllocError::Fault(fault)) => return Err(self.poison(fault).into()),
            Err(_) => return Ok(Offer::Full(())),
        };
        fbuf.copy_from_slice(bytes);
        match self.try_send_fbuf(tag, fbuf.freeze(), &[])? {
            Offer::Taken => Ok(Offer::Taken),
            Offer::Full(_) => Ok(Offer::Full(())),
        }
    }

    /// Hands a buffer over, with up to [`MAX_INLINE_WITH_FBUF`] bytes beside it in the slot. The
    /// buffer is the peer's until the peer gives it back.
    ///
    /// # Errors
    /// [`SendError`], for good; the buffer is freed.
    ///
    /// # Cost
    /// One cache line, whatever the size.
    #[inline]
    pub fn try_send_fbuf(
        &mut self,
        tag: u16,
        fbuf: Fbuf,
        inline: &[u8],
    ) -> Result<Offer<Fbuf>, SendError> {
        failpoint::hit("handoff.1-buffer-taken");
        if inline.len() > MAX_INLINE_WITH_FBUF {
            self.counters.add(Counter::TooLarge, 1);
            return Err(SendError::TooLarge { len: inline.len(), limit: MAX_INLINE_WITH_FBUF });
        }
        let Ok(descriptor) = self.pool.lend(fbuf) else {
            self.counters.add(Counter::ForeignBuffer, 1);
            return Err(SendError::ForeignBuffer);
        };
        failpoint::hit("handoff.2-lent");
        let mut cell = Cell::new(tag);
        let fits = cell.append_descriptor(descriptor.to_words()) && cell.append(inline);
        debug_assert!(fits, "the length was checked above");
        match self.offer(&cell) {
            Ok(Offer::Taken) => {
                failpoint::hit("handoff.3-published");
                Ok(Offer::Taken)
            }
            Ok(Offer::Full(())) => {
                let fbuf = self.pool.unlend(descriptor).expect("only a closing reclaims");
                Ok(Offer::Full(fbuf))
            }
            Err(error) => {
                // The offer may have found the channel closing, which took the buffer back already.
                drop(self.pool.unlend(descriptor));
                Err(error)
            }
        }
    }

    #[inline(always)]
    pub(super) fn offer(&mut self, cell: &Cell) -> Result<Offer, SendError> {
        failpoint::hit("send.1-before-publish");
        if let Some(reason) = self.closed {
            return self.refuse_closed(reason);
        }
        match self.producer.try_push(cell) {
            Ok(()) => {}
            Err(refusal) => return self.refused(refusal),
        }
        failpoint::hit("send.2-published");
        self.ring();
        Ok(Offer::Taken)
    }

    #[cold]
    pub(super) fn refused(&mut self, refusal: PushRefusal) -> Result<Offer, SendError> {
        match refusal {
            PushRefusal::Fault(fault) => Err(self.poison(fault).into()),
            PushRefusal::Full => {
                if self.pulse.tick() {
                    self.check_liveness();
                }
                match self.closed {
                    Some(reason) => self.refuse_closed(reason),
                    None => {
                        self.counters.add(Counter::QueueFull, 1);
                        Ok(Offer::Full(()))
                    }
                }
            }
        }
    }

    #[cold]
    pub(super) fn refuse_closed(&mut self, reason: CloseReason) -> Result<Offer, SendError> {
        self.counters.add(Counter::Closed, 1);
        Err(reason.into())
    }

    /// Wakes the peer if it sleeps.
    #[inline(always)]
    pub(super) fn ring(&mut self) {
        match self.bell.notify(&self.socket) {
            Listening::Awake => {}
            Listening::Rung => self.counters.add(Counter::DoorbellsRung, 1),
            Listening::Closed => self.farewell(),
        }
    }

    /// Takes a buffer of this side's pool, to be written and handed over.
    ///
    /// # Errors
    /// [`AllocError`]; `Exhausted` is back-pressure.
    ///
    /// # Cost
    /// A few loads.
    #[inline(always)]
    pub fn alloc(&mut self, len: usize) -> Result<FbufMut, AllocError> {
        let taken = self.pool.alloc(len);
        if let Err(error) = &taken {
            match error {
                AllocError::TooLarge { .. } => self.counters.add(Counter::TooLarge, 1),
                AllocError::Exhausted => self.counters.add(Counter::NoBuffer, 1),
                AllocError::Fault(fault) => drop(self.poison(*fault)),
                _ => {}
            }
        }
        taken
    }

    /// Whether a message would find a slot, or an error.
    pub(crate) fn has_room(&mut self) -> bool {
        self.closed.is_some() || self.producer.has_room() != Err(PushRefusal::Full)
    }

    /// Whether a buffer of `len` bytes would be found, or an error.
    pub(crate) fn has_buffer(&mut self, len: usize) -> bool {
        if self.closed.is_some() {
            return true;
        }
        match self.pool.alloc(len) {
            Err(AllocError::Exhausted) => false,
            Err(AllocError::Fault(fault)) => {
                // The pool tells it once, so it must not be lost here.
                self.poison(fault);
                true
            }
            _ => true,
        }
    }
}
