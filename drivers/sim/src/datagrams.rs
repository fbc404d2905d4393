//! A device of datagrams on a network within the process.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use unet::Pool;
use unet::device::{
    Capabilities, Datagrams as _, Destination, Device, DeviceError, OpenError, Outgoing, Received,
    Statistics,
};

use crate::destinations::{self, Destinations};
use crate::joined::{Joined, Leaving};
use crate::network::{Name, PortId};
use crate::{DeviceOptions, Network};

/// A device that carries datagrams over a [`Network`].
pub struct Datagrams {
    joined: Joined,
    local: SocketAddr,
    destinations: Destinations<SocketAddr>,
}

/// The ports from which one is chosen.
pub(crate) const EPHEMERAL: std::ops::RangeInclusive<u16> = 49_152..=65_535;

impl Datagrams {
    pub(crate) fn join(
        network: &Network,
        mut local: SocketAddr,
        options: DeviceOptions,
    ) -> Result<Self, OpenError> {
        options.check(options.mtu)?;
        if local.port() == 0 {
            let state = network.state();
            let is_free =
                |port: &u16| !state.is_taken(Name::Datagrams(SocketAddr::new(local.ip(), *port)));
            let port = EPHEMERAL.into_iter().find(is_free).ok_or(OpenError::AddressInUse)?;
            drop(state);
            local.set_port(port);
        }
        let joined = Joined::new(network, Name::Datagrams(local), options)?;
        Ok(Self { joined, local, destinations: Destinations::new() })
    }

    /// Its place in the network.
    pub fn port(&self) -> PortId {
        self.joined.id
    }
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.joined.as_fd()
    }
}

impl Device for Datagrams {
    fn capabilities(&self) -> Capabilities {
        self.joined.options.capabilities(self.joined.mtu)
    }

    fn statistics(&mut self) -> Statistics {
        self.joined.statistics()
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.joined.stock.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.joined.arm()
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        self.joined.maintain()
    }
}

impl unet::device::Datagrams for Datagrams {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn open(&mut self, to: SocketAddr) -> Result<Destination, DeviceError> {
        destinations::check(self.local, to)?;
        self.destinations.open(to)
    }

    fn close(&mut self, destination: Destination) {
        self.destinations.close(destination);
    }

    fn max_payload(&self, _: Destination) -> usize {
        self.joined.mtu
    }

    fn transmit(&mut self, datagrams: &mut VecDeque<Outgoing>) -> Result<(), DeviceError> {
        let destinations = &self.destinations;
        let leaving = |first: &Outgoing| Leaving {
            to: destinations.get(first.to).copied().map(Name::Datagrams),
            header: 0,
        };
        self.joined.transmit(
            datagrams,
            |outgoing| &outgoing.piece,
            |outgoing| outgoing.piece.bytes,
            leaving,
        )
    }

    fn receive(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        self.joined.receive(|from, piece| {
            // Only datagrams come to a device of datagrams.
            if let Name::Datagrams(from) = from {
                into.push(Received { from, piece });
            }
        })
    }
}

impl std::fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Datagrams")
            .field("local", &self.local())
            .field("port", &self.port())
            .finish()
    }
}
