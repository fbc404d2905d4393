//! How a channel ends: the peer closes, dies or breaks a rule.

use segment::Fault;
use segment::control::{Kind, Received};
use segment::counters::Counter;

use super::{CloseReason, LocalChannel};
use crate::delivery::Partial;
use crate::farewell;

/// Doorbells that are heard before other work gets its turn.
const BELLS: usize = 64;

impl LocalChannel {
    pub fn check_liveness(&mut self) {
        self.cores.look_up();
        // A bell is left for the event loop that waits for it, unless that will hear of the end anyway.
        if !self.watched || self.socket.is_hung_up() {
            self.service_socket();
        }
        self.pass_back();
        if self.closed.is_none() && self.liveness.has_ended() {
            // Its hang-up may still stand behind doorbells.
            self.end(self.departure());
        }
    }

    /// Why a peer that is gone went: in good order, or not.
    fn departure(&self) -> CloseReason {
        if self.bell.peer_has_closed() { CloseReason::PeerClosed } else { CloseReason::PeerDied }
    }

    /// Takes doorbells off the socket until one is for the sleep of now, or none is left. One that was
    /// rung for a sleep that ended, or did not begin, before it was heard would end a later one.
    pub(crate) fn service_socket(&mut self) {
        for _ in 0..BELLS {
            match self.socket.receive() {
                Received::Nothing => return,
                Received::Frame(frame, none) if none.is_empty() && frame.kind == Kind::Doorbell => {
                    if !self.sleeper.accept_ring(frame.value) {
                        self.poison(Fault::Doorbell);
                        return;
                    }
                    if self.sleeper.is_latest(frame.value) {
                        return;
                    }
                }
                Received::Frame(frame, none)
                    if none.is_empty() && farewell::from_frame(&frame).is_some() =>
                {
                    return self
                        .end(farewell::from_frame(&frame).unwrap_or(CloseReason::PeerClosed));
                }
                // Nobody sends descriptors on a channel, whether they find room or not.
                Received::Frame(..) | Received::Malformed(_) | Received::OutOfDescriptors => {
                    self.poison(Fault::Control);
                    return;
                }
                Received::HungUp => return self.end(self.departure()),
            }
        }
    }

    /// Tells the peer why this side is about to close, where it can be said.
    pub(crate) fn say_why(&self, reason: CloseReason) {
        if self.closed.is_none()
            && let Some(frame) = farewell::to_frame(reason)
        {
            // A peer that does not read its socket learns of the hang-up alone.
            let _ = self.socket.send(&frame, &[]);
        }
    }

    /// Closes the channel because the peer broke a rule: once, counted once.
    #[cold]
    pub(crate) fn poison(&mut self, fault: Fault) -> CloseReason {
        if self.closed.is_none() {
            self.counters.fault(fault);
            // Not louder: a client that comes back again and again may fill no log. The count is in
            // the endpoint's page too.
            tracing::debug!(
                peer = self.credentials.pid,
                fault = fault.name(),
                "the channel is poisoned: {fault}"
            );
            self.end(CloseReason::Poisoned(fault));
            self.sleeper.close();
            self.socket.hang_up();
        }
        self.rest = 0;
        self.partial = Partial::default();
        self.closed.expect("just closed")
    }

    pub fn poison_protocol(&mut self) -> CloseReason {
        self.poison(Fault::Protocol)
    }

    #[cold]
    pub(super) fn end(&mut self, reason: CloseReason) {
        if self.closed.is_none() {
            self.closed = Some(reason);
            self.rest = self.consumer.capacity();
            // What the peer returned before it went is taken as returned; a fault changes nothing.
            let _ = self.leases.collect(&mut self.pool);
            let reclaimed = self.leases.reclaim(&mut self.pool);
            self.counters.add(Counter::BuffersReclaimed, reclaimed as u64);
            self.publish_totals();
            // However it was found out, an event loop hears of it.
            if self.watched {
                self.socket.hang_up();
            }
        }
    }

    pub(crate) fn publish_totals(&self) {
        self.counters.set(Counter::Sent, self.producer.sent());
        self.counters.set(Counter::Received, self.consumer.received());
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use crate::{
        Address, Channel, ChannelId, CloseReason, ConnectOptions, Endpoint, EndpointOptions, Event,
        ListenOptions,
    };

    const HERE: &str = "it is of this host";

    /// A channel, and the endpoint that has its other side.
    fn joined(test: &str) -> (Channel, Endpoint, ChannelId) {
        let name = format!("shm:{test}-{}", std::process::id());
        let address: Address = name.parse().expect("the name is valid");
        let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
        endpoint.listen(&address, ListenOptions::default()).expect("the name is free");
        let (near, far) = std::thread::scope(|scope| {
            let client = scope.spawn(|| Channel::connect(&address, ConnectOptions::default()));
            let Event::Incoming(incoming) = endpoint.recv() else { panic!("a client was to come") };
            let far = endpoint.accept(incoming, b"").expect("accepted");
            (client.join().expect("no panic").expect("connected"), far)
        });
        (near, endpoint, far)
    }

    fn rings(channel: &Channel) -> bool {
        rings_within(channel, 0)
    }

    fn rings_within(channel: &Channel, seconds: i64) -> bool {
        let within = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(channel.doorbell().expect(HERE), PollFlags::IN)];
        poll(&mut fds, Some(&within)) == Ok(1)
    }

    #[test]
    fn a_bell_that_nobody_slept_to_hear_does_not_end_a_later_sleep() {
        let (mut near, mut endpoint, far) = joined("bells");
        for _ in 0..5 {
            // The message comes while this side is falling asleep, so it does not.
            near.local_mut().expect(HERE).sleeper.arm();
            let far = endpoint.channel_mut(far).expect("it is open");
            far.send(b"in between").expect("there is room");
            near.local_mut().expect(HERE).sleeper.disarm();
            assert_eq!(near.recv().expect("it is there").inline(), b"in between");
        }
        near.check_liveness();
        assert_eq!(near.closed(), None);
        assert!(!rings(&near), "a bell is left to end the next sleep");
    }

    #[test]
    fn a_bell_is_left_to_who_waits_for_it_until_they_wake() {
        let (mut near, mut endpoint, far) = joined("left");
        assert!(near.arm());
        endpoint.channel_mut(far).expect("it is open").send(b"one").expect("there is room");
        assert_eq!(near.try_recv().map(|one| one.is_some()), Ok(true));
        near.check_liveness();
        assert!(rings(&near));
        near.wake();
        assert!(!rings(&near));
        assert!(near.arm());
        // Behind a bell that is left, the end is found all the same.
        endpoint.channel_mut(far).expect("it is open").send(b"two").expect("there is room");
        drop(endpoint);
        (0..2).for_each(|_| near.check_liveness());
        assert_eq!(near.closed(), Some(CloseReason::PeerClosed));
        assert!(rings(&near));
        assert_eq!(near.try_recv().map(|two| two.is_some()), Ok(true));
    }

    /// A buffer that comes back while this side announces its sleep rings, and makes nothing ready.
    #[test]
    fn a_bell_for_a_buffer_given_back_is_not_lost_to_who_falls_asleep() {
        const ROUNDS: u32 = 20_000;
        const AT_MOST: Duration = Duration::from_secs(3);
        const AGAIN: u16 = 1;
        let (mut near, mut endpoint, far) = joined("given-back");
        let peer = std::thread::spawn(move || {
            loop {
                let message = endpoint.channel_mut(far).expect("it is open").try_recv();
                let Ok(message) = message else { return };
                let Some(mut message) = message else { continue };
                if message.tag() != AGAIN {
                    return;
                }
                drop(message.take_fbuf());
                let since = Instant::now();
                while since.elapsed() < Duration::from_micros(40) {
                    std::hint::spin_loop();
                }
                let far = endpoint.channel_mut(far).expect("it is open");
                far.send(b"after the buffer").expect("there is room");
            }
        });
        let since = Instant::now();
        for round in 0..ROUNDS {
            let buffer = near.alloc(100).expect("they come back").freeze();
            near.send_fbuf(AGAIN, buffer, &[]).expect("there is room");
            (0..round * 7 % 600).for_each(|_| std::hint::spin_loop());
            while near.try_recv().expect("it is open").is_none() {
                if near.arm() {
                    assert!(rings_within(&near, 2), "round {round}: the bell was lost");
                }
                near.wake();
            }
            if since.elapsed() > AT_MOST {
                break;
            }
        }
        near.send(b"").expect("there is room");
        peer.join().expect("no panic");
    }

    #[test]
    fn who_waits_for_the_bell_hears_of_an_end_that_the_peer_only_says() {
        let (mut near, mut endpoint, far) = joined("says");
        assert!(near.arm());
        endpoint.channel_mut(far).and_then(Channel::local_mut).expect(HERE).sleeper.close();
        assert!(!rings(&near));
        near.send(b"to nobody").expect("there is room");
        assert_eq!(near.closed(), Some(CloseReason::PeerClosed));
        assert!(rings(&near));
    }
}
