//! Datagrams over a device that carries frames: Ethernet, IPv4 or IPv6, and UDP.
//!
//! The headers of what goes to a destination are written when it is opened, and kept with the sums of
//! what stays as it is; for each packet the lengths and checksums are set, and they are pushed into the
//! buffer before the payload. What arrives is handed on only if every header is as it must be, and is
//! counted by what was wrong if not. No options, no fragments: neither is sent, and fragments are refused.
//!
//! ```text
//!   14 Ethernet   the next hop's address, ours, the type
//!   20 IPv4       identification 0, not to be fragmented, time to live 64     or  40 IPv6
//!    8 UDP        our port, so that a device's queues and a switch see one flow a channel
//! ```

mod checksum;
mod filter;
mod parse;
mod receiving;
mod resolving;
mod sending;
mod table;
mod template;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, BorrowedFd};

use fbufs::{Fbuf, FbufMut, Pool};

use super::{
    Capabilities, Count, Datagrams, Destination, Device, DeviceError, Frames, Kick, Outgoing,
    Piece, Received, Routes, Statistics,
};
pub(super) use checksum::Sum;
pub use filter::{Filter, MAX_ADDRESSES, Verify};
pub use parse::parse;
use sending::Handed;
use table::{Entry, Table};
pub use template::HEADERS;

/// Whether UDP's checksum is sent over IPv4; over IPv6 it always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UdpChecksum {
    /// It is computed, over the whole payload.
    #[default]
    Compute,
    /// There is none: for a payload that says itself whether it is whole.
    Omit,
}

/// How frames become datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramedOptions {
    /// The local address; any of the interface's, if `None`. While an address that the interface had is not
    /// there, nothing is sent from it and nothing taken for it.
    pub local: Option<IpAddr>,
    /// The local port.
    pub port: NonZeroU16,
    /// Whether UDP's checksum is sent over IPv4.
    pub checksum: UdpChecksum,
    /// Whether UDP's checksum is verified.
    pub verify: Verify,
    /// Whether packets without a checksum are taken over IPv6 (RFC 6935); over IPv4 they are.
    pub zero_over_v6: bool,
    /// The most destinations that may be open.
    pub destinations: usize,
}

impl FramedOptions {
    /// At a port, with checksums.
    pub fn at(port: NonZeroU16) -> Self {
        Self {
            local: None,
            port,
            checksum: UdpChecksum::default(),
            verify: Verify::default(),
            zero_over_v6: false,
            destinations: 65_536,
        }
    }
}

/// Datagrams over a device that carries frames. It owns the device.
pub struct Framed<F, R> {
    device: F,
    routes: R,
    options: FramedOptions,
    /// The local address was one of the host's, so that it is of no use when the host loses it.
    is_hosts: bool,
    filter: Filter,
    table: Table,
    /// The device's, as of the last look.
    capabilities: Capabilities,
    /// The most bytes of an IP packet that the device carries.
    limit: usize,
    /// Why nothing is sent, until [`Device::maintain`] finds that it can be.
    stopped: Option<DeviceError>,
    /// How many places of the table are to be looked at soon.
    doubtful: usize,
    counts: Statistics,
    /// Bytes of headers in what the device counted as sent.
    header_bytes: u64,
    copies: u64,
    /// The device did not take everything last time.
    full: bool,
    // Empty between calls; kept for their memory.
    frames: VecDeque<Piece<Fbuf>>,
    handed: Vec<Handed>,
    arrived: Vec<Piece<FbufMut>>,
    pieces_out: Vec<Fbuf>,
    pieces_in: Vec<FbufMut>,
}

impl<F: Frames, R: Routes> Framed<F, R> {
    /// Puts headers before what a device carries, by the ways that `routes` finds.
    pub fn new(device: F, routes: R, options: FramedOptions) -> Self {
        let mut filter = Filter::new(device.mac(), options.port.get());
        filter.verify = options.verify;
        filter.zero_over_v6 = options.zero_over_v6;
        let mut framed = Self {
            capabilities: device.capabilities(),
            limit: resolving::limit(&device.capabilities()),
            device,
            is_hosts: options.local.is_some_and(|local| routes.local().contains(&local)),
            routes,
            options,
            filter,
            table: Table::new(options.destinations),
            stopped: None,
            doubtful: 0,
            counts: Statistics::default(),
            header_bytes: 0,
            copies: 0,
            full: false,
            frames: VecDeque::new(),
            handed: Vec::new(),
            arrived: Vec::new(),
            pieces_out: Vec::new(),
            pieces_in: Vec::new(),
        };
        framed.take_addresses();
        framed
    }

    /// How many datagrams were copied, with their headers, because their buffer was shared or had no
    /// room for these.
    pub fn copies(&self) -> u64 {
        self.copies
    }

    /// The device below.
    pub fn device(&mut self) -> &mut F {
        &mut self.device
    }

    /// What finds the ways.
    pub fn routes(&mut self) -> &mut R {
        &mut self.routes
    }
}

impl<F: Frames, R: Routes> AsFd for Framed<F, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl<F: Frames, R: Routes> Device for Framed<F, R> {
    fn capabilities(&self) -> Capabilities {
        let below = self.capabilities;
        let has_v4 = self.options.local.is_none_or(|local| local.is_ipv4());
        let over_ethernet = if has_v4 { template::V4 } else { template::V6 };
        Capabilities {
            mtu: self.limit.saturating_sub(over_ethernet),
            headroom: below.headroom + HEADERS,
            ..below
        }
    }

    /// The device's, but that packets received are those that were handed on, and bytes are those of
    /// payloads. A packet that the device refused after it took it makes these differ by its headers.
    fn statistics(&mut self) -> Statistics {
        let below = self.device.statistics();
        let mut statistics = self.counts;
        for (count, _) in Count::ALL {
            let value = match count {
                Count::Received | Count::ReceivedBytes => 0,
                Count::SentBytes => below[count].saturating_sub(self.header_bytes),
                _ => below[count],
            };
            statistics.add(count, value);
        }
        statistics
    }

    fn pool(&mut self) -> &mut Pool {
        self.device.pool()
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.device.arm()
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        self.look_again()
    }
}

impl<F: Frames, R: Routes> Datagrams for Framed<F, R> {
    fn local(&self) -> SocketAddr {
        let address = self.options.local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        SocketAddr::new(address, self.options.port.get())
    }

    fn open(&mut self, to: SocketAddr) -> Result<Destination, DeviceError> {
        if self.table.is_full() {
            return Err(DeviceError::TooManyDestinations);
        }
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let way = self.find(to)?;
        self.table.add(Entry { to, mtu: way.mtu, way: Some(way) })
    }

    fn close(&mut self, destination: Destination) {
        self.table.remove(destination);
    }

    fn max_payload(&self, destination: Destination) -> usize {
        let Some(entry) = self.table.get(destination) else { return 0 };
        let headers = if entry.to.is_ipv4() { template::V4 } else { template::V6 };
        self.limit.min(entry.mtu).saturating_sub(headers)
    }

    #[inline]
    fn transmit(&mut self, datagrams: &mut VecDeque<Outgoing>) -> Result<(), DeviceError> {
        self.send(datagrams)
    }

    #[inline]
    fn receive(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        self.take_in(into)
    }

    #[inline]
    fn transmit_one(&mut self, to: Destination, payload: Fbuf, kick: Kick) -> Result<(), Fbuf> {
        self.send_one(to, payload, kick)
    }

    #[inline]
    fn receive_one(&mut self) -> Option<(SocketAddr, FbufMut)> {
        self.take_one()
    }
}
