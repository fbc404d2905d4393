//! U-Net across a network: the same endpoints and channels as over shared memory, at an address of a
//! network. Messages may be lost.
//!
//! One way, messages are posted and sent in bursts, and taken as they come, so that the device is asked
//! once for many.

mod halves;
mod letter;
mod mailboxes;
mod mediated;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use unet::{
    Address, Channel, ChannelId, ConnectOptions, Endpoint, EndpointOptions, Event, ListenOptions,
    NetworkAddress, NetworkOptions,
};

use crate::fault::Fault;
use crate::measure::load::STAMP;
use crate::network::{Place, address};
use crate::process::server::{Request, Server};
use crate::systems::network::{Announce, Network};
use crate::systems::unet::{closed, wait};
use crate::systems::{ClientHalf, ServerHalf, System};
use crate::task::{Bench, MAX_DATAGRAM, Task, Wait};

use halves::{Client, Mirror};
use mailboxes::{AtChannel, AtEndpoint};
pub use mediated::Mediated;

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
        if bench == Bench::NullRpc {
            let payload = self.payload(bench, asked);
            return Some(format!(
                "a channel has no procedures: a message of {payload} bytes, echoed"
            ));
        }
        let untouched = bench == Bench::Rtt && asked > letter::COPIED;
        untouched.then(|| "unet: the bytes of buffers are sent, but not written or read".to_owned())
    }

    fn answers(&self, bench: Bench) -> bool {
        bench == Bench::NullRpc
            || matches!(bench, Bench::Rtt | Bench::Rate | Bench::Bandwidth | Bench::Sweep)
    }

    fn largest(&self) -> usize {
        MAX_DATAGRAM
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }
}

impl Network for Unet {
    fn bare(&self) -> Option<&'static str> {
        None
    }

    fn connect(&self, task: &Task, place: &Place, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_port()?;
        let channel = open(task, place.address.clone())?;
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
        let listening = ListenOptions { network: network(), ..ListenOptions::default() };
        endpoint
            .listen(&Address::Network(place.address.clone()), listening)
            .map_err(|error| failed("listening at", &error))?;
        announce(place.address.port)?;
        let client = accept(&mut endpoint)?;
        if place.address.scheme == address::DPDK {
            // A port sends when it is looked at, and has no room for the answer before its other end has looked, too.
            let begun = Instant::now();
            while begun.elapsed() < ANSWERING {
                if let Some(Event::Closed(_, reason)) = endpoint.recv_timeout(ANSWERING / 10) {
                    return Err(closed(reason));
                }
            }
        }
        Ok(match task.bench {
            Bench::Sweep => ServerHalf::Load(Box::new(AtEndpoint::new(endpoint, client, task))),
            Bench::Rate | Bench::Bandwidth => {
                ServerHalf::OneWay(Box::new(Mirror::new(endpoint, task)))
            }
            _ => ServerHalf::Echo(Box::new(Mirror::new(endpoint, task))),
        })
    }
}

/// How long a port is looked at for the sake of an answer.
const ANSWERING: Duration = Duration::from_millis(100);

/// Connects to an address, whose server listens.
fn open(task: &Task, address: NetworkAddress) -> Result<Channel, Fault> {
    let mut options = ConnectOptions { network: network(), ..ConnectOptions::default() };
    options.channel.wait = wait(task.wait);
    let address = Address::Network(address);
    Channel::connect(&address, options)
        .map_err(|error| Fault::Other(format!("connecting to {address} failed: {error}")))
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
            _ => {}
        }
    }
}

/// All drivers.
fn network() -> NetworkOptions {
    NetworkOptions { drivers: drivers::linked(), ..NetworkOptions::default() }
}
