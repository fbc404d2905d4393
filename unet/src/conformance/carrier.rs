//! What the suite sends by: one form for devices of frames and for devices of datagrams.

use std::collections::VecDeque;
use std::net::SocketAddr;

use fbufs::{Fbuf, FbufMut};

use crate::device::{
    Capabilities, Datagrams, Destination, Device, DeviceError, Frames, Kick, Outgoing, Piece,
    Received,
};

/// A device as the suite sees it: something that carries payloads to its peer.
pub trait Carrier {
    /// The device.
    fn device(&mut self) -> &mut dyn Device;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Makes the other one the peer that is sent to.
    ///
    /// # Errors
    /// The device's; [`DeviceError::Unresolved`] is asked again.
    fn meet(&mut self, peer: &Self) -> Result<(), DeviceError>;

    /// The longest payload that gets to the peer.
    fn longest(&self) -> usize;

    /// The bytes before a payload, which the caller of this device writes itself.
    fn header(&self, payload: usize) -> Vec<u8>;

    /// The length to which the network may pad what is shorter.
    fn padded(&self) -> usize;

    /// Whether bytes that arrived are from the peer, as far as the header says.
    fn is_from_peer(&self, bytes: &[u8]) -> bool;

    /// Hands packets over: the device's transmit.
    ///
    /// # Errors
    /// The device's.
    fn transmit(&mut self, packets: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError>;

    /// Takes what has arrived: the device's receive.
    ///
    /// # Errors
    /// The device's.
    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError>;

    /// What arrived, but was said to come from elsewhere.
    fn misattributed(&self) -> Option<String> {
        None
    }
}

/// Writes what stands before a payload of some bytes: from an Ethernet address, to one.
pub type Header = Box<dyn Fn([u8; 6], [u8; 6], usize) -> Vec<u8>>;

/// A device of frames, as the suite uses it.
pub struct OverFrames<D> {
    /// The device.
    pub device: D,
    header: Header,
    peer: [u8; 6],
    /// Each second one is for one frame.
    looks: u64,
    /// Bursts of several that were handed over: each second one goes the short way.
    bursts: u64,
}

/// Hands packets in one piece over the short way, as long as the device has it: one that is alone at once,
/// and the second, fourth, … burst so that it waits for the transmit of what is left. Whether all is sent.
fn hand_over(
    packets: &mut VecDeque<Piece<Fbuf>>,
    bursts: &mut u64,
    mut transmit_one: impl FnMut(Fbuf, Kick) -> Result<(), Fbuf>,
) -> bool {
    let kick = if packets.len() == 1 { Kick::Now } else { Kick::Later };
    if packets.len() > 1 {
        *bursts += 1;
        if !bursts.is_multiple_of(2) {
            return false;
        }
    }
    while packets.front().is_some_and(|piece| !piece.more)
        && let Some(piece) = packets.pop_front()
    {
        if let Err(back) = transmit_one(piece.bytes, kick) {
            packets.push_front(Piece::whole(back));
            return false;
        }
        if kick == Kick::Now {
            return true;
        }
    }
    false
}

const ETHERNET: usize = 14;
/// The shortest frame on a wire, without the check sequence.
const SHORTEST: usize = 60;

impl<D: Frames> OverFrames<D> {
    /// With Ethernet headers of the type for local experiments (0x88b5).
    pub fn new(device: D) -> Self {
        let header = |from: [u8; 6], to: [u8; 6], _| [&to[..], &from[..], &[0x88, 0xb5]].concat();
        Self { device, header: Box::new(header), peer: [0; 6], looks: 0, bursts: 0 }
    }

    /// With headers of one's own, beginning with Ethernet's: for a device that takes its packets by what
    /// stands behind that.
    #[must_use]
    pub fn with_header(self, header: Header) -> Self {
        Self { header, ..self }
    }
}

impl<D: Frames> Carrier for OverFrames<D> {
    fn device(&mut self) -> &mut dyn Device {
        &mut self.device
    }

    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn meet(&mut self, peer: &Self) -> Result<(), DeviceError> {
        self.peer = peer.device.mac();
        Ok(())
    }

    fn longest(&self) -> usize {
        (self.device.capabilities().mtu + ETHERNET).saturating_sub(self.header(0).len())
    }

    fn header(&self, payload: usize) -> Vec<u8> {
        (self.header)(self.device.mac(), self.peer, payload)
    }

    fn padded(&self) -> usize {
        SHORTEST
    }

    fn is_from_peer(&self, bytes: &[u8]) -> bool {
        let expected = (self.header)(self.peer, self.device.mac(), 0);
        bytes.get(6..ETHERNET).is_some_and(|found| expected.get(6..ETHERNET) == Some(found))
    }

    fn transmit(&mut self, packets: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
        let device = &mut self.device;
        if hand_over(packets, &mut self.bursts, |one, kick| device.transmit_one(one, kick)) {
            return Ok(());
        }
        self.device.transmit(packets)
    }

    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
        self.looks += 1;
        if self.looks.is_multiple_of(2)
            && let Some(one) = self.device.receive_one()
        {
            into.push(Piece::whole(one));
            return Ok(());
        }
        self.device.receive(into)
    }
}

/// A device of datagrams, as the suite uses it.
pub struct OverDatagrams<D> {
    /// The device.
    pub device: D,
    address: SocketAddr,
    peer: Option<(Destination, SocketAddr)>,
    outgoing: VecDeque<Outgoing>,
    received: Vec<Received>,
    looks: u64,
    /// Bursts of several that were handed over: each second one goes the short way.
    bursts: u64,
    misattributed: Option<String>,
}

impl<D: Datagrams> OverDatagrams<D> {
    /// A device that others reach at its local address.
    pub fn new(device: D) -> Self {
        let address = device.local();
        Self::at(device, address)
    }

    /// A device that others reach at an address: where the local one is unspecified.
    pub fn at(device: D, address: SocketAddr) -> Self {
        let (outgoing, received) = (VecDeque::new(), Vec::new());
        Self {
            device,
            address,
            peer: None,
            outgoing,
            received,
            looks: 0,
            bursts: 0,
            misattributed: None,
        }
    }

    /// Where others reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends by this destination from now on; the one until now.
    pub(super) fn send_by(&mut self, destination: Destination) -> Option<Destination> {
        let (until_now, _) = self.peer.as_mut()?;
        Some(std::mem::replace(until_now, destination))
    }
}

impl<D: Datagrams> Carrier for OverDatagrams<D> {
    fn device(&mut self) -> &mut dyn Device {
        &mut self.device
    }

    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn meet(&mut self, peer: &Self) -> Result<(), DeviceError> {
        self.peer = Some((self.device.open(peer.address)?, peer.address));
        Ok(())
    }

    fn longest(&self) -> usize {
        self.peer.map_or(0, |(destination, _)| self.device.max_payload(destination))
    }

    fn header(&self, _: usize) -> Vec<u8> {
        Vec::new()
    }

    fn padded(&self) -> usize {
        0
    }

    fn is_from_peer(&self, _: &[u8]) -> bool {
        true
    }

    fn transmit(&mut self, packets: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
        let Some((to, _)) = self.peer else { return Err(DeviceError::Unreachable) };
        let device = &mut self.device;
        if hand_over(packets, &mut self.bursts, |one, kick| device.transmit_one(to, one, kick)) {
            return Ok(());
        }
        self.outgoing.extend(packets.drain(..).map(|piece| Outgoing { to, piece }));
        let result = self.device.transmit(&mut self.outgoing);
        packets.extend(self.outgoing.drain(..).map(|outgoing| outgoing.piece));
        result
    }

    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
        self.looks += 1;
        let one = if self.looks.is_multiple_of(2) { self.device.receive_one() } else { None };
        let result = match one {
            Some((from, bytes)) => {
                self.received.push(Received { from, piece: Piece::whole(bytes) });
                Ok(())
            }
            None => self.device.receive(&mut self.received),
        };
        for received in self.received.drain(..) {
            if let Some((_, peer)) = self.peer
                && received.from != peer
            {
                let said = received.from;
                self.misattributed = Some(format!("a datagram of {peer} is said to be {said}'s"));
            }
            into.push(received.piece);
        }
        result
    }

    fn misattributed(&self) -> Option<String> {
        self.misattributed.clone()
    }
}
