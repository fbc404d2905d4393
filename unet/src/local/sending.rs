//! How a channel sends: in a slot, or by handing a buffer over.

use fbufs::{AllocError, Descriptor, Fbuf, FbufMut, MAX_PARTS, Message, Part, Pool};
use segment::counters::Counter;
use segment::doorbell::Listening;
use segment::failpoint;
use segment::ring::{Cell, PushRefusal};

use super::{CloseReason, LocalChannel, Offer, SendError};
use crate::delivery::{DESCRIPTORS, MAX_INLINE, MAX_INLINE_WITH_FBUF, MAX_MESSAGE, MORE};

/// From this size on, a buffer that the peer gave back last is still in a cache worth having: what came back is
/// looked at first, which is nothing beside writing so much.
const WARM: usize = 64 << 10;

impl LocalChannel {
    #[inline(always)]
    pub fn try_send(&mut self, bytes: &[u8]) -> Result<Offer, SendError> {
        self.try_send_tagged(0, bytes)
    }

    #[inline(always)]
    pub fn try_send_tagged(&mut self, tag: u16, bytes: &[u8]) -> Result<Offer, SendError> {
        let mut cell = Cell::new(tag);
        if cell.append(bytes) { self.offer(&cell) } else { self.try_send_copied(tag, bytes, &[]) }
    }

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
        self.try_send_copied(tag, rest, head)
    }

    /// Sends bytes in a buffer, and those of `inline` beside it.
    #[cold]
    pub(super) fn try_send_copied(
        &mut self,
        tag: u16,
        bytes: &[u8],
        inline: &[u8],
    ) -> Result<Offer, SendError> {
        if let Some(reason) = self.closed {
            return self.refuse_closed(reason);
        }
        self.fits(bytes.len() + inline.len())?;
        let mut fbuf = match self.alloc(bytes.len()) {
            Ok(fbuf) => fbuf,
            Err(AllocError::TooLarge { asked, largest }) => {
                return Err(SendError::TooLarge { len: asked, limit: largest.max(MAX_INLINE) });
            }
            Err(_) => {
                // Looking for one may have shown that the peer broke a rule.
                return self.closed.map_or(Ok(Offer::Full(())), |reason| Err(reason.into()));
            }
        };
        fbuf.copy_from_slice(bytes);
        self.pool.count_copy(bytes.len());
        match self.try_send_fbuf(tag, fbuf.freeze(), inline)? {
            Offer::Taken => Ok(Offer::Taken),
            Offer::Full(_) => Ok(Offer::Full(())),
        }
    }

    #[inline(always)]
    pub fn try_send_fbuf(
        &mut self,
        tag: u16,
        fbuf: Fbuf,
        inline: &[u8],
    ) -> Result<Offer<Fbuf>, SendError> {
        Ok(match self.try_send_part(tag, Part::Own(fbuf), inline)? {
            Offer::Full(Part::Own(fbuf)) => Offer::Full(fbuf),
            Offer::Full(Part::Peer(_)) | Offer::Taken => Offer::Taken,
        })
    }

    #[inline(always)]
    fn try_send_part(
        &mut self,
        tag: u16,
        part: Part,
        inline: &[u8],
    ) -> Result<Offer<Part>, SendError> {
        failpoint::hit("handoff.1-buffer-taken");
        if inline.len() > MAX_INLINE_WITH_FBUF {
            self.counters.add(Counter::TooLarge, 1);
            return Err(SendError::TooLarge { len: inline.len(), limit: MAX_INLINE_WITH_FBUF });
        }
        self.fits(part.len() + inline.len())?;
        // A slot first, so that nothing that is lent has to be taken back.
        if !self.has_slots(1)? {
            return Ok(Offer::Full(part));
        }
        let descriptor = match self.leases.lend(part) {
            Ok(descriptor) => descriptor,
            Err((refusal, part)) => {
                self.not_lent(refusal)?;
                return Ok(Offer::Full(part));
            }
        };
        failpoint::hit("handoff.2-lent");
        let mut cell = Cell::new(tag);
        let fits = cell.append_descriptor(descriptor.to_words()) && cell.append(inline);
        debug_assert!(fits, "the length was checked above");
        self.publish(&cell);
        failpoint::hit("handoff.3-published");
        Ok(Offer::Taken)
    }

    pub fn try_send_guarded(
        &mut self,
        tag: u16,
        fbuf: Fbuf,
        inline: &[u8],
    ) -> Result<Offer<Fbuf>, SendError> {
        if inline.len() > MAX_INLINE_WITH_FBUF {
            self.counters.add(Counter::TooLarge, 1);
            return Err(SendError::TooLarge { len: inline.len(), limit: MAX_INLINE_WITH_FBUF });
        }
        self.fits(fbuf.len() + inline.len())?;
        if !self.has_slots(1)? {
            return Ok(Offer::Full(fbuf));
        }
        let descriptor = match self.leases.lend_guarded(fbuf) {
            Ok(descriptor) => descriptor,
            Err((refusal, fbuf)) => {
                self.not_lent(refusal)?;
                return Ok(Offer::Full(fbuf));
            }
        };
        let mut cell = Cell::new(tag);
        let fits = cell.append_descriptor(descriptor.to_words()) && cell.append(inline);
        debug_assert!(fits, "the length was checked above");
        self.publish(&cell);
        Ok(Offer::Taken)
    }

    #[inline]
    pub fn try_send_message(
        &mut self,
        tag: u16,
        message: Message,
        inline: &[u8],
    ) -> Result<Offer<Message>, SendError> {
        self.pass_back();
        match message.into_part() {
            Ok(part) => Ok(match self.try_send_part(tag, part, inline)? {
                Offer::Full(part) => Offer::Full(part.into()),
                Offer::Taken => Offer::Taken,
            }),
            Err(rope) => self.try_send_rope(tag, rope, inline),
        }
    }

    #[inline(never)]
    fn try_send_rope(
        &mut self,
        tag: u16,
        message: Message,
        inline: &[u8],
    ) -> Result<Offer<Message>, SendError> {
        failpoint::hit("handoff.1-buffer-taken");
        let parts = message.parts().len();
        let last = match parts % DESCRIPTORS {
            0 if parts > 0 => DESCRIPTORS,
            rest => rest,
        };
        let slots = slots_of(&message);
        let limit = MAX_INLINE - last * Descriptor::BYTES;
        if parts > MAX_PARTS || slots > self.producer.largest_room() || inline.len() > limit {
            self.counters.add(Counter::TooLarge, 1);
            return Err(SendError::TooLarge { len: message.len() + inline.len(), limit });
        }
        if message.len() > MAX_MESSAGE {
            self.counters.add(Counter::TooLarge, 1);
            return Err(SendError::TooLarge { len: message.len(), limit: MAX_MESSAGE });
        }
        self.fits(message.len() + inline.len())?;
        if !self.has_slots(slots)? {
            return Ok(Offer::Full(message));
        }
        if let Err(refusal) = self.leases.has_room(message.parts(), message.len() as u64) {
            self.not_lent(refusal)?;
            return Ok(Offer::Full(message));
        }
        self.publish_parts(tag, message, slots, inline);
        failpoint::hit("handoff.3-published");
        Ok(Offer::Taken)
    }

    /// Whether a message can go on behind the peer, where it does.
    #[inline(always)]
    fn fits(&self, len: usize) -> Result<(), SendError> {
        if len <= self.limit {
            return Ok(());
        }
        self.counters.add(Counter::TooLarge, 1);
        Err(SendError::TooLarge { len, limit: self.limit })
    }

    /// Publishes a message for which there are slots and leases.
    fn publish_parts(&mut self, tag: u16, message: Message, slots: usize, inline: &[u8]) {
        let mut parts = message.into_parts();
        for slot in 1..=slots {
            let mut cell = Cell::new(tag);
            for part in parts.by_ref().take(DESCRIPTORS) {
                // There is a lease for each, by what was checked before.
                let Ok(descriptor) = self.leases.lend(part) else { continue };
                cell.append_descriptor(descriptor.to_words());
            }
            failpoint::hit("handoff.2-lent");
            if slot < slots {
                cell.mark(MORE);
            } else {
                cell.append(inline);
            }
            self.push(&cell);
        }
        // Once, when all is lent: should the peer turn out to be gone, all of it is taken back.
        self.ring();
    }

    /// Whether there are slots for a message now. The peer's returns are looked at if not.
    #[inline(always)]
    fn has_slots(&mut self, slots: usize) -> Result<bool, SendError> {
        failpoint::hit("send.1-before-publish");
        if let Some(reason) = self.closed {
            let _ = self.refuse_closed(reason)?;
        }
        match self.producer.has_room_for(slots) {
            Ok(()) => Ok(true),
            Err(refusal) => self.refused(refusal).map(|_| false),
        }
    }

    /// Publishes a cell for which there is a slot, and wakes the peer if it sleeps.
    #[inline(always)]
    fn publish(&mut self, cell: &Cell) {
        self.push(cell);
        self.ring();
    }

    #[inline(always)]
    fn push(&mut self, cell: &Cell) {
        let pushed = self.producer.try_push(cell);
        debug_assert!(pushed.is_ok(), "there was a slot");
        failpoint::hit("send.2-published");
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

    #[inline(always)]
    pub fn alloc(&mut self, len: usize) -> Result<FbufMut, AllocError> {
        if len >= WARM {
            self.collect();
        }
        match self.pool.alloc_best(len) {
            Some(fbuf) => Ok(fbuf),
            None => self.alloc_slowly(len),
        }
    }

    #[cold]
    fn alloc_slowly(&mut self, len: usize) -> Result<FbufMut, AllocError> {
        self.collect();
        let taken = self.pool.alloc(len);
        if let Err(refusal) = taken {
            self.not_allocated(refusal);
        }
        taken
    }

    #[cold]
    fn not_allocated(&self, refusal: AllocError) {
        match refusal {
            AllocError::TooLarge { .. } => self.counters.add(Counter::TooLarge, 1),
            _ => self.counters.add(Counter::NoBuffer, 1),
        }
    }

    #[inline(always)]
    pub fn alloc_adjacent(&mut self, len: usize) -> Option<FbufMut> {
        self.collect();
        self.pool.alloc_adjacent(len)
    }

    #[inline]
    pub fn message(
        &mut self,
        headroom: usize,
        len: usize,
        fill: impl FnMut(&mut [u8]),
    ) -> Result<Message, AllocError> {
        let room = headroom.saturating_add(len);
        if room >= WARM || self.pool.is_low(room) {
            self.collect();
        }
        let message = self.pool.message(headroom, len, fill);
        if let Err(refusal) = message {
            self.not_allocated(refusal);
            // Of what came back, more may be adjacent: what is asked next is asked anew.
            self.collect();
        }
        message
    }

    pub fn pool_mut(&mut self) -> &mut Pool {
        self.collect();
        &mut self.pool
    }

    /// The most bytes of one buffer, or of a slot without any.
    pub fn largest(&self) -> usize {
        self.pool.largest().max(MAX_INLINE).min(self.limit)
    }

    /// Whether a message of so many slots would find them, or an error.
    pub(super) fn has_room(&mut self, slots: usize) -> bool {
        self.closed.is_some() || self.producer.has_room_for(slots) != Err(PushRefusal::Full)
    }

    /// Whether a buffer of `len` bytes would be found, or an error.
    pub(crate) fn has_buffer(&mut self, len: usize) -> bool {
        self.collect();
        self.closed.is_some() || !matches!(self.pool.alloc(len), Err(AllocError::Exhausted))
    }
}

/// How many slots a message takes.
pub(super) fn slots_of(message: &Message) -> usize {
    message.parts().len().div_ceil(DESCRIPTORS).max(1)
}
