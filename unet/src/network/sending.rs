//! What goes out: the header before it, from the channel's template.

use fbufs::{AllocError, Fbuf, FbufMut, Message, Part};
use segment::counters::Counter;
use zerocopy::IntoBytes;

use super::account::LinkCount;
use super::link::{Link, Phase, State};
use crate::channel::{CloseReason, Offer, SendError};
use crate::device::{Destination, Kick, Outgoing, Piece};
use crate::wire::{self, HEADER_BYTES};
use crate::{MAX_INLINE, MAX_INLINE_WITH_FBUF};

/// How many messages wait at most until they are handed to the device; and how many the device may have that
/// wait for it to be told.
const MAX_WAITING: usize = 64;

/// What stands before the payload of a buffer that a channel allocates: so much can be pushed.
pub(super) const HEADROOM: usize = HEADER_BYTES + MAX_INLINE_WITH_FBUF;

impl Link {
    /// The most bytes of one message to a channel's peer, now.
    #[inline(always)]
    pub fn limit(&self, to: Destination) -> usize {
        let pieces = self.capabilities.pieces * self.capabilities.piece_bytes;
        let fits = self.device.max_payload(to).min(pieces - self.capabilities.headroom);
        fits.saturating_sub(HEADER_BYTES).min(usize::from(u16::MAX))
    }

    /// The most bytes of one message to anybody.
    pub fn longest(&self) -> usize {
        let pieces = self.capabilities.pieces * self.capabilities.piece_bytes;
        let fits = self.capabilities.mtu.min(pieces - self.capabilities.headroom);
        fits.saturating_sub(HEADER_BYTES).min(usize::from(u16::MAX))
    }

    /// The most bytes of a first piece.
    #[inline(always)]
    fn first_piece(&self) -> usize {
        self.capabilities.piece_bytes - self.capabilities.headroom
    }

    /// Sends bytes; `inline` ones before them. Unless `now`, they may wait for others, until
    /// [`Link::flush`].
    #[inline(always)]
    pub fn send(
        &mut self,
        channel: u32,
        tag: u16,
        inline: &[u8],
        body: &[u8],
        now: bool,
    ) -> Result<Offer, SendError> {
        let len = inline.len() + body.len();
        // What fits into a slot arrives as what came in a slot, as between processes of one host.
        let beside = if len <= MAX_INLINE { len } else { inline.len() };
        let Some((to, header)) = self.prepare(channel, tag, len, beside)? else {
            return Ok(Offer::Full(()));
        };
        if HEADER_BYTES + len > self.first_piece() {
            return Ok(self.send_pieces(channel, to, header, &[inline, body].concat(), now));
        }
        let Some(fbuf) = self.write(header, inline, body) else { return Ok(Offer::Full(())) };
        self.commit(channel, to, fbuf, now);
        Ok(Offer::Taken)
    }

    /// Sends a message of foreign buffers: copied once, into one of the device's. What is volatile may change
    /// while it is copied, but not after its checksum is made.
    fn send_copied(
        &mut self,
        channel: u32,
        to: Destination,
        header: wire::Header,
        message: &Message,
        inline: &[u8],
        now: bool,
    ) -> Result<Offer, SendError> {
        let begin = HEADER_BYTES + inline.len();
        let len = begin + message.len();
        if len > self.first_piece() {
            let mut body = vec![0; inline.len() + message.len()];
            body[..inline.len()].copy_from_slice(inline);
            message.peek(0, &mut body[inline.len()..]).map_err(|_| SendError::Revoked)?;
            return Ok(self.send_pieces(channel, to, header, &body, now));
        }
        let Some(mut fbuf) = self.take_buffer(self.capabilities.headroom, len) else {
            return Ok(Offer::Full(()));
        };
        fbuf[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        fbuf[HEADER_BYTES..begin].copy_from_slice(inline);
        if message.peek(0, &mut fbuf[begin..]).is_err() {
            self.recycle(fbuf);
            return Err(SendError::Revoked);
        }
        wire::seal(&mut fbuf);
        self.commit(channel, to, fbuf.freeze(), now);
        Ok(Offer::Taken)
    }

    /// A message that fits into no single piece: copied into several.
    #[cold]
    fn send_pieces(
        &mut self,
        channel: u32,
        to: Destination,
        header: wire::Header,
        body: &[u8],
        now: bool,
    ) -> Offer {
        let (front, back) = body.split_at(self.first_piece() - HEADER_BYTES);
        let mut rest = Vec::new();
        for bytes in back.chunks(self.capabilities.piece_bytes) {
            let Some(mut fbuf) = self.take_buffer(0, bytes.len()) else { return Offer::Full(()) };
            fbuf.copy_from_slice(bytes);
            rest.push(fbuf.freeze());
        }
        let Some(fbuf) = self.write(header, front, &[]) else { return Offer::Full(()) };
        // Not shared yet, so that it can be written once more.
        let Ok(mut first) = fbuf.try_into_mut() else { return Offer::Full(()) };
        first[HEADER_BYTES - 4..HEADER_BYTES].fill(0);
        wire::seal_pieces(&mut first, rest.iter().map(|piece| &piece[..]));
        let more = !rest.is_empty();
        self.outgoing.push_back(Outgoing { to, piece: Piece { bytes: first.freeze(), more } });
        let last = rest.pop();
        for bytes in rest {
            self.outgoing.push_back(Outgoing { to, piece: Piece { bytes, more: true } });
        }
        if let Some(last) = last {
            self.commit(channel, to, last, now);
        }
        Offer::Taken
    }

    /// Checks everything that can be in the way, and makes the header. `None` if there is no room now.
    #[inline(always)]
    fn prepare(
        &mut self,
        channel: u32,
        tag: u16,
        len: usize,
        inline: usize,
    ) -> Result<Option<(Destination, wire::Header)>, SendError> {
        if !self.outgoing.is_empty() && !self.has_room() {
            let closed = self.state(channel).and_then(|state| state.closed);
            return closed.map_or(Ok(None), |reason| Err(reason.into()));
        }
        let Some(state) = self.channels.get_mut(channel as usize).and_then(Option::as_mut) else {
            return Err(CloseReason::PeerClosed.into());
        };
        if let Some(reason) = state.closed {
            state.counters.add(Counter::Closed, 1);
            return Err(reason.into());
        }
        debug_assert_eq!(state.phase, Phase::Open);
        let (to, header) = (state.to, state.template.patched(state.sent + 1, tag, len, inline));
        let limit = self.limit(to);
        if len > limit {
            return self.too_large(channel, len, limit);
        }
        Ok(Some((to, header)))
    }

    #[cold]
    fn too_large<T>(&mut self, channel: u32, len: usize, limit: usize) -> Result<T, SendError> {
        if let Some(state) = self.state(channel) {
            state.counters.add(Counter::TooLarge, 1);
        }
        Err(SendError::TooLarge { len, limit })
    }

    /// Whether one more message may wait. The device is offered those that do.
    #[cold]
    fn has_room(&mut self) -> bool {
        if self.outgoing.len() >= MAX_WAITING {
            self.flush();
        }
        self.outgoing.len() < MAX_WAITING
    }

    /// A message in a buffer of its own, headers' room before it. `None` if there is no buffer now.
    #[inline(always)]
    fn write(&mut self, header: wire::Header, inline: &[u8], body: &[u8]) -> Option<Fbuf> {
        let len = HEADER_BYTES + inline.len() + body.len();
        let mut fbuf = self.take_buffer(self.capabilities.headroom, len)?;
        wire::write(header, [inline, body], &mut fbuf);
        Some(fbuf.freeze())
    }

    /// Takes a buffer of the device's. `None` if there is none now.
    #[inline(always)]
    fn take_buffer(&mut self, headroom: usize, len: usize) -> Option<FbufMut> {
        // Asked first, so that there is one way for the buffer itself: what comes out of two goes through
        // memory.
        if !self.device.pool().has_best(headroom + len) {
            self.flush_for_buffers();
        }
        self.device.pool().alloc_best_with_headroom(headroom, len)
    }

    /// What was sent comes back when the device is asked.
    #[cold]
    fn flush_for_buffers(&mut self) {
        self.flush();
    }

    /// Takes a buffer to be written and sent over a channel, with room for the headers.
    pub fn alloc(&mut self, channel: u32, len: usize) -> Result<FbufMut, AllocError> {
        let to = self.state(channel).map(|state| state.to);
        let largest = to.map_or(0, |to| self.limit(to));
        let headroom = self.capabilities.headroom + HEADROOM;
        let largest = largest.min(self.capabilities.piece_bytes.saturating_sub(headroom));
        if len > largest {
            return Err(AllocError::TooLarge { asked: len, largest });
        }
        self.take_buffer(headroom, len).ok_or_else(|| {
            self.counters.add(Counter::NoBuffer, 1);
            AllocError::Exhausted
        })
    }

    /// The point of no return.
    #[inline(always)]
    fn commit(&mut self, channel: u32, to: Destination, fbuf: Fbuf, now: bool) {
        if let Some(state) = self.channels.get_mut(channel as usize).and_then(Option::as_mut) {
            state.sent += 1;
            // Before the device has it: a process that is killed has sent at most what it counted.
            state.counters.set(Counter::Sent, state.sent);
        }
        if !self.outgoing.is_empty() {
            return self.put(to, fbuf, now);
        }
        match self.device.transmit_one(to, fbuf, if now { Kick::Now } else { Kick::Later }) {
            Ok(()) => {
                LinkCount::Handed.add(&self.counters, 1);
                self.unkicked = if now { 0 } else { self.unkicked + 1 };
                if self.unkicked >= MAX_WAITING {
                    self.flush();
                }
            }
            Err(fbuf) => self.put(to, fbuf, now),
        }
    }

    /// Lets a datagram wait, or sends it with all that wait.
    #[inline(never)]
    fn put(&mut self, to: Destination, fbuf: Fbuf, now: bool) {
        self.outgoing.push_back(Outgoing { to, piece: Piece::whole(fbuf) });
        if now {
            self.flush();
        }
    }

    /// Hands what waits to the device, as far as it has room.
    #[inline(always)]
    pub fn flush(&mut self) {
        self.unkicked = 0;
        let waiting = self.outgoing.len();
        let outcome = self.device.transmit(&mut self.outgoing);
        // A device may give back what it took before: then there are more.
        LinkCount::Handed.add(&self.counters, waiting.wrapping_sub(self.outgoing.len()));
        match outcome {
            Err(error) if !error.is_passing() => self.fail(error),
            _ => {}
        }
    }

    /// Sends a message of buffers. What is not in the device's own, or has no room before it, is copied.
    pub fn send_message(
        &mut self,
        channel: u32,
        tag: u16,
        message: Message,
        inline: &[u8],
        now: bool,
    ) -> Result<Offer<Message>, SendError> {
        let len = inline.len() + message.len();
        if inline.len() > MAX_INLINE {
            return self.too_large(channel, inline.len(), MAX_INLINE);
        }
        let Some((to, header)) = self.prepare(channel, tag, len, inline.len())? else {
            return Ok(Offer::Full(message));
        };
        let message = match message.into_part() {
            Ok(Part::Own(fbuf)) => match self.put_before(fbuf, header, inline) {
                Ok(fbuf) => {
                    self.commit(channel, to, fbuf, now);
                    return Ok(Offer::Taken);
                }
                Err(fbuf) => Message::from(fbuf),
            },
            Ok(part) => Message::from(part),
            Err(message) => message,
        };
        match self.send_copied(channel, to, header, &message, inline, now)? {
            Offer::Taken => {
                self.device.pool().count_copy(message.len());
                Ok(Offer::Taken)
            }
            Offer::Full(()) => Ok(Offer::Full(message)),
        }
    }

    /// Writes the header before a buffer in place.
    ///
    /// # Errors
    /// The buffer, where it is not the device's, is shared, or has no room.
    #[inline(always)]
    fn put_before(
        &mut self,
        fbuf: Fbuf,
        header: wire::Header,
        inline: &[u8],
    ) -> Result<Fbuf, Fbuf> {
        let needed = self.capabilities.headroom + HEADER_BYTES + inline.len();
        if fbuf.headroom() < needed || !self.device.pool().owns(&fbuf) {
            return Err(fbuf);
        }
        let mut whole = fbuf.try_into_mut()?;
        let begin = whole.headroom() - HEADER_BYTES - inline.len();
        let end = whole.headroom() + whole.len();
        // Within the buffer: the room was there.
        let _ = whole.set_range(begin..end);
        whole[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        whole[HEADER_BYTES..HEADER_BYTES + inline.len()].copy_from_slice(inline);
        wire::seal(&mut whole);
        Ok(whole.freeze())
    }

    /// Sends what belongs to no message: the kinds beside data. Best effort: it may be lost anyway.
    pub(super) fn send_control(&mut self, to: Destination, fields: wire::Fields, body: &[u8]) {
        let header = fields.to_header(body.len());
        if let Some(fbuf) = self.write(header, &[], body) {
            LinkCount::ControlSent.add(&self.counters, 1);
            self.outgoing.push_back(Outgoing { to, piece: Piece::whole(fbuf) });
            self.flush();
        }
        // A device that is down, or full, keeps it no longer than what comes after it.
        while self.outgoing.len() > MAX_WAITING {
            // All of a datagram: what is left of one would be taken for another.
            let waiting = self.outgoing.len();
            while self.outgoing.pop_front().is_some_and(|outgoing| outgoing.piece.more) {}
            LinkCount::Unsent.add(&self.counters, waiting - self.outgoing.len());
        }
    }

    /// As [`Link::send_control`], to a channel's peer.
    pub(super) fn send_to_peer(&mut self, channel: u32, kind: wire::Kind, body: &[u8]) {
        let Some(State { to, peer, sent, .. }) = self.state(channel) else { return };
        let (to, peer, sent) = (*to, *peer, *sent);
        let sequence = if kind == wire::Kind::Welcome { 0 } else { sent };
        let fields = wire::Fields { sequence, ..self.control_fields(kind, peer.0, peer.1.0) };
        self.send_control(to, fields, body);
    }

    pub(super) fn control_fields(
        &self,
        kind: wire::Kind,
        channel: u32,
        incarnation: u64,
    ) -> wire::Fields {
        wire::Fields {
            kind,
            tag: 0,
            channel,
            incarnation,
            sequence: 0,
            inline: 0,
            checksum: wire::Checksum::Crc32c,
        }
    }
}
