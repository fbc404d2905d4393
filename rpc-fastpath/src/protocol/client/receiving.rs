//! What comes in: mostly the reply that is expected, in one packet.

use super::slot::{Phase, Send, Slot};
use super::{Client, Event, SessionEnd, State, ended};
use crate::protocol::congestion::ALONE_AFTER;
use crate::protocol::map::Map;
use crate::protocol::options::Timers;
use crate::protocol::outcome::{Doubt, Outcome, Payload};
use crate::protocol::reassembly::{Fragment, Kept, Reassembly};
use crate::wire::{self, Failure, HEADER_BYTES, Packet, Status, Terms, Words, span};

impl<P, D: Fragment> Client<P, D> {
    /// Says whether this side's thread slept until what is received next came: how long that took to be looked at is
    /// not the network's time then.
    #[inline(always)]
    pub fn set_woken(&mut self, is_woken: bool) {
        self.is_woken = is_woken;
    }

    /// Takes a packet: `head` is its header and, of one without payload, all that follows; `len` is how many
    /// bytes follow in all, of which `payload` is the handle. What is no packet of this session's, or tells
    /// nothing new, is dropped.
    ///
    /// An event is given back at once, so that nobody has to keep the payload; others may follow by
    /// [`Client::poll_event`].
    #[inline]
    pub fn receive(&mut self, now: u64, head: &[u8], len: usize, payload: D) -> Option<Event<D>> {
        let header = head.first_chunk::<HEADER_BYTES>()?;
        let words = Words::from_bytes(header);
        let index = words.id.wrapping_sub(self.cookie) & (self.window - 1);
        if let Some(slot) = self.slots.get_mut(index as usize)
            && words.is_plain_reply()
            && slot.id == words.id
            && slot.phase == Phase::Sent
            && slot.was_sent
            && slot.transfer.is_none()
            && !slot.one_way
            && len <= slot.max_reply.min(self.fragment) as usize
        {
            // The call is over.
            self.heard = now;
            self.short_until = now.saturating_add(ALONE_AFTER);
            let round_trip =
                now.saturating_sub(slot.sent_at).saturating_sub(span::decode(words.time()));
            let (is_measured, sent_at) = (slot.times == 0, slot.sent_at);
            let was_missed = slot.was_missed();
            let token = slot.token;
            let request = slot.request(self.cookie);
            slot.retire(self.window);
            // Sent again, perhaps, and not yet given out.
            self.small &= !(1 << index);
            self.free |= 1 << index;
            if is_measured && self.congestion.is_notable(round_trip) {
                self.was_server_woken = false;
                self.measure(now, round_trip);
                self.miss_overtaken(now, sent_at);
            }
            if was_missed && self.congestion.is_possible(round_trip) {
                // It is the copy's answer: the first was lost.
                self.on_loss(now, false);
            }
            let outcome = Outcome::Executed(Payload::One(payload));
            return Some(ended(token, Some(request), outcome));
        }
        self.receive_slowly(now, header, &head[HEADER_BYTES..], len, payload)
    }

    #[cold]
    fn receive_slowly(
        &mut self,
        now: u64,
        header: &[u8; HEADER_BYTES],
        body: &[u8],
        len: usize,
        payload: D,
    ) -> Option<Event<D>> {
        let Ok(packet) = Packet::decode(header) else {
            self.malformed += 1;
            return None;
        };
        match (packet, self.state) {
            (Packet::Opened { nonce, version, window, credits }, State::Opening { .. }) => {
                let terms = Terms::decode(body)?;
                let is_ours = nonce == self.nonce && version == wire::VERSION;
                if !is_ours || !self.is_acceptable(window, credits, &terms) {
                    return None;
                }
                if let State::Opening { times: 0, since, .. } = self.state {
                    self.measure_opening(now, now.saturating_sub(since));
                }
                self.open(now, window, credits, terms);
                Some(Event::Opened(terms))
            }
            (Packet::Rejected { nonce, why, .. }, State::Opening { .. }) if nonce == self.nonce => {
                self.end_session(Doubt::SessionLost, Some(SessionEnd::Rejected(why)));
                None
            }
            (Packet::Reply { id, status, held, last, ask, woken }, State::Open) => {
                self.was_server_woken = woken;
                let slot = self.waiting(now, id)?;
                slot.heard = now;
                let sent_at = slot.sent_at;
                let round_trip = now.saturating_sub(sent_at).saturating_sub(span::decode(held));
                let is_first = slot.phase == Phase::Sent && slot.transfer.is_none();
                let (is_measured, was_missed) = (slot.times == 0, slot.was_missed());
                let is_short = is_first && last == 0;
                if is_first && is_measured {
                    self.measure(now, round_trip);
                    self.miss_overtaken(now, sent_at);
                } else if is_first && was_missed && self.congestion.is_possible(round_trip) {
                    self.on_loss(now, false);
                }
                if is_short {
                    self.short_until = now.saturating_add(ALONE_AFTER);
                }
                self.on_reply(now, id, status, (0, last, ask), len, payload)
            }
            (Packet::Continuation { id, index, last, ask, woken, alone }, State::Open) => {
                self.was_server_woken = woken;
                self.waiting(now, id)?.heard = now;
                self.allow(now, alone);
                self.on_reply(now, id, Status::Executed, (index, last, ask), len, payload)
            }
            (Packet::Received { id, base, limit, whole, woken, alone }, State::Open) => {
                self.was_server_woken = woken;
                let map = Map::decode(body)?;
                self.allow(now, alone);
                self.on_received(now, id, (base, limit, whole), map);
                None
            }
            (Packet::Pong { id }, State::Open) if id == self.cookie => {
                self.heard = now;
                None
            }
            (Packet::Stale { id }, State::Open) => {
                if id == self.cookie || self.waiting(now, id).is_some() {
                    self.end_session(Doubt::SessionLost, Some(SessionEnd::Lost));
                }
                None
            }
            // From a client, or of no concern now.
            _ => None,
        }
    }

    /// How many packets were dropped that have no header.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Whether a server may say so: no more than was offered.
    fn is_acceptable(&self, window: u16, credits: u16, terms: &Terms) -> bool {
        window.is_power_of_two()
            && window <= self.limits.window
            && (1..=self.limits.credits).contains(&credits)
            && (1..=self.limits.fragment).contains(&terms.fragment)
            && (self.terms.epoch == 0 || self.terms.epoch == terms.epoch)
    }

    fn open(&mut self, now: u64, window: u16, credits: u16, terms: Terms) {
        self.state = State::Open;
        self.control.open = false;
        self.is_unusual = false;
        (self.terms, self.cookie, self.fragment) = (terms, terms.cookie, terms.fragment);
        (self.window, self.credits) = (window.into(), credits);
        self.free = u64::MAX >> (64 - u32::from(window));
        self.credit = self.congestion.credits(credits).ilog2() as u8;
        // The first call of a slot has the slot's number plus the window: the number zero is the session's.
        let first = |number: u64| Slot::new(terms.cookie.wrapping_add(self.window + number));
        self.slots = (0..self.window).map(first).collect();
        (self.heard, self.pinged) = (now, now);
        self.next_timer = now;
    }

    /// The slot that waits for an answer to this; such an answer is a sign of life.
    fn waiting(&mut self, now: u64, id: u64) -> Option<&mut Slot<P, D>> {
        let index = id.wrapping_sub(self.cookie) & (self.window - 1);
        let slot = self.slots.get_mut(index as usize)?;
        if !slot.is_waiting_for(id) {
            return None;
        }
        self.heard = now;
        Some(slot)
    }

    /// The shortest round trip that is known, before anything queues. A server may take its time to accept:
    /// that must not make this side wait longer than if it knew nothing.
    fn measure_opening(&mut self, now: u64, round_trip: u64) {
        self.round_trip.sample(round_trip.min(self.timers.rto_initial / 3));
        self.congestion.sample(now, round_trip, self.round_trip.smoothed(), self.is_woken);
    }

    pub(super) fn measure(&mut self, now: u64, round_trip: u64) {
        self.round_trip.sample(round_trip);
        let woken = self.is_woken || self.was_server_woken;
        self.congestion.sample(now, round_trip, self.round_trip.smoothed(), woken);
        self.apply_congestion();
    }

    /// Allows what a long call may keep waiting on its way: who is alone delays nobody.
    fn allow(&mut self, now: u64, is_alone: bool) {
        let Timers { allowance, allowance_alone, .. } = self.timers;
        let is_alone = is_alone && now >= self.short_until;
        self.congestion.allow(if is_alone { allowance_alone } else { allowance });
    }

    /// The fast path asks for nothing but these two.
    pub(super) fn apply_congestion(&mut self) {
        self.credit = self.congestion.credits(self.credits).ilog2() as u8;
        self.is_unusual |= !self.congestion.is_calm();
    }

    /// A fragment of a reply, or an end without one, of a call that waits.
    fn on_reply(
        &mut self,
        now: u64,
        id: u64,
        status: Status,
        (index, last, ask): (u16, u16, bool),
        len: usize,
        payload: D,
    ) -> Option<Event<D>> {
        let agreed = (self.fragment as usize, self.credits);
        let (fragment, credits) = agreed;
        let slot = self.waiting(now, id)?;
        let max = slot.max_reply as usize;
        match status {
            Status::Executed if slot.one_way => None,
            Status::Executed if last == 0 && slot.reassembly.is_none() => {
                let outcome = if len > fragment.min(max) {
                    Outcome::Failed(Failure::ReplyTooLarge)
                } else {
                    Outcome::Executed(Payload::One(payload))
                };
                self.end_call(id, outcome, false)
            }
            // Its length is above that of all fragments but the last.
            Status::Executed if usize::from(last) * fragment >= max => {
                self.end_call(id, Outcome::Failed(Failure::ReplyTooLarge), true)
            }
            Status::Executed => {
                slot.release_arguments();
                slot.phase = Phase::Receiving;
                if slot.told == 0 {
                    // It was sent while all was calm.
                    slot.told = 1 << credits.ilog2();
                }
                let it = slot.reassembly.get_or_insert_with(|| Box::new(Reassembly::new(last)));
                let kept = it.keep((index, last), len, agreed, payload);
                self.on_fragment(now, id, kept, index, ask)
            }
            Status::Delivered if slot.one_way => self.end_call(id, Outcome::Delivered, false),
            Status::Delivered => None,
            Status::Failed(why) => self.end_call(id, Outcome::Failed(why), false),
            Status::Refused(why) => self.end_call(id, Outcome::Refused(why), false),
        }
    }

    fn on_fragment(
        &mut self,
        now: u64,
        id: u64,
        kept: Kept,
        index: u16,
        ask: bool,
    ) -> Option<Event<D>> {
        let due = now.saturating_add(self.round_trip.timeout());
        let is_calm = self.congestion.is_calm();
        let bit = 1 << (id.wrapping_sub(self.cookie) & (self.window - 1));
        self.bulk &= !bit;
        let slot = self.waiting(now, id)?;
        let is_new = matches!(kept, Kept::New { .. });
        if is_new {
            slot.told = slot.told.max(u32::from(index) + 1);
            slot.times = 0;
            slot.due = due.min(slot.deadline);
        }
        let is_whole = slot.reassembly.as_ref()?.is_whole();
        if is_new && is_whole {
            let (parts, bytes) = slot.reassembly.take()?.into_parts();
            let outcome = if bytes > slot.max_reply as usize {
                Outcome::Failed(Failure::ReplyTooLarge)
            } else {
                Outcome::Executed(Payload::Many(parts))
            };
            return self.end_call(id, outcome, true);
        }
        let is_asked = ask || kept == Kept::Duplicate || kept == (Kept::New { tell: true });
        let is_news = kept == Kept::Duplicate || slot.reassembly.as_ref()?.has_gap();
        if !is_calm && slot.lacks_permits() && !is_news {
            // The word comes with it.
            if slot.send != Send::WORD {
                slot.send = Send::PERMIT;
            }
            self.small |= bit;
        } else if is_asked {
            slot.send = Send::WORD;
            self.small |= bit;
        } else if slot.send == Send::REQUEST || slot.send == Send::QUERY {
            slot.send = Send::default();
            self.small &= !bit;
        }
        let slot = self.waiting(now, id)?;
        let timed = slot.timed.filter(|(first, _)| is_new && u32::from(index) >= *first);
        if timed.is_some() {
            slot.timed = None;
        }
        let has_lost = slot.reassembly.as_mut().is_some_and(|it| it.misses_more());
        self.next_timer = self.next_timer.min(due);
        if let Some((_, at)) = timed {
            self.measure(now, now.saturating_sub(at));
        }
        if has_lost {
            self.on_loss(now, false);
        }
        None
    }

    /// Ends a call with what the server said of it.
    fn end_call(
        &mut self,
        id: u64,
        outcome: Outcome<Payload<D>>,
        is_long: bool,
    ) -> Option<Event<D>> {
        let index = id.wrapping_sub(self.cookie) & (self.window - 1);
        let slot = self.slots.get_mut(index as usize)?;
        let event = ended(slot.token, Some(slot.request(self.cookie)), outcome);
        slot.retire(self.window);
        self.free |= 1 << index;
        self.bulk &= !(1 << index);
        self.small &= !(1 << index);
        slot.send = Send::default();
        if is_long {
            slot.clear();
            slot.send = Send::ALL_TAKEN;
            self.small |= 1 << index;
        }
        Some(event)
    }

    /// The server's word of what it has of a call.
    fn on_received(&mut self, now: u64, id: u64, (base, limit, whole): (u16, u16, bool), map: Map) {
        let bit = 1 << (id.wrapping_sub(self.cookie) & (self.window - 1));
        let timeout = self.round_trip.timeout();
        let chance = self.next_chance();
        let Some(slot) = self.waiting(now, id) else { return };
        if slot.phase == Phase::Receiving {
            return;
        }
        slot.heard = now;
        let progress = match &mut slot.transfer {
            Some(transfer) => transfer.on_word(base.into(), map, limit.into()),
            None => Default::default(),
        };
        if whole {
            slot.phase = Phase::Accepted;
            slot.release_arguments();
            slot.send = Send::default();
            slot.times = slot.times.max(1);
        } else if progress.newer {
            slot.times = 0;
            slot.due = now.saturating_add(timeout).min(slot.deadline);
        }
        let (times, deadline) = (slot.times, slot.deadline);
        let is_ready = slot.transfer.as_ref().is_some_and(|transfer| transfer.is_ready());
        if whole {
            let due = now.saturating_add(self.round_trip.backed_off(times, chance)).min(deadline);
            self.small &= !bit;
            self.bulk &= !bit;
            if let Some(slot) = self.waiting(now, id) {
                slot.due = due;
            }
            self.next_timer = self.next_timer.min(due);
        } else if is_ready {
            self.bulk |= bit;
        }
        if let Some(at) = progress.sent_at {
            self.measure(now, now.saturating_sub(at));
        }
        if progress.lost {
            self.on_loss(now, false);
        }
    }
}
