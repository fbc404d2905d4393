//! How messages pass, and whose turn it is.
//!
//! A round: every process that has sent in the last one may again send its quantum, by weight; those of which
//! a message waits go first, one after the other. In between, what comes in is passed on at once as long as
//! its process has something left of its quantum and nothing that waits. What may not be passed on is kept,
//! one message a channel, and the channel is held: what else its client sends waits in the client's memory.
//!
//! After Shreedhar and Varghese, *Efficient Fair Queuing Using Deficit Round Robin* (SIGCOMM 1995).

use std::time::Duration;

use unet::{
    AllocError, ChannelId, Delivery, Endpoint, MAX_INLINE, MAX_INLINE_WITH_FBUF, Offer, SendError,
};

use super::roles::Waiting;
use super::{Agent, PAUSE, Reason, Role};

/// What became of a client's message.
enum Passed {
    /// It was passed on, or can never be: so many bytes.
    Done(usize, Option<Reason>),
    /// The network takes none now.
    Later(Waiting),
}

impl Agent {
    /// A message came on a channel.
    #[inline]
    pub(super) fn message(&mut self, id: ChannelId, delivery: &mut Delivery) {
        match self.roles.get_mut(id) {
            Some(Role::Client(_)) => self.client_says(id, delivery),
            Some(Role::Network(client)) => {
                let client = *client;
                self.network_says(client, delivery);
            }
            Some(Role::Inspector(who, _)) => {
                let who = *who;
                self.answer(id, who, delivery);
            }
            Some(Role::Port(port)) => {
                let uid = port.who.uid;
                self.accounts.count(uid, Reason::Unexpected);
            }
            None => {}
        }
    }

    #[inline]
    fn client_says(&mut self, id: ChannelId, delivery: &mut Delivery) {
        let Some(client) = self.roles.client_mut(id) else { return };
        let mut inline = [0; MAX_INLINE];
        let bytes = delivery.inline();
        inline[..bytes.len()].copy_from_slice(bytes);
        let len = bytes.len() as u8;
        let waiting =
            Waiting { tag: delivery.tag(), inline, len, message: delivery.take_message() };
        let key = client.process;
        let Some(process) = self.accounts.processes.get(&key) else { return };
        if client.waiting.is_some() || !process.has_turn() || !process.waiting.is_empty() {
            return self.keep(id, waiting);
        }
        self.pass(id, waiting);
    }

    /// Passes a client's message on, or keeps it: after how long it may be tried again.
    fn pass(&mut self, id: ChannelId, waiting: Waiting) -> Option<Duration> {
        let client = self.roles.client_mut(id)?;
        let (key, network, uid) = (client.process, client.network, client.who.uid);
        if let Some(user) = self.accounts.user_mut(uid)
            && let Err(wait) = user.bucket.take()
        {
            self.keep(id, waiting);
            return Some(wait);
        }
        match pass_on(&mut self.endpoint, network, waiting) {
            Passed::Done(bytes, dropped) => {
                self.accounts.spend(key, bytes);
                if let Some(client) = self.roles.client_mut(id) {
                    match dropped {
                        Some(_) => client.dropped += 1,
                        None => {
                            client.sent.0 += 1;
                            client.sent.1 += bytes as u64;
                        }
                    }
                }
                if let Some(reason) = dropped {
                    self.accounts.count(uid, reason);
                }
                None
            }
            Passed::Later(waiting) => {
                if let Some(user) = self.accounts.user_mut(uid) {
                    user.bucket.give_back();
                }
                self.keep(id, waiting);
                Some(PAUSE)
            }
        }
    }

    /// Keeps a message, and takes no other from its channel.
    fn keep(&mut self, id: ChannelId, waiting: Waiting) {
        let Some(client) = self.roles.client_mut(id) else { return };
        client.waiting = Some(waiting);
        let key = client.process;
        self.endpoint.hold(id);
        if let Some(process) = self.accounts.processes.get_mut(&key)
            && !process.waiting.contains(&id)
        {
            process.waiting.push_back(id);
        }
        self.ring_add(key);
    }

    fn ring_add(&mut self, key: super::ProcessKey) {
        if !self.ring.contains(&key) {
            self.ring.push_back(key);
        }
    }

    /// Gives all that wait their turn. After how long to look again, if some still do.
    pub(super) fn begin_round(&mut self) -> Option<Duration> {
        self.accounts.begin_round();
        let mut soonest = None;
        // Each once; who goes on waiting goes to the end.
        for _ in 0..self.ring.len() {
            let Some(key) = self.ring.pop_front() else { break };
            if let Some(wait) = self.serve(key) {
                soonest = Some(soonest.map_or(wait, |other: Duration| other.min(wait)));
            }
            let waits = |process: &super::accounts::Process| !process.waiting.is_empty();
            if self.accounts.processes.get(&key).is_some_and(waits) {
                self.ring.push_back(key);
            }
        }
        soonest
    }

    /// A process's turn: as long as it has something left of its quantum.
    fn serve(&mut self, key: super::ProcessKey) -> Option<Duration> {
        loop {
            let process = self.accounts.processes.get_mut(&key)?;
            if !process.has_turn() {
                return Some(Duration::ZERO);
            }
            let id = process.waiting.pop_front()?;
            let Some(client) = self.roles.client_mut(id) else { continue };
            let Some(waiting) = client.waiting.take() else { continue };
            if let Some(wait) = self.pass(id, waiting) {
                return Some(wait);
            }
            // What else waits there comes by the endpoint, in turn with the others'.
            self.endpoint.release(id);
        }
    }

    /// A message from the network: the client's if it has room, else nobody's.
    #[inline]
    fn network_says(&mut self, id: ChannelId, delivery: &mut Delivery) {
        self.brought += 1;
        let outcome = hand_over(&mut self.endpoint, id, delivery);
        let Some(client) = self.roles.client_mut(id) else { return };
        match outcome {
            Ok(bytes) => {
                client.received.0 += 1;
                client.received.1 += bytes as u64;
            }
            Err(reason) => {
                client.dropped += 1;
                let uid = client.who.uid;
                self.accounts.count(uid, reason);
            }
        }
    }
}

/// Offers a client's message to the network: a volatile one is copied once, into a buffer of the device's, and
/// its headers come from the agent's own table.
#[inline]
fn pass_on(endpoint: &mut Endpoint, network: ChannelId, mut waiting: Waiting) -> Passed {
    let bytes = waiting.bytes();
    let Some(channel) = endpoint.channel_mut(network) else {
        return Passed::Done(bytes, Some(Reason::Ended));
    };
    let offered = if waiting.message.parts().is_empty() {
        let offered = channel.try_send_tagged(waiting.tag, waiting.inline());
        offered.map(|offer| matches!(offer, Offer::Taken))
    } else {
        let message = std::mem::take(&mut waiting.message);
        channel.try_send_message(waiting.tag, message, waiting.inline()).map(|offer| match offer {
            Offer::Taken => true,
            Offer::Full(message) => {
                waiting.message = message;
                false
            }
        })
    };
    match offered {
        Ok(true) => Passed::Done(bytes, None),
        Ok(false) => Passed::Later(waiting),
        Err(SendError::TooLarge { .. }) => Passed::Done(bytes, Some(Reason::TooLong)),
        Err(SendError::Revoked) => Passed::Done(bytes, Some(Reason::Revoked)),
        Err(_) => Passed::Done(bytes, Some(Reason::Ended)),
    }
}

/// Copies a message from the network into the agent's memory for a client.
#[inline]
fn hand_over(endpoint: &mut Endpoint, id: ChannelId, delivery: &Delivery) -> Result<usize, Reason> {
    let channel = endpoint.channel_mut(id).ok_or(Reason::Ended)?;
    let (tag, inline, message) = (delivery.tag(), delivery.inline(), delivery.message());
    let taken = if message.is_empty() {
        let offer = channel.try_send_tagged(tag, inline).map_err(|_| Reason::Ended)?;
        matches!(offer, Offer::Taken)
    } else {
        if inline.len() > MAX_INLINE_WITH_FBUF {
            return Err(Reason::BesideTooLong);
        }
        let mut fbuf = channel.alloc(message.len()).map_err(|error| match error {
            AllocError::TooLarge { .. } => Reason::TooLong,
            _ => Reason::NoBuffer,
        })?;
        message.peek(0, &mut fbuf).map_err(|_| Reason::Revoked)?;
        let offer = channel.try_send_fbuf(tag, fbuf.freeze(), inline).map_err(|_| Reason::Ended)?;
        matches!(offer, Offer::Taken)
    };
    if taken { Ok(delivery.len()) } else { Err(Reason::QueueFull) }
}
