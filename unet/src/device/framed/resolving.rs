//! Finds the way to a destination, and looks again whether it still is the way.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::table::Way;
use super::template::{ETHERNET, Ends, Template, V6};
use super::{Framed, UdpChecksum};
use crate::device::{Capabilities, DeviceError, Frames, Piece, Routes};

/// How many destinations are looked at again by one call: while nothing has changed, since what a route
/// carries may become less without notice, and after a change.
const QUIET: usize = 4;
const CHANGED: usize = 64;
/// The most bytes of an IP packet, as both versions can say them.
const MOST: usize = 65_535;

/// The most bytes of an IP packet that a device carries.
pub(super) fn limit(device: &Capabilities) -> usize {
    let pieces = device.pieces.saturating_mul(device.piece_bytes).saturating_sub(ETHERNET);
    device.mtu.min(pieces).min(MOST)
}

impl<F: Frames, R: Routes> Framed<F, R> {
    /// The way to a destination, now.
    pub(super) fn find(&mut self, to: SocketAddr) -> Result<Way, DeviceError> {
        let no_host = match to.ip() {
            IpAddr::V4(address) => address.is_broadcast() || address.octets()[0] == 0,
            IpAddr::V6(address) => address.is_unspecified(),
        };
        if no_host || to.ip().is_multicast() || to.port() == 0 {
            return Err(DeviceError::Unreachable);
        }
        let local = self.options.local;
        if local.is_some_and(|local| local.is_ipv4() != to.is_ipv4() || self.has_lost(local)) {
            return Err(DeviceError::Unreachable);
        }
        let route = self.routes.resolve(to.ip());
        self.speak();
        let route = route?;
        let ends = Ends {
            from_mac: self.filter.mac,
            to_mac: route.mac,
            from: SocketAddr::new(local.unwrap_or(route.source), self.options.port.get()),
            to,
        };
        let omit = self.options.checksum == UdpChecksum::Omit;
        let template = Template::new(&ends, omit).ok_or(DeviceError::Unreachable)?;
        // Less than every link carries is nobody's true word.
        Ok(Way { template, mtu: route.mtu.max(V6) })
    }

    /// Sends what neighbours are asked and answered; what finds no room is lost.
    #[cold]
    pub(super) fn speak(&mut self) {
        let longest = self.limit + ETHERNET;
        while let Some(said) = self.routes.say() {
            // A ping may be longer than what goes back this way: the device would drop it, and count no bytes.
            if said.len() > longest {
                continue;
            }
            let Ok(mut frame) = self.device.pool().alloc(said.len()) else { continue };
            frame.copy_from_slice(&said);
            let mut frames = VecDeque::from([Piece::whole(frame.freeze())]);
            if self.device.transmit(&mut frames).is_ok() && frames.is_empty() {
                // No datagram: its bytes are no payload.
                self.header_bytes += said.len() as u64;
            }
        }
    }

    /// The addresses that packets may come in for.
    pub(super) fn take_addresses(&mut self) {
        match self.options.local {
            Some(local) => {
                let kept = Some(local).filter(|local| !self.has_lost(*local));
                self.filter.set_addresses(kept);
            }
            None => self.filter.set_addresses(self.routes.local().iter().copied()),
        }
    }

    /// Whether a local address was the host's and is not now: it may be another's by then.
    fn has_lost(&self, local: IpAddr) -> bool {
        self.is_hosts && !self.routes.local().contains(&local)
    }

    /// Takes note of what changed: the device, the addresses, and some of the ways, in turn.
    pub(super) fn look_again(&mut self) -> Result<(), DeviceError> {
        let noted = self.note();
        self.stopped = noted.err();
        noted
    }

    fn note(&mut self) -> Result<(), DeviceError> {
        self.device.maintain()?;
        self.capabilities = self.device.capabilities();
        self.limit = limit(&self.capabilities);
        let changed = self.routes.maintain()?;
        self.speak();
        if changed {
            self.take_addresses();
            self.doubtful = self.table.places();
        }
        let mac = self.device.mac();
        if mac != self.filter.mac {
            self.filter.mac = mac;
            self.doubtful = self.table.places();
        }
        let looks = self.doubtful.clamp(QUIET, CHANGED).min(self.table.places());
        self.doubtful = self.doubtful.saturating_sub(looks);
        for _ in 0..looks {
            let Some(to) = self.table.next().map(|entry| entry.to) else { continue };
            let found = self.find(to);
            let Some(entry) = self.table.current() else { continue };
            if let Ok(way) = &found {
                entry.mtu = way.mtu;
            }
            // Not known any more, for whatever reason: what is sent there is counted until it is again.
            entry.way = found.ok();
        }
        Ok(())
    }
}
