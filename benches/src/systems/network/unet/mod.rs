//! U-Net across a network: the same endpoints and channels as over shared memory, at an address of a
//! network. Messages may be lost.
//!
//! What fits into a slot travels there; of what does not, the first words do, and the rest is a buffer,
//! whose bytes nobody touches except for `bandwidth`.

mod halves;
mod mailboxes;
#[cfg(test)]
mod tests;

use unet::{
    Address, Channel, ChannelId, ConnectOptions, Delivery, Endpoint, EndpointOptions, Event,
    ListenOptions, MAX_INLINE,
};

use crate::fault::Fault;
use crate::measure::load::STAMP;
use crate::network::Place;
use crate::process::server::{Request, Server};
use crate::systems::network::{Announce, Network};
use crate::systems::unet::{Parcel, closed, wait};
use crate::systems::{ClientHalf, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

use halves::{Client, Mirror};
use mailboxes::{AtChannel, AtEndpoint};

/// Our own endpoints and channels, across a network.
pub struct Unet;

/// What travels in the slot of a message with a buffer.
const WORD: usize = size_of::<u64>();

impl System for Unet {
    fn name(&self) -> &'static str {
        "unet"
    }

    fn transport(&self) -> &'static str {
        "by address"
    }

    fn about(&self) -> &'static str {
        "U-Net channels over the device that the address names"
    }

    fn payload(&self, bench: Bench, asked: usize) -> usize {
        asked.max(if bench == Bench::Sweep { STAMP } else { WORD })
    }

    fn refuses(&self, _: Bench, _: usize, _: Wait) -> Option<String> {
        None
    }

    fn remark(&self, bench: Bench, asked: usize) -> Option<String> {
        let untouched = bench != Bench::Bandwidth && asked > MAX_INLINE;
        untouched.then(|| "unet: the bytes of buffers are sent, but not written or read".to_owned())
    }

    fn answers(&self, bench: Bench) -> bool {
        matches!(bench, Bench::Rtt | Bench::Rate | Bench::Bandwidth | Bench::Sweep)
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }
}

impl Network for Unet {
    fn keeps_bounds(&self) -> bool {
        true
    }

    fn bare(&self) -> Option<&'static str> {
        None
    }

    fn connect(&self, task: &Task, place: &Place, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_port()?;
        let mut options = ConnectOptions::default();
        options.channel.wait = wait(task.wait);
        let address = Address::Network(place.address.clone());
        let channel = Channel::connect(&address, options)
            .map_err(|error| Fault::Other(format!("connecting to {address} failed: {error}")))?;
        server.expect_done()?;
        Ok(match task.bench {
            Bench::Sweep => ClientHalf::Load(Box::new(AtChannel::new(channel, task))),
            Bench::Rate | Bench::Bandwidth => {
                ClientHalf::OneWay(Box::new(Client::new(channel, task)))
            }
            _ => ClientHalf::Echo(Box::new(Client::new(channel, task))),
        })
    }

    fn serve(
        &self,
        task: &Task,
        place: &Place,
        announce: Announce<'_>,
    ) -> Result<ServerHalf, Fault> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Fault::Other(format!("{what} {} failed: {error}", place.address))
        };
        let options = EndpointOptions { wait: wait(task.wait), ..EndpointOptions::default() };
        let mut endpoint =
            Endpoint::new(options).map_err(|error| failed("making an endpoint for", &error))?;
        endpoint
            .listen(&Address::Network(place.address.clone()), ListenOptions::default())
            .map_err(|error| failed("listening at", &error))?;
        announce(place.address.port)?;
        let client = accept(&mut endpoint)?;
        Ok(match task.bench {
            Bench::Sweep => ServerHalf::Load(Box::new(AtEndpoint::new(endpoint, client, task))),
            Bench::Rate | Bench::Bandwidth => {
                ServerHalf::OneWay(Box::new(Mirror::new(endpoint, task)))
            }
            _ => ServerHalf::Echo(Box::new(Mirror::new(endpoint, task))),
        })
    }
}

/// The session ends with the client's control connection, so that this does not wait for ever.
fn accept(endpoint: &mut Endpoint) -> Result<ChannelId, Fault> {
    loop {
        match endpoint.recv() {
            Event::Incoming(incoming) => {
                return endpoint
                    .accept(incoming, &[])
                    .map_err(|error| Fault::Other(format!("accepting failed: {error}")));
            }
            Event::Closed(_, reason) => return Err(closed(reason)),
            Event::Message(..) => {}
        }
    }
}

/// How messages of the task's size go: what is in the slot beside a buffer counts, too.
fn parcel(task: &Task) -> Parcel {
    let beside = if task.payload > MAX_INLINE { WORD } else { 0 };
    Parcel::new(&Task { payload: (task.payload - beside).max(WORD), ..task.clone() })
}

/// The first words of a message, where it has them.
fn words(message: &Delivery) -> Option<&[u8]> {
    let inline = message.inline();
    (inline.len() >= WORD).then_some(inline)
}
