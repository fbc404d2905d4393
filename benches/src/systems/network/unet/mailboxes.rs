//! Channels as a load finds them: a message goes now or not, and comes now or not.

use unet::{Arrival, Channel, ChannelId, Delivery, Endpoint};

use super::halves::attend;
use super::letter::{self, Letter};
use crate::fault::Fault;
use crate::measure::load::{Mailbox, NAP, STAMP, Stamp};
use crate::systems::unet::closed;
use crate::task::{Task, Wait};

impl Letter {
    #[inline(always)]
    fn post_stamp(&mut self, channel: &mut Channel, stamp: Stamp) -> Result<bool, Fault> {
        stamp.write(self.bytes());
        self.try_post(channel)
    }
}

/// The stamp of a message.
#[inline(always)]
fn stamp(message: &Delivery) -> Option<Stamp> {
    Stamp::read(&letter::first::<STAMP>(message)?)
}

/// The client's channel. Its thread keeps to a schedule and never sleeps.
pub struct AtChannel {
    channel: Channel,
    letter: Letter,
    message: Delivery,
}

impl AtChannel {
    /// Puts a channel to use.
    pub fn new(channel: Channel, task: &Task) -> Self {
        Self { channel, letter: Letter::new(task), message: Delivery::default() }
    }
}

impl Mailbox for AtChannel {
    #[inline]
    fn try_send(&mut self, stamp: Stamp) -> Result<bool, Fault> {
        self.letter.post_stamp(&mut self.channel, stamp)
    }

    #[inline]
    fn push(&mut self) -> Result<u64, Fault> {
        self.letter.push(&mut self.channel);
        Ok(0)
    }

    fn flush(&mut self) -> Result<bool, Fault> {
        self.channel.flush();
        Ok(true)
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<Stamp>, Fault> {
        let came = self.channel.try_recv_into(&mut self.message).map_err(closed)?;
        Ok(if came { stamp(&self.message) } else { None })
    }

    fn wait(&mut self) -> Result<bool, Fault> {
        Ok(false)
    }
}

/// The server's endpoint, with the client's channel.
pub struct AtEndpoint {
    endpoint: Endpoint,
    client: ChannelId,
    letter: Letter,
    message: Delivery,
    sleeps: bool,
    /// What came while this side slept.
    woken_by: Option<Stamp>,
}

impl AtEndpoint {
    /// Puts an endpoint to use.
    pub fn new(endpoint: Endpoint, client: ChannelId, task: &Task) -> Self {
        let sleeps = task.wait != Wait::Spin;
        let (letter, message) = (Letter::new(task), Delivery::default());
        Self { endpoint, client, letter, message, sleeps, woken_by: None }
    }

    #[inline(always)]
    fn look_at(&mut self, arrival: Arrival) -> Result<Option<Stamp>, Fault> {
        match arrival {
            Arrival::Message(_) => Ok(stamp(&self.message)),
            Arrival::Other => attend(&mut self.endpoint).map(|()| None),
        }
    }
}

impl Mailbox for AtEndpoint {
    #[inline]
    fn try_send(&mut self, stamp: Stamp) -> Result<bool, Fault> {
        let channel = self.endpoint.channel_mut(self.client).ok_or(Fault::PeerGone)?;
        self.letter.post_stamp(channel, stamp)
    }

    #[inline]
    fn push(&mut self) -> Result<u64, Fault> {
        let channel = self.endpoint.channel_mut(self.client).ok_or(Fault::PeerGone)?;
        self.letter.push(channel);
        Ok(0)
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<Stamp>, Fault> {
        if let Some(stamp) = self.woken_by.take() {
            return Ok(Some(stamp));
        }
        match self.endpoint.try_recv_into(&mut self.message) {
            Some(arrival) => self.look_at(arrival),
            None => Ok(None),
        }
    }

    fn wait(&mut self) -> Result<bool, Fault> {
        if !self.sleeps {
            return Ok(false);
        }
        match self.endpoint.recv_timeout_into(&mut self.message, NAP) {
            None => Ok(true),
            Some(arrival) => {
                self.woken_by = self.look_at(arrival)?;
                Ok(false)
            }
        }
    }
}
