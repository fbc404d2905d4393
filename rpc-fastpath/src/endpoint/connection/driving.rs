//! What moves a client on: its endpoint, its machine and the clock.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use unet::{
    AllocError, Arrival, ChannelId, Counter, Delivery, Endpoint, EndpointOptions, Event, FbufMut,
    Message,
};

use super::calls::Calls;
use super::{ConnectionOptions, End, How, OpenError, Token};
use crate::endpoint::arriving::{Bounds, packets};
use crate::endpoint::binding::Binding;
use crate::endpoint::clock::{Clock, draw};
use crate::endpoint::content::Content;
use crate::endpoint::outbox::{Outbox, Sent, Unsent};
use crate::endpoint::sleeping::Sleep;
use crate::protocol::{QueryError, Refusal, RequestId, SessionEnd, WAKING};
use crate::wire::HEADER_BYTES;

/// The most messages that are taken in a row.
const BURST: usize = 64;
/// The most packets that are sent in a row.
const TURN: u32 = 256;

pub(super) struct Driver {
    endpoint: Endpoint,
    sleep: Sleep,
    delivery: Delivery,
    space: Vec<u8>,
    outbox: Outbox,
    pub calls: Calls,
    binding: Binding,
    clock: Clock,
    /// When the clock was last looked at.
    now: u64,
    /// Whether there is a network between.
    is_far: bool,
    /// This thread has slept: what is taken until then may have waited for it to wake.
    woken_until: u64,
    /// Nothing is sent before this: the session after one that failed.
    pause_until: u64,
}

impl Driver {
    pub fn new(addresses: &[unet::Address], options: ConnectionOptions) -> Result<Self, OpenError> {
        let of_endpoint = EndpointOptions { wait: options.wait, ..EndpointOptions::default() };
        let endpoint = Endpoint::new(of_endpoint)?;
        let sleep = Sleep::new(&endpoint, None)?;
        let clock = Clock::new();
        Ok(Self {
            endpoint,
            sleep,
            delivery: Delivery::default(),
            space: Vec::new(),
            outbox: Outbox::default(),
            calls: Calls::new(0, &options)?,
            binding: Binding::new(addresses, options.connect, draw()?),
            clock,
            now: 0,
            is_far: true,
            woken_until: 0,
            pause_until: 0,
        })
    }

    #[inline(always)]
    pub fn look_at_clock(&mut self) {
        self.now = self.clock.now();
        if self.is_far && self.endpoint.take_slept() {
            self.woken_until = self.now.saturating_add(WAKING);
        }
    }

    /// As [`Driver::look_at_clock`]; on this host, where nothing hangs on the time of a round trip, by the kernel's
    /// last tick, unless something is due before the next.
    #[inline(always)]
    pub fn glance_at_clock(&mut self) {
        if !self.is_far {
            self.now = self.now.max(self.clock.last_tick());
            if self.due() > self.now.saturating_add(self.clock.tick) {
                return;
            }
        }
        self.look_at_clock();
    }

    /// Moves on until there is a session.
    pub fn await_session(&mut self) -> Result<(), OpenError> {
        self.poll(&mut |_| {});
        loop {
            if self.calls.terms().is_some() {
                return Ok(());
            }
            if self.binding.is_in_vain() {
                let end = self.calls.end().map(OpenError::Session);
                let error = end.or_else(|| self.binding.error.map(OpenError::Connect));
                return Err(error.unwrap_or(OpenError::Session(SessionEnd::NoAnswer)));
            }
            self.wait(Duration::MAX, &mut |_| {});
        }
    }

    #[inline(always)]
    pub fn start(
        &mut self,
        token: Option<Token>,
        method: u16,
        content: Content,
        how: How,
    ) -> Result<Token, Refusal> {
        // Whoever has other calls under way has looked at the clock of late. It is looked at before this one is
        // sent.
        if how.deadline.is_some() {
            self.look_at_clock();
        } else if self.calls.count() == 0 {
            self.glance_at_clock();
        }
        let deadline = how.deadline.map(|deadline| self.clock.of(deadline));
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            return Err(Refusal::DeadlinePassed);
        }
        self.calls.start(self.now, token, (method, content), deadline, how)
    }

    pub fn query(&mut self, request: RequestId) -> Result<(), QueryError> {
        self.look_at_clock();
        self.calls.query(self.now, request)
    }

    /// Sends what there is, as far as there is room. Whether there was something.
    #[inline(always)]
    pub fn transmit(&mut self) -> bool {
        if !self.calls.session.machine.may_transmit() && !self.outbox.is_waiting() {
            return false;
        }
        let Some(id) = self.binding.channel else { return false };
        if self.now < self.pause_until {
            return false;
        }
        let Some(channel) = self.endpoint.channel_mut(id) else { return false };
        let machine = &mut self.calls.session.machine;
        match self.outbox.send(channel, machine, self.now, TURN) {
            // Who does not read for so long never will.
            Ok(Sent::Full) if self.outbox.is_stuck(self.now, self.calls.patience()) => {
                self.endpoint.close(id);
                self.lost();
            }
            // The endpoint tells of the channel's end.
            Ok(_) | Err(Unsent::Closed(_) | Unsent::Revoked(_)) => {}
            Err(Unsent::TooLarge) => self.calls.session.machine.lose(),
        }
        true
    }

    /// The channel has ended.
    #[cold]
    fn lost(&mut self) {
        self.publish();
        self.binding.ended(self.now);
        self.outbox.clear();
        // What was never sent waits for the next channel.
        if self.calls.terms().is_some() {
            self.calls.session.machine.lose();
        }
    }

    /// Does everything that can be done now.
    #[inline(always)]
    pub fn poll(&mut self, each: &mut impl FnMut(End<'_>)) {
        self.glance_at_clock();
        let mut is_old = self.transmit();
        let mut taken = 0;
        while taken < BURST
            && let Some(arrival) = self.endpoint.try_recv_into(&mut self.delivery)
        {
            // What it waited for this thread is a part of its way.
            if is_old && self.is_far {
                self.look_at_clock();
            }
            is_old = true;
            self.take(arrival, each);
            taken += 1;
        }
        self.attend(each);
    }

    /// Waits for what comes next, or is due, at most so long, and does it.
    #[inline(always)]
    pub fn wait(&mut self, most: Duration, each: &mut impl FnMut(End<'_>)) {
        let left = Duration::from_nanos(self.due().saturating_sub(self.now)).min(most);
        let arrival = match left {
            Duration::ZERO => self.endpoint.try_recv_into(&mut self.delivery),
            left => self.endpoint.recv_timeout_into(&mut self.delivery, left),
        };
        // Of the answer to the only call, on this host, nothing is measured.
        let may_be_the_answer = !self.is_far && self.calls.count() == 1;
        if arrival.is_none() {
            self.look_at_clock();
        } else if !may_be_the_answer {
            self.glance_at_clock();
        }
        match arrival {
            Some(arrival) => self.take(arrival, each),
            None => self.publish(),
        }
        // It was not: who says other things does not stop the clock.
        if may_be_the_answer && self.calls.count() > 0 {
            self.glance_at_clock();
        }
        self.attend(each);
    }

    /// Writes down what was dropped, in the endpoint's page of counters.
    #[cold]
    fn publish(&self) {
        self.endpoint.counters().set(Counter::RpcMalformed, self.calls.malformed());
    }

    /// When there is something to do, if nothing comes.
    #[inline(always)]
    fn due(&self) -> u64 {
        let mut due = self.calls.due(self.now).min(self.binding.next());
        if self.now < self.pause_until {
            due = due.min(self.pause_until);
        }
        if self.outbox.is_waiting() {
            due = due.min(self.outbox.next_try(self.now));
        }
        due
    }

    #[inline(always)]
    fn take(&mut self, arrival: Arrival, each: &mut impl FnMut(End<'_>)) {
        match arrival {
            Arrival::Message(from) if Some(from) == self.binding.channel => {
                self.take_packets(from, each);
            }
            Arrival::Message(_) => {}
            Arrival::Other => self.take_event(),
        }
    }

    #[inline(always)]
    fn take_packets(&mut self, from: ChannelId, each: &mut impl FnMut(End<'_>)) {
        let Self { delivery, space, calls, endpoint, now, woken_until, .. } = self;
        calls.session.machine.set_woken(*now < *woken_until);
        let fragment = calls.terms().map_or(0, |terms| terms.fragment as usize);
        let Some(channel) = endpoint.channel_mut(from) else { return };
        let bounds = Bounds::of(delivery, fragment, channel);
        let dropped = packets(delivery, space, bounds, |packet| {
            let machine = &mut calls.session.machine;
            if let Some(event) = machine.receive(*now, packet.head, packet.len, packet.piece) {
                calls.on_event(event, packet.here, each);
            }
        });
        if dropped > 0 {
            calls.drop_malformed(dropped);
        }
    }

    /// Does what is due, and sends what follows from what came.
    #[inline(always)]
    fn attend(&mut self, each: &mut impl FnMut(End<'_>)) {
        self.calls.tell(self.now, each);
        if self.calls.is_done() {
            self.go_on(each);
        }
        if self.now >= self.binding.next() {
            self.binding.advance(self.now, &mut self.endpoint);
        }
        if std::mem::take(&mut self.calls.went_well) {
            self.binding.succeeded();
        }
        self.transmit();
    }

    /// Begins the next session: at once, unless the last ones failed as well; elsewhere, where there was none to be
    /// had.
    #[cold]
    fn go_on(&mut self, each: &mut impl FnMut(End<'_>)) {
        if self.calls.session.machine.is_over() {
            self.pause_until = self.now.saturating_add(self.binding.pause_again());
            if matches!(self.calls.end(), Some(SessionEnd::Rejected(_) | SessionEnd::NoAnswer))
                && let Some(channel) = self.binding.turn_away(self.pause_until)
            {
                self.endpoint.close(channel);
                self.outbox.clear();
            }
        }
        if self.calls.renew(self.now, each) {
            self.fit();
        }
    }

    /// Says to a session that begins what the channel carries.
    fn fit(&mut self) {
        let Some(id) = self.binding.channel else { return };
        let Some(channel) = self.endpoint.channel_mut(id) else { return };
        self.outbox.begin(channel);
        let fragment = fragment(channel);
        self.is_far = channel.peer_address().is_some();
        self.calls.fit(fragment, self.is_far);
    }

    #[cold]
    fn take_event(&mut self) {
        match self.endpoint.take_event() {
            Some(Event::Connected(attempt, Ok(channel))) => {
                if self.binding.connected(attempt, channel) {
                    self.fit();
                } else {
                    self.endpoint.close(channel);
                }
            }
            Some(Event::Connected(_, Err(error))) => self.binding.failed(self.now, error),
            Some(Event::Closed(channel, _)) if Some(channel) == self.binding.channel => {
                self.lost();
            }
            _ => {}
        }
    }

    pub fn message(
        &mut self,
        len: usize,
        fill: impl FnMut(&mut [u8]),
    ) -> Result<Message, AllocError> {
        let channel = self.binding.channel.and_then(|id| self.endpoint.channel_mut(id));
        match channel {
            Some(channel) => channel.message(0, len, fill),
            None => Err(AllocError::Exhausted),
        }
    }

    /// A buffer of the channel's, where it leads to a process of this host.
    pub fn alloc(&mut self, len: usize) -> Option<Result<FbufMut, AllocError>> {
        let id = self.binding.channel.filter(|_| !self.is_far)?;
        let channel = self.endpoint.channel_mut(id)?;
        Some(buffer(channel, len))
    }

    /// Makes the descriptor readable now.
    pub fn nudge(&mut self) {
        self.sleep.set_timer(Some(Duration::ZERO));
    }

    pub fn arm(&mut self) -> bool {
        self.look_at_clock();
        self.transmit();
        let due = self.due();
        if due <= self.now || !self.endpoint.arm() {
            return false;
        }
        self.publish();
        self.sleep.set_timer((due != u64::MAX).then(|| Duration::from_nanos(due - self.now)));
        true
    }

    pub fn close(&mut self, each: &mut impl FnMut(End<'_>)) {
        self.look_at_clock();
        self.pause_until = 0;
        self.calls.session.machine.close();
        self.transmit();
        self.calls.tell(self.now, each);
        self.calls.give_up(each);
        self.publish();
    }
}

/// A buffer of a channel's, or several adjacent ones as one.
pub(in crate::endpoint) fn buffer(
    channel: &mut unet::Channel,
    len: usize,
) -> Result<FbufMut, AllocError> {
    match channel.alloc(len) {
        Err(AllocError::TooLarge { asked, largest }) => {
            channel.alloc_adjacent(len).ok_or(AllocError::TooLarge { asked, largest })
        }
        allocated => allocated,
    }
}

/// The most bytes that a packet can carry behind its header.
pub(in crate::endpoint) fn fragment(channel: &unet::Channel) -> u32 {
    let limit = channel.limit();
    u32::try_from(limit.saturating_sub(HEADER_BYTES)).unwrap_or(u32::MAX).max(1)
}

impl AsFd for Driver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sleep.as_fd()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // So that the server need not wait to learn of it.
        self.close(&mut |_| {});
    }
}
