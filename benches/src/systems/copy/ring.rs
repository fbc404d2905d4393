//! Through a channel of our own, by copies: bytes are sent, and received bytes copied out.

use unet::{
    Arrival, Channel, ChannelId, ConnectOptions, Delivery, Endpoint, EndpointOptions, Event,
    ListenOptions, Message, Pool,
};

use super::Neighbour;
use crate::fault::Fault;
use crate::systems::fbuf::{address, closed, failed, unsent};
use crate::systems::unet::wait;
use crate::task::Task;

/// The channel to a neighbour.
pub struct Ring {
    side: Side,
    delivery: Delivery,
}

enum Side {
    /// Connected to the next domain.
    Channel(Box<Channel>),
    /// Accepted from the one before.
    Endpoint(Box<Endpoint>, ChannelId),
}

impl Ring {
    /// Connects to the next domain.
    pub fn connect(task: &Task) -> Result<Self, Fault> {
        let mut options = ConnectOptions::default();
        options.channel.wait = wait(task.wait);
        let channel = Channel::connect(&address(task, task.position + 1)?, options);
        let channel = channel.map_err(|error| failed("connecting", &error))?;
        Ok(Self { side: Side::Channel(Box::new(channel)), delivery: Delivery::default() })
    }

    #[inline(always)]
    fn channel(&mut self) -> Result<&mut Channel, Fault> {
        match &mut self.side {
            Side::Channel(channel) => Ok(channel),
            Side::Endpoint(endpoint, id) => endpoint.channel_mut(*id).ok_or(Fault::PeerGone),
        }
    }

    #[inline(always)]
    fn next(&mut self) -> Result<(), Fault> {
        match &mut self.side {
            Side::Channel(channel) => channel.recv_into(&mut self.delivery).map_err(closed),
            Side::Endpoint(endpoint, _) => loop {
                match endpoint.recv_into(&mut self.delivery) {
                    Arrival::Message(_) => return Ok(()),
                    Arrival::Other => match endpoint.take_event() {
                        Some(Event::Closed(_, reason)) => return Err(closed(reason)),
                        Some(Event::Incoming(stranger)) => endpoint.refuse(stranger, 0),
                        _ => {}
                    },
                }
            },
        }
    }
}

impl Neighbour for Ring {
    #[inline]
    fn receive(&mut self, message: &mut [u8]) -> Result<(), Fault> {
        self.next()?;
        let inline = self.delivery.inline();
        if self.delivery.message().is_empty() && inline.len() == message.len() {
            message.copy_from_slice(inline);
            return Ok(());
        }
        self.delivery.message().peek(0, message).map_err(|error| failed("copying", &error))
    }

    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Fault> {
        let channel = self.channel()?;
        if message.len() <= channel.limit() {
            return channel.send(message).map_err(unsent);
        }
        let rope = channel.with_pool(|pool| copied(pool, message))?;
        channel.send_message(0, rope, &[]).map_err(unsent)
    }
}

/// A rope with a copy of the bytes.
fn copied(pool: &mut Pool, bytes: &[u8]) -> Result<Message, Fault> {
    let mut rest = bytes;
    let message = pool.message(0, bytes.len(), |room| {
        let (now, later) = rest.split_at(room.len());
        room.copy_from_slice(now);
        rest = later;
    });
    message.map_err(|error| failed("allocating", &error))
}

/// Waits for the domain before this one.
pub struct Listening(Endpoint);

impl Listening {
    /// Under this domain's own name.
    pub fn new(task: &Task) -> Result<Self, Fault> {
        let options = EndpointOptions { wait: wait(task.wait), ..EndpointOptions::default() };
        let mut endpoint =
            Endpoint::new(options).map_err(|error| failed("making an endpoint", &error))?;
        endpoint
            .listen(&address(task, task.position)?, ListenOptions::default())
            .map_err(|error| failed("listening", &error))?;
        Ok(Self(endpoint))
    }

    /// Accepts it.
    pub fn accept(mut self) -> Result<Ring, Fault> {
        let Event::Incoming(incoming) = self.0.recv() else { return Err(Fault::PeerGone) };
        let id = self.0.accept(incoming, &[]).map_err(|error| failed("accepting", &error))?;
        Ok(Ring { side: Side::Endpoint(Box::new(self.0), id), delivery: Delivery::default() })
    }
}
