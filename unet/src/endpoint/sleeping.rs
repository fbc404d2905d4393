//! How an endpoint sleeps, and what it takes from the kernel when it wakes.

use std::time::{Duration, Instant};

use super::{Endpoint, Place};
use crate::channel::Channel;
use crate::local::LocalChannel;
use crate::readiness::Source;

impl Endpoint {
    #[cold]
    pub(super) fn rest(&mut self, index: u32) {
        self.active.retain(|other| *other != index);
        let entry = &mut self.entries[index as usize];
        entry.place = Place::Quiet;
        self.quiet.push(index);
        if !entry.unarmed {
            entry.unarmed = true;
            self.unarmed.push(index);
        }
    }

    #[cold]
    pub(super) fn rouse(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.vain_looks = 0;
        if entry.armed
            && let Some(channel) = entry.channel.as_mut().and_then(Channel::local_mut)
        {
            channel.sleeper.disarm();
            entry.armed = false;
        }
        if entry.place == Place::Quiet {
            entry.place = Place::Active;
            self.quiet.retain(|other| *other != index);
            self.active.push(index);
        }
    }

    pub(super) fn park(&mut self, timeout: Option<Duration>) {
        if self.prepare_to_sleep() {
            self.slept = true;
            // A connecting client that says nothing must be let go in time.
            let patience = self.listening.patience().into_iter();
            let patience = patience.chain(self.idle_for()).min();
            let timeout = match (timeout, patience) {
                (Some(timeout), Some(patience)) => Some(timeout.min(patience)),
                (timeout, patience) => timeout.or(patience),
            };
            self.service(timeout);
        }
    }

    /// Announces that this thread will wait for the endpoint's descriptor. `false` if there is
    /// something to be received already: then do that, do not wait.
    ///
    /// For epoll, io_uring and async runtimes: after `true`, wait until the descriptor is readable,
    /// then call [`Endpoint::try_recv`] until it has nothing, then `arm` again. Who takes a channel
    /// meanwhile ([`Endpoint::channel_mut`]), for example to send at a given time, wakes it by that,
    /// and must begin again before waiting.
    ///
    /// # Cost
    /// A store for each channel that was active since the last time, and two system calls.
    pub fn arm(&mut self) -> bool {
        if !self.prepare_to_sleep() {
            return false;
        }
        self.set_timer();
        // What the kernel has already would not show as a change of the descriptor.
        self.asleep = self.service(Some(Duration::ZERO)) == 0;
        self.slept |= self.asleep;
        self.asleep
    }

    /// Whether its thread has slept, or armed it to, since this was last asked: then what is received next may have
    /// waited for it to wake.
    #[inline(always)]
    pub fn take_slept(&mut self) -> bool {
        std::mem::take(&mut self.slept)
    }

    fn prepare_to_sleep(&mut self) -> bool {
        if !self.arm_links() {
            return false;
        }
        // Quiet channels are armed already, except those that fell quiet since the last time.
        let mut candidates = std::mem::take(&mut self.unarmed);
        for index in &candidates {
            self.entries[*index as usize].unarmed = false;
        }
        candidates.extend_from_slice(&self.active);
        let mut last = None;
        for index in &candidates {
            let entry = &mut self.entries[*index as usize];
            let channel = entry.channel.as_mut().and_then(Channel::local_mut);
            if let Some(channel) = channel.filter(|_| !entry.armed && entry.place != Place::Held) {
                channel.publish_totals();
                channel.sleeper.arm();
                entry.armed = true;
                last = Some(*index);
            }
        }
        if let Some(channel) = last.and_then(|index| self.entries[index as usize].local()) {
            channel.sleeper.settle();
        }
        for index in &candidates {
            let channel = self.entries[*index as usize].local();
            if channel.is_some_and(LocalChannel::wants_a_look) {
                self.rouse(*index);
            }
        }
        candidates.clear();
        self.unarmed = candidates;
        let active = &self.active;
        let is_ready = |index: &u32| !self.entries[*index as usize].armed;
        if !self.events.is_empty() || active.iter().any(is_ready) {
            // An active channel is never armed: who pops from an armed one would miss its next bell.
            for index in &self.active {
                let entry = &mut self.entries[*index as usize];
                let channel = entry.channel.as_mut().and_then(Channel::local_mut);
                if let Some(channel) = channel.filter(|_| entry.armed) {
                    channel.sleeper.disarm();
                    entry.armed = false;
                }
            }
            return false;
        }
        // All are quiet now, and stay armed until their doorbell rings.
        for index in self.active.drain(..) {
            self.entries[index as usize].place = Place::Quiet;
            self.quiet.push(index);
        }
        true
    }

    /// Takes from the kernel what has happened: doorbells, deaths, connections. How many things.
    #[cold]
    pub(crate) fn service(&mut self, timeout: Option<Duration>) -> usize {
        let mut ready = std::mem::take(&mut self.ready);
        self.readiness.wait(timeout, &mut ready);
        let happened = ready.len();
        for source in ready.drain(..) {
            match source {
                Source::Listener(index) => self.accept_connections(index),
                Source::Handshake(index) => self.continue_handshake(index),
                Source::Socket(index) => {
                    if let Some(channel) = self.entries[index as usize].local_mut() {
                        channel.service_socket();
                        self.rouse(index);
                        self.ignore_end(index);
                    }
                }
                Source::Death(index) => {
                    if let Some(channel) = self.entries[index as usize].local_mut() {
                        channel.check_liveness();
                        self.rouse(index);
                        self.ignore_end(index);
                    }
                }
                // Whoever looks next sees what has arrived.
                Source::Device(_) => {}
                Source::Attempt(index) => self.attend_attempt(index as usize, Instant::now()),
                Source::Timer => self.take_timer(),
            }
        }
        self.ready = ready;
        self.attend_links();
        self.attend_attempts();
        self.expire_handshakes();
        happened
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{EndpointOptions, Event, QUIET_AFTER};
    use crate::{Address, ConnectOptions, Delivery, ListenOptions, Wait};

    #[test]
    fn the_list_of_the_unarmed_does_not_grow_while_nobody_parks() {
        let name = format!("shm:unarmed-{}", std::process::id());
        let address: Address = name.parse().expect("the name is valid");
        let options = EndpointOptions { wait: Wait::Spin, ..EndpointOptions::default() };
        let mut endpoint = Endpoint::new(options).expect("an endpoint");
        endpoint.listen(&address, ListenOptions::default()).expect("the name is free");
        let connect = || Channel::connect(&address, ConnectOptions::default()).expect("connected");
        let mut clients: Vec<Channel> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..3).map(|_| scope.spawn(connect)).collect();
            while endpoint.channels() < 3 {
                if let Event::Incoming(incoming) = endpoint.recv() {
                    endpoint.accept(incoming, b"").expect("accepted");
                }
            }
            clients.into_iter().map(|client| client.join().expect("connected")).collect()
        });
        for round in 0..50 {
            let client = &mut clients[round % 3];
            client.send(b"x").expect("there is room");
            assert!(matches!(endpoint.recv(), Event::Message(..)));
            // Until the others are quiet, and one glance more.
            for _ in 0..QUIET_AFTER + 8 {
                assert!(endpoint.look(&mut Delivery::default()).is_none());
            }
        }
        assert!(endpoint.unarmed.len() <= 3, "{} entries", endpoint.unarmed.len());
    }
}
