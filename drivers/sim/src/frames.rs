//! A device of frames on a network within the process.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use unet::device::{Capabilities, Device, DeviceError, Frames as _, OpenError, Piece, Statistics};
use unet::{Fbuf, FbufMut, Pool};

use crate::joined::{Joined, Leaving};
use crate::network::{Name, PortId};
use crate::{DeviceOptions, Network};

const ETHERNET: usize = 14;

/// A device that carries Ethernet frames over a [`Network`].
pub struct Frames {
    joined: Joined,
    mac: [u8; 6],
}

impl Frames {
    pub(crate) fn join(
        network: &Network,
        mac: [u8; 6],
        options: DeviceOptions,
    ) -> Result<Self, OpenError> {
        options.check(options.mtu.saturating_add(ETHERNET))?;
        if mac[0] & 1 == 1 {
            return Err(OpenError::BadValue("an Ethernet address of one device, not of several"));
        }
        Ok(Self { joined: Joined::new(network, Name::Frames(mac), options)?, mac })
    }

    /// Its place in the network.
    pub fn port(&self) -> PortId {
        self.joined.id
    }
}

impl AsFd for Frames {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.joined.as_fd()
    }
}

impl Device for Frames {
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

/// Where a frame goes, by its first bytes, which may be spread over pieces of any length.
fn destination(first: &Piece<Fbuf>) -> Option<[u8; 6]> {
    first.bytes.get(..6)?.try_into().ok()
}

impl unet::device::Frames for Frames {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn transmit(&mut self, frames: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
        let leaving = |first: &Piece<Fbuf>| Leaving {
            to: destination(first).map(Name::Frames),
            header: ETHERNET,
        };
        self.joined.transmit(frames, |piece| piece, |piece| piece.bytes, leaving)
    }

    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
        self.joined.receive(|_, piece| into.push(piece))
    }
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames").field("mac", &self.mac()).field("port", &self.port()).finish()
    }
}
