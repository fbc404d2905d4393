//! What goes out: first what is short, so that a long message does not keep a call waiting. Where not all may go at
//! once, calls take turns, and one fragment goes between so many of them ([`MOST_BEFORE`]).

use super::slot::{Phase, Send, Slot};
use super::{Client, State};
use crate::protocol::packet::{Body, Transmit};
use crate::protocol::reassembly::Fragment;
use crate::wire::{self, MAX_CONTROL, Offer, Packet, span};

/// Behind a header that says it all.
const NOTHING: ([u8; MAX_CONTROL], usize) = ([0; MAX_CONTROL], 0);

/// So many requests of one packet may go before a fragment that is ready, where the network is crowded.
const MOST_BEFORE: u32 = 8;

/// How long to wait for an answer at least where nothing is lost, in nanoseconds.
const SILENCE: u64 = 100_000_000;

impl<P, D: Fragment> Client<P, D> {
    /// The next packet to send, if there is one now. To be asked until there is none, after whatever was
    /// begun, received or due; one that is given out counts as sent.
    #[inline]
    pub fn poll_transmit(&mut self, now: u64) -> Option<Transmit<'_, P>> {
        if self.small == 0 && self.bulk == 0 && !self.is_unusual {
            return None;
        }
        let index = self.small.trailing_zeros();
        if self.is_unusual
            || self.small == 0
            || self.slots.get(index as usize)?.send != Send::REQUEST
        {
            return self.transmit_slowly(now);
        }
        self.small &= self.small - 1;
        self.transmit_request(now, index)
    }

    /// Whether [`Client::poll_transmit`] may have a packet. No promise: what is held back counts.
    #[inline(always)]
    pub fn may_transmit(&self) -> bool {
        self.small | self.bulk != 0 || self.is_unusual
    }

    /// Says what the channel is like, where that was not known when the session was asked for: how many payload
    /// bytes a packet can carry, and whether there is a network between. Where there is none, nothing is crowded and
    /// nothing lost: who is silent there is asked after a tenth of a second, however short round trips are. No effect
    /// once the session is there.
    pub fn set_channel(&mut self, fragment: u32, is_far: bool) {
        if matches!(self.state, State::Opening { .. }) {
            self.limits = super::Limits { fragment, ..self.limits }.checked();
            let allowance = if is_far { self.timers.allowance } else { u64::MAX };
            self.congestion = super::Congestion::new(allowance);
            // Another channel may have been the first one.
            self.round_trip = super::RoundTrip::new(&self.timers);
            if !is_far {
                self.round_trip.wait_at_least(SILENCE);
            }
        }
    }

    /// Says that this side's thread never sleeps while it waits: packets can be spaced out by less than it takes to wake.
    pub fn never_sleep(&mut self) {
        self.never_sleeps = true;
    }

    /// A request in one fragment.
    #[inline(always)]
    fn transmit_request(&mut self, now: u64, index: u32) -> Option<Transmit<'_, P>> {
        let slot = self.slots.get_mut(index as usize)?;
        slot.send = Send::default();
        if !slot.was_sent {
            // Who began it may have looked at the clock before.
            slot.heard = now;
        }
        slot.was_sent = true;
        slot.sent_at = now;
        if slot.times == 0 {
            slot.due = now.saturating_add(self.round_trip.timeout()).min(slot.deadline);
            self.next_timer = self.next_timer.min(slot.due);
        }
        let time = if slot.deadline == u64::MAX { 0 } else { time_left(now, slot.deadline) };
        let packet = Packet::Request {
            id: slot.id,
            method: slot.method,
            time,
            last: 0,
            credit: self.credit,
            one_way: slot.one_way,
            ask: false,
        };
        let body = Body::Payload(slot.payload.as_ref()?, 0..slot.len);
        Some(Transmit { header: packet.encode(), body })
    }

    #[cold]
    fn transmit_slowly(&mut self, now: u64) -> Option<Transmit<'_, P>> {
        if let Some((packet, bytes)) = self.control_packet() {
            return Some(Transmit::control(packet, bytes));
        }
        if self.state != State::Open {
            return None;
        }
        self.is_unusual = !self.congestion.is_calm();
        // Words, questions and what is sent again are few, and are never held back.
        let mut room = None;
        let is_turn_of_long = self.bulk != 0 && self.short_sent >= MOST_BEFORE;
        if is_turn_of_long && let Some(fragment) = self.choose_fragment(now) {
            return self.transmit_fragment(now, fragment);
        }
        // Who had its turn is the last to have the next. Words do not move the turns of requests, nor these those.
        let requests = self.requests();
        let words = turns(self.small & !requests, self.permit_turn);
        for index in words.chain(turns(requests, self.short_turn)) {
            let slot = self.slots.get_mut(index as usize)?;
            match slot.send {
                Send::REQUEST => {
                    let is_first = slot.times == 0;
                    if is_first && *room.get_or_insert_with(|| self.room(now)) == 0 {
                        continue;
                    }
                    self.small &= !(1 << index);
                    if self.is_unusual {
                        if is_first {
                            self.short_turn = index + 1;
                            self.short_sent =
                                if self.bulk == 0 { 0 } else { self.short_sent.saturating_add(1) };
                        }
                        let slot = self.slots.get_mut(index as usize)?;
                        // What was sent while all was calm permitted all.
                        let was_calm = slot.was_sent && slot.told == 0;
                        slot.permit_first(
                            self.credit,
                            if was_calm { self.credits.into() } else { 0 },
                        );
                        self.congestion.on_send(now, self.round_trip.smoothed(), self.never_sleeps);
                    }
                    return self.transmit_request(now, index);
                }
                Send::WORD | Send::PERMIT => {
                    let is_word = slot.send == Send::WORD;
                    let more = self.permit(now, index);
                    if more > 0 || is_word {
                        return self.transmit_word(now, index, more);
                    }
                    if !self.is_unusual {
                        // It may send all that can be under way.
                        self.set_send(index, Send::default());
                    }
                }
                _ => {
                    self.small &= !(1 << index);
                    return self.transmit_question(index);
                }
            }
        }
        match self.choose_fragment(now) {
            Some(fragment) => self.transmit_fragment(now, fragment),
            None => {
                self.wake_for_pace(now);
                None
            }
        }
    }

    /// The slots whose request is to be sent.
    fn requests(&self) -> u64 {
        let slots = self.slots.iter().enumerate();
        let requests = slots.filter(|(_, slot)| slot.send == Send::REQUEST);
        self.small & requests.fold(0, |map, (index, _)| map | 1 << index)
    }

    fn control_packet(&mut self) -> Option<(Packet, ([u8; MAX_CONTROL], usize))> {
        if std::mem::take(&mut self.control.open) {
            let Self { nonce, limits, service, .. } = *self;
            let packet = Packet::Open {
                nonce,
                version: wire::VERSION,
                window: limits.window,
                credits: limits.credits,
            };
            let offer = Offer {
                service,
                epoch: self.terms.epoch,
                fragment: limits.fragment,
                max_reply: limits.max_message,
            };
            let mut bytes = [0; MAX_CONTROL];
            bytes[..Offer::BYTES].copy_from_slice(&offer.encode());
            return Some((packet, (bytes, Offer::BYTES)));
        }
        if std::mem::take(&mut self.control.ping) {
            return Some((Packet::Ping { id: self.cookie }, NOTHING));
        }
        let close = std::mem::take(&mut self.control.close);
        close.then_some((Packet::Close { id: self.cookie }, NOTHING))
    }

    /// What became of a call, or that all of its reply is here.
    fn transmit_question(&mut self, index: u32) -> Option<Transmit<'_, P>> {
        let slot = self.slots.get_mut(index as usize)?;
        if std::mem::take(&mut slot.send) == Send::QUERY {
            return Some(Transmit::bare(Packet::Query { id: slot.id }));
        }
        // Of the call before, whose place is free.
        let id = slot.id.wrapping_sub(self.window);
        let packet = Packet::Taken { id, base: wire::ALL, limit: wire::ALL, resend: false };
        Some(Transmit::bare(packet))
    }

    /// How many more fragments of a reply the server may send. While all is calm, as many as can be under way.
    fn permit(&mut self, now: u64, index: u32) -> u32 {
        let slot = &self.slots[index as usize];
        let Some(reassembly) = &slot.reassembly else { return 0 };
        let most = (reassembly.base() + u32::from(self.credits)).saturating_sub(slot.told);
        if self.congestion.is_calm() {
            return most;
        }
        let left = reassembly.count().saturating_sub(slot.told);
        let more = left.min(self.congestion.credits(self.credits).into());
        let permitted = self.slots.iter().map(Slot::permitted).sum();
        let round_trip = &self.round_trip;
        if more > most || more == 0 || !self.congestion.permit(now, round_trip, permitted, more) {
            return 0;
        }
        self.permit_turn = index + 1;
        more
    }

    /// What is known of a reply, and how many more fragments may be sent.
    fn transmit_word(&mut self, now: u64, index: u32, more: u32) -> Option<Transmit<'_, P>> {
        let slot = self.slots.get_mut(index as usize)?;
        let (base, map) = slot.reassembly.as_mut()?.word();
        let limit = (slot.told + more).min(wire::ALL.into());
        let resend = std::mem::take(&mut slot.resend);
        if resend {
            slot.timed = None;
        } else if limit > slot.told && slot.told >= slot.told_before {
            slot.timed.get_or_insert((slot.told, now));
        }
        slot.told = limit;
        if more > 0 {
            slot.due = now.saturating_add(self.round_trip.timeout()).min(slot.deadline);
            self.next_timer = self.next_timer.min(slot.due);
        }
        let (id, base, is_whole) = (slot.id, base as u16, !slot.lacks_permits());
        let is_done = is_whole || self.congestion.is_calm();
        self.set_send(index, if is_done { Send::default() } else { Send::PERMIT });
        let packet = Packet::Taken { id, base, limit: limit as u16, resend };
        Some(Transmit::control(packet, map.encode()))
    }

    /// What is to be sent for a call, by and by.
    pub(super) fn set_send(&mut self, index: u32, send: Send) {
        let bit = 1 << index;
        self.small = if send == Send::default() { self.small & !bit } else { self.small | bit };
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.send = send;
        }
    }

    /// A fragment of long arguments: of one call after the other.
    fn transmit_fragment(
        &mut self,
        now: u64,
        (index, number, ask): (u32, u16, bool),
    ) -> Option<Transmit<'_, P>> {
        (self.turn, self.short_sent) = (index + 1, 0);
        if self.is_unusual {
            self.congestion.on_send(now, self.round_trip.smoothed(), self.never_sleeps);
        }
        let slot = self.slots.get_mut(index as usize)?;
        slot.due = now.saturating_add(self.round_trip.timeout()).min(slot.deadline);
        self.next_timer = self.next_timer.min(slot.due);
        if !slot.was_sent {
            slot.heard = now;
        }
        slot.was_sent = true;
        let (len, id, method) = (slot.len, slot.id, slot.method);
        let last = super::Limits::last(self.fragment, len)?;
        let packet = if number == 0 {
            let time = if slot.deadline == u64::MAX { 0 } else { time_left(now, slot.deadline) };
            let (credit, one_way) = (self.credit, slot.one_way);
            slot.permit_first(credit, 0);
            Packet::Request { id, method, time, last, credit, one_way, ask }
        } else {
            Packet::Fragment { id, method, index: number, last, ask }
        };
        let payload = slot.payload.as_ref()?;
        Some(Transmit::fragment(packet, payload, number, (self.fragment, len)))
    }

    /// What is held back for its pace goes when its time has come. What waits for an answer goes on with that.
    pub(super) fn wake_for_pace(&mut self, now: u64) {
        if self.bulk | self.small == 0 {
            return;
        }
        for at in [self.congestion.next(), self.congestion.next_permit()] {
            if at > now {
                self.wake(at);
            }
        }
    }

    /// The next slot's next fragment, and whether word of it shall be asked for.
    fn choose_fragment(&mut self, now: u64) -> Option<(u32, u16, bool)> {
        let room = if self.bulk == 0 { 0 } else { self.room(now) };
        for at in 0..self.window as u32 {
            let index = (at + self.turn) & (self.window as u32 - 1);
            if self.bulk >> index & 1 == 0 {
                continue;
            }
            let Some(transfer) = &mut self.slots.get_mut(index as usize)?.transfer else {
                self.bulk &= !(1 << index);
                continue;
            };
            let room = room.max(transfer.is_urgent().into());
            let sent = if room > 0 { transfer.send(now, room) } else { None };
            if !transfer.is_ready() {
                self.bulk &= !(1 << index);
            }
            if let Some((number, ask)) = sent {
                return Some((index, number, ask));
            }
        }
        None
    }

    /// How many packets may be sent now.
    fn room(&self, now: u64) -> u32 {
        if self.congestion.is_calm() {
            u32::MAX
        } else {
            self.congestion.room(now, self.in_flight())
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        let of_one = |slot: &Slot<P, D>| match &slot.transfer {
            Some(transfer) => transfer.in_flight(),
            None => u32::from(slot.phase == Phase::Sent && slot.was_sent),
        };
        self.slots.iter().map(of_one).sum()
    }
}

/// The slots of a map, from a turn on.
fn turns(map: u64, turn: u32) -> impl Iterator<Item = u32> {
    let mut left = map.rotate_right(turn);
    std::iter::from_fn(move || {
        let bit = (left != 0).then(|| left.trailing_zeros())?;
        left &= left - 1;
        Some((bit + turn) % u64::BITS)
    })
}

/// The time until the deadline, as a span; never zero, which is none.
fn time_left(now: u64, deadline: u64) -> u16 {
    span::encode(deadline.saturating_sub(now)).max(1)
}
