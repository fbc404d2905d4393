//! Opens devices by address: `sim:NETWORK@HOST:PORT`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use unet::device::{Datagrams, Driver, OpenError, Opening};

use crate::faults::OPTIONS;
use crate::{DeviceOptions, Faults, HostDatagrams, Network};

/// The driver of the scheme `sim`: networks that all processes of the host can join, by name.
///
/// | option | what |
/// |---|---|
/// | `seed` | what decides on faults (0) |
/// | `loss`, `burst`, `recover`, `burst-loss`, `duplicate`, `corrupt`, `reorder` | probabilities: [`Faults`] |
/// | `late`, `delay`, `jitter` | times such as `50us`: [`Faults`] |
/// | `mtu` | the most bytes of a payload (1500) |
/// | `queue` | the most datagrams that wait to be received (512) |
///
/// Faults are those of what the device sends. Hosts are addresses, which need not exist; without one, the
/// loopback address is taken.
///
/// Networks of this process ([`Sim::with`]) come first: their faults are their own, so the options for
/// these are refused.
#[derive(Clone, Debug, Default)]
pub struct Sim {
    networks: HashMap<String, Network>,
}

impl Sim {
    /// Adds a network of this process.
    #[must_use]
    pub fn with(mut self, name: &str, network: Network) -> Self {
        self.networks.insert(name.to_owned(), network);
        self
    }
}

/// The bytes of buffers: what an MTU takes, in whole multiples.
fn options(opening: &Opening<'_>) -> Result<DeviceOptions, OpenError> {
    let mut options = DeviceOptions::default();
    let number = |name: &str, most: usize| match opening.option(name) {
        None => Ok(None),
        Some(text) => match text.parse().ok().filter(|value| (1..=most).contains(value)) {
            Some(value) => Ok(Some(value)),
            None => Err(OpenError::BadValue("a number from 1 to 65000")),
        },
    };
    options.mtu = number("mtu", 65_000)?.unwrap_or(options.mtu);
    options.queue = number("queue", 65_000)?.unwrap_or(options.queue);
    options.buffer_bytes = options.mtu.next_multiple_of(64).max(2048) as u32;
    if opening.buffers > 0 {
        options.buffers = opening.buffers.clamp(8, 65_536) as u32;
        options.stock = options.buffers as usize / 2;
    }
    Ok(options)
}

impl Driver for Sim {
    fn scheme(&self) -> &'static str {
        "sim"
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Datagrams>, OpenError> {
        let of_family = |remote: SocketAddr| match remote {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let loopback = opening.remote.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), of_family);
        let local = SocketAddr::new(opening.local.unwrap_or(loopback), opening.port);
        if let Some(network) = self.networks.get(opening.device) {
            opening.only_options("mtu, queue")?;
            return Ok(Box::new(network.datagrams(local, options(opening)?)?));
        }
        opening.only_options(OPTIONS)?;
        let seed = match opening.option("seed") {
            None => 0,
            Some(text) => {
                text.parse().map_err(|_| OpenError::BadValue("a whole number as seed"))?
            }
        };
        let (faults, options) = (Faults::of(opening)?, options(opening)?);
        Ok(Box::new(HostDatagrams::join(opening.device, local, seed, faults, options)?))
    }
}
