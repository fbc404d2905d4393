//! What comes in: checked, and given to the channel that it names.

use fbufs::{FbufMut, Message, Part};
use segment::counters::Counter;

use super::account::LinkCount;
use super::link::{Arrived, Link, Phase};
use super::sequence::Seen;
use crate::Delivery;
use crate::device::{DeviceError, Received};
use crate::wire::{self, Fields, Kind, WireError};

/// The most pieces of a datagram that are kept until its last one has come.
const MAX_PIECES: usize = 64;

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
        let mut received = std::mem::take(&mut self.received);
        let outcome = self.device.receive(&mut received);
        if !received.is_empty() {
            LinkCount::Taken.add(&self.counters, received.len());
        }
        for datagram in received.drain(..) {
            self.take(datagram);
        }
        self.received = received;
        match outcome {
            Err(error) if !error.is_passing() => {
                self.fail(error);
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// A datagram in one piece: all but those of jumbo frames.
    #[inline(always)]
    fn take(&mut self, datagram: Received) {
        let Received { from, piece } = datagram;
        if piece.more || !self.pieces.is_empty() {
            return self.take_piece(from, piece.bytes, piece.more);
        }
        let bytes = piece.bytes;
        match wire::open(&bytes) {
            Ok((fields, _)) => self.take_message(from, fields, bytes, Vec::new()),
            Err(error) => self.drop_malformed(error, bytes),
        }
    }

    #[cold]
    fn take_piece(&mut self, from: std::net::SocketAddr, bytes: FbufMut, more: bool) {
        if self.pieces.len() < MAX_PIECES {
            self.pieces.push(bytes);
        }
        if more {
            return;
        }
        let mut pieces = std::mem::take(&mut self.pieces).into_iter();
        let Some(first) = pieces.next() else { return };
        let rest: Vec<FbufMut> = pieces.collect();
        let len = first.len() + rest.iter().map(|piece| piece.len()).sum::<usize>();
        match wire::open_pieces(&first, len, rest.iter().map(|piece| &piece[..])) {
            Ok(fields) => self.take_message(from, fields, first, rest),
            Err(error) => self.drop_malformed(error, first),
        }
    }

    #[cold]
    fn drop_malformed(&mut self, error: WireError, bytes: FbufMut) {
        self.counters.add(
            match error {
                WireError::Checksum => Counter::WireChecksum,
                _ => Counter::WireMalformed,
            },
            1,
        );
        self.recycle(bytes);
    }

    #[inline(always)]
    pub(super) fn recycle(&mut self, bytes: FbufMut) {
        self.device.pool().recycle(bytes.freeze());
    }

    #[inline(always)]
    fn take_message(
        &mut self,
        from: std::net::SocketAddr,
        fields: Fields,
        mut first: FbufMut,
        rest: Vec<FbufMut>,
    ) {
        if fields.kind != Kind::Data {
            return self.take_control(from, fields, first);
        }
        let (share, is_crowded) = (self.share, self.waiting >= self.crowd);
        let Some(state) = self.state(fields.channel) else {
            return self.take_stale(from, fields, first, Counter::WireUnknown);
        };
        if fields.incarnation != state.own.0 {
            return self.take_stale(from, fields, first, Counter::WireStale);
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
        let buffers = 1 + rest.len();
        if state.queued > 0 && (is_crowded || state.queued + buffers > share) {
            state.counters.add(Counter::WireOverrun, 1);
            return self.recycle(first);
        }
        state.queued += buffers;
        state.counters.add(Counter::Received, 1);
        self.waiting += buffers;
        let range = first.headroom() + wire::HEADER_BYTES..first.headroom() + first.len();
        // A header was read from there.
        let _ = first.set_range(range);
        let Fields { channel, tag, inline, .. } = fields;
        self.ready.push_back(Arrived { channel, tag, inline, first, rest });
    }

    /// A message for a channel that has ended, such as one that its farewell overtook: it came, and nobody
    /// takes it any more.
    #[cold]
    fn take_too_late(&mut self, fields: Fields, bytes: FbufMut) {
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
    }

    #[cold]
    pub(super) fn refuse(&mut self, counter: Counter, bytes: FbufMut) {
        self.counters.add(counter, 1);
        self.recycle(bytes);
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
        // Not more than a slot takes, and not more than there is: both were checked with the header.
        let inline = usize::from(inline).min(first.len());
        delivery.begin(tag, &first[..inline]);
        let range = first.headroom() + inline..first.headroom() + first.len();
        let _ = first.set_range(range);
        if first.is_empty() && rest.is_empty() {
            return self.recycle(first);
        }
        delivery.begin_message(Part::Own(first.freeze()));
        for piece in rest {
            delivery.append_to_message(Part::Own(piece.freeze()));
        }
    }

    /// Gives back what came with an earlier message.
    #[inline(always)]
    pub fn give_back(&mut self, message: Message) {
        let pool = self.device.pool();
        for part in message.into_parts() {
            if let Part::Own(fbuf) = part {
                pool.recycle(fbuf);
            }
        }
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
