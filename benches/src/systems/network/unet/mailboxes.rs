//! Channels as a load finds them: a message goes now or not, and comes now or not.

use unet::{AllocError, Arrival, Channel, ChannelId, Delivery, Endpoint, MAX_INLINE, Offer};

use super::halves::attend;
use crate::fault::Fault;
use crate::measure::load::{Mailbox, NAP, STAMP, Stamp};
use crate::systems::unet::{closed, unsent};
use crate::task::{Task, Wait};

/// Sends a stamp as a message of some size, or part of it beside a buffer.
struct Letter {
    inline: Vec<u8>,
    buffer: usize,
}

impl Letter {
    fn new(task: &Task) -> Self {
        let fits = task.payload <= MAX_INLINE;
        let inline = if fits { task.payload } else { STAMP };
        Self { inline: vec![0; inline], buffer: task.payload - inline }
    }

    #[inline(always)]
    fn try_send(&mut self, channel: &mut Channel, stamp: Stamp) -> Result<bool, Fault> {
        stamp.write(&mut self.inline);
        if self.buffer == 0 {
            return Ok(channel.try_send(&self.inline).map_err(unsent)? == Offer::Taken);
        }
        let fbuf = match channel.alloc(self.buffer) {
            Ok(fbuf) => fbuf.freeze(),
            Err(AllocError::Exhausted) => return Ok(false),
            Err(error) => return Err(Fault::Other(format!("no buffer: {error}"))),
        };
        let offer = channel.try_send_fbuf(0, fbuf, &self.inline).map_err(unsent)?;
        Ok(matches!(offer, Offer::Taken))
    }
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
        self.letter.try_send(&mut self.channel, stamp)
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<Stamp>, Fault> {
        let came = self.channel.try_recv_into(&mut self.message).map_err(closed)?;
        Ok(if came { Stamp::read(self.message.inline()) } else { None })
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
            Arrival::Message(_) => Ok(Stamp::read(self.message.inline())),
            Arrival::Other => attend(&mut self.endpoint).map(|()| None),
        }
    }
}

impl Mailbox for AtEndpoint {
    #[inline]
    fn try_send(&mut self, stamp: Stamp) -> Result<bool, Fault> {
        let channel = self.endpoint.channel_mut(self.client).ok_or(Fault::PeerGone)?;
        self.letter.try_send(channel, stamp)
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
