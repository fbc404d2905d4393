//! What comes in: checked, and given to the channel that it names.

use std::net::SocketAddr;

use fbufs::{FbufMut, Part};
use segment::counters::Counter;

use super::account::LinkCount;
use super::link::{Arrived, Link, Phase};
use super::sequence::Seen;
use crate::Delivery;
use crate::device::{DeviceError, Mode, Piece, Received};
use crate::wire::{self, Fields, Kind, WireError};

/// The most pieces of a datagram that are kept until its last one has come.
const MAX_PIECES: usize = 64;
/// Looks by the short way for one by the long one, while nothing comes into the rings of a device.
const SHORT_LOOKS: u32 = 8;

impl Link {
    /// Takes what the device has received.
    ///
    /// # Errors
    /// [`DeviceError`], when the device is of no more use.
    ///
    /// # Cost
    /// A look at the device; for each message two checks of the header, and the checksum.
    #[inline]
    pub fn poll(&mut self) -> Result<(), DeviceError> {
        self.look_at_device(&mut Taker::nobody(), || false).map(|_| ())
    }

    /// Takes the next message of one channel or of any into `delivery`, which is empty. If none waits, looks
    /// at the device, and `again` as long as nothing came. For which channel it was.
    ///
    /// # Cost
    /// As [`Link::poll`]. A message that nobody waits before is not queued.
    #[inline(always)]
    pub fn next(
        &mut self,
        only: Option<u32>,
        delivery: &mut Delivery,
        again: impl FnMut() -> bool,
    ) -> Option<u32> {
        match self.pop(only, delivery) {
            Some(channel) => Some(channel),
            // Its failure ends the channels, which is what is looked at next.
            None => {
                self.look_at_device(&mut Taker { only, delivery: Some(delivery) }, again).ok()?
            }
        }
    }

    /// Takes what the device has received; the first message for the taker, for whom none waits, goes to it.
    #[inline(always)]
    fn look_at_device(
        &mut self,
        taker: &mut Taker<'_>,
        mut again: impl FnMut() -> bool,
    ) -> Result<Option<u32>, DeviceError> {
        let mut short = 1;
        let outcome = loop {
            // The shortest way, where the device has it; while nothing comes, several times for one of all
            // else that a look does. Each is a look to who waits.
            let (mut came, mut goes_on) = (false, true);
            for turn in 0..short {
                if turn > 0 && !again() {
                    goes_on = false;
                    break;
                }
                if taker.delivery.is_some()
                    && let Some((from, bytes)) = self.device.receive_one()
                {
                    LinkCount::Taken.add(&self.counters, 1);
                    let delivered = self.take(from, Piece::whole(bytes), taker);
                    if delivered.is_some() {
                        return Ok(delivered);
                    }
                    came = true;
                    break;
                }
            }
            // What is for nobody here is no reason not to see what came behind it.
            let outcome = self.device.receive(&mut self.received);
            if !self.received.is_empty() || outcome.is_err() {
                break outcome;
            }
            if came || !goes_on || !again() {
                return Ok(None);
            }
            // Elsewhere a look is a system call, or comes to the same.
            if matches!(self.capabilities.mode, Mode::Generic | Mode::Native | Mode::ZeroCopy) {
                short = SHORT_LOOKS;
            }
        };
        let delivered = self.take_received(taker);
        match outcome {
            Err(error) if !error.is_passing() => {
                self.fail(error);
                // What came before is taken first.
                delivered.map(Some).ok_or(error)
            }
            _ => Ok(delivered),
        }
    }

    /// Takes what came as a burst: the first message for the taker goes to it.
    #[inline(never)]
    fn take_received(&mut self, taker: &mut Taker<'_>) -> Option<u32> {
        LinkCount::Taken.add(&self.counters, self.received.len());
        let mut delivered = None;
        let mut received = std::mem::take(&mut self.received);
        for Received { from, piece } in received.drain(..) {
            delivered = delivered.or(self.take(from, piece, taker));
        }
        self.received = received;
        delivered
    }

    /// A datagram in one piece: all but those of jumbo frames.
    #[inline(always)]
    fn take(
        &mut self,
        from: SocketAddr,
        piece: Piece<FbufMut>,
        taker: &mut Taker<'_>,
    ) -> Option<u32> {
        if piece.more || !self.pieces.is_empty() {
            return self.take_piece(from, piece, taker);
        }
        let bytes = piece.bytes;
        match wire::open(&bytes) {
            Ok((fields, _)) => self.take_message(from, fields, bytes, None, taker),
            Err(error) => self.drop_malformed(error, bytes),
        }
    }

    #[cold]
    fn take_piece(
        &mut self,
        from: SocketAddr,
        piece: Piece<FbufMut>,
        taker: &mut Taker<'_>,
    ) -> Option<u32> {
        if self.pieces.len() < MAX_PIECES {
            self.pieces.push(piece.bytes);
        }
        if piece.more {
            return None;
        }
        let mut pieces = std::mem::take(&mut self.pieces).into_iter();
        let first = pieces.next()?;
        let rest: Vec<FbufMut> = pieces.collect();
        let len = first.len() + rest.iter().map(|piece| piece.len()).sum::<usize>();
        match wire::open_pieces(&first, len, rest.iter().map(|piece| &piece[..])) {
            Ok(fields) => self.take_message(from, fields, first, Some(rest), taker),
            Err(error) => self.drop_malformed(error, first),
        }
    }

    #[cold]
    fn drop_malformed(&mut self, error: WireError, bytes: FbufMut) -> Option<u32> {
        self.counters.add(
            match error {
                WireError::Checksum => Counter::WireChecksum,
                _ => Counter::WireMalformed,
            },
            1,
        );
        self.recycle(bytes);
        None
    }

    #[inline(always)]
    pub(super) fn recycle(&mut self, bytes: FbufMut) {
        self.device.pool().recycle_received(bytes.freeze());
    }

    /// Checks a message by its channel, and queues it, or delivers it to the taker: to which channel then.
    #[inline(always)]
    fn take_message(
        &mut self,
        from: SocketAddr,
        fields: Fields,
        first: FbufMut,
        rest: Option<Vec<FbufMut>>,
        taker: &mut Taker<'_>,
    ) -> Option<u32> {
        if fields.kind != Kind::Data {
            self.take_control(from, fields, first);
            return None;
        }
        let Fields { channel, tag, inline, .. } = fields;
        let (share, is_crowded) = (self.share, self.waiting >= self.crowd);
        let Some(state) = self.channels.get_mut(channel as usize).and_then(Option::as_mut) else {
            self.take_stale(from, fields, first, Counter::WireUnknown);
            return None;
        };
        if fields.incarnation != state.own.0 {
            self.take_stale(from, fields, first, Counter::WireStale);
            return None;
        }
        if !state.is_from(from) || state.phase != Phase::Open {
            return self.refuse(Counter::WireForeign, first);
        }
        if state.closed.is_some() {
            return self.take_too_late(fields, first);
        }
        match state.window.see(fields.sequence) {
            Seen::Ahead(0) => {}
            Seen::Replayed => return self.refuse(Counter::WireReplayed, first),
            Seen::Ahead(skipped) => state.lost(skipped),
            Seen::Late => state.found(),
        }
        state.heard = true;
        let arrived = Arrived { channel, tag, inline, first, rest };
        if let Some(delivery) = taker.take_for(channel, self.answered) {
            state.counters.add(Counter::Received, 1);
            self.deliver(arrived, delivery);
            return Some(channel);
        }
        let buffers = arrived.buffers();
        if state.queued > 0 && (is_crowded || state.queued + buffers > share) {
            state.counters.add(Counter::WireOverrun, 1);
            self.recycle(arrived.first);
            return None;
        }
        state.queued += buffers;
        state.counters.add(Counter::Received, 1);
        self.waiting += buffers;
        self.ready.push_back(arrived);
        None
    }

    /// A message for a channel that has ended, such as one that its farewell overtook: it came, and nobody
    /// takes it any more.
    #[cold]
    fn take_too_late(&mut self, fields: Fields, bytes: FbufMut) -> Option<u32> {
        if let Some(state) = self.state(fields.channel) {
            match state.window.see(fields.sequence) {
                Seen::Ahead(skipped) => state.lost(skipped),
                Seen::Late => state.found(),
                Seen::Replayed => return self.refuse(Counter::WireReplayed, bytes),
            }
            state.counters.add(Counter::Received, 1);
            state.counters.add(Counter::LostAtClose, 1);
        }
        self.recycle(bytes);
        None
    }

    #[cold]
    pub(super) fn refuse(&mut self, counter: Counter, bytes: FbufMut) -> Option<u32> {
        self.counters.add(counter, 1);
        self.recycle(bytes);
        None
    }

    /// Takes the next message that was received, of one channel or of any, into `delivery`, which is empty.
    /// For which channel it was.
    #[inline(always)]
    pub fn pop(&mut self, only: Option<u32>, delivery: &mut Delivery) -> Option<u32> {
        let at = match only {
            None => 0,
            Some(channel) => self.ready.iter().position(|a| a.channel == channel)?,
        };
        let arrived = if at == 0 { self.ready.pop_front() } else { self.ready.remove(at) }?;
        let buffers = arrived.buffers();
        self.waiting -= buffers;
        if let Some(state) = self.state(arrived.channel) {
            state.queued -= buffers;
        }
        let channel = arrived.channel;
        self.deliver(arrived, delivery);
        Some(channel)
    }

    #[inline(always)]
    fn deliver(&mut self, arrived: Arrived, delivery: &mut Delivery) {
        let Arrived { tag, inline, mut first, rest, .. } = arrived;
        // A header was read from there.
        let body = first.get(wire::HEADER_BYTES..).unwrap_or_default();
        // Not more than a slot takes, and not more than there is: both were checked with the header.
        let inline = usize::from(inline).min(body.len());
        delivery.begin(tag, &body[..inline]);
        let skipped = first.headroom() + wire::HEADER_BYTES + inline;
        let _ = first.set_range(skipped..first.headroom() + first.len());
        if first.is_empty() && rest.is_none() {
            return self.recycle(first);
        }
        delivery.begin_message(Part::Own(first.freeze()));
        if let Some(rest) = rest {
            delivery.append_to_message(rest);
        }
    }

    /// Gives back what came with an earlier message.
    #[inline(always)]
    pub fn give_back(&mut self, delivery: &mut Delivery) {
        if delivery.has_fbufs() {
            self.give_back_parts(delivery);
        }
    }

    #[inline(never)]
    fn give_back_parts(&mut self, delivery: &mut Delivery) {
        while let Some(part) = delivery.take_last_part() {
            if let Part::Own(fbuf) = part {
                self.device.pool().recycle_received(fbuf);
            }
        }
    }
}

/// Who asks for a message, and for whom none waits.
struct Taker<'a> {
    /// The channel; any, where there is none.
    only: Option<u32>,
    /// Until there is something in it.
    delivery: Option<&'a mut Delivery>,
}

impl<'a> Taker<'a> {
    fn nobody() -> Self {
        Self { only: None, delivery: None }
    }

    /// Where to put a message of a channel, if it is the one that is asked for. An endpoint is told first
    /// what its listeners `answered`: it does not know the channel before.
    #[inline(always)]
    fn take_for(&mut self, channel: u32, answered: bool) -> Option<&'a mut Delivery> {
        let wants = self.only.map_or(!answered, |only| only == channel);
        if wants { self.delivery.take() } else { None }
    }
}

impl super::link::State {
    /// The peer says how much it has sent: what of that did not come is lost, unless it comes late.
    #[cold]
    pub(super) fn reached(&mut self, sequence: u64) {
        let skipped = self.window.reach(sequence);
        if skipped > 0 {
            self.lost(skipped);
        }
    }

    #[cold]
    fn lost(&mut self, skipped: u64) {
        let lost = self.counters.get(Counter::WireLost).saturating_add(skipped);
        self.counters.set(Counter::WireLost, lost);
    }

    #[cold]
    fn found(&mut self) {
        let lost = self.counters.get(Counter::WireLost).saturating_sub(1);
        self.counters.set(Counter::WireLost, lost);
    }
}
