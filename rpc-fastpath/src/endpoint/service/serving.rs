//! One turn of a service: a message taken and answered, or what is due.

use std::time::Duration;

use segment::wait::{Step, Waiter};
use unet::{Arrival, ChannelId, Counter, Event};

use super::handling::{Handler, Refusing};
use super::session::Session;
use super::{Answer, Receipt, Service};
use crate::endpoint::arriving::{Bounds, packets};
use crate::endpoint::outbox::Sent;
use crate::protocol::{Refusal, Timers, WAKING};

/// The most messages that are taken in a row.
const BURST: usize = 64;
/// How often clients are looked for that ask for nothing.
const SWEEP: u64 = 1_000_000_000;
/// The most handlers that run within one another.
const MAX_NESTING: u32 = 16;
/// The code with which a client is refused that says something of another protocol's when it connects.
const OTHER_PROTOCOL: u32 = 0;

impl Service {
    #[inline(always)]
    pub(super) fn serve_burst(&mut self, handler: &mut impl Handler) -> usize {
        self.serve_some(handler, BURST)
    }

    /// Serves what is there, at most so many messages in a row.
    #[inline(always)]
    fn serve_some(&mut self, handler: &mut impl Handler, most: usize) -> usize {
        let mut receipt = self.receipt.take().unwrap_or_default();
        let mut served = 0;
        while served < most
            && let Some(arrival) = self.endpoint.try_recv_into(&mut receipt.delivery)
        {
            // What it waited for this thread is a part of its way.
            if served == 0 || !self.is_near {
                self.glance_at_clock();
            }
            self.take(arrival, &mut receipt, handler);
            served += 1;
        }
        self.receipt = Some(receipt);
        served + self.attend(served == 0)
    }

    /// Serves the next message while a handler waits. Calls beyond the nesting are refused.
    #[cold]
    pub(super) fn serve_within(&mut self, handler: &mut impl Handler) -> usize {
        if self.depth + 1 >= MAX_NESTING {
            return self.serve_some(&mut Refusing(Refusal::TooDeep), 1);
        }
        self.depth += 1;
        let served = self.serve_some(handler, 1);
        self.depth -= 1;
        served
    }

    /// Waits for something, at most so long, and serves it.
    #[inline(always)]
    pub(super) fn serve_waiting(&mut self, handler: &mut impl Handler, most: Duration) -> usize {
        let most = self.due_after().map_or(most, |due| due.min(most));
        let mut receipt = self.receipt.take().unwrap_or_default();
        let arrival = if self.later == 0 {
            self.endpoint.recv_timeout_into(&mut receipt.delivery, most)
        } else {
            self.wait_for_workers(&mut receipt, most)
        };
        self.glance_at_clock();
        if let Some(arrival) = arrival {
            self.take(arrival, &mut receipt, handler);
        }
        self.receipt = Some(receipt);
        usize::from(arrival.is_some()) + self.attend(false)
    }

    /// Waits where an answer can come from a worker, too.
    #[cold]
    fn wait_for_workers(&mut self, receipt: &mut Receipt, most: Duration) -> Option<Arrival> {
        let mut waiter = Waiter::new(self.options.wait, false, Some(most));
        loop {
            if let Some(arrival) = self.endpoint.try_recv_into(&mut receipt.delivery) {
                return Some(arrival);
            }
            if self.answers.has_some() {
                return None;
            }
            match waiter.step(1, || false) {
                Step::Again => {}
                Step::TimedOut => return None,
                Step::Park => {
                    // A time that was set for another wait, and is over, lets nobody sleep.
                    if std::mem::take(&mut self.is_timed) {
                        self.sleep.set_timer(None);
                    }
                    if self.answers.say_sleeps(true) && self.endpoint.arm() {
                        self.sleep.park(waiter.remaining().unwrap_or(most));
                    }
                    self.answers.say_sleeps(false);
                }
            }
        }
    }

    /// Sends what is owed, and refuses what is called: see [`Service::drain`].
    pub(super) fn send_owed(&mut self) {
        const LOOK: Duration = Duration::from_millis(1);
        let Timers { suspicion, patience, .. } = self.options.timers;
        let mut refusing = Refusing(Refusal::ShuttingDown);
        self.now = self.clock.now();
        let end = self.now.saturating_add(patience);
        // Where nobody is suspected, all are waited for.
        let silence = if suspicion == 0 { patience } else { suspicion.min(patience) };
        let owes = |session: &Session, now| session.owes(now, silence);
        while self.now < end && self.sessions.iter().flatten().any(|it| owes(it, self.now)) {
            if self.serve_burst(&mut refusing) == 0 {
                self.serve_waiting(&mut refusing, LOOK);
            }
        }
    }

    /// How long nothing is due.
    pub(super) fn due_after(&self) -> Option<Duration> {
        let has_none = |index: &usize| self.sessions.get(*index)?.as_ref()?.next_try(self.now);
        let waits = self.sending.iter().filter_map(has_none).min();
        let waits = waits.map(|at| Duration::from_nanos(at.saturating_sub(self.now)));
        let sweep = (!self.sessions.is_empty())
            .then(|| Duration::from_nanos(self.sweep.saturating_sub(self.now)));
        waits.into_iter().chain(sweep).min()
    }

    /// Whether there is something to do without waiting for it.
    pub(super) fn is_busy(&self) -> bool {
        self.answers.has_some()
    }

    #[inline(always)]
    fn take(&mut self, arrival: Arrival, receipt: &mut Receipt, handler: &mut impl Handler) {
        match arrival {
            Arrival::Message(from) => self.take_message(from, receipt, handler),
            Arrival::Other => self.take_event(),
        }
    }

    #[inline(always)]
    fn take_message(&mut self, from: ChannelId, receipt: &mut Receipt, handler: &mut impl Handler) {
        let Some(session) = session(&mut self.sessions, from) else { return };
        let fragment = session.fragment();
        let Some(channel) = self.endpoint.channel_mut(from) else { return };
        let Receipt { delivery, space } = receipt;
        let (came, bounds) = (self.now, Bounds::of(delivery, fragment, channel));
        let dropped = packets(delivery, space, bounds, |packet| {
            self.take_packet(from, came, packet, handler);
        });
        self.counts.malformed += dropped;
        self.send(from.index());
    }

    /// Lets a client send on in its turn.
    #[cold]
    fn list(&mut self, index: usize) {
        if let Some(Some(session)) = self.sessions.get_mut(index)
            && !std::mem::replace(&mut session.is_listed, true)
        {
            self.sending.push_back(index);
        }
    }

    /// Sends to a client what there is for it. Whether there was room.
    #[inline(always)]
    pub(super) fn send(&mut self, index: usize) -> bool {
        let Some(Some(session)) = self.sessions.get_mut(index) else { return false };
        let Some(channel) = self.endpoint.channel_mut(session.id) else { return false };
        let sent = session.send(channel, self.now, &mut self.counts);
        if sent != Sent::All {
            self.list(index);
        }
        sent != Sent::Full
    }

    /// Looks at the clock; where all clients are of this host, and nothing hangs on the time of a round trip, at
    /// the kernel's last tick.
    #[inline(always)]
    fn glance_at_clock(&mut self) {
        if self.is_near {
            self.now = self.now.max(self.clock.last_tick());
            return;
        }
        self.now = self.clock.now();
        if self.endpoint.take_slept() {
            self.woken_until = self.now.saturating_add(WAKING);
        }
    }

    #[cold]
    fn take_event(&mut self) {
        match self.endpoint.take_event() {
            // As a client over LRPC, which would wait for answers that it understands.
            Some(Event::Incoming(incoming)) if !incoming.private().is_empty() => {
                self.endpoint.refuse(incoming, OTHER_PROTOCOL);
                self.count_unaccepted();
            }
            Some(Event::Incoming(incoming)) => match self.endpoint.accept(incoming, &[]) {
                Ok(id) => self.welcome(id),
                Err(_) => self.count_unaccepted(),
            },
            Some(Event::Closed(id, _)) => self.part(id),
            _ => {}
        }
    }

    /// Who has no clients does not look for idle ones, and publishes nothing else.
    fn count_unaccepted(&mut self) {
        self.counts.unaccepted += 1;
        self.endpoint.counters().set(Counter::RpcUnaccepted, self.counts.unaccepted);
    }

    fn welcome(&mut self, id: ChannelId) {
        let index = id.index();
        if self.sessions.len() <= index {
            self.sessions.resize_with(index + 1, || None);
        }
        if let Some(channel) = self.endpoint.channel_mut(id) {
            self.sessions[index] = Some(Session::new(id, self.now, channel));
        }
    }

    /// A client has gone.
    fn part(&mut self, id: ChannelId) {
        let Some(place) = self.sessions.get_mut(id.index()) else { return };
        if let Some(session) = place.take_if(|session| session.id == id) {
            session.add_to(&mut self.counts);
            if session.is_listed {
                self.sending.retain(|index| *index != id.index());
            }
        }
    }

    /// Does what is due beside messages. How much of that was for somebody.
    #[inline(always)]
    fn attend(&mut self, is_idle: bool) -> usize {
        let mut done = 0;
        if self.answers.has_some() {
            done += self.take_answers();
        }
        if !self.sending.is_empty() {
            done += self.give_turns();
        }
        if is_idle && self.sessions.is_empty() {
            return done;
        }
        if is_idle {
            self.glance_at_clock();
        }
        if self.now >= self.sweep {
            self.sweep();
        }
        done
    }

    #[cold]
    fn take_answers(&mut self) -> usize {
        self.now = self.clock.now();
        let mut given = std::mem::take(&mut self.given);
        self.answers.take(&mut given);
        let count = given.len();
        for Answer { client, pending, said } in given.drain(..) {
            self.later = self.later.saturating_sub(1);
            let Some(session) = session(&mut self.sessions, client) else {
                self.counts.late += 1;
                continue;
            };
            session.later = session.later.saturating_sub(1);
            if !session.has(&pending) {
                self.counts.late += 1;
                continue;
            }
            session.answer(self.now, &mut self.counts, pending, said);
            self.send(client.index());
        }
        self.given = given;
        count
    }

    /// Each client that has more to send has a turn.
    #[cold]
    fn give_turns(&mut self) -> usize {
        let turns = self.sending.len();
        let mut moved = 0;
        for _ in 0..turns {
            let Some(index) = self.sending.pop_front() else { break };
            if let Some(Some(session)) = self.sessions.get_mut(index) {
                session.is_listed = false;
                moved += usize::from(self.send(index));
            }
        }
        moved
    }

    /// Closes the channels of clients that ask for no session, or do not read.
    #[cold]
    fn sweep(&mut self) {
        self.sweep = self.now.saturating_add(SWEEP);
        let patience = self.options.timers.patience;
        for index in 0..self.sessions.len() {
            let Some(session) = &self.sessions[index] else { continue };
            if session.is_idle(self.now, patience) {
                let id = session.id;
                self.endpoint.close(id);
                self.part(id);
                self.counts.idle += 1;
            }
        }
        self.publish();
    }
}

/// The session of a client, if it is there yet.
#[inline(always)]
pub(super) fn session(sessions: &mut [Option<Session>], of: ChannelId) -> Option<&mut Session> {
    sessions.get_mut(of.index())?.as_mut().filter(|session| session.id == of)
}
