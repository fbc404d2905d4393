//! What is due: repetition, giving up, asking whether the server lives.

use super::slot::{Phase, Send, Slot};
use super::{Client, SessionEnd, State};
use crate::protocol::outcome::{Doubt, Outcome};
use crate::protocol::reassembly::Fragment;
use crate::wire::Refusal;

/// A request is missed if one that was sent so much later is answered, in nanoseconds: handlers may differ by that.
const OVERTAKEN: u64 = 100_000;

impl<P, D: Fragment> Client<P, D> {
    /// When [`Client::on_timer`] shall be called, if it is not called before; the end of time if never.
    #[inline(always)]
    pub fn next_timer(&self) -> u64 {
        self.next_timer
    }

    /// Shall be woken by then.
    pub(super) fn wake(&mut self, at: u64) {
        self.next_timer = self.next_timer.min(at);
    }

    /// Does what is due.
    ///
    /// # Cost
    /// A walk over the window. Nothing if nothing is due.
    #[inline]
    pub fn on_timer(&mut self, now: u64) {
        if now >= self.next_timer {
            self.do_what_is_due(now);
        }
    }

    #[cold]
    fn do_what_is_due(&mut self, now: u64) {
        self.next_timer = u64::MAX;
        match self.state {
            State::Opening { times, since, due } => self.ask_again(now, times, since, due),
            State::Open => {
                for index in 0..self.slots.len() {
                    self.attend(now, index);
                }
                self.look_for_life(now);
                self.wake_for_pace(now);
            }
            State::Over => return,
        }
        if let Some(first) = self.backlog.iter().filter_map(|call| call.deadline).min() {
            self.told.expiry |= first <= now;
            self.wake(first.max(now.saturating_add(1)));
        }
    }

    fn ask_again(&mut self, now: u64, times: u32, since: u64, due: u64) {
        if now.saturating_sub(since) >= self.timers.patience {
            return self.end_session(Doubt::SessionLost, Some(SessionEnd::NoAnswer));
        }
        let mut next = due;
        if now >= due {
            let chance = self.next_chance();
            next = now.saturating_add(self.round_trip.backed_off(times, chance));
            self.control.open = true;
            self.state = State::Opening { times: times + 1, since, due: next };
        }
        self.wake(next.min(since.saturating_add(self.timers.patience)));
    }

    /// Looks after one slot.
    fn attend(&mut self, now: u64, index: usize) {
        let (chance, heard) = (self.next_chance(), self.heard);
        let slot = &mut self.slots[index];
        if !slot.is_busy() {
            return;
        }
        if now < slot.due {
            return self.next_timer = self.next_timer.min(slot.due);
        }
        // Nothing can come, and so nothing is lost: whether the server is silent, other calls tell.
        let waits_for_its_turn = slot.send == Send::PERMIT && slot.permitted() == 0;
        if waits_for_its_turn {
            slot.heard = slot.heard.max(heard);
        }
        let is_late = now >= slot.deadline;
        if is_late || now.saturating_sub(slot.heard) >= self.timers.patience {
            let end = match (slot.was_sent, is_late) {
                (false, true) => Outcome::Refused(Refusal::DeadlinePassed),
                // Held back all the time.
                (false, false) => Outcome::Refused(Refusal::Overload),
                (true, true) => Outcome::Unknown(Doubt::DeadlinePassed),
                (true, false) => Outcome::Unknown(Doubt::NoAnswer),
            };
            slot.end_without_reply(end);
            self.ended |= 1 << index;
            self.small &= !(1 << index);
            self.bulk &= !(1 << index);
            return;
        }
        if waits_for_its_turn {
            slot.due =
                now.saturating_add(self.round_trip.timeout()).min(slot.deadline).max(now + 1);
            return self.next_timer = self.next_timer.min(slot.due);
        }
        slot.times = slot.times.saturating_add(1);
        let wait = self.round_trip.backed_off(slot.times, chance);
        let patient = slot.heard.saturating_add(self.timers.patience);
        // Never in the past, or this would be done for ever.
        let due = now.saturating_add(wait).min(patient).min(slot.deadline).max(now + 1);
        slot.due = due;
        let (phase, was_sent) = (slot.phase, slot.was_sent);
        let again = slot.times > 1 + u32::from(slot.missed);
        match (phase, &mut slot.transfer) {
            (Phase::Sent, Some(transfer)) => {
                transfer.on_silence();
                self.bulk |= 1 << index;
            }
            (Phase::Sent, None) => {
                slot.send = Send::REQUEST;
                self.small |= 1 << index;
            }
            (Phase::Receiving, _) => {
                slot.send = Send::WORD;
                slot.resend = true;
                self.small |= 1 << index;
            }
            _ => {
                slot.send = Send::QUERY;
                self.small |= 1 << index;
            }
        }
        self.next_timer = self.next_timer.min(due);
        // Who is asked while it works has lost nothing.
        if was_sent && phase != Phase::Accepted {
            self.on_loss(now, again);
        }
    }

    /// Sends again what was sent well before a request that is answered now, once, without waiting for its time: it is
    /// lost, or its handler is slow. Only the answer tells which, and so whether it counts as a loss. After RFC 8985.
    pub(super) fn miss_overtaken(&mut self, now: u64, answered: u64) {
        if now < self.look_for_overtaken || !self.congestion.is_network() {
            return;
        }
        let round_trip = self.round_trip.smoothed();
        self.look_for_overtaken = now.saturating_add(round_trip / 4);
        let before = answered.saturating_sub(OVERTAKEN.max(round_trip / 4));
        let wait = self.round_trip.backed_off(0, self.chance);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let is_whole = slot.transfer.is_none() && slot.phase == Phase::Sent && slot.was_sent;
            if is_whole && slot.times == 0 && slot.sent_at < before {
                (slot.times, slot.missed) = (1, true);
                let patient = slot.heard.saturating_add(self.timers.patience);
                let due = now.saturating_add(wait).min(patient).min(slot.deadline);
                slot.due = due.max(now + 1);
                self.next_timer = self.next_timer.min(slot.due);
                slot.send = Send::REQUEST;
                self.small |= 1 << index;
            }
        }
    }

    pub(super) fn on_loss(&mut self, now: u64, again: bool) {
        // Both ways: also what the server was permitted to send.
        let incoming: u32 = self.slots.iter().map(Slot::permitted).sum();
        let in_flight = self.in_flight() + incoming;
        self.congestion.on_loss(now, self.round_trip.smoothed(), in_flight, again);
        self.apply_congestion();
    }

    /// Asks for a sign of life, and suspects who gives none: apart from all calls, since a call may take as
    /// long as it takes.
    fn look_for_life(&mut self, now: u64) {
        let (keepalive, suspicion) = (self.timers.keepalive, self.timers.suspicion);
        if keepalive == 0 {
            return;
        }
        let ask_at = self.heard.max(self.pinged).saturating_add(keepalive);
        if now >= ask_at {
            self.pinged = now;
            self.control.ping = true;
            self.is_unusual = true;
        }
        self.wake(self.heard.max(self.pinged).saturating_add(keepalive));
        if suspicion == 0 || self.suspected.is_some() {
            return;
        }
        let suspect_at = self.heard.saturating_add(suspicion.max(keepalive));
        if now >= suspect_at {
            self.suspected = Some(now);
            self.told.suspicion = true;
        } else {
            self.wake(suspect_at);
        }
    }

    /// For jitter; nothing that anybody must not guess.
    pub(super) fn next_chance(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance >> 16
    }
}
