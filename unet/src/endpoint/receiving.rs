//! How an endpoint receives: from the active channels in turn, with a glance at a quiet one.

use std::time::Duration;

use segment::wait::{LOOKS, Step, Waiter};

use super::{
    Arrival, ChannelId, Endpoint, Entry, Event, GLANCES, LOOKS_BEFORE_GLANCE, QUIET_AFTER,
};
use crate::Delivery;
use crate::channel::{Channel, CloseReason};
use crate::local::LocalChannel;

impl Endpoint {
    /// Takes the next event, if there is one.
    ///
    /// # Cost
    /// A cache line for each active channel until one has a message, one more for a quiet one. Every
    /// two milliseconds, one system call.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Option<Event> {
        let mut message = Delivery::default();
        match self.try_recv_into(&mut message)? {
            Arrival::Message(id) => Some(Event::Message(id, message)),
            Arrival::Other => self.take_event(),
        }
    }

    /// As [`Endpoint::try_recv`], with a message received into one of the caller's: the fastest way,
    /// for nothing is moved. A buffer that the message still holds is given back first.
    ///
    /// # Cost
    /// As [`Endpoint::try_recv`].
    #[inline(always)]
    pub fn try_recv_into(&mut self, message: &mut Delivery) -> Option<Arrival> {
        // Before the look, so that nothing stands between a message and its answer.
        if message.has_fbufs() {
            self.give_back_all(message);
        }
        if let Some(arrival) = self.look(message) {
            return Some(arrival);
        }
        if self.pulse.tick() || self.asleep { self.look_about(message) } else { None }
    }

    /// A vain look's look at everything else: what the kernel knows, and where the peer runs.
    #[cold]
    fn look_about(&mut self, message: &mut Delivery) -> Option<Arrival> {
        self.asleep = false;
        if let Some(last) = self.entries.get_mut(self.last).and_then(Entry::local_mut) {
            last.cores.look_up();
        }
        self.service(Some(Duration::ZERO));
        self.look(message)
    }

    /// Takes an event that is no message: see [`Arrival::Other`].
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    #[inline(always)]
    pub(super) fn look(&mut self, message: &mut Delivery) -> Option<Arrival> {
        if !self.events.is_empty() || self.links_due {
            return self.look_elsewhere(message);
        }
        self.look_here(message)
    }

    /// What is no message of this host: events, and now and then the links.
    #[cold]
    fn look_elsewhere(&mut self, message: &mut Delivery) -> Option<Arrival> {
        if !self.events.is_empty() {
            return Some(Arrival::Other);
        }
        self.links_due = false;
        self.look_at_links(message).or_else(|| self.look_here(message))
    }

    #[inline(always)]
    fn look_here(&mut self, message: &mut Delivery) -> Option<Arrival> {
        for _ in 0..self.active.len() {
            if self.turn >= self.active.len() {
                self.turn = 0;
            }
            let index = self.active[self.turn];
            self.turn += 1;
            let entry = &mut self.entries[index as usize];
            let Some(channel) = entry.channel.as_mut().and_then(Channel::local_mut) else {
                continue;
            };
            match channel.pop(message) {
                Ok(true) => {
                    entry.vain_looks = 0;
                    self.last = index as usize;
                    let generation = entry.generation;
                    if self.pulse.tick() {
                        self.attend();
                    }
                    return Some(Arrival::Message(ChannelId { index, generation }));
                }
                Ok(false) => {
                    // The only active channel is never put to rest, however long it is silent.
                    entry.vain_looks = entry.vain_looks.wrapping_add(1);
                    if entry.vain_looks > QUIET_AFTER && self.active.len() > 1 {
                        self.rest(index);
                    }
                }
                Err(reason) => {
                    self.closed(index, reason);
                    return Some(Arrival::Other);
                }
            }
        }
        self.glance();
        if self.links.is_empty() { None } else { self.look_at_links(message) }
    }

    /// What a thread that always finds a message owes the others: no vain look glances at them.
    #[cold]
    fn attend(&mut self) {
        self.links_due = !self.links.is_empty();
        self.service(Some(Duration::ZERO));
        for _ in 0..self.quiet.len().min(GLANCES) {
            self.glance();
        }
    }

    #[cold]
    pub(super) fn closed(&mut self, index: u32, reason: CloseReason) {
        let id = ChannelId { index, generation: self.entries[index as usize].generation };
        self.remove(index);
        let event = self.port_is_lost(id, reason).unwrap_or(Event::Closed(id, reason));
        self.events.push_back(event);
    }

    /// Takes the next event; waits for it by the endpoint's wait strategy.
    ///
    /// # Cost
    /// While messages come quickly, or the strategy is to spin: no system call but one every two
    /// milliseconds.
    #[inline(always)]
    pub fn recv(&mut self) -> Event {
        let mut message = Delivery::default();
        loop {
            match self.recv_into(&mut message) {
                Arrival::Message(id) => return Event::Message(id, message),
                Arrival::Other => {}
            }
            if let Some(event) = self.take_event() {
                return event;
            }
        }
    }

    /// As [`Endpoint::recv`], with a message received into one of the caller's.
    ///
    /// # Cost
    /// As [`Endpoint::recv`].
    #[inline(always)]
    pub fn recv_into(&mut self, message: &mut Delivery) -> Arrival {
        if let Some(arrival) = self.try_recv_into(message) {
            return arrival;
        }
        loop {
            if let Some(arrival) = self.recv_waiting(message, None) {
                return arrival;
            }
        }
    }

    /// As [`Endpoint::recv`]; `None` if nothing came in time.
    ///
    /// # Cost
    /// As [`Endpoint::recv`], and a look at the clock.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<Event> {
        let mut message = Delivery::default();
        match self.recv_timeout_into(&mut message, timeout)? {
            Arrival::Message(id) => Some(Event::Message(id, message)),
            Arrival::Other => self.take_event(),
        }
    }

    /// As [`Endpoint::recv_into`]; `None` if nothing came in time.
    ///
    /// # Cost
    /// As [`Endpoint::recv`], and a look at the clock.
    pub fn recv_timeout_into(
        &mut self,
        message: &mut Delivery,
        timeout: Duration,
    ) -> Option<Arrival> {
        match self.try_recv_into(message) {
            Some(arrival) => Some(arrival),
            None => self.recv_waiting(message, Some(timeout)),
        }
    }

    #[inline(always)]
    pub(super) fn recv_waiting(
        &mut self,
        message: &mut Delivery,
        timeout: Option<Duration>,
    ) -> Option<Arrival> {
        let mut waiter = Waiter::new(self.wait, self.shares_core(), timeout);
        loop {
            // The one active channel is looked at most; each quiet one is still glanced at in time.
            let looks = if self.quiet.is_empty() { LOOKS } else { LOOKS_BEFORE_GLANCE };
            let hot = match self.active[..] {
                [index] if self.links.is_empty() => {
                    self.entries[index as usize].channel.as_ref().and_then(Channel::local)
                }
                _ => None,
            };
            let step = match hot {
                Some(channel) => waiter.step(looks, || channel.is_ready()),
                None if self.links.is_empty() => waiter.step(1, || false),
                None => match self.wait_at_link(message, &mut waiter) {
                    Ok(arrival) => return Some(arrival),
                    Err(step) => step,
                },
            };
            match step {
                Step::Again => {}
                Step::Park => self.park(waiter.remaining()),
                Step::TimedOut => {
                    // Who polls seldom, with short timeouts, asks the kernel each time.
                    self.service(Some(Duration::ZERO));
                    return self.look(message);
                }
            }
            if let Some(arrival) = self.try_recv_into(message) {
                return Some(arrival);
            }
        }
    }

    /// Whether the peer that is most likely to speak next runs on this thread's core.
    #[inline(always)]
    pub(super) fn shares_core(&mut self) -> bool {
        let Some(index) = self.active.get(self.turn.saturating_sub(1)) else { return false };
        let channel = self.entries[*index as usize].channel.as_mut();
        channel.and_then(Channel::local_mut).is_some_and(|channel| channel.cores.shared())
    }

    /// Gives back the buffers of an earlier message: most likely the last one's channel knows them. Where
    /// only a link is looked at, it takes them back then, under the same lock.
    #[inline]
    fn give_back_all(&mut self, message: &mut Delivery) {
        if self.looks_at_link_only() {
            return;
        }
        match self.entries.get_mut(self.last).and_then(|entry| entry.channel.as_mut()) {
            Some(channel) => channel.give_back_all(message),
            None => drop(message.take_message()),
        }
    }

    /// Looks at one quiet channel.
    #[inline(always)]
    pub(super) fn glance(&mut self) {
        if self.quiet.is_empty() {
            return;
        }
        self.glance += 1;
        if self.glance >= self.quiet.len() {
            self.glance = 0;
        }
        let index = self.quiet[self.glance];
        let channel = self.entries[index as usize].channel.as_ref().and_then(Channel::local);
        if channel.is_some_and(LocalChannel::wants_a_look) {
            self.rouse(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{Address, ConnectOptions, EndpointOptions, ListenOptions, Offer};

    fn joined<const N: usize>(test: &str) -> (Endpoint, [Channel; N]) {
        let name = format!("shm:{test}-{}", std::process::id());
        let address: Address = name.parse().expect("the name is valid");
        let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
        endpoint.listen(&address, ListenOptions::default()).expect("the name is free");
        let clients = std::array::from_fn(|_| {
            std::thread::scope(|scope| {
                let client = scope.spawn(|| Channel::connect(&address, ConnectOptions::default()));
                let incoming = endpoint.recv();
                let Event::Incoming(incoming) = incoming else { panic!("a client connects") };
                endpoint.accept(incoming, b"").expect("accepted");
                client.join().expect("no panic").expect("connected")
            })
        });
        (endpoint, clients)
    }

    #[test]
    fn a_channel_that_never_pauses_does_not_starve_one_that_fell_quiet() {
        let (mut endpoint, [mut flood, mut seldom]) = joined("flood");
        let mut message = Delivery::default();
        // Both are heard, so that both are active; then one is silent until it counts as quiet.
        for client in [&mut flood, &mut seldom] {
            client.send(b"here").expect("there is room");
            assert!(matches!(endpoint.recv_into(&mut message), Arrival::Message(_)));
        }
        let flooding = |flood: &mut Channel| while flood.try_send(b"x") == Ok(Offer::Taken) {};
        for _ in 0..4 * QUIET_AFTER {
            flooding(&mut flood);
            assert!(matches!(endpoint.try_recv_into(&mut message), Some(Arrival::Message(_))));
        }
        assert_eq!(endpoint.quiet.len(), 1);
        seldom.send(b"heard?").expect("there is room");
        let deadline = Instant::now() + Duration::from_secs(5);
        while message.inline() != b"heard?" {
            assert!(Instant::now() < deadline, "the other one is not heard");
            flooding(&mut flood);
            assert!(matches!(endpoint.try_recv_into(&mut message), Some(Arrival::Message(_))));
        }
    }

    #[test]
    fn a_channel_that_is_silent_for_ever_is_looked_at_for_ever() {
        let (mut endpoint, [client]) = joined("silent");
        endpoint.entries[0].vain_looks = u32::MAX;
        assert!(endpoint.look(&mut Delivery::default()).is_none());
        drop(client);
        assert!(matches!(endpoint.recv(), Event::Closed(..)));
    }
}
