//! A channel that is being asked for, step by step: whoever looks after it says hello again when it is time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use segment::Incarnation;
use segment::control::MAX_PRIVATE;
use segment::wait::Wait;

use super::RemoteChannel;
use super::link::{Link, Phase};
use super::opening::{FIRST_PATIENCE, LONGEST_PATIENCE};
use super::sharing::{Shared, lock};
use crate::device::DeviceError;
use crate::handshake::ConnectError;
use crate::wire::Kind;

/// A channel that is being asked for. Dropped, it is given up.
pub(crate) struct Greeting {
    link: Shared,
    to: SocketAddr,
    private: Vec<u8>,
    wait: Wait,
    /// Once the way there is known.
    channel: Option<u32>,
    patience: Duration,
    next: Instant,
}

impl Greeting {
    pub fn new(
        link: Shared,
        to: SocketAddr,
        private: Vec<u8>,
        wait: Wait,
    ) -> Result<Self, ConnectError> {
        if private.len() > MAX_PRIVATE {
            return Err(ConnectError::PrivateTooLarge);
        }
        let (patience, next) = (FIRST_PATIENCE, Instant::now());
        let mut greeting = Self { link, to, private, wait, channel: None, patience, next };
        greeting.attend(next)?;
        Ok(greeting)
    }

    /// When it is to be looked after.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Does what is due. Whether the listener has welcomed this side.
    pub fn attend(&mut self, now: Instant) -> Result<bool, ConnectError> {
        let mut link = lock(&self.link);
        let channel = match self.channel {
            Some(channel) => channel,
            None => match link.begin_channel(self.to) {
                Ok(channel) => *self.channel.insert(channel),
                Err(ConnectError::Device(DeviceError::Unresolved)) => {
                    self.next = now + FIRST_PATIENCE;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            },
        };
        match link.state(channel).map(|state| (state.phase, state.closed)) {
            Some((Phase::Open, _)) => return Ok(true),
            Some((Phase::Refused(why), _)) => return Err(ConnectError::Refused(why)),
            Some((Phase::Asking, None)) => {}
            _ => return Err(ConnectError::Device(link.failed.unwrap_or(DeviceError::Gone))),
        }
        if now >= self.next {
            link.say_hello(channel, &self.private);
            self.next = now + self.patience;
            self.patience = (2 * self.patience).min(LONGEST_PATIENCE);
        }
        Ok(false)
    }

    /// The channel, once the listener has welcomed this side.
    pub fn join(mut self) -> Option<RemoteChannel> {
        let channel = self.channel.take()?;
        RemoteChannel::new(self.link.clone(), channel, self.wait)
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        if let Some(channel) = self.channel {
            lock(&self.link).close(channel);
        }
    }
}

impl Link {
    /// Takes a place for a channel to an address, which has to be asked yet.
    pub(super) fn begin_channel(&mut self, to: SocketAddr) -> Result<u32, ConnectError> {
        let own = Incarnation::draw().ok_or(ConnectError::Kernel(Errno::AGAIN))?;
        let destination = self.device().open(to).map_err(ConnectError::Device)?;
        let template = self.control_fields(Kind::Data, 0, 0).to_header(0);
        self.add(to, destination, own, template).map_err(|error| {
            self.device().close(destination);
            error.into()
        })
    }
}
